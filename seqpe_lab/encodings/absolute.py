"""Absolute position embeddings: one vector a position, added to the token embedding (SeqPE, Eq. 4)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.encodings.base import PositionEncoding


def sinusoidal_vectors(positions: Tensor, d_model: int, base: float = 10_000.0) -> Tensor:
    """Vaswani et al.'s fixed vectors: even features sin(p w_i), odd features cos(p w_i), w_i = base^(-2i/d).

    In n dimensions each dimension has d_model/n features of its own, rows first.

    Args:
        positions: int64 (..., n).

    Returns:
        float32 (..., d_model), values in [-1, 1].

    >>> sinusoidal_vectors(torch.tensor([[0], [1]]), d_model=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    dims = positions.shape[-1]
    if d_model % (2 * dims):
        raise ValueError(f"sinusoidal vectors come in pairs of sine and cosine for each of n={dims} dimensions: d_model={d_model} must be divisible by {2 * dims}")
    part = d_model // dims
    frequency = base ** (-torch.arange(0, part, 2, dtype=torch.float64, device=positions.device) / part)
    angle = positions.double().unsqueeze(-1) * frequency  # (..., n, part/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3).float()


class Sinusoidal(PositionEncoding):
    """APE-SIN: the token embedding plus a fixed sinusoidal vector."""

    def embed(self, x, positions, context):
        return x + sinusoidal_vectors(positions, x.shape[-1]).to(x)


class Learned(PositionEncoding):
    """APE-LEARN: a table of one trained vector for each position of the training context.

    A longer context stretches the table over itself by linear interpolation, as the paper does at
    test time: with T rows and a context of L > T tokens, position p reads row p (T-1)/(L-1). A grid
    of another size resamples its table by bicubic interpolation (:func:`resample_grid`).

    Args:
        train_shape: T tokens, or (rows, columns) of the training grid.
        d_model: features a vector.
    """

    def __init__(self, train_shape: int | tuple[int, ...], d_model: int):
        super().__init__()
        self.train_shape = (train_shape,) if isinstance(train_shape, int) else tuple(train_shape)
        self.table = nn.Embedding(math.prod(self.train_shape), d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, x, positions, context):
        if len(self.train_shape) == 1:
            return x + self._along_a_line(positions.squeeze(-1).to(x.device), context, x.dtype)
        outside = (positions >= torch.tensor(context, device=positions.device)).any(-1)
        if bool(outside.any()):
            raise ValueError(f"a learned table of {tuple(context)} patches has no row for position {positions[outside][0].tolist()}: start at (0, 0) or use another encoding")
        table = resample_grid(self.table.weight, self.train_shape, tuple(context))
        row = positions[..., 0]
        for size, place in zip(context[1:], positions.unbind(-1)[1:]):
            row = row * size + place
        return x + F.embedding(row.to(x.device), table).to(x.dtype)

    def _along_a_line(self, positions: Tensor, context: int, dtype: torch.dtype) -> Tensor:
        rows = self.table.num_embeddings
        if context <= rows:
            return self.table(positions)
        place = positions.double() * (rows - 1) / (context - 1)
        low = place.floor().long().clamp(max=max(0, rows - 2))
        high = (low + 1).clamp(max=rows - 1)  # a table of one row has no other
        share = (place - low).unsqueeze(-1).to(dtype)
        return (1 - share) * self.table(low) + share * self.table(high)


def resample_grid(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Stretch the vectors of one grid over another by bicubic interpolation, antialiased, as timm and DeiT do.

    Args:
        table: (old rows * old columns, d), the last dimension of the grid running fastest.
        old, new: (rows, columns).

    Returns:
        (new rows * new columns, d); the table itself where the grids are the same.

    >>> resample_grid(torch.tensor([[0.], [0.], [1.], [1.]]), (2, 2), (2, 3)).T        # only wider: rows stay as they are
    tensor([[0., 0., 0., 1., 1., 1.]])
    """
    if old == new:
        return table
    if len(old) != 2 or len(new) != 2:
        raise ValueError(f"only grids of rows and columns can be resampled, got {old} -> {new}")
    image = table.float().T.unflatten(1, old).unsqueeze(0)  # (1, d, rows, columns)
    return F.interpolate(image, size=new, mode="bicubic", antialias=True, align_corners=False)[0].flatten(1).T.to(table.dtype)
