"""The benchmarks and the medium runs at tiny size: what they compute, not how fast."""

import contextlib
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import (
    biases,
    encodings,
    generation,
    gpu,
    gpu_evaluation,
    gpu_training,
    medium,
    plain,
)
from benchmarks.measure import Findings, in_short
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
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []  # torch's cache


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
def collecting(another_project):
    """(runs' folder, collect) with a project's folder of its own."""
    from seqpe_lab.reproduction.collecting import collect

    return another_project / "runs", collect


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
    with pytest.raises(ValueError, match="two runs of seqpe with seed 0"):
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


# --- gpu: what needs no GPU --------------------------------------------------------------------


def finds(found, sizes):
    found["answer"] = 42


def breaks(found, sizes):
    found["answer"] = 42
    raise ValueError("in the middle")


def never_ends(found, sizes):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    found["child"] = child.pid
    child.wait()


def dies(found, sizes):
    found["answer"] = 42
    os._exit(7)


def names_the_start_method(found, sizes):
    found["own"] = multiprocessing.get_start_method()


def test_a_stage_starts_loading_processes_as_any_program_does(tmp_path):
    """multiprocessing would hand its own way of starting on to them."""
    stage = gpu.Stage("one", names_the_start_method, 60)
    record = gpu.run_stage(stage, gpu.Sizes(tmp_path), 60)
    assert record["found"] == {"own": multiprocessing.get_start_method()}


@pytest.mark.parametrize(
    "work, state, error",
    [
        (finds, "finished", None),
        (breaks, "failed", "FAILED: ValueError: in the middle"),
        (dies, "failed", "FAILED: the process ended with status 7"),
    ],
)
def test_a_stage_that_fails_keeps_what_it_found(work, state, error, tmp_path):
    stage = gpu.Stage("one", work, 60)
    record = gpu.run_stage(stage, gpu.Sizes(tmp_path), 60, method="fork")
    assert record["state"] == state
    assert record["found"] == {"answer": 42} | ({"error": error} if error else {})


def test_a_stage_that_never_ends_is_ended_with_its_processes(tmp_path):
    began = time.monotonic()
    stage = gpu.Stage("one", never_ends, 2)
    record = gpu.run_stage(stage, gpu.Sizes(tmp_path), 2, method="fork")
    assert record["state"] == "out of time" and time.monotonic() - began < 30
    stat = f"/proc/{record['found']['child']}/stat"  # it may wait to be collected
    assert not os.path.exists(stat) or open(stat).read().rpartition(")")[2].split()[0] == "Z"


def test_stages_go_on_after_a_failure_and_are_skipped_when_the_time_is_over(tmp_path, monkeypatch):
    stages = [gpu.Stage("a", breaks, 60), gpu.Stage("b", finds, 60)]
    records = gpu.run_all(stages, gpu.Sizes(tmp_path), 5, method="fork")
    assert [record["state"] for record in records.values()] == ["failed", "finished"]
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["stages"] == records
    records = gpu.run_all(stages, gpu.Sizes(tmp_path), 9 / 60, method="fork")
    assert [record["state"] for record in records.values()] == ["skipped", "skipped"]


def test_an_error_in_one_case_is_a_finding_and_the_next_case_is_measured(tmp_path, capsys):
    found = Findings(tmp_path / "found.json")
    for method, value in (("none", 0), ("seqpe", 2)):
        with found.case(method):
            found[method] = 1 / value
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "none": "FAILED: ZeroDivisionError: division by zero",
        "seqpe": 0.5,
    }
    assert "seqpe: 0.5" in capsys.readouterr().out
    assert in_short({"a": [1.23456, True], "b": {}}) == "a 1.235, True, b none"


