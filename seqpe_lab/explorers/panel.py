"""The panel that every explorer is: labelled controls above one figure.

When a control changes, the panel computes numbers from its state (the values of all controls) and
draws a figure from the numbers. It shows errors to the reader and keeps a static copy of the
figure. It needs no kernel and no browser: set a control's value, then look at ``panel.figure``.
"""
from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import html
import io
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from seqpe_lab.course.hidden_errors import report_error
from seqpe_lab.course.page_figures import displayed
from seqpe_lab.course.plot_widget import Plot

CARD = ("background:#fff;color:#111;padding:6px 10px;border-radius:4px;"  # readable on dark pages
        "font-family:Arial,'DejaVu Sans',sans-serif;font-size:14px;line-height:1.45;"
        "overflow-x:auto")
ROWS = 200  # the most rows of a table that are shown; the downloaded file has all


def control(default, kind: type[ipywidgets.Widget], label: str, help: str, **options) -> Any:
    """A field of a state with its control: the class of ipywidget, label, help text, options."""
    options |= dict(description=label, tooltip=help, style={"description_width": "initial"},
                    layout=dict(width="auto", min_width="300px", max_width="460px"))
    return dataclasses.field(default=default, metadata=dict(kind=kind, help=help, options=options))


def make_control(field: dataclasses.Field, **options) -> ipywidgets.Widget:
    """The widget of a field; ``options`` override those of its definition."""
    settings = {"value": field.default} | field.metadata["options"] | options
    widget = field.metadata["kind"](**settings)
    widget.help = field.metadata["help"]
    return widget


