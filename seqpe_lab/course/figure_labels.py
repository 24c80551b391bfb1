"""Texts of figures: wrapped to the narrowest page, with real subscripts, names at the lines' ends.

A figure has no width of its own: it takes that of its page. Plotly wraps no text, so titles and
captions are wrapped here, for a page of 274 pixels: what JupyterLab leaves of a telephone's 390.
"""
from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

# letters in a line of a title, of a caption, of a name at a line's end, of the names above panels
TITLE, CAPTION, END, PANELS = 34, 46, 14, 28
LINE = 15  # pixels of a line of names
SUBSCRIPTS = re.compile(r"\b([LWe])_(delta|δ|OOD|main|PE|[a-z]\b)")
DASHES = {"solid": "━━", "dash": "╍╍", "longdash": "━ ━", "dot": "┅┅"}


def with_subscripts(text: str) -> str:
    """Real subscripts in plotly's notation.

    >>> with_subscripts("L_delta + L_OOD of e_p")
    'L<sub>δ</sub> + L<sub>OOD</sub> of e<sub>p</sub>'
    """
    return SUBSCRIPTS.sub(lambda found: f"{found[1]}<sub>{found[2].replace('delta', 'δ')}</sub>",
                          text)


def wrapped(text: str, letters: int) -> list[str]:
    """The lines of a text; a ``<br>`` in it begins a new one.

    >>> wrapped("Trained short, tested long", 16)
    ['Trained short,', 'tested long']
    """
    return [line for part in re.split(r" ?<br>", text) for line in textwrap.wrap(part, letters)]


def set_subscripts(figure: go.Figure) -> None:
    """Real subscripts in all texts of a figure; changed in place."""
    def changed(part: Any, name: str) -> None:
        if isinstance(part[name], str):
            part[name] = with_subscripts(part[name])

    changed(figure.layout.title, "text")
    for note in figure.layout.annotations:
        changed(note, "text")
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        changed(axis.title, "text")
    for trace in figure.data:
        changed(trace, "name")


def label_ends(figure: go.Figure) -> go.Figure:
    """Write the name of each line at its right end, in its colour, instead of a legend.

    Names that would lie on one another move up or down, and a thin line leads to them. The axes get
    fixed ranges, since the places of the names depend on them.

    Args:
        figure: finished, with one pair of axes; changed in place, and returned.

    >>> figure = go.Figure(layout=dict(height=300, margin=dict(t=0, b=0)))
    >>> for name in ("a", "b"):
    ...     _ = figure.add_scatter(x=[1, 2], y=[3, 4], name=name, line_color="#0072b2")
    >>> [note.text for note in label_ends(figure).layout.annotations]
    ['a', 'b']
    """
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.name
             and trace.showlegend is not False]
    layout = figure.layout
    log_x, log_y = layout.xaxis.type == "log", layout.yaxis.type == "log"
    ends = [(trace, *_last_point(trace.x, trace.y, log_y)) for trace in lines]
    ends = [end for end in ends if end[1] is not None]
    layout.showlegend = False
    if len(ends) < 2:
        return figure
    _fix_range(layout.xaxis, [x for trace in figure.data for x in trace.x], log_x, 0.03)
    low, high = _fix_range(layout.yaxis, [y for trace in figure.data for y in trace.y], log_y, 0.06)
    height = layout.height - layout.margin.t - layout.margin.b
    plain = (re.sub("<sub>(.*?)</sub>", r"_\1", trace.name) for trace, _, _ in ends)
    texts = [[with_subscripts(line) for line in wrapped(name, END)] for name in plain]
    values = [np.log10(y) if log_y else float(y) for _, _, y in ends]
    at = [height * (value - low) / (high - low) for value in values]  # pixels above the axis
    places = _apart(at, [LINE * len(text) for text in texts], height)
    _add_before_caption(figure, [dict(
        x=float(np.log10(x)) if log_x else x, y=value, text="<br>".join(text), align="left",
        ax=16, ay=own - place, xanchor="left", showarrow=True, arrowhead=0, arrowwidth=1,
        arrowcolor=trace.line.color, standoff=4, borderpad=0,
        font=dict(color=_as_text(trace.line.color), size=12))
        for (trace, x, _), text, value, own, place in zip(ends, texts, values, at, places)])
    widest = max(len(re.sub("<.*?>", "", line)) for text in texts for line in text)
    figure.update_layout(margin_r=26 + round(6.8 * widest))
    return figure


def _last_point(x: Sequence, y: Sequence, log: bool) -> tuple[Any, float | None]:
    """The last point of a line that has a value, which a logarithmic axis shows only above 0."""
    shown = [(place, float(value)) for place, value in zip(x, y)
             if value is not None and np.isfinite(value) and (value > 0 or not log)]
    return shown[-1] if shown else (None, None)


