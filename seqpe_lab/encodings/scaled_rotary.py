"""RoPE for contexts longer than the trained one: the same pairs of features, rotated more slowly.

A model that was trained on L tokens has seen pair i at the angles 0 to theta_i L. In a context s
times as long, s the *factor*, these methods change the frequencies theta_i so that fewer or no
angles are new:

    interpolation (Chen et al. 2023)      theta_i / s
    NTK-aware (bloc97 2023)               theta_i s^(-2i/(d-2)): the fastest pair as it was, the
                                          slowest divided by s; it is RoPE of base b s^(d/(d-2))
    dynamic NTK (emozilla 2023)           the same with the factor of the context at hand
    YaRN (Peng et al. 2024)               a pair that turns often within L as it was, one that
                                          turns less than once divided by s, others in between;
                                          queries and keys times 0.1 ln s + 1

Weights do not change, so a model trained with RoPE can be evaluated with any of them
(:func:`~seqpe_lab.models.longer_contexts.with_scaling`), and tuned further. On a grid each
dimension has a factor of its own, and d is the number of features of one dimension.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqpe_lab.devices import moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.rotary import RoPE, rotary_frequencies, turned_by


class ScaledRoPE(RoPE):
    """RoPE with frequencies that depend on a factor; each method overrides ``scaled``.

    A model tells ``embed`` how long the context will be when it is complete. That matters when keys
    are cached: those of the first tokens must already be computed for the final length.

    Args:
        shape: of the model; its train_shape is L.
        factor: s >= 1. By default it is that of each context, its length divided by L and at
            least 1, so that contexts up to L are encoded as by RoPE. Keys that were cached for
            one length are then wrong for another: give a fixed factor, or the model the final
            length (``context_len``), as its ``generate`` does. A model of transformers refuses
            a cache then.
        base, pairing: as in :class:`~seqpe_lab.encodings.RoPE`.

    Raises:
        ValueError: a factor below 1; what RoPE refuses.
    """
    _given: tuple[Tensor, list[tuple[int, ...]]] | None = None  # positions and their contexts

    def __init__(self, shape: ModelShape, factor: float | None = None, base: float | None = None,
                 pairing: str = "interleaved"):
        super().__init__(shape.d_head, base, pairing, shape.prefix, shape.dims)
        if factor is not None and not 1 <= factor < math.inf:
            raise ValueError(f"the factor by which a context grows is at least 1, got {factor}")
        self.train_shape, self.factor = shape.train_shape, factor

    @property
    def follows_context(self) -> bool:
        """Whether keys that were computed in one context are wrong in a longer one."""
        return self.factor is None

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Adds nothing; keeps the context for the ``prepare`` of the same positions."""
        self._given = positions, [(context,) if isinstance(context, int) else tuple(context)]
        return x

    def embed_each(self, x: Tensor, positions: Tensor, contexts: Sequence[int]) -> Tensor:
        """The same, with a context for each sequence."""
        self._given = positions, [(context,) for context in contexts]
        return x

    def contexts_of(self, positions: Tensor) -> list[tuple[int, ...]]:
        """The size of the context in each dimension: up to the last position at least.

        One for all sequences, or one for each where they were given so.

        Args:
            positions: integers (..., n), at least one. Where ``embed`` did not get this very
                tensor before, the context ends with the last position.

        >>> encoding = InterpolatedRoPE(ModelShape(8, heads=1, layers=1, train_shape=(16,)))
        >>> first = torch.arange(5).unsqueeze(-1)
        >>> encoding.contexts_of(first)
        [(5,)]
        >>> _ = encoding.embed(torch.zeros(1, 5, 8), first, context=64)   # 59 more will follow
        >>> encoding.contexts_of(first)
        [(64,)]
        """
        given = self._given
        known = given[1] if given and given[0] is positions else [(0,) * positions.shape[-1]]
        places = positions.cpu()
        if len(known) == 1:
            last = places.flatten(0, -2).amax(0, keepdim=True)
        else:
            last = places.amax(-2).expand(len(known), -1)  # of each sequence
        sizes = torch.maximum(torch.tensor(known), last + 1)
        return [tuple(size) for size in sizes.tolist()]

    @property
    def unscaled(self) -> Tensor:
        """The frequencies of RoPE in one dimension, float64 (d_head/2n,)."""
        return rotary_frequencies(self.d_head, len(self.train_shape), self.base)

    def scaled(self, factor: float, length: int) -> Tensor:
        """Those of this method, float64 (d_head/2n,); L = ``length``."""
        raise NotImplementedError

    def strength(self, factor: float) -> float:
        """What queries and keys are multiplied with."""
        return 1.0

    def factor_of(self, context: int, length: int) -> float:
        """s of a context of that many tokens, rows or columns."""
        return max(1.0, context / length) if self.factor is None else self.factor

    def factors(self, positions: Tensor) -> list[list[float]]:
        """s of each dimension, for all sequences or for each one."""
        return [[self.factor_of(*sizes) for sizes in zip(context, self.train_shape)]
                for context in self.contexts_of(positions)]

    def angles(self, positions: Tensor) -> Tensor:
        check_positions(positions, len(self.train_shape))
        factors = self.factors(positions)
        if len(factors) == 1:
            return self._turned(positions, factors[0])
        return torch.stack([self._turned(*sequence) for sequence in zip(
            positions.expand(len(factors), *positions.shape[-2:]), factors)])

    def _turned(self, positions: Tensor, factors: list[float]) -> Tensor:
        frequencies = [self.scaled(*sizes) for sizes in zip(factors, self.train_shape)]
        return turned_by(positions, torch.stack(frequencies[::-1]))

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, ...]:
        """Cosines and sines times the strength, float32 (L, d_head/2) or (B, 1, L, d_head/2)."""
        cos, sin = super().prepare(positions, vectors, device)
        strengths = [self.strength(max(factors)) for factors in self.factors(positions)]
        if len(strengths) == 1:
            return cos * strengths[0], sin * strengths[0]
        of_each, = moved([torch.tensor(strengths).view(-1, 1, 1, 1)], cos.device)
        return cos * of_each, sin * of_each


