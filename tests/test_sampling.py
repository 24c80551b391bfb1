"""Which positions the losses see (SeqPE, Sec. 3.4, App. A.2, A.4, A.5)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab.geometry import is_digit_edit
from seqpe_lab.lookalikes import lookalikes
from seqpe_lab.sampling import contrastive_sample, distillation_sample, euclidean, random_shift


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def manhattan(p, q):
    return (p - q).abs().sum(-1)


SEEDS = st.integers(0, 2**32)


@given(
    SEEDS,
    st.sampled_from([1, 2, 3]),
    st.sampled_from([euclidean, manhattan]),
    st.sampled_from([0, 1, 5]),
)
def test_the_label_is_the_argmin_of_delta(seed, dims, distance, hard):
    limit = {1: 5_000, 2: 100, 3: 60}[dims]
    sample = contrastive_sample(
        16, 8, limit, generator=seeded(seed), dims=dims, hard=hard, distance=distance
    )
    gap = distance(sample.pivots.unsqueeze(1), sample.candidates)
    assert torch.equal(gap.gather(1, sample.label.unsqueeze(1)).squeeze(1), gap.min(1).values)


def test_another_distance_function_decides_which_candidate_is_nearest():
    """Rows count a hundred times as much as columns, which changes the nearest candidate."""

    def rows_first(p, q):
        return (100 * (p - q)[..., 0].abs() + (p - q)[..., 1].abs()).float()

    own, plain = (
        contrastive_sample(64, 8, 50, generator=seeded(0), dims=2, hard=0, distance=d)
        for d in (rows_first, euclidean)
    )
    assert torch.equal(own.candidates, plain.candidates) and not torch.equal(own.label, plain.label)
    assert torch.equal(own.label, rows_first(own.pivots.unsqueeze(1), own.candidates).argmin(1))


def test_euclidean_distance_is_delta_in_one_and_two_dimensions():
    assert euclidean(torch.tensor([3]), torch.tensor([10])).item() == 7
    assert euclidean(torch.tensor([0, 0]), torch.tensor([3, 4])).item() == 5


@given(SEEDS, st.sampled_from([1, 2]), st.integers(1, 4))
def test_the_nearest_candidate_is_never_a_lookalike(seed, dims, hard):
    """p+ is one of the m - hard random positions, which come first; all others lie farther away."""
    limit = {1: 10**5, 2: 400}[dims]
    sample = contrastive_sample(
        32, 8, limit, generator=seeded(seed), dims=dims, hard=hard, local=0.0
    )
    gap = euclidean(sample.pivots.unsqueeze(1), sample.candidates)
    assert (sample.label < 8 - hard).all()
    assert (gap[:, -hard:].min(1).values > gap[:, :-hard].min(1).values).all()


SPACES = [  # dims, max_position, candidates, look-alikes
    (1, 20_000, 32, 8),
    (1, 1_500, 32, 8),
    (1, 40, 32, 8),
    (1, 10, 9, 3),
    (2, 100, 32, 8),
    (2, 20, 16, 4),
    (2, (3, 4), 11, 5),
    (3, 7, 32, 8),
]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("local", [0.0, 1.0])
def test_appendix_a2_the_candidates_are_a_set_without_the_pivot(space, local):
    dims, limit, count, hard = space
    sample = contrastive_sample(
        200, count, limit, generator=seeded(0), dims=dims, hard=hard, local=local
    )
    for pivot, row in zip(sample.pivots.tolist(), sample.candidates.tolist()):
        assert len({tuple(position) for position in row}) == count and pivot not in row


@pytest.mark.parametrize("space", SPACES)
def test_all_candidates_as_near_as_the_label_are_tied(space):
    dims, limit, count, hard = space
    sample = contrastive_sample(200, count, limit, generator=seeded(0), dims=dims, hard=hard)
    gap = euclidean(sample.pivots.unsqueeze(1), sample.candidates)
    nearest = gap == gap.min(1, keepdim=True).values
    label = torch.nn.functional.one_hot(sample.label, count).bool()
    assert torch.equal(sample.tied | label, nearest) and not (sample.tied & label).any()
    assert space != (2, 20, 16, 4) or sample.tied.any()  # at the small scale ties do occur


def test_random_candidates_are_uniform_over_all_positions():
    """Repeated draws are replaced, which must not favour any position."""
    sample = contrastive_sample(4_000, 8, 100, generator=seeded(0), hard=0, local=0.0)
    counts = sample.candidates.flatten().bincount(minlength=100)  # 320 expected
    assert counts.min() > 240 and counts.max() < 400


def written(number: int, base: int) -> tuple[int, ...]:
    return (written(number // base, base) if number >= base else ()) + (number % base,)


def edits_by_hand(number: int, limit: int, base: int) -> set[int]:
    """One swap, removal or addition of written digits; removing the only digit leaves 0."""

    def read(digits):
        return sum(d * base**i for i, d in enumerate(reversed(digits)))

    w = written(number, base)
    swapped = {
        read(w[:i] + (w[j],) + w[i + 1 : j] + (w[i],) + w[j + 1 :])
        for j in range(len(w))
        for i in range(j)
    }
    removed = {read(w[:i] + w[i + 1 :]) for i in range(len(w))}
    added = {read(w[:i] + (d,) + w[i:]) for i in range(len(w) + 1) for d in range(base)}
    return {q for q in swapped | removed | added if 0 <= q < limit} - {number}


@given(
    SEEDS,
    st.sampled_from(
        [(2, 2**6), (10, 1_000), (16, 16**3), (3, 3**4), (10, 1_500), (10, 2), (2, 11), (16, 300)]
    ),
)
def test_lookalikes_are_one_swap_removal_or_addition_of_digits_and_never_the_pivot(seed, space):
    """Pivots from all of [0, limit): where adding a digit exceeds it, another edit is drawn."""
    base, limit = space
    pivots = torch.randint(limit, (8, 1), generator=seeded(seed))
    edits = lookalikes(pivots, 6, limit, base=base, generator=seeded(seed + 1))
    assert edits.shape == (8, 6, 1)
    for p, row in zip(pivots[:, 0].tolist(), edits[..., 0].tolist()):
        assert set(row) <= edits_by_hand(p, limit, base)


@pytest.mark.parametrize("limit, base", [(100, 10), (130, 10), (2, 10), (2, 2), (16, 2), (64, 16)])
def test_every_possible_lookalike_is_drawn(limit, base):
    edits = lookalikes(
        torch.arange(limit).unsqueeze(1), 3_000, limit, base=base, generator=seeded(0)
    )
    for p, row in enumerate(edits[..., 0].tolist()):
        assert set(row) == edits_by_hand(p, limit, base)


@pytest.mark.parametrize("pivot, limit", [(11, 100), (0, 2)])
def test_a_pivot_with_one_possible_edit_gets_that_one(pivot, limit):
    """Swapping 11 gives 11 again, and an added digit would exceed the limit, so 1 is left."""
    edits = lookalikes(torch.tensor([[pivot]]), 100, limit, generator=seeded(0))
    assert (edits == 1).all()


@pytest.mark.parametrize("pivot", [-1, 100, 12_345])
def test_a_pivot_beyond_max_position_has_no_lookalikes(pivot):
    with pytest.raises(
        ValueError, match=rf"pivots must lie in \[0, \(100,\)\), got 7..{pivot}|got {pivot}..7"
    ):
        lookalikes(torch.tensor([[7], [pivot]]), 2, 100, generator=seeded(0))


def test_the_kinds_of_edits_are_equally_likely_where_all_are_possible():
    edits = (
        lookalikes(torch.tensor([[12345]]), 6_000, 10**6, generator=seeded(0)).flatten().tolist()
    )
    for length in (4, 5, 6):  # removed, swapped, added
        assert sum(len(str(q)) == length for q in edits) / 6_000 == pytest.approx(1 / 3, abs=0.03)


@given(SEEDS)
def test_lookalikes_change_one_coordinate_and_stay_below_max_position(seed):
    pivots = torch.randint(100, (8, 3), generator=seeded(seed))
    edits = lookalikes(pivots, 6, (100, 150, 120), generator=seeded(seed + 1))
    assert ((edits != pivots.unsqueeze(1)).sum(-1) == 1).all()
    assert (edits >= 0).all() and (edits < torch.tensor([100, 150, 120])).all()


def test_lookalikes_reach_every_dimension():
    pivots = torch.tensor([[12, 345, 6]])
    edits = lookalikes(pivots, 3_000, (100, 400, 10), generator=seeded(0))
    changed = (edits != pivots).squeeze(0).float().mean(0)  # 1/3, however many edits each has
    assert torch.allclose(changed, torch.full((3,), 1 / 3), atol=0.03)


def test_all_three_edits_occur():
    edits = lookalikes(torch.tensor([[12345]]), 200, 10**7, generator=seeded(0)).flatten().tolist()
    lengths = {len(str(q)) for q in edits}
    assert lengths == {4, 5, 6}
    assert all(sorted(str(q)) == list("12345") for q in edits if len(str(q)) == 5)


def test_hard_candidates_of_a_global_set_are_distinct_lookalikes_of_the_pivot():
    """Random positions replace them only where too few edits lie farther away than p+."""
    sample = contrastive_sample(500, 32, 20_000, generator=seeded(0), hard=8, local=0.0)
    complete = 0
    for (p,), row in zip(sample.pivots.tolist(), sample.candidates[..., 0].tolist()):
        random, last = row[:-8], row[-8:]
        nearest = min(abs(p - q) for q in random)
        there = {q for q in edits_by_hand(p, 20_000, 10) if abs(p - q) > nearest} - set(random)
        complete += len(there & set(last)) == min(8, len(there))
    assert complete / 500 > 0.95


def test_a_global_set_without_lookalikes_is_random_in_every_place():
    """The nearest stands anywhere; it would be rare at the end if that were filled from afar."""
    sample = contrastive_sample(
        4_000, 8, 10**6, generator=seeded(0), hard=4, hard_share=0.0, local=0.0
    )
    counts = sample.label.bincount(minlength=8)  # 500 expected
    assert counts.min() > 400 and counts.max() < 600


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_hard_share_is_the_share_of_global_sets_with_lookalikes(share):
    sample = contrastive_sample(
        500, 32, 10**8, generator=seeded(0), hard=8, hard_share=share, local=0.0
    )
    # random positions below 10^8 are digit edits of a pivot only once in a million
    last = sample.candidates[:, -8:, 0].tolist()
    alike = [
        any(is_digit_edit(p, q, digits=9) for q in row)
        for (p,), row in zip(sample.pivots.tolist(), last)
    ]
    assert sum(alike) / len(alike) == pytest.approx(share, abs=0.05)


@given(
    SEEDS,
    st.sampled_from([(1, 300, 256), (1, 5_000, 256), (2, 60, 16), (3, 30, 7)]),
    st.sampled_from([2, 32, 255]),
)
def test_local_candidates_are_distinct_and_lie_in_a_window_of_256(seed, space, candidates):
    dims, limit, side = space
    sample = contrastive_sample(
        16, candidates, limit, generator=seeded(seed), dims=dims, hard=0, local=1.0
    )
    extent = sample.candidates.amax(1) - sample.candidates.amin(1) + 1
    assert (extent <= side).all()
    for pivot, row in zip(sample.pivots.tolist(), sample.candidates.tolist()):
        assert len({tuple(c) for c in row}) == candidates
        assert pivot not in row


@pytest.mark.parametrize("candidates", [256, 300])
def test_a_local_window_grows_to_hold_all_candidates_besides_the_pivot(candidates):
    sample = contrastive_sample(8, candidates, 5_000, generator=seeded(0), hard=0, local=1.0)
    assert int((sample.candidates.amax(1) - sample.candidates.amin(1)).max()) + 1 <= candidates + 1


@given(SEEDS, st.sampled_from([1, 2, 3]), st.floats(0, 1))
def test_positions_stay_below_max_position_and_no_pivot_is_its_own_candidate(seed, dims, local):
    limits = torch.tensor([300, 40, 50][:dims])
    sample = contrastive_sample(
        32, 8, tuple(limits.tolist()), generator=seeded(seed), dims=dims, hard=2, local=local
    )
    for positions in (sample.pivots, sample.candidates):
        assert (positions >= 0).all() and (positions < limits).all()
    assert not (sample.candidates == sample.pivots.unsqueeze(1)).all(-1).any()


def test_pivots_are_uniform_over_all_positions():
    """App. A.4: what matters is how often each position is trained."""
    sample = contrastive_sample(20_000, 2, 400, generator=seeded(0), hard=0)
    counts = sample.pivots.flatten().bincount(minlength=400)
    assert counts.min() > 20 and counts.max() < 90  # 50 expected


@given(
    SEEDS, st.sampled_from([(1, 64, 1_000), (2, (8, 5), (40, 30)), (3, 4, 9)]), st.integers(1, 20)
)
def test_teachers_are_distinct_and_inside_the_training_context(seed, space, teachers):
    dims, shape, limit = space
    sample = distillation_sample(6, teachers, shape, limit, generator=seeded(seed), dims=dims)
    assert (sample.teachers >= 0).all() and (sample.teachers < torch.as_tensor(shape)).all()
    assert all(len({tuple(p) for p in row}) == teachers for row in sample.teachers.tolist())


@given(SEEDS, st.sampled_from([(1, 64, 1_000), (2, (8, 5), (40, 30)), (3, 4, 9)]))
def test_students_are_the_teachers_shifted_by_one_z_below_max_position(seed, space):
    dims, shape, limit = space
    sample = distillation_sample(6, 4, shape, limit, generator=seeded(seed), dims=dims)
    z = sample.students - sample.teachers
    assert (z == z[:, :1]).all() and (z >= 0).all()
    assert (sample.students < torch.as_tensor(limit)).all()


def test_the_shift_reaches_both_ends_of_its_range():
    shifts = {int(random_shift(6, 10, generator=seeded(i))) for i in range(100)}
    assert shifts == {0, 1, 2, 3, 4}  # z + 6 <= 10
    z = (s := distillation_sample(500, 2, 6, 16, generator=seeded(0))).students - s.teachers
    assert set(z.flatten().tolist()) == {6, 7, 8, 9, 10}  # z >= 6 and z + 6 <= 16


@given(
    SEEDS, st.sampled_from([(1, (32,), (160,)), (2, (6, 6), (20, 20)), (3, (4, 2, 3), (9, 9, 9))])
)
def test_section_3_4_students_lie_outside_the_training_context(seed, space):
    dims, shape, limit = space
    sample = distillation_sample(64, 6, shape, limit, generator=seeded(seed), dims=dims)
    z = (sample.students - sample.teachers)[:, 0]
    assert (z >= torch.tensor(shape)).any(1).all()
    assert not (sample.students < torch.tensor(shape)).all(-1).any()


def test_all_shifts_out_of_the_training_context_are_equally_likely():
    sample = distillation_sample(20_000, 2, (3, 2), (6, 5), generator=seeded(0), dims=2)
    z = (sample.students - sample.teachers)[:, 0]  # rows 0..3, columns 0..3
    counts = (z[:, 0] * 4 + z[:, 1]).bincount(minlength=16).view(4, 4)
    assert counts[:3, :2].sum() == 0  # these would leave students inside
    allowed = torch.cat([counts[:3, 2:].flatten(), counts[3]])  # 10 shifts, 2,000 each
    assert allowed.min() > 1_800 and allowed.max() < 2_200


def test_smaller_shifts_can_be_allowed():
    """The authors' code for text shifts by at least a quarter of the training context."""
    sample = distillation_sample(2_000, 2, 16, 40, generator=seeded(0), smallest_shift=0.25)
    z = (sample.students - sample.teachers).flatten().tolist()
    assert set(z) == set(range(4, 25))


def test_a_max_position_without_room_for_students_is_refused():
    with pytest.raises(ValueError, match=r"below max_position \(31,\): raise `max_position`"):
        distillation_sample(2, 2, 16, 31, generator=seeded(0))


def test_a_shift_has_one_coordinate_a_dimension():
    assert random_shift((4, 5, 6), (10, 20, 30), generator=seeded(0), dims=3).shape == (3,)


def test_the_same_seed_gives_the_same_sample_and_another_seed_another():
    def draw(seed):
        generator = seeded(seed)
        return [
            *contrastive_sample(8, 8, 400, generator=generator, hard=2),
            *distillation_sample(4, 4, 32, 400, generator=generator),
            random_shift(32, 400, generator=generator),
        ]

    assert all(torch.equal(a, b) for a, b in zip(draw(0), draw(0)))
    assert not all(torch.equal(a, b) for a, b in zip(draw(0), draw(1)))


def test_sampling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    contrastive_sample(8, 8, 400, generator=seeded(0), hard=2)
    distillation_sample(4, 4, 32, 400, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
