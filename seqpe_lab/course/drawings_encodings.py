"""Drawings of the encodings: how each of them tells attention where a token stands."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from seqpe_lab.course.drawings_canvas import SMALL, Canvas, number
from seqpe_lab.encodings.absolute import Learned, sinusoidal_vectors
from seqpe_lab.encodings.alibi import alibi_slopes
from seqpe_lab.encodings.distance_biases import FIRE, T5, KerpleLog
from seqpe_lab.encodings.rotary import rotary_angles, rotary_frequencies


def integration() -> Canvas:
    """Sum, mul and bias with vectors of two features, and the score that each gives."""
    q, of_q, k, of_k = (torch.tensor(values) for values in ((1, 2), (3, -1), (2, 1), (1, 2)))
    ways = {"sum": (q + of_q, k + of_k, "q + e^q"), "mul": (q * of_q, k * of_k, "q ⊙ e^q"),
            "bias": (torch.cat([q, of_q]), torch.cat([k, of_k]), "[q; e^q]")}
    scores = {name: int(of_query @ of_key) for name, (of_query, of_key, _) in ways.items()}
    canvas = Canvas(
        "Three ways to bring a position vector into attention",
        f"A query q = {q.tolist()} with its position part {of_q.tolist()}, and a key k = "
        f"{k.tolist()} with {of_k.tolist()}. Sum adds the parts, mul multiplies them feature by "
        "feature, bias appends them. The score is the dot product of the results: "
        + ", ".join(f"{name} {score}" for name, score in scores.items()) + ".", 440)

    def vector(x: float, y: float, values: Sequence[int], parts: int) -> None:
        """Cells with numbers: the first ``parts`` belong to the content, the others to e."""
        for place, value in enumerate(values):
            canvas.tiles(x + 34 * place, y, [number(value, 0)],
                         "blue" if place < parts else "orange", 32, 32)

    for x, names, content, position in ((24, ("q", "e^q"), q, of_q), (270, ("k", "e^k"), k, of_k)):
        canvas.text(x + 62, 24, "query i" if x < 100 else "key j", bold=True)
        for y, name, values, own in ((36, names[0], content, 2), (76, names[1], position, 0)):
            canvas.text(x + 22, y + 22, name, "end")
            vector(x + 32, y, values.tolist(), own)
    for place, (name, (of_query, of_key, rule)) in enumerate(ways.items()):
        y = 130 + 98 * place
        canvas.box(12, y, 456, 86, "", "quiet", 0.06)
        canvas.text(24, y + 26, name, "start", bold=True)
        canvas.text(75, y + 26, rule, "start")
        vector(24, y + 40, of_query.tolist(), 2)
        canvas.text(182, y + 62, "·", bold=True)
        vector(204, y + 40, of_key.tolist(), 2)
        canvas.text(404, y + 26, "score", size=SMALL, colour="quiet")
        canvas.text(404, y + 62, f"= {scores[name]}", size=20, bold=True)
    return canvas


def rotations() -> Canvas:
    """Two pairs of features at positions 0 to 5, and an angle that depends on the distance."""
    base, d_head, last = 100.0, 4, 5
    positions = torch.arange(last + 1).unsqueeze(-1)
    angles = rotary_angles(positions, d_head, base)
    frequencies = rotary_frequencies(d_head, 1, base)
    near, far = (5, 3), (12, 10)
    between = [float((rotary_angles(torch.tensor([[i], [j]]), d_head, base)[:, 0]).diff().abs())
               for i, j in (near, far)]
    canvas = Canvas(
        "RoPE rotates each pair of features",
        f"Two pairs of features at the positions 0 to {last}. The first pair turns by "
        f"{number(frequencies[0])} rad per position, the second by {number(frequencies[1])} rad. "
        f"Below, a query at {near[0]} and a key at {near[1]}, and a query at {far[0]} and a key at "
        f"{far[1]}: the angle between them is the same, {number(between[0])} rad.", 514)

    def turned(x: float, y: float, angle: float, length: float) -> tuple[float, float]:
        return x + length * math.cos(angle), y - length * math.sin(angle)

    for pair, x in enumerate((118, 352)):
        canvas.text(x, 26, f"pair {pair}: {number(frequencies[pair])} rad a step")
        canvas.draw("circle", cx=x, cy=146, r=80, fill="none", stroke="var(--d-quiet)")
        for position, angle in enumerate(angles[:, pair].tolist()):
            canvas.arrow(x, 146, *turned(x, 146, angle, 79), "blue", 2)
            if position in (0, last) or frequencies[pair] > 0.5:
                canvas.text(*_lowered(turned(x, 146, angle, 94)), str(position), size=SMALL)
    canvas.text(240, 268, "numbers: positions", size=SMALL, colour="quiet")
    canvas.text(240, 302, "only the distance matters (pair 0)", bold=True)
    for x, (i, j), angle in zip((118, 352), (near, far), between):
        query, key = rotary_angles(torch.tensor([[i], [j]]), d_head, base)[:, 0].tolist()
        canvas.draw("circle", cx=x, cy=390, r=60, fill="none", stroke="var(--d-quiet)")
        canvas.line([turned(x, 390, key + angle * step / 20, 28) for step in range(21)], "ink", 2)
        canvas.arrow(x, 390, *turned(x, 390, query, 59), "blue", 2.5)
        canvas.arrow(x, 390, *turned(x, 390, key, 59), "orange", 2.5)
        canvas.text(*_lowered(turned(x, 390, query, 76)), f"q_{{{i}}}")
        canvas.text(*_lowered(turned(x, 390, key, 76)), f"k_{{{j}}}")
        canvas.text(x, 498, f"{i} − {j} = {i - j}: angle {number(angle)} rad", size=SMALL)
    return canvas


def alibi_bias() -> Canvas:
    """The bias of four heads for the last query, by distance."""
    heads, distances = 4, (256, 64, 16, 4, 2, 1, 0)
    slopes = alibi_slopes(heads).tolist()
    canvas = Canvas(
        "ALiBi subtracts a penalty that grows with the distance",
        f"For {heads} heads, what ALiBi adds to the score of a key 0 to {distances[0]} tokens "
        "back: minus the head's slope times the distance. The slopes are "
        + ", ".join(f"{slope:g}" for slope in slopes) + ". A head with a steep slope looks at the "
        "nearest keys, one with a flat slope far back.", 300)
    left, side = 108, 51
    canvas.text(left - 10, 34, "tokens back", "end", SMALL, "quiet")
    for column, far in enumerate(distances):
        canvas.text(left + side * (column + 0.5), 34, str(far), size=SMALL, colour="quiet")
    for row, slope in enumerate(slopes):
        y = 46 + 48 * row
        canvas.text(left - 10, y + 17, f"head {row + 1}", "end")
        canvas.text(left - 10, y + 34, f"λ = 1/{round(1 / slope)}", "end", SMALL, "quiet")
        biases = [-slope * far for far in distances]
        # at most 0.45 of the colour, so that the numbers stay readable
        canvas.cells(left, y, [[0.45 * math.exp(bias) for bias in biases]], side, height=42)
        for column, bias in enumerate(biases):
            canvas.text(left + side * (column + 0.5), y + 26,
                        number(bias, 2 if bias > -10 else 0), size=SMALL)
    canvas.text(286, 262, "shade: the factor exp(bias) by which the weight\nof a key shrinks, "
                "before normalisation", size=SMALL, colour="quiet")
    return canvas


def waves() -> Canvas:
    """Five features of sinusoidal vectors over 64 positions."""
    d_model, last, read = 16, 63, 20
    steps = torch.linspace(0, last, 2 * last + 1)  # halves, too, for smooth curves
    vectors = sinusoidal_vectors(steps.unsqueeze(-1), d_model)
    features = [0, 2, 4, 6, 8]
    lengths = [2 * math.pi * 10_000**(feature / d_model) for feature in features]
    canvas = Canvas(
        "Sinusoidal vectors: waves of different length",
        f"Five of the {d_model} features of sinusoidal vectors, for positions 0 to {last}. "
        "Their wavelengths are " + ", ".join(number(length, 0) for length in lengths)
        + f" positions. The vector of position {read} is read down one column.", 456)
    left, right = 88, 372

    def place(position: float) -> float:
        return left + (right - left) * position / last

    canvas.text(left - 10, 28, "feature", "end", SMALL, "quiet")
    canvas.text(right + 12, 28, "wavelength", "start", SMALL, "quiet")
    for row, (feature, length) in enumerate(zip(features, lengths)):
        y = 76 + 74 * row
        canvas.line([(left, y), (right, y)], width=0.75)
        canvas.text(left - 10, y + 5, str(feature), "end")
        canvas.line([(place(p), y - 28 * value) for p, value in
                     zip(steps.tolist(), vectors[:, feature].tolist())], "blue", 2)
        canvas.text(right + 12, y + 5, number(length, 0), "start")
        canvas.dot(place(read), y - 28 * float(vectors[2 * read, feature]), 5, "orange")
    canvas.line([(place(read), 40), (place(read), 404)], "orange", 1.5, "4 4")
    for position in (0, 40, last):
        canvas.text(place(position), 424, str(position), size=SMALL, colour="quiet")
    canvas.text(place(read), 424, f"e_{{{read}}}")
    canvas.text((left + right) / 2, 446, "position", size=SMALL, colour="quiet")
    return canvas


def learned_table() -> Canvas:
    """A table of eight rows, read at twelve positions, and stretched to sixteen."""
    rows, asked, stretched = 8, 12, 16
    table = Learned(rows, 1)
    table.table.weight.data = torch.arange(float(rows)).unsqueeze(-1)  # each vector: its own row
    positions = torch.arange(stretched).unsqueeze(-1)
    with torch.no_grad():
        places = table.embed(torch.zeros(stretched, 1), positions, stretched).flatten().tolist()
    canvas = Canvas(
        "A learned table ends at the trained length",
        f"A table of {rows} rows, one for each trained position. For the positions {rows} to "
        f"{asked - 1} there is no row. Below, it is stretched to {stretched} positions by linear "
        f"interpolation: position p reads at row p times {rows - 1}/{stretched - 1}, so position 1 "
        f"reads at row {number(places[1])}, between two rows.", 424)

    def shade(row: float) -> float:
        return 0.1 + 0.5 * row / (rows - 1)

    wide = 36
    canvas.text(24, 30, f"trained length {rows}: one row per position", "start", bold=True)
    for row in range(asked):
        x = 24 + wide * row
        canvas.text(x + 16, 56, str(row), size=SMALL, colour="quiet")
        if row < rows:
            canvas.box(x, 64, wide - 4, 40, f"e_{row}", "blue", shade(row), radius=4)
        else:
            canvas.box(x, 64, wide - 4, 40, "?", "orange", 0.0, radius=4)
    canvas.text(24 + wide * 10, 126, "no row, no vector", size=SMALL)
    canvas.text(24, 168, f"stretched to {stretched} positions", "start", bold=True)
    across = (24, 446)
    rows_at = [across[0] + (across[1] - across[0]) * row / (rows - 1) for row in range(rows)]
    for row, x in enumerate(rows_at):
        canvas.dot(x, 214, 10, "blue", shade(row))
        canvas.text(x, 196, f"e_{row}", size=SMALL)
    for position, at in enumerate(places):
        x = across[0] + (across[1] - across[0]) * at / (rows - 1)
        low = min(int(at), rows - 2)
        for neighbour in (low, low + 1):
            share = 1 - abs(at - neighbour)
            if share > 0.001:
                canvas.line([(rows_at[neighbour], 224), (x, 300)], "blue", 0.5 + 2.5 * share)
        canvas.dot(x, 310, 8, "blue", shade(at))
        canvas.text(x, 338, str(position), size=SMALL, colour="quiet")
    canvas.text(240, 362, "position in the longer context", size=SMALL, colour="quiet")
    canvas.text(240, 392, f"position p reads at row p · {rows - 1}/{stretched - 1}: position 1 at "
                f"{number(places[1])}.\nNeighbours are now only half as far apart as in training.",
                size=SMALL)
    return canvas


def relative_biases() -> Canvas:
    """Shaw, T5, KERPLE and FIRE by distance."""
    last, clip, lengths = 160, 16, (512, 4_096)
    distances = torch.arange(last + 1)
    back, here = -distances, torch.zeros(1, 1, dtype=torch.long)
    kerple, fire = KerpleLog(1, 1), FIRE(1, 1)
    kerple.log_r.data = torch.tensor([1.0, 0.5]).log().view(2, 1, 1, 1, 1)
    # then FIRE's bias is what its MLP gets to see
    fire.mlps[0].of_number = lambda share: share.unsqueeze(-1)
    with torch.no_grad():
        log = kerple.bias(here, distances.unsqueeze(-1), 0).flatten()
        seen = [fire.bias(torch.tensor([[i]]), i - distances.unsqueeze(-1), 0).flatten()
                for i in lengths]
    panels = [
        ("Shaw: learned vector", {"": distances.clamp(max=clip)},
         f"0 … {clip}, then the same"),
        ("T5: learned number", {"": T5(1).bucket(back)}, "32 buckets, wider and wider"),
        ("KERPLE: the bias", {"": log}, "−r_1 log(1 + r_2 d), r = 1, ½"),
        ("FIRE: input of its MLP", dict(zip((f"i ≤ {lengths[0]}", f"i = {lengths[1]:,}"), seen)),
         "distance relative to i")]
    canvas = Canvas(
        "Relative biases over the distance",
        "Four panels over the distance d between query and key, 0 to "
        f"{last}. Shaw learns a vector for each distance up to {clip}, and one for all beyond. T5 "
        "learns a number for each of 32 buckets, which widen with the distance. KERPLE's bias "
        "falls like a logarithm. FIRE gives a small network the logarithm of the distance relative "
        "to the query's position.", 470)
    for index, (name, curves, note) in enumerate(panels):
        x, y, width, high = 46 + 236 * (index % 2), 44 + 222 * (index // 2), 180, 120
        values = torch.cat([curve.float() for curve in curves.values()])
        low, top = float(values.min()), float(values.max())
        canvas.text(x - 34, y - 16, name, "start", bold=True)
        canvas.line([(x, y), (x, y + high), (x + width, y + high)])
        for value, at in ((low, y + high), (top, y + 10)):
            canvas.text(x - 6, at, number(value, 0 if top > 2 else 1), "end", SMALL, "quiet")
        for place, (label, curve) in enumerate(curves.items()):
            colour = ("blue", "orange")[place]
            points = [(x + width * d / last, y + high - high * (value - low) / (top - low))
                      for d, value in enumerate(curve.tolist())]
            canvas.line(points, colour, 2.5)
            if label:
                canvas.text(x + width, y + high - 42 + 22 * place, label, "end", SMALL, colour)
        for d in (0, last):
            canvas.text(x + width * d / last, y + high + 18, str(d), size=SMALL, colour="quiet")
        canvas.text(x + width / 2, y + high + 18, "distance", size=SMALL, colour="quiet")
        canvas.text(x - 34, y + high + 42, note, "start", SMALL, "quiet")
    return canvas


def _lowered(point: tuple[float, float]) -> tuple[float, float]:
    """Where a text's line must be for its middle to be at a point."""
    return point[0], point[1] + 5
