"""A plotly figure on the page that can be replaced many times a second.

Plotly's own FigureWidget keeps a validated copy of the figure, reports every change of it to the
page, and sends Plotly's JavaScript (5 MB) with each figure. Here each change sends the whole figure
as JSON, and plot.js finds what differs. All figures of a page share one copy of the JavaScript,
which is sent with the first of them.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import traitlets
from anywidget import AnyWidget
from plotly.offline import get_plotlyjs

from seqpe_lab.course.page_figures import nobody_watches

PLOT = Path(__file__).with_name("plot.js")  # what all pages with such figures load first


def scripts(*paths: Path) -> str:
    """The text of several scripts, which use each other's functions, as one."""
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


class Program(AnyWidget):
    """Plotly's JavaScript, which the page loads as soon as this widget is created."""

    _esm = scripts(PLOT, Path(__file__).with_suffix(".js"))
    text = traitlets.Unicode().tag(sync=True)

    _shared: Program | None = None

    @classmethod
    def shared(cls) -> Program:
        """The only instance of this kernel."""
        if cls._shared is None or cls._shared.comm is None:  # none yet, or all widgets were closed
            cls._shared = cls(text=get_plotlyjs())
        return cls._shared


class PlotlyWidget(AnyWidget):
    """A widget that draws with the shared JavaScript."""

    program = traitlets.Unicode().tag(sync=True)

    @traitlets.default("program")
    def _shared_program(self) -> str:
        return "" if nobody_watches() else Program.shared().model_id


class Plot(PlotlyWidget):
    """A figure on the page.

    A reader's zoom or rotation is kept while the axes have the same titles and ranges, and traces
    hidden by a click on the legend stay hidden while the legend has the same entries.

    >>> plot = Plot()
    >>> plot.show(go.Figure(go.Scatter(y=[1, 2])))
    >>> plot.figure[:40]
    '{"data":[{"y":[1,2],"type":"scatter"}],"'
    """

    _esm = Program._esm
    figure = traitlets.Unicode('{"data": [], "layout": {}}').tag(sync=True)

    def show(self, figure: go.Figure) -> None:
        """Replace what the page shows, in one message; tables are bytes in base64."""
        self.figure = pio.to_json(figure, validate=False)

    def on(self, event: str, action: Callable[[Any], object]) -> None:
        """Call ``action`` with what a reader does: "click", "select" or "relayout", see plot.js."""
        self.on_msg(lambda _, said, buffers: said["event"] == event and action(said["value"]))
