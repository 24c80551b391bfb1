"""Parts of templates that several explorers draw: outlines, bands, notes, axes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SIMILARITIES = {figure: {"cosine": "cosine", "dot": f"dot product (the paper's Fig. {figure})"}
                for figure in (2, 3)}  # choices of a control
BARE = dict(showgrid=False, zeroline=False)  # an axis without lines
QUIET = dict(showlegend=False, hoverinfo="skip")  # a trace without legend and hover text
LEGEND = dict(orientation="h", x=1, xanchor="right", y=1.02, yanchor="bottom")  # above the axes


def outlined(width: float = 1.5, dash: str = "solid", **shape: Any) -> list[dict[str, Any]]:
    """A shape of the layout in black on a wider white one, visible on dark and bright."""
    black = dict(color="black", width=width, dash=dash)
    return [shape | dict(line=line) for line in (dict(color="white", width=2 * width), black)]


def note(text: Any, **place: Any) -> dict[str, Any]:
    """A small text without an arrow, to the right of and above its place, or as ``place`` says."""
    return dict(text=text, showarrow=False, font=dict(size=12), xanchor="left", yanchor="bottom",
                yref="y domain") | place


def heading(text: Any, axis: str = "{nth}", size: int = 13, **place: Any) -> dict[str, Any]:
    """The title above one of several pairs of axes."""
    return note(text, xref=f"x{axis} domain", yref=f"y{axis} domain", x=0.5, y=1,
                xanchor="center", font=dict(size=size)) | place


def band(x: str, low: str, high: str, colour: str, each: str = "",
         **trace: Any) -> list[dict[str, Any]]:
    """A band between two curves, names of numbers such as "@low"; one for ``each`` of a list."""
    line = dict(type="scatter", x=x, mode="lines", line=dict(width=0), **QUIET) | trace
    parts = [line | dict(y=low), line | dict(y=high, fill="tonexty", fillcolor=colour)]
    return [dict(each=each, value=parts)] if each else parts


def axes(nth: int | str, wide: Sequence[Any], narrow: Sequence[Any], x: Mapping[str, Any],
         y: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    """A pair of axes of a layout, placed differently on a wide and on a narrow page.

    Their labels do not move them: else plotly draws everything twice.

    Args:
        nth: its number as plotly writes it: "", 2, 3, ...
        wide, narrow: left, right, bottom and top, shares of the figure.
        x, y: other properties of the two.
        rules: of both.

    >>> axes(2, (0, 0.4, 0, 1), (0, 1, 0.5, 1), {"title": "step"}, {})["xaxis2"]
    {'anchor': 'y2', 'domain': {'when': 'narrow', 'value': [0, 1], 'else': [0, 0.4]},
     'automargin': False, 'title': 'step'}
    """
    left_right, bottom_top = (either(list(narrow[side]), list(wide[side]))
                              for side in (slice(2), slice(2, 4)))
    common = {"automargin": False, **rules}
    return {f"xaxis{nth}": {"anchor": f"y{nth}", "domain": left_right, **common, **x},
            f"yaxis{nth}": {"anchor": f"x{nth}", "domain": bottom_top, **common, **y}}


def either(narrow: Any, wide: Any) -> dict[str, Any]:
    """One value on a narrow page, another on a wide one."""
    return {"when": "narrow", "value": narrow, "else": wide}


def each_of(name: str, value: Any) -> dict[str, Any]:
    """A value for every element of a list."""
    return {"each": name, "value": value}
