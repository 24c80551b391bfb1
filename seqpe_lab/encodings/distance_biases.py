"""Biases of pairs of positions: T5, KERPLE, FIRE, Sandwich, ALiBi in n dimensions, Swin.

Each adds b(i, j) to q_i.k_j / sqrt(d_head), where i and j are the positions of query and key.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.digits import grid_row
from seqpe_lab.encodings.alibi import alibi_slopes
from seqpe_lab.encodings.base import PositionEncoding, register


def difference(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Key position minus query position: ((B,) l, n) and ((B,) L, n) -> (..., l, L, n).

    >>> difference(torch.tensor([[5]]), torch.tensor([[3], [4], [5]])).squeeze()
    tensor([-2, -1,  0])
    """
    return key_positions.unsqueeze(-3) - query_positions.unsqueeze(-2)


def distance(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """The Euclidean distance in positions, float32 (..., 1, l, L), 1 for the heads."""
    return difference(query_positions, key_positions).float().norm(dim=-1).unsqueeze(-3)


class PairMLP(nn.Module):
    """An MLP of one hidden layer on numbers of pairs: (..., inputs) -> (..., outputs).

    It computes in float32 at least, even if its weights are in a lower precision.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, last_bias: bool = True):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs, last_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, self.first.weight.dtype))
        w, b, v = (p.to(x.dtype) for p in (self.first.weight, self.first.bias, self.last.weight))
        end = torch.zeros_like(v[:, 0]) if self.last.bias is None else self.last.bias.to(x.dtype)
        if x.shape[-1] > 1:
            return F.linear(F.relu(F.linear(x, w, b)), v, end)
        return self._looked_up(x, w[:, 0], b, v, end)

    @staticmethod
    def _looked_up(x: Tensor, w: Tensor, b: Tensor, v: Tensor, end: Tensor) -> Tensor:
        """The same for one input, with one product for each output.

        A ReLU network of one input is linear between the places where one of its units bends, so
        its slope and its intercept are looked up.
        """
        bends, order = torch.where(w == 0, torch.inf, -b / w).detach().sort()
        w, b, v = w[order], b[order], v[:, order]
        unit = torch.arange(len(bends), device=x.device)
        passed = torch.arange(len(bends) + 1, device=x.device).unsqueeze(-1) > unit
        active = (w != 0) & (passed == (w > 0)) | (w == 0) & (b > 0)  # (pieces, hidden)
        piece, active = torch.bucketize(x.squeeze(-1), bends), active.to(x.dtype)
        slope, intercept = (active * w) @ v.T, (active * b) @ v.T + end  # (pieces, outputs)
        return x * F.embedding(piece, slope) + F.embedding(piece, intercept)


@register("t5")
class T5(PositionEncoding):
    """T5's buckets (Raffel et al. 2020, Sec. 2.1): a learned b for each bucket of distances.

    Half of the buckets hold one distance each, from 0; the others hold ranges that grow
    logarithmically up to ``max_distance``, and the last one everything beyond. As in T5, all layers
    share the table. T5 does not divide q.k by sqrt(d_head); this encoding does.

    Args:
        buckets: how many; if ``two_sided``, half of them are for keys after the query.
        max_distance: in tokens, the first distance that is in the last bucket.
        two_sided: True for models without a causal mask. Else keys after the query count as at
            distance 0.
        d_model: the table starts with standard deviation 1 / sqrt(d_model), as in T5.

    Raises:
        ValueError: too few buckets for their number of sides, or a ``max_distance`` that is not
            beyond the buckets of one distance.
    """
    relative = True
    sequences_only = "T5's buckets are those of distances along a sequence"

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128,
                 two_sided: bool = False, d_model: int = 100):
        super().__init__()
        self.side, self.max_distance = buckets // (1 + two_sided), max_distance
        self.two_sided = two_sided
        if self.side < 1 or self.side > 1 and max_distance <= self.side // 2:
            raise ValueError(f"{buckets} buckets up to distance {max_distance}: at least 1 is "
                             f"needed for each side, and max_distance above {self.side // 2}")
        self.table = nn.Embedding(self.side * (1 + two_sided), heads)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)

    def bucket(self, ahead: Tensor) -> Tensor:
        """The bucket of key position minus query position, int64."""
        far = ahead.abs() if self.two_sided else (-ahead).clamp(min=0)
        exact = self.side // 2
        if exact:
            steps = (far / exact).clamp(min=1).log() / math.log(self.max_distance / exact)
            large = exact + (steps * (self.side - exact)).long()
            far = torch.where(far < exact, far, large)
        far = far.long().clamp(max=self.side - 1)
        return far + self.side * (ahead > 0) if self.two_sided else far

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        ahead = difference(query_positions, key_positions).squeeze(-1)
        return self.table(self.bucket(ahead)).movedim(-1, -3)


class _Kerple(PositionEncoding):
    """Two positive parameters r_1, r_2 for each layer and head, kept as their logarithms."""
    relative = True

    def __init__(self, heads: int, layers: int):
        super().__init__()
        start = torch.rand(2, layers, heads, 1, 1).clamp(min=0.01)
        start[0] *= 2
        self.log_r = nn.Parameter(start.log())


@register("kerple-log")
class KerpleLog(_Kerple):
    """KERPLE, logarithmic (Chi et al. 2022): b = -r_1 log(1 + r_2 |i - j|).

    r_1 starts in (0, 2) and r_2 in (0, 1), at random. In n dimensions |i - j| is the Euclidean
    norm, for which the kernel stays conditionally positive definite.
    """

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        r_1, r_2 = self.log_r[:, layer].exp()
        return -r_1 * torch.log1p(r_2 * distance(query_positions, key_positions))


@register("kerple-power")
class KerplePower(_Kerple):
    """KERPLE, power (Chi et al. 2022): b = -r_1 |i - j|^r_2 with 0 < r_2 <= 2."""

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        r_1, r_2 = self.log_r[:, layer].exp()
        far = distance(query_positions, key_positions)
        # 0^r_2 is 0, but its gradient with respect to r_2 would be 0 log 0
        return torch.where(far > 0, -r_1 * far.clamp(min=1e-6) ** r_2.clamp(max=2.0), 0.0)


@register("fire")
class FIRE(PositionEncoding):
    """FIRE (Li et al. 2024): b = f(psi(i - j) / psi(max(i, L))) with psi(x) = log(c x + 1).

    f is an MLP of one hidden layer with a number for each head; c and L are learned. The quotient
    lies in [0, 1] for any length, so f never sees an input that training has not shown. Position i
    itself matters, so a shift of all positions changes the bias.

    Args:
        hidden: units of the MLP.
        threshold: initial L, in tokens; the paper's is 512.
    """
    sequences_only = "FIRE's share of a distance is one along a sequence"

    def __init__(self, heads: int, layers: int, hidden: int = 32, threshold: float = 512.0):
        super().__init__()
        self.mlps = nn.ModuleList(PairMLP(1, hidden, heads) for _ in range(layers))
        self.c = nn.Parameter(torch.full((layers,), 0.1))
        self.threshold = threshold
        self.multiplier = nn.Parameter(torch.ones(layers))  # L = multiplier * threshold

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        c = self.c[layer].abs()
        limit = (self.multiplier[layer] * self.threshold).abs()
        far = difference(query_positions, key_positions).abs().float()  # (..., l, L, 1)
        whole = torch.maximum(query_positions.float(), limit).unsqueeze(-2)  # (..., l, 1, 1)
        share = torch.log1p(c * far) / torch.log1p(c * whole).clamp(min=1e-6)
        return self.mlps[layer](share).movedim(-1, -3)


@register("sandwich")
class Sandwich(PositionEncoding):
    """Sandwich (Chi et al. 2023): b = H / (8 h) * sum_t cos((i - j) / 10000^(2t/D)).

    The sum is the product of two sinusoidal position vectors with D features; h = 1 .. H is the
    head, so that the later heads look farther. Nothing is learned. On a grid each dimension
    contributes such a sum.

    Args:
        features: D; the paper's is 128.
    """
    relative = True

    def __init__(self, heads: int, features: int = 128):
        super().__init__()
        if features < 2 or features % 2:
            raise ValueError(f"features come in pairs of sine and cosine: {features} must be even")
        self.heads, self.features = heads, features

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        ahead = difference(query_positions, key_positions)
        pair = torch.arange(self.features // 2, device=ahead.device)
        angles = ahead.unsqueeze(-1) / 10_000 ** (2 * pair / self.features)  # (..., l, L, n, D/2)
        head = torch.arange(1, self.heads + 1, device=ahead.device).view(-1, 1, 1)
        return angles.cos().sum((-1, -2)).unsqueeze(-3) * self.heads / (8 * head)


@register("alibi-euclidean")
class EuclideanALiBi(PositionEncoding):
    """ALiBi in n dimensions: b = -m |i - j|, the Euclidean distance, in both directions.

    It is how ALiBi is carried over to images (Fuller et al. 2023, CROMA). The slopes m are those of
    ALiBi (Press et al. 2022). Unlike the causal form it is no product of features of i and of j.
    """
    relative = True

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        far = distance(query_positions, key_positions)
        return -alibi_slopes(self.heads).to(far.device).view(-1, 1, 1) * far


@register("swin")
class Swin(PositionEncoding):
    """Swin (Liu et al. 2021, Eq. 4): a learned B for each difference of positions, layer and head.

    A window of M_1 x M_2 has (2 M_1 - 1)(2 M_2 - 1) differences. Larger ones, which training does
    not have, take the nearest entry at the edge of the table. Swin also scales its attention by the
    cosine (v2) and shifts its windows, which are no matter of positions; the whole image is one
    window here.

    Args:
        train_shape: M of each dimension, the window: the training context.
    """
    relative = True

    def __init__(self, train_shape: tuple[int, ...], heads: int, layers: int):
        super().__init__()
        self.window, self.sizes = train_shape, tuple(2 * size - 1 for size in train_shape)
        self.table = nn.Parameter(torch.empty(layers, math.prod(self.sizes), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

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
        train_shape: M of each dimension, the window: the training context.
        hidden: units of the MLP.
    """
    relative = True

    def __init__(self, train_shape: tuple[int, ...], heads: int, layers: int, hidden: int = 512):
        super().__init__()
        self.window = train_shape
        self.mlps = nn.ModuleList(PairMLP(len(train_shape), hidden, heads, last_bias=False)
                                  for _ in range(layers))

    def bias(self, query_positions: Tensor, key_positions: Tensor, layer: int) -> Tensor:
        behind = -difference(query_positions, key_positions).float()
        scaled = 8 * behind / (behind.new_tensor(self.window) - 1).clamp(min=1)
        spaced = scaled.sign() * torch.log2(scaled.abs() + 1) / math.log2(8)
        return 16 * self.mlps[layer](spaced).sigmoid().movedim(-1, -3)
