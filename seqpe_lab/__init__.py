"""seqpe_lab: learn, teach and research position encoding, built around SeqPE.

Modules import upwards in this order only: digits, activation, memory, encoder, losses, sampling,
encodings, models, data, recipes, training, evaluation, runs, geometry, draft, figures, lesson.
"""
import os

from seqpe_lab.postponed import postpone

__version__ = "0.1.0"

if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # every process would print torch's advice against what keeps resumed runs exact (training.py)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # only before torch is loaded

# To show a figure or to read a notebook jsonschema is imported, which builds a grammar of web addresses: 2.5 s of every kernel, and no address is checked.
postpone("rfc3987_syntax", "is_valid_syntax")
