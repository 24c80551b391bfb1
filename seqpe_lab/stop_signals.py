"""What signals do to a training: SIGTERM and SIGUSR1, which clusters send, end it after a step;
SIGINT (Ctrl-C, or the button of a notebook) interrupts no import.
"""
from __future__ import annotations

import _thread
import builtins
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch


class Interrupted(RuntimeError):
    """A signal ended the training after a step; a checkpoint was written, and the run can go on."""
    exit_status = 75  # "try again" (EX_TEMPFAIL)


STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1")
                     if hasattr(signal, name))  # what clusters send before they stop a job


class StopSignals:
    """While it is open, SIGTERM and SIGUSR1 are noted instead of ending the process.

    Only in the main thread of a program: elsewhere, as in a notebook, nothing changes.

    Args:
        accelerator: accelerate's object for the processes of the run.
    """

    def __init__(self, accelerator: Any):
        self.accelerator, self.received, self._previous = accelerator, 0, {}

    def __enter__(self) -> StopSignals:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and not hasattr(builtins, "__IPYTHON__"):
            self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python

    def _note(self, number: int, frame: FrameType | None) -> None:
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


@contextmanager
def imports_finish() -> Iterator[None]:
    """While it is open, SIGINT waits for the end of an import.

    A module whose import was interrupted stays half imported: whatever needs it fails until the
    process is started again, and in a notebook all variables are lost. Also a decorator. It has no
    effect outside the main thread, or where Python does not handle SIGINT.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    depth = len(list(traceback.walk_stack(sys._getframe(2))))  # the caller's frame and all above

    def interrupt(number: int, frame: FrameType | None) -> None:
        inside = [f.f_code.co_filename for f, _ in traceback.walk_stack(frame)][:-depth]
        if "<frozen importlib._bootstrap>" in inside:
            threading.Timer(0.05, _interrupt_main_thread).start()  # try again soon
        else:
            previous(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # ends a wait of the main thread, too
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def ignore_stop_signals(worker: int = 0) -> None:
    """For processes that load data: they end with the process that they work for."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
