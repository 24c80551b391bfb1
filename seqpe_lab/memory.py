"""What keeps a training step small: to forget what is cheap to make again."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

WORTH_IT = 2**20  # numbers in the largest input; the small models of a laptop stay below, and would be a tenth slower


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``function(*inputs)``, whose intermediate results are not kept for the backward pass but made again.

    The second time stops where the last of them stands, before the operation that only reads it. So
    ``gelu`` then ``linear`` costs one more gelu and no matrix product, and saves the widest tensor
    of a Transformer's layer. Nothing random may happen inside. Where the inputs are small there is
    nothing to save, and the function is called plainly.

    >>> x = torch.ones(2, requires_grad=True)
    >>> recomputed(lambda x: x.exp().square(), x).sum().backward()
    >>> x.grad                                        # 2 exp(2)
    tensor([14.7781, 14.7781])
    """
    if not torch.is_grad_enabled() or max(x.numel() for x in inputs) < WORTH_IT:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
