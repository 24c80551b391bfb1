"""Which positions a training sequence gets, as one option of any encoding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.objective import Objective, build_model, main_positions
from seqpe_lab.position_sampling import WAYS, sampled_positions
from seqpe_lab.recipes import image_model, language_model
from seqpe_lab.recipes.base import WITHOUT_POSITIONS
from seqpe_lab.report_card.toy_model import texts, toy_model
from seqpe_lab.sampling import seeded, training_positions
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.perplexity import perplexity, token_nats


def draw(way, batch=50, shape=6, limit=40, **options):
    return sampled_positions(way, batch, shape, limit, generator=seeded(0, 0, 0), **options)


def test_consecutive_and_shift_are_the_paper_s():
    for way in ("consecutive", "shift"):
        for share in (0.0, 0.5, 1.0):
            expected = training_positions(50, 6, 40, generator=seeded(0, 0, 0), shifted=share)
            assert torch.equal(draw(way, shifted=share), expected)


@given(st.integers(1, 12), st.integers(0, 30))
def test_random_positions_are_a_sorted_subset_of_all(size, more):
    positions = draw("random", shape=size, limit=max(2, size + more))[..., 0]
    assert positions.shape == (50, size)
    assert positions.min() >= 0 and positions.max() < max(2, size + more)
    assert (positions.diff(dim=1) > 0).all()


def test_random_positions_cover_everything_evenly():
    counts = draw("random", batch=4_000).flatten().bincount(minlength=40)
    assert len(counts) == 40 and (counts / 4_000 - 6 / 40).abs().max() < 0.03


@given(st.integers(1, 12), st.integers(0, 30))
def test_skips_are_one_jump_at_most_and_start_at_0(size, more):
    limit = max(2, size + more)
    positions = draw("skips", shape=size, limit=limit)[..., 0]
    steps = positions.diff(dim=1)
    assert (positions[:, 0] == 0).all() and positions.max() < limit
    assert ((steps > 1).sum(1) <= 1).all() and (steps >= 1).all()


def test_skips_cut_everywhere_and_reach_the_last_position():
    steps = draw("skips", batch=4_000)[..., 0].diff(dim=1) > 1
    assert (steps.float().mean(0) - 34 / 35 / 5).abs().max() < 0.03
    assert draw("skips", batch=4_000).max() == 39


@pytest.mark.parametrize("way", ["random", "skips"])
def test_a_grid_has_rows_and_columns_of_its_own(way):
    positions = draw(way, shape=(3, 4), limit=(20, 30)).unflatten(1, (3, 4))
    assert torch.equal(positions[..., 0], positions[:, :, :1, 0].expand(-1, -1, 4))
    assert torch.equal(positions[..., 1], positions[:, :1, :, 1].expand(-1, 3, -1))
    assert positions[..., 0].max() < 20 and 20 <= positions[..., 1].max() < 30
    assert len(positions[:, :, 0, 0].unique(dim=0)) > 10  # each image its own


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["t5", "rope", "seqpe"])
def test_an_option_of_any_encoding(method, way):
    if (method, way) == ("seqpe", "shift"):
        return  # refused, below
    recipe = language_model(method, "smoke", position_sampling=way)
    assert recipe.shifted == (
        0.1 if way == "shift" or (method, way) == ("seqpe", "consecutive") else 0.0
    )
    positions = main_positions(
        recipe.changed(shifted=0.5 if way == "shift" else recipe.shifted), seeded(0, 1, 2)
    )
    own = way in ("random", "skips", "shift")
    assert (positions.max() >= recipe.train_len) == own or method == "seqpe"
    objective = Objective(build_model(recipe, 256), recipe)
    loss = objective(torch.zeros(8, recipe.train_len + 1, dtype=torch.long), step=0)["loss"]
    loss.backward()
    assert loss.isfinite()


def test_images_too_and_the_digest_of_recipes_stays():
    assert image_model("swin", "smoke", position_sampling="random").shifted == 0.0
    plain = language_model("rope-1e4", "smoke")
    assert plain.digest() == plain.changed(position_sampling="consecutive").digest()
    assert plain.digest() != plain.changed(position_sampling="skips").digest()


REFUSED = [
    (lambda: draw("sorted"), "unknown way 'sorted' to sample positions: choose from consecutive"),
    (lambda: draw("random", shape=50), r"\(50,\) is beyond max_position \(40,\): raise"),
    (
        lambda: language_model("seqpe", "smoke", position_sampling="skips", shifted=0.5),
        "shifted=0.5 has no effect with encoding 'seqpe' and position_sampling='skips': leave it",
    ),
    (
        lambda: language_model("seqpe", "smoke").changed(position_sampling="skips"),
        "shifted=0.1 has no effect with position_sampling='skips': set it to 0",
    ),
    (
        lambda: language_model("seqpe", "smoke", position_sampling="shift"),
        "shifted starts that SeqPE has anyway",
    ),
    (
        lambda: language_model("rope", "smoke", position_sampling="shift", shifted=0.0),
        "and shifted above 0",
    ),
    (
        lambda: language_model("learned", "smoke", position_sampling="random"),
        "a learned table has only the trained positions",
    ),
    (lambda: language_model("rope", "smoke", position_sampling="all"), "position_sampling 'all'"),
    *(
        (
            lambda name=name: language_model(name, "smoke", position_sampling="skips"),
            f"position_sampling='skips' has no effect with encoding '{name}', which reads no",
        )
        for name in ("none", "fox", "cope")
    ),
    *(
        (
            lambda field=field: language_model("alibi", "smoke", **{field: 0.5}),
            f"{field}=0.5 has no effect with encoding 'alibi' and position_sampling='consecutive'",
        )
        for field in ("alpha", "beta", "shifted")
    ),
]


@pytest.mark.parametrize("ask, message", REFUSED, ids=[message for _, message in REFUSED])
def test_what_has_no_effect_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_encodings_that_read_no_positions_are_those_that_are_named():
    """Of each encoding: does the loss of a batch change with the positions?"""
    deaf = set()
    for name in ENCODINGS:
        model = toy_model(name)
        skips = draw("skips", batch=1, shape=8, limit=15)[0]
        if torch.equal(model(texts(length=8), positions=skips), model(texts(length=8))):
            deaf.add(name)
    assert deaf == set(WITHOUT_POSITIONS)


def test_a_model_of_random_positions_is_evaluated_on_random_positions(tiny_recipe, tiny_data):
    recipe = tiny_recipe("sinusoidal", position_sampling="random", shifted=0.0, max_position=400)
    task, length = task_of(recipe), recipe.eval_lens[-1]
    positions = task.positions(length)
    assert positions.shape == (length, 1) and (positions.diff(dim=0) > 0).all()
    assert length <= positions.max() < 400 and torch.equal(positions, task.positions(length))
    consecutive = task_of(recipe.changed(position_sampling="consecutive"))
    assert consecutive.positions(length) is None
    model = build_model(recipe, tiny_data.vocab_size)
    ours, theirs = (t.evaluate(model, tiny_data)["perplexity"] for t in (task, consecutive))
    assert all(ours[size] != theirs[size] for size in ours)
    tokens = tiny_data.test[: recipe.eval_lens[0] + 1]
    expected = model(tokens[None, :-1], positions=task.positions(len(tokens) - 1))
    nats = torch.nn.functional.cross_entropy(expected[0], tokens[1:].long()).item()
    found = perplexity(model, tokens, len(tokens) - 1, positions=task.positions)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    whole = token_nats(model, tokens, len(tokens) - 1, positions=task.positions)
    assert whole.mean().item() == pytest.approx(nats, rel=1e-5)
