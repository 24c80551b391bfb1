"""Figures of any numbers: lines over one axis, small panels, tables."""
from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from seqpe_lab.course.figure_labels import add_key, label_ends, with_subscripts
from seqpe_lab.course.style import add_train_line, finish, line_styles, number_axis


def curves(x: Sequence, series: Mapping[str, Sequence], *, title: str, x_title: str,
           y_title: str, log_x: bool = False, log_y: bool = False, mark: float | None = None,
           mark_text: str = "", caption: str = "") -> go.Figure:
    """Lines over one axis. A series named like a method takes that method's colour.

    Args:
        x: of all lines, of which None is a gap.
        series: {name: values}; the name stands at the line's end.
        log_x, log_y: logarithmic axes.
        mark: where a vertical line stands, with ``mark_text`` above it.

    >>> curves([1, 2], {"a": [1, 4], "b": [2, 3]}, title="t", x_title="step", y_title="nats"
    ...        ).layout.annotations[0].text
    'a'
    """
    figure = go.Figure()
    for name, style in line_styles(series).items():
        figure.add_scatter(x=list(x), y=list(series[name]), **style,
                           mode="lines+markers" if len(x) <= 20 else "lines")
    if mark is not None:
        add_train_line(figure, mark, mark_text, log_x)
    figure.update_xaxes(title=x_title, **number_axis(x, log_x))
    if log_x and len(x) <= 10 and all(isinstance(value, int) for value in x):
        figure.update_xaxes(tickvals=list(x), ticktext=[f"{value:,}" for value in x])
    figure.update_yaxes(title=y_title, **number_axis(itertools.chain(*series.values()), log_y))
    return label_ends(finish(figure, title, caption))


def panels(x: Sequence, measures: Mapping[str, Mapping[str, Sequence]], *, title: str,
           x_title: str, y_title: str = "", log_x: bool = False, log_y: bool = False,
           caption: str = "") -> go.Figure:
    """One small panel for each measure, with the same lines in each.

    Args:
        measures: {measure: {line: values}}.
        y_title: stands at the first panel.
    """
    columns = min(len(measures), 2)  # more would be too narrow on a telephone
    rows = -(-len(measures) // columns)
    figure = make_subplots(rows, columns, subplot_titles=list(measures), horizontal_spacing=0.14,
                           vertical_spacing=0.26 / rows)
    styles: dict[str, dict] = {}
    for place, lines in enumerate(measures.values()):
        where = dict(row=place // columns + 1, col=place % columns + 1)
        styles |= line_styles(lines)
        for name, style in line_styles(lines).items():
            figure.add_scatter(x=list(x), y=list(lines[name]), legendgroup=name, mode="lines",
                               showlegend=False, **style, **where)
        y_values = itertools.chain(*lines.values())
        figure.update_xaxes(**where, **number_axis(x, log_x, labels=5))
        figure.update_yaxes(**where, **number_axis(y_values, log_y, labels=8))
        if place + columns >= len(measures):  # the lowest of its column
            figure.update_xaxes(title=x_title, **where)
    figure.update_yaxes(title=y_title, row=1, col=1)
    figure.update_annotations(font_size=13)  # the names of the measures
    finish(figure, title, caption, height=130 + 250 * rows)
    return add_key(figure, styles.values()) if len(styles) > 1 else figure


def table(columns: Mapping[str, Sequence], *, title: str, widths: Sequence[float] | None = None,
          caption: str = "") -> go.Figure:
    """A table as a figure, so that it appears among the figures.

    Args:
        columns: {heading: values}; floats are shown to 4 significant digits.
        widths: of the columns, relative to one another.
    """
    widths = [1.0] * len(columns) if widths is None else list(widths)
    pixels = [600 * width / sum(widths) - 16 for width in widths]  # on a page of medium width

    def shown(value) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.1e}"
        return with_subscripts(str(value))

    def lines(text: str, letter: int, width: float) -> int:
        """How many lines a text takes at most; ``letter`` and ``width`` in pixels."""
        letters = int(width // letter) or 1
        return sum(len(textwrap.wrap(part, letters)) for part in text.split("<br>"))

    cells = [[shown(value) for value in values] for values in columns.values()]
    headings = max(lines(name, 9, width) for name, width in zip(columns, pixels))
    rows = [max(lines(text, 8, width) for text, width in zip(row, pixels))
            for row in itertools.zip_longest(*cells, fillvalue="")]
    figure, font = go.Figure(), dict(size=12, color="#111111")
    figure.add_table(columnwidth=widths,
                     header=dict(values=[f"<b>{with_subscripts(name)}</b>" for name in columns],
                                 align="left", fill_color="#e6e6e6", font=font),
                     cells=dict(values=cells, align="left", height=26, fill_color="#fafafa",
                                font=font))
    inner = 20 + 20 * headings + sum(26 if n < 2 else 14 + 20 * n for n in rows)
    height = 70 + inner + (50 if caption else 20)
    return finish(figure, title, caption, height=height, gap=32, margin_l=10, margin_r=10)
