"""Pure functions: numbers in, plotly figure out. One claim a figure, said in its title.

One colour a method everywhere (Okabe and Ito's palette, made for colour-blind readers); methods
that share a family differ by dash and marker as well.
"""
from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course.draft import Draft

# method: (name in legends, colour, dash, marker)
STYLE = {
    "none": ("NoPE", "#777777", "solid", "x"),
    "sinusoidal": ("APE sinusoidal", "#56B4E9", "solid", "diamond"),
    "learned": ("APE learned", "#CC79A7", "solid", "square"),
    "rope-1e4": ("RoPE 10⁴", "#009E73", "solid", "triangle-up"),
    "rope-1e6": ("RoPE 10⁶", "#009E73", "dash", "triangle-right"),
    "rope-1e8": ("RoPE 10⁸", "#009E73", "dot", "triangle-down"),
    "alibi": ("ALiBi", "#0072B2", "solid", "pentagon"),
    "seqpe": ("SeqPE", "#D55E00", "solid", "circle"),
    "seqpe-no-losses": ("SeqPE, no losses", "#E69F00", "dash", "circle-open"),
    "seqpe-delta-only": ("SeqPE, L_δ only", "#D55E00", "dash", "square-open"),
    "seqpe-ood-only": ("SeqPE, L_OOD only", "#E69F00", "dot", "diamond-open"),
    "rope-axial": ("RoPE axial", "#009E73", "solid", "triangle-up"),
    "rope-mixed": ("RoPE mixed", "#009E73", "dash", "triangle-right"),
    "seqpe-mul": ("SeqPE mul", "#D55E00", "solid", "circle"),
    "seqpe-sum": ("SeqPE sum", "#D55E00", "dot", "cross"),
    "seqpe-bias": ("SeqPE bias", "#D55E00", "dash", "hexagon"),
    "seqpe-mul-no-losses": ("SeqPE mul, no losses", "#E69F00", "dash", "circle-open"),
    "seqpe-mul-delta-only": ("SeqPE mul, L_δ only", "#D55E00", "dash", "square-open"),
    "seqpe-mul-ood-only": ("SeqPE mul, L_OOD only", "#E69F00", "dot", "diamond-open"),
    "seqpe-all-learns": ("SeqPE, all learns on", "#E69F00", "solid", "star-open"),
    "seqpe-new-projection": ("SeqPE, new W_PE", "#D55E00", "longdash", "square"),
    "seqpe-kept-encoder": ("SeqPE, kept encoder", "#E69F00", "longdash", "diamond"),
    "seqpe-strong-losses": ("SeqPE, α = β = 0.3", "#D55E00", "dot", "star"),
}


def label(method: str) -> str:
    """The method's name in legends and tables."""
    return STYLE[method][0] if method in STYLE else method


def extrapolation(results: Sequence[Mapping], *, train_len: int, title: str = "Trained short, tested long", relative: bool = False) -> go.Figure:
    """Perplexity against context length, a line a method, a band over its seeds.

    Args:
        results: as ``results.json`` holds them: "method", "seed", "perplexity" {length: value}, ...
        train_len: marked by a vertical line, tokens.
        relative: show perplexity over perplexity at the shortest length.
    """
    figure = Draft()
    figure.data = _by_method(results, "perplexity", "%{y:.3f} at %{x} tokens", relative)
    _length_axis(figure, results, "perplexity", train_len)
    figure.update_yaxes(type="log", title="perplexity ÷ perplexity at the trained length" if relative else "perplexity on the test split",
                        tickformat="~g", nticks=8)
    return figure.finish(title, caption(results))


def resolution(results: Sequence[Mapping], *, train_size: int, title: str = "Trained small, tested large", measure: str = "accuracy") -> go.Figure:
    """Top-1 accuracy against image size, a line a method, a band over its seeds.

    Args:
        results: as ``results.json`` of image runs holds them: "method", "seed", "accuracy" {size: percent}, ...
        train_size: marked by a vertical line, pixels.
        measure: "accuracy", or "interpolated" for SeqPE with its positions stretched like a learned table.
    """
    figure = Draft()
    figure.data = _by_method(results, measure, "%{y:.1f} % at %{x} pixels")
    _mark(figure, train_size, f"trained at {train_size}", log_x=False)
    figure.update_xaxes(title="image size (pixels a side)", tickvals=sorted({int(n) for r in results for n in r[measure]}))
    figure.update_yaxes(title="top-1 accuracy on the test split (%)", rangemode="tozero")
    return figure.finish(title, caption(results))


