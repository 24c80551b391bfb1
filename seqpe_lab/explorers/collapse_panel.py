"""Collapse: train a small position encoder on the two losses alone (Sec. 3.3 and 3.4).

L_OOD compares relations among students with relations among teachers, never a student with its own
teacher, so it is minimal when all positions have the same vector; L_delta does not allow that.
"""
from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
from ipywidgets import Button, FloatSlider, IntSlider
from torch import Tensor

from seqpe_lab.course.style import finish
from seqpe_lab.explorers import collapse_training as training
from seqpe_lab.explorers.collapse_training import CANDIDATES, POSITIONS, Record
from seqpe_lab.explorers.drawing import subplots
from seqpe_lab.explorers.panel import Panel, control

MOST_STEPS = 400
PAUSE = 0.05  # seconds after each step and drawing, for the kernel's other work
COLLAPSED = 0.1  # below this spread all positions count as having the same vector
SMALLEST = 1e-8  # nats; smaller losses are rounding errors of float32
EVERY = 3  # one in so many positions is drawn


@dataclass(frozen=True)
class State:
    """The loss weights of the next steps, and the shift that is plotted."""
    alpha: float = control(0.0, FloatSlider, "α, weight of L_δ", "asks that the nearest position "
                           "be the most similar (Eq. 9); the paper uses 0.1", max=1.0)
    beta: float = control(0.1, FloatSlider, "β, weight of L_OOD", "asks that shifted positions "
                          "resemble one another as the trained ones do (Eq. 10); the paper uses "
                          "0.1", max=1.0)
    z: int = control(256, IntSlider, "shift z", "how far apart the two positions are whose cosine "
                     "is followed; after round shifts the digits look alike", min=1,
                     max=POSITIONS - 100)


class Numbers(NamedTuple):
    state: State
    records: Sequence[Record]  # the untrained encoder first
    similarity: Tensor  # cosines of all pairs now, (POSITIONS, POSITIONS)


def draw(numbers: Numbers) -> go.Figure:
    """The vectors now, and measures over the steps; vertical lines mark changes of the weights."""
    state, records, now = numbers.state, numbers.records, numbers.records[-1]
    steps, shown = [record.step for record in records], list(range(0, POSITIONS, EVERY))
    figure = subplots([
        "cosine of all pairs, now", "e<sub>p</sub> and e<sub>p+z</sub>, now; dotted: untrained",
        f"e<sub>p</sub> and e<sub>p+{state.z}</sub>", "effective rank",
        f"L<sub>δ</sub> solid (log {CANDIDATES} dotted), L<sub>OOD</sub> dashed",
    ], _set_axes, rows=2, cols=3, specs=[[{"rowspan": 2}, {}, {}], [None, {}, {}]],
        column_widths=[0.42, 0.29, 0.29], horizontal_spacing=0.09, vertical_spacing=0.24)
    figure.add_heatmap(
        x=shown, y=shown, z=numbers.similarity[::EVERY, ::EVERY].numpy(), colorscale="Viridis",
        zmin=-1, zmax=1, hovertemplate="positions %{x}, %{y}: %{z:.3f}<extra></extra>",
        colorbar=dict(orientation="h", title=dict(text="cosine", side="top"), thickness=12, x=0.17,
                      len=0.36, y=0.02), row=1, col=1)
    highest, end = max(r.effective_rank for r in records), max(40, now.step)
    changes = [old.step for old, new in zip(records[1:], records[2:])
               if (old.alpha, old.beta) != (new.alpha, new.beta)]
    for row, column, low, high in ((1, 3, -1, 1), (2, 2, 0, highest), (2, 3, SMALLEST, 10)):
        _add_line(figure, row, column, "weights changed", [low, high, None] * len(changes),
                  "#bbbbbb", x=[v for step in changes for v in (step, step, None)])
    z, blue, grey = state.z, "#0072B2", "#777777"
    _add_line(figure, 1, 2, "untrained", records[0].cosines, grey, "dot", x0=1)
    _add_line(figure, 1, 2, "now", now.cosines, blue, x0=1)
    _add_line(figure, 1, 2, "z", now.cosines[z - 1:z], blue, x0=z)
    _add_line(figure, 1, 3, "cosine", [r.cosines[z - 1] for r in records], blue, x=steps)
    _add_line(figure, 2, 2, "effective rank", [r.effective_rank for r in records], "#009E73",
              x=steps)
    _add_line(figure, 2, 3, "chance", [math.log(CANDIDATES)] * 2, grey, "dot", x=[0, end])
    _add_line(figure, 2, 3, "L<sub>δ</sub>", [r.l_delta for r in records], "#CC79A7", x=steps)
    _add_line(figure, 2, 3, "L<sub>OOD</sub>", [max(r.l_ood, SMALLEST) for r in records], "#D55E00",
              "dash", x=steps)
    figure.layout.xaxis3.range = [-1, end + 1]
    figure.layout.yaxis4.range = [0, 1.06 * highest]
    space = ("collapsed, all positions have one vector" if now.spread < COLLAPSED else
             "positions differ")
    weights = f"α = {state.alpha:g}, β = {state.beta:g}"
    title = (f"Step {now.step}, {weights}: {space} (spread {now.spread:.2f})" if now.step else
             f"Untrained, spread {now.spread:.2f}: press Start to train with {weights}")
    return finish(
        figure, title, f"an encoder of width 64 alone, no text · positions 0..{POSITIONS - 1}, "
        f"every {EVERY}rd drawn, teachers 0..{training.TRAIN_LEN - 1} · seed 0 · AdamW, rate "
        f"{training.RATE:g} after {training.WARM_UP} steps · losses on fixed samples, drawn from "
        f"10⁻⁸ up · collapsed: spread below {COLLAPSED} · grey vertical lines: weights changed",
        height=620)