class Panel(ipywidgets.VBox):
    """An explorer on the screen.

    Args:
        title, about: its name, and what to do and to look for (HTML).
        state: a dataclass, each field of which is made by :func:`control`.
        compute: from a state to numbers of any type.
        picture: from the numbers to a figure.
        words: from the numbers to the text (HTML) below the figure.
        table: from the numbers to {column: values}, shown when opened, to copy or to download.
        limits: from a state to {field: the largest value that its control allows now}.
        file: name of a downloaded table, without ending.
        options: {field: options of its control} that are known only now.

    Attributes:
        controls: {field: widget}.
        numbers, figure: what is drawn now; the figure is the static copy.
        plot: the figure on the page.
        seconds: time of the last drawing, from the controls' values to the message to the page.

    >>> @dataclasses.dataclass
    ... class Line:
    ...     slope: int = control(2, ipywidgets.IntSlider, "slope", "how steep it is", max=9)
    >>> line = Panel("A line", "Tilt it.", Line, lambda state: [0, state.slope],
    ...              lambda heights: go.Figure(go.Scatter(y=heights)))
    >>> line.controls["slope"].value = 5
    >>> line.figure.data[0].y
    (0, 5)
    """

    def __init__(self, title: str, about: str, state: type, compute: Callable,
                 picture: Callable[..., go.Figure], *, words: Callable[..., str] | None = None,
                 table: Callable[..., Mapping[str, Sequence]] | None = None,
                 limits: Callable[..., Mapping] | None = None, file: str = "table", **options):
        gc.freeze()  # else a garbage collection walks through all of torch in the middle of a move
        self.title, self.file, self._state = title, file, state
        self.compute, self.picture, self.words, self.table = compute, picture, words, table
        self.limits = limits
        self.controls = {field.name: make_control(field, **options.get(field.name, {}))
                         for field in dataclasses.fields(state)}
        self.numbers = self.figure = None
        self.seconds = 0.0
        self._held = self._wrong = False
        self.plot = Plot()
        self._message, self._words, self._table = (ipywidgets.HTML() for _ in range(3))
        row = dict(flex_flow="row wrap")
        self.buttons = ipywidgets.HBox(layout=row)
        self._sheet = ipywidgets.Accordion([self._table], titles=(
            "The numbers behind the picture, to copy or to download",))
        super().__init__([
            ipywidgets.HTML(card(f"<b>{html.escape(title)}.</b> {about}")),
            ipywidgets.HBox([_with_help(widget) for widget in self.controls.values()], layout=row),
            self.buttons, self._message,
            ipywidgets.VBox([self.plot], layout=dict(overflow="auto")),  # a narrow page scrolls
            self._words, *([self._sheet] if table else [])])
        self.add_class("seqpe-explorer")
        self._sheet.observe(lambda _: self.guard(self._show_table), names="selected_index")
        for widget in self.controls.values():
            widget.observe(lambda _: self.draw(), names="value")
        self.draw()

    @property
    def state(self):
        """The controls' values; floats without a slider's rounding errors (1.9999999999999998)."""
        values = {name: widget.value for name, widget in self.controls.items()}
        return self._state(**{name: round(value, 6) if isinstance(value, float) else value
                              for name, value in values.items()})

    def draw(self) -> None:
        """Draw for the current values; called after every change of a control."""
        if not self._held:
            self.guard(self._draw)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Set several controls inside the block; the panel draws once, afterwards."""
        with self._without_drawing():
            yield
        self.draw()

    @contextlib.contextmanager
    def _without_drawing(self) -> Iterator[None]:
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _draw(self) -> None:
        began = time.perf_counter()
        if self.limits:
            with self._without_drawing():
                for name, largest in self.limits(self.state).items():
                    self.controls[name].max = largest
        numbers = self.compute(self.state)
        figure = self.picture(numbers)  # if this fails the last good picture stays
        self.numbers, self.figure = numbers, figure
        self.plot.show(figure)
        if self.words:
            self._words.value = card(self.words(numbers))
        self._show_table()
        self.seconds = time.perf_counter() - began

    def _show_table(self) -> None:
        if self.table and self._sheet.selected_index is not None:
            self._table.value = table_html(self.table(self.numbers), self.file)

    def guard(self, action: Callable[[], object]) -> None:
        """Run an action of a control; an error is shown to the reader (Jupyter would hide it)."""
        try:
            action()
        except Exception as error:
            report_error(error)
            name = "" if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: "
            self.show_message(f"{name}{error}", wrong=True)
        else:
            if self._wrong:
                self.show_message("")

    def show_message(self, text: str, wrong: bool = False) -> None:
        """A line above the figure; "" removes it."""
        self._wrong = wrong
        role, colour = ("alert", "#b00020") if wrong else ("status", "#1a1a1a")
        style = f"color:{colour};border-left:4px solid {colour}"
        self._message.value = card(html.escape(text), style, f'role="{role}"') if text else ""

    def _repr_mimebundle_(self, **options) -> dict[str, Any]:
        return displayed(super()._repr_mimebundle_(**options), self.figure)

    def close(self) -> None:
        """Remove the panel and its picture from the page."""
        self.plot.close()
        super().close()


def _with_help(widget: ipywidgets.Widget) -> ipywidgets.Widget:
    style = "color:var(--jp-ui-font-color2,#555)"
    text = ipywidgets.HTML(f'<small style="{style}">{html.escape(widget.help)}</small>')
    return ipywidgets.VBox([widget, text], layout=dict(margin="2px 14px 4px 0", max_width="470px"))


def card(content: str, style: str = "", attributes: str = "") -> str:
    """HTML in black on white, whatever colours the page has."""
    return f'<div {attributes} style="{CARD};{style}">{content}</div>'


def table_html(columns: Mapping[str, Sequence], file: str) -> str:
    """A table to look at, its text to copy, and a link that saves it as CSV."""
    rows = list(zip(*columns.values()))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(columns), *rows])
    saved, name = b64encode(text.getvalue().encode()).decode(), html.escape(file)

    def line(values: Sequence, tag: str) -> str:
        shown = (f"{v:.4g}" if isinstance(v, float) else html.escape(str(v)) for v in values)
        cell = f'<{tag} style="padding:1px 10px 1px 0;text-align:left">'
        return f"<tr>{''.join(f'{cell}{value}</{tag}>' for value in shown)}</tr>"

    more = f"<p>{len(rows) - ROWS:,} more rows in the file.</p>" if len(rows) > ROWS else ""
    return card(f'<a download="{name}.csv" href="data:text/csv;base64,{saved}">Download {name}.csv'
                '</a> · or copy: <textarea readonly aria-label="the table as text" rows="2" '
                'style="width:14em;vertical-align:middle" onclick="this.select()">'
                f"{html.escape(text.getvalue())}</textarea><table>{line(list(columns), 'th')}"
                f"{''.join(line(row, 'td') for row in rows[:ROWS])}</table>{more}")
