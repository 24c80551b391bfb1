"""The processes of one training run, under torchrun or alone."""
from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import (DataLoaderConfiguration, DistributedDataParallelKwargs,
                              InitProcessGroupKwargs, broadcast_object_list, gather_object)

from seqpe_lab.devices import best_device

T = TypeVar("T")

# The others wait while the main process evaluates: NCCL's own 10 minutes are too short for
# ImageNet at 672 pixels.
PATIENCE = timedelta(hours=12)


def start_processes(precision: str, cpu: bool = False) -> Accelerator:
    """accelerate, once it is certain that it sees all processes that were started.

    Args:
        precision: "bf16" (on a GPU only; a CPU computes in float32) or "fp32".
        cpu: stay on the CPU where there is a GPU.

    Raises:
        RuntimeError: it sees another number of processes than ``torchrun`` started.
    """
    device = best_device(cpu)
    # With other buckets torch sums gradients in another order after the first step that it sees,
    # and with three processes or more a resumed run would differ in the last bits.
    gradients = DistributedDataParallelKwargs(find_unused_parameters=True,
                                              gradient_as_bucket_view=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if precision == "bf16" and device.type == "cuda" else "no",
        dataloader_config=DataLoaderConfiguration(even_batches=False, non_blocking=True),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE), gradients])
    started = int(os.environ.get("WORLD_SIZE", accelerator.num_processes))
    if accelerator.num_processes != started:
        raise RuntimeError(f"{started} processes were started but accelerate sees "
                           f"{accelerator.num_processes}: start them with torchrun, or python -m "
                           "torch.distributed.run, in a fresh program")
    return accelerator


def on_main(accelerator: Accelerator, do: Callable, *arguments: Any) -> None:
    """Call ``do(*arguments)`` on the main process while the others wait.

    If it fails, all processes fail, so that none waits for ever.
    """
    error, said = None, [None]
    if accelerator.is_main_process:
        try:
            do(*arguments)
        except Exception as caught:
            error, said = caught, [str(caught)]
    broadcast_object_list(said)
    if error is not None:
        raise error
    if said[0] is not None:
        raise RuntimeError(f"the main process stopped: {said[0]}")


def agreed(accelerator: Accelerator, what: str, value: T) -> T:
    """``value``, if all processes have the same.

    Raises:
        ValueError: they do not, as on several machines without a common disk.
    """
    values = gather_object([value])
    if any(other != values[0] for other in values):
        raise ValueError(f"the processes do not agree on {what}: {', '.join(map(str, values))}. "
                         "All machines need the same data, and a folder of the run that they share")
    return value


def cores_per_process() -> int:
    """How many CPU cores this process has for itself."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
