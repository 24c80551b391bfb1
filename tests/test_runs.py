"""A run is a folder that can be read at any moment and is never half written."""

import json
import os
import shutil

import pytest
import torch

from seqpe_lab import provenance as provenance_module
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.package_data import committed_results
from seqpe_lab.provenance import provenance
from seqpe_lab.recipes import PRESETS
from seqpe_lab.runs import Run, checkpoint_files, list_runs, run_folder, runs_folder
from seqpe_lab.runs import run as runs


@pytest.fixture
def run(tiny_recipe, tmp_path) -> Run:
    run = Run(tiny_recipe(), tmp_path / "run")
    run.create()
    return run


def save(run: Run, step: int, validation: float = 1.0):
    weights = {"weight": torch.full((3,), float(step))}
    return run.save_checkpoint(
        step,
        weights,
        {"exp_avg.weight": -weights["weight"]},
        {"validation": validation, "data": "tiny"},
    )


def names(run: Run) -> list[str]:
    return [path.name for path in run.checkpoints()]


def test_the_folder_is_named_after_scale_method_seed_and_recipe(tiny_recipe):
    recipe = tiny_recipe("alibi", seed=3)
    assert Run(recipe).folder == runs_folder() / "smoke" / f"alibi-seed3-{recipe.digest()}"


def test_runs_lie_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("SEQPE_RUNS", "/somewhere")
    assert str(runs_folder()) == "/somewhere"
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("SEQPE_RUNS", "~/experiments")
    assert str(runs_folder()) == "/home/ada/experiments"


@pytest.mark.parametrize("place", [".", "notebooks"])
def test_within_the_clone_runs_lie_at_its_root(place, monkeypatch, project):
    monkeypatch.delenv("SEQPE_RUNS")
    monkeypatch.chdir(project / place)
    assert runs_folder().resolve() == project / "runs"


def test_elsewhere_and_of_a_wheel_runs_lie_in_the_working_directory(monkeypatch, project, tmp_path):
    monkeypatch.delenv("SEQPE_RUNS")
    monkeypatch.chdir(tmp_path)
    assert runs_folder() == tmp_path / "runs"
    monkeypatch.setattr(run_folder, "CLONE", None)  # as in an installed wheel
    monkeypatch.chdir(project)
    assert runs_folder() == project / "runs"


def test_a_created_run_opens_with_its_recipe(run):
    assert Run.open(run.folder).recipe == run.recipe
    assert (
        run.state == "new"
        and run.metrics() == []
        and run.checkpoints() == []
        and run.results() is None
    )
    run.create()  # again: nothing happens


def test_states_go_from_new_over_interrupted_to_finished(run):
    save(run, 3)
    assert run.state == "interrupted"
    run.write_results({"perplexity": {}})
    identity = {"method": "seqpe", "scale": "smoke", "seed": 0, "recipe": run.recipe.digest()}
    assert run.state == "finished" and run.results() == {"perplexity": {}} | identity


# --- metrics ------------------------------------------------------------------------------------


def test_metrics_come_back_as_they_were_appended(run):
    records = [{"step": s, "loss": 1 / 3 * s} for s in range(1, 6)]
    for record in records:
        run.append_metrics(record)
    assert run.metrics() == records
    run.truncate_metrics(3)
    assert run.metrics() == records[:3]


@pytest.mark.parametrize("kept", [0, 1, 5, 12])
def test_a_line_cut_short_by_a_kill_is_left_out_and_resuming_removes_it(run, kept):
    run.append_metrics({"step": 1, "loss": 2.5})
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "loss": 2.25}'[:kept])
    assert run.metrics() == [{"step": 1, "loss": 2.5}]
    run.truncate_metrics(1)
    run.append_metrics({"step": 2, "loss": 2.0})
    assert [record["step"] for record in run.metrics()] == [1, 2]


