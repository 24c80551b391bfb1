"""What an explorer is: a state, the numbers computed from it, and the template that draws them.

The panel in a notebook (panel.py) and the static page (static_page.py) show the same explorer. Both
keep a state, ask for an answer to it, and draw that. In the notebook Python answers:

    numbers = explorer.compute(state)
    answer = fill(explorer.template, numbers, state, {"names": ..., "narrow": ...})

On the static page the same two lines run as JavaScript. ``explorer.stored()`` gives the page its
arrays, and the last of ``explorer.scripts`` registers the computation:

    explorers.patches = (stored) => ({
        compute(state) { return numbers },        // plain values; or a promise of them
        actions: {Start(redraw) { ... }},         // optional: what the buttons do; see ``actions``
    })

``stored`` holds what ``stored()`` returned, with a typed array for each numpy array: Float32Array
for floats of any size and for :class:`Rounded` ones, else the array of its dtype, with its shape as
``array.shape``. ``numbers`` must have the names and the values of Python's dataclass; a matrix is
an array of its rows, an error is thrown as ``Error`` with the words that Python has.

Names that mean something among the numbers:
    limits: {field: the largest value its slider may have now, or a list of the options that may be
        chosen now}; ``compute`` itself takes the nearest allowed value of a state that is beyond.
    disabled: names of the buttons that do nothing now.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course.style import surround
from seqpe_lab.explorers import fields
from seqpe_lab.explorers.templates import fill


class Stop(NamedTuple):
    """A stop of the guided tour."""
    text: str  # what is shown, HTML
    state: Mapping[str, Any]  # the fields that it sets; all others have their defaults
    look: str  # what to look at


@dataclasses.dataclass(frozen=True)
class Explorer:
    """An explorer.

    Args:
        name: as in ``EXPLORERS``.
        title, about: what it is called, and what to do and to look for (HTML).
        state: the class of its states; see fields.py.
        compute: from a state to a dataclass of arrays and plain values.
        template: "title", "caption", "data", "layout" (with a "height"), and, if there are any,
            "words" (HTML) and "table" ({column: values}). Filled with the numbers, the state,
            ``names`` (of the chosen options), and ``narrow`` (whether the page is a phone's).
        tour: five stops.
        click: {field: "x", "y" or a name of the clicked point's customdata}: what a click sets.
        actions: {name of a button: help}; ``panel`` is then a subclass that has ``act``.
        file: the name of a downloaded table, without ending.
        stored, scripts: for the static page, see above; shared scripts come first.
    """
    name: str
    title: str
    about: str
    state: type
    compute: Callable[[Any], Any]
    template: Mapping[str, Any]
    tour: tuple[Stop, ...] = ()
    click: Mapping[str, str] = dataclasses.field(default_factory=dict)
    actions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    panel: Callable[[Explorer, Any], Any] | None = None
    file: str = "table"
    stored: Callable[[], dict[str, Any]] = dict
    scripts: tuple[Path, ...] = ()

    def answer(self, state: Any, numbers: Any = None, narrow: bool = False,
               table: bool = False) -> dict[str, Any]:
        """What a page shows of a state: the filled template, with plain values and arrays.

        Args:
            numbers: of ``compute``, where they are there already.
            table: whether the table is asked for, where there is one; it may be long.
        """
        table = table and "table" in self.template
        numbers = self.compute(state) if numbers is None else numbers
        wanted = {name: part for name, part in self.template.items() if table or name != "table"}
        filled = fill(wanted, numbers, state, {"names": self.names(state), "narrow": narrow})
        if table:
            filled["table"] = {
                name: column.tolist() if isinstance(column, np.ndarray) else list(column)
                for name, column in filled["table"].items()}
        return filled | {"limits": getattr(numbers, "limits", {}),
                         "disabled": getattr(numbers, "disabled", [])}

    def draw(self, numbers: Any, state: Any = None) -> go.Figure:
        """The figure by itself, with title and caption, as it is written to files."""
        state = getattr(numbers, "state", state)
        filled = self.answer(state, numbers)
        figure = go.Figure(filled["data"])
        return surround(figure, filled["title"], filled["caption"], **filled["layout"])

    @functools.cached_property
    def fields(self) -> list[dict[str, Any]]:
        """The fields of the state, as plain values."""
        return fields.describe(self.state)

    def names(self, state: Any) -> dict[str, str]:
        """{field: the name of its chosen option}."""
        named = {}
        for field in self.fields:
            if field["kind"] in ("choice", "scale"):
                named[field["name"]] = dict(field["options"])[getattr(state, field["name"])]
        return named

    def description(self) -> dict[str, Any]:
        """All that a page needs to know to make the controls, as plain values."""
        return {"name": self.name, "title": self.title, "about": self.about, "file": self.file,
                "fields": self.fields, "click": dict(self.click),
                "actions": dict(self.actions), "table": "table" in self.template,
                "tour": [stop._asdict() | {"state": {name: fields.as_plain(value) for name, value
                                                     in stop.state.items()}}
                         for stop in self.tour]}
