"""LieRE: rotations of whole blocks of features, with learned generators (Ostmeier et al. 2025)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, PositionEncoding, register


@register("liere")
class LieRE(PositionEncoding):
    """Queries and keys times R(p) = exp(p_1 A_1 + ... + p_n A_n), each A_i skew-symmetric.

    The exponential of a skew-symmetric matrix is a rotation. RoPE's generators are 2 x 2 blocks
    ((0, -theta), (theta, 0)) along the diagonal; these have blocks of ``block`` features and learn
    all entries, in every layer and head. In one dimension R(i)^T R(j) = R(j - i), as for RoPE. In
    two the generators of rows and columns need not commute, and then scores depend on more than
    the difference.

    As published, the entries above the diagonal start uniformly in [0, 2 pi). Positions are divided
    by the training sizes; the published code divides them by those of the image at hand, so that a
    larger image has no new positions but finer steps.

    A block takes ``block`` numbers per feature and position, so memory is linear in the context,
    but ``block`` times that of RoPE in every layer and head.

    Args:
        shape: of the model.
        block: features in a block, a divisor of d_head, by default up to 8; d_head itself rotates
            all together.

    Raises:
        ValueError: a block below 2 or one that does not divide d_head.

    >>> _ = torch.manual_seed(0)
    >>> encoding = LieRE(ModelShape(d_model=16, heads=2, layers=1, train_shape=(4, 4)), block=4)
    >>> turn = encoding.prepare(torch.tensor([[2, 3]]))[0, 0, 0, 0]     # of the first block
    >>> torch.allclose(turn @ turn.T, torch.eye(4), atol=1e-6)
    True
    """

    def __init__(self, shape: ModelShape, block: int | None = None):
        super().__init__()
        block = math.gcd(8, shape.d_head) if block is None else block
        if not isinstance(block, int) or block < 2 or shape.d_head % block:
            raise ValueError(f"LieRE rotates blocks of at least 2 features: block={block} must "
                             f"divide d_head={shape.d_head}")
        self.train_shape, self.prefix = shape.train_shape, shape.prefix
        size = (shape.dims, shape.layers, shape.heads, shape.d_head // block, block, block)
        self.generator = nn.Parameter(torch.rand(size) * 2 * math.pi)  # only above the diagonal

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> Tensor:
        """R of every position, float32 (layers, (B,) H, L, blocks, size, size).

        Computed in float64, where the device has it: at position 100,000 float32 would be wrong by
        hundredths of a radian.
        """
        positions, device = check_positions(positions, len(self.generator)), self.generator.device
        wide = torch.float64 if device.type in ("cpu", "cuda") else torch.float32
        share = positions.cpu().double() / torch.tensor(self.train_shape)
        share, = moved([F.pad(share, (0, 0, self.prefix, 0)).to(wide)], device)  # ((B,) L, n)
        with float32_region(device):
            upper = self.generator.to(wide).triu(1)
            skew = upper.mT - upper  # (n, layers, H, blocks, size, size), RoPE's signs
            exponent = torch.einsum("...tn,nlhkij->l...htkij", share, skew)
            return torch.matrix_exp(exponent.contiguous()).to(
                torch.promote_types(self.generator.dtype, torch.float32))

    def transform(self, q: Tensor, k: Tensor, prepared: Tensor,
                  layer: int) -> tuple[Tensor, Tensor]:
        turn = prepared[layer]  # ((B,) H, L, blocks, size, size)
        return _turned(q, turn), _turned(k, turn)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Each block of features times its rotation: (B, H, L, d_head) -> the same."""
    wide = torch.promote_types(x.dtype, turn.dtype)
    with float32_region(x.device):
        blocks = x.to(wide).unflatten(-1, turn.shape[-3:-1]).unsqueeze(-1)
        return (turn.to(wide) @ blocks).squeeze(-1).flatten(-2).to(x.dtype)
