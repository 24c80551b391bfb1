"""FLOATER: position vectors that follow a learned flow (Liu et al. 2020).

A differential equation carries the vector from each position to the next; position i is at time
t = i * step:

    p(t) = p(0) + integral from 0 to t of h(tau, p(tau)) d tau
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import float32_region, moved, uncompiled
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.seqpe import SeqPE


class FlowEncoder(nn.Module):
    """Maps positions, ``step`` > 0 of time apart, to vectors p(t), (..., d_model); h is an MLP.

    The equation is solved by the classical fourth-order Runge-Kutta method, one step a position, so
    time is linear in the highest position.

    >>> flow = FlowEncoder(4)
    >>> with torch.no_grad():
    ...     for parameter in flow.h.parameters():
    ...         _ = parameter.zero_()
    ...     flow.h[2].bias[0] = 1.0                                  # dp/dt = (1, 0, 0, 0)
    >>> (flow(torch.tensor([[0], [30]])).diff(dim=0) * 10).round()
    tensor([[30.,  0.,  0.,  0.]], grad_fn=<RoundBackward0>)
    """
    dims, dropout, limit = 1, 0.0, 2**62  # what a table of position vectors asks for

    def __init__(self, d_model: int, step: float = 0.1):
        super().__init__()
        if not step > 0:
            raise ValueError(f"the time between two positions must be above 0, got step={step}")
        self.d_model, self.step = d_model, step
        self.start = nn.Parameter(torch.randn(d_model) * 0.02)  # p(0)
        self.h = nn.Sequential(nn.Linear(d_model + 1, d_model), nn.Tanh(),
                               nn.Linear(d_model, d_model))

    def forward(self, positions: Tensor) -> Tensor:
        """Integers (..., 1) -> (..., d_model), without autocast or TF32."""
        return uncompiled(self._encode)(positions)

    def _encode(self, positions: Tensor) -> Tensor:
        positions = check_positions(positions, self.dims).cpu()
        if positions.numel() == 0:
            raise ValueError("no positions to encode: the tensor is empty")
        states: list[Tensor] = [self.start]
        with float32_region(self.start.device):
            for i in range(int(positions.max())):
                states.append(states[-1] + self.step * self._slope(i * self.step, states[-1]))
            row, = moved([positions.squeeze(-1)], self.start.device)
            return F.embedding(row, torch.stack(states))

    def _slope(self, t: float, p: Tensor) -> Tensor:
        """The mean of h over the next step."""
        def h(t: float, p: Tensor) -> Tensor:
            return self.h(F.pad(p, (0, 1), value=t))
        half = self.step / 2
        first = h(t, p)
        second = h(t + half, p + half * first)
        third = h(t + half, p + half * second)
        fourth = h(t + self.step, p + self.step * third)
        return (first + 2 * second + 2 * third + fourth) / 6

    @torch.no_grad()
    def table(self, size: int) -> Tensor:
        """The vectors of positions 0, ..., size - 1: (size, d_model)."""
        return self(torch.arange(size).unsqueeze(-1))


@register("floater")
class FLOATER(SeqPE):
    """p(t) in every layer: q + W_q p(i) and k + W_k p(j), with projections of their own.

    The flow is not bounded: a random one is 10 times as long at 10 times the position. Added to
    queries and keys in bfloat16, far positions then drown in rounding, so long contexts need
    float32.

    Published FLOATER adds p to the input of every layer's attention, whose own W_q and W_k then
    project it, to values too, and starts from another p(0) in each layer. Here queries and keys
    get what SeqPE's integration "sum" gives them (SeqPE, Eq. 12), from one flow.

    Args:
        shape: of the model, with positions of one dimension.
        integration: "sum", or as SeqPE "mul" or "bias".
        step: time between neighbouring positions, above 0.

    Raises:
        ValueError: a grid, which has no single time; another integration; a step of at most 0.
    """

    def __init__(self, shape: ModelShape, integration: str = "sum", step: float = 0.1):
        if shape.dims > 1 or shape.prefix:
            raise ValueError("FLOATER's flow has one time, so it needs a sequence, not a grid: "
                             "choose another encoding, such as 'seqpe'")
        flow: Any = FlowEncoder(shape.d_model, step)  # has what SeqPE asks of its encoder
        super().__init__(flow, shape.heads, shape.layers, integration, shared_projection=False,
                         projection_bias=float(integration == "mul"))

    @classmethod
    def for_model(cls, shape: ModelShape, integration: str = "sum",  # type: ignore[override]
                  step: float = 0.1) -> FLOATER:
        return cls(shape, integration, step)
