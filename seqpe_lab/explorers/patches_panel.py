"""To which patches is a patch similar, on the trained grid and beyond it (the paper's Fig. 3)?

A learned table and a position encoder have a vector for each patch. RoPE has none: it rotates
queries and keys. To show its effect, one vector with equal entries is rotated for each patch. The
product of two such vectors is the mean cosine of the angle between the two patches' rotations, over
layers, heads and pairs of features.
"""
from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from ipywidgets import Dropdown, IntSlider
from torch import Tensor

from seqpe_lab.course.style import add_note, finish, label
from seqpe_lab.digits import grid
from seqpe_lab.encodings import Learned, SeqPE, resample_grid
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import BARE, SIMILARITIES, outlined, subplots
from seqpe_lab.explorers.panel import Panel, control
from seqpe_lab.geometry import nearest_neighbours, similarity

METHODS = ("learned", "rope-axial", "rope-mixed", "seqpe-mul", "seqpe-mul-no-losses")
COLOURS = dict(colorscale="Viridis", cmin=-1, cmax=1, colorbar=dict(
    title="cosine", x=0.7, xanchor="left", y=0, yanchor="bottom", len=0.42))
ON_THE_RIGHT = dict(xref="paper", yref="paper", yanchor="top", align="left")


@dataclass(frozen=True)
class State:
    """A patch of a square grid."""
    side: int = control(0, IntSlider, "grid", "rows and columns; the smallest grid was trained")
    row: int = control(0, IntSlider, "row", "of the chosen patch, from the top")
    column: int = control(0, IntSlider, "column", "of the chosen patch, from the left")
    kind: str = control("cosine", Dropdown, "similarity", "cosine: one colour scale for all, −1 to "
                        "1; dot product: each map has its own", options=SIMILARITIES[3])

    @property
    def patch(self) -> int:
        """Its number, row by row."""
        return self.row * self.side + self.column


@dataclass(frozen=True)
class Numbers:
    """By method: the chosen patch's similarity to all, and the most similar other one of each."""
    state: State
    trained: int  # rows and columns
    maps: dict[str, np.ndarray]  # (side, side)
    nearest: dict[str, list[int]]  # numbers of patches

    def away(self, method: str, patch: int) -> float:
        """How far its most similar patch is from a patch, Euclidean, in patches."""
        side = self.state.side
        return math.dist(divmod(patch, side), divmod(self.nearest[method][patch], side))


def compute(state: State) -> Numbers:
    """Compare the vectors of all patches."""
    maps = {m: similarity_map(vectors(m, state.side), state.patch, state.kind) for m in METHODS}
    return Numbers(state, _trained_side(), maps,
                   {m: nearest(m, state.side, state.kind) for m in METHODS})


