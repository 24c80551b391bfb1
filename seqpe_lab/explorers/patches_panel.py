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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.course.style import label
from seqpe_lab.digits import grid
from seqpe_lab.encodings import Learned, SeqPE, resample_grid
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import BARE, SIMILARITIES, heading, outlined
from seqpe_lab.explorers.explorer import Explorer, Stop
from seqpe_lab.explorers.fields import choice, number, several
from seqpe_lab.geometry import similarity

METHODS = ("learned", "rope-axial", "rope-mixed", "seqpe-mul", "seqpe-mul-no-losses")
ALL = "all"  # layers


def trained() -> int:
    """Rows and columns of the grid that the models were trained on."""
    return shipped_models.recipe("image", METHODS[0]).train_shape[0]


def most() -> int:
    """The most rows and columns that all of them have positions for."""
    return min(shipped_models.recipe("image", method).max_position for method in METHODS)


def layers() -> dict[str | int, str]:
    count = shipped_models.recipe("image", METHODS[0]).layers
    return {ALL: "before W_PE"} | {layer: f"after W_PE of layer {layer}" for layer in range(count)}


@dataclass(frozen=True)
class State:
    """A patch of a grid, and what is compared."""
    methods: tuple[str, ...] = several(METHODS, "encodings", "which maps are drawn",
                                       {method: label(method) for method in METHODS})
    rows: int = number(12, "rows", "of the grid; the smallest grid was trained",
                       min=trained, max=most)
    columns: int = number(12, "columns", "of the grid", min=trained, max=most)
    row: int = number(3, "row", "of the chosen patch, from the top", min=0, max=lambda: most() - 1)
    column: int = number(3, "column", "of the chosen patch, from the left", min=0,
                         max=lambda: most() - 1)
    kind: str = choice("cosine", "similarity", "of the vectors of two patches", SIMILARITIES[3])
    layer: str | int = choice(ALL, "vectors", "SeqPE's before or after the projection W_PE, of "
                              "which each layer has its own; RoPE's rotations of all layers or one",
                              layers)
    colours: str = choice("own", "colours", "one scale for all maps shows their levels, a scale "
                          "for each shows its pattern",
                          {"own": "for each map", "same": "the same: −1 to 1"})


@dataclass(frozen=True)
class Map:
    """One encoding's similarities of the chosen patch to all others."""
    name: str
    how: str  # of its vectors
    similarities: np.ndarray  # (rows, columns)
    low: float  # the ends of its colours
    high: float
    nearest: tuple[int, int]  # row and column of the most similar other patch
    away: float  # how far that is, Euclidean, in patches
    edge: float | None  # where the trained grid ends; None: all places are trained

    @property
    def flat(self) -> np.ndarray:
        return self.similarities.ravel()


@dataclass(frozen=True)
class Numbers:
    """A map for each chosen encoding."""
    state: State
    maps: list[Map]
    row: int  # of the chosen patch, within the grid
    column: int
    frame: dict[str, float]  # around it
    limits: dict[str, Any]
    trained: int  # rows and columns
    adjacent: int  # of how many encodings the most similar patch touches the chosen one
    count: int  # of maps
    lines: dict[str, int]  # of maps on the page: how many on a wide, and on a narrow one
    heights: dict[str, int]  # of the page, pixels
    provenance: str
    pixels: tuple[int, int]
    places: dict[str, list[int]]  # of all patches


