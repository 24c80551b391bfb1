"""xPos: RoPE whose scores also decay with the distance (Sun et al. 2022)."""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqpe_lab.devices import moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.rotary import RoPE, rotate


@register("xpos")
class XPos(RoPE):
    """Query pairs times zeta_m^(i/s), key pairs times zeta_m^(-j/s), both rotated as by RoPE.

    In the score of query i and key j this leaves zeta_m^((i-j)/s), with

        zeta_m = (2m/d + 0.4) / 1.4,   m = 0, ..., d/2 - 1,

    so the fast pairs fade with the distance, and the slow ones hardly do; a causal mask has i >= j.

    The factors themselves grow and shrink with the position, so there is a last position that the
    numbers of a model can represent: with s = 512 it is 33,000 in float32 and bfloat16, and 2,000
    in float16.

    Args:
        d_head, base, pairing: as in :class:`~seqpe_lab.encodings.RoPE`.
        scale_base: s, in tokens; 512 as published.

    Raises:
        ValueError: a grid; a scale_base that is not positive; in ``transform`` positions beyond
            the last one, with the scale_base that they need.

    >>> encoding = XPos(4, scale_base=1)
    >>> query, key = (torch.ones(1, 1, 1, 4) for _ in range(2))
    >>> q, k = (encoding.transform(query, key, encoding.prepare(torch.tensor([[p]])), 0)[i]
    ...         for i, p in ((0, 3), (1, 1)))
    >>> pairs = (q * k).unflatten(-1, (2, 2)).sum(-1)
    >>> zeta = torch.tensor([0.4, 0.9]) / 1.4
    >>> torch.allclose(pairs, 2 * torch.tensor([2.0, 0.02]).cos() * zeta**2)
    True
    """

    def __init__(self, d_head: int, base: float = 10_000.0, pairing: str = "interleaved",
                 scale_base: float = 512.0):
        super().__init__(d_head, base, pairing)
        if not 0 < scale_base < math.inf:
            raise ValueError(f"scale_base is a number of tokens above 0, got {scale_base}")
        self.scale_base = scale_base

    @classmethod
    def for_model(cls, shape: ModelShape, base: float = 10_000.0,  # type: ignore[override]
                  pairing: str = "interleaved", scale_base: float = 512.0) -> XPos:
        if shape.dims > 1 or shape.prefix:
            raise ValueError("xPos decays with how far a causal sequence looks back, which a grid "
                             "does not have: choose another encoding")
        return cls(shape.d_head, base, pairing, scale_base)

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Any, ...]:
        """Cosines, sines and the queries' factors, float32 (L, d_head/2) or (B, 1, L, d_head/2).

        The last of the four is the highest position, an int.
        """
        places = check_positions(positions, dims=1).cpu()
        cos, sin = super().prepare(places, vectors, device)
        zeta = (torch.arange(0, self.d_head, 2, dtype=torch.float64) / self.d_head + 0.4) / 1.4
        factor = (zeta ** (places.double() / self.scale_base)).float()
        factor, = moved([factor if factor.dim() == 2 else factor.unsqueeze(1)], device)
        return cos, sin, factor, int(places.max())

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Any, ...],
                  layer: int) -> tuple[Tensor, Tensor]:
        cos, sin, factor, highest = prepared
        room = math.log(torch.finfo(q.dtype).max) - 6  # the keys themselves, and gradients
        last = int(self.scale_base * room / -math.log(0.4 / 1.4))
        if highest > last:
            needed = math.ceil(self.scale_base * highest / last) + 1
            raise ValueError(f"xPos with scale_base={self.scale_base:g} leaves the range of "
                             f"{q.dtype} after position {last:,}, got {highest:,}: shorten the "
                             f"context or raise scale_base to {needed:,}")
        return (rotate(q, cos * factor, sin * factor, self.pairing),
                rotate(k, cos / factor, sin / factor, self.pairing))
