"""Which part of an attention score comes from content, which from position (attention_parts.py)?"""
from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import html
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from seqpe_lab.explorers import attention_parts, shipped_models
from seqpe_lab.explorers.attention_parts import Parts
from seqpe_lab.explorers.attention_picture import PARTS, PICTURE, places
from seqpe_lab.explorers.attention_subjects import (LONGEST, Subject, digit_image, own, picture_of,
                                                    shipped, shown_image)
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import choice, flag, number, picture, scale, text
from seqpe_lab.explorers.panel import Panel
from seqpe_lab.explorers.stored_models import stored_model
from seqpe_lab.tasks.image_data import DIGITS
from seqpe_lab.tasks.image_views import bicubic

NAMED = 28  # the most tokens whose names fit on an axis
MOST_QUERIES = 201  # [CLS] and the most patches


def state_class(subjects: Mapping[str, Subject]) -> type:
    """The states of an explorer of these subjects, by kind: a text or an image, and a head."""
    any_one = next(iter(subjects.values()))
    of_text, of_image = (subjects.get(kind, any_one) for kind in ("text", "image"))
    texts, images = {"kind": ["text"]}, {"kind": ["image"]}
    sizes = of_image.sizes if "image" in subjects else [1]
    most = of_image.shape["most"] - of_image.shape["trained"]

    @dataclass(frozen=True)
    class State:
        kind: str = choice(any_one.kind, "input", "what the model reads", list(subjects),
                           when={"kind": list(subjects)[1:] + list(subjects)[:-1]})
        text: str = text("the cat sat on the mat", "text", "any characters; the first "
                         f"{LONGEST} tokens are shown", when=texts)
        method: str = choice(list(of_text.methods)[-1], "method", "the language model's position "
                             "encoding", of_text.methods, when=texts)
        start: int = number(0, "start position", "of the first token; trained on 0 to "
                            f"{of_text.shape['trained'] - 1}, SeqPE also on a tenth of shifted "
                            "starts", min=0, max=max(0, of_text.shape["most"] - LONGEST),
                            when=texts)
        digit: int = number(3, "digit", "one of scikit-learn's handwritten digits", min=0, max=9,
                            when=images)
        drawing: str = picture("", "your own image", "draw it, or open a file; it is shown in "
                               "place of the digit, as 8 × 8 grey pixels", when=images)
        size: int = scale(sizes[0], "image size", f"pixels a side; trained with {sizes[0]}", sizes,
                          when=images)
        image_method: str = choice(list(of_image.methods)[-2:][0], "method", "the image model's "
                                   "position encoding", of_image.methods, when=images)
        corner: int = number(0, "start row and column", "of the first patch", min=0,
                             max=max(0, most), when=images)
        layer: int = number(0, "layer", "from 0, the first", min=0,
                            max=any_one.shape["layers"] - 1)
        head: int = number(0, "head", "each attends in its own way; a click on a map chooses it",
                           min=0, max=any_one.shape["heads"] - 1)
        query: int = number(21, "query", "number of the token that attends; a click on a row "
                            "chooses it", min=0, max=MOST_QUERIES - 1)
        relative: bool = flag(True, "as softmax sees it", "the curve less each query's position "
                              "part with itself, which changes no weight")

    return State


def computation(subjects: Mapping[str, Subject]) -> Callable[[Any], SimpleNamespace]:
    """``compute`` of an explorer of these subjects."""
    placed = {kind: places(kind, subject.shape["heads"]) for kind, subject in subjects.items()}

    @functools.lru_cache(maxsize=64)
    def parts_of(kind: str, method: str, shown: tuple, first: int, layer: int) -> Parts:
        subject = subjects[kind]
        inputs = torch.tensor([shown]) if kind == "text" else \
            subject.normalise(shown_image(subject, *shown))
        return attention_parts.split(subject.model(method), inputs, first, layer)

    def read(state: Any) -> tuple[tuple, int, list[str], list[str]]:
        """What the model reads, the position of its first token, all tokens' names, and cuts."""
        subject = subjects[state.kind]
        if state.kind == "text":
            if not state.text:
                raise ValueError("the text is empty (0 characters): type at least 1")
            tokens, names = subject.encode(state.text)
            cut = [f"cut: the first {LONGEST} of {len(tokens)} tokens are shown"]
            return (tuple(tokens[:LONGEST]), state.start, names[:LONGEST],
                    cut if len(tokens) > LONGEST else [])
        side, most = state.size // subject.shape["patch"], subject.shape["most"]
        fixed = subject.about(state.image_method)["fixed"]
        first = 0 if fixed else min(state.corner, most - side)
        why = ("a learned table has no other start than 0" if fixed else
               f"positions end at {most - 1}")
        names = [f"({first + n // side}, {first + n % side})" for n in range(side * side)]
        return ((state.digit, state.drawing, state.size), first, ["[CLS]", *names],
                [f"start {state.corner} is not possible: {why}"] if first < state.corner else [])

    def compute(state: Any) -> SimpleNamespace:
        """Let the model read the text or the image: all heads, and one of them in parts."""
        kind, subject, head = state.kind, subjects[state.kind], state.head
        is_text, shape, place = kind == "text", subject.shape, placed[kind]
        method = state.method if is_text else state.image_method
        shown, first, names, cut = read(state)
        side = 0 if is_text else state.size // shape["patch"]
        parts = parts_of(kind, method, shown, first, state.layer)
        sees, query = parts.sees, min(state.query, len(parts.sees) - 1)
        labels, keys = ticks(names, side, first), np.flatnonzero(sees[query])
        tables = [table[head] for table in (parts.content, parts.position, parts.weights)]
        weights = tables[2][query]
        return SimpleNamespace(
            state=state, about=subject.about(method), is_text=is_text, is_image=not is_text,
            maps=[_map(name, n + 1, table, sees, None, head, place["areas"][name],
                       labels["values"], ("key", "query" * (n == 0)))
                  for n, (name, table) in enumerate(zip(PARTS, tables))] +
            [_map(f"head {h}", 7 + h, table, sees, 0.0, h, area, [], ("", ""), h == head)
             for h, (table, area) in enumerate(zip(parts.weights, place["heads"]))],
            lower=state.layer > 0,  # the layers below have seen positions
            query=query, who=html.escape(names[query]), share=float(weights.max()),
            favourite=html.escape(names[int(weights.argmax())]),
            edges={"low": query - 0.5, "high": query + 0.5}, keys=keys.tolist(),
            row={name: table[query][keys] for name, table in zip(("content", "position"), tables)},
            ticks=labels, first=first, last=first + (len(shown) if is_text else side) - 1,
            pixels=[] if is_text else shown_image(subject, *shown)[0].mean(0).numpy(),
            spot=[] if is_text else weights[-side * side:].reshape(side, side),
            frames=[] if is_text else frames(query - 1, side, shape["patch"]),
            curve=attention_parts.by_distance(parts, head, state.relative),
            beyond=2**0.5 * (shape["trained"] - 1) if side > shape["trained"] else None,
            moves={name: attention_parts.deviation_within_rows(table, sees)
                   for name, table in zip(("content", "position"), tables)},
            cut=cut, places=place, limits={"query": len(sees) - 1})

    return compute


