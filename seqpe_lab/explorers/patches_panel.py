"""What is a patch similar to, on the trained grid and beyond it (the paper's Fig. 3)? Click one and see.

A learned table and a position encoder have a vector for each patch. RoPE has none: it turns queries
and keys. What rotation alone does to a score is seen on q = k = (1, ..., 1): rotated for two
patches, their product is the mean, over layers, heads and pairs of features, of the cosine of the
angle between them.
"""
from __future__ import annotations

import functools
import math

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from seqpe_lab.course import figures
from seqpe_lab.course.draft import Draft
from seqpe_lab.digits import grid
from seqpe_lab.encodings import Learned, SeqPE, resample_grid
from seqpe_lab.explorers import bundle
from seqpe_lab.explorers.panel import Panel, choice, slider
from seqpe_lab.geometry import nearest_neighbours, similarity

METHODS = ("learned", "rope-axial", "rope-mixed", "seqpe-mul", "seqpe-mul-no-losses")
WIDTH, HEIGHT = 226 / 860, 226 / 550  # of a map, as shares of the figure inside
CORNERS = ((0, 1 - HEIGHT), (0.36, 1 - HEIGHT), (0.72, 1 - HEIGHT), (0, 0), (0.36, 0))  # of their maps: left, bottom
COLOURS = dict(colorscale="Viridis", cmin=-1, cmax=1, colorbar=dict(title="cosine", x=0.7, xanchor="left", y=0, yanchor="bottom", len=0.42))
KINDS = {"cosine": "cosine", "dot product (the paper's Fig. 3)": "dot"}

CHOSEN = (dict(color="white", width=5), dict(color="black", width=2))  # seen on dark and on bright
EDGE = (dict(color="white", width=3), dict(color="black", width=1.5, dash="dash"))


