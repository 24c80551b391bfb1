"""A plotly figure on the page that can be replaced many times a second.

Plotly's own FigureWidget keeps a validated copy of the figure, reports every change of it to the
page, and sends Plotly's JavaScript (5 MB) with each figure. Here each change sends the whole figure
as JSON, and ``Plotly.react`` finds what differs. All figures of a page share one copy of the
JavaScript, which is sent with the first of them.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
import traitlets
from anywidget import AnyWidget
from plotly.offline import get_plotlyjs

from seqpe_lab.course.page_figures import nobody_watches

SCRIPT = Path(__file__).with_suffix(".js")


class Program(AnyWidget):
    """Plotly's JavaScript, which the page loads as soon as this widget is created."""

    _esm = SCRIPT
    text = traitlets.Unicode().tag(sync=True)

    _shared: Program | None = None

    @classmethod
    def shared(cls) -> Program:
        """The only instance of this kernel."""
        if cls._shared is None or cls._shared.comm is None:  # none yet, or all widgets were closed
            cls._shared = cls(text=get_plotlyjs())
        return cls._shared


class Plot(AnyWidget):
    """A figure on the page.

    A reader's zoom or rotation is kept while the axes have the same titles and ranges, and traces
    hidden by a click on the legend stay hidden while the legend has the same entries.

    >>> plot = Plot()
    >>> plot.show(go.Figure(go.Scatter(y=[1, 2])))
    >>> plot.figure[:40]
    '{"data":[{"y":[1,2],"type":"scatter"}],"'
    """

    _esm = SCRIPT
    figure = traitlets.Unicode("{}").tag(sync=True)  # JSON, tables as bytes in base64
    program = traitlets.Unicode().tag(sync=True)

    @traitlets.default("program")
    def _shared_program(self) -> str:
        return "" if nobody_watches() else Program.shared().model_id

    def show(self, figure: go.Figure) -> None:
        """Replace what the page shows, in one message."""
        described = figure.to_plotly_json()
        layout, traces = described["layout"], described["data"]
        layout["uirevision"] = _axis_titles(layout)
        names = str([(trace.get("name"), trace.get("xaxis")) for trace in traces])
        layout.setdefault("legend", {})["uirevision"] = names  # plotly knows traces by their place
        self.figure = pio.to_json(described, validate=False)

    def on_click(self, action: Callable[[float, float], None]) -> None:
        """Call ``action(x, y)`` with the point that a reader clicks."""
        self.on_msg(lambda _, point, buffers: action(point["x"], point["y"]))


def _axis_titles(layout: Mapping) -> str:
    """The titles of the axes; all 3-D scenes count as the same space, whatever their titles."""
    titles = [axis.get("title", {}).get("text", "")
              for name, axis in layout.items() if name[1:5] == "axis"]
    return "; ".join(titles + ["scene"] * ("scene" in layout))