def _map(name: str, axis: int, table: np.ndarray, sees: np.ndarray, low: float | None, head: int,
         place: Mapping, marks: Sequence[int], titles: Sequence[str],
         chosen: bool = False) -> SimpleNamespace:
    """A table of queries and keys, with its colours from ``low``, by default its lowest number."""
    ends = [float(table[sees].min()) if low is None else low, float(table[sees].max())]
    margin = 1 if ends[0] == ends[1] else 0  # then one colour, in the middle of the scale
    return SimpleNamespace(
        name=name, axis=str(axis) if axis > 1 else "", ends=ends, low=ends[0] - margin,
        high=ends[1] + margin, head=head, place=place, marks=marks, titles=titles,
        part=low is None, nats=name.endswith("part"), chosen=chosen,
        z=np.where(sees, table, np.nan).astype(np.float32))


def ticks(names: Sequence[str], side: int, first: int) -> dict[str, Any]:
    """Labels of tokens: their names where they fit, else every eighth position; rows of patches."""
    if side:
        rows = range(0, side, 1 if side <= 7 else 2)
        return {"values": [1 + side * row for row in rows], "texts": [first + row for row in rows],
                "title": "[CLS], then patches by row"}
    title = f"tokens from position {first:,}"
    if len(names) <= NAMED:
        return {"values": list(range(len(names))), "texts": list(names), "title": title}
    some = range(0, len(names), 8)
    return {"values": list(some), "texts": [first + n for n in some], "title": title}


def frames(patch: int, side: int, pixels: int) -> list[dict[str, float]]:
    """Around a patch, in pixels and in patches; [CLS] has none."""
    if patch < 0:
        return []
    row, column = divmod(patch, side)
    return [{"axis": axis, "x0": column * scale - 0.5, "x1": (column + 1) * scale - 0.5,
             "y0": row * scale - 0.5, "y1": (row + 1) * scale - 0.5}
            for axis, scale in (("4", pixels), ("5", 1))]


def explorer(model: Any = None, image: Any = None) -> Explorer:
    """Content and position parts of heads' attention; ``model``, ``image``: as ``own`` takes them.
    """
    subjects = {s.kind: s for s in (shipped() if model is None else [own(model, image)])}
    if model is None and image is not None:
        subjects["image"] = dataclasses.replace(subjects["image"], picture=picture_of(image, 1))

    def panel(first: Any) -> Panel:
        shown = Panel(made, first)
        if model is None:
            with contextlib.suppress(RuntimeError):  # no kernel: a test, a script
                asyncio.get_running_loop().call_later(3, load_image_models)
        return shown

    made = Explorer("attention", state_class(subjects), computation(subjects), PICTURE,
                    click={"query": "y", "head": "head"}, panel=panel, touring=model is None,
                    stored=lambda: stored(subjects), scripts=("models",))
    return made


def load_image_models() -> threading.Thread:
    """Import timm and scikit-learn in the background, and a model: takes two seconds."""
    def load() -> None:
        shipped_models.model("image", "seqpe-mul")
        digit_image(0)
    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    return loading


def stored(subjects: Mapping[str, Subject]) -> dict[str, Any]:
    """The models, and the images at 8 x 8 pixels with the matrices that enlarge them."""
    patch = subjects["image"].shape["patch"]
    sides = {"text": (), "image": [size // patch for size in subjects["image"].sizes]}

    def described(subject: Subject) -> dict[str, Any]:
        methods = {method: subject.about(method) | {
            "model": stored_model(subject.model(method), sides[subject.kind])}
            for method in subject.methods}
        return {"shape": subject.shape, "methods": methods,
                "places": places(subject.kind, subject.shape["heads"])}

    return {
        "subjects": {kind: described(subject) for kind, subject in subjects.items()},
        "enlarge": {size: bicubic(8, size).numpy() for size in subjects["image"].sizes},
        "digits": [(digit_image(digit)[0, 0] * 255).round().byte().numpy() for digit in range(10)],
        "mean": DIGITS[0][0], "std": DIGITS[1][0], "longest": LONGEST, "named": NAMED}
