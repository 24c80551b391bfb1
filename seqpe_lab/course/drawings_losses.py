"""Drawings of SeqPE's two losses: what they compare, and what they move."""
from __future__ import annotations

import math

import torch

from seqpe_lab.course.drawings_canvas import SMALL, Canvas, number
from seqpe_lab.course.drawings_seqpe import untrained
from seqpe_lab.encodings.absolute import sinusoidal_vectors
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.lookalikes import lookalikes
from seqpe_lab.sampling import contrastive_sample, distillation_sample


def candidate_sets() -> Canvas:
    """A global candidate set with look-alikes, and a local one."""
    limit, count, similar = 20_000, 9, 3
    settings = dict(batch=1, candidates=count, max_position=limit, hard=similar)
    wide, near = (contrastive_sample(**settings, local=local,
                                     generator=torch.Generator().manual_seed(seed))
                  for local, seed in ((0.0, 8), (1.0, 5)))
    canvas = Canvas(
        "Two kinds of candidate sets",
        f"Above, a global set: {count - similar} candidates from all positions below {limit:,} and "
        f"{similar} look-alikes, whose digits resemble the pivot's. Below, a local set: all "
        "candidates lie in one window of 256 positions, which may lie far from the pivot. In both "
        "the candidate nearest to the pivot is p+.", 528)

    def place(position: float) -> float:
        return 24 + 432 * position / limit

    for top, name, sample in ((0, "global", wide), (262, "local", near)):
        pivot = int(sample.pivots)
        candidates = sample.candidates.flatten().tolist()
        edits = {*lookalikes(sample.pivots, 2_000, limit,
                             generator=torch.Generator().manual_seed(0)).flatten().tolist()}
        nearest = candidates[int(sample.label)]
        canvas.text(12, top + 28, f"{name} set", "start", bold=True)
        canvas.text(468, top + 28, f"pivot p = {pivot:,}", "end")
        y = top + 74
        canvas.line([(place(0), y), (place(limit), y)], width=2)
        canvas.text(place(0), y + 30, "0", "start", SMALL, "quiet")
        canvas.text(place(limit), y + 30, f"{limit:,}", "end", SMALL, "quiet")
        canvas.arrow(place(pivot), y - 30, place(pivot), y - 2, "ink")
        canvas.text(place(pivot) + 8, y - 16, "p", "start")
        if name == "local":
            canvas.text(place(min(candidates)), y - 16, "window of 256", size=SMALL)
        kinds = []
        for candidate in sorted(candidates):
            kind = ("green" if candidate == nearest else
                    "orange" if name == "global" and candidate in edits else "blue")
            kinds.append((candidate, kind))
            canvas.line([(place(candidate), y - 10), (place(candidate), y + 10)], kind, 2.5)
        for index, (candidate, kind) in enumerate(kinds):
            canvas.tiles(12 + 154 * (index % 3), top + 118 + 36 * (index // 3),
                         [f"p⁺ = {candidate:,}" if kind == "green" else f"{candidate:,}"], kind,
                         148, 30, fill=0.15)
    for x, colour, name in ((12, "green", "p⁺, the nearest"), (172, "orange", "look-alike"),
                            (300, "blue", "other candidate")):
        canvas.box(x, 502, 14, 14, "", colour, 0.3)
        canvas.text(x + 22, 514, name, "start", SMALL)
    return canvas


def pull_and_push() -> Canvas:
    """What the gradient of L_delta does to each candidate."""
    pivot, dots = 100, {103: 1.0, 110: 1.2, 180: 0.4, 1000: 2.0, 700: 0.2}
    scores = torch.tensor([list(dots.values())], requires_grad=True)
    # with e_p = (1,) and candidates (e_p . e_p',) the dot products are these
    loss = contrastive_loss(torch.ones(1, 1), scores.unsqueeze(-1), torch.tensor([0]))
    loss.backward()
    shares, moves = scores.softmax(-1)[0].tolist(), (-scores.grad[0]).tolist()
    canvas = Canvas(
        "L_δ pulls the nearest candidate and pushes all others",
        f"For the pivot {pivot} and five candidates: distance, dot product with the pivot, "
        "share after softmax, and the change that a gradient step makes to the dot product. The "
        "nearest, 103, is pulled towards the pivot; the look-alike 1000, whose dot product is "
        "largest, is pushed away most. The dot products are an example.", 370)
    canvas.text(12, 28, f"pivot p = {pivot}", "start", bold=True)
    canvas.text(468, 28, f"L_δ = −log {number(shares[0])} = {number(loss.item())}", "end")
    heads = ((57, "candidate"), (146, "distance"), (220, "e_p · e_{p'}"), (284, "share"),
             (350, "push"), (426, "pull"))
    for x, head in heads:
        canvas.text(x, 66, head, size=SMALL, colour="quiet")
    canvas.line([(388, 76), (388, 332)], width=1)
    for row, (candidate, dot) in enumerate(dots.items()):
        y = 82 + 52 * row
        colour = "green" if row == 0 else "orange" if candidate == 1000 else "blue"
        canvas.tiles(12, y, [f"p⁺ = {candidate}" if row == 0 else candidate], colour, 90, 36)
        canvas.text(146, y + 24, str(abs(candidate - pivot)))
        canvas.text(220, y + 24, number(dot, 1))
        canvas.text(284, y + 24, number(shares[row]))
        reach = 78 * moves[row] / max(map(abs, moves))
        canvas.arrow(388, y + 18, 388 + reach, y + 18, colour, 4, min(12, abs(reach)))
    canvas.text(240, 358, "length of the arrow: 1 − share for p⁺, share for the others", size=SMALL,
                colour="quiet")
    return canvas


def teachers_and_students() -> Canvas:
    """Teachers in the training context, the same positions shifted, and P beside S."""
    train_len, limit, count = 64, 400, 5
    sample = distillation_sample(1, count, train_len, limit,
                                 generator=torch.Generator().manual_seed(1))
    teachers, order = sample.teachers[0].sort(0)
    students = sample.students[0][order.flatten()]
    shift = int(students[0] - teachers[0])
    vectors = (sinusoidal_vectors(teachers, 32, base=100.0) / 2,
               7 * untrained(students, 32))
    loss = float(distillation_loss(vectors[0].unsqueeze(0), vectors[1].unsqueeze(0)))
    canvas = Canvas(
        "L_OOD: trained positions teach shifted ones",
        f"A line of positions. {count} teachers lie in the training context, 0 to {train_len - 1}; "
        f"the students are the same positions shifted by z = {shift}. Below, the similarities P "
        "among teachers and S among students after softmax, as heat maps. L_OOD measures how much "
        "S differs from P, and only the students are moved. The vectors are examples.", 452)

    def place(position: float) -> float:
        return 20 + 440 * position / limit

    canvas.box(place(0), 66, place(train_len) - place(0), 44, "", "green", 0.15)
    canvas.text(place(0), 132, f"training context, L = {train_len}", "start", SMALL)
    canvas.line([(place(0), 88), (place(limit), 88)], width=2)
    canvas.text(place(limit), 132, f"{limit}", "end", SMALL, "quiet")
    for teacher, student in zip(teachers.flatten().tolist(), students.flatten().tolist()):
        canvas.dot(place(teacher), 88, 5, "green")
        canvas.dot(place(student), 88, 5, "orange")
    middle = [(place(float(p.float().mean())), 62) for p in (teachers, students)]
    canvas.line([middle[0], (middle[0][0], 40), (middle[1][0], 40)], "ink")
    canvas.arrow(middle[1][0], 40, *middle[1], "ink")
    canvas.text((middle[0][0] + middle[1][0]) / 2, 30, f"the same shift for all: z = {shift}",
                size=SMALL)
    for x, name, colour, points, own in ((70, "P", "green", teachers, vectors[0]),
                                         (290, "S", "orange", students, vectors[1])):
        canvas.text(x + 60, 176, f"{name}: {'teachers' if name == 'P' else 'students'}", bold=True)
        table = (own @ own.T).softmax(-1)
        canvas.cells(x, 190, (table / table.max()).tolist(), 24, colour)
        for row, position in enumerate(points.flatten().tolist()):
            canvas.text(x - 8, 207 + 24 * row, str(position), "end", SMALL, "quiet")
    canvas.arrow(204, 250, 248, 250, "ink", 3, 12)
    canvas.text(240, 346, f"L_{{OOD}} = KL(P || S) = {number(loss)} here")
    canvas.text(240, 376, "P is not changed (stop-gradient): S learns to look like P.\n"
                "The stronger a colour, the more similar positions i and j\n"
                "are after softmax; each row adds up to 1.", size=SMALL, colour="quiet")
    return canvas


def collapse() -> Canvas:
    """Vectors in different directions, and all in one."""
    count = 5
    angles = torch.linspace(0.15, 1.9, count)
    spread = 2 * torch.stack([angles.cos(), angles.sin()], -1)
    spaces = {"distinct vectors": spread, "collapsed": spread[2].repeat(count, 1)}
    canvas = Canvas(
        "Collapse: every position gets the same vector",
        "Left, five position vectors point in different directions, and their similarities form a "
        "band along the diagonal. Right, all five are the same vector: all similarities are equal, "
        "P equals S, so L_OOD is zero; only L_delta still sees that the nearest position is not "
        "the most similar one.", 466)
    for x, (name, vectors) in zip((120, 345), spaces.items()):
        canvas.text(x, 28, name, bold=True)
        canvas.line([(x - 90, 172), (x + 90, 172)], width=1)
        canvas.line([(x, 182), (x, 42)], width=1)
        for index, (right, up) in enumerate(vectors.tolist()):
            end = (x + 56 * right, 172 - 56 * up)
            canvas.arrow(x, 172, *end, "blue", 2.5)
            if name == "collapsed":
                continue
            canvas.text(x + 63 * right, 178 - 64 * up, f"e_{index}", size=SMALL)
        if name == "collapsed":
            canvas.text(end[0] + 8, end[1] + 12, f"e_0 … e_{count - 1}", "start", SMALL)
        table = (vectors @ vectors.T).softmax(-1)
        canvas.text(x, 206, "similarity after softmax", size=SMALL, colour="quiet")
        canvas.cells(x - 65, 216, (table / 0.7).tolist(), 26)
        # candidates of position 0 in order of distance: 1 is p+
        ranked = float(contrastive_loss(vectors[:1], vectors[1:].unsqueeze(0), torch.tensor([0])))
        twins = vectors.unsqueeze(0)
        canvas.text(x, 374, f"L_{{OOD}} = {number(float(distillation_loss(twins, twins)))}")
        canvas.text(x, 398, f"L_δ = {number(ranked)}")
    canvas.text(240, 430, f"Students equal to teachers: L_{{OOD}} = 0 in both. L_δ of e_0 rises\n"
                f"to log {count - 1} = {number(math.log(count - 1))}: it is the loss that sees the "
                "collapse.", size=SMALL, colour="quiet")
    return canvas
