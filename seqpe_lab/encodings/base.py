"""The interface of all position encodings, and the names under which they are known.

An encoding of your own is a class that overrides what it needs and is registered under a name:

    @register("mine")
    class Mine(PositionEncoding):
        def transform(self, q, k, prepared, layer):
            return q, k

    make_encoding("mine", d_model=64, heads=4, layers=2, train_shape=128)

Every model, recipe and lesson then accepts ``encoding="mine"``.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqpe_lab.plain_text import did_you_mean


@dataclass(frozen=True)
class ModelShape:
    """What an encoding may need to know about its model.

    Attributes:
        d_model, heads, layers: of the model.
        train_shape: L_i of each dimension: tokens, or (rows, columns) of the training grid.
        prefix: number of tokens before the others that have no position ([CLS]).

    Raises:
        ValueError: heads that do not divide d_model, or a size below 1.
    """
    d_model: int
    heads: int
    layers: int
    train_shape: tuple[int, ...]
    prefix: int = 0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.d_model < 1 or self.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide d_model={self.d_model}: "
                             "both must be at least 1")
        if self.layers < 1 or self.prefix < 0:
            raise ValueError("a model has at least 1 layer and 0 tokens before its positions, got "
                             f"layers={self.layers}, prefix={self.prefix}")
        if not self.train_shape or not all(isinstance(size, int) and size >= 1
                                           for size in self.train_shape):
            raise ValueError("train_shape holds one whole number of at least 1 for each dimension "
                             f"of a position, got {self.train_shape}")

    @property
    def dims(self) -> int:
        """n: 1 for text, 2 for images."""
        return len(self.train_shape)

    @property
    def d_head(self) -> int:
        """Features per head."""
        return self.d_model // self.heads


class PositionEncoding(nn.Module):
    """No position information (NoPE; SeqPE, Sec. 2). Each encoding overrides what it needs.

    A model calls ``embed`` once on its token embeddings, ``prepare`` once per forward pass, and
    ``transform`` in every layer, on queries and keys, right before plain attention. So no
    encoding builds an L x L matrix.

    Some models put tokens without a position before the others ([CLS] of a vision transformer). An
    encoding that transforms queries and keys is built with their number, ``prefix``, and
    ``prepare`` adds rows for them before those of the positions.
    """

    @classmethod
    def for_model(cls, shape: ModelShape, **options: Any) -> PositionEncoding:
        """Build the encoding for a model; its keyword parameters are the encoding's options."""
        return cls(**options)

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Add what depends on the position to the token embeddings.

        Args:
            x: (B, L, d_model).
            positions: int64 (L, n) for all sequences alike, or (B, L, n).
            context: size of the whole context, start included: tokens, or (rows, columns) of a
                grid; only an interpolated table needs it.

        Returns:
            (B, L, d_model).
        """
        return x

    def encode(self, positions: Tensor) -> Tensor | None:
        """The position vectors that ``prepare`` takes as ``vectors``; None if it takes none.

        Where the weights stay as they are, as within one generated text, a model encodes all
        positions ahead and hands each step its own.

        Args:
            positions: int64 (L, n).

        Returns:
            float (L, d_model), or None.
        """
        return None

    def prepare(self, positions: Tensor, vectors: Any = None,
                device: torch.device | None = None) -> Any:
        """Compute what all layers share.

        Args:
            positions: int64 (L, n) or (B, L, n); best kept on the CPU.
            vectors: the position vectors (..., d_model) if the caller has already encoded them, as
                training does together with those of the losses (SeqPE only).
            device: where queries and keys are.

        Returns:
            Whatever ``transform`` needs as ``prepared``.
        """
        return None

    def transform(self, q: Tensor, k: Tensor, prepared: Any, layer: int) -> tuple[Tensor, Tensor]:
        """Give queries and keys their positions.

        Args:
            q, k: (B, H, L, d_head).
            prepared: what ``prepare`` returned.
            layer: number of the layer, from 0.

        Returns:
            q and k, both (B, H, L, width) with width >= d_head, in the dtype of the arguments.
            Attention divides their scores by sqrt(d_head), not by sqrt(width).
        """
        return q, k


ENCODINGS: dict[str, type[PositionEncoding]] = {}  # by name


def register(name: str) -> Callable[[type[PositionEncoding]], type[PositionEncoding]]:
    """A class decorator that makes an encoding known as ``name``.

    Raises:
        ValueError: another class has that name.
        TypeError: not a subclass of :class:`PositionEncoding`.

    >>> @register("example")
    ... class Example(PositionEncoding):
    ...     pass
    >>> make_encoding("example", d_model=8, heads=2, layers=1, train_shape=16)
    Example()
    >>> del ENCODINGS["example"]
    """
    def add(encoding: type[PositionEncoding]) -> type[PositionEncoding]:
        if not (isinstance(encoding, type) and issubclass(encoding, PositionEncoding)):
            raise TypeError(f"{encoding!r} is no subclass of PositionEncoding")
        known = ENCODINGS.get(name)
        if known and (known.__module__, known.__qualname__) != (encoding.__module__,
                                                                encoding.__qualname__):
            raise ValueError(f"encoding {name!r} is {known.__qualname__} of {known.__module__} "
                             "already: choose another name")
        ENCODINGS[name] = encoding
        return encoding
    return add


register("none")(PositionEncoding)


def make_encoding(name: str, *, d_model: int, heads: int, layers: int,
                  train_shape: int | tuple[int, ...], dims: int = 1, prefix: int = 0,
                  **options: Any) -> PositionEncoding:
    """Build the encoding called ``name`` for a model of this shape.

    Args:
        name: one of ``ENCODINGS``.
        d_model, heads, layers: of the model.
        train_shape: tokens of a training sequence, or (rows, columns) of the training grid.
        dims: n, dimensions of a position, if ``train_shape`` is one number for all of them.
        prefix: number of tokens before the others that have no position ([CLS]).
        options: of the encoding: the keyword parameters of its ``for_model``.

    Raises:
        ValueError: an unknown name (with the choices), heads that do not divide d_model, or a model
            that the encoding does not fit, such as a grid for ALiBi.
        TypeError: an option that the encoding does not have (with those it has).

    >>> make_encoding("rope", d_model=8, heads=2, layers=1, train_shape=16, base=1e6)
    RoPE()
    >>> make_encoding("rotary", d_model=8, heads=2, layers=1, train_shape=16)
    Traceback (most recent call last):
    ValueError: unknown encoding 'rotary': choose from none, sinusoidal, learned, alibi, ...
    """
    encoding = encoding_class(name)
    if wrong := unknown_options(name, options):
        raise TypeError(wrong)
    if isinstance(train_shape, Sequence):
        sizes = tuple(train_shape)
        if dims not in (1, len(sizes)):
            raise ValueError(f"train_shape={sizes} has {len(sizes)} dimensions but dims={dims}")
    else:
        sizes = (train_shape,) * dims
    return encoding.for_model(ModelShape(d_model, heads, layers, sizes, prefix), **options)


def encoding_class(name: str) -> type[PositionEncoding]:
    """The class that is registered under a name.

    Raises:
        ValueError: an unknown name, with the choices.
    """
    if name not in ENCODINGS:
        raise ValueError(f"unknown encoding {name!r}: choose from {', '.join(ENCODINGS)}; a class "
                         "of your own must first be registered in the same program "
                         f"(seqpe_lab.register){did_you_mean(name, ENCODINGS)}")
    return ENCODINGS[name]


def unknown_options(name: str, options: Iterable[str]) -> str:
    """What is wrong with the names of a method's options; empty if nothing is.

    >>> unknown_options("rope", ["base", "bse"])
    "encoding 'rope' has no option bse: it has base, pairing. Did you mean 'base'?"
    """
    known = option_names(encoding_class(name))
    unknown = sorted(set(options) - known)
    return (f"encoding {name!r} has no option {', '.join(unknown)}: it has "
            f"{', '.join(sorted(known)) or 'none'}"
            + did_you_mean(unknown[0], known)) if unknown else ""


def option_names(encoding: type[PositionEncoding]) -> set[str]:
    """The names of an encoding's options.

    >>> sorted(option_names(ENCODINGS["rope"]))
    ['base', 'pairing']
    """
    inherited = encoding.for_model.__qualname__ == "PositionEncoding.for_model"
    parameters = inspect.signature(encoding if inherited else encoding.for_model).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, p in parameters.items() if p.kind in named} - {"shape"}
