"""Which positions does a trained encoder treat as similar? Four views of the vectors of one run.

As digits, 100 looks more like 1000 than like 123. Without the contrastive loss L_δ an encoder
follows the digits (the paper's Sec. 3.3 and Fig. 2); with L_OOD alone all positions get one vector
(Sec. 3.4). Both can be seen here, step by step.
"""
from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from ipywidgets import Checkbox, Dropdown, IntSlider, SelectionSlider, Text
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course.style import QUIET, add_band, add_note, finish, label
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import SIMILARITIES, outlined, plain
from seqpe_lab.explorers.panel import Panel, control
from seqpe_lab.explorers.shipped_models import AT_THE_END, STEPS, TABLES
from seqpe_lab.geometry import similarity

VIEWS = [("heatmap: all with all", "heatmap"), ("path through the positions", "path"),
         ("neighbours of a position", "neighbours"), ("similarity against distance", "distance")]
NEAREST, MOST_ASKED = 8, 6  # neighbours that are named; the most positions to compare with
MOST_CELLS = 400  # the most rows of a heatmap: more cannot be distinguished
COUNTS = (64, 128, 256, MOST_CELLS, AT_THE_END)
TRAINED, BEYOND, ASKED = "#0072B2", "#E69F00", "#D55E00"
LEGEND = dict(orientation="h", x=1, xanchor="right", y=1.02, yanchor="bottom")
SQUARE = (0.25, 0.25 + 400 / 860)  # of a figure that is 860 pixels wide inside and 400 high
UNIT = {"dot": "dot product", "cosine": "cosine"}


@dataclass(frozen=True)
class State:
    """A run and a step, a view of its vectors, and the positions of interest."""
    method: str = control("seqpe", Dropdown, "training", "the two losses of the paper: both, one "
                          "of them, none", options=[(label(m), m) for m in TABLES])
    step: int = control(STEPS[-1], SelectionSlider, "step", "how long it has learnt; before the "
                        "last step, positions 0 to 255 are known",
                        options=[(f"{s:,}", s) for s in STEPS])
    view: str = control("heatmap", Dropdown, "view", "of the same vectors", options=VIEWS)
    kind: str = control("cosine", Dropdown, "similarity", "of two vectors; the dot product also "
                        "grows with their lengths", options=SIMILARITIES[2])
    positions: int = control(AT_THE_END, SelectionSlider, "positions", "how many from 0 on; the "
                             "first 64 were trained", options=[(f"{n:,}", n) for n in COUNTS])
    position: int = control(100, IntSlider, "position", "whose neighbours are asked for, in the "
                            "text below too", max=AT_THE_END - 1)
    compare: str = control("123, 1000", Text, "compare with", "positions to mark and to compare "
                           "with it")
    stretch: bool = control(False, Checkbox, "stretch the colours", "of cosines, over the range of "
                            "this heatmap in place of −1 to 1; dot products always are",
                            indent=False)


@dataclass(frozen=True)
class Numbers:
    """The vectors of a run, and what is similar to the position asked for."""
    state: State
    vectors: Tensor  # (N, d); while a run learnt, its first 256 were kept
    trained: int  # positions
    position: int  # the one asked for, or the last one
    asked: tuple[int, ...]  # positions to compare with
    row: np.ndarray  # similarity of the position to all, (N,)
    ranked: list[int]  # the other positions, the most similar first
    measures: dict[str, float]

    @property
    def marked(self) -> list[int]:
        return [self.position, *(p for p in self.asked if p < len(self.row) and p != self.position)]


def compute(state: State) -> Numbers:
    """Look up the vectors, and measure them."""
    recipe = shipped_models.recipe("table", state.method)
    vectors = shipped_models.tables(state.method)[state.step][:state.positions]
    position = min(state.position, len(vectors) - 1)
    row = similarity(vectors[position:position + 1], vectors, state.kind)[0]
    ranked = row.argsort(descending=True, stable=True).tolist()
    ranked.remove(position)
    return Numbers(state, vectors, recipe.train_len, position, read_positions(state.compare),
                   row.numpy(), ranked,
                   measures(state.method, state.step, len(vectors), state.kind))


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


