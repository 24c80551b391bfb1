"""Which positions does a trained encoder take for alike? Four views of the vectors e_0, e_1, ... of one run.

Read as digits, 100 looks like 1000 and not like 123. Without the contrastive loss L_δ an encoder
falls for that (the paper's Sec. 3.3 and Fig. 2); with L_OOD alone all positions become one
(Sec. 3.4). Both can be watched here, step by step.
"""
from __future__ import annotations

import functools
import math
import re

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from seqpe_lab.course import figures
from seqpe_lab.course.draft import Draft
from seqpe_lab.explorers import bundle
from seqpe_lab.explorers.panel import Panel, choice, slider, steps, toggle, typed
from seqpe_lab.geometry import (
    collapse,
    distance_correlation,
    is_digit_edit,
    lexical_confusion,
    similarity,
    spread,
)
from seqpe_lab.recipes import Training

VIEWS = {"heatmap: all with all": "heatmap", "path through the positions": "path", "neighbours of a position": "neighbours", "similarity against distance": "distance"}
KINDS = {"cosine": "cosine", "dot product (the paper's Fig. 2)": "dot"}
NEAREST = 8  # neighbours that are named
MOST_ASKED = 6  # positions to compare with
MOST_CELLS = 400  # rows of a heatmap; more cannot be told apart on a screen
COUNTS = (64, 128, 256, MOST_CELLS, bundle.AT_THE_END)
TRAINED, BEYOND, ASKED = "#0072B2", "#E69F00", "#D55E00"
CAMERA = dict(eye=dict(x=1.4, y=1.6, z=0.9), center=dict(x=0, y=0, z=-0.1))
LEGEND = dict(orientation="h", x=1, xanchor="right", y=1.02, yanchor="bottom")
SQUARE = (0.25, 0.25 + 400 / 860)  # of a figure that is 860 pixels wide inside and 400 high
UNIT = {"dot": "dot product", "cosine": "cosine"}


# --- numbers -------------------------------------------------------------------------------------

def others(text: str) -> tuple[int, ...]:
    """The positions that a reader types.

    >>> others("123, 1000"), others(" ")
    ((123, 1000), ())
    """
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"{word!r} is no position: type whole numbers from 0 on, as in 123, 1000")
    if len(words) > MOST_ASKED:
        raise ValueError(f"{len(words)} positions to compare with, of which {MOST_ASKED} can be told apart: leave some out")
    return tuple(dict.fromkeys(map(int, words)))


