"""python -m seqpe_lab runs, and what `train` says of data and folders that it finds."""

import json
import os

import pytest

from seqpe_lab.cli import main
from seqpe_lab.doctor import verdict
from seqpe_lab.recipes import MAKERS, image_model, language_model
from seqpe_lab.runs import Run

TINY = dict(
    d_model=16,
    layers=1,
    heads=2,
    train_len=16,
    max_position=64,
    eval_lens=(16,),
    eval_tokens=64,
    steps=1,
)


@pytest.fixture
def listed(tmp_path, monkeypatch, capsys):
    """A function: the lines that `runs` prints for folders below the working directory."""
    monkeypatch.chdir(tmp_path)

    def lines(*options):
        assert main(["runs", "--folder", "runs", *options]) == 0
        return capsys.readouterr().out.splitlines()

    return lines


def made(name, recipe, *steps, **results):
    """A run's folder with so many logged steps and these results."""
    run = Run(recipe, f"runs/{name}")
    run.create()
    for step in steps:
        run.append_metrics({"step": step, "loss": 1.0})
    if results:
        named = {"method": recipe.method, "scale": recipe.scale, "seed": recipe.seed}
        run.write_results({**named, "recipe": recipe.digest(), **results})
    return run.folder


def some_runs():
    made("a", language_model("alibi", "smoke"), 6, 12, perplexity={"32": 4.125, "64": 5.0})
    made("b", language_model("alibi", "smoke", 1, steps=500), 10, 250)
    made("c", language_model("alibi", "small", 1))
    made("d", image_model("learned", "smoke"), 12, accuracy={"16": 50.0})


def test_runs_are_grouped_by_task_and_scale_under_a_header_with_units(listed):
    some_runs()
    lines = listed()
    assert lines[
        0
    ] == "language models, scale smoke: 2 runs; perplexity (per token) by context " + ("(tokens)")
    assert [line.split() for line in lines[1:4]] == [
        ["state", "steps", "method", "seed", "32", "64", "differs", "in", "folder"],
        ["finished", "12/12", "alibi", "0", "4.12", "5.00", "runs/a"],
        ["new", "250/500", "alibi", "1", "steps=500", "runs/b"],
    ]
    headings = [line for line in lines if "scale" in line]
    assert headings[1:] == [
        "language models, scale small: 1 run",
        "images, scale smoke: 1 run; top-1 accuracy (%) by image side (pixels)",
    ]


@pytest.mark.parametrize(
    "options, found",
    [
        ("--task image", "d"),
        ("--encoding alibi", "abc"),
        ("--method alibi --scale small", "c"),
        ("--state finished", "ad"),
        ("--state finished --task lm", "a"),
    ],
)
def test_runs_can_be_filtered(options, found, listed):
    some_runs()
    lines = listed(*options.split())
    assert "".join(line[-1] for line in lines if "runs/" in line) == found
    entries = json.loads("\n".join(listed(*options.split(), "--json")))
    assert "".join(entry["folder"][-1] for entry in entries) == found


def test_a_filter_that_nothing_fits_says_so(listed):
    some_runs()
    assert listed("--task", "qa", "--state", "new") == [
        "none of the 4 runs in runs is of task qa, state new"
    ]


def test_json_holds_recipe_and_results(listed):
    some_runs()
    first = json.loads("\n".join(listed("--json")))[0]
    assert (first["task"], first["state"], first["step"]) == ("lm", "finished", 12)
    assert first["recipe"] == json.loads(language_model("alibi", "smoke").to_json())
    assert first["results"]["perplexity"] == {"32": 4.125, "64": 5.0}


def break_recipe(folder):
    (folder / "recipe.json").write_text("{")


def break_version(folder):
    values = json.loads((folder / "recipe.json").read_text()) | {"newer": 1}
    (folder / "recipe.json").write_text(json.dumps(values))


def break_results(folder):
    (folder / "results.json").write_text('{"perplexity": {"32"')


def break_measure(folder):
    (folder / "results.json").write_text('{"perplexity": {"32": "low"}}')


def without_measure(folder):
    (folder / "results.json").write_text('{"split": "test"}')


def diverged(folder):
    (folder / "results.json").write_text('{"perplexity": {"32": NaN}}')


def break_metrics(folder):
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()


def break_job(folder):
    (folder / "results.json").unlink()
    (folder / "job.json").write_text("{}")


DAMAGES = [break_recipe, break_version, break_results, break_measure, without_measure, diverged]
DAMAGES += [break_metrics, break_job]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_folder_is_named_and_hides_no_other(damage, listed):
    some_runs()
    damage(made("e", language_model("seqpe", "smoke"), 12, perplexity={"32": 4.0}))
    lines = listed()
    for name in "abcd":
        assert sum(line.endswith(f"runs/{name}") for line in lines) == 1
    assert lines[-2] == "1 damaged, or of another version: mend or delete the folder"
    assert lines[-1].startswith("runs/e  ")
    (entry,) = json.loads("\n".join(listed("--json", "--state", "damaged")))
    assert entry["folder"] == "runs/e" and entry["problem"] in lines[-1] and not entry["results"]


