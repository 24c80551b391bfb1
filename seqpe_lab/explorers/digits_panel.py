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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqpe_lab.digits import digits_needed, to_digits
from seqpe_lab.explorers.digits_picture import GROUPS, TEMPLATE, TOUR
from seqpe_lab.explorers.digits_vectors import (MOST_BASE, TRAINED, WIDEST, encoder, encoders_for,
                                                index_of, near, reach, strip, tables)
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


@dataclass(frozen=True)
class Numbers:
    """A position among its neighbours."""
    state: State
    k: int  # digits a dimension that are drawn
    name: str
    claim: str  # the title: a neighbour with many different digits, a far one with one
    names: list[str]  # the names of the neighbours and of the position itself, ascending
    row: int  # of the position among them
    sequences: list[list[int]]  # their digits, and the base as the token [CLS]
    shared: list[int]  # length of the digit prefix that each neighbour shares with the position
    agree: list[int]  # digits that are the same
    strips: list[dict[str, Any]]  # T, O, D and their sum, of an untrained and a trained encoder
    edges: list[dict[str, Any]]  # of the tree: those of others, then of the position
    groups: list[dict[str, Any]]  # of its nodes
    distinct: int  # prefixes
    cosines: list[dict[str, Any]]  # of the vectors, before and after training
    untaught: str  # why there is no trained encoder
    rows: dict[str, int]  # of the tables T (with [CLS]), O, and D (none if n = 1)
    total: int  # of these
    counts: list[dict[str, Any]]  # embeddings of a table, and of T, O, D
    ticks: dict[str, list[str]]
    ends: dict[str, Any]  # of axes
    domains: dict[str, list[float]]  # of the vertical axes of tree, cosines and counts
    legend: float  # its place
    height: int

    digits = property(lambda self: [" ".join(map(str, s[:-1])) for s in self.sequences])
    columns = property(lambda self: list(range(len(self.sequences[0]))))
    places = property(lambda self: list(range(len(self.sequences))))
    around = property(lambda self: len(self.sequences))
    tokens = property(lambda self: len(self.sequences) * len(self.sequences[0]))


def compute(state: State) -> Numbers:
    """Read the position, and write it and its neighbours as digits."""
    position, base = read_position(state.text), state.base
    k, dims = max(state.k, *(digits_needed(p, base) for p in position)), len(position)
    axis = 0 if state.along == "first" else dims - 1
    around, row = neighbours(position, state.width, axis, base**k)
    sequences = [[*digits, base] for digits in to_digits(torch.tensor(around), k, base).tolist()]
    own, columns = sequences[row], dims * k + 1
    agree = [[a == b for a, b in zip(other, own[:-1])] for other in sequences]
    shared = [[*same, False].index(False) for same in agree]
    names, name = [name_of(p) for p in around], name_of(position)
    encoders, untaught = encoders_for(position, base, k)
    strips = [strip(encoder, tables(encoder, dims), own, k, dims) for encoder in encoders]
    cosines = [{"name": encoder, "trained": encoder == "trained", "x": [p[axis] for p in around],
                "y": near(encoder, dims, axis)[index_of(position, dims)][
                    WIDEST - row:WIDEST - row + len(around)]}
               for encoder in encoders if len(encoders) > 1]
    nodes = prefixes(sequences, row)
    rows, named = {"T": base + 1, "O": k, "D": dims if dims > 1 else 0}, base ** (k * dims)
    total = sum(rows.values())
    longest = math.log10(max(named, total))
    pixels = [*[150] * len(strips), 27 * len(around) + 20, *[110] * len(cosines[:1]), 50]
    domains, height = stacked(pixels, 96)
    for drawn, domain in zip(strips, domains):
        drawn["domain"] = domain
    powers = ["1", f"{base}", *(f"{base}<sup>{j}</sup>" for j in range(2, k))][:k][::-1]
    return Numbers(
        state, k, name, claim(state, position, k), names, row, sequences, shared,
        [sum(same) for same in agree], strips, edges(nodes, row), groups(nodes, base, name),
        len(nodes), cosines, untaught, rows, total,
        [{"name": "table", "value": float(named), "text": count(named)},
         {"name": "T, O, D", "value": float(total),
          "text": f"{rows['T']} + {rows['O']} + {rows['D']} = {total}"}],
        {"digits": [*(f"<b>{s}</b>" for s in own[:-1]), "<b>CLS</b>"],
         "powers": [*powers * dims, "CLS"],
         "leaves": [f"<b>{name}</b>" if i == row else f"{other} shares {n}"
                    for i, (other, n) in enumerate(zip(names, shared))]},
        {"columns": [-1.0, columns - 0.4], "tree": [len(around) - 0.4, -0.6],
         "counts": [0.0, 1.25 * longest + 0.5], "step": math.ceil(longest / 8)},
        {"tree": domains[len(strips)], "cosines": domains[-2], "counts": domains[-1]},
        domains[len(strips)][1] + 4 / (height - 120), height)


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


