"""Positions that are far apart but look alike as digits, such as 100 and 1000 (SeqPE, App. A.2)."""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.digits import digits_needed, is_integer, position_limits


def lookalikes(pivots: Tensor, count: int, max_position: int | tuple[int, ...], *, base: int = 10,
               generator: torch.Generator) -> Tensor:
    """Positions whose digits resemble the pivot's: two swapped, one removed or one added (A.2).

    One edit changes the number in one random dimension, written without padding. For each
    dimension all edits are listed that give another position below ``max_position``. One kind of
    those possible is drawn, all with the same chance, then one edit of that kind. A number that
    already has as many digits as the largest position gets none added. Every number has an edit:
    p > 0 can lose its last digit (a single digit leaves 0), and 0 can become 1.

    Args:
        pivots: integers (B, n), each coordinate in [0, max_position).
        count: how many are drawn for each pivot; they are independent, so some may be equal.
        max_position: L_max, exclusive; one for all dimensions or one each.
        base: b.

    Returns:
        int64 (B, count, n), never the pivot itself.

    Raises:
        TypeError: pivots that are not integers.
        ValueError: a pivot outside [0, max_position), or a base below 2.

    >>> generator = torch.Generator().manual_seed(3)
    >>> lookalikes(torch.tensor([[1234]]), 6, 100_000, generator=generator).squeeze()
    tensor([ 1243,  2134, 12354,  1324, 12334,   234])
    """
    limit = position_limits(max_position, pivots.shape[-1])
    if not is_integer(pivots):
        raise TypeError(f"pivots are whole numbers, got dtype {pivots.dtype}")
    pivots = pivots.long()
    if bool(((pivots < 0) | (pivots >= limit)).any()):
        raise ValueError(f"pivots must lie in [0, {tuple(limit.tolist())}), "
                         f"got {int(pivots.min())}..{int(pivots.max())}: raise `max_position`")
    longest = digits_needed(int(limit.max()) - 1, base)
    place = torch.arange(longest)  # counted from the right
    low, high = torch.triu_indices(longest, longest, offset=1)
    unit = base**place
    value = pivots.unsqueeze(-1)
    left, digit, right = value // (base * unit), value // unit % base, value % unit  # (B, n, K)
    length = (value >= unit).sum(-1, keepdim=True).clamp(min=1)  # (B, n, 1): digits as written

    swapped = value + (digit[..., high] - digit[..., low]) * (unit[low] - unit[high])
    removed = left * unit + right
    added = (value // unit * base).unsqueeze(-1) + torch.arange(base)  # (B, n, K, b)
    added = (added * unit.unsqueeze(-1) + right.unsqueeze(-1)).flatten(-2)
    edits = torch.cat([swapped, removed, added], -1)  # (B, n, E): all there are
    longer = (place <= length).repeat_interleave(base, -1)
    written = torch.cat([high < length, place < length, longer], -1)  # no edits of the padding
    possible = (written & (edits != value) & (edits < limit.unsqueeze(-1))).double()

    kinds = possible.split([len(low), longest, longest * base], -1)
    chance = torch.cat([kind / kind.sum(-1, keepdim=True).clamp(min=1) for kind in kinds], -1)
    chance = chance / chance.sum(-1, keepdim=True)  # the same for each dimension
    choice = torch.multinomial(chance.flatten(1), count, replacement=True, generator=generator)
    axis, edited = choice // possible.shape[-1], edits.flatten(1).gather(1, choice)  # (B, count)
    copies = pivots.unsqueeze(1).repeat(1, count, 1)
    return copies.scatter_(2, axis.unsqueeze(-1), edited.unsqueeze(-1))
