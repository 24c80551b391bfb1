"""A run is what it says: one process writes to its folder, and what is damaged is refused by name.

What is tested on samples here was tested once on every bit of the JSON files, every byte of the
weights, every length of each file, and 100 starts of two processes.
"""

import dataclasses
import errno
import fcntl
import json
import os
import random
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from fork_server import PROCESSES, collect_garbage_again

from seqpe_lab.cli import main
from seqpe_lab.jobs import Job
from seqpe_lab.recipes import language_model, question_answering
from seqpe_lab.runs import CheckpointError, Run, RunningError, folder_claims, list_runs
from seqpe_lab.runs.divergence import DivergedError
from seqpe_lab.runs.folder_claims import FolderLostError, holder_of
from seqpe_lab.runs.metrics_log import MetricsLog
from seqpe_lab.runs.run_files import HASH, JobRecord, RunFileError, write_record
from seqpe_lab.runs.run_weights import load_base, trained_model
from seqpe_lab.tasks.text import TextTask
from seqpe_lab.training import train

STATE = "checkpoints/step-0000003/state.json"
FILES = (
    "recipe.json",
    "results.json",
    "metrics.jsonl",
    "job.json",
    STATE,
    "checkpoints/step-0000006/state.json",
    "checkpoints/step-0000006/model.safetensors",
    "checkpoints/step-0000006/optimizer.safetensors",
)


@pytest.fixture(scope="module")
def two_runs(tiny_recipe, tiny_data, tmp_path_factory) -> list[Run]:
    """Finished runs of two seeds, each with a job.json; tests work on copies."""
    folder, found = tmp_path_factory.mktemp("two"), []
    for seed in (0, 1):
        found.append(train(tiny_recipe(seed=seed), folder / str(seed), data=tiny_data, cpu=True))
        record = {"pid": 4_711 + seed, "started": 1.5, "host": "node17", "processes": 1}
        record |= {"cpu": True, "command": ["python"], "log_from": 0, "stopped": True}
        write_record(found[-1].folder / "job.json", JobRecord, record)
    return found


@pytest.fixture
def copy(two_runs, tmp_path) -> Run:
    shutil.copytree(two_runs[0].folder, tmp_path / "run")
    return Run.open(tmp_path / "run")


def contents(folder: Path) -> list:
    """All that can be read from a run."""
    run = Run.open(folder)
    loaded = [run.load_checkpoint(path) for path in run.checkpoints()]
    tensors = [{name: t.tolist() for name, t in part.items()} for c in loaded for part in c[:2]]
    states = [c[2] for c in loaded]
    return [
        run.recipe,
        run.state,
        run.outcome(),
        run.metrics(speed=True),
        run.best_checkpoint().name,
        Job(folder)._record(),
        states,
        tensors,
    ]


def refused_or_unchanged(folder: Path, before: list) -> bool:
    try:
        return contents(folder) == before
    except (RunFileError, CheckpointError, ValueError) as error:
        assert str(folder) in str(error), error  # by name
        return True


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_cut_is_refused_by_name_or_changes_nothing(name, copy):
    before, path, chance = contents(copy.folder), copy.folder / name, random.Random(0)
    whole = path.read_bytes()
    for place in chance.sample(range(len(whole)), 12):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        assert refused_or_unchanged(copy.folder, before), (place, flipped[place])
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused_or_unchanged(copy.folder, before), length
    path.write_bytes(whole)
    assert contents(copy.folder) == before


@pytest.mark.parametrize("name", [name for name in FILES if name != "job.json"])
def test_a_file_of_another_run_is_refused(name, copy, two_runs):
    shutil.copy(two_runs[1].folder / name, copy.folder / name)
    with pytest.raises((RunFileError, CheckpointError), match=str(copy.folder)):
        contents(copy.folder)


