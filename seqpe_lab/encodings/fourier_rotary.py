"""FoPE: every pair of features turns by a Fourier series (Hua et al. 2025)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.rotary import RoPE, rotary_frequencies, turned_by


@register("fope")
class FoPE(RoPE):
    """Pair m is multiplied by h_m(p) = e^(i w_m p) + sum over w of a_(w,m) e^(i w p).

    RoPE multiplies it by e^(i w_m p) alone. The layers around attention mix these frequencies
    anyway, so FoPE trains with a mixture from the start. Frequencies below 2 pi / L, which do not
    complete a turn within the training context L, are replaced by 0: such pairs stay as they are
    and take no part in the series.

    The coefficients a are drawn once for each head, of standard deviation sigma / sqrt(K) with K
    remaining frequencies, and not trained; they are saved with the weights. They are real, so h_m
    is not of length 1, and scores depend on more than j - i. (The authors' code draws them for
    sines and cosines separately.)

    Args:
        shape: of the model, with positions of one dimension.
        sigma: at least 0; the paper has 0.3 for its smallest models.
        base, pairing: as in :class:`~seqpe_lab.encodings.RoPE`.

    Raises:
        ValueError: a grid; a negative sigma; a training context so short that no frequency remains.

    >>> encoding = FoPE(ModelShape(d_model=8, heads=1, layers=1, train_shape=(100,)), sigma=0.0)
    >>> cos, sin = encoding.prepare(torch.tensor([[1]]))
    >>> torch.atan2(sin, cos)                        # 0.01 and 0.001 lie below 2 pi / 100
    tensor([[[1.0000, 0.1000, 0.0000, 0.0000]]])
    """
    coefficients: Tensor  # float32 (H, K, K), of the series

    def __init__(self, shape: ModelShape, sigma: float = 0.3, base: float = 10_000.0,
                 pairing: str = "interleaved"):
        super().__init__(shape.d_head, base, pairing)
        if shape.dims > 1 or shape.prefix:
            raise ValueError("FoPE is defined for sequences, not for grids: choose another "
                             "encoding, such as 'rope' or 'liere'")
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma is a standard deviation of at least 0, got {sigma}")
        turns = shape.train_shape[0] / (2 * math.pi)  # of a pair with frequency 1
        self.kept = sum(turns * base ** (-2 * m / shape.d_head) >= 1  # K: they are sorted
                        for m in range(shape.d_head // 2))
        if not self.kept:
            raise ValueError(f"no frequency completes a turn within {shape.train_shape[0]} tokens: "
                             "FoPE needs a training context of at least 7")
        self.sigma = sigma
        series = torch.randn(shape.heads, self.kept, self.kept) * sigma / self.kept**0.5
        self.register_buffer("coefficients", torch.eye(self.kept) + series)

    @classmethod
    def for_model(cls, shape: ModelShape, sigma: float = 0.3,  # type: ignore[override]
                  base: float = 10_000.0, pairing: str = "interleaved") -> FoPE:
        return cls(shape, sigma, base, pairing)

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Tensor, ...]:
        """Real and imaginary part of h, float32 (H, L, d_head/2) or (B, H, L, d_head/2)."""
        frequencies = rotary_frequencies(self.d_head, base=self.base)[:self.kept]
        angles = turned_by(check_positions(positions, dims=1), frequencies)
        angles = angles.unsqueeze(-3)  # ((B,) 1, L, K)
        series, rest = self.coefficients, (0, self.d_head // 2 - self.kept)
        parts = moved([angles.cos().to(series.dtype), angles.sin().to(series.dtype)], series.device)
        with float32_region(series.device):
            cos, sin = (part @ series for part in parts)  # ((B,) H, L, K)
        return F.pad(cos, rest, value=1.0), F.pad(sin, rest)
