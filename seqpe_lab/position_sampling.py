"""Which positions a training sequence gets: consecutive, shifted, a random subset, or with skips.

A model that has seen only positions 0 .. L-1 meets new ones in a longer text. Each way here shows
positions of the longer text in sequences of length L, for any encoding.
"""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.digits import position_limits
from seqpe_lab.sampling import training_positions

WAYS = ("consecutive", "shift", "random", "skips")


def sampled_positions(way: str, batch: int, train_shape: int | tuple[int, ...],
                      max_position: int | tuple[int, ...], *, generator: torch.Generator,
                      shifted: float = 0.1, whole_batch: bool = False) -> Tensor:
    """Positions of a step's sequences or images.

    * "consecutive" and "shift": a share ``shifted`` of the sequences starts at a random z (SeqPE,
      App. A.5), see :func:`~seqpe_lab.sampling.training_positions`;
    * "random": L of all positions below ``max_position``, sorted, so that only their order is
      that of the tokens (randomized positional encodings, Ruoss et al. 2023);
    * "skips": the sequence is cut at a random place, and a random number is added to the positions
      of the second part (PoSE, Zhu et al. 2024, with two chunks).

    The last two draw anew for each sequence, and on a grid for rows and columns separately.

    Args:
        way: one of ``WAYS``.
        batch, train_shape, max_position, shifted, whole_batch: as in ``training_positions``.

    Returns:
        int64 (batch, L, n), or (L, n) where all sequences have the same.

    Raises:
        ValueError: another way, or a training context beyond ``max_position``.

    >>> generator = torch.Generator().manual_seed(0)
    >>> sampled_positions("random", 2, 4, 100, generator=generator).squeeze(-1)
    tensor([[26, 51, 69, 81],
            [ 0, 13, 40, 42]])
    >>> sampled_positions("skips", 2, 4, 100, generator=generator).squeeze(-1)
    tensor([[ 0,  1, 45, 46],
            [ 0,  1,  2, 73]])
    """
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r} to sample positions: choose from {', '.join(WAYS)}")
    shape = (train_shape,) if isinstance(train_shape, int) else tuple(train_shape)
    limits = position_limits(max_position, len(shape)).tolist()
    if any(limit < size for size, limit in zip(shape, limits)):
        raise ValueError(f"the training context {shape} is beyond max_position {tuple(limits)}: "
                         "raise max_position")
    if way in ("consecutive", "shift"):
        return training_positions(batch, shape, max_position, generator=generator, shifted=shifted,
                                  whole_batch=whole_batch)
    draw = _subset if way == "random" else _with_skip
    axes = [draw(batch, size, limit, generator) for size, limit in zip(shape, limits)]
    if len(axes) == 1:
        return axes[0].unsqueeze(-1)
    grids = [torch.stack(torch.meshgrid(*of_image, indexing="ij"), -1).flatten(0, -2)
             for of_image in zip(*axes)]
    return torch.stack(grids)  # (batch, L, n)


def _subset(batch: int, size: int, limit: int, generator: torch.Generator) -> Tensor:
    """A sorted subset for each sequence, int64 (batch, size)."""
    draws = torch.rand(batch, limit, generator=generator)
    return draws.topk(size).indices.sort().values


def _with_skip(batch: int, size: int, limit: int, generator: torch.Generator) -> Tensor:
    """0 .. size-1 with one skip for each sequence, int64 (batch, size)."""
    cut = torch.randint(1, max(2, size), (batch, 1), generator=generator)
    skip = torch.randint(limit - size + 1, (batch, 1), generator=generator)
    place = torch.arange(size)
    return place + (place >= cut) * skip
