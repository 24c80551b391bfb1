"""``make figures``: train the lessons' runs, execute all lessons, write figures and an index page.

Finished runs and executed lessons are reused, so an interrupted job continues where it stopped.
"""
from __future__ import annotations

import html
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jinja2 import Template

from seqpe_lab import __version__, recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import executing
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.course.lesson import NOT_SEEN
from seqpe_lab.course.parallel import Program, Stage, end_with_parent, run_stages
from seqpe_lab.jobs import Job
from seqpe_lab.package_data import clone
from seqpe_lab.runs import Run, main_measure, runs_folder
from seqpe_lab.tasks.text_data import load_text

PAGE = Template(Path(__file__).with_name("index.html").read_text(encoding="utf-8"),
                autoescape=True)


def make_figures(folder: Path, scale: str | None = None, seed: int = 0,
                 workers: int | None = None) -> None:
    """Do all of it; the result is ``folder/index.html``.

    Args:
        workers: runs or lessons at a time, each on its share of the cores; by default one on a
            machine with a GPU, else two if there are two cores.

    Raises:
        RuntimeError: at the end, if a run or a lesson failed; names it and its log.
    """
    folder, scale = Path(folder).resolve(), scale or recipes.default_scale()
    workers = workers or (1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if "MAKELEVEL" in os.environ:  # started by make, which may be killed
        end_with_parent()

    def show(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)

    def estimate(minutes: int) -> str:
        return f" (about {minutes} min on 2 cores)" if scale == "small" else ""

    show(f"Stage 1 of 6: the text (some 10 s the first time). Scale {scale}, {workers} at a time.")
    first = recipes.language_model("seqpe", scale, seed)
    data = load_text(first.source, first.tokenizer)
    show(f"  {data.description}: {sum(data.characters.values()):,} characters, "
        f"{len(data.train):,} training tokens ({data.tokenizer}), hash {data.hash}")

    others = [method for method in [*recipes.METHODS, *recipes.ABLATIONS]
              if method not in recipes.HEADLINE]
    headline, text = ([recipes.language_model(method, scale, seed) for method in methods]
                      for methods in (recipes.HEADLINE, others))
    images = [recipes.image_model(method, scale, seed)
              for method in [*recipes.IMAGE_METHODS, *recipes.IMAGE_ABLATIONS]]
    placed = [recipes.image_model(method, scale, seed, augment="place")
              for method in recipes.PLACED]
    tuned = [recipes.question_answering(method, scale, seed) for method in recipes.TUNED]
    folder_of_lessons = clone() / "notebooks"
    lessons = [folder_of_lessons / "primer.ipynb",
               *sorted(folder_of_lessons.glob("[0-9]*.ipynb"))]
    # those that train come first, so that all workers end at about the same time
    lessons.sort(key=lambda path: not re.search(r"lab\.train\(|job\.start\(",
                                                path.read_text(encoding="utf-8")))
    runs = [Run(recipe) for recipe in (*headline, *text, *images, *placed, *tuned)]

    def write_index() -> None:
        _write_index(folder, lessons, scale, runs)

    def write_headline() -> str:
        line = _write_headline(headline, folder)
        write_index()
        return line

    _wait_for_others(runs, show)
    try:
        run_stages([
            Stage(f"Stage 2 of 6: {len(headline)} runs for the headline figure{estimate(7)}",
                  lambda: training_programs(headline), write_headline),
            Stage(f"Stage 3 of 6: the other {len(text)} runs of the extrapolation lesson"
                  f"{estimate(12)}", lambda: training_programs(text)),
            Stage(f"Stage 4 of 6: {len(images)} runs on images, and {len(placed)} on larger "
                  f"canvases{estimate(11)}",
                  lambda: training_programs(images) + training_programs(placed)),
            Stage(f"Stage 5 of 6: {len(tuned)} language models are tuned to answer questions"
                  f"{estimate(7)}", lambda: training_programs(tuned), waits=True),
            Stage(f"Stage 6 of 6: executing the lessons{estimate(6)}",
                  lambda: [_executing(path, folder, scale) for path in lessons], waits=True),
        ], workers, show)
    finally:
        write_index()  # also after a failure, with what is done so far
    missing = sum(len(not_seen(executing.page_of(folder, path))) for path in lessons)
    show(f"Done: open {folder / 'index.html'}" +
        (f" ({missing} of the lessons' expectations did not show in these runs)" if missing
         else ""))


def not_seen(page: Path) -> list[str]:
    """What an executed lesson expected (``lab.expect``) and did not find."""
    found = re.findall(rf"^(?:<pre>)?{NOT_SEEN}(.+)$", page.read_text(encoding="utf-8"),
                       re.MULTILINE)
    return [html.unescape(re.sub(r"<[^>]+>", "", claim)) for claim in found]


# --- programs ----------------------------------------------------------------------------------

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


def _executing(path: Path, folder: Path, scale: str) -> Program:
    """Execute a notebook, unless that would give the very page that is there."""
    page = executing.page_of(folder, path)
    page.parent.mkdir(parents=True, exist_ok=True)
    if executing.reusable(folder, path, scale):
        return Program(path.stem, None, lambda: "executed before" + _missing(page), page)
    command = [sys.executable, "-m", "seqpe_lab.course.executing", str(path), str(folder), scale]
    environment = {"SEQPE_FIGURES": str(folder), "SEQPE_SCALE": scale,
                   "SEQPE_RUNS": str(runs_folder().resolve())}
    return Program(path.stem, command, lambda: "executed" + _missing(page),
                   page.with_suffix(".log"), environment)


def _wait_for_others(runs: Sequence[Run], show: Callable[[str], None]) -> None:
    """Wait while other processes train these runs, such as those of a job that was just killed."""
    if busy := [run.folder.name for run in runs if run.trainer]:
        show(f"Waiting for other processes, which train {', '.join(busy)}")
        while any(run.trainer for run in runs):
            time.sleep(0.5)


# --- pages -------------------------------------------------------------------------------------

def _missing(page: Path) -> str:
    claims = not_seen(page)
    return f"; {NOT_SEEN.removeprefix('✗ ')}{'; '.join(claims)}" if claims else ""


def _write_headline(headline: Sequence[recipes.Recipe], folder: Path) -> str:
    from seqpe_lab.course import figures
    train_len, longest = headline[0].train_len, max(headline[0].eval_lens)
    figure = figures.extrapolation(
        [Run(recipe).outcome() for recipe in headline], train_len=train_len,
        title=f"Trained on {train_len} tokens, tested on up to {longest:,}")
    write_figure(figure, folder, "headline")
    return f"  The headline figure is ready: {folder / 'headline.html'}"


def _write_index(folder: Path, lessons: Sequence[Path], scale: str,
                 runs: Sequence[Run] = ()) -> None:
    """One page with the lessons, the figures and the runs, each with its state; offline, too."""
    shown = [{"page": executing.page_of(folder, path), "state": _state(folder, path, scale)}
             for path in sorted(lessons)]
    wrong = {lesson["page"].stem.split("_")[0]: lesson["state"] for lesson in shown
             if not lesson["state"].startswith(NOT_SEEN.removeprefix("✗ "))}
    figures = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    figures.sort(key=lambda entry: (entry["name"] != "headline", entry["name"]))
    for entry in figures:
        entry["has_image"] = (folder / f"{entry['name']}.png").exists()
        entry["state"] = wrong.get(entry["name"].split("-")[0], "")
    write_atomically(folder / "index.html", PAGE.render(
        version=__version__, scale=scale, time=time.strftime("%Y-%m-%d %H:%M"), figures=figures,
        lessons=shown, runs=[{"run": run, "made_by": _made_by(run)} for run in runs]))


def _state(folder: Path, lesson: Path, scale: str) -> str:
    """What a reader must know of a lesson's page; "" where there is nothing to say."""
    page = executing.page_of(folder, lesson)
    record = executing.record_of(page)
    if not record or not page.exists():
        return "not executed"
    if record["error"]:
        return f"failed: {record['error']}"
    if not executing.reusable(folder, lesson, scale):
        return "damaged, or of other sources or runs than those that are here now"
    return _missing(page).removeprefix("; ")


def _made_by(run: Run) -> str:
    results = run.results() or {}
    torch_version = results.get("versions", {}).get("torch")
    return f"commit {results['commit']}, torch {torch_version}" if "commit" in results else ""
