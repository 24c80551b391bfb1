"""Digits: a position as its digit sequence, the vectors of its digits, and what its neighbours share with it.

>>> read_position("(2, 3)"), written((2, 3), k=2, base=10)            # the patch of Fig. 1
((2, 3), [0, 2, 0, 3])
"""
from __future__ import annotations

import functools
import math
import re

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.course.draft import Draft
from seqpe_lab.digits import digits_needed, to_digits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.prefix_tree import PrefixTree, prefix_tree
from seqpe_lab.explorers.panel import Panel, choice, slider, typed

LARGEST = {1: 99_999, 2: 999, 3: 255}  # of a coordinate: its digits in base 2 still fit on the page
FEATURES = 6  # of the vectors shown
SHARED, OWN, OTHER = "#0072B2", "#D55E00", "#777777"


def read_position(text: str) -> tuple[int, ...]:
    """One to three whole numbers as somebody types them.

    Raises:
        ValueError: no number, too many, or one that is negative, broken or too large to draw.
    """
    parts = re.split(r"[\s,;]+", text.strip(" \t()[],;"))
    if not 1 <= len(parts) <= 3 or not all(re.fullmatch("[0-9]{1,18}", part) for part in parts):
        raise ValueError(f"{text!r} is no position: type one to three whole numbers from 0, like 100 or 2, 3 or 1, 20, 7")
    position = tuple(map(int, parts))
    if max(position) > (limit := LARGEST[len(position)]):
        raise ValueError(f"coordinate {max(position):,} is too large to draw: with n = {len(position)} type numbers up to {limit:,}")
    return position


def fitting(position: tuple[int, ...], k: int, base: int) -> int:
    """The digits that a position is drawn with: k, or more where it needs more."""
    return max(k, *(digits_needed(p, base) for p in position))


def written(position: tuple[int, ...], k: int, base: int) -> list[int]:
    """The n*k padded digits, most significant first."""
    return to_digits(torch.tensor(position), k, base).tolist()


def neighbours(position: tuple[int, ...], width: int, along: str, limit: int) -> tuple[Tensor, int]:
    """Positions up to ``width`` away in the "last" or "first" coordinate, within [0, limit): int64 (U, n), ascending; and the row of the position itself."""
    axis = 0 if along == "first" else len(position) - 1
    values = torch.arange(max(0, position[axis] - width), min(limit, position[axis] + width + 1))
    positions = torch.tensor(position).repeat(len(values), 1)
    positions[:, axis] = values
    return positions, int((values == position[axis]).nonzero())


def heights(tree: PrefixTree, row: int) -> Tensor:
    """Where each node of a radix tree stands, float (M,): amid the rows below it; those of one row in a line with it."""
    paths = tree.paths[-1]  # (U, S): [CLS] closes every position, so these are the paths of all
    rows = torch.arange(float(len(paths))).unsqueeze(1).expand(paths.shape)
    height = torch.zeros(len(tree.token)).scatter_reduce(0, paths.flatten(), rows.flatten(), "mean", include_self=False)
    height[paths[row]] = float(row)
    return height


