"""The position encodings: one interface (base.py), and a file for each family."""
from seqpe_lab.encodings.absolute import Learned, Sinusoidal, resample_grid, sinusoidal_vectors
from seqpe_lab.encodings.alibi import ALiBi, alibi_slopes
from seqpe_lab.encodings.base import ENCODINGS, ModelShape, PositionEncoding, register
from seqpe_lab.encodings.content_positions import CoPE, FoX
from seqpe_lab.encodings.distance_biases import (FIRE, T5, EuclideanALiBi, KerpleLog, KerplePower,
                                                 Sandwich)
from seqpe_lab.encodings.registry import (encoding_class, make_encoding, option_names,
                                          unknown_options)
from seqpe_lab.encodings.relative_vectors import DeBERTa, Shaw
from seqpe_lab.encodings.rotary import MixedRoPE, RoPE, rotary_angles, rotate
from seqpe_lab.encodings.seqpe import INTEGRATIONS, SeqPE
from seqpe_lab.encodings.window_biases import Swin, SwinV2

__all__ = ["ENCODINGS", "FIRE", "INTEGRATIONS", "T5", "ALiBi", "CoPE", "DeBERTa", "EuclideanALiBi",
           "FoX", "KerpleLog", "KerplePower", "Learned", "MixedRoPE", "ModelShape",
           "PositionEncoding", "RoPE", "Sandwich", "SeqPE", "Shaw", "Sinusoidal", "Swin", "SwinV2",
           "alibi_slopes", "encoding_class", "make_encoding", "option_names", "register",
           "resample_grid", "rotary_angles", "rotate", "sinusoidal_vectors", "unknown_options"]
