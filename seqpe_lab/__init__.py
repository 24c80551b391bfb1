"""seqpe_lab: learn, teach and research position encoding, built around SeqPE.

Modules import upwards in this order only: digits, activation, memory, encoder, losses, sampling,
encodings, models, data, recipes, training, evaluation, runs, geometry, draft, figures, lesson.
"""
import os

__version__ = "0.1.0"

if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # every process would print torch's advice against what keeps resumed runs exact (training.py)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # only before torch is loaded
