"""The score of a query and a key, split into a content part and a position part.

The score is q'.k' / sqrt(d_head), before the softmax. Its content part is what the same layer's
queries and keys give without the encoding of this layer; its position part is the rest, so that
content + position = score. The layers below keep their encoding, so their use of positions counts
as content here.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.digits import grid
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.pair_bias import bias_between, places as located


@contextlib.contextmanager
def recorded(encoding: nn.Module) -> Iterator[SimpleNamespace]:
    """Record an encoding's inputs and outputs while a model runs.

    Yields:
        ``layers``: (q, k, q', k') of each layer, before and after ``transform``, (B, H, L, d_head)
        and (B, H, L, width); ``added``: what ``embed`` adds to embeddings, (1, L, d_model).
    """
    seen = SimpleNamespace(layers=[], added=None)
    embed, transform = encoding.embed, encoding.transform

    def record_embed(x, positions, context):
        seen.added = embed(torch.zeros_like(x), positions, context)
        return embed(x, positions, context)

    def record_transform(q, k, prepared, layer):
        after = transform(q, k, prepared, layer)
        seen.layers.append((q, k, *after))
        return after

    encoding.embed, encoding.transform = record_embed, record_transform
    try:
        yield seen
    finally:
        del encoding.embed, encoding.transform  # the class's methods are visible again


@contextlib.contextmanager
def subtracted(norm: nn.Module, vectors: Tensor) -> Iterator[None]:
    """A LayerNorm gets its input minus ``vectors``, (1, L, d_model)."""
    hook = norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] - vectors,))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class Parts:
    """One layer's scores, float64 (H, L, L): heads, queries, keys. [CLS] of an image comes first.

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
    """Split the attention scores of one layer.

    Args:
        model: a :class:`GPT2` or a :class:`ViT <seqpe_lab.models.vit.ViT>` in evaluation mode; it
            is left as it was.
        inputs: one text, int64 (1, L), or one image, float (1, channels, height, width).
        start: position of the first token; row and column of the first patch.
    """
    is_text = isinstance(model, GPT2)
    begin = start if is_text else (start, start)
    norm = model.transformer.h[layer].ln_1 if is_text else model.vit.blocks[layer].norm1
    with recorded(model.encoding) as seen:
        model(inputs, start=begin)
    q, k, q_after, k_after = seen.layers[layer]
    length = q.shape[-2]
    places = torch.arange(length).unsqueeze(-1) if is_text else grid(*model.grid_of(inputs))
    sees = torch.ones(length, length, dtype=torch.bool)
    sees = sees.tril() if is_text else sees
    score = _scores(q_after, k_after, q.shape[-1])
    if model.encoding.adds_bias:
        where = located(places + torch.tensor(begin))
        bias = bias_between(model.encoding, layer, where, where, length)
        score = score + bias(q_after, k_after, 0, sees).double().view_as(score)
    if bool(seen.added.any()):  # absolute: this layer once more, without the vectors
        prefix = q.shape[-2] - seen.added.shape[-2]
        vectors = F.pad(seen.added, (0, 0, prefix, 0))
        with subtracted(norm, vectors), recorded(model.encoding) as without:
            model(inputs, start=begin)
        q, k = without.layers[layer][:2]
    content = _scores(q, k, q.shape[-1])
    weights = score.masked_fill(~sees, -torch.inf).softmax(-1)
    distance = F.pad(torch.cdist(places.double(), places.double()), (length - len(places), 0) * 2,
                     value=torch.nan)
    return Parts(*(t.numpy() for t in (content, score - content, weights, sees, distance)))


def _scores(q: Tensor, k: Tensor, d_head: int) -> Tensor:
    """q.k / sqrt(d_head), (H, L, L), in double: the position part is a difference."""
    return (q[0].double() @ k[0].double().transpose(-1, -2)) / d_head**0.5


def by_distance(parts: Parts, head: int, relative: bool) -> SimpleNamespace:
    """The position part over all pairs at each distance: mean and standard deviation, (D,) each.

    Args:
        relative: subtract each query's position part with itself. A number added to a whole row
            changes no weight, so the softmax is the same: ALiBi's m j becomes -m (i - j).
    """
    position = parts.position[head]
    if relative:
        position = position - np.diagonal(position)[:, None]
    counted = parts.sees & np.isfinite(parts.distance)
    distance, group, pairs = np.unique(parts.distance[counted].round(6), return_inverse=True,
                                       return_counts=True)
    values = position[counted]
    mean = np.bincount(group, values) / pairs
    spread = np.sqrt(np.bincount(group, (values - mean[group]) ** 2) / pairs)
    return SimpleNamespace(distance=distance, mean=mean, spread=spread, low=mean - spread,
                           high=mean + spread, pairs=pairs)


def deviation_within_rows(part: np.ndarray, sees: np.ndarray) -> float:
    """Standard deviation of a part, (L, L) nats, over the keys that a query sees."""
    mean = np.where(sees, part, 0).sum(1, keepdims=True) / sees.sum(1, keepdims=True)
    return float(np.sqrt(((part - mean)[sees] ** 2).mean()))
