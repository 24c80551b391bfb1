"""How the digits explorer draws its numbers, what it says about them, and its tour."""
from __future__ import annotations

from seqpe_lab.explorers.drawing import BARE, QUIET, heading
from seqpe_lab.explorers.explorer import Stop

SHARED, OWN, OTHER = "#0072B2", "#D55E00", "#777777"
RED_BLUE = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]
GROUPS = (dict(name="prefixes shared with neighbours", edge=SHARED, fill=SHARED, ink="#ffffff",
               line=1.5),
          dict(name="of {name} alone", edge=OWN, fill="#f7d9c4", ink="#222222", line=3),
          dict(name="of neighbours only", edge=OTHER, fill="#e6e6e6", ink="#222222", line=1.5))
STRIP = dict(xaxis="x{nth}", yaxis="y{nth}")  # at most two; the tree, the cosines and the counts
COSINES, COUNTS = 4, 5  # have the axes x3, x4, x5
ON_TREE, ON_COUNTS = dict(xaxis="x3", yaxis="y3"), dict(xaxis="x5", yaxis="y5")


def _above(text: str, axis: int, **place: object) -> dict:
    return heading(text, str(axis), x=0, xanchor="left", **place)


TEMPLATE = {
    "title": "{claim}",
    "caption": "digits counted, nothing trained, but where it says so · vectors: the first 6 "
               "features; red positive, blue negative, white 0; untrained: normal, std 0.02, seed "
               "0 · each prefix is computed once, as in seqpe_lab.prefix_tree",
    "data": [
        dict(STRIP, each="strips", type="heatmap", z="@z", zmin="@low", zmax="@high", xgap=3,
             colorscale=RED_BLUE, showscale=False, hovertemplate="%{z:.3f}<extra></extra>"),
        dict(STRIP, each="strips", type="scatter", x="@x", y="@y", text="@labels", mode="text",
             textfont=dict(size=11, color="#222222"), cliponaxis=False, **QUIET),
        dict(ON_TREE, each="edges", type="scatter", x="@x", y="@y", mode="lines", **QUIET,
             line=dict(color={"when": "own", "value": OWN, "else": "#bbbbbb"},
                       width={"when": "own", "value": 3, "else": 1.5})),
        dict(ON_TREE, each="groups", type="scatter", x="@x", y="@y", text="@text", name="{name}",
             mode="markers+text", textfont=dict(color="@ink", size=12), cliponaxis=False,
             marker=dict(size="@size", symbol="@symbol", color="@fill", opacity=1,
                         line=dict(color="@edge", width="@line")),
             hovertemplate="%{text}<extra>{name}</extra>"),
        dict(each="cosines", type="scatter", xaxis="x4", yaxis="y4", x="@x", y="@y", name="{name}",
             mode="lines+markers", showlegend=False,
             line=dict(dash={"when": "trained", "value": "solid", "else": "dot"},
                       color={"when": "trained", "value": OWN, "else": OTHER}),
             hovertemplate="{name}, %{x}: %{y:.3f}<extra></extra>"),
        dict(ON_COUNTS, type="bar", orientation="h", x=["@counts.0.value", "@counts.1.value"],
             y=["table", "T, O, D"], text=["@counts.0.text", "@counts.1.text"], showlegend=False,
             marker=dict(color=[OTHER, OWN]), textposition="outside", cliponaxis=False,
             hovertemplate="%{y}: %{x:,} embeddings<extra></extra>")],
    "layout": {
        "height": "@height",
        "margin": dict(t=70, l=80, r=20, b=50),
        "uirevision": "{name} {k} {state.base} {state.width} {state.along}",
        "legend": dict(orientation="h", x=0, xanchor="left", y="@legend", yanchor="bottom",
                       itemclick=False),
        "xaxis{nth}": dict(each="strips", range="@ends.columns", tickvals="@columns", side="top",
                           ticktext="@ticks.digits", tickangle=0, anchor="y{nth}", **BARE),
        "yaxis{nth}": dict(each="strips", domain="@domain", autorange="reversed", anchor="x{nth}",
                           tickvals=[4.5, 12.5, 20.5, 28.5],
                           ticktext=["T digit", "+ O place", "+ D dim.", "= U"], **BARE),
        "xaxis3": dict(range="@ends.columns", tickvals="@columns", ticktext="@ticks.powers",
                       tickangle=0, anchor="y3", **BARE,
                       title=dict(standoff=4, text="place value of the digit<br>{around} "
                                  "positions: {tokens} tokens, {distinct} distinct prefixes")),
        "yaxis3": dict(domain="@domains.tree", range="@ends.tree", tickvals="@places",
                       ticktext="@ticks.leaves", side="right", anchor="x3", fixedrange=True,
                       title=dict(text="position"), **BARE),
        "xaxis4": dict(when="cosines", anchor="y4", title=dict(text="neighbour", standoff=4),
                       tickformat=",d"),
        "yaxis4": dict(when="cosines", domain="@domains.cosines", anchor="x4",
                       title=dict(text="cosine")),
        "xaxis5": dict(type="log", range="@ends.counts", dtick="@ends.step", anchor="y5",
                       exponentformat="power",
                       title=dict(text="embeddings (rows of d numbers)", standoff=4)),
        "yaxis5": dict(domain="@domains.counts", anchor="x5"),
        "annotations": [
            dict(heading("<b>{name}</b> encoder: U = T + O + D", x=0,
                         xanchor="left", yshift=22), each="strips"),
            dict(_above("cosine with {name}; dotted: untrained", COSINES), when="cosines"),
            _above("{total} embeddings name {counts.0.text} positions", COUNTS)]},
    "words": {"by": " ", "join": [
        "T has {rows.T} rows (b digits and [CLS]), O {rows.O} (k places),",
        {"when": "rows.D", "value": "D {rows.D} (n dimensions).",
         "else": "and D none, because the paper fixes it at 0 for n = 1."},
        "Not counted are the weights of the encoder that reads them, a fixed cost (lesson 03). "
        "“Shares 2” means that the first two digits are the same. Digits name positions and do "
        "not measure distances: a carry changes many of them at once, and a single leading digit "
        "moves a position far. L_δ has to teach the distances (lesson 05).", "{untaught}"]},
    "table": {"position": "@names", "digits": "@digits", "shared prefix": "@shared",
              "digits that agree": "@agree"},
}
TOUR = (
    Stop("Position 100, as the paper writes it.", {},
         "The step from 99 to 100 changes three digits; the tree forks far to the left."),
    Stop("A thousand further on.", {"text": "1100"},
         "1100 differs from 100 in a single digit, and is written almost alike."),
    Stop("A patch of an image.", {"text": "2, 3", "k": 2},
         "Two digits for the row, two for the column: the patch of the paper's Fig. 1."),
    Stop("Two digits only: base 2.", {"base": 2, "k": 7},
         "More places, fewer rows in T; the same position needs seven digits."),
    Stop("What training does.", {"text": "99", "width": 7},
         "Untrained, the cosine jumps where a digit carries; trained, it falls with distance."))
