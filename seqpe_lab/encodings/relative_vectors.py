"""Scores of content with vectors of relative positions: Shaw, and DeBERTa's disentangled terms."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from seqpe_lab.encodings.base import PositionEncoding, register
from seqpe_lab.encodings.distance_biases import difference


def scores_at(content: Tensor, vectors: Tensor, which: Tensor) -> Tensor:
    """Products of content vectors with those of ``vectors`` that ``which`` names.

    Args:
        content: (B, H, l, d_head).
        vectors: (R, d_head), or (H, R, d_head).
        which: int64 (l, L) or (B, l, L), rows of ``vectors``.

    Returns:
        (B, H, l, L); the products of all R vectors, and not d_head numbers for each pair, are in
        memory.
    """
    products = content @ vectors.to(content.dtype).transpose(-1, -2)  # (B, H, l, R)
    which = which.unsqueeze(-3).expand(*products.shape[:-1], which.shape[-1])
    return products.gather(-1, which)


@register("shaw")
class Shaw(PositionEncoding):
    """Shaw et al. 2018 (Eq. 4): scores q_i.(k_j + a_ij) / sqrt(d_head).

    a_ij is a learned vector of j - i, limited to -K .. K. A layer has 2K + 1 vectors, shared by its
    heads. The paper's second set, which is added to the values (Eq. 3), is left out: it found no
    gain from it (its Table 3).

    Args:
        clip: K, in tokens; the paper's is 16.
    """
    sequences_only = "Shaw's vectors are those of distances along a sequence"

    def __init__(self, d_head: int, layers: int, clip: int = 16):
        super().__init__()
        if clip < 0:
            raise ValueError(f"clip must be at least 0 tokens, got {clip}")
        self.clip, self.d_head = clip, d_head
        self.vectors = nn.Parameter(torch.randn(layers, 2 * clip + 1, d_head) * d_head**-0.5)

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor:
        ahead = difference(query_positions, key_positions).squeeze(-1)
        which = ahead.clamp(-self.clip, self.clip) + self.clip
        return scores_at(q, self.vectors[layer], which) / self.d_head**0.5


@register("deberta")
class DeBERTa(PositionEncoding):
    """DeBERTa (He et al. 2021, Eq. 4): (q_i.k_j + q_i.r_d + k_j.s_d) / sqrt(3 d_head).

    d = i - j + K, limited to 0 .. 2K - 1, names one of 2K vectors r and s of each layer and head.
    DeBERTa makes them from one table by projections; here they are tables of their own, which can
    take the same values. For s the paper's equation counts from key to query, j - i; its published
    code counts from query to key, as here.

    Args:
        span: K, in tokens.
    """
    sequences_only = "DeBERTa's vectors are those of distances along a sequence"

    def __init__(self, d_head: int, heads: int, layers: int, span: int = 64):
        super().__init__()
        if span < 1:
            raise ValueError(f"span must be at least 1 token, got {span}")
        self.span, self.d_head = span, d_head
        both = torch.randn(2, layers, heads, 2 * span, d_head) * d_head**-0.5
        self.r, self.s = nn.Parameter(both[0]), nn.Parameter(both[1])

    def transform(self, q: Tensor, k: Tensor, prepared: None, layer: int) -> tuple[Tensor, Tensor]:
        return q / 3**0.5, k  # attention divides by sqrt(d_head) only

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor:
        behind = -difference(query_positions, key_positions).squeeze(-1)  # i - j
        which = (behind + self.span).clamp(0, 2 * self.span - 1)
        of_queries = scores_at(q, self.r[layer], which)
        of_keys = scores_at(k, self.s[layer], which.transpose(-1, -2)).transpose(-1, -2)
        return (of_queries + of_keys / 3**0.5) / self.d_head**0.5
