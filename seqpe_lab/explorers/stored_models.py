"""Models as arrays that a script in a browser reads (models.js, attention.js, collapse.js).

GPT-2, ViT and the position encoder get the same names of parameters, and linear maps are (out, in).
Only what attention needs is kept: not the last layer's output, nor the classifier.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqpe_lab.encodings import (ALiBi, Learned, MixedRoPE, PositionEncoding, RoPE, SeqPE,
                                 Sinusoidal, alibi_slopes, resample_grid)
from seqpe_lab.models.gpt2 import GPT2

RENAMED = tuple((re.compile(pattern), new) for pattern, new in (  # in this order
    (r"^(transformer\.h|vit\.blocks)", "blocks"), (r"\.(attn\.c_attn|attn\.qkv)\.", ".qkv."),
    (r"\.(attn\.c_proj|attn\.proj)\.", ".proj."), (r"\.mlp\.(c_fc|fc1|0)\.", ".up."),
    (r"\.mlp\.(c_proj|fc2|2)\.", ".down."), (r"\.norm([12])\.", r".ln_\1."),
    (r"^transformer\.wte\.weight$", "token"), (r"^vit\.cls_token$", "cls"),
    (r"^vit\.patch_embed\.proj", "patch"), (r"^encoding\.table\.weight$", "table"),
    (r"^encoding\.", ""), (r"^(encoder\.(token|place|dimension))\.weight$", r"\1")))
TURNED = re.compile(r"\.c_(attn|proj|fc)\.weight$")  # GPT-2 stores these as (in, out)
UNUSED = re.compile(r"^(transformer\.ln_f|vit\.norm|vit\.head|frequency|log_r)")


def weights(parameters: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Parameters under the scripts' names, float16 (rows, columns) each."""
    kept = {}
    for name, tensor in parameters.items():
        tensor = tensor.detach().T if TURNED.search(name) else tensor.detach()
        for pattern, new in RENAMED:
            name = pattern.sub(new, name)
        if not UNUSED.match(name):
            rows = tensor.shape[-2] if tensor.dim() == 2 else tensor.shape[0]
            kept[name] = tensor.reshape(rows if tensor.dim() > 1 else 1, -1).half().numpy()
    return kept


def stored_model(model: nn.Module, sides: Sequence[int] = ()) -> dict[str, Any]:
    """A model for attention.js.

    Args:
        model: a :class:`GPT2` or :class:`ViT <seqpe_lab.models.vit.ViT>`, whose weights are
            exact in half precision.
        sides: of an image model: patches a side for which a learned table is resampled.

    Raises:
        ValueError: an encoding that the script does not have.
    """
    is_text, encoding = isinstance(model, GPT2), model.encoding
    layers = len(model.transformer.h if is_text else model.vit.blocks)
    heads = model.config.heads if is_text else model.heads
    last = re.compile(rf"blocks\.{layers - 1}\.(?!ln_1|qkv)")
    kept = {name: array for name, array in weights(model.state_dict()).items()
            if not last.match(name)}
    for side in sides if isinstance(encoding, Learned) else ():
        table = resample_grid(encoding.table.weight, encoding.train_shape, (side, side))
        kept[f"table.{side}"] = table.detach().numpy()
    more = {} if is_text else {"patch": model.patch}
    return dict(kind="text" if is_text else "image", heads=heads, layers=layers,
                eps=1e-5 if is_text else model.vit.blocks[0].norm1.eps, exact=not is_text,
                encoding=describe(encoding, layers, heads), weights=kept, **more)


def describe(encoding: PositionEncoding, layers: int, heads: int, longest: int = 64
             ) -> dict[str, Any]:
    """An encoding as plain values for attention.js; ValueError if the script does not have it."""
    if type(encoding) is PositionEncoding:
        return {"kind": "none"}
    if isinstance(encoding, Sinusoidal):
        return {"kind": "sinusoidal"}
    if isinstance(encoding, Learned):
        return {"kind": "learned"}
    if isinstance(encoding, ALiBi):
        gain = encoding.gain / encoding.d_head**0.5
        return {"kind": "alibi", "slopes": (alibi_slopes(heads) * gain).tolist()}
    if type(encoding) is RoPE and encoding.pairing == "interleaved":
        one = torch.eye(2 if encoding.prefix else 1, dtype=torch.long)
        each = encoding.angles(one)  # of one step along each dimension
        return {"kind": "rotary", "frequency": [[each.tolist()]]}
    if isinstance(encoding, MixedRoPE) and not encoding.as_published:
        frequency = encoding.frequency.flip(0).permute(1, 2, 0, 3)  # (layers, H, n, pairs)
        return {"kind": "rotary", "frequency": frequency.tolist()}
    if isinstance(encoding, SeqPE) and not encoding.interpolate:
        inner = encoding.encoder
        if inner.gru is None and not (inner.decimals or inner.least_first) \
                and inner.place.num_embeddings == inner.digits:
            return dict(kind="seqpe", integration=encoding.integration, gain=encoding.bias_gain,
                        projections=len(encoding.projections), digits=inner.digits,
                        base=inner.base, heads=inner.heads, layers=len(inner.blocks))
    if encoding.relative:
        query, keys = torch.tensor([[longest]]), torch.arange(2 * longest + 1).unsqueeze(-1)
        with torch.no_grad():
            table = [encoding.bias(query, keys, layer)[:, 0].tolist() for layer in range(layers)]
        return {"kind": "difference", "most": longest, "table": table}
    raise ValueError(f"{type(encoding).__name__} does not run in the browser: there are NoPE, "
                     "learned, sinusoidal, RoPE, ALiBi, SeqPE and biases of differences")