def records_of(ratio=1.1, share=0.4, memory=1.3, copies=1, error=0.01, status=0, equal=True):
    step = {"none": {"GB": 10.0, "of matrix rate": share}, "alibi": {"GB": 12.0}}
    step["seqpe"] = {"x NoPE": ratio, "of matrix rate": share}
    long = {f"{m}, bf16": {"GB, x NoPE": memory, "x NoPE": memory} for m in ("seqpe", "alibi")}
    long["alibi, bf16"]["GB, x NoPE"] = 1.2
    where = {"none, a step": {"kernels": 100.0}}
    where["seqpe, a step"] = {"kernels": 150.0, "blocking copies": copies}
    found = {
        "gpu-tests": {"status": status},
        "step-time": step,
        "where-a-step-goes": where,
        "long-context": long,
        "precision": {"scores": {"error / spread": error}},
        "resume": {"deterministic": {"equal": equal}},
    }
    return {name: {"state": "finished", "found": values} for name, values in found.items()}


def verdicts(*arguments):
    return [bar.verdict for bar in gpu.bars(*arguments)]


def test_the_bars_of_the_gpu_are_the_stated_ones():
    assert verdicts(records_of()) == ["met"] * 12
    missed = records_of(1.11, 0.39, 1.31, 2, 0.02, 1, False)
    assert verdicts(missed).count("MISSED") == 9
    assert verdicts({}) == ["not measured"] * 12
    lines = gpu.table(gpu.bars(missed)).splitlines()
    assert len(lines) == 13 and lines[2].split()[-4:] == ["<=", "1.1", "1.11", "MISSED"]


def test_what_failed_or_was_no_number_or_was_pretended_is_not_called_met():
    records = records_of()
    records["step-time"]["found"] |= {"seqpe": "FAILED: OutOfMemoryError: 12 GiB"}
    records["precision"]["found"]["scores"]["error / spread"] = math.nan
    found = dict(zip((bar.claim for bar in gpu.bars(records)), verdicts(records)))
    assert found.pop("SeqPE's step over NoPE's, ms") == "not measured"
    assert found.pop("SeqPE's share of the matrix rate") == "not measured"
    assert found.pop("error of bfloat16 scores / spread") == "not measured"
    assert set(found.values()) == {"met"}
    assert verdicts(records_of(), True).count("met") == 5  # memory, kernels and copies


def test_steps_are_timed_by_the_training_loop_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    sizes = gpu.Sizes(tmp_path, layers=1, batch=2, train_len=32, warm=1, blocks=2)
    recipe = gpu_training.text_recipe("seqpe", sizes, d_model=16, heads=2)
    timer, seen = gpu_training.StepTimer(sizes, block=1), []

    def watch(done, model):
        seen.append(done)
        timer(done, model)

    gpu_training.steps_of(recipe, gpu_training.random_text(), watch, cpu=True)
    assert seen == [0, 1, 2, 3] and len(timer.times) == 3
    assert 0 < timer.ms()["min"] <= timer.ms()["max"] and timer.first_s > 0


def test_a_block_of_steps_is_divided_by_its_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    now = iter([0.0, 5.0, 10.0, 20.0, 25.0])  # when it is made, after steps 1, 2, 7 and 12
    monkeypatch.setattr(gpu_training.time, "perf_counter", lambda: next(now))
    timer = gpu_training.StepTimer(gpu.Sizes(tmp_path, warm=2, blocks=2))
    with pytest.raises(gpu_training.Enough):
        for done in range(100):
            timer(done, None)
    assert timer.ms() == {"median": 1_500.0, "min": 1_000.0, "max": 2_000.0}


def test_a_profile_counts_kernels_and_copies_a_step():
    def event(name, us=10.0, device=torch.autograd.DeviceType.CUDA):
        span = SimpleNamespace(elapsed_us=lambda: us)
        return SimpleNamespace(name=name, device_type=device, time_range=span)

    pageable = event("Memcpy HtoD (Pageable -> Device)")
    events = [event("gemm", 3_000.0)] * 4 + [pageable] * 2 + [event("Memset (Device)")]
    events += [event("Memcpy HtoD (Pinned -> Device)")]
    events += [event("aten::mm", device=torch.autograd.DeviceType.CPU)]
    assert gpu_training.summary(events, 2) == {
        "kernels": 2,
        "kernels, ms": 6,
        "blocking copies": 1,
        "Memcpy HtoD (Pageable -> Device)": 1,
        "Memcpy HtoD (Pinned -> Device)": 0.5,
    }


