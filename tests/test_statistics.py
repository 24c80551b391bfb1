"""Statistics over seeds: known answers, and how often the interval holds the true difference."""

import math

import numpy as np
import pytest

from seqpe_lab.statistics import Difference, leaders, mean_and_deviation, paired_difference


def seeds(values) -> dict[int, float]:
    """{seed: value} for seeds 0, 1, 2, ..."""
    return dict(enumerate(values))


def test_mean_and_sample_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0, 6.0]) == (3.0, pytest.approx(math.sqrt(14 / 3)))
    assert mean_and_deviation([2.5]) == (2.5, None)


def test_a_difference_is_paired_by_seed():
    """What both methods share by seed does not widen the interval."""
    shared = np.array([0.0, 10.0, -20.0, 30.0, 5.0])
    lead = np.array([0.9, 1.1, 1.0, 1.2, 0.8])
    found = paired_difference(seeds(shared + lead), seeds(shared))
    assert found.mean == pytest.approx(1.0) and 0.8 <= found.low < 1.0 < found.high <= 1.2
    unpaired = paired_difference(seeds((shared + lead)[[1, 2, 3, 4, 0]]), seeds(shared))
    assert unpaired.mean == pytest.approx(1.0) and unpaired.low < -5 and unpaired.high > 5


def test_the_interval_turns_round_with_the_methods_and_is_the_same_every_time():
    a, b = seeds([5.0, 5.2, 5.1, 5.6, 5.3, 5.0]), seeds([4.9, 5.3, 4.8, 5.2, 5.0, 4.6])
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there == paired_difference(a, b)
    assert (-back.mean, -back.high, -back.low) == pytest.approx(there, abs=0.01)


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-2.0, -1.0, "lower"),
        (1.0, 2.0, "higher"),
        (-1.0, 2.0, "no difference seen"),
        (0.0, 2.0, "no difference seen"),
        (-2.0, 0.0, "no difference seen"),
        (math.nan, math.nan, "no difference seen"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(low, high, verdict):
    assert Difference((low + high) / 2, low, high).verdict == verdict


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_than_five_seeds_give_no_interval_and_no_verdict(count):
    found = paired_difference(seeds([2.0] * count), seeds([1.0] * count))
    assert found == (1.0, -math.inf, math.inf) and found.verdict == "no difference seen"


def test_values_are_paired_by_their_seeds_and_not_by_their_order():
    a = {4: 5.0, 3: 4.0, 2: 3.0, 1: 2.0, 0: 1.0, 9: 100.0}
    b = {seed: seed + 0.5 for seed in range(7)}
    assert paired_difference(a, b) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"equal seeds, got seeds \[1, 2\] and \[3\]"):
        paired_difference({2: 1.0, 1: 1.0}, {3: 1.0})


@pytest.mark.parametrize("count, least, most", [(5, 0.89, 0.95), (10, 0.92, 0.97)])
def test_the_interval_holds_the_true_difference_as_often_as_its_docstring_says(count, least, most):
    """A bootstrap that cuts 2.5 % on each side does so in 85 % and 90 % of the cases."""
    draws = np.random.default_rng(1).normal(0.3, 1.0, size=(400, count))
    intervals = [paired_difference(seeds(draw), seeds([0.0] * count)) for draw in draws]
    assert least <= np.mean([d.low <= 0.3 <= d.high for d in intervals]) <= most


def test_leaders_are_the_best_and_all_that_cannot_be_told_from_it():
    best = dict(enumerate([27.9, 27.6, 27.8, 27.7, 28.0]))
    tie = dict(enumerate([28.1, 27.9, 27.4, 28.2, 27.8]))
    far, diverged = dict.fromkeys(range(5), 40.0), dict.fromkeys(range(5), math.nan)
    scores = {"far": far, "best": best, "tie": tie, "diverged": diverged}
    assert leaders(scores, lower=True) == ["best", "tie"]
    assert leaders(scores) == ["far"]
    assert leaders({m: {0: s[0], 1: s[1]} for m, s in scores.items()}) == []
