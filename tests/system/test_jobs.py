"""A run in a process of its own: started, lost, found again, stopped, resumed; and its monitor."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import fork_server
import psutil
import pytest
import torch

from seqpe_lab import jobs
from seqpe_lab.cli import main
from seqpe_lab.jobs import STATES, Job
from seqpe_lab.runs import Run
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.training import train

PATIENCE = 240  # seconds, for machines that do other things


@pytest.fixture(scope="module")
def recipe(tiny_recipe, text_file):
    """Long enough to be stopped in the middle."""
    return tiny_recipe(
        source=str(text_file),
        steps=200,
        checkpoint_every=20,
        dropout=0.1,
        shifted=0.5,
        micro_batch=4,
    )


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Run:
    return train(
        recipe, tmp_path_factory.mktemp("unbroken") / "run", data=load_text(recipe.source), cpu=True
    )


@pytest.fixture
def job_of(tmp_path):
    """job_of(recipe): a job in a folder of its own, stopped when the test ends."""
    made = []

    def make(recipe, name="run") -> Job:
        made.append(Job(recipe, tmp_path / name))
        return made[-1]

    yield make
    for job in made:
        if job.folder.exists() and job._processes():
            job.stop(patience=5)


@pytest.fixture
def sleeper():
    """A process that does nothing, and lives."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def until(happens, patience: float = PATIENCE):
    """What a function gives once that is true, or gives in the end."""
    began = time.monotonic()
    while not (found := happens()) and time.monotonic() - began < patience:
        time.sleep(0.05)
    return found


def record_of(job: Job, process: subprocess.Popen, **changes) -> dict:
    """Write a job.json that names this process."""
    job.run.create()
    record = {
        "pid": process.pid,
        "started": psutil.Process(process.pid).create_time(),
        "host": jobs.platform.node(),
        "processes": 1,
        "cpu": True,
        "command": [],
        "log_from": 0,
        "stopped": False,
    } | changes
    job._write(record)
    return record


def same_result(run: Run, unbroken: Run) -> bool:
    """To the last bit: every logged number, the weights, the perplexities."""
    ours, theirs = run.model_weights(), unbroken.model_weights()
    return (
        run.metrics() == unbroken.metrics()
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[k], theirs[k]) for k in ours)
        and run.results()["perplexity"] == unbroken.results()["perplexity"]
    )


def look_and_stop(pipe) -> None:
    """What a notebook of another kernel does with the folder of a run."""
    pipe.send("ready")
    job = Job(pipe.recv())
    pipe.send((job.state, job.progress().step, job.stop()))


# --- a whole life -------------------------------------------------------------------------------


def test_started_found_by_a_fresh_process_stopped_and_resumed_it_equals_an_unbroken_run(
    recipe, unbroken, job_of, capsys
):
    here, there = fork_server.PROCESSES.Pipe()
    stranger = fork_server.PROCESSES.Process(target=look_and_stop, args=(there,))
    stranger.start()
    job = job_of(recipe)
    assert here.recv() == "ready" and job.state == "new"
    job.start(cpu=True)
    pid = job._record()["pid"]
    assert job.state == "running" and os.getsid(pid) == pid != os.getsid(
        0
    )  # a session of its own: no signal to ours reaches it
    with pytest.raises(
        RuntimeError, match=f"is being trained (by|already \\()process {pid}.*stop it first"
    ):
        Job(job.folder).start(cpu=True)
    assert main(["runs", "--folder", str(job.folder)]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("running")

    assert job.wait(PATIENCE, until=25) == "running"
    here.send(job.folder)
    assert here.poll(15)  # it does not wait for us to take note of the end of the process
    seen, step, left = here.recv()
    stranger.join()
    assert (seen, left, job.state) == ("running", "stopped", "stopped") and not psutil.pid_exists(
        pid
    )
    at = len(job.run.metrics())
    assert 25 <= step <= at < recipe.steps
    assert job.run.checkpoints()[-1].name == f"step-{at:07d}"  # it was asked politely
    assert job.progress().step == at and job.progress().seconds_left is None

    assert job.resume().wait(PATIENCE) == "finished" and same_result(job.run, unbroken)
    steps = [record["step"] for record in job.run.metrics()]
    assert steps == [*range(1, recipe.steps + 1)]
    record = job._record()
    assert (
        job.start(cpu=True).state == "finished" and job._record() == record
    )  # no process for what is there


def test_of_two_starts_at_one_moment_one_process_comes(job_of, tiny_recipe, monkeypatch):
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(Job, "command", lambda job, processes, cpu: sleeps)
    job, together, said = job_of(tiny_recipe()), threading.Barrier(2), []

    def start():
        together.wait()
        try:
            said.append(Job(job.run.recipe, job.folder).start(cpu=True).state)
        except RuntimeError as error:
            said.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(job._processes()) == 1 and job._record()["pid"] == job._processes()[0].pid
    assert sum("is being trained" in text for text in said) == 1 and "running" in said


def test_two_processes_under_torchrun_stop_and_leave_nobody_behind(recipe, job_of):
    """torchrun's workers have sessions of their own, which no signal to its group reaches."""
    job = job_of(recipe)
    job.start(processes=2, cpu=True)
    assert "--nproc_per_node 2 -m seqpe_lab train lm" in " ".join(job._record()["command"])
    job.wait(PATIENCE, until=3)
    workers = [p for p in job._processes() if p.pid != job._record()["pid"]]
    assert len(workers) >= 2 and job.state == "running"
    assert job.stop() == "stopped" and job._processes() == []
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers)


