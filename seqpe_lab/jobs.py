"""A run in a process of its own, which a notebook starts, leaves, finds again, stops and resumes.

    job = Job(language_model("seqpe", "full")).start(processes=4)
    job.state, job.progress()                     # "running", step 120 of 100,000, ...
    Job(language_model("seqpe", "full")).stop()   # after a kernel restart: the same job

All that is known of a job lies in the run's folder: ``job.json`` says which process on which
machine, ``metrics.jsonl`` and ``clock.jsonl`` how far it is, ``log.txt`` what it printed. A process
is told from a later one with the same number by the moment at which it started.
"""
from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.recipes import Training
from seqpe_lab.runs import Run

STATES = ("new", "interrupted", "running", "stopped", "failed", "finished", "elsewhere")


@dataclass(frozen=True)
class Progress:
    """How far a job is; ``str()`` gives one line.

    Attributes:
        losses: of the last logged step, {"main": 2.1, ...}, nats.
        seconds_per_step: over the last 20 logged steps of the process that runs now, checkpoints included; None before two are logged.
        per_second: ``unit`` ("tokens" or "images") a second, over all devices.
        seconds_left: until the last step; the evaluation comes on top. None unless running.
        device: how busy the devices are, in words; "" unless running.
    """
    step: int
    steps: int
    losses: dict[str, float]
    seconds_per_step: float | None
    per_second: float | None
    unit: str
    seconds_left: float | None
    device: str

    def __str__(self) -> str:
        parts = [f"step {self.step:,} of {self.steps:,}", *(f"{name} {value:.4g}" for name, value in self.losses.items())]
        if self.seconds_per_step is not None:
            parts += [f"{self.seconds_per_step:.3g} s a step", f"{self.per_second:,.0f} {self.unit}/s"]
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left" if self.step < self.steps else "evaluating")
        return " · ".join([*parts, self.device] if self.device else parts)