def stride(count: int) -> int:
    """A heatmap of ``count`` positions draws every ``stride``-th of them."""
    return 1 + (count - 1) // MOST_CELLS


@functools.lru_cache(maxsize=512)
def measures(method: str, step: int, positions: int, kind: str) -> dict[str, float]:
    """The library's measures of a position space, of the first ``positions`` vectors."""
    vectors = shipped_models.tables(method)[step][:positions]
    drawn = vectors[::stride(positions)]  # a rank correlation of 600,000 pairs takes too long
    rho = geometry.distance_correlation(drawn, kind=kind)  # nan where all similarities are equal
    return {"correlation": 0.0 if math.isnan(rho) else rho,
            "confusion": geometry.lexical_confusion(vectors, _digits(method), kind=kind),
            **geometry.collapse(vectors, shift=10)}


def _digits(method: str) -> int:
    return shipped_models.recipe("table", method).encoding_options.get("digits", 5)


def principal_path(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The three directions along which positions differ most (PCA): (N, 3), and their shares (3,).

    Each axis points from the first position to the last; shares are of the variance.
    """
    u, s, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    coordinates = u[:, :3] * s[:3]
    flip = torch.where(coordinates[-1] < coordinates[0], -1.0, 1.0)  # the same way with every step
    shares = s[:3].square() / s.square().sum().clamp(min=1e-30)
    return (coordinates * flip).numpy(), shares.numpy()


def by_distance(table: Tensor) -> np.ndarray:
    """Similarity of all pairs that lie z apart, (3, N): mean, lower and upper tenth, for each z.

    The tenths are values that occur (nearest rank) in the symmetric ``table``, (N, N).

    >>> by_distance(torch.tensor([[1.0, 0.5], [0.5, 1.0]])).tolist()
    [[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]
    """
    pairs = [np.sort(np.diagonal(table.numpy(), z)) for z in range(len(table))]
    return np.array([(p.mean(), p[round(0.1 * (len(p) - 1))], p[round(0.9 * (len(p) - 1))])
                     for p in pairs]).T


@functools.lru_cache(maxsize=128)
def _curve(method: str, step: int, first: int, end: int, kind: str) -> np.ndarray:
    return by_distance(similarity(shipped_models.tables(method)[step][first:end], kind=kind))


def draw(numbers: Numbers) -> go.Figure:
    """One view of the vectors."""
    state, count = numbers.state, len(numbers.vectors)
    views = {"heatmap": _draw_heatmap, "path": _draw_path, "neighbours": _draw_neighbours,
             "distance": _draw_distance}
    figure = views[state.view](numbers)
    rho, spread = numbers.measures["correlation"], numbers.measures["spread"]
    falls = ("falls with" if rho < -0.9 else "tends to fall with" if rho < -0.3 else
             "says little about")
    nearest = ", ".join(f"{q:,}" for q in numbers.ranked[:3])
    claim = {"path": f"the path is {spread:.1%} as wide as its vectors are long",
             "neighbours": f"position {numbers.position:,} is most similar to {nearest}"
             }.get(state.view, f"similarity {falls} distance (ρ = {plain(rho)})")
    recipe = shipped_models.recipe("table", state.method)
    return finish(figure, f"{label(state.method)}, step {state.step:,}: {claim}",
                  f"{shipped_models.provenance('table', state.method)} · position vectors of a "
                  f"language model, d={recipe.d_model}, step {state.step:,} of {recipe.steps:,} · "
                  f"trained on positions 0 to {numbers.trained - 1} · shown: 0 to {count - 1:,}",
                  height=560, gap=20 if state.view == "path" else 72)


def _draw_heatmap(numbers: Numbers) -> go.Figure:
    kind, every = numbers.state.kind, stride(len(numbers.vectors))
    table = similarity(numbers.vectors[::every], kind=kind).numpy()
    stretched = kind == "dot" or numbers.state.stretch and np.ptp(table) > 1e-5  # less is rounding
    figure = go.Figure(go.Heatmap(
        z=table, dx=every, dy=every, colorscale="Viridis", zmin=None if stretched else -1,
        zmax=None if stretched else 1, colorbar=dict(title=UNIT[kind], x=SQUARE[1] + 0.02),
        hovertemplate="positions %{x} and %{y}: %{z:.6~g}<extra></extra>"))
    which = {2: "2nd", 3: "3rd"}.get(every, f"{every}th")
    title = f"position (every {which} is drawn)" if every > 1 else "position"
    ends = [-0.5 * every, every * (len(table) - 0.5)]
    figure.update_xaxes(title=title, domain=SQUARE, range=ends)  # scaleanchor would keep old ranges
    figure.update_yaxes(title=title, range=ends[::-1])
    if numbers.trained < len(numbers.vectors):
        edge = numbers.trained - 0.5
        figure.layout.shapes = [
            *outlined(type="line", dash="dash", x0=edge, x1=edge, y0=0, y1=1, yref="y domain"),
            *outlined(type="line", dash="dash", y0=edge, y1=edge, x0=0, x1=1, xref="x domain")]
        add_note(figure, f"from {numbers.trained} on: beyond training", edge)
    return figure


def _draw_path(numbers: Numbers) -> go.Figure:
    coordinates, shares = principal_path(numbers.vectors)
    x, y, z = coordinates.T
    names, trained = np.arange(len(x)), numbers.trained
    line = dict(color="#bbbbbb", width=2)
    figure = go.Figure(go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, **QUIET))
    for name, part, colour, symbol in (
            (f"trained, 0 to {trained - 1}", slice(0, trained), TRAINED, "diamond"),
            (f"beyond, from {trained} on", slice(trained, None), BEYOND, "circle-open")):
        figure.add_scatter3d(x=x[part], y=y[part], z=z[part], text=names[part], name=name,
                             mode="markers", marker=dict(color=colour, size=3, symbol=symbol),
                             hovertemplate="position %{text}<extra></extra>")
    notes = [dict(x=x[p], y=y[p], z=z[p], text=f"<b>{p:,}</b>", ax=(-45, 45)[i % 2],
                  ay=-25 - 18 * i, arrowhead=0, arrowwidth=1, bgcolor="rgba(255,255,255,0.7)")
             for i, p in enumerate(dict.fromkeys([*numbers.marked, 0, len(x) - 1]))]
    axes = {f"{axis}axis": dict(title=f"PC {i}: {share:.1%} of variance", tickfont_size=10,
                                title_font_size=12)
            for i, (axis, share) in enumerate(zip("xyz", shares), start=1)}
    camera = dict(eye=dict(x=1.4, y=1.6, z=0.9), center=dict(x=0, y=0, z=-0.1))
    figure.update_layout(scene=dict(**axes, aspectmode="cube", camera=camera, annotations=notes),
                         legend=dict(x=0, y=1, itemsizing="constant"))
    return figure


def _draw_neighbours(numbers: Numbers) -> go.Figure:
    state, row, marked = numbers.state, numbers.row, numbers.marked
    digits, nearest = _digits(state.method), numbers.ranked[:NEAREST]
    alike = [q for q in range(len(row)) if geometry.is_digit_edit(numbers.position, q, digits)]
    figure = go.Figure(go.Scatter(y=row, name="all positions", mode="lines",
                                  line=dict(color="#777777", width=1.5)))
    figure.add_scatter(x=alike, y=row[alike], name="one digit edit away", mode="markers",
                       marker=dict(color=BEYOND, symbol="square-open", size=9, line_width=2))
    figure.add_scatter(x=nearest, y=row[nearest], name=f"the {len(nearest)} most similar",
                       mode="markers", marker=dict(color=TRAINED, symbol="circle", size=8))
    figure.add_scatter(x=marked, y=row[marked], name="asked for", mode="markers+text",
                       text=[f"<b>{p:,}</b>" for p in marked],
                       textposition=["top center", "bottom center"] * 4,  # neighbours keep apart
                       marker=dict(color=ASKED, symbol="x", size=10))
    figure.update_traces(hovertemplate="position %{x}: %{y:.3f}<extra></extra>")
    _mark_trained(figure, numbers, "trained")
    figure.update_xaxes(title="position", range=[-0.02 * len(row), 1.02 * len(row)])
    figure.update_yaxes(title=f"{UNIT[state.kind]} with position {numbers.position:,}",
                        range=[-1.2, 1.2] if state.kind == "cosine" else None)
    return figure.update_layout(legend=LEGEND)


def _draw_distance(numbers: Numbers) -> go.Figure:
    state, trained, count = numbers.state, numbers.trained, len(numbers.vectors)
    figure = go.Figure()
    for name, first, end, colour, dash in (
            (f"both positions trained, 0 to {trained - 1}", 0, trained, TRAINED, "solid"),
            (f"both beyond, {trained} to {count - 1:,}", trained, count, BEYOND, "dash")):
        if first < end:
            mean, low, high = _curve(state.method, state.step, first, min(end, count), state.kind)
            z = np.arange(len(mean))
            add_band(figure, z, low, high, colour)
            figure.add_scatter(x=z, y=mean, name=name, mode="lines",
                               line=dict(color=colour, dash=dash, width=2.5),
                               hovertemplate="%{x} apart: %{y:.3f}<extra></extra>")
    _mark_trained(figure, numbers, "distances seen in training")
    figure.update_xaxes(title="distance |p − q| (positions)")
    figure.update_yaxes(title=f"{UNIT[state.kind]}: mean, band from 10 % to 90 %",
                        range=[-1.05, 1.05] if state.kind == "cosine" else None)
    return figure.update_layout(legend=LEGEND, showlegend=True)


def _mark_trained(figure: go.Figure, numbers: Numbers, text: str) -> None:
    end = min(numbers.trained, len(numbers.vectors)) - 0.5
    figure.add_shape(type="rect", x0=-0.5, x1=end, y0=0, y1=1, yref="y domain", line_width=0,
                     fillcolor=TRAINED, opacity=0.1, layer="below")
    add_note(figure, text, 0)


def words(numbers: Numbers) -> str:
    """The numbers in words: the position asked for, and all positions together."""
    row, ranked, m = numbers.row, numbers.ranked, numbers.measures
    (count, d), position, unit = numbers.vectors.shape, numbers.position, UNIT[numbers.state.kind]
    nearest = ", ".join(f"{q:,} ({row[q]:.3f})" for q in ranked[:NEAREST])
    asked = "; ".join(f"{q:,}: {row[q]:.3f} (rank {ranked.index(q) + 1:,})" if q < count else
                      f"{q:,}: not among positions 0 to {count - 1:,}"
                      for q in numbers.asked if q != position)
    drawn = ", of those that the heatmap draws" if stride(count) > 1 else ""
    return (f"<b>Position {position:,}</b>, {unit}: most similar are {nearest}."
            + (f" Asked for: {asked}." if asked else "")
            + f"<br><b>All {count:,} positions</b>: rank correlation ρ of similarity and distance"
              f"{drawn}: {plain(m['correlation'])} (−1: the farther, the less similar, always); "
              f"the nearest neighbour is one digit edit away, and no actual neighbour, for "
              f"{m['confusion']:.0%}; mean cosine with the position 10 further on "
              f"{m['shift_cosine']:.3f}; effective rank {m['effective_rank']:.1f} of {d} (towards "
              f"1: collapse); width over length {m['spread']:.3f}.")


def explore() -> Panel:
    """Method, step, view and position to choose."""
    return Panel("Geometry of positions", "Compare the four trainings, then let one of them learn: "
                 "which positions become similar, those near by or those that look alike?",
                 State, compute, draw, words=words, limits=lambda state: {"position": min(
                     state.positions, len(shipped_models.tables(state.method)[state.step])) - 1})
