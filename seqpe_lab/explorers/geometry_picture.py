"""How the geometry explorer draws its numbers, what it says about them, and its tour."""
from __future__ import annotations

from seqpe_lab.explorers.drawing import LEGEND, QUIET, band, heading, note, outlined
from seqpe_lab.explorers.explorer import Stop

TRAINED, BEYOND, ASKED = "#0072B2", "#E69F00", "#D55E00"
UNIT = {"dot": "dot product", "cosine": "cosine"}
NEAREST = 8  # neighbours that are named

ON = dict(each="runs", xaxis="x{nth}", yaxis="y{nth}")
NUMBER = dict(type="scatter", hovertemplate="position %{x}: %{y:.3f}<extra></extra>")


def _points(group: str, name: str, **look: object) -> dict:
    """Some of the positions, marked on the curve of all."""
    return dict(ON, **NUMBER, x=f"@drawn.{group}.x", y=f"@drawn.{group}.y", name=name,
                showlegend="@first", **{"mode": "markers"} | look)


VIEWS = {  # the traces of each
    "heatmap": [dict(
        ON, type="heatmap", z="@drawn.table", dx="@drawn.every", dy="@drawn.every",
        zmin="@drawn.low", zmax="@drawn.high", colorscale="Viridis", showscale="@drawn.scale",
        colorbar=dict(title=dict(text="{unit}"), thickness=14,
                      orientation={"when": "narrow", "value": "h", "else": "v"}),
        hovertemplate="positions %{x} and %{y}: %{z:.6~g}<extra></extra>")],
    "path": [
        dict(each="runs", type="scatter3d", scene="scene{nth}", x="@drawn.xyz.0", y="@drawn.xyz.1",
             z="@drawn.xyz.2", mode="lines", line=dict(color="#bbbbbb", width=2), **QUIET),
        dict(each="parts", type="scatter3d", scene="scene{axis}", x="@at.0", y="@at.1", z="@at.2",
             text="@names", name="{part}", mode="markers", showlegend="@first",
             marker=dict(color="@colour", size=3, symbol="@symbol"),
             hovertemplate="position %{text}<extra></extra>")],
    "neighbours": [
        dict(ON, **NUMBER, y="@row", name="all positions", mode="lines", showlegend="@first",
             line=dict(color="#777777", width=1.5)),
        _points("alike", "one digit edit away", marker=dict(
            color=BEYOND, symbol="square-open", size=9, line=dict(width=2))),
        _points("nearest", f"the {NEAREST} most similar", marker=dict(color=TRAINED, size=8)),
        _points("marked", "asked for", mode="markers+text", text="@drawn.marked.names",
                textposition=["top center", "bottom center"] * 4,  # neighbours keep apart
                marker=dict(color=ASKED, symbol="x", size=10))],
    "distance": [
        *band("@z", "@low", "@high", "@band", each="curves", xaxis="x{axis}", yaxis="y{axis}"),
        dict(each="curves", type="scatter", x="@z", y="@mean", name="{part}", mode="lines",
             line=dict(color="@colour", dash="@dash", width=2.5), xaxis="x{axis}",
             yaxis="y{axis}", showlegend="@first",
             hovertemplate="%{x} apart: %{y:.3f}<extra></extra>")]}
EDGE = dict(each="runs", when="drawn.beyond", type="line", dash="dash", xref="x{nth}",
            yref="y{nth}")
