"""Digits: the digit sequence of a position, its vectors, and what neighbours share with it.

>>> figure = explorer().draw(compute(State("(2, 3)", k=2)))  # the patch of Fig. 1
>>> figure.layout.title.text.replace(" <br>", " ")
'1 away, (2, 2) differs in 1 digit; 90 away, (2, 93) differs in 1'
"""
from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from seqpe_lab.digits import digits_needed, to_digits
from seqpe_lab.explorers.digits_vectors import (MOST_BASE, STRIP, TRAINED, WIDEST, encoder,
                                                index_of, is_taught, near, reach, strip, tables)
from seqpe_lab.explorers.drawing import BARE, QUIET, each_of, either, heading
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import choice, number, text

LARGEST = {1: 99_999, 2: 999, 3: 255}  # dimensions: largest coordinate (fits in base 2)


@dataclass(frozen=True)
class State:
    """A position, its number system, and which neighbours are shown."""
    text: str = text("100", "position", "one to three whole numbers: 100 (text), or 2, 3 (an image "
                     "patch), or 1, 20, 7")
    base: int = number(10, "base b", "how many different digits there are; the paper uses 10",
                       min=2, max=MOST_BASE)
    k: int = number(5, "digits k", "digits of each dimension, padded with zeros on the left; the "
                    "paper uses 5 for text, 2 for images", min=1, max=8)
    width: int = number(4, "neighbours", "how many positions before and after are drawn", min=1,
                        max=WIDEST)
    along: str = choice("last", "differ in", "which coordinate of a 2-D or 3-D position moves",
                        {"last": "the last coordinate", "first": "the first coordinate"})


def compute(state: State) -> SimpleNamespace:
    """Read the position, and write it and its neighbours as digits."""
    position, base = read_position(state.text), state.base
    k, dims = max(state.k, *(digits_needed(p, base) for p in position)), len(position)
    axis = 0 if state.along == "first" else dims - 1
    around, row = neighbours(position, state.width, axis, base**k)
    sequences = to_digits(torch.tensor(around), k, base).tolist()
    own, columns = sequences[row], dims * k + 1
    agree = [[a == b for a, b in zip(other, own)] for other in sequences]
    taught = is_taught(position, base, k)
    encoders = ["untrained", "trained"] if taught else ["untrained"]
    nodes = prefixes([[*digits, base] for digits in sequences], row)
    rows, named = {"T": base + 1, "O": k, "D": dims if dims > 1 else 0}, base ** (k * dims)
    total = sum(rows.values())
    longest = math.log10(max(named, total))
    pixels = [*[150] * len(encoders), 27 * len(around) + 20, *[110] * taught, 50]
    domains, height = stacked(pixels, 96)
    return SimpleNamespace(
        state=state, k=k, name=name_of(position), row=row, asked=plural(state.k),
        raised=k > state.k, **rivals(position, k, base),
        neighbours=[{"name": name_of(p), "at": p[axis], "row": i, "own": i == row,
                     "digits": " ".join(map(str, digits)), "agree": sum(same),
                     "shared": [*same, False].index(False)}  # length of the prefix
                    for i, (p, digits, same) in enumerate(zip(around, sequences, agree))],
        tokens=[{"digit": s, "column": j, "place": j % k, "dimension": j // k,
                 "power": power(base, k - 1 - j % k), "many": dims > 1, "read": True}
                for j, s in enumerate(own)] + [{"digit": "CLS", "column": columns - 1,
                                                "power": "CLS", "read": False, "many": False}],
        strips=[strip(name, tables(name, dims), [*own, base], k, dims) | {"domain": domain}
                for name, domain in zip(encoders, domains)],
        cosines=[{"name": name, "trained": name == "trained",
                  "y": near(name, dims, axis)[index_of(position, dims)][
                      WIDEST - row:WIDEST - row + len(around)]} for name in encoders if taught],
        edges=edges(nodes, row), nodes=groups(nodes, base), distinct=len(nodes),
        untaught=not taught, rows=rows, total=total, named=float(named), count=count(named),
        around=len(around), tokens_around=len(around) * columns,
        ends={"columns": [-1.0, columns - 0.4], "tree": [len(around) - 0.4, -0.6],
              "counts": [0.0, 1.25 * longest + 0.5], "step": math.ceil(longest / 8)},
        domains={"tree": domains[len(encoders)], "cosines": domains[-2], "counts": domains[-1]},
        legend=domains[len(encoders)][1] + 4 / (height - 120), height=height)


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


