"""Settings that were chosen for each method by trials on validation data, and how.

data/results/PROTOCOL.md describes the choice. Every method of a task is tried with the same grid,
on a seed that no result uses; rows of an ablation take the settings of their full SeqPE row. The
trials are committed in data/results, and a test compares ``SETTINGS`` with them.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product

# task: {method: fields}; a method that is not named keeps the preset's values
SETTINGS: dict[str, dict[str, dict[str, float]]] = {
    "lm": {
        "none": {"learning_rate": 0.004, "weight_decay": 0.1},
        "sinusoidal": {"learning_rate": 0.004, "weight_decay": 0.01},
        "learned": {"learning_rate": 0.004, "weight_decay": 0.01},
        "rope-1e4": {"learning_rate": 0.001, "weight_decay": 0.01},
        "rope-1e6": {"learning_rate": 0.001, "weight_decay": 0.01},
        "rope-1e8": {"learning_rate": 0.001, "weight_decay": 0.1},
        "alibi": {"learning_rate": 0.004, "weight_decay": 0.01},
        "seqpe": {"learning_rate": 0.004, "weight_decay": 0.1},
    },
    "image": {
        "none": {"learning_rate": 0.0015, "weight_decay": 0.01},
        "sinusoidal": {"learning_rate": 0.0015, "weight_decay": 0.01},
        "learned": {"learning_rate": 0.003, "weight_decay": 0.01},
        "rope-axial": {"learning_rate": 0.003, "weight_decay": 0.01},
        "rope-mixed": {"learning_rate": 0.003, "weight_decay": 0.1},
        "seqpe-mul": {"learning_rate": 0.003, "weight_decay": 0.1},
        "seqpe-sum": {"learning_rate": 0.003, "weight_decay": 0.1},
        "seqpe-bias": {"learning_rate": 0.0015, "weight_decay": 0.1},
    },
}

FULL_ROW = {"lm": "seqpe", "image": "seqpe-mul"}  # of the ablations
TRIAL_SEED = 100
_RATES, _DECAYS = (1.0, 0.5, 2.0), (0.01, 0.1)  # times the preset's; as they are


def settings_of(task: str, method: str, scale: str) -> dict[str, float]:
    """The fields that were chosen for a method: at small scale, else none.

    >>> settings_of("lm", "seqpe-no-losses", "small") == settings_of("lm", "seqpe", "small")
    True
    """
    if scale != "small" or task not in SETTINGS:
        return {}
    full = FULL_ROW[task]
    return SETTINGS[task].get(full if method.startswith(f"{full}-") else method, {})


def trial_values(learning_rate: float) -> list[dict[str, float]]:
    """The fields of each trial of a method, for a preset with this learning rate.

    >>> trial_values(2e-3)[0], len(trial_values(2e-3))
    ({'learning_rate': 0.002, 'weight_decay': 0.01}, 6)
    """
    return [{"learning_rate": rate * learning_rate, "weight_decay": decay}
            for rate, decay in product(_RATES, _DECAYS)]


def settings_from(trials: Iterable[Mapping]) -> dict[str, dict[str, dict[str, float]]]:
    """The settings that trials lead to, in the form of ``SETTINGS``.

    The best trial of a method has the lowest mean of nats per token over the lengths, or the
    highest mean accuracy over the sizes, on the validation split. Of equal ones the first is
    taken.

    Args:
        trials: contents of ``results.json`` or, of a trial that failed and so is never chosen,
            ``failure.json``, each with "settings": the fields that were tried.

    Raises:
        ValueError: methods of a task with different grids; results of another split or seed.
    """
    scores: dict[str, dict[str, dict[tuple, float]]] = {}
    for trial in trials:
        if (trial["split"], trial["seed"]) != ("validation", TRIAL_SEED):
            raise ValueError(f"a trial of {trial['method']} was measured on the {trial['split']} "
                             f"split with seed {trial['seed']}: settings are chosen on the "
                             f"validation split with seed {TRIAL_SEED}")
        task = trial.get("task") or ("image" if "accuracy" in trial else "lm")
        fields = tuple(trial["settings"].items())
        scores.setdefault(task, {}).setdefault(trial["method"], {})[fields] = _cost(trial)
    for task, methods in scores.items():
        if len(grids := {frozenset(costs) for costs in methods.values()}) > 1:
            counts = ", ".join(f"{method} {len(costs)}" for method, costs in methods.items())
            raise ValueError(f"the methods of {task!r} were tried with {len(grids)} different "
                             f"grids ({counts} trials): run the missing trials")
    return {task: {method: dict(min(costs, key=costs.get))
                   for method, costs in scores.get(task, {}).items()} for task in SETTINGS}


def _cost(trial: Mapping) -> float:
    """Nats per token, or minus the accuracy; the mean over lengths or sizes.

    Infinite for a trial that failed, or whose mean is NaN.
    """
    if "failed" in trial:
        return math.inf
    if "accuracy" in trial:
        values = [-value for value in trial["accuracy"].values()]
    else:
        values = [math.log(value) for value in trial["perplexity"].values()]
    mean = sum(values) / len(values)
    return math.inf if math.isnan(mean) else mean
