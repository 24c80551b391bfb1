"""What all explorers are made of: labelled controls over one figure.

An explorer is a pure function, ``picture(**values) -> go.Figure``, and one control for each of its
arguments. The panel draws it at once and again after every move, shows the reader what goes wrong,
and gives the same figure as a static twin. Nothing else happens here, so a panel is tested without
a kernel or a browser: set a control's value, look at ``panel.figure``.
"""
from __future__ import annotations

import contextlib
import csv
import functools
import gc
import html
import io
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence

import ipywidgets
import plotly.graph_objects as go

from seqpe_lab.explorers.plot import Plot

LABELLED = dict(style={"description_width": "initial"}, layout=ipywidgets.Layout(width="auto", min_width="300px", max_width="460px"))
CARD = ("background:#fff;color:#111;padding:6px 10px;border-radius:4px;"  # its own paper: readable on a light and a dark page
        "font-family:Arial,'DejaVu Sans',sans-serif;font-size:14px;line-height:1.45;overflow-x:auto")


def slider(label: str, help: str, low: float, high: float, value: float, step: float = 1) -> ipywidgets.Widget:
    """A number on a line; whole numbers where all four are whole."""
    kind = ipywidgets.IntSlider if all(isinstance(v, int) for v in (low, high, value, step)) else ipywidgets.FloatSlider
    return _explained(kind(value=value, min=low, max=high, step=step, description=label, **LABELLED), help)


def steps(label: str, help: str, options: Sequence, value) -> ipywidgets.Widget:
    """A slider over given values, or (name, value) pairs."""
    return _explained(ipywidgets.SelectionSlider(options=list(options), value=value, description=label, **LABELLED), help)


def choice(label: str, help: str, options: Sequence, value) -> ipywidgets.Widget:
    """One of a few, from a list that opens; options are values or (name, value) pairs."""
    return _explained(ipywidgets.Dropdown(options=list(options), value=value, description=label, **LABELLED), help)


def several(label: str, help: str, options: Sequence, value: Sequence) -> ipywidgets.Widget:
    """Any number of a list (Ctrl or Shift and a click, or the arrow keys)."""
    return _explained(ipywidgets.SelectMultiple(options=list(options), value=tuple(value), rows=min(10, len(options)), description=label, **LABELLED), help)


def toggle(label: str, help: str, value: bool = False) -> ipywidgets.Widget:
    """Yes or no."""
    return _explained(ipywidgets.Checkbox(value=value, description=label, indent=False, **LABELLED), help)


def typed(label: str, help: str, value: str) -> ipywidgets.Widget:
    """A line of text, read while it is typed."""
    return _explained(ipywidgets.Text(value=value, description=label, **LABELLED), help)


def _explained(control: ipywidgets.Widget, help: str) -> ipywidgets.Widget:
    control.tooltip = control.help = help
    return control


def value_of(control: ipywidgets.Widget):
    """A control's value; floats without the dust that sliders leave (1.9999999999999998)."""
    return round(control.value, 6) if isinstance(control.value, float) else control.value


