"""Several tasks at a time, each in a process of its own that is there at once.

To import torch, and what trains with it, takes a process about five seconds. So one process imports
everything (imported.py) and does nothing else, and each task runs in a copy of it, a fork: a crash
touches no other task, and what a task prints goes into its own log.
"""
from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """Something to do, in another process.

    Attributes:
        name: for the reader.
        call: a module's function and its arguments, picklable; it failed if it raises or returns anything but None or 0. None: nothing is left to do.
        report: what to say when it is done; called here.
        log: where all goes that it prints, written anew.
        environment: more variables, for it and for what it starts.
    """
    name: str
    call: tuple | None
    report: Callable[[], str]
    log: Path
    environment: Mapping[str, str] = {}


class Stage(NamedTuple):
    """Tasks that belong together.

    Attributes:
        title: said when it begins.
        tasks: makes them, when the stage begins.
        then: what to do here when all are done, and none has failed; returns something to say, or None.
        waits: True: it begins when everything before it is done, and nothing has failed; False: as soon as a worker is free, so that none is idle.
    """
    title: str
    tasks: Callable[[], Sequence[Task]]
    then: Callable[[], str | None] = lambda: None
    waits: bool = False


def in_stages(stages: Sequence[Stage], workers: int, say: Callable[[str], None]) -> None:
    """Do the tasks of all stages in order, ``workers`` at a time, each on its share of the cores; report each.

    What fails is said at once, and the others go on; a stage that waits does not begin then.

    Raises:
        RuntimeError: at the end, if any failed. Says what is in their logs.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    ahead, waiting, open_tasks, running, failures = list(stages), [], Counter(), {}, []

    def close_if_done(stage: Stage) -> None:
        if not open_tasks[stage] and (more := stage.then()):
            say(more)

    def done(stage: Stage, text: str) -> None:
        say(text)
        open_tasks[stage] -= 1
        close_if_done(stage)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what ends this process ends its tasks, too
    try:
        while ahead or waiting or running:
            while len(running) < workers:
                if not waiting:
                    if not ahead or (ahead[0].waits and running):
                        break
                    stage = ahead.pop(0)
                    say(stage.title)
                    waiting = [(stage, task) for task in stage.tasks()]
                    open_tasks[stage] = len(waiting)
                    close_if_done(stage)
                    continue
                stage, task = waiting.pop(0)
                if task.call is None:
                    done(stage, f"  {task.name}: {task.report()}")
                    continue
                task.log.unlink(missing_ok=True)
                process = _processes().Process(target=_do, args=(task.call, task.log, threads, dict(task.environment)), name=task.name)
                process.start()
                running[process.sentinel] = stage, task, process, time.monotonic()
            for ended in wait(list(running)) if running else ():
                stage, task, process, began = running.pop(ended)
                process.join()
                if process.exitcode:
                    lines = task.log.read_text(encoding="utf-8", errors="replace").splitlines() if task.log.exists() else ["it ended before it wrote anything"]
                    tail = "\n".join(lines[-15:])
                    failures.append(f"{task.name} failed with exit status {process.exitcode}; the whole output is in {task.log}. Its end:\n{tail}")
                    ahead = list(itertools.takewhile(lambda stage: not stage.waits, ahead))
                    say(f"  {task.name}: failed, {time.monotonic() - began:.0f} s; see {task.log}")
                    continue
                done(stage, f"  {task.name}: {task.report()}, {time.monotonic() - began:.0f} s")
    finally:  # also on Ctrl-C
        for _, _, process, _ in running.values():
            process.terminate()
            process.join(10)
        signal.signal(signal.SIGTERM, before)
    if failures:
        raise RuntimeError("\n\n".join(failures))


def get_ready() -> None:
    """Let the process that imports everything begin, while this one does something else."""
    if _processes().get_start_method() == "forkserver":
        forkserver.ensure_running()


def _processes() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seqpe_lab.course.imported"])
    return context


def _do(call: tuple, log: Path, threads: int, environment: dict[str, str]) -> None:
    """In the other process."""
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} | environment)  # for what it starts, a lesson's kernel say
    import torch
    torch.set_num_threads(threads)
    gc.freeze()  # a run ends in gc.collect(), which would copy all that was imported
    function, *arguments = call
    sys.exit(function(*arguments))
