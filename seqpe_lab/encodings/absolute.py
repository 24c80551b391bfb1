"""Absolute position embeddings: a vector per position, added to the token embedding (Eq. 4)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import moved
from seqpe_lab.digits import check_positions, grid_row
from seqpe_lab.encodings.base import PositionEncoding, register


def sinusoidal_vectors(positions: Tensor, d_model: int, base: float = 10_000.0) -> Tensor:
    """The fixed vectors of Vaswani et al.: features 2i and 2i+1 are sin(p w_i) and cos(p w_i).

    w_i = base^(-2i/d). In n dimensions each dimension has d_model/n features of its own, rows
    first. The angles are computed on the CPU in float64, which some devices lack.

    Args:
        positions: integers (..., n).

    Returns:
        float32 (..., d_model), values in [-1, 1], on the device of ``positions``.

    Raises:
        ValueError: a d_model that is not divisible by 2n.

    >>> sinusoidal_vectors(torch.tensor([[0], [1]]), d_model=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    dims = positions.shape[-1]
    if d_model % (2 * dims):
        raise ValueError("sinusoidal vectors come in pairs of sine and cosine for each of "
                         f"n={dims} dimensions: d_model={d_model} must be divisible by {2 * dims}")
    part = d_model // dims
    frequency = base ** (-torch.arange(0, part, 2, dtype=torch.float64) / part)
    angle = positions.cpu().double().unsqueeze(-1) * frequency  # (..., n, part/2)
    vectors = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3).float()
    return vectors.to(positions.device)


@register("sinusoidal")
class Sinusoidal(PositionEncoding):
    """APE-SIN: the token embedding plus a fixed sinusoidal vector."""

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        vectors, = moved([sinusoidal_vectors(positions, x.shape[-1])], x.device)
        return x + vectors.to(x.dtype)


@register("learned")
class Learned(PositionEncoding):
    """APE-LEARN: a table of one trained vector for each position of the training context.

    For a longer context the table is interpolated linearly, as in the paper (Sec. 4.1): with T rows
    and a context of L > T tokens, position p has the vector at row p (T-1)/(L-1). For a grid of
    another size it is interpolated bicubically (:func:`resample_grid`).

    Args:
        train_shape: T tokens, or (rows, columns) of the training grid.
        d_model: features of a vector.
    """

    def __init__(self, train_shape: int | tuple[int, ...], d_model: int):
        super().__init__()
        self.train_shape = (train_shape,) if isinstance(train_shape, int) else tuple(train_shape)
        self.table = nn.Embedding(math.prod(self.train_shape), d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The table on a grid, as in timm; that of a text decays, as nanoGPT's does."""
        return super().no_weight_decay() if len(self.train_shape) > 1 else set()

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Raises ValueError where a position on a grid lies outside ``context``."""
        positions = check_positions(positions, len(self.train_shape))
        if isinstance(context, int):
            return x + self._interpolated(positions.squeeze(-1), context).to(x)
        outside = (positions >= torch.tensor(context, device=positions.device)).any(-1)
        if bool(outside.any()):
            raise ValueError(f"a learned table of {tuple(context)} patches has no row for position "
                             f"{positions[outside][0].tolist()}: start at (0, 0) or use another "
                             "encoding")
        table = resample_grid(self.table.weight, self.train_shape, tuple(context))
        row, = moved([grid_row(positions, context)], x.device)
        return x + F.embedding(row, table).to(x.dtype)

    def _interpolated(self, positions: Tensor, context: int) -> Tensor:
        """The vectors of text positions, int64 (...), in a context of that many tokens."""
        rows, device = self.table.num_embeddings, self.table.weight.device
        if positions.numel() and (highest := int(positions.max())) >= context:
            raise ValueError(f"a learned table of a context of {context} tokens has no row for "
                             f"position {highest}: give the length of the whole context")
        if context <= rows:
            return self.table(*moved([positions], device))
        place = positions.cpu().double() * (rows - 1) / (context - 1)
        low = place.floor().long().clamp(max=max(0, rows - 2))
        high = (low + 1).clamp(max=rows - 1)  # a table of one row has no other
        share, = moved([(place - low).unsqueeze(-1).float()], device)
        low, high = moved([low, high], device)
        return (1 - share) * self.table(low) + share * self.table(high)


def resample_grid(table: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Interpolate the vectors of one grid to another: bicubic, antialiased, as in timm and DeiT.

    Args:
        table: (old rows * old columns, d), the last dimension of the grid running fastest.
        old, new: (rows, columns).

    Returns:
        (new rows * new columns, d); the table itself where the grids are the same.

    Raises:
        ValueError: grids of another number of dimensions than two.

    >>> table = torch.tensor([[0.], [0.], [1.], [1.]])           # only wider: rows stay as they are
    >>> resample_grid(table, (2, 2), (2, 3)).T
    tensor([[0., 0., 0., 1., 1., 1.]])
    """
    if old == new:
        return table
    if len(old) != 2 or len(new) != 2:
        raise ValueError(f"only grids of rows and columns can be resampled, got {old} -> {new}")
    image = table.float().T.unflatten(1, old).unsqueeze(0)  # (1, d, rows, columns)
    stretched = F.interpolate(image, size=new, mode="bicubic", antialias=True, align_corners=False)
    return stretched[0].flatten(1).T.to(table.dtype)