class Job:
    """One run as a process.

    Args:
        what: its recipe, or the folder of a run that is there.
        folder: of the run; by default the recipe's own (see :class:`~seqpe_lab.runs.Run`).
    """

    def __init__(self, what: Training | str | Path, folder: str | Path | None = None):
        self.run = Run(what, folder) if isinstance(what, Training) else Run.open(what)
        self.folder = self.run.folder = self.run.folder.resolve()
        self._used: tuple[int, float, float] | None = None  # pid, when looked, CPU seconds by then

    def __repr__(self) -> str:
        return f"Job({self.run.recipe.method}, {self.state}, {self.folder})"

    # what it is

    @property
    def state(self) -> str:
        """One of ``STATES``.

        "failed" covers every end without a result that nobody asked for, a crash or a power cut, and
        "elsewhere" a process on another machine, which cannot be seen from here.
        """
        record = self._record()
        process = _process(record)  # looked at first: it may finish between the two questions
        state = self.run.state
        if record is None or state in ("running", "finished"):  # running also where a terminal started it
            return state
        if process:
            return "running"
        return "stopped" if record["stopped"] else "failed" if record["host"] == platform.node() else "elsewhere"

    def command(self, processes: int = 1, cpu: bool = False) -> list[str]:
        """What is executed: one process, or torchrun with several on this machine."""
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"] if processes > 1 else []
        return [sys.executable, "-m", *launcher, "seqpe_lab", "train", self.run.recipe.task, "--folder", str(self.folder)] + ["--cpu"] * cpu

    def log(self, lines: int = 15) -> str:
        """What the last start printed: the program's own error where it gave one, else the end."""
        path, record = self.folder / "log.txt", self._record()
        if record is None or not path.exists():
            return ""
        with open(path, "rb") as file:
            file.seek(record["log_from"])
            printed = file.read().decode("utf-8", errors="replace").splitlines()
        said = list(dict.fromkeys(line for line in printed if line.startswith("seqpe_lab: ")))  # torchrun wraps it into a traceback of its own
        return "\n".join(said or printed[-lines:])

    def progress(self) -> Progress:
        """What metrics, clock and devices say now."""
        recipe, metrics, record = self.run.recipe, self.run.metrics(), self._record()
        running = self.state == "running"
        pace = seconds_per_step(self.run.clock(), since=record["started"] if record else 0.0)
        last = metrics[-1] if metrics else {"step": 0}
        is_image = recipe.task == "image"
        return Progress(
            step=last["step"], steps=recipe.steps, losses={name: last[name] for name in ("main", "contrastive", "distillation") if name in last},
            seconds_per_step=pace, per_second=recipe.batch * (1 if is_image else recipe.train_len) / pace if pace else None,
            unit="images" if is_image else "tokens", seconds_left=(recipe.steps - last["step"]) * pace if pace is not None and running else None,
            device=self._device(record) if running else "")

    # what to do with it

    def start(self, processes: int = 1, cpu: bool = False) -> Job:
        """Start it, or let it go on from its last checkpoint; a finished one stays as it is.

        The process has a session of its own: it outlives the notebook, its kernel and its server.

        Args:
            processes: one a GPU, or on the CPU; they share the recipe's batch.
            cpu: stay on the CPU where there is a GPU.

        Raises:
            RuntimeError: it runs already, here or on another machine.
            ValueError: more processes than GPUs; a folder with another recipe.
        """
        cpu = cpu or not torch.cuda.is_available()
        if processes < 1 or (not cpu and processes > torch.cuda.device_count()):
            raise ValueError(f"processes={processes}: choose from 1 to {torch.cuda.device_count()}, one for each GPU" if not cpu else f"processes={processes} must be at least 1")
        self.run.create()
        if self.state == "finished":
            return self
        self._refuse_elsewhere("start it again there, or delete job.json if that machine is gone")
        if left := self._processes():
            raise RuntimeError(f"{self.folder} is being trained already (process {', '.join(str(p.pid) for p in left)}): stop it first")
        if trainer := self.run.trainer:
            raise RuntimeError(f"{self.folder} is being trained already by {trainer}, which was started in a terminal: wait for it, or stop it there")
        log = self.folder / "log.txt"
        with open(log, "ab") as file:
            log_from = file.tell()
            command = self.command(processes, cpu)
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                                     env=os.environ | {"SEQPE_JOB": str(self.folder), "PYTHONUNBUFFERED": "1"})
        _children.append(child)
        self._write({"pid": child.pid, "started": psutil.Process(child.pid).create_time(), "host": platform.node(), "processes": processes, "cpu": cpu,
                     "command": command, "log_from": log_from, "stopped": False})
        return self

    def resume(self) -> Job:
        """Start it as it was started before, so that the result equals an unbroken run's (on the CPU to the last bit)."""
        record = self._record()
        return self.start(record["processes"], record["cpu"]) if record else self.start()

    def stop(self, patience: float = 20.0) -> str:
        """SIGTERM to its process group; SIGKILL to what is left after ``patience`` seconds. Returns the state.

        What came after the last checkpoint is computed again on :meth:`resume`.

        Raises:
            RuntimeError: it was started in a terminal, or on another machine: only there it can be stopped.
        """
        self._refuse_elsewhere("stop it there")
        record, processes = self._record(), self._processes()
        if processes and record:
            self._write(record | {"stopped": True})
        elif not processes and (trainer := self.run.trainer):
            raise RuntimeError(f"{self.folder} is being trained by {trainer}, which was started in a terminal: stop it there")
        if process := _process(record):
            os.killpg(process.pid, signal.SIGTERM)  # it leads the group; torchrun hands the signal on to its workers
        else:
            for orphan in processes:
                _signal(orphan, signal.SIGTERM)
        for stubborn in psutil.wait_procs(processes, timeout=patience)[1]:
            _signal(stubborn, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=5)
        return self.state

    def wait(self, timeout: float | None = None, until: int | None = None) -> str:
        """Sleep until it no longer runs, or step ``until`` is logged; returns the state.

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """
        began = time.monotonic()
        while (state := self.state) == "running" and (until is None or (self.run.metrics() or [{"step": 0}])[-1]["step"] < until):
            if timeout is not None and time.monotonic() - began > timeout:
                raise TimeoutError(f"{self.folder} still runs after {timeout:g} s ({self.progress()}): wait longer or stop it")
            time.sleep(0.05)
        return state

    # the record

    def _record(self) -> dict | None:
        path = self.folder / "job.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _write(self, record: dict) -> None:
        write_atomically(self.folder / "job.json", json.dumps(record, indent=1))

    def _refuse_elsewhere(self, remedy: str) -> None:
        if self.state == "elsewhere":
            raise RuntimeError(f"{self.folder} was started on {self._record()['host']}, this is {platform.node()}: {remedy}")

    def _processes(self) -> list[psutil.Process]:
        """All that belong to it, also torchrun's workers (each in a session of its own) after a kill of torchrun."""
        _reap()
        return [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("SEQPE_JOB") == str(self.folder)]

    def _device(self, record: dict | None) -> str:
        if record is None:
            return ""  # a terminal runs it
        if not record["cpu"]:
            try:
                return "GPU " + ", ".join(f"{torch.cuda.utilization(i)} %" for i in range(record["processes"]))
            except Exception as error:  # each driver fails in its own way, and a progress line is not worth a stop
                missing = isinstance(error, ModuleNotFoundError)
                return f"GPU utilisation unknown ({'install nvidia-ml-py to see it' if missing else error})"
        if (process := _process(record)) is None:
            return ""
        seconds, now = 0.0, time.time()
        for member in [process, *process.children(recursive=True)]:
            try:
                seconds += sum(member.cpu_times()[:2])
            except psutil.Error:
                continue  # ended in between
        before = self._used if self._used and self._used[0] == process.pid else (process.pid, record["started"], 0.0)
        if now - before[1] > 0.5:  # else the clock's ticks show
            self._used = (process.pid, now, seconds)
        return f"CPU {100 * max(0.0, seconds - before[2]) / max(0.01, now - before[1]):.0f} % of {100 * (os.cpu_count() or 1)} %"


