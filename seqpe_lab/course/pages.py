"""``make figures``: train the lessons' runs, execute all lessons, write figures and an index page.

Finished runs and executed lessons are reused, so an interrupted job continues where it stopped.
"""
from __future__ import annotations

import hashlib
import html
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.course.lesson import NOT_SEEN
from seqpe_lab.course.parallel import Program, Stage, run_stages
from seqpe_lab.jobs import Job
from seqpe_lab.package_data import clone
from seqpe_lab.runs import Run, main_measure, runs_folder
from seqpe_lab.tasks.text_data import load_text

PAGE = Template(Path(__file__).with_name("index.html").read_text(encoding="utf-8"))


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
    lessons = sorted((clone() / "notebooks").glob("[0-9]*.ipynb"))
    # those that train come first, so that all workers end at about the same time
    lessons.sort(key=lambda path: not re.search(r"lab\.train\(|job\.start\(",
                                                path.read_text(encoding="utf-8")))

    try:
        run_stages([
            Stage(f"Stage 2 of 6: {len(headline)} runs for the headline figure{estimate(7)}",
                  lambda: training_programs(headline), lambda: _write_headline(headline, folder)),
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
        _write_index(folder)  # also after a failure, with what is done so far
    missing = sum(len(not_seen(_page(folder, path))) for path in lessons)
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
    """Execute a notebook, unless this very notebook was executed with this very library."""
    out = _page(folder, path)
    out.parent.mkdir(parents=True, exist_ok=True)
    stamp = out.with_suffix(".stamp")
    sources = [path, *sorted((clone() / "seqpe_lab").rglob("*.py"))]
    content = b"".join(source.read_bytes() for source in sources) + scale.encode()
    digest = hashlib.sha256(content).hexdigest()
    if out.exists() and stamp.exists() and stamp.read_text() == digest:
        return Program(path.stem, None, lambda: "executed before" + _missing(out), out)

    def report() -> str:
        stamp.write_text(digest)
        return "executed" + _missing(out)
    command = [sys.executable, "-m", "nbconvert", "--to=html", "--execute",
               "--ExecutePreprocessor.store_widget_state=False",
               "--ExecutePreprocessor.timeout=1800",
               f"--output-dir={out.parent}", f"--output={out.stem}", str(path)]
    environment = {"SEQPE_FIGURES": str(folder), "SEQPE_SCALE": scale,
                   "SEQPE_RUNS": str(runs_folder().resolve())}
    return Program(path.stem, command, report, out.with_suffix(".log"), environment)


# --- pages -------------------------------------------------------------------------------------

def _page(folder: Path, lesson: Path) -> Path:
    return folder / "lessons" / f"{lesson.stem}.html"


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
    _write_index(folder)
    return f"  The headline figure is ready: {folder / 'headline.html'}"


def _write_index(folder: Path) -> None:
    """One page with every figure and a link to every executed lesson; needs no network."""
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    entries.sort(key=lambda entry: (entry["name"] != "headline", entry["name"]))
    figures = []
    for entry in entries:
        name, title = html.escape(entry["name"]), html.escape(entry["title"])
        shown = f'<iframe src="{name}.html" title="{title}" loading="lazy"></iframe>'
        if (folder / f"{entry['name']}.png").exists():
            image = f'<img src="{name}.png" alt="{title}" loading="lazy">'
            shown = f'<a href="{name}.html">{image}</a>'
        caption = f'<figcaption><a href="{name}.html">{title}</a></figcaption>'
        figures.append(f'<figure id="{name}">{shown}{caption}</figure>')
    lessons = [f'<li><a href="lessons/{path.name}">{html.escape(path.stem.replace("_", " "))}</a>'
               f"{html.escape(_missing(path))}</li>"
               for path in sorted((folder / "lessons").glob("*.html"))]
    page = PAGE.substitute(figures="".join(figures),
                           lessons="".join(lessons) or "<li>not yet executed</li>")
    write_atomically(folder / "index.html", page)
