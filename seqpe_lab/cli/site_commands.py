"""Commands that make the course: its site, pictures and slides, editions for class."""
from __future__ import annotations

from pathlib import Path

from seqpe_lab.cli.base import Whole, app, check_counts
from seqpe_lab.recipes.base import ScaleName


@app.command
def figures(*, folder: str = "figures", scale: ScaleName | None = None, seed: Whole = 0,
            workers: Whole | None = None) -> None:
    """Make the whole site: train the lessons' runs, execute the lessons, write all pages.

    About 45 minutes at small scale on 2 cores; finished runs are kept, interrupted ones continue.

    Args:
        folder: Where the site is written, with its index.html; default: figures.
        scale: Size of the models and their training; default: $SEQPE_SCALE or small.
        seed: The seed of the runs; default: 0.
        workers: Runs or lessons at a time; default: 1 with a GPU, else 2.
    """
    from seqpe_lab.site.building import make_figures
    check_counts(workers=workers)
    check_counts(0, seed=seed)
    make_figures(Path(folder), scale, seed, workers)


@app.command
def site(*, folder: str = "figures", scale: ScaleName | None = None,
         workers: Whole | None = None) -> None:
    """Make the site from what is here, in minutes: nothing is trained.

    Lessons that need no trained models are executed; others are shown as they were executed before,
    or without outputs.

    Args:
        folder: Where the site is written, with its index.html; default: figures.
        scale: Of the executed lessons; default: $SEQPE_SCALE or small.
        workers: Lessons at a time; default: 1 with a GPU, else 2.
    """
    from seqpe_lab.site.building import make_site
    check_counts(workers=workers)
    make_site(Path(folder), scale, workers)


@app.command
def slides(*, folder: str = "slides", dark: bool = False) -> None:
    """Write the drawings of the course for slides, as SVG and PNG, with a page of all.

    Args:
        folder: Where they are written; default: slides.
        dark: For dark slides.
    """
    from seqpe_lab.site.slides import write_slides
    print(write_slides(Path(folder), dark))


@app.command
def gallery(*, figures: str = "figures") -> None:
    """Make the README's pictures, one a lesson, from drawings and from the site's figures.

    Args:
        figures: The folder of the site; default: figures.
    """
    from seqpe_lab.site.gallery import write_gallery
    print(*write_gallery(Path(figures)), sep="\n")


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
