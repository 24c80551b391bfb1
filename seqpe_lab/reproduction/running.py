"""Train the runs of some tables and figures, or write scripts for a cluster; then write the pages.

Finished runs are kept and interrupted ones continue, so the same command may be started again.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.course.parallel import Stage, run_stages
from seqpe_lab.course.training_programs import training_programs
from seqpe_lab.package_data import results_file
from seqpe_lab.provenance import provenance
from seqpe_lab.reproduction import comparison, position_maps, problem_results
from seqpe_lab.reproduction.cluster import write_scripts
from seqpe_lab.reproduction.collecting import OF_PAPER, check_one_commit, collect
from seqpe_lab.reproduction.manifest import (FIGURES, NAMES, TABLES, TASK_PROBLEMS,
                                             problem_runs, runs_of, training_of, trials_of)
from seqpe_lab.runs import Run

DRAW = {"fig2": position_maps.figure_2, "fig3": position_maps.figure_3}


def reproduce(name: str, scale: str, seeds: int | None, folder: Path, *,
              workers: int | None = None, processes: int | None = None, cpu: bool = False,
              trials: bool = False, collects: bool = False, slurm: Path | None = None) -> None:
    """Do all of it.

    Args:
        name: of ``TABLES``, ``FIGURES`` or ``TASK_PROBLEMS``, "tasks" (all of these), or "all" of
            the paper's.
        seeds: how many runs of each method, with seeds 0, 1, 2, ...; by default 5.
        folder: for pages and pictures.
        workers: runs at a time; by default one on a machine with a GPU, else two.
        processes, cpu: of each run, as in :meth:`~seqpe_lab.jobs.Job.start`.
        trials: instead of these runs, the trials from which their settings are chosen.
        collects: also write data/results; without ``trials`` all finished runs of the scale that
            belong to the paper's tables, and the README's tables; of "encodings" those of its own
            table.
        slurm: a folder for scripts that train on a SLURM cluster, instead of training here.

    Raises:
        RuntimeError: at the end, if a run failed; quotes its log.
        ValueError: runs of different commits of the code; options without an effect.
    """
    here = {"--workers": workers, "--processes": processes, "--cpu": cpu, "--collect": collects}
    for number, given in (("--seeds", seeds), ("--workers", workers), ("--processes", processes)):
        if given is not None and given < 1:
            raise ValueError(f"{number} must be at least 1, got {given}")
    if slurm and (useless := [option for option, value in here.items() if value]):
        raise ValueError(f"{', '.join(useless)}: no effect with --slurm, which trains nothing here")
    if trials and seeds is not None:
        raise ValueError("--seeds has no effect with --trials, which have a seed of their own")
    if trials and collects and name != "all":
        raise ValueError("the committed trials are those of all methods: "
                         f"with --trials --collect say all, not {name}")
    seeds = seeds or 5
    names = NAMES if name == "all" else (name,)
    tried = trials_of(names, scale) if trials else []
    stages = [[recipe for recipe, _ in tried]] if trials else runs_of(names, scale, seeds)
    everything = [recipe for stage in stages for recipe in stage]
    refuse_several_commits(everything)
    if slurm:
        print(write_scripts(stages, slurm))
        return
    run_stages([Stage(f"Stage {number}: {len(stage)} runs",
                      partial(training_programs, stage, processes or 1, cpu), waits=number > 1)
                for number, stage in enumerate(stages, start=1) if stage], workers, print)
    refuse_several_commits(everything)  # the code may have changed meanwhile
    if trials:
        print(_write_trials(tried, results_file(f"trials-{scale}") if collects
                            else folder / f"trials-{scale}.json"))
        return
    for table in (table for name in names for table in TABLES.get(name, [])):
        training = [recipe for seed in range(seeds) for recipe in training_of(table, scale, seed)]
        results = [Run(recipe).outcome() for recipe in training]
        figure = comparison.picture(table, results, training[0])
        print(_write(folder / f"{table.name}-{scale}", comparison.page(table, results), figure))
    for name in (name for name in names if name in FIGURES):
        runs = [Run(recipe) for recipe in runs_of([name], scale, seeds)[0]]
        figure, page = DRAW[name](runs)
        print(_write(folder / f"{name}-{scale}", page, figure))
    if results := [Run(recipe).outcome() for recipe in problem_runs(names, scale, seeds)]:
        print(_write(folder / f"{name}-{scale}", problem_results.page(results),
                     problem_results.picture(results)))
    if collects:
        beyond = {"encodings": "encodings"} | dict.fromkeys(("tasks", *TASK_PROBLEMS),
                                                              problem_results.FILE)
        files = [beyond[name]] if name in beyond else OF_PAPER
        print(*collect(scale, files), sep="\n")


def refuse_several_commits(training: Sequence[recipes.Training]) -> None:
    """Refuse finished runs of another commit than this one, unless all are finished with one."""
    now = provenance("cpu")["commit"]
    check_one_commit([Run(recipe).outcome() or {
        "method": recipe.method, "seed": recipe.seed, "commit": now,
        "data": {"problem": getattr(recipe, "problem", "")}} for recipe in training])


def _write(path: Path, page: str, figure) -> str:
    """Write a page and its picture; returns the page, for the reader, and where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path.parent, path.name)
    write_atomically(path.parent / f"{path.name}.md", page)
    return f"\n{page}\n{path}.md, {path}.html"


def _write_trials(tried: Sequence[tuple[recipes.Training, dict]], path: Path) -> Path:
    """Write the results of all trials, each with the settings that it tried."""
    results = [Run(recipe).outcome() | {"settings": values} for recipe, values in tried]
    recipes.settings_from(results)  # refuses trials from which nothing can be chosen
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(results, indent=1))
    return path
