"""Figures of the lessons: functions from numbers to a plotly figure, one claim a figure."""
from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from seqpe_lab.course.result_tables import complete, failures
from seqpe_lab.course.style import (add_method, add_train_line, finish, in_order, label,
                                    line_styles, number_axis)

# --- results of runs ---------------------------------------------------------------------------

def extrapolation(results: Sequence[Mapping], *, train_len: int,
                  title: str = "Trained short, tested long", relative: bool = False) -> go.Figure:
    """Perplexity against context length: a line for each method, a band over its seeds.

    Args:
        results: contents of ``results.json``: "method", "seed", "perplexity" {length: value}, ...
        train_len: tokens, marked by a vertical line.
        relative: show perplexity divided by perplexity at the shortest length.
    """
    figure = _over_lengths(results, "perplexity", "%{y:.3f} at %{x} tokens", train_len, relative)
    figure.update_yaxes(type="log", tickformat="~g", nticks=8,
                        title="perplexity ÷ perplexity at the trained length" if relative
                        else "perplexity on the test split")
    return finish(figure, title, caption(results))


def answers(results: Sequence[Mapping], *, train_len: int,
            title: str = "To find an answer in a longer context") -> go.Figure:
    """Exact match against context length; arguments as in :func:`extrapolation`."""
    figure = _over_lengths(results, "exact_match", "%{y:.1f} % at %{x} tokens", train_len)
    figure.update_yaxes(title="exact match (%)", range=[0, 103])
    return finish(figure, title, caption(results))


def resolution(results: Sequence[Mapping], *, train_size: int,
               title: str = "Trained small, tested large", measure: str = "accuracy") -> go.Figure:
    """Top-1 accuracy against image size: a line for each method, a band over its seeds.

    Args:
        results: contents of ``results.json``: "method", "seed", "accuracy" {size: percent}, ...
        train_size: pixels, marked by a vertical line.
        measure: "accuracy", or "interpolated" for SeqPE with its positions stretched like a
            learned table.
    """
    figure = _by_method(results, measure, "%{y:.1f} % at %{x} pixels")
    add_train_line(figure, train_size, f"trained at {train_size}")
    figure.update_xaxes(title="image size (pixels a side)", tickvals=_places(results, measure))
    figure.update_yaxes(title="top-1 accuracy on the test split (%)", rangemode="tozero")
    return finish(figure, title, caption(results))


def depths(tables: Mapping[str, Sequence[Sequence[float | None]]], *, lengths: Sequence,
           title: str, caption: str = "") -> go.Figure:
    """Percent of right answers by context length and by the place of the answer in the context.

    Args:
        tables: a table for each method, with one row a length and one column a part of the
            context, the earliest first; None where nothing was asked.
        lengths: of the rows, tokens.
    """
    figure = make_subplots(1, len(tables), shared_yaxes=True, horizontal_spacing=0.02,
                           subplot_titles=[label(method) for method in tables])
    hover = "%{y} tokens, depth %{x:.1f}: %{z:.0f} %<extra></extra>"
    for column, cells in enumerate(tables.values(), start=1):
        parts = len(cells[0])
        figure.add_heatmap(z=cells, x=[(part + 0.5) / parts for part in range(parts)],
                           y=[f"{int(n):,}" for n in lengths], coloraxis="coloraxis",
                           texttemplate="%{z:.0f}", hovertemplate=hover, row=1, col=column)
    figure.update_xaxes(title="depth (0: first, 1: last)", dtick=0.5, range=[0, 1])
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="context length (tokens)", col=1)
    colours = dict(colorscale="Viridis", cmin=0, cmax=100, colorbar_title="right (%)")
    return finish(figure, title, caption, height=400, coloraxis=colours)


def caption(results: Sequence[Mapping]) -> str:
    """Scale, data, protocol and seeds of results, for the line below a figure.

    Where results differ in one of these, all its values are named. Methods with failed runs, which
    are not drawn, are named at the end.
    """
    failed = failures(results)
    results = complete(results)

    def values(of) -> str:
        return " / ".join(sorted({str(of(result)) for result in results}))

    def data(result: Mapping) -> str:
        return ", ".join(filter(None, map(result["data"].get, ("description", "tokenizer"))))

    def amount(result: Mapping) -> str:
        unit = next(unit for unit in ("tokens", "questions", "images", "examples")
                    if unit in result)
        return f"{result[unit]:,} {unit}"

    seeds = sorted({result["seed"] for result in results})
    chunks = " chunks" if "tokens" in results[0] else ""
    return (f"scale {values(lambda r: r['scale'])} · "
            f"{values(data)} (hash {values(lambda r: r['data']['hash'])}) · "
            f"{values(lambda r: r['split'])} split, {values(lambda r: r['protocol'])}{chunks}, "
            f"{values(amount)} · "
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
            + (f" · not shown: {'; '.join(failed.values())}" if failed else ""))


