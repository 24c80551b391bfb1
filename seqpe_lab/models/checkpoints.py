"""Load weights saved under other parameter names: GPT-2's, nanoGPT's, timm's, the authors'."""
from __future__ import annotations

import math
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
WRAPPERS = r"^((pe_model|module|_orig_mod|model)\.)+"  # of names: DDP, torch.compile, the authors'
TRANSPOSED = r".*\.c_(attn|proj|fc)\.weight"  # GPT-2 stores these (in, out), nn.Linear (out, in)


def load_exactly(module: nn.Module, weights: dict[str, Tensor], source: str,
                 remedy: str = "") -> None:
    """Copy ``weights`` into ``module``; every name and shape must match.

    Args:
        source, remedy: what the error calls the weights, and advises.

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
        raise ValueError(f"{source} does not fit this {type(module).__name__}:\n  {listed}{remedy}")
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
    weights, ours = _without_tied_output(weights), {}
    token, cls = "token_of_seqpe_embed.weight", "cls_token_embed"
    if {token, cls} <= weights.keys():
        weights[token] = torch.cat([weights[token], weights.pop(cls).view(1, -1)])
    for name, value in weights.items():
        if re.fullmatch(MASK_BUFFER, name):
            continue
        if re.fullmatch(r"transformers\." + TRANSPOSED, name):
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


def _without_tied_output(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without an output layer that repeats the token embeddings, as GPT-2's does."""
    weights = dict(weights)
    output = weights.pop("lm_head.weight", None)
    name = next((name for name in weights if name.endswith("wte.weight")), None)
    if output is not None and name is not None and not torch.equal(output, weights[name]):
        raise ValueError(f"lm_head.weight differs from {name}, but GPT-2 ties the two: a model "
                         "with an output layer of its own cannot be loaded")
    return weights


def load_gpt2(model: nn.Module, weights: dict) -> None:
    """Load the weights of a GPT-2: "wte.weight", "h.0.attn.c_attn.weight", ..., or nanoGPT's.

    With ``encoding="learned"`` and train_len=1024 the result is GPT-2 itself; with any other
    encoding the position table "wpe.weight" is left out and the encoding keeps its own weights.
    nanoGPT's layers are nn.Linear, whose weights are transposed here, and may have no biases, which
    are then 0. Its GELU is exact: make the model with ``gelu="none"``.

    Args:
        model: a :class:`~seqpe_lab.models.gpt2.GPT2` of the same shape.
        weights: by name; the names may begin with "transformer." or, after torch.compile,
            "_orig_mod.". Or nanoGPT's checkpoint, a dictionary that holds them under "model".

    Raises:
        ValueError: an output layer of its own; parameters that are unknown, missing or of another
            shape, all listed.
    """
    weights = weights["model"] if isinstance(weights.get("model"), dict) else weights
    weights = {re.sub(WRAPPERS, "", name).removeprefix("transformer."): value
               for name, value in weights.items()}
    weights = {name: value for name, value in _without_tied_output(weights).items()
               if not re.fullmatch(MASK_BUFFER, name)}
    first = weights.get("h.0.attn.c_attn.weight")  # (d, 3d), or (3d, d) in nn.Linear
    if first is not None and first.shape[0] > first.shape[-1]:
        weights = {name: value.T if re.fullmatch(TRANSPOSED, name) else value
                   for name, value in weights.items()}
    table = weights.pop("wpe.weight", None)
    ours = {"transformer." + name: value for name, value in weights.items()}
    if not any(name.endswith(".bias") for name in ours):
        ours |= {name: torch.zeros_like(value) for name, value in model.state_dict().items()
                 if name.startswith("transformer.") and name.endswith(".bias")}
    if model.config.encoding != "learned":
        ours |= _own_encoding(model)
    elif table is not None:
        ours["encoding.table.weight"] = table
    load_exactly(model, ours, "the GPT-2 checkpoint")


def load_timm(model: nn.Module, weights: dict[str, Tensor], *,
              resample: bool | tuple[int, int] = False, new_head: bool = False) -> None:
    """Load a timm ViT's own weights ("blocks.0.attn.qkv.weight", ..., "pos_embed").

    With ``encoding="learned"`` the result is timm's model itself, at any image size; with any other
    encoding "pos_embed" is left out and the encoding keeps its own weights. timm always adds the
    same position vectors to [CLS] and registers, so they are added to these tokens here.

    Args:
        model: a :class:`~seqpe_lab.models.vit.ViT` of the same shape.
        weights: a timm model's ``state_dict()``.
        resample: interpolate the table of a model of another image size to this model's grid, by
            timm's own function. True takes its grid to be square, else give its (rows, columns).
        new_head: keep this model's own output layer, for other classes.

    Raises:
        ValueError: parameters that are unknown, missing or of another shape, all listed; nothing to
            resample.
    """
    learned = model.config.encoding == "learned"
    if resample and not (learned and "pos_embed" in weights):
        raise ValueError("resample has no effect without a table in the weights and in the model "
                         f"(encoding {model.config.encoding!r}): leave it out")
    ours = {"vit." + name: value for name, value in weights.items() if name != "pos_embed"}
    ours |= _own_encoding(model)
    if new_head:
        ours = {name: value for name, value in ours.items() if not name.startswith("vit.head.")}
        ours |= model.vit.head.state_dict(prefix="vit.head.")
    if learned and "pos_embed" in weights:
        own = [name for name in ("vit.cls_token", "vit.reg_token") if name in ours]
        counts = [ours[name].shape[1] for name in own]
        table, prefix = weights["pos_embed"], sum(counts)
        if resample:
            prefixes = (0, prefix) if model.vit.no_embed_class else (prefix, 0)
            table, prefix = _resampled(table, prefixes, resample, model.train_grid)
        elif table.shape[1] <= model.encoding.table.num_embeddings:
            prefix = 0  # timm's no_embed_class has rows for patches only
        if prefix:
            for name, part in zip(own, table[0].split([*counts, table.shape[1] - prefix])):
                ours[name] = ours[name] + part
        ours["encoding.table.weight"] = table[0, prefix:]
    load_exactly(model, ours, "the timm checkpoint",
                 "\nfor another image size there is resample=True, for other classes new_head=True")


def _resampled(table: Tensor, prefixes: tuple[int, int], grid: bool | tuple[int, int],
               new: tuple[int, int]) -> tuple[Tensor, int]:
    """A table of timm for another grid, and how many rows stand before those of its patches.

    Args:
        table: (1, prefix + rows * columns, d).
        prefixes: with and without prefix tokens, the likelier first.
        grid: its (rows, columns), or True for a square.
    """
    from timm.layers import resample_abs_pos_embed
    # 5 x 5 patches and [CLS] before 4 x 6 have 25 rows both: only a named grid says which
    for before in prefixes[:1] if grid is True else prefixes:
        patches = table.shape[1] - before
        old = (math.isqrt(max(0, patches)),) * 2 if grid is True else tuple(grid)
        if math.prod(old) == patches > 0:
            return resample_abs_pos_embed(table, list(new), list(old), before), before
    raise ValueError(f"pos_embed has {table.shape[1]} rows, which are no grid "
                     f"{'that is square' if grid is True else f'of {tuple(grid)} patches'}, with "
                     f"or without {max(prefixes)} rows before it: give resample=(rows, columns)")


def _own_encoding(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model's encoding, under their names in the model."""
    return {name: value for name, value in model.state_dict().items()
            if name.startswith("encoding.")}
