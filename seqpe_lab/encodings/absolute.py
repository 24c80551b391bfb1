"""Absolute position embeddings: one vector a position, added to the token embedding (SeqPE, Eq. 4)."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .none import PositionEncoding


def sinusoidal_vectors(positions: Tensor, d_model: int, base: float = 10_000.0) -> Tensor:
    """Vaswani et al.'s fixed vectors: even features sin(p w_i), odd features cos(p w_i), w_i = base^(-2i/d).

    Args:
        positions: int64 (..., 1).

    Returns:
        float32 (..., d_model), values in [-1, 1].

    >>> sinusoidal_vectors(torch.tensor([[0], [1]]), d_model=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    if d_model % 2:
        raise ValueError(f"sinusoidal vectors come in pairs of sine and cosine: d_model={d_model} must be even")
    angle = positions.double() * base ** (-torch.arange(0, d_model, 2, dtype=torch.float64, device=positions.device) / d_model)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


class Sinusoidal(PositionEncoding):
    """APE-SIN: the token embedding plus a fixed sinusoidal vector."""

    def embed(self, x, positions, context_len):
        return x + sinusoidal_vectors(positions, x.shape[-1]).to(x)


class Learned(PositionEncoding):
    """APE-LEARN: a table of one trained vector for each of the ``train_len`` positions.

    A longer context stretches the table over itself by linear interpolation, as the paper does at
    test time: with T rows and a context of L > T tokens, position p reads row p (T-1)/(L-1).
    """

    def __init__(self, train_len: int, d_model: int):
        super().__init__()
        self.table = nn.Embedding(train_len, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, x, positions, context_len):
        rows = self.table.num_embeddings
        positions = positions.squeeze(-1).to(x.device)
        if context_len <= rows:
            return x + self.table(positions)
        place = positions.double() * (rows - 1) / (context_len - 1)
        low = place.floor().long().clamp(max=max(0, rows - 2))
        high = (low + 1).clamp(max=rows - 1)  # a table of one row has no other
        share = (place - low).unsqueeze(-1).to(x.dtype)
        return x + (1 - share) * self.table(low) + share * self.table(high)
