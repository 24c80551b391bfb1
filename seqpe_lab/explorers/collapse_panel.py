"""Collapse: train a small position encoder on the two losses alone (Sec. 3.3 and 3.4).

L_OOD compares relations among students with relations among teachers, never a student with its own
teacher, so it is minimal when all positions have the same vector; L_delta does not allow that.
"""
from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqpe_lab.explorers import collapse_training as training
from seqpe_lab.explorers.collapse_training import (CANDIDATES, MOST_STEPS, POSITIONS, TRAIN_LEN,
                                                   WARM_UP, Training)
from seqpe_lab.explorers.drawing import axes, either, heading
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import choice, number, scale
from seqpe_lab.explorers.panel import Panel

PAUSE = 0.05  # seconds after each step and drawing, for the kernel's other work
COLLAPSED = 0.1  # below this spread all positions count as having the same vector
SMALLEST = 1e-8  # nats; smaller losses are rounding errors of float32
CLOSEST = 1e-3  # 1 - cosine; closer vectors have one colour
EVERY = 3  # one in so many positions is drawn


@dataclass(frozen=True)
class State:
    """Loss weights and learning rate of the next steps, the seed, and the shift that is plotted."""
    alpha: float = number(0.0, "α, weight of L_δ", "asks that the nearest position be the most "
                          "similar (Eq. 9); the paper uses 0.1", min=0.0, max=1.0, step=0.1)
    beta: float = number(0.1, "β, weight of L_OOD", "asks that shifted positions resemble one "
                         "another as the trained ones do (Eq. 10); the paper uses 0.1", min=0.0,
                         max=1.0, step=0.1)
    rate: float = scale(1e-3, "learning rate", f"of AdamW, reached after {WARM_UP} steps", {
        1e-4: "0.0001", 3e-4: "0.0003", 1e-3: "0.001", 3e-3: "0.003", 1e-2: "0.01"})
    seed: int = choice(0, "seed", "of the initial weights and of the drawn positions; another one "
                       "begins again", training.SEEDS)
    z: int = number(256, "shift z", "how far apart the two positions are whose cosine is followed; "
                    "after round shifts the digits look alike", min=1, max=POSITIONS - 100)


class Session:
    """What one panel trains.

    Attributes:
        training: of the seed that was last asked for.
        running: whether it goes on by itself.
    """

    def __init__(self) -> None:
        self.training, self.running = Training(), False

    def compute(self, state: State) -> SimpleNamespace:
        """The vectors now, and measures over the steps; another seed begins again."""
        if state.seed != self.training.seed:
            self.training = Training(state.seed)
        records, z = self.training.records, state.z
        now, settings = records[-1], [(r.alpha, r.beta, r.rate) for r in records]
        mantissa, exponent = f"{now.l_ood:.1e}".split("e")
        return SimpleNamespace(
            state=state, records=records, now=now, collapsed=now.spread < COLLAPSED,
            apart=np.log10(np.clip(1 - self.training.similarity[::EVERY, ::EVERY].double().numpy(),
                                   CLOSEST, None)),  # (200, 200)
            shifts=list(range(1, POSITIONS)), here=float(now.cosines[z - 1]),
            cosines=[float(r.cosines[z - 1]) for r in records],
            l_ood=[max(r.l_ood, SMALLEST) for r in records],
            ood=f"{mantissa} · 10<sup>{int(exponent)}</sup>".replace("-", "−"),
            changes=[{"at": r.step} for r, *pair in zip(records[1:], settings[1:], settings[2:])
                     if pair[0] != pair[1]],
            end=max(40, now.step), top=1.06 * max(r.effective_rank for r in records),
            disabled=["Start", "Step"] if self.running else ["Pause"])


class Collapse(Panel):
    """A panel that trains between its drawings, a few steps at a time, on the kernel's event loop.

    One panel trains at a time: a new one, as when a cell is run again, stops the previous one.
    """

    _busy: Collapse | None = None

    def __init__(self, explorer: Explorer, state: Any, session: Session):
        if Collapse._busy:
            Collapse._busy.pause()
        self.session = session
        self._task: asyncio.Task | None = None
        super().__init__(explorer, state)

    @property
    def training(self) -> Training:
        return self.session.training

    @property
    def running(self) -> bool:
        return self.session.running

    def act(self, name: str) -> None:
        {"Start": self.start, "Pause": self.pause, "Step": self.step, "Reset": self.reset}[name]()

    def step(self) -> None:
        """Train a few steps with the weights that the sliders have now, and draw."""
        self._learn()
        self._draw()

    def _learn(self) -> None:
        if self.training.records[-1].step >= MOST_STEPS:
            raise ValueError(f"{MOST_STEPS} steps are done: press Reset to begin again")
        state = self.state
        self.training.train(state.alpha, state.beta, state.rate)

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
        Collapse._busy, self._task, self.session.running = self, loop.create_task(
            self._train()), True
        self._draw()

    async def _train(self) -> None:
        await asyncio.to_thread(lambda: self.training.optimizer)  # loading it would freeze the page
        while self.training.records[-1].step < MOST_STEPS:
            for half in (self._learn, self._draw):
                self.guard(half)
                if wrong := self.message:
                    self._stop()
                    self.guard(self._draw)
                    return self.say(wrong, "alert")
                await asyncio.sleep(PAUSE / 2)
        self.pause()
        self.say(f"{MOST_STEPS} steps are done: press Reset to begin again")

    def pause(self) -> None:
        """Stop training, if it runs, and draw."""
        if self.running:
            self._stop()
            self._draw()

    def _stop(self) -> None:
        if self._task:
            self._task.cancel()
            self._task, Collapse._busy, self.session.running = None, None, False

    def reset(self) -> None:
        """Stop, and begin again with the untrained encoder."""
        self._stop()
        self.session.training = Training(self.state.seed)
        self._draw()

    def close(self) -> None:
        self._stop()
        super().close()


