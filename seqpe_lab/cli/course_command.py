"""The command that writes the course's editions for students and teachers."""
from __future__ import annotations

from pathlib import Path

from seqpe_lab.cli.base import Whole, app, check_counts
from seqpe_lab.recipes.base import ScaleName


@app.command
def course(*, folder: str = "course", scale: ScaleName | None = None, workers: Whole | None = None,
           notebooks_only: bool = False) -> None:
    """Write the course for students and for teachers, and the graded assignments.

    The student's edition has no solutions and model answers, the teacher's has them and notes. Both
    are notebooks and executed pages. Run `figures` first: lessons train what they need.

    Args:
        folder: Where all of it is written; default: course.
        scale: Of the executed lessons; default: $SEQPE_SCALE or small.
        workers: Lessons at a time; default: 1 with a GPU, else 2.
        notebooks_only: Execute nothing and write no pages; takes seconds.
    """
    from seqpe_lab.site.course_folder import make_course
    check_counts(workers=workers)
    for option, value in (("--scale", scale), ("--workers", workers)):
        if notebooks_only and value is not None:
            raise ValueError(f"{option} has no effect with --notebooks-only, which executes "
                             "nothing: leave one of them out")
    make_course(Path(folder), scale, workers, pages=not notebooks_only)
