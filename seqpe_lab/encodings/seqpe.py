"""SeqPE: attention combines position vectors with queries and keys (SeqPE, Sec. 3.5).

E^q, E^k = E W_PE (Eq. 11) give each query and key a position vector, which is added to it (Eq. 12),
multiplied with it (Eq. 13), or appended: [q; e^q] . [k; e^k] = q.k + e^q.e^k, the bias of Eq. 14
without its matrix.

E and E W_PE are computed in float32. In lower precision the bias needs a correction: trained
vectors are so long that rounding e^k_j to bfloat16 changes scores by whole units, while neighbours
differ by hundredths. For queries near j the change is about e^q_j.(e^k_j - rounded e^k_j), one
number for each key, and two further key features add it back.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from seqpe_lab.devices import float32_region, uncompiled
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings.base import ModelShape, PositionEncoding, register
from seqpe_lab.position_table import PositionTable

INTEGRATIONS = ("sum", "mul", "bias")


@register("seqpe")
class SeqPE(PositionEncoding):
    """The position encoder and its projection(s) W_PE.

    Args:
        encoder: computes E, (..., d_model).
        heads: H of the main model; E^q and E^k are split like queries and keys.
        layers: of the main model.
        integration: "sum", "mul" or "bias" (the paper's best: bias for text, mul for images).
        shared_projection: one W_PE for all layers (text) or one each (images).
        projection_bias: initial value of W_PE's bias (the paper does not give one). With "mul", 0
            multiplies queries and keys by vectors near zero, so that all keys get nearly the same
            weight at first; 1 starts near q.k.
        projection_std: initial standard deviation of W_PE's weights. GPT-2's and ViT's 0.02 suits
            wide models; in a narrow one all positions then start with nearly the same vector.
        scaled: True divides the bias by sqrt(d_head) together with q.k, as Eq. 3 and 14 say; False
            adds it after the division, which makes it stronger by sqrt(d_head).
        prefix: number of tokens before the others ([CLS]); each has a learned position vector.
        interpolate: (rows, columns) of the training grid: on a larger one position p of R rows
            gets the vector of p (rows - 1)/(R - 1), as a learned table does, where the encoder
            needs ``decimals``. None, as in the paper: larger grids have new positions.

    Raises:
        ValueError: another integration; heads that do not divide the encoder's d_model; to
            interpolate without decimals, or in one dimension, where contexts have no fixed end.
    """

    def __init__(self, encoder: PositionEncoder, heads: int, layers: int,
                 integration: str = "bias", shared_projection: bool = True,
                 projection_bias: float = 0.0, projection_std: float = 0.02, scaled: bool = True,
                 prefix: int = 0, interpolate: tuple[int, ...] | None = None):
        super().__init__()
        if interpolate and not (encoder.decimals and encoder.dims == len(interpolate) > 1):
            raise ValueError("only positions on a grid are interpolated, and their encoder needs "
                             f"`decimals` of at least 1: got {encoder.decimals} in n="
                             f"{encoder.dims} dimensions")
        if integration not in INTEGRATIONS:
            raise ValueError(f"unknown integration {integration!r}: "
                             f"choose from {', '.join(INTEGRATIONS)}")
        if encoder.d_model % heads:
            raise ValueError(f"{heads} heads do not divide the encoder's "
                             f"d_model={encoder.d_model}")
        self.encoder, self.heads, self.integration = encoder, heads, integration
        self.table = PositionTable(encoder)  # for inference
        self.interpolate = interpolate
        # of e^q and of e^k, so that their product grows by sqrt(d_head)
        self.bias_gain = 1.0 if scaled else (encoder.d_model / heads) ** 0.25
        projections = [nn.Linear(encoder.d_model, 2 * encoder.d_model)
                       for _ in range(1 if shared_projection else layers)]
        self.projections = nn.ModuleList(projections)
        self.prefix = nn.Parameter(torch.empty(prefix, encoder.d_model).normal_(std=0.02)) \
            if prefix else None
        for projection in projections:
            nn.init.normal_(projection.weight, std=projection_std)
            nn.init.constant_(projection.bias, projection_bias)

    @classmethod
    def for_model(cls, shape: ModelShape, *,  # type: ignore[override]
                  integration: str = "bias",
                  shared_projection: bool = True, projection_bias: float = 0.0,
                  projection_std: float = 0.02, scaled: bool = True, digits: int = 5,
                  base: int = 10, encoder_layers: int = 2, encoder_heads: int | None = None,
                  architecture: str = "transformer", causal: bool = True,
                  share_prefixes: bool = True, shared_places: bool = True,
                  dropout: float = 0.0, decimals: int = 0, least_first: bool = False,
                  interpolate: bool = False) -> SeqPE:
        encoder = PositionEncoder(
            shape.d_model, digits=digits, base=base, dims=shape.dims, layers=encoder_layers,
            heads=encoder_heads or shape.heads, architecture=architecture, causal=causal,
            share_prefixes=share_prefixes, shared_places=shared_places, dropout=dropout,
            decimals=decimals, least_first=least_first)
        return cls(encoder, shape.heads, shape.layers, integration, shared_projection,
                   projection_bias, projection_std, scaled, shape.prefix,
                   shape.train_shape if interpolate else None)

    def no_weight_decay(self) -> set[str]:
        """All but W_PE: the position encoder (SeqPE, Sec. 4) and the vectors of tokens before."""
        return {name for name in super().no_weight_decay() if not name.startswith("projections.")}

    def encode(self, positions: Tensor) -> Tensor:
        """E, float (..., d_model): with gradient, or looked up where none is asked for."""
        if self.interpolate:
            steps = positions.flatten(0, -2).amax(0).cpu().clamp(min=1)  # R - 1
            trained = torch.tensor(self.interpolate) - 1
            positions = positions.cpu() * (trained.double() / steps).clamp(max=1)
        encode = self.encoder if torch.is_grad_enabled() else uncompiled(self.table)
        return encode(positions)

    def prepare(self, positions: Tensor, vectors: Tensor | tuple[Tensor, Tensor] | None = None,
                device: torch.device | None = None) -> list[tuple[Tensor, Tensor]]:
        """(E^q, E^k) for each W_PE, float32 (H, L, d_head) or (B, H, L, d_head).

        For the bias under autocast they are rounded and corrected, and a few features wider.

        ``vectors`` may also be a pair: the vectors of S different contexts, (S, L, d_model), and
        the index of each sequence's context, int64 (B,). Each context is then projected only once.
        """
        of_context, which = vectors if isinstance(vectors, tuple) else (vectors, None)
        e = self.encode(positions) if of_context is None else of_context  # (..., L, d_model)
        if e.shape[-2:] != (positions.shape[-2], self.encoder.d_model):
            raise ValueError(f"position vectors {tuple(e.shape)} do not fit {positions.shape[-2]} "
                             f"positions and d_model={self.encoder.d_model}")
        if self.prefix is not None:
            e = torch.cat([self.prefix.expand(*e.shape[:-2], -1, -1), e], dim=-2)
        prepared = []
        autocast = torch.is_autocast_enabled(e.device.type)
        dtype = torch.get_autocast_dtype(e.device.type) if autocast else e.dtype
        with float32_region(e.device):
            for projection in self.projections:
                projected = projection(e)
                if which is not None:
                    projected = projected.index_select(0, which)
                e_q, e_k = (part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
                            for part in projected.chunk(2, dim=-1))  # ((B,) H, L, d_head)
                if self.integration == "bias":
                    if self.bias_gain != 1:
                        e_q, e_k = self.bias_gain * e_q, self.bias_gain * e_k
                    if autocast:
                        e_q, e_k = self._rounded(e_q, e_k, dtype)
                prepared.append((e_q, e_k))
        return prepared

    def transform(self, q: Tensor, k: Tensor, prepared: list[tuple[Tensor, Tensor]],
                  layer: int) -> tuple[Tensor, Tensor]:
        e_q, e_k = prepared[layer % len(prepared)]
        if self.integration == "sum":
            return (q + e_q).to(q.dtype), (k + e_k).to(k.dtype)
        if self.integration == "mul":
            return (q * e_q).to(q.dtype), (k * e_k).to(k.dtype)
        if e_q.dtype != q.dtype:  # a model whose own weights are in low precision
            e_q, e_k = self._rounded(e_q, e_k, q.dtype)
        return (torch.cat([q, e_q.expand(*q.shape[:-1], -1)], -1),
                torch.cat([k, e_k.expand(*k.shape[:-1], -1)], -1))

    def _rounded(self, e_q: Tensor, e_k: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both in ``dtype``; if that is a lower precision, with features that correct e^q.e^k.

        The correction, for the rounding of e^k, is split into two numbers of that precision. Zeros
        fill q and e^q up to a multiple of 8 features, which the fast attention kernels require.
        """
        if torch.finfo(dtype).bits >= torch.finfo(e_k.dtype).bits:
            return e_q.to(dtype), e_k.to(dtype)
        lost = (e_k - e_k.to(dtype).to(e_k.dtype)).detach()
        correction = (e_q.detach() * lost).sum(-1, keepdim=True)  # (..., L, 1)
        coarse = correction.to(dtype)
        fine = (correction - coarse).to(dtype)
        one = torch.ones_like(coarse)
        fill = coarse.new_zeros(*coarse.shape[:-1], -(2 * e_q.shape[-1] + 2) % 8)
        return (torch.cat([e_q.to(dtype), one, one, fill], -1),
                torch.cat([e_k.to(dtype), coarse, fine, fill], -1))
