"""Which part of attention is content, which is position?

The score of a query and a key is q'.k' / sqrt(d_head), before the softmax. Its content part is what
the same layer's queries and keys give with the encoding taken out of this layer; its position part
is the rest, so that content + position = score. The layers below keep their encoding, so that what
they have made of positions counts as content here.
"""
from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.course import figures
from seqpe_lab.course.draft import Draft
from seqpe_lab.digits import grid
from seqpe_lab.explorers import bundle
from seqpe_lab.explorers.panel import Panel, choice, slider, steps, toggle, typed
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.recipes import image_model, language_model
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.image_views import render

LONGEST = 64  # tokens of a typed text
NAMED = 28  # tokens that have room for their names on an axis
SIZES = (24, 28, 36, 48)  # pixels a side, the trained one first
TEXT = "the cat sat on the mat"
ADDED = ("sinusoidal", "learned")  # to token embeddings; the others transform queries and keys


# --- numbers -----------------------------------------------------------------------------------

@contextlib.contextmanager
def watched(encoding: nn.Module) -> Iterator[SimpleNamespace]:
    """What an encoding does while a model runs.

    Yields:
        ``layers``: (q, k, q', k') of each layer, before and after ``transform``, (B, H, L, d_head) and (B, H, L, width);
        ``added``: what ``embed`` adds to token embeddings, (1, L, d_model).
    """
    seen, embed, transform = SimpleNamespace(layers=[], added=None), encoding.embed, encoding.transform

    def watch_embed(x, positions, context):
        seen.added = embed(torch.zeros_like(x), positions, context)
        return embed(x, positions, context)

    def watch_transform(q, k, prepared, layer):
        after = transform(q, k, prepared, layer)
        seen.layers.append((q, k, *after))
        return after

    encoding.embed, encoding.transform = watch_embed, watch_transform
    try:
        yield seen
    finally:
        del encoding.embed, encoding.transform  # those of the class show again


@contextlib.contextmanager
def subtracted(norm: nn.Module, vectors: Tensor) -> Iterator[None]:
    """A LayerNorm reads its input less ``vectors``, (1, L, d_model)."""
    hook = norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] - vectors,))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class Parts:
    """One layer's scores taken apart, float64 (H, L, L): heads, queries, keys. A token that stands nowhere ([CLS]) comes first.

    Attributes:
        content, position: nats; their sum is the score.
        weights: softmax of the score over the keys that a query sees.
        sees: bool (L, L).
        distance: (L, L), tokens, or patches (Euclidean); NaN where there is none ([CLS]).
    """
    content: np.ndarray
    position: np.ndarray
    weights: np.ndarray
    sees: np.ndarray
    distance: np.ndarray


@torch.no_grad()
def split(model: nn.Module, inputs: Tensor, start: int, layer: int) -> Parts:
    """Take the attention of one layer apart.

    Args:
        model: a :class:`GPT2` or a :class:`ViT <seqpe_lab.models.vit.ViT>` in evaluation mode; it is left as it was.
        inputs: one text, int64 (1, L), or one image, float (1, channels, height, width).
        start: position of the first token; row and column of the first patch.
    """
    reads_text = isinstance(model, GPT2)
    begin = start if reads_text else (start, start)
    norm = model.transformer.h[layer].ln_1 if reads_text else model.vit.blocks[layer].norm1
    with watched(model.encoding) as seen:
        model(inputs, start=begin)
    q, k, q_after, k_after = seen.layers[layer]
    score = _scores(q_after, k_after, q.shape[-1])
    if bool(seen.added.any()):  # absolute: this layer once more, without the vectors
        prefix = q.shape[-2] - seen.added.shape[-2]
        with subtracted(norm, F.pad(seen.added, (0, 0, prefix, 0))), watched(model.encoding) as without:
            model(inputs, start=begin)
        q, k = without.layers[layer][:2]
    content = _scores(q, k, q.shape[-1])
    length = score.shape[-1]
    sees = torch.ones(length, length, dtype=torch.bool)
    sees = sees.tril() if reads_text else sees
    weights = score.masked_fill(~sees, -torch.inf).softmax(-1)
    places = torch.arange(length).unsqueeze(-1) if reads_text else grid(*model.grid_of(inputs))
    distance = F.pad(torch.cdist(places.double(), places.double()), (length - len(places), 0) * 2, value=torch.nan)
    return Parts(*(t.numpy() for t in (content, score - content, weights, sees, distance)))


