"""seqpe_lab: position encoding in Transformers, for learning, teaching and research.

    from seqpe_lab import SeqPE, PositionEncoder, PositionRegularizer, make_encoding

These names need only torch, numpy and safetensors. The lab around them (models, tasks, training,
lessons, explorers) is in the submodules and needs ``pip install seqpe_lab[lab]``.
"""
from seqpe_lab.attention import attend
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import (ENCODINGS, ALiBi, Learned, MixedRoPE, ModelShape, PositionEncoding,
                                 RoPE, SeqPE, Sinusoidal, make_encoding, register)
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.position_table import PositionTable
from seqpe_lab.regularizer import PositionRegularizer

__version__ = "0.2.0"

__all__ = ["ENCODINGS", "ALiBi", "Learned", "MixedRoPE", "ModelShape", "PositionEncoder",
           "PositionEncoding", "PositionRegularizer", "PositionTable", "RoPE", "SeqPE",
           "Sinusoidal", "attend", "contrastive_loss", "distillation_loss", "make_encoding",
           "register"]
