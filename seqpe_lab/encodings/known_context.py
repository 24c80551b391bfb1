"""For encodings that depend on the length of the whole context: who knows it, and how it is kept.

A model tells ``embed`` how long the context will be when it is complete. That matters when keys
are cached: those of the first tokens must already be computed for the final length.
"""
from __future__ import annotations

from torch import Tensor

from seqpe_lab.encodings.base import PositionEncoding


class KnowsContext(PositionEncoding):
    """Keeps the context that ``embed`` was given for the ``prepare`` of the same positions."""
    _given: tuple[Tensor, tuple[int, ...]] | None = None

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Adds nothing."""
        self._given = positions, (context,) if isinstance(context, int) else tuple(context)
        return x

    def context_of(self, positions: Tensor) -> tuple[int, ...]:
        """The size of the context in each dimension: up to the last position at least.

        Args:
            positions: integers (..., n), at least one. Where ``embed`` did not get this very
                tensor before, the context ends with the last position.

        >>> import torch
        >>> encoding, first = KnowsContext(), torch.arange(5).unsqueeze(-1)
        >>> encoding.context_of(first)
        (5,)
        >>> _ = encoding.embed(torch.zeros(1, 5, 8), first, context=64)   # 59 more will follow
        >>> encoding.context_of(first)
        (64,)
        """
        given = self._given
        sizes = given[1] if given and given[0] is positions else (0,) * positions.shape[-1]
        last = positions.flatten(0, -2).amax(0).cpu().tolist()
        return tuple(max(size, place + 1) for size, place in zip(sizes, last))