def lookalike(position: tuple[int, ...], k: int, base: int) -> tuple[int, ...]:
    """The farthest position of which a single digit differs, in the last coordinate.

    >>> lookalike((100,), k=5, base=10)
    (90100,)
    """
    *before, p = position
    return *before, max((p + (digit - p // base**j % base) * base**j for j in range(k) for digit in range(base)), key=lambda q: abs(q - p))


def embeddings(k: int, base: int, dims: int) -> dict[str, int]:
    """Rows of the encoder's tables: T (with [CLS]), O, and D, which one dimension does without."""
    return {"T": base + 1, "O": k, "D": dims if dims > 1 else 0}


@functools.lru_cache(maxsize=64)
def vectors(sequence: tuple[int, ...], k: int, base: int, dims: int) -> tuple[Tensor, Tensor, Tensor]:
    """The addends T, O and D of every token and of [CLS], each float (n*k + 1, FEATURES), in an untrained encoder."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder = PositionEncoder(FEATURES, digits=k, base=base, dims=dims, layers=1, heads=1)
    token = encoder.token.weight.detach()[[*sequence, base]]
    place = F.pad(encoder.place.weight.detach().repeat(dims, 1), (0, 0, 0, 1))  # [CLS] has no place
    dimension = F.pad(encoder.dimension.weight.detach().repeat_interleave(k, 0), (0, 0, 0, 1)) if dims > 1 else torch.zeros_like(place)
    return token, place, dimension


def table(text: str, base: int, k: int, along: str, width: int) -> dict[str, list]:
    """The neighbours, their digits, how long a prefix they share with the position, and in how many digits they agree with it."""
    position = read_position(text)
    k = fitting(position, k, base)
    around, row = neighbours(position, width, along, base**k)
    sequences = to_digits(around, k, base)  # (U, n*k)
    same = sequences == sequences[row]
    return {"position": [_name(p) for p in around.tolist()], "digits": [" ".join(map(str, s)) for s in sequences.tolist()],
            "shared prefix": same.cumprod(1).sum(1).tolist(), "digits that agree": same.sum(1).tolist()}


def picture(text: str, base: int, k: int, along: str, width: int) -> go.Figure:
    """The digits and their vectors, the radix tree of the neighbourhood, and the embeddings that both ways need.

    Args:
        text: a position, as typed.
        base, k: b, and the digits a dimension; a position that needs more gets more, and the title says so.
        along: "last" or "first", the coordinate in which the neighbours differ.
        width: how many neighbours on each side.
    """
    position = read_position(text)
    digits, dims = fitting(position, k, base), len(position)
    around, row = neighbours(position, width, along, base**digits)
    sequences = F.pad(to_digits(around, digits, base), (0, 1), value=base)  # closed by [CLS]
    tree, rows, named = prefix_tree(sequences), sum(embeddings(digits, base, dims).values()), base ** (digits * dims)
    pixels = (230, 27 * len(around) + 30, 60)
    figure = Draft(3, 1, row_heights=pixels, vertical_spacing=90 / (sum(pixels) + 180), titles=(
        f"{_name(position)} in base {base}, k = {digits}: every token's vector is U = T + O + D",
        f"{len(around)} positions are {sequences.numel()} tokens but {len(tree.token)} distinct prefixes: the encoder computes each once",
        f"{rows} embeddings name {_count(named)} positions; a lookup table needs one for each"))
    _draw_sum(figure, sequences[row].tolist(), digits, base, dims)
    _draw_tree(figure, tree, row, base, around, table(text, base, k, along, width)["shared prefix"])
    figure.add("bar", x=[float(named), float(rows)], y=["table", "T, O, D"], orientation="h", marker=dict(color=[OTHER, OWN], pattern_shape=["/", ""]), showlegend=False, textposition="outside",
                   text=[_count(named), " + ".join(map(str, embeddings(digits, base, dims).values())) + f" = {rows}"], hovertemplate="%{y}: %{x:,} embeddings<extra></extra>", row=3, col=1)
    longest = math.log10(max(named, rows))
    figure.update_xaxes(type="log", range=[0, 1.25 * longest + 0.5], dtick=math.ceil(longest / 8), exponentformat="power", title="embeddings (rows of d numbers)", row=3, col=1)
    columns = sequences.shape[1]
    for panel in (1, 2):  # the strips stand above the tree, with room for the positions' names on the right
        figure.update_xaxes(range=[-1.3, 1.3 * columns + 0.3], tickvals=list(range(columns)), tickangle=0, showgrid=False, zeroline=False, row=panel)
    figure.layout["annotations"][0]["yshift"] = 22  # the digits are the ticks below it
    above_tree = figure.layout["yaxis2"]["domain"][1] + 26 / (sum(pixels) + 140)
    return figure.finish(_claim(position, digits, base, k), f"digits counted, nothing trained · vectors: {FEATURES} features of an untrained PositionEncoder (normal, std 0.02, seed 0), "
                         "red positive, blue negative, white 0 · tree: seqpe_lab.encoder.prefix_tree", height=sum(pixels) + 345, margin=dict(t=105),
                         legend=dict(orientation="h", x=0, y=above_tree, yanchor="bottom", xanchor="left", itemclick=False))


def _claim(position: tuple[int, ...], digits: int, base: int, k: int) -> str:
    if digits > k:
        return f"{_name(position)} does not fit into k = {k} digit{'s' * (k > 1)} of base {base}: it needs {digits}, and is drawn with them"

    def differing(q):
        return sum(a != b for a, b in zip(written(position, digits, base), written(q, digits, base)))

    *before, p = position
    near, far = max(((*before, q) for q in (p - 1, p + 1) if 0 <= q < base**digits), key=differing), lookalike(position, digits, base)
    gap = abs(far[-1] - p)
    if differing(near) == 1:
        return f"1 away, {_name(near)} differs in 1 digit" + (f"; {_count(gap)} away, so does {_name(far)}" if gap > 1 else "")
    return f"1 away, {_name(near)} differs in {differing(near)} digits; {_count(gap)} away, {_name(far)} differs in 1"


def _draw_sum(figure: Draft, sequence: list[int], k: int, base: int, dims: int) -> None:
    """Four strips of features, a column a token: T + O + D = U."""
    columns, block = len(sequence), FEATURES + 2  # a strip, and two lines for its labels
    names = [[f"T<sub>{'CLS' if s == base else s}</sub>" for s in sequence], [f"O<sub>{j % k}</sub>" for j in range(columns - 1)] + ["0"],
             [f"D<sub>{j // k}</sub>" if dims > 1 else "0" for j in range(columns - 1)] + ["0"], ["U"] * columns]
    addends = vectors(tuple(sequence[:-1]), k, base, dims)
    strips = [F.pad(v.T, (0, 0, 2, 0), value=torch.nan) for v in (*addends, sum(addends))]
    figure.add("heatmap", z=torch.cat(strips).numpy(), colorscale="RdBu_r", zmin=-0.06, zmax=0.06, xgap=3, showscale=False, hovertemplate="%{z:.3f}<extra></extra>", row=1, col=1)
    figure.add("scatter", x=list(range(columns)) * 4, y=[strip * block + 0.4 for strip in range(4) for _ in sequence], text=sum(names, []), mode="text",
                       textfont_size=13 if columns < 18 else 10, showlegend=False, hoverinfo="skip", row=1, col=1)
    closing = "[CLS]" if columns < 18 else "C"
    figure.update_xaxes(ticktext=[f"<b>{s}</b>" for s in sequence[:-1]] + [f"<b>{closing}</b>"], side="top", row=1, col=1)
    figure.update_yaxes(autorange="reversed", tickvals=[strip * block + 4.5 for strip in range(4)], ticktext=["T digit", "+ O place", "+ D dim.", "= U"], showgrid=False, zeroline=False, row=1, col=1)
    powers = ["1", f"{base}", *(f"{base}<sup>{j}</sup>" for j in range(2, k))][:k][::-1]
    figure.update_xaxes(tickfont_size=14 if columns < 18 else 10, ticktext=powers * dims + [closing], row=2, col=1)
    figure.update_xaxes(title="place value of the digit" + ", dimension by dimension" * (dims > 1), title_standoff=4, row=2, col=1)


def _draw_tree(figure: Draft, tree: PrefixTree, row: int, base: int, around: Tensor, shared: list[int]) -> None:
    """Digits as nodes, left to right; one node for all positions that begin alike."""
    paths, level, height = tree.paths[-1], tree.place.tolist(), heights(tree, row).tolist()
    own, passing = set(paths[row].tolist()), paths.flatten().bincount().tolist()
    edges = {(-1, path[0]) for path in paths.tolist()} | {pair for path in paths.tolist() for pair in zip(path, path[1:])}  # -1: the root
    level, height = [*level, -1], [*height, row]
    for is_own in (False, True):
        ends = [end for parent, child in sorted(edges) if (child in own) == is_own for end in (parent, child, None)]
        figure.add("scatter", x=[None if e is None else level[e] for e in ends], y=[None if e is None else height[e] for e in ends], mode="lines", showlegend=False, hoverinfo="skip",
                           line=dict(color=OWN if is_own else "#bbbbbb", width=3 if is_own else 1.5), row=2, col=1)
    groups = {"prefixes shared with neighbours": ([m for m in own if passing[m] > 1], SHARED, SHARED, "#ffffff"),
              f"of {_name(around[row].tolist())} alone": ([m for m in own if passing[m] == 1], OWN, "#ffffff", "#111111"),
              "of neighbours only": ([m for m in range(len(passing)) if m not in own], OTHER, "#ffffff", "#111111")}
    size = 21 if len(paths[row]) < 20 else 17
    for name, (nodes, colour, fill, ink) in groups.items():
        closes = [int(tree.token[m]) == base for m in nodes]
        figure.add("scatter", x=[level[m] for m in nodes], y=[height[m] for m in nodes], mode="markers+text", name=name, text=["" if c else str(int(tree.token[m])) for c, m in zip(closes, nodes)],
                           textfont=dict(color=ink, size=12), hovertemplate="%{text}<extra>" + name + "</extra>", row=2, col=1,
                           marker=dict(size=[12 if c else size for c in closes], symbol=["square" if c else "circle" for c in closes], color=fill, opacity=1,
                                       line=dict(color=colour, width=3 if colour == OWN else 1.5)))
    labels = [f"<b>{_name(p)}</b>" if r == row else f"{_name(p)} shares {shared[r]}" for r, p in enumerate(around.tolist())]
    figure.add("scatter", x=[max(level) + 0.3] * len(labels), y=list(range(len(labels))), text=labels, mode="text", textposition="middle right", showlegend=False, hoverinfo="skip", row=2, col=1)
    figure.update_yaxes(range=[len(labels) - 0.4, -0.6], showticklabels=False, showgrid=False, zeroline=False, title="position", row=2, col=1)


def _name(position) -> str:
    return f"{position[0]:,}" if len(position) == 1 else f"({', '.join(map(str, position))})"


def _count(number: int) -> str:
    """In full up to a hundred million."""
    power = len(str(number)) - 1
    return f"{number:,}" if power < 8 else f"{number / 10**power:.1f}·10<sup>{power}</sup>"


def words(text: str, base: int, k: int, along: str, width: int) -> str:
    """The count of embeddings, with what it leaves out."""
    position = read_position(text)
    rows = embeddings(fitting(position, k, base), base, len(position))
    dimension = f"D {rows['D']} (n dimensions)" if rows["D"] else "and D none, because the paper fixes it at 0 for n = 1"
    return (f"T has {rows['T']} rows (b digits and [CLS]), O {rows['O']} (k places), {dimension}. Not counted are the weights of the encoder that reads them, a fixed cost (lesson 03). "
            "“96 shares 2” means that the first two digits are the same. "
            "Digits name positions and do not measure distances: a carry changes many of them at once, and a single leading digit moves a position far. L_δ has to teach the distances (lesson 05).")


def explore() -> Panel:
    """The panel: type a position, choose its number system."""
    return Panel("Digits", "Type a position. Its digits are all that SeqPE reads: see which neighbours begin alike, and how far away a look-alike can be.", picture, {
        "text": typed("position", "one to three whole numbers: 100 (text), or 2, 3 (an image patch), or 1, 20, 7", "100"),
        "base": slider("base b", "how many different digits there are; the paper uses 10", 2, 16, 10),
        "k": slider("digits k", "digits of each dimension, padded with zeros on the left; the paper uses 5 for text, 2 for images", 1, 8, 5),
        "along": choice("neighbours differ in", "which coordinate of a 2-D or 3-D position moves", [("the last coordinate", "last"), ("the first coordinate", "first")], "last"),
        "width": slider("neighbours on each side", "how many positions before and after are drawn", 1, 7, 4),
    }, words=words, table=table, file="neighbours")
