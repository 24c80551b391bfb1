"""How the extrapolation explorer draws its numbers, what it says about them, and its tour."""
from __future__ import annotations

from seqpe_lab.explorers.drawing import band, heading, note
from seqpe_lab.explorers.explorer import Stop

ON = dict(xaxis="x{nth}", yaxis="y{nth}", legendgroup="{method}")
TEMPLATE = {
    "title": "{best}",
    "caption": "{caption}",
    "data": [
        *band("@x", "@low", "@high", "@shade", each="bands", **ON),
        dict(ON, each="lines", type="scatter", x="@x", y="@y", name="{name}", showlegend="@legend",
             mode="lines+markers", line=dict(color="@colour", dash="@dash", width="@width"),
             marker=dict(symbol="@symbol", size=9),
             hovertemplate="%{y:.4~g} at %{x:,} {task.unit}")],
    "layout": {
        "height": {"when": "narrow", "value": 760, "else": 430},
        "margin": dict(t=60, l=60, r=20, b=60),
        "legend": {"when": "narrow", "value": dict(orientation="h", y=-0.12, yanchor="top"),
                   "else": dict(orientation="v")},
        "grid": dict(pattern="independent", xgap=0.14, ygap=0.3,
                     rows={"when": "narrow", "value": 2, "else": 1},
                     columns={"when": "narrow", "value": 1, "else": 2}),
        "xaxis{nth}": dict(each="sides", type="@x.type", tickvals="@x.tickvals", range="@x.range",
                           ticktext="@x.ticktext", tickangle=0, tickfont=dict(size=11),
                           title=dict(text="{task.place}")),
        "yaxis{nth}": dict(each="sides", value="@y_axis"),
        "shapes": [dict(each="sides", type="line", xref="x{nth}", yref="y{nth} domain",
                        x0="@trained", x1="@trained", y0=0, y1=1,
                        line=dict(dash="dash", color="#777777"))],
        "annotations": [
            heading("<b>{name}</b>", each="sides", yshift=18),
            note("trained at {trained:,}", each="sides", x="@mark", y=1, xref="x{nth}",
                 yref="y{nth} domain"),
            note("nothing was measured here:<br>choose other methods or a wider range",
                 each="sides", when="empty", x=0.5, y=0.5, xanchor="center",
                 xref="x{nth} domain", yref="y{nth} domain")]},
    "words": {"by": " ", "join": ["The sides differ in model and data: compare shapes, order and "
                                  "ratios, not heights.", {"each": "only", "value": "@item"}]},
    "table": "@table",
}
TOUR = (
    Stop("At the trained length only.", {"times": (1, 1)},
         "How far apart are the encodings? Guess which will hold when the text becomes longer."),
    Stop("Up to four times as long.", {"times": (1, 4)},
         "Which lines rise at once, and which stay flat? Is it the same on both sides?"),
    Stop("As ratios.", {"values": "ratio"},
         "Methods that start from different heights can be compared by how much they lose."),
    Stop("Questions about a long text.", {"task": "matches", "axis": "linear"},
         "A flat perplexity is not enough: how many answers are still right?"),
    Stop("Larger images, and Table 5.", {"task": "images", "axis": "linear", "times": (1, 3),
                                         "methods": ("seqpe-sum", "seqpe-bias", "seqpe-mul",
                                                     "rope-axial", "learned")},
         "Sum, bias and mul beside others: is our order that of the paper?"))
