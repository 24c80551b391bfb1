"""Figures of the lessons: functions from numbers to a plotly figure, one claim a figure.

Here are those of results of runs; lines and maps have modules of their own, and lessons find all
of them here.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from seqpe_lab.course.figure_labels import bar_below_title, label_ends
from seqpe_lab.course.figures_lines import curves, panels, table
from seqpe_lab.course.figures_maps import heatmap, heatmaps, patch_similarity
from seqpe_lab.course.result_tables import complete, failures
from seqpe_lab.course.style import add_method, add_train_line, finish, in_order, label, number_axis

__all__ = ["answers", "caption", "curves", "depths", "extrapolation", "heatmap", "heatmaps",
           "label", "panels", "patch_similarity", "resolution", "table"]


def extrapolation(results: Sequence[Mapping], *, train_len: int,
                  title: str = "Trained short, tested long", relative: bool = False) -> go.Figure:
    """Perplexity against context length: a line for each method, a band over its seeds.

    Args:
        results: contents of ``results.json``: "method", "seed", "perplexity" {length: value}, ...
        train_len: tokens, marked by a vertical line.
        relative: show perplexity divided by perplexity at the shortest length.
    """
    figure = _over_lengths(results, "perplexity", "%{y:.3f} at %{x} tokens", train_len, relative)
    values = [y for trace in figure.data for y in trace.y]
    figure.update_yaxes(**number_axis(values, log=True, labels=8),
                        title="perplexity ÷ perplexity at the trained length" if relative
                        else "perplexity on the test split")
    return label_ends(finish(figure, title, caption(results)))


def answers(results: Sequence[Mapping], *, train_len: int,
            title: str = "To find an answer in a longer context") -> go.Figure:
    """Exact match against context length; arguments as in :func:`extrapolation`."""
    figure = _over_lengths(results, "exact_match", "%{y:.1f} % at %{x} tokens", train_len)
    figure.update_yaxes(title="exact match (%)", range=[0, 103])
    return label_ends(finish(figure, title, caption(results)))


def resolution(results: Sequence[Mapping], *, train_size: int,
               title: str = "Trained small, tested large") -> go.Figure:
    """Top-1 accuracy against image size: a line for each method, a band over its seeds.

    Args:
        results: contents of ``results.json``: "method", "seed", "accuracy" {size: percent}, ...
        train_size: pixels, marked by a vertical line.
    """
    figure = _by_method(results, "accuracy", "%{y:.1f} % at %{x} pixels")
    add_train_line(figure, train_size, f"trained at {train_size}")
    figure.update_xaxes(title="image size (pixels a side)", tickvals=_places(results, "accuracy"))
    figure.update_yaxes(title="top-1 accuracy on the test split (%)", rangemode="tozero")
    return label_ends(finish(figure, title, caption(results)))


def depths(tables: Mapping[str, Sequence[Sequence[float | None]]], *, lengths: Sequence,
           title: str, caption: str = "") -> go.Figure:
    """Percent of right answers by context length and by the place of the answer in the context.

    Args:
        tables: a table for each method, with one row a length and one column a part of the
            context, the earliest first; None where nothing was asked.
        lengths: of the rows, tokens.
    """
    columns = min(len(tables), 2)  # more would be too narrow on a telephone
    rows = -(-len(tables) // columns)
    figure = make_subplots(rows, columns, shared_yaxes=True, shared_xaxes=True,
                           horizontal_spacing=0.03, vertical_spacing=0.18 / rows,
                           subplot_titles=[label(method) for method in tables])
    hover = "%{y} tokens, depth %{x:.1f}: %{z:.0f} %<extra></extra>"
    for place, cells in enumerate(tables.values()):
        parts = len(cells[0])
        figure.add_heatmap(z=cells, x=[(part + 0.5) / parts for part in range(parts)],
                           y=[f"{int(n):,}" for n in lengths], coloraxis="coloraxis",
                           texttemplate="%{z:.0f}", hovertemplate=hover,
                           row=place // columns + 1, col=place % columns + 1)
    figure.update_xaxes(dtick=0.5, range=[0, 1])
    figure.update_xaxes(title="depth (0: first, 1: last)", row=rows, col=1)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="context (tokens)", col=1)
    figure.update_annotations(font_size=13)
    finish(figure, title, caption, height=130 + 210 * rows,
           coloraxis=dict(colorscale="Viridis", cmin=0, cmax=100))
    return bar_below_title(figure, "right (%)")


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
        said = ", ".join(filter(None, map(result["data"].get, ("description", "tokenizer"))))
        return f"{said} (hash {result['data']['hash']})"

    def amount(result: Mapping) -> str:
        unit = next(unit for unit in ("tokens", "questions", "images", "examples")
                    if unit in result)
        return f"{result[unit]:,} {unit}"

    seeds = sorted({result["seed"] for result in results})
    chunks = " chunks" if "tokens" in results[0] else ""
    return (f"scale {values(lambda r: r['scale'])} · "
            f"{values(data)} · "
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