def compute(state: State) -> Numbers:
    """Compare the vectors of all patches with that of the chosen one."""
    row, column = min(state.row, state.rows - 1), min(state.column, state.columns - 1)
    maps = [similarity_map(method, state, row, column) for method in state.methods]
    recipe, count = shipped_models.recipe("image", METHODS[0]), len(maps)
    lines = {"wide": -(-count // 3) or 1, "narrow": -(-count // 2) or 1}
    places = grid(state.rows, state.columns).T.tolist()
    return Numbers(
        state, maps, row, column, dict(x0=column - 0.5, x1=column + 0.5, y0=row - 0.5,
                                       y1=row + 0.5),
        {"row": state.rows - 1, "column": state.columns - 1}, trained(),
        sum(m.away < 1.5 for m in maps), count, lines,
        {"wide": 100 + 330 * lines["wide"], "narrow": 100 + 260 * lines["narrow"]},
        shipped_models.provenance("image", METHODS[0]),
        (state.rows * recipe.patch, state.columns * recipe.patch),
        dict(zip(("row", "column"), places)))


def similarity_map(method: str, state: State, row: int, column: int) -> Map:
    """Similarity of one patch to all."""
    table, patch = vectors(method, state.rows, state.columns, state.layer), \
        row * state.columns + column
    found = similarity(table[patch:patch + 1], table, state.kind)[0].double().numpy()
    others = np.delete(found, patch)
    place = int(others.round(5).argmax())  # of equal ones the first, however they were rounded
    nearest = divmod(place + (place >= patch), state.columns)
    stretched = method == "learned" and max(state.rows, state.columns) > trained()
    how = ", rotation alone" if method.startswith("rope") else ", stretched" * stretched
    own = state.colours == "own" or state.kind == "dot"
    return Map(label(method), how, found.reshape(state.rows, state.columns),
               float(others.min()) if own else -1.0, float(others.max()) if own else 1.0,
               nearest, math.dist((row, column), nearest),
               None if method == "learned" else trained() - 0.5)


@functools.lru_cache(maxsize=128)
def vectors(method: str, rows: int, columns: int, layer: str | int = ALL) -> Tensor:
    """A vector for each patch of a grid, row by row, of a shipped model, (rows * columns, width).

    A learned table is interpolated to the grid, as its model does; SeqPE's are computed from the
    digits, and may be projected by one layer's W_PE to (e^q, e^k); RoPE's are unit vectors, rotated
    in every layer and head, or in those of one layer.
    """
    encoding = shipped_models.encoding("image", method)
    recipe = shipped_models.recipe("image", method)
    if isinstance(encoding, Learned):
        return resample_grid(encoding.table.weight, recipe.train_shape, (rows, columns))
    if isinstance(encoding, SeqPE):
        table = encoding.encoder.table(rows, columns)
        return table if layer == ALL else encoding.projections[layer](table)
    prefix, heads = encoding.prefix, recipe.heads
    ones = torch.ones(1, heads, prefix + rows * columns, recipe.d_model // heads)
    prepared = encoding.prepare(grid(rows, columns))
    which = range(recipe.layers) if layer == ALL else [layer]
    rotated = torch.cat([encoding.transform(ones, ones, prepared, layer)[0][0, :, prefix:]
                         for layer in which])  # (layers * H, N, d_head)
    return rotated.transpose(0, 1).flatten(1) / (len(which) * recipe.d_model) ** 0.5


TEMPLATE = {
    "title": "Patch ({row}, {column}) of {state.rows} × {state.columns}: most similar is an "
             "adjacent one for {adjacent} of {count} encodings",
    "caption": "{provenance} · image classifiers trained on {trained} × {trained} patches · shown: "
               "{pixels.0} × {pixels.1} pixels · framed: the chosen patch; dashed: the trained "
               "grid, all outside it is new; brighter: more similar · RoPE has no vectors: shown "
               "is how far it turns two patches apart, as mean cosine over heads and pairs",
    "data": [{"each": "maps", "type": "heatmap", "z": "@similarities", "xgap": 1, "ygap": 1,
              "name": "{name}", "zmin": "@low", "zmax": "@high", "colorscale": "Viridis",
              "showscale": False, "xaxis": "x{nth}", "yaxis": "y{nth}",
              "hovertemplate": "row %{y}, column %{x}: %{z:.3f}"}],
    "layout": {
        "height": {"when": "narrow", "value": "@heights.narrow", "else": "@heights.wide"},
        "margin": dict(t=70, l=50, r=20, b=50),
        "uirevision": "{state.rows} {state.columns} {count}",
        "grid": dict(pattern="independent", xgap=0.2, ygap=0.4,
                     rows={"when": "narrow", "value": "@lines.narrow", "else": "@lines.wide"},
                     columns={"when": "narrow", "value": 2, "else": 3}),
        "xaxis{nth}": dict(each="maps", title=dict(text="column", standoff=4), dtick=2,
                           constrain="domain", **BARE),
        "yaxis{nth}": dict(each="maps", title=dict(text="row", standoff=4), dtick=2,
                           autorange="reversed", scaleanchor="x{nth}", constrain="domain", **BARE),
        "shapes": [*outlined(each="maps", when="edge", type="rect", xref="x{nth}", yref="y{nth}",
                             dash="dash", x0=-0.5, y0=-0.5, x1="@edge", y1="@edge"),
                   *outlined(each="maps", type="rect", xref="x{nth}", yref="y{nth}", width=2,
                             x0="@frame.x0", x1="@frame.x1", y0="@frame.y0", y1="@frame.y1")],
        "annotations": [heading(
            "{name}{how}<br><span style='font-size:11px'>most similar: ({nearest.0}, {nearest.1}), "
            "{away:.1f} patches away<br>colours from {low:.2f} to {high:.2f}</span>",
            each="maps")],
    },
    "words": "A spot: the encoding knows what lies near. A cross: it knows rows and columns, and "
             "adds them up. A stretched table keeps its picture, and holds no more places than it "
             "was trained with.",
    "table": {"row": "@places.row", "column": "@places.column",
              "{name}": {"each": "maps", "value": "@flat"}},
}


def explorer() -> Explorer:
    """Encodings, grid and patch to choose; a click on a patch chooses it."""
    return Explorer(
        "patches", "Patches", "Click a patch, in any map. Then let the grid grow beyond the "
        "trained one: which encodings still know what lies next to what?", State, compute,
        TEMPLATE, TOUR, click={"row": "y", "column": "x"}, file="patch-similarity", stored=stored,
        scripts=(Path(__file__).with_name("patches.js"),))


def stored() -> dict[str, Any]:
    """The vectors of the largest grid, RoPE's angles, and how each side stretches the table."""
    side, count, kept = trained(), most(), {}
    for method in METHODS:
        kept[method] = {"name": label(method), "how": ", rotation alone" * ("rope" in method)}
        if method == "learned":
            table = vectors(method, side, side).numpy().astype(np.float16)
            kept[method] |= {"stretches": True, "table": table}
            continue
        encoding = shipped_models.encoding("image", method)
        if isinstance(encoding, SeqPE):
            kept[method] |= {
                "vectors": vectors(method, count, count).numpy(),
                "projections": [{"weight": p.weight.detach().numpy().astype(np.float16),
                                 "bias": p.bias.detach().numpy()} for p in encoding.projections]}
        else:  # how far a step down and a step to the right turn each pair of features
            pairs = torch.view_as_complex(vectors(method, 2, 2).double().unflatten(1, (-1, 2)))
            kept[method]["turns"] = (pairs[[2, 1]] / pairs[0]).angle().float().numpy()
    ends = torch.eye(side).repeat_interleave(2, 0)  # two columns, in which only rows differ
    stretch = {rows: resample_grid(ends, (side, 2), (rows, 2))[::2].numpy()
               for rows in range(side, count + 1)}
    return {"methods": kept, "stretch": stretch, "trained": side, "most": count,
            "layers": len(layers()) - 1, "patch": shipped_models.recipe("image", METHODS[0]).patch,
            "provenance": shipped_models.provenance("image", METHODS[0])}


TOUR = (
    Stop("A patch of the grid that was trained.", {"rows": 6, "columns": 6, "row": 2, "column": 2},
         "Which maps are brightest next to the framed patch?"),
    Stop("Twice as many rows and columns.", {"row": 2, "column": 2},
         "Outside the dashed frame all places are new, but for the stretched table."),
    Stop("A patch that was never trained.", {"row": 9, "column": 10},
         "Whose most similar patch is still a neighbour? The line above each map names it."),
    Stop("With the losses and without.", {"methods": ("seqpe-mul", "seqpe-mul-no-losses"),
                                          "row": 9, "column": 10},
         "Without them, stripes: whole rows that begin with the same digits look alike."),
    Stop("What a layer makes of the vectors.", {"methods": ("rope-mixed", "seqpe-mul"), "layer": 0,
                                                "rows": 8, "columns": 16},
         "Change the layer: each has its own W_PE, and mixed RoPE its own frequencies."),
)


