"""Which positions the two losses see (SeqPE, App. A.2, A.4, A.5). Everything here is integers.

All functions draw from a ``torch.Generator`` that the caller seeds, so a training step is a
function of (seed, step) and a resumed run sees the same positions as an unbroken one.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from seqpe_lab.digits import digits_needed

LOCAL_WINDOW = 256  # App. A.2: local candidates lie in (p_left, p_left + max(256, m)); in n dimensions, as many cells


class ContrastiveSample(NamedTuple):
    pivots: Tensor  # int64 (B, n)
    candidates: Tensor  # int64 (B, m, n)
    label: Tensor  # int64 (B,): which candidate is nearest to the pivot


class DistillationSample(NamedTuple):
    teachers: Tensor  # int64 (B, m, n), within the training context, no position twice in a row
    students: Tensor  # int64 (B, m, n), the teachers shifted by one z for each row


def euclidean(p: Tensor, q: Tensor) -> Tensor:
    """delta(p, p'), in positions: (..., n), (..., n) -> (...). The paper's choice; in one dimension |p - p'|."""
    return (p - q).float().norm(dim=-1)


def contrastive_sample(batch: int, candidates: int, max_position: int | tuple[int, ...], *, generator: torch.Generator,
                       dims: int = 1, base: int = 10, hard: int = 8, hard_share: float = 1.0, local: float = 0.5,
                       distance: Callable[[Tensor, Tensor], Tensor] = euclidean) -> ContrastiveSample:
    """Pivots and candidate sets for L_delta (App. A.2).

    Each pivot gets one of two kinds of candidates, chosen at random:

    * global: drawn from all positions, ``hard`` of them replaced by lexical look-alikes of the
      pivot (two digits swapped, one removed or one added), which are never the nearest;
    * local: drawn without replacement from a window of max(256, m) positions, anywhere.

    Args:
        batch: B, number of pivots.
        candidates: m.
        max_position: L_max, exclusive; one for all dimensions or one each.
        dims: n.
        base: b, the number system in which look-alikes look alike.
        hard: look-alikes among the m candidates of a global set, 0..m-1.
        hard_share: share of the global sets that hold look-alikes, in [0, 1].
        local: share of the pivots with local candidates, in [0, 1].
        distance: delta, any function of two position tensors (..., n).

    Raises:
        ValueError: fewer than two candidates, or more than the positions can supply.

    >>> sample = contrastive_sample(4, 3, 100, hard=1, generator=torch.Generator().manual_seed(0))
    >>> sample.pivots.shape, sample.candidates.shape, sample.label.shape
    (torch.Size([4, 1]), torch.Size([4, 3, 1]), torch.Size([4]))
    """
    limit = _limits(max_position, dims)
    if batch < 1 or candidates < 2:
        raise ValueError(f"the contrastive loss needs at least 1 pivot and 2 candidates, got batch={batch}, candidates={candidates}")
    side = math.ceil(max(LOCAL_WINDOW, candidates + 1) ** (1 / dims))  # room for the pivot, which is no candidate
    window = limit.clamp(max=side)
    if candidates >= int(window.prod()):
        raise ValueError(f"{candidates} candidates do not fit into a window of {int(window.prod())} positions besides the pivot: lower `candidates` or raise `max_position`")
    if not 0 <= hard < candidates:
        raise ValueError(f"hard={hard} look-alikes must leave room for p+ among {candidates} candidates: choose 0..{candidates - 1}")
    if not (0 <= local <= 1 and 0 <= hard_share <= 1):
        raise ValueError(f"local and hard_share are shares in [0, 1], got {local} and {hard_share}")

    pivots = _uniform((batch, dims), limit, generator)
    far = _distinct_from(pivots, _uniform((batch, candidates, dims), limit, generator), limit)
    if hard:
        harder = _with_lookalikes(pivots, far, limit, hard, base, distance, generator)
        far = torch.where(torch.rand(batch, 1, 1, generator=generator) < hard_share, harder, far)

    left = _uniform((batch, dims), limit - window + 1, generator)
    draw = torch.rand(batch, int(window.prod()), generator=generator)
    place = pivots - left  # (B, n): of the pivot within the window; it is never drawn
    inside = ((place >= 0) & (place < window)).all(1)
    strides = window.flip(0).cumprod(0).flip(0) // window
    draw[inside, (place * strides).sum(1)[inside]] = -1.0
    cell = draw.topk(candidates).indices  # without replacement
    near = torch.stack(torch.unravel_index(cell, tuple(window.tolist())), -1) + left.unsqueeze(1)

    is_local = torch.rand(batch, generator=generator) < local
    chosen = torch.where(is_local.view(-1, 1, 1), near, far)
    return ContrastiveSample(pivots, chosen, distance(pivots.unsqueeze(1), chosen).argmin(1))


def distillation_sample(batch: int, teachers: int, train_shape: int | tuple[int, ...], max_position: int | tuple[int, ...], *,
                        generator: torch.Generator, dims: int = 1) -> DistillationSample:
    """Teacher positions of the training context and the same, shifted by a random z (Sec. 3.4).

    Args:
        batch: B; each row has teachers and a shift z of its own.
        teachers: m, drawn without replacement.
        train_shape: L_i of each dimension: the training context.
        max_position: L_max, exclusive: students stay below it.

    Raises:
        ValueError: more teachers than the training context has positions.

    >>> sample = distillation_sample(2, 3, 64, 1000, generator=torch.Generator().manual_seed(0))
    >>> (sample.students - sample.teachers).squeeze(-1)       # one z a row
    tensor([[562, 562, 562],
            [139, 139, 139]])
    """
    shape, limit = _limits(train_shape, dims), _limits(max_position, dims)
    inside = int(shape.prod())
    if not 1 <= teachers <= inside:
        raise ValueError(f"{teachers} teachers cannot be drawn without replacement from the {inside} positions of the training context: lower `teachers` or raise train_len")
    if batch < 1 or bool((limit < shape).any()):
        raise ValueError(f"need batch >= 1 and max_position {tuple(limit.tolist())} >= the training context {tuple(shape.tolist())}")
    cell = torch.rand(batch, inside, generator=generator).topk(teachers).indices
    positions = torch.stack(torch.unravel_index(cell, tuple(shape.tolist())), -1)  # (B, m, n)
    shift = _uniform((batch, 1, dims), limit - shape + 1, generator)
    return DistillationSample(positions, positions + shift)


def random_shift(train_shape: int | tuple[int, ...], max_position: int | tuple[int, ...], *, generator: torch.Generator, dims: int = 1) -> Tensor:
    """A start position z, int64 (n,), such that z + train_shape stays within max_position (App. A.5)."""
    return _uniform((dims,), _limits(max_position, dims) - _limits(train_shape, dims) + 1, generator)


def lookalikes(pivots: Tensor, count: int, max_position: int | tuple[int, ...], *, base: int = 10, generator: torch.Generator) -> Tensor:
    """Positions whose digits resemble the pivot's: two swapped, one removed or one added (App. A.2).

    Each works on the digits of one random dimension as one writes them, without padding. All edits that give
    another position below ``max_position`` are listed, then one is drawn: first its kind, each kind alike, then the
    edit. A number that is as long as positions can be has no room for a digit more; it is swapped or shortened.
    Every number has an edit: p > 0 loses its last digit (a single digit leaves 0), and 0 becomes 1.

    Args:
        pivots: int64 (B, n), each coordinate below its ``max_position``.

    Returns:
        int64 (B, count, n), never the pivot itself.

    Raises:
        ValueError: a pivot outside [0, max_position), a base under 2.

    >>> lookalikes(torch.tensor([[1234]]), 6, 100_000, generator=torch.Generator().manual_seed(3)).squeeze()
    tensor([ 1243,  2134, 12354,  1324, 12334,   234])
    """
    limit = _limits(max_position, pivots.shape[-1])
    if bool(((pivots < 0) | (pivots >= limit)).any()):
        raise ValueError(f"pivots must lie in [0, {tuple(limit.tolist())}), got {int(pivots.min())}..{int(pivots.max())}: raise `max_position`")
    longest = digits_needed(int(limit.max()) - 1, base)
    place = torch.arange(longest)  # counted from the right
    low, high = torch.triu_indices(longest, longest, offset=1)
    unit = base**place
    value = pivots.unsqueeze(-1)
    left, digit, right = value // (base * unit), value // unit % base, value % unit  # each (B, n, K)
    length = (value >= unit).sum(-1, keepdim=True).clamp(min=1)  # (B, n, 1): digits as one writes them

    swapped = value + (digit[..., high] - digit[..., low]) * (unit[low] - unit[high])
    removed = left * unit + right
    added = ((value // unit * base).unsqueeze(-1) + torch.arange(base)) * unit.unsqueeze(-1) + right.unsqueeze(-1)  # (B, n, K, b)
    edits = torch.cat([swapped, removed, added.flatten(-2)], -1)  # (B, n, E): all there are
    written = torch.cat([high < length, place < length, (place <= length).repeat_interleave(base, -1)], -1)  # no edits of the padding
    works = (written & (edits != value) & (edits < limit.unsqueeze(-1))).double()

    kinds = works.split([len(low), longest, longest * base], -1)
    chance = torch.cat([kind / kind.sum(-1, keepdim=True).clamp(min=1) for kind in kinds], -1)  # each kind that works weighs 1
    chance = chance / chance.sum(-1, keepdim=True)  # and each dimension
    choice = torch.multinomial(chance.flatten(1), count, replacement=True, generator=generator)  # (B, count)
    axis, edited = choice // works.shape[-1], edits.flatten(1).gather(1, choice)
    return pivots.unsqueeze(1).repeat(1, count, 1).scatter_(2, axis.unsqueeze(-1), edited.unsqueeze(-1))


def _with_lookalikes(pivots, far, limit, hard, base, distance, generator):
    """Replace the last ``hard`` candidates; p+ must remain one of the others (App. A.2)."""
    rows = torch.arange(len(pivots))
    random = far[:, :-hard]
    gap = distance(pivots.unsqueeze(1), random)  # (B, m - hard)
    edits = lookalikes(pivots, hard, tuple(limit.tolist()), base=base, generator=generator)
    # an edit that happens to lie as near as p+ would be a false negative: the farthest candidate takes its place
    too_near = distance(pivots.unsqueeze(1), edits) <= gap.min(1, keepdim=True).values
    farthest = random[rows, gap.argmax(1)].unsqueeze(1)
    return torch.cat([random, torch.where(too_near.unsqueeze(-1), farthest, edits)], dim=1)


def _distinct_from(pivots: Tensor, candidates: Tensor, limit: Tensor) -> Tensor:
    """Move a candidate that equals its pivot by one along the last dimension: p is no candidate for itself."""
    same = (candidates == pivots.unsqueeze(1)).all(-1)
    moved = candidates.clone()
    moved[..., -1] = torch.where(candidates[..., -1] + 1 < limit[-1], candidates[..., -1] + 1, candidates[..., -1] - 1)
    return torch.where(same.unsqueeze(-1), moved, candidates)


def seeded(seed: int, number: int, stream: int) -> torch.Generator:
    """An independent generator for each (seed, number, stream)."""
    return torch.Generator().manual_seed(seed_of(seed, number, stream))


def seed_of(seed: int, number: int, stream: int) -> int:
    """32 bits from all three: torch's CPU generator ignores any higher bit."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stream} {number}".encode()).digest()[:4], "big")


def _limits(size: int | tuple[int, ...], dims: int) -> Tensor:
    limit = torch.as_tensor(size).expand(dims) if isinstance(size, int) else torch.as_tensor(size)
    if limit.shape != (dims,) or int(limit.min()) < 2:
        raise ValueError(f"need a size of at least 2 for each of the n={dims} dimensions, got {size}")
    return limit


def _uniform(shape: tuple[int, ...], limit: Tensor, generator: torch.Generator) -> Tensor:
    """Integers in [0, limit) for each coordinate of the last axis."""
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * limit).long()
