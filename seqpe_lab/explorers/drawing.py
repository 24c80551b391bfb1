"""What the figures of several explorers have in common."""
from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

SIMILARITIES = {figure: [("cosine", "cosine"), (f"dot product (the paper's Fig. {figure})", "dot")]
                for figure in (2, 3)}  # choices of a control
BARE = dict(showgrid=False, zeroline=False)  # an axis without lines


def subplots(titles: Sequence[str], axes: Callable[[go.Figure], object] | None = None,
             **grid) -> go.Figure:
    """plotly's ``make_subplots``, copied from an empty figure that is kept for each grid.

    Args:
        axes: sets in the empty figure what never changes; a module's function.

    >>> subplots(["left", "right"], cols=2).layout.annotations[1].text
    'right'
    """
    figure = copy.deepcopy(_empty_figure(len(titles), axes, json.dumps(grid)))
    for note, title in zip(figure.layout.annotations, titles):
        note.text = title
    return figure


@functools.lru_cache(maxsize=32)
def _empty_figure(titles: int, axes: Callable | None, grid: str) -> go.Figure:
    figure = make_subplots(subplot_titles=["-"] * titles, **json.loads(grid))
    figure.layout.template = None  # ``finish`` sets it; copying it would take longest
    if axes:
        axes(figure)
    return figure


def outlined(width: float = 1.5, dash: str = "solid", **shape) -> list[dict]:
    """A shape of the layout in black on a wider white one, visible on dark and bright."""
    black = dict(color="black", width=width, dash=dash)
    return [shape | dict(line=line) for line in (dict(color="white", width=2 * width), black)]


def plain(value: float, digits: int = 2) -> str:
    """A number with a real minus sign, and no minus zero.

    >>> plain(-0.5), plain(-0.001)
    ('−0.50', '0.00')
    """
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "−")
