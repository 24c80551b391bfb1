"""The interface of all position encodings, and the names under which they are known.

An encoding of your own is a class that overrides what it needs and is registered under a name:

    @register("mine")
    class Mine(PositionEncoding):
        def transform(self, q, k, prepared, layer):
            return q, k

    make_encoding("mine", d_model=64, heads=4, layers=2, train_shape=128)

Every model, recipe and lesson then accepts ``encoding="mine"``. Without a registration they accept
the class as "package.module:Class" or "folder/file.py:Class".
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# parameters that for_model fills: the values of a ModelShape, and the shape itself
OF_SHAPE = ("d_model", "heads", "layers", "train_shape", "prefix", "dims", "d_head", "shape")


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
    ``transform`` in every layer, on queries and keys, right before plain attention. Three hooks
    are for encodings that need more; without them attention runs in torch's fused kernels:

    * ``at_layer``, before ``transform``: the layer's hidden state (FoX's forget gates);
    * ``bias``: scores to add that depend on pairs of positions (T5, KERPLE, Swin);
    * ``content_bias``: the same, depending on queries and keys, too (Shaw, CoPE, DeBERTa).

    Attention computes both biases for a block of queries at a time and computes them again in the
    backward pass, so no encoding stores an L x L matrix.

    Some models put tokens without a position before the others ([CLS] of a vision transformer). An
    encoding that transforms queries and keys is built with their number, ``prefix``, and
    ``prepare`` adds rows for them before those of the positions. Their bias is 0.
    """
    relative = False  # True: ``bias`` depends on key position minus query position only
    sequences_only = ""  # why it takes no grid; empty where it takes any positions

    @classmethod
    def for_model(cls, shape: ModelShape, **options: Any) -> PositionEncoding:
        """Build the encoding for a model.

        Parameters of ``__init__`` that are called like a value of the shape ("heads", "d_head",
        "train_shape", ...), or "shape", get it; the others are the encoding's options. An encoding
        that overrides this method has its keyword parameters as options.

        Raises:
            ValueError: a grid, or tokens before the positions, for an encoding of sequences.
        """
        if cls.sequences_only and (shape.dims > 1 or shape.prefix and not cls._has_bias()):
            raise ValueError(f"{cls.sequences_only}, got n={shape.dims} and {shape.prefix} tokens "
                             "before the positions: choose another encoding, such as 'seqpe', "
                             "'liere' or 'swin-v2'")
        wanted = inspect.signature(cls).parameters
        given = {name: getattr(shape, name, shape) for name in OF_SHAPE if name in wanted}
        return cls(**given, **options)

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

    def embed_each(self, x: Tensor, positions: Tensor, contexts: Sequence[int]) -> Tensor:
        """:meth:`embed` with a context of its own for each sequence, as texts of a batch have.

        Args:
            x, positions: as in :meth:`embed`.
            contexts: tokens, one number for each sequence.
        """
        each = positions.expand(len(x), *positions.shape[-2:]).split(1)
        return torch.cat([self.embed(*part) for part in zip(x.split(1), each, contexts)])

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

    def at_layer(self, prepared: Any, hidden: Tensor, layer: int,
                 past_keys: Tensor | None = None, real: Tensor | None = None) -> Any:
        """What ``transform`` gets as ``prepared``, where it depends on the layer's hidden state.

        Args:
            prepared: what ``prepare`` returned.
            hidden: (B, L, d_model), of which queries and keys are projections.
            past_keys: (B, H, P, width), cached keys as ``transform`` returned them, if any.
            real: bool (B, L), False for a token that is padding; None without padding.
        """
        return prepared

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor | None:
        """Scores of pairs of positions, added to q.k / sqrt(d_head).

        Args:
            query_positions: integers (l, n) or (B, l, n), on the device of queries and keys: those
                of one block.
            key_positions: integers (L, n) or (B, L, n), cached ones first.

        Returns:
            float (H, l, L) or (B, H, l, L), in nats. Causal masks are applied afterwards.
        """
        return None

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor | None:
        """The same, where it depends on queries and keys; an encoding overrides one of the two.

        Args:
            q, k: (B, H, l, width) and (B, H, L, width), as ``transform`` returned them, in
                float32 at least.
            allowed: bool, broadcasts to (B, H, l, L): the keys that a query attends to.
        """
        return self.bias(query_positions, key_positions, layer)

    def no_weight_decay(self) -> set[str]:
        """Names of its own parameters that the optimizer shall not pull towards zero: all of them.

        Zero is no better a guess than others for a number that says something about positions: a
        strength, a frequency, an entry of a table. An encoding overrides this where published
        models decay some of them. Biases and gains of any module have no weight decay anyway.
        """
        return {name for name, _ in self.named_parameters()}

    @property
    def adds_bias(self) -> bool:
        """Whether attention has to ask for a bias."""
        return self._has_bias()

    @classmethod
    def _has_bias(cls) -> bool:
        none = PositionEncoding
        return (cls.bias, cls.content_bias) != (none.bias, none.content_bias)


ENCODINGS: dict[str, type[PositionEncoding]] = {}  # by name


def subclass(encoding: Any) -> type[PositionEncoding]:
    """The same class; TypeError for anything but a :class:`PositionEncoding`'s subclass."""
    if not (isinstance(encoding, type) and issubclass(encoding, PositionEncoding)):
        raise TypeError(f"{encoding!r} is no subclass of PositionEncoding")
    return encoding


def register(name: str) -> Callable[[type[PositionEncoding]], type[PositionEncoding]]:
    """A class decorator that makes an encoding known as ``name``.

    Raises:
        ValueError: another class has that name, or it has a colon.
        TypeError: not a subclass of :class:`PositionEncoding`.

    >>> @register("example")
    ... class Example(PositionEncoding):
    ...     pass
    >>> ENCODINGS["example"]
    <class 'seqpe_lab.encodings.base.Example'>
    >>> del ENCODINGS["example"]
    """
    def add(encoding: type[PositionEncoding]) -> type[PositionEncoding]:
        subclass(encoding)
        if ":" in name:
            raise ValueError(f"{name!r} would be read as module:Class: choose a name without colon")
        known = ENCODINGS.get(name)
        if known and (known.__module__, known.__qualname__) != (encoding.__module__,
                                                                encoding.__qualname__):
            raise ValueError(f"encoding {name!r} is {known.__qualname__} of {known.__module__} "
                             "already: choose another name")
        ENCODINGS[name] = encoding
        return encoding
    return add


register("none")(PositionEncoding)
