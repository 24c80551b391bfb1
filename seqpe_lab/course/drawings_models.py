"""Drawings of the models and of the work: attention, grids, contexts, the audit of a number."""
from __future__ import annotations

import torch

from seqpe_lab import recipes
from seqpe_lab.course.claims import agreement, half_unit
from seqpe_lab.course.drawings_canvas import MINUS, SMALL, Canvas, number
from seqpe_lab.digits import grid, to_digits
from seqpe_lab.encodings.absolute import sinusoidal_vectors
from seqpe_lab.recipes.fine_tuning import question_answering
from seqpe_lab.sampling import training_positions


def growing_grid() -> Canvas:
    """The trained grid of patches within a larger one, and the digits of a new patch."""
    trained, grown, patch = 14, 20, (12, 16)
    digits = to_digits(torch.tensor([patch]), digits=2)[0].tolist()
    canvas = Canvas(
        "A grid of patches grows",
        f"A grid of {trained} x {trained} patches, as in training, in the upper left corner of one "
        f"of {grown} x {grown}. The rows and columns from {trained} on are new. The patch in row "
        f"{patch[0]}, column {patch[1]} is written as the digits "
        f"{' '.join(map(str, digits))}: all of them are known, their combination is new.", 490)
    side, left, top = 17, 70, 48
    for size, colour, fill in ((grown, "orange", 0.14), (trained, "blue", 0.35)):
        canvas.box(left, top, side * size, side * size, "", colour, fill, radius=0, line=2)
    for place in range(1, grown):
        canvas.line([(left + side * place, top), (left + side * place, top + side * grown)],
                    "paper", 1)
        canvas.line([(left, top + side * place), (left + side * grown, top + side * place)],
                    "paper", 1)
    canvas.box(left + side * patch[1], top + side * patch[0], side, side, "", "pink", 0.9, radius=0)
    for place in (0, trained - 1, grown - 1):
        canvas.text(left + side * (place + 0.5), top - 8, str(place), size=SMALL, colour="quiet")
        canvas.text(left - 8, top + side * (place + 0.5) + 5, str(place), "end", SMALL, "quiet")
    canvas.text(left + side * trained / 2, 18, "column", size=SMALL, colour="quiet")
    canvas.text(12, top + 100, "row", "start", SMALL, "quiet")
    canvas.text(left, 412, f"{trained} × {trained} trained", "start", SMALL, "blue")
    canvas.text(left + side * grown, 412, f"new up to {grown} × {grown}", "end", SMALL, "orange")
    canvas.text(12, 454, f"patch {patch}:", "start", colour="pink")
    for group, name in enumerate(("row", "column")):
        canvas.text(150 + 170 * group, 454, name, "start", SMALL, "quiet")
        canvas.tiles(210 + 170 * group, 432, digits[2 * group:2 * group + 2], "pink")
    return canvas


def similarity_map() -> Canvas:
    """A row of the table of all dot products, cut into the rows of a map."""
    side, patch = 3, (0, 1)
    vectors = sinusoidal_vectors(grid(side, side), 16)
    products = vectors @ vectors.T  # (9, 9)
    row = side * patch[0] + patch[1]
    least, most = products.min(), products.max()
    shares = ((products - least) / (most - least) * 0.5 + 0.03).tolist()
    values = [number(value, 1) for value in products[row].tolist()]
    canvas = Canvas(
        "A row of the table becomes a map",
        f"Left, the dot products of {side**2} patches with each other: a table with a row and a "
        f"column for each patch, in reading order. The row of patch {patch} is framed in three "
        f"pieces. Right, the pieces stand one below the other: the map of patch {patch}, with the "
        f"values {', '.join(values)}. It is highest at the patch itself. The vectors are "
        "sinusoidal.", 318)
    cell, left, top = 24, 62, 60
    large, right, high = 46, 328, 99
    colours = ("pink", "green", "orange")
    canvas.text(left + cell * side**2 / 2, 24, "dot products with the patches of")
    canvas.cells(left, top, shares, cell)
    for index, (r, c) in enumerate(grid(side, side).tolist()):
        canvas.text(left - 8, top + cell * index + 17, f"{r}, {c}", "end", SMALL,
                    "ink" if index == row else "quiet", bold=index == row)
    for piece, colour in enumerate(colours):
        begin = left + cell * side * piece
        canvas.text(begin + cell * side / 2, 50, f"row {piece}", size=SMALL, colour=colour)
        canvas.box(begin + 1, top + cell * row, cell * side - 2, cell, "", colour, 0, radius=2,
                   line=3)
    canvas.arrow(left + cell * side**2 + 6, high + 1.5 * large, right - 10, high + 1.5 * large)
    canvas.text(right + 1.5 * large, high - 39, f"the map of\npatch {patch}")
    for piece, colour in enumerate(colours):
        y = high + large * piece
        canvas.cells(right, y, [shares[row][side * piece:side * (piece + 1)]], large)
        for column in range(side):
            place = side * piece + column
            canvas.text(right + large * (column + 0.5), y + 29, values[place],
                        bold=place == row)
        canvas.box(right, y + 2, large * side, large - 4, "", colour, 0, radius=2, line=3)
    canvas.text(240, 304, "row p of the table: patch p with each patch, in reading order",
                size=SMALL, colour="quiet")
    return canvas


