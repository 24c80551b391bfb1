"""``reproduce`` from its start to its table, killed in between; and its scripts for a cluster."""

import os
import signal
import subprocess
import sys
import time

import pytest

from seqpe_lab.cli import main
from seqpe_lab.provenance import provenance
from seqpe_lab.reproduction.manifest import runs_of
from seqpe_lab.runs import Run
from seqpe_lab.training import train

TABLE_1 = ["table1", "--scale", "smoke", "--seeds", "2"]
SBATCH = """#!/bin/bash
# as SLURM: all tasks of an array, unless the array waits for a job that does not exist
script="${@: -1}"; echo "${@:1:$#-1}" >> "$CALLS"
[[ "$*" != *dependency* || "$*" == *afterok:1\\ * ]] || exit 1
last=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
for i in $(seq "$last"); do SLURM_ARRAY_TASK_ID=$i bash "$script" >&2 || exit 1; done
wc -l < "$CALLS"
"""
SRUN = """#!/bin/bash
echo "$@" >> "$CALLS.srun"
"""


@pytest.fixture
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_table_1_is_made_of_two_seeds_after_it_was_killed(runs_folder, tmp_path, project, capsys):
    """All but three of the runs have results before, which are those of one training."""
    recipes = sorted(runs_of(["table1"], "smoke", 2)[0], key=lambda recipe: recipe.method)
    results = train(recipes[3], cpu=True, progress=False).results()
    for recipe in recipes[4:]:
        run = Run(recipe)
        run.create()
        run.write_results(results | {"method": recipe.method, "seed": recipe.seed})
    left = [Run(recipe) for recipe in recipes[:3]]
    command = [sys.executable, "-m", "seqpe_lab", "reproduce", *TABLE_1, "--cpu", "--workers", "1"]
    killed = subprocess.Popen(
        [*command, "--folder", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while killed.poll() is None and not any(run.state == "finished" for run in left):
        time.sleep(0.05)
    killed.send_signal(signal.SIGTERM)
    said = killed.communicate(timeout=120)[0]
    states = [run.state for run in left]
    assert "finished" in states and states.count("finished") < 3, said
    assert not list((tmp_path / "out").glob("*.md")), said

    deadline = time.monotonic() + 60
    while any(run.state == "running" for run in left) and time.monotonic() < deadline:
        time.sleep(0.05)  # it has been told to stop and writes a checkpoint
    before = {run.folder: (run.folder / "results.json").stat() for run in map(Run, recipes[3:])}
    folder = ["--folder", str(tmp_path / "out")]
    assert main(["reproduce", *TABLE_1, *folder, "--cpu", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("(finished before)") == 13 + states.count("finished")
    assert {run: (run / "results.json").stat() for run in before} == before
    page = (tmp_path / "out" / "table1-smoke.md").read_text()
    ours = page.split("## ")[1]
    assert ours.count(" ± ") == 8 * 4 and ours.count(" | 2 |\n") == 8
    assert "| SeqPE | 19.65 | 18.74 | 18.51 | 18.58 | 18.86 | 19.37 | 18.95 |" in page


def test_a_cluster_trains_every_run_once_and_questions_last(runs_folder, tmp_path, project):
    scripts = tmp_path / "scripts with a space"
    first, second = runs_of(["table2"], "smoke", 2)
    done = Run(first.pop(0))
    done.create()
    done.write_results({"perplexity": {"64": 5.0}, "commit": provenance("cpu")["commit"]})
    options = ["--scale", "smoke", "--seeds", "2", "--slurm", str(scripts)]
    assert main(["reproduce", "table2", *options]) == 0
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN}.items():
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = os.environ | {
        "PATH": f"{stand_ins}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(calls),
        "SLURM_GPUS_ON_NODE": "4",
    }
    done = subprocess.run(
        ["bash", str(scripts / "submit.sh")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert calls.read_text() == "--parsable\n--parsable --dependency=afterok:1\n"
    for stage in (1, 2):  # smoke has one micro-batch a step
        script = (scripts / f"stage-{stage}.sbatch").read_text()
        assert (
            "\n#SBATCH --gpus-per-node=1\n" in script and "\n#SBATCH --cpus-per-task=8\n" in script
        )
    trained = (tmp_path / "calls.srun").read_text().splitlines()
    wanted = [(recipe.task, Run(recipe).folder.resolve()) for recipe in [*first, *second]]
    assert len(trained) == len(wanted) == 7 + 14
    for line, (task, folder) in zip(trained, wanted):
        assert line.startswith("torchrun --standalone --nproc-per-node 4 ")
        assert line.endswith(f" -m seqpe_lab train {task} --folder {folder}")
        assert Run.open(folder).recipe.task == task
