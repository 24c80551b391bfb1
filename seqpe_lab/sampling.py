"""Which positions the two losses and the main task see (SeqPE, Sec. 3.4, App. A.2, A.4, A.5).

All positions are int64 on the CPU. All functions draw from a ``torch.Generator`` that the caller
seeds with (seed, step), so a resumed run sees the same positions as an uninterrupted one.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from seqpe_lab.digits import grid, grid_row, position_limits
from seqpe_lab.lookalikes import lookalikes

LOCAL_WINDOW = 256  # App. A.2: positions in a window of local candidates, more if m needs them


class ContrastiveSample(NamedTuple):
    """Positions for L_delta.

    Attributes:
        pivots: int64 (B, n).
        candidates: int64 (B, m, n), a set: no position twice in a row, the pivot not among them.
        label: int64 (B,), the index of the candidate nearest to the pivot, p+.
        tied: bool (B, m), other candidates that are as near as p+.
    """
    pivots: Tensor
    candidates: Tensor
    label: Tensor
    tied: Tensor


class DistillationSample(NamedTuple):
    """Positions for L_OOD.

    Attributes:
        teachers: int64 (B, m, n), within the training context, no position twice in a row.
        students: int64 (B, m, n), the teachers shifted by one z for each row.
    """
    teachers: Tensor
    students: Tensor


def euclidean(p: Tensor, q: Tensor) -> Tensor:
    """delta(p, p') as in the paper (Sec. 3.3), in positions: int (..., n) twice -> float (...)."""
    return (p - q).float().norm(dim=-1)


# --- L_delta (App. A.2) ---------------------------------------------------------------------------

def contrastive_sample(batch: int, candidates: int, max_position: int | tuple[int, ...], *,
                       generator: torch.Generator, dims: int = 1, base: int = 10, hard: int = 8,
                       hard_share: float = 1.0, local: float = 0.5,
                       distance: Callable[[Tensor, Tensor], Tensor] = euclidean,
                       ) -> ContrastiveSample:
    """Pivots and candidate sets for L_delta (App. A.2).

    Each pivot gets one of two kinds of candidates, chosen at random:

    * global: drawn from all positions; ``hard`` of them are lexical look-alikes of the pivot (two
      digits swapped, one removed or one added), which are never the nearest. Where fewer exist,
      random positions take their places;
    * local: drawn from a window of about max(256, m) positions that lies anywhere, not
      necessarily around the pivot.

    Args:
        batch: B, the number of pivots.
        candidates: m.
        max_position: L_max, exclusive; one for all dimensions or one each.
        dims: n.
        base: b, the number system in which look-alikes look alike.
        hard: look-alikes among the m candidates of a global set, 0..m-1 (the paper's k).
        hard_share: the share of the global sets that hold look-alikes, in [0, 1].
        local: the share of the pivots with local candidates, in [0, 1].
        distance: delta, any function of two position tensors (..., n).

    Raises:
        ValueError: no pivots; fewer than two candidates, or more than a window has positions
            besides the pivot; ``hard`` or a share outside its range.

    >>> sample = contrastive_sample(4, 3, 100, hard=1, generator=torch.Generator().manual_seed(0))
    >>> sample.pivots.shape, sample.candidates.shape, sample.label.shape
    (torch.Size([4, 1]), torch.Size([4, 3, 1]), torch.Size([4]))
    """
    limit = position_limits(max_position, dims)
    if batch < 1 or candidates < 2:
        raise ValueError("the contrastive loss needs at least 1 pivot and 2 candidates, "
                         f"got batch={batch}, candidates={candidates}")
    side = math.ceil(max(LOCAL_WINDOW, candidates + 1) ** (1 / dims))  # with room for the pivot
    window = limit.clamp(max=side)
    if candidates >= int(window.prod()):
        raise ValueError(f"{candidates} candidates do not fit into a window of "
                         f"{int(window.prod())} positions besides the pivot: lower `candidates` "
                         "or raise `max_position`")
    if not 0 <= hard < candidates:
        raise ValueError(f"hard={hard} look-alikes must leave room for p+ among {candidates} "
                         f"candidates: choose 0..{candidates - 1}")
    if not (0 <= local <= 1 and 0 <= hard_share <= 1):
        raise ValueError("local and hard_share are shares in [0, 1], "
                         f"got {local} and {hard_share}")
    pivots = _uniform((batch, dims), limit, generator)
    with_hard = torch.rand(batch, 1, generator=generator) < hard_share
    far = _global_candidates(pivots, candidates, limit, hard, with_hard, base, distance, generator)
    near = _local_candidates(pivots, candidates, limit, window, generator)
    is_local = torch.rand(batch, generator=generator) < local
    chosen = torch.where(is_local.view(-1, 1, 1), near, far)
    gap = distance(pivots.unsqueeze(1), chosen)  # (B, m)
    label = gap.argmin(1)
    tied = gap == gap.min(1, keepdim=True).values
    return ContrastiveSample(pivots, chosen, label, tied.scatter(1, label.unsqueeze(1), False))


def _global_candidates(pivots: Tensor, count: int, limit: Tensor, hard: int, with_hard: Tensor,
                       base: int, distance: Callable, generator: torch.Generator) -> Tensor:
    """m distinct positions from everywhere, ``hard`` of them look-alikes: int64 (B, m, n)."""
    batch, dims = pivots.shape
    cells, draws = int(limit.prod()), max(64, 2 * count)
    if cells <= 4 * draws:  # few positions: all of them, in random order
        order = torch.rand(batch, cells, generator=generator).argsort(1)
        random = grid(*limit.tolist())[order]
    else:
        random = _uniform((batch, draws, dims), limit, generator)
    new = _not_repeated(torch.cat([pivots.unsqueeze(1), random], 1), limit)[:, 1:]
    random, new = _first_allowed(random, new, random.shape[1]), new.sort(1, descending=True).values
    kept, spare = random[:, : count - hard], random[:, count - hard:]
    if not hard:
        return kept
    # p+ is the nearest of the kept ones; look-alikes must lie farther away than it
    edits = lookalikes(pivots, 8 * hard, tuple(limit.tolist()), base=base, generator=generator)
    gap = distance(pivots.unsqueeze(1), torch.cat([kept, edits, spare], 1))
    of_kept, of_edits, of_spare = gap.split([count - hard, 8 * hard, spare.shape[1]], 1)
    nearest = of_kept.min(1, keepdim=True).values
    usable = _not_repeated(torch.cat([kept, edits], 1), limit)[:, count - hard:]
    usable &= (of_edits > nearest) & with_hard
    usable &= usable.cumsum(1) <= hard
    # where look-alikes are too few, more random positions, farther away than p+ if possible
    sizes = limit.tolist()
    repeated = grid_row(spare, sizes).unsqueeze(2) == grid_row(edits, sizes).unsqueeze(1)
    fill = new[:, count - hard:] & ~(repeated & usable.unsqueeze(1)).any(2)
    beyond = (of_spare > nearest) | ~with_hard  # without look-alikes all positions weigh the same
    pool = torch.cat([edits, spare, spare], 1)
    others = _first_allowed(pool, torch.cat([usable, fill & beyond, fill & ~beyond], 1), hard)
    return torch.cat([kept, others], 1)


def _local_candidates(pivots: Tensor, count: int, limit: Tensor, window: Tensor,
                      generator: torch.Generator) -> Tensor:
    """m distinct positions from one random window for each pivot: int64 (B, m, n)."""
    batch, dims = pivots.shape
    left = _uniform((batch, dims), limit - window + 1, generator)
    draw = torch.rand(batch, int(window.prod()), generator=generator)
    place = pivots - left  # (B, n): the pivot's place in the window
    inside = ((place >= 0) & (place < window)).all(1)
    sizes = window.tolist()
    draw[inside, grid_row(place, sizes)[inside]] = -1.0  # the pivot is never drawn
    cell = draw.topk(count).indices
    return grid(*sizes)[cell] + left.unsqueeze(1)


# --- L_OOD (Sec. 3.4) and shifted starts (App. A.5) -----------------------------------------------

def distillation_sample(batch: int, teachers: int, train_shape: int | tuple[int, ...],
                        max_position: int | tuple[int, ...], *, generator: torch.Generator,
                        dims: int = 1, smallest_shift: float = 1.0) -> DistillationSample:
    """Teacher positions in the training context, and the same shifted by a random z (Sec. 3.4).

    Args:
        batch: B; each row has teachers and a shift z of its own.
        teachers: m, drawn without replacement.
        train_shape: L_i of each dimension: the training context.
        max_position: L_max, exclusive: students stay below it.
        smallest_shift: z is at least this share of L in some dimension. With 1 all students lie
            outside the training context; the authors' code for text has 0.25.

    Raises:
        ValueError: no rows or teachers, or more teachers than the training context has positions;
            a ``max_position`` that leaves no room for such a shift.

    >>> generator = torch.Generator().manual_seed(0)
    >>> sample = distillation_sample(2, 3, 64, 1000, generator=generator)
    >>> (sample.students - sample.teachers).squeeze(-1)       # one z a row
    tensor([[408, 408, 408],
            [817, 817, 817]])
    """
    shape, limit = position_limits(train_shape, dims), position_limits(max_position, dims)
    inside = int(shape.prod())
    if not smallest_shift >= 0:
        raise ValueError("smallest_shift is a share of the training context of at least 0, "
                         f"got {smallest_shift}")
    if not 1 <= teachers <= inside:
        raise ValueError(f"{teachers} teachers cannot be drawn without replacement from the "
                         f"{inside} positions of the training context: lower `teachers` or "
                         "raise train_len")
    if batch < 1 or bool((limit < shape).any()):
        raise ValueError(f"need batch >= 1 and max_position {tuple(limit.tolist())} >= the "
                         f"training context {tuple(shape.tolist())}")
    cell = torch.rand(batch, inside, generator=generator).topk(teachers).indices
    positions = grid(*shape.tolist())[cell]  # (B, m, n)
    room = limit - shape + 1  # z_i lies in [0, room_i)
    small = torch.minimum(room, (shape * smallest_shift).ceil().long())
    # Allowed are the z that are not small everywhere. They fall into n disjoint boxes: in box i,
    # z is small in the dimensions before i, large in i, and anything after i.
    before = torch.cat([small.new_ones(1), small.cumprod(0)[:-1]])
    after = torch.cat([room.flip(0).cumprod(0).flip(0)[1:], room.new_ones(1)])
    volume = (before * (room - small) * after).double()
    if not bool(volume.sum() > 0):
        raise ValueError(f"no shift takes students out of the training context "
                         f"{tuple(shape.tolist())} below max_position {tuple(limit.tolist())}: "
                         "raise `max_position` to at least twice the training context")
    box = torch.multinomial(volume, batch, replacement=True, generator=generator).unsqueeze(1)
    axis = torch.arange(dims)
    low = torch.where(axis == box, small, 0)
    high = torch.where(axis < box, small, room)
    shift = low + _uniform((batch, dims), high - low, generator)  # (B, n)
    return DistillationSample(positions, positions + shift.unsqueeze(1))


def training_positions(batch: int, train_shape: int | tuple[int, ...],
                       max_position: int | tuple[int, ...], *, generator: torch.Generator,
                       shifted: float = 0.1, whole_batch: bool = False) -> Tensor:
    """Positions of a step's sequences or images; a share of them starts at a random z (App. A.5).

    The shift changes the start of a context, not its length. One z is drawn for the whole step.

    Args:
        batch: sequences or images.
        train_shape: of the training context: L, or (rows, columns).
        max_position: L_max, exclusive.
        shifted: the share of the sequences that are shifted, in [0, 1].
        whole_batch: True shifts the whole batch with that probability, or none of it, as the
            authors' code does.

    Returns:
        int64 (batch, L, n), or (L, n) where all start alike.

    >>> generator = torch.Generator().manual_seed(0)
    >>> training_positions(2, 3, 100, generator=generator, shifted=1.0).squeeze()
    tensor([95, 96, 97])
    """
    shape = (train_shape,) if isinstance(train_shape, int) else tuple(train_shape)
    z = random_shift(shape, max_position, generator=generator, dims=len(shape))  # (n,)
    draws = torch.rand(1 if whole_batch else batch, 1, 1, generator=generator)
    starts = (draws < shifted) * z  # (batch, 1, n)
    positions = starts + grid(*shape)
    return positions[0] if bool((starts == starts[0]).all()) else positions


def random_shift(train_shape: int | tuple[int, ...], max_position: int | tuple[int, ...], *,
                 generator: torch.Generator, dims: int = 1) -> Tensor:
    """A start z, int64 (n,), such that the training context at z stays below max_position (A.5)."""
    room = position_limits(max_position, dims) - position_limits(train_shape, dims) + 1
    return _uniform((dims,), room, generator)


# --- generators and small helpers -----------------------------------------------------------------

def seeded(seed: int, number: int, stream: int) -> torch.Generator:
    """An independent generator for each (seed, number, stream)."""
    return torch.Generator().manual_seed(seed_of(seed, number, stream))


def seed_of(seed: int, number: int, stream: int) -> int:
    """A hash of all three, 32 bits: torch's CPU generator ignores higher ones."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stream} {number}".encode()).digest()[:4], "big")


def _uniform(shape: tuple[int, ...], limit: Tensor, generator: torch.Generator) -> Tensor:
    """Integers in [0, limit), where ``limit`` broadcasts to ``shape``."""
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * limit).long()


def _not_repeated(positions: Tensor, limit: Tensor) -> Tensor:
    """Which positions of a row do not occur earlier in it: (B, N, n) -> bool (B, N)."""
    number = grid_row(positions, limit.tolist())
    return ~(number.unsqueeze(2) == number.unsqueeze(1)).tril(-1).any(2)


def _first_allowed(positions: Tensor, allowed: Tensor, count: int) -> Tensor:
    """The first ``count`` allowed positions of each row: (B, N, n), (B, N) -> (B, count, n)."""
    order = (~allowed).int().argsort(dim=1, stable=True)[:, :count]
    return positions.gather(1, order.unsqueeze(-1).expand(-1, -1, positions.shape[-1]))