def causal_attention() -> Canvas:
    """One query among five tokens: scores, mask, softmax, weighted sum."""
    tokens, query = ("The", "cat", "sat", "on", "it"), 2
    scores = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.3])
    masked = scores.masked_fill(torch.arange(len(tokens)) > query, -torch.inf)
    weights = masked.softmax(0).tolist()
    canvas = Canvas(
        "Attention of one query",
        f"The token {tokens[query]} asks: its query meets the keys of all five tokens and gets the "
        f"scores {', '.join(number(s, 1) for s in scores)}. The causal mask sets the later ones to "
        "minus infinity, softmax turns the rest into the weights "
        f"{', '.join(map(number, weights))}; the output is the weighted sum of the values.", 480)
    columns = [140 + 76 * place for place in range(len(tokens))]
    rows = {"key": 60, "score\nq · k / √d": 112, "causal\nmask": 176, "softmax:\nweight": 288,
            "value": 356}
    for name, y in rows.items():
        canvas.text(12, y - (6 if "\n" in name else -5), name, "start", SMALL, "quiet")
    for place, (x, token) in enumerate(zip(columns, tokens)):
        later = place > query
        colour = "quiet" if later else "orange" if place == query else "blue"
        canvas.text(x, 26, token, bold=place == query)
        canvas.box(x - 30, 42, 60, 34, f"k_{place}", colour)
        canvas.text(x, 117, number(scores[place], 1))
        canvas.arrow(x, 128, x, 156, width=1.5, head=7)
        canvas.text(x, 181, f"{MINUS}∞" if later else number(scores[place], 1),
                    colour="quiet" if later else "ink")
        high = max(1.0, 100 * weights[place])
        canvas.box(x - 20, 300 - high, 40, high, "", colour, 0.45, radius=2)
        canvas.text(x, 292 - 100 * weights[place], number(weights[place]), size=SMALL)
        canvas.box(x - 30, 336, 60, 34, f"v_{place}", colour)
        if not later:
            canvas.line([(x, 370), (columns[query], 408)], colour, 0.5 + 6 * weights[place])
    canvas.box(columns[query] - 150, 408, 300, 36, " + ".join(
        f"{number(weights[place])} v_{place}" for place in range(query + 1)), "orange")
    canvas.text(240, 464, f"the query is q_{query}, of “{tokens[query]}”", size=SMALL,
                colour="quiet")
    return canvas


def multi_head() -> Canvas:
    """The shapes on the way through multi-head attention."""
    model = recipes.language_model("none", "full")
    d_model, heads = model.d_model, model.heads
    d_head, length = d_model // heads, model.train_len
    canvas = Canvas(
        "Multi-head attention and its shapes",
        f"An input of shape (B, L, {d_model}) is projected to queries, keys and values, split into "
        f"{heads} heads of {d_head} features. Each head computes its own L by L weights and their "
        f"sum of values; the heads' outputs are joined again to (B, L, {d_model}).", 546)
    steps = [("input x", f"(B, L, {d_model})", "quiet"),
             ("q, k, v = x W_q , x W_k , x W_v", f"(B, L, {d_model}) each", "green"),
             ("split into heads", f"(B, {heads}, L, {d_head}) each", "blue"),
             ("weights: softmax of q · k / √" + str(d_head), f"(B, {heads}, L, L)", "orange"),
             ("weights · v", f"(B, {heads}, L, {d_head})", "blue"),
             ("join the heads", f"(B, L, {d_model})", "blue"),
             ("output projection W_o", f"(B, L, {d_model})", "green")]
    for place, (does, shape, colour) in enumerate(steps):
        y = 14 + 68 * place
        if 2 <= place <= 4:  # a card for each of several heads behind the first
            for behind in (8, 4):
                canvas.box(12 + behind, y - behind, 272, 44, "", colour, 0.05)
        canvas.box(12, y, 272, 44, does, colour, 0.14)
        canvas.text(300, y + 27, shape, "start")
        if place:
            canvas.arrow(148, y - 23, 148, y - (9 if 2 <= place <= 4 else 1), head=8)
    canvas.text(240, 506, f"B sequences of L = {length} tokens; {heads} heads of {d_head} features:"
                f"\n{heads} × {d_head} = {d_model}, as in GPT-2 small", size=SMALL, colour="quiet")
    return canvas


