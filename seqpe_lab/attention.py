"""Attention on the queries and keys that an encoding returns, with its bias where it has one.

Without a bias this is plain scaled-dot-product attention in torch's fused kernels. A bias is added
for a block of queries at a time, and each block is computed again in the backward pass. So memory
grows linearly with the context for every encoding.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.digits import grid, grid_row
from seqpe_lab.encodings.base import PositionEncoding

BLOCK = 128  # queries whose biases are in memory at a time

# (q, k, first, allowed) -> (H, l, L) or (B, H, l, L): the bias of a block of l queries, of which
# ``first`` come before it, for the first L keys; ``allowed`` as in PositionEncoding.content_bias
Bias = Callable[[Tensor, Tensor, int, Tensor], Tensor]
Cached = tuple[Any, ...]  # a layer's transformed keys and its values; with a bias also their places


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


class Located(NamedTuple):
    """What ``prepare`` of an encoding with a bias returned, and the places of the queries."""
    prepared: Any
    places: Places


def prepare(encoding: PositionEncoding, positions: Tensor, vectors: Any = None,
            device: torch.device | None = None) -> Any:
    """What :func:`positioned_attention` needs in every layer.

    Args:
        positions, vectors, device: as in :meth:`PositionEncoding.prepare
            <seqpe_lab.encodings.PositionEncoding.prepare>`.
    """
    prepared = encoding.prepare(positions, vectors, device)
    return Located(prepared, places(positions, device)) if encoding.adds_bias else prepared


def places(positions: Tensor, device: torch.device | None = None) -> Places:
    """Positions (L, n) or (B, L, n), which are best kept on the CPU, with their range."""
    each = positions.flatten(0, -2)
    low, high = (tuple(map(int, bound.tolist())) for bound in (each.amin(0), each.amax(0)))
    there, = moved([positions], device)
    return Places(there, low, high)


def positioned_attention(encoding: PositionEncoding, prepared: Any, layer: int, hidden: Tensor,
                         q: Tensor, k: Tensor, v: Tensor, past: Cached | None = None,
                         dropout: float = 0.0, causal: bool = True,
                         mask: Tensor | None = None) -> tuple[Tensor, Cached]:
    """One layer's attention with an encoding.

    Args:
        prepared: what :func:`prepare` returned.
        hidden: (B, L, d_model), of which q, k and v are projections.
        q, k, v: (B, H, L, d_head), of the new tokens.
        past: what the call for the tokens before them returned, if they are cached.
        dropout, causal, mask: as in :func:`attend`.

    Returns:
        (B, H, L, d_head), and what a call for the tokens that follow takes as ``past``.
    """
    here = None
    if isinstance(prepared, Located):
        prepared, here = prepared
    prepared = encoding.at_layer(prepared, hidden, layer, past[0] if past else None)
    q, k = (x.to(v.dtype) for x in encoding.transform(q, k, prepared, layer))
    if past is not None:  # cached keys are already transformed
        k, v = torch.cat([past[0], k], -2), torch.cat([past[1], v], -2)
    if here is None:
        return attend(q, k, v, dropout, causal, mask), (k, v)
    known = here if past is None else past[2].then(here)
    bias = bias_between(encoding, layer, here, known, k.shape[-2])
    return attend(q, k, v, dropout, causal, mask, bias), (k, v, known)


def bias_between(encoding: PositionEncoding, layer: int, of_queries: Places, of_keys: Places,
                 context: int) -> Bias:
    """An encoding's bias, in the form that :func:`attend` takes.

    Args:
        of_queries, of_keys: without tokens before the positions ([CLS]), whose bias is 0.
        context: number of keys, with such tokens.
    """
    prefix = context - of_keys.positions.shape[-2]
    queries, keys = (F.pad(p.positions, (0, 0, prefix, 0)) for p in (of_queries, of_keys))
    of_pairs = type(encoding).content_bias is PositionEncoding.content_bias
    if of_pairs and encoding.relative and not queries.is_floating_point():
        of_block = _of_differences(encoding, layer, of_queries, of_keys, queries, keys)
    else:
        def of_block(q: Tensor, k: Tensor, rows: slice, allowed: Tensor) -> Tensor:
            seen = keys[..., :k.shape[-2], :]
            return _not_none(encoding, encoding.content_bias(q, k, queries[..., rows, :], seen,
                                                             allowed, layer))

    def bias(q: Tensor, k: Tensor, first: int, allowed: Tensor) -> Tensor:
        rows, seen = slice(first, first + q.shape[-2]), k.shape[-2]
        added = of_block(q, k, rows, allowed)
        if prefix:
            number = torch.arange(context, device=k.device)
            outside = (number[rows] < prefix).unsqueeze(-1) | (number[:seen] < prefix)
            added = added.masked_fill(outside, 0.0)
        return added
    return bias


def _not_none(encoding: PositionEncoding, bias: Tensor | None) -> Tensor:
    if bias is None:
        raise TypeError(f"{type(encoding).__name__}.bias returned None: return scores (H, l, L) or "
                        "(B, H, l, L)")
    return bias


def _of_differences(encoding: PositionEncoding, layer: int, of_queries: Places, of_keys: Places,
                    queries: Tensor, keys: Tensor) -> Callable:
    """The bias of a block, looked up among those of all differences of positions.

    The encoding computes each difference once. A difference is numbered as in a grid, and its
    number is one that belongs to the key minus one that belongs to the query.
    """
    low = [k - q for k, q in zip(of_keys.lowest, of_queries.highest)]
    sizes = [k - q - start + 1 for k, q, start in zip(of_keys.highest, of_queries.lowest, low)]
    differences, = moved([grid(*sizes) + torch.tensor(low)], keys.device)  # (D, n)
    with float32_region(keys.device):
        table = encoding.bias(torch.zeros_like(differences[:1]), differences, layer)
    table = _not_none(encoding, table)[:, 0]  # (H, D)
    of_query, of_key = (grid_row(p - p.new_tensor(start), sizes) for p, start in (
        (queries, [0] * len(low)), (keys, low)))  # each (L,) or (B, L)

    def of_block(q: Tensor, k: Tensor, rows: slice, allowed: Tensor) -> Tensor:
        number = of_key[..., None, :k.shape[-2]] - of_query[..., rows, None]  # ((B,) l, L)
        flat = number.flatten().clamp(0, table.shape[-1] - 1)  # tokens without a position: any
        found = table.gather(1, flat.expand(table.shape[0], -1))  # (H, B l L)
        return found.unflatten(1, number.shape).movedim(0, -3)
    return of_block


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = True,
           mask: Tensor | None = None, bias: Bias | None = None) -> Tensor:
    """Attention where q and k may be wider than v, with a bias if there is one.

    torch's fused kernels need q, k and v of the same width. So v is padded with zeros and the
    result cut back; otherwise torch would build the L x L matrix of scores.

    Args:
        q: (B, H, L_q, width); if causal, its tokens are the last L_q of the context.
        k: (B, H, L, width).
        v: (B, H, L, d_head), width >= d_head.
        dropout: probability with which an attention weight is dropped.
        causal: every token attends to itself and those before it; False: to all tokens.
        mask: bool, broadcasts to (B, H, L_q, L), False where a query must not look in addition
            (padding, other texts of a packed sequence). A query that sees no key gets zeros.
        bias: of pairs of queries and keys, see ``Bias``.

    Returns:
        (B, H, L_q, d_head), scores scaled by 1/sqrt(d_head).
    """
    width, d_head = q.shape[-1], v.shape[-1]
    length, context = q.shape[-2], k.shape[-2]
    if width > d_head:
        v = F.pad(v, (0, width - d_head))
    if bias is not None:
        return _in_blocks(q, k, v, dropout, causal, mask, bias, d_head**-0.5)[..., :d_head]
    if causal and (1 < length < context or mask is not None):  # several new tokens after a cache
        below = torch.ones(length, context, dtype=torch.bool, device=q.device)
        below = below.tril(context - length)
        mask = below if mask is None else mask & below
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout,
                                         is_causal=causal and mask is None and length > 1,
                                         scale=d_head**-0.5)
    return out[..., :d_head]


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, dropout: float, causal: bool, mask: Tensor | None,
               bias: Bias, scale: float) -> Tensor:
    """Attention with a bias, a block of queries at a time: (B, H, L_q, width)."""
    length, context = q.shape[-2], k.shape[-2]
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], length, context)
    outs = []
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        seen = context - length + last if causal else context  # no query sees the keys after these
        allowed = torch.ones(1, 1, dtype=torch.bool, device=q.device)  # (l, L) or (B, 1, l, L)
        if causal:
            allowed = allowed.expand(last - first, seen).tril(seen - (last - first))
        if mask is not None:
            allowed = allowed & mask[..., first:last, :seen]
        block = partial(_block, first=first, allowed=allowed, dropout=dropout, bias=bias,
                        scale=scale)
        parts = q[:, :, first:last], k[:, :, :seen], v[:, :, :seen]
        outs.append(checkpoint(block, *parts, use_reentrant=False, preserve_rng_state=dropout > 0)
                    if torch.is_grad_enabled() else block(*parts))
    return torch.cat(outs, -2)


def _block(q: Tensor, k: Tensor, v: Tensor, first: int, allowed: Tensor, dropout: float,
           bias: Bias, scale: float) -> Tensor:
    """Attention of one block of queries, whose scores are computed in float32 at least."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    wide_q, wide_k, wide_v = (x.to(dtype) for x in (q, k, v))
    with float32_region(q.device):
        added = bias(wide_q, wide_k, first, allowed).to(dtype).masked_fill(~allowed, -torch.inf)
        out = F.scaled_dot_product_attention(wide_q, wide_k, wide_v, attn_mask=added,
                                             dropout_p=dropout, scale=scale)
    return out.to(v.dtype)
