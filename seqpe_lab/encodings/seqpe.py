"""SeqPE: learned vectors of digit sequences meet queries and keys (SeqPE, Sec. 3.5).

E^q, E^k = E W_PE (Eq. 11) give each query and key a position vector of its own, which is added
(Eq. 12), multiplied (Eq. 13), or set beside it: [q; e^q] . [k; e^k] = q.k + e^q.e^k, which is the
bias of Eq. 14 without its matrix.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings.base import PositionEncoding

INTEGRATIONS = ("sum", "mul", "bias")


class SeqPE(PositionEncoding):
    """The position encoder and its projection(s) W_PE.

    Args:
        encoder: gives E, (..., d_model).
        heads: H of the main model; E^q and E^k are split like queries and keys.
        layers: of the main model.
        integration: "sum", "mul" or "bias" (the paper's best: bias for text, mul for images).
        shared_projection: one W_PE for all layers (text) or one each (images).
        projection_bias: what W_PE's bias starts from (the paper does not say). With "mul", 0 makes
            attention start blind, because it multiplies by vectors near zero; 1 starts from q.k.
        projection_std: how large W_PE's weights start. GPT-2's and ViT's 0.02 fits wide models; in a
            narrow one positions then start nearly alike and are slow to be told apart.
        scaled: True divides the bias by sqrt(d_head) together with q.k, as Eq. 3 and 14 say; False
            adds it after the division, which makes it stronger by sqrt(d_head).
        prefix: tokens before the positions ([CLS]); each has a learned position vector of its own.
    """

    def __init__(self, encoder: PositionEncoder, heads: int, layers: int, integration: str = "bias",
                 shared_projection: bool = True, projection_bias: float = 0.0,
                 projection_std: float = 0.02, scaled: bool = True, prefix: int = 0):
        super().__init__()
        if integration not in INTEGRATIONS:
            raise ValueError(f"unknown integration {integration!r}: choose from {', '.join(INTEGRATIONS)}")
        if encoder.d_model % heads:
            raise ValueError(f"{heads} heads do not divide the encoder's d_model={encoder.d_model}")
        self.encoder, self.heads, self.integration = encoder, heads, integration
        self.bias_gain = 1.0 if scaled else (encoder.d_model / heads) ** 0.25  # e^q and e^k take half each
        self.projections = nn.ModuleList(nn.Linear(encoder.d_model, 2 * encoder.d_model) for _ in range(1 if shared_projection else layers))
        self.prefix = nn.Parameter(torch.empty(prefix, encoder.d_model).normal_(std=0.02)) if prefix else None
        for projection in self.projections:
            nn.init.normal_(projection.weight, std=projection_std)
            nn.init.constant_(projection.bias, projection_bias)

    def prepare(self, positions: Tensor, vectors: Tensor | tuple[Tensor, Tensor] | None = None, device: torch.device | None = None) -> list[tuple[Tensor, Tensor]]:
        """(E^q, E^k) for each W_PE, both (H, L, d_head) or (B, H, L, d_head).

        ``vectors`` may also be (S, L, d_model) of S different contexts and int64 (B,), which of them
        each sequence has: then each is projected once.
        """
        which = None
        if isinstance(vectors, tuple):
            vectors, which = vectors
        if vectors is None:
            vectors = self.encoder(positions) if torch.is_grad_enabled() else self.encoder.lookup(positions)
        if self.prefix is not None:
            vectors = torch.cat([self.prefix.expand(*vectors.shape[:-2], -1, -1), vectors], dim=-2)
        prepared = []
        for projection in self.projections:
            projected = projection(vectors) if which is None else projection(vectors).index_select(0, which)
            prepared.append(tuple(part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in projected.chunk(2, dim=-1)))
        return prepared

    def transform(self, q, k, prepared, layer):
        e_q, e_k = prepared[layer % len(prepared)]
        if self.integration == "sum":
            return q + e_q, k + e_k
        if self.integration == "mul":
            return q * e_q, k * e_k
        e_q, e_k = (self.bias_gain * e.to(q).expand_as(q) for e in (e_q, e_k))
        return torch.cat([q, e_q], -1), torch.cat([k, e_k], -1)
