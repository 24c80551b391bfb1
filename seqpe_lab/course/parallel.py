"""Run programs in parallel, stage by stage, each a subprocess with a log file of its own."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """A program to run.

    Attributes:
        name: for the reader.
        command: the program and its arguments; None where nothing is left to do.
        report: returns what to say once it has succeeded.
        log: receives all that it prints; written anew.
        environment: variables for it, besides those of this process.
    """
    name: str
    command: Sequence[str] | None
    report: Callable[[], str]
    log: Path
    environment: Mapping[str, str] = {}


class Stage(NamedTuple):
    """Tasks that belong together.

    Attributes:
        title: said when it begins.
        tasks: returns the tasks, called when the stage begins.
        then: called when all tasks have succeeded; returns something to say, or None.
        waits: begin only when every task before has succeeded, else as soon as a worker is free.
    """
    title: str
    tasks: Callable[[], Sequence[Task]]
    then: Callable[[], str | None] = lambda: None
    waits: bool = False


def run_stages(stages: Sequence[Stage], workers: int, say: Callable[[str], None]) -> None:
    """Run the tasks of all stages in order, ``workers`` at a time, and report each.

    Each program gets its share of the cores. A failure is reported at once; tasks that do not
    wait for it still run. Ctrl-C and SIGTERM end all programs.

    Raises:
        RuntimeError: at the end, if any failed; quotes the end of each log.
    """
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    share = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    running: dict[Future, tuple[Stage, Task, subprocess.Popen, float]] = {}
    unfinished: Counter[Stage] = Counter()
    failures: list[str] = []

    def finish_stage_if_done(stage: Stage) -> None:
        if not unfinished[stage] and (more := stage.then()):
            say(more)

    def succeeded(stage: Stage, text: str) -> None:
        say(text)
        unfinished[stage] -= 1
        finish_stage_if_done(stage)

    def report_ended() -> None:
        """Wait until at least one program has ended."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            stage, task, _, began = running.pop(future)
            seconds = f"{time.monotonic() - began:.0f} s"
            if status := future.result():
                failures.append(f"{task.name} failed with exit status {status}; the whole output "
                                f"is in {task.log}. Its end:\n{_last_lines(task.log)}")
                say(f"  {task.name}: failed, {seconds}; see {task.log}")
            else:
                succeeded(stage, f"  {task.name}: {task.report()}, {seconds}")

    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ThreadPoolExecutor(workers) as pool:  # its threads do nothing but wait for the programs
        try:
            for stage in stages:
                while running and (stage.waits or len(running) == workers):
                    report_ended()
                if stage.waits and failures:
                    break
                say(stage.title)
                tasks = stage.tasks()
                unfinished[stage] = len(tasks)
                finish_stage_if_done(stage)
                for task in tasks:
                    while len(running) == workers:
                        report_ended()
                    if task.command is None:
                        succeeded(stage, f"  {task.name}: {task.report()}")
                        continue
                    process = _start(task, share)
                    running[pool.submit(process.wait)] = stage, task, process, time.monotonic()
            while running:
                report_ended()
        finally:
            for _, _, process, _ in running.values():
                process.terminate()
            signal.signal(signal.SIGTERM, previous)
    if failures:
        raise RuntimeError("\n\n".join(failures))


def _start(task: Task, share: Mapping[str, str]) -> subprocess.Popen:
    with open(task.log, "wb") as log:
        return subprocess.Popen(task.command, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT,
                                env={**os.environ, **share, **task.environment})


def _last_lines(log: Path, count: int = 15) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-count:])
