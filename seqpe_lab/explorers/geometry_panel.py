"""Which positions does a trained encoder treat as similar? Four views of the vectors of one run.

As digits, 100 looks more like 1000 than like 123. Without the contrastive loss L_δ an encoder
follows the digits (the paper's Sec. 3.3 and Fig. 2); with L_OOD alone all positions get one vector
(Sec. 3.4). Both can be seen here, step by step, beside another run or a table without an encoder.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course.style import label
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import SIMILARITIES
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import choice, flag, number, scale, text
from seqpe_lab.explorers.geometry_picture import (BEYOND, NEAREST, TEMPLATE, TOUR, TRAINED, UNIT)
from seqpe_lab.explorers.geometry_vectors import (MOST_CELLS, curve, digits_of, measures,
                                                  path_of, provenance, recipe_of, stride)
from seqpe_lab.explorers.shipped_models import AT_THE_END, STEPS, TABLES
from seqpe_lab.geometry import similarity

VIEWS = {"heatmap": "heatmap: all with all", "path": "path through the positions",
         "neighbours": "neighbours of a position", "distance": "similarity against distance"}
METHODS = (*TABLES, "learned", "sinusoidal")
MOST_ASKED = 6  # the most positions to compare with
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


@dataclass(frozen=True)
class Run:
    """The vectors of one run, and what is similar to the position asked for."""
    name: str
    first: bool  # of two
    axis: str  # of plotly: "" or "2"
    step: int  # the one asked for, or the last one of which there are vectors
    steps: int
    count: int  # positions
    width: int  # d
    trained: int  # positions
    position: int  # the one asked for, or the last one
    row: np.ndarray  # similarity of the position to all, (count,)
    ranked: list[int]  # the other positions, the most similar first
    measures: dict[str, float]
    provenance: str
    compared: list[dict[str, Any]]  # the other positions asked for: their similarity and rank
    falls: str  # how similarity depends on distance
    drawn: dict[str, Any]  # what the view shows

    @property
    def best(self) -> list[dict[str, float]]:
        return [{"q": q, "value": float(self.row[q])} for q in self.ranked[:NEAREST]]

    @property
    def three(self) -> str:
        return ", ".join(f"{q:,}" for q in self.ranked[:3])

    @property
    def last(self) -> int:
        return self.count - 1

    @property
    def end(self) -> int:
        return self.trained - 1


@dataclass(frozen=True)
class Numbers:
    """One run, or two side by side."""
    state: State
    runs: list[Run]
    view: dict[str, bool]  # which one is shown
    unit: str
    limits: dict[str, Any]
    last: int  # the last position that is shown

    columns = property(lambda self: len(self.runs))
    titled = property(lambda self: len(self.runs) > 1)
    flat = property(lambda self: not self.view["path"])
    over_all = property(lambda self: self.view["heatmap"] or self.view["distance"])
    places = property(lambda self: list(range(self.last + 1)))
    parts = property(lambda self: [p for run in self.runs for p in run.drawn["parts"]])
    curves = property(lambda self: [c for run in self.runs for c in run.drawn["curves"]])


def compute(state: State) -> Numbers:
    """Look up the vectors, and measure them."""
    asked, methods = read_positions(state.compare), [state.method, state.beside]
    runs = [run(method, state, asked, bool(i)) for i, method in enumerate(methods) if method]
    last = min(run.count for run in runs) - 1
    return Numbers(state, runs, {view: view == state.view for view in VIEWS}, UNIT[state.kind],
                   {"position": last}, last)


def run(method: str, state: State, asked: tuple[int, ...], second: bool = False) -> Run:
    """The numbers of one run."""
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
    measured = measures(method, step, count, state.kind)
    rho = measured["correlation"]
    falls = ("falls with" if rho < -0.9 else "tends to fall with" if rho < -0.3 else
             "says little about")
    run = Run(label(method), not second, "2" if second else "", step, recipe.steps, count, d,
              min(recipe.train_len, count), position, row.numpy(), ranked, measured,
              provenance(method), compared, falls, {"parts": [], "curves": []})
    views = {"heatmap": heatmap, "path": path, "neighbours": neighbours, "distance": distances}
    run.drawn.update(views[state.view](run, method, vectors, state))
    return run


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


def heatmap(run: Run, method: str, vectors: Tensor, state: State) -> dict[str, Any]:
    every = stride(run.count)
    table = similarity(vectors[::every], kind=state.kind).numpy()
    own = bool(state.kind == "dot" or state.stretch and np.ptp(table) > 1e-5)  # less: rounding
    low, high = -0.5 * every, every * (len(table) - 0.5)
    drawn = {1: "", 2: " (every 2nd is drawn)", 3: " (every 3rd is drawn)"}[every]
    return {"table": table, "every": every, "low": float(table.min()) if own else -1.0,
            "high": float(table.max()) if own else 1.0, "ends": [low, high], "down": [high, low],
            "across": f"position{drawn}", "up": f"position{drawn}", "edge": run.trained - 0.5,
            "beyond": run.trained < run.count, "shade": False, "scale": run.first or own}


def path(run: Run, method: str, vectors: Tensor, state: State) -> dict[str, Any]:
    coordinates, shares = path_of(method, run.step, run.count)
    marked = dict.fromkeys([run.position, *(c["q"] for c in run.compared if c["known"]), 0,
                            run.count - 1])
    groups = [(f"trained, 0 to {run.trained - 1}", 0, run.trained, TRAINED, "diamond"),
              (f"beyond, from {run.trained} on", run.trained, run.count, BEYOND, "circle-open")]
    place = [[0.0, 1.0], [0.0, 0.48], [0.52, 1.0]][bool(state.beside) * (1 + (not run.first))]
    return {"xyz": list(coordinates.T), "shares": shares.tolist(), "shade": False,
            "beyond": False, "domain": {"x": place, "y": [0.0, 1.0]},
            "parts": [{"part": name, "colour": colour, "symbol": symbol, "axis": run.axis,
                       "first": run.first, "at": list(coordinates[first:end].T),
                       "names": list(range(first, end))}
                      for name, first, end, colour, symbol in groups if first < end],
            "notes": [{"q": q, "place": coordinates[q].tolist(), "left": (-45, 45)[i % 2],
                       "up": -25 - 18 * i} for i, q in enumerate(marked)]}


def neighbours(run: Run, method: str, vectors: Tensor, state: State) -> dict[str, Any]:
    digits = digits_of(method)
    groups = {"alike": [q for q in range(run.count)
                        if geometry.is_digit_edit(run.position, q, digits)],
              "nearest": run.ranked[:NEAREST],
              "marked": [run.position, *(c["q"] for c in run.compared if c["known"])]}
    return {name: {"x": x, "y": run.row[x].tolist(), "names": [f"<b>{q:,}</b>" for q in x]}
            for name, x in groups.items()} | along(
        run, state, "position", f"{UNIT[state.kind]} with position {run.position:,}",
        [-0.02 * run.count, 1.02 * run.count])


def distances(run: Run, method: str, vectors: Tensor, state: State) -> dict[str, Any]:
    groups = [(f"both trained, 0 to {run.trained - 1}", 0, run.trained, TRAINED, "solid",
               "rgba(0,114,178,0.2)"),
              (f"both beyond, {run.trained} to {run.count - 1:,}", run.trained, run.count, BEYOND,
               "dash", "rgba(230,159,0,0.2)")]
    curves = []
    for name, first, end, colour, dash, shade in groups:
        if first < end:
            mean, low, high = curve(method, run.step, first, end, state.kind)
            curves.append({"part": name, "colour": colour, "dash": dash, "band": shade,
                           "axis": run.axis, "first": run.first, "mean": mean, "low": low,
                           "high": high, "z": list(range(len(mean)))})
    return {"curves": curves} | along(
        run, state, "distance |p − q| (positions)",
        f"{UNIT[state.kind]}: mean, band from 10 % to 90 %", None)


def along(run: Run, state: State, across: str, up: str, ends: list[float] | None) -> dict[str, Any]:
    """The axes of a view of curves."""
    return {"edge": run.trained - 0.5, "shade": True, "beyond": False, "across": across, "up": up,
            "ends": ends, "down": [-1.2, 1.2] if state.kind == "cosine" else None}


def explorer() -> Explorer:
    """Runs, step, view and position to choose."""
    return Explorer("geometry", "Geometry of positions", "Compare the trainings, then let one of "
                    "them learn: which positions become similar, those near by or those that look "
                    "alike?", State, compute, TEMPLATE, TOUR, file="geometry", stored=stored,
                    scripts=(Path(__file__).with_name("geometry.js"),))


def stored() -> dict[str, Any]:
    """For the page: all vectors, and what takes longer than a move to compute from them."""
    runs = {}
    for method in METHODS:
        steps = {}
        for step, vectors in shipped_models.tables(method).items():
            counts = [n for n in COUNTS if n <= len(vectors)]
            trained = min(recipe_of(method).train_len, len(vectors))
            steps[step] = {"vectors": vectors.numpy().astype(np.float16), "counts": {count: {
                "path": path_of(method, step, count)[0].astype(np.float16),
                "shares": path_of(method, step, count)[1],
                **{kind: {"measures": measures(method, step, count, kind), "curves": [
                    curve(method, step, first, end, kind).astype(np.float16) for first, end in
                    ((0, trained), (trained, count)) if first < end]} for kind in UNIT}}
                for count in counts}}
        recipe = recipe_of(method)
        runs[method] = {"name": label(method), "steps": steps, "last": recipe.steps,
                        "trained": recipe.train_len, "digits": digits_of(method),
                        "provenance": provenance(method)}
    return {"runs": runs}
