"""``make site`` and ``make figures``: the site, filled as runs and lessons are finished.

Finished runs and executed lessons are reused, so an interrupted job continues where it stopped.
"""
from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import executing
from seqpe_lab.course.lesson_page import lessons
from seqpe_lab.course.parallel import Program, Stage, end_with_parent, run_stages
from seqpe_lab.course.training_programs import training_programs, wait_for_others
from seqpe_lab.explorers import static_page
from seqpe_lab.package_data import clone
from seqpe_lab.runs import Run
from seqpe_lab.site import lesson_states, pages, result_pages
from seqpe_lab.tasks.text_data import load_text


def make_site(folder: Path, scale: str | None = None, workers: int | None = None) -> None:
    """All pages of what is here, and the lessons executed that need no trained models.

    Lessons that need them are shown as they were executed before, or without outputs.

    Args:
        workers: lessons at a time; by default one on a machine with a GPU, else two.

    Raises:
        RuntimeError: at the end, if a lesson failed; names it and its log.
    """
    site = Site(folder, scale)
    with site.kept():
        run_stages([Stage(f"Executing the {len(site.short)} lessons that need no trained models",
                          lambda: site.executions(site.short) + site.explorers())],
                   workers, site.show_and_write)


def make_figures(folder: Path, scale: str | None = None, seed: int = 0,
                 workers: int | None = None) -> None:
    """The whole site: train the lessons' runs, execute all lessons.

    Args:
        workers: runs or lessons at a time, each on its share of the cores; by default one on a
            machine with a GPU, else two if there are two cores.

    Raises:
        RuntimeError: at the end, if a run or a lesson failed; names it and its log.
    """
    site = Site(folder, scale, seed)
    headline, text, images, placed, tuned = _training(site.scale, seed)
    with site.kept():
        site.show("Stage 1 of 7: the text (some 10 s the first time)")
        data = load_text(headline[0].source, headline[0].tokenizer)
        site.show(f"  {data.description}: {sum(data.characters.values()):,} characters, "
                  f"{len(data.train):,} training tokens ({data.tokenizer}), hash {data.hash}")
        wait_for_others(site.runs, site.show)
        run_stages([
            Stage(f"Stage 2 of 7: {len(headline)} runs for the headline figure{site.estimate(7)}",
                  lambda: training_programs(headline), site.draw),
            Stage(f"Stage 3 of 7: the {len(site.short)} lessons that need no trained models"
                  f"{site.estimate(3)}",
                  lambda: site.executions(site.short) + site.explorers()),
            Stage(f"Stage 4 of 7: the other {len(text)} runs of the extrapolation lesson"
                  f"{site.estimate(12)}", lambda: training_programs(text), site.draw),
            Stage(f"Stage 5 of 7: {len(images)} runs on images, and {len(placed)} on larger "
                  f"canvases{site.estimate(11)}",
                  lambda: training_programs(images) + training_programs(placed), site.draw),
            Stage(f"Stage 6 of 7: {len(tuned)} language models are tuned to answer questions"
                  f"{site.estimate(7)}", lambda: training_programs(tuned), site.draw, waits=True),
            Stage(f"Stage 7 of 7: executing the other {len(site.long)} lessons{site.estimate(4)}",
                  lambda: site.executions(site.long), waits=True),
        ], workers, site.show_and_write)


class Site:
    """A site that is being built.

    Attributes:
        runs: whose results replace the committed ones.
        short, long: the lessons that need no trained models, and the others.
    """

    def __init__(self, folder: Path, scale: str | None, seed: int = 0):
        clone()  # says what is missing without one
        self.folder, self.scale = Path(folder).resolve(), scale or recipes.default_scale()
        self.began, self.lessons = time.monotonic(), lessons()
        self.runs = [Run(recipe) for group in _training(self.scale, seed) for recipe in group]
        self.short = [path for path in self.lessons if not lesson_states.trains(path)]
        self.long = [path for path in self.lessons if path not in self.short]

    def show(self, text: str) -> None:
        """A line of the report."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)

    def show_and_write(self, text: str) -> None:
        """A line of the report: something is finished, so the contents say so."""
        self.show(text)
        self.write()

    def estimate(self, minutes: int) -> str:
        return f" (about {minutes} min on 2 cores)" if self.scale == "small" else ""

    def write(self) -> None:
        """Write the contents and whatever else has changed."""
        pages.write_changing_pages(self.folder, self.lessons, self.scale, self.runs)

    def draw(self) -> str:
        """Draw the results that are here; returns a line for the report."""
        result_pages.write(self.folder, self.runs)
        return f"  Results are drawn: {self.folder / 'index.html'}"

    def explorers(self) -> list[Program]:
        """Write the explorers as a page, unless the one that is there is of the same sources."""
        target, record = self.folder / "explorers", self.folder / "explorers.drawn"
        made_of = executing.sources(Path(static_page.__file__), self.scale)

        def report() -> str:
            write_atomically(record, made_of)
            pages.write_explorers_page(self.folder)
            return "written"
        known = record.exists() and record.read_text(encoding="utf-8") == made_of
        command = None if known else [sys.executable, "-m", "seqpe_lab", "explorers",
                                      "--folder", str(target)]
        return [Program("the explorers", command, report, self.folder / "explorers.log")]

    def executions(self, paths: Sequence[Path]) -> list[Program]:
        return [lesson_states.executing_program(path, self.folder, self.scale) for path in paths]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write all pages at once, and again at the end, also after a failure."""
        if "MAKELEVEL" in os.environ:  # started by make, which may be killed
            end_with_parent()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.show(f"The site, scale {self.scale}: the pages, and pictures of committed results")
        pages.write_lasting_pages(self.folder, self.lessons)
        self.draw()
        self.write()
        self.show(f"  Open {self.folder / 'index.html'}: what is finished later is added to it")
        try:
            yield
        finally:
            self.draw()
            self.write()
        missing = sum(len(lesson_states.not_seen(executing.page_of(self.folder, path)))
                      for path in self.lessons)
        self.show(f"Done: open {self.folder / 'index.html'}" +
                  (f" ({missing} of the lessons' expectations did not show in these runs)"
                   if missing else ""))


def _training(scale: str, seed: int) -> list[list[recipes.Training]]:
    """The recipes: for the headline, other texts, images, larger canvases, questions."""
    others = [method for method in [*recipes.METHODS, *recipes.ABLATIONS]
              if method not in recipes.HEADLINE]

    def of(make: Callable, methods: Sequence[str], **changes: str) -> list[recipes.Training]:
        return [make(method, scale, seed, **changes) for method in methods]
    return [of(recipes.language_model, recipes.HEADLINE), of(recipes.language_model, others),
            of(recipes.image_model, [*recipes.IMAGE_METHODS, *recipes.IMAGE_ABLATIONS]),
            of(recipes.image_model, recipes.PLACED, augment="place"),
            of(recipes.question_answering, recipes.TUNED)]
