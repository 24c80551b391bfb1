"""The course's drawings for slides: a file each, and a page with one on each screen."""
from __future__ import annotations

from pathlib import Path

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import drawings
from seqpe_lab.course.page_templates import render


def write_slides(folder: Path, dark: bool = False) -> Path:
    """Write every drawing as SVG and, with a browser, PNG; returns the page that shows all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in drawings.NAMES:
        drawings.export(name, folder, dark)
    titles = {name: drawings.drawing(name).title for name in drawings.NAMES}
    page = folder / "slides.html"
    write_atomically(page, render("slides.html", drawings=titles, dark=dark))
    return page
