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

from seqpe_lab.devices import moved

FEW_SYMBOLS = 128  # of which all scores are computed at once


class PrefixTree(NamedTuple):
    """The distinct prefixes of U sequences of S tokens: M nodes, level after level.

    The last U nodes end the whole sequences.

    Attributes:
        token: int64 (M,), the token at each node.
        place: int64 (M,), its place in the sequence, 0..S-1.
        path: int64 (M, S), the nodes from the first token down to the node itself, which also
            stands at all places behind its own.
    """
    token: Tensor
    place: Tensor
    path: Tensor

    @property
    def complete(self) -> Tensor:
        """The paths of the whole sequences, int64 (U, S)."""
        return self.path[self.place == self.path.shape[1] - 1]


def prefix_tree(sequences: Tensor) -> PrefixTree:
    """Collect the distinct prefixes of lexicographically sorted, distinct sequences.

    Args:
        sequences: int64 (U, S), rows sorted, no row twice.

    >>> tree = prefix_tree(torch.tensor([[1, 2], [1, 3], [4, 2]]))
    >>> tree.token                      # level 0: 1 4      level 1: 2 3 2
    tensor([1, 4, 2, 3, 2])
    >>> tree.path[2:]                   # "1 2" and "1 3" are both children of node 0
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
    place, row = differs.T.nonzero(as_tuple=True)  # of each node; its first row
    seen = torch.minimum(place.unsqueeze(1), torch.arange(length, device=sequences.device))
    return PrefixTree(sequences[row, place], place, node[row.unsqueeze(1), seen])


def transformer_states(blocks: nn.ModuleList, x: Tensor, symbols: Tensor, path: Tensor,
                       place: Tensor, count: int) -> Tensor:
    """Run the encoder's Transformer layers over a prefix tree.

    Args:
        blocks: the layers (:class:`seqpe_lab.encoder.Block`).
        x: (R, d), the embedding of each distinct symbol; a symbol is a token at a certain place.
            There are at most n*k*b + 1 of them, usually far fewer than nodes.
        symbols: int64 (M, S), the symbols along the path to each node, as rows of ``x``.
        path, place: of the tree, on the device of ``x``.
        count: U, the number of whole sequences.

    Returns:
        (U, d), the last layer's states at the nodes of the last level, the [CLS] tokens.
    """
    first, *others = blocks
    if not others:
        symbols, place = symbols[-count:], place[-count:]
    if len(x) <= FEW_SYMBOLS:
        x = _first_layer(first, x, symbols)
    else:  # each symbol's state is copied to its nodes only here
        x = _along_paths(first, x, symbols, symbols[:, -1], place)
    for block in others[:-1]:
        x = _along_paths(block, x, path, slice(None), place)
    if not others:
        return x
    return _along_paths(others[-1], x, path[-count:], slice(-count, None))  # only [CLS] is needed


def _first_layer(block: Any, x: Tensor, symbols: Tensor) -> Tensor:
    """The first layer, where a node's state depends on the symbols of its path alone.

    The scores between all symbols are computed once. No symbol occurs twice on a path, so a node's
    attention is the row of its own symbol, restricted to the symbols on its path. This is written
    out because the number of nodes is another at every step, for which some fused attention
    kernels would be planned anew.

    Args:
        x: (R, d), a state for each symbol.
        symbols: int64 (M, S), the symbols on the path to each node; the last is its own.

    Returns:
        (M, d), a state for each node.
    """
    own = symbols[:, -1]
    qkv = block.qkv(block.ln_1(x)).unflatten(-1, (3, block.heads, -1))
    q, k, v = qkv.permute(1, 2, 0, 3)  # (H, R, d_head)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (H, R, R)
    others = torch.full((len(own), len(x)), -torch.inf, dtype=x.dtype, device=x.device)
    others.scatter_(1, symbols, 0)  # -inf off the path
    weights = (scores.index_select(1, own) + others).softmax(-1)  # (H, M, R)
    return block.finish(F.embedding(own, x), (weights @ v).transpose(0, 1).flatten(-2))


def _along_paths(block: Any, x: Tensor, path: Tensor, own: Tensor | slice,
                 place: Tensor | None = None) -> Tensor:
    """A layer in which the last node of each path attends to all nodes on the path.

    Args:
        x: (M, d), states of all nodes (in the first layer: of all symbols).
        path: int64 (P, S), rows of ``x`` along the path to each node whose new state is needed.
        own: the rows of ``x`` of these nodes themselves.
        place: int64 (P,), theirs; None if all end whole sequences.

    Returns:
        (P, d), their new states.
    """
    normed = block.ln_1(x)
    (w_q, w_k, w_v), (b_q, b_k, b_v) = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
    q = F.linear(normed[own], w_q, b_q).unflatten(-1, (1, block.heads, -1))
    k, v = (F.embedding(path, F.linear(normed, w, b)).unflatten(-1, (block.heads, -1))
            for w, b in ((w_k, b_k), (w_v, b_v)))  # (P, S, H, d_head)
    scores = (q * k).sum(-1) / k.shape[-1] ** 0.5  # (P, S, H)
    if place is not None:  # nodes have no states at the places behind their own
        behind = torch.arange(path.shape[1], device=x.device) > place.unsqueeze(1)
        scores = scores.masked_fill(behind.unsqueeze(-1), -torch.inf)
    attended = (scores.softmax(1).unsqueeze(-1) * v).sum(1)
    return block.finish(x[own], attended.flatten(-2))


def gru_states(gru: nn.GRU, x: Tensor, path: Tensor, place: Tensor) -> Tensor:
    """Run a GRU over a prefix tree: each node continues from the state of its parent.

    Args:
        gru: the encoder's GRU.
        x: (M, d), the embedding of each node.
        path, place: of the tree, on the CPU.

    Returns:
        (U, d), the last layer's states at the nodes of the last level.
    """
    sizes = place.bincount().tolist()  # nodes of each level
    path, = moved([path], x.device)
    for layer in range(gru.num_layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(gru, f"{name}_l{layer}") for name in names]
        states: list[Tensor] = []
        begin = 0
        for level, inputs in enumerate(x.split(sizes)):
            state = torch.zeros_like(inputs)
            if level > 0:  # the parent's number within its own level
                parent = path[begin: begin + len(inputs), level - 1] - (begin - sizes[level - 1])
                state = F.embedding(parent, states[-1])
            states.append(torch.gru_cell(inputs, state, *weights))
            begin += len(inputs)
        x = torch.cat(states)
    return states[-1]
