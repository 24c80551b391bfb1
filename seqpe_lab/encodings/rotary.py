"""RoPE: rotate pairs of features by an angle that grows with the position (SeqPE, Eq. 7).

Two conventions say which features form a pair. "interleaved" (the RoFormer paper, this paper's
code) pairs neighbours (0, 1), (2, 3), ...; "half" (GPT-NeoX, Llama in Hugging Face's format)
pairs feature i with i + d/2. They differ by a fixed permutation of the features of W_q and W_k,
so both train equally well, but weights trained with one are wrong with the other.

On a grid (Heo et al. 2024) each pair either belongs to one dimension (axial), or rotates by a
learned mixture of all of them, with its own frequencies in every layer and head (mixed).

Angles are always computed in float32 or better: on a grid of 42 x 42, bfloat16 would be wrong by up
to a quarter of a radian.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.encodings.base import PositionEncoding, register

PAIRINGS = ("interleaved", "half")


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> Tensor:
    """theta_i p for each pair of features, theta_i = base^(-2i/d_head).

    In n dimensions each dimension has its own d_head/(2n) pairs, theta_i = base^(-2ni/d_head), the
    last dimension (columns) first, as in RoPE-ViT's weights.

    Args:
        positions: integers (..., n).
        d_head: features per head, divisible by 2n.

    Returns:
        float64 (..., d_head/2), radians, on the CPU: some devices lack float64, and at
        p = 16,384 float32 is wrong by up to 1e-3 rad.

    Raises:
        ValueError: a d_head that is not divisible by 2n.

    >>> rotary_angles(torch.tensor([[3]]), d_head=4, base=100.0)
    tensor([[3.0000, 0.3000]], dtype=torch.float64)
    """
    return turned_by(positions, rotary_frequencies(d_head, positions.shape[-1], base))


def rotary_frequencies(d_head: int, dims: int = 1, base: float = 10_000.0) -> Tensor:
    """theta_i = base^(-2ni/d_head) of the pairs of one dimension, float64 (d_head/2n,), rad a step.

    Raises:
        ValueError: a d_head that is not divisible by 2n.

    >>> rotary_frequencies(4, base=100.0)
    tensor([1.0000, 0.1000], dtype=torch.float64)
    """
    _check_pairs(d_head, dims)
    return base ** (-torch.arange(0, d_head, 2 * dims, dtype=torch.float64) / d_head)


def turned_by(positions: Tensor, frequencies: Tensor) -> Tensor:
    """The angle of each pair: its frequency times the position, the last dimension first.

    Args:
        positions: integers (..., n).
        frequencies: float64 (P,), the same for every dimension, or (n, P), the last one first.

    Returns:
        float64 (..., n*P), radians, on the CPU.
    """
    return (positions.cpu().double().flip(-1).unsqueeze(-1) * frequencies).flatten(-2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, pairing: str = "interleaved") -> Tensor:
    """Rotate each pair (x1, x2) to (x1 cos - x2 sin, x1 sin + x2 cos).

    A pair of neighbours is multiplied as a complex number, (x1 + i x2)(cos + i sin), which is
    faster than selecting every other feature.

    Args:
        x: (..., L, d_head).
        cos, sin: (L, d_head/2), or anything that broadcasts.
        pairing: "interleaved" or "half".

    Returns:
        Shape and dtype of x; computed in float32, or float64 if x is float64.

    >>> quarter = torch.tensor([torch.pi / 2])
    >>> rotate(torch.tensor([[1., 0.]]), quarter.cos(), quarter.sin()).round()
    tensor([[-0., 1.]])
    """
    given, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
    x, cos, sin = x.to(wide), cos.to(wide), sin.to(wide)
    if pairing == "interleaved":
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    else:
        x1, x2 = x.chunk(2, dim=-1)
        turned = torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1)
    return turned.to(given)


@register("rope")
class RoPE(PositionEncoding):
    """RoPE on queries and keys: (R_i q)^T (R_j k) depends on positions only through j - i.

    Args:
        d_head: features per head, even; in n dimensions divisible by 2n.
        base: the paper uses 10^4 (by default), 10^6 and 10^8. On grids 100 is usual, and the
            default.
        pairing: "interleaved" or "half".
        prefix: number of tokens before the others; they are not rotated.
        dims: n.

    Raises:
        ValueError: another pairing, an odd d_head, a base of at most 1.
    """

    def __init__(self, d_head: int, base: float | None = None, pairing: str = "interleaved",
                 prefix: int = 0, dims: int = 1):
        super().__init__()
        base = usual_base(dims, base)
        if pairing not in PAIRINGS:
            raise ValueError(f"unknown RoPE pairing {pairing!r}: "
                             f"choose from {', '.join(PAIRINGS)}")
        if d_head % 2:
            raise ValueError(f"RoPE rotates pairs of features: d_head={d_head} must be even")
        if not base > 1:
            raise ValueError(f"the RoPE base must be above 1, got {base}")
        self.d_head, self.base, self.pairing, self.prefix = d_head, base, pairing, prefix

    def angles(self, positions: Tensor) -> Tensor:
        """Of each pair at each position, float64 (..., d_head/2), radians, on the CPU."""
        return rotary_angles(positions, self.d_head, self.base)

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, ...]:
        """Cosines and sines, float32 (L, d_head/2) or (B, 1, L, d_head/2)."""
        angles = F.pad(self.angles(positions), (0, 0, self.prefix, 0))
        if angles.dim() == 3:
            angles = angles.unsqueeze(1)  # the same for every head
        cos, sin = moved([angles.cos().float(), angles.sin().float()], device)
        return cos, sin

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, ...],
                  layer: int) -> tuple[Tensor, Tensor]:
        cos, sin = prepared
        return rotate(q, cos, sin, self.pairing), rotate(k, cos, sin, self.pairing)


@register("rope-mixed")
class MixedRoPE(PositionEncoding):
    """RoPE whose pairs rotate by a learned mixture of rows and columns: theta^r r + theta^c c.

    ``frequency``, (n, layers, H, d_head/2), holds the last dimension first, as RoPE-ViT's weights
    do. It starts from axial RoPE's frequencies, the axes of each head rotated at random.

    Args:
        d_head, heads, layers: of the main model.
        dims: n.
        base: of the initial frequencies; 10 in RoPE-ViT.
        as_published: True repeats what the SeqPE authors' code does: it reads the angles (H, L) of
            each layer as if they were (L, H), which mixes up heads and positions. Only for their
            weights. (The paper's numbers for this encoding come from RoPE-ViT.)
        prefix: number of tokens before the others; they are not rotated.

    Raises:
        ValueError: a d_head that is not divisible by 2n.
    """

    def __init__(self, d_head: int, heads: int, layers: int, dims: int = 2, base: float = 10.0,
                 as_published: bool = False, prefix: int = 0):
        super().__init__()
        _check_pairs(d_head, dims)
        self.prefix, self.as_published = prefix, as_published
        size = base ** (-torch.arange(0, d_head, 2 * dims) / d_head)  # (d_head / 2n,)
        # each row a direction, at right angles to the others
        axes = torch.linalg.qr(torch.randn(layers, heads, dims, dims))[0]
        self.frequency = nn.Parameter((axes.permute(3, 0, 1, 2).unsqueeze(-1) * size).flatten(-2))

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines of all layers, float32 (layers, (B,) H, L, d_head/2)."""
        dims = len(self.frequency)
        if positions.shape[-1] != dims:  # einsum would spread one coordinate over all
            raise ValueError(f"positions of shape {tuple(positions.shape)} have "
                             f"n={positions.shape[-1]} coordinates, expected n={dims}")
        with float32_region(self.frequency.device):
            where, = moved([positions.flip(-1).float()], self.frequency.device)  # ((B,) L, n)
            angles = torch.einsum("...tn,nlhf->l...htf", where, self.frequency.float())
        if self.as_published:
            swapped = angles.transpose(-2, -3).shape[-3:]
            angles = angles.reshape(*angles.shape[:-3], *swapped).transpose(-2, -3)
        angles = F.pad(angles, (0, 0, self.prefix, 0))
        return angles.cos(), angles.sin()

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, Tensor],
                  layer: int) -> tuple[Tensor, Tensor]:
        cos, sin = (t[layer] for t in prepared)
        return rotate(q, cos, sin), rotate(k, cos, sin)


def usual_base(dims: int, base: float | None) -> float:
    """The base that is asked for; by default 10^4, and 100 on grids."""
    return (100.0 if dims > 1 else 10_000.0) if base is None else base


def _check_pairs(d_head: int, dims: int) -> None:
    if d_head % (2 * dims):
        raise ValueError("RoPE rotates pairs of features, the same number for each of "
                         f"n={dims} dimensions: d_head={d_head} must be divisible by {2 * dims}")