def test_what_a_kill_of_its_leader_leaves_behind_is_found_and_stopped(job_of, tiny_recipe):
    job = job_of(tiny_recipe())
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env=os.environ | {"SEQPE_JOB": str(job.folder)},
    )
    with pytest.raises(RuntimeError, match=f"process {orphan.pid}"):
        job.start(cpu=True)
    job.stop(patience=10)
    assert orphan.wait(10) == -signal.SIGTERM and job._processes() == []


def test_a_process_that_does_not_listen_is_killed(job_of, tiny_recipe, tmp_path):
    job = job_of(tiny_recipe())
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", deaf],
        env=os.environ | {"SEQPE_JOB": str(job.folder)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    record_of(job, process)
    assert job.state == "running" and job.stop(patience=0.5) == "stopped"
    process.wait(10)


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_failed_run_shows_what_it_said_and_not_what_torchrun_makes_of_it(
    tiny_recipe, tmp_path, job_of
):
    job = job_of(tiny_recipe(source=str(tmp_path / "missing.txt"), micro_batch=4))
    assert job.start(processes=2, cpu=True).wait(PATIENCE) == "failed"
    assert job.log().startswith("seqpe_lab: ") and "missing.txt" in job.log()


def test_a_log_without_an_error_of_ours_is_shown_from_its_end_and_only_the_last_start_s(
    job_of, tiny_recipe, sleeper
):
    job = job_of(tiny_recipe())
    record_of(job, sleeper, started=0.0, log_from=4)
    (job.folder / "log.txt").write_text("old\n" + "".join(f"line {i}\n" for i in range(30)))
    assert (
        job.state == "failed"
        and job.log(3) == "line 27\nline 28\nline 29"
        and "old" not in job.log(100)
    )


def test_another_process_with_its_number_is_not_taken_for_it(job_of, tiny_recipe, sleeper):
    job = job_of(tiny_recipe())
    record = record_of(job, sleeper)
    assert job.state == "running"
    record_of(job, sleeper, started=record["started"] - 60)
    assert job.state == "failed"
    job.stop()
    assert sleeper.poll() is None  # and is not stopped in its place


def test_a_dead_process_that_nobody_has_buried_does_not_run(job_of, tiny_recipe, sleeper):
    job = job_of(tiny_recipe())
    record_of(job, sleeper)
    sleeper.kill()
    os.waitid(
        os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT
    )  # dead, and still in the system's table
    assert job.state == "failed"


def test_a_run_of_another_machine_is_left_to_it(job_of, tiny_recipe, sleeper):
    job = job_of(tiny_recipe())
    record_of(job, sleeper, host="node17")
    assert job.state == "elsewhere"
    for act in (job.start, job.stop, job.resume):
        with pytest.raises(RuntimeError, match="was started on node17"):
            act()
    record_of(job, sleeper, host="node17", stopped=True)
    assert job.state == "stopped" and sleeper.poll() is None


def test_a_run_that_a_terminal_started_is_seen_running_and_left_to_it(
    job_of, tiny_recipe, text_file, project, capsys
):
    job = job_of(tiny_recipe(source=str(text_file), steps=100_000, checkpoint_every=100_000))
    job.run.create()
    terminal = subprocess.Popen(
        [sys.executable, "-m", "seqpe_lab", "train", "lm", "--folder", str(job.folder), "--cpu"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert (
            until(job.run.metrics)
            and job.state == "running"
            and job.run.trainer == f"process {terminal.pid} on {jobs.platform.node()}"
        )
        assert main(["runs", "--folder", str(job.folder)]) == 0
        assert capsys.readouterr().out.splitlines()[2].startswith("running")
        assert until(lambda: job.progress().seconds_left)
        for act in (job.start, job.stop, job.resume):
            with pytest.raises(
                RuntimeError,
                match=f"by process {terminal.pid} on .*, which was started in a terminal",
            ):
                act()
    finally:
        terminal.kill()
        terminal.wait()
    assert job.state == "new" and job.run.trainer is None  # it had not come to a checkpoint


def test_who_trains_a_run_and_looks_at_its_state_keeps_the_lock(job_of, tiny_recipe):
    run = job_of(tiny_recipe()).run
    run.create()
    look = "import sys\nfrom seqpe_lab.runs import Run\nprint(Run.open(sys.argv[1]).state)"
    with run.claim():
        assert run.state == "running"
        assert fork_server.python(look, str(run.folder)).stdout == "running\n"
    assert run.state == "new"


def test_too_few_or_too_many_processes_are_refused(job_of, tiny_recipe, monkeypatch):
    with pytest.raises(ValueError, match="processes=0 must be at least 1"):
        job_of(tiny_recipe()).start(processes=0, cpu=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ValueError, match="processes=8: choose from 1 to 4, one for each GPU"):
        job_of(tiny_recipe()).start(processes=8)


def test_waiting_ends(job_of, tiny_recipe, sleeper):
    job = job_of(tiny_recipe())
    record_of(job, sleeper)
    with pytest.raises(TimeoutError, match="still runs after 0.1 s"):
        job.wait(0.1)


# --- progress -----------------------------------------------------------------------------------


def test_progress_says_speed_and_time_left(job_of, tiny_recipe, sleeper):
    job = job_of(tiny_recipe(steps=100))
    record_of(job, sleeper)
    assert str(job.progress()) == "step 0 of 100"
    size = job.run.recipe.batch * job.run.recipe.train_len
    speeds = [size / 9] * 20 + [size / 2] * 19 + [1.0]  # the last step waited for something
    for step, speed in enumerate(speeds, start=1):
        job.run.append_metrics(
            {
                "step": step,
                "loss": 2.5,
                "main": 2.0,
                "contrastive": 3.0,
                "learning_rate": 0.1,
                "gradient_norm": 1.0,
                "tokens_per_second": speed,
            }
        )
    progress = job.progress()
    assert (progress.step, progress.steps) == (40, 100)
    assert progress.losses == {"main": 2.0, "contrastive": 3.0}
    assert (progress.unit, progress.per_second) == ("tokens", size / 2)
    assert progress.seconds_left == pytest.approx(2 * 60)
    assert str(progress) == (
        f"step 40 of 100 · main 2 · contrastive 3 · {size / 2:,.0f} tokens/s · about 2 min left"
    )


def test_images_are_counted_as_images(tiny_image_recipe, job_of, sleeper):
    job = job_of(tiny_image_recipe())
    record_of(job, sleeper, started=0.0)
    job.run.append_metrics({"step": 1, "images_per_second": 8.0})
    assert (job.progress().unit, job.progress().per_second) == ("images", 8.0)
    assert job.progress().seconds_left is None  # it does not run


# --- the panel ----------------------------------------------------------------------------------


@pytest.fixture
def watch():
    live = pytest.importorskip("seqpe_lab.course.run_monitor")
    made = []

    def make(*arguments, **options):
        made.append(live.watch(*arguments, **options))
        return made[-1]

    yield make
    for panel in made:
        panel.close()


def enabled(panel) -> set[str]:
    return {name for name, button in panel.buttons.items() if not button.disabled}


def test_the_panel_starts_shows_stops_and_resumes(tiny_recipe, job_of, watch, monkeypatch):
    monkeypatch.setattr(
        Job,
        "command",
        lambda job, processes, cpu: [sys.executable, "-c", "import time; time.sleep(600)"],
    )  # does nothing but live
    job = job_of(tiny_recipe(steps=4))
    panel = watch(job, cpu=True)
    assert enabled(panel) == {"Start"} and "Not started" in panel.status.value
    panel.buttons["Start"].click()
    assert job.state == "running" and enabled(panel) == {"Stop"}
    for step in (1, 2):
        job.run.append_metrics({"step": step, "loss": 2.0, "main": 2.0 / step})
    panel.refresh()
    assert (
        panel.figure.data[0].x == (1, 2)
        and panel.figure.data[0].y == (2.0, 1.0)
        and "Running." in panel.status.value
    )
    panel.buttons["Stop"].click()
    assert job.state == "stopped" and enabled(panel) == {"Resume"}

    again = watch(Job(job.folder))  # as after a restart of the kernel
    assert again.figure.data[0].x == (1, 2) and enabled(again) == {"Resume"}
    again.buttons["Resume"].click()
    assert job.state == "running" and enabled(again) == {"Stop"}
    for step in (3, 4):
        job.run.append_metrics({"step": step, "loss": 2.0, "main": 0.5})
    job.run.write_results({"perplexity": {}})
    again.refresh()
    assert (
        again.figure.data[0].x == (1, 2, 3, 4)
        and enabled(again) == set()
        and "Finished." in again.status.value
    )


def test_the_panel_tells_what_fails(tiny_recipe, job_of, watch, sleeper, monkeypatch):
    job = job_of(tiny_recipe())
    record_of(job, sleeper, started=0.0)
    (job.folder / "log.txt").write_text("seqpe_lab: the <disk> is full\n")
    panel = watch(job)
    assert "the &lt;disk&gt; is full" in panel.status.value

    def refuse():
        raise RuntimeError("no process can be started")

    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *a, **o: refuse())
    panel.buttons["Resume"].click()
    assert "no process can be started" in panel.message.value


def test_on_a_running_loop_it_follows_the_run_by_itself(tiny_recipe, job_of, watch, sleeper):
    job = job_of(tiny_recipe())
    record = record_of(job, sleeper)

    async def kernel():
        panel = watch(job)
        job.run.append_metrics({"step": 1, "loss": 2.0, "main": 2.0})
        for _ in range(200):
            await asyncio.sleep(0.1)
            if panel.figure.data[0].x:
                break
        assert list(panel.figure.data[0].x) == [1]
        (job.folder / "job.json").write_text(
            "no JSON"
        )  # what goes wrong inside the loop is shown, and the loop goes on
        for _ in range(200):
            await asyncio.sleep(0.1)
            if "job.json is refused" in panel.status.value:
                break
        assert "job.json is refused" in panel.status.value and not panel._following.done()
        job._write(record)
        for _ in range(200):
            await asyncio.sleep(0.1)
            if "Running." in panel.status.value:
                break
        assert "Running." in panel.status.value
        panel.close()
        await asyncio.sleep(0)
        assert panel._following.cancelled()

    asyncio.run(kernel())


def test_a_long_run_s_curve_is_thinned_out_and_keeps_its_last_step(
    tiny_recipe, job_of, watch, sleeper
):
    from seqpe_lab.course.run_monitor import POINTS

    job = job_of(tiny_recipe(steps=5_000))
    job.run.create()
    (job.folder / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": s, "main": 1.0} | ({"distillation": 0.1} if s % 2 else {})) + "\n"
            for s in range(1, 1_702)
        )
    )
    panel = watch(job)
    panel.refresh()
    x = panel.figure.data[0].x
    assert len(x) <= POINTS and x[-1] == 1_701 and {b - a for a, b in zip(x, x[1:])} == {4}


def test_the_figure_on_the_page_follows_the_losses_of_the_run(tiny_recipe, job_of, watch):
    from seqpe_lab.course.run_monitor import loss_curve

    job = job_of(tiny_recipe(steps=50))
    panel = watch(job)
    assert [trace.name for trace in panel.figure.data] == ["main loss"]
    job.run.create()
    for step in range(1, 31):
        job.run.append_metrics({"step": step, "main": 2.0, "contrastive": 1.0 / step})
    panel.refresh()
    shown, drawn = panel.figure, loss_curve(job)
    assert [(t.name, t.x, t.y, t.mode) for t in shown.data] == [
        (t.name, t.x, t.y, t.mode) for t in drawn.data
    ]
    assert len(shown.data) == 2 and shown.layout.title.text == "SeqPE: step 30 of 50"
    assert (shown.layout.yaxis, shown.layout.xaxis) == (drawn.layout.yaxis, drawn.layout.xaxis)
    on_page = json.loads(panel.plot.figure)
    assert [trace["name"] for trace in on_page["data"]] == ["main loss", "L<sub>δ</sub>"]
    assert on_page["layout"]["title"]["text"] == "SeqPE: step 30 of 50"


def test_every_state_has_words():
    from seqpe_lab.course.run_monitor import EXPLANATIONS

    assert set(EXPLANATIONS) == set(STATES)


def test_starting_and_watching_from_a_program_imports_neither_plotly_nor_ipywidgets():
    program = (
        "import sys; sys.modules['plotly'] = sys.modules['ipywidgets'] = None\n"
        "import seqpe_lab.jobs"
    )
    done = fork_server.python(program)
    assert done.returncode == 0, done.stderr