def test_the_last_step_is_read_from_the_end_of_a_long_log(listed):
    """Of 8 GiB of log: to read all of it would take minutes, or more memory than there is."""
    folder = made("a", language_model("alibi", "smoke"), 1)
    with open(folder / "metrics.jsonl", "ab") as file:
        file.truncate(8 * 2**30)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"step": 11, "loss": 1.0}\n{"step": 12, "lo')
    assert "11/12" in listed()[-1]


# --- what `train` finds --------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path, monkeypatch):
    """book.txt in the working directory, and the options that train on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQPE_RUNS", "runs")
    (tmp_path / "book.txt").write_text("All work and no play. " * 200)
    settings = [f"{n}={json.dumps(v)}" for n, v in TINY.items()]
    command = ["train", "lm", "--cpu", "--encoding", "alibi", "--scale", "smoke"]
    return [*command, "--set", "source=book.txt", "--set", *settings]


def test_results_on_another_text_are_not_shown_as_those_of_the_text_that_is_named(book, capsys):
    assert main([*book, "--folder", "run"]) == 0
    then = Run.open("run").results()["data"]["hash"]
    for command in ([*book, "--folder", "run"], ["train", "lm", "--folder", "run"]):
        assert main(command) == 0 and then in capsys.readouterr().out
    with open("book.txt", "a") as file:
        file.write("All play and no work. ")
    for command in ([*book, "--folder", "run"], ["train", "lm", "--folder", "run"]):
        assert main(command) == 2
        printed, error = capsys.readouterr()
        assert "perplexity" not in printed
        assert all(part in error for part in ("other data", "book.txt", then, "--folder"))
    os.remove("book.txt")  # named: it must be there; not named: it is said
    assert main([*book, "--folder", "run"]) == 2
    assert "book.txt" in capsys.readouterr().err
    assert main(["train", "lm", "--folder", "run"]) == 0
    assert "book.txt is not here, so it was not compared" in capsys.readouterr().out


def test_a_folder_s_other_recipe_is_refused_with_what_differs(tmp_path, capsys):
    Run(language_model("alibi", "smoke", 3), tmp_path).create()
    command = ["train", "lm", "--folder", str(tmp_path), "--scale", "smoke"]
    assert main([*command, "--encoding", "alibi", "--seed", "4", "--set", "steps=5"]) == 2
    error = capsys.readouterr().err
    assert "than that of --encoding, --scale, --seed, --set (seed is 3 there, 4 here; " in error
    assert "; steps is 12 there, 5 here): leave them out" in error


@pytest.mark.parametrize("published", [False, True])
def test_fine_tuning_without_its_base_names_the_command_that_trains_it(
    published, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    options = ["--encoding", "alibi", "--seed", "2", *["--as-published"] * published]
    assert main(["train", "qa", "--scale", "smoke", *options]) == 2
    error = capsys.readouterr().err
    command = error.split("(python -m seqpe_lab ")[1].split(")")[0]
    asked = []
    monkeypatch.setattr("seqpe_lab.training.train", lambda recipe, *_, **__: asked.append(recipe))
    with pytest.raises(AttributeError):  # the stand-in returns no run to report on
        main(command.split())
    assert f"smoke/alibi-seed2-{asked[0].digest()} holds no finished run" in error


# --- doctor --------------------------------------------------------------------------------------


def test_doctor_s_verdict_names_what_fits_and_what_is_missing():
    fits = {(task, scale): "yes" for task in MAKERS for scale in ("smoke", "small")}
    fits |= {(task, scale): "too slow" for task in MAKERS for scale in ("medium", "full")}
    fits["image", "medium"] = "yes"
    said = " ".join(verdict(fits, "this CPU", []))
    assert "lm at smoke, small;" in said and "image at smoke, small, medium;" in said
    assert "train lm" in said and "pip install" not in said
    nothing = " ".join(verdict(dict.fromkeys(fits, "too slow"), "this CPU", ["timm"]))
    assert "lm at no scale" in nothing and "Missing: timm" in nothing and "pip install" in nothing


def test_train_says_how_far_the_run_in_a_folder_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seqpe_lab.training.train", lambda *_, **__: None)
    run = Run(language_model("alibi", "smoke", 3, batch=16), tmp_path)
    run.create()

    def said() -> str:
        with pytest.raises(AttributeError):  # the stand-in returns no run to report on
            main(["train", "lm", "--folder", str(tmp_path)])
        return capsys.readouterr().out

    recipe = "lm, method alibi, scale smoke, seed 3, changed: batch=16\n"
    assert said() == f"{tmp_path}: new, 12 steps; {recipe}"
    run.append_metrics({"step": 7, "loss": 1.0})
    run.save_checkpoint(6, {}, {}, {"validation": None})
    assert said() == (f"{tmp_path}: goes on from a checkpoint; 7 of 12 steps are logged; {recipe}")
    with run.claim():
        assert said() == f"{tmp_path}: running; {recipe}"
