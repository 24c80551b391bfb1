"""Write a figure to disk: an interactive page, its title, and a static image."""
from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from seqpe_lab.atomic_files import write_atomically

if TYPE_CHECKING:
    import plotly.graph_objects as go


def write_figure(figure: go.Figure, folder: Path, name: str) -> bool:
    """Write ``name.html`` (interactive), ``name.json`` (title) and, with a browser, ``name.png``.

    All pages of a folder share one plotly.min.js.

    Returns:
        Whether there is a static image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure.write_html(folder / f"{name}.html", include_plotlyjs="directory", full_html=True)
    title = re.sub(r"<[^>]+>", "", figure.layout.title.text or name)
    write_atomically(folder / f"{name}.json", json.dumps({"name": name, "title": title}))
    return write_image(figure, folder / f"{name}.png")


def write_image(figure: go.Figure, image: Path) -> bool:
    """Write the static image of a figure; returns whether there is one: it needs a browser."""
    image.unlink(missing_ok=True)
    if find_browser() is None:
        return False
    try:
        _start_browser()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plotly passes options that a running server ignores
            figure.write_image(image, scale=1.5)
    except Exception as error:  # kaleido raises many kinds: no display, no fonts, a crash
        print(f"{image.stem}: no static image ({type(error).__name__})", file=sys.stderr)
        return False
    return True


def find_browser() -> str | None:
    """The path of the browser that draws static images, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, names)), None)


@functools.cache
def _start_browser() -> None:
    """One browser for all images of this process: it takes seconds to start."""
    import kaleido
    kaleido.start_sync_server(silence_warnings=True)
    atexit.register(kaleido.stop_sync_server, silence_warnings=True)
