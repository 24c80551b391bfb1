"""An encoding in forty lines that knows nothing of the package but its interface.

The bias of a pair falls with the logarithm of its distance, with a strength of each head that the
hidden state may turn up or down (a number per query, so it goes into the query as a feature).
"""

import torch
from torch import nn

from seqpe_lab import PositionEncoding


class Fading(PositionEncoding):
    relative = True

    def __init__(self, heads, layers, d_model, strength=0.5):
        super().__init__()
        self.strength = nn.Parameter(torch.full((layers, heads, 1, 1), float(strength)))
        self.mood = nn.ModuleList(nn.Linear(d_model, heads) for _ in range(layers))

    def at_layer(self, prepared, hidden, layer, past_keys=None, real=None):
        mood = self.mood[layer]
        return mood(hidden.to(mood.weight.dtype)).transpose(1, 2).unsqueeze(-1)  # (B, H, L, 1)

    def transform(self, q, k, prepared, layer):
        return q * (1 + prepared).to(q.dtype), k

    def bias(self, query_positions, key_positions, layer):
        gap = query_positions.unsqueeze(-2) - key_positions.unsqueeze(-3)  # (..., l, L, n)
        distance = gap.float().norm(dim=-1).unsqueeze(-3)
        return -self.strength[layer] * distance.log1p()
