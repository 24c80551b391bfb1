"""The benchmarks and the medium runs at tiny size: what they compute, not how fast."""

import contextlib
import json
import tarfile

import numpy as np
import pytest
import torch

from benchmarks import encodings, generation, medium, plain
from seqpe_lab.runs import Run

TINY = [
    "--device",
    "cpu",
    "--d-model",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--vocabulary",
    "32",
    "--batch",
    "2",
    "--train-len",
    "32",
    "--length",
    "40",
    "--plain-length",
    "24",
    "--steps",
    "1",
    "--matrix",
    "64",
    "--repeats",
    "1",
    "--threads",
    "1",
]


# --- encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", encodings.PLAIN)
def test_the_plain_form_gives_the_same_logits(method):
    options = encodings.read_options(TINY)
    ours, plainly = (
        encodings.make("evaluation", method, options, 24, side, compared=True)()
        for side in (False, True)
    )
    assert ours.shape == (1, 24, 32)
    torch.testing.assert_close(ours, plainly, atol=1e-5, rtol=0)


def test_the_plain_bias_of_alibi_is_equation_5(tiny_model):
    bias = plain.alibi_bias(
        tiny_model("alibi"), 5
    )  # d_head is 8, slopes of 2 heads are 1/16 and 1/256
    assert bias.shape == (2, 5, 5)
    assert float(bias[0, 4, 1]) == pytest.approx(-3 / 16 * 8**0.5) and float(bias[1, 2, 2]) == 0


def test_the_plain_training_step_is_the_library_s():
    options = encodings.read_options(TINY)
    recipe = encodings.recipe_of("seqpe", options, dropout=0.0, shifted=0.0)
    from seqpe_lab.sampling import seeded
    from seqpe_lab.training import Objective, build_model

    model = build_model(recipe, 32)
    tokens = torch.randint(32, (2, 33), generator=torch.Generator().manual_seed(0))
    ours = Objective(model, recipe)(tokens, 3)
    for name, value in plain.training_losses(model, recipe, tokens, seeded(0, 3, stream=2)).items():
        torch.testing.assert_close(value, ours[name], atol=1e-4, rtol=1e-5)


def test_one_run_gives_one_table_with_every_ratio(monkeypatch, tmp_path, capsys):
    asked = []

    def memory(kind, method, options, length=0, plainly=False):  # a process each, else
        asked.append((kind, method, plainly))
        return 2e6 if plainly else 1.2e6 if method == "alibi" else 1e6

    monkeypatch.setattr(encodings, "memory", memory)
    with pytest.raises(SystemExit) as left:
        encodings.main(
            [*TINY, "--methods", "alibi", "seqpe", "--json", str(tmp_path / "numbers.json")]
        )
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "not judged here" in printed and "out of memory" not in printed
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (
        list(numbers["methods"]) == ["none", "alibi", "seqpe"]
        and numbers["bars_met"] == []
        and numbers["versions"]["torch"]
    )
    seqpe = numbers["methods"]["seqpe"]
    assert (
        seqpe["step"]["ratio"]["median"] > 0
        and seqpe["share"] > 0
        and seqpe["tokens_per_s"] == pytest.approx(64 / seqpe["step"]["s"]["median"])
    )
    assert (
        set(seqpe["plain"])
        == {"length", "difference", "evaluation_time", "evaluation_memory", "step_time"}
        and seqpe["plain"]["evaluation_memory"] == 2
    )
    rows = [
        line.split()
        for line in printed.splitlines()
        if line.split()[:1] in (["alibi"], ["seqpe"]) and "%" in line
    ]
    assert len(rows) == 2 and rows[0][6] == "1.20"
    assert {kind for kind, _, _ in asked} == {"training", "evaluation"}


def test_on_a_cpu_the_memory_of_a_case_is_measured_in_a_process_of_its_own():
    assert (
        encodings.memory(
            "evaluation", "alibi", encodings.read_options(TINY), length=24, plainly=True
        )
        > 0
    )


