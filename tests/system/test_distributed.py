"""Training in one or several processes of its own: the same numbers, whatever kills them.

No process waits for another for ever.

They are forked from a server that has imported torch once; one test goes through torchrun.
"""

import hashlib
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from fork_server import PROCESSES, collect_garbage_again, torchrun

from seqpe_lab.cli import main
from seqpe_lab.runs import Run, RunningError, checkpoint_files
from seqpe_lab.runs.divergence import DivergedError
from seqpe_lab.tasks.image_views import EvaluationViews
from seqpe_lab.tasks.text import TextTask
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.training import train

KILLS = 20


def fingerprint(tokens: torch.Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def rank(number: int, world: int, port: int, log: str, arguments: list[str], spoil: str) -> None:
    """``python -m seqpe_lab <arguments>``, alone or as torchrun's ``number`` of ``world``."""
    if world > 1:
        os.environ |= {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1), os.dup2(handle, 2)
    torch.set_num_threads(1)
    collect_garbage_again()
    save_file, main_loss = checkpoint_files.save_file, TextTask.main_loss
    if spoil == "slow disk":
        checkpoint_files.save_file = lambda *where: (save_file(*where), time.sleep(0.02))
    if spoil == "full disk":

        def save_no_file(tensors, path):
            if "0000006" in str(path):
                raise OSError(28, "No space left on device")
            save_file(tensors, path)

        checkpoint_files.save_file = save_no_file
    if spoil == "record":

        def recorded(task, model, tokens, *others, **options):
            with open(f"{log}.batches", "a") as file:
                file.write(fingerprint(tokens) + "\n")
            return main_loss(task, model, tokens, *others, **options)

        TextTask.main_loss = recorded
    if spoil in ("record", "broken image"):

        def shown(views, index):
            with open(f"{log}.images", "a") as file:
                file.write(f"{len(views)} {views.size} {index}\n")
            if spoil == "broken image" and len(views) == 3 and number == 1:
                raise ValueError("this image cannot be read")
            return show(views, index)

        show = EvaluationViews.__getitem__
        EvaluationViews.__getitem__ = shown
    if spoil == "signal" and number == 1:
        calls = iter(range(100))

        def signalled(*arguments, **options):
            if next(calls) == 2:  # the second step's first micro-batch
                os.kill(os.getpid(), signal.SIGUSR1)
            return main_loss(*arguments, **options)

        TextTask.main_loss = signalled
    if spoil == "infinite loss" and number == 1:
        TextTask.main_loss = lambda *a, **o: main_loss(*a, **o) * float("inf")
    if spoil == "another seed" and number == 1:
        arguments = [*arguments, "--seed", "1"]
    sys.exit(main(arguments))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Together:
    """``seqpe_lab train`` on one process or several; ``log(r)`` is what process r said."""

    def __init__(self, folder: Path, arguments: list[str], world: int = 2, spoil: str = ""):
        self.logs = [folder.with_name(f"{folder.name}-log-{number}") for number in range(world)]
        port = free_port()
        self.processes = [
            PROCESSES.Process(
                target=rank, args=(number, world, port, str(self.logs[number]), arguments, spoil)
            )
            for number in range(world)
        ]
        for process in self.processes:
            process.start()

    def wait(self) -> list[int]:
        """The exit status of each; they have ten minutes, also on a busy machine."""
        end = time.monotonic() + 600
        for process in self.processes:
            process.join(max(0, end - time.monotonic()))
        hung = [process.pid for process in self.processes if process.exitcode is None]
        for process in self.processes:
            process.kill()
        assert not hung, f"still there: {[self.log(r) for r in range(len(self.logs))]}"
        return [process.exitcode for process in self.processes]

    def alive(self) -> bool:
        return all(process.exitcode is None for process in self.processes)

    def log(self, number: int) -> str:
        return self.logs[number].read_text() if self.logs[number].exists() else ""


def together(run: Run, world: int = 2, spoil: str = "") -> list[int]:
    """Train a run that has its folder."""
    started = Together(
        run.folder,
        [
            "train",
            "image" if hasattr(run.recipe, "image_size") else "lm",
            "--folder",
            str(run.folder),
            "--cpu",
        ],
        world,
        spoil,
    )
    statuses = started.wait()
    assert any(statuses) or run.state == "finished", started.log(0)
    return statuses


def new_run(recipe, folder: Path) -> Run:
    run = Run(recipe, folder)
    run.create()
    return run


def train_in(run: Run) -> list[str]:
    """What torchrun starts."""
    return ["-m", "seqpe_lab", "train", "lm", "--folder", str(run.folder), "--cpu"]


def assert_close(ours: Run, theirs: Run) -> None:
    assert [r.keys() for r in ours.metrics()] == [r.keys() for r in theirs.metrics()]
    for a, b in zip(ours.metrics(), theirs.metrics()):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)


