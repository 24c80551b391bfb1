"""An encoding's bias of pairs of queries and keys, as attention asks for it: a block at a time.

A bias of differences of positions is computed once for each difference, and looked up.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.digits import grid, grid_row
from seqpe_lab.encodings.base import PositionEncoding

# (q, k, first, allowed) -> (H, l, L) or (B, H, l, L): the bias of a block of l queries, of which
# ``first`` come before it, for the first L keys; ``allowed`` as in PositionEncoding.content_bias
Bias = Callable[[Tensor, Tensor, int, Tensor], Tensor]


class Places(NamedTuple):
    """Positions on the device of queries and keys, and their range, which the CPU knows."""
    positions: Tensor  # (L, n) or (B, L, n)
    lowest: tuple[int, ...]  # in each of n dimensions
    highest: tuple[int, ...]

    def then(self, later: Places) -> Places:
        """These, and ``later`` ones after them."""
        both = [self.positions, later.positions]
        if both[0].dim() != both[1].dim():  # one of the two is the same for all sequences
            batch = max(both, key=Tensor.dim).shape[0]
            both = [p.expand(batch, *p.shape[-2:]) for p in both]
        return Places(torch.cat(both, -2), tuple(map(min, self.lowest, later.lowest)),
                      tuple(map(max, self.highest, later.highest)))

    def cut(self, first: int, end: int) -> Places:
        """The places with these numbers; zeros where there are no more."""
        more = max(0, end - self.positions.shape[-2])
        return self._replace(positions=F.pad(self.positions, (0, 0, 0, more))[..., first:end, :])


def places(positions: Tensor, device: torch.device | None = None) -> Places:
    """Positions (L, n) or (B, L, n), which are best kept on the CPU, with their range."""
    each = positions.flatten(0, -2)
    low, high = (tuple(map(int, bound.tolist())) for bound in (each.amin(0), each.amax(0)))
    there, = moved([positions], device)
    return Places(there, low, high)


def bias_between(encoding: PositionEncoding, layer: int, of_queries: Places, of_keys: Places,
                 context: int) -> Bias:
    """An encoding's bias, in the form that :func:`~seqpe_lab.attention.attend` takes.

    Args:
        of_queries, of_keys: without tokens before the positions ([CLS]), whose bias is 0.
        context: number of keys, with such tokens.
    """
    prefix = context - of_keys.positions.shape[-2]
    queries, keys = (F.pad(p.positions, (0, 0, prefix, 0)) for p in (of_queries, of_keys))
    of_pairs = type(encoding).content_bias is PositionEncoding.content_bias
    if not (of_pairs and encoding.relative) or queries.is_floating_point():
        return OfPairs(encoding, layer, queries, keys, prefix)
    # a difference is numbered as in a grid; its number is one of the key minus one of the query
    low = [k - q for k, q in zip(of_keys.lowest, of_queries.highest)]
    sizes = [k - q - start + 1 for k, q, start in zip(of_keys.highest, of_queries.lowest, low)]
    differences, = moved([grid(*sizes) + torch.tensor(low)], keys.device)  # (D, n)
    with float32_region(keys.device):
        table = encoding.bias(torch.zeros_like(differences[:1]), differences, layer)
    return OfDifferences(_not_none(encoding, table)[:, 0], grid_row(queries, sizes),
                         grid_row(keys - keys.new_tensor(low), sizes), prefix)


@dataclass(eq=False)
class OfPairs:
    """A bias that the encoding computes for each pair of a block."""
    encoding: PositionEncoding
    layer: int
    queries: Tensor  # positions, (L_q, n) or (B, L_q, n)
    keys: Tensor
    prefix: int

    def __call__(self, q: Tensor, k: Tensor, first: int, allowed: Tensor) -> Tensor:
        rows, seen = slice(first, first + q.shape[-2]), k.shape[-2]
        added = self.encoding.content_bias(q, k, self.queries[..., rows, :],
                                           self.keys[..., :seen, :], allowed, self.layer)
        return _without_prefix(_not_none(self.encoding, added), first, self.prefix)


@dataclass(eq=False)
class OfDifferences:
    """A bias that is looked up among those of all differences of positions."""
    table: Tensor  # (H, D)
    of_query: Tensor  # int64 (L_q,) or (B, L_q)
    of_key: Tensor  # a difference is in column ``of_key - of_query``
    prefix: int

    def __call__(self, q: Tensor, k: Tensor, first: int, allowed: Tensor) -> Tensor:
        rows, seen = slice(first, first + q.shape[-2]), k.shape[-2]
        column = self.of_key[..., None, :seen] - self.of_query[..., rows, None]  # ((B,) l, L)
        flat = column.flatten().clamp(0, self.table.shape[-1] - 1)  # without a position: any
        found = self.table.gather(1, flat.expand(len(self.table), -1))  # (H, B l L)
        found = found.unflatten(1, column.shape).movedim(0, -3)
        return _without_prefix(found, first, self.prefix)

    def of_one(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """The bias of query i and key j, numbers of them, in head h of sequence b."""
        here, there = (t[index] if t.dim() == 1 else t[b, index]
                       for t, index in ((self.of_query, i), (self.of_key, j)))
        found = self.table[h, (there - here).clamp(0, self.table.shape[-1] - 1)]
        return torch.where((i < self.prefix) | (j < self.prefix), 0.0, found)


def _not_none(encoding: PositionEncoding, bias: Tensor | None) -> Tensor:
    if bias is None:
        raise TypeError(f"{type(encoding).__name__}.bias returned None: return scores (H, l, L) or "
                        "(B, H, l, L)")
    return bias


def _without_prefix(bias: Tensor, first: int, prefix: int) -> Tensor:
    """The bias (..., l, L) of the queries from ``first`` on, 0 for tokens without a position."""
    if not prefix:
        return bias
    rows, columns = (torch.arange(size, device=bias.device) for size in bias.shape[-2:])
    return bias.masked_fill((rows + first < prefix).unsqueeze(-1) | (columns < prefix), 0.0)