def neighbours(position: tuple[int, ...], width: int, axis: int,
               limit: int) -> tuple[list[tuple[int, ...]], int]:
    """Positions up to ``width`` away in one coordinate, within [0, limit), and the own row."""
    values = range(max(0, position[axis] - width), min(limit, position[axis] + width + 1))
    return [(*position[:axis], p, *position[axis + 1:]) for p in values], \
        values.index(position[axis])


def prefixes(sequences: Sequence[Sequence[int]], row: int) -> dict[tuple[int, ...], dict]:
    """The tree: each distinct prefix with its place, token, sequences that begin so, and height.

    The height is the mean of the rows; prefixes of the sequence ``row`` lie on a line.
    """
    nodes: dict[tuple[int, ...], dict] = {}
    for line, sequence in enumerate(sequences):
        for place, token in enumerate(sequence):
            nodes.setdefault(tuple(sequence[:place + 1]), {
                "place": place, "token": token, "rows": []})["rows"].append(line)
    for node in nodes.values():
        node["own"] = row in node["rows"]
        node["height"] = float(row) if node["own"] else sum(node["rows"]) / len(node["rows"])
    return nodes


def edges(nodes: dict, row: int) -> list[dict[str, Any]]:
    """Lines from each prefix to the longer ones: first those of others, then the position's."""
    lines: list[dict[str, Any]] = [{"own": own, "x": [], "y": []} for own in (False, True)]
    for prefix, node in nodes.items():
        before = nodes.get(prefix[:-1], {"place": -0.6, "height": float(row)})
        line = lines[node["own"]]
        line["x"] += [before["place"], node["place"], None]
        line["y"] += [before["height"], node["height"], None]
    return lines


def groups(nodes: dict, base: int) -> dict[str, list[dict[str, Any]]]:
    """The nodes by who shares them."""
    drawn: dict[str, list] = {group: [] for group in GROUPS}
    for node in nodes.values():
        shared, ends = len(node["rows"]) > 1, node["token"] == base
        drawn["others" if not node["own"] else "shared" if shared else "own"].append({
            "x": node["place"], "y": node["height"], "text": "" if ends else str(node["token"]),
            "size": 12 if ends else 18, "symbol": "square" if ends else "circle"})
    return drawn


def rivals(position: tuple[int, ...], k: int, base: int) -> dict[str, dict[str, str]]:
    """The neighbour with more different digits, and a far position with one: for the title."""
    def differing(other: tuple[int, ...]) -> int:
        pair = to_digits(torch.tensor([position, other]), k, base)
        return int((pair[0] != pair[1]).sum())

    *before, p = position
    beside = [(*before, q) for q in (p - 1, p + 1) if 0 <= q < base**k]
    near, far = max(beside, key=differing), look_alike(position, k, base)
    return {"near": {"name": name_of(near), "digits": plural(differing(near))},
            "far": {"name": name_of(far), "away": count(abs(far[-1] - p))}}


