"""Load weights saved under other parameter names: GPT-2's, timm's and the SeqPE authors'."""
from __future__ import annotations

import re

import torch
from torch import Tensor, nn

# names in the authors' position encoder, and in ours
ENCODER_NAMES = [
    (r"pos_of_seqpe_embed\.weight", "place.weight"),
    (r"dim_of_seqpe_embed\.weight", "dimension.weight"),
    (r"dim_token_embed", "dimension.weight"),  # (n, 1, d) in their vision models
    (r"layernorm\.(\w+)", r"ln_f.\1"),
    (r"out_proj\.(\w+)", r"out.\1"),
    (r"transformers\.(\d+)\.layernorm_([12])\.(\w+)", r"blocks.\1.ln_\2.\3"),
    (r"transformers\.(\d+)\.attn\.c_attn\.(\w+)", r"blocks.\1.qkv.\2"),
    (r"transformers\.(\d+)\.attn\.c_proj\.(\w+)", r"blocks.\1.proj.\2"),
    (r"transformers\.(\d+)\.mlp\.c_fc\.(\w+)", r"blocks.\1.mlp.0.\2"),
    (r"transformers\.(\d+)\.mlp\.c_proj\.(\w+)", r"blocks.\1.mlp.2.\2"),
]


def load_exactly(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` into ``module``; every name and shape must match.

    Raises:
        ValueError: listing all names that are unknown, missing or of another shape.
    """
    own = module.state_dict()
    problems = [f"unknown: {name}" for name in weights if name not in own]
    problems += [f"missing: {name}" for name in own if name not in weights]
    problems += [f"shape of {name}: {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
                 for name in own if name in weights and weights[name].shape != own[name].shape]
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(f"{source} does not fit this {type(module).__name__}:\n  {listed}")
    module.load_state_dict(weights)


def load_published(model: nn.Module, model_weights: dict[str, Tensor],
                   encoder_weights: dict[str, Tensor] | None = None) -> None:
    """Load a GPT-2 of the SeqPE authors' released checkpoints.

    Args:
        model: a :class:`~seqpe_lab.models.gpt2.GPT2` of the same shape and encoding.
        model_weights: "transformer.h.0.attn.c_attn.weight", "transformer.pe_qk.weight", ...
        encoder_weights: "token_of_seqpe_embed.weight", "transformers.0.attn.c_attn.weight", ...;
            only SeqPE has them.

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed.
    """
    ours = {}
    for name, value in model_weights.items():
        if name == "lm_head.weight":  # GPT-2 ties it to wte
            if not torch.equal(value, model_weights.get("transformer.wte.weight", value)):
                raise ValueError("lm_head.weight differs from transformer.wte.weight, "
                                 "but GPT-2 ties the two")
            continue
        name = re.sub(r"^transformer\.pe_qk\.", "encoding.projections.0.", name)
        name = re.sub(r"^transformer\.h\.(\d+)\.attn\.pe_qk\.", r"encoding.projections.\1.", name)
        name = re.sub(r"^transformer\.wpe\.weight$", "encoding.table.weight", name)
        ours[name] = value
    for name, value in published_encoder(encoder_weights or {}).items():
        ours["encoding.encoder." + name] = value
    load_exactly(model, ours, "the published checkpoint")


def published_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' position encoder under our names; unknown names are kept as they are."""
    ours = {}
    for name, value in weights.items():
        if name in ("token_of_seqpe_embed.weight", "cls_token_embed"):
            continue
        for pattern, replacement in ENCODER_NAMES:
            if re.fullmatch(pattern, name):
                renamed = re.sub(pattern, replacement, name)
                if re.search(r"c_(attn|proj|fc)\.weight$", name):  # stored (in, out)
                    value = value.T.contiguous()
                ours[renamed] = value.flatten(1) if name == "dim_token_embed" else value
                break
        else:
            ours[name] = value
    if {"token_of_seqpe_embed.weight", "cls_token_embed"} <= weights.keys():
        cls = weights["cls_token_embed"].view(1, -1)
        ours["token.weight"] = torch.cat([weights["token_of_seqpe_embed.weight"], cls])
    return ours


def load_gpt2(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load GPT-2's own weights: "wte.weight", "h.0.attn.c_attn.weight", ...

    With ``encoding="learned"`` and train_len=1024 the result is GPT-2 itself; with any other
    encoding the position table "wpe.weight" is left out and the encoding keeps its own weights.

    Args:
        model: a :class:`~seqpe_lab.models.gpt2.GPT2` of the same shape.
        weights: the names may begin with "transformer.".

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed.
    """
    ours = {}
    for name, value in weights.items():
        name = name.removeprefix("transformer.")
        if name == "lm_head.weight" or re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name):
            continue  # tied; buffers of the causal mask
        if name == "wpe.weight":
            if model.config.encoding == "learned":
                ours["encoding.table.weight"] = value
            continue
        ours["transformer." + name] = value
    if model.config.encoding != "learned":
        ours |= _own_encoding(model)
    load_exactly(model, ours, "the GPT-2 checkpoint")


def load_timm(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a timm ViT's own weights ("blocks.0.attn.qkv.weight", ..., "pos_embed").

    With ``encoding="learned"`` the result is timm's model itself, at any image size; with any other
    encoding "pos_embed" is left out and the encoding keeps its own weights. timm always adds the
    same position vectors to [CLS] and registers, so they are added to these tokens here.

    Args:
        model: a :class:`~seqpe_lab.models.vit.ViT` of the same shape.
        weights: a timm model's ``state_dict()``.

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed.
    """
    ours = {"vit." + name: value for name, value in weights.items() if name != "pos_embed"}
    ours |= _own_encoding(model)
    if model.config.encoding == "learned" and "pos_embed" in weights:
        table = weights["pos_embed"][0]
        prefix = len(table) - model.encoding.table.num_embeddings
        own = [name for name in ("vit.cls_token", "vit.reg_token") if name in ours]
        for name in own if prefix > 0 else []:  # timm's no_embed_class has rows for patches only
            count = ours[name].shape[1]
            ours[name] = ours[name] + table[:count]
            table = table[count:]
        ours["encoding.table.weight"] = table
    load_exactly(model, ours, "the timm checkpoint")


def load_published_vit(model: nn.Module, model_weights: dict[str, Tensor],
                       encoder_weights: dict[str, Tensor] | None = None) -> None:
    """Load a ViT of the SeqPE authors' released checkpoints.

    Args:
        model: a :class:`~seqpe_lab.models.vit.ViT` of the same shape and encoding.
        model_weights: timm's names, and "pe_qk.weight" or "blocks.0.attn.pe_qk.weight",
            "cls_token_pos_embed".
        encoder_weights: SeqPE's position encoder, or "freqs" of mixed RoPE, (2, layers, d_model/2),
            columns first.

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed.
    """
    ours = {}
    for name, value in model_weights.items():
        if name == "cls_token_pos_embed":
            ours["encoding.prefix"] = value[0]
            continue
        renamed = re.sub(r"^pe_qk\.", "encoding.projections.0.", name)
        renamed = re.sub(r"^blocks\.(\d+)\.attn\.pe_qk\.", r"encoding.projections.\1.", renamed)
        ours[renamed if renamed != name else "vit." + name] = value
    encoder_weights = dict(encoder_weights or {})
    if "freqs" in encoder_weights:
        ours["encoding.frequency"] = encoder_weights.pop("freqs").unflatten(-1, (model.heads, -1))
    ours |= {"encoding.encoder." + name: value
             for name, value in published_encoder(encoder_weights).items()}
    load_exactly(model, ours, "the published checkpoint")


def _own_encoding(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model's encoding, under their names in the model."""
    return {name: value for name, value in model.state_dict().items()
            if name.startswith("encoding.")}
