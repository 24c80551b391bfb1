"""PoPE: a feature says how much, its position says in which direction (Gopalakrishnan et al. 2025).

RoPE's pair has an angle of its own, to which the position's is added: what a query looks for and
where are entangled. PoPE gives each feature a magnitude and leaves the angle to the position.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, PositionEncoding, register
from seqpe_lab.encodings.rotary import rotary_frequencies, turned_by, usual_base


@register("pope")
class PoPE(PositionEncoding):
    """The score of query i and key j is the sum over features c of

        softplus(q_c) softplus(k_c) cos((j - i) theta_c + delta_c),

    with theta_c = base^(-c/d) for each of the d features, and delta_c learned in every layer and
    head. (The paper clamps it to [-2 pi, 0], which holds every angle; torch's clamp would give it
    no gradient at 0, where it starts.) Queries and keys are widened to twice d_head: magnitude
    times cosine, and magnitude times sine. On a grid each dimension has d/n features, the last one
    first, with theta_c = base^(-nc/d).

    Args:
        shape: of the model.
        base: as in :class:`~seqpe_lab.encodings.RoPE`.
        uniform: False starts with delta = 0, the better choice for longer contexts; True draws it
            from [-2 pi, 0).

    Raises:
        ValueError: a d_head that n does not divide; a base of at most 1.

    >>> encoding = PoPE(ModelShape(d_model=2, heads=1, layers=1, train_shape=(8,)))
    >>> q, k = (encoding.transform(x := torch.zeros(1, 1, 1, 2), x, encoding.prepare(p), 0)[i]
    ...         for i, p in ((0, torch.tensor([[3]])), (1, torch.tensor([[1]]))))
    >>> expected = math.log(2) ** 2 * (math.cos(-2) + math.cos(-2 / 100))
    >>> torch.allclose((q * k).sum(), torch.tensor(expected))
    True
    """

    def __init__(self, shape: ModelShape, base: float | None = None, uniform: bool = False):
        super().__init__()
        base = usual_base(shape.dims, base)
        if shape.d_head % shape.dims:
            raise ValueError(f"PoPE gives each of n={shape.dims} dimensions as many features: "
                             f"d_head={shape.d_head} must be divisible by {shape.dims}")
        if not base > 1:
            raise ValueError(f"the PoPE base must be above 1, got {base}")
        self.d_head, self.dims, self.prefix = shape.d_head, shape.dims, shape.prefix
        self.base = base
        delta = torch.rand if uniform else torch.zeros
        self.delta = nn.Parameter(-2 * math.pi * delta(shape.layers, shape.heads, 1, shape.d_head))

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines of p theta, float32 (L, d_head) or (B, 1, L, d_head)."""
        positions = check_positions(positions, self.dims)
        # a pair of RoPE for each feature
        frequencies = rotary_frequencies(2 * self.d_head, self.dims, self.base)
        angles = F.pad(turned_by(positions, frequencies), (0, 0, self.prefix, 0))
        if angles.dim() == 3:
            angles = angles.unsqueeze(1)  # the same for every head
        cos, sin = moved([angles.cos().float(), angles.sin().float()], device)
        return cos, sin

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, Tensor],
                  layer: int) -> tuple[Tensor, Tensor]:
        cos, sin = prepared
        delta = self.delta[layer].to(torch.promote_types(self.delta.dtype, torch.float32))
        turned_cos = cos * delta.cos() - sin * delta.sin()  # of p theta + delta
        turned_sin = sin * delta.cos() + cos * delta.sin()
        return _polar(q, cos, sin), _polar(k, turned_cos, turned_sin)


def _polar(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, H, L, d_head) -> (B, H, L, 2 d_head), in the dtype of x, computed in float32 or wider."""
    size = F.softplus(x.to(torch.promote_types(x.dtype, torch.float32)))
    return torch.cat([size * cos, size * sin], dim=-1).to(x.dtype)
