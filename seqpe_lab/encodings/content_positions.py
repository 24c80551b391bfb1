"""Positions that the content decides: CoPE counts chosen tokens, FoX forgets at a learned rate."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.encodings.base import PositionEncoding, register


@register("cope")
class CoPE(PositionEncoding):
    """CoPE (Golovneva et al. 2024): a position is how many tokens have been counted.

    g_ij = sigmoid(q_i.k_j / sqrt(d_head)) says how much key j counts for query i, and key j is at
    p_ij = g_ij + ... + g_ii. The bias is q_i.e[p_ij], where e is interpolated between its values at
    whole numbers, and a layer's e is shared by its heads. Only for causal models.

    Args:
        max_count: positions are limited to max_count - 1; the paper's is 64.
    """
    sequences_only = "CoPE counts the tokens of a sequence"

    def __init__(self, d_head: int, layers: int, max_count: int = 64):
        super().__init__()
        if max_count < 1:
            raise ValueError(f"max_count must be at least 1, got {max_count}")
        self.d_head, self.vectors = d_head, nn.Parameter(torch.zeros(layers, max_count, d_head))

    def content_bias(self, q: Tensor, k: Tensor, query_positions: Tensor, key_positions: Tensor,
                     allowed: Tensor, layer: int) -> Tensor:
        gates = (q @ k.transpose(-1, -2) / self.d_head**0.5).sigmoid() * allowed
        count = gates.flip(-1).cumsum(-1).flip(-1)  # of the keys from j to the last allowed
        count = count.clamp(max=self.vectors.shape[1] - 1)
        low = count.detach().floor()
        at_whole = q @ self.vectors[layer].T.to(q.dtype)  # (B, H, l, max_count)
        below = at_whole.gather(-1, low.long())
        above = at_whole.gather(-1, count.detach().ceil().long())
        return below + (count - low) * (above - below)


@register("fox")
class FoX(PositionEncoding):
    """FoX (Lin et al. 2025): adds log f_{j+1} + ... + log f_i for forget gates f.

    f_t = sigmoid(w.x_t + b) for each head, from the hidden state x. With c_t = log f_1 + ... +
    log f_t the bias is c_i - c_j, and c_i is the same for a whole row, so softmax does not notice
    it: one key feature, -c_j, does it all, in fused attention. In low precision the feature is
    split into three, which together keep float32's digits. Gates that are all e^-m make ALiBi.

    Args:
        d_head, heads, layers, d_model: of the main model.
        start: initial b; with 0 a gate starts at 1/2, larger values forget more slowly.
    """
    sequences_only = "FoX forgets along a causal sequence, which a grid does not have"

    def __init__(self, d_head: int, heads: int, layers: int, d_model: int, start: float = 0.0):
        super().__init__()
        self.d_head = d_head
        gates = [nn.Linear(d_model, heads) for _ in range(layers)]
        self.gates = nn.ModuleList(gates)
        for gate in gates:
            nn.init.normal_(gate.weight, std=0.02)
            nn.init.constant_(gate.bias, start)

    def at_layer(self, prepared: None, hidden: Tensor, layer: int,
                 past_keys: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        """-c of each token times sqrt(d_head), float32 (B, H, L, 1); it goes on after the cache.

        Padding forgets nothing.
        """
        gate = self.gates[layer]
        forgotten = -F.logsigmoid(gate(hidden.to(next(gate.parameters()).dtype)).float())
        if real is not None:
            forgotten = forgotten.masked_fill(~real.unsqueeze(-1), 0.0)
        total = forgotten.cumsum(1).transpose(1, 2).unsqueeze(-1) * self.d_head**0.5
        if past_keys is not None and past_keys.shape[-2]:
            last = past_keys[:, :, -1:, self.d_head:self.d_head + 3].float()
            total = total + last.sum(-1, keepdim=True)
        return total

    def transform(self, q: Tensor, k: Tensor, prepared: Tensor | None,
                  layer: int) -> tuple[Tensor, Tensor]:
        if prepared is None:
            raise TypeError("FoX's gates need the hidden state of the layer: call at_layer before "
                            "transform, or seqpe_lab.attention.positioned_attention for all of it")
        parts, rest = [], prepared
        for _ in range(3):
            parts.append(rest.to(k.dtype))
            rest = rest - parts[-1].float()
        fill = (0, -(self.d_head + 3) % 8)  # fused kernels require a multiple of 8 features
        one = F.pad(q.new_ones(*q.shape[:-1], 3), fill)
        return torch.cat([q, one], -1), torch.cat([k, F.pad(torch.cat(parts, -1), fill)], -1)
