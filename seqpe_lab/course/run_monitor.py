"""A run shown while it trains: its loss curve, its speed, and buttons to start, stop and resume it.

    from seqpe_lab.course.run_monitor import watch
    watch(recipe)                       # the last expression of a cell

Everything shown is read from the run's folder, so after a restart of the kernel the same call shows
the whole curve of the same run again.
"""
from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import plotly.graph_objects as go

from seqpe_lab.course.figures import curves, label
from seqpe_lab.course.hidden_errors import report_error
from seqpe_lab.course.page_figures import displayed
from seqpe_lab.course.plot_widget import Plot
from seqpe_lab.jobs import Job
from seqpe_lab.recipes import Training

POINTS = 500  # the most that are drawn, so that drawing takes less than a second
LOSSES = {"main": "main loss", "contrastive": "L_δ", "distillation": "L_OOD"}
EXPLANATIONS = {  # of each state of a job, and the button that can be pressed
    "new": ("Not started yet.", "Start"),
    "interrupted": ("Not running; Resume continues from its last checkpoint.", "Resume"),
    "running": ("Running.", "Stop"),
    "stopped": ("Stopped; Resume continues from the last checkpoint.", "Resume"),
    "failed": ("It ended without a result:", "Resume"),
    "finished": ("Finished.", ""),
    "elsewhere": ("Started on another machine: stop it there. The curve is read from the folder.",
                  ""),
}


def loss_curve(job: Job) -> go.Figure:
    """Every logged loss against the step; long runs are thinned out evenly up to the last step."""
    recipe, metrics = job.run.recipe, job.metrics()
    stride = -(-len(metrics) // POINTS) or 1
    shown = metrics[::-1][::stride][::-1]
    series = {words: [record.get(name) for record in shown] for name, words in LOSSES.items()
              if name == "main" or any(name in record for record in shown)}
    progress = "no step logged yet"
    if metrics:
        progress = f"step {metrics[-1]['step']:,} of {recipe.steps:,}"
    return curves([record["step"] for record in shown], series, log_y=True,
                  title=f"{label(recipe.method)}: {progress}", x_title="training step",
                  y_title="loss (nats)", caption=f"scale {recipe.scale} · seed {recipe.seed} · "
                  f"{recipe.source} · run {job.folder.name}")


class RunMonitor(ipywidgets.VBox):
    """A run on the page; redrawn every second while the kernel is idle.

    Args:
        what: its recipe, its folder, or the job.
        processes, cpu: for the Start button, as in :meth:`~seqpe_lab.jobs.Job.start`.

    Attributes:
        figure, plot: the loss curve, and its picture on the page.
        status: state, progress and, after a failure, the end of the log.
        message: what went wrong when a button was pressed.
    """

    def __init__(self, what: Training | Job | str | Path, *, processes: int = 1,
                 cpu: bool = False):
        self.job = job = what if isinstance(what, Job) else Job(what)
        self._drawn, self.plot = None, Plot()
        self.status, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        actions = {"Start": lambda: job.start(processes, cpu), "Stop": job.stop,
                   "Resume": job.resume}
        self.buttons = {name: ipywidgets.Button(description=name) for name in actions}
        for name, button in self.buttons.items():
            button.on_click(lambda _, action=actions[name]: self._do(action))
        row = ipywidgets.HBox(list(self.buttons.values()))
        super().__init__([row, self.message, self.plot, self.status])
        self.refresh()
        try:
            self._following = asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:  # no loop, as in a script
            self._following = None

    def refresh(self) -> str:
        """Show what the run's folder says now; returns the state."""
        state, metrics = self.job.state, self.job.metrics()
        if (seen := (len(metrics), metrics[-1:])) != self._drawn:
            self._drawn, self.figure = seen, loss_curve(self.job)
            self.plot.show(self.figure)
        log = f"<pre>{html.escape(self.job.log())}</pre>" if state == "failed" else ""
        words, ready = EXPLANATIONS[state]
        self.status.value = f"<b>{words}</b> {html.escape(str(self.job.progress()))}{log}"
        for name, button in self.buttons.items():
            button.disabled = name != ready
        return state

    def _repr_mimebundle_(self, **options) -> dict:
        return displayed(super()._repr_mimebundle_(**options), self.figure)

    def close(self) -> None:
        """Take it off the page; the run goes on."""
        if self._following:
            self._following.cancel()
        self.plot.close()
        super().close()

    async def _follow(self) -> None:
        state = ""
        while state != "finished":
            await asyncio.sleep(1)
            try:
                state = self.refresh()
            except Exception as error:  # asyncio would hide an exception of a task
                report_error(error)
                self.status.value = html.escape(f"{type(error).__name__}: {error}")

    def _do(self, action: Callable[[], object]) -> None:
        self.message.value = ""
        try:
            action()
        except Exception as error:  # Jupyter does not show exceptions of a button's handler
            report_error(error)
            self.message.value = f"<b>{html.escape(str(error))}</b>"
        self.refresh()


watch = RunMonitor  # the name that lessons use