def _scores(q: Tensor, k: Tensor, d_head: int) -> Tensor:
    """q.k / sqrt(d_head), (H, L, L), in double: the position part is a difference."""
    return (q[0].double() @ k[0].double().transpose(-1, -2)) / d_head**0.5


def by_distance(parts: Parts, head: int, relative: bool) -> dict[str, np.ndarray]:
    """The position part over all pairs at each distance: "distance", "mean", "spread" (standard deviation), "pairs".

    Args:
        relative: to each query's position part with itself. A number added to a whole row changes
            no weight, so this is all that the softmax sees: ALiBi's m j becomes -m (i - j).
    """
    position = parts.position[head]
    if relative:
        position = position - np.diagonal(position)[:, None]
    counted = parts.sees & np.isfinite(parts.distance)
    distance, group, pairs = np.unique(parts.distance[counted].round(6), return_inverse=True, return_counts=True)
    values = position[counted]
    mean = np.bincount(group, values) / pairs
    spread = np.sqrt(np.bincount(group, (values - mean[group]) ** 2) / pairs)
    return {"distance": distance, "mean": mean, "spread": spread, "pairs": pairs}


def moves(part: np.ndarray, sees: np.ndarray) -> float:
    """How far a part moves the scores of one query apart: its standard deviation within rows (H aside), nats."""
    counts = sees.sum(1, keepdims=True)
    centred = np.where(sees, part - np.where(sees, part, 0).sum(1, keepdims=True) / counts, 0)
    return float(np.sqrt((centred**2).sum() / sees.sum()))


# --- what is looked at -------------------------------------------------------------------------

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
    """The first test image of a digit at ``size`` pixels: in [0, 1], and as the models read it, both (1, 1, size, size)."""
    data = _images("digits")
    image = render(data.test[int((data.test.labels == digit).nonzero()[0])].unsqueeze(0), size)
    return image, data.normalise(image)