# --- numbers -------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=128)
def vectors(method: str, side: int) -> Tensor:
    """A vector for each patch of a square grid, row by row, of a model that comes with the project.

    A learned table is stretched over the grid, as its model does; SeqPE's are read off the digits;
    RoPE's are unit vectors, rotated in every layer and head.

    Returns:
        float (side * side, width).
    """
    encoding, recipe = bundle.encoding("image", method), bundle.recipe("image", method)
    if isinstance(encoding, Learned):
        return resample_grid(encoding.table.weight, recipe.train_shape, (side, side))
    if isinstance(encoding, SeqPE):
        return encoding.encoder.table(side, side)
    ones = torch.ones(1, recipe.heads, encoding.prefix + side * side, recipe.d_model // recipe.heads)
    prepared = encoding.prepare(grid(side, side))
    rotated = torch.cat([encoding.transform(ones, ones, prepared, layer)[0][0, :, encoding.prefix:] for layer in range(recipe.layers)])  # (layers * H, N, d_head)
    return rotated.transpose(0, 1).flatten(1) / (recipe.layers * recipe.d_model) ** 0.5


def similarity_map(table: Tensor, side: int, patch: int, kind: str) -> np.ndarray:
    """Similarity of one patch, by its number row * side + column, to all: (side, side)."""
    return similarity(table[patch:patch + 1], table, kind).view(side, side).double().numpy()


@functools.lru_cache(maxsize=256)
def nearest(method: str, side: int, kind: str) -> list[int]:
    """The number of the most similar other patch, for each patch."""
    return nearest_neighbours(vectors(method, side), kind)[:, 0].tolist()


def distance(side: int, one: int, other: int) -> float:
    """Euclidean, in patches."""
    return math.dist(divmod(one, side), divmod(other, side))


def trained_side() -> int:
    """Rows and columns of the grid that all were trained on."""
    return bundle.recipe("image", METHODS[0]).train_shape[0]


# --- picture -------------------------------------------------------------------------------------

def picture(side: int, row: int, column: int, kind: str) -> go.Figure:
    """One patch's similarity to all others, a map an encoding."""
    trained, patch = trained_side(), row * side + column
    figure = Draft()
    figure.update_layout(coloraxis=COLOURS)
    figure.add_annotation(**_legend(trained, side, kind))
    for number, (method, (left, bottom)) in enumerate(zip(METHODS, CORNERS), start=1):
        x, y = f"x{number}", f"y{number}"
        z = similarity_map(vectors(method, side), side, patch, kind)
        colours = dict(coloraxis="coloraxis") if kind == "cosine" else dict(colorscale="Viridis", showscale=False)
        figure.add("heatmap", z=z, xaxis=x, yaxis=y, name=figures.label(method), xgap=1, ygap=1, hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra>%{fullData.name}</extra>", **colours)
        axis = dict(dtick=1 + side // 8, showgrid=False, zeroline=False, title_standoff=4)
        figure.update_layout(**{f"xaxis{number}": dict(axis, domain=(left, left + WIDTH), anchor=y, title_text="column", range=(-0.5, side - 0.5)),
                                f"yaxis{number}": dict(axis, domain=(bottom, bottom + HEIGHT), anchor=x, title_text="row", range=(side - 0.5, -0.5))})
        figure.add_annotation(text=_heading(method, side, patch, kind), x=left + WIDTH / 2, xanchor="center", y=bottom + HEIGHT, yanchor="bottom",
                              yshift=3, xref="paper", yref="paper", showarrow=False)
        if method != "learned":  # a stretched table has no patches beyond the trained ones
            figure.layout["shapes"] += [dict(type="rect", xref=x, yref=y, x0=-0.5, y0=-0.5, x1=trained - 0.5, y1=trained - 0.5, line=line) for line in EDGE]
        figure.layout["shapes"] += [dict(type="rect", xref=x, yref=y, x0=column - 0.5, y0=row - 0.5, x1=column + 0.5, y1=row + 0.5, line=line) for line in CHOSEN]
    adjacent = sum(distance(side, patch, nearest(m, side, kind)[patch]) < 1.5 for m in METHODS)
    title = f"Patch ({row}, {column}) of {side} × {side}: most similar is an adjacent one for {adjacent} of {len(METHODS)} encodings"
    return figure.finish(title, caption(side), height=750, margin=dict(t=110))


def _heading(method: str, side: int, patch: int, kind: str) -> str:
    """Name, and which other patch is the most similar."""
    other = nearest(method, side, kind)[patch]
    how = ", stretched" if method == "learned" and side > trained_side() else ", rotation alone" if method.startswith("rope") else ""
    return f"{figures.label(method)}{how}<br><span style='font-size:11px'>most similar: {divmod(other, side)}, {distance(side, patch, other):.1f} patches away</span>"


def _legend(trained: int, side: int, kind: str) -> dict:
    """How to read the maps, where a sixth would stand."""
    lines = ["<b>framed</b>: the chosen patch", "<b>brighter</b>: more similar to it"]
    lines += [f"<b>dashed</b>: the trained {trained} × {trained},", "all outside it is new"] if side > trained else [f"all {trained} × {trained} were trained"]
    lines += ["each map has its own colours"] if kind == "dot" else []
    lines += ["", "RoPE has no vectors. Shown:", "how far it turns two patches", "apart, as mean cosine over", "layers, heads and pairs"]
    return dict(text="<br>".join(lines), x=0.8 if kind == "cosine" else 0.72, y=HEIGHT, xref="paper", yref="paper", xanchor="left", yanchor="top", align="left", showarrow=False, font_size=12)


def caption(side: int) -> str:
    """Which runs these are."""
    recipe, data = bundle.recipe("image", METHODS[0]), bundle.about("image", METHODS[0])["results"]["data"]
    return (f"scale {recipe.scale} · {data['description']} (hash {data['hash']}) · seed {recipe.seed} · image classifiers trained on {recipe.image_size} × {recipe.image_size} pixels "
            f"in patches of {recipe.patch} · shown: {side * recipe.patch} × {side * recipe.patch} pixels")


def words(side: int, row: int, column: int, kind: str) -> str:
    """The most similar other patch: of the chosen one, and on average."""
    def mean(method: str) -> float:
        return sum(distance(side, one, other) for one, other in enumerate(nearest(method, side, kind))) / side**2

    return ("<b>Over the whole grid</b> the most similar other patch is, on average, " + "; ".join(f"{mean(m):.2f} patches away for {figures.label(m)}" for m in METHODS)
            + " (1: always a direct neighbour). A stretched table keeps its picture, and holds no more places than it was trained with.")


def table(side: int, row: int, column: int, kind: str) -> dict[str, list]:
    """All similarities of the picture, a row a patch."""
    rows, columns = grid(side, side).T.tolist()
    return {"row": rows, "column": columns} | {figures.label(m): similarity_map(vectors(m, side), side, row * side + column, kind).flatten().tolist() for m in METHODS}


class PatchPanel(Panel):
    """A click on a patch chooses it; row and column end where the grid ends."""

    def __init__(self, *what, **more):
        super().__init__(*what, **more)
        self.plot.on_click(lambda x, y: self.choose(row=round(y), column=round(x)))

    def draw(self) -> None:
        last, row, column = self.controls["side"].value - 1, self.controls["row"], self.controls["column"]
        if self._held or row.max == last:
            super().draw()
        else:
            with self.at_once():
                row.max = column.max = last

    def choose(self, row: int, column: int) -> None:
        with self.at_once():
            self.controls["row"].value, self.controls["column"].value = row, column


def explore() -> Panel:
    """Grid, patch and similarity to choose."""
    trained, most = trained_side(), min(bundle.recipe("image", m).max_position for m in METHODS)
    return PatchPanel(
        "Patches", "Click a patch, in any map. Then let the grid grow beyond the trained one: which encodings still know what lies next to what?",
        picture, {
            "side": slider("grid", f"rows and columns of patches; {trained} were trained", trained, most, 2 * trained),
            "row": slider("row", "of the chosen patch, from the top", 0, 2 * trained - 1, trained // 2),
            "column": slider("column", "of the chosen patch, from the left", 0, 2 * trained - 1, trained // 2),
            "kind": choice("similarity", "cosine: one colour scale for all, −1 to 1; dot product: each map has its own", KINDS.items(), "cosine"),
        }, words=words, table=table, file="patch-similarity")
