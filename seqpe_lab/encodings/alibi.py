"""ALiBi: a penalty of -m(i-j) for looking back i-j tokens (SeqPE, Eq. 5 and 6), without the matrix.

Softmax does not notice a constant added to a whole row. In row i, -m(i-j) = m j - m i, and m i is
such a constant, so m j does the same: a number that only the key carries. Key j gets the extra
features (256 a, b) with j = 256 a + b, and every query (m, m): their product is m j. The two parts
are whole numbers that bfloat16 holds exactly, so far positions stay apart at low precision.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from seqpe_lab.encodings.base import PositionEncoding


def alibi_slopes(heads: int) -> Tensor:
    """m for each head: 2^(-8/H), 2^(-16/H), ... ; where H is no power of two, the rest from 2H's odd places.

    >>> alibi_slopes(4)
    tensor([0.2500, 0.0625, 0.0156, 0.0039])
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2 ** (-4 * (h + 1) / power) for h in range(0, 2 * (heads - power), 2)]
    return torch.tensor(slopes)


class ALiBi(PositionEncoding):
    """Adds m j to the score of key j; under a causal mask that is Eq. 6's bias.

    Args:
        heads: H.
        d_head: features a head.
        scaled: False (the method as Press et al. publish it, and the stronger baseline) adds the
            bias after the division by sqrt(d_head); True, as the SeqPE authors' code and a literal
            reading of Eq. 3 and 5, divides it together with q.k: weaker by sqrt(d_head).
    """

    def __init__(self, heads: int, d_head: int, scaled: bool = False):
        super().__init__()
        slopes = alibi_slopes(heads)
        self.register_buffer("slopes", slopes if scaled else slopes * d_head**0.5, persistent=False)

    def prepare(self, positions, vectors=None, device=None):
        position = positions.squeeze(-1)  # (L,) or (B, L)
        parts = torch.stack([position // 256 * 256, position % 256], dim=-1)
        return parts.unsqueeze(-3).to(device)  # (1, L, 2) or (B, 1, L, 2)

    def transform(self, q, k, prepared, layer):
        key_features = prepared.to(k).expand(*k.shape[:3], 2)
        query_features = self.slopes.to(q).view(-1, 1, 1).expand(*q.shape[:3], 2)
        return torch.cat([q, query_features], -1), torch.cat([k, key_features], -1)