def evaluation_chunks() -> Canvas:
    """The same text cut into longer and longer chunks."""
    trained, total = 512, 4_096
    lengths = [trained * 2**power for power in range(4)]
    canvas = Canvas(
        "The protocol: one text, longer and longer chunks",
        f"A text of {total:,} tokens, cut without overlap into chunks of "
        + ", ".join(f"{length:,}" for length in lengths) + " tokens. In each chunk positions start "
        f"at 0 again; those from {trained} on are new to a model trained on {trained} tokens. "
        "Every token is predicted once.", 348)
    left, scale = 84, 384 / total
    canvas.text(left, 28, f"the same {total:,} tokens in every row", "start", SMALL, "quiet")
    for row, length in enumerate(lengths):
        y = 44 + 60 * row
        canvas.text(left - 12, y + 19, f"{length:,}", "end")
        canvas.text(left - 12, y + 37, "tokens", "end", SMALL, "quiet")
        for begin in range(0, total, length):
            for start, end, colour, fill in ((begin, begin + trained, "blue", 0.4),
                                             (begin + trained, begin + length, "orange", 0.22)):
                if end > start:
                    canvas.box(left + scale * start, y, scale * (end - start), 42, "", colour, fill,
                               radius=0, line=0)
            canvas.box(left + scale * begin, y, scale * length, 42, "", "ink", 0, radius=3, line=2)
    for y, colour, fill, name in (
            (292, "blue", 0.4, f"positions 0 … {trained - 1}, as in training"),
            (314, "orange", 0.22, f"positions from {trained} on, never trained")):
        canvas.box(84, y - 12, 14, 14, "", colour, fill)
        canvas.text(106, y, name, "start", SMALL)
    canvas.text(84, 338, "frame: one chunk; its positions start at 0", "start", SMALL)
    return canvas