def test_the_log_must_be_complete_up_to_the_last_checkpoint_and_only_up_to_it(copy, tiny_data):
    before, log = copy.metrics(), copy.folder / "metrics.jsonl"
    whole = log.read_bytes()
    (copy.folder / "results.json").unlink()
    log.write_bytes(
        whole + b'{"step": 7, "loss": 1.0}\n{"step": 8, "lo'
    )  # after it: lost, recomputed
    assert [record["step"] for record in copy.metrics()] == [1, 2, 3, 4, 5, 6, 7]
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(RunFileError, match="not what was logged up to step-0000006"):
        train(copy.recipe, copy.folder, data=tiny_data, cpu=True)
    log.unlink()
    with pytest.raises(RunFileError, match="not what was logged up to step-0000006"):
        copy.metrics()
    log.write_bytes(whole)
    assert train(copy.recipe, copy.folder, data=tiny_data, cpu=True).metrics() == before


def test_files_of_earlier_versions_have_no_hash_and_are_read(copy, two_runs):
    for path in copy.folder.rglob("*.json"):
        values = json.loads(path.read_text())
        values.pop(HASH)
        values.pop("metrics", None)  # in state.json
        path.write_text(json.dumps(values))
    ours, theirs = contents(copy.folder), contents(two_runs[0].folder)
    for state in theirs[6]:
        state["metrics"] = None
    assert ours == theirs


@pytest.mark.parametrize("file", ["results.json", "metrics.jsonl"])
def test_a_run_of_an_earlier_version_that_diverged_counts_as_failed(file, copy):
    path = copy.folder / file
    if file == "metrics.jsonl":
        path.write_text('{"step": 6, "loss": NaN}\n')
    else:
        values = json.loads(path.read_text())
        values["perplexity"]["32"] = float("nan")
        values.pop(HASH)
        path.write_text(json.dumps(values))
    assert copy.state == "failed" and copy.results() is None
    assert "nan" in copy.failure()["failed"] and copy.failure()["commit"]


