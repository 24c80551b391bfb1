"""The position encodings: one interface (:class:`PositionEncoding`), one file a family."""
from __future__ import annotations

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings.absolute import Learned, Sinusoidal, resample_grid, sinusoidal_vectors
from seqpe_lab.encodings.alibi import ALiBi, alibi_slopes
from seqpe_lab.encodings.base import PositionEncoding
from seqpe_lab.encodings.rotary import MixedRotary, Rotary, rotary_angles, rotate
from seqpe_lab.encodings.seqpe import INTEGRATIONS, SeqPE

ENCODINGS = ("none", "sinusoidal", "learned", "rope", "rope-mixed", "alibi", "seqpe")

__all__ = ["ENCODINGS", "INTEGRATIONS", "ALiBi", "Learned", "MixedRotary", "PositionEncoding", "Rotary", "SeqPE", "Sinusoidal",
           "alibi_slopes", "make_encoding", "resample_grid", "rotary_angles", "rotate", "sinusoidal_vectors"]


# name: its options
OPTIONS: dict[str, set[str]] = {
    "none": set(), "sinusoidal": set(), "learned": set(), "rope": {"base", "pairing"}, "rope-mixed": {"base", "as_published"}, "alibi": {"scaled"},
    "seqpe": {"integration", "shared_projection", "projection_bias", "projection_std", "scaled",  # of the wrapper; the others of its encoder
              "digits", "base", "encoder_layers", "encoder_heads", "architecture", "causal", "share_prefixes", "shared_places"},
}


def make_encoding(name: str, *, d_model: int, heads: int, layers: int, train_shape: int | tuple[int, ...], dims: int = 1, prefix: int = 0,
                  **options) -> PositionEncoding:
    """Build the encoding called ``name`` for a model of this shape.

    Args:
        name: one of ``ENCODINGS``.
        d_model, heads, layers: of the model.
        train_shape: tokens a training sequence, or (rows, columns) of the training grid: the size of the learned table.
        dims: n, dimensions of a position: 1 for text, 2 for images.
        prefix: tokens before the positions that stand nowhere on the grid ([CLS]).
        options: of the method. rope: base, pairing. rope-mixed: base, as_published. alibi: scaled. seqpe:
            integration, shared_projection, projection_bias, projection_std, scaled, and the encoder's digits, base,
            encoder_layers, encoder_heads, architecture, causal, share_prefixes, shared_places.

    Raises:
        ValueError: an unknown name (with the choices), heads that do not divide d_model, ALiBi on a grid.
        TypeError: an option that the method does not have (with those it has).

    >>> make_encoding("rope", d_model=8, heads=2, layers=1, train_shape=16, base=1e6)
    Rotary()
    >>> make_encoding("rotary", d_model=8, heads=2, layers=1, train_shape=16)
    Traceback (most recent call last):
    ValueError: unknown encoding 'rotary': choose from none, sinusoidal, learned, rope, rope-mixed, alibi, seqpe
    """
    if heads < 1 or d_model % heads:
        raise ValueError(f"{heads} heads do not divide d_model={d_model}")
    d_head = d_model // heads
    if name not in OPTIONS:
        raise ValueError(f"unknown encoding {name!r}: choose from {', '.join(ENCODINGS)}")
    if unknown := options.keys() - OPTIONS[name]:
        raise TypeError(f"encoding {name!r} has no option {', '.join(sorted(unknown))}: it has {', '.join(sorted(OPTIONS[name])) or 'none'}")
    if name == "none":
        return PositionEncoding()
    if name == "sinusoidal":
        return Sinusoidal()
    if name == "learned":
        return Learned(train_shape, d_model)
    if name == "rope":
        return Rotary(d_head, prefix=prefix, **{"base": 100.0 if dims > 1 else 10_000.0} | options)
    if name == "rope-mixed":
        return MixedRotary(d_head, heads, layers, dims, prefix=prefix, **options)
    if name == "alibi":
        if dims > 1 or prefix:
            raise ValueError("ALiBi counts how far a causal sequence looks back, which a grid does not have: choose another encoding")
        return ALiBi(heads, d_head, **options)
    of_wrapper = {key: options.pop(key) for key in ("integration", "shared_projection", "projection_bias", "projection_std", "scaled") if key in options}
    encoder = PositionEncoder(d_model, layers=options.pop("encoder_layers", 2), heads=options.pop("encoder_heads", heads), dims=dims, **options)
    return SeqPE(encoder, heads, layers, prefix=prefix, **of_wrapper)