def groups(nodes: dict, base: int, name: str) -> list[dict[str, Any]]:
    """The nodes by who shares them, each group with its look."""
    def kind(node: dict) -> int:
        return (0 if len(node["rows"]) > 1 else 1) if node["own"] else 2

    drawn = []
    for group, look in enumerate(GROUPS):
        members = [node for node in nodes.values() if kind(node) == group]
        closes = [node["token"] == base for node in members]
        drawn.append(look | {
            "name": look["name"].format(name=name), "x": [node["place"] for node in members],
            "y": [node["height"] for node in members],
            "text": ["" if c else str(node["token"]) for c, node in zip(closes, members)],
            "size": [12 if c else 18 for c in closes],
            "symbol": ["square" if c else "circle" for c in closes]})
    return drawn


def claim(state: State, position: tuple[int, ...], k: int) -> str:
    """A neighbour with many different digits, and a far position with only one."""
    if k > state.k:
        return (f"{name_of(position)} does not fit into k = {state.k} digit"
                f"{'s' * (state.k > 1)} of base {state.base}: it needs {k}, and is drawn with them")

    def differing(other: tuple[int, ...]) -> int:
        pair = to_digits(torch.tensor([position, other]), k, state.base)
        return int((pair[0] != pair[1]).sum())

    *before, p = position
    beside = [(*before, q) for q in (p - 1, p + 1) if 0 <= q < state.base**k]
    near, far = max(beside, key=differing), look_alike(position, k, state.base)
    off = differing(near)
    return (f"1 away, {name_of(near)} differs in {off} digit{'s' * (off > 1)}; "
            f"{count(abs(far[-1] - p))} away, {name_of(far)} differs in 1")


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


def count(number: int) -> str:
    """In full up to a hundred million."""
    if number < 10**8:
        return f"{number:,}"
    mantissa, power = f"{number:.1e}".split("e+")
    return f"{mantissa}·10<sup>{int(power)}</sup>"


def stacked(pixels: Sequence[int], gap: int) -> tuple[list[list[float]], int]:
    """The domains of plots one above the other, of these heights, and the height of them all."""
    whole, top, domains = sum(pixels) + gap * (len(pixels) - 1), 0, []
    for part in pixels:
        domains.append([1 - (top + part) / whole, 1 - top / whole])
        top += part + gap
    return domains, whole + 120


def stored() -> dict[str, Any]:
    """For the page: the tables of the encoders, and the cosines of their vectors."""
    dims = tuple(LARGEST)
    return {"tables": {"untrained": {n: tables("untrained", n) for n in dims},
                       "trained": {n: tables("trained", n) for n in TRAINED}},
            "near": {name: {n: [near(name, n, axis).astype(np.float16) for axis in range(n)]
                            for n in TRAINED} for name in ("untrained", "trained")},
            "taught": {n: {"k": encoder(n).digits, "reach": reach(n)} for n in TRAINED},
            "groups": list(GROUPS), "largest": LARGEST}


def explorer() -> Explorer:
    """Type a position, choose its number system."""
    return Explorer("digits", "Digits", "Type a position. Its digits are all that SeqPE reads: see "
                    "which neighbours begin alike, and how far away a look-alike can be.", State,
                    compute, TEMPLATE, TOUR, file="neighbours", stored=stored,
                    scripts=(Path(__file__).with_name("digits.js"),))
