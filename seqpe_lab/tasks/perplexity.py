"""Perplexity and bits per character at any context length, with the protocol named beside every number."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
               tokens_per_pass: int | None = None) -> Perplexity:
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
        tokens_per_pass: how many tokens go through the model at once; by default 4,096 on a CPU, whose
            cache is small, and 16,384 on a GPU.

    Raises:
        ValueError: fewer tokens than one chunk, an unknown protocol, a stride outside [1, length].
    """
    if length < 1 or len(tokens) <= length:
        raise ValueError(f"a chunk of {length} tokens and its next token do not fit into a text of {len(tokens)} tokens: shorten the length")
    stride = _stride(length, protocol, stride)
    device = next(model.parameters()).device
    tokens_per_pass = tokens_per_pass or (4_096 if device.type == "cpu" else 16_384)
    was_training = model.training
    model.eval()
    starts = torch.arange(0, len(tokens) - length, stride)
    total, count = 0.0, 0
    try:
        for part in starts.split(max(1, tokens_per_pass // length)):
            windows = tokens[part.unsqueeze(1) + torch.arange(length + 1)].to(device)  # (B, length + 1)
            logits = model(windows[:, :-1]).float()
            nats = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none").view(len(part), length)
            counted = torch.ones_like(nats, dtype=torch.bool)
            counted[:, : length - stride] = (part == 0).unsqueeze(1).to(device)
            total += nats.double()[counted].sum().item()
            count += int(counted.sum())
    finally:  # also where a context is refused
        model.train(was_training)
    return Perplexity(length, total / count, count, _name(protocol, stride))


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


def _stride(length: int, protocol: str, stride: int | None) -> int:
    """By how many tokens the window moves on."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    if protocol == "non-overlapping":
        return length
    stride = max(1, length // 2) if stride is None else stride
    if not 1 <= stride <= length:
        raise ValueError(f"the stride must lie in [1, {length}], got {stride}")
    return stride


def _name(protocol: str, stride: int) -> str:
    return protocol if protocol == "non-overlapping" else f"sliding, stride {stride}"


# --- whole documents -----------------------------------------------------------------------------

class BitsPerCharacter(NamedTuple):
    """One measured number, of whole documents, and how it was measured."""
    length: int  # context, tokens
    bits: float  # mean number of bits that a character costs
    characters: int
    tokens: int  # they stand for these characters and for nothing else
    documents: int
    protocol: str


@torch.no_grad()
def token_nats(model, tokens: Tensor, length: int, *, protocol: str = "non-overlapping", stride: int | None = None,
               tokens_per_pass: int = 16_384) -> Tensor:
    """What each token but the first costs, -ln p(token | its context), each predicted exactly once.

    Protocols as in :func:`perplexity`, but to the end of the text: the last window may be shorter. A
    window is one pass from position 0, and logits exist for a few tokens at a time, so memory grows
    linearly with ``length``.

    Args:
        model: a GPT2.
        tokens: int64 (T,), T >= 2.
        length: tokens of context at most.
        stride, tokens_per_pass: as in :func:`perplexity`.

    Returns:
        float64 (T - 1,), nats, on the CPU.

    Raises:
        ValueError: no token to predict, an unknown protocol, a stride outside [1, length], a context beyond ``max_position``.
    """
    stride = _stride(length, protocol, stride)
    total = len(tokens) - 1
    if total < 1:
        raise ValueError(f"a text of {len(tokens)} tokens has none to predict from another: give at least 2")
    begins = torch.arange(0, max(0, total - length) + stride, stride)  # of windows, the last of which reaches the end
    padded = F.pad(tokens, (0, int(begins[-1]) + length - total))  # attention is causal: nothing sees what comes later
    nats = torch.zeros(len(padded) - 1, dtype=torch.float64)
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for part in begins.split(max(1, tokens_per_pass // length)):
            places = part.unsqueeze(1) + torch.arange(length + 1)  # (B, length + 1)
            windows = padded[places].to(device)
            costs = _costs(model, windows[:, :-1], windows[:, 1:]).cpu().double()
            counted = torch.ones_like(costs, dtype=torch.bool)
            counted[:, : length - stride] = (part == 0).unsqueeze(1)
            nats[places[:, :-1][counted]] = costs[counted]
    finally:  # also where a context is refused
        model.train(was_training)
    return nats[:total]


def bits_per_character(model, documents: Mapping[str, str], encode: Callable, decode: Callable, lengths: Sequence[int], *,
                       protocol: str = "non-overlapping", stride: int | None = None) -> list[BitsPerCharacter]:
    """Bits per character of whole documents, at several context lengths, over the same characters at each.

    The sum of -log2 p over all tokens of the documents, divided by their characters (Unicode code
    points). No window reaches into another document. Before a document stands the token that
    separates documents, as in training: it is context for the first token and is never predicted
    itself. So every token counts exactly once at every length, a character that is cut into several
    tokens costs what these cost together, and the numbers of different tokenizers compare. A
    document of fewer tokens than the longest length is left out at all of them.

    Args:
        model: a GPT2.
        documents: name -> text.
        encode, decode: of :func:`seqpe_lab.tasks.corpus.make_tokenizer`.
        lengths: contexts, tokens.
        protocol, stride: as in :func:`token_nats`.

    Raises:
        ValueError, before anything is measured: no length or one below 1, an empty document, one that the
            tokenizer does not give back as it was (its tokens stand for another text), none that is long
            enough, a tokenizer without a separator, a context beyond ``max_position`` or SeqPE's b^k.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"context lengths must name at least one length of at least 1 token, got {list(lengths)}")
    strides = [_stride(length, protocol, stride) for length in lengths]
    separator = encode({"": ""})
    if len(separator) != 1:
        raise ValueError("the tokenizer has no token that separates documents, so nothing to predict a document's first token from: use one with <|endoftext|>")
    sequences = {name: torch.cat([separator, _exact(name, text, encode, decode)]) for name, text in documents.items()}
    fitting = {name: tokens for name, tokens in sequences.items() if len(tokens) > max(lengths)}
    if not fitting:
        most = max((len(tokens) - 1 for tokens in sequences.values()), default=0)
        raise ValueError(f"none of {len(sequences)} documents has the {max(lengths)} tokens of the longest context, the longest has {most}: shorten the lengths or give longer documents")
    with torch.no_grad():  # a position out of reach is refused here
        model.read(separator.unsqueeze(0).to(next(model.parameters()).device), start=max(lengths) - 1)
    characters, count = sum(len(documents[name]) for name in fitting), sum(len(tokens) - 1 for tokens in fitting.values())
    measured = []
    for length, step in zip(lengths, strides):
        nats = sum(token_nats(model, tokens, length, protocol=protocol, stride=step).sum().item() for tokens in fitting.values())
        measured.append(BitsPerCharacter(length, nats / math.log(2) / characters, characters, count, len(fitting), _name(protocol, step)))
    return measured


def _exact(name: str, text: str, encode: Callable, decode: Callable) -> Tensor:
    """A document's tokens, which stand for all of its characters."""
    if not text:
        raise ValueError(f"the document {name!r} is empty: it has no character to predict; take it out")
    tokens = encode({name: text})[:-1]
    if decode(tokens) != text:
        raise ValueError(f"the tokenizer does not give the document {name!r} back as it was, so its tokens stand for another text: "
                         "take zero bytes and <|endoftext|> out of it, or use another tokenizer")
    return tokens


def _costs(model, tokens: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each target, (B, L), nats, with logits for some 2^24 numbers at a time."""
    hidden, weight = model.read(tokens), model.transformer.wte.weight
    rows = max(1, 2**24 // len(weight))
    parts = zip(hidden.flatten(0, 1).split(rows), targets.flatten().split(rows))
    return torch.cat([F.cross_entropy(F.linear(h, weight).float(), t, reduction="none") for h, t in parts]).view(targets.shape)
