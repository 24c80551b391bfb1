"""Encode many positions at once, computing each shared digit prefix only once.

The encoder of :mod:`seqpe_lab.encoder` is causal: its state after the digits "1 2" is the same for
123 and for 129. The distinct prefixes of a set of digit sequences form a tree, and it is enough to
compute one state for each of its nodes. For the positions 0..4095 at five digits these are 4,553
digit nodes and 4,096 [CLS] nodes instead of 4,096 x 6 = 24,576 tokens.

Nothing here changes what the encoder computes; a first reader may skip this module.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrefixTree(NamedTuple):
    """The distinct prefixes of U sequences of S tokens: M nodes, level after level.

    Attributes:
        token: int64 (M,), the token at each node.
        place: int64 (M,), its place in the sequence, 0..S-1.
        paths: S tensors, int64 (P_j, j+1): for each node of level j, the nodes from the first
            token down to the node itself.
    """
    token: Tensor
    place: Tensor
    paths: list[Tensor]


def prefix_tree(sequences: Tensor) -> PrefixTree:
    """Collect the distinct prefixes of lexicographically sorted, distinct sequences.

    Args:
        sequences: int64 (U, S), rows sorted, no row twice.

    >>> tree = prefix_tree(torch.tensor([[1, 2], [1, 3], [4, 2]]))
    >>> tree.token                      # level 0: 1 4      level 1: 2 3 2
    tensor([1, 4, 2, 3, 2])
    >>> tree.paths[1]                   # "1 2" and "1 3" are both children of node 0
    tensor([[0, 2],
            [0, 3],
            [1, 4]])
    """
    rows, length = sequences.shape
    # a row begins a new prefix at level j if it differs from the row above at any place up to j
    differs = torch.ones(rows, length, dtype=torch.bool, device=sequences.device)
    differs[1:] = (sequences[1:] != sequences[:-1]).cumsum(1) > 0
    node = differs.long().cumsum(0) - 1  # (U, S): the number of each row's prefix in its level
    node += F.pad(node[-1, :-1] + 1, (1, 0)).cumsum(0)  # now its number in the whole tree
    first = [differs[:, j].nonzero().squeeze(1) for j in range(length)]  # the first row of each
    return PrefixTree(
        token=torch.cat([sequences[rows_j, j] for j, rows_j in enumerate(first)]),
        place=torch.cat([torch.full_like(rows_j, j) for j, rows_j in enumerate(first)]),
        paths=[node[rows_j, : j + 1] for j, rows_j in enumerate(first)])


def transformer_states(blocks: nn.ModuleList, x: Tensor, symbol: Tensor,
                       paths: list[Tensor]) -> Tensor:
    """Run the encoder's Transformer layers over a prefix tree.

    Args:
        blocks: the layers (:class:`seqpe_lab.encoder.Block`).
        x: (R, d), the embedding of each distinct symbol; a symbol is a token at a certain place.
            There are at most n*k*b + 1 of them, usually far fewer than nodes.
        symbol: int64 (M,), the symbol at each node, as a row of ``x``.
        paths: of the tree, on the device of ``x``.

    Returns:
        (U, d), the last layer's states at the nodes of the last level, the [CLS] tokens.
    """
    first, *others = blocks
    x = _first_layer(first, x, [symbol[path] for path in (paths if others else paths[-1:])])
    for block in others:  # in the last layer only [CLS] needs a new state
        x = _later_layer(block, x, paths[-1:] if block is others[-1] else paths)
    return x


def _first_layer(block: Any, x: Tensor, paths: list[Tensor]) -> Tensor:
    """The first layer, where a node's state depends on its symbol alone.

    A node attends to the symbols on its path. No symbol occurs twice on a path, so this is
    attention to all R symbols under a mask, without a copy of the keys for each node.

    Args:
        x: (R, d), a state for each symbol.
        paths: for each level, int64 (P_j, j+1), the symbols on the path to each node.

    Returns:
        (sum P_j, d), a state for each node.
    """
    own = torch.cat([path[:, -1] for path in paths])
    qkv = block.qkv(block.ln_1(x)).unflatten(-1, (3, block.heads, -1))
    q, k, v = qkv.permute(1, 2, 0, 3)  # (H, R, d_head)
    seen = torch.cat([torch.zeros(len(path), len(x), dtype=torch.bool, device=x.device)
                      .scatter_(1, path, True) for path in paths])
    attended = F.scaled_dot_product_attention(q.index_select(1, own).unsqueeze(0), k.unsqueeze(0),
                                              v.unsqueeze(0), attn_mask=seen)[0]
    return block.finish(F.embedding(own, x), attended.transpose(0, 1).flatten(-2))


def _later_layer(block: Any, x: Tensor, paths: list[Tensor]) -> Tensor:
    """A later layer: the last node of each path attends to all nodes on the path.

    Args:
        x: (M, d), states of all nodes.
        paths: for each level whose new states are needed, int64 (P_j, j+1).

    Returns:
        (sum P_j, d), the new states of the paths' last nodes.
    """
    own, normed = torch.cat([path[:, -1] for path in paths]), block.ln_1(x)
    (w_q, w_k, w_v), (b_q, b_k, b_v) = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
    q = F.linear(F.embedding(own, normed), w_q, b_q)
    k, v = F.linear(normed, w_k, b_k), F.linear(normed, w_v, b_v)
    levels = zip(q.split([len(path) for path in paths]), paths)
    attended = torch.cat([_attend_along(q_j, k, v, path, block.heads) for q_j, path in levels])
    return block.finish(F.embedding(own, x), attended)


def _attend_along(q: Tensor, k: Tensor, v: Tensor, path: Tensor, heads: int) -> Tensor:
    """Queries (P, d) over the keys and values (M, d) on their own paths (P, j+1) -> (P, d)."""
    q = q.unflatten(-1, (heads, -1)).unsqueeze(1)  # (P, 1, H, d_head)
    k, v = (F.embedding(path, t).unflatten(-1, (heads, -1)) for t in (k, v))  # (P, j+1, H, d_head)
    weights = ((q * k).sum(-1) / k.shape[-1] ** 0.5).softmax(1)  # (P, j+1, H)
    return (weights.unsqueeze(-1) * v).sum(1).flatten(-2)


def gru_states(gru: nn.GRU, x: Tensor, paths: list[Tensor]) -> Tensor:
    """Run a GRU over a prefix tree: each node continues from the state of its parent.

    Args:
        gru: the encoder's GRU.
        x: (M, d), the embedding of each node.
        paths: of the tree, on the device of ``x``.

    Returns:
        (U, d), the last layer's states at the nodes of the last level.
    """
    for layer in range(gru.num_layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(gru, f"{name}_l{layer}") for name in names]
        states: list[Tensor] = []
        begin = 0
        for level, path in enumerate(paths):
            inputs = x[begin: begin + len(path)]
            state = torch.zeros_like(inputs)
            if level > 0:  # the parent's number within its own level
                state = F.embedding(path[:, -2] - (begin - len(paths[level - 1])), states[-1])
            states.append(torch.gru_cell(inputs, state, *weights))
            begin += len(path)
        x = torch.cat(states)
    return states[-1]
