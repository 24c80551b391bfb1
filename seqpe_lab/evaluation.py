"""Perplexity at any context length, with the protocol named beside every number."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PROTOCOLS = ("non-overlapping", "sliding")


class Perplexity(NamedTuple):
    """One measured number and how it was measured."""
    length: int  # context, tokens
    nats: float  # mean negative log-likelihood a predicted token
    tokens: int  # how many tokens were predicted
    protocol: str  # "non-overlapping", or "sliding, stride S"

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats, 700.0))  # exp(709) is the largest float


@torch.no_grad()
def perplexity(model, tokens: Tensor, length: int, *, protocol: str = "non-overlapping", stride: int | None = None,
               tokens_per_pass: int = 16_384) -> Perplexity:
    """Perplexity of ``model`` with contexts of ``length`` tokens, in evaluation mode.

    * non-overlapping (the paper's, after Press et al.): the text is cut into chunks of ``length``
      tokens and every chunk predicts each of its next tokens, the first with one token of context.
    * sliding: a window of ``length`` tokens moves on by ``stride`` and only its last ``stride``
      predictions count (all of the first window's), so each has at least length - stride + 1
      tokens of context.

    Args:
        model: tokens (B, L) -> logits (B, L, vocab_size).
        tokens: int64 (T,), T > length.
        stride: for "sliding"; by default length // 2.
        tokens_per_pass: how many tokens go through the model at once.

    Raises:
        ValueError: fewer tokens than one chunk, an unknown protocol, a stride outside [1, length].
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    if length < 1 or len(tokens) <= length:
        raise ValueError(f"a chunk of {length} tokens and its next token do not fit into a text of {len(tokens)} tokens: shorten the length")
    if protocol == "non-overlapping":
        stride = length
    else:
        stride = max(1, length // 2) if stride is None else stride
        if not 1 <= stride <= length:
            raise ValueError(f"the stride must lie in [1, {length}], got {stride}")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    starts = torch.arange(0, len(tokens) - length, stride)
    total, count = 0.0, 0
    try:
        for part in starts.split(max(1, tokens_per_pass // length)):
            windows = tokens[part.unsqueeze(1) + torch.arange(length + 1)].to(device)  # (B, length + 1)
            logits = model(windows[:, :-1]).float()
            nats = F.cross_entropy(logits.transpose(1, 2), windows[:, 1:], reduction="none")  # (B, length)
            counted = torch.ones_like(nats, dtype=torch.bool)
            counted[:, : length - stride] = (part == 0).unsqueeze(1).to(device)
            total += nats.double()[counted].sum().item()
            count += int(counted.sum())
    finally:  # also where a context is refused
        model.train(was_training)
    name = protocol if protocol == "non-overlapping" else f"sliding, stride {stride}"
    return Perplexity(length, total / count, count, name)


def perplexity_by_length(model, tokens: Tensor, lengths: Sequence[int], **options) -> list[Perplexity]:
    """:func:`perplexity` at several lengths, all predicting the same tokens.

    The text is cut to a multiple of the longest length, so that a difference between two lengths
    is one of context and never one of text (every shorter length must divide the longest for
    that to be exact).

    Raises:
        ValueError: a text shorter than the longest length, as in :func:`perplexity`.
    """
    longest = max(lengths)
    usable = (len(tokens) - 1) // longest * longest
    if usable == 0:
        raise ValueError(f"the text has {len(tokens)} tokens, too few for a context of {longest}: shorten eval_lens")
    return [perplexity(model, tokens[: usable + 1], length, **options) for length in lengths]