def test_only_warnings_of_waits_are_counted():
    assert gpu_training._lines("called a synchronizing CUDA operation") == ["elsewhere"]
    assert gpu_training._lines("Synchronization debug mode is a prototype") == []


def test_scores_of_the_shipped_model_keep_their_differences_in_bfloat16():
    from seqpe_lab.explorers import shipped_models

    errors = gpu_evaluation.score_errors(shipped_models.encoding("text", "seqpe"), 256)
    assert 0 < errors["mean error"] <= errors["largest error"] and errors["spread"] > 1
    assert errors["error / spread"] < 0.01 and errors["weights that move"] < 0.005


def test_scores_that_bfloat16_cannot_tell_apart_are_found():
    class Ramp(torch.nn.Module):
        """Scores 1000 + j/100, which all round to 1000 in bfloat16."""

        heads, encoder = 1, SimpleNamespace(d_model=1)

        def prepare(self, positions, vectors, device):
            return 1_000 + positions / 100

        def transform(self, q, k, prepared, layer):
            return torch.ones_like(q), prepared.to(k.dtype).view(k.shape)

    errors = gpu_evaluation.score_errors(Ramp(), 64)
    assert errors["error / spread"] == pytest.approx(0.866, abs=0.01)
    assert errors["spread"] == pytest.approx(0.64 / 12**0.5, rel=0.02)


def test_two_runs_differ_where_their_weights_or_losses_do(tiny_recipe, tiny_data, tmp_path):
    from seqpe_lab.training import train

    first, again, other = (
        train(tiny_recipe("none", seed), tmp_path / name, data=tiny_data, progress=False)
        for seed, name in ((0, "first"), (0, "again"), (1, "other"))
    )
    same, different = (gpu_evaluation.difference(first, run) for run in (again, other))
    assert same == {"equal": True, "largest difference of losses": 0, "of weights": 0}
    assert not different["equal"] and different["largest difference of losses"] > 0


def test_random_images_must_be_decoded_and_are_not_all_alike():
    data = gpu_evaluation.random_images(4, 40)
    assert data.decodes and data.train[0].shape == (3, 40, 40)
    assert not torch.equal(data.train[0], data.train[1])


def test_the_command_of_the_medium_runs_is_one_that_medium_takes(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(medium, "run_slice", lambda options, folder: asked.append(options))
    command = gpu.medium_command("lm.npz", 4.5, tmp_path)
    assert command[1:3] == ["-m", "benchmarks.medium"]
    assert medium.main(command[3:]) == medium.UNFINISHED
    assert asked[0].methods == ["none", "rope-1e4", "alibi", "seqpe"] and asked[0].out == tmp_path
    assert (asked[0].minutes, asked[0].slice, asked[0].source) == (4.5, 4.5, "lm.npz")


@pytest.mark.parametrize("name", biases.NAMES)
def test_both_sides_of_a_bias_give_the_same_output_and_gradient(name):
    results = []
    for side in (biases.ours, biases.explicit):
        encoding, given = biases.encoding_of(name), biases.inputs(150)
        out = side(encoding, *given)
        grads = [p.grad for p in (*encoding.parameters(),) if p.grad is not None]
        results.append([out, *grads])
    assert len(results[0]) == len(results[1])
    for ours, explicit in zip(*results):
        torch.testing.assert_close(ours, explicit, atol=1e-5, rtol=1e-4)


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([str(tmp_path / "out")]) == 2
    assert "sees no GPU" in capsys.readouterr().err and not (tmp_path / "out").exists()
