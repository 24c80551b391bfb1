"""How much of its context a language model uses: loss by position, cut attention, distances.

A flat perplexity says that distant tokens do no harm. Whether they help is another question, and
three measurements answer it: the loss at each place of a long context, the perplexity when no layer
may look further back than w tokens, and the share of attention that goes to each distance.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from seqpe_lab.encodings import PositionEncoding
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.tasks.base import evaluation_mode
from seqpe_lab.tasks.perplexity import perplexity_by_length, token_nats
from seqpe_lab.tasks.token_storage import StoredTokens


def loss_by_position(model: GPT2, tokens: Tensor | StoredTokens, length: int) -> Tensor:
    """Mean loss at each position of contexts of ``length`` tokens (non-overlapping chunks).

    Args:
        tokens: whole numbers (T,), T > length; what does not fill a last chunk is left out.

    Returns:
        float64 (length,): nats; entry i is the prediction from tokens 0 .. i of a chunk.

    Raises:
        ValueError: fewer tokens than one chunk and its next token.
    """
    chunks = _chunks(tokens, length)
    nats = token_nats(model, tokens[: chunks * length + 1], length)
    return nats.view(chunks, length).mean(0)


def perplexity_in_window(model: GPT2, tokens: Tensor | StoredTokens, lengths: Sequence[int],
                         window: int | None) -> dict[int, float]:
    """{length: perplexity} where each layer attends to the last ``window`` tokens only.

    The query's own token is one of them. With several layers, information from further back still
    arrives, through the tokens between: from ``layers * (window - 1)`` tokens at most.

    Args:
        lengths: contexts in tokens (non-overlapping chunks of the same text).
        window: at least 1; None for all tokens.

    Raises:
        ValueError: a window below 1; a text shorter than the longest length.
    """
    with cut_attention(model, window):
        return {found.length: found.perplexity
                for found in perplexity_by_length(model, tokens, lengths)}


@contextmanager
def cut_attention(model: GPT2, window: int | None) -> Iterator[None]:
    """Inside, no query of the model sees a key ``window`` or more positions before it.

    Attention is computed a block of queries at a time, so memory grows linearly with the context.
    """
    if window is not None and window < 1:
        raise ValueError(f"a window must hold at least the query's own token, got {window}: give "
                         "at least 1, or None for all tokens")
    whole = model.encoding
    if window is not None:
        model.encoding = Windowed(whole, window)
    try:
        yield
    finally:
        model.encoding = whole


def attention_by_distance(model: GPT2, tokens: Tensor | StoredTokens, length: int,
                          edges: Sequence[int], tokens_per_pass: int = 4_096) -> Tensor:
    """The share of attention that goes to each range of distances, in each layer.

    Distance 0 is the query's own token. Only queries in the second half of the context count:
    each of them could attend to any distance up to half the context.

    Args:
        tokens, length: as in :func:`loss_by_position`.
        edges: distances at which a range ends and the next begins, rising: with (1, 4) the ranges
            are 0, 1 to 3, and all from 4 on.

    Returns:
        float64 (layers, ranges); means over text, queries and heads; each row sums to 1.
    """
    chunks = _chunks(tokens, length)
    texts = tokens[: chunks * length].long().view(chunks, length)
    whole = model.encoding
    watch = Watched(whole, edges, length // 2, model.config)
    model.encoding = watch
    try:
        with evaluation_mode(model) as device:
            for part in texts.split(max(1, tokens_per_pass // length)):
                model.hidden_states(part.to(device))
    finally:
        model.encoding = whole
    return watch.total / watch.total.sum(-1, keepdim=True)


def _chunks(tokens: Tensor | StoredTokens, length: int) -> int:
    """How many chunks of ``length`` tokens, each with its next one, a text holds."""
    chunks = (len(tokens) - 1) // length if length >= 1 else 0
    if not chunks:
        raise ValueError(f"a chunk of {length} tokens and its next token do not fit into a text "
                         f"of {len(tokens)} tokens: shorten the length")
    return chunks


class _Around(PositionEncoding):
    """Another encoding, which attention also asks for a bias, block by block."""

    def __init__(self, inner: PositionEncoding):
        super().__init__()
        self.inner = inner
        for hook in ("embed", "embed_each", "encode", "prepare", "transform", "at_layer"):
            setattr(self, hook, getattr(inner, hook))

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Any:
        if not self.inner.adds_bias:
            return q.new_zeros(1, q.shape[-2], k.shape[-2])
        return self.inner.content_bias(q, k, query_positions, key_positions, allowed, layer)


class Windowed(_Around):
    """An encoding with which no query sees a key ``window`` or more positions before it."""

    def __init__(self, inner: PositionEncoding, window: int):
        super().__init__(inner)
        self.window = window

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor:
        near = _distance(query_positions, key_positions) < self.window
        bias = super().content_bias(q, k, query_positions, key_positions, allowed & near, layer)
        return bias.masked_fill(~near, -torch.inf)


class Watched(_Around):
    """An encoding that sums the attention weights of each layer by distance, in ``total``."""

    def __init__(self, inner: PositionEncoding, edges: Sequence[int], first: int,
                 config: GPT2Config):
        super().__init__(inner)
        self.first = first  # position of the first query that counts
        self.edges = torch.tensor(edges)
        self.d_head = config.d_model // config.heads
        self.total = torch.zeros(config.layers, len(edges) + 1, dtype=torch.float64)

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor:
        bias = super().content_bias(q, k, query_positions, key_positions, allowed, layer)
        counted = query_positions[:, 0] >= self.first
        if counted.any():
            scores = q @ k.transpose(-1, -2) / self.d_head**0.5 + bias
            weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)[..., counted, :]
            distance = _distance(query_positions, key_positions)[counted].cpu()
            self.total[layer].index_add_(0, torch.bucketize(distance, self.edges,
                                                            right=True).flatten(),
                                         weights.sum((0, 1)).double().cpu().flatten())
        return bias


def _distance(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """(l, 1) and (L, 1), the same for all sequences -> (l, L): how far a key lies before a query.

    A key after the query, which no query sees, has a negative one.
    """
    return query_positions - key_positions[:, 0]
