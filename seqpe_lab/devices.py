"""Where a computation runs, and the float32 region in which positions are computed."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor, nn

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


def moved(tensors: Sequence[Tensor], device: torch.device | str | None) -> list[Tensor]:
    """CPU tensors of one dtype on another device, in one copy that the CPU does not wait for.

    Tensors that are not all on the CPU are moved one by one.

    A copy from ordinary memory makes the CPU wait until the GPU has done everything before it. A
    copy from pinned memory does not, and one copy starts faster than many.

    Args:
        tensors: of any shapes, all of one dtype.
        device: where to; None leaves them where they are.

    >>> [t.shape for t in moved([torch.zeros(2, 3), torch.zeros(5)], "cpu")]
    [torch.Size([2, 3]), torch.Size([5])]
    """
    if device is None:
        return list(tensors)
    if torch.device(device).type != "cuda" or any(t.device.type != "cpu" for t in tensors):
        return [t.to(device) for t in tensors]
    flat = torch.cat([t.flatten() for t in tensors]).pin_memory().to(device, non_blocking=True)
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors)]


def precision_on(device: torch.device, precision: str) -> str:
    """The precision in which a device computes what a recipe wants in ``precision``.

    >>> precision_on(torch.device("cpu"), "bf16")
    'fp32'
    """
    return "bf16" if precision == "bf16" and device.type == "cuda" else "fp32"


def cores_per_process() -> int:
    """How many CPU cores this process has for itself."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def leave_a_core(most: int | None = None) -> int:
    """Let torch compute with one thread less than there are cores; returns the number of threads.

    torch takes a thread a core, and they wait for one another after each operation. A single core
    that another process keeps busy holds up all of them: on two cores, a training of small tensors
    that takes one second on one thread then takes thirty on two. The number does not depend on how
    busy the machine is now, since sums are the same to the last bit on as many threads only.

    Where the environment has OMP_NUM_THREADS or MKL_NUM_THREADS, nothing changes.

    Args:
        most: an upper limit: small tensors gain nothing from many threads.
    """
    if not any(name in os.environ for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        free = max(1, cores_per_process() - 1)
        torch.set_num_threads(min(free, most or free))
    return torch.get_num_threads()


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
    in float32 even where the model runs in mixed precision. A compiler cannot trace a change of
    TF32's setting, so within a compiled graph it stays as it is.

    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), float32_region(x.device):
    ...     (x @ x).dtype
    torch.float32
    """
    tf32 = False
    if device.type == "cuda" and not torch.compiler.is_compiling():
        precision = torch.get_float32_matmul_precision()
        tf32 = precision != "highest"
    if tf32:
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            torch.set_float32_matmul_precision(precision)


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32,
                size: int | None = None) -> float:
    """Floating-point operations per second of one large matrix product, the best of three rounds.

    It takes about 0.2 s on a CPU, and less on a GPU.

    Args:
        size: of the square matrices; by default 8,192 on a GPU and 1,024 elsewhere.

    >>> matrix_rate(torch.device("cpu")) > 1e8
    True
    """
    gpu = device.type == "cuda"
    size, repeats = size or (8_192 if gpu else 1_024), 10 if gpu else 2
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
