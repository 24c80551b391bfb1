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
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.course.style import label
from seqpe_lab.digits import grid
from seqpe_lab.encodings import Learned, SeqPE, resample_grid
from seqpe_lab.explorers import shipped_models
from seqpe_lab.explorers.drawing import BARE, SIMILARITIES, either, heading, outlined
from seqpe_lab.explorers.explorer import Explorer
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


def last() -> int:
    return most() - 1


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
    row: int = number(3, "row", "of the chosen patch, from the top", min=0, max=last)
    column: int = number(3, "column", "of the chosen patch, from the left", min=0, max=last)
    kind: str = choice("cosine", "similarity", "of the vectors of two patches", SIMILARITIES[3])
    layer: str | int = choice(ALL, "vectors", "SeqPE's before or after the projection W_PE, of "
                              "which each layer has its own; RoPE's rotations of all layers or one",
                              layers)
    colours: str = choice("own", "colours", "one scale for all maps shows their levels, a scale "
                          "for each shows its pattern",
                          {"own": "for each map", "same": "the same: −1 to 1"})


def compute(state: State) -> SimpleNamespace:
    """Compare the vectors of all patches with that of the chosen one."""
    row, column = min(state.row, state.rows - 1), min(state.column, state.columns - 1)
    maps = [similarity_map(method, state, row, column) for method in state.methods]
    patch, count = shipped_models.recipe("image", METHODS[0]).patch, len(maps)
    lines = {"wide": math.ceil(count / 3) or 1, "narrow": math.ceil(count / 2) or 1}
    return SimpleNamespace(
        state=state, maps=maps, row=row, column=column, count=count, lines=lines,
        frame=dict(x0=column - 0.5, x1=column + 0.5, y0=row - 0.5, y1=row + 0.5),
        limits={"row": state.rows - 1, "column": state.columns - 1},
        adjacent=sum(m.away < 1.5 for m in maps),  # touches the chosen one
        heights={"wide": 100 + 330 * lines["wide"], "narrow": 100 + 260 * lines["narrow"]},
        pixels=(state.rows * patch, state.columns * patch),
        places=dict(zip(("row", "column"), grid(state.rows, state.columns).T.tolist())))


def similarity_map(method: str, state: State, row: int, column: int) -> SimpleNamespace:
    """Similarity of one patch to all, and the most similar other one."""
    table, patch = vectors(method, state.rows, state.columns, state.layer), \
        row * state.columns + column
    found = similarity(table[patch:patch + 1], table, state.kind)[0].double().numpy()
    others = np.delete(found, patch)
    place = int(others.round(5).argmax())  # of equal ones the first, however they were rounded
    nearest = divmod(place + (place >= patch), state.columns)
    stretched = method == "learned" and max(state.rows, state.columns) > trained()
    own = state.colours == "own" or state.kind == "dot"
    return SimpleNamespace(
        name=label(method), how=", rotation alone" if method.startswith("rope") else
        ", stretched" * stretched, flat=found,
        similarities=found.reshape(state.rows, state.columns),
        low=float(others.min()) if own else -1.0, high=float(others.max()) if own else 1.0,
        nearest=nearest, away=math.dist((row, column), nearest),  # in patches
        edge=None if method == "learned" else trained() - 0.5)  # None: all places are trained


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


AXIS = dict(each="maps", dtick=2, constrain="domain", **BARE)
PICTURE = {
    "data": [dict(each="maps", type="heatmap", z="@similarities", xgap=1, ygap=1, name="{name}",
                  zmin="@low", zmax="@high", colorscale="Viridis", showscale=False, xaxis="x{nth}",
                  yaxis="y{nth}", hovertemplate="row %{y}, column %{x}: %{z:.3f}")],
    "layout": {
        "height": either("@heights.narrow", "@heights.wide"),
        "margin": dict(t=70, l=50, r=20, b=50),
        "uirevision": "{state.rows} {state.columns} {count}",
        "grid": dict(pattern="independent", xgap=0.2, ygap=0.4, columns=either(2, 3),
                     rows=either("@lines.narrow", "@lines.wide")),
        "xaxis{nth}": dict(AXIS, title=dict(text="column", standoff=4)),
        "yaxis{nth}": dict(AXIS, title=dict(text="row", standoff=4), autorange="reversed",
                           scaleanchor="x{nth}"),
        "shapes": [*outlined(each="maps", when="edge", type="rect", xref="x{nth}", yref="y{nth}",
                             dash="dash", x0=-0.5, y0=-0.5, x1="@edge", y1="@edge"),
                   *outlined(each="maps", type="rect", xref="x{nth}", yref="y{nth}", width=2,
                             x0="@frame.x0", x1="@frame.x1", y0="@frame.y0", y1="@frame.y1")],
        "annotations": [heading({"join": [
            "{name}{how}<br><span style='font-size:", either("9px", "11px"), "'>most similar: "
            "({nearest.0}, {nearest.1}),", either("<br>", " "), "{away:.1f} patches away<br>"
            "colours from {low:.2f} to {high:.2f}</span>"]}, each="maps")]},
    "table": {"row": "@places.row", "column": "@places.column",
              "{name}": {"each": "maps", "value": "@flat"}},
}


def stored() -> dict[str, Any]:
    """The vectors of the largest grid, RoPE's angles, and how each side stretches the table."""
    side, count, kept = trained(), most(), {}
    for method in METHODS:
        kept[method] = {"name": label(method), "how": ", rotation alone" * ("rope" in method)}
        encoding = shipped_models.encoding("image", method)
        if isinstance(encoding, Learned):
            kept[method]["table"] = vectors(method, side, side).numpy().astype(np.float16)
        elif isinstance(encoding, SeqPE):
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
            "layers": len(layers()) - 1, "patch": shipped_models.recipe("image", METHODS[0]).patch}


def explorer() -> Explorer:
    """Encodings, grid and patch to choose; a click on a patch chooses it."""
    constants = {"TRAINED": trained(), "PROVENANCE": shipped_models.provenance("image", METHODS[0])}
    return Explorer("patches", State, compute, PICTURE, constants, stored=stored,
                    click={"row": "y", "column": "x"})
