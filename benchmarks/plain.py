"""SeqPE and GPT-2 written plainly, straight from the paper: what the library is measured against.

Every occurrence of a position is encoded, as a whole digit sequence (Eq. 8). The position bias
E^q E^k^T is an L x L matrix for each head (Eq. 14), built once, because the layers share W_PE. In
each layer it is added to q k^T; then come the division by sqrt(d_head), the mask and the softmax
(Eq. 3). The weights are those of a library model, so both sides must give the same numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import alibi_slopes
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.objective import main_positions
from seqpe_lab.recipes import Recipe
from seqpe_lab.sampling import contrastive_sample, distillation_sample


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Causal softmax((q k^T + bias) / sqrt(d_head)) v.

    (..., H, L, d_head) and a bias (..., L, L) -> (..., L, H * d_head).
    """
    scores = (q @ k.transpose(-1, -2) + bias) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return (weights @ v).transpose(-3, -2).flatten(-2)


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """(..., L, parts * d) -> ``parts`` tensors (..., H, L, d_head)."""
    return [part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in x.chunk(parts, -1)]


def encode(encoder: PositionEncoder, positions: Tensor) -> Tensor:
    """Each position as a sequence of digits and [CLS]: int64 (..., 1) -> (..., d_model)."""
    k, base = encoder.digits, encoder.base
    digits = (
        torch.cat([positions // base**place % base for place in reversed(range(k))], dim=-1)
        .flatten(0, -2)
        .to(encoder.token.weight.device)
    )  # (P, k)
    x = encoder.token(digits) + encoder.place.weight
    x = torch.cat(
        [x, encoder.token.weight[base].expand(len(x), 1, -1)], dim=1
    )  # (P, k + 1, d_model): [CLS] comes last
    for block in encoder.blocks:
        x = x + block.proj(attention(*split_heads(block.qkv(block.ln_1(x)), 3, block.heads)))
        x = x + block.mlp(block.ln_2(x))
    return encoder.out(encoder.ln_f(x[:, -1])).unflatten(0, positions.shape[:-1])


def logits(model: GPT2, tokens: Tensor, vectors: Tensor) -> Tensor:
    """GPT-2 with SeqPE's bias.

    Args:
        tokens: int64 (B, L).
        vectors: of their positions, (B, L, d_model), or (L, d_model) if all sequences share them.

    Returns:
        (B, L, vocab_size).
    """
    e_q, e_k = split_heads(model.encoding.projections[0](vectors), 2, model.config.heads)
    return biased_logits(model, tokens, e_q @ e_k.transpose(-1, -2))


def alibi_bias(model: GPT2, length: int) -> Tensor:
    """-m (i - j) of Eq. 5 and 6, times sqrt(d_head), by which attention() divides: (H, L, L)."""
    weight, heads = model.transformer.wte.weight, model.config.heads
    place = torch.arange(length, device=weight.device, dtype=torch.float32)
    slopes = alibi_slopes(heads).to(weight.device) * (model.config.d_model / heads) ** 0.5
    return slopes.view(-1, 1, 1) * (place - place.unsqueeze(1))


def biased_logits(model: GPT2, tokens: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """GPT-2 with ((B,) H, L, L) added to its scores in every layer; 0 is NoPE.

    (B, L) -> (B, L, vocab_size).
    """
    heads = model.config.heads
    x = model.transformer.wte(tokens)
    for block in model.transformer.h:
        x = x + block.attn.c_proj(
            attention(*split_heads(block.attn.c_attn(block.ln_1(x)), 3, heads), bias)
        )
        x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x)), approximate="tanh"))
    return F.linear(model.transformer.ln_f(x), model.transformer.wte.weight)


def training_losses(
    model: GPT2, recipe: Recipe, tokens: Tensor, generator: torch.Generator, thrifty: bool = False
) -> dict[str, Tensor]:
    """The three losses of a step and their sum (Eq. 15), each with encoder calls of its own.

    Args:
        tokens: int64 (B, train_len + 1).
        generator: is asked in the library's order, so that both sides see the same positions.
        thrifty: encode the positions of the text once if all sequences stand at the same.
    """
    encoder = model.encoding.encoder
    positions = main_positions(recipe, generator)  # (B, L, 1); (L, 1) where none is shifted
    if not thrifty:
        positions = positions.expand(len(tokens), -1, -1)
    contrast = contrastive_sample(
        recipe.pivots,
        recipe.candidates,
        recipe.max_position,
        base=encoder.base,
        hard=recipe.hard,
        hard_share=recipe.hard_share,
        local=recipe.local,
        generator=generator,
    )
    distil = distillation_sample(
        recipe.distillation_batch,
        recipe.teachers,
        recipe.train_len,
        recipe.max_position,
        generator=generator,
    )

    predicted = logits(model, tokens[:, :-1], encode(encoder, positions))
    main = F.cross_entropy(predicted.flatten(0, 1), tokens[:, 1:].flatten())
    del predicted
    both = encode(
        encoder, torch.cat([contrast.pivots.unsqueeze(1), contrast.candidates], dim=1)
    )  # (B, 1 + m, d_model)
    contrastive = contrastive_loss(both[:, 0], both[:, 1:], contrast.label.to(both.device))
    with torch.no_grad():  # no gradient flows into the teachers
        teachers = encode(encoder, distil.teachers)
    distillation = distillation_loss(teachers, encode(encoder, distil.students), recipe.heads)
    return {
        "main": main,
        "contrastive": contrastive,
        "distillation": distillation,
        "loss": main + recipe.alpha * contrastive + recipe.beta * distillation,
    }
