"""An explorer in a notebook: a widget whose page is page.js, and whose numbers the kernel computes.

It needs no browser: set values with ``panel.set(base=2)``, then look at ``panel.figure``.
"""
from __future__ import annotations

import gc
import json
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import traitlets

from seqpe_lab.course.hidden_errors import report_error
from seqpe_lab.course.page_figures import displayed
from seqpe_lab.course.plot_widget import PLOT, PlotlyWidget, scripts
from seqpe_lab.explorers import fields
from seqpe_lab.explorers.explorer import Explorer

HERE = Path(__file__).parent


class Panel(PlotlyWidget):
    """An explorer on the screen.

    Args:
        explorer: what it shows.
        state: the first one; default: all fields have their defaults.

    Attributes:
        values: {field: value} of the state, which can be observed.
        numbers: what is drawn now.
        message: what went wrong, or "".
        seconds: time of the last drawing, from the values to the message to the page.
    """

    _esm = scripts(PLOT, HERE / "page.js", HERE / "panel.js")
    _css = HERE / "page.css"
    about = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    narrow = traitlets.Bool(False).tag(sync=True)
    table = traitlets.Bool(False).tag(sync=True)
    answer = traitlets.Unicode().tag(sync=True)  # JSON; tables are bytes in base64

    def __init__(self, explorer: Explorer, state: Any = None):
        gc.freeze()  # else a garbage collection walks through all of torch in the middle of a move
        self.explorer, self.message, self.seconds = explorer, "", 0.0
        self.numbers = self._state = None  # drawn now
        first = vars(state or explorer.state())
        super().__init__(about=explorer.description(), values={
            name: fields.as_plain(value) for name, value in first.items()})
        self.observe(lambda _: self.draw(), names=["values", "narrow", "table"])
        self.on_msg(lambda _, said, buffers: self.guard(lambda: self.act(said["value"])))
        self.draw()

    @property
    def state(self) -> Any:
        """The values as a state.

        Raises:
            ValueError: one of them is not allowed.
        """
        return fields.make(self.explorer.state, self.values)

    @property
    def figure(self) -> go.Figure:
        """What is drawn now, for a file or another page."""
        return self.explorer.draw(self.numbers, self._state)

    def set(self, **changes: Any) -> None:
        """Change some values, and draw once."""
        self.values = self.values | {name: fields.as_plain(v) for name, v in changes.items()}

    def draw(self) -> None:
        """Draw for the current values; called after every change of them."""
        self.guard(self._draw)

    def _draw(self) -> None:
        began = time.perf_counter()
        state = self.state
        numbers = self.explorer.compute(state)
        answer = self.explorer.answer(state, numbers, self.narrow, self.table)
        self.numbers, self._state = numbers, state  # if this fails the last good picture stays
        self.message, self.answer = "", json.dumps(answer, default=_packed, allow_nan=False)
        self.seconds = time.perf_counter() - began

    def act(self, name: str) -> None:
        """What a button of ``explorer.actions`` does: for subclasses."""

    def guard(self, action: Callable[[], object]) -> None:
        """Run an action of a control; an error is shown to the reader (Jupyter would hide it)."""
        try:
            action()
        except Exception as error:
            report_error(error)
            kind = "" if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: "
            self.say(f"{kind}{error}", "alert")

    def say(self, message: str, role: str = "status") -> None:
        """Show a line above the figure; "" removes it. ``role``: "status", or "alert" for errors.
        """
        self.message = message
        self.answer = json.dumps({"message": message, "role": role})

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle, _ = super()._repr_mimebundle_(**options)  # anywidget adds metadata, which is empty
        return displayed(bundle, self.figure)


def _packed(value: Any) -> Any:
    """An array as plotly's JavaScript reads it: bytes in base64, of a type that it knows."""
    if not isinstance(value, np.ndarray):
        return value.item()  # a number of numpy
    known = {"f": np.float32, "i": np.int32, "u": np.uint8, "b": np.uint8}
    array = np.ascontiguousarray(value.astype(known[value.dtype.kind]))
    return {"dtype": f"{array.dtype.kind}{array.itemsize}", "bdata": b64encode(array).decode(),
            "shape": ",".join(map(str, array.shape))}
