"""Collapse: a small position encoder learns before the reader's eyes, from the two losses alone (SeqPE, Sec. 3.3 and 3.4).

L_OOD compares students with students and never with their teachers, so one vector for all positions
satisfies it; L_delta does not let that pass. Settings and measures are those of lesson 06.
"""
from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from seqpe_lab import geometry, sampling
from seqpe_lab.course.draft import Draft
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.explorers.panel import Panel, slider
from seqpe_lab.losses import contrastive_loss, distillation_loss

POSITIONS, TRAIN_LEN, HEADS, CANDIDATES, TEACHERS, RATE, WARM_UP = 600, 64, 4, 32, 32, 1e-3, 30
STEPS_A_PIECE, MOST_STEPS = 2, 400
BREATH = 0.05  # seconds in each piece in which the kernel answers everything else
COLLAPSED = 0.1  # a spread below this is one vector for all
SMALLEST = 1e-8  # nats; about what float32 can tell from zero
EVERY = 3  # positions, one is drawn
EXAM = sampling.contrastive_sample(128, CANDIDATES, POSITIONS, generator=torch.Generator().manual_seed(1))
PROBE = sampling.distillation_sample(32, TEACHERS, TRAIN_LEN, POSITIONS, generator=torch.Generator().manual_seed(9))


class Record(NamedTuple):
    """The state of the encoder after some steps."""
    step: int
    alpha: float  # the weights of the steps before
    beta: float
    cosines: np.ndarray  # float32 (POSITIONS - 1,): mean cosine of e_p and e_{p+z} for z = 1, 2, ...
    effective_rank: float
    spread: float
    l_delta: float  # nats, on EXAM
    l_ood: float  # nats, on PROBE