def answers(results: Sequence[Mapping], *, train_len: int, title: str = "To find an answer in a longer context") -> go.Figure:
    """Exact match against context length, a line a method, a band over its seeds; arguments as in :func:`extrapolation`."""
    figure = Draft()
    figure.data = _by_method(results, "exact_match", "%{y:.1f} % at %{x} tokens")
    _length_axis(figure, results, "exact_match", train_len)
    figure.update_yaxes(title="exact match (%)", range=[0, 103])
    return figure.finish(title, caption(results))


def _length_axis(figure: Draft, results: Sequence[Mapping], measure: str, train_len: int) -> None:
    ticks = sorted({int(n) for r in results for n in r[measure]})
    _mark(figure, train_len, f"trained at {train_len}", log_x=True)
    figure.update_xaxes(type="log", title="context length (tokens)", tickvals=ticks, ticktext=[f"{t:,}" for t in ticks])


def depths(tables: Mapping[str, Sequence[Sequence[float | None]]], *, lengths: Sequence, title: str, caption: str = "") -> go.Figure:
    """Percent of right answers by context length and by where the answer stands, a table a method, all on one scale.

    Args:
        tables: {method: one row a length, one column a part of the context, the earliest first; None where nothing was asked}.
        lengths: of the rows, tokens.
    """
    figure = Draft(1, len(tables), [label(method) for method in tables], horizontal_spacing=0.02, shared_yaxes=True)
    for column, table in enumerate(tables.values(), start=1):
        parts = len(table[0])
        figure.add("heatmap", z=table, x=[(part + 0.5) / parts for part in range(parts)], y=[f"{int(n):,}" for n in lengths], coloraxis="coloraxis", row=1, col=column,
                           texttemplate="%{z:.0f}", hovertemplate="%{y} tokens, depth %{x:.1f}: %{z:.0f} %<extra></extra>")
        figure.update_xaxes(title="depth (0: first, 1: last)", dtick=0.5, range=[0, 1], row=1, col=column)
    figure.update_yaxes(title="context length (tokens)", type="category", autorange="reversed", col=1)
    figure.update_layout(coloraxis=dict(colorscale="Viridis", cmin=0, cmax=100, colorbar_title="right (%)"))
    return figure.finish(title, caption, height=400)


def _by_method(results: Sequence[Mapping], measure: str, hover: str, relative: bool = False) -> list[dict]:
    """Traces: lines through the mean of the seeds, bands from their lowest to their highest."""
    if not results:
        raise ValueError("no results to draw")
    traces = []
    by_method: dict[str, list[Mapping]] = {}
    for result in results:
        by_method.setdefault(result["method"], []).append(result)
    order = [m for m in STYLE if m in by_method] + [m for m in by_method if m not in STYLE]
    for method in order:
        places = sorted(int(n) for n in by_method[method][0][measure])
        values = np.array([[r[measure][str(n)] for n in places] for r in by_method[method]])
        if relative:
            values = values / values[:, :1]
        name, colour, dash, marker = STYLE.get(method, (method, "#000000", "solid", "circle"))
        if len(values) > 1:
            traces.append(dict(type="scatter", x=places + places[::-1], y=[*values.max(0), *values.min(0)[::-1]], mode="none", fill="toself", fillcolor=colour,
                               opacity=0.18, line_width=0, hoverinfo="skip", showlegend=False, legendgroup=method))
        traces.append(dict(type="scatter", x=places, y=values.mean(0), name=name, legendgroup=method, mode="lines+markers",
                           line=dict(color=colour, dash=dash, width=3 if method in ("seqpe", "seqpe-mul") else 2), marker=dict(symbol=marker, size=9),
                           hovertemplate=hover))
    return traces


