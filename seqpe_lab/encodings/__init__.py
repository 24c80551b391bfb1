"""The position encodings: one interface (:class:`PositionEncoding`), one file a family."""
from __future__ import annotations

from ..encoder import PositionEncoder
from .absolute import Learned, Sinusoidal, sinusoidal_vectors
from .alibi import ALiBi, alibi_slopes
from .none import PositionEncoding
from .rotary import Rotary, rotary_angles, rotate
from .seqpe import INTEGRATIONS, SeqPE

ENCODINGS = ("none", "sinusoidal", "learned", "rope", "alibi", "seqpe")

__all__ = ["ENCODINGS", "INTEGRATIONS", "ALiBi", "Learned", "PositionEncoding", "Rotary", "SeqPE", "Sinusoidal",
           "alibi_slopes", "make_encoding", "rotary_angles", "rotate", "sinusoidal_vectors"]


def make_encoding(name: str, *, d_model: int, heads: int, layers: int, train_len: int, **options) -> PositionEncoding:
    """Build the encoding called ``name`` for a model of this shape.

    Args:
        name: one of ``ENCODINGS``.
        d_model, heads, layers: of the model.
        train_len: tokens a training sequence; the size of the learned table.
        options: of the method. rope: base, pairing. alibi: scaled. seqpe: integration,
            shared_projection, projection_bias, scaled, and the encoder's digits, base, dims,
            encoder_layers, encoder_heads, architecture, causal, share_prefixes.

    Raises:
        ValueError: an unknown name (with the choices), heads that do not divide d_model.
        TypeError: an option that the method does not have (with those it has).

    >>> make_encoding("rope", d_model=8, heads=2, layers=1, train_len=16, base=1e6)
    Rotary()
    >>> make_encoding("rotary", d_model=8, heads=2, layers=1, train_len=16)
    Traceback (most recent call last):
    ValueError: unknown encoding 'rotary': choose from none, sinusoidal, learned, rope, alibi, seqpe
    """
    if heads < 1 or d_model % heads:
        raise ValueError(f"{heads} heads do not divide d_model={d_model}")
    d_head = d_model // heads
    allowed = {
        "none": set(), "sinusoidal": set(), "learned": set(), "rope": {"base", "pairing"}, "alibi": {"scaled"},
        "seqpe": {"integration", "shared_projection", "projection_bias", "scaled", "digits", "base", "dims",
                  "encoder_layers", "encoder_heads", "architecture", "causal", "share_prefixes"},
    }
    if name not in allowed:
        raise ValueError(f"unknown encoding {name!r}: choose from {', '.join(ENCODINGS)}")
    if unknown := options.keys() - allowed[name]:
        raise TypeError(f"encoding {name!r} has no option {', '.join(sorted(unknown))}: it has {', '.join(sorted(allowed[name])) or 'none'}")
    if name == "none":
        return PositionEncoding()
    if name == "sinusoidal":
        return Sinusoidal()
    if name == "learned":
        return Learned(train_len, d_model)
    if name == "rope":
        return Rotary(d_head, **options)
    if name == "alibi":
        return ALiBi(heads, d_head, **options)
    of_wrapper = {key: options.pop(key) for key in ("integration", "shared_projection", "projection_bias", "scaled") if key in options}
    encoder = PositionEncoder(d_model, layers=options.pop("encoder_layers", 2), heads=options.pop("encoder_heads", heads), **options)
    return SeqPE(encoder, heads, layers, **of_wrapper)
