"""A training run in a process of its own, which a notebook can start, leave, stop and resume.

    job = Job(language_model("seqpe", "full")).start(processes=4)
    job.state, job.progress()                     # "running", step 120 of 100,000, ...
    Job(language_model("seqpe", "full")).stop()   # after a kernel restart: the same job

All that is known of a job is in the run's folder: ``job.json`` names the process and the machine,
``metrics.jsonl`` records its progress, ``log.txt`` what it printed. The time at which the process
started distinguishes it from a later process with the same number.
"""
from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from seqpe_lab.runs.metrics_log import MetricsLog
from seqpe_lab.recipes import Training
from seqpe_lab.recipes.scales import hours_in_words
from seqpe_lab.runs.run_files import JobRecord, read_record, write_record
from seqpe_lab.runs import Run
from seqpe_lab.throughput import step_size

STATES = ("new", "interrupted", "running", "stopped", "failed", "finished", "elsewhere")


@dataclass(frozen=True)
class Progress:
    """The progress of a job; ``str()`` gives one line.

    Losses are those of the last logged step, in nats; the speed, in ``unit`` ("tokens" or "images")
    over all devices, is the median of the last 20 logged steps, 0.0 where it is unknown; the time
    is at this speed, without evaluations, and None unless the job runs.
    """
    step: int
    steps: int
    losses: dict[str, float]
    per_second: float
    unit: str
    seconds_left: float | None

    def __str__(self) -> str:
        parts = [f"step {self.step:,} of {self.steps:,}"]
        parts += [f"{name} {value:.4g}" for name, value in self.losses.items()]
        if self.per_second:
            parts.append(f"{self.per_second:,.0f} {self.unit}/s")
        if self.seconds_left is not None:
            left = f"{hours_in_words(self.seconds_left / 3_600)} left"
            parts.append("evaluating" if self.step == self.steps else left)
        return " · ".join(parts)


