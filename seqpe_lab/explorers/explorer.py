"""What an explorer is: a state, the numbers computed from it, and the template that draws them.

The panel in a notebook (panel.py) and the static page (static_page.py) show the same explorer. Both
keep a state, ask for an answer to it, and draw that. In the notebook Python answers:

    numbers = explorer.compute(state)
    answer = fill(explorer.template, numbers, state, {"names": ..., "narrow": ...})

On the static page the same two lines run as JavaScript. ``explorer.stored()`` gives the page its
arrays, and the script <name>.js registers the computation:

    explorers.patches = (stored) => ({
        compute(state) { return numbers },        // plain values; or a promise of them
        actions: {Start(redraw) { ... }},         // optional: what the buttons do; see ``actions``
    })

``stored`` holds what ``stored()`` returned, with a typed array for each numpy array: Float32Array
for floats of any size, else the array of its dtype, with its shape as ``array.shape``. ``numbers``
must have the names and the values of Python's; a matrix is an array of its rows, an error is thrown
as ``Error`` with the words that Python has.

What is said to the reader is in <name>.toml, with ``$NAME`` for each of ``constants``: "title" and
"about", what the explorer is called, and what to do and to look for (HTML); "picture", the texts of
the template; "tour", five stops: "text" (HTML), the fields that it sets, and where to "look".

Names that mean something among the numbers:
    limits: {field: the largest value its slider may have now, or a list of the options that may be
        chosen now}; ``compute`` itself takes the nearest allowed value of a state that is beyond.
    disabled: names of the buttons that do nothing now.
"""
from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course.style import surround
from seqpe_lab.explorers import fields
from seqpe_lab.explorers.templates import fill

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Explorer:
    """An explorer.

    Args:
        name: as in ``EXPLORERS``.
        state: the class of its states; see fields.py.
        compute: from a state to a namespace of arrays and plain values.
        picture: "data", "layout" (with a "height"), and, if there is one, "table" ({column:
            values}). With the texts they are the template, which is filled with the numbers, the
            state, ``names`` (of the chosen options) and ``narrow`` (whether the page is a phone's).
        click: {field: "x", "y" or a name of the clicked point's customdata}: what a click sets.
        actions: {name of a button: help}; ``panel`` is then a subclass that has ``act``.
        stored: for the static page, see above.
        scripts: names of those that <name>.js needs.
        touring: whether there is a tour.
    """
    name: str
    state: type
    compute: Callable[[Any], Any]
    picture: Mapping[str, Any]
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    click: Mapping[str, str] = dataclasses.field(default_factory=dict)
    actions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    panel: Callable[[Any], Any] | None = None
    stored: Callable[[], dict[str, Any]] = dict
    scripts: tuple[str, ...] = ()
    touring: bool = True

    def answer(self, state: Any, numbers: Any = None, narrow: bool = False,
               table: bool = False) -> dict[str, Any]:
        """What a page shows of a state: the filled template, with plain values and arrays.

        Args:
            numbers: of ``compute``, where they are there already.
            table: whether the table is asked for, where there is one; it may be long.
        """
        numbers = self.compute(state) if numbers is None else numbers
        wanted = {name: part for name, part in self.template.items() if table or name != "table"}
        filled = fill(wanted, numbers, state, {"names": self.names(state), "narrow": narrow})
        if "table" in filled:
            filled["table"] = {
                name: column.tolist() if isinstance(column, np.ndarray) else list(column)
                for name, column in filled["table"].items()}
        return filled | {"limits": getattr(numbers, "limits", {}),
                         "disabled": getattr(numbers, "disabled", [])}

    def draw(self, numbers: Any, state: Any = None) -> go.Figure:
        """The figure by itself, with title and caption, as it is written to files."""
        filled = self.answer(state or numbers.state, numbers)
        figure = go.Figure(filled["data"])
        return surround(figure, filled["title"], filled["caption"], **filled["layout"])

    @functools.cached_property
    def texts(self) -> dict[str, Any]:
        """What is said to the reader."""
        text = (HERE / f"{self.name}.toml").read_text(encoding="utf-8")
        return tomllib.loads(Template(text).substitute(self.constants))

    @property
    def template(self) -> dict[str, Any]:
        """Texts and picture."""
        return self.texts["picture"] | self.picture

    @property
    def tour(self) -> list[dict[str, Any]]:
        """The stops: what is said, the fields that are set, and what to look at."""
        return self.texts["tour"] if self.touring else []

    @functools.cached_property
    def fields(self) -> list[dict[str, Any]]:
        """The fields of the state, as plain values."""
        return fields.describe(self.state)

    def names(self, state: Any) -> dict[str, str]:
        """{field: the name of its chosen option}."""
        return {field["name"]: dict(field["options"])[getattr(state, field["name"])]
                for field in self.fields if field["kind"] in ("choice", "scale")}

    def description(self) -> dict[str, Any]:
        """All that a page needs to know to make the controls, as plain values."""
        return {"name": self.name, "title": self.texts["title"], "about": self.texts["about"],
                "fields": self.fields, "click": dict(self.click), "actions": dict(self.actions),
                "table": "table" in self.picture, "tour": self.tour}