def principal_path(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the three directions along which they differ most (PCA).

    Args:
        vectors: float (N, d), d >= 3.

    Returns:
        coordinates (N, 3), each axis pointing from the first position to the last; the share of the variance that each axis holds (3,).
    """
    u, s, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    coordinates = u[:, :3] * s[:3]
    direction = torch.where(coordinates[-1] < coordinates[0], -1.0, 1.0)  # else the picture flips from step to step
    return (coordinates * direction).numpy(), (s[:3].square() / s.square().sum().clamp(min=1e-30)).numpy()


def by_distance(table: Tensor) -> np.ndarray:
    """Similarity of all pairs that lie z apart: mean, lower and upper tenth, for z = 0 .. N-1.

    Args:
        table: float (N, N), symmetric.

    Returns:
        (3, N); the tenths are values that occur (nearest rank).

    >>> by_distance(torch.tensor([[1.0, 0.5], [0.5, 1.0]])).tolist()
    [[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]
    """
    pairs = [np.sort(np.diagonal(table.numpy(), z)) for z in range(len(table))]
    return np.array([(p.mean(), p[round(0.1 * (len(p) - 1))], p[round(0.9 * (len(p) - 1))]) for p in pairs]).T


@functools.lru_cache(maxsize=512)
def measures(method: str, step: int, positions: int, kind: str) -> dict[str, float]:
    """The library's measures of a position space, of the first ``positions`` vectors."""
    vectors = bundle.tables(method)[step][:positions]
    drawn = vectors[::_stride(len(vectors))]  # a rank correlation of 600,000 pairs takes too long for a move of a slider
    rho = distance_correlation(drawn, kind=kind)  # nan where all similarities are equal: they say nothing about distance
    return {"correlation": 0.0 if math.isnan(rho) else rho, "confusion": lexical_confusion(vectors, _digits(bundle.recipe("table", method)), kind=kind), **collapse(vectors, shift=10)}


@functools.lru_cache(maxsize=128)
def _by_distance(method: str, step: int, first: int, end: int, kind: str) -> np.ndarray:
    return by_distance(similarity(bundle.tables(method)[step][first:end], kind=kind))


def _digits(recipe: Training) -> int:
    return recipe.encoding_options.get("digits", 5)


def _signed(value: float) -> str:
    """Two digits behind the point, with a real minus and without a zero that has one."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _stride(count: int) -> int:
    return 1 + (count - 1) // MOST_CELLS


def similar_to(vectors: Tensor, position: int, kind: str) -> tuple[np.ndarray, list[int]]:
    """Similarity of one position to all, (N,), and all the others, the most similar first."""
    row = similarity(vectors[position:position + 1], vectors, kind)[0]
    ranked = row.argsort(descending=True, stable=True).tolist()
    return row.numpy(), [p for p in ranked if p != position]


# --- pictures ------------------------------------------------------------------------------------

def picture(method: str, step: int, view: str, kind: str, positions: int, position: int, compare: str, stretch: bool = False) -> go.Figure:
    """One view of a run's position vectors; while it learnt, the first 256 were kept."""
    vectors, recipe = bundle.tables(method)[step][:positions], bundle.recipe("table", method)
    trained, marked = recipe.train_len, [position, *(p for p in others(compare) if p < len(vectors) and p != position)]
    if view == "path":
        figure = _path(vectors, trained, marked)
        claim = f"the path is {spread(vectors):.1%} as wide as its vectors are long"
    elif view == "neighbours":
        row, ranked = similar_to(vectors, position, kind)
        look_alikes = [q for q in range(len(vectors)) if is_digit_edit(position, q, _digits(recipe))]
        figure = _neighbours(row, ranked[:NEAREST], look_alikes, marked, trained, kind)
        claim = f"position {position:,} is most similar to {', '.join(f'{q:,}' for q in ranked[:3])}"
    else:
        figure = _heatmap(vectors, trained, kind, stretch) if view == "heatmap" else _distance(method, step, len(vectors), trained, kind)
        rho = measures(method, step, len(vectors), kind)["correlation"]
        claim = f"similarity {'falls with' if rho < -0.9 else 'tends to fall with' if rho < -0.3 else 'says little about'} distance (ρ = {_signed(rho)})"
    return figure.finish(f"{figures.label(method)}, step {step:,}: {claim}", caption(method, step, len(vectors)), height=560, gap=20 if view == "path" else 72)


def caption(method: str, step: int, count: int) -> str:
    """Which run this is."""
    results, recipe = bundle.about("table", method)["results"], bundle.recipe("table", method)
    return (f"scale {recipe.scale} · {results['data']['description']} (hash {results['data']['hash']}) · seed {recipe.seed} · position vectors of a language model, "
            f"d={recipe.d_model}, step {step:,} of {recipe.steps:,} · trained on positions 0 to {recipe.train_len - 1} · shown: 0 to {count - 1:,}")


def _heatmap(vectors: Tensor, trained: int, kind: str, stretch: bool) -> Draft:
    every = _stride(len(vectors))
    table = similarity(vectors[::every], kind=kind).numpy()
    span = max(float(np.ptp(table)), 1e-5)  # below that there is nothing but rounding
    lowest, highest = (None, None) if kind == "dot" or (stretch and span > 1e-5) else (-1, 1)
    figure = Draft()
    figure.add("heatmap", z=table, dx=every, dy=every, colorscale="Viridis", zmin=lowest, zmax=highest, colorbar=dict(title=UNIT[kind], x=SQUARE[1] + 0.02),
               hovertemplate="positions %{x} and %{y}: %{z:.6~g}<extra></extra>")
    title = "position" + (f" ({('every 2nd', 'every 3rd')[every - 2] if every < 4 else f'every {every}th'} is drawn)" if every > 1 else "")
    first, last = -0.5 * every, every * (len(table) - 0.5)
    figure.update_xaxes(title=title, domain=SQUARE, range=[first, last])  # a scaleanchor would remember the range of the picture before
    figure.update_yaxes(title=title, range=[last, first])
    if trained < len(vectors):
        edge = trained - 0.5
        for line in (dict(color="white", width=3), dict(color="black", width=1.5, dash="dash")):  # seen on dark and on bright
            figure.add_shape(type="line", x0=edge, x1=edge, y0=0, y1=1, yref="y domain", line=line)
            figure.add_shape(type="line", y0=edge, y1=edge, x0=0, x1=1, xref="x domain", line=line)
        figure.add_annotation(x=edge, y=1, yref="y domain", text=f"from {trained} on: beyond training", showarrow=False, xanchor="left", yanchor="bottom", font_size=12)
    return figure


def _path(vectors: Tensor, trained: int, marked: list[int]) -> Draft:
    coordinates, shares = principal_path(vectors)
    x, y, z = coordinates.T
    number = np.arange(len(vectors))
    figure = Draft()
    figure.add("scatter3d", x=x, y=y, z=z, mode="lines", line=dict(color="#bbbbbb", width=2), hoverinfo="skip", showlegend=False)
    for name, part, colour, symbol in ((f"trained, 0 to {trained - 1}", slice(0, trained), TRAINED, "diamond"), (f"beyond, from {trained} on", slice(trained, None), BEYOND, "circle-open")):
        figure.add("scatter3d", x=x[part], y=y[part], z=z[part], text=number[part], name=name, mode="markers", marker=dict(color=colour, size=3, symbol=symbol),
                             hovertemplate="position %{text}<extra></extra>")
    notes = [dict(x=x[p], y=y[p], z=z[p], text=f"<b>{p:,}</b>", ax=(-45, 45)[i % 2], ay=-25 - 18 * i, arrowhead=0, arrowwidth=1, bgcolor="rgba(255,255,255,0.7)")
             for i, p in enumerate(dict.fromkeys([*marked, 0, len(vectors) - 1]))]
    axes = {f"{axis}axis": dict(title=f"PC {i}: {share:.1%} of variance", tickfont_size=10, title_font_size=12) for i, (axis, share) in enumerate(zip("xyz", shares), start=1)}
    figure.update_layout(scene=dict(**axes, aspectmode="cube", camera=CAMERA, annotations=notes), legend=dict(x=0, y=1, itemsizing="constant"))
    return figure


def _neighbours(row: np.ndarray, nearest: list[int], look_alikes: list[int], marked: list[int], trained: int, kind: str) -> Draft:
    hover = "position %{x}: %{y:.3f}<extra></extra>"
    figure = Draft()
    figure.add("scatter", y=row, name="all positions", mode="lines", line=dict(color="#777777", width=1.5), hovertemplate=hover)
    figure.add("scatter", x=look_alikes, y=row[look_alikes], name="one digit edit away", mode="markers", marker=dict(color=BEYOND, symbol="square-open", size=9, line_width=2), hovertemplate=hover)
    figure.add("scatter", x=nearest, y=row[nearest], name=f"the {len(nearest)} most similar", mode="markers", marker=dict(color=TRAINED, symbol="circle", size=8), hovertemplate=hover)
    figure.add("scatter", x=marked, y=row[marked], text=[f"<b>{p:,}</b>" for p in marked], name="asked for", mode="markers+text", textposition=_above_and_below(marked),
                       marker=dict(color=ASKED, symbol="x", size=10), hovertemplate=hover)
    _trained_region(figure, trained, len(row), "trained")
    figure.update_xaxes(title="position", range=[-0.02 * len(row), 1.02 * len(row)])
    figure.update_yaxes(title=f"{UNIT[kind]} with position {marked[0]:,}", range=[-1.2, 1.2] if kind == "cosine" else None)
    figure.update_layout(legend=LEGEND)
    return figure


def _above_and_below(marked: list[int]) -> list[str]:
    """Where labels stand, so that neighbours keep apart."""
    return ["top center" if i % 2 == 0 else "bottom center" for i in range(len(marked))]


def _distance(method: str, step: int, count: int, trained: int, kind: str) -> Draft:
    figure = Draft()
    for name, first, end, colour, dash in ((f"both positions trained, 0 to {trained - 1}", 0, min(trained, count), TRAINED, "solid"),
                                           (f"both beyond, {trained} to {count - 1:,}", trained, count, BEYOND, "dash")):
        if end <= first:
            continue
        mean, low, high = _by_distance(method, step, first, end, kind)
        z = np.arange(len(mean))
        figure.add("scatter", x=[*z, *z[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=colour, opacity=0.2, line_width=0, hoverinfo="skip", showlegend=False)
        figure.add("scatter", x=z, y=mean, name=name, mode="lines", line=dict(color=colour, dash=dash, width=2.5), hovertemplate="%{x} apart: %{y:.3f}<extra></extra>")
    _trained_region(figure, trained, count, "distances seen in training")
    figure.update_xaxes(title="distance |p − q| (positions)")
    figure.update_yaxes(title=f"{UNIT[kind]}: mean, band from 10 % to 90 %", range=[-1.05, 1.05] if kind == "cosine" else None)
    figure.update_layout(legend=LEGEND, showlegend=True)
    return figure


def _trained_region(figure: Draft, trained: int, count: int, text: str) -> None:
    figure.add_shape(type="rect", x0=-0.5, x1=min(trained, count) - 0.5, y0=0, y1=1, xref="x", yref="y domain", fillcolor="#0072B2", opacity=0.1, line_width=0, layer="below")
    figure.add_annotation(x=0, y=1, yref="paper", text=text, showarrow=False, xanchor="left", yanchor="bottom", font_size=12)


def words(method: str, step: int, view: str, kind: str, positions: int, position: int, compare: str, stretch: bool = False) -> str:
    """What can be read off the numbers: the position asked for, and the space as a whole."""
    vectors = bundle.tables(method)[step][:positions]
    row, ranked = similar_to(vectors, position, kind)
    asked = [f"{q:,}: {row[q]:.3f} (rank {ranked.index(q) + 1:,})" if q < len(vectors) else f"{q:,}: not among positions 0 to {len(vectors) - 1:,}"
             for q in others(compare) if q != position]
    m = measures(method, step, len(vectors), kind)
    drawn = ", of those that the heatmap draws" if _stride(len(vectors)) > 1 else ""
    return (f"<b>Position {position:,}</b>, {UNIT[kind]}: most similar are {', '.join(f'{q:,} ({row[q]:.3f})' for q in ranked[:NEAREST])}."
            + (f" Asked for: {'; '.join(asked)}." if asked else "")
            + f"<br><b>All {len(vectors):,} positions</b>: rank correlation ρ of similarity and distance{drawn}: {_signed(m['correlation'])} (−1: the farther, the less similar, always); "
              f"the nearest neighbour is one digit edit away, and no actual neighbour, for {m['confusion']:.0%}; mean cosine with the position 10 further on {m['shift_cosine']:.3f}; "
              f"effective rank {m['effective_rank']:.1f} of {vectors.shape[1]} (towards 1: collapse); width over length {m['spread']:.3f}.")


class GeometryPanel(Panel):
    """``position`` ends where the positions end that are shown."""

    def draw(self) -> None:
        asked, position = self.values, self.controls["position"]
        last = min(asked["positions"], len(bundle.tables(asked["method"])[asked["step"]])) - 1
        if self._held or position.max == last:
            super().draw()
        else:
            with self.at_once():
                position.max = last


def explore() -> Panel:
    """Method, step, view and position to choose."""
    return GeometryPanel(
        "Geometry of positions", "Compare the four trainings, then let one of them learn: which positions become similar, those near by or those that look alike?",
        picture, {
            "method": choice("training", "the two losses of the paper: both, one of them, none", [(figures.label(m), m) for m in bundle.WATCHED], "seqpe"),
            "step": steps("step", "how long it has learnt; before the last step, positions 0 to 255 are known", [(f"{s:,}", s) for s in bundle.STEPS], bundle.STEPS[-1]),
            "view": choice("view", "four pictures of the same vectors", VIEWS.items(), "heatmap"),
            "kind": choice("similarity", "of two vectors; the dot product also grows with their lengths", KINDS.items(), "cosine"),
            "positions": steps("positions", "how many from 0 on; the first 64 were trained", [(f"{n:,}", n) for n in COUNTS], COUNTS[-1]),
            "position": slider("position", "whose neighbours are asked for, in the text below too", 0, bundle.AT_THE_END - 1, 100),
            "compare": typed("compare with", "positions to mark and to compare with it", "123, 1000"),
            "stretch": toggle("stretch the colours", "of cosines, over the range of this heatmap in place of −1 to 1; dot products always are"),
        }, words=words)
