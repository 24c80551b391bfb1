"""Variants of RoPE: without a position for some pairs or layers (p-RoPE, RNoPE), with scores that
decay (xPos), and with Fourier series in place of single frequencies (FoPE).
"""
from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.devices import float32_region, moved
from seqpe_lab.digits import check_positions
from seqpe_lab.encodings.base import ModelShape, register
from seqpe_lab.encodings.rotary import RoPE, rotary_frequencies, rotate, turned_by


@register("p-rope")
class PartialRoPE(RoPE):
    """p-RoPE (Barbero et al. 2025): only the fastest share p of the pairs is rotated.

    Trained models use the fast pairs to find positions and the slow ones to carry meaning, which
    their slow rotation disturbs in long contexts. Features that are not rotated stay as in NoPE.

    Args:
        d_head, base, pairing, prefix, dims: as in :class:`~seqpe_lab.encodings.RoPE`.
        p: share of the pairs, in (0, 1]; 1 is RoPE.

    Raises:
        ValueError: a p outside (0, 1], or one so small that no pair would be rotated.

    >>> PartialRoPE(8, p=0.5).angles(torch.tensor([[3]]))
    tensor([[3.0000, 0.3000, 0.0000, 0.0000]], dtype=torch.float64)
    """

    def __init__(self, d_head: int, base: float | None = None, pairing: str = "interleaved",
                 prefix: int = 0, dims: int = 1, p: float = 0.75):
        super().__init__(d_head, base, pairing, prefix, dims)
        if not 0 < p <= 1:
            raise ValueError(f"p is the share of rotated pairs, in (0, 1], got {p}")
        self.p = p
        self.frequencies(dims)  # refuse now what could not be rotated later

    def frequencies(self, dims: int) -> Tensor:
        """Of the pairs of one dimension, float64 (d_head/2n,), 0 for those that stay."""
        all_pairs = rotary_frequencies(self.d_head, dims, self.base)
        rotated = int(self.p * len(all_pairs))
        if not rotated:
            raise ValueError(f"p={self.p} of {len(all_pairs)} pairs is less than one: raise p to "
                             f"at least {1 / len(all_pairs):.2g}, or choose the encoding 'none'")
        return torch.where(torch.arange(len(all_pairs)) < rotated, all_pairs, 0.0)

    def angles(self, positions: Tensor) -> Tensor:
        return turned_by(positions, self.frequencies(positions.shape[-1]))


@register("rnope")
class RNoPE(RoPE):
    """RoPE in most layers and NoPE in every ``every``-th (RNoPE; Yang et al. 2025).

    Layers without positions retrieve by content at any distance, those with RoPE look nearby. The
    paper's RoPE layers also attend within a sliding window only, which is not part of an encoding.

    Args:
        d_head, base, pairing, prefix, dims: as in :class:`~seqpe_lab.encodings.RoPE`.
        every: 2 alternates, the first layer with RoPE; 4 has three RoPE layers for each of NoPE.
        layers: of the model, if known.

    Raises:
        ValueError: an ``every`` below 2, or of more layers than there are.

    >>> q, encoding = torch.ones(1, 1, 3, 4), RNoPE(4, every=2)
    >>> prepared = encoding.prepare(torch.arange(3).unsqueeze(-1))
    >>> [bool((encoding.transform(q, q, prepared, layer)[0] == q).all()) for layer in range(4)]
    [False, True, False, True]
    """

    def __init__(self, d_head: int, base: float | None = None, pairing: str = "interleaved",
                 prefix: int = 0, dims: int = 1, every: int = 2, layers: int | None = None):
        super().__init__(d_head, base, pairing, prefix, dims)
        if not isinstance(every, int) or every < 2:
            raise ValueError(f"every is a whole number of at least 2, got {every!r}: without RoPE "
                             "in any layer choose the encoding 'none'")
        if layers is not None and layers < every:
            raise ValueError(f"a model of {layers} layers has none without RoPE if they are "
                             f"every {every}-th: lower `every`, or choose the encoding 'rope'")
        self.every = every

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Tensor, ...],
                  layer: int) -> tuple[Tensor, Tensor]:
        if (layer + 1) % self.every == 0:
            return q, k
        return super().transform(q, k, prepared, layer)


