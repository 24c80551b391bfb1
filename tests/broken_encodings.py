"""Encodings that are wrong in one way each, as people write them; and one that is right."""

import torch
from torch import nn

from seqpe_lab import ALiBi, PositionEncoding, Sinusoidal


class Waves(PositionEncoding):
    """Right: adds a wave over the positions to queries and keys."""

    def prepare(self, positions, vectors=None, device=None):
        return positions[..., 0].float()[..., None, :, None]  # ((B,) 1, L, 1)

    def transform(self, q, k, prepared, layer):
        wave = (0.3 * prepared).sin()
        return (q + wave).to(q.dtype), (k + wave).to(k.dtype)


class OffByOneAfterACache(Waves):
    def at_layer(self, prepared, hidden, layer, past_keys=None, real=None):
        return prepared if past_keys is None else prepared - 1


class StaleCache(Waves):
    """Keeps what it prepared for a length, whatever the positions are."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def prepare(self, positions, vectors=None, device=None):
        return self.kept.setdefault(positions.shape, super().prepare(positions))


class StaleTable(Waves):
    """Keeps a table that it computed from its parameter, also when the parameter changes."""

    def __init__(self):
        super().__init__()
        self.speed, self.table = nn.Parameter(torch.tensor(0.3)), None

    def prepare(self, positions, vectors=None, device=None):
        if self.table is None:
            self.table = self.speed.detach() * torch.arange(200_000.0)
        return self.table[positions[..., 0]][..., None, :, None]


class UnsavedNumbers(Waves):
    """Its random numbers are no part of the weights."""

    def __init__(self):
        super().__init__()
        self.speed = torch.rand(())

    def prepare(self, positions, vectors=None, device=None):
        return super().prepare(positions) * self.speed


class LooksAhead(Waves):
    """Each key holds something of the next token."""

    def at_layer(self, prepared, hidden, layer, past_keys=None, real=None):
        return prepared + hidden[:, None, :, :1].roll(-1, 2)


class LooksAheadInScores(PositionEncoding):
    """Scores depend on how many keys there are, allowed or not."""

    def content_bias(self, q, k, query_positions, key_positions, allowed, layer):
        return (0.1 * k.cumsum(-2)[..., -1:, :] * k).sum(-1).unsqueeze(-2)


class CountsFromTheEnd(Waves):
    def prepare(self, positions, vectors=None, device=None):
        return super().prepare(positions.amax(-2, keepdim=True) - positions)


class CountsByItself(Waves):
    """Takes 0, 1, 2, ... in place of the positions."""

    def prepare(self, positions, vectors=None, device=None):
        return super().prepare(torch.arange(positions.shape[-2]).unsqueeze(-1))


class OneForAll(Waves):
    """Takes the first sequence's positions for the whole batch."""

    def prepare(self, positions, vectors=None, device=None):
        return super().prepare(positions[0] if positions.dim() == 3 else positions)


class RefusesBatches(Waves):
    def prepare(self, positions, vectors=None, device=None):
        length, _ = positions.shape
        return super().prepare(positions)


class Overflows(Waves):
    def transform(self, q, k, prepared, layer):
        return q, k * prepared.exp()


class CallsItselfRelative(PositionEncoding):
    relative = True

    def bias(self, query_positions, key_positions, layer):
        pairs = (0.3 * query_positions.unsqueeze(-2) - 0.2 * key_positions.unsqueeze(-3)).sin()
        return pairs.movedim(-1, -3).expand(*pairs.shape[:-3], 2, *pairs.shape[-3:-1])


class TwoAtOnce(ALiBi):
    """Leaves an absolute encoding on beside its own, which shows in no pass."""

    def embed(self, x, positions, context):
        return Sinusoidal().embed(x, positions, context)


class AnglesInBfloat16(Waves):
    """Positions that bfloat16 cannot tell apart, wherever it is used."""

    def prepare(self, positions, vectors=None, device=None):
        exact = super().prepare(positions)
        mixed = torch.is_autocast_enabled("cpu")
        return exact.bfloat16().float() if mixed else exact