def _fix_range(axis: Any, values: Iterable, log: bool, room: float) -> tuple[float, float]:
    """Set an axis to a little more than its values; the range, in logarithms if ``log``."""
    if axis.range is None:
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        numbers = numbers[np.isfinite(numbers) & ((numbers > 0) | (not log))]
        low, high = numbers.min(), numbers.max()
        low, high = (np.log10(low), np.log10(high)) if log else (low, high)
        room = room * (high - low) or 1.0
        from_zero = axis.rangemode == "tozero" and low >= 0 and not log
        axis.range = (0.0 if from_zero else float(low - room), float(high + room))
    return axis.range


def _apart(wanted: Sequence[float], heights: Sequence[float], top: float) -> list[float]:
    """Middles of texts, near the wanted ones, none on another and all between 0 and ``top``.

    >>> _apart([10.0, 12.0, 50.0], [10, 10, 10], 100)
    [10.0, 20.0, 50.0]
    """
    order = np.argsort(wanted, kind="stable")
    places, lowest, highest = list(wanted), 0.0, top
    for index in order:
        places[index] = max(places[index], lowest + heights[index] / 2)
        lowest = places[index] + heights[index] / 2
    for index in order[::-1]:
        places[index] = min(places[index], highest - heights[index] / 2)
        highest = places[index] - heights[index] / 2
    return [float(place) for place in places]


def add_key(figure: go.Figure, styles: Iterable[Mapping]) -> go.Figure:
    """Name the lines of several panels in one text between title and panels, instead of a legend.

    Args:
        figure: finished; changed in place, and returned.
        styles: of :func:`~seqpe_lab.course.style.line_styles`.
    """
    rows: list[list[str]] = [[]]
    taken = 0
    for style in styles:
        name, line = style["name"], style["line"]
        taken += len(name) + 5
        if rows[-1] and taken > TITLE:
            rows, taken = [*rows, []], len(name) + 5
        rows[-1].append(f'<span style="color:{line["color"]}">{DASHES[line["dash"]]}</span> '
                        f"{with_subscripts(html.escape(name))}")
    top = figure.layout.margin.t
    figure.update_layout(showlegend=False, margin_t=top + 18 * len(rows),
                         height=figure.layout.height + 18 * len(rows))
    _add_before_caption(figure, [dict(
        text="<br>".join("  ".join(row) for row in rows), font_size=12, align="left",
        xref="paper", x=0, xanchor="left", xshift=10 - figure.layout.margin.l,
        yref="paper", y=1, yanchor="bottom", yshift=26, showarrow=False)])
    return figure


def bar_below_title(figure: go.Figure, title: str) -> go.Figure:
    """Put the one colour bar of a figure between its title and its maps: it takes no width.

    Args:
        figure: finished, whose traces share ``coloraxis``; changed in place, and returned.
        title: what the colours mean.
    """
    above = 18 + 20 * (figure.layout.title.text.count("<br>") + 1)  # pixels that the title takes
    height, top = figure.layout.height + 52, figure.layout.margin.t + 52
    bar = dict(orientation="h", thickness=10, lenmode="pixels", len=180, tickfont_size=11, nticks=5,
               x=0, xanchor="left", xpad=0, ypad=0,
               y=1 - (above + 18) / height, yref="container", yanchor="top")
    figure.update_layout(height=height, margin_t=top, coloraxis_colorbar=bar)
    _add_before_caption(figure, [dict(
        text=title, font_size=12, showarrow=False, xref="paper", x=0, xanchor="left",
        xshift=10 - figure.layout.margin.l, yref="paper", y=1, yanchor="top",
        yshift=top - above)])
    return figure


def _as_text(colour: str) -> str:
    """A colour dark enough for letters on white (contrast of at least 4.5), of the same hue."""
    parts = [int(colour[place:place + 2], 16) for place in (1, 3, 5)]

    def luminance() -> float:  # WCAG 2.1
        light = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
                 for c in (part / 255 for part in parts)]
        return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]

    while luminance() > 1.05 / 4.5 - 0.05:
        parts = [int(0.95 * part) for part in parts]
    return "#" + "".join(f"{part:02x}" for part in parts)


def _add_before_caption(figure: go.Figure, notes: Sequence[Mapping]) -> None:
    own = figure.layout.annotations
    captions = [note for note in own if note.name == "caption"]
    others = [note for note in own if note.name != "caption"]
    figure.layout.annotations = [*others, *notes, *captions]
