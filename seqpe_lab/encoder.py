"""The sequential position encoder: digits in, one vector per position out (SeqPE, Sec. 3.2, Eq. 8).

Each digit is embedded as T[digit] + O[place] + D[dimension], a [CLS] token ends the sequence, and a
small causal Transformer (or a GRU) encodes it. Its output at [CLS], after a LayerNorm and a linear
map, is the position's vector. With U distinct positions among those given:

    positions (..., n) -> digits (U, n*k) -> embeddings (U, n*k + 1, d) -> Transformer -> (U, d)
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import float32_region, moved, uncompiled
from seqpe_lab.digits import check_number_system, check_positions, distinct, grid, to_digits
from seqpe_lab.prefix_tree import gru_states, prefix_tree, transformer_states

ARCHITECTURES = ("transformer", "gru")


class Block(nn.Module):
    """One pre-norm Transformer layer, as in GPT-2: attention and an MLP, each with a residual."""

    def __init__(self, d_model: int, heads: int, causal: bool, dropout: float = 0.0):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln_1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.proj = nn.Linear(d_model, d_model)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(approximate="tanh"),
                                 nn.Linear(4 * d_model, d_model))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(U, S, d) -> (U, S, d)."""
        qkv = self.qkv(self.ln_1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (U, H, S, d_head)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.finish(x, attended.transpose(1, 2).flatten(-2))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The layer after attention: output projection, residual, MLP; any shape (..., d)."""
        x = x + self.dropout(self.proj(attended))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class PositionEncoder(nn.Module):
    """Maps positions to vectors (SeqPE, Eq. 8): b + 1 + k + n embeddings for (b^k)^n positions.

    Args:
        d_model: d, the size of the position vectors.
        digits, base, dims: k, b and n of the digit sequences; positions lie in [0, b^k).
        decimals: digits after the point, f of them in addition to k. Positions may then be real
            numbers, which are rounded to the nearest multiple of b^-f. The paper has none.
        least_first: True writes the digits of each dimension from the last to the first.
        layers, heads: of the Transformer (the paper uses 2 layers); a GRU has no heads.
        architecture: "transformer" or "gru"; the paper: "any sequential modeling network".
        causal: False lets every digit attend to the whole sequence; prefixes are then not shared.
        share_prefixes: False encodes every sequence on its own: slower, for comparison.
        shared_places: True, as in the paper: O has k rows for all dimensions, and D tells the
            dimensions apart; False, as in the authors' released vision models: O has n*k rows.
        dropout: of the residual branches in training, in [0, 1). The paper mentions none; the
            authors' code has 0.1 for text. Each sequence is then encoded on its own.

    Raises:
        ValueError: an option outside its range, with the limit.

    >>> _ = torch.manual_seed(0)
    >>> encoder = PositionEncoder(d_model=8, digits=3, heads=2)
    >>> encoder(torch.tensor([[7], [123], [7]])).shape
    torch.Size([3, 8])
    >>> PositionEncoder(d_model=8, digits=3, decimals=1, heads=2)(torch.tensor([[7.5]])).shape
    torch.Size([1, 8])
    """

    def __init__(self, d_model: int, *, digits: int = 5, base: int = 10, dims: int = 1,
                 layers: int = 2, heads: int = 4, architecture: str = "transformer",
                 causal: bool = True, share_prefixes: bool = True, shared_places: bool = True,
                 dropout: float = 0.0, decimals: int = 0, least_first: bool = False):
        super().__init__()
        check_number_system(digits, base)
        if not isinstance(decimals, int) or decimals < 0:
            raise ValueError(f"decimals (digits after the point) must be a whole number of at "
                             f"least 0, got {decimals!r}")
        check_number_system(digits + decimals, base)
        if layers < 1 or dims < 1 or d_model < 1:
            raise ValueError("d_model, layers and dims must be at least 1, "
                             f"got d_model={d_model}, layers={layers}, dims={dims}")
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown encoder architecture {architecture!r}: "
                             f"choose from {', '.join(ARCHITECTURES)}")
        if architecture == "transformer" and (heads < 1 or d_model % heads):
            divisor = max(h for h in range(1, max(1, heads) + 1) if d_model % h == 0)
            raise ValueError(f"{heads} heads do not divide d_model={d_model}: choose a divisor of "
                             f"at least 1, for instance {divisor}")
        if architecture == "gru" and not causal:
            raise ValueError("a GRU reads from left to right: "
                             "causal=False needs architecture='transformer'")
        if not 0 <= dropout < 1 or (dropout and architecture == "gru"):
            raise ValueError(f"dropout must lie in [0, 1), and be 0 for a GRU, got {dropout}")
        self.d_model, self.digits, self.base, self.dims = d_model, digits, base, dims
        self.heads, self.dropout = heads, dropout
        self.decimals, self.least_first = decimals, least_first
        self.places = places = digits + decimals  # of each dimension
        self.share_prefixes = share_prefixes and causal
        self.token = nn.Embedding(base + 1, d_model)  # T; its last row is [CLS]
        self.place = nn.Embedding(places if shared_places else places * dims, d_model)  # O
        self.dimension = nn.Embedding(dims, d_model) if dims > 1 else None  # D; 0 if n = 1 (A.1)
        self.gru: nn.GRU | None = None
        if architecture == "gru":
            self.gru = nn.GRU(d_model, d_model, num_layers=layers, batch_first=True)
        else:
            self.blocks = nn.ModuleList(Block(d_model, heads, causal, dropout)
                                        for _ in range(layers))
        self.ln_f = nn.LayerNorm(d_model)
        self.out = nn.Linear(d_model, d_model)
        self.apply(_init_weights)

    def forward(self, positions: Tensor) -> Tensor:
        """Encode positions, each distinct one once, without autocast or TF32.

        Args:
            positions: integers (..., n) in [0, b^k), with ``decimals`` also floats. Best kept on
                the CPU, where their digits are computed; positions on another device must first be
                copied back.

        Returns:
            (..., d_model), on the parameters' device and in their dtype.

        Raises:
            TypeError: positions that are not a tensor of integers; floats without ``decimals``.
            ValueError: positions that are negative, too large, or of another n; no positions.
        """
        return uncompiled(self._encode)(positions)

    @property
    def limit(self) -> int:
        """b^k: positions in each dimension lie below it."""
        return self.base**self.digits

    def _encode(self, positions: Tensor) -> Tensor:
        positions = self._in_units(positions)
        if positions.numel() == 0:
            raise ValueError("no positions to encode: the tensor is empty")
        rows, inverse = distinct(positions.reshape(-1, self.dims), self.base**self.places)
        sequences = to_digits(rows, self.places, self.base)  # (U, n*k), sorted
        if self.least_first:
            sequences = sequences.unflatten(-1, (self.dims, self.places)).flip(-1).flatten(-2)
            sequences, row = torch.unique(sequences, dim=0, return_inverse=True)  # sorted again
            inverse = row[inverse]
        sequences = F.pad(sequences, (0, 1), value=self.base)  # [CLS] at the end
        shared = self.share_prefixes and not (self.training and self.dropout)
        with float32_region(self.token.weight.device):
            states = self.encode_shared(sequences) if shared else self.encode_whole(sequences)
            vectors = self.out(self.ln_f(states))  # (U, d)
            inverse, = moved([inverse], vectors.device)
            return F.embedding(inverse, vectors).view(*positions.shape[:-1], -1)

    def _in_units(self, positions: Tensor) -> Tensor:
        """Positions as multiples of b^-f, int64 (..., n), on the CPU."""
        if not self.decimals:
            return check_positions(positions, self.dims).cpu()
        unit = self.base**self.decimals
        if isinstance(positions, Tensor) and positions.is_floating_point():
            positions = positions.cpu().double()
            if not bool(positions.isfinite().all()):
                raise ValueError("positions must be finite numbers")
            units = check_positions((positions * unit).round().long(), self.dims)
        else:
            units = check_positions(positions, self.dims).cpu() * unit
        if units.numel() and (highest := int(units.max())) >= self.limit * unit:
            raise ValueError(f"position {highest / unit:g} needs more than k={self.digits} digits "
                             f"before the point in base {self.base}: raise `digits` or shorten "
                             "eval_len")
        return units

    def embed(self, token: Tensor, place: Tensor) -> Tensor:
        """T[token] + O[place] + D[dimension], (...) -> (..., d); [CLS], at place n*k, is T alone.

        Args:
            token, place: int64 (...), values in [0, b] and [0, n*k].
        """
        device = self.token.weight.device
        token, place = moved([token, place], device)
        times = self.dims * self.places // self.place.num_embeddings
        of_place = F.pad(self.place.weight.repeat(times, 1), (0, 0, 0, 1))  # (n*k + 1, d)
        if self.dimension is not None:
            of_dimension = self.dimension.weight.repeat_interleave(self.places, 0)
            of_place = of_place + F.pad(of_dimension, (0, 0, 0, 1))
        return F.embedding(token, self.token.weight) + F.embedding(place, of_place)

    def encode_whole(self, sequences: Tensor) -> Tensor:
        """Each sequence on its own, as in the paper: (U, n*k + 1) -> (U, d), the state at [CLS]."""
        places = torch.arange(sequences.shape[1], device=sequences.device)
        x = self.embed(sequences, places.expand_as(sequences))  # (U, n*k + 1, d)
        if self.gru is not None:
            return self.gru(x)[0][:, -1]
        for block in self.blocks:
            x = block(x)
        return x[:, -1]

    def encode_shared(self, sequences: Tensor) -> Tensor:
        """The same up to rounding, each distinct digit prefix computed once (prefix_tree.py)."""
        tree, device = prefix_tree(sequences), self.token.weight.device
        if self.gru is not None:
            return gru_states(self.gru, self.embed(tree.token, tree.place), tree.path, tree.place)
        symbols, symbol = torch.unique(tree.place * (self.base + 1) + tree.token,
                                       return_inverse=True)
        tokens, places, along, path, place = moved(
            [symbols % (self.base + 1), symbols // (self.base + 1), symbol[tree.path], tree.path,
             tree.place], device)
        x = self.embed(tokens, places)  # (R, d)
        return transformer_states(self.blocks, x, along, path, place, len(sequences))

    @torch.no_grad()
    def table(self, *sizes: int, chunk: int = 4_096) -> Tensor:
        """Encode a whole grid of positions (Sec. 3.5, "Inference").

        Args:
            sizes: n sizes; ``table(4096)`` is the lookup table of positions 0..4095.
            chunk: positions encoded at a time.

        Returns:
            (size_0 * ... * size_{n-1}, d_model), the last dimension running fastest, no gradient.

        Raises:
            ValueError: another number of sizes than n.
        """
        if len(sizes) != self.dims:
            raise ValueError(f"table{sizes} names {len(sizes)} sizes but the encoder has "
                             f"n={self.dims} dimensions")
        return torch.cat([self(part) for part in grid(*sizes).split(chunk)])


def _init_weights(module: nn.Module) -> None:
    """GPT-2's initialisation: normal(0, 0.02), biases zero."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