def _set_axes(figure: go.Figure) -> None:
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title="training step", matches="x3")  # of three; x and x2 are others
    figure.update_xaxes(title="position", constrain="domain", matches=None, row=1, col=1)
    figure.update_xaxes(title="shift z (positions)", matches=None, row=1, col=2)
    figure.update_yaxes(title="position", autorange="reversed", scaleanchor="x", row=1, col=1,
                        constrain="domain", constraintoward="top")
    for column in (2, 3):
        figure.update_yaxes(title="mean cosine", range=[-1.08, 1.08], dtick=0.5, row=1, col=column)
    figure.update_yaxes(title="directions", row=2, col=2)
    figure.update_yaxes(title="loss (nats)", type="log", range=[math.log10(SMALLEST) - 0.3, 1],
                        dtick=2, exponentformat="power", row=2, col=3)
    figure.update_yaxes(title_standoff=2)


def _add_line(figure: go.Figure, row: int, column: int, name: str, y, colour: str,
              dash: str = "solid", **x) -> None:
    figure.add_scatter(y=y, **x, name=name, mode="markers" if len(y) == 1 else "lines",
                       line=dict(color=colour, dash=dash, width=2), showlegend=False,
                       marker=dict(color=colour, size=9), row=row, col=column,
                       hovertemplate=f"{name} at %{{x}}: %{{y:.3g}}<extra></extra>")


def words(numbers: Numbers) -> str:
    """The numbers now, and how to read them."""
    now, z = numbers.records[-1], numbers.state.z
    return (f"Mean cosine of e<sub>p</sub> and e<sub>p+{z}</sub> {now.cosines[z - 1]:.3f} (1: the "
            f"shift cannot be seen), effective rank {now.effective_rank:.2f} (1: all parallel), "
            f"spread {now.spread:.3f} (0: one point), L_δ {now.l_delta:.2f} nats (chance: log "
            f"{CANDIDATES} = {math.log(CANDIDATES):.2f}), L_OOD {now.l_ood:.1e} nats. One vector "
            "for all satisfies L_OOD best, so its curve alone looks like success, while L_δ stays "
            "at chance. A low rank by itself proves nothing: with both losses it falls to 2 or 3.")


def table(numbers: Numbers) -> dict[str, list]:
    """All records."""
    records, z = numbers.records, numbers.state.z
    columns = {name: [getattr(r, name) for r in records]
               for name in Record._fields if name != "cosines"}
    return columns | {f"mean cosine at z={z}": [float(r.cosines[z - 1]) for r in records]}


class Collapse(Panel):
    """A panel that trains between its drawings, a few steps at a time, on the kernel's event loop.

    One panel trains at a time: a new one, as when a cell is run again, stops the previous one.

    Attributes:
        training: what is trained.
    """

    _busy: Collapse | None = None

    def __init__(self):
        if Collapse._busy:
            Collapse._busy.pause()
        self.training, self._task = training.Training(), None
        super().__init__(
            "Collapse", "Press Start and watch an encoder learn from L_OOD alone: within seconds "
            "all positions have one vector. Then raise α, or reset and start with both.", State,
            lambda state: Numbers(state, self.training.records, self.training.similarity), draw,
            words=words, table=table, file="collapse")
        for name, help, action in (
                ("Start", "go on training; the weights may be moved meanwhile", self.start),
                ("Pause", "stop, and keep what was learnt", self.pause),
                ("Step", f"train {training.STEPS_AT_A_TIME} steps only", self.step),
                ("Reset", "discard what was learnt", self.reset)):
            button = Button(description=name, tooltip=help)
            button.on_click(lambda _, action=action: self.guard(action))
            self.buttons.children += (button,)
        self._enable_buttons()

    @property
    def running(self) -> bool:
        return self._task is not None

    def step(self) -> None:
        """Train a few steps with the weights that the sliders have now, and draw."""
        self._learn()
        self._draw()

    def _learn(self) -> None:
        state = self.state
        self.training.train(state.alpha, state.beta)

    def start(self) -> None:
        """Go on training in the background, until paused or MOST_STEPS.

        Raises:
            RuntimeError: no event loop runs, as in a plain script.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("no event loop runs here to train in: press Step, or call step()"
                               ) from None
        if Collapse._busy:
            Collapse._busy.pause()
        Collapse._busy, self._task = self, loop.create_task(self._train())
        self._enable_buttons()

    async def _train(self) -> None:
        await asyncio.to_thread(lambda: self.training.optimizer)  # loading it would freeze the page
        while self.training.records[-1].step < MOST_STEPS:
            for half in (self._learn, self._draw):
                self.guard(half)
                if self._wrong:
                    return self.pause()
                await asyncio.sleep(PAUSE / 2)
        self.show_message(f"{MOST_STEPS} steps are done: press Reset to begin again")
        self.pause()

    def pause(self) -> None:
        """Stop training, if it runs."""
        if self.running:
            task, self._task, Collapse._busy = self._task, None, None
            task.cancel()
            self._enable_buttons()

    def reset(self) -> None:
        """Stop, and begin again with the untrained encoder."""
        self.pause()
        self.training = training.Training()
        self.show_message("")
        self._draw()

    def _enable_buttons(self) -> None:
        start, pause, step, _ = self.buttons.children
        start.disabled = step.disabled = self.running
        pause.disabled = not self.running

    def close(self) -> None:
        self.pause()
        super().close()


def explore() -> Panel:
    """The panel: weights on sliders, and buttons that train."""
    return Collapse()
