"""A lookup table of position vectors for inference (SeqPE, Sec. 3.5), which cannot go stale."""
from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.digits import check_positions
from seqpe_lab.encoder import PositionEncoder

MAX_TABLE = 2**20  # positions that a table may hold


class PositionTable:
    """Looks up position vectors without gradient, and encodes only what it does not have.

    With every call the encoder's parameters and buffers are compared with a copy of those that the
    table was computed from, name by name and number by number. Whatever changed them (an optimizer,
    loading, moving, a parametrization, a hand-written update through ``.data``), the next call
    computes afresh.

    Args:
        encoder: of the positions.

    >>> encoder = PositionEncoder(d_model=8, digits=3, heads=2)
    >>> table = PositionTable(encoder)
    >>> torch.allclose(table(torch.tensor([[7], [123]])), encoder(torch.tensor([[7], [123]])))
    True
    >>> len(table)                                        # it holds 0..123
    124
    """

    def __init__(self, encoder: PositionEncoder):
        self.encoder = encoder
        self._sizes = [0] * encoder.dims
        self._vectors: Tensor | None = None  # (size_0 * ... * size_{n-1}, d)
        self._weights: dict[str, Tensor] = {}  # those that the vectors were computed from

    def __len__(self) -> int:
        return 0 if self._vectors is None else len(self._vectors)

    @torch.no_grad()
    def __call__(self, positions: Tensor) -> Tensor:
        """The vectors of positions (..., n): (..., d_model), as the encoder in evaluation mode.

        The table grows by doubling. Positions that it cannot hold are encoded. Errors as in
        :meth:`seqpe_lab.encoder.PositionEncoder.forward`.
        """
        encoder = self.encoder
        positions = check_positions(positions, encoder.dims).cpu()
        if positions.numel() == 0 or (encoder.training and encoder.dropout):
            return encoder(positions)
        needed = [int(m) + 1 for m in positions.reshape(-1, encoder.dims).amax(0)]
        limit = encoder.base**encoder.digits
        if max(needed) > limit or math.prod(needed) > MAX_TABLE:
            return encoder(positions)  # raises if too large; a far corner needs no whole grid
        fresh, vectors = self._is_fresh(), self._vectors
        if vectors is None or not fresh or any(n > s for n, s in zip(needed, self._sizes)):
            doubled = [max(n, min(2 * size, limit)) for n, size in zip(needed, self._sizes)]
            both = [max(n, size) for n, size in zip(needed, self._sizes)]
            options = (doubled, both, needed) if fresh else (needed,)
            self._sizes = next(s for s in options if math.prod(s) <= MAX_TABLE)
            self._vectors = vectors = encoder.table(*self._sizes)
            self._weights = {name: t.detach().clone() for name, t in self._current()}
        row = positions[..., 0]
        for size, place in zip(self._sizes[1:], positions.unbind(-1)[1:]):
            row = row * size + place
        return F.embedding(row.to(vectors.device), vectors)

    def _is_fresh(self) -> bool:
        old, current = self._weights, list(self._current())
        return self._vectors is not None and len(old) == len(current) and all(
            name in old and old[name].dtype == new.dtype and old[name].device == new.device
            and torch.equal(old[name], new) for name, new in current)

    def _current(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.encoder.named_parameters()
        yield from self.encoder.named_buffers()
