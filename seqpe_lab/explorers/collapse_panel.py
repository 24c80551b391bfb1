"""Collapse: train a small position encoder on the two losses alone (Sec. 3.3 and 3.4).

L_OOD compares relations among students with relations among teachers, never a student with its own
teacher, so it is minimal when all positions have the same vector; L_delta does not allow that.
"""
from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqpe_lab.explorers import collapse_training as training
from seqpe_lab.explorers.collapse_picture import CLOSEST, COLLAPSED, EVERY, SMALLEST, TEMPLATE
from seqpe_lab.explorers.collapse_training import MOST_STEPS, POSITIONS, Training
from seqpe_lab.explorers.explorer import Explorer, Stop
from seqpe_lab.explorers.fields import choice, number, scale
from seqpe_lab.explorers.panel import Panel

PAUSE = 0.05  # seconds after each step and drawing, for the kernel's other work


@dataclass(frozen=True)
class State:
    """Loss weights and learning rate of the next steps, the seed, and the shift that is plotted."""
    alpha: float = number(0.0, "α, weight of L_δ", "asks that the nearest position be the most "
                          "similar (Eq. 9); the paper uses 0.1", min=0.0, max=1.0, step=0.1)
    beta: float = number(0.1, "β, weight of L_OOD", "asks that shifted positions resemble one "
                         "another as the trained ones do (Eq. 10); the paper uses 0.1", min=0.0,
                         max=1.0, step=0.1)
    rate: float = scale(1e-3, "learning rate", "of AdamW, reached after "
                        f"{training.WARM_UP} steps", {1e-4: "0.0001", 3e-4: "0.0003",
                                                      1e-3: "0.001", 3e-3: "0.003", 1e-2: "0.01"})
    seed: int = choice(0, "seed", "of the initial weights and of the drawn positions; another one "
                       "begins again", training.SEEDS)
    z: int = number(256, "shift z", "how far apart the two positions are whose cosine is followed; "
                    "after round shifts the digits look alike", min=1, max=POSITIONS - 100)


@dataclass(frozen=True)
class Numbers:
    """The vectors now, and measures over the steps."""
    state: State
    step: int
    trained: bool
    collapsed: bool
    apart: np.ndarray  # log10(1 - cosine) of every third position, (200, 200)
    shown: list[int]  # these positions
    shifts: list[int]  # 1, 2, ...
    untrained: np.ndarray  # mean cosines of e_p and e_{p+z} for all z, float32 (POSITIONS - 1,)
    now: np.ndarray
    here: float  # that of z now
    steps: list[int]
    alphas: list[float]
    betas: list[float]
    rates: list[float]
    cosines: list[float]  # of z, after each of the steps
    ranks: list[float]
    spreads: list[float]
    l_delta: list[float]
    l_ood: list[float]  # at least SMALLEST
    rank: float  # now
    spread: float
    delta: float
    ood: str  # "1.2 · 10^-6"
    changes: list[dict[str, int]]  # "at" the steps at which weights or rate changed
    end: int  # of the axis of steps
    top: float  # of the axis of ranks
    disabled: list[str]  # buttons


class Session:
    """What one panel trains.

    Attributes:
        training: of the seed that was last asked for.
        running: whether it goes on by itself.
    """

    def __init__(self) -> None:
        self.training, self.running = Training(), False

    def compute(self, state: State) -> Numbers:
        """What was measured so far; another seed begins again."""
        if state.seed != self.training.seed:
            self.training = Training(state.seed)
        records, z = self.training.records, state.z
        now, steps = records[-1], [record.step for record in records]
        apart = np.log10(np.clip(1 - self.training.similarity[::EVERY, ::EVERY].double().numpy(),
                                 CLOSEST, None))
        settings = [(r.alpha, r.beta, r.rate) for r in records]
        changes = [{"at": step} for step, *pair in zip(steps[1:], settings[1:], settings[2:])
                   if pair[0] != pair[1]]
        mantissa, exponent = f"{now.l_ood:.1e}".split("e")
        return Numbers(
            state, now.step, now.step > 0, now.spread < COLLAPSED, apart,
            list(range(0, POSITIONS, EVERY)), list(range(1, POSITIONS)), records[0].cosines,
            now.cosines, float(now.cosines[z - 1]), steps, *map(list, zip(*settings)),
            [float(r.cosines[z - 1]) for r in records],
            [r.effective_rank for r in records], [r.spread for r in records],
            [r.l_delta for r in records], [max(r.l_ood, SMALLEST) for r in records],
            now.effective_rank, now.spread, now.l_delta,
            f"{mantissa} · 10<sup>{int(exponent)}</sup>".replace("-", "−"), changes,
            max(40, now.step), 1.06 * max(r.effective_rank for r in records),
            ["Start", "Step"] if self.running else ["Pause"])


TOUR = (
    Stop("<b>Before training</b>, random weights already give each position a vector of its own.",
         {}, "Blocks on the map: positions that share their first digits are alike."),
    Stop("<b>L_OOD alone</b> wants shifted positions to resemble one another as the trained ones "
         "do. Press Start.", {"alpha": 0.0, "beta": 0.1},
         "The map darkens by orders of magnitude: within 20 steps all positions have one vector, "
         "and the dashed curve calls that success."),
    Stop("<b>L_δ alone</b> wants the nearest position to be the most similar. Press Reset, then "
         "Start.", {"alpha": 0.1, "beta": 0.0},
         "The solid curve leaves chance, and a bright map shows positions that differ."),
    Stop("<b>Both losses</b>, as in the paper. Press Reset, then Start.",
         {"alpha": 0.1, "beta": 0.1},
         "The spread grows, and L_OOD rises first: there are relations to keep now."),
    Stop("<b>Is it the seed, or the learning rate?</b> Press Start again with another of each.",
         {"alpha": 0.0, "beta": 0.1, "seed": 1, "rate": 3e-3},
         "L_OOD alone collapses for every seed; the rate decides how soon."),
)


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


def explorer() -> Explorer:
    """Weights on sliders, and buttons that train."""
    session = Session()
    made = Explorer(
        "collapse", "Collapse", "Press Start and watch an encoder learn from L_OOD alone: within "
        "seconds all positions have one vector. Then raise α, or reset and start with both.",
        State, session.compute, TEMPLATE, TOUR, file="collapse",
        panel=lambda state: Collapse(made, state, session),
        stored=training.stored, scripts=(Path(__file__).with_name("collapse.js"),),
        actions={"Start": "go on training; the weights may be moved meanwhile",
                 "Pause": "stop, and keep what was learnt",
                 "Step": f"train {training.STEPS_AT_A_TIME} steps only",
                 "Reset": "discard what was learnt"})
    return made