@register("rope-pi")
class InterpolatedRoPE(ScaledRoPE):
    """Position interpolation: position p is rotated as RoPE rotates p/s.

    >>> shape = ModelShape(d_model=8, heads=2, layers=1, train_shape=(16,))
    >>> there, here = torch.tensor([[12]]), torch.tensor([[3]])
    >>> torch.equal(InterpolatedRoPE(shape, factor=4).angles(there), RoPE(4).angles(here))
    True
    """

    def scaled(self, factor: float, length: int) -> Tensor:
        return self.unscaled / factor


@register("rope-ntk")
class NTKRoPE(ScaledRoPE):
    """NTK-aware scaling; the name comes from a theory of how networks learn high frequencies.

    Raises:
        ValueError: fewer than two pairs of features per dimension, of which the slowest would also
            be the fastest.

    >>> shape = ModelShape(d_model=12, heads=2, layers=1, train_shape=(16,))
    >>> encoding = NTKRoPE(shape, factor=4, base=10_000)
    >>> encoding.unscaled / encoding.scaled(factor=4, length=16)
    tensor([1., 2., 4.], dtype=torch.float64)
    """

    def __init__(self, shape: ModelShape, factor: float | None = None, base: float | None = None,
                 pairing: str = "interleaved"):
        super().__init__(shape, factor, base, pairing)
        if shape.d_head < 4 * shape.dims:
            raise ValueError("NTK-aware scaling keeps the fastest pair of features and slows the "
                             f"slowest: d_head={shape.d_head} must be at least {4 * shape.dims}")

    def scaled(self, factor: float, length: int) -> Tensor:
        share = torch.arange(len(self.unscaled), dtype=torch.float64) / (len(self.unscaled) - 1)
        return self.unscaled * factor ** -share


@register("rope-dynamic")
class DynamicRoPE(NTKRoPE):
    """NTK-aware scaling by s = a C/L - (a - 1) in a context of C > L; ``factor`` is a.

    With a = 1, the default, this is "rope-ntk" with the factor of each context.
    """

    @property
    def follows_context(self) -> bool:
        return True

    def factor_of(self, context: int, length: int) -> float:
        a = 1.0 if self.factor is None else self.factor
        return a * max(context, length) / length - (a - 1)


@register("rope-yarn")
class YaRN(ScaledRoPE):
    """NTK-by-parts with a temperature of attention.

    Between the pairs that turn ``beta_fast`` and ``beta_slow`` times within L, rounded outwards,
    the share of interpolation grows linearly with the number of the pair, as in the authors' code
    and in transformers (in the paper's text it falls linearly with the number of turns).

    Args:
        beta_fast, beta_slow: turns within L, beta_fast > beta_slow > 0.

    >>> shape = ModelShape(d_model=64, heads=1, layers=1, train_shape=(2_048,))
    >>> encoding = YaRN(shape, factor=8)
    >>> (encoding.unscaled / encoding.scaled(8, 2_048))[[0, 8, 16, 31]]   # from 1 to s
    tensor([1.0000, 1.0000, 2.1667, 8.0000], dtype=torch.float64)
    >>> round(encoding.strength(8), 4)
    1.2079
    """

    def __init__(self, shape: ModelShape, factor: float | None = None, base: float | None = None,
                 pairing: str = "interleaved", beta_fast: float = 32.0, beta_slow: float = 1.0):
        super().__init__(shape, factor, base, pairing)
        if not beta_fast > beta_slow > 0:
            raise ValueError("YaRN keeps pairs of at least beta_fast turns and interpolates those "
                             f"of at most beta_slow: got beta_fast={beta_fast}, "
                             f"beta_slow={beta_slow}")
        self.beta_fast, self.beta_slow = beta_fast, beta_slow

    def scaled(self, factor: float, length: int) -> Tensor:
        pairs = len(self.unscaled)

        def pair_of(turns: float) -> float:  # the pair that turns so often within L
            return pairs * math.log(length / (turns * 2 * math.pi)) / math.log(self.base)

        first = max(math.floor(pair_of(self.beta_fast)), 0)
        last = max(min(math.ceil(pair_of(self.beta_slow)), 2 * pairs - 1), first + 0.001)
        share = ((torch.arange(pairs, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)
        return self.unscaled * (1 - share + share / factor)

    def strength(self, factor: float) -> float:
        return 0.1 * math.log(factor) + 1
