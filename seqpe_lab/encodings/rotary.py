"""RoPE: rotate pairs of features by an angle that grows with the position (SeqPE, Eq. 7).

Two conventions say which features form a pair. "interleaved" (the RoFormer paper, this paper's
code) pairs neighbours (0, 1), (2, 3), ...; "half" (GPT-NeoX, Llama in Hugging Face's format)
pairs feature i with i + d/2. They differ by a fixed permutation of the features of W_q and W_k,
so both train alike, but weights trained with one are wrong with the other.
"""
from __future__ import annotations

import torch
from torch import Tensor

from .none import PositionEncoding

PAIRINGS = ("interleaved", "half")


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> Tensor:
    """theta_i p for each pair of features, theta_i = base^(-2i/d_head).

    Args:
        positions: int64 (..., 1).

    Returns:
        float64 (..., d_head/2), radians. Double, because at p = 16,384 float32 is off by 1e-3 rad.
    """
    frequency = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64, device=positions.device) / d_head)
    return positions.double() * frequency


def rotate(x: Tensor, cos: Tensor, sin: Tensor, pairing: str = "interleaved") -> Tensor:
    """Rotate each pair (x1, x2) to (x1 cos - x2 sin, x1 sin + x2 cos).

    Args:
        x: (..., L, d_head).
        cos, sin: (L, d_head/2), or anything that broadcasts.

    >>> quarter = torch.tensor([torch.pi / 2])
    >>> rotate(torch.tensor([[1., 0.]]), quarter.cos(), quarter.sin()).round()
    tensor([[-0., 1.]])
    """
    if pairing == "interleaved":
        x1, x2 = x[..., 0::2], x[..., 1::2]
        return torch.stack([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1).flatten(-2)
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1)


class Rotary(PositionEncoding):
    """RoPE on queries and keys: (R_i q)^T (R_j k) depends on positions only through j - i.

    Args:
        d_head: features a head, even.
        base: 10^4 by default; the paper also tries 10^6 and 10^8.
        pairing: "interleaved" or "half".
    """

    def __init__(self, d_head: int, base: float = 10_000.0, pairing: str = "interleaved"):
        super().__init__()
        if pairing not in PAIRINGS:
            raise ValueError(f"unknown RoPE pairing {pairing!r}: choose from {', '.join(PAIRINGS)}")
        if d_head % 2:
            raise ValueError(f"RoPE rotates pairs of features: d_head={d_head} must be even")
        if not base > 1:
            raise ValueError(f"the RoPE base must be above 1, got {base}")
        self.d_head, self.base, self.pairing = d_head, base, pairing

    def prepare(self, positions, vectors=None, device=None):
        angles = rotary_angles(positions, self.d_head, self.base)
        if angles.dim() == 3:
            angles = angles.unsqueeze(1)  # (B, 1, L, d_head/2): the same for every head
        return angles.cos().float().to(device), angles.sin().float().to(device)

    def transform(self, q, k, prepared, layer):
        cos, sin = (t.to(q) for t in prepared)
        return rotate(q, cos, sin, self.pairing), rotate(k, cos, sin, self.pairing)
