"""Figures of matrices: similarities, weights, pictures; as heat maps."""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from seqpe_lab.course.figure_labels import PANELS, bar_below_title, with_subscripts, wrapped
from seqpe_lab.course.style import finish

VIRIDIS = dict(colorscale="Viridis")
RELATIVE = "each: lowest 0, highest 1"


def heatmap(matrix, **options) -> go.Figure:
    """One table of similarities; brighter is more similar, as in the paper's Fig. 2.

    Args:
        options: as of :func:`heatmaps`; a ``title`` is needed.

    >>> figure = heatmap([[1, 0], [0, 1]], title="two vectors", positions=[0, 7])
    >>> figure.data[0].x
    (0, 7)
    """
    return heatmaps({"": matrix}, **options)


def heatmaps(matrices: Mapping[str, object], *, title: str, axis: str = "position",
             y_axis: str | None = None, value: str = "similarity",
             positions: Sequence | None = None, relative: bool = False,
             caption: str = "") -> go.Figure:
    """Tables side by side, with one colour scale and one colour bar.

    Args:
        matrices: {name: (rows, columns)}; None or NaN is a gap.
        axis: the title of the columns, and of the rows if they have none of their own, ``y_axis``.
        value: the title of the colour bar.
        positions: of the rows and columns, where they are not 0, 1, 2, ...; or their names.
        relative: each table uses the whole scale, from its lowest to its highest value. For tables
            whose ranges cannot be compared; the mouse shows the values themselves.

    >>> import numpy as np
    >>> both = heatmaps({"before": np.eye(2), "after": 5 * np.eye(2)}, title="t", relative=True)
    >>> print(both.data[1].z.max(), both.data[1].customdata.max())
    1.0 5.0
    """
    rows, columns = _grid(len(matrices))
    figure = make_subplots(rows, columns, subplot_titles=_narrow(matrices, columns),
                           vertical_spacing=0.25 / rows, horizontal_spacing=0.12 / columns)
    of = f"{axis} %{{x}}, {y_axis or axis} %{{y}}: {value}"
    for place, matrix in enumerate(matrices.values()):
        where = dict(row=place // columns + 1, col=place % columns + 1)
        _add_square(figure, matrix, of, positions, relative, **where)
    figure.update_xaxes(title=axis, row=rows)
    figure.update_yaxes(title=y_axis or axis, col=1)
    figure.update_annotations(font_size=12)  # the names of the tables
    finish(figure, title, caption, height=130 + rows * {1: 400, 2: 290, 3: 240, 4: 190}[columns],
           coloraxis=VIRIDIS)
    return bar_below_title(figure, f"{value} ({RELATIVE})" if relative else value)


def patch_similarity(maps: Mapping[str, Mapping[str, object]], *, title: str,
                     trained: int | None = None, caption: str = "") -> go.Figure:
    """The similarity of some patches to all others, a row for each model (the paper's Fig. 3).

    Args:
        maps: {model: {patch: (rows, columns) similarities}}, the same patches for each model.
        trained: rows and columns of the trained grid, outlined from the upper left.

    Each map uses the whole colour scale, from its lowest to its highest value.
    """
    patches = list(next(iter(maps.values())))
    figure = make_subplots(len(maps), len(patches), subplot_titles=_narrow(patches, len(patches)),
                           row_titles=list(maps), horizontal_spacing=0.02,
                           vertical_spacing=0.03)
    for place in itertools.product(range(1, len(maps) + 1), range(1, len(patches) + 1)):
        where = dict(zip(("row", "col"), place))
        matrix = list(maps.values())[where["row"] - 1][patches[where["col"] - 1]]
        _add_square(figure, matrix, "row %{y}, column %{x}:", None, True, **where)
        figure.update_xaxes(showticklabels=where["row"] == len(maps), **where)
        figure.update_yaxes(showticklabels=where["col"] == 1, **where)
        if trained is not None:
            end = trained - 0.5
            figure.add_shape(type="rect", x0=-0.5, y0=-0.5, x1=end, y1=end,
                             line=dict(color="white", width=2, dash="dot"), **where)
    figure.update_xaxes(title="column", row=len(maps), col=len(patches) // 2 + 1)
    figure.update_yaxes(title="row", col=1)
    figure.update_annotations(font_size=12)
    finish(figure, title, caption, height=130 + 160 * len(maps), margin_r=34, coloraxis=VIRIDIS)
    return bar_below_title(figure, f"similarity ({RELATIVE})")


def _add_square(figure: go.Figure, matrix, of: str, positions: Sequence | None, relative: bool,
                **where) -> None:
    """A heat map in a subplot, its first row on top, its cells square.

    Args:
        of: what the mouse shows before the value.
        where: row and col.
    """
    values, given = np.asarray(matrix, dtype=np.float32), {}
    positions = None if positions is None else list(positions)
    if relative and np.isfinite(values).any():
        given["customdata"] = values
        values = values - np.nanmin(values)
        values = values / (np.nanmax(values) or 1.0)
    shown = "customdata" if given else "z"
    figure.add_heatmap(z=values, x=positions, y=positions, coloraxis="coloraxis",
                       hovertemplate=f"{of} %{{{shown}:.3f}}<extra></extra>", **given, **where)
    figure.update_xaxes(constrain="domain", nticks=5, tickangle=0, **where)
    figure.update_yaxes(autorange="reversed", constrain="domain", constraintoward="top", nticks=8,
                        scaleanchor=figure.data[-1].xaxis, showticklabels=where["col"] == 1,
                        **where)


def _grid(count: int) -> tuple[int, int]:
    """Rows and columns of so many panels, which must fit on a narrow page."""
    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(count, 4)
    return math.ceil(count / columns), columns


def _narrow(names: Iterable[str], columns: int) -> list[str]:
    """Names of maps, wrapped so that they fit above them on a narrow page."""
    return ["<br>".join(map(with_subscripts, wrapped(name, PANELS // columns))) for name in names]
