"""Write a figure to disk: an interactive page, its title, and a static image."""
from __future__ import annotations

import atexit
import functools
import html
import json
import math
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.page_templates import render
from seqpe_lab.course.style import for_wide_page

if TYPE_CHECKING:
    import plotly.graph_objects as go

CONFIG = "{config: {responsive: true, displaylogo: false}}"  # of plotly, in JavaScript


def write_figure(figure: go.Figure, folder: Path, name: str, about: str = "",
                 back: str = "") -> bool:
    """Write ``name.html`` (interactive), ``name.json`` (title) and, with a browser, ``name.png``.

    The page's data are in ``name.js``; all pages of a folder share one plotly.min.js.

    Args:
        about: scale, seed and the like, for those who see the figure without its lesson.
        back: where the page's link back leads; "" for none.

    Returns:
        Whether there is a static image.
    """
    from plotly.offline import get_plotlyjs
    folder.mkdir(parents=True, exist_ok=True)
    script, program = folder / "plotly.min.js", get_plotlyjs()
    if not script.exists() or script.read_text(encoding="utf-8") != program:
        write_atomically(script, program)
    title = re.sub(r"<[^>]+>", "", figure.layout.title.text or name)
    write_atomically(folder / f"{name}.js",
                     f"Plotly.newPlot('plot', Object.assign({figure.to_json()}, {CONFIG}))\n")
    write_atomically(folder / f"{name}.html", render("figure.html", name=name, title=title,
                                                     about=about, back=back))
    write_atomically(folder / f"{name}.json",
                     json.dumps({"name": name, "title": title, "about": about}))
    return write_image(figure, folder / f"{name}.png")


def write_on_page(figure: go.Figure, folder: Path, name: str, about: str) -> str:
    """Write a figure among the figures of the site; returns HTML for the page of its lesson."""
    has_image = write_figure(figure, folder, name, about, back=f"index.html#{name}")
    title = html.escape(json.loads((folder / f"{name}.json").read_text())["title"])
    shown = (f'<a href="../{name}.html"><img src="../{name}.png" alt="{title}"></a>' if has_image
             else f'<iframe src="../{name}.html" title="{title}"></iframe>')
    more = f'<a href="../{name}.html">interactive</a>'
    if explorer := name.partition("explorer-")[2]:
        more += f'; with its controls on the <a href="../explorers.html#{explorer}">site</a>'
    return (f'<figure id="{name}">{shown}<figcaption>{html.escape(about)}; {more}</figcaption>'
            "</figure>")


def check_figure(figure: go.Figure, name: str, gaps: bool = False) -> None:
    """Refuse a figure that shows nothing or something that is no number, or cannot be a file.

    Every trace must hold numbers (or texts), and neither NaN nor infinity; None is a gap.

    Args:
        gaps: NaN is a gap, too, and some of the traces may be empty, as in an explorer.

    Raises:
        ValueError: says what is wrong, and where.

    >>> import plotly.graph_objects as go
    >>> scatter = go.Scatter(y=[1, math.nan], name="loss")
    >>> check_figure(go.Figure(scatter, {"title": {"text": "t"}}), "t")
    Traceback (most recent call last):
    ValueError: the figure 't' shows nan in the y of 'loss': give finite numbers, or None for a gap
    """
    title = figure.layout.title.text
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} cannot name a figure's file: use letters, digits and -")
    if not title:
        raise ValueError("the figure has no title: a figure says what it shows")
    if not figure.data:
        raise ValueError(f"the figure {title!r} has no traces: it would be empty")
    empty = []
    for number, trace in enumerate(figure.data):
        own = trace.name or f"trace {number}"
        for field, values in _fields(trace).items():
            shown = [v for v in _flat(values) if v is not None and not (gaps and v != v)]
            wrong = [v for v in shown if isinstance(v, float) and not math.isfinite(v)]
            if wrong:
                raise ValueError(f"the figure {title!r} shows {wrong[0]} in the {field} of "
                                 f"{own!r}: give finite numbers, or None for a gap")
            empty += [own] * (not shown)
    if empty and not (gaps and len({*empty}) < len(figure.data)):
        raise ValueError(f"the figure {title!r} shows nothing for {empty[0]!r}")


def _fields(trace: Any) -> dict[str, Any]:
    """The values that a trace shows, by the name of their field."""
    if trace.type == "table":
        return {"cells": [[math.nan if str(cell) == "nan" else cell for cell in column]
                          for column in trace.cells.values or ()]}
    flat = trace.type in ("heatmap", "contour", "surface")
    names = ("z",) if flat else ("x", "y", "z", "r", "values")
    return {name: trace[name] for name in names if name in trace and trace[name] is not None}


def _flat(values: Any) -> Iterable:
    """The elements of nested lists or an array, as Python's own numbers."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def write_image(figure: go.Figure, image: Path) -> bool:
    """Write the static image of a figure; returns whether there is one: it needs a browser."""
    image.unlink(missing_ok=True)
    partial = image.with_name(f".{os.getpid()}.{image.name}")
    if find_browser() is None:
        return False
    try:
        _start_browser()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plotly passes options that a running server ignores
            for_wide_page(figure).write_image(partial, scale=1.5)
        os.replace(partial, image)
    except Exception as error:  # kaleido raises many kinds: no display, no fonts, a crash
        print(f"{image.stem}: no static image ({type(error).__name__})", file=sys.stderr)
        return False
    finally:
        partial.unlink(missing_ok=True)
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
