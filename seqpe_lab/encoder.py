"""The sequential position encoder: digits in, one vector a position out (SeqPE, Sec. 3.2, Eq. 8).

Every digit becomes U = T[digit] + O[place] + D[dimension], a [CLS] token closes the sequence, and
what a small causal Transformer (or a GRU) has read by then is the position's vector.

Reading is causal, so what the encoder knows after "1 2" is the same for 123 and for 129. All
positions are therefore encoded as one tree of shared digit prefixes, in which each distinct prefix
is computed once: 0..4095 at five digits takes 4,553 prefix tokens and 4,096 [CLS] tokens instead
of 4,096 x 6 = 24,576.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from seqpe_lab.activation import GELU
from seqpe_lab.digits import check_number_system, check_positions, grid, to_digits
from seqpe_lab.memory import recomputed

# A fused optimizer changes weights without a trace in them: count all optimizers' steps instead.
_optimizer_steps = 0


def _count_step(*_) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


register_optimizer_step_post_hook(_count_step)

ARCHITECTURES = ("transformer", "gru")
MAX_TABLE = 2**20  # positions a lookup table may hold


class PrefixTree(NamedTuple):
    """The distinct prefixes of S-token sequences, all levels behind one another: M nodes.

    token, place: int64 (M,), what stands at each node and at which place of the sequence.
    paths: for every level j, int64 (P_j, j+1): the nodes from the root down to each of its nodes.
    """
    token: Tensor
    place: Tensor
    paths: list[Tensor]


def prefix_tree(sequences: Tensor) -> PrefixTree:
    """Collect the distinct prefixes of lexicographically sorted, distinct sequences.

    Args:
        sequences: int64 (U, S), sorted rows, no row twice.

    >>> tree = prefix_tree(torch.tensor([[1, 2], [1, 3], [4, 2]]))
    >>> tree.token                      # level 0: 1 4      level 1: 2 3 2
    tensor([1, 4, 2, 3, 2])
    >>> tree.paths[1]                   # both "1 2" and "1 3" hang below node 0
    tensor([[0, 2],
            [0, 3],
            [1, 4]])
    """
    rows, length = sequences.shape
    # a row starts a new prefix at level j if it differs from the row above anywhere up to j
    differs = torch.ones(rows, length, dtype=torch.bool)
    differs[1:] = (sequences[1:] != sequences[:-1]).cumsum(1) > 0
    node = differs.long().cumsum(0) - 1  # (U, S): the number of each row's prefix within its level
    node += F.pad(node[-1, :-1] + 1, (1, 0)).cumsum(0)  # ... and within the whole tree
    first = [differs[:, j].nonzero().squeeze(1) for j in range(length)]  # a row that carries each prefix
    return PrefixTree(
        token=torch.cat([sequences[rows_j, j] for j, rows_j in enumerate(first)]),
        place=torch.cat([torch.full_like(rows_j, j) for j, rows_j in enumerate(first)]),
        paths=[node[rows_j, : j + 1] for j, rows_j in enumerate(first)],
    )


class Block(nn.Module):
    """One pre-norm Transformer layer, as in GPT-2, over whole sequences or over a prefix tree."""

    def __init__(self, d_model: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln_1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.proj = nn.Linear(d_model, d_model)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), GELU(), nn.Linear(4 * d_model, d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Every sequence whole: (U, S, d) -> (U, S, d)."""
        q, k, v = self.qkv(self.ln_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (U, H, S, d_head)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self._finish(x, attended.transpose(1, 2).flatten(-2))

    def forward_symbols(self, x: Tensor, paths: list[Tensor]) -> Tensor:
        """The first layer: nodes that know nothing but their own symbol, a digit at its place.

        There are few symbols and none stands twice on a path. So a node's attention to its path is attention to
        all symbols with a mask, and nothing need be gathered.

        Args:
            x: (R, d), a state for each symbol.
            paths: for each level, int64 (P_j, j+1): the symbols on the way to each node.

        Returns:
            (sum P_j, d), a state for each node.
        """
        own = torch.cat([path[:, -1] for path in paths])
        q, k, v = self.qkv(self.ln_1(x)).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)  # (H, R, d_head)
        seen = torch.cat([torch.zeros(len(path), len(x), dtype=torch.bool, device=x.device).scatter_(1, path, True) for path in paths])
        attended = F.scaled_dot_product_attention(q.index_select(1, own).unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), attn_mask=seen)[0]
        return self._finish(F.embedding(own, x), attended.transpose(0, 1).flatten(-2))

    def forward_tree(self, x: Tensor, paths: list[Tensor]) -> Tensor:
        """The layers above: states of all nodes (M, d), and which of them stand on the way to those that ask, (P_j, j+1) for each level -> (sum P_j, d).

        In the last layer only [CLS] asks, and all nodes answer.
        """
        own, normed = torch.cat([path[:, -1] for path in paths]), self.ln_1(x)
        (w_q, w_k, w_v), (b_q, b_k, b_v) = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = F.linear(F.embedding(own, normed), w_q, b_q), F.linear(normed, w_k, b_k), F.linear(normed, w_v, b_v)
        attended = [recomputed(self._attend, q_j, k, v, path)  # gathered keys and values are large
                    for q_j, path in zip(q.split([len(path) for path in paths]), paths)]
        return self._finish(F.embedding(own, x), torch.cat(attended))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, path: Tensor) -> Tensor:
        """Queries (P, d) over the keys and values (M, d) on their own paths (P, j+1) -> (P, d)."""
        q = q.unflatten(-1, (self.heads, -1)).unsqueeze(1)  # (P, 1, H, d_head)
        k, v = (F.embedding(path, each).unflatten(-1, (self.heads, -1)) for each in (k, v))  # (P, j+1, H, d_head)
        weights = ((q * k).sum(-1) / k.shape[-1] ** 0.5).softmax(1)  # (P, j+1, H)
        return (weights.unsqueeze(-1) * v).sum(1).flatten(-2)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.proj(attended)
        return x + recomputed(lambda x: self.mlp(self.ln_2(x)), x)  # a step holds thousands of nodes, each four times as wide in here


