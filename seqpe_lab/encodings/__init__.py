"""The position encodings: one interface (base.py), and a file for each family."""
from seqpe_lab.encodings.absolute import Learned, Sinusoidal, resample_grid, sinusoidal_vectors
from seqpe_lab.encodings.alibi import ALiBi, alibi_slopes
from seqpe_lab.encodings.base import (ENCODINGS, ModelShape, PositionEncoding, encoding_class,
                                      make_encoding, option_names, register, unknown_options)
from seqpe_lab.encodings.decaying_rotary import XPos
from seqpe_lab.encodings.floater import FLOATER, FlowEncoder
from seqpe_lab.encodings.fourier_rotary import FoPE
from seqpe_lab.encodings.lie_rotary import LieRE
from seqpe_lab.encodings.partial_rotary import PartialRoPE, RNoPE
from seqpe_lab.encodings.polar import PoPE
from seqpe_lab.encodings.rotary import MixedRoPE, RoPE, rotary_angles, rotate
from seqpe_lab.encodings.scaled_rotary import DynamicRoPE, InterpolatedRoPE, NTKRoPE, YaRN
from seqpe_lab.encodings.seqpe import INTEGRATIONS, SeqPE

__all__ = ["ENCODINGS", "FLOATER", "INTEGRATIONS", "ALiBi", "DynamicRoPE", "FlowEncoder", "FoPE",
           "InterpolatedRoPE", "Learned", "LieRE", "MixedRoPE", "ModelShape", "NTKRoPE",
           "PartialRoPE", "PoPE", "PositionEncoding", "RNoPE", "RoPE", "SeqPE", "Sinusoidal",
           "XPos", "YaRN", "alibi_slopes", "encoding_class", "make_encoding", "option_names",
           "register", "resample_grid", "rotary_angles", "rotate", "sinusoidal_vectors",
           "unknown_options"]
