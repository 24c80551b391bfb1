"""Plain scaled-dot-product attention on whatever queries and keys an encoding hands back."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = True) -> Tensor:
    """Attention where q and k may be wider than v.

    torch's fused kernels want one width, so v is padded with zeros and the padding cut off again:
    cheaper by far than the L x L matrix that torch would build otherwise.

    Args:
        q: (B, H, L_q, width); if causal, its tokens are the last L_q of the context.
        k: (B, H, L, width).
        v: (B, H, L, d_head), width >= d_head.
        dropout: of the attention weights.
        causal: every token sees itself and those before it; False: all see all.

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
