"""What notebooks call: start, check, train, show."""

import math

import numpy as np
import pytest
import torch

from seqpe_lab import devices, recipes
from seqpe_lab.course import lesson
from seqpe_lab.runs import runs_folder

TINY = dict(
    d_model=16,
    layers=1,
    heads=2,
    train_len=16,
    max_position=64,
    steps=2,
    pivots=4,
    candidates=4,
    hard=1,
    distillation_batch=2,
    teachers=4,
    eval_lens=(16,),
    eval_tokens=64,
)

TINY_IMAGES = dict(
    d_model=16,
    layers=1,
    image_size=8,
    max_position=10,
    steps=2,
    pivots=4,
    candidates=4,
    hard=1,
    distillation_batch=2,
    teachers=4,
    eval_sizes=(8,),
    eval_images=10,
)


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setenv("SEQPE_SCALE", "smoke")
    monkeypatch.delenv("SEQPE_FIGURES", raising=False)
    return lesson.start("05 The contrastive loss", seed=3)


def test_start_says_scale_seed_and_device_and_warns_at_smoke(monkeypatch, capsys):
    monkeypatch.setenv("SEQPE_SCALE", "smoke")
    lesson.start("05 The contrastive loss", seed=3)
    printed = capsys.readouterr().out
    for part in (
        "05 The contrastive loss",
        "scale smoke",
        "seed 3",
        "threads",
        f"torch {torch.__version__}",
        "nothing is learnt",
    ):
        assert part in printed
    monkeypatch.setenv("SEQPE_SCALE", "small")
    lesson.start("05 The contrastive loss")
    assert "nothing is learnt" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "cores, most, threads", [(1, None, 1), (2, None, 1), (8, None, 7), (64, 4, 4)]
)
def test_a_core_is_left_to_other_processes(cores, most, threads, monkeypatch):
    chosen = []
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "cores_per_process", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    devices.leave_a_core(most)
    assert chosen == [threads]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # is obeyed
    devices.leave_a_core(most)
    assert chosen == [threads]


def test_start_fixes_the_seed(lab):
    first = torch.rand(3)
    lesson.start("again", seed=3)
    assert torch.equal(torch.rand(3), first)


def test_a_scale_that_is_none_is_refused_with_the_choices(monkeypatch):
    monkeypatch.setenv("SEQPE_SCALE", "huge")
    with pytest.raises(ValueError, match="SEQPE_SCALE='huge'.*smoke, small, medium, full"):
        lesson.start("any")


@pytest.mark.parametrize(
    "seen, printed",
    [
        (True, "✓ in this run: the loss falls\n"),
        (torch.tensor(True), "✓ in this run: the loss falls\n"),
        (torch.tensor(False), "✗ not in this run: the loss falls\n"),
    ],
)
def test_what_a_training_does_not_show_is_said_and_stops_nothing(seen, printed, capsys):
    lesson.Lesson("any", "small", 0).expect("the loss falls", seen)
    assert capsys.readouterr().out == printed


def test_nothing_is_expected_at_smoke_scale_but_a_truth_value(lab, capsys):
    capsys.readouterr()
    lab.expect("the loss falls", False)
    assert capsys.readouterr().out == ""
    with pytest.raises(RuntimeError, match="ambiguous"):
        lab.expect("all losses fall", torch.tensor([True, False]))


@pytest.mark.parametrize(
    "scale, expected", [("smoke", 5), ("small", 300), ("medium", 300), ("full", 300)]
)
def test_a_larger_scale_takes_the_largest_value_given(scale, expected):
    assert lesson.Lesson("any", scale, 0).at_scale(smoke=5, small=300) == expected


def test_at_scale_refuses_values_for_larger_scales_only(lab):
    with pytest.raises(ValueError, match="no value for scale 'smoke' or below: give smoke="):
        lab.at_scale(small=3)


def test_recipes_have_the_lesson_s_scale_and_seed(lab):
    recipe = lab.recipe("alibi", steps=7)
    assert (recipe.scale, recipe.seed, recipe.method, recipe.steps) == ("smoke", 3, "alibi", 7)


def test_training_happens_once_and_the_run_is_found_again(lab, capsys):
    run = lab.train("seqpe", **TINY)
    assert run.state == "finished" and runs_folder() in run.folder.parents
    assert "seqpe: training 2 steps of 8 x 16 tokens" in capsys.readouterr().out
    assert lab.train("seqpe", **TINY).folder == run.folder
    assert f"seqpe: finished run {run.folder.name}" in capsys.readouterr().out
    model = lab.model(run)
    assert not model.training and model(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 256)


