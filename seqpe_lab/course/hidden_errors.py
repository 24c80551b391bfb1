"""Errors that Jupyter only shows fail the cell, where a program executes a notebook.

An exception in a thread, in a task of asyncio or in a control of an explorer is shown to the
reader, and the next cell runs: a test would pass. A kernel that has loaded this module as an
extension of IPython fails the cell during which such an error came:

    %load_ext seqpe_lab.course.hidden_errors
"""
from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

GRACE = 0.2  # seconds in which the threads of a cell may end

_executed = False
_errors: list[BaseException] = []


def executed() -> bool:
    """Whether a program executes this notebook, and not a reader."""
    return _executed


def report_error(error: BaseException) -> None:
    """Note an error that was shown to the reader instead of being raised."""
    if _executed:
        _errors.append(error)


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython."""
    global _executed
    _executed, before = True, {*threading.enumerate()}
    show_in_thread = threading.excepthook

    def in_thread(about: Any) -> None:
        if about.exc_type is not SystemExit:  # which ends a thread as a return does
            report_error(about.exc_value)
        show_in_thread(about)

    def in_task(loop: asyncio.AbstractEventLoop, about: dict) -> None:
        report_error(about.get("exception") or RuntimeError(about["message"]))
        loop.default_exception_handler(about)

    def watch_tasks(about: Any) -> None:
        with suppress(RuntimeError):  # no loop is running
            asyncio.get_running_loop().set_exception_handler(in_task)

    def fail(result: Any) -> None:
        deadline = time.monotonic() + GRACE
        for thread in {*threading.enumerate()} - before:
            if not thread.daemon:
                thread.join(max(0, deadline - time.monotonic()))
        if _errors and result.success:
            result.error_in_exec = error = _errors[0]
            shell.showtraceback((type(error), error, error.__traceback__))
        _errors.clear()

    threading.excepthook = in_thread
    shell.events.register("pre_run_cell", watch_tasks)
    shell.events.register("post_run_cell", fail)
