"""Figures drawn up as plain dicts, and the look that all of them share."""
from __future__ import annotations

import copy
import functools
import itertools
import json
import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots


def _register_template() -> None:
    """plotly_white, without the forty kinds of traces that nothing here draws: an explorer sets it with every move, and the whole took a third of each."""
    white, drawn = pio.templates["plotly_white"], ("scatter", "scatter3d", "heatmap", "bar", "table")
    pio.templates["seqpe_lab"] = go.layout.Template(layout=white.layout, data={kind: white.data[kind] for kind in drawn})


_register_template()


class Draft:
    """A figure under construction: plain dicts, which plotly checks once, in :meth:`finish`.

    Its own figures are checked with every change, which took an explorer about two thirds of every
    move. Methods do what those of the same names do there.

    Args:
        rows, columns: of a grid of subplots, which has ``titles``, row by row; without them there is one plot.
        grid: what else ``plotly.subplots.make_subplots`` is to know.

    Attributes:
        data, layout: the figure.
        axes: {(row, column): ("x2", "y2")}.

    >>> draft = Draft(1, 2, titles=["left", "right"])
    >>> draft.add("scatter", y=[1, 2], row=1, col=2)
    >>> draft.update_xaxes(title="tokens", col=2)
    >>> draft.finish("A claim", "").layout.xaxis2.title.text
    'tokens'
    """

    def __init__(self, rows: int = 1, columns: int = 1, titles: Sequence[str] = (), **grid):
        self.data: list[dict] = []
        self.layout: dict = {"template": "seqpe_lab", "annotations": [], "shapes": []}
        self.axes = {(1, 1): ("x", "y")}
        if titles:
            layout, self.axes = _grid(json.dumps(dict(rows=rows, cols=columns, subplot_titles=["-"] * len(titles), **grid)))
            self.layout |= copy.deepcopy(layout)
            for note, title in zip(self.layout["annotations"], titles):
                note["text"] = title

    def add(self, type: str, row: int | None = None, col: int | None = None, **trace) -> None:
        """A trace."""
        if row:
            trace["xaxis"], trace["yaxis"] = self.axes[row, col]
        self.data.append(dict(type=type, **trace))

    def add_shape(self, row: int | None = None, col: int | None = None, **shape) -> None:
        self.layout["shapes"].append(self._on(row, col, shape))

    def add_annotation(self, row: int | None = None, col: int | None = None, **note) -> None:
        self.layout["annotations"].append(self._on(row, col, note))

    def add_vline(self, x: float, row: int | None = None, col: int | None = None) -> None:
        """A dashed line from the bottom of a plot to its top."""
        self.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, xref="x", yref="y domain", line=dict(dash="dash", color="#444444"), row=row, col=col)

    def _on(self, row: int | None, col: int | None, item: dict) -> dict:
        """With the axes of a subplot in place of "x" and "y", and of "y domain"."""
        if row:
            for ref, axis in zip(("xref", "yref"), self.axes[row, col]):
                item[ref] = axis + item.get(ref, "")[1:]
        return item

    def update_xaxes(self, row: int | None = None, col: int | None = None, **properties) -> None:
        self._update_axes(0, row, col, properties)

    def update_yaxes(self, row: int | None = None, col: int | None = None, **properties) -> None:
        self._update_axes(1, row, col, properties)

    def _update_axes(self, which: int, row: int | None, col: int | None, properties: dict) -> None:
        for place, axes in self.axes.items():
            if row in (None, place[0]) and col in (None, place[1]):
                self.update_layout(**{f"{axes[which][0]}axis{axes[which][1:]}": properties})

    def update_annotations(self, **properties) -> None:
        for note in self.layout["annotations"]:
            note.update(properties)

    def update_layout(self, **properties) -> None:
        for name, value in properties.items():
            self.layout[name] = self.layout.get(name, {}) | value if isinstance(value, dict) else value

    def finish(self, title: str, caption: str, height: int = 480, gap: int = 72, **layout) -> go.Figure:
        """With title, margins and caption. ``height`` has room for one line of caption, each further line adds its own.

        Args:
            gap: pixels from the plot to the caption, for the labels and the title of the axis.
            layout: what shall be otherwise.
        """
        lines = textwrap.wrap(caption, 150)
        more = 14 * max(0, len(lines) - 1)
        self.update_layout(title=dict(text=title, x=0.01, xanchor="left"), height=height + more, width=960,
                           margin=dict(l=70, r=30, t=70, b=gap + 18 + more if lines else gap - 12),
                           legend=dict(font_size=12), font=dict(family="Arial, DejaVu Sans, sans-serif", size=14))
        self.update_layout(**layout)
        if lines:
            self.add_annotation(text="<br>".join(lines), xref="paper", yref="paper", x=0, y=0, yshift=-gap, xanchor="left", yanchor="top",
                                showarrow=False, font=dict(size=10, color="#777777"), align="left")
        return go.Figure(self.data, self.layout)


@functools.lru_cache(maxsize=64)
def _grid(described: str) -> tuple[dict, dict[tuple[int, int], tuple[str, str]]]:
    """Layout and axes of ``make_subplots``, its arguments as JSON: they are the same with every move, and take longer than all else."""
    asked = json.loads(described)
    figure = make_subplots(**asked)
    plots = {place: figure.get_subplot(*place) for place in itertools.product(range(1, asked["rows"] + 1), range(1, asked["cols"] + 1))}
    layout = figure.layout.to_plotly_json()
    del layout["template"]
    return layout, {place: tuple(axis.plotly_name.replace("axis", "") for axis in plot) for place, plot in plots.items() if plot}