def _line(nth: int, x: Any, y: Any, name: str, colour: str, dash: str = "solid", **more: Any
          ) -> dict[str, Any]:
    return dict(type="scatter", mode="lines", x=x, y=y, name=name, xaxis=f"x{nth}",
                yaxis=f"y{nth}", line=dict(color=colour, dash=dash, width=2), showlegend=False,
                hovertemplate=f"{name} at %{{x}}: %{{y:.3g}}<extra></extra>") | more


BLUE, GREY, CHANCE = "#0072B2", "#777777", math.log(CANDIDATES)
STEPS = dict(title=dict(text="training step", standoff=2), range=[-1, "@end"])
COSINE = dict(range=[-1.08, 1.08], dtick=0.5, title=dict(text="mean cosine", standoff=2))
POSITION = dict(constrain="domain", title=dict(text="position", standoff=2))
PICTURE = {
    "data": [
        dict(type="heatmap", dx=EVERY, dy=EVERY, z="@apart", colorscale="Viridis", zmin=-3,
             zmax=0.3,
             hovertemplate="positions %{x}, %{y}: 1 − cosine = 10^%{z:.2f}<extra></extra>",
             colorbar=dict(orientation="h", x=either(0.5, 0.19), len=either(1, 0.38), thickness=12,
                           xpad=0, y=either(0.715, -0.08), yanchor="top",
                           tickvals=[-3, -2, -1, 0],
                           ticktext=["0.001", "0.01", "0.1", "1"])),
        _line(2, "@shifts", "@records.0.cosines", "untrained", GREY, "dot"),
        _line(2, "@shifts", "@now.cosines", "now", BLUE),
        _line(2, ["@state.z"], ["@here"], "z", BLUE, mode="markers",
              marker=dict(color=BLUE, size=9)),
        _line(3, "@records.*.step", "@cosines", "cosine", BLUE),
        _line(4, "@records.*.step", "@records.*.effective_rank", "effective rank", "#009E73"),
        _line(5, [0, "@end"], [CHANCE, CHANCE], "chance", GREY, "dot"),
        _line(5, "@records.*.step", "@records.*.l_delta", "L<sub>δ</sub>", "#CC79A7"),
        _line(5, "@records.*.step", "@l_ood", "L<sub>OOD</sub>", "#D55E00", "dash")],
    "layout": {
        "height": either(1330, 520), "margin": dict(t=40, r=14, l=60, b=either(50, 90)),
        **axes("", (0, 0.38, 0, 1), (0, 1, 0.76, 1), POSITION,
               POSITION | dict(constraintoward="top", autorange="reversed", scaleanchor="x")),
        **axes(2, (0.48, 0.7, 0.6, 1), (0, 1, 0.5, 0.61),
               dict(title=dict(text="shift z (positions)", standoff=2)), COSINE),
        **axes(3, (0.78, 1, 0.6, 1), (0, 1, 0.335, 0.44), STEPS, COSINE),
        **axes(4, (0.48, 0.7, 0, 0.4), (0, 1, 0.17, 0.275), STEPS,
               dict(title=dict(text="directions", standoff=2), range=[0, "@top"])),
        **axes(5, (0.78, 1, 0, 0.4), (0, 1, 0, 0.11), STEPS,
               dict(title=dict(text="loss (nats)", standoff=2), type="log", dtick=2,
                    range=[math.log10(SMALLEST) - 0.3, 1], exponentformat="power")),
        "shapes": [dict(each="changes", type="line", xref=f"x{nth}", yref=f"y{nth} domain",
                        x0="@at", x1="@at", y0=0, y1=1, line=dict(color="#bbbbbb", width=2))
                   for nth in (3, 4, 5)],
        "annotations": [heading(text, nth, 12) for nth, text in (
            ("", "1 − cosine of all pairs, now"),
            ("2", "e<sub>p</sub> and e<sub>p+z</sub>, now; dotted: untrained"),
            ("3", "e<sub>p</sub> and e<sub>p+{state.z}</sub>"), ("4", "effective rank"),
            ("5", f"L<sub>δ</sub> solid (log {CANDIDATES} dotted), L<sub>OOD</sub> dashed"))]},
    "table": {
        "step": "@records.*.step", "α": "@records.*.alpha", "β": "@records.*.beta",
        "rate": "@records.*.rate", "mean cosine at z={state.z}": "@cosines",
        "effective rank": "@records.*.effective_rank", "spread": "@records.*.spread",
        "L_δ (nats)": "@records.*.l_delta", "L_OOD (nats)": "@l_ood"},
}


def explorer() -> Explorer:
    """Weights on sliders, and buttons that train."""
    session = Session()
    made = Explorer(
        "collapse", State, session.compute, PICTURE,
        dict(LAST=POSITIONS - 1, LAST_TEACHER=TRAIN_LEN - 1, EVERY=EVERY, WARM_UP=WARM_UP,
             CLOSEST=CLOSEST, COLLAPSED=COLLAPSED, CANDIDATES=CANDIDATES, CHANCE=f"{CHANCE:.2f}"),
        panel=lambda state: Collapse(made, state, session), stored=training.stored,
        actions={"Start": "go on training; the weights may be moved meanwhile",
                 "Pause": "stop, and keep what was learnt",
                 "Step": f"train {training.STEPS_AT_A_TIME} steps only",
                 "Reset": "discard what was learnt"})
    return made
