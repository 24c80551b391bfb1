"""Drawings of SeqPE itself: digits, its prefixes, the encoder, and the whole."""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.course.drawings_canvas import SMALL, Canvas
from seqpe_lab.digits import to_digits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.prefix_tree import prefix_tree


def overview() -> Canvas:
    """The paper's Fig. 1."""
    row, column = patch = (2, 3)
    canvas = Canvas(
        "SeqPE: from a position to attention",
        f"The patch in row {row}, column {column} of a 4 x 4 grid is written as the digits 0 2 and "
        "0 3, ended by a [CLS] token. The position encoder turns them into one vector. The "
        "projection W_PE makes a query part and a key part of it, which attention takes in by sum, "
        "mul or bias. Two losses train the encoder: L_delta, that near positions get similar "
        "vectors, and L_OOD, that positions beyond the training context keep its pattern.", 590)
    canvas.cells(28, 38, [[0.8 * ((r, c) == patch) for c in range(4)] for r in range(4)], 22)
    canvas.text(72, 26, "4 × 4 patches", size=SMALL, colour="quiet")
    canvas.arrow(122, 82, 160, 82)
    canvas.text(318, 26, f"patch ({row}, {column}), two digits each", size=SMALL, colour="quiet")
    digits = to_digits(torch.tensor([patch]), digits=2)[0].tolist()
    for group, (name, colour) in enumerate([("row", "blue"), ("column", "green")]):
        canvas.tiles(170 + 92 * group, 60, digits[2 * group:2 * group + 2], colour, 40, 40)
        canvas.text(212 + 92 * group, 120, name, size=SMALL, colour="quiet")
    canvas.box(364, 60, 74, 40, "[CLS]", "orange")
    canvas.arrow(312, 130, 312, 156)
    canvas.box(170, 158, 280, 52, "position encoder\nsmall causal Transformer", "blue", 0.2)
    canvas.arrow(312, 212, 312, 238)
    canvas.cells(226, 240, _shares(untrained(torch.tensor([patch]), 8)), 21, "orange", 26)
    canvas.text(402, 259, f"e_{{({row},{column})}}", "start")
    for x, width, name, does in [
            (12, 200, "L_δ", "near positions:\nsimilar vectors"),
            (268, 200, "L_{OOD}", "positions beyond the\ntraining: same pattern")]:
        canvas.arrow(226 if x < 100 else 394, 268, x + width / 2, 304, "pink")
        canvas.box(x, 306, width, 74, "", "pink")
        canvas.text(x + width / 2, 330, name, bold=True)
        canvas.text(x + width / 2, 352, does, size=SMALL)
    canvas.arrow(240, 268, 240, 414)
    canvas.box(140, 416, 200, 34, "projection W_{PE}", "green")
    canvas.text(352, 438, "e^q and e^k", "start")
    canvas.arrow(240, 452, 240, 474)
    canvas.box(12, 476, 456, 70, "", "quiet", 0.08)
    canvas.text(240, 497, "attention score of query i and key j", size=SMALL, colour="quiet")
    for place, (name, what) in enumerate([("sum", "(q + e^q) · (k + e^k)"),
                                          ("mul", "(q ⊙ e^q) · (k ⊙ e^k)"),
                                          ("bias", "q · k + e^q · e^k")]):
        canvas.text(92 + 152 * place, 518, name, bold=True)
        canvas.text(92 + 152 * place, 538, what, size=SMALL)
    canvas.text(240, 574, "trained together: L = L_{main} + α L_δ + β L_{OOD}")
    return canvas


def digits_and_places() -> Canvas:
    """1234, padded to five digits, and its place values."""
    shown, base, places = 1234, 10, 5
    others = [7, 70, 10345]
    canvas = Canvas(
        "Each digit has its place",
        f"{shown:,} is written as 0 1 2 3 4: five digits, padded with a zero on the left. Below "
        "each digit stands its place value and its part of the sum. In the numbers below, ones "
        "always stand in the last column, tens in the one before.", 400)
    values = [base**(places - 1 - place) for place in range(places)]
    columns = [90 + 72 * place for place in range(places)]

    def write(position: int, y: float, fill: float) -> list[int]:
        digits = to_digits(torch.tensor([[position]]), digits=places)[0].tolist()
        written = len(str(position))
        for place, (x, digit) in enumerate(zip(columns, digits)):
            padded = place < places - written
            canvas.tiles(x, y, [digit], "quiet" if padded else "blue", 52, 44,
                         fill=0.05 if padded else fill, size=20)
        canvas.text(80, y + 29, f"{position:,}", "end")
        return digits

    canvas.text(columns[0] + 26, 24, "padding", size=SMALL, colour="quiet")
    digits = write(shown, 36, 0.25)
    canvas.text(70, 104, "place", "end", SMALL, "quiet")
    canvas.text(70, 128, "part", "end", SMALL, "quiet")
    for x, digit, value in zip(columns, digits, values):
        canvas.text(x + 26, 104, f"× {value:,}", size=SMALL, colour="quiet")
        canvas.text(x + 26, 128, f"{digit * value:,}", size=SMALL)
    total = sum(digit * value for digit, value in zip(digits, values))
    parts = " + ".join(f"{digit * value:,}" for digit, value in zip(digits, values))
    canvas.text(270, 160, f"{parts} = {total:,}")
    canvas.text(270, 200, "the same place always stands in the same column",
                size=SMALL, colour="quiet")
    for line, position in enumerate(others):
        write(position, 216 + 56 * line, 0.12)
    return canvas


