"""What keeps a training step small and quick: to forget what is cheap to make again, to keep the room it stood in."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

WORTH_IT = 2**20  # numbers in the largest input; the small models of a laptop stay below, and would be a tenth slower
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


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


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MiB: the next step wants it again.

    Linux' C library hands a step's tensors back to the system and asks for them anew, which costs a
    small model thousands of page faults a step. Tensors of more than 32 MiB still come and go.
    Elsewhere than on Linux nothing happens.
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl has not
        if set_option:
            set_option(_M_MMAP_THRESHOLD, 32 * 2**20)
            set_option(_M_TRIM_THRESHOLD, 256 * 2**20)