class Job:
    """One run as a process.

    Args:
        what: its recipe, or the folder of an existing run.
        folder: of the run; by default the recipe's own (see :class:`~seqpe_lab.runs.Run`).
    """

    def __init__(self, what: Training | str | Path, folder: str | Path | None = None):
        self.run = Run(what, folder) if isinstance(what, Training) else Run.open(what)
        self.folder = self.run.folder = self.run.folder.resolve()
        self._log = MetricsLog(self.folder / "metrics.jsonl")

    def __repr__(self) -> str:
        return f"Job({self.run.recipe.method}, {self.state}, {self.folder})"

    @property
    def state(self) -> str:
        """One of ``STATES``; RunFileError if a file of the run is damaged.

        "failed" is every end without a result that nobody asked for, such as a power cut;
        "elsewhere" is a process on another machine, which cannot be seen from here.
        """
        record = self._record()
        here = record is not None and record["host"] == platform.node()
        alive = here and _is_alive(record)  # asked first: it may finish meanwhile
        state = self.run.state
        if record is None or state in ("running", "finished", "failed"):
            return state  # also if started in a terminal
        if alive:
            return "running"
        return "stopped" if record["stopped"] else "failed" if here else "elsewhere"

    def command(self, processes: int = 1, cpu: bool = False) -> list[str]:
        """The command line: one process, or torchrun with several on this machine."""
        torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
                    "-m"] if processes > 1 else []
        return [sys.executable, "-m", *torchrun, "seqpe_lab", "train", self.run.recipe.task,
                "--folder", str(self.folder), *(["--cpu"] if cpu else [])]

    def start(self, processes: int = 1, cpu: bool = False) -> Job:
        """Start it, or continue from its last checkpoint; a finished one stays as it is.

        The process has a session of its own: it outlives the notebook, its kernel and its server.

        Args:
            processes: one a GPU, or on the CPU; they share the recipe's batch.
            cpu: stay on the CPU where there is a GPU.

        Raises:
            RuntimeError: it runs already, here or on another machine, or is just being started.
            ValueError: more processes than GPUs; a folder with another recipe.
        """
        cpu = cpu or not torch.cuda.is_available()
        if processes < 1:
            raise ValueError(f"processes={processes} must be at least 1")
        if not cpu and processes > (gpus := torch.cuda.device_count()):
            raise ValueError(f"processes={processes}: choose from 1 to {gpus}, one for each GPU")
        self.run.create()
        if self.state == "finished":
            return self
        self._processes()  # refuses what runs on another machine, or was started in a terminal
        with self.run.claim():  # of two starts at one time, one comes here
            if found := self._own_processes():  # just started, or left over from earlier
                raise RuntimeError(f"{self.folder} is being trained already (process "
                                   f"{', '.join(str(process.pid) for process in found)}): "
                                   "stop it first")
            with open(self.folder / "log.txt", "ab") as log:
                log_from, command = log.tell(), self.command(processes, cpu)
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"SEQPE_JOB": str(self.folder), "PYTHONUNBUFFERED": "1"})
            self._write({"pid": child.pid, "started": psutil.Process(child.pid).create_time(),
                         "host": platform.node(), "processes": processes, "cpu": cpu,
                         "command": command, "log_from": log_from, "stopped": False})
        # an ended process stays in the system's table until its parent has asked how it ended
        threading.Thread(target=child.wait, daemon=True).start()
        return self

    def resume(self) -> Job:
        """Start it as it was started before; on the CPU the result equals an unbroken run's."""
        record = self._record()
        return self.start(record["processes"], record["cpu"]) if record else self.start()

    def stop(self, patience: float = 20.0) -> str:
        """SIGTERM to its processes, SIGKILL after ``patience`` seconds. Returns the state.

        A run that takes steps finishes one (several processes: goes on to the next logged one) and
        writes a checkpoint, and :meth:`resume` goes on from there; after a SIGKILL what came after
        the last checkpoint is computed again.

        Raises:
            RuntimeError: it was started in a terminal, or on another machine.
        """
        processes = self._processes()
        if processes and (record := self._record()):
            self._write(record | {"stopped": True})
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    end(process)
            _until(lambda: not any(map(_runs, processes)), patience)
        with suppress(TimeoutError):  # an ended process may hold its lock for a moment
            self.wait(5)
        return self.state

    def wait(self, timeout: float | None = None, until: int | None = None) -> str:
        """Wait until it no longer runs, or step ``until`` is logged; returns the state.

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """
        if not _until(lambda: self.state != "running"
                      or until is not None and self.run.step >= until, timeout):
            raise TimeoutError(f"{self.folder} still runs after {timeout:g} s "
                               f"({self.progress()}): wait longer or stop it")
        return self.state

    def log(self, lines: int = 15) -> str:
        """Why a run has failed for good; else the last start's error, or the end of its output."""
        if failure := self.run.failure():
            return failure["failed"]
        path, record = self.folder / "log.txt", self._record()
        if record is None or not path.exists():
            return ""
        printed = path.read_bytes()[record["log_from"]:].decode(errors="replace").splitlines()
        errors = [line for line in printed if line.startswith("seqpe_lab: ")]
        return "\n".join(dict.fromkeys(errors) or printed[-lines:])  # each process repeats it

    def metrics(self) -> list[dict]:
        """What is logged so far, speed included; reads only what is new since the last call."""
        return self._log.read()

    def progress(self) -> Progress:
        """The progress that metrics.jsonl records now."""
        recipe, metrics = self.run.recipe, self.metrics()
        last, (unit, size) = metrics[-1] if metrics else {"step": 0}, step_size(recipe)
        speeds = [record.get(f"{unit}_per_second", 0.0) for record in metrics[-20:]]
        speed = statistics.median([speed for speed in speeds if speed > 0] or [0.0])
        runs = self.state == "running" and speed
        return Progress(
            last["step"], recipe.steps,
            {name: last[name] for name in ("main", "contrastive", "distillation") if name in last},
            speed, unit, (recipe.steps - last["step"]) * size / speed if runs else None)

    # --- record and processes ------------------------------------------------------------------

    def _record(self) -> dict | None:
        path = self.folder / "job.json"
        with suppress(FileNotFoundError):
            return read_record(path, JobRecord, f"stop what runs there, then delete {path}")
        return None

    def _write(self, record: dict) -> None:
        write_record(self.folder / "job.json", JobRecord, record)

    def _processes(self) -> list[psutil.Process]:
        """All processes of the job, including torchrun's workers after torchrun was killed.

        Raises:
            RuntimeError: the run is trained on another machine, or by a terminal.
        """
        if self.state == "elsewhere":
            raise RuntimeError(f"{self.folder} was started on {self._record()['host']}, this is "
                               f"{platform.node()}: stop it there, or delete job.json if that "
                               "machine is gone")
        found = self._own_processes()
        if not found and (trainer := self.run.trainer):
            raise RuntimeError(f"{self.folder} is being trained already by {trainer}, which was "
                               "started in a terminal: wait for it, or stop it there")
        return found

    def _own_processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter(["environ"])
                if (process.info["environ"] or {}).get("SEQPE_JOB") == str(self.folder)]


def _is_alive(record: dict) -> bool:
    """Whether the recorded process runs, and not another one with the same number."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["started"]) < 2  # the clock may have been set
        return same and _runs(process)
    return False


def _runs(process: psutil.Process) -> bool:
    """False also of one that has ended, and whose parent has not yet asked how."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _until(happens: Callable[[], bool], seconds: float | None) -> bool:
    """Wait until something happens; False if it has not after so many seconds."""
    began = time.monotonic()
    while not (done := happens()) and (seconds is None or time.monotonic() - began < seconds):
        time.sleep(0.05)
    return done