class Panel(ipywidgets.VBox):
    """An explorer on the screen.

    Args:
        title: its name, a heading for the reader.
        about: what to do with it and what to see, one or two sentences (HTML).
        picture: pure function of the controls' values -> figure.
        controls: {argument of ``picture``: control}, from :func:`slider`, :func:`choice`, ...
        words: another pure function of the same arguments -> HTML below the figure.
        table: another -> {column: values}, shown on demand, to copy or to download.
        file: what a downloaded table is called, without ending.

    Attributes:
        figure: what is drawn now, a ``go.Figure`` (the static twin).
        plot: the same on the page.
        seconds: how long the last drawing took.

    >>> line = Panel("A line", "Tilt it.", lambda slope: go.Figure(go.Scatter(x=[0, 1], y=[0, slope])), {"slope": slider("slope", "how steep", 0, 9, 2)})
    >>> line.controls["slope"].value = 5
    >>> line.figure.data[0].y
    (0, 5)
    """

    def __init__(self, title: str, about: str, picture: Callable[..., go.Figure], controls: Mapping[str, ipywidgets.Widget], *,
                 words: Callable[..., str] | None = None, table: Callable[..., Mapping[str, Sequence]] | None = None, file: str = "table"):
        _spare_what_is_imported()
        self.title, self.picture, self.controls, self.words, self.table, self.file = title, picture, dict(controls), words, table, file
        self.figure: go.Figure | None = None
        self.seconds = 0.0
        self._held = self._wrong = False
        self.plot = Plot()
        stage = ipywidgets.VBox([self.plot], layout=ipywidgets.Layout(overflow="auto"))  # a narrow page scrolls
        self._message = ipywidgets.HTML()
        self._words = ipywidgets.HTML()
        self._table = ipywidgets.HTML()
        heading = ipywidgets.HTML(f'<div style="{CARD}"><b>{html.escape(title)}.</b> {about}</div>')
        labelled = [ipywidgets.VBox([control, ipywidgets.HTML(f'<small style="color:var(--jp-ui-font-color2,#555)">{html.escape(control.help)}</small>')],
                                    layout=ipywidgets.Layout(margin="2px 14px 4px 0", max_width="470px")) for control in self.controls.values()]
        self.buttons = ipywidgets.HBox(layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._sheet = ipywidgets.Accordion([self._table], titles=("The numbers behind the picture, to copy or to download",))
        below = [self._words] + ([self._sheet] if table else [])
        super().__init__([heading, ipywidgets.HBox(labelled, layout=ipywidgets.Layout(flex_flow="row wrap")), self.buttons, self._message, stage, *below])
        self.add_class("seqpe-explorer")
        self._sheet.observe(lambda _: self.guard(self._show_table), names="selected_index")
        for control in self.controls.values():
            control.observe(lambda _: self.draw(), names="value")
        self.draw()

    @property
    def values(self) -> dict:
        """What the controls say."""
        return {name: value_of(control) for name, control in self.controls.items()}

    def draw(self) -> None:
        """Make the picture anew from the controls; called after every move of one."""
        if not self._held:
            self.guard(self._draw)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Move several controls inside, and draw once, afterwards."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.draw()

    def _draw(self) -> None:
        began = time.perf_counter()
        values = self.values
        figure = self.picture(**values)  # if this fails the last good picture stays
        self.figure = figure
        self.plot.show(figure)
        if self.words:
            self._words.value = f'<div style="{CARD}">{self.words(**values)}</div>'
        self._show_table()
        self.seconds = time.perf_counter() - began

    def guard(self, action: Callable[[], object]) -> None:
        """Run what a control asks for; the reader is told what failed, where Jupyter would hide it."""
        try:
            action()
        except Exception as error:
            name = "" if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: "
            self.tell(f"{name}{error}", wrong=True)
        else:
            if self._wrong:
                self.tell("")

    def tell(self, text: str, wrong: bool = False) -> None:
        """A line above the figure; "" takes it away."""
        self._wrong = wrong
        role, colour = ("alert", "#b00020") if wrong else ("status", "#1a1a1a")
        self._message.value = f'<div role="{role}" style="{CARD};color:{colour};border-left:4px solid {colour}">{html.escape(text)}</div>' if text else ""

    def close(self) -> None:
        """Take the panel and its picture off the page."""
        self.plot.close()
        super().close()

    # --- the table ---------------------------------------------------------------------------

    def _show_table(self) -> None:
        if self.table and self._sheet.selected_index is not None:
            self._table.value = table_html(self.table(**self.values), self.file)


@functools.cache
def _spare_what_is_imported() -> None:
    """Python looks through all its objects for garbage now and then; torch's and plotly's take it up to half a second, in the middle of a move."""
    gc.freeze()


def table_html(columns: Mapping[str, Sequence], file: str) -> str:
    """A table to look at, its text to copy, and a link that saves it as CSV."""
    names, rows = list(columns), list(zip(*columns.values()))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    link = f'<a download="{html.escape(file)}.csv" href="data:text/csv;base64,{b64encode(text.getvalue().encode()).decode()}">Download {html.escape(file)}.csv</a>'

    def cell(value, tag="td"):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f'<{tag} style="padding:1px 10px 1px 0;text-align:left">{html.escape(shown)}</{tag}>'

    head = "".join(cell(name, "th") for name in names)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows[:200])
    more = f"<p>{len(rows) - 200:,} more rows in the file.</p>" if len(rows) > 200 else ""
    return (f'<div style="{CARD}">{link} · or copy: <textarea readonly aria-label="the table as text" rows="2" style="width:14em;vertical-align:middle" '
            f'onclick="this.select()">{html.escape(text.getvalue())}</textarea><table><tr>{head}</tr>{body}</table>{more}</div>')
