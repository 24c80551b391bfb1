"""``make course``: the course as a teacher hands it out.

    course/student/*.ipynb           without solutions, model answers and notes for teachers
    course/teacher/*.ipynb           with them, in the open
    course/*/index.html              the site of an edition, its lessons executed
    course/nbgrader/source, release  graded assignments: with and without solutions; rubrics
    course/index.html                links to all of it
"""
from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import assignments, editions
from seqpe_lab.course.forms import course_of, title_of
from seqpe_lab.course.lesson_cells import follows_forms
from seqpe_lab.course.parallel import Stage, run_stages
from seqpe_lab.package_data import clone
from seqpe_lab.site.building import Site

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
        RuntimeError: a lesson failed; names it and its log.
    """
    folder = Path(folder).resolve()
    written, left_out = write_notebooks(folder)
    print(f"Notebooks of {len(written['student'])} lessons, for students and for teachers, and of "
          f"the assignments: {folder / 'index.html'}")
    if left_out:
        print(f"Left out, for their solutions are not tagged: {', '.join(left_out)} "
              "(see python -m seqpe_lab.course.forms)")
    _write_index(folder, written, pages)
    for name, lessons in written.items() if pages else ():
        site = Site(folder / name, scale)
        site.lessons = lessons
        with site.kept():
            run_stages([Stage(f"Executing the {name}'s edition",
                              lambda site=site: site.executions(site.lessons))],
                       workers, site.show)


def write_notebooks(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Write all notebooks.

    Returns:
        {edition: its lessons}; the names of lessons that do not follow the forms and are left out,
        since their solutions would reach students.
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
    written = {name: [folder / name / path.name for path in lessons] for name in EDITIONS}
    return written, [path.stem for path in course if path not in lessons]


def _write_index(folder: Path, written: dict[str, Sequence[Path]], pages: bool) -> None:
    parts = []
    for name, lessons in written.items():
        links = [f'<li><a href="{name}/{lesson.name}">{html.escape(title_of(lesson))}</a></li>'
                 for lesson in lessons]
        site = f'<p><a href="{name}/index.html">All of it as pages</a></p>\n' if pages else ""
        parts.append(f"<h2>For the {name}</h2>\n{site}<ul>\n" + "\n".join(links) + "\n</ul>")
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
