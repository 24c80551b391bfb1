"""Plain scaled-dot-product attention on the queries and keys that an encoding returns."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = True,
           mask: Tensor | None = None) -> Tensor:
    """Attention where q and k may be wider than v.

    torch's fused kernels need q, k and v of the same width. So v is padded with zeros and the
    result cut back; otherwise torch would build the L x L matrix of scores.

    Args:
        q: (B, H, L_q, width); if causal, its tokens are the last L_q of the context.
        k: (B, H, L, width).
        v: (B, H, L, d_head), width >= d_head.
        dropout: probability with which an attention weight is dropped.
        causal: every token attends to itself and those before it; False: to all tokens.
        mask: bool (B, 1, 1, L), False for a key that no token attends to (padding).

    Returns:
        (B, H, L_q, d_head), scores scaled by 1/sqrt(d_head).
    """
    if mask is not None:
        q, k = hide_keys(q, k, mask)
    width, d_head = q.shape[-1], v.shape[-1]
    length, context = q.shape[-2], k.shape[-2]
    lower = None
    if causal and length < context and length > 1:  # several new tokens after a cache
        lower = torch.ones(length, context, dtype=torch.bool, device=q.device)
        lower = lower.tril(context - length)
    if width > d_head:
        v = F.pad(v, (0, width - d_head))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=lower, dropout_p=dropout,
                                         is_causal=causal and bool(length == context),
                                         scale=d_head**-0.5)
    return out[..., :d_head]


def hide_keys(q: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys with one more feature, by which no query attends to the hidden keys.

    It is 1 in every query, 0 in a key that is seen, and in a hidden one so low that softmax gives
    it a weight of exactly 0. So fused attention needs no L x L mask for padding. Zeros behind it
    make the width a multiple of 8, which the fast kernels require.

    Args:
        q: (B, H, L_q, width).
        k: (B, H, L, width).
        mask: bool (B, 1, 1, L), False for a hidden key.
    """
    fill = (0, -(q.shape[-1] + 1) % 8)
    low = torch.finfo(k.dtype).min / 4  # finite: a token that is padding may see nothing else
    of_key = k.new_zeros(mask.shape).masked_fill(~mask, low).transpose(-1, -2)  # (B, 1, L, 1)
    of_key, of_query = F.pad(of_key, fill), F.pad(q.new_ones(*q.shape[:-1], 1), fill)
    return torch.cat([q, of_query], -1), torch.cat([k, of_key.expand(*k.shape[:-1], -1)], -1)