def seconds_per_step(clock: list[dict], since: float = 0.0, last: int = 20) -> float | None:
    """Mean time of a step over the last entries of a run's clock.

    A stopped run's clock has a hole, and a resumed one repeats steps; neither counts.

    Args:
        clock: {"step", "time"} in the order of writing, seconds.
        since: when the process that is asked about started, seconds.

    >>> seconds_per_step([{"step": 10, "time": 5.0}, {"step": 20, "time": 10.0}, {"step": 11, "time": 900.0}, {"step": 21, "time": 903.0}])
    0.3
    """
    recent = [entry for entry in clock if entry["time"] >= since]
    begins = max((i for i in range(1, len(recent)) if recent[i]["step"] <= recent[i - 1]["step"]), default=0)
    recent = recent[begins:][-last:]
    return (recent[-1]["time"] - recent[0]["time"]) / (recent[-1]["step"] - recent[0]["step"]) if len(recent) > 1 else None


def duration(seconds: float) -> str:
    """
    >>> duration(42.4), duration(200), duration(7500)
    ('42 s', '3 min 20 s', '2 h 05 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


_children: list[subprocess.Popen] = []  # of this process, which alone can take leave of them


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _process(record: dict | None) -> psutil.Process | None:
    """The process of a record while it lives; None for another one that was given its number."""
    _reap()
    try:
        if record is None or record["host"] != platform.node():
            return None
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["started"]) < 2  # seconds: the system's clock may have been set since
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)  # psutil looks first whether it is still the same process
    except psutil.NoSuchProcess:
        pass
