"""ALiBi: a bias of -m(i-j) when query i attends to key j (SeqPE, Eq. 5 and 6), without a matrix.

Softmax does not change when a constant is added to a whole row of scores. In row i the bias is
-m(i-j) = m j - m i, and m i is such a constant. So m j alone, which depends only on the key, gives
the same weights. Key j gets three extra features, j's digits in base 256 times their place values,
and every query (m, m, m): their product is m j. bfloat16 represents all three exactly (up to
j = 16,777,215), so distant positions stay distinct at low precision.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.devices import moved
from seqpe_lab.digits import check_positions, to_digits
from seqpe_lab.encodings.base import PositionEncoding, register

LIMIT = 256**3  # of positions, exclusive


def alibi_slopes(heads: int) -> Tensor:
    """m of each head: 2^(-8/H), 2^(-16/H), ..., 2^-8.

    If H is not a power of two, P is the next lower one: the first P slopes are those of P heads,
    the others every second one of those of 2P heads.

    Args:
        heads: H >= 1.

    Returns:
        float32 (H,), in (0, 1).

    >>> alibi_slopes(4)
    tensor([0.2500, 0.0625, 0.0156, 0.0039])
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2 ** (-4 * (h + 1) / power) for h in range(0, 2 * (heads - power), 2)]
    return torch.tensor(slopes)


@register("alibi")
class ALiBi(PositionEncoding):
    """Adds m j to the score of key j; under a causal mask this equals Eq. 6's bias.

    Args:
        heads: H.
        d_head: features per head.
        scaled: False, as Press et al. publish ALiBi and the stronger baseline, adds the bias after
            the division by sqrt(d_head). True, as in the SeqPE authors' code and a literal reading
            of Eq. 3 and 5, divides it together with q.k, which makes it weaker by sqrt(d_head).
    """
    sequences_only = ("ALiBi counts how far a causal sequence looks back, which a grid does not "
                      "have")

    def __init__(self, heads: int, d_head: int, scaled: bool = False):
        super().__init__()
        self.heads, self.d_head, self.gain = heads, d_head, 1.0 if scaled else d_head**0.5

    @property
    def slopes(self) -> Tensor:
        """m of each head, times sqrt(d_head) unless ``scaled``, float32 (H,).

        Attention divides scores by sqrt(d_head) afterwards.
        """
        return alibi_slopes(self.heads) * self.gain

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """The queries' features (H, 1, F), and the keys' (1, L, F) or (B, 1, L, F), float32.

        F is at least 3; zeros behind the three features make d_head + F a multiple of 8, which the
        fast attention kernels require.
        """
        position = check_positions(positions, dims=1).cpu()  # (L, 1) or (B, L, 1)
        if position.numel() and (highest := int(position.max())) >= LIMIT:
            raise ValueError(f"ALiBi's features are exact below position {LIMIT:,}, got "
                             f"{highest:,}: shorten the context")
        parts = (to_digits(position, digits=3, base=256) * torch.tensor([65_536, 256, 1])).float()
        slopes = self.slopes.view(-1, 1, 1).expand(-1, 1, 3)
        fill = (0, -(self.d_head + 3) % 8)
        of_query, of_key = moved([F.pad(slopes, fill), F.pad(parts.unsqueeze(-3), fill)], device)
        return of_query, of_key

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, Tensor],
                  layer: int) -> tuple[Tensor, Tensor]:
        of_query, of_key = (t.to(q).expand(*q.shape[:3], -1) for t in prepared)
        return torch.cat([q, of_query], -1), torch.cat([k, of_key], -1)
