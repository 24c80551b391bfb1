"""How an encoding behaves: facts that are neither right nor wrong, measured on a toy model."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqpe_lab.attention import positioned_attention, prepare
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.report_card.toy_model import LENGTH, TRAIN_LEN, difference, places, texts

FELT = 1e-3  # a relative change of the output above this is more than rounding
SHIFT, FAR = 100, 100_000
DISTANCES = 4 * TRAIN_LEN  # of the picture of the scores


@dataclass(frozen=True)
class Fact:
    """One measured property.

    Attributes:
        name: what was tried.
        answer: in words.
        change: relative change of the output; None where there is no number.
    """
    name: str
    answer: str
    change: float | None


def facts(model: GPT2, far: int = FAR) -> list[Fact]:
    """All facts of a :func:`~seqpe_lab.report_card.toy_model.toy_model`.

    An encoding that refuses something, such as positions that it does not reach, is quoted.

    Args:
        far: number of positions of a long context, of which the last are tried.

    >>> from seqpe_lab.report_card.toy_model import toy_model
    >>> for fact in facts(toy_model("none"), far=100)[:2]:
    ...     print(fact.name, "-", fact.answer)
    all positions + 100 - not felt
    tokens permuted, without a mask - not felt
    """
    tried: dict[str, Callable[[], float]] = {
        f"all positions + {SHIFT}": lambda: _shift(model),
        "tokens permuted, without a mask": lambda: _permutation(model),
        f"context of {4 * LENGTH} instead of {LENGTH} tokens": lambda: _longer_context(model)}
    found = []
    for name, measure in tried.items():
        found.append(_fact(name, measure, lambda change: "felt" if change > FELT else "not felt"))
    near = _fact("", lambda: _rounding(model, LENGTH), str).change or 0.0
    found.append(_fact(f"bfloat16 at position {far:,}", lambda: _rounding(model, far),
                       lambda change: f"changes the logits by {change:.2%} ({near:.2%} at 0)"))
    return found


def _fact(name: str, measure: Callable[[], float], answer: Callable[[float], str]) -> Fact:
    try:
        with torch.no_grad():
            change = measure()
    except Exception as raised:  # of someone's own encoding: any kind
        return Fact(name, f"refused: {' '.join(str(raised).split())}", None)
    if change == float("inf"):
        return Fact(name, "not finite", None)
    return Fact(name, answer(change), change)


def _shift(model: GPT2) -> float:
    end = SHIFT + LENGTH
    return difference(model(texts(), start=SHIFT), model(texts(), context_len=end))


def _longer_context(model: GPT2) -> float:
    return difference(model(texts(), context_len=4 * LENGTH), model(texts()))


def _rounding(model: GPT2, end: int) -> float:
    """Of the last tokens in a context of ``end``: mixed precision against float32."""
    exact = model(texts(), start=end - LENGTH)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(texts(), start=end - LENGTH)
    return difference(rounded, exact)


def _permutation(model: GPT2) -> float:
    """Attention without a mask, on permuted inputs: the same outputs, permuted, or others."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, LENGTH, model.config.d_model, generator=generator)
    order = torch.randperm(LENGTH, generator=generator)
    encoding, positions = model.encoding, places(0)

    def attended(x: Tensor, layer: int) -> Tensor:
        x = encoding.embed(x, positions, LENGTH)
        qkv = [x.unflatten(-1, (model.config.heads, -1)).transpose(1, 2)] * 3
        out, _ = positioned_attention(encoding, prepare(encoding, positions), layer, x, *qkv,
                                      causal=False)
        return out
    return max(difference(attended(x[:, order], layer), attended(x, layer)[:, :, order])
               for layer in range(model.config.layers))


# --- where positions enter, and what the scores look like --------------------------------------

@torch.no_grad()
def paths(model: GPT2) -> list[str]:
    """Where the positions of the tokens enter: "embeddings", "queries and keys", "scores".

    Each hook is given the same inputs, with the positions in order and permuted. None reacts in an
    encoding without positions, or in one that counts tokens by itself (FoX, CoPE). More than one is
    rarely meant: an absolute encoding left on beside a bias, for instance.

    >>> from seqpe_lab.report_card.toy_model import toy_model
    >>> paths(toy_model("t5"))
    ['scores']
    """
    encoding, x = model.encoding, torch.ones(1, LENGTH, model.config.d_model)
    q = torch.ones(1, model.config.heads, LENGTH, x.shape[-1] // model.config.heads)
    allowed = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    results: list[dict[str, list[Tensor]]] = []
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(3))
    for positions in (places(0), places(0)[order]):
        hooks = {"embeddings": [encoding.embed(x, positions, LENGTH)]}
        prepared = encoding.prepare(positions)
        transformed = [encoding.transform(q, q, encoding.at_layer(prepared, x, layer), layer)
                       for layer in range(model.config.layers)]
        hooks["queries and keys"] = [part for both in transformed for part in both]
        if encoding.adds_bias:
            added = [encoding.content_bias(*both, positions, positions, allowed, layer)
                     for layer, both in enumerate(transformed)]
            hooks["scores"] = [bias for bias in added if bias is not None]
        results.append(hooks)
    first, second = results
    return [hook for hook in first if any(not torch.equal(one, other)
                                          for one, other in zip(first[hook], second[hook]))]


@torch.no_grad()
def scores(model: GPT2, layer: int = 0) -> list[list[float]]:
    """Scores of one query for keys of the same content, in nats: a row for each head.

    A row holds distances 0, 1, ..., ``DISTANCES`` - 1 of key and query, relative to distance 0.
    The last layer may differ from the first: RNoPE's layers take turns.
    """
    encoding, config, positions = model.encoding, model.config, places(0, DISTANCES)
    x = torch.full((1, DISTANCES, config.d_model), 0.5)
    x = encoding.embed(x, positions, DISTANCES)
    q = x.unflatten(-1, (config.heads, -1)).transpose(1, 2)
    prepared = encoding.at_layer(encoding.prepare(positions), x, layer)
    q, k = encoding.transform(q, q, prepared, layer)
    every = (q[:, :, -1:] @ k.transpose(-1, -2) * (config.d_model // config.heads) ** -0.5)[0, :, 0]
    if encoding.adds_bias:
        allowed = torch.ones(DISTANCES, DISTANCES, dtype=torch.bool).tril()
        added = encoding.content_bias(q, k, positions, positions, allowed, layer)
        every = every + added.expand(1, config.heads, DISTANCES, DISTANCES)[0, :, -1]
    every = every.flip(-1)
    return (every - every[:, :1]).tolist()
