"""What must hold for every encoding: each way to run a model gives what the plain pass gives."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.attention import prepare
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.report_card.toy_model import (LENGTH, TRAIN_LEN, VOCABULARY, difference, disturb,
                                             places, texts, toy_model)

TOLERANCE = 1e-4  # relative; rounding in float32 alone stays below 1e-5


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: of the check.
        claim: what must hold.
        difference: relative, of what must be equal; None where it is no finite number.
        passed: whether it holds.
        error: the message, if the encoding raised an error.
    """
    name: str
    claim: str
    difference: float | None
    passed: bool
    error: str = ""


def run_checks(model: GPT2) -> list[Check]:
    """All checks on a :func:`~seqpe_lab.report_card.toy_model.toy_model`.

    An error of the encoding is a failure of the check, with its message.

    >>> all(check.passed for check in run_checks(toy_model("rope")))
    True
    """
    checks = []
    for name, (claim, measure) in CHECKS.items():
        apart, error = math.inf, ""
        try:
            apart = measure(model)
        except Exception as raised:  # of someone's own encoding: any kind
            error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
        checks.append(Check(name, claim, apart if math.isfinite(apart) else None,
                            apart <= TOLERANCE, error))
    return checks


@torch.no_grad()
def cached(model: GPT2, start: int = 0) -> float:
    """Read in parts, of which the later ones see the keys and values of the earlier ones."""
    tokens, end = texts(), start + LENGTH
    whole, cache = model(tokens, start=start), []
    parts = [model(part, start=start, cache=cache, context_len=end)
             for part in tokens.split([6, 1, 1, 1, LENGTH - 9], dim=1)]
    apart = difference(torch.cat(parts, 1), whole)
    vectors = model.encoding.encode(places(start))
    if vectors is not None:  # a text that is generated has them encoded ahead
        apart = max(apart, difference(model(tokens, start=start, vectors=vectors), whole))
    return apart


@torch.no_grad()
def offset(model: GPT2) -> float:
    """Texts of one batch from different positions on, and a cache that does not start at 0."""
    tokens, starts = texts(), (0, 57)
    end = max(starts) + LENGTH
    together = model(tokens, positions=torch.stack([places(start) for start in starts]),
                     context_len=end)
    apart = [difference(row, model(text.unsqueeze(0), start=start, context_len=end)[0])
             for row, text, start in zip(together, tokens, starts)]
    return max(*apart, cached(model, starts[1]))


@torch.no_grad()
def padded(model: GPT2) -> float:
    """Texts of different lengths in one batch, with padding on the left and on the right."""
    tokens, lengths, apart = texts(3), (5, 13, LENGTH), []
    alone = [model(text[None, :length])[0] for text, length in zip(tokens, lengths)]
    for left in (True, False):
        shifts = [LENGTH - length if left else 0 for length in lengths]
        rows = torch.stack([row.roll(shift) for row, shift in zip(tokens, shifts)])
        mask = torch.zeros(rows.shape, dtype=torch.bool)
        for number, (shift, length) in enumerate(zip(shifts, lengths)):
            mask[number, shift:shift + length] = True
        together = model(rows, attention_mask=mask)
        apart += [difference(row[real], own) for row, real, own in zip(together, mask, alone)]
    return max(apart)


@torch.no_grad()
def packed(model: GPT2) -> float:
    """Two texts one after the other in one sequence, in which each attends to itself only."""
    lengths = (10, LENGTH - 10)
    tokens, encoding = texts(1), model.encoding
    positions = torch.cat([places(0, length) for length in lengths])
    number = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))
    mask = (number.unsqueeze(-1) == number).view(1, 1, LENGTH, LENGTH)
    x = encoding.embed(model.transformer.wte(tokens), positions, max(lengths))
    together = model.predict(model.run_layers(x, prepare(encoding, positions), mask=mask))
    alone = [model(text, context_len=max(lengths)) for text in tokens.split(lengths, dim=1)]
    return max(map(difference, together.split(lengths, dim=1), alone))


@torch.no_grad()
def causal(model: GPT2) -> float:
    """The first half of a text, with another second half, and without one."""
    tokens, half = texts(), LENGTH // 2
    whole = model(tokens)[:, :half]
    other = torch.cat([tokens[:, :half], (tokens[:, half:] + 1) % VOCABULARY], 1)
    alone = model(tokens[:, :half], context_len=LENGTH)
    return max(difference(model(other)[:, :half], whole), difference(alone, whole))


@torch.no_grad()
def reloaded(model: GPT2) -> float:
    """A model that has read texts with other weights before, and one loaded from its weights."""
    used = toy_model(model.config.encoding, model.config.encoding_options)
    for length in (LENGTH, 1):
        used(texts(length=length))
        used(texts(length=length), start=31)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        disturb(used)
        fresh = GPT2(used.config).eval()
    fresh.load_state_dict(used.state_dict())
    return max(difference(used(texts(length=length)), fresh(texts(length=length)))
               for length in (LENGTH, 1))


def finite(model: GPT2) -> float:
    """Logits and gradients beyond the trained length, in float32 and in bfloat16: 0 or infinity."""
    tokens = texts(1, 4 * TRAIN_LEN)
    numbers: list[Tensor] = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = model(tokens, start=10 * TRAIN_LEN)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        numbers += [logits, *(g for g in gradients if g is not None)]
    return 0.0 if all(bool(number.isfinite().all()) for number in numbers) else math.inf


@torch.no_grad()
def relative(model: GPT2) -> float:
    """A bias that is declared to depend on differences of positions only, for other positions."""
    apart = [0.0]
    for layer in range(model.config.layers if model.encoding.relative else 0):
        here, there = (model.encoding.bias(p, p, layer) for p in (places(0), places(57)))
        if here is not None and there is not None:
            apart.append(difference(there, here))
    return max(apart)


CHECKS: dict[str, tuple[str, Callable[[GPT2], float]]] = {
    "cached": ("reading in parts with a cache equals the plain pass", cached),
    "offset": ("texts from different positions in one batch equal each alone", offset),
    "padded": ("padded texts, left and right, equal each alone", padded),
    "packed": ("texts packed into one sequence equal each alone", packed),
    "causal": ("what comes later changes nothing before it", causal),
    "reloaded": ("a used model equals one loaded from its weights", reloaded),
    "relative": ("a bias declared `relative` depends on differences only", relative),
    "finite": ("logits and gradients are finite, in bfloat16 and beyond training, too", finite),
}
