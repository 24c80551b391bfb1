"""For encodings that depend on the length of the whole context: who knows it, and how it is kept.

A model tells ``embed`` how long the context will be when it is complete. That matters when keys
are cached: those of the first tokens must already be computed for the final length.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqpe_lab.encodings.base import PositionEncoding


class KnowsContext(PositionEncoding):
    """Keeps the context that ``embed`` was given for the ``prepare`` of the same positions."""
    _given: tuple[Tensor, list[tuple[int, ...]]] | None = None

    @property
    def follows_context(self) -> bool:
        """Whether keys that were computed in one context are wrong in a longer one."""
        return True

    def embed(self, x: Tensor, positions: Tensor, context: int | tuple[int, ...]) -> Tensor:
        """Adds nothing."""
        self._given = positions, [(context,) if isinstance(context, int) else tuple(context)]
        return x

    def embed_each(self, x: Tensor, positions: Tensor, contexts: Sequence[int]) -> Tensor:
        """Adds nothing."""
        self._given = positions, [(context,) for context in contexts]
        return x

    def contexts_of(self, positions: Tensor) -> list[tuple[int, ...]]:
        """The size of the context in each dimension: up to the last position at least.

        One for all sequences, or one for each where they were given so.

        Args:
            positions: integers (..., n), at least one. Where ``embed`` did not get this very
                tensor before, the context ends with the last position.

        >>> import torch
        >>> encoding, first = KnowsContext(), torch.arange(5).unsqueeze(-1)
        >>> encoding.contexts_of(first)
        [(5,)]
        >>> _ = encoding.embed(torch.zeros(1, 5, 8), first, context=64)   # 59 more will follow
        >>> encoding.contexts_of(first)
        [(64,)]
        """
        given = self._given
        known = given[1] if given and given[0] is positions else [(0,) * positions.shape[-1]]
        places = positions.cpu()
        if len(known) == 1:
            last = places.flatten(0, -2).amax(0, keepdim=True)
        else:
            last = places.amax(-2).expand(len(known), -1)  # of each sequence
        sizes = torch.maximum(torch.tensor(known), last + 1)
        return [tuple(size) for size in sizes.tolist()]
