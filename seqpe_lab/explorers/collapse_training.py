"""A small position encoder trained on the two losses alone, and measures of its vectors.

Settings and measures are those of lesson 06. The page without a kernel repeats the same training
(collapse.js) from the stored positions of each step.
"""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course.plot_widget import scripts
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.explorers.stored_models import weights
from seqpe_lab.regularizer import PositionRegularizer, Samples, encode_together
from seqpe_lab.sampling import contrastive_sample, distillation_sample

HERE = Path(__file__).parent
POSITIONS, TRAIN_LEN, HEADS, CANDIDATES, TEACHERS, WARM_UP = 600, 64, 4, 32, 32, 30
STEPS_AT_A_TIME, MOST_STEPS, SEEDS = 2, 240, (0, 1, 2)
TEST = Samples(contrastive_sample(128, CANDIDATES, POSITIONS,
                                  generator=torch.Generator().manual_seed(1)),
               distillation_sample(32, TEACHERS, TRAIN_LEN, POSITIONS,
                                   generator=torch.Generator().manual_seed(9)))


class Record(NamedTuple):
    """What was measured after some steps."""
    step: int
    alpha: float  # the weights and the learning rate of the steps before
    beta: float
    rate: float
    cosines: np.ndarray  # float32 (POSITIONS - 1,): of e_p and e_{p+z}, for z = 1, 2, ...
    effective_rank: float
    spread: float
    l_delta: float  # nats, on TEST
    l_ood: float


class Training:
    """An encoder of positions 0..599, and its history. The same seed gives the same history.

    Its initial weights are rounded to half precision, in which the page without a kernel has them.

    Attributes:
        records: one of the untrained encoder, and one after each few steps.
        similarity: cosines of all pairs now, float32 (POSITIONS, POSITIONS).
    """

    def __init__(self, seed: int = 0):
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = PositionEncoder(64, digits=4, heads=HEADS).half().float()
        self.regularizer = PositionRegularizer(
            self.encoder, TRAIN_LEN, POSITIONS, pivots=16, candidates=CANDIDATES,
            distillation_batch=16, teachers=TEACHERS)
        self.generator = torch.Generator().manual_seed(seed)
        self.records: list[Record] = []
        self._measure(0, 0.0, 0.0, 0.0)

    @functools.cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Made when it is first needed: torch's first optimizer takes a second or two to load."""
        return torch.optim.AdamW(self.encoder.parameters(), weight_decay=0.0)

    def train(self, alpha: float, beta: float, rate: float = 1e-3) -> None:
        """A few steps on alpha L_delta + beta L_OOD (Eq. 15 without a main task); then measure."""
        done = self.records[-1].step
        for step in range(done + 1, done + 1 + STEPS_AT_A_TIME):
            samples = self.regularizer.sample(self.generator)
            losses = self.regularizer.losses(
                samples, encode_together(self.encoder, samples.positions()))
            self.optimizer.zero_grad()
            (alpha * losses["contrastive"] + beta * losses["distillation"]).backward()
            torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
            self.optimizer.param_groups[0]["lr"] = rate * min(1, step / WARM_UP)
            self.optimizer.step()
        self._measure(step, alpha, beta, rate)

    def _measure(self, step: int, *settings: float) -> None:
        vectors = self.encoder.table(POSITIONS)  # (POSITIONS, d)
        losses = self.regularizer.losses(TEST, [vectors[p[..., 0]] for p in TEST.positions()])
        self.similarity = geometry.similarity(vectors, kind="cosine")
        self.records.append(Record(
            step, *settings, cosine_by_shift(self.similarity), geometry.effective_rank(vectors),
            geometry.spread(vectors), *map(float, losses.values())))


def cosine_by_shift(similarity: Tensor) -> np.ndarray:
    """Mean cosine of e_p and e_{p+z} for z = 1 .. N-1, float32 (N-1,), from all cosines (N, N).

    >>> cosine_by_shift(torch.tensor([[1., .5, 0.], [.5, 1., .7], [0., .7, 1.]])).tolist()
    [0.60..., 0.0]
    """
    table = similarity.numpy()
    return np.array([table.diagonal(z).mean() for z in range(1, len(table))], dtype=np.float32)


def stored(steps: int = MOST_STEPS) -> dict[str, Any]:
    """What collapse.js trains with: for each seed the initial weights and each step's positions."""
    runs = {}
    for seed in SEEDS:
        training = Training(seed)
        samples = [training.regularizer.sample(training.generator) for _ in range(steps)]
        runs[seed] = {"weights": weights({f"encoder.{name}": tensor for name, tensor
                                          in training.encoder.state_dict().items()}),
                      "steps": _positions(samples)}
    encoder = training.encoder
    return dict(runs=runs, test=_positions([TEST]), heads=HEADS, digits=encoder.digits,
                base=encoder.base, layers=len(encoder.blocks), positions=POSITIONS,
                program=scripts(HERE / "models.js", HERE / "collapse_training.js"), warmUp=WARM_UP,
                stepsAtATime=STEPS_AT_A_TIME, mostSteps=steps)


def _positions(samples: list[Samples]) -> dict[str, np.ndarray]:
    """The samples of S steps; sets in ascending order, each position as its gap from the last."""
    contrast, distil = ([getattr(sample, kind) for sample in samples]
                        for kind in ("contrast", "distil"))
    candidates = torch.stack([c.candidates[..., 0] for c in contrast])  # (S, B, m)
    nearest = candidates.gather(2, torch.stack([c.label for c in contrast]).unsqueeze(-1))
    teachers = torch.stack([d.teachers[..., 0] for d in distil])
    shifts = torch.stack([(d.students - d.teachers)[:, 0, 0] for d in distil])
    pivots = torch.stack([c.pivots[:, 0] for c in contrast])
    gaps = [np.diff(sets.sort(-1).values.numpy(), prepend=0) for sets in (candidates, teachers)]
    return {name: np.asarray(array, dtype=np.int16) for name, array in dict(
        pivots=pivots, nearest=nearest[..., 0], candidates=gaps[0], shifts=shifts,
        teachers=gaps[1]).items()}
