"""Attention on the queries and keys that an encoding returns, with its bias where it has one.

Without a bias this is plain scaled-dot-product attention in torch's fused kernels. A bias is added
for a block of queries at a time, and each block is computed again in the backward pass. So memory
grows linearly with the context for every encoding.

Where torch.compile compiles a model on a GPU, a bias that depends on differences of positions goes
through FlexAttention, a fused kernel that adds it to each score.
"""
from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqpe_lab.devices import float32_region
from seqpe_lab.encodings.base import PositionEncoding
from seqpe_lab.pair_bias import Bias, OfDifferences, Places, bias_between, places

BLOCK = 128  # queries whose biases are in memory at a time

Cached = tuple[Any, ...]  # a layer's transformed keys and its values; with a bias also their places


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
    elif encoding.adds_bias:
        raise TypeError(f"{type(encoding).__name__} adds a bias, which needs the positions: "
                        "prepare with seqpe_lab.attention.prepare, not with the encoding's own")
    real = None
    if mask is not None and mask.shape[-2] == 1:  # keys that are hidden from all queries
        real = mask[:, 0, 0, -hidden.shape[-2]:]
    prepared = encoding.at_layer(prepared, hidden, layer, past[0] if past else None, real)
    q, k = (x.to(v.dtype) for x in encoding.transform(q, k, prepared, layer))
    if past is not None:  # cached keys are already transformed
        k, v = torch.cat([past[0], k], -2), torch.cat([past[1], v], -2)
    if here is None:
        return attend(q, k, v, dropout, causal, mask), (k, v)
    known = here if past is None else past[2].then(here)
    bias = bias_between(encoding, layer, here, known, k.shape[-2])
    return attend(q, k, v, dropout, causal, mask, bias), (k, v, known)


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
            (padding, other texts of a packed sequence). Keys that are hidden from all queries,
            (B, 1, 1, L), cost no L x L matrix; what a query without any key gets has no meaning.
        bias: of pairs of queries and keys, as :func:`~seqpe_lab.pair_bias.bias_between` returns it.

    Returns:
        (B, H, L_q, d_head), scores scaled by 1/sqrt(d_head).
    """
    if mask is not None and bias is None and mask.shape[-2] == 1:
        (q, k), mask = hide_keys(q, k, mask), None
    width, d_head = q.shape[-1], v.shape[-1]
    length, context = q.shape[-2], k.shape[-2]
    if width > d_head:
        v = F.pad(v, (0, width - d_head))
    if isinstance(bias, OfDifferences) and not dropout and q.is_cuda \
            and torch.compiler.is_compiling():
        return _in_flex(q, k, v, causal, mask, bias, d_head**-0.5)[..., :d_head]
    if bias is not None:
        return _in_blocks(q, k, v, dropout, causal, mask, bias, d_head**-0.5)[..., :d_head]
    if causal and (mask is not None or length < context and length > 1):  # tokens after a cache
        below = torch.ones(length, context, dtype=torch.bool, device=q.device)
        below = below.tril(context - length)
        mask = below if mask is None else mask & below
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout,
                                         is_causal=causal and mask is None
                                         and bool(length == context),
                                         scale=d_head**-0.5)
    return out[..., :d_head]


def hide_keys(q: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys with one more feature, by which no query attends to the hidden keys.

    It is 1 in every query, 0 in a key that is seen, and in a hidden one so low that softmax gives
    it a weight of exactly 0. So fused attention needs no L x L mask for padding. Zeros behind it
    make the width a multiple of 8, which the fast kernels require.

    Args:
        q: (B, H, L_q, width).
        k: (B, H, L, width).
        mask: bool (B, 1, 1, L), False for a hidden key.
    """
    fill = (0, -(q.shape[-1] + 1) % 8)
    low = torch.finfo(k.dtype).min / 4  # finite: a token that is padding may see nothing else
    of_key = k.new_zeros(mask.shape).masked_fill(~mask, low).transpose(-1, -2)  # (B, 1, L, 1)
    of_key, of_query = F.pad(of_key, fill), F.pad(q.new_ones(*q.shape[:-1], 1), fill)
    return torch.cat([q, of_query], -1), torch.cat([k, of_key.expand(*k.shape[:-1], -1)], -1)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, dropout: float, causal: bool, mask: Tensor | None,
               bias: Bias, scale: float) -> Tensor:
    """Attention with a bias, a block of queries at a time: (B, H, L_q, width)."""
    length, context = q.shape[-2], k.shape[-2]
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], length, context)
    if torch.compiler.is_exporting():  # a program for any length holds no loop over blocks
        whole = _block(q, k, v, 0, causal, mask, dropout, bias, scale)
        return torch.cat([whole], -2)  # contiguous, which ONNX needs here
    outs = []
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        seen = context - length + last if causal else context  # no query sees the keys after these
        block = partial(_block, first=first, causal=causal, dropout=dropout, bias=bias, scale=scale,
                        mask=None if mask is None else mask[..., first:last, :seen])
        parts = q[:, :, first:last], k[:, :, :seen], v[:, :, :seen]
        outs.append(checkpoint(block, *parts, use_reentrant=False, preserve_rng_state=dropout > 0)
                    if torch.is_grad_enabled() else block(*parts))
    return torch.cat(outs, -2)


def _block(q: Tensor, k: Tensor, v: Tensor, first: int, causal: bool, mask: Tensor | None,
           dropout: float, bias: Bias, scale: float) -> Tensor:
    """Attention of one block of queries, whose scores are computed in float32 at least.

    What it makes is made again in the backward pass, and so is kept by nothing in between.
    """
    allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    if causal:
        allowed = allowed.tril(k.shape[-2] - q.shape[-2])
    if mask is not None:
        allowed = allowed & mask
    dtype = torch.promote_types(q.dtype, torch.float32)
    wide_q, wide_k, wide_v = (x.to(dtype) for x in (q, k, v))
    with float32_region(q.device):
        added = bias(wide_q, wide_k, first, allowed).to(dtype).masked_fill(~allowed, -torch.inf)
        out = F.scaled_dot_product_attention(wide_q, wide_k, wide_v, attn_mask=added,
                                             dropout_p=dropout, scale=scale)
    return out.to(v.dtype)


def _in_flex(q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None,
             bias: OfDifferences, scale: float) -> Tensor:
    """The same in FlexAttention, which has no backward pass on a CPU: (B, H, L_q, width)."""
    from torch.nn.attention.flex_attention import flex_attention  # with sympy: 0.3 s to import
    before = k.shape[-2] - q.shape[-2]
    seen = None if mask is None else mask.expand(len(q), q.shape[1], q.shape[2], k.shape[2])

    def score(product: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        result = product + bias.of_one(b, h, i, j)
        if causal:
            result = torch.where(j <= i + before, result, -torch.inf)
        return result if seen is None else torch.where(seen[b, h, i, j], result, -torch.inf)
    return flex_attention(q, k, v, score_mod=score, scale=scale)
