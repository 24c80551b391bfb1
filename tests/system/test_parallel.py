"""Programs in parallel: in order, so many at a time, each with a log; failures are reported."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from seqpe_lab.course.parallel import Program, Stage, run_stages

SAY_WHERE = """
import os, sys
threads, word = os.environ["OMP_NUM_THREADS"], os.environ.get("SEQPE_WORD")
print(sys.argv[1], os.getpid(), threads, word, flush=True)
os.system("echo from a child")
"""
SLEEP = """
import os, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
path.write_text(f"{os.getpid()} {time.time()} ")
time.sleep(float(sys.argv[2]))
with open(path, "a") as file:
    file.write(str(time.time()))
"""
FAIL = "print('the reason'); raise ValueError('wrong')"
EXIT = "import sys; print('the last line'); sys.exit(int(sys.argv[1]))"
KILL_ITSELF = "import os; os.kill(os.getpid(), 9)"
WAIT_FOR = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.05)
"""


def task(folder: Path, name: str, program: str = "", *arguments, environment=()) -> Program:
    command = [sys.executable, "-c", program, *map(str, arguments)] if program else None
    return Program(name, command, lambda: f"{name} done", folder / f"{name}.txt", dict(environment))


def in_parallel(tasks, workers, show) -> None:
    run_stages([Stage("Begin", lambda: tasks)], workers, show)


def test_each_has_a_process_a_log_and_an_environment_of_its_own_and_is_reported(tmp_path):
    said: list[str] = []
    tasks = [
        task(tmp_path, "one", SAY_WHERE, "first", environment={"SEQPE_WORD": "blue"}),
        task(tmp_path, "two"),
        task(tmp_path, "three", SAY_WHERE, "third"),
    ]
    in_parallel(tasks, 1, said.append)
    one, three = ((tmp_path / f"{name}.txt").read_text().splitlines() for name in ("one", "three"))
    word, process, threads, colour = one[0].split()
    share = str(max(1, os.cpu_count() - 1))
    assert (word, threads, colour, one[1]) == ("first", share, "blue", "from a child")
    assert int(process) not in (os.getpid(), int(three[0].split()[1])) and three[0].endswith("None")
    assert said.pop(0) == "Begin"
    assert [line.split(",")[0] for line in said] == [
        "  one: one done",
        "  two: two done",
        "  three: three done",
    ] and said[0].endswith(" s")
    assert "SEQPE_WORD" not in os.environ and not (tmp_path / "two.txt").exists()


@pytest.mark.parametrize("named", [True, False])
def test_an_end_that_is_a_result_is_reported_and_is_no_failure(named, tmp_path):
    """As of a run that diverged, which tables name."""
    said: list[str] = []
    ending = task(tmp_path, "one", "raise SystemExit(65)")._replace(fails_well=lambda: named)
    if named:
        in_parallel([ending], 1, said.append)
    else:
        with pytest.raises(RuntimeError, match="one failed with exit status 65"):
            in_parallel([ending], 1, said.append)
    assert said[1].startswith("  one: one done" if named else "  one: failed")


def test_so_many_at_a_time_and_no_more(tmp_path):
    in_parallel(
        [task(tmp_path, str(n), SLEEP, tmp_path / f"when-{n}", 1.0) for n in range(4)],
        2,
        lambda text: None,
    )
    spans = sorted(
        tuple(map(float, (tmp_path / f"when-{n}").read_text().split()[1:])) for n in range(4)
    )
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_once) == 2


@pytest.mark.parametrize(
    "call, status, end",
    [((FAIL,), 1, "ValueError: wrong"), ((EXIT, 3), 3, "the last line"), ((KILL_ITSELF,), -9, "")],
)
def test_what_fails_is_named_with_the_end_of_its_log_and_the_others_go_on(
    tmp_path, call, status, end
):
    said: list[str] = []
    stages = [
        Stage(
            "first",
            lambda: [task(tmp_path, "wrong", *call), task(tmp_path, "right", EXIT, 0)],
            lambda: "first is done",
        ),
        Stage("second", lambda: [task(tmp_path, "wrong too", EXIT, 5)]),
        Stage("third", lambda: [task(tmp_path, "never", EXIT, 0)], waits=True),
    ]
    with pytest.raises(
        RuntimeError,
        match=f"wrong failed with exit status {status}; the whole output is in .*wrong.txt"
        f"(.|\\n)*{end}(.|\\n)*wrong too failed with exit status 5",
    ):
        run_stages(stages, 1, said.append)
    assert [line.split(",")[0] for line in said] == [
        "first",
        "  wrong: failed",
        "  right: right done",
        "second",
        "  wrong too: failed",
    ]
    assert not (tmp_path / "never.txt").exists()


def test_an_interrupt_stops_all(tmp_path):
    other = tmp_path / "when"

    def interrupt(text: str) -> None:
        if text == "Begin":
            return
        while not other.exists() or not other.read_text():
            time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel(
            [task(tmp_path, "slow", SLEEP, other, 600), task(tmp_path, "quick", EXIT, 0)],
            2,
            interrupt,
        )
    assert not psutil.pid_exists(int(other.read_text().split()[0]))


@pytest.mark.parametrize("how, status", [("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_what_ends_the_job_ends_its_tasks(how, status, tmp_path, project):
    if how == "SIGKILL" and sys.platform != "linux":
        pytest.skip("only Linux ends the children of a process that was killed")
    other = tmp_path / "when"
    program = (
        "import pathlib, sys\nsys.path.insert(0, 'tests/system')\nimport test_parallel as t\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "t.in_parallel([t.task(folder, 'slow', t.SLEEP, folder / 'when', 600)], 1, print)"
    )
    job = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=project)
    while not other.exists() or not other.read_text():
        time.sleep(0.05)
    job.send_signal(getattr(signal, how))
    assert job.wait(60) == status
    with contextlib.suppress(psutil.NoSuchProcess):  # the system has some milliseconds for it
        psutil.Process(int(other.read_text().split()[0])).wait(10)


def test_a_worker_that_is_free_begins_with_the_next_stage_unless_that_waits(tmp_path):
    said: list[str] = []

    def waiting(name: str, for_what: str) -> Program:
        return task(
            tmp_path, name, WAIT_FOR, tmp_path / f"{name}.began", tmp_path / f"{for_what}.began"
        )

    stages = [
        Stage(
            "first",
            lambda: [waiting("long", "other"), task(tmp_path, "short", EXIT, 0)],
            lambda: "first is done",
        ),
        Stage("second", lambda: [waiting("other", "long")], lambda: "second is done"),
        Stage("nothing", lambda: [], lambda: "nothing is done"),
        Stage(
            "third",
            lambda: [
                Program(
                    "late",
                    None,
                    lambda: " ".join(line.split(",")[0].strip() for line in said if "done" in line),
                    tmp_path / "late",
                )
            ],
            waits=True,
        ),
    ]
    run_stages(stages, 2, said.append)  # long ends when other, of the next stage, has begun
    assert said.index("second") < said.index("first is done")
    assert set(said[-1].removeprefix("  late: ").split(" ")) >= {
        "long:",
        "short:",
        "other:",
        "first",
        "second",
    }  # all were done before it began
    assert [title for title in said if title in ("first", "second", "nothing", "third")] == [
        "first",
        "second",
        "nothing",
        "third",
    ]