def assert_equal(ours: Run, theirs: Run) -> None:
    """To the last bit."""
    assert ours.metrics() == theirs.metrics()
    assert all(
        torch.equal(value, theirs.model_weights()[name])
        for name, value in ours.model_weights().items()
    )
    assert ours.measured() == theirs.measured()


@pytest.fixture(scope="module")
def finished(tiny_recipe, text_file, tmp_path_factory) -> Run:
    """A run of two processes: 6 steps of two micro-batches each, checkpoints at 3 and 6.

    Tests work on copies.
    """
    run = new_run(
        tiny_recipe(source=str(text_file), dropout=0.1, shifted=0.5, micro_batch=2),
        tmp_path_factory.mktemp("finished") / "run",
    )
    assert together(run, spoil="record") == [0, 0]
    return run


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    """The same, interrupted after step 6: its results are not there yet."""
    shutil.copytree(finished.folder, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    return Run.open(tmp_path / "run")


# --- the numbers of one process -----------------------------------------------------------------


def test_text_on_two_processes_has_the_batches_and_the_losses_of_one(
    finished, text_file, tmp_path, monkeypatch
):
    """Dropout too: what a micro-batch forgets depends on its number, not on who computes it.

    No sequence is seen twice.
    """
    alone_saw, main_loss = [], TextTask.main_loss
    monkeypatch.setattr(
        TextTask,
        "main_loss",
        lambda task, model, tokens, *others, **options: (
            alone_saw.append(fingerprint(tokens)),
            main_loss(task, model, tokens, *others, **options),
        )[1],
    )
    alone = train(finished.recipe, tmp_path / "alone", data=load_text(str(text_file)), cpu=True)
    saw = [
        Path(f"{finished.folder}-log-{number}.batches").read_text().split() for number in range(2)
    ]
    assert len(alone_saw) == len(set(alone_saw)) == 6 * 4 and saw == [
        alone_saw[0::2],
        alone_saw[1::2],
    ]
    assert_close(finished, alone)
    assert (finished.results()["processes"], alone.results()["processes"]) == (2, 1)
    said = [Path(f"{finished.folder}-log-{number}").read_text() for number in range(2)]
    assert "perplexity" not in said[1]  # one speaks for both
    for value in finished.results()["perplexity"].values():
        assert f" {value:.2f}" in said[0]
    assert {"contrastive", "distillation"} <= alone.metrics()[0].keys()


def test_images_on_two_processes_have_the_losses_of_one(
    tiny_image_recipe, colours, colour_folder, tmp_path
):
    """With all of DeiT's chance: crops, RandAugment, erasing, mixup, cutmix, stochastic depth."""
    recipe = tiny_image_recipe(
        steps=3,
        micro_batch=2,
        shifted=0.5,
        source=str(colour_folder),
        augment="deit",
        mixup=0.8,
        cutmix=1.0,
        smoothing=0.1,
        erasing=0.25,
        crop=0.2,
        drop_path=0.2,
        layers=2,
    )
    alone = train(recipe, tmp_path / "alone", data=colours, cpu=True)
    run = new_run(recipe, tmp_path / "together")
    assert together(run) == [0, 0]
    assert_close(run, alone)


@pytest.fixture
def image_recipe(tiny_image_recipe, colour_folder):
    """Validates on 5 images, tests on 3 at two sizes; neither divides by two."""
    return tiny_image_recipe(
        steps=2,
        checkpoint_every=1,
        micro_batch=4,
        source=str(colour_folder),
        augment="deit",
        validation_images=5,
        eval_images=3,
    )


def test_two_processes_share_an_evaluation_and_get_the_numbers_of_one(
    image_recipe, colours, tmp_path
):
    alone = train(image_recipe, tmp_path / "alone", data=colours, cpu=True)
    run = new_run(image_recipe, tmp_path / "together")
    assert together(run, spoil="record") == [0, 0]
    results, expected = run.results(), alone.results()
    for numbers in ("accuracy", "interpolated", "images"):
        assert results[numbers] == expected[numbers]
    for ours, theirs in zip(run.checkpoints(), alone.checkpoints(), strict=True):
        assert run.load_checkpoint(ours)[2]["validation"] == pytest.approx(
            alone.load_checkpoint(theirs)[2]["validation"], rel=1e-5
        )
    saw = [Path(f"{run.folder}-log-{n}.images").read_text().splitlines() for n in range(2)]
    for number in range(2):  # two validations, then each size with plain and interpolated positions
        validation = [f"5 12 {i}" for i in range(number, 5, 2)]
        test = [[f"3 {size} {i}" for i in range(number, 3, 2)] for size in (12, 16)]
        assert saw[number] == 2 * validation + 2 * [view for size in test for view in size]


def test_the_command_line_evaluates_images_on_all_processes(image_recipe, colours, tmp_path, capfd):
    run = train(image_recipe, tmp_path / "run", data=colours, cpu=True)
    command = ["evaluate", str(run.folder), "--sizes", "16", "12", "--split", "validation", "--cpu"]
    assert main(command) == 0
    alone = capfd.readouterr().out
    started = Together(run.folder, command, spoil="record")
    assert started.wait() == [0, 0]
    assert started.log(0).endswith(alone) and "top-1" in alone and "top-1" not in started.log(1)
    saw = [Path(f"{run.folder}-log-{n}.images").read_text().splitlines() for n in range(2)]
    assert saw == [[f"5 {size} {i}" for size in (16, 12) for i in range(n, 5, 2)] for n in (0, 1)]


def test_an_image_that_one_process_cannot_read_ends_both(image_recipe, tmp_path):
    """In the last evaluation, of which the main process has done its part."""
    run = new_run(image_recipe, tmp_path / "run")
    started = Together(
        run.folder, ["train", "image", "--folder", str(run.folder), "--cpu"], spoil="broken image"
    )
    assert started.wait() == [2, 2]
    assert "process 1 stopped: this image cannot be read" in started.log(0)
    assert "this image cannot be read" in started.log(1)
    assert len(run.checkpoints()) == 2 and run.state != "finished"


def test_a_run_of_two_processes_goes_on_with_one_or_four(copy, finished, text_file):
    shutil.rmtree(copy.checkpoints()[-1])
    shutil.copytree(copy.folder, more := copy.folder.with_name("more"))
    train(copy.recipe, copy.folder, data=load_text(str(text_file)), cpu=True)
    assert together(Run.open(more), world=4) == [0] * 4
    assert_close(copy, finished)
    assert_close(Run.open(more), finished)


# --- kills --------------------------------------------------------------------------------------


def written(run: Run) -> tuple[int, int]:
    """(which file, how many lines) of metrics: a process that resumes begins with a new file."""
    metrics = run.folder / "metrics.jsonl"
    return (
        (metrics.stat().st_ino, metrics.read_bytes().count(b"\n")) if metrics.exists() else (0, 0)
    )


def last_checkpoint(run: Run) -> int:
    return int(run.checkpoints()[-1].name.removeprefix("step-")) if run.checkpoints() else 0


def assert_readable(run: Run) -> None:
    opened = Run.open(run.folder)
    assert opened.recipe == run.recipe and [r["step"] for r in opened.metrics()] == list(
        range(1, len(opened.metrics()) + 1)
    )
    for path in opened.checkpoints():
        assert opened.load_checkpoint(path)[2]["step"] == int(path.name.removeprefix("step-"))


def test_a_run_killed_at_five_random_moments_has_the_losses_of_an_unbroken_one(
    tiny_recipe, text_file, tmp_path
):
    """SIGKILL, which nothing can catch: to the last bit, and every moment leaves a readable run."""
    recipe = tiny_recipe(
        source=str(text_file),
        steps=60,
        checkpoint_every=3,
        dropout=0.1,
        shifted=0.5,
        micro_batch=4,
        warmup_steps=10,
    )
    unbroken, run, chance = (
        new_run(recipe, tmp_path / "unbroken"),
        new_run(recipe, tmp_path / "killed"),
        random.Random(0),
    )
    assert together(unbroken, world=1) == [0]
    for _ in range(5):
        old_file, goal = written(run)[0], last_checkpoint(run) + chance.randint(1, 9)
        started = Together(
            run.folder, ["train", "lm", "--folder", str(run.folder), "--cpu"], world=1
        )
        while started.alive() and (written(run)[0] == old_file or written(run)[1] < goal):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        started.processes[0].kill()
        assert started.wait() == [-signal.SIGKILL], started.log(0)
        assert_readable(run)
    assert together(run, world=1) == [0]
    assert_equal(run, unbroken)


def test_two_processes_killed_at_twenty_random_moments_have_the_losses_of_an_unbroken_run(
    tiny_recipe, text_file, tmp_path
):
    """SIGKILL of both or of one, also in the middle of a checkpoint: the same to the last bit.

    Every moment leaves a readable run.

    A run that comes through begins again, so that it does not matter how far it gets between two
    kills.
    """
    recipe = tiny_recipe(
        source=str(text_file),
        steps=30,
        checkpoint_every=3,
        dropout=0.1,
        shifted=0.5,
        batch=4,
        micro_batch=2,
        warmup_steps=10,
    )
    unbroken, run = new_run(recipe, tmp_path / "unbroken"), new_run(recipe, tmp_path / "killed")
    assert together(unbroken) == [0, 0]
    checkpoints, chance, kills, cut_short = run.folder / "checkpoints", random.Random(0), 0, 0
    while kills < KILLS:
        if run.state == "finished":
            assert_equal(run, unbroken)
            shutil.rmtree(run.folder)
            run.create()
        old_file, goal, old_partial = (
            written(run)[0],
            last_checkpoint(run) + chance.randint(0, 2),
            set(checkpoints.glob(".partial-*")),
        )
        started = Together(
            run.folder, ["train", "lm", "--folder", str(run.folder), "--cpu"], spoil="slow disk"
        )
        while started.alive() and (written(run)[0] == old_file or written(run)[1] < goal):
            time.sleep(0.003)
        while (
            kills % 2
            and started.alive()
            and not {path.parent for path in checkpoints.glob(".partial-*/model.safetensors")}
            - old_partial
        ):
            time.sleep(0.003)  # to the middle of a checkpoint
        time.sleep(0 if kills % 2 else chance.random() * 0.05)
        victims = [(0, 1), (1,), (0,)][kills % 3]
        for number in victims:
            started.processes[number].kill()
        statuses = started.wait()
        if run.state == "finished":
            continue
        assert all(statuses[number] == -signal.SIGKILL for number in victims) and all(statuses), (
            started.log(0),
            started.log(1),
        )
        kills, cut_short = kills + 1, cut_short + bool(list(checkpoints.glob(".partial-*")))
        assert_readable(run)
    assert cut_short >= 1
    assert together(run) == [0, 0]
    assert_equal(run, unbroken)
    assert not list(checkpoints.glob(".*"))


def test_a_signal_to_one_process_stops_all_after_the_same_step_and_the_run_resumes(
    finished, tmp_path
):
    run = new_run(finished.recipe, tmp_path / "run")
    started = Together(
        run.folder, ["train", "lm", "--folder", str(run.folder), "--cpu"], spoil="signal"
    )
    assert started.wait() == [75, 75], (started.log(0), started.log(1))
    for number in range(2):
        assert "seqpe_lab: SIGUSR1 stopped the training after step 2 of 6" in started.log(number)
    assert [path.name for path in run.checkpoints()] == ["step-0000002"]
    assert together(run) == [0, 0]
    assert_equal(run, finished)


def test_processes_that_load_data_outlive_the_signal_that_stops_the_run(
    tiny_recipe, text_file, tmp_path, project
):
    """A cluster sends it to all processes; without its data the run could not end its step."""
    recipe = tiny_recipe(source=str(text_file), steps=50_000, checkpoint_every=50_000)
    run = new_run(recipe, tmp_path / "run")
    command = ["-m", "seqpe_lab", "train", "lm", "--folder", str(run.folder), "--cpu"]
    with open(tmp_path / "log", "w") as log:
        process = psutil.Popen(
            [sys.executable, *command, "--workers", "1"], cwd=project, stdout=log, stderr=log
        )
        while process.poll() is None and run.step < 5:
            time.sleep(0.01)
        loaders = process.children(recursive=True)
        for loader in loaders:
            loader.terminate()
        assert loaders and psutil.wait_procs(loaders, timeout=1)[1] == loaders
        process.terminate()
        assert process.wait(timeout=600) == 75, (tmp_path / "log").read_text()
    assert run.checkpoints() and psutil.wait_procs(loaders, timeout=60)[1] == []


def test_three_processes_resume_to_the_last_bit(tiny_recipe, text_file, tmp_path):
    """Sums of more than two numbers depend on their order.

    torch would change that order after the first step it sees.
    """
    recipe = tiny_recipe(
        source=str(text_file),
        d_model=64,
        layers=3,
        batch=6,
        micro_batch=2,
        steps=3,
        checkpoint_every=1,
    )
    run = new_run(recipe, tmp_path / "run")
    assert together(run, world=3) == [0] * 3
    shutil.copytree(run.folder, tmp_path / "resumed")
    resumed = Run.open(tmp_path / "resumed")
    (resumed.folder / "results.json").unlink()
    shutil.rmtree(resumed.checkpoints()[-1])
    assert together(resumed, world=3) == [0] * 3
    assert_equal(resumed, run)


def test_torchrun_ends_when_one_of_its_processes_is_killed_and_the_run_resumes(finished, tmp_path):
    """The command of the README."""
    run, log = new_run(finished.recipe, tmp_path / "run"), tmp_path / "log"
    arguments = ["--standalone", "--nproc_per_node", "2", *train_in(run)]
    process = PROCESSES.Process(target=torchrun, args=(str(log), arguments))
    process.start()
    while process.exitcode is None and not run.metrics():
        time.sleep(0.001)
    os.kill(int(run.trainer.split()[1]), signal.SIGKILL)  # the main one
    process.join(600)
    assert process.exitcode, log.read_text()
    assert run.state != "finished"
    assert together(run) == [0, 0]
    assert_equal(run, finished)


# --- what is refused ----------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def test_all_processes_refuse_a_broken_checkpoint_by_name_and_go_on_from_the_previous_one(
    copy, finished
):
    damages = {
        "model.safetensors": (
            lambda path: path.write_bytes(path.read_bytes()[:-100]),
            "truncated or altered",
        ),
        "optimizer.safetensors": (flip, "truncated or altered"),
        "state.json": (
            lambda path: path.write_text(path.read_text().replace('"recipe": "', '"recipe": "0')),
            "state.json cannot be read",
        ),
    }
    last = copy.checkpoints()[-1]
    for name, (damage, reason) in damages.items():
        whole = (last / name).read_bytes()
        damage(last / name)
        started = Together(copy.folder, ["train", "lm", "--folder", str(copy.folder), "--cpu"])
        assert started.wait() == [2, 2]
        assert all(
            part in started.log(0)
            for part in ("step-0000006 is refused", reason, "the previous one is step-0000003")
        )
        (last / name).write_bytes(whole)
    shutil.rmtree(last)  # what the message says
    assert together(copy) == [0, 0]
    assert_equal(copy, finished)


