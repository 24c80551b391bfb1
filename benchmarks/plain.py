"""SeqPE and GPT-2 written plainly, straight from the paper: what the library is measured against.

Every occurrence of a position is encoded, as a whole digit sequence (Eq. 8); the position bias
E^q E^k^T is an L x L matrix for each head, which is added to q k^T before an explicit mask and
softmax (Eq. 3, 14). The weights are those of a library model, so both sides must give the same
numbers. Nothing here is slow on purpose: the bias, scaled and masked, is built once for all layers.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.recipes import Recipe
from seqpe_lab.sampling import contrastive_sample, distillation_sample
from seqpe_lab.training import main_positions


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T + bias) v for q already scaled: (..., H, L, d_head) and (..., L, L) -> (..., L, H * d_head)."""
    weights = (q @ k.transpose(-1, -2) + bias).softmax(-1)
    return (weights @ v).transpose(-3, -2).flatten(-2)


def causal_mask(length: int) -> Tensor:
    """0 up to the diagonal, -inf above it."""
    return torch.full((length, length), -torch.inf).triu(1)


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """(..., L, parts * d) -> ``parts`` tensors (..., H, L, d_head)."""
    return [part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in x.chunk(parts, -1)]


def encode(encoder: PositionEncoder, positions: Tensor) -> Tensor:
    """Each position as a sequence of digits and [CLS]: int64 (P,) -> (P, d_model). One dimension."""
    k, base = encoder.digits, encoder.base
    digits = torch.stack([positions // base**place % base for place in reversed(range(k))], dim=-1)  # (P, k)
    x = encoder.token(digits) + encoder.place.weight
    x = torch.cat([x, encoder.token.weight[base].expand(len(x), 1, -1)], dim=1)  # (P, k + 1, d): [CLS] comes last
    mask = causal_mask(k + 1)
    for block in encoder.blocks:
        q, key, v = split_heads(block.qkv(block.ln_1(x)), 3, block.heads)
        x = x + block.proj(softmax_attention(q / q.shape[-1] ** 0.5, key, v, mask))
        x = x + block.mlp(block.ln_2(x))
    return encoder.out(encoder.ln_f(x[:, -1]))


def logits(model: GPT2, tokens: Tensor, vectors: Tensor) -> Tensor:
    """GPT-2 with SeqPE's bias.

    Args:
        tokens: int64 (B, L).
        vectors: of their positions, (L, d_model), the same for all sequences.

    Returns:
        (B, L, vocab_size).
    """
    heads = model.config.heads
    e_q, e_k = split_heads(model.encoding.projections[0](vectors), 2, heads)  # (H, L, d_head)
    scale = e_q.shape[-1] ** -0.5
    bias = scale * e_q @ e_k.transpose(-1, -2) + causal_mask(len(vectors))  # (H, L, L)
    x = model.transformer.wte(tokens)
    for block in model.transformer.h:
        q, k, v = split_heads(block.attn.c_attn(block.ln_1(x)), 3, heads)
        x = x + block.attn.c_proj(softmax_attention(scale * q, k, v, bias))
        x = x + block.mlp(block.ln_2(x))
    return F.linear(model.transformer.ln_f(x), model.transformer.wte.weight)


def training_losses(model: GPT2, recipe: Recipe, tokens: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The three losses of a step and their sum (Eq. 15), each with encoder calls of its own.

    ``generator`` is asked in the library's order, so that both sides see the same positions. All
    sequences of a step stand at the same positions (``shift_unit="batch"``).
    """
    encoder = model.encoding.encoder
    positions = main_positions(recipe, tokens.shape[1] - 1, generator)[0]  # (L, 1)
    contrast = contrastive_sample(recipe.pivots, recipe.candidates, recipe.max_position, base=encoder.base, hard=recipe.hard,
                                  hard_share=recipe.hard_share, local=recipe.local, generator=generator)
    distil = distillation_sample(recipe.distillation_batch, recipe.teachers, recipe.train_len, recipe.max_position, generator=generator)

    def vectors(positions: Tensor) -> Tensor:  # (..., 1) -> (..., d_model)
        return encode(encoder, positions.flatten()).unflatten(0, positions.shape[:-1])

    losses = {"main": F.cross_entropy(logits(model, tokens[:, :-1], vectors(positions)).flatten(0, 1), tokens[:, 1:].flatten())}
    both = vectors(torch.cat([contrast.pivots.unsqueeze(1), contrast.candidates], dim=1))  # (B, 1 + m, d_model)
    losses["contrastive"] = contrastive_loss(both[:, 0], both[:, 1:], contrast.label)
    with torch.no_grad():  # no gradient flows into the teachers
        teachers = vectors(distil.teachers)
    losses["distillation"] = distillation_loss(teachers, vectors(distil.students), recipe.heads)
    losses["loss"] = losses["main"] + recipe.alpha * losses["contrastive"] + recipe.beta * losses["distillation"]
    return losses
