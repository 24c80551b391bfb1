"""RoPE that leaves something without a position: the slowest pairs (p-RoPE), or whole layers."""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.rotary import RoPE, rotary_frequencies, turned_by, usual_base


@register("p-rope")
class PartialRoPE(RoPE):
    """p-RoPE (Barbero et al. 2025): only the fastest share p of the pairs is rotated.

    Trained models use the fast pairs to find positions and the slow ones to carry meaning, which
    their slow rotation disturbs in long contexts. Features that are not rotated stay as in NoPE.

    Args:
        d_head, base, pairing, prefix: as in :class:`~seqpe_lab.encodings.RoPE`, whose frequencies
            the rotated pairs keep.
        p: share of the pairs, in (0, 1]; 1 is RoPE.

    Raises:
        ValueError: a p outside (0, 1], or one so small that no pair would be rotated.

    >>> PartialRoPE(8, p=0.5).angles(torch.tensor([[3]]))
    tensor([[3.0000, 0.3000, 0.0000, 0.0000]], dtype=torch.float64)
    """

    def __init__(self, d_head: int, base: float = 10_000.0, pairing: str = "interleaved",
                 prefix: int = 0, p: float = 0.75):
        super().__init__(d_head, base, pairing, prefix)
        if not 0 < p <= 1:
            raise ValueError(f"p is the share of rotated pairs, in (0, 1], got {p}")
        self.p = p

    @classmethod
    def for_model(cls, shape: ModelShape, base: float | None = None,  # type: ignore[override]
                  pairing: str = "interleaved", p: float = 0.75) -> PartialRoPE:
        encoding = cls(shape.d_head, usual_base(shape, base), pairing, shape.prefix, p)
        encoding.frequencies(shape.dims)  # refuse now what could not be rotated later
        return encoding

    def frequencies(self, dims: int) -> Tensor:
        """Of the pairs of one dimension, float64 (d_head/2n,), 0 for those that stay."""
        all_pairs = rotary_frequencies(self.d_head, dims, self.base)
        rotated = int(self.p * len(all_pairs))
        if not rotated:
            raise ValueError(f"p={self.p} of {len(all_pairs)} pairs is less than one: raise p to "
                             f"at least {1 / len(all_pairs):.2g}, or choose the encoding 'none'")
        return torch.where(torch.arange(len(all_pairs)) < rotated, all_pairs, 0.0)

    def angles(self, positions: Tensor) -> Tensor:
        return turned_by(positions, self.frequencies(positions.shape[-1]))


@register("rnope")
class RNoPE(RoPE):
    """RoPE in most layers and NoPE in every ``every``-th (RNoPE; Yang et al. 2025).

    Layers without positions retrieve by content at any distance, those with RoPE look nearby. The
    paper's RoPE layers also attend within a sliding window only, which is not part of an encoding.

    Args:
        d_head, base, pairing, prefix: as in :class:`~seqpe_lab.encodings.RoPE`.
        every: 2 alternates, the first layer with RoPE; 4 has three RoPE layers for each of NoPE.

    Raises:
        ValueError: an ``every`` below 2; for a model with fewer layers than that.

    >>> q, encoding = torch.ones(1, 1, 3, 4), RNoPE(4, every=2)
    >>> prepared = encoding.prepare(torch.arange(3).unsqueeze(-1))
    >>> [bool((encoding.transform(q, q, prepared, layer)[0] == q).all()) for layer in range(4)]
    [False, True, False, True]
    """

    def __init__(self, d_head: int, base: float = 10_000.0, pairing: str = "interleaved",
                 prefix: int = 0, every: int = 2):
        super().__init__(d_head, base, pairing, prefix)
        if not isinstance(every, int) or every < 2:
            raise ValueError(f"every is a whole number of at least 2, got {every!r}: without RoPE "
                             "in any layer choose the encoding 'none'")
        self.every = every

    @classmethod
    def for_model(cls, shape: ModelShape, base: float | None = None,  # type: ignore[override]
                  pairing: str = "interleaved", every: int = 2) -> RNoPE:
        encoding = cls(shape.d_head, usual_base(shape, base), pairing, shape.prefix, every)
        if shape.layers < every:
            raise ValueError(f"a model of {shape.layers} layers has none without RoPE if they are "
                             f"every {every}-th: lower `every`, or choose the encoding 'rope'")
        return encoding

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, ...],
                  layer: int) -> tuple[Tensor, Tensor]:
        if (layer + 1) % self.every == 0:
            return q, k
        return super().transform(q, k, prepared, layer)
