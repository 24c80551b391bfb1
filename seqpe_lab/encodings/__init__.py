"""The position encodings: one interface (base.py), and a file for each family."""
from seqpe_lab.encodings.absolute import Learned, Sinusoidal, resample_grid, sinusoidal_vectors
from seqpe_lab.encodings.alibi import ALiBi, alibi_slopes
from seqpe_lab.encodings.base import ENCODINGS, ModelShape, PositionEncoding, register
from seqpe_lab.encodings.content_positions import CoPE, FoX
from seqpe_lab.encodings.distance_biases import (FIRE, T5, EuclideanALiBi, KerpleLog, KerplePower,
                                                 Sandwich, Swin, SwinV2)
from seqpe_lab.encodings.floater import FLOATER, FlowEncoder
from seqpe_lab.encodings.lie_rotary import LieRE
from seqpe_lab.encodings.polar import PoPE
from seqpe_lab.encodings.registry import (encoding_class, make_encoding, option_names,
                                          unknown_options)
from seqpe_lab.encodings.relative_vectors import DeBERTa, Shaw
from seqpe_lab.encodings.rotary import MixedRoPE, RoPE, rotary_angles, rotate
from seqpe_lab.encodings.rotary_variants import FoPE, PartialRoPE, RNoPE, XPos
from seqpe_lab.encodings.scaled_rotary import DynamicRoPE, InterpolatedRoPE, NTKRoPE, YaRN
from seqpe_lab.encodings.seqpe import INTEGRATIONS, SeqPE

__all__ = ["ENCODINGS", "FIRE", "FLOATER", "INTEGRATIONS", "T5", "ALiBi", "CoPE", "DeBERTa",
           "DynamicRoPE", "EuclideanALiBi", "FlowEncoder", "FoPE", "FoX", "InterpolatedRoPE",
           "KerpleLog", "KerplePower", "Learned", "LieRE", "MixedRoPE", "ModelShape", "NTKRoPE",
           "PartialRoPE", "PoPE", "PositionEncoding", "RNoPE", "RoPE", "Sandwich", "SeqPE", "Shaw",
           "Sinusoidal", "Swin", "SwinV2", "XPos", "YaRN", "alibi_slopes", "encoding_class",
           "make_encoding", "option_names", "register", "resample_grid", "rotary_angles", "rotate",
           "sinusoidal_vectors", "unknown_options"]
