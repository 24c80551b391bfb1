"""The picture of the attention explorer as a template, and where its parts stand."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqpe_lab.explorers.drawing import BARE, axes, band, either, heading, outlined

CONTENT, POSITION = "#0072B2", "#D55E00"
PARTS = ("content part", "position part", "attention weight")
BELOW = {"text": ("query", "curve"), "image": ("query", "spot", "curve")}


def places(kind: str, heads: int) -> dict[str, Any]:
    """Where the parts of the picture are, on a wide and on a narrow page, and its heights."""
    names = [f"head {h}" for h in range(heads)]
    lines = {"wide": [names[n:n + 6] for n in range(0, heads, 6)] + [list(PARTS), BELOW[kind]],
             "narrow": [names[n:n + 2] for n in range(0, heads, 2)]
             + [[name] for name in (*PARTS, *BELOW[kind])]}
    found: dict[str, dict] = {name: {} for name in (*names, *PARTS, *BELOW[kind])}
    heights = {}
    for width, of_width in lines.items():
        tall = [215 if "head" in line[0] else 300 if len(line) > 1 or line[0] in PARTS else 250
                for line in of_width]
        heights[width], top = sum(tall), 0
        for line, height in zip(of_width, tall):
            for n, name in enumerate(line):
                share = 1 / len(line)
                found[name][width] = [n * share + 0.035 * (n > 0), (n + 1) * share,
                                      1 - (top + height - 75) / heights[width],
                                      1 - top / heights[width]]
            top += height
    return {"areas": found, "heads": [found[name] for name in names], "query": found["query"],
            "spot": found.get("spot", {}), "curve": found["curve"], "heights": heights}


def _placed(nth: Any, path: str, x: Mapping, y: Mapping, **rules: Any) -> dict[str, Any]:
    """Axes whose place is among the numbers."""
    wide, narrow = ([f"@{path}.{width}.{end}" for end in range(4)] for width in ("wide", "narrow"))
    return axes(nth, wide, narrow, x, y, **rules)


def _if_text(text: Any, image: Any) -> dict[str, Any]:
    return {"when": "is_text", "value": text, "else": image}


def _line(part: str, colour: str) -> dict[str, Any]:
    return dict(type="scatter", when="is_text", x="@keys", y=f"@row.{part}", xaxis="x4",
                yaxis="y4", mode="lines+markers", name=f"{part} part",
                line=dict(color=colour, width=2), marker=dict(size=5),
                hovertemplate=f"key %{{x}}: %{{y:.3f}} nats<extra>{part} part</extra>")


def _title(text: Any) -> dict[str, Any]:
    return dict(text=text, standoff=2)


HEADING = {"when": "part", "value": {"join": [
    "{name}<br><sup>{ends.0:.2f} to {ends.1:.2f}", {"when": "nats", "value": " nats"}, "</sup>"]},
    "else": {"when": "chosen", "value": "<b>{name}</b>", "else": "{name}"}}
NAMES = dict(ticktext="@ticks.texts", tickangle=0, tickfont=dict(size=10))
PICTURE = {
    "data": [
        dict(each="maps", type="heatmap", z="@z", xaxis="x{axis}", yaxis="y{axis}", zmin="@low",
             zmax="@high", colorscale="Viridis", showscale=False, meta={"head": "@head"},
             hovertemplate="query %{y}, key %{x}: %{z:.3f}<extra>{name}</extra>"),
        _line("content", CONTENT), _line("position", POSITION),
        dict(type="heatmap", when="is_image", z="@pixels", colorscale="Greys",
             showscale=False, hoverinfo="skip", xaxis="x4", yaxis="y4"),
        dict(type="heatmap", when="is_image", z="@spot", colorscale="Viridis", showscale=False,
             xaxis="x5", yaxis="y5",
             hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>"),
        *band("@curve.distance", "@curve.low", "@curve.high", "rgba(213,94,0,0.2)", xaxis="x6",
              yaxis="y6"),
        dict(type="scatter", mode="lines+markers", x="@curve.distance", y="@curve.mean",
             xaxis="x6", yaxis="y6", line=dict(color=POSITION, width=2), marker=dict(size=5),
             showlegend=False, customdata="@curve.pairs",
             hovertemplate="distance %{x:.3~g}: %{y:.3f}, %{customdata} pairs<extra></extra>")],
    "layout": {
        "height": either("@places.heights.narrow", "@places.heights.wide"),
        "margin": dict(t=46, r=14, b=20, l=60),
        **_placed("{axis}", "place",
                  dict(tickvals="@marks", constrain="domain", title=_title("@titles.0"), **NAMES,
                       **BARE),
                  dict(tickvals="@marks", constrain="domain", title=_title("@titles.1"), **NAMES,
                       autorange="reversed", scaleanchor="x{axis}", **BARE,
                       showticklabels=either(True, {"when": "titles.1", "value": True,
                                                    "else": False})),  # rows are named once
                  each="maps"),
        **_placed(4, "places.query",
                  dict(tickvals=_if_text("@ticks.values", None), tickangle=0,
                       ticktext=_if_text("@ticks.texts", None), tickfont=dict(size=10),
                       constrain="domain", title=_title(_if_text("key", "pixel"))),
                  dict(autorange=_if_text(True, "reversed"), constrain="domain",
                       scaleanchor={"when": "is_image", "value": "x4"},
                       title=_title(_if_text("nats", "")))),
        **_placed(5, "places.spot", dict(constrain="domain", title=_title("patch"), **BARE),
                  dict(autorange="reversed", scaleanchor="x5", constrain="domain", **BARE),
                  when="is_image"),
        **_placed(6, "places.curve", dict(title=_title(_if_text(
            "distance (tokens)", "distance (patches, Euclidean)"))),
            dict(title=_title("position part (nats)"))),
        "legend": dict(orientation="h", x=0, xanchor="left", yanchor="bottom",
                       bgcolor="rgba(0,0,0,0)",
                       y=either("@places.query.narrow.3", "@places.query.wide.3")),
        "shapes": [
            *outlined(each="maps", type="rect", xref="x{axis} domain", yref="y{axis}", x0=0, x1=1,
                      y0="@edges.low", y1="@edges.high", width=1),
            *outlined(each="frames", type="rect", xref="x{axis}", yref="y{axis}", x0="@x0",
                      x1="@x1", y0="@y0", y1="@y1"),
            dict(when="beyond", type="line", xref="x6", yref="y6 domain", x0="@beyond",
                 x1="@beyond", y0=0, y1=1, line=dict(dash="dash", color="#444444"))],
        "annotations": [
            heading(HEADING, "{axis}", 12, each="maps"),
            heading("the image", "4", 12, when="is_image"),
            heading("weights of query {who}", "5", 12, when="is_image"),
            heading({"join": ["mean position part", {"when": "state.relative", "value":
                                                     ", less that at distance 0"}]}, "6", 12)]},
    "table": {"distance": "@curve.distance", "mean position part (nats)": "@curve.mean",
              "standard deviation (nats)": "@curve.spread", "pairs": "@curve.pairs"},
}
