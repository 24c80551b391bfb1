"""Which positions does a trained encoder treat as similar? Four views of the vectors of one run.

As digits, 100 looks more like 1000 than like 123. Without the contrastive loss L_δ an encoder
follows the digits (the paper's Sec. 3.3 and Fig. 2); with L_OOD alone all positions get one vector
(Sec. 3.4). Both can be seen here, step by step, beside another run or a table without an encoder.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course.style import label
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import (LEGEND, QUIET, SIMILARITIES, band, either, heading, note,
                                         outlined)
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import choice, flag, number, scale, text
from seqpe_lab.explorers.geometry_vectors import (MOST_CELLS, curve, digits_of, measures,
                                                  path_of, provenance, recipe_of, stride)
from seqpe_lab.explorers.shipped_models import AT_THE_END, STEPS, TABLES
from seqpe_lab.geometry import similarity

VIEWS = {"heatmap": "heatmap: all with all", "path": "path through the positions",
         "neighbours": "neighbours of a position", "distance": "similarity against distance"}
METHODS = (*TABLES, "learned", "sinusoidal")
UNIT = {"dot": "dot product", "cosine": "cosine"}
MOST_ASKED = 6  # the most positions to compare with
NEAREST = 8  # neighbours that are named
COUNTS = (64, 128, 256, MOST_CELLS, AT_THE_END)


@dataclass(frozen=True)
class State:
    """A run and a step, a view of its vectors, and the positions of interest."""
    method: str = choice("seqpe", "training", "of SeqPE: with both losses of the paper, one of "
                         "them, none; the learned and the sinusoidal table have no encoder",
                         {m: label(m) for m in METHODS})
    beside: str = choice("", "beside it", "a second run, at the same step",
                         {"": "nothing"} | {m: label(m) for m in METHODS})
    step: int = scale(STEPS[-1], "step", "how long it has learnt; before the last step, positions "
                      "0 to 255 are known", STEPS, play=True)
    view: str = choice("heatmap", "view", "of the same vectors", VIEWS)
    kind: str = choice("cosine", "similarity", "of two vectors; the dot product also grows with "
                       "their lengths", SIMILARITIES[2])
    positions: int = scale(AT_THE_END, "positions", "how many from 0 on; the first 64 were "
                           "trained", COUNTS)
    position: int = number(100, "position", "whose neighbours are asked for, in the text below "
                           "too", min=0, max=AT_THE_END - 1)
    compare: str = text("123, 1000", "compare with", "positions to mark and to compare with it")
    stretch: bool = flag(False, "stretch colours", "of cosines, over the range of the heatmap in "
                         "place of −1 to 1; dot products always are", when={"view": ["heatmap"]})


def compute(state: State) -> SimpleNamespace:
    """Look up the vectors of one run, or of two side by side, and measure them."""
    asked, methods = read_positions(state.compare), [state.method, state.beside]
    runs = [run(method, state, asked, bool(i)) for i, method in enumerate(methods) if method]
    last = min(run.count for run in runs) - 1
    return SimpleNamespace(
        state=state, runs=runs, view={view: view == state.view for view in VIEWS},
        unit=UNIT[state.kind], limits={"position": last}, last=last, columns=len(runs),
        titled=len(runs) > 1, flat=state.view != "path", places=list(range(last + 1)),
        over_all=state.view in ("heatmap", "distance"),
        parts=[part for run in runs for part in run.parts])


def run(method: str, state: State, asked: tuple[int, ...], second: bool = False
        ) -> SimpleNamespace:
    """The vectors of one run, what is similar to the position asked for, and what a view shows."""
    known = shipped_models.tables(method)
    step = state.step if state.step in known else max(known)
    vectors = known[step][:state.positions]
    count, d = vectors.shape
    position, recipe = min(state.position, count - 1), recipe_of(method)
    exact = vectors.double()  # ranks depend on small differences
    row = similarity(exact[position:position + 1], exact, state.kind)[0]
    ranked = row.argsort(descending=True, stable=True).tolist()
    ranked.remove(position)
    compared = [{"q": q, "known": q < count, "value": float(row[q]) if q < count else 0.0,
                 "rank": ranked.index(q) + 1 if q < count else 0} for q in asked if q != position]
    measured, trained = measures(method, step, count, state.kind), min(recipe.train_len, count)
    rho = measured["correlation"]
    made = SimpleNamespace(
        name=label(method), first=not second, axis="2" if second else "", step=step,
        steps=recipe.steps, count=count, last=count - 1, width=d, trained=trained,
        end=trained - 1, edge=trained - 0.5, position=position, row=row.numpy(), ranked=ranked,
        measures=measured, provenance=provenance(method), compared=compared, parts=[],
        marked=[position, *(c["q"] for c in compared if c["known"])],
        best=[{"q": q, "value": float(row[q])} for q in ranked[:NEAREST]],
        three=", ".join(f"{q:,}" for q in ranked[:3]),
        falls="falls with" if rho < -0.9 else "tends to fall with" if rho < -0.3 else
        "says little about", shade=state.view in ("neighbours", "distance"), beyond=False)
    views = {"heatmap": heatmap, "path": path, "neighbours": neighbours, "distance": distances}
    views[state.view](made, method, vectors, state)
    return made


def read_positions(text: str) -> tuple[int, ...]:
    """The positions that a reader types.

    >>> read_positions("123, 1000"), read_positions(" ")
    ((123, 1000), ())
    """
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"{word!r} is no position: type whole numbers from 0, as in 123, 1000")
    if len(words) > MOST_ASKED:
        raise ValueError(f"{len(words)} positions to compare with, of which {MOST_ASKED} can be "
                         "told apart: leave some out")
    return tuple(dict.fromkeys(map(int, words)))


def heatmap(run: SimpleNamespace, method: str, vectors: Tensor, state: State) -> None:
    run.every = every = stride(run.count)
    run.table = table = similarity(vectors[::every], kind=state.kind).numpy()
    own = bool(state.kind == "dot" or state.stretch and np.ptp(table) > 1e-5)  # less: rounding
    run.low, run.high = (float(table.min()), float(table.max())) if own else (-1.0, 1.0)
    run.ends = [-0.5 * every, every * (len(table) - 0.5)]
    run.down, run.scale, run.beyond = run.ends[::-1], run.first or own, run.trained < run.count
    run.drawn = {1: "", 2: " (every 2nd is drawn)", 3: " (every 3rd is drawn)"}[every]


def path(run: SimpleNamespace, method: str, vectors: Tensor, state: State) -> None:
    coordinates, shares = path_of(method, run.step, run.count)
    run.xyz, run.shares = list(coordinates.T), shares.tolist()
    run.place = [[0.0, 1.0], [0.0, 0.48], [0.52, 1.0]][bool(state.beside) * (1 + (not run.first))]
    run.parts = parts_of(run, lambda first, end: {"at": list(coordinates[first:end].T),
                                                  "names": list(range(first, end))})
    run.notes = [{"q": q, "place": coordinates[q].tolist(), "left": (-45, 45)[i % 2],
                  "up": -25 - 18 * i}
                 for i, q in enumerate(dict.fromkeys([*run.marked, 0, run.last]))]


def neighbours(run: SimpleNamespace, method: str, vectors: Tensor, state: State) -> None:
    digits = digits_of(method)
    groups = {"alike": [q for q in range(run.count)
                        if geometry.is_digit_edit(run.position, q, digits)],
              "nearest": run.ranked[:NEAREST], "marked": run.marked}
    run.groups = {name: {"x": x, "y": run.row[x].tolist(), "names": [f"<b>{q:,}</b>" for q in x]}
                  for name, x in groups.items()}
    run.ends, run.down = [-0.02 * run.count, 1.02 * run.count], similarities(state)


def distances(run: SimpleNamespace, method: str, vectors: Tensor, state: State) -> None:
    run.parts = parts_of(run, lambda first, end: dict(zip(
        ("mean", "low", "high", "z"), (*curve(method, run.step, first, end, state.kind),
                                       list(range(end - first))))))
    run.ends, run.down = None, similarities(state)


def parts_of(run: SimpleNamespace, make) -> list[dict[str, Any]]:
    """What is made of the trained positions, and of those beyond, if there are any."""
    return [{"trained": first == 0, "begin": first, "last": end - 1, "axis": run.axis,
             "first": run.first, **make(first, end)}
            for first, end in ((0, run.trained), (run.trained, run.count)) if first < end]


def similarities(state: State) -> list[float] | None:
    """The range of an axis."""
    return [-1.2, 1.2] if state.kind == "cosine" else None


TRAINED, BEYOND, ASKED = "#0072B2", "#E69F00", "#D55E00"
ON = dict(each="runs", xaxis="x{nth}", yaxis="y{nth}")
ON_PART = dict(xaxis="x{axis}", yaxis="y{axis}")
NUMBER = dict(type="scatter", hovertemplate="position %{x}: %{y:.3f}<extra></extra>")
EDGE = dict(each="runs", when="beyond", type="line", dash="dash", xref="x{nth}", yref="y{nth}")


def _points(group: str, name: str, **look: Any) -> dict[str, Any]:
    """Some of the positions, marked on the curve of all."""
    return dict(ON, **NUMBER, x=f"@groups.{group}.x", y=f"@groups.{group}.y", name=name,
                showlegend="@first", **{"mode": "markers"} | look)


def _if(view: str, value: Any, *otherwise: Any) -> dict[str, Any]:
    return {"when": f"view.{view}", "value": value} | dict(zip(["else"], otherwise))


def _part(trained: Any, beyond: Any) -> dict[str, Any]:
    return {"when": "trained", "value": trained, "else": beyond}


TRACES = {  # of each view
    "heatmap": [dict(
        ON, type="heatmap", z="@table", dx="@every", dy="@every", zmin="@low", zmax="@high",
        colorscale="Viridis", showscale="@scale",
        colorbar=dict(title=dict(text="{unit}"), thickness=14, orientation=either("h", "v")),
        hovertemplate="positions %{x} and %{y}: %{z:.6~g}<extra></extra>")],
    "path": [
        dict(each="runs", type="scatter3d", scene="scene{nth}", x="@xyz.0", y="@xyz.1",
             z="@xyz.2", mode="lines", line=dict(color="#bbbbbb", width=2), **QUIET),
        dict(each="parts", type="scatter3d", scene="scene{axis}", x="@at.0", y="@at.1", z="@at.2",
             text="@names", name=_part("trained, 0 to {last}", "beyond, from {begin} on"),
             mode="markers", showlegend="@first",
             marker=dict(color=_part(TRAINED, BEYOND), size=3,
                         symbol=_part("diamond", "circle-open")),
             hovertemplate="position %{text}<extra></extra>")],
    "neighbours": [
        dict(ON, **NUMBER, y="@row", name="all positions", mode="lines", showlegend="@first",
             line=dict(color="#777777", width=1.5)),
        _points("alike", "one digit edit away", marker=dict(
            color=BEYOND, symbol="square-open", size=9, line=dict(width=2))),
        _points("nearest", f"the {NEAREST} most similar", marker=dict(color=TRAINED, size=8)),
        _points("marked", "asked for", mode="markers+text", text="@groups.marked.names",
                textposition=["top center", "bottom center"] * 4,  # neighbours keep apart
                marker=dict(color=ASKED, symbol="x", size=10))],
    "distance": [
        *band("@z", "@low", "@high", _part("rgba(0,114,178,0.2)", "rgba(230,159,0,0.2)"),
              each="parts", **ON_PART),
        dict(ON_PART, each="parts", type="scatter", x="@z", y="@mean", mode="lines",
             name=_part("both trained, 0 to {last}", "both beyond, {begin} to {last:,}"),
             line=dict(color=_part(TRAINED, BEYOND), dash=_part("solid", "dash"), width=2.5),
             showlegend="@first", hovertemplate="%{x} apart: %{y:.3f}<extra></extra>")]}
PICTURE = {
    "data": [_if(view, trace) for view, traces in TRACES.items() for trace in traces],
    "layout": {
        "height": {"when": "titled", "value": either(900, 520), "else": 540},
        "margin": dict(t=50, l=60, r=20, b=50),
        "uirevision": "{state.view} {last}",
        "legend": dict(LEGEND, itemsizing="constant"),
        "grid": dict(when="flat", value=dict(
            rows=either("@columns", 1), columns=either(1, "@columns"), pattern="independent",
            xgap=0.16, ygap=0.2)),
        "xaxis{nth}": dict(each="runs", when="flat", range="@ends", constrain="domain",
                           title=dict(text=_if("heatmap", "position{drawn}", _if(
                               "distance", "distance |p − q| (positions)", "position")))),
        "yaxis{nth}": dict(each="runs", when="flat", range="@down", constrain="domain",
                           scaleanchor=_if("heatmap", "x{nth}", False),
                           title=dict(text=_if("heatmap", "position{drawn}", _if(
                               "distance", "{unit}: mean, band from 10 % to 90 %",
                               "{unit} with position {position:,}")))),
        "scene{nth}": dict(
            each="runs", when="view.path", domain={"x": "@place", "y": [0.0, 1.0]},
            aspectmode="cube",
            camera=dict(eye=dict(x=1.4, y=1.6, z=0.9), center=dict(x=0, y=0, z=-0.1)),
            **{f"{axis}axis": dict(title=dict(text=f"PC {i}: {{shares.{i - 1}:.1%}}"),
                                   tickfont=dict(size=10)) for i, axis in enumerate("xyz", 1)},
            annotations=[dict(each="notes", x="@place.0", y="@place.1", z="@place.2",
                              text="<b>{q:,}</b>", ax="@left", ay="@up", arrowhead=0,
                              arrowwidth=1)]),
        "shapes": [
            dict(each="runs", when="shade", type="rect", xref="x{nth}", yref="y{nth} domain",
                 x0=-0.5, x1="@edge", y0=0, y1=1, line=dict(width=0), fillcolor=TRAINED,
                 opacity=0.1, layer="below"),
            *outlined(**EDGE | dict(yref="y{nth} domain"), x0="@edge", x1="@edge", y0=0, y1=1),
            *outlined(**EDGE | dict(xref="x{nth} domain"), y0="@edge", y1="@edge", x0=0, x1=1)],
        "annotations": [
            dict(each="runs", when="titled", value=_if(
                "path", note("{name}", x="@place.0", y=1, xref="paper", yref="paper"),
                heading("{name}"))),
            dict(note("trained", x=0, y=0, xref="x{nth}", yref="y{nth} domain"), each="runs",
                 when="shade")]},
    "table": {"position": "@places", "{name}, similarity": dict(each="runs", value="@row")},
}


def stored() -> dict[str, Any]:
    """For the page: all vectors, and what takes longer than a move to compute from them."""
    runs = {}
    for method in METHODS:
        recipe, steps = recipe_of(method), {}
        for step, vectors in shipped_models.tables(method).items():
            trained = min(recipe.train_len, len(vectors))
            steps[step] = {"vectors": vectors.numpy().astype(np.float16), "counts": {count: {
                "path": path_of(method, step, count)[0].astype(np.float16),
                "shares": path_of(method, step, count)[1],
                **{kind: {"measures": measures(method, step, count, kind), "curves": [
                    curve(method, step, first, end, kind).astype(np.float16) for first, end in
                    ((0, trained), (trained, count)) if first < end]} for kind in UNIT}}
                for count in COUNTS if count <= len(vectors)}}
        runs[method] = {"name": label(method), "steps": steps, "last": recipe.steps,
                        "trained": recipe.train_len, "digits": digits_of(method),
                        "provenance": provenance(method)}
    return {"runs": runs}


def explorer() -> Explorer:
    """Runs, step, view and position to choose."""
    return Explorer("geometry", State, compute, PICTURE, stored=stored)
