"""A run that computes NaN or infinity has failed: it stops, and says where and what to change."""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqpe_lab.runs.run import Run


class DivergedError(RuntimeError):
    """A loss, gradient, weight or result is NaN or infinite."""
    exit_status = 65  # "data error" (EX_DATAERR): starting again does not help


def refuse_divergence(run: Run, step: int, values: Mapping[str, Any]) -> None:
    """Check the numbers of a step, or the results.

    Args:
        step: of ``values``, counted from 1.
        values: numbers, also in tables of tables; words do not count.

    Raises:
        DivergedError: one is NaN or infinite; with the step, the seed, the last finite values in
            the run's log, and the remedy.

    >>> from seqpe_lab.recipes import language_model
    >>> run = Run(language_model("alibi", "smoke", 3), "nowhere")
    >>> refuse_divergence(run, 7, {"loss": math.inf})
    Traceback (most recent call last):
    seqpe_lab.runs.divergence.DivergedError: alibi, seed 3, diverged at step 7 of 12: loss is inf...
    """
    wrong = next((pair for pair in _numbers(values) if not math.isfinite(pair[1])), None)
    if wrong is None:
        return
    before, recipe = "no step was logged before", run.recipe
    if records := run.metrics():
        last = dict(records[-1])
        before = f"the last finite values, of step {last.pop('step'):,}: " + ", ".join(
            f"{key} {number:.4g}" for key, number in last.items())
    raise DivergedError(
        f"{recipe.method}, seed {recipe.seed}, diverged at step {step:,} of {recipe.steps:,}: "
        f"{wrong[0]} is {wrong[1]} ({before}). Lower learning_rate ({recipe.learning_rate:g}) or "
        f"clip ({recipe.clip:g}), or raise warmup_steps ({recipe.warmup_steps:,})")


def refuse_infinite_gradients(run: Run, step: int, norms: list[Tensor]) -> None:
    """The same for the gradient norms of the last steps, up to ``step``: scalars, at least one."""
    values = torch.stack(norms).tolist()  # waits for a GPU once
    for number, norm in enumerate(values, start=step - len(values) + 1):
        refuse_divergence(run, number, {"gradient_norm": norm})


def refuse_infinite_weights(run: Run, step: int, model: nn.Module) -> None:
    """The same for all weights after ``step``; reads each of them."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = float(tensor[~tensor.isfinite()][0])
            refuse_divergence(run, step, {f"a weight of {name}": wrong})


def _numbers(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, float]]:
    """(place, number) of all numbers in tables of tables."""
    for key, value in values.items():
        place = f"{where} at {key}" if where else key
        if isinstance(value, Mapping):
            yield from _numbers(value, place)
        elif isinstance(value, int | float):
            yield place, value
