"""A language model's output layer and its loss, without a whole batch of logits in float32.

For 32 sequences of 512 tokens and a vocabulary of 50,257 the logits would take 3.3 GB in float32,
and as much again for their gradient. Here some tokens are computed at a time. The gradients of
these tokens are computed with their loss, so no product is computed twice.
"""
from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.digits import is_integer

AT_ONCE = 2**27  # logits: 512 MB in float32
ALIGNED = 64  # columns: a GPU's matrix units need aligned rows, 50,257 are odd
FEW = 256  # rows for which copying the weight would take longer than the product


def logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """The logits of every token: hidden states times the token embeddings.

    On a GPU the product is padded to a multiple of 64 columns, and the result cut back.

    Args:
        hidden: float (..., d).
        weight: float (V, d).

    Returns:
        (..., V), not contiguous where it was padded.

    >>> logits(torch.tensor([[1., 2.]]), torch.tensor([[1., 0.], [0., 1.], [1., 1.]]))
    tensor([[1., 2., 3.]])
    """
    return F.linear(hidden, _padded(weight, math.prod(hidden.shape[:-1])))[..., : len(weight)]


def nats_of_targets(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-ln p(target) of every token, float32 (N,), from hidden states (N, d) and targets (N,).

    Arguments and errors as in :func:`next_token_loss`.
    """
    targets = _checked(targets, hidden, weight)
    rows = max(1, AT_ONCE // len(weight))
    return torch.cat([F.cross_entropy(logits(h, weight).float(), t, reduction="none")
                      for h, t in zip(hidden.split(rows), targets.split(rows))])


def next_token_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the targets, nats per token: a float32 scalar with its gradient.

    Args:
        hidden: float (N, d).
        weight: float (V, d), the token embeddings.
        targets: integers (N,), values in [0, V).

    Raises:
        TypeError: targets that are not integers.
        ValueError: another number of targets, one outside that range (checked on the CPU only).
    """
    targets = _checked(targets, hidden, weight)
    rows = max(1, AT_ONCE // len(weight))
    if len(hidden) <= rows:
        return F.cross_entropy(logits(hidden, weight).float(), targets)
    if not torch.is_grad_enabled():
        return nats_of_targets(hidden, weight, targets).mean()
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    padded = _padded(weight, len(hidden)).to(dtype)
    return _NextTokenLoss.apply(hidden.to(dtype), padded, targets, len(weight), rows)


def _checked(targets: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """Targets as int64, or an error that says what is wrong with them."""
    if not is_integer(targets):
        raise TypeError(f"targets are whole numbers, tokens, got dtype {targets.dtype}")
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(f"targets {tuple(targets.shape)} do not fit hidden states "
                         f"{tuple(hidden.shape)}: give one for each")
    targets = targets.long()
    if targets.device.type == "cpu":  # on another device this would make it wait
        lowest, highest = map(int, targets.aminmax())
        if lowest < 0 or highest >= len(weight):
            raise ValueError(f"targets must lie in [0, {len(weight)}), got {lowest}..{highest}")
    return targets


def _padded(weight: Tensor, rows: int) -> Tensor:
    """The weight with zero rows up to a multiple of 64, where a GPU multiplies many rows by it."""
    if weight.device.type != "cuda" or rows < FEW:
        return weight
    return F.pad(weight, (0, 0, 0, -len(weight) % ALIGNED))


class _NextTokenLoss(torch.autograd.Function):
    """Cross entropy of some rows at a time; d loss / d logits = (softmax - one-hot) / N."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, classes: int,
                rows: int) -> Tensor:
        """``weight`` may have rows beyond ``classes``: they get no probability."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=wide)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for h, t, grad_h in zip(hidden.split(rows), targets.split(rows), grad_hidden.split(rows)):
            scores = (h @ weight.T).to(wide)  # (rows, V)
            scores[:, classes:] = -torch.inf
            log_p = scores.log_softmax(-1)
            each = torch.arange(len(t), device=t.device)
            total -= log_p[each, t].sum()
            grad = log_p.exp_()
            grad[each, t] -= 1
            grad = (grad / len(hidden)).to(weight.dtype)
            grad_h.copy_(grad @ weight)
            grad_weight += grad.T @ h
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [(grad * t).to(t.dtype) for t in ctx.saved_tensors]
        return (*scaled, None, None, None)
