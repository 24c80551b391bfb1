"""No position encoding, and with it the interface that every other encoding fills in."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PositionEncoding(nn.Module):
    """NoPE: tells the model nothing (SeqPE, Sec. 2). Each method overrides what it needs.

    A model calls ``embed`` once on its token embeddings, ``prepare`` once a forward pass, and
    ``transform`` in every layer, on queries and keys, right before plain attention. So no
    encoding ever sees, let alone builds, an L x L matrix.

    Some models put tokens without a place on the grid before the others ([CLS] of a vision
    transformer): an encoding that transforms queries and keys is told their number, ``prefix``, and
    ``prepare`` puts their rows before those of the positions.
    """

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Add what depends on the position to the token embeddings.

        Args:
            x: (B, L, d_model).
            positions: int64 (L, n) for all sequences alike, or (B, L, n).
            context: size of the whole context, start included: tokens, or (rows, columns) of a grid;
                only an interpolated table needs it.

        Returns:
            (B, L, d_model).
        """
        return x

    def prepare(self, positions: Tensor, vectors: Tensor | None = None, device: torch.device | None = None) -> Any:
        """Compute what all layers share.

        Args:
            positions: int64 (L, n) or (B, L, n).
            vectors: position vectors (..., d_model) where the caller has encoded them already
                (training encodes those of the losses in the same call).
            device: where queries and keys are; positions themselves may stay on the CPU.
        """
        return None

    def transform(self, q: Tensor, k: Tensor, prepared: Any, layer: int) -> tuple[Tensor, Tensor]:
        """Give queries and keys their positions.

        Args:
            q, k: (B, H, L, d_head).
            prepared: what ``prepare`` returned.
            layer: number of the layer, from 0.

        Returns:
            q and k, both (B, H, L, width) with width >= d_head. The softmax scale stays
            1/sqrt(d_head) of the head as it was.
        """
        return q, k