class PositionEncoder(nn.Module):
    """f: positions -> vectors (SeqPE, Eq. 8), with b + 1 + k + n embeddings for (b^k)^n positions.

    Args:
        d_model: size of the position vectors.
        digits, base, dims: k, b and n of the digit sequences; positions lie in [0, b^k) a dimension.
        layers, heads: of the Transformer (the paper uses 2 layers); a GRU takes no heads.
        architecture: "transformer" or "gru": any sequential model will do.
        causal: False lets every digit see the whole sequence, which rules out sharing prefixes.
        share_prefixes: False encodes every sequence whole (the slow path, for comparison).
        shared_places: True, as in the paper: O has k rows for all dimensions, and D tells them
            apart; False, as in the authors' released vision models: O has a row for each of n*k places.

    >>> _ = torch.manual_seed(0)
    >>> encoder = PositionEncoder(d_model=8, digits=3, heads=2)
    >>> encoder(torch.tensor([[7], [123], [7]])).shape
    torch.Size([3, 8])
    """

    def __init__(self, d_model: int, *, digits: int = 5, base: int = 10, dims: int = 1, layers: int = 2, heads: int = 4,
                 architecture: str = "transformer", causal: bool = True, share_prefixes: bool = True,
                 shared_places: bool = True):
        super().__init__()
        check_number_system(digits, base)
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown encoder architecture {architecture!r}: choose from {', '.join(ARCHITECTURES)}")
        if architecture == "transformer" and (heads < 1 or d_model % heads):
            raise ValueError(f"{heads} heads do not divide d_model={d_model}: choose a divisor of at least 1, for instance {_divisor(d_model, heads)}")
        if layers < 1 or dims < 1:
            raise ValueError(f"layers and dims must be at least 1, got layers={layers}, dims={dims}")
        if architecture == "gru" and not causal:
            raise ValueError("a GRU reads from left to right: causal=False needs architecture='transformer'")
        self.d_model, self.digits, self.base, self.dims = d_model, digits, base, dims
        self.share_prefixes = share_prefixes and causal
        self.token = nn.Embedding(base + 1, d_model)  # T; its last row is [CLS]
        self.place = nn.Embedding(digits if shared_places else digits * dims, d_model)  # O
        self.dimension = nn.Embedding(dims, d_model) if dims > 1 else None  # D, fixed at 0 for n = 1 (App. A.1)
        if architecture == "gru":
            self.gru = nn.GRU(d_model, d_model, num_layers=layers, batch_first=True)
        else:
            self.gru = None
            self.blocks = nn.ModuleList(Block(d_model, heads, causal) for _ in range(layers))
        self.ln_f = nn.LayerNorm(d_model)
        self.out = nn.Linear(d_model, d_model)
        self._cached_table: tuple[tuple, Tensor] | None = None
        self.apply(_init_weights)

    def forward(self, positions: Tensor) -> Tensor:
        """Encode positions, each distinct one once.

        Args:
            positions: integers (..., n) in [0, b^k). Best kept on the CPU: the tree is built there,
                so that a GPU never waits for it.

        Returns:
            (..., d_model), dtype and device of the parameters.

        Raises:
            ValueError, TypeError: positions that are negative, too large, not whole or of another n.
        """
        positions = check_positions(positions, self.dims).cpu()
        if positions.numel() == 0:
            raise ValueError("no positions to encode: the tensor is empty")
        distinct, inverse = _distinct(positions.reshape(-1, self.dims), self.base**self.digits)
        sequences = to_digits(distinct, self.digits, self.base)  # (U, n*k), sorted
        sequences = F.pad(sequences, (0, 1), value=self.base)  # close with [CLS]
        encode = self.encode_tree if self.share_prefixes else self.encode_whole
        vectors = self.out(self.ln_f(encode(sequences)))  # (U, d)
        return F.embedding(inverse.to(vectors.device), vectors).view(*positions.shape[:-1], -1)

    def embed(self, token: Tensor, place: Tensor) -> Tensor:
        """U = T + O + D; [CLS], at place n*k, has neither place nor dimension."""
        device = self.token.weight.device
        token, place = token.to(device), place.to(device)
        place_vectors = F.pad(self.place.weight.repeat(self.dims * self.digits // self.place.num_embeddings, 1), (0, 0, 0, 1))  # (n*k + 1, d)
        if self.dimension is not None:
            place_vectors = place_vectors + F.pad(self.dimension.weight.repeat_interleave(self.digits, 0), (0, 0, 0, 1))
        return F.embedding(token, self.token.weight) + F.embedding(place, place_vectors)

    def encode_whole(self, sequences: Tensor) -> Tensor:
        """Each sequence whole, as written in the paper: (U, n*k + 1) -> hidden state at [CLS] (U, d)."""
        x = self.embed(sequences, torch.arange(sequences.shape[1]).expand_as(sequences))  # (U, n*k + 1, d)
        if self.gru is not None:
            return self.gru(x)[0][:, -1]
        for block in self.blocks:
            x = block(x)
        return x[:, -1]

    def encode_tree(self, sequences: Tensor) -> Tensor:
        """Each distinct prefix once; equal to :meth:`encode_whole` up to rounding.

        At first nodes know their own digit and place only, of which there are at most n*k*b + 1 different ones.
        """
        tree = prefix_tree(sequences)
        device = self.token.weight.device
        nodes = [path.to(device, non_blocking=True) for path in tree.paths]
        if self.gru is not None:
            return self._gru_tree(self.embed(tree.token, tree.place), nodes)
        symbols, symbol = torch.unique(tree.place * (self.base + 1) + tree.token, return_inverse=True)
        x, symbol = self.embed(symbols % (self.base + 1), symbols // (self.base + 1)), symbol.to(device, non_blocking=True)
        first, *others = self.blocks
        x = first.forward_symbols(x, [symbol[path] for path in (nodes if others else nodes[-1:])])
        for block in others:
            x = block.forward_tree(x, nodes[-1:] if block is others[-1] else nodes)
        return x

    def _gru_tree(self, x: Tensor, paths: list[Tensor]) -> Tensor:
        """A GRU needs only the state of the parent: level by level, layer by layer."""
        for layer in range(self.gru.num_layers):
            weights = [getattr(self.gru, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            states, offset = [], 0
            for level, path in enumerate(paths):
                inputs = x[offset: offset + len(path)]
                if level == 0:
                    state = torch.zeros_like(inputs)
                else:  # the parent's number within its own level
                    state = F.embedding(path[:, -2] - (offset - len(paths[level - 1])), states[-1])
                states.append(torch.gru_cell(inputs, state, *weights))
                offset += len(path)
            x = torch.cat(states)
        return states[-1]

    @torch.no_grad()
    def table(self, *sizes: int, chunk: int = 16_384) -> Tensor:
        """The vectors of a whole grid of positions, computed once and kept (Sec. 3.5, "Inference").

        Any change of the weights (an optimizer's step, loading, moving) makes the next call compute afresh.

        Args:
            sizes: n sizes; ``table(4096)`` is the lookup table of positions 0..4095.

        Returns:
            (size_0 * ... * size_{n-1}, d_model), no gradient.
        """
        if len(sizes) != self.dims:
            raise ValueError(f"table{sizes} names {len(sizes)} sizes but the encoder has n={self.dims} dimensions")
        device = self.token.weight.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (sizes, _optimizer_steps, precision, *((p.data_ptr(), p._version, p.dtype) for p in self.parameters()))
        if self._cached_table is None or self._cached_table[0] != key:
            vectors = torch.cat([self(part) for part in grid(*sizes).split(chunk)])
            self._cached_table = (key, vectors)
        return self._cached_table[1]

    @torch.no_grad()
    def lookup(self, positions: Tensor) -> Tensor:
        """What ``forward`` gives, without gradient, from a table that doubles when it is outgrown.

        Args and errors as in :meth:`forward`.
        """
        positions = check_positions(positions, self.dims).cpu()
        if positions.numel() == 0:
            raise ValueError("no positions to encode: the tensor is empty")
        needed, limit = [int(m) + 1 for m in positions.reshape(-1, self.dims).amax(0)], self.base**self.digits
        if max(needed) > limit or math.prod(needed) > MAX_TABLE:
            return self(positions)  # raises if too large; a far corner of an n-dimensional grid wants no table
        have = self._cached_table[0][0] if self._cached_table else [0] * self.dims
        if any(n > h for n, h in zip(needed, have)):
            doubled = [max(n, min(2 * h, limit)) for n, h in zip(needed, have)]
            both = [max(n, h) for n, h in zip(needed, have)]
            have = next(sizes for sizes in (doubled, both, needed) if math.prod(sizes) <= MAX_TABLE)
        row = positions[..., 0]
        for i in range(1, self.dims):
            row = row * have[i] + positions[..., i]
        return F.embedding(row.to(self.token.weight.device), self.table(*have))


def _distinct(positions: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Sorted distinct rows of (N, n) and where each row went; as single numbers where they fit, which is 10 x faster."""
    dims = positions.shape[1]
    if limit**dims > 2**62 or int(positions.max()) >= limit:
        return torch.unique(positions, dim=0, return_inverse=True)
    weights = torch.tensor([limit**i for i in range(dims - 1, -1, -1)])
    codes, inverse = torch.unique((positions * weights).sum(1), return_inverse=True)
    return codes.unsqueeze(1) // weights % limit, inverse


def _divisor(d_model: int, heads: int) -> int:
    return max(h for h in range(1, max(1, heads) + 1) if d_model % h == 0)


def _init_weights(module: nn.Module) -> None:
    """GPT-2's initialisation: normal(0, 0.02), biases zero."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