def test_a_full_disk_ends_all_processes_and_the_run_resumes(copy, finished):
    shutil.rmtree(copy.checkpoints()[-1])
    started = Together(
        copy.folder, ["train", "lm", "--folder", str(copy.folder), "--cpu"], spoil="full disk"
    )
    assert started.wait() == [2, 2]
    assert "No space left on device" in started.log(
        0
    ) and "the last good one is step-0000003" in started.log(0)
    assert "the main process stopped" in started.log(1) and [
        path.name for path in copy.checkpoints()
    ] == ["step-0000003"]
    assert together(copy) == [0, 0]
    assert_equal(copy, finished)


def test_a_loss_that_is_infinite_on_one_process_ends_all_and_the_run_has_failed(finished, tmp_path):
    run = new_run(finished.recipe, tmp_path / "run")
    started = Together(
        run.folder, ["train", "lm", "--folder", str(run.folder), "--cpu"], spoil="infinite loss"
    )
    assert started.wait() == [DivergedError.exit_status] * 2
    assert run.state == "failed" and not run.checkpoints()
    for number in range(2):
        assert "seed 0, diverged at step 1 of 6" in started.log(number)


def test_processes_of_different_recipes_refuse_to_work_together(text_file, tmp_path):
    started = Together(
        tmp_path / "run",
        [
            "train",
            "lm",
            "--scale",
            "smoke",
            "--cpu",
            "--set",
            "micro_batch=4",
            f"source={text_file}",
        ],
        spoil="another seed",
    )
    assert started.wait() == [2, 2]
    for number in range(2):
        assert "the processes do not agree on the run" in started.log(number)