def test_images_are_trained_once_and_found_again_too(lab, capsys):
    recipe = lab.image_recipe("rope-axial", steps=7)
    assert (recipe.scale, recipe.seed, recipe.method, recipe.steps) == ("smoke", 3, "rope-axial", 7)
    run = lab.train_images("seqpe-mul", **TINY_IMAGES)
    assert run.state == "finished" and runs_folder() in run.folder.parents
    assert "seqpe-mul: training 2 steps of 16 x 8 x 8 pixels" in capsys.readouterr().out
    assert lab.train_images("seqpe-mul", **TINY_IMAGES).folder == run.folder
    assert f"seqpe-mul: finished run {run.folder.name}" in capsys.readouterr().out
    model = lab.model(run)
    assert not model.training and model(torch.zeros(1, 1, 12, 16)).shape == (1, 10)


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({}, True),
        (dict(alpha=0.2), True),
        (dict(steps=3), False),
        (dict(batch=16), False),
        (dict(d_model=64), False),
        (dict(layers=1), False),
        (dict(train_len=16), False),
    ],
)
def test_the_scale_s_time_is_promised_only_for_the_scale_s_amount_of_work(
    lab, capsys, monkeypatch, overrides, said
):
    monkeypatch.setattr(lesson, "train", lambda recipe, data: None)
    monkeypatch.setattr(lesson.Run, "state", "new")
    lab.train("seqpe", **overrides)
    about = recipes.about("lm", "smoke")
    assert (f"({about.time} with SeqPE, on {about.hardware})" in capsys.readouterr().out) is said


def test_text_and_images_are_loaded_once(lab):
    assert lab.text() is lab.text() is lab.data(lab.recipe("seqpe"))
    assert lab.images() is lab.images() is lab.data(lab.image_recipe("none"))


# --- check --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mine, reference",
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])),
        (3, 3.0),
        (np.eye(2), torch.eye(2)),
        (True, True),
        (torch.zeros(0), torch.zeros(0)),
        (torch.tensor([-math.inf, 1.0]), torch.tensor([-math.inf, 1.0])),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        ([1, 2], torch.tensor([1, 2])),
    ],
)
def test_check_accepts_what_agrees(mine, reference, capsys):
    lesson.check(mine, reference, "claim")
    assert capsys.readouterr().out.startswith("✓ claim")


@pytest.mark.parametrize(
    "mine, reference, message",
    [
        (
            torch.tensor([1.0, 2.0]),
            torch.tensor([1.0, 2.1]),
            "largest difference 1.0e-01, allowed 1e-05",
        ),
        (torch.ones(2), torch.ones(3), r"shape \(2,\), expected \(3,\)"),
        (torch.ones(1), torch.tensor(1.0), "shape"),
        (torch.tensor([math.nan]), torch.tensor([math.nan]), "nan"),
        (torch.tensor([math.nan]), torch.tensor([1.0]), "nan"),
        (torch.tensor([math.inf]), torch.tensor([-math.inf]), "inf"),
        (torch.tensor([math.inf]), torch.tensor([1.0]), "inf"),
        (None, 1.0, "still returns None"),
    ],
)
def test_check_refuses_what_does_not(mine, reference, message):
    with pytest.raises(AssertionError, match=f"✗ claim: .*{message}"):
        lesson.check(mine, reference, "claim")


# --- tables and figures -------------------------------------------------------------------------


def test_a_table_names_its_rows_and_columns():
    table = lesson.tensor_table(
        torch.tensor([[1.0, -2.5], [10.0, 0.0]]),
        rows=["i=0", "i=10"],
        columns=["j=0", "j=1"],
        digits=1,
    )
    assert [line.split() for line in table.splitlines()] == [
        ["j=0", "j=1"],
        ["i=0", "1.0", "-2.5"],
        ["i=10", "10.0", "0.0"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1  # aligned


def test_a_table_of_whole_numbers_shows_them_whole():
    assert lesson.tensor_table(torch.tensor([[1, 20]])).split() == ["0", "1", "0", "1", "20"]


def test_a_figure_is_shown_as_it_is_and_published_when_asked(lab, tmp_path, monkeypatch):
    from seqpe_lab.course import figures

    figure = figures.heatmap(np.eye(2), title="a claim")
    assert lab.show(figure, "similarity") is figure
    monkeypatch.setenv("SEQPE_FIGURES", str(tmp_path))

    def fail(self, *arguments, **options):
        raise RuntimeError("no browser")

    monkeypatch.setattr(type(figure), "write_image", fail)
    lab.show(figure, "similarity")
    assert {path.name for path in tmp_path.iterdir()} >= {
        "05-similarity.html",
        "05-similarity.json",
    }
