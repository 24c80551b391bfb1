"""Load the paper authors' published checkpoints.

Every name and shape must match, and what the tensors do not determine must be in the configuration:
nothing is guessed.
"""
from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn

from seqpe_lab.models.checkpoints import load_published
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.published_files import Checkpoint, find, listed, read

INTEGRATION_NAMES = {"attn_scalar": "bias", "attn_mul": "mul", "attn_add": "sum"}
# what this library computes; any other value in a configuration raises an error
EXPECTED = {
    "PE_TYPE": "seq_pe", "USE_PE_MULTI_HEAD": True, "SEQPE_ACTIVATION_FUNCTION": "gelu_new",
    "SEQPE_MASK_PADDING": False, "SEQPE_SCALE_ATTN_WEIGHTS": True, "SEQPE_SCALAR_SCALE": 1.0,
    "SEQPE_TEMPERATURE": 1.0, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}


def load(source: str | Path, task: str = "lm", **settings) -> nn.Module:
    """Load a published model, in evaluation mode.

    Args:
        source, task: as in :func:`find`.
        settings: replace those of the configuration that are missing or wrong, under the same
            names, such as ``NUM_ATTENTION_HEADS=12``.

    Returns:
        :class:`~seqpe_lab.models.gpt2.GPT2` or :class:`~seqpe_lab.models.vit.ViT`, float32, on the
        CPU.

    Raises:
        ValueError: a model for another task, settings that are missing or that this library does
            not support, names or shapes that do not fit; all listed, with the files.
        FileNotFoundError, ConnectionError: as in :func:`find`.
    """
    folder = find(str(source), task)
    checkpoint = read(folder)
    checkpoint.settings.update(settings)
    kind = "image" if "patch_embed.proj.weight" in checkpoint.tensors else "lm"
    if kind != ("image" if task == "image" else "lm"):
        raise ValueError(f"{folder} holds a model of {'images' if kind == 'image' else 'text'}: "
                         f"say task {kind!r}, or give another folder")
    problems = [f"{key} is {checkpoint.settings[key]!r}, this library computes {value!r}"
                for key, value in EXPECTED.items() if checkpoint.settings.get(key, value) != value]
    if problems:
        raise ValueError(f"the settings of {folder} differ from what can be loaded:\n  "
                         + "\n  ".join(problems))
    try:
        model = (_make_vit if kind == "image" else _make_gpt2)(checkpoint)
        load_published(model, checkpoint.tensors)
    except ValueError as error:
        read_from = ", ".join(str(file.relative_to(folder)) for file in checkpoint.files)
        raise ValueError(f"{folder} cannot be loaded: {error}\nfiles read: {read_from}; in the "
                         f"folder: {listed(folder)}") from error
    return model.eval()


def position_table(model: nn.Module, *sizes: int) -> Tensor:
    """The position vectors of a published model, as :mod:`seqpe_lab.geometry` takes them.

    The paper's Fig. 2 shows the dot products of ``position_table(gpt2, 2_048)``, and Fig. 3 those
    of ``position_table(vit, 14, 14)``.

    Returns:
        float32 (sizes[0] * ..., d_model), row by row, on the CPU, without gradient.
    """
    return model.encoding.encoder.table(*sizes).float().cpu()


def _encoding_options(checkpoint: Checkpoint, digits: int) -> dict:
    method = checkpoint.setting("PE_APPLY_METHOD")
    if method not in INTEGRATION_NAMES:
        raise ValueError(f"PE_APPLY_METHOD {method!r} is none of {', '.join(INTEGRATION_NAMES)}")
    return {"integration": INTEGRATION_NAMES[method],
            "shared_projection": not any(".attn.pe_qk." in name for name in checkpoint.tensors),
            "digits": digits, "base": checkpoint.shape("token_of_seqpe_embed.weight")[0],
            "encoder_layers": checkpoint.layers(r"transformers\.(\d+)\."),
            "encoder_heads": checkpoint.setting("NUM_ATTENTION_HEADS"),
            "causal": checkpoint.settings.get("SEQPE_ATTN_DIRECTION", "causal") == "causal",
            "shared_places": checkpoint.shape("pos_of_seqpe_embed.weight")[0] == digits}


def _make_gpt2(checkpoint: Checkpoint) -> GPT2:
    vocabulary, d_model = checkpoint.shape("transformer.wte.weight")
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0]
    options = _encoding_options(checkpoint, digits)
    max_position = checkpoint.settings.get("PE_MAX_POSITION") or math.inf
    return GPT2(GPT2Config(
        vocabulary, d_model, checkpoint.layers(r"transformer\.h\.(\d+)\."),
        checkpoint.setting("n_head", "NUM_ATTENTION_HEADS"),
        max_position=min(max_position, options["base"]**digits), dropout=0.0, encoding="seqpe",
        encoding_options=options))


def _make_vit(checkpoint: Checkpoint) -> nn.Module:
    from seqpe_lab.models.vit import ViT, ViTConfig
    d_model, channels, patch, _ = checkpoint.shape("patch_embed.proj.weight")
    dims = checkpoint.shape("dim_token_embed")[0]
    # the published vision code has a row for each place of each dimension
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0] // dims
    options = _encoding_options(checkpoint, digits)
    size = (checkpoint.settings.get("IMG_SIZE") or 224) // patch * patch
    shape = dict(patch_size=patch, in_chans=channels, embed_dim=d_model,
                 depth=checkpoint.layers(r"blocks\.(\d+)\."),
                 num_heads=checkpoint.setting("NUM_HEADS"))
    return ViT(ViTConfig("vit_small_patch16_224", size, checkpoint.shape("head.weight")[0],
                         options["base"]**digits, "seqpe", options, shape))