def test_operations_count_each_parameter_six_times_and_causal_attention():
    options = encodings.read_options(TINY)
    parameters = (
        32 * 16 + 4 * 16 + 2 * 16 + 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 64 + 64 + 16
    )  # embeddings; two norms; the last norm; attention; its output; the wide layers
    assert encodings.operations_a_token(options) == 6 * parameters + 6 * 1 * 16 * 32


@pytest.mark.parametrize(
    "step, share, slower, larger, met",
    [(1.1, 0.4, 1.3, 1.3, 4), (1.11, 0.39, 1.31, 1.31, 0), (1.0, 0.5, 1.4, 1.0, 3)],
)
def test_the_bars_are_the_stated_ones(step, share, slower, larger, met):
    ratio = lambda value: {"median": value, "min": value, "max": value}  # noqa: E731
    seqpe = {
        "step": {"ratio": ratio(step)},
        "share": share,
        "tokens_per_s": 1.0,
        "evaluation": {"ratio": ratio(slower)},
        "evaluation_bytes": larger,
    }
    result = {
        "device": "cuda",
        "sizes": {"length": 16_384},
        "methods": {"none": {"evaluation_bytes": 1.0}, "seqpe": seqpe},
    }
    assert sum(encodings.verdicts(result)) == met
    assert encodings.verdicts(result | {"device": "cpu"}) == []


def test_defaults_are_gpt2_small_where_there_is_a_gpu():
    options = encodings.read_options(["--device", "cuda"])
    assert (
        options.d_model,
        options.layers,
        options.heads,
        options.vocabulary,
        options.batch,
        options.train_len,
        options.length,
    ) == (768, 12, 12, 50_257, 32, 512, 16_384)
    assert (
        encodings.recipe_of("seqpe", options).alpha
        == encodings.recipe_of("seqpe", options).beta
        == 0.1
    )


# --- prepared data -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared_text(text_file, tmp_path_factory):
    return medium.prepare("lm", str(text_file), "bpe:300", tmp_path_factory.mktemp("prepared"))


def test_prepared_text_is_the_text(text_file, prepared_text):
    from seqpe_lab.tasks.base import SPLITS
    from seqpe_lab.tasks.text_data import load_text

    ours, theirs = medium.load("lm", str(prepared_text)), load_text(str(text_file), "bpe:300")
    for split in SPLITS:
        assert torch.equal(getattr(ours, split), getattr(theirs, split))
    assert (ours.hash, ours.vocab_size, ours.characters, ours.overlap) == (
        theirs.hash,
        theirs.vocab_size,
        theirs.characters,
        theirs.overlap,
    )
    assert (
        ours.provenance()["source"] == "text.txt" and ours.provenance()["tokenizer"] == "bpe:300"
    )  # no path of a machine


def test_a_part_of_the_text_says_so_and_has_another_hash(text_file, tmp_path):
    whole, part = (
        medium.load(
            "lm", str(medium.prepare("lm", str(text_file), "bytes", tmp_path / str(keep), keep))
        )
        for keep in (0, 1_000)
    )
    assert (
        len(part.train) == 1_000
        and torch.equal(part.train, whole.train[:1_000])
        and torch.equal(part.test, whole.test)
    )
    assert part.hash != whole.hash and "the first 1,000 tokens" in part.description


def test_prepared_images_are_the_images(colour_folder, colours, tmp_path):
    ours = medium.load("image", str(medium.prepare("image", str(colour_folder), "", tmp_path)))
    for split in ("train", "validation", "test"):
        a, b = getattr(ours, split), getattr(colours, split)
        assert (
            len(a) == len(b)
            and torch.equal(a.labels, b.labels)
            and all(torch.equal(a[i], b[i]) for i in range(len(a)))
        )
    assert (ours.hash, ours.classes, ours.mean, ours.channels) == (
        colours.hash,
        colours.classes,
        colours.mean,
        colours.channels,
    )
    few = medium.load(
        "image", str(medium.prepare("image", str(colour_folder), "", tmp_path / "few", keep=10))
    )
    assert (
        len(few.train) == 10
        and len(few.test) == len(ours.test)
        and few.hash != ours.hash
        and "10 training images" in few.description
    )


