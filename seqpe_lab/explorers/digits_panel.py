"""Digits: the digit sequence of a position, its vectors, and what neighbours share with it.

>>> draw(compute(State("(2, 3)", k=2))).layout.title.text          # the patch of Fig. 1
'1 away, (2, 2) differs in 1 digit; 90 away, (2, 93) differs in 1'
"""
from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from ipywidgets import Dropdown, IntSlider, Text
from torch import Tensor

from seqpe_lab.course.style import QUIET, finish
from seqpe_lab.digits import digits_needed, to_digits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.prefix_tree import PrefixTree, prefix_tree
from seqpe_lab.explorers.drawing import BARE, subplots
from seqpe_lab.explorers.panel import Panel, control

LARGEST = {1: 99_999, 2: 999, 3: 255}  # dimensions: largest coordinate (fits in base 2)
FEATURES = 6  # of the vectors shown
STRIP = FEATURES + 2  # rows of a strip of the picture; two are for labels
SHARED, OWN, OTHER = "#0072B2", "#D55E00", "#777777"


@dataclass(frozen=True)
class State:
    """A position, its number system, and which neighbours are shown."""
    text: str = control("100", Text, "position", "one to three whole numbers: 100 (text), or 2, 3 "
                        "(an image patch), or 1, 20, 7")
    base: int = control(10, IntSlider, "base b", "how many different digits there are; the paper "
                        "uses 10", min=2, max=16)
    k: int = control(5, IntSlider, "digits k", "digits of each dimension, padded with zeros on the "
                     "left; the paper uses 5 for text, 2 for images", min=1, max=8)
    along: str = control("last", Dropdown, "neighbours differ in", "which coordinate of a 2-D or "
                         "3-D position moves", options=[("the last coordinate", "last"),
                                                        ("the first coordinate", "first")])
    width: int = control(4, IntSlider, "neighbours on each side", "how many positions before and "
                         "after are drawn", min=1, max=7)


@dataclass(frozen=True)
class Numbers:
    """A position among its neighbours."""
    state: State
    position: tuple[int, ...]
    k: int  # digits a dimension that are drawn
    around: Tensor  # the neighbours and the position itself, ascending, int64 (U, n)
    row: int  # of the position in ``around``
    sequences: Tensor  # their digits, and the base as the token [CLS], int64 (U, n*k + 1)

    @property
    def agrees(self) -> Tensor:
        """Which digits are those of the position, bool (U, n*k)."""
        return (self.sequences == self.sequences[self.row])[:, :-1]

    @property
    def shared(self) -> list[int]:
        """Length of the digit prefix that each neighbour shares with the position."""
        return self.agrees.cumprod(1).sum(1).tolist()


def compute(state: State) -> Numbers:
    """Read the position, and write it and its neighbours as digits."""
    position = read_position(state.text)
    k = max(state.k, *(digits_needed(p, state.base) for p in position))
    around, row = neighbours(position, state.width, state.along, state.base**k)
    sequences = F.pad(to_digits(around, k, state.base), (0, 1), value=state.base)
    return Numbers(state, position, k, around, row, sequences)


def read_position(text: str) -> tuple[int, ...]:
    """One to three whole numbers, as a reader types them.

    Raises:
        ValueError: no number, too many, or one that is negative, broken or too large to draw.
    """
    parts = re.split(r"[\s,;]+", text.strip(" \t()[],;"))
    if len(parts) > 3 or not all(re.fullmatch("[0-9]{1,18}", part) for part in parts):
        raise ValueError(f"{text!r} is no position: type one to three whole numbers from 0, like "
                         "100 or 2, 3 or 1, 20, 7")
    position = tuple(map(int, parts))
    if max(position) > (limit := LARGEST[len(position)]):
        raise ValueError(f"coordinate {max(position):,} is too large to draw: with "
                         f"n = {len(position)} type numbers up to {limit:,}")
    return position


def neighbours(position: tuple[int, ...], width: int, along: str, limit: int) -> tuple[Tensor, int]:
    """Positions up to ``width`` away in one coordinate, within [0, limit), and the own row."""
    axis = 0 if along == "first" else len(position) - 1
    values = range(max(0, position[axis] - width), min(limit, position[axis] + width + 1))
    positions = torch.tensor(position).repeat(len(values), 1)
    positions[:, axis] = torch.tensor(values)
    return positions, values.index(position[axis])