def test_a_damaged_folder_hides_no_other(two_runs, tmp_path, capsys):
    names = ("results.json", "metrics.jsonl", "job.json", "recipe.json", "folder", "whole")
    for name in names:
        shutil.copytree(two_runs[0].folder, tmp_path / name)
        if (tmp_path / name / name).exists():
            (tmp_path / name / name).write_text("\x00\n")
    (tmp_path / "folder" / "recipe.json").unlink()
    (tmp_path / "folder" / "recipe.json").mkdir()
    assert len(list_runs(tmp_path)) == len(names) - 2
    assert main(["runs", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    whole = [line for line in printed if line.startswith("finished")]
    (heading,) = (line for line in printed if line.endswith("mend or delete the folder"))
    damaged = printed[printed.index(heading) + 1 :]
    assert len(whole) == 1 and whole[0].endswith(f" {tmp_path / 'whole'}")
    for name in names[:-1]:
        assert any(line.startswith(f"{tmp_path / name} ") for line in damaged), name


# --- claims -------------------------------------------------------------------------------------


@pytest.fixture(params=["locks", "no locks"])
def disk(request, monkeypatch) -> str:
    """A disk with locks, and one on which every lock fails, as some network disks do."""
    if request.param == "no locks":

        def no_locks(handle, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
    return request.param


def held_by_child(folder: str, locks: bool, held, done) -> None:
    if not locks:

        def no_locks(handle, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        fcntl.flock = no_locks
    with folder_claims.claimed(Path(folder)):
        held.set()
        done.wait(120)


def test_a_claim_is_one_thread_s_and_may_be_nested(disk, tmp_path):
    found, folder = [], tmp_path / "run"

    def other_thread():
        try:
            with folder_claims.claimed(folder):
                found.append("claimed")
        except RunningError as error:
            found.append(str(error))

    def ask() -> str:
        thread = threading.Thread(target=other_thread)
        thread.start(), thread.join()
        return found.pop()

    with folder_claims.claimed(folder) as outer:
        with folder_claims.claimed(folder) as inner:
            assert inner is outer
        assert holder_of(folder) == f"process {os.getpid()} on {os.uname().nodename}"
        assert f"is being trained by process {os.getpid()}" in ask()
        assert (folder / "lease").exists() == (disk == "no locks")
    assert not folder.exists()  # nothing was written to it
    assert holder_of(folder) is None and ask() == "claimed"
    with folder_claims.claimed(folder):
        (folder / "results.json").write_text("{}")
    assert {path.name for path in folder.iterdir()} >= {"results.json"}


def test_another_process_is_refused_and_its_end_by_any_way_frees_the_folder(disk, tmp_path):
    folder, held, done = tmp_path / "run", PROCESSES.Event(), PROCESSES.Event()
    child = PROCESSES.Process(
        target=held_by_child, args=(str(folder), disk == "locks", held, done), daemon=True
    )
    child.start()
    assert held.wait(120)
    for _ in range(3):  # looking frees nothing
        assert holder_of(folder).startswith(f"process {child.pid} on")
    with pytest.raises(RunningError, match=f"is being trained by process {child.pid} on"):
        with folder_claims.claimed(folder):
            pass
    child.kill()
    child.join()
    with folder_claims.claimed(folder):
        assert holder_of(folder).startswith(f"process {os.getpid()} on")


def test_a_lease_that_nobody_touches_is_taken_over_and_its_process_writes_no_more(
    tiny_recipe, tmp_path, monkeypatch
):
    """As when a laptop sleeps, on a disk without locks."""

    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(folder_claims, "LEASE", 0.6)
    run = Run(tiny_recipe(), tmp_path / "run")
    ends, taken = threading.Event(), threading.Event()

    def take_over():
        with folder_claims.claimed(run.folder):
            taken.set()
            ends.wait(60)

    with ExitStack() as claims:
        claims.enter_context(run.claim())
        run.create()
        lease = run.folder / "lease"
        other = lease.with_name("aside")
        os.replace(lease, other)  # its heartbeat no longer reaches it
        shutil.copy(other, lease)
        os.utime(lease, (time.time() - 60,) * 2)
        thread = threading.Thread(target=take_over)
        thread.start()
        assert taken.wait(60)
        with pytest.raises(FolderLostError, match="nothing more is written"):
            run.append_metrics({"step": 1, "loss": 2.0})
        ends.set(), thread.join()
    assert run.metrics() == []


WRITES = {
    "a line of the log": lambda run: run.append_metrics({"step": 1, "loss": 2.0}),
    "the log": lambda run: run.truncate_metrics(0),
    "a checkpoint": lambda run: run.save_checkpoint(1, {"w": torch.ones(2)}, {}, {}),
    "results": lambda run: run.write_results({"perplexity": {"16": 2.0}}),
    "a failure": lambda run: run.write_failure("loss is nan"),
}


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_to_a_folder_that_was_deleted(write, again, tiny_recipe, tmp_path):
    run, other = (Run(tiny_recipe(seed=seed), tmp_path / "run") for seed in (0, 1))
    with run.claim():
        run.create()
        shutil.rmtree(run.folder)
        if again:
            thread = threading.Thread(target=other.create)
            thread.start(), thread.join()
        with pytest.raises((FolderLostError, OSError)):
            WRITES[write](run)
    if again:
        assert Run.open(run.folder).recipe == other.recipe
        kept = {path.name for path in run.folder.iterdir()}
        assert kept == {"recipe.json", "checkpoints", "lock"} and not other.checkpoints()
    else:
        assert not run.folder.exists()


def start(folder: str, recipe, data, go, deletes: bool) -> None:
    """Train, at the same moment as another process; perhaps delete the folder meanwhile."""
    collect_garbage_again()
    torch.set_num_threads(1)

    def watch(step, model):
        if deletes and step == 2:
            shutil.rmtree(folder, ignore_errors=True)

    go.wait(120)
    try:
        train(recipe, folder, data=data, cpu=True, progress=False, watch=watch)
    except (RunningError, FolderLostError, ValueError, OSError):
        os._exit(2)


def start_two(folder: Path, recipes, data, deletes: bool = False) -> list[int]:
    go = PROCESSES.Event()
    both = [
        PROCESSES.Process(target=start, args=(str(folder), recipe, data, go, deletes and i == 0))
        for i, recipe in enumerate(recipes)
    ]
    for process in both:
        process.start()
    go.set()
    for process in both:
        process.join(300)
    return [process.exitcode for process in both]


def is_one_run(folder: Path) -> bool:
    """Whether all that lies there belongs to one run; also True if nothing is left."""
    if not (folder / "recipe.json").exists():
        return True
    run = Run.open(folder)
    steps = [record["step"] for record in run.metrics()]
    for path in run.checkpoints():
        run.load_checkpoint(path)
    run.outcome()
    return steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("case", ["same recipe", "other seed", "deleted in between"])
def test_of_two_processes_in_one_folder_one_trains_it(
    case, tiny_recipe, tiny_data, two_runs, tmp_path
):
    recipes = [tiny_recipe(seed=0), tiny_recipe(seed=int(case == "other seed"))]
    text = dataclasses.replace(tiny_data, decode=None)  # which cannot be sent to a process
    statuses = start_two(tmp_path / "run", recipes, text, case.startswith("deleted"))
    assert set(statuses) <= {0, 2} and is_one_run(tmp_path / "run")
    if not case.startswith("deleted"):
        run = Run.open(tmp_path / "run")
        assert 0 in statuses and run.metrics() == two_runs[run.recipe.seed].metrics()


# --- divergence ---------------------------------------------------------------------------------


def infinite_loss(patch, model):
    original = TextTask.main_loss
    patch.setattr(TextTask, "main_loss", lambda *a, **o: original(*a, **o) * float("inf"))


def nan_gradient(patch, model):
    model.transformer.wte.weight.register_hook(lambda gradient: gradient * float("nan"))


def infinite_weight(patch, model):
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = float("inf")


def nan_result(patch, model):
    patch.setattr(TextTask, "evaluate", lambda *_: {"perplexity": {"16": float("nan")}})


@pytest.mark.parametrize(
    "damage, at, step, what",
    [
        (infinite_loss, 3, 4, "(loss|gradient_norm) is (inf|nan)"),
        (nan_gradient, 3, 4, "gradient_norm is nan"),
        (infinite_weight, 6, 6, "(validation|a weight of transformer.ln_f.bias) is (inf|nan)"),
        (nan_result, 6, 6, "perplexity at 16 is nan"),
    ],
    ids=["loss", "gradient", "weight", "result"],
)
def test_a_run_that_diverges_has_failed(
    damage, at, step, what, tiny_recipe, tiny_data, tmp_path, monkeypatch, capsys
):
    recipe, folder = tiny_recipe(seed=3), tmp_path / "run"

    def watch(done, model):
        if done == at:
            damage(monkeypatch, model)

    with pytest.raises(DivergedError, match=f"seed 3, diverged at step {step} of 6: .*{what}") as e:
        train(recipe, folder, data=tiny_data, cpu=True, watch=watch)
    for part in ("the last finite values, of step", "Lower learning_rate (", "clip"):
        assert part in str(e.value)
    run = Run.open(folder)
    assert run.state == "failed" and run.results() is None
    assert run.failure()["failed"] == str(e.value) and run.failure()["commit"]
    for path in run.checkpoints():  # none with such weights
        assert all(w.isfinite().all() for w in run.load_checkpoint(path)[0].values())
    assert "NaN" not in (folder / "metrics.jsonl").read_text()
    monkeypatch.undo()
    assert main(["train", "lm", "--folder", str(folder), "--cpu"]) == DivergedError.exit_status
    said = capsys.readouterr().err
    assert "diverged at step" in said and f"delete {folder}" in said
    assert main(["runs", "--folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "\nfailed " in printed and "diverged at step" in printed
    with pytest.raises(DivergedError, match="has failed"):
        trained_model(run, tiny_data)


def test_fine_tuning_does_not_start_from_a_failed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    base = Run(language_model("seqpe", "smoke"))
    base.create()
    base.write_failure("loss is nan")
    with pytest.raises(DivergedError, match="to start from has failed: loss is nan"):
        load_base(None, question_answering("seqpe", "smoke"))


# --- watching -----------------------------------------------------------------------------------


def test_a_live_log_reads_only_what_is_new(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log, lines = MetricsLog(path), [json.dumps({"step": s}) + "\n" for s in range(1, 5)]
    path.write_text("".join(lines[:2]) + lines[2][:5])
    assert log.read() == [{"step": 1}, {"step": 2}]
    with open(path, "r+") as file:  # what was read once is not looked at again
        file.write("?" * len(lines[0]))
        file.seek(0, os.SEEK_END)
        file.write(lines[2][5:] + lines[3])
    assert log.read() == [{"step": s} for s in range(1, 5)]
    replaced = path.with_name("new")
    replaced.write_text(lines[0])
    os.replace(replaced, path)  # the run was resumed
    assert log.read() == [{"step": 1}]
