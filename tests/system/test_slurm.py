"""The scripts for SLURM, with stand-ins for srun and scontrol in place of a cluster."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqpe_lab.runs import Run

SCRIPTS = sorted((Path(__file__).parents[2] / "docs" / "slurm").glob("*.sbatch"))
ENVIRONMENT = {
    "SLURM_JOB_ID": "17",
    "SLURM_NNODES": "1",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_GPUS_ON_NODE": "2",
    "OMP_NUM_THREADS": "1",
}
# srun passes SIGUSR1 to all processes of its task, as SLURM does
SRUN = """#!/bin/bash
set -m
"$@" &
trap 'kill -USR1 -- -$!' USR1
wait $!; status=$?
while kill -0 $! 2>/dev/null; do wait $!; status=$?; done
exit $status
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi
"""


@pytest.fixture
def cluster(tmp_path, project) -> dict:
    """An environment whose path holds the stand-ins."""
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join(
        [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    return (
        os.environ
        | ENVIRONMENT
        | {"PATH": path, "PYTHONPATH": str(project), "REQUEUED": str(tmp_path / "requeued")}
    )


def test_the_scripts_are_what_bash_and_torchrun_understand(cluster):
    options = subprocess.run(["torchrun", "--help"], env=cluster, capture_output=True, text=True)
    assert len(SCRIPTS) == 2
    for script in SCRIPTS:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        text = script.read_text()
        command = text.partition("srun torchrun ")[2].partition("-m seqpe_lab train")[0]
        named = [word for word in command.split() if word.startswith("--")]
        assert len(named) >= 4 and all(word in options.stdout for word in named)
        used = {word for word in ("srun", "scontrol", "torchrun", "head") if word in text}
        assert all(shutil.which(word, path=cluster["PATH"]) for word in used)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_job_that_runs_out_of_time_writes_a_checkpoint_and_is_queued_again(
    script, cluster, tiny_recipe, text_file, tmp_path
):
    recipe = tiny_recipe(
        source=str(text_file), steps=20_000, checkpoint_every=20_000, log_every=5, micro_batch=4
    )
    run, requeued = Run(recipe, tmp_path / "run"), Path(cluster["REQUEUED"])
    run.create()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        cluster["PORT"] = str(probe.getsockname()[1])
    command = ["bash", str(script), "lm", "--folder", str(run.folder), "--cpu"]
    with open(tmp_path / "log", "w") as log:
        job = subprocess.Popen(command, cwd=tmp_path, env=cluster, stdout=log, stderr=log)
        while job.poll() is None and run.step < 10:
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)  # to the script alone
        assert job.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert said.count("seqpe_lab: SIGUSR1 stopped the training after step") == 2, said
    assert requeued.read_text() == "requeue 17\n"
    (checkpoint,) = run.checkpoints()
    assert run.load_checkpoint(checkpoint)[2]["step"] == run.step < recipe.steps
    assert run.state == "interrupted"