# --- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was_saved(run):
    weights, optimizer, state = run.load_checkpoint(save(run, 7, validation=2.5))
    assert torch.equal(weights["weight"], torch.full((3,), 7.0)) and torch.equal(
        optimizer["exp_avg.weight"], torch.full((3,), -7.0)
    )
    assert (state["step"], state["validation"], state["recipe"]) == (7, 2.5, run.recipe.digest())


def test_checkpoints_hold_safetensors_and_json_and_never_pickle(run):
    assert sorted(path.name for path in save(run, 3).iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_the_last_two_and_the_best_are_kept(run):
    for step, validation in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.5), (5, 1.25)]:
        save(run, step, validation)
    assert names(run) == ["step-0000002", "step-0000004", "step-0000005"]
    assert run.best_checkpoint().name == "step-0000002"
    save(run, 6, 0.5)
    assert (
        names(run) == ["step-0000005", "step-0000006"]
        and run.best_checkpoint().name == "step-0000006"
    )


def test_checkpoints_are_in_the_order_of_their_steps(run):
    for step in (9, 10, 100_000):
        save(run, step, validation=-step)
    assert names(run) == ["step-0000010", "step-0100000"]


def test_the_weights_of_a_run_are_its_last(run):
    save(run, 1, validation=0.0), save(run, 2, validation=5.0)
    assert run.model_weights()["weight"][0] == 2


