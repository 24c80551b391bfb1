"""The processes of one training run, under torchrun or alone."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (DataLoaderConfiguration, DistributedDataParallelKwargs,
                              GradientAccumulationPlugin, InitProcessGroupKwargs, gather_object)

from seqpe_lab.devices import best_device, precision_on

T = TypeVar("T")

# The others wait while the main process evaluates a text or answers questions: NCCL's own 10
# minutes may be too short for that.
LONGEST_WAIT = timedelta(hours=12)


def start_processes(precision: str, cpu: bool = False) -> Accelerator:
    """Set up accelerate, and check that it sees all processes that were started.

    Args:
        precision: "bf16" (on a GPU only; a CPU computes in float32) or "fp32".
        cpu: stay on the CPU even if there is a GPU.

    Raises:
        RuntimeError: accelerate sees another number of processes than ``torchrun`` started.
    """
    device = best_device(cpu)
    # By default torch regroups the gradients after the first step of a process and then sums them
    # in another order; with three processes or more a resumed run would differ in the last bits.
    gradients = DistributedDataParallelKwargs(find_unused_parameters=True,
                                              gradient_as_bucket_view=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if precision_on(device, precision) == "bf16" else "no",
        dataloader_config=DataLoaderConfiguration(even_batches=False, non_blocking=True),
        # the training loop divides by the micro-batches itself; a plain number here would yield to
        # $ACCELERATE_GRADIENT_ACCUMULATION_STEPS, and gradients would be divided twice
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT), gradients])
    started = int(os.environ.get("WORLD_SIZE", accelerator.num_processes))
    if accelerator.num_processes != started:
        raise RuntimeError(f"{started} processes were started but accelerate sees "
                           f"{accelerator.num_processes}: start them with torchrun, or python -m "
                           "torch.distributed.run, in a fresh program")
    return accelerator


def on_all(accelerator: Accelerator, function: Callable[[int, int], T]) -> list[T]:
    """Call ``function(number, count)`` on all ``count`` processes, with the number of each.

    If it fails on one, all processes fail, so that none waits for ever.

    Returns:
        On every process, the plain values that all have computed, in the order of their numbers.

    Raises:
        Exception: on a process where ``function`` fails, what it raises.
        RuntimeError: on the others, with its message.
    """
    value, error = None, None
    try:
        value = function(accelerator.process_index, accelerator.num_processes)
    except Exception as caught:
        error = caught
    outcomes = gather_object([(value, None if error is None else str(error))])
    if error is not None:
        raise error
    for number, (_, message) in enumerate(outcomes):
        if message is not None:
            name = f"process {number}" if number else "the main process"
            raise RuntimeError(f"{name} stopped: {message}")
    return [value for value, _ in outcomes]


def on_main(accelerator: Accelerator, function: Callable, *arguments: Any) -> None:
    """Call ``function(*arguments)`` on the main process while the others wait.

    Raises:
        Exception, RuntimeError: as in :func:`on_all`.
    """
    on_all(accelerator, lambda number, count: None if number else function(*arguments))


def agreed(accelerator: Accelerator, what: str, value: T) -> T:
    """Return ``value`` after checking that it is the same on all processes.

    Args:
        what: names the value in the error message.

    Raises:
        ValueError: it differs, for instance on several machines that share no folder.
    """
    values = gather_object([value])
    if any(other != values[0] for other in values):
        raise ValueError(f"the processes do not agree on {what}: {', '.join(map(str, values))}. "
                         "All machines need the same data, and a folder of the run that they share")
    return value


@contextmanager
def deterministic_algorithms(wanted: bool, cpu: bool = False) -> Iterator[None]:
    """Inside, a GPU computes the same bits every time; afterwards torch's settings are as before.

    Where torch has no deterministic algorithm it raises an error. A CPU needs none of this: a fixed
    number of threads adds in a fixed order. CUBLAS_WORKSPACE_CONFIG stays set if CUDA has started
    with it, because cuBLAS reads it only once.

    Args:
        wanted: False changes nothing.
        cpu: the computation stays on the CPU even if there is a GPU.

    Raises:
        RuntimeError: CUDA has already started without CUBLAS_WORKSPACE_CONFIG.
    """
    if not wanted:
        yield
        return
    name, before = "CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    started = torch.cuda.is_initialized()
    if started and not cpu and before not in (":4096:8", ":16:8"):
        raise RuntimeError(f"CUDA has started in this process without {name}, which deterministic "
                           "training needs: set it to :4096:8 before Python starts, or train with "
                           "--deterministic in a fresh program")
    if before not in (":4096:8", ":16:8"):
        os.environ[name] = ":4096:8"
    cudnn, enabled = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    settings = cudnn.deterministic, cudnn.benchmark
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=only_warned)
        cudnn.deterministic, cudnn.benchmark = settings
        if started or not torch.cuda.is_initialized():
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