class Training:
    """An encoder of positions 0..599, and its history. The same seed gives the same history.

    Attributes:
        records: one for the untrained encoder, and one for each piece of training.
        similarity: cosines of all pairs now, float32 (POSITIONS, POSITIONS).
    """

    def __init__(self, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = PositionEncoder(64, digits=4, heads=HEADS)
        self.generator = torch.Generator().manual_seed(seed)
        self.records: list[Record] = []
        self._measure(0, 0.0, 0.0)

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Made when it is first needed: torch's first optimizer takes a second or two to load."""
        return torch.optim.AdamW(self.encoder.parameters(), lr=RATE, weight_decay=0.0)

    def piece(self, alpha: float, beta: float) -> None:
        """STEPS_A_PIECE steps on alpha L_delta + beta L_OOD (Eq. 15 without a main task), then a look at the space."""
        done = self.records[-1].step
        for step in range(done + 1, done + 1 + STEPS_A_PIECE):
            near = sampling.contrastive_sample(16, CANDIDATES, POSITIONS, generator=self.generator)
            far = sampling.distillation_sample(16, TEACHERS, TRAIN_LEN, POSITIONS, generator=self.generator)
            positions = torch.cat([near.pivots.unsqueeze(1), near.candidates, far.teachers, far.students], 1)  # one tree for all
            pivots, candidates, teachers, students = self.encoder(positions).split([1, CANDIDATES, TEACHERS, TEACHERS], 1)
            loss = alpha * contrastive_loss(pivots.squeeze(1), candidates, near.label) + beta * distillation_loss(teachers, students, HEADS)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
            self.optimizer.param_groups[0]["lr"] = RATE * min(1, step / WARM_UP)
            self.optimizer.step()
        self._measure(step, alpha, beta)

    def _measure(self, step: int, alpha: float, beta: float) -> None:
        vectors = self.encoder.table(POSITIONS)  # (POSITIONS, d)
        l_delta = contrastive_loss(vectors[EXAM.pivots[:, 0]], vectors[EXAM.candidates[..., 0]], EXAM.label)
        l_ood = distillation_loss(vectors[PROBE.teachers[..., 0]], vectors[PROBE.students[..., 0]], HEADS)
        self.similarity = geometry.similarity(vectors, kind="cosine")
        self.records.append(Record(step, alpha, beta, cosine_by_shift(self.similarity), geometry.effective_rank(vectors), geometry.spread(vectors), float(l_delta), float(l_ood)))


def cosine_by_shift(similarity: Tensor) -> np.ndarray:
    """Mean cosine of e_p and e_{p+z} for z = 1 .. N-1, float32 (N-1,), from the cosines of all pairs (N, N).

    >>> cosine_by_shift(torch.tensor([[1., .5, 0.], [.5, 1., .7], [0., .7, 1.]])).tolist()
    [0.60..., 0.0]
    """
    table = similarity.numpy()
    return np.array([table.diagonal(z).mean() for z in range(1, len(table))], dtype=np.float32)


def picture(records: Sequence[Record], similarity: Tensor, alpha: float, beta: float, z: int) -> go.Figure:
    """The space now, and its measures over the steps; vertical lines where the weights were changed.

    Args:
        records: the history, the untrained encoder first.
        similarity: cosines of all pairs now, (POSITIONS, POSITIONS).
        alpha, beta: the weights that training goes on with.
        z: the shift whose cosine is followed.
    """
    now, steps, shifts, shown = records[-1], [record.step for record in records], list(range(1, POSITIONS)), list(range(0, POSITIONS, EVERY))
    figure = Draft(2, 3, specs=[[{"rowspan": 2}, {}, {}], [None, {}, {}]], column_widths=[0.42, 0.29, 0.29], horizontal_spacing=0.09, vertical_spacing=0.24, titles=(
        "cosine of all pairs, now", "e<sub>p</sub> and e<sub>p+z</sub>, now; dotted: untrained", f"e<sub>p</sub> and e<sub>p+{z}</sub>", "effective rank",
        f"L<sub>δ</sub> solid (log {CANDIDATES} dotted), L<sub>OOD</sub> dashed"))
    figure.add("heatmap", x=shown, y=shown, z=similarity[::EVERY, ::EVERY].numpy(), colorscale="Viridis", zmin=-1, zmax=1, hovertemplate="positions %{x}, %{y}: %{z:.3f}<extra></extra>",
                       colorbar=dict(orientation="h", title=dict(text="cosine", side="top"), thickness=12, x=0.17, len=0.36, y=0.02), row=1, col=1)
    changes = [old.step for old, new in zip(records[1:], records[2:]) if (old.alpha, old.beta) != (new.alpha, new.beta)]
    highest, not_knowing = max(r.effective_rank for r in records), math.log(CANDIDATES)
    for row, column, low, high in ((1, 3, -1, 1), (2, 2, 0, highest), (2, 3, SMALLEST, 10)):
        _line(figure, row, column, "weights changed", [v for step in changes for v in (step, step, None)], [low, high, None] * len(changes), "#bbbbbb", "solid")
        figure.update_xaxes(title="training step", range=[-1, max(40, now.step) + 1], row=row, col=column)
    _line(figure, 1, 2, "untrained", shifts, records[0].cosines, "#777777", "dot")
    _line(figure, 1, 2, "now", shifts, now.cosines, "#0072B2", "solid")
    _line(figure, 1, 2, "z", [z], now.cosines[z - 1:z], "#0072B2", "solid")
    _line(figure, 1, 3, "cosine", steps, [r.cosines[z - 1] for r in records], "#0072B2", "solid")
    _line(figure, 2, 2, "effective rank", steps, [r.effective_rank for r in records], "#009E73", "solid")
    _line(figure, 2, 3, "not knowing", [0, max(40, now.step)], [not_knowing] * 2, "#777777", "dot")
    _line(figure, 2, 3, "L<sub>δ</sub>", steps, [r.l_delta for r in records], "#CC79A7", "solid")
    _line(figure, 2, 3, "L<sub>OOD</sub>", steps, [max(r.l_ood, SMALLEST) for r in records], "#D55E00", "dash")
    figure.update_xaxes(title="position", constrain="domain", row=1, col=1)
    figure.update_yaxes(title="position", autorange="reversed", scaleanchor="x", constrain="domain", constraintoward="top", row=1, col=1)
    figure.update_xaxes(title="shift z (positions)", row=1, col=2)
    for column in (2, 3):
        figure.update_yaxes(title="mean cosine", range=[-1.08, 1.08], dtick=0.5, row=1, col=column)
    figure.update_yaxes(title="directions", range=[0, 1.06 * highest], row=2, col=2)
    figure.update_yaxes(title="loss (nats)", type="log", range=[math.log10(SMALLEST) - 0.3, 1], dtick=2, exponentformat="power", row=2, col=3)
    figure.update_yaxes(title_standoff=2)
    figure.update_annotations(font_size=13)
    return figure.finish(_claim(now, alpha, beta), f"an encoder of width 64 alone, no text · positions 0..{POSITIONS - 1}, every {EVERY}rd drawn, teachers 0..{TRAIN_LEN - 1} · seed 0 · "
                   f"AdamW, rate {RATE:g} after {WARM_UP} steps · losses on fixed samples, drawn from 10⁻⁸ up · collapsed: spread below {COLLAPSED} · grey vertical lines: weights changed", height=620)


def _line(figure: Draft, row: int, column: int, name: str, x, y, colour: str, dash: str) -> None:
    figure.add("scatter", x=x, y=y, mode="markers" if len(x) == 1 else "lines", line=dict(color=colour, dash=dash, width=2), marker=dict(color=colour, size=9), showlegend=False,
                       hovertemplate=f"{name} at %{{x}}: %{{y:.3g}}<extra></extra>", row=row, col=column)


def _claim(now: Record, alpha: float, beta: float) -> str:
    if now.step == 0:
        return f"Untrained, spread {now.spread:.2f}: press Start to train with α = {alpha:g}, β = {beta:g}"
    state = "collapsed, all positions are one vector" if now.spread < COLLAPSED else "positions differ"
    return f"Step {now.step}, α = {now.alpha:g}, β = {now.beta:g}: {state} (spread {now.spread:.2f})"


def words(records: Sequence[Record], z: int) -> str:
    """The numbers now, and how to read them."""
    now = records[-1]
    return (f"Mean cosine of e<sub>p</sub> and e<sub>p+{z}</sub> {now.cosines[z - 1]:.3f} (1: the shift cannot be seen), effective rank {now.effective_rank:.2f} (1: all parallel), "
            f"spread {now.spread:.3f} (0: one point), L_δ {now.l_delta:.2f} nats (not knowing: log {CANDIDATES} = {math.log(CANDIDATES):.2f}), L_OOD {now.l_ood:.1e} nats. "
            "One vector for all satisfies L_OOD best, so its curve alone looks like success, while L_δ stays at not knowing. "
            "A low rank by itself proves nothing: with both losses it sinks too, to 2 or 3.")


def history(records: Sequence[Record], z: int) -> dict[str, list]:
    """All records as a table."""
    columns = {name: [getattr(r, name) for r in records] for name in Record._fields if name != "cosines"}
    return columns | {f"mean cosine at z={z}": [float(r.cosines[z - 1]) for r in records]}


class Collapse(Panel):
    """A panel that trains between its drawings, in pieces of a fraction of a second, on the kernel's own event loop.

    One panel trains at a time; a new one, as of a cell that is run again, stops it, and so does its own end.

    Attributes:
        training: what is trained.
    """

    _busy: Collapse | None = None

    def __init__(self):
        if Collapse._busy:
            Collapse._busy.pause()
        self.training, self._task = Training(), None
        super().__init__("Collapse", "Press Start and watch an encoder learn from L_OOD alone: within seconds all positions are one vector. Then raise α, or reset and start with both.",
                         lambda alpha, beta, z: picture(self.training.records, self.training.similarity, alpha, beta, z), {
            "alpha": slider("α, weight of L_δ", "asks that the nearest position be the most similar (Eq. 9); the paper uses 0.1", 0.0, 1.0, 0.0, 0.1),
            "beta": slider("β, weight of L_OOD", "asks that shifted positions resemble one another as the trained ones do (Eq. 10); the paper uses 0.1", 0.0, 1.0, 0.1, 0.1),
            "z": slider("shift z", "how far apart the two positions are whose cosine is followed; round shifts look alike for their spelling", 1, POSITIONS - 100, 256),
        }, words=lambda alpha, beta, z: words(self.training.records, z), table=lambda alpha, beta, z: history(self.training.records, z), file="collapse")
        for name, help, action in (("Start", "train on; the weights may be moved meanwhile", self.start), ("Pause", "stop, and keep what was learnt", self.pause),
                                   ("Step", f"train {STEPS_A_PIECE} steps only", self.piece), ("Reset", "throw away what was learnt", self.reset)):
            button = ipywidgets.Button(description=name, tooltip=help)
            button.help = help
            button.on_click(lambda _, action=action: self.guard(action))
            self.buttons.children += (button,)
        self._show_state()

    @property
    def running(self) -> bool:
        return self._task is not None

    def piece(self) -> None:
        """Train a few steps with the weights that the sliders have now, and draw."""
        self._learn()
        self._draw()

    def _learn(self) -> None:
        values = self.values
        self.training.piece(values["alpha"], values["beta"])

    def start(self) -> None:
        """Go on training in the background, until paused or MOST_STEPS.

        Raises:
            RuntimeError: no event loop runs, as in a plain script.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("no event loop runs here to train in: press Step, or call piece()") from None
        if Collapse._busy:
            Collapse._busy.pause()
        Collapse._busy, self._task = self, loop.create_task(self._train())
        self._show_state()

    async def _train(self) -> None:
        await asyncio.to_thread(lambda: self.training.optimizer)  # a thread, because loading it would freeze the page
        while self.training.records[-1].step < MOST_STEPS:
            for half in (self._learn, self._draw):
                self.guard(half)
                if self._wrong:
                    return self.pause()
                await asyncio.sleep(BREATH / 2)
        self.tell(f"{MOST_STEPS} steps are done: press Reset to begin anew")
        self.pause()

    def pause(self) -> None:
        """Stop training, if it runs."""
        if self.running:
            task, self._task, Collapse._busy = self._task, None, None
            task.cancel()
            self._show_state()

    def reset(self) -> None:
        """Stop, and begin again with the untrained encoder."""
        self.pause()
        self.training = Training()
        self.tell("")
        self._draw()

    def _show_state(self) -> None:
        start, pause, step, _ = self.buttons.children
        start.disabled = step.disabled = self.running
        pause.disabled = not self.running

    def close(self) -> None:
        self.pause()
        super().close()


def explore() -> Panel:
    """The panel: weights on sliders, and buttons that train."""
    return Collapse()
