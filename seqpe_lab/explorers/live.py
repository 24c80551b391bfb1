"""A run, live: its curve, its pace, and buttons to start, stop and resume it.

    from seqpe_lab.explorers.live import watch
    watch(recipe)                       # the last expression of a cell

Everything shown is read from the run's folder. So the same call shows the same run again after a
restart of the kernel, with its whole curve.
"""
from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ipywidgets
import plotly.graph_objects as go

from seqpe_lab.course.figures import curves, label
from seqpe_lab.explorers.panel import CARD, Panel
from seqpe_lab.jobs import Job
from seqpe_lab.recipes import Training

POINTS = 500  # drawn at most, so that a second is enough for each picture
LOSSES = {"main": "main loss", "contrastive": "L_δ", "distillation": "L_OOD"}
WORDS = {"new": "Not started yet.", "interrupted": "Not running; it has a checkpoint to go on from.", "running": "Running.",
         "stopped": "Stopped; Resume goes on from the last checkpoint.", "failed": "Its process ended without a result. Its last words:",
         "finished": "Finished.", "elsewhere": "Started on another machine: look and stop there; the curve is read from the folder."}


def watch(what: Training | Job | str | Path, *, processes: int = 1, cpu: bool = False) -> LivePanel:
    """Watch a run; redrawn every second while the kernel is idle.

    Args:
        what: its recipe, its folder, or the job.
        processes, cpu: for the Start button, as :meth:`~seqpe_lab.jobs.Job.start` takes them.
    """
    return LivePanel(what if isinstance(what, Job) else Job(what), processes, cpu)


def loss_curve(job: Job) -> go.Figure:
    """Every logged loss against the step; long runs are thinned out evenly, the last step always shown."""
    recipe, metrics = job.run.recipe, job.run.metrics()
    stride = -(-len(metrics) // POINTS) or 1
    shown = metrics[::-1][::stride][::-1]
    series = {LOSSES[name]: [record.get(name) for record in shown] for name in LOSSES if any(name in record for record in shown)}
    title = f"{label(recipe.method)}: step {metrics[-1]['step']:,} of {recipe.steps:,}" if metrics else f"{label(recipe.method)}: no step logged yet"
    return curves([record["step"] for record in shown], series or {LOSSES["main"]: []}, title=title, x_title="training step", y_title="loss (nats)", log_y=True,
                  caption=f"scale {recipe.scale} · seed {recipe.seed} · {recipe.source} · run {job.folder.name}")


@dataclass(frozen=True)
class State:
    """There are no controls: all that is shown stands in the run's folder."""


class LivePanel(Panel):
    """What :func:`watch` returns. Of several panels of one run the newest is the live one.

    Attributes:
        job: what it shows.
        actions: {"Start", "Stop", "Resume"}: its buttons.
    """

    _newest: dict[Path, LivePanel] = {}

    def __init__(self, job: Job, processes: int = 1, cpu: bool = False):
        self.job, self._seen = job, None
        self._task: asyncio.Task | None = None
        super().__init__(f"Run {job.folder.name}", "It runs in a process of its own, with or without this page.", State, lambda state: job, loss_curve,
                         words=lambda job: self.say())
        does = {"Start": lambda: job.start(processes, cpu), "Stop": job.stop, "Resume": job.resume}
        self.actions = {name: ipywidgets.Button(description=name) for name in does}
        for name, button in self.actions.items():
            button.on_click(lambda _, do=does[name]: self.guard(lambda: self._act(do)))
        self.buttons.children = tuple(self.actions.values())
        self.refresh()
        self.follow()

    def say(self) -> str:
        """State, progress and, after a failure, the log's end, as HTML."""
        state = self.job.state
        log = f"<pre>{html.escape(self.job.log())}</pre>" if state == "failed" else ""
        return f"<b>{WORDS[state]}</b> {html.escape(str(self.job.progress()))}{log}"

    def refresh(self) -> None:
        """Show what the folder says now."""
        state, file = self.job.state, self.job.folder / "metrics.jsonl"
        seen = (state, file.stat().st_size if file.exists() else 0)
        if seen != self._seen:
            self._draw()
            self._seen = seen
        else:
            self._words.value = f'<div style="{CARD}">{self.say()}</div>'
        ready = {"Start": state == "new", "Stop": state == "running", "Resume": state in ("interrupted", "stopped", "failed")}
        for name, button in self.actions.items():
            button.disabled = not ready[name]

    def follow(self) -> None:
        """Refresh every second on the kernel's loop; where there is none (a test, a script), nothing happens."""
        if older := self._newest.get(self.job.folder):
            older.leave()
        self._newest[self.job.folder] = self
        try:
            self._task = asyncio.get_running_loop().create_task(self._every_second())
        except RuntimeError:
            self._task = None

    def leave(self) -> None:
        """Refresh no more; the run goes on."""
        if self._task:
            self._task.cancel()

    async def _every_second(self) -> None:
        failed = False
        while self._seen is None or self._seen[0] != "finished":
            await asyncio.sleep(1)
            try:
                self.refresh()
            except Exception as error:  # a task's errors are seen by nobody
                self.show_message(f"{type(error).__name__}: {error}", wrong=True)
                failed = True
            else:
                if failed:  # its own message only: what a button said stays
                    self.show_message("")
                failed = False

    def _act(self, do: Callable[[], object]) -> None:
        try:
            do()
        finally:
            self.refresh()

    def close(self) -> None:
        self.leave()
        super().close()
