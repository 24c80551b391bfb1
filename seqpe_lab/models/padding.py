"""Sequences of different lengths in one batch: a mask says which tokens are real, and not padding.

A real token's position is the number of real tokens before it, and no token attends to padding. So
padding on the left or on the right changes no result.
"""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.digits import is_integer


def real_tokens(mask: Tensor | None, batch: int, context: int) -> Tensor | None:
    """An attention mask as bool (B, context) on the CPU; None where there is no padding.

    Args:
        mask: bool or whole numbers (B, context), 1 for a real token and 0 for padding; None
            stands for no padding. Best kept on the CPU.

    Raises:
        TypeError: neither bool nor whole numbers.
        ValueError: another shape, other values than 0 and 1, a sequence without a real token.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or not (mask.dtype == torch.bool or is_integer(mask)):
        raise TypeError("attention_mask must be a tensor of bool or of 0 and 1, got "
                        f"{getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.shape != (batch, context):
        raise ValueError(f"attention_mask {tuple(mask.shape)} does not fit: give ({batch}, "
                         f"{context}), one number for each token of the context, those in the "
                         "cache first")
    mask = mask.cpu()
    real = mask != 0
    if not torch.equal(real, mask == 1):
        raise ValueError("attention_mask holds 1 for a real token and 0 for padding, got "
                         f"{mask[real & (mask != 1)][0].item()}")
    if not real.any(1).all():
        raise ValueError(f"sequence {int(real.any(1).long().argmin())} of the attention_mask has "
                         "no real token: leave it out")
    return None if real.all() else real


def real_positions(real: Tensor, start: int = 0) -> Tensor:
    """The position of every token, int64 (B, context, 1): how many real ones stand before it.

    Args:
        real: bool (B, context).
        start: position of the first real token.

    >>> real_positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]) == 1)[..., 0]
    tensor([[0, 0, 0, 1],
            [0, 1, 2, 2]])
    """
    return start + (real.cumsum(1) - 1).clamp(min=0).unsqueeze(-1)