@functools.lru_cache(maxsize=128)
def vectors(method: str, side: int) -> Tensor:
    """A vector for each patch of a square grid, row by row, of a shipped model, (side**2, width).

    A learned table is interpolated to the grid, as its model does; SeqPE's are computed from the
    digits; RoPE's are unit vectors, rotated in every layer and head.
    """
    encoding = shipped_models.encoding("image", method)
    recipe = shipped_models.recipe("image", method)
    if isinstance(encoding, Learned):
        return resample_grid(encoding.table.weight, recipe.train_shape, (side, side))
    if isinstance(encoding, SeqPE):
        return encoding.encoder.table(side, side)
    prefix, heads = encoding.prefix, recipe.heads
    ones = torch.ones(1, heads, prefix + side * side, recipe.d_model // heads)
    prepared = encoding.prepare(grid(side, side))
    rotated = torch.cat([encoding.transform(ones, ones, prepared, layer)[0][0, :, prefix:]
                         for layer in range(recipe.layers)])  # (layers * H, N, d_head)
    return rotated.transpose(0, 1).flatten(1) / (recipe.layers * recipe.d_model) ** 0.5


def similarity_map(table: Tensor, patch: int, kind: str) -> np.ndarray:
    """Similarity of one patch of a square grid to all, (side, side)."""
    side = math.isqrt(len(table))
    return similarity(table[patch:patch + 1], table, kind).view(side, side).double().numpy()


@functools.lru_cache(maxsize=256)
def nearest(method: str, side: int, kind: str) -> list[int]:
    """The number of the most similar other patch, for each patch."""
    return nearest_neighbours(vectors(method, side), kind)[:, 0].tolist()


def _trained_side() -> int:
    return shipped_models.recipe("image", METHODS[0]).train_shape[0]


def draw(numbers: Numbers) -> go.Figure:
    """One patch's similarity to all others, one map for each encoding."""
    state, trained = numbers.state, numbers.trained
    side, row, column, cosine = state.side, state.row, state.column, state.kind == "cosine"
    figure = subplots([_heading(numbers, method) for method in METHODS], _set_axes, rows=2, cols=3,
                      specs=[[{}, {}, {}], [{}, {}, None]], horizontal_spacing=0.106,
                      vertical_spacing=0.178)
    figure.layout.xaxis.range, figure.layout.yaxis.range = [-0.5, side - 0.5], [side - 0.5, -0.5]
    shapes = []
    colours = dict(coloraxis="coloraxis") if cosine else dict(colorscale="Viridis", showscale=False)
    for number, (method, similarities) in enumerate(numbers.maps.items()):
        figure.add_heatmap(z=similarities, xgap=1, ygap=1, name=label(method), **colours,
                           hovertemplate="row %{y}, column %{x}: %{z:.3f}",
                           row=1 + number // 3, col=1 + number % 3)
        on = dict(type="rect", xref=figure.data[-1].xaxis, yref=figure.data[-1].yaxis)
        if method != "learned":  # a stretched table has no patches beyond the trained ones
            shapes += outlined(**on, dash="dash", x0=-0.5, y0=-0.5, x1=trained - 0.5,
                               y1=trained - 0.5)
        shapes += outlined(**on, width=2, x0=column - 0.5, y0=row - 0.5, x1=column + 0.5,
                           y1=row + 0.5)
    figure.layout.shapes = shapes
    shape = f"{trained} × {trained}"
    add_note(figure, "<br>".join([
        "<b>framed</b>: the chosen patch", "<b>brighter</b>: more similar to it",
        f"<b>dashed</b>: the trained {shape},<br>all outside it is new" if side > trained
        else f"all {shape} were trained", *["each map has its own colours"] * (not cosine), "",
        "RoPE has no vectors. Shown:", "how far it turns two patches", "apart, as mean cosine over",
        "layers, heads and pairs"]), x=0.8 if cosine else 0.72, y=0.42, **ON_THE_RIGHT)
    adjacent = sum(numbers.away(method, state.patch) < 1.5 for method in METHODS)
    recipe = shipped_models.recipe("image", METHODS[0])
    return finish(
        figure, f"Patch ({row}, {column}) of {side} × {side}: most similar is an adjacent one for "
        f"{adjacent} of {len(METHODS)} encodings",
        f"{shipped_models.provenance('image', METHODS[0])} · image classifiers trained on "
        f"{recipe.image_size} × {recipe.image_size} pixels in patches of {recipe.patch} · "
        f"shown: {side * recipe.patch} × {side * recipe.patch} pixels",
        height=750, margin_t=110, coloraxis=COLOURS)


def _set_axes(figure: go.Figure) -> None:
    """All maps have the range of the first, also when the reader zooms."""
    figure.update_xaxes(title="column", matches="x", dtick=2, title_standoff=4, **BARE)
    figure.update_yaxes(title="row", matches="y", dtick=2, title_standoff=4, **BARE)


def _heading(numbers: Numbers, method: str) -> str:
    state = numbers.state
    other = divmod(numbers.nearest[method][state.patch], state.side)
    how = ", rotation alone" if method.startswith("rope") else (
        ", stretched" if method == "learned" and state.side > numbers.trained else "")
    return (f"{label(method)}{how}<br><span style='font-size:11px'>most similar: {other}, "
            f"{numbers.away(method, state.patch):.1f} patches away</span>")


def words(numbers: Numbers) -> str:
    """How far the most similar other patch is, on average."""
    cells = range(numbers.state.side**2)
    means = [f"{sum(numbers.away(method, patch) for patch in cells) / len(cells):.2f} patches away "
             f"for {label(method)}" for method in METHODS]
    return (f"<b>Over the whole grid</b> the most similar other patch is, on average, "
            f"{'; '.join(means)} (1: always a direct neighbour). A stretched table keeps its "
            "picture, and holds no more places than it was trained with.")


def table(numbers: Numbers) -> dict[str, list]:
    """All similarities of the picture, one row for each patch."""
    rows, columns = grid(numbers.state.side, numbers.state.side).T.tolist()
    return {"row": rows, "column": columns} | {
        label(method): values.flatten().tolist() for method, values in numbers.maps.items()}


def explore() -> Panel:
    """Grid, patch and similarity to choose; a click on a patch chooses it."""
    trained = _trained_side()
    most = min(shipped_models.recipe("image", method).max_position for method in METHODS)
    place = dict(max=2 * trained - 1, value=trained // 2)
    panel = Panel("Patches", "Click a patch, in any map. Then let the grid grow beyond the trained "
                  "one: which encodings still know what lies next to what?", State, compute, draw,
                  words=words, table=table, file="patch-similarity",
                  limits=lambda state: dict(row=state.side - 1, column=state.side - 1),
                  side=dict(min=trained, max=most, value=2 * trained), row=place, column=place)

    def choose(x: float, y: float) -> None:
        with panel.at_once():
            panel.controls["row"].value, panel.controls["column"].value = round(y), round(x)

    panel.plot.on_click(choose)
    return panel
