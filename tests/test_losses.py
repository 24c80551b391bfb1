"""The two regularisers, checked by hand (SeqPE, Eq. 9 and 10, App. A.3)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab.losses import contrastive_loss, distillation_loss


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def softmax(row):
    return [math.exp(v) / sum(map(math.exp, row)) for v in row]


def random_vectors(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_eq_9_by_hand_with_two_pivots_and_two_candidates():
    pivots = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    candidates = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0], [2.0, 0.0]]])
    # dot products: (2, 0) and (2.5, 1); p+ is the first candidate of the first pivot, the second of
    # the second
    expected = (-math.log(softmax([2, 0])[0]) - math.log(softmax([2.5, 1])[1])) / 2
    assert contrastive_loss(pivots, candidates, torch.tensor([0, 1])).item() == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("m", [2, 8, 32])
def test_eq_9_of_vectors_that_know_nothing_is_log_m(m):
    loss = contrastive_loss(torch.ones(3, 4), torch.ones(3, m, 4), torch.zeros(3, dtype=torch.long))
    assert loss.item() == pytest.approx(math.log(m), abs=1e-6)


def test_eq_9_pulls_the_nearest_candidate_and_pushes_the_others():
    pivot = torch.tensor([[1.0, 0.0]])
    candidates = torch.zeros(1, 3, 2, requires_grad=True)
    contrastive_loss(pivot, candidates, torch.tensor([1])).backward()
    along_pivot = candidates.grad[0, :, 0]
    assert (
        along_pivot[1] < 0 < along_pivot[0] and along_pivot[2] > 0
    )  # descent goes against the gradient


def test_eq_9_averages_over_pivots():
    pivots, candidates, label = (
        random_vectors(0, 5, 8),
        random_vectors(1, 5, 6, 8),
        torch.tensor([0, 5, 2, 2, 1]),
    )
    each = [
        contrastive_loss(pivots[i : i + 1], candidates[i : i + 1], label[i : i + 1])
        for i in range(5)
    ]
    torch.testing.assert_close(
        contrastive_loss(pivots, candidates, label), torch.stack(each).mean()
    )


def test_eq_10_by_hand_on_a_2_by_2_matrix():
    teachers = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    students = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    p = [softmax([1, 0]), softmax([0, 4])]  # rows of e_i . e_j
    s = [softmax([2, 1]), softmax([1, 1])]
    expected = (kl(p[0], s[0]) + kl(p[1], s[1])) / 2
    assert distillation_loss(teachers, students).item() == pytest.approx(expected, abs=1e-6)


def test_eq_10_as_published_is_kl_both_ways_over_all_elements():
    teachers, students = (
        torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]),
    )
    p, s = [softmax([1, 0]), softmax([0, 4])], [softmax([2, 1]), softmax([1, 1])]
    expected = sum(kl(a, b) + kl(b, a) for a, b in zip(p, s)) / 4  # 2 x 2 elements
    assert distillation_loss(teachers, students, form="published").item() == pytest.approx(
        expected, abs=1e-6
    )


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_one_direction_of_the_published_form_is_the_paper_s_over_m(m, seed):
    teachers, students = random_vectors(seed, 3, m, 8), random_vectors(seed + 1, 3, m, 8)
    there, back = distillation_loss(teachers, students, 2), distillation_loss(students, teachers, 2)
    published = distillation_loss(teachers, students, 2, form="published")
    torch.testing.assert_close(published, (there + back) / m)


@pytest.mark.parametrize("form", ["paper", "published"])
def test_eq_10_stops_the_gradient_at_the_teachers(form):
    teachers, students = (random_vectors(i, 2, 3, 4).requires_grad_() for i in range(2))
    distillation_loss(teachers, students, form=form).backward()
    assert teachers.grad is None
    assert students.grad.abs().sum() > 0


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
def test_eq_10_is_never_negative_and_zero_for_students_like_their_teachers(seed, heads):
    teachers, students = random_vectors(seed, 2, 5, 8), random_vectors(seed + 1, 2, 5, 8)
    assert distillation_loss(teachers, students, heads).item() > 0
    assert distillation_loss(teachers, teachers.clone(), heads).item() == pytest.approx(0, abs=1e-6)


def test_eq_10_compares_relations_so_a_common_rotation_of_the_students_costs_nothing():
    teachers = random_vectors(0, 2, 5, 8)
    rotation = torch.linalg.qr(random_vectors(1, 8, 8)).Q
    assert distillation_loss(teachers, teachers @ rotation).item() == pytest.approx(0, abs=1e-5)


def test_appendix_a3_the_heads_are_compared_one_by_one_and_averaged():
    teachers, students = random_vectors(0, 2, 5, 8), random_vectors(1, 2, 5, 8)
    each = [distillation_loss(t, s) for t, s in zip(teachers.chunk(4, -1), students.chunk(4, -1))]
    torch.testing.assert_close(
        distillation_loss(teachers, students, heads=4), torch.stack(each).mean()
    )


def test_section_3_4_collapse_satisfies_eq_10_and_is_punished_by_eq_9():
    """e_{p+z} = e_p makes L_OOD vanish; L_delta cannot tell p+z from p+1, and is at least log 2."""
    vectors = random_vectors(0, 4, 16)
    assert distillation_loss(vectors.unsqueeze(0), vectors.unsqueeze(0)).item() == pytest.approx(
        0, abs=1e-6
    )
    pivot = vectors[0]
    near_and_shifted = torch.stack(
        [vectors[0] * 0.9, vectors[0]]
    )  # p+1 resembles p, but p+z is p itself
    collapsed = contrastive_loss(
        pivot.unsqueeze(0), near_and_shifted.unsqueeze(0), torch.tensor([0])
    )
    assert collapsed.item() > math.log(2)


def test_eq_9_leaves_out_what_is_as_near_as_the_label():
    """It is the same as a set without the tied candidate, which gets no gradient."""
    pivots, candidates = random_vectors(0, 2, 8), random_vectors(1, 2, 5, 8).requires_grad_()
    label, tied = torch.tensor([1, 0]), torch.zeros(2, 5, dtype=torch.bool)
    tied[:, 3] = True
    loss = contrastive_loss(pivots, candidates, label, tied)
    without = contrastive_loss(pivots, candidates[:, [0, 1, 2, 4]], label)
    torch.testing.assert_close(loss, without)
    loss.backward()
    assert (candidates.grad[:, 3] == 0).all() and (candidates.grad[:, 4] != 0).any()


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_both_losses_are_float32_under_autocast(given):
    """Vectors as large as a trained encoder's: e.e' is about 450, where bfloat16's step is 2."""
    base = random_vectors(0, 4, 1, 64)
    near = 2.65 * (base + 0.01 * random_vectors(1, 4, 6, 64)).to(given)
    pivots, label = near[:, 0], torch.tensor([1, 2, 3, 4])
    plain = (
        contrastive_loss(pivots, near, label).double(),
        distillation_loss(near, near.flip(1), 2).double(),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = contrastive_loss(pivots, near, label), distillation_loss(near, near.flip(1), 2)
    assert all(loss.dtype == torch.float32 for loss in mixed)
    assert [m.item() for m in mixed] == pytest.approx([p.item() for p in plain], rel=1e-6)
