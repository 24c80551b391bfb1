"""seqpe_lab: learn, teach and research position encoding, built around SeqPE.

Modules import upwards in this order only: digits, encoder, losses, sampling, encodings, models,
data, recipes, training, evaluation, runs, geometry, figures, lesson.
"""
__version__ = "0.1.0"
