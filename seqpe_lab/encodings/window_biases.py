"""Swin's biases within a window, here the training context: a table, or a function of coordinates.

Each adds B(j - i) to q_i.k_j / sqrt(d_head). Swin also scales its attention by the cosine (v2) and
shifts its windows, which are no matter of positions; the whole image is one window here.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seqpe_lab.digits import grid_row
from seqpe_lab.encodings.base import ModelShape, PositionEncoding, register
from seqpe_lab.encodings.distance_biases import PairMLP, difference


@register("swin")
class Swin(PositionEncoding):
    """Swin (Liu et al. 2021, Eq. 4): a learned B for each difference of positions, layer and head.

    A window of M_1 x M_2 has (2 M_1 - 1)(2 M_2 - 1) differences. Larger ones, which training does
    not have, take the nearest entry at the edge of the table.

    Args:
        window: M of each dimension: the training context.
    """
    relative = True

    def __init__(self, window: tuple[int, ...], heads: int, layers: int):
        super().__init__()
        self.window, self.sizes = window, tuple(2 * size - 1 for size in window)
        self.table = nn.Parameter(torch.empty(layers, math.prod(self.sizes), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    @classmethod
    def for_model(cls, shape: ModelShape) -> Swin:  # type: ignore[override]
        return cls(shape.train_shape, shape.heads, shape.layers)

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        behind = -difference(query_positions, key_positions)  # as Swin counts: query minus key
        edge = behind.new_tensor(self.window) - 1
        row = grid_row(torch.clamp(behind, -edge, edge) + edge, self.sizes)
        return self.table[layer][row].movedim(-1, -3)


@register("swin-v2")
class SwinV2(PositionEncoding):
    """Swin v2 (Liu et al. 2022, Sec. 3.3): B = 16 sigmoid(MLP(log-spaced difference)).

    A difference d of a dimension with window M enters as sign(d) log2(1 + 8 |d| / (M-1)) / 3; the
    factors 16 and 8 are those of its code. So a window that is larger than in training needs inputs
    that are only a little larger.

    Args:
        window: M of each dimension: the training context.
        hidden: units of the MLP.
    """
    relative = True

    def __init__(self, window: tuple[int, ...], heads: int, layers: int, hidden: int = 512):
        super().__init__()
        self.window = window
        self.mlps = nn.ModuleList(PairMLP(len(window), hidden, heads, last_bias=False)
                                  for _ in range(layers))

    @classmethod
    def for_model(cls, shape: ModelShape, hidden: int = 512) -> SwinV2:  # type: ignore[override]
        return cls(shape.train_shape, shape.heads, shape.layers, hidden)

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        behind = -difference(query_positions, key_positions).float()
        scaled = 8 * behind / (behind.new_tensor(self.window) - 1).clamp(min=1)
        spaced = scaled.sign() * torch.log2(scaled.abs() + 1) / math.log2(8)
        return 16 * self.mlps[layer](spaced).sigmoid().movedim(-1, -3)