def shared_prefixes() -> Canvas:
    """Five positions and the tree of their prefixes."""
    positions = torch.tensor([[104], [120], [121], [127], [230]])
    tree = prefix_tree(to_digits(positions, digits=3))
    nodes, tokens = len(tree.token), 3 * len(positions)
    canvas = Canvas(
        "Each shared prefix is computed once",
        f"A tree of the positions {', '.join(map(str, positions.flatten().tolist()))}. Those that "
        "begin with 1 share the first node, those that begin with 12 also the second: "
        f"{nodes} states instead of {tokens}.", 330)
    leaves = tree.complete.tolist()
    below = {node: [leaf for leaf, path in enumerate(leaves) if node in path]
             for node in range(nodes)}
    at = {node: (130 + 76 * sum(under) / len(under), 52 + 84 * int(tree.place[node]))
          for node, under in below.items()}
    for level, name in enumerate(("hundreds", "tens", "ones")):
        canvas.text(12, 57 + 84 * level, name, "start", SMALL, "quiet")
    for node, path in enumerate(tree.path.tolist()):
        if tree.place[node]:
            (x0, y0), (x1, y1) = at[path[int(tree.place[node]) - 1]], at[node]
            canvas.line([(x0, y0 + 19), (x1, y1 - 19)], width=2)
    for node, (x, y) in at.items():
        shared = len(below[node]) > 1
        canvas.tiles(x - 19, y - 19, [int(tree.token[node])], "orange" if shared else "blue", 38,
                     38, fill=0.3 if shared else 0.12)
    for leaf, position in enumerate(positions.flatten().tolist()):
        canvas.text(130 + 76 * leaf, 262, str(position), bold=True)
    canvas.text(12, 262, "position", "start", SMALL, "quiet")
    canvas.box(90, 288, 16, 16, "", "orange", 0.3)
    canvas.text(114, 301, f"shared: {nodes} states instead of 3 × {len(positions)} = {tokens}",
                "start", SMALL)
    return canvas


def encoder() -> Canvas:
    """Digits, their two embeddings, two causal layers, and the state of the last token."""
    position, digits = 1234, 5
    tokens = [*map(str, to_digits(torch.tensor([[position]]), digits)[0].tolist()), "[CLS]"]
    canvas = Canvas(
        "The position encoder",
        f"Position {position:,} as the tokens {' '.join(tokens)}. Each token's embedding T and the "
        "embedding O of its place are added. In two causal layers each token sees itself and the "
        "tokens to its left. The state of the last token, [CLS], which has seen all digits, is "
        "normalised and mapped to the position's vector.", 530)
    columns = [122 + 64 * place for place in range(len(tokens))]
    levels = [214, 296, 378]
    canvas.text(12, 45, "token", "start", SMALL, "quiet")
    canvas.text(12, 97, "T[token]", "start", SMALL)
    canvas.text(12, 141, "+ O[place]", "start", SMALL)
    for place, (x, token) in enumerate(zip(columns, tokens)):
        last = place == digits
        canvas.tiles(x - 26, 20, [token], "orange" if last else "blue", 52, 40, fill=0.2)
        canvas.box(x - 26, 76, 52, 32, f"T_{{{token}}}", "orange" if last else "blue", size=SMALL)
        if not last:
            canvas.box(x - 26, 120, 52, 32, f"O_{place}", "green", size=SMALL)
        canvas.arrow(x, 154 if not last else 110, x, levels[0] - 11, width=1.5, head=7)
    for name, low, high in zip(("layer 1", "layer 2"), levels, levels[1:]):
        canvas.text(12, (low + high) / 2 + 5, name, "start", SMALL, "quiet")
        for to, x1 in enumerate(columns):
            for x0 in columns[:to + 1]:
                last = to == digits
                canvas.line([(x0, low + 9), (x1, high - 9)], "orange" if last else "quiet",
                            2 if last else 1, opacity=0.9 if last else 0.5)
    for level in levels:
        for place, x in enumerate(columns):
            canvas.dot(x, level, 8, "orange" if place == digits else "blue", 0.5)
    canvas.arrow(columns[-1], levels[-1] + 10, columns[-1], 420, "orange")
    canvas.box(290, 422, 178, 34, "LayerNorm, linear", "orange", size=SMALL)
    canvas.arrow(380, 458, 380, 480, "orange")
    canvas.cells(296, 482, _shares(untrained(torch.tensor([[position]]), 8)), 21, "orange", 26)
    canvas.text(282, 502, f"e_{{{position:,}}}", "end")
    canvas.text(12, 428, "Causal: a state depends\nonly on the digits up to\nits own, so positions"
                "\nwith the same first\ndigits share states.", "start", SMALL, "quiet")
    return canvas


def untrained(positions: Tensor, d_model: int) -> Tensor:
    """Vectors of an encoder with random weights, always the same ones, normalised: (m, d)."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        vectors = PositionEncoder(d_model, dims=positions.shape[-1], heads=2)(positions)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _shares(vectors: Tensor) -> list[list[float]]:
    """Numbers as strengths of heat cells: the smallest 0.1, the largest 0.9."""
    low, high = vectors.aminmax()
    return (0.1 + 0.8 * (vectors - low) / (high - low)).tolist()