def test_a_batch_that_the_processes_do_not_divide_is_refused_before_a_folder_is_made(tmp_path):
    started = Together(
        tmp_path / "run",
        ["train", "lm", "--scale", "smoke", "--cpu", "--folder", str(tmp_path / "run")],
    )
    assert started.wait() == [2, 2]
    assert (
        "2 processes with micro_batch=8 do not divide batch=8" in started.log(0)
        and not (tmp_path / "run").exists()
    )


def test_two_machines_find_each_other_and_equal_one_process(tiny_recipe, text_file, tmp_path):
    """The README's command for several machines; here both are this one, with two torchruns."""
    recipe = tiny_recipe(source=str(text_file), steps=3, micro_batch=4)
    alone, both = (new_run(recipe, tmp_path / name) for name in ("alone", "both"))
    train(recipe, alone.folder, data=load_text(str(text_file)), cpu=True)
    arguments = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d"]
    arguments += ["--rdzv_endpoint", f"127.0.0.1:{free_port()}", *train_in(both)]
    logs = [tmp_path / "log-0", tmp_path / "log-1"]
    machines = [PROCESSES.Process(target=torchrun, args=(str(log), arguments)) for log in logs]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join(600)
    said = [log.read_text() for log in logs]
    assert [machine.exitcode for machine in machines] == [0, 0], said
    assert both.results()["processes"] == 2
    assert_close(both, alone)