def _over_lengths(results: Sequence[Mapping], measure: str, hover: str, train_len: int,
                  relative: bool = False) -> go.Figure:
    figure = _by_method(results, measure, hover, relative)
    ticks = _places(results, measure)
    add_train_line(figure, train_len, f"trained at {train_len}", log_x=True)
    figure.update_xaxes(type="log", title="context length (tokens)", tickvals=ticks,
                        ticktext=[f"{tick:,}" for tick in ticks])
    return figure


def _by_method(results: Sequence[Mapping], measure: str, hover: str,
               relative: bool = False) -> go.Figure:
    """Lines through the mean over the seeds, bands from their lowest to their highest value."""
    if not results:
        raise ValueError("no results to draw")
    figure, results = go.Figure(), complete(results)
    methods = dict.fromkeys(result["method"] for result in results)
    for method in in_order(methods):
        own = [result for result in results if result["method"] == method]
        places = _places(own[:1], measure)
        values = np.array([[result[measure][str(place)] for place in places] for result in own])
        if relative:
            values = values / values[:, :1]
        add_method(figure, method, places, values.T.tolist(), hover)
    return figure


def _places(results: Sequence[Mapping], measure: str) -> list[int]:
    """The lengths or sizes at which results were measured, in order."""
    return sorted({int(place) for result in complete(results) for place in result[measure]})


# --- tables of similarities --------------------------------------------------------------------

def heatmap(matrix, *, title: str, axis: str = "position", value: str = "similarity",
            diverging: bool = False, caption: str = "") -> go.Figure:
    """A square table of similarities; brighter is more similar, as in the paper's Fig. 2."""
    figure = make_subplots(1, 1)
    _add_square(figure, matrix, f"{axis} %{{x}}, %{{y}}: %{{z:.3f}}<extra></extra>", row=1, col=1)
    figure.update_traces(showscale=True, colorbar_title=value)
    if diverging:
        figure.update_traces(colorscale="RdBu_r", zmid=0)
    figure.update_xaxes(title=axis)
    figure.update_yaxes(title=axis)
    return finish(figure, title, caption, height=560)


def heatmaps(matrices: Mapping[str, object], *, title: str, axis: str = "position",
             value: str = "similarity", caption: str = "") -> go.Figure:
    """Square tables side by side, each with its own colour scale (their ranges differ)."""
    figure = make_subplots(1, len(matrices), subplot_titles=list(matrices),
                           horizontal_spacing=0.06)
    hover = f"{axis} %{{x}}, %{{y}}: {value} %{{z:.3f}}<extra></extra>"
    for column, matrix in enumerate(matrices.values(), start=1):
        _add_square(figure, matrix, hover, row=1, col=column)
    figure.update_xaxes(title=axis)
    figure.update_yaxes(title=axis, col=1)
    return finish(figure, title, caption, height=460)


def patch_similarity(maps: Mapping[str, Mapping[str, object]], *, title: str,
                     trained: int | None = None, caption: str = "") -> go.Figure:
    """The similarity of some patches to all others, a row for each model (the paper's Fig. 3).

    Args:
        maps: {model: {patch: (rows, columns) similarities}}, the same patches for each model.
        trained: rows and columns of the trained grid, outlined from the upper left.
    """
    patches = list(next(iter(maps.values())))
    figure = make_subplots(len(maps), len(patches), subplot_titles=patches, row_titles=list(maps),
                           horizontal_spacing=0.02, vertical_spacing=0.03)
    hover = "row %{y}, column %{x}: %{z:.3f}<extra></extra>"
    for place in itertools.product(range(1, len(maps) + 1), range(1, len(patches) + 1)):
        where = dict(zip(("row", "col"), place))
        matrix = list(maps.values())[where["row"] - 1][patches[where["col"] - 1]]
        _add_square(figure, matrix, hover, **where)
        figure.update_xaxes(showticklabels=where["row"] == len(maps), **where)
        figure.update_yaxes(showticklabels=where["col"] == 1, **where)
        if trained is not None:
            end = trained - 0.5
            figure.add_shape(type="rect", x0=-0.5, y0=-0.5, x1=end, y1=end,
                             line=dict(color="white", width=2, dash="dot"), **where)
    figure.update_xaxes(title="column", row=len(maps))
    figure.update_yaxes(title="row", col=1)
    return finish(figure, title, caption, height=120 + 190 * len(maps))


