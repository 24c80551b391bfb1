"""Measures of a position space, on spaces whose shape is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab import geometry

ANGLES = torch.arange(40) * 0.05
ARC = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)  # an arc: neighbours look alike, the far do not


def test_dot_similarity_is_the_gram_matrix_and_cosine_its_normalised_form():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert geometry.similarity(vectors).tolist() == [[25.0, 8.0], [8.0, 4.0]]
    torch.testing.assert_close(
        geometry.similarity(vectors, kind="cosine"), torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    )
    assert geometry.similarity(vectors, torch.ones(3, 2)).shape == (2, 3)


def test_a_position_is_not_its_own_neighbour():
    nearest = geometry.nearest_neighbours(
        torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), count=5
    )
    assert [sorted(row) for row in nearest.tolist()] == [
        [q for q in range(6) if q != p] for p in range(6)
    ]


def test_on_an_arc_every_neighbour_is_one_step_away_and_distance_orders_similarity():
    assert set(geometry.neighbour_distance(ARC).tolist()) == {1}
    assert geometry.distance_correlation(ARC) == pytest.approx(
        -1, abs=0.02
    )  # equal distances tie only up to rounding


def test_distance_correlation_of_random_vectors_is_near_zero():
    vectors = torch.randn(60, 64, generator=torch.Generator().manual_seed(0))
    assert abs(geometry.distance_correlation(vectors)) < 0.1


def test_distance_correlation_looks_only_within_its_window():
    far_alike = torch.cat([ARC[:20], ARC[:20]])  # positions 20 apart are the same
    assert geometry.distance_correlation(far_alike[:20], window=5) == pytest.approx(-1, abs=0.02)
    assert geometry.distance_correlation(far_alike) > -0.9


def test_a_space_that_repeats_every_ten_is_wholly_confused_and_shifts_unseen():
    repeating = torch.eye(10)[torch.arange(40) % 10]
    assert geometry.lexical_confusion(repeating, digits=2) == 1.0
    measured = geometry.collapse(repeating, shift=10)
    assert measured["shift_cosine"] == pytest.approx(1)
    assert measured["effective_rank"] == pytest.approx(10)


def test_a_smooth_space_is_not_confused():
    assert geometry.lexical_confusion(ARC, digits=2) == 0.0


def test_one_point_has_rank_one_and_no_spread():
    measured = geometry.collapse(torch.ones(8, 4), shift=3)
    assert measured == {
        "shift_cosine": pytest.approx(1),
        "effective_rank": pytest.approx(1, abs=1e-4),
        "spread": pytest.approx(0, abs=1e-6),
    }


def test_a_centred_cloud_has_spread_one():
    cloud = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert geometry.spread(cloud - cloud.mean(0)) == pytest.approx(1)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=6))
def test_effective_rank_is_the_exponential_of_the_entropy_of_singular_values(values):
    shares = [v / sum(values) for v in values]
    expected = math.exp(-sum(s * math.log(s) for s in shares))
    assert geometry.effective_rank(torch.diag(torch.tensor(values))) == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize(
    "p, q, expected",
    [
        (100, 1000, True),
        (1000, 100, True),  # the paper's example: a zero added or removed
        (100, 123, False),
        (123, 132, True),
        (123, 321, True),  # two digits swapped
        (123, 231, False),  # all three moved
        (123, 23, True),
        (123, 12, True),
        (123, 13, True),  # one removed
        (7, 17, True),
        (7, 70, True),  # one added
        (7, 7, False),
        (123, 128, True),
        (5, 1005, True),  # one replaced, padding included
        (12, 1234, False),
    ],
)
def test_a_digit_edit_is_one_replaced_two_swapped_one_removed_or_added(p, q, expected):
    assert geometry.is_digit_edit(p, q, digits=5) is expected


@given(st.integers(0, 9_999), st.integers(0, 9_999))
def test_digit_edits_go_both_ways(p, q):
    assert geometry.is_digit_edit(p, q, digits=5) == geometry.is_digit_edit(q, p, digits=5)


def test_digit_edits_depend_on_the_number_system():
    assert geometry.is_digit_edit(10, 5, digits=4, base=2)  # 1010 without its last digit is 101
    assert not geometry.is_digit_edit(10, 5, digits=4, base=10)