def first_place(method: str, corner: int, size: int) -> int:
    """Row and column of an image's first patch: the asked one, as far as the grid then stays below max_position.

    A learned table covers the grid, wherever that starts, and so has no other start than 0.
    """
    recipe = image_model(method, "small")
    return 0 if method == "learned" else min(corner, recipe.max_position - size // recipe.patch)


@functools.lru_cache(maxsize=64)
def parts_of(kind: str, method: str, shown: bytes | tuple[int, int], start: int, layer: int) -> Parts:
    """:func:`split` of a shipped model; ``shown``: a text's bytes, or (digit, size)."""
    inputs = torch.tensor([list(shown)]) if kind == "text" else digit_image(*shown)[1]
    return split(bundle.model(kind, method), inputs, start, layer)


@dataclass(frozen=True)
class View:
    """What the controls ask for."""
    kind: str  # "text" or "image"
    method: str
    shown: bytes | tuple[int, int]  # a text, or (digit, size)
    first: int  # position of the first token, row and column of the first patch
    parts: Parts


def view(kind: str, text: str, method: str, start: int, digit: int, size: int, image_method: str, corner: int, layer: int, **_) -> View:
    """The model's attention to the chosen text or image; arguments as of :func:`picture`."""
    method, shown, first = (method, tokens_of(text), start) if kind == "text" else (image_method, (digit, size), first_place(image_method, corner, size))
    return View(kind, method, shown, first, parts_of(kind, method, shown, first, layer))


# --- the picture -------------------------------------------------------------------------------

def picture(kind: str, text: str, method: str, start: int, digit: int, size: int, image_method: str, corner: int, layer: int, head: int, relative: bool) -> go.Figure:
    """Three heatmaps, content part, position part and weights; below, the mean position part against distance.

    Args:
        kind: "text" or "image": which of ``text``, ``method``, ``start`` and ``digit``, ``size``, ``image_method``, ``corner`` count.
        relative: of the curve, see :func:`by_distance`.
    """
    seen = view(kind, text, method, start, digit, size, image_method, corner, layer)
    tables = {"content part": seen.parts.content[head], "position part": seen.parts.position[head], "attention weight": seen.parts.weights[head]}
    ranges = {title: (table[seen.parts.sees].min(), table[seen.parts.sees].max()) for title, table in tables.items()}
    titles = [f"{title}<br><sup>{low:.3g} to {high:.3g}{'' if 'weight' in title else ' nats'}</sup>" for title, (low, high) in ranges.items()]
    titles += ["the image"] * (kind == "image") + [f"mean position part{', less that at distance 0' if relative else ''}"]
    figure = Draft(2, 3, titles, horizontal_spacing=0.07, vertical_spacing=0.17, row_heights=[0.55, 0.45],
                           specs=[[{}] * 3, [{"colspan": 3}, None, None] if kind == "text" else [{}, {"colspan": 2}, None]])
    _draw_tables(figure, seen, tables)
    if kind == "image":
        _draw_image(figure, digit, size)
    _draw_curve(figure, by_distance(seen.parts, head, relative), seen)
    content, position = (moves(tables[name], seen.parts.sees) for name in ("content part", "position part"))
    title = f"{figures.label(seen.method)}, layer {layer}, head {head}: position moves the scores by {position:.2f}, content by {content:.2f} nats"
    return figure.finish(title, _caption(seen, text, corner), height=780, margin=dict(t=110), title_font_size=16, showlegend=False)


def _draw_tables(figure: Draft, seen: View, tables: dict[str, np.ndarray]) -> None:
    """Queries downwards, keys to the right; a text's upper half, which no query sees, stays empty."""
    origin = seen.first if seen.kind == "text" else 0
    square = dict(constrain="domain", showgrid=False, zeroline=False)
    axis = _token_axis(seen) if seen.kind == "text" else _patch_axis(seen)
    figure.update_xaxes(title=f"key ({axis.pop('title')})", title_font_size=12, tickangle=0, **axis, **square, row=1)
    for column, (title, table) in enumerate(tables.items(), start=1):
        values = np.where(seen.parts.sees, table, np.nan).astype(np.float32)
        low, high = np.nanmin(values), np.nanmax(values)
        if low == high:  # one colour, in the middle of the scale
            low, high = low - 1, high + 1
        figure.add("heatmap", z=values, x0=origin, y0=origin, colorscale="Viridis", showscale=False, zmin=low, zmax=high,
                   hovertemplate=f"query %{{y}}, key %{{x}}<br>{title} %{{z:.3f}}<extra></extra>", row=1, col=column)
        figure.update_yaxes(autorange="reversed", scaleanchor=f"x{column if column > 1 else ''}", showticklabels=column == 1, **axis, **square, row=1, col=column)
    figure.update_yaxes(title="query", row=1, col=1)


def _draw_image(figure: Draft, digit: int, size: int) -> None:
    figure.add("heatmap", z=digit_image(digit, size)[0][0, 0].numpy(), colorscale="Greys_r", showscale=False, hoverinfo="skip", row=2, col=1)
    figure.update_xaxes(title="pixel", constrain="domain", row=2, col=1)
    figure.update_yaxes(title="pixel", autorange="reversed", scaleanchor="x4", constrain="domain", row=2, col=1)


def _draw_curve(figure: Draft, curve: dict[str, np.ndarray], seen: View) -> None:
    colour, place = figures.STYLE[seen.method][1], dict(row=2, col=1 if seen.kind == "text" else 2)
    x, mean, spread = curve["distance"], curve["mean"], curve["spread"]
    figure.add("scatter", x=[*x, *x[::-1]], y=[*(mean + spread), *(mean - spread)[::-1]], mode="lines", fill="toself", fillcolor=colour, opacity=0.2, line_width=0,
                       hoverinfo="skip", **place)
    figure.add("scatter", x=x, y=mean, customdata=np.stack([spread, curve["pairs"]], 1), mode="lines+markers", line=dict(color=colour, width=2), marker_size=5,
                       hovertemplate="distance %{x:.3~g}: %{y:.3f} ± %{customdata[0]:.3f}, %{customdata[1]} pairs<extra></extra>", **place)
    figure.update_xaxes(title=f"distance of query and key ({'tokens' if seen.kind == 'text' else 'patches, Euclidean'})", **place)
    figure.update_yaxes(title="position part (nats)", zeroline=True, zerolinecolor="#999999", **place)
    if seen.kind == "image" and seen.shown[1] > SIZES[0]:
        longest = 2**0.5 * (image_model(seen.method, "small").train_shape[0] - 1)
        figure.add_vline(longest, **place)
        figure.add_annotation(x=longest, y=0, yref="y domain", **place, text="longest in training", showarrow=False, xanchor="left", yanchor="bottom", font_size=12)


def _token_axis(seen: View) -> dict:
    if len(seen.shown) > NAMED:
        return {"title": f"tokens from position {seen.first:,}"}
    names = [{32: "·"}.get(b, chr(b) if 32 < b < 127 else f"{b:02x}") for b in seen.shown]
    return {"title": f"tokens from position {seen.first:,}", "tickvals": list(range(seen.first, seen.first + len(names))), "ticktext": names, "tickfont_size": 10}


def _patch_axis(seen: View) -> dict:
    side = seen.shown[1] // image_model(seen.method, "small").patch
    rows = range(0, side, 1 if side <= 7 else 2)
    return {"title": "[CLS], then patches by row", "tickvals": [1 + side * row for row in rows], "ticktext": [str(seen.first + row) for row in rows], "tickfont_size": 11}


def _caption(seen: View, text: str, corner: int) -> str:
    about = bundle.about(seen.kind, seen.method)
    recipe, data = bundle.recipe(seen.kind, seen.method), about["results"]["data"]["description"]
    if seen.kind == "text":
        trained, said = f"sequences of {recipe.train_len} tokens", [f"positions {seen.first:,} to {seen.first + len(seen.shown) - 1:,}"]
        if (length := len(text.encode(errors="replace"))) > LONGEST:
            said.append(f"cut: the first {LONGEST} of {length:,} bytes are shown")
    else:
        trained = f"{recipe.train_shape[0]} × {recipe.train_shape[1]} patches of {recipe.patch} pixels"
        said = [f"first test image of digit {seen.shown[0]} at {seen.shown[1]} pixels, rows and columns from {seen.first}"]
        if seen.first < corner:
            said.append(f"start {corner} is not possible: " + ("a learned table has no other start than 0" if seen.method == "learned" else f"positions end at {recipe.max_position - 1}"))
    return " · ".join([f"{figures.label(seen.method)} of the {'language' if seen.kind == 'text' else 'image'} models, scale {recipe.scale}, seed {recipe.seed}, trained on {trained}, {data}", *said,
                       "colours run from each table's lowest (dark) to its highest number (bright), both named above it", "moves: standard deviation over a query's keys",
                       "band: ± one standard deviation over the pairs"])


def words(kind: str, method: str, image_method: str, layer: int, relative: bool, **_) -> str:
    """The definition of the two parts, for the method that is shown."""
    name = method if kind == "text" else image_method
    if name == "none":
        content = "all of it: without an encoding q′ = q and k′ = k, and the position part is 0"
    elif name in ADDED:
        content = "the same with this layer's q and k computed from its input less the position vectors (subtracted before its LayerNorm)"
    else:
        content = f"q·k / √d<sub>head</sub> of the same queries and keys before {figures.label(name)} transforms them into q′ and k′"
    lower = " What the layers below have made of positions counts as content." if layer else ""
    seen = " In the curve each query's position part with itself is taken off: a number added to a whole row of scores changes no weight." if relative else ""
    return (f"<b>Score</b> = q′·k′ / √d<sub>head</sub>, before the softmax. <b>Content part</b>: {content}. <b>Position part</b>: the rest, so that in every cell "
            f"content + position = score.{lower}{seen}")


def table(kind: str, head: int, relative: bool, **asked) -> dict[str, list]:
    """The curve's numbers; arguments as of :func:`picture`."""
    curve = by_distance(view(kind, **asked).parts, head, relative)
    names = {"distance": f"distance ({'tokens' if kind == 'text' else 'patches'})", "mean": "mean position part (nats)", "spread": "standard deviation (nats)", "pairs": "pairs"}
    return {names[key]: values.tolist() for key, values in curve.items()}


def explore() -> Panel:
    """Type a text or choose an image; see what of a head's attention is content, and what is position."""
    text, image = language_model("none", "small"), image_model("none", "small")
    side = min(SIZES) // image.patch

    def named(methods):
        return [(figures.label(method), method) for method in methods]

    controls = {
        "kind": choice("input", "what the model reads", [("text", "text"), ("image", "image")], "text"),
        "text": typed("text", f"any characters; the first {LONGEST} bytes are shown", TEXT),
        "method": choice("method", "the language model's position encoding", named(bundle.MODELS), "seqpe"),
        "start": slider("start position", f"of the first token; trained on 0 to {text.train_len - 1}, SeqPE also on a tenth of shifted starts", 0, text.max_position - LONGEST, 0),
        "digit": slider("digit", "one of scikit-learn's handwritten digits", 0, 9, 3),
        "size": steps("image size", f"pixels a side; trained with {SIZES[0]}", SIZES, SIZES[0]),
        "image_method": choice("method", "the image model's position encoding", named(bundle.IMAGE_MODELS), "seqpe-mul"),
        "corner": slider("start row and column", "of the first patch", 0, image.max_position - side, 0),
        "layer": slider("layer", "from 0, the first", 0, text.layers - 1, 0),
        "head": slider("head", "each attends in its own way", 0, text.heads - 1, 0),
        "relative": toggle("curve as the softmax sees it", "less each query's position part with itself, which changes no weight", True),
    }
    panel = Panel("Content and position in attention", "Choose a method, a layer and a head. Then move the start: which position parts stay, and which change?",
                  picture, controls, words=words, table=table, file="position-part")
    of_kind = {"text": ("text", "method", "start"), "image": ("digit", "size", "image_method", "corner")}

    def show_its_own() -> None:
        for name, box in zip(panel.controls, panel.children[1].children):
            others = of_kind["image" if panel.controls["kind"].value == "text" else "text"]
            box.layout.display = "none" if name in others else None

    panel.controls["kind"].observe(lambda _: show_its_own(), names="value")
    show_its_own()
    try:
        asyncio.get_running_loop().call_later(3, get_ready_for_images)  # not before the first picture, and not when the first image is chosen, but in between
    except RuntimeError:
        pass  # no kernel: a test, a script
    return panel


def get_ready_for_images() -> threading.Thread:
    """Import timm and scikit-learn, which takes two seconds, and let a model read an image, while the reader looks at something else."""
    loading = threading.Thread(target=parts_of, args=("image", "seqpe-mul", (3, SIZES[0]), 0, 0), daemon=True)
    loading.start()
    return loading
