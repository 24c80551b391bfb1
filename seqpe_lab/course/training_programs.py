"""Programs that train runs, for ``make figures`` and ``reproduce``."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from seqpe_lab import recipes
from seqpe_lab.course.parallel import Program
from seqpe_lab.jobs import Job
from seqpe_lab.runs import Run, main_measure


def training_programs(training: Sequence[recipes.Training], processes: int = 1,
                      cpu: bool = False) -> list[Program]:
    """A program for each recipe, seed by seed; that a run diverges is its result.

    The slowest are first, so that all workers end at about one time.

    Args:
        processes: of each run; several share its batch under torchrun.
        cpu: stay on the CPU where there is a GPU.
    """
    slowest = ("seqpe", "rope-mixed", "rope")

    def rank(recipe: recipes.Training) -> tuple[int, int]:
        return recipe.seed, [*slowest, recipe.encoding].index(recipe.encoding)
    return [_run(recipe, processes, cpu) for recipe in sorted(training, key=rank)]


def _run(recipe: recipes.Training, processes: int, cpu: bool) -> Program:
    run = Run(recipe)
    finished = run.state in ("finished", "failed")
    if not finished:
        run.create()
    note = " (finished before)" if finished else ""
    if not finished and run.checkpoints():
        note = f" (from {run.checkpoints()[-1].name})"

    def report() -> str:
        if failure := run.failure():
            return f"failed: {failure['failed']}"
        measured = ", ".join(f"{value:.2f} at {where}" for where, value in run.measured().items())
        return f"{main_measure(run.results()).replace('_', ' ')} {measured}{note}"
    command = None if finished else Job(recipe).command(processes, cpu)
    return Program(f"{recipe.method}, seed {recipe.seed}", command, report,
                   run.folder / "log.txt", fails_well=lambda: run.failure() is not None)


def wait_for_others(runs: Sequence[Run], show: Callable[[str], None]) -> None:
    """Wait while other processes train these runs, such as those of a job that was just killed."""
    if busy := [run.folder.name for run in runs if run.trainer]:
        show(f"Waiting for other processes, which train {', '.join(busy)}")
        while any(run.trainer for run in runs):
            time.sleep(0.5)