def look_alike(position: tuple[int, ...], k: int, base: int) -> tuple[int, ...]:
    """The farthest position that differs in a single digit of the last coordinate.

    >>> look_alike((100,), k=5, base=10)
    (90100,)
    """
    *before, p = position
    one_off = (p + (new - p // base**j % base) * base**j for j in range(k) for new in range(base))
    return *before, max(one_off, key=lambda q: abs(q - p))


def name_of(position: Sequence[int]) -> str:
    return f"{position[0]:,}" if len(position) == 1 else f"({', '.join(map(str, position))})"


def plural(digits: int) -> str:
    return f"{digits} digit{'s' * (digits > 1)}"


def power(base: int, exponent: int) -> str:
    return str(base**exponent) if exponent < 2 else f"{base}<sup>{exponent}</sup>"


def count(number: int) -> str:
    """In full up to a hundred million."""
    if number < 10**8:
        return f"{number:,}"
    mantissa, exponent = f"{number:.1e}".split("e+")
    return f"{mantissa}·10<sup>{int(exponent)}</sup>"


def stacked(pixels: Sequence[int], gap: int) -> tuple[list[list[float]], int]:
    """The domains of plots one above the other, of these heights, and the height of them all."""
    whole, top, domains = sum(pixels) + gap * (len(pixels) - 1), 0, []
    for part in pixels:
        domains.append([1 - (top + part) / whole, 1 - top / whole])
        top += part + gap
    return domains, whole + 120


SHARED, OWN, OTHER = "#0072B2", "#D55E00", "#777777"
RED_BLUE = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]
GROUPS = {"shared": ("prefixes shared with neighbours", SHARED, SHARED, "#ffffff", 1.5),
          "own": ("of {name} alone", OWN, "#f7d9c4", "#222222", 3),
          "others": ("of neighbours only", OTHER, "#e6e6e6", "#222222", 1.5)}
ON_STRIP = dict(each="strips", xaxis="x{nth}", yaxis="y{nth}")  # at most two
ON_TREE, ON_COUNTS = dict(xaxis="x3", yaxis="y3"), dict(xaxis="x5", yaxis="y5")
LABELS = ("T<sub>{digit}</sub>", {"when": "read", "value": "O<sub>{place}</sub>", "else": "0"},
          {"when": "many", "value": "D<sub>{dimension}</sub>", "else": "0"}, "U")


PICTURE = {
    "data": [
        dict(ON_STRIP, type="heatmap", z="@z", zmin="@low", zmax="@high", xgap=3,
             colorscale=RED_BLUE, showscale=False, hovertemplate="%{z:.3f}<extra></extra>"),
        dict(ON_STRIP, type="scatter", x=[each_of("tokens", "@column")] * 4,
             y=[each_of("tokens", n * STRIP + 0.4) for n in range(4)],
             text=[each_of("tokens", label) for label in LABELS], mode="text",
             textfont=dict(size=11, color="#111111"), cliponaxis=False, **QUIET),
        dict(ON_TREE, each="edges", type="scatter", x="@x", y="@y", mode="lines", **QUIET,
             line=dict(color={"when": "own", "value": OWN, "else": "#bbbbbb"},
                       width={"when": "own", "value": 3, "else": 1.5})),
        *(dict(ON_TREE, type="scatter", x=f"@nodes.{group}.*.x", y=f"@nodes.{group}.*.y", name=name,
               text=f"@nodes.{group}.*.text", mode="markers+text", cliponaxis=False,
               textfont=dict(color=ink, size=12),
               marker=dict(size=f"@nodes.{group}.*.size", symbol=f"@nodes.{group}.*.symbol",
                           color=fill, opacity=1, line=dict(color=edge, width=width)),
               hovertemplate=f"%{{text}}<extra>{name}</extra>")
          for group, (name, edge, fill, ink, width) in GROUPS.items()),
        dict(each="cosines", type="scatter", xaxis="x4", yaxis="y4", y="@y", name="{name}",
             x="@neighbours.*.at", mode="lines+markers", showlegend=False,
             line=dict(dash={"when": "trained", "value": "solid", "else": "dot"},
                       color={"when": "trained", "value": OWN, "else": OTHER}),
             hovertemplate="{name}, %{x}: %{y:.3f}<extra></extra>"),
        dict(ON_COUNTS, type="bar", orientation="h", x=["@named", "@total"], y=["table", "T, O, D"],
             text=["{count}", "{rows.T} + {rows.O} + {rows.D} = {total}"], showlegend=False,
             marker=dict(color=[OTHER, OWN]), textposition="outside", cliponaxis=False,
             hovertemplate="%{y}: %{x:,} embeddings<extra></extra>")],
    "layout": {
        "height": "@height",
        "margin": dict(t=70, l=80, r=20, b=50),
        "uirevision": "{name} {k} {state.base} {state.width} {state.along}",
        "legend": dict(orientation="h", x=0, xanchor="left", y="@legend", yanchor="bottom",
                       itemclick=False),
        "xaxis{nth}": dict(each="strips", range="@ends.columns", side="top", tickangle=0,
                           tickvals="@tokens.*.column", anchor="y{nth}",
                           ticktext=[each_of("tokens", "<b>{digit}</b>")], **BARE),
        "yaxis{nth}": dict(each="strips", domain="@domain", autorange="reversed", anchor="x{nth}",
                           tickvals=[4.5, 12.5, 20.5, 28.5],
                           ticktext=["T digit", "+ O place", "+ D dim.", "= U"], **BARE),
        "xaxis3": dict(range="@ends.columns", tickvals="@tokens.*.column",
                       ticktext="@tokens.*.power", tickangle=0, anchor="y3", **BARE,
                       title=dict(standoff=4, text={"join": [
                           "place value of the digit<br>{around} positions: ",
                           "{tokens_around} tokens,", either("<br>", " "),
                           "{distinct} distinct prefixes"]})),
        "yaxis3": dict(domain="@domains.tree", range="@ends.tree", side="right", anchor="x3",
                       tickvals="@neighbours.*.row", fixedrange=True,
                       ticktext=[dict(each="neighbours", when="own", value="<b>{name}</b>",
                                      **{"else": "{name} shares {shared}"})],
                       title=dict(text="position"), **BARE),
        "xaxis4": dict(when="cosines", anchor="y4", title=dict(text="neighbour", standoff=4),
                       tickformat=",d"),
        "yaxis4": dict(when="cosines", domain="@domains.cosines", anchor="x4",
                       title=dict(text="cosine")),
        "xaxis5": dict(type="log", range="@ends.counts", dtick="@ends.step", anchor="y5",
                       exponentformat="power",
                       title=dict(text="embeddings (rows of d numbers)", standoff=4)),
        "yaxis5": dict(domain="@domains.counts", anchor="x5"),
        "annotations": [
            heading("<b>{name}</b> encoder: U = T + O + D", x=0, xanchor="left", yshift=22,
                    each="strips"),
            heading("cosine with {name}; dotted: untrained", "4", x=0, xanchor="left",
                    when="cosines"),
            heading("{total} embeddings name {count} positions", "5", x=0, xanchor="left")]},
    "table": {"position": "@neighbours.*.name",
              "digits": "@neighbours.*.digits",
              "shared prefix": "@neighbours.*.shared",
              "digits that agree": "@neighbours.*.agree"},
}


def stored() -> dict[str, Any]:
    """For the page: the tables of the encoders, and the cosines of their vectors."""
    return {"tables": {"untrained": {n: tables("untrained", n) for n in LARGEST},
                       "trained": {n: tables("trained", n) for n in TRAINED}},
            "near": {name: {n: [near(name, n, axis).astype(np.float16) for axis in range(n)]
                            for n in TRAINED} for name in ("untrained", "trained")},
            "taught": {n: {"k": encoder(n).digits, "reach": reach(n)} for n in TRAINED},
            "largest": LARGEST}


def explorer() -> Explorer:
    """Type a position, choose its number system."""
    taught = "; ".join(f"n = {n}, k = {encoder(n).digits}, positions up to {reach(n) - 1:,}"
                       for n in TRAINED)
    return Explorer("digits", State, compute, PICTURE, {"TAUGHT": taught}, stored=stored)
