"""Scripts that train many runs as job arrays on a SLURM cluster."""
from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.package_data import clone
from seqpe_lab.runs import Run


def write_scripts(stages: Sequence[Sequence[recipes.Training]], folder: Path) -> str:
    """Write a job array for each stage, a task for each run, and a script that submits them.

    The arrays are docs/slurm/one_node.sbatch with the run taken from a list: a run whose time is
    over writes a checkpoint and is queued again. A later stage waits until the one before has
    succeeded. Finished runs are left out; the runs' folders are made here, and must be on a disk
    that the nodes see.

    Returns:
        What to do next, for the reader.

    Raises:
        FileNotFoundError: the package was installed as a wheel, which does not hold docs/.
        ValueError: all runs are finished.
    """
    template = (clone() / "docs" / "slurm" / "one_node.sbatch").read_text(encoding="utf-8")
    asked = template.partition("#SBATCH")[2]  # without the comment on how to submit it
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    submit, waits = ["#!/bin/bash", "set -e"], ""
    for number, stage in enumerate(stages, start=1):
        runs = [run for run in map(Run, stage) if run.state != "finished"]
        if not runs:
            continue
        for run in runs:
            run.create()
        script, runs_list = folder / f"stage-{number}.sbatch", folder / f"stage-{number}.txt"
        write_atomically(runs_list, "".join(f"{run.recipe.task} {run.folder.resolve()}\n"
                                            for run in runs))
        take = (f'read -r task run < <(sed -n "${{SLURM_ARRAY_TASK_ID}}p" '
                f"{shlex.quote(str(runs_list))})\n")
        text = f"#!/bin/bash\n#SBATCH --array=1-{len(runs)}\n#SBATCH" + asked
        # as many GPUs as divide the micro-batches of every run
        rounds = math.gcd(*(run.recipe.batch // run.recipe.micro_batch for run in runs))
        gpus = max(count for count in (1, 2, 4) if rounds % count == 0)
        for old, new in (("slurm-%j.txt", "slurm-%A-%a.txt"), ("srun", f"{take}srun"),
                         ("gpus-per-node=4", f"gpus-per-node={gpus}"),
                         ("cpus-per-task=32", f"cpus-per-task={8 * gpus}"),
                         ('train "$@"', 'train "$task" --folder "$run"')):
            text = text.replace(old, new, 1)
        write_atomically(script, text)
        submit.append(f"job=$(sbatch --parsable {waits}{shlex.quote(str(script))})")
        waits = "--dependency=afterok:$job "
    if not waits:
        raise ValueError("all runs are finished: leave out --slurm to write their tables")
    write_atomically(folder / "submit.sh", "\n".join(submit) + "\n")
    return (f"Change the lines #SBATCH of {folder}/stage-*.sbatch to what your cluster offers, "
            f"then bash {folder}/submit.sh; afterwards the same command without --slurm writes "
            "the tables")
