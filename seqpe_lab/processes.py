"""The processes of one training run, under torchrun or alone, and the signals that stop them."""
from __future__ import annotations

import builtins
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (DataLoaderConfiguration, DistributedDataParallelKwargs,
                              GradientAccumulationPlugin, InitProcessGroupKwargs,
                              broadcast_object_list, gather_object)

from seqpe_lab.devices import best_device

T = TypeVar("T")

# The others wait while the main process evaluates: NCCL's own 10 minutes are too short for
# ImageNet at 672 pixels.
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
        mixed_precision="bf16" if precision == "bf16" and device.type == "cuda" else "no",
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


def on_main(accelerator: Accelerator, function: Callable, *arguments: Any) -> None:
    """Call ``function(*arguments)`` on the main process while the others wait.

    If it fails, all processes fail, so that none waits for ever.

    Raises:
        Exception: on the main process, what ``function`` raises.
        RuntimeError: on the others, with its message.
    """
    error, message = None, [None]
    if accelerator.is_main_process:
        try:
            function(*arguments)
        except Exception as caught:
            error, message = caught, [str(caught)]
    broadcast_object_list(message)
    if error is not None:
        raise error
    if message[0] is not None:
        raise RuntimeError(f"the main process stopped: {message[0]}")


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


class Interrupted(RuntimeError):
    """A signal ended the training after a step; a checkpoint was written, and the run can go on."""
    exit_status = 75  # "try again" (EX_TEMPFAIL)


STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1")
                     if hasattr(signal, name))  # what clusters send before they stop a job


class StopSignals:
    """While it is open, SIGTERM and SIGUSR1 are noted instead of ending the process.

    Only in the main thread of a program: elsewhere, as in a notebook, nothing changes.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator, self.received, self._previous = accelerator, 0, {}

    def __enter__(self) -> StopSignals:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and not hasattr(builtins, "__IPYTHON__"):
            self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python

    def _note(self, number: int, frame: object) -> None:
        self.received = number

    def agreed(self, waits: bool) -> int:
        """The signal that any process received, the same on all; 0 if there was none.

        A process alone answers at every step. Several ask each other, which exchanges one number
        and makes a GPU wait; so they do it only at steps where they wait for each other anyway.

        Args:
            waits: whether all processes are at such a step.
        """
        if self.accelerator.num_processes == 1:
            return self.received
        if not waits:
            return 0
        received = torch.tensor([self.received], device=self.accelerator.device)
        return int(self.accelerator.gather(received).max())


def ignore_stop_signals(worker: int = 0) -> None:
    """For processes that load data: they end with the process that they work for."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def cores_per_process() -> int:
    """How many CPU cores this process has for itself."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
