"""The README's gallery: one small picture a lesson, from drawings, results and figures.

A picture comes from a figure of the executed lesson if the site has it; otherwise from a drawing or
from the committed results, which need no training.
"""
from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import drawings
from seqpe_lab.course.lesson_page import lessons, summary_of
from seqpe_lab.course.typesetting import plain
from seqpe_lab.package_data import clone
from seqpe_lab.reproduction.collecting import between
from seqpe_lab.site.pages import GALLERY

SIZE, QUALITY, COLUMNS = (480, 340), 70, 3  # pixels at most; of WebP; of the README's table
# lesson: a drawing, a picture of results or a figure of the lesson; of others the first figure
PICTURES = {
    "00": "overview", "primer": "multi-head", "01": "sinusoidal", "02": "rotations",
    "03": "digits", "04": "prefix-tree", "05": "candidates", "06": "teachers-students",
    "07": "integration", "08": "causal-attention", "09": "table1", "10": "growing-grid",
    "11": "table3", "12": "similarity-map", "13": "killed-run", "14": "number-and-bound",
    "15": "table2-exact-match", "16": "chunks", "17": "17-untuned", "18": "18-sources",
    "19": "relative-biases",
}


def write_gallery(figures: Path) -> list[Path]:
    """Write ``docs/gallery/LESSON.webp`` for each lesson with a picture, and the README's table.

    Args:
        figures: the folder of the site.

    Returns:
        The files written. A lesson without a picture keeps the one it had.
    """
    written = []
    for lesson in lessons():
        target = clone() / GALLERY / f"{lesson.stem}.webp"
        with tempfile.TemporaryDirectory() as folder:
            if source := _picture(lesson.stem.split("_")[0], figures, Path(folder)):
                _compress(source, target)
                written.append(target)
    readme = clone() / "README.md"
    text = readme.read_text(encoding="utf-8")
    write_atomically(readme, between("gallery", _table(), text))
    return [*written, readme]


def _picture(number: str, figures: Path, drawn: Path) -> Path | None:
    """The picture of a lesson, a drawing in the folder ``drawn``; None if there is none."""
    if (name := PICTURES.get(number)) in drawings.NAMES:
        drawings.export(name, drawn)
        found = [drawn / f"{name}.png"]
    else:
        found = [figures / f"{name}.png", *sorted(figures.glob(f"{number}-*.png"))]
    return next(filter(Path.exists, found), None)


def _compress(source: Path, target: Path) -> None:
    """A picture, smaller, on white."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        white = white.convert("RGB")
        white.thumbnail(SIZE)
        white.save(target, quality=QUALITY, method=6)


def _table() -> str:
    """The README's table of pictures, each with the name of its lesson and a link to it."""
    cells = []
    for lesson in lessons():
        picture = f"{GALLERY}/{lesson.stem}.webp"
        if (clone() / picture).exists():
            name = plain(summary_of(lesson).name)
            cells.append(f"[![{name}]({picture})](notebooks/{lesson.name})<br>{name}")
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [cells[start:start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    lines = ["|" + " |" * COLUMNS, "|" + "---|" * COLUMNS]
    return "".join(f"{line}\n" for line in
                   lines + [f"| {' | '.join(row)} |" for row in rows])