def heights(tree: PrefixTree, row: int) -> Tensor:
    """The height of each node, float (M,): the mean of its rows; nodes of ``row`` lie on a line."""
    paths = tree.complete  # (U, S)
    rows = torch.arange(float(len(paths))).unsqueeze(1).expand(paths.shape)
    height = torch.zeros(len(tree.token)).scatter_reduce(0, paths.flatten(), rows.flatten(), "mean",
                                                         include_self=False)
    height[paths[row]] = float(row)
    return height


def look_alike(position: tuple[int, ...], k: int, base: int) -> tuple[int, ...]:
    """The farthest position that differs in a single digit of the last coordinate.

    >>> look_alike((100,), k=5, base=10)
    (90100,)
    """
    *before, p = position
    one_off = (p + (new - p // base**j % base) * base**j for j in range(k) for new in range(base))
    return *before, max(one_off, key=lambda q: abs(q - p))


def embeddings(k: int, base: int, dims: int) -> dict[str, int]:
    """Rows of the encoder's tables: T (with [CLS]), O, and D (none if there is one dimension)."""
    return {"T": base + 1, "O": k, "D": dims if dims > 1 else 0}


@functools.lru_cache(maxsize=64)
def addends(sequence: tuple[int, ...], k: int, base: int, dims: int) -> tuple[Tensor, ...]:
    """T, O and D of every token and of [CLS] in an untrained encoder, each (n*k + 1, FEATURES)."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder = PositionEncoder(FEATURES, digits=k, base=base, dims=dims, layers=1, heads=1)
        token = encoder.token.weight[[*sequence, base]]
        place = F.pad(encoder.place.weight.repeat(dims, 1), (0, 0, 0, 1))  # [CLS] has no place
        if dims == 1:
            return token, place, torch.zeros_like(place)
        return token, place, F.pad(encoder.dimension.weight.repeat_interleave(k, 0), (0, 0, 0, 1))


def draw(numbers: Numbers) -> go.Figure:
    """The digits and their vectors, the tree of prefixes, and the number of embeddings."""
    base, k, dims = numbers.state.base, numbers.k, len(numbers.position)
    sequences, tree, named = numbers.sequences, prefix_tree(numbers.sequences), base ** (k * dims)
    tables = embeddings(k, base, dims).values()
    pixels = (230, 27 * len(sequences) + 30, 60)
    figure = subplots([
        f"{_name(numbers.position)} in base {base}, k = {k}: every token's vector is U = T + O + D",
        f"{len(sequences)} positions are {sequences.numel()} tokens but {len(tree.token)} distinct "
        "prefixes: the encoder computes each once",
        f"{sum(tables)} embeddings name {_count(named)} positions; a table needs one for each",
    ], _set_axes, rows=3, row_heights=pixels, vertical_spacing=90 / (sum(pixels) + 180))
    _draw_sum(figure, sequences[numbers.row].tolist(), k, base, dims)
    _draw_tree(figure, tree, numbers)
    figure.add_bar(x=[float(named), float(sum(tables))], y=["table", "T, O, D"], orientation="h",
                   marker=dict(color=[OTHER, OWN], pattern_shape=["/", ""]), showlegend=False,
                   text=[_count(named), f"{' + '.join(map(str, tables))} = {sum(tables)}"],
                   textposition="outside", hovertemplate="%{y}: %{x:,} embeddings<extra></extra>",
                   row=3, col=1)
    longest = math.log10(max(named, sum(tables)))
    figure.update_xaxes(range=[0, 1.25 * longest + 0.5], dtick=math.ceil(longest / 8), row=3)
    columns = sequences.shape[1]
    for axis in (figure.layout.xaxis, figure.layout.xaxis2):  # the strips stand above the tree
        axis.range = [-1.3, 1.3 * columns + 0.3]  # on the right the positions' names
        axis.tickvals = list(range(columns))
    above_tree = figure.layout.yaxis2.domain[1] + 26 / (sum(pixels) + 140)
    caption = (f"digits counted, nothing trained · vectors: {FEATURES} features of an untrained "
               "PositionEncoder (normal, std 0.02, seed 0), red positive, blue negative, white 0 · "
               "tree: seqpe_lab.prefix_tree")
    return finish(figure, claim(numbers), caption, height=sum(pixels) + 345, margin_t=105,
                  legend=dict(orientation="h", x=0, y=above_tree, yanchor="bottom", xanchor="left",
                              itemclick=False))


def claim(numbers: Numbers) -> str:
    """The title: a neighbour with many different digits, and a far position with only one."""
    state, position, k = numbers.state, numbers.position, numbers.k
    if k > state.k:
        return (f"{_name(position)} does not fit into k = {state.k} digit{'s' * (state.k > 1)} of "
                f"base {state.base}: it needs {k}, and is drawn with them")

    def differing(other: tuple[int, ...]) -> int:
        pair = to_digits(torch.tensor([position, other]), k, state.base)
        return int((pair[0] != pair[1]).sum())

    *before, p = position
    beside = [(*before, q) for q in (p - 1, p + 1) if 0 <= q < state.base**k]
    near, far = max(beside, key=differing), look_alike(position, k, state.base)
    count = differing(near)
    return (f"1 away, {_name(near)} differs in {count} digit{'s' * (count > 1)}; "
            f"{_count(abs(far[-1] - p))} away, {_name(far)} differs in 1")


def _set_axes(figure: go.Figure) -> None:
    figure.layout.annotations[0].yshift = 22  # the digits are the ticks below it
    for row in (1, 2):
        figure.update_xaxes(tickangle=0, **BARE, row=row)
    figure.update_xaxes(side="top", row=1)
    figure.update_xaxes(title_standoff=4, row=2)
    figure.update_xaxes(type="log", exponentformat="power", title="embeddings (rows of d numbers)",
                        row=3)
    figure.update_yaxes(autorange="reversed", tickvals=[n * STRIP + 4.5 for n in range(4)],
                        ticktext=["T digit", "+ O place", "+ D dim.", "= U"], **BARE, row=1)
    figure.update_yaxes(showticklabels=False, title="position", **BARE, row=2)


def _draw_sum(figure: go.Figure, sequence: list[int], k: int, base: int, dims: int) -> None:
    """Four strips of features, one column for each token: T + O + D = U."""
    columns, digits = len(sequence), sequence[:-1]
    size = 13 if columns < 18 else 10
    labels = [*(f"T<sub>{s}</sub>" for s in digits), "T<sub>CLS</sub>",
              *(f"O<sub>{j % k}</sub>" for j in range(columns - 1)), "0",
              *(f"D<sub>{j // k}</sub>" if dims > 1 else "0" for j in range(columns - 1)), "0",
              *["U"] * columns]
    vectors = addends(tuple(digits), k, base, dims)
    strips = [F.pad(v.T, (0, 0, 2, 0), value=torch.nan) for v in (*vectors, sum(vectors))]
    figure.add_heatmap(z=torch.cat(strips).numpy(), colorscale="RdBu_r", zmin=-0.06, zmax=0.06,
                       xgap=3, showscale=False, hovertemplate="%{z:.3f}<extra></extra>",
                       row=1, col=1)
    figure.add_scatter(x=list(range(columns)) * 4, text=labels, mode="text", row=1, col=1,
                       y=[n // columns * STRIP + 0.4 for n in range(4 * columns)],
                       textfont_size=size, **QUIET)
    figure.layout.xaxis.ticktext = [f"<b>{s}</b>" for s in [*digits, "CLS"]]
    powers = ["1", f"{base}", *(f"{base}<sup>{j}</sup>" for j in range(2, k))][:k][::-1]
    figure.layout.xaxis2.update(
        tickfont_size=size, ticktext=powers * dims + ["CLS"],
        title_text="place value of the digit" + ", dimension by dimension" * (dims > 1))


def _draw_tree(figure: go.Figure, tree: PrefixTree, numbers: Numbers) -> None:
    """Digits as nodes, left to right; one node for all positions that begin alike."""
    base, row, paths = numbers.state.base, numbers.row, tree.complete.tolist()
    own, passing = set(paths[row]), tree.complete.flatten().bincount().tolist()
    x, y = [*tree.place.tolist(), -1], [*heights(tree, row).tolist(), row]  # the root comes last
    edges = sorted({pair for path in paths for pair in zip([-1, *path], path)})
    for of, colour, width in (False, "#bbbbbb", 1.5), (True, OWN, 3):
        drawn = [nodes for nodes in edges if (nodes[1] in own) == of]
        figure.add_scatter(x=[v for a, b in drawn for v in (x[a], x[b], None)], **QUIET,
                           y=[v for a, b in drawn for v in (y[a], y[b], None)], mode="lines",
                           line=dict(color=colour, width=width), row=2, col=1)
    nodes = range(len(passing))
    groups = (("prefixes shared with neighbours", SHARED, SHARED, "#ffffff", 1.5,
               [m for m in nodes if m in own and passing[m] > 1]),
              (f"of {_name(numbers.position)} alone", OWN, "#ffffff", "#111111", 3,
               [m for m in nodes if m in own and passing[m] == 1]),
              ("of neighbours only", OTHER, "#ffffff", "#111111", 1.5,
               [m for m in nodes if m not in own]))
    for name, edge, fill, ink, width, members in groups:
        tokens = tree.token[members].tolist()
        closes = [token == base for token in tokens]
        figure.add_scatter(
            x=[x[m] for m in members], y=[y[m] for m in members], mode="markers+text", name=name,
            text=["" if c else str(token) for c, token in zip(closes, tokens)], row=2, col=1,
            textfont=dict(color=ink, size=12), hovertemplate=f"%{{text}}<extra>{name}</extra>",
            marker=dict(size=[12 if c else 18 for c in closes], color=fill, opacity=1,
                        symbol=["square" if c else "circle" for c in closes],
                        line=dict(color=edge, width=width)))
    labels = [f"{_name(p)} shares {n}" for p, n in zip(numbers.around.tolist(), numbers.shared)]
    labels[row] = f"<b>{_name(numbers.position)}</b>"
    figure.add_scatter(x=[max(x) + 0.3] * len(labels), y=list(range(len(labels))), text=labels,
                       mode="text", textposition="middle right", **QUIET, row=2, col=1)
    figure.layout.yaxis2.range = [len(labels) - 0.4, -0.6]


def _name(position) -> str:
    return f"{position[0]:,}" if len(position) == 1 else f"({', '.join(map(str, position))})"


def _count(number: int) -> str:
    """In full up to a hundred million."""
    power = len(str(number)) - 1
    return f"{number:,}" if power < 8 else f"{number / 10**power:.1f}·10<sup>{power}</sup>"


def words(numbers: Numbers) -> str:
    """How many embeddings there are, and what this count leaves out."""
    rows = embeddings(numbers.k, numbers.state.base, len(numbers.position))
    dimension = (f"D {rows['D']} (n dimensions)" if rows["D"] else
                 "and D none, because the paper fixes it at 0 for n = 1")
    return (f"T has {rows['T']} rows (b digits and [CLS]), O {rows['O']} (k places), {dimension}. "
            "Not counted are the weights of the encoder that reads them, a fixed cost (lesson 03). "
            "“96 shares 2” means that the first two digits are the same. Digits name positions and "
            "do not measure distances: a carry changes many of them at once, and a single leading "
            "digit moves a position far. L_δ has to teach the distances (lesson 05).")


def table(numbers: Numbers) -> dict[str, list]:
    """The neighbours, their digits, and how many of these agree with the position's."""
    digits = [" ".join(map(str, sequence[:-1])) for sequence in numbers.sequences.tolist()]
    return {"position": [_name(p) for p in numbers.around.tolist()], "digits": digits,
            "shared prefix": numbers.shared, "digits that agree": numbers.agrees.sum(1).tolist()}


def explore() -> Panel:
    """The panel: type a position, choose its number system."""
    return Panel("Digits", "Type a position. Its digits are all that SeqPE reads: see which "
                 "neighbours begin alike, and how far away a look-alike can be.",
                 State, compute, draw, words=words, table=table, file="neighbours")