def patch_similarity(maps: Mapping[str, Mapping[str, object]], *, title: str, trained: int | None = None, caption: str = "") -> go.Figure:
    """The similarity of some patches to all others, a row a model (the paper's Fig. 3).

    Args:
        maps: {model: {patch: (rows, columns) similarities}}, the same patches for each model.
        trained: rows and columns of the trained grid, outlined from the upper left.
    """
    patches = list(next(iter(maps.values())))
    figure = Draft(len(maps), len(patches), patches, horizontal_spacing=0.02, vertical_spacing=0.03, row_titles=list(maps))
    for row, tables in enumerate(maps.values(), start=1):
        for column, patch in enumerate(patches, start=1):
            figure.add("heatmap", z=np.asarray(tables[patch], dtype=np.float32), colorscale="Viridis", showscale=False, row=row, col=column,
                               hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>")
            axis = "" if row == column == 1 else (row - 1) * len(patches) + column
            figure.update_xaxes(constrain="domain", showticklabels=row == len(maps), row=row, col=column)
            figure.update_yaxes(autorange="reversed", scaleanchor=f"x{axis}", constrain="domain", showticklabels=column == 1, row=row, col=column)
            if trained is not None:
                figure.add_shape(type="rect", x0=-0.5, y0=-0.5, x1=trained - 0.5, y1=trained - 0.5, line=dict(color="white", width=2, dash="dot"), row=row, col=column)
    figure.update_xaxes(title="column", row=len(maps))
    figure.update_yaxes(title="row", col=1)
    return figure.finish(title, caption, height=120 + 190 * len(maps))


def heatmap(matrix, *, title: str, axis: str = "position", value: str = "similarity", diverging: bool = False, caption: str = "") -> go.Figure:
    """A square table of similarities; brighter is more similar, as in the paper's Fig. 2."""
    matrix = np.asarray(matrix, dtype=np.float32)
    figure = Draft()
    figure.add("heatmap", z=matrix, colorscale="RdBu_r" if diverging else "Viridis", zmid=0 if diverging else None,
               colorbar_title=value, hovertemplate=f"{axis} %{{x}}, %{{y}}: %{{z:.3f}}<extra></extra>")
    figure.update_xaxes(title=axis, constrain="domain")
    figure.update_yaxes(title=axis, autorange="reversed", scaleanchor="x", constrain="domain")
    return figure.finish(title, caption, height=560)


def heatmaps(matrices: Mapping[str, object], *, title: str, axis: str = "position", value: str = "similarity", caption: str = "") -> go.Figure:
    """Several square tables side by side, each with its own colour scale (their ranges differ)."""
    figure = Draft(1, len(matrices), list(matrices), horizontal_spacing=0.06)
    for column, matrix in enumerate(matrices.values(), start=1):
        figure.add("heatmap", z=np.asarray(matrix, dtype=np.float32), colorscale="Viridis", showscale=False, row=1, col=column,
                           hovertemplate=f"{axis} %{{x}}, %{{y}}: {value} %{{z:.3f}}<extra></extra>")
        figure.update_xaxes(title=axis, constrain="domain", row=1, col=column)
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(autorange="reversed", scaleanchor=anchor, constrain="domain", row=1, col=column)
    figure.update_yaxes(title=axis, row=1, col=1)
    return figure.finish(title, caption, height=460)


def curves(x: Sequence, series: Mapping[str, Sequence], *, title: str, x_title: str, y_title: str, log_x: bool = False, log_y: bool = False,
           mark: float | None = None, mark_text: str = "", caption: str = "") -> go.Figure:
    """Lines over one axis. A series named like a method takes that method's colour."""
    figure = Draft()
    for name, (shown, colour, dash) in _line_styles(series).items():
        y = series[name]
        figure.add("scatter", x=list(x), y=list(y), name=shown, mode="lines+markers" if len(x) <= 20 else "lines", line=dict(color=colour, dash=dash, width=2))
    if mark is not None:
        _mark(figure, mark, mark_text, log_x)
    figure.update_xaxes(title=x_title, **_ticks(x, log_x))
    figure.update_yaxes(title=y_title, **_ticks([v for y in series.values() for v in y], log_y))
    return figure.finish(title, caption)


def panels(x: Sequence, measures: Mapping[str, Mapping[str, Sequence]], *, title: str, x_title: str, y_title: str = "", log_x: bool = False, log_y: bool = False,
           caption: str = "") -> go.Figure:
    """One small panel a measure, the same lines in each: {measure: {line: values}}. ``y_title`` stands at the first panel."""
    figure = Draft(1, len(measures), list(measures), horizontal_spacing=0.1)
    for column, lines in enumerate(measures.values(), start=1):
        for name, (shown, colour, dash) in _line_styles(lines).items():
            y = lines[name]
            figure.add("scatter", x=list(x), y=list(y), name=shown, legendgroup=name, showlegend=column == 1, mode="lines",
                               line=dict(color=colour, dash=dash, width=2), row=1, col=column)
        figure.update_xaxes(title=x_title, row=1, col=column, **_ticks(x, log_x, room=max(4, 10 // len(measures))))
        figure.update_yaxes(row=1, col=column, **_ticks([v for y in lines.values() for v in y], log_y, room=8))
    figure.update_yaxes(title=y_title, row=1, col=1)
    return figure.finish(title, caption, height=400)


def table(columns: Mapping[str, Sequence], *, title: str, widths: Sequence[float] | None = None, caption: str = "") -> go.Figure:
    """A table as a figure, so that it is published like one. Floats are shown to 4 significant digits; ``widths`` are the columns' relative to one another."""
    widths = [1.0] * len(columns) if widths is None else widths
    pixels = [860 * width / sum(widths) - 16 for width in widths]

    def show(value):
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.1e}"
        return str(value)

    def lines(text, letter, room):  # of a text in a column, at most; letter, room: pixels
        return sum(len(textwrap.wrap(part, int(room // letter) or 1)) for part in text.split("<br>"))

    cells = [[show(v) for v in values] for values in columns.values()]
    header = max(lines(name, 9, room) for name, room in zip(columns, pixels))  # bold
    rows = [max(lines(text, 8, room) for text, room in zip(row, pixels)) for row in itertools.zip_longest(*cells, fillvalue="")]
    figure = Draft()
    figure.add("table", columnwidth=list(widths),
               header=dict(values=[f"<b>{name}</b>" for name in columns], align="left", fill_color="#e6e6e6", font_color="#111111"),
               cells=dict(values=cells, align="left", height=26, fill_color="#fafafa", font_color="#111111"))
    inner = 6 + 14 + 20 * header + sum(26 if n < 2 else 14 + 20 * n for n in rows)
    return figure.finish(title, caption, height=70 + inner + (50 if caption else 20), gap=32)


def caption(results: Sequence[Mapping]) -> str:
    """Scale, data, protocol and seeds of results, for the line below a figure; differing values are all named."""
    def all_of(values):
        return " / ".join(sorted({str(v) for v in values}))

    seeds = sorted({r["seed"] for r in results})
    data = all_of(", ".join(filter(None, [r["data"]["description"], r["data"].get("tokenizer")])) for r in results)
    amount = all_of(next(f"{r[unit]:,} {unit}" for unit in ("tokens", "questions", "images") if unit in r) for r in results)
    chunks = " chunks" if "tokens" in results[0] else ""
    return (f"scale {all_of(r['scale'] for r in results)} · {data} (hash {all_of(r['data']['hash'] for r in results)}) · "
            f"{all_of(r['split'] for r in results)} split, {all_of(r['protocol'] for r in results)}{chunks}, {amount} · "
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")


def _mark(figure: Draft, x: float, text: str, log_x: bool) -> None:
    """A dashed vertical line. On a log axis plotly wants a shape's x as it is and an annotation's as its logarithm."""
    figure.add_vline(x)
    if text:
        figure.add_annotation(x=float(np.log10(x)) if log_x else x, y=1, yref="paper", text=text, showarrow=False, xanchor="left", yanchor="bottom")


def _line_styles(names) -> dict[str, tuple[str, str, str]]:
    """(legend, colour, dash) of each line: a method's own, and for any other name a colour that no method here has."""
    taken = {STYLE[name][1] for name in names if name in STYLE}
    free = [c for c in ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777", "#000000") if c not in taken] or ["#000000"]
    styles, used = {}, 0
    for name in names:
        if name in STYLE:
            styles[name] = STYLE[name][:3]
        else:
            styles[name] = (name, free[used % len(free)], ("solid", "dash", "dot")[used // len(free) % 3])
            used += 1
    return styles


def _ticks(values: Sequence, log: bool, room: int = 10) -> dict:
    """An axis whose labels can be read as numbers: no "1k" and "10µ", no lone 2 and 5 between powers of ten.

    Args:
        values: what is drawn along the axis.
        room: how many labels fit.
    """
    values = np.asarray([np.nan if v is None else float(v) for v in values])
    values = np.abs(values[np.isfinite(values) & ((values > 0) if log else True)])
    if not log:
        plain = 6 if values.max(initial=0) >= 1 else 3  # up to 10⁶ and down to 10⁻³ without a power
        return dict(type="linear", exponentformat="power", minexponent=plain, separatethousands=True)
    low, high = (np.log10(values.min()), np.log10(values.max())) if len(values) else (0.0, 1.0)
    span = high - low
    labels = dict(tickformat=",~r") if low >= -3 and high <= 6 else dict(exponentformat="power")  # 0.001 to 1,000,000 in full
    if span < 1:
        return dict(type="log", nticks=min(room, 8), tickformat=",~r")
    if 3 * span <= room and "tickformat" in labels:
        return dict(type="log", dtick="D2") | labels  # 1, 2, 5, 10, 20, 50, ...
    return dict(type="log", dtick=int(np.ceil(span / room))) | labels