def _add_square(figure: go.Figure, matrix, hover: str, **where) -> None:
    """A heatmap in a subplot, its first row on top, its cells square; ``where``: row and col."""
    figure.add_heatmap(z=np.asarray(matrix, dtype=np.float32), colorscale="Viridis",
                       showscale=False, hovertemplate=hover, **where)
    figure.update_xaxes(constrain="domain", **where)
    figure.update_yaxes(autorange="reversed", constrain="domain",
                        scaleanchor=figure.data[-1].xaxis, **where)


# --- lines and tables of any numbers -----------------------------------------------------------

def curves(x: Sequence, series: Mapping[str, Sequence], *, title: str, x_title: str,
           y_title: str, log_x: bool = False, log_y: bool = False, mark: float | None = None,
           mark_text: str = "", caption: str = "") -> go.Figure:
    """Lines over one axis. A series named like a method takes that method's colour."""
    figure = go.Figure()
    for name, style in line_styles(series).items():
        figure.add_scatter(x=list(x), y=list(series[name]), **style,
                           mode="lines+markers" if len(x) <= 20 else "lines")
    if mark is not None:
        add_train_line(figure, mark, mark_text, log_x)
    figure.update_xaxes(title=x_title, **number_axis(x, log_x))
    figure.update_yaxes(title=y_title, **number_axis(itertools.chain(*series.values()), log_y))
    return finish(figure, title, caption)


def panels(x: Sequence, measures: Mapping[str, Mapping[str, Sequence]], *, title: str,
           x_title: str, y_title: str = "", log_x: bool = False, log_y: bool = False,
           caption: str = "") -> go.Figure:
    """One small panel for each measure, with the same lines in each.

    Args:
        measures: {measure: {line: values}}.
        y_title: stands at the first panel.
    """
    figure = make_subplots(1, len(measures), subplot_titles=list(measures),
                           horizontal_spacing=0.1)
    for column, lines in enumerate(measures.values(), start=1):
        where = dict(row=1, col=column)
        for name, style in line_styles(lines).items():
            figure.add_scatter(x=list(x), y=list(lines[name]), legendgroup=name, mode="lines",
                               showlegend=column == 1, **style, **where)
        y_values = itertools.chain(*lines.values())
        figure.update_xaxes(title=x_title, **where,
                            **number_axis(x, log_x, labels=max(4, 10 // len(measures))))
        figure.update_yaxes(**where, **number_axis(y_values, log_y, labels=8))
    figure.update_yaxes(title=y_title, col=1)
    return finish(figure, title, caption, height=400)


def table(columns: Mapping[str, Sequence], *, title: str, widths: Sequence[float] | None = None,
          caption: str = "") -> go.Figure:
    """A table as a figure, so that it appears among the figures.

    Args:
        columns: {heading: values}; floats are shown to 4 significant digits.
        widths: of the columns, relative to one another.
    """
    widths = [1.0] * len(columns) if widths is None else list(widths)
    pixels = [860 * width / sum(widths) - 16 for width in widths]

    def shown(value) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.1e}"
        return str(value)

    def lines(text: str, letter: int, width: float) -> int:
        """How many lines a text takes at most; ``letter`` and ``width`` in pixels."""
        letters = int(width // letter) or 1
        return sum(len(textwrap.wrap(part, letters)) for part in text.split("<br>"))

    cells = [[shown(value) for value in values] for values in columns.values()]
    headings = max(lines(name, 9, width) for name, width in zip(columns, pixels))
    rows = [max(lines(text, 8, width) for text, width in zip(row, pixels))
            for row in itertools.zip_longest(*cells, fillvalue="")]
    figure = go.Figure()
    figure.add_table(columnwidth=widths,
                     header=dict(values=[f"<b>{name}</b>" for name in columns], align="left",
                                 fill_color="#e6e6e6", font_color="#111111"),
                     cells=dict(values=cells, align="left", height=26, fill_color="#fafafa",
                                font_color="#111111"))
    inner = 20 + 20 * headings + sum(26 if n < 2 else 14 + 20 * n for n in rows)
    height = 70 + inner + (50 if caption else 20)
    return finish(figure, title, caption, height=height, gap=32)
