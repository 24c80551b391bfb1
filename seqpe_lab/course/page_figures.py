"""Figures of a notebook that nbconvert executes: the page draws them without kernel or network.

In JupyterLab plotly and the explorers draw themselves. A page made by nbconvert has only what the
outputs of the notebook hold, so there each figure is HTML. Plotly's JavaScript stands on the page
once, compressed: 2.3 MB, where the program itself has 4.8.
"""
from __future__ import annotations

import gzip
import os
import sys
from base64 import b64encode
from string import Template
from typing import Any

import plotly.graph_objects as go

NAME = "page"  # among plotly's renderers
LIBRARY = '<script type="application/gzip" class="seqpe-plotly">{}</script>'
FIGURE = Template("""<div></div><script>
(async place => {
    window.seqpePlotly ??= (async () => {
        const packed = document.querySelector("script.seqpe-plotly").textContent
        const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0))
        const text = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
        const script = document.createElement("script")
        script.textContent = await new Response(text).text()
        document.head.append(script)
        return window.Plotly
    })()
    const {data, layout} = $figure
    const options = {displaylogo: false, showSendToCloud: false, responsive: true}
    await (await window.seqpePlotly).newPlot(place, data, layout, options)
})(document.currentScript.previousElementSibling)
</script>""")


def bundle_of(figure: dict[str, Any]) -> dict[str, str]:
    """A figure as HTML that needs ``LIBRARY`` on the same page."""
    import plotly.io as pio
    return {"text/html": FIGURE.substitute(figure=pio.to_json(figure, validate=False))}


def draw_on_pages() -> None:
    """Where nobody watches, plotly's figures are from now on shown as HTML, too.

    In ``make figures`` nothing happens: it shows images.
    """
    if not nobody_watches() or draws_on_pages() or os.environ.get("SEQPE_FIGURES"):
        return
    import plotly.io as pio  # its renderers take seconds to import
    from IPython.display import HTML, display
    from plotly.io.base_renderers import MimetypeRenderer
    from plotly.offline import get_plotlyjs

    class PageRenderer(MimetypeRenderer):
        def to_mimebundle(self, fig_dict: dict) -> dict[str, str]:
            return bundle_of(fig_dict)

    pio.renderers[NAME] = PageRenderer()
    pio.renderers.default = "+".join(filter(None, [pio.renderers.default, NAME]))
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=1)
    display(HTML(LIBRARY.format(b64encode(packed).decode())))


def displayed(bundle: dict[str, Any], figure: go.Figure) -> dict[str, Any]:
    """What a widget displays: its figure as it is now, if :func:`draw_on_pages` was in effect."""
    return bundle_of(figure.to_plotly_json()) if draws_on_pages() else bundle


def draws_on_pages() -> bool:
    """Whether :func:`draw_on_pages` is in effect."""
    if "plotly.io.base_renderers" not in sys.modules:
        return False
    import plotly.io as pio
    return NAME in pio.renderers.default.split("+")


def nobody_watches() -> bool:
    """Whether a program such as nbconvert executes the notebook: nobody could answer a question.

    Voila does the same, but its page stays connected to the kernel.
    """
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython.get_ipython(), "kernel", None) if ipython else None
    if kernel is None or os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return False
    return not kernel.get_parent().get("content", {}).get("allow_stdin", True)
