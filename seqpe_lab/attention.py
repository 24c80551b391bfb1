"""Plain scaled-dot-product attention on the queries and keys that an encoding returns."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = True) -> Tensor:
    """Attention where q and k may be wider than v.

    torch's fused kernels need q, k and v of the same width. So v is padded with zeros and the
    result cut back; otherwise torch would build the L x L matrix of scores.

    Args:
        q: (B, H, L_q, width); if causal, its tokens are the last L_q of the context.
        k: (B, H, L, width).
        v: (B, H, L, d_head), width >= d_head.
        dropout: probability with which an attention weight is dropped.
        causal: every token attends to itself and those before it; False: to all tokens.

    Returns:
        (B, H, L_q, d_head), scores scaled by 1/sqrt(d_head).
    """
    width, d_head = q.shape[-1], v.shape[-1]
    length, context = q.shape[-2], k.shape[-2]
    mask = None
    if causal and 1 < length < context:  # several new tokens after a cache
        mask = torch.ones(length, context, dtype=torch.bool, device=q.device).tril(context - length)
    if width > d_head:
        v = F.pad(v, (0, width - d_head))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout,
                                         is_causal=causal and length == context > 1,
                                         scale=d_head**-0.5)
    return out[..., :d_head]
