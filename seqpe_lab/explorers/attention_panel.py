"""Which part of an attention score comes from content, which from position (attention_parts.py)?"""
from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from ipywidgets import Checkbox, Dropdown, IntSlider, SelectionSlider, Text
from torch import Tensor

from seqpe_lab.course.style import add_band, add_note, add_train_line, finish, label, style_of
from seqpe_lab.explorers import attention_parts, shipped_models
from seqpe_lab.explorers.attention_parts import Curve, Parts
from seqpe_lab.explorers.drawing import BARE, subplots
from seqpe_lab.explorers.panel import Panel, control
from seqpe_lab.explorers.shipped_models import IMAGE_MODELS, TEXT_MODELS
from seqpe_lab.recipes import image_model, language_model
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.image_views import render

LONGEST = 64  # the most tokens of a typed text
NAMED = 28  # the most tokens whose names fit on an axis
SIZES = (24, 28, 36, 48)  # pixels a side, the trained one first
ADDED = ("sinusoidal", "learned")  # added to embeddings; others transform queries and keys
TEXT, IMAGE = language_model("none", "small"), image_model("none", "small")  # recipes
ONLY = {"text": ("text", "method", "start"), "image": ("digit", "size", "image_method", "corner")}


@dataclass(frozen=True)
class State:
    """A text or an image, a model that reads it, and one of its heads."""
    kind: str = control("text", Dropdown, "input", "what the model reads",
                        options=["text", "image"])
    text: str = control("the cat sat on the mat", Text, "text", "any characters; the first "
                        f"{LONGEST} bytes are shown")
    method: str = control("seqpe", Dropdown, "method", "the language model's position encoding",
                          options=[(label(m), m) for m in TEXT_MODELS])
    start: int = control(0, IntSlider, "start position", "of the first token; trained on 0 to "
                         f"{TEXT.train_len - 1}, SeqPE also on a tenth of shifted starts",
                         max=TEXT.max_position - LONGEST)
    digit: int = control(3, IntSlider, "digit", "one of scikit-learn's handwritten digits", max=9)
    size: int = control(SIZES[0], SelectionSlider, "image size", f"pixels a side; trained with "
                        f"{SIZES[0]}", options=SIZES)
    image_method: str = control("seqpe-mul", Dropdown, "method", "the image model's position "
                                "encoding", options=[(label(m), m) for m in IMAGE_MODELS])
    corner: int = control(0, IntSlider, "start row and column", "of the first patch",
                          max=IMAGE.max_position - SIZES[0] // IMAGE.patch)
    layer: int = control(0, IntSlider, "layer", "from 0, the first", max=TEXT.layers - 1)
    head: int = control(0, IntSlider, "head", "each attends in its own way", max=TEXT.heads - 1)
    relative: bool = control(True, Checkbox, "curve as the softmax sees it", "less each query's "
                             "position part with itself, which changes no weight", indent=False)


@dataclass(frozen=True)
class Numbers:
    """The attention of one head."""
    state: State
    method: str  # of the model that reads the text or the image
    shown: bytes | tuple[int, int]  # a text's bytes, or (digit, size)
    first: int  # position of the first token, or row and column of the first patch
    sees: np.ndarray  # whether a query sees a key, bool (L, L)
    tables: dict[str, np.ndarray]  # content part, position part and weights, (L, L) each
    curve: Curve

    @property
    def is_text(self) -> bool:
        return self.state.kind == "text"


def compute(state: State) -> Numbers:
    """Let the model read the text or the image, and take one head apart."""
    if state.kind == "text":
        method, shown, first = state.method, tokens_of(state.text), state.start
    else:
        method, shown = state.image_method, (state.digit, state.size)
        first = first_place(method, state.corner, state.size)
    parts, head = parts_of(state.kind, method, shown, first, state.layer), state.head
    tables = {"content part": parts.content[head], "position part": parts.position[head],
              "attention weight": parts.weights[head]}
    return Numbers(state, method, shown, first, parts.sees, tables,
                   attention_parts.by_distance(parts, head, state.relative))


def tokens_of(text: str) -> bytes:
    """A text as the bytes that the models read, at most ``LONGEST``.

    Raises:
        ValueError: no text.
    """
    if not text:
        raise ValueError("the text is empty (0 characters): type at least 1")
    return text.encode(errors="replace")[:LONGEST]


_images = functools.lru_cache(load_images)


@functools.lru_cache
def digit_image(digit: int, size: int) -> tuple[Tensor, Tensor]:
    """First test image of a digit: in [0, 1], and as models read it, both (1, 1, size, size)."""
    data = _images("digits")
    image = render(data.test[int((data.test.labels == digit).nonzero()[0])].unsqueeze(0), size)
    return image, data.normalise(image)


def first_place(method: str, corner: int, size: int) -> int:
    """Row and column of an image's first patch: the asked one, as far as the grid then fits.

    A learned table covers the grid, wherever that starts, and so has no other start than 0.
    """
    return 0 if method == "learned" else min(corner, IMAGE.max_position - size // IMAGE.patch)


@functools.lru_cache(maxsize=64)
def parts_of(kind: str, method: str, shown: bytes | tuple, start: int, layer: int) -> Parts:
    """Content and position of a shipped model; ``shown``: a text's bytes, or (digit, size)."""
    inputs = torch.tensor([list(shown)]) if kind == "text" else digit_image(*shown)[1]
    return attention_parts.split(shipped_models.model(kind, method), inputs, start, layer)


def draw(numbers: Numbers) -> go.Figure:
    """Heatmaps of content part, position part and weights; below, the position part by distance."""
    state, is_text, sees = numbers.state, numbers.is_text, numbers.sees
    titles = [f"{name}<br><sup>{table[sees].min():.3g} to {table[sees].max():.3g}"
              f"{'' if 'weight' in name else ' nats'}</sup>"
              for name, table in numbers.tables.items()]
    titles += ["the image"] * (not is_text)
    titles += ["mean position part" + ", less that at distance 0" * state.relative]
    below = [{"colspan": 3}, None, None] if is_text else [{}, {"colspan": 2}, None]
    figure = subplots(titles, _set_axes, rows=2, cols=3, specs=[[{}] * 3, below],
                      row_heights=[0.55, 0.45], horizontal_spacing=0.07, vertical_spacing=0.17)
    _draw_tables(figure, numbers)
    if not is_text:
        _draw_image(figure, state)
    _draw_curve(figure, numbers)
    content, position = (attention_parts.deviation_within_rows(numbers.tables[part], sees)
                         for part in ("content part", "position part"))
    return finish(figure, f"{label(numbers.method)}, layer {state.layer}, head {state.head}: "
                  f"position moves the scores by {position:.2f}, content by {content:.2f} nats",
                  caption(numbers), height=780, margin_t=110, title_font_size=16, showlegend=False)


def _set_axes(figure: go.Figure) -> None:
    square = dict(constrain="domain", **BARE, row=1)
    figure.update_xaxes(title_font_size=12, tickangle=0, **square)
    figure.update_yaxes(autorange="reversed", showticklabels=False, **square)
    for column, anchor in enumerate(("x", "x2", "x3"), start=1):
        figure.update_yaxes(scaleanchor=anchor, row=1, col=column)
    figure.update_yaxes(title="query", showticklabels=True, row=1, col=1)


def _draw_tables(figure: go.Figure, numbers: Numbers) -> None:
    """Queries downwards, keys to the right; cells that causal attention masks stay empty."""
    title, axis = _text_axis(numbers) if numbers.is_text else _image_axis(numbers)
    origin = numbers.first if numbers.is_text else 0
    for column, (name, table) in enumerate(numbers.tables.items(), start=1):
        values = np.where(numbers.sees, table, np.nan).astype(np.float32)
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 1 if low == high else 0  # then one colour, in the middle of the scale
        figure.add_heatmap(z=values, x0=origin, y0=origin, colorscale="Viridis", showscale=False,
                           zmin=low - margin, zmax=high + margin, row=1, col=column,
                           hovertemplate=f"query %{{y}}, key %{{x}}<br>{name} %{{z:.3f}}"
                           "<extra></extra>")
    figure.update_xaxes(title=f"key ({title})", **axis, row=1)
    figure.update_yaxes(axis, row=1, col=1)


def _text_axis(numbers: Numbers) -> tuple[str, dict]:
    title, shown, first = f"tokens from position {numbers.first:,}", numbers.shown, numbers.first
    if len(shown) > NAMED:
        return title, {}
    names = ["·" if b == 32 else chr(b) if 32 < b < 127 else f"{b:02x}" for b in shown]
    return title, dict(tickvals=list(range(first, first + len(names))), ticktext=names,
                       tickfont_size=10)


def _image_axis(numbers: Numbers) -> tuple[str, dict]:
    side = numbers.state.size // IMAGE.patch
    rows = range(0, side, 1 if side <= 7 else 2)
    return "[CLS], then patches by row", dict(
        tickvals=[1 + side * row for row in rows], tickfont_size=11,
        ticktext=[str(numbers.first + row) for row in rows])


def _draw_image(figure: go.Figure, state: State) -> None:
    figure.add_heatmap(z=digit_image(state.digit, state.size)[0][0, 0].numpy(), showscale=False,
                       colorscale="Greys_r", hoverinfo="skip", row=2, col=1)
    axis = dict(title="pixel", constrain="domain", row=2, col=1)
    figure.update_xaxes(**axis)
    figure.update_yaxes(autorange="reversed", scaleanchor="x4", **axis)


def _draw_curve(figure: go.Figure, numbers: Numbers) -> None:
    curve, colour = numbers.curve, style_of(numbers.method)[1]
    place = dict(row=2, col=1 if numbers.is_text else 2)
    add_band(figure, curve.distance, curve.mean - curve.spread, curve.mean + curve.spread, colour,
             **place)
    figure.add_scatter(x=curve.distance, y=curve.mean, mode="lines+markers", marker_size=5,
                       customdata=np.stack([curve.spread, curve.pairs], 1),
                       line=dict(color=colour, width=2), **place,
                       hovertemplate="distance %{x:.3~g}: %{y:.3f} ± %{customdata[0]:.3f}, "
                       "%{customdata[1]} pairs<extra></extra>")
    unit = "tokens" if numbers.is_text else "patches, Euclidean"
    figure.update_xaxes(title=f"distance of query and key ({unit})", **place)
    figure.update_yaxes(title="position part (nats)", zerolinecolor="#999999", **place)
    if not numbers.is_text and numbers.state.size > SIZES[0]:
        longest = 2**0.5 * (IMAGE.train_shape[0] - 1)
        add_train_line(figure, longest, **place)
        add_note(figure, "longest in training", longest, 0, **place)


def caption(numbers: Numbers) -> str:
    """Model and data, what is shown and what was cut off, and how to read it."""
    state, first, kind = numbers.state, numbers.first, numbers.state.kind
    recipe = shipped_models.recipe(kind, numbers.method)
    limits = []
    if numbers.is_text:
        model, trained = "language", f"sequences of {recipe.train_len} tokens"
        shown = f"positions {first:,} to {first + len(numbers.shown) - 1:,}"
        if (length := len(state.text.encode(errors="replace"))) > LONGEST:
            limits.append(f"cut: the first {LONGEST} of {length:,} bytes are shown")
    else:
        rows, columns = recipe.train_shape
        model, trained = "image", f"{rows} × {columns} patches of {recipe.patch} pixels"
        shown = (f"first test image of digit {state.digit} at {state.size} pixels, rows and "
                 f"columns from {first}")
        if first < state.corner:
            why = ("a learned table has no other start than 0" if numbers.method == "learned" else
                   f"positions end at {recipe.max_position - 1}")
            limits.append(f"start {state.corner} is not possible: {why}")
    return " · ".join([
        f"{label(numbers.method)} of the {model} models, "
        f"{shipped_models.provenance(kind, numbers.method)}, trained on {trained}", shown, *limits,
        "colours run from each table's lowest (dark) to its highest number (bright), both named "
        "above it · moves: standard deviation over a query's keys · band: ± one standard "
        "deviation over the pairs"])


def words(numbers: Numbers) -> str:
    """The definition of the two parts, for the method that is shown."""
    method, state = numbers.method, numbers.state
    content = (f"q·k / √d<sub>head</sub> of the same queries and keys before {label(method)} "
               "transforms them into q′ and k′")
    if method == "none":
        content = "all of it: without an encoding q′ = q and k′ = k, and the position part is 0"
    elif method in ADDED:
        content = ("the same with this layer's q and k computed from its input less the position "
                   "vectors (subtracted before its LayerNorm)")
    lower = " What the layers below have made of positions counts as content." * (state.layer > 0)
    seen = (" In the curve each query's position part with itself is taken off: a number added to "
            "a whole row of scores changes no weight.") * state.relative
    return ("<b>Score</b> = q′·k′ / √d<sub>head</sub>, before the softmax. <b>Content part</b>: "
            f"{content}. <b>Position part</b>: the rest, so that in every cell content + position "
            f"= score.{lower}{seen}")


def table(numbers: Numbers) -> dict[str, list]:
    """The curve's numbers."""
    curve, unit = numbers.curve, "tokens" if numbers.is_text else "patches"
    return {f"distance ({unit})": curve.distance.tolist(),
            "mean position part (nats)": curve.mean.tolist(),
            "standard deviation (nats)": curve.spread.tolist(), "pairs": curve.pairs.tolist()}


def explore() -> Panel:
    """Type a text or choose an image; see content and position parts of a head's attention."""
    panel = Panel("Content and position in attention", "Choose a method, a layer and a head. Then "
                  "move the start: which position parts stay, and which change?", State, compute,
                  draw, words=words, table=table, file="position-part")

    def show_controls() -> None:
        other = ONLY["image" if panel.controls["kind"].value == "text" else "text"]
        for name, box in zip(panel.controls, panel.children[1].children):
            box.layout.display = "none" if name in other else None

    panel.controls["kind"].observe(lambda _: show_controls(), names="value")
    show_controls()
    try:  # after the first picture, and before the first image is chosen
        asyncio.get_running_loop().call_later(3, load_image_models)
    except RuntimeError:
        pass  # no kernel: a test, a script
    return panel


def load_image_models() -> threading.Thread:
    """Import timm and scikit-learn in the background and run a model once: takes two seconds."""
    loading = threading.Thread(target=parts_of, args=("image", "seqpe-mul", (3, SIZES[0]), 0, 0),
                               daemon=True)
    loading.start()
    return loading