def test_a_file_that_is_too_large_is_not_written(text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(medium, "LARGEST", 1e-3)
    with pytest.raises(
        ValueError, match=r"more than 0.001: pass --keep with fewer training tokens than"
    ):
        medium.prepare("lm", str(text_file), "bytes", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(prepared_text, tmp_path):
    with pytest.raises(ValueError, match="is no file prepared for image .*make it with --prepare"):
        medium.load("image", str(prepared_text))
    np.savez(tmp_path / "evil.npz", about=np.array([object()], dtype=object))
    (tmp_path / "broken.npz").write_bytes(prepared_text.read_bytes()[:500])
    for name in ("evil", "broken", "missing"):
        with pytest.raises(ValueError, match=f"{name}.npz is no file prepared for lm"):
            medium.load("lm", str(tmp_path / f"{name}.npz"))


# --- medium runs -------------------------------------------------------------------------------

SMALL = dict(
    d_model=16,
    layers=1,
    heads=2,
    train_len=16,
    max_position=64,
    batch=4,
    micro_batch=4,
    pivots=4,
    candidates=4,
    hard=1,
    distillation_batch=2,
    teachers=4,
    dropout=0.0,
    log_every=1,
    eval_lens=[16, 32],
    eval_tokens=64,
)


def command(prepared, folder, *more, **changes):
    return [
        "lm",
        "--source",
        str(prepared),
        "--runs",
        str(folder),
        "--cpu",
        "--steps",
        "12",
        *more,
        "--set",
        *(f"{name}={json.dumps(value)}" for name, value in (SMALL | changes).items()),
    ]


@pytest.fixture
def no_calibration(monkeypatch):
    monkeypatch.setattr(
        medium, "seconds_a_step", lambda *arguments: 20.0
    )  # so a checkpoint every third of a minute's steps


def test_the_runs_go_on_slice_by_slice_and_end_as_if_there_had_been_none(
    prepared_text, tmp_path, no_calibration, monkeypatch, capsys
):
    whole, sliced = tmp_path / "whole", tmp_path / "sliced"
    methods = ["--methods", "seqpe", "alibi"]
    assert medium.main(command(prepared_text, whole, *methods, "--keep-checkpoints")) == 0
    capsys.readouterr()

    real, stops = medium.until, []

    def at_the_first_checkpoint(deadline, recipe, plan):  # the clock says so, once a call
        watch = real(float("inf"), recipe, plan)

        def stop(done, model):
            watch(done, model)
            if done == recipe.checkpoint_every + 1 and not stops:
                stops.append(done)
                raise medium._Enough

        return stop

    monkeypatch.setattr(medium, "until", at_the_first_checkpoint)
    assert medium.main(command(prepared_text, sliced, *methods)) == medium.UNFINISHED
    printed = capsys.readouterr().out
    assert (
        "seqpe, seed 0: stopped at step-0000003, before the slice ends" in printed
        and "0 of 2 runs are finished; the same command goes on" in printed
    )
    out = tmp_path / "out"
    assert medium.main(command(prepared_text, sliced, *methods, "--out", str(out))) == 0
    printed = capsys.readouterr().out
    assert (
        "2 of 2 runs are finished" in printed
        and "SeqPE at 32 tokens at most 1.1 x its own at 16" in printed
        and "SeqPE's mean below ALiBi's" in printed
    )
    for folder in whole.glob("*-seed0-*"):
        a, b = Run.open(folder), Run.open(sliced / folder.name)
        assert a.results()["perplexity"] == b.results()["perplexity"] and a.metrics() == b.metrics()
        assert a.checkpoints() and not b.checkpoints()  # of finished runs only results are kept
    with tarfile.open(out / "runs-lm.tar.gz") as archive:
        names = archive.getnames()
    assert "plan-lm.json" in names and sorted(
        name.split("/")[1] for name in names if "/" in name
    ) == sorted(["recipe.json", "metrics.jsonl", "results.json"] * 2)


@pytest.mark.parametrize("deadline, stopped_at", [(35, 0), (12, 0), (37, 10), (1e9, None)])
def test_a_run_stops_only_right_after_a_checkpoint_and_only_if_the_next_would_come_too_late(
    deadline, stopped_at, tiny_recipe
):
    recipe = tiny_recipe("none", steps=12, checkpoint_every=3)
    now = [0.0]
    watch = medium.until(
        deadline, recipe, {"step_s": 10.0, "evaluation_s": 60.0}, clock=lambda: now[0]
    )  # the plan's 3 steps would take 1.2 x 30 s
    stopped = None
    for done in range(13):
        now[0] = (
            2.0 * done
        )  # in truth they are faster; after the last come 1.2 x 60 s of evaluation
        try:
            watch(done, None)
        except medium._Enough:
            stopped = done
            break
    assert stopped == stopped_at


def test_a_resumed_run_that_only_lacks_its_evaluation_is_given_time_for_it(tiny_recipe):
    recipe = tiny_recipe("none", steps=12, checkpoint_every=3)
    medium.until(73, recipe, {"step_s": 10.0, "evaluation_s": 60.0}, clock=lambda: 0.0)(12, None)
    with pytest.raises(medium._Enough):
        medium.until(71, recipe, {"step_s": 10.0, "evaluation_s": 60.0}, clock=lambda: 0.0)(
            12, None
        )


def test_the_plan_divides_the_minutes_and_stays(prepared_text, tmp_path, monkeypatch):
    monkeypatch.setattr(medium, "seconds_a_step", lambda *arguments: 0.5)
    options = medium.argparse.Namespace(
        task="lm",
        methods=["seqpe:3", "alibi"],
        source=str(prepared_text),
        set=[],
        minutes=20.0,
        steps=0,
        cpu=True,
    )
    data = medium.load("lm", str(prepared_text))
    plan = medium.make_plan(options, data, tmp_path / "plan.json")
    assert (
        plan["steps"] == int(20 * 60 * 0.7 / 4 / 0.5) and 40 < plan["checkpoint_every"] * 0.5 < 90
    )
    monkeypatch.setattr(medium, "seconds_a_step", None)
    assert medium.make_plan(options, data, tmp_path / "plan.json") == plan
    options.methods = ["seqpe"]
    with pytest.raises(
        ValueError,
        match=(
            r"plans other runs \(methods \['seqpe:3', 'alibi'\]\): give the same options, or "
            r"delete it"
        ),
    ):
        medium.make_plan(options, data, tmp_path / "plan.json")
    monkeypatch.setattr(medium, "seconds_a_step", lambda *arguments: 100.0)
    with pytest.raises(
        ValueError, match="20 minutes are 8 steps of 100.00 s for each of 1 runs: fewer --methods"
    ):
        medium.make_plan(options, data, tmp_path / "other.json")


def test_a_step_is_timed_and_leaves_nothing_behind(prepared_text, monkeypatch, tmp_path):
    monkeypatch.setattr(medium, "CALIBRATION", (1, 3))
    data = medium.load("lm", str(prepared_text))
    options = medium.argparse.Namespace(
        task="lm",
        source=str(prepared_text),
        set=[f"{name}={json.dumps(value)}" for name, value in SMALL.items()],
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(medium.tempfile, "tempdir", None)
    assert (
        medium.seconds_a_step(medium.recipe_of(options, data, "seqpe", 0, steps=30), data, cpu=True)
        > 0
    )
    assert list(tmp_path.iterdir()) == []


def test_the_first_seed_of_all_methods_comes_first_and_nonsense_is_refused(capsys):
    assert medium.wanted(["a:2", "b", "c:3"]) == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("a", 1),
        ("c", 1),
        ("c", 2),
    ]
    for wrong in ("a:0", "a:x"):
        with pytest.raises(ValueError, match="NAME or NAME:SEEDS"):
            medium.wanted([wrong])
    assert medium.main(["lm", "--source", "/nowhere/at/all", "--cpu"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.medium: no text at /nowhere/at/all")


# --- collecting them ---------------------------------------------------------------------------


def finished(folder, recipe):
    run = Run(recipe, folder / f"{recipe.method}-{recipe.seed}-{recipe.digest()}")
    run.create()
    run.write_results(
        {
            "method": recipe.method,
            "seed": recipe.seed,
            "protocol": "non-overlapping",
            "perplexity": {"512": 30.0},
        }
    )
    return run


@pytest.fixture
def collecting(tmp_path, monkeypatch):
    """(runs' folder, collect) with a project's folder of its own."""
    from seqpe_lab import package_data
    from seqpe_lab.course.collecting import collect

    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(package_data, "CLONE", tmp_path)
    monkeypatch.setattr(package_data, "DATA", tmp_path / "data")
    return tmp_path / "runs", collect


def test_medium_runs_that_were_changed_alike_are_collected(collecting):
    from seqpe_lab.recipes import language_model

    runs, collect = collecting
    for method in ("seqpe", "alibi"):
        finished(runs, language_model(method, "medium", steps=700, source="prepared/lm.npz"))
    (path,) = collect("medium")
    assert path.name == "length-extrapolation-medium.json" and [
        r["method"] for r in json.loads(path.read_text())
    ] == ["alibi", "seqpe"]
    finished(runs, language_model("none", "medium", steps=701, source="prepared/lm.npz"))
    with pytest.raises(
        ValueError,
        match=(
            r"differ from the preset in different ways(.|\n)*2 with .*\"steps\": 700(.|\n)*1 with "
            r".*\"steps\": 701"
        ),
    ):
        collect("medium")
    finished(runs, language_model("none", "medium"))  # the preset itself goes before all
    assert [r["method"] for r in json.loads(collect("medium")[0].read_text())] == ["none"]


def test_two_runs_of_one_method_and_seed_are_not_both_collected(collecting):
    from seqpe_lab.recipes import language_model

    runs, collect = collecting
    for alpha in (0.1, 0.3):
        finished(runs, language_model("seqpe", "medium", steps=700, alpha=alpha))
    with pytest.raises(ValueError, match="two finished runs of seqpe with seed 0"):
        collect("medium")


def test_at_small_scale_only_the_preset_is_collected(collecting):
    from seqpe_lab.recipes import language_model

    runs, collect = collecting
    finished(runs, language_model("seqpe", "small", steps=10))
    with pytest.raises(ValueError, match="no finished runs at scale 'small'"):
        collect("small")


# --- generation --------------------------------------------------------------------------------


def test_generation_is_compared_for_every_encoding(tmp_path, capsys):
    with contextlib.suppress(SystemExit):  # at this size the cache may not pay
        generation.main(
            [
                "--length",
                "40",
                "--new",
                "4",
                "--shift",
                "3",
                "--d-model",
                "16",
                "--layers",
                "1",
                "--heads",
                "2",
                "--vocabulary",
                "32",
                "--repeats",
                "1",
                "--threads",
                "1",
                "--json",
                str(tmp_path / "out.json"),
            ]
        )
    printed = capsys.readouterr().out
    assert all(method in printed for method in generation.METHODS) and "OTHER TOKENS" not in printed
    assert all(
        case["same_tokens"] for case in json.loads((tmp_path / "out.json").read_text())["cases"]
    )
