"""An encoding as a reader writes it outside the package: a direction per head, times the place."""

import torch
import torch.nn.functional as F
from torch import nn

from seqpe_lab import ModelShape, PositionEncoding


class Ramp(PositionEncoding):
    """Adds p * direction to queries and keys."""

    def __init__(self, shape: ModelShape, strength: float, curve: str):
        super().__init__()
        if curve not in ("linear", "root"):
            raise ValueError(f"unknown curve {curve!r}: choose from linear, root")
        self.prefix, self.strength, self.curve = shape.prefix, strength, curve
        self.direction = nn.Parameter(torch.randn(shape.layers, shape.heads, 1, shape.d_head))

    @classmethod
    def for_model(cls, shape: ModelShape, strength: float = 1.0, curve: str = "linear"):
        return cls(shape, strength, curve)

    def prepare(self, positions, vectors=None, device=None):
        place = positions.sum(-1).float() / 100  # (L,) or (B, L)
        place = place.sqrt() if self.curve == "root" else place
        return F.pad(place, (self.prefix, 0))[..., None, :, None].to(device)  # ((B,) 1, L, 1)

    def transform(self, q, k, prepared, layer):
        added = self.strength * prepared * self.direction[layer]
        return (q + added).to(q.dtype), (k + added).to(k.dtype)
