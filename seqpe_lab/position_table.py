"""A lookup table of position vectors for inference (SeqPE, Sec. 3.5) that cannot go stale."""
from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.digits import check_positions, grid_row
from seqpe_lab.encoder import PositionEncoder

MAX_TABLE = 2**20  # positions that a table may hold


class PositionTable:
    """Looks up position vectors, without gradient; positions not yet in the table are encoded.

    Every call compares the encoder's parameters and buffers, name by name and number by number,
    with a copy of those that the table was computed from. Whatever has changed them (an optimizer,
    loading, moving, a parametrization, a hand-written update through ``.data``), the table is then
    computed again.

    Args:
        encoder: whose vectors are looked up.

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
        self._vectors = torch.empty(0, encoder.d_model)  # (size_0 * ... * size_{n-1}, d)
        self._weights: dict[str, Tensor] = {}  # those that the vectors were computed from

    def __len__(self) -> int:
        return len(self._vectors)

    @torch.no_grad()
    def __call__(self, positions: Tensor) -> Tensor:
        """The vectors of positions (..., n): (..., d_model), the encoder's up to rounding.

        The table grows by doubling, up to MAX_TABLE positions; positions beyond it are encoded,
        and so are all while the encoder is training with dropout. Errors as in
        :meth:`seqpe_lab.encoder.PositionEncoder.forward`.
        """
        encoder = self.encoder
        if isinstance(positions, Tensor) and positions.is_floating_point():  # between the rows
            return encoder(positions)
        positions = check_positions(positions, encoder.dims).cpu()
        if positions.numel() == 0 or (encoder.training and encoder.dropout):
            return encoder(positions)
        needed = [int(m) + 1 for m in positions.reshape(-1, encoder.dims).amax(0)]
        limit = encoder.limit
        if max(needed) > limit or math.prod(needed) > MAX_TABLE:
            return encoder(positions)  # raises an error if a position is too large
        fresh = self._is_fresh()
        if not fresh or any(n > s for n, s in zip(needed, self._sizes)):
            doubled = [max(n, min(2 * size, limit)) for n, size in zip(needed, self._sizes)]
            both = [max(n, size) for n, size in zip(needed, self._sizes)]
            options = (doubled, both, needed) if fresh else (needed,)
            self._sizes = next(s for s in options if math.prod(s) <= MAX_TABLE)
            self._vectors = encoder.table(*self._sizes)
            self._weights = {name: t.detach().clone() for name, t in self._current()}
        rows = grid_row(positions, self._sizes).to(self._vectors.device)
        return F.embedding(rows, self._vectors)

    def _is_fresh(self) -> bool:
        """Whether the weights are still those of the table; an empty table counts as fresh."""
        old, current = self._weights, list(self._current())
        return not old or len(old) == len(current) and all(
            name in old and old[name].dtype == new.dtype and old[name].device == new.device
            and torch.equal(old[name], new) for name, new in current)

    def _current(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.encoder.named_parameters()
        yield from self.encoder.named_buffers()