def shifted_starts() -> Canvas:
    """Ten training sequences, of which some start at a random position."""
    train_len, limit, batch, share = 512, 20_000, 10, 0.1
    positions = training_positions(batch, train_len, limit, shifted=share,
                                   generator=torch.Generator().manual_seed(8)).squeeze(-1)
    starts = positions[:, 0].tolist()
    canvas = Canvas(
        "A tenth of the training sequences starts elsewhere",
        f"{batch} sequences of {train_len} tokens on a line of {limit:,} positions. "
        f"{starts.count(0)} of them have the positions 0 to {train_len - 1}; "
        f"{batch - starts.count(0)} starts at {max(starts):,}. All are equally long.", 376)
    left, scale = 40, 416 / limit
    for row, start in enumerate(starts):
        y = 38 + 24 * row
        canvas.line([(left, y + 7), (left + scale * limit, y + 7)], width=0.75)
        canvas.text(left - 12, y + 12, str(row + 1), "end", SMALL, "quiet")
        colour = "orange" if start else "blue"
        canvas.box(left + scale * start, y, scale * train_len, 14, "", colour, 0.7, radius=1)
        if start:
            name = f"z … z + {train_len - 1}, here z = {start:,}"
            canvas.text(left + scale * start - 8, y - 1, name, "end", SMALL)
    canvas.text(left + 20, 26, f"0 … {train_len - 1}", "start", SMALL)
    for position, anchor in ((0, "start"), (limit // 2, "middle"), (limit, "end")):
        canvas.text(left + scale * position, 296, f"{position:,}", anchor, SMALL, "quiet")
    canvas.text(left + scale * limit / 2, 318, "position", size=SMALL, colour="quiet")
    canvas.text(240, 346, f"Each sequence is {train_len} tokens long: the shift shows the model\n"
                "larger positions, not longer contexts.", size=SMALL)
    return canvas


def fine_tuning() -> Canvas:
    """Which parts of SeqPE learn on questions: in the paper, and at this lab's small scale."""
    paper, small = (question_answering("seqpe", scale) for scale in ("full", "small"))
    canvas = Canvas(
        "Fine-tuning on questions: what learns, what stays fixed",
        "The prompt holds documents and a question; only the answer's tokens count in the loss. "
        "In the paper all parts learn and the position losses go on. At this lab's small scale the "
        "position encoder stays fixed, its projection starts anew, and there are no position "
        "losses.", 446)
    canvas.box(12, 30, 240, 44, "documents", "quiet")
    canvas.box(256, 30, 104, 44, "question", "quiet")
    canvas.box(364, 30, 104, 44, "answer", "orange", 0.35)
    canvas.text(416, 98, "loss only here", size=SMALL)
    canvas.text(130, 98, "no loss", size=SMALL, colour="quiet")
    for x, name, recipe in ((12, "the paper", paper), (246, "this lab, small scale", small)):
        canvas.text(x + 111, 140, name, bold=True)
        encoder = "fixed" if recipe.keep_encoder else "learns"
        projection = "starts anew, learns" if recipe.new_projection else "learns"
        losses = "on" if recipe.alpha or recipe.beta else "off"
        parts = [("position encoder", encoder, "quiet" if recipe.keep_encoder else "green"),
                 ("projection W_{PE}", projection, "pink" if recipe.new_projection else "green"),
                 ("token embeddings", "learns", "green"),
                 ("Transformer layers", "learns", "green"),
                 ("losses L_δ and L_{OOD}", losses, "green" if losses == "on" else "quiet")]
        for place, (part, state, colour) in enumerate(parts):
            y = 152 + 56 * place
            canvas.box(x, y, 222, 50, "", colour, 0.1 if colour == "quiet" else 0.18)
            canvas.text(x + 111, y + 20, part)
            canvas.text(x + 111, y + 40, state, size=SMALL, colour=colour, bold=True)
    return canvas


def number_and_bound() -> Canvas:
    """Two questions about "at least 0.6": is it the table's number, and is the bound true?"""
    stated, values = "0.6", (0.52, 0.588, 0.62, 0.7)
    least, half = float(stated), half_unit(stated)
    answers = [("rounded" if agreement(value, stated) == "rounded" else "differs",
                "bound holds" if value >= least else "bound fails") for value in values]
    canvas = Canvas(
        f"A number and a bound: two questions about “at least {stated}”",
        f"A number line. An upper bar covers {least - half:.2f} to {least + half:.2f}, the values "
        f"that round to {stated}. A lower bar covers {stated} and all that is more. Four values "
        "get all four pairs of answers: "
        + "; ".join(f"{value:g}: {', '.join(pair)}" for value, pair in zip(values, answers)) + ".",
        326)

    def place(value: float) -> float:
        return 24 + 1_600 * (value - 0.48)

    canvas.text(12, 28, f"stated: “at least {stated}”", "start", bold=True)
    canvas.box(place(least - half), 44, 3_200 * half, 34, f"rounds to {stated}", "blue", 0.25,
               radius=0)
    canvas.box(place(least), 88, 456 - place(least), 34, "", "green", 0.25, radius=0)
    canvas.text((place(least + half) + 456) / 2, 111, f"{stated} or more")
    canvas.arrow(456, 105, 474, 105, "green")
    for value, top, colour in ((least - half, 78, "blue"), (least, 122, "green"),
                               (least + half, 78, "blue")):
        canvas.line([(place(value), top), (place(value), 154)], colour, 1.5, "3 3")
        canvas.text(place(value), 170, f"{value:.2f}", size=SMALL, colour="quiet")
    canvas.line([(24, 148), (456, 148)], width=2)
    for card, (value, pair) in enumerate(zip(values, answers)):
        x = 66 + 116 * card
        canvas.line([(place(value), 148), (x, 196)], "ink", 1)
        canvas.dot(place(value), 148, 5, "ink")
        canvas.box(x - 56, 196, 112, 84, "", "quiet", 0.08)
        canvas.text(x, 218, f"{value:g}", bold=True)
        canvas.text(x, 243, pair[0], colour="blue" if pair[0] == "rounded" else "quiet")
        canvas.text(x, 267, pair[1], colour="green" if pair[1] == "bound holds" else "orange")
    canvas.text(240, 310, "Neither answer follows from the other: all four pairs occur.",
                size=SMALL, colour="quiet")
    return canvas
