"""A plotly figure on the page that can be replaced many times a second.

Plotly's own FigureWidget keeps a checked copy of the figure, reports every change of it to the page and
brings its program along, 5 MB for each figure. Here the page gets the whole figure with each change,
as JSON, and ``Plotly.react`` finds out what differs. All figures of a page share one program.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import plotly.graph_objects as go
import plotly.io as pio
import traitlets
from anywidget import AnyWidget
from plotly.offline import get_plotlyjs


class Program(AnyWidget):
    """Plotly's program for the page, which begins to read it as soon as this is made."""

    _esm = """
        export default {
            initialize({model}) {  // a page has one, whatever notebooks it shows
                window.seqpePlotly ??= import(URL.createObjectURL(new Blob([model.get("text")], {type: "text/javascript"}))).then(() => window.Plotly)
            },
        }"""
    text = traitlets.Unicode().tag(sync=True)

    _shared: Program | None = None

    @classmethod
    def shared(cls) -> Program:
        """The one of this kernel."""
        if cls._shared is None or cls._shared.comm is None:  # none yet, or all widgets were closed
            cls._shared = cls(text=get_plotlyjs())
        return cls._shared


class Plot(AnyWidget):
    """A figure on the page.

    What a reader has zoomed or turned stays so while the axes measure the same.

    >>> plot = Plot()
    >>> plot.show(go.Figure(go.Scatter(y=[1, 2])))
    >>> plot.figure[:40]
    '{"data":[{"y":[1,2],"type":"scatter"}],"'
    """

    _esm = """
        async function draw(model, place) {
            await model.widget_manager.get_model(model.get("program"))
            const plotly = await window.seqpePlotly
            let drawn
            async function catchUp() {  // one drawing at a time, and always the newest figure: what came in between is never drawn
                if (place.busy) return
                place.busy = true
                try {
                    while (drawn !== model.get("figure")) {
                        await new Promise(requestAnimationFrame)
                        drawn = model.get("figure")
                        const {data, layout} = JSON.parse(drawn)
                        await plotly.react(place, data, layout, {displaylogo: false})
                    }
                } finally {
                    place.busy = false
                }
            }
            await catchUp()
            place.on("plotly_click", ({points: [{x, y}]}) => model.send({x, y}))
            model.on("change:figure", catchUp)
            await catchUp()
            return () => { model.off("change:figure", catchUp); plotly.purge(place) }
        }
        export default {
            render({model, el}) {
                const place = document.createElement("div")
                el.append(place)
                const drawing = draw(model, place)
                return () => drawing.then(forget => forget())
            },
        }"""
    figure = traitlets.Unicode("{}").tag(sync=True)  # JSON, tables as bytes in base64
    program = traitlets.Unicode().tag(sync=True)

    @traitlets.default("program")
    def _share(self) -> str:
        return Program.shared().model_id

    def show(self, figure: go.Figure) -> None:
        """Replace what the page shows, in one message."""
        described = figure.to_plotly_json()
        described["layout"]["uirevision"] = _measured(described["layout"])
        self.figure = pio.to_json(described, validate=False)

    def on_click(self, does: Callable[[float, float], None]) -> None:
        """Call ``does(x, y)`` with the point that a reader clicks."""
        self.on_msg(lambda _, point, buffers: does(point["x"], point["y"]))


def _measured(layout: Mapping) -> str:
    """What the axes measure; those of a scene are the same space, whatever they say."""
    return "; ".join([axis.get("title", {}).get("text", "") for name, axis in layout.items() if name[1:5] == "axis"] + ["scene"] * ("scene" in layout))


Program.shared()  # while the reader still reads