@register("xpos")
class XPos(RoPE):
    """xPos (Sun et al. 2023): query pairs times zeta_m^(i/s), key pairs times zeta_m^(-j/s).

    Both are rotated as by RoPE. In the score of query i and key j this leaves zeta_m^((i-j)/s),

        zeta_m = (2m/d + 0.4) / 1.4,   m = 0, ..., d/2 - 1,

    so the fast pairs fade with the distance, and the slow ones hardly do; a causal mask has i >= j.
    The factors themselves grow and shrink with the position, so there is a last position that the
    numbers of a model can represent: with s = 512 it is 33,000 in float32 and bfloat16, and 2,000
    in float16.

    Args:
        d_head, base, pairing: as in :class:`~seqpe_lab.encodings.RoPE`.
        scale_base: s, in tokens; 512 as published.

    Raises:
        ValueError: a scale_base that is not positive; in ``transform`` positions beyond the last
            one, with the scale_base that they need.

    >>> encoding = XPos(4, scale_base=1)
    >>> query, key = (torch.ones(1, 1, 1, 4) for _ in range(2))
    >>> q, k = (encoding.transform(query, key, encoding.prepare(torch.tensor([[p]])), 0)[i]
    ...         for i, p in ((0, 3), (1, 1)))
    >>> pairs = (q * k).unflatten(-1, (2, 2)).sum(-1)
    >>> zeta = torch.tensor([0.4, 0.9]) / 1.4
    >>> torch.allclose(pairs, 2 * torch.tensor([2.0, 0.02]).cos() * zeta**2)
    True
    """
    sequences_only = ("xPos decays with how far a causal sequence looks back, which a grid does "
                      "not have")

    def __init__(self, d_head: int, base: float | None = None, pairing: str = "interleaved",
                 scale_base: float = 512.0):
        super().__init__(d_head, base, pairing)
        if not 0 < scale_base < math.inf:
            raise ValueError(f"scale_base is a number of tokens above 0, got {scale_base}")
        self.scale_base = scale_base

    def prepare(self, positions: Tensor, vectors: None = None,
                device: torch.device | None = None) -> tuple[Any, ...]:
        """Cosines, sines, queries' factors, float32 ((B, 1,) L, d_head/2); the highest position."""
        places = check_positions(positions, dims=1).cpu()
        cos, sin = super().prepare(places, vectors, device)
        zeta = (torch.arange(0, self.d_head, 2, dtype=torch.float64) / self.d_head + 0.4) / 1.4
        factor = (zeta ** (places.double() / self.scale_base)).float()
        factor, = moved([factor if factor.dim() == 2 else factor.unsqueeze(1)], device)
        return cos, sin, factor, int(places.max())

    def transform(self, q: Tensor, k: Tensor, prepared: tuple[Any, ...],
                  layer: int) -> tuple[Tensor, Tensor]:
        cos, sin, factor, highest = prepared
        room = math.log(torch.finfo(q.dtype).max) - 6  # the keys themselves, and gradients
        last = int(self.scale_base * room / -math.log(0.4 / 1.4))
        if highest > last:
            needed = math.ceil(self.scale_base * highest / last) + 1
            raise ValueError(f"xPos with scale_base={self.scale_base:g} leaves the range of "
                             f"{q.dtype} after position {last:,}, got {highest:,}: shorten the "
                             f"context or raise scale_base to {needed:,}")
        return (rotate(q, cos * factor, sin * factor, self.pairing),
                rotate(k, cos / factor, sin / factor, self.pairing))


@register("fope")
class FoPE(RoPE):
    """FoPE (Hua et al. 2025): pair m times h_m(p) = e^(i w_m p) + sum over w of a_(w,m) e^(i w p).

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
        ValueError: a negative sigma; a training context so short that no frequency remains.

    >>> encoding = FoPE(ModelShape(d_model=8, heads=1, layers=1, train_shape=(100,)), sigma=0.0)
    >>> cos, sin = encoding.prepare(torch.tensor([[1]]))
    >>> torch.atan2(sin, cos)                        # 0.01 and 0.001 lie below 2 pi / 100
    tensor([[[1.0000, 0.1000, 0.0000, 0.0000]]])
    """
    sequences_only = "FoPE is defined for sequences, not for grids"
    coefficients: Tensor  # float32 (H, K, K), of the series

    def __init__(self, shape: ModelShape, sigma: float = 0.3, base: float | None = None,
                 pairing: str = "interleaved"):
        super().__init__(shape.d_head, base, pairing)
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma is a standard deviation of at least 0, got {sigma}")
        turns = shape.train_shape[0] / (2 * math.pi)  # of a pair with frequency 1
        self.kept = sum(turns * self.base ** (-2 * m / shape.d_head) >= 1  # K: they are sorted
                        for m in range(shape.d_head // 2))
        if not self.kept:
            raise ValueError(f"no frequency completes a turn within {shape.train_shape[0]} tokens: "
                             "FoPE needs a training context of at least 7")
        self.sigma = sigma
        series = torch.randn(shape.heads, self.kept, self.kept) * sigma / self.kept**0.5
        self.register_buffer("coefficients", torch.eye(self.kept) + series)

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