@pytest.mark.parametrize(
    "file, damage, reason",
    [
        ("model.safetensors", lambda data: data[:-1], "truncated or altered"),
        (
            "model.safetensors",
            lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
            "truncated or altered",
        ),
        ("optimizer.safetensors", lambda data: b"", "truncated or altered"),
        (
            "optimizer.safetensors",
            lambda data: data[:-3] + bytes([data[-3] ^ 64]) + data[-2:],
            "truncated or altered",
        ),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("optimizer.safetensors", None, "optimizer.safetensors is missing"),
        ("state.json", None, "state.json cannot be read"),
        ("state.json", lambda data: data[:20], "state.json cannot be read"),
        ("state.json", lambda data: b"[]", "state.json cannot be read"),
        ("state.json", lambda data: b"\xff\xfe", "state.json cannot be read"),
        (
            "state.json",
            lambda data: data.replace(b'"step": 2', b'"step": 3'),
            "step",
        ),  # would resume at the wrong step
        (
            "state.json",
            lambda data: data.replace(b'"sha256"', b'"sha257"'),
            "state.json cannot be read",
        ),
    ],
    ids=[
        "truncated",
        "bit flipped",
        "empty",
        "bit flipped near the end",
        "no model",
        "no optimizer",
        "no state",
        "state cut",
        "state a list",
        "state not text",
        "other step",
        "no hashes",
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_previous_one_offered(
    run, file, damage, reason
):
    save(run, 1)
    path = save(run, 2)
    if damage is None:
        (path / file).unlink()
    else:
        altered = damage((path / file).read_bytes())
        assert altered != (path / file).read_bytes()
        (path / file).write_bytes(altered)
    with pytest.raises(runs.CheckpointError) as error:
        run.load_checkpoint(path)
    for part in (
        str(path),
        "refused",
        reason,
        "the previous one is step-0000001",
        f"delete {path}",
    ):
        assert part in str(error.value)
    assert run.load_checkpoint(run.checkpoints()[0])[2]["step"] == 1


def test_without_a_previous_checkpoint_the_message_says_so(run):
    path = save(run, 2)
    (path / "state.json").write_text("{}")
    with pytest.raises(
        runs.CheckpointError, match="there is no earlier one: delete .*step-0000002 to start afresh"
    ):
        run.load_checkpoint(path)


def test_a_foreign_checkpoint_is_refused(run, tiny_recipe, tmp_path):
    save(run, 1)
    other = Run(tiny_recipe(seed=1), tmp_path / "other")
    other.create()
    foreign = run.folder / "checkpoints" / "step-0000002"
    shutil.copytree(save(other, 2), foreign)
    with pytest.raises(
        runs.CheckpointError,
        match="belongs to another recipe(.|\n)*the previous one is step-0000001",
    ):
        run.load_checkpoint(foreign)


@pytest.mark.parametrize(
    "fails", ["model.safetensors", "optimizer.safetensors", "state.json", "rename"]
)
def test_a_full_disk_keeps_the_last_good_checkpoint_and_leaves_no_rubbish(run, monkeypatch, fails):
    save(run, 1)
    real_save, real_replace, full = (
        checkpoint_files.save_file,
        os.replace,
        OSError(28, "No space left on device"),
    )

    def save_file(tensors, path):
        path.write_bytes(b"the beginning")
        if path.name == fails:
            raise full
        real_save(tensors, path)

    def replace(source, target):
        if str(target).endswith("step-0000002" if fails == "rename" else fails):
            raise full
        real_replace(source, target)

    monkeypatch.setattr(checkpoint_files, "save_file", save_file)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(
        OSError,
        match=(
            "step 2 could not be written(.|\n)*No space left(.|\n)*the last good one is "
            "step-0000001(.|\n)*free some space"
        ),
    ):
        save(run, 2)
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-0000001"]
    assert run.load_checkpoint(run.checkpoints()[-1])[2]["step"] == 1


def test_a_kill_while_old_checkpoints_are_removed_leaves_only_whole_ones(run, monkeypatch):
    """Files go one by one: a checkpoint without its first file must not look like a checkpoint."""
    save(run, 1, validation=9.0), save(run, 2, validation=1.0)

    def remove_one_file_and_die(path, *arguments, **options):
        if path.exists():
            next(path.iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_one_file_and_die)
        with pytest.raises(KeyboardInterrupt):
            save(run, 3, validation=2.0)
    for path in run.checkpoints():
        run.load_checkpoint(path)
    save(run, 4, validation=3.0)
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == [
        "step-0000002",
        "step-0000003",
        "step-0000004",
    ]


def test_a_half_written_checkpoint_does_not_count(run):
    save(run, 1)
    (run.folder / "checkpoints" / ".partial-0000002").mkdir()
    assert names(run) == ["step-0000001"]


# --- the rest -----------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_keeps_its_old_content(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new and longer")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_list_runs_finds_every_readable_run_and_no_other(tiny_recipe, tmp_path):
    for seed in (0, 1):
        Run(tiny_recipe(seed=seed), tmp_path / f"seed{seed}").create()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "recipe.json").write_text(
        json.dumps({"eval_lens": [1], "a_field_of_long_ago": 1})
    )
    assert [run.recipe.seed for run in list_runs(tmp_path)] == [0, 1]
    assert list_runs(tmp_path / "nowhere") == []


def test_provenance_names_versions_device_commit_and_time():
    stored = provenance("cpu")
    assert stored.keys() == {"versions", "device", "commit", "time"}
    assert torch.__version__.startswith(stored["versions"]["torch"]) and stored[
        "device"
    ].startswith("cpu (")
    json.dumps(stored)


def test_a_wheel_names_its_version_in_place_of_a_commit(monkeypatch):
    """A wheel may lie within another project's clone, whose commit says nothing about it."""
    monkeypatch.setattr(provenance_module, "CLONE", None)
    assert provenance("cpu")["commit"].startswith("version ")


def test_committed_results_carry_their_provenance(project):
    for path in (project / "data" / "results").glob("*.json"):
        for result in committed_results(path.stem):
            if "failed" in result:
                assert {"method", "scale", "seed", "split", "commit", "time"} <= result.keys()
                continue
            assert {
                "method",
                "scale",
                "seed",
                "protocol",
                "split",
                "data",
                "versions",
                "device",
                "commit",
                "time",
            } <= result.keys()
            assert (
                {"tokens", "perplexity"} <= result.keys()
                or {"images", "accuracy"} <= result.keys()
                or {"questions", "exact_match"} <= result.keys()
                or {"examples", "exact_match"} <= result.keys()
                or {"tokens", "windows"} <= result.keys()
            )
            assert result["scale"] in PRESETS and result["data"]["hash"]
