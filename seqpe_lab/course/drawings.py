"""Drawings of the mechanisms: made by code, in one style, for lessons, pages and slides.

    from seqpe_lab.course import drawings
    drawings.drawing("encoder")            # the last expression of a cell shows it
    drawings.export("encoder", "slides")   # slides/encoder.svg and slides/encoder.png
"""
from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from seqpe_lab.course import (drawings_encodings, drawings_losses, drawings_models, drawings_runs,
                              drawings_seqpe)
from seqpe_lab.course.drawings_canvas import PALETTE, WIDTH, Canvas
from seqpe_lab.course.figure_files import find_browser

_MAKERS: dict[str, Callable[[], Canvas]] = {
    "overview": drawings_seqpe.overview,
    "digits": drawings_seqpe.digits_and_places,
    "prefix-tree": drawings_seqpe.shared_prefixes,
    "encoder": drawings_seqpe.encoder,
    "candidates": drawings_losses.candidate_sets,
    "pull-push": drawings_losses.pull_and_push,
    "teachers-students": drawings_losses.teachers_and_students,
    "collapse": drawings_losses.collapse,
    "integration": drawings_encodings.integration,
    "rotations": drawings_encodings.rotations,
    "alibi": drawings_encodings.alibi_bias,
    "sinusoidal": drawings_encodings.waves,
    "learned-table": drawings_encodings.learned_table,
    "relative-biases": drawings_encodings.relative_biases,
    "growing-grid": drawings_models.growing_grid,
    "similarity-map": drawings_models.similarity_map,
    "causal-attention": drawings_models.causal_attention,
    "multi-head": drawings_models.multi_head,
    "chunks": drawings_models.evaluation_chunks,
    "shifted-starts": drawings_models.shifted_starts,
    "fine-tuning": drawings_models.fine_tuning,
    "killed-run": drawings_runs.killed_run,
    "number-and-bound": drawings_models.number_and_bound,
}
NAMES = tuple(_MAKERS)


class Drawing:
    """A drawing that a notebook shows; ``svg`` is its text, ``title`` what it shows."""

    def __init__(self, name: str, canvas: Canvas):
        self.name, self.title, self.svg = name, canvas.title, canvas.svg(name)
        self.height = canvas.height

    def _repr_html_(self) -> str:  # as SVG, JupyterLab would make it an image without the theme
        return self.svg


def drawing(name: str) -> Drawing:
    """The drawing of that name, one of ``NAMES``.

    Raises:
        ValueError: an unknown name.

    >>> drawing("digits").title
    'Each digit has its place'
    """
    if name not in _MAKERS:
        raise ValueError(f"unknown drawing {name!r}: choose from {', '.join(NAMES)}")
    return Drawing(name, _MAKERS[name]())


def export(name: str, folder: str | Path, dark: bool = False) -> list[Path]:
    """Write a drawing for slides: ``name.svg`` and, if there is a browser, ``name.png``.

    Colours are written out, since presentation programs do not know custom properties. The picture
    is 1,440 pixels wide.

    Returns:
        The files written.
    """
    shown, folder = drawing(name), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    svg = re.sub(r"var\(--d-(\w+)\)", lambda found: PALETTE[found[1]][dark], shown.svg)
    svg = re.sub(r"<style>.*?</style>", "", svg).replace(
        'class="seqpe-drawing"', f'width="{WIDTH}" height="{shown.height:g}" '
        'font-family="Arial, DejaVu Sans, sans-serif"')
    files = [folder / f"{name}.svg"]
    files[0].write_text(svg, encoding="utf-8")
    if browser := find_browser():
        with tempfile.TemporaryDirectory() as profile:
            picture = Path(profile) / "drawing.png"
            subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu",
                            f"--user-data-dir={profile}", "--force-device-scale-factor=3",
                            "--hide-scrollbars", f"--screenshot={picture}",
                            f"--window-size={WIDTH},{round(shown.height)}",
                            files[0].resolve().as_uri()],
                           check=True, capture_output=True, timeout=120)
            files.append(Path(shutil.copy(picture, folder / f"{name}.png")))
    return files