def test_more_processes_than_accelerate_sees_are_refused(
    tiny_recipe, tiny_data, tmp_path, monkeypatch
):
    """As when a program has used accelerate before it was given its rank."""
    train(tiny_recipe(steps=1), tmp_path / "alone", data=tiny_data, cpu=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        RuntimeError,
        match="2 processes were started but accelerate sees 1: start them with torchrun",
    ):
        train(tiny_recipe(steps=1), tmp_path / "run", data=tiny_data, cpu=True)


def hold(folder: str, held, done) -> None:
    with Run.open(folder).claim():
        held.set()
        done.wait(120)


def test_a_folder_in_which_another_process_trains_is_refused_by_name(copy, text_file):
    """As when torchrun itself was killed and its processes train on."""
    held, done = PROCESSES.Event(), PROCESSES.Event()
    other = PROCESSES.Process(target=hold, args=(str(copy.folder), held, done))
    other.start()
    assert held.wait(120)
    with pytest.raises(
        RunningError,
        match=f"is being trained by process {other.pid} on .*: wait for it, or stop it first",
    ):
        train(copy.recipe, copy.folder, data=load_text(str(text_file)), cpu=True)
    done.set()
    other.join()
    assert (
        train(copy.recipe, copy.folder, data=load_text(str(text_file)), cpu=True).state
        == "finished"
    )
