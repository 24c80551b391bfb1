"""Where a computation runs, and the float32 region in which positions are computed."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import torch
from torch import nn

Function = TypeVar("Function", bound=Callable)


def best_device(cpu: bool = False) -> torch.device:
    """The device to compute on: CUDA if there is one, else Apple's MPS, else the CPU.

    Args:
        cpu: True gives the CPU in any case.

    >>> best_device(cpu=True)
    device(type='cpu')
    """
    if not cpu and torch.cuda.is_available():
        return torch.device("cuda")
    if not cpu and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters and buffers; the CPU for a module without any."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def uncompiled(function: Function) -> Function:
    """``function`` itself; where torch.compile traces the caller, a form that stays uncompiled.

    Digits, their distinct prefixes and the lookup table depend on which positions there are. A
    compiler would cut them into dozens of small graphs, and make those anew for other lengths.

    >>> uncompiled(len)([1, 2])
    2
    """
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


@contextmanager
def float32_region(device: torch.device) -> Iterator[None]:
    """Compute in full float32 inside: no autocast, no TF32 matrix products.

    In a trained SeqPE, e.e' is about 450 and neighbouring positions differ by 0.01, while
    bfloat16's step at 450 is 2. So position vectors, and whatever compares them, are computed
    in float32 even where the model runs in mixed precision.

    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), float32_region(x.device):
    ...     (x @ x).dtype
    torch.float32
    """
    precision = torch.get_float32_matmul_precision()
    tf32 = device.type == "cuda" and precision != "highest"
    if tf32:
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            torch.set_float32_matmul_precision(precision)


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of one large matrix product, the best of three rounds.

    It takes about 0.2 s on a CPU, and less on a GPU.

    >>> matrix_rate(torch.device("cpu")) > 1e8
    True
    """
    gpu = device.type == "cuda"
    size, repeats = (8_192, 10) if gpu else (1_024, 2)
    generator = torch.Generator(device).manual_seed(0)  # leaves torch's own as it is
    a, b = (torch.randn(size, size, device=device, dtype=dtype, generator=generator)
            for _ in range(2))
    wait = torch.cuda.synchronize if gpu else lambda: None
    a @ b  # the first product is slower
    times = []
    for _ in range(3):
        wait()
        began = perf_counter()
        for _ in range(repeats):
            a @ b
        wait()
        times.append(perf_counter() - began)
    return repeats * 2 * size**3 / min(times)
