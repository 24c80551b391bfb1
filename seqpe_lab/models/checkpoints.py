"""Load weights saved under other parameter names: GPT-2's, timm's and the SeqPE authors'."""
from __future__ import annotations

import re

import torch
from torch import Tensor, nn

# the beginnings of names in the authors' models and position encoders, and in ours
PUBLISHED_NAMES = [
    (r"^(transformer\.)?pe_qk\.", "encoding.projections.0."),
    (r"^(?:transformer\.h|blocks)\.(\d+)\.attn\.pe_qk\.", r"encoding.projections.\1."),
    (r"^transformer\.wpe\.", "encoding.table."),
    (r"^cls_token_pos_embed$", "encoding.prefix"),
    (r"^freqs$", "encoding.frequency"),
    (r"^token_of_seqpe_embed\.", "encoding.encoder.token."),
    (r"^pos_of_seqpe_embed\.", "encoding.encoder.place."),
    (r"^(dim_of_seqpe_embed\.weight|dim_token_embed)$", "encoding.encoder.dimension.weight"),
    (r"^layernorm\.", "encoding.encoder.ln_f."),
    (r"^out_proj\.", "encoding.encoder.out."),
    (r"^transformers\.(\d+)\.layernorm_", r"encoding.encoder.blocks.\1.ln_"),
    (r"^transformers\.(\d+)\.attn\.c_attn\.", r"encoding.encoder.blocks.\1.qkv."),
    (r"^transformers\.(\d+)\.attn\.c_proj\.", r"encoding.encoder.blocks.\1.proj."),
    (r"^transformers\.(\d+)\.mlp\.c_fc\.", r"encoding.encoder.blocks.\1.mlp.0."),
    (r"^transformers\.(\d+)\.mlp\.c_proj\.", r"encoding.encoder.blocks.\1.mlp.2."),
]
MASK_BUFFER = r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"  # GPT-2's causal mask


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


def load_published(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a GPT-2 or a ViT of the SeqPE authors' released checkpoints.

    Args:
        model: a :class:`~seqpe_lab.models.gpt2.GPT2` or :class:`~seqpe_lab.models.vit.ViT` of the
            same shape and encoding.
        weights: the model's, "transformer.h.0.attn.c_attn.weight" or timm's names,
            "transformer.pe_qk.weight", ...; of its SeqPE "token_of_seqpe_embed.weight",
            "transformers.0.attn.c_attn.weight", ...; of its mixed RoPE "freqs", (2, layers,
            d_model/2), columns first.

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed.
    """
    weights, ours = dict(weights), {}
    output = weights.pop("lm_head.weight", None)
    if output is not None and not torch.equal(
            output, weights.get("transformer.wte.weight", output)):
        raise ValueError("lm_head.weight differs from transformer.wte.weight, "
                         "but GPT-2 ties the two")
    token, cls = "token_of_seqpe_embed.weight", "cls_token_embed"
    if {token, cls} <= weights.keys():
        weights[token] = torch.cat([weights[token], weights.pop(cls).view(1, -1)])
    for name, value in weights.items():
        if re.fullmatch(MASK_BUFFER, name):
            continue
        if re.match(r"transformers\..*\.c_(attn|proj|fc)\.weight$", name):  # stored (in, out)
            value = value.T.contiguous()
        elif name == "dim_token_embed":  # (n, 1, d)
            value = value.flatten(1)
        elif name == "cls_token_pos_embed":
            value = value[0]
        elif name == "freqs":
            value = value.unflatten(-1, (model.heads, -1))
        ours[_name_of_published(name, "vit." if hasattr(model, "vit") else "")] = value
    load_exactly(model, ours, "the published checkpoint")


def _name_of_published(name: str, prefix: str) -> str:
    """Our name of a published tensor; ``prefix`` is put before those of the model itself."""
    for pattern, replacement in PUBLISHED_NAMES:
        renamed, found = re.subn(pattern, replacement, name)
        if found:
            return renamed
    return prefix + name


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
        if name == "lm_head.weight" or re.fullmatch(MASK_BUFFER, name):
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


def _own_encoding(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model's encoding, under their names in the model."""
    return {name: value for name, value in model.state_dict().items()
            if name.startswith("encoding.")}
