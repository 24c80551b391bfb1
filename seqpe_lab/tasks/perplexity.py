"""Perplexity and bits per character at any context length, each number with its protocol."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import device_of
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.models.output_layer import nats_of_targets
from seqpe_lab.tasks.base import evaluation_mode
from seqpe_lab.tasks.token_storage import StoredTokens

PROTOCOLS = ("non-overlapping", "sliding")
# tokens -> the positions of a context, int64 (tokens, 1), or None for 0, 1, 2, ...
PositionsOf = Callable[[int], Tensor | None]


class Perplexity(NamedTuple):
    """One measured number and how it was measured."""
    length: int  # context, tokens
    nats: float  # mean negative log-likelihood per predicted token
    tokens: int  # how many tokens were predicted
    protocol: str  # "non-overlapping", or "sliding, stride S"

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats, 700.0))  # exp(709) is the largest float


def perplexity(model: nn.Module, tokens: Tensor | StoredTokens, length: int, *,
               protocol: str = "non-overlapping", stride: int | None = None,
               tokens_per_pass: int | None = None,
               positions: PositionsOf = lambda length: None) -> Perplexity:
    """Perplexity with contexts of ``length`` tokens, in evaluation mode, on the model's device.

    * non-overlapping (the paper's, after Press et al.): the text is cut into chunks of ``length``
      tokens and every chunk predicts each of its next tokens, the first with one token of context.
    * sliding: a window of ``length`` tokens moves on by ``stride`` and only its last ``stride``
      predictions count (all of the first window's), so each has at least length - stride + 1
      tokens of context.

    Args:
        model: int64 tokens (B, L) -> logits (B, L, vocab_size).
        tokens: whole numbers (T,) of any integer type, T > length.
        stride: for "sliding"; by default length // 2.
        tokens_per_pass: how many tokens go through the model at once; by default 4,096 on a CPU,
            whose cache is small, and 16,384 elsewhere.
        positions: of every chunk or window, for a GPT-2; by default 0, 1, 2, ...

    Raises:
        ValueError: fewer tokens than one chunk, an unknown protocol, a stride outside [1, length].
        TypeError: tokens that are no whole numbers.
    """
    if length < 1 or len(tokens) <= length:
        raise ValueError(f"a chunk of {length} tokens and its next token do not fit into a text "
                         f"of {len(tokens)} tokens: shorten the length")
    stride, name = _window_step(length, protocol, stride)
    begins = range(0, len(tokens) - length, stride)
    total, count = 0.0, 0
    with evaluation_mode(model) as device:
        tokens_per_pass = tokens_per_pass or (4_096 if device.type == "cpu" else 16_384)
        for windows, counted in _windows(tokens, begins, length, tokens_per_pass):
            windows = windows.to(device)
            nats = _token_nats(model, windows[:, :-1], windows[:, 1:],
                               positions(length)).cpu()[counted]
            total += nats.double().sum().item()  # on the CPU: MPS has no float64
            count += len(nats)
    return Perplexity(length, total / count, count, name)


def perplexity_by_length(model: nn.Module, tokens: Tensor | StoredTokens, lengths: Sequence[int],
                         **options) -> list[Perplexity]:
    """:func:`perplexity` at several lengths, all predicting the same tokens.

    The text is cut to a multiple of the longest length, so that two lengths differ in context only,
    not in text (exactly so if every shorter length divides the longest).

    Raises:
        ValueError: a text shorter than the longest length, and as in :func:`perplexity`.
    """
    longest = max(lengths)
    usable = (len(tokens) - 1) // longest * longest
    if usable == 0:
        raise ValueError(f"the text has {len(tokens)} tokens, too few for a context of {longest}: "
                         "shorten eval_lens")
    return [perplexity(model, tokens[: usable + 1], length, **options) for length in lengths]


def _windows(tokens: Tensor | StoredTokens, begins: range, length: int,
             tokens_per_pass: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The windows of each pass, and which of their predictions count.

    Yields:
        int64 (B, length + 1), tokens with the next one; bool (B, length), False where an earlier
        window has made the prediction.
    """
    at_once = max(1, tokens_per_pass // length)
    for some in (begins[i: i + at_once] for i in range(0, len(begins), at_once)):
        stretch = tokens[some[0]: some[-1] + length + 1]
        kind = stretch.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise TypeError(f"tokens must be whole numbers, got {kind}")
        counted = torch.ones(len(some), length, dtype=torch.bool)
        counted[0 if some[0] > 0 else 1:, : length - begins.step] = False
        yield stretch.long().unfold(0, length + 1, begins.step), counted


def _window_step(length: int, protocol: str, stride: int | None) -> tuple[int, str]:
    """By how many tokens the window moves, and the protocol in words."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    if protocol == "non-overlapping":
        return length, protocol
    stride = max(1, length // 2) if stride is None else stride
    if not 1 <= stride <= length:
        raise ValueError(f"the stride must lie in [1, {length}], got {stride}")
    return stride, f"sliding, stride {stride}"


# --- whole documents -----------------------------------------------------------------------------

class BitsPerCharacter(NamedTuple):
    """One measured number, of whole documents, and how it was measured."""
    length: int  # context, tokens
    bits: float  # mean number of bits per character
    characters: int  # Unicode code points
    tokens: int  # all tokens of these characters
    documents: int
    protocol: str


def token_nats(model: GPT2, tokens: Tensor, length: int, *, protocol: str = "non-overlapping",
               stride: int | None = None, tokens_per_pass: int = 16_384,
               positions: PositionsOf = lambda length: None) -> Tensor:
    """-ln p(token | its context) of each token but the first, each predicted exactly once.

    Protocols as in :func:`perplexity`, but to the end of the text: the last window may be shorter.
    A window is one pass from position 0, and logits exist for a few tokens at a time, so memory
    grows linearly with ``length``.

    Args:
        tokens: whole numbers (T,) of any integer type, T >= 2.
        length: the longest context, tokens.
        stride, tokens_per_pass, positions: as in :func:`perplexity`.

    Returns:
        float64 (T - 1,), nats, on the CPU.

    Raises:
        ValueError: no token to predict, an unknown protocol, a stride outside [1, length], a
            context beyond ``max_position``.
        TypeError: tokens that are no whole numbers.
    """
    stride, _ = _window_step(length, protocol, stride)
    total = len(tokens) - 1
    if total < 1:
        raise ValueError(f"a text of {len(tokens)} tokens has none to predict from another: give "
                         "at least 2")
    begins = range(0, max(0, total - length) + stride, stride)  # the last window reaches the end
    # attention is causal, so no token sees the padding behind it
    padded = F.pad(tokens, (0, begins[-1] + length - total))
    nats = []
    with evaluation_mode(model) as device:
        for windows, counted in _windows(padded, begins, length, tokens_per_pass):
            windows = windows.to(device)
            found = _token_nats(model, windows[:, :-1], windows[:, 1:], positions(length))
            nats.append(found.cpu()[counted].double())
    return torch.cat(nats)[:total]


def _token_nats(model: nn.Module, tokens: Tensor, targets: Tensor,
                positions: Tensor | None) -> Tensor:
    """-ln p of each target, float32 (B, L); of a GPT-2 without all logits at a time."""
    if not isinstance(model, GPT2):
        return F.cross_entropy(model(tokens).float().transpose(1, 2), targets, reduction="none")
    hidden = model.hidden_states(tokens, positions=positions).flatten(0, 1)
    nats = nats_of_targets(hidden, model.transformer.wte.weight, targets.flatten())
    return nats.view(targets.shape)


def bits_per_character(model: GPT2, documents: Mapping[str, str], encode: Callable,
                       decode: Callable, lengths: Sequence[int], *,
                       protocol: str = "non-overlapping",
                       stride: int | None = None,
                       positions: PositionsOf = lambda length: None) -> list[BitsPerCharacter]:
    """Bits per character of whole documents, at several context lengths, over the same characters.

    The sum of -log2 p over all tokens of the documents, divided by their characters. No window
    reaches into another document. Before a document stands the token that separates documents, as
    in training: it is context for the first token and is never predicted itself. So every token
    counts exactly once at every length, and the numbers of different tokenizers compare. A
    document with fewer tokens than the longest length is left out at all of them.

    Args:
        documents: name -> text.
        encode, decode: of :func:`seqpe_lab.tasks.tokenization.make_tokenizer`.
        lengths: contexts, tokens.
        protocol, stride, positions: as in :func:`token_nats`.

    Raises:
        ValueError, before anything is measured: no length or one below 1, an empty document, one
            that the tokenizer does not reproduce (its tokens stand for another text), none that is
            long enough, a tokenizer without a separator, a context beyond ``max_position`` or b^k.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError("context lengths must name at least one length of at least 1 token, got "
                         f"{list(lengths)}")
    steps = [_window_step(length, protocol, stride) for length in lengths]
    separator = encode({"": ""})
    if len(separator) != 1:
        raise ValueError("the tokenizer has no token that separates documents, so nothing to "
                         "predict a document's first token from: use one with <|endoftext|>")
    sequences = {name: torch.cat([separator, _exact_tokens(name, text, encode, decode)])
                 for name, text in documents.items()}
    fitting = {name: tokens for name, tokens in sequences.items() if len(tokens) > max(lengths)}
    if not fitting:
        most = max((len(tokens) - 1 for tokens in sequences.values()), default=0)
        raise ValueError(
            f"none of {len(sequences)} documents has the {max(lengths)} tokens of the longest "
            f"context, the longest has {most}: shorten the lengths or give longer documents")
    with torch.no_grad():  # a position out of reach is refused here
        model.hidden_states(separator.unsqueeze(0).to(device_of(model)), start=max(lengths) - 1)
    characters = sum(len(documents[name]) for name in fitting)
    count = sum(len(tokens) - 1 for tokens in fitting.values())
    measured = []
    for length, (step, name) in zip(lengths, steps):
        nats = sum(token_nats(model, tokens, length, protocol=protocol, stride=step,
                              positions=positions).sum().item() for tokens in fitting.values())
        measured.append(BitsPerCharacter(length, nats / math.log(2) / characters, characters,
                                         count, len(fitting), name))
    return measured


def _exact_tokens(name: str, text: str, encode: Callable, decode: Callable) -> Tensor:
    """The tokens of a document; refused if they do not decode to the same text."""
    if not text:
        raise ValueError(f"the document {name!r} is empty: it has no character to predict; take it "
                         "out")
    tokens = encode({name: text})[:-1]
    if decode(tokens) != text:
        raise ValueError(
            f"the tokenizer does not give the document {name!r} back as it was, so its tokens "
            "stand for another text: take zero bytes and <|endoftext|> out of it, or use another "
            "tokenizer")
    return tokens
