"""``make course``: the course as a teacher hands it out.

    course/student/*.ipynb           without solutions, model answers and notes for teachers
    course/teacher/*.ipynb           with them, in the open
    course/*/lessons/*.html          the same as pages, executed
    course/nbgrader/source, release  graded assignments: with and without solutions; rubrics
    course/index.html                links to all of it
"""
from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import assignments, editions, executing
from seqpe_lab.course.forms import course_of, follows_forms, title_of
from seqpe_lab.course.parallel import Program, Stage, end_with_parent, run_stages
from seqpe_lab.package_data import clone
from seqpe_lab.runs import runs_folder

EDITIONS: dict[str, Callable[[NotebookNode], NotebookNode]] = {
    "student": editions.student_edition, "teacher": editions.teacher_edition}
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>The course</title>
<body style="font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em">
<h1>The course</h1>
{}
</body></html>
"""


def make_course(folder: Path, scale: str | None = None, workers: int | None = None,
                pages: bool = True) -> None:
    """Write the editions and the assignments, and execute the editions for their pages.

    Pages that are there and would come out the same are kept. Lessons take finished runs from the
    runs folder, and train those that are missing.

    Args:
        workers: lessons at a time; by default one on a machine with a GPU, else two.
        pages: False writes notebooks only, in seconds.

    Raises:
        RuntimeError: at the end, if a lesson failed; names it and its log.
    """
    folder, scale = Path(folder).resolve(), scale or recipes.default_scale()
    began = time.monotonic()
    if "MAKELEVEL" in os.environ:  # started by make, which may be killed
        end_with_parent()

    def show(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)
    lessons, left_out = write_notebooks(folder)
    show(f"{len(lessons)} notebooks in {folder / 'student'} and {folder / 'teacher'}, "
         f"assignments in {folder / 'nbgrader'}")
    if left_out:
        show(f"Left out, for their solutions are not tagged: {', '.join(left_out)} "
             "(see python -m seqpe_lab.course.forms)")
    if pages:
        workers = workers or (1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1))
        run_stages([Stage(f"Executing both editions for their pages, scale {scale}",
                          lambda: [_executing(lesson, scale) for lesson in lessons])],
                   workers, show)
    _write_index(folder, lessons)
    show(f"Done: open {folder / 'index.html'}")


def write_notebooks(folder: Path) -> tuple[list[Path], list[str]]:
    """Write all notebooks.

    Returns:
        The lessons, an edition after the other; the names of those that do not follow the forms
        and are left out, since their solutions would reach students.
    """
    source = clone() / "notebooks"
    course = course_of(source)
    lessons = [path for path in course if follows_forms(_read(path))]
    for name, edition in EDITIONS.items():
        for path in lessons:
            _write(folder / name / path.name, edition(_read(path)))
        _write(folder / name / "explorers.ipynb", _read(source / "explorers.ipynb"))
    for path in sorted((source / "assignments").glob("*.ipynb")):
        notebook, to = _read(path), folder / "nbgrader"
        _write(to / "source" / path.stem / path.name, assignments.without_rubrics(notebook))
        _write(to / "release" / path.stem / path.name, assignments.release(notebook))
        write_atomically(to / f"{path.stem}_rubric.md", assignments.rubrics(notebook) + "\n")
    written = [folder / name / path.name for name in EDITIONS for path in lessons]
    return written, [path.stem for path in course if path not in lessons]


def _executing(lesson: Path, scale: str) -> Program:
    """Execute a lesson of an edition, unless that would give the very page that is there."""
    folder = lesson.parent
    page = executing.page_of(folder, lesson)
    page.parent.mkdir(parents=True, exist_ok=True)
    name = f"{folder.name}, {lesson.stem}"
    if executing.reusable(folder, lesson, scale):
        return Program(name, None, lambda: "executed before", page)
    command = [sys.executable, "-m", "seqpe_lab.course.executing", str(lesson), str(folder), scale]
    environment = {"SEQPE_FIGURES": str(folder), "SEQPE_SCALE": scale,
                   "SEQPE_RUNS": str(runs_folder().resolve())}
    return Program(name, command, lambda: "executed", page.with_suffix(".log"), environment)


def _write_index(folder: Path, lessons: Iterable[Path]) -> None:
    parts = []
    for name in EDITIONS:
        links = []
        for lesson in lessons:
            if lesson.parent.name == name:
                page = executing.page_of(lesson.parent, lesson)
                title = html.escape(title_of(lesson))
                shown = (f'<a href="{page.relative_to(folder).as_posix()}">{title}</a>'
                         if page.exists() else title)
                links.append(f'<li>{shown} (<a href="{name}/{lesson.name}">notebook</a>)</li>')
        parts.append(f"<h2>For the {name}</h2>\n<ul>\n" + "\n".join(links) + "\n</ul>")
    graded = sorted((folder / "nbgrader" / "source").glob("*/*.ipynb"))
    links = [f'<li>{html.escape(title_of(path))}: <a href="nbgrader/release/{path.stem}/'
             f'{path.name}">for students</a>, <a href="nbgrader/source/{path.stem}/{path.name}">'
             f'with solutions</a>, <a href="nbgrader/{path.stem}_rubric.md">rubric</a></li>'
             for path in graded]
    parts.append("<h2>Graded assignments</h2>\n<ul>\n" + "\n".join(links) + "\n</ul>")
    write_atomically(folder / "index.html", PAGE.format("\n".join(parts)))


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _write(path: Path, notebook: NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, nbformat.writes(notebook) + "\n")
