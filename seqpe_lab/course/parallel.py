"""Run programs in parallel, stage by stage, each a subprocess with its own log file."""
from __future__ import annotations

import ctypes
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

import torch

# The program that follows keeps what prctl (see end_with_parent) sets, and the process number.
LAUNCH = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(143)
os.execvp(command[0], command)
"""


class Program(NamedTuple):
    """A program to run.

    Attributes:
        name: shown to the reader.
        command: the program and its arguments; None if nothing is left to do.
        report: returns the line to show once it has succeeded.
        log: a file for all that it prints; overwritten.
        environment: variables for it, in addition to those of this process.
        fails_well: called after an exit status other than 0; True if the end of the program is a
            result that ``report`` names.
    """
    name: str
    command: Sequence[str] | None
    report: Callable[[], str]
    log: Path
    environment: Mapping[str, str] = {}
    fails_well: Callable[[], bool] = lambda: False


class Stage(NamedTuple):
    """Programs that belong together.

    Attributes:
        title: shown when it begins.
        programs: returns the programs; called when the stage begins.
        then: called when all of them have succeeded; returns a line to show, or None.
        waits: begin only when all earlier programs have succeeded, else once a worker is free.
    """
    title: str
    programs: Callable[[], Sequence[Program]]
    then: Callable[[], str | None] = lambda: None
    waits: bool = False


def end_with_parent() -> None:
    """On Linux, end this process, as by SIGTERM, when the one that started it ends in any way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, see prctl(2)


def run_stages(stages: Sequence[Stage], workers: int | None,
               show: Callable[[str], None]) -> None:
    """Run the programs of all stages in order, several at a time, and report on each.

    Each program gets its share of the cores but one. A failure is reported at once; programs that
    do not depend on it still run. Ctrl-C, SIGTERM and the end of the terminal end all programs; on
    Linux so does a kill of this process.

    Args:
        workers: programs at a time; by default one on a machine with a GPU, else two.
        show: takes each line of the report.

    Raises:
        RuntimeError: at the end, if any failed; quotes the end of each log.
    """
    workers = workers or (1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1))
    threads = str(max(1, ((os.cpu_count() or 1) - 1) // workers))  # as devices.leave_a_core does
    share = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    running: dict[Future, tuple[Stage, Program, subprocess.Popen, float]] = {}
    unfinished: Counter[Stage] = Counter()
    failures: list[str] = []

    def finish_stage_if_done(stage: Stage) -> None:
        if not unfinished[stage] and (more := stage.then()):
            show(more)

    def succeeded(stage: Stage, line: str) -> None:
        show(line)
        unfinished[stage] -= 1
        finish_stage_if_done(stage)

    def report_ended() -> None:
        """Wait until at least one program has ended."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            stage, program, _, began = running.pop(future)
            seconds = f"{time.monotonic() - began:.0f} s"
            if (status := future.result()) and not program.fails_well():
                failures.append(f"{program.name} failed with exit status {status}; the whole "
                                f"output is in {program.log}. Its end:\n{_last_lines(program.log)}")
                show(f"  {program.name}: failed, {seconds}; see {program.log}")
            else:
                succeeded(stage, f"  {program.name}: {program.report()}, {seconds}")

    stops = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {number: signal.signal(number, lambda number, _: sys.exit(128 + number))
                for number in stops}
    with ThreadPoolExecutor(workers) as pool:  # its threads do nothing but wait for the programs
        try:
            for stage in stages:
                while running and (stage.waits or len(running) == workers):
                    report_ended()
                if stage.waits and failures:
                    break
                show(stage.title)
                programs = stage.programs()
                unfinished[stage] = len(programs)
                finish_stage_if_done(stage)
                for program in programs:
                    while len(running) == workers:
                        report_ended()
                    if program.command is None:
                        succeeded(stage, f"  {program.name}: {program.report()}")
                        continue
                    process = _start(program, share)
                    running[pool.submit(process.wait)] = stage, program, process, time.monotonic()
            while running:
                report_ended()
        finally:
            for _, _, process, _ in running.values():
                process.terminate()
            for number, handler in previous.items():
                signal.signal(number, handler)
    if failures:
        raise RuntimeError("\n\n".join(failures))


def _start(program: Program, share: Mapping[str, str]) -> subprocess.Popen:
    launch = [sys.executable, "-S", "-c", LAUNCH, str(os.getpid())]
    with open(program.log, "wb") as log:
        return subprocess.Popen([*launch, *program.command], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT,
                                env={**os.environ, **share, **program.environment})


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-15:])