SQUARE = dict(when="view.heatmap", value="x{nth}", **{"else": False})
TEMPLATE = {
    "title": {"by": "; ", "join": [dict(each="runs", value={"join": [
        "{name}, step {step:,}: ",
        dict(when="view.path",
             value="the path is {measures.spread:.1%} as wide as its vectors are long"),
        dict(when="view.neighbours", value="position {position:,} is most similar to {three}"),
        dict(when="over_all",
             value="similarity {falls} distance (ρ = {measures.correlation:.2f})")]})]},
    "caption": {"by": " · ", "join": [dict(
        each="runs", value="{name}: {provenance}, d={width}, step {step:,} of {steps:,}, trained "
        "on positions 0 to {end}, shown 0 to {last}")]},
    "data": [dict(when=f"view.{view}", **trace) if "when" not in trace else trace
             for view, traces in VIEWS.items() for trace in traces],
    "layout": {
        "height": dict(when="beside", value=dict(when="narrow", value=900, **{"else": 520}),
                       **{"else": 540}),
        "margin": dict(t=50, l=60, r=20, b=50),
        "uirevision": "{state.view} {last}",
        "legend": dict(LEGEND, itemsizing="constant"),
        "grid": dict(when="flat", value=dict(
            rows=dict(when="narrow", value="@columns", **{"else": 1}),
            columns=dict(when="narrow", value=1, **{"else": "@columns"}),
            pattern="independent", xgap=0.16, ygap=0.2)),
        "xaxis{nth}": dict(each="runs", when="flat", title=dict(text="@drawn.across"),
                           range="@drawn.ends", constrain="domain"),
        "yaxis{nth}": dict(each="runs", when="flat", title=dict(text="@drawn.up"),
                           range="@drawn.down", constrain="domain", scaleanchor=SQUARE),
        "scene{nth}": dict(
            each="runs", when="view.path", domain="@drawn.domain", aspectmode="cube",
            camera=dict(eye=dict(x=1.4, y=1.6, z=0.9), center=dict(x=0, y=0, z=-0.1)),
            **{f"{axis}axis": dict(title=dict(text=f"PC {i}: {{drawn.shares.{i - 1}:.1%}}"),
                                   tickfont=dict(size=10)) for i, axis in enumerate("xyz", 1)},
            annotations=[dict(each="drawn.notes", x="@place.0", y="@place.1", z="@place.2",
                              text="<b>{q:,}</b>", ax="@left", ay="@up", arrowhead=0,
                              arrowwidth=1)]),
        "shapes": [
            dict(each="runs", when="drawn.shade", type="rect", xref="x{nth}", yref="y{nth} domain",
                 x0=-0.5, x1="@drawn.edge", y0=0, y1=1, line=dict(width=0), fillcolor=TRAINED,
                 opacity=0.1, layer="below"),
            *outlined(**EDGE | dict(yref="y{nth} domain"), x0="@drawn.edge", x1="@drawn.edge",
                      y0=0, y1=1),
            *outlined(**EDGE | dict(xref="x{nth} domain"), y0="@drawn.edge", y1="@drawn.edge",
                      x0=0, x1=1)],
        "annotations": [
            dict(each="runs", when="titled", value=dict(
                when="view.path", value=note("{name}", x="@drawn.domain.x.0", y=1, xref="paper",
                                             yref="paper"), **{"else": heading("{name}")})),
            dict(note("trained", x=0, y=0, xref="x{nth}", yref="y{nth} domain"), each="runs",
                 when="drawn.shade")]},
    "words": {"by": "<br>", "join": [dict(each="runs", value={"join": [
        "<b>{name}, position {position:,}</b>, {unit}: most similar are ",
        {"by": ", ", "join": [dict(each="best", value="{q:,} ({value:.3f})")]}, ".",
        dict(each="compared", when="known",
             value=" Asked for: {q:,}: {value:.3f} (rank {rank:,}).",
             **{"else": " Asked for: {q:,}: not among positions 0 to {last:,}."}),
        " <b>All {count:,} positions</b>: rank correlation ρ of similarity and distance "
        "{measures.correlation:.2f} (−1: the farther, the less similar, always); the nearest "
        "neighbour is one digit edit away, and no actual neighbour, for {measures.confusion:.0%}; "
        "mean cosine with the position 10 further on {measures.shift_cosine:.3f}; effective rank "
        "{measures.effective_rank:.1f} of {width} (towards 1: collapse); width over length "
        "{measures.spread:.3f}."]})]},
    "table": {"position": "@places", "{name}, similarity": dict(each="runs", value="@row")},
}
TOUR = (
    Stop("Both losses: similarity of all pairs of positions.", {},
         "The bright diagonal: the farther apart two positions are, the less similar they become, "
         "far beyond the 64 trained ones."),
    Stop("No losses: the encoder follows the digits.", {"method": "seqpe-no-losses"},
         "A pattern of squares that repeats every ten and every hundred positions."),
    Stop("Which positions look like 100?", {"method": "seqpe-no-losses", "beside": "seqpe",
                                            "view": "neighbours"},
         "On the left 1000, written like 100, is nearly the same; on the right it is not."),
    Stop("L_OOD alone: one vector for all.", {"method": "seqpe-ood-only", "stretch": True},
         "The range of the colours: the cosines differ in the last digits only."),
    Stop("From the start of training on.", {"step": 0, "view": "path", "positions": 256},
         "Press ▶ beside the step: the path unrolls."))
