"""Results that nobody measured, with five seeds a row, for tests of what is concluded from results.

A world says how rows come out; whatever it does not name comes out as in the paper.
"""

import functools
import math
from pathlib import Path

from seqpe_lab.recipes import MAKERS
from seqpe_lab.reproduction.manifest import TABLES, methods_of

PROJECT = Path(__file__).parents[1]
NOISE = (0.0, 1.0, -1.0, 0.5, -0.5)  # of seeds 0 to 4, times 1 %
UNEVEN = (6.0, -5.0, 4.0, -6.0, 1.0)  # large enough that no difference is seen
PARTS = {part.name: part for parts in TABLES.values() for part in parts}
FILES = {
    "lm": "length-extrapolation-small",
    "image": "resolution-extrapolation-small",
    "qa": "question-answering-small",
}

# {task: {method: (value at the first length or size, value at the last)}}
AS_IN_THE_PAPER = {
    "lm": {
        "none": (6.5, 60.0),
        "sinusoidal": (6.0, 90.0),
        "learned": (5.4, 25.0),
        "rope-1e4": (5.2, 40.0),
        "rope-1e6": (5.2, 35.0),
        "rope-1e8": (5.2, 45.0),
        "alibi": (5.4, 5.5),
        "seqpe": (5.0, 4.9),
        "seqpe-no-losses": (5.1, 20.0),
        "seqpe-delta-only": (5.1, 5.2),
        "seqpe-ood-only": (5.1, 30.0),
    },
    "image": {
        "none": (76.0, 50.0),
        "sinusoidal": (95.0, 15.0),
        "learned": (93.0, 65.0),
        "rope-axial": (96.0, 25.0),
        "rope-mixed": (97.0, 70.0),
        "seqpe-mul": (97.0, 80.0),
        "seqpe-sum": (96.0, 60.0),
        "seqpe-bias": (96.5, 70.0),
        "seqpe-mul-no-losses": (96.0, 55.0),
        "seqpe-mul-delta-only": (96.0, 65.0),
        "seqpe-mul-ood-only": (95.0, 45.0),
    },
    "qa": {
        "none": (70.0, 1.0),
        "rope-1e4": (95.0, 2.0),
        "alibi": (90.0, 50.0),
        "seqpe": (98.0, 70.0),
    },
}
# SeqPE is behind ALiBi; L_OOD alone helps; L_δ alone does not stay flat; RoPE fails on images
AGAINST_THE_PAPER = {
    "lm": {"alibi": (4.6, 4.5), "seqpe-ood-only": (5.1, 14.0), "seqpe-delta-only": (5.0, 22.0)},
    "image": {"rope-mixed": (97.0, 25.0), "seqpe-sum": (97.0, 75.0)},
    "qa": {"alibi": (99.0, 85.0)},
}
# SeqPE and ALiBi cannot be told apart, nor two falls on images; a run of NoPE diverged
TIED = {
    "lm": {"alibi": (5.0, 4.9), "seqpe-delta-only": (5.0, 5.5), "none": (6.5, math.nan)},
    "image": {"learned": (93.0, 75.0), "rope-mixed": (97.0, 71.0)},
    "qa": {"alibi": (98.0, 70.0)},
}
WORLDS = {"as in the paper": {}, "against the paper": AGAINST_THE_PAPER, "tied": TIED}


def methods(task: str) -> list[str]:
    """The rows of all tables of a task at small scale, as ``collect`` would find them."""
    parts = [part for part in PARTS.values() if part.task == task]
    return [*dict.fromkeys(m for part in parts for m in methods_of(part, "small"))]


@functools.cache
def made_up(task: str, world: str, seeds: int = 5) -> list[dict]:
    """Results of a task in the form of its file in data/results."""
    ends = AS_IN_THE_PAPER[task] | WORLDS[world].get(task, {})
    full = {"lm": "seqpe", "image": "seqpe-mul", "qa": "seqpe"}[task]
    return [
        _result(
            MAKERS[task](method, "small", seed),
            ends.get(method, ends[full]),
            method in WORLDS[world].get(task, {}) and world == "tied",
        )
        for method in methods(task)
        for seed in range(seeds)
    ]


def _result(recipe, ends: tuple[float, float], uneven: bool) -> dict:
    places = recipe.eval_sizes if recipe.task == "image" else recipe.eval_lens
    first, last = ends
    noises = UNEVEN if uneven else NOISE
    noise = noises[recipe.seed] / 100
    if math.isnan(last) and recipe.seed != 2:  # one run diverges, not all of its row
        last = 9 * first
    last *= 1 + noises[recipe.seed - 1] / 200  # the change differs from seed to seed, too
    measured = {
        str(place): (first + (last - first) * number / (len(places) - 1)) * (1 + noise)
        for number, place in enumerate(places)
    }
    kinds = {
        "lm": {"tokens": recipe.eval_tokens, "protocol": "non-overlapping"}
        if recipe.task == "lm"
        else {},
        "image": {"images": 320, "protocol": "whole images"},
        "qa": {"questions": 100, "protocol": "the same 100 questions at every length"},
    }[recipe.task]
    measures = {"lm": ["perplexity"], "image": ["accuracy"], "qa": ["exact_match", "perplexity"]}
    if math.isnan(last):  # a diverged run, as Run.outcome gives it
        kinds, measures = {"task": recipe.task, "failed": "loss is nan"}, {recipe.task: []}
    return {
        "method": recipe.method,
        "scale": "small",
        "seed": recipe.seed,
        "recipe": recipe.digest(),
        "split": "test",
        "data": {"description": "made up", "hash": "abc", "tokenizer": "bytes"},
        "versions": {"torch": "0", "timm": "0"},
        "device": "none",
        "commit": "c0ffee",
        "time": "2000-01-01T00:00:00+00:00",
        **kinds,
        **dict.fromkeys(measures[recipe.task], measured),
    }
