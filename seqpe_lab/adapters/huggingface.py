"""A position encoding in a decoder of Hugging Face transformers: GPT-2 and models like Llama.

    >>> import torch
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from seqpe_lab.adapters.huggingface import install
    >>> from seqpe_lab.encodings import make_encoding
    >>> config = GPT2Config(vocab_size=50, n_embd=16, n_head=2, n_layer=2, n_positions=32)
    >>> seqpe = make_encoding("seqpe", d_model=16, heads=2, layers=2, train_shape=32)
    >>> model = install(GPT2LMHeadModel(config), seqpe)  # or one loaded with from_pretrained
    >>> tokens = torch.randint(50, (2, 100))             # longer than n_positions
    >>> model(tokens, labels=tokens).loss.backward()     # also trains the encoder
    >>> model.eval().generate(tokens, max_new_tokens=3, pad_token_id=0).shape
    torch.Size([2, 103])

The encoding becomes ``model.base_model.position_encoding``: it moves, trains and is saved with the
model. To load what ``save_pretrained`` wrote, build the model from its config, install an encoding
made with the same options, and ``safetensors.torch.load_model(model, "folder/model.safetensors")``.

Positions are transformers' ``position_ids``: ``generate`` counts them from the attention mask, a
forward pass from 0 unless they are given. Keys are transformed once, before they enter the cache.
So an encoding that widens keys widens the cache, and under grouped-query attention the cache holds
keys and values for every query head.
"""
from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from seqpe_lab.adapters import check_fit
from seqpe_lab.attention import prepare
from seqpe_lab.encodings.base import PositionEncoding

try:
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import sdpa_mask

    from seqpe_lab.adapters.huggingface_attention import attention, before_attention
except ImportError as error:
    raise ImportError("transformers 5 is missing: pip install 'seqpe_lab[adapters]'") from error

NAME = "seqpe_lab"  # in transformers' registries of attention and mask functions
# by model type: the attributes with its position module, its blocks, and a block's attention
PARTS = {"gpt2": ("wpe", "h", "attn")} | dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3"), ("rotary_emb", "layers", "self_attn"))


def install(model: PreTrainedModel, encoding: PositionEncoding) -> PreTrainedModel:
    """Make ``encoding`` the only source of position of ``model``, which is returned.

    A second call replaces the encoding. Raises TypeError or ValueError where ``model`` is of no
    type in ``PARTS``, or ``encoding`` was not made for its layers and heads.
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"expected a model of transformers, got {type(model).__name__}")
    base, config = model.base_model, model.config
    if config.model_type not in PARTS:
        raise ValueError(f"{type(model).__name__} has type {config.model_type}: choose one of type "
                         f"{', '.join(PARTS)}, or call the encoding in its attention yourself")
    own, blocks, name = PARTS[config.model_type]
    layers = [getattr(block, name) for block in getattr(base, blocks)]
    scaled = all(layer.scaling == layer.head_dim**-0.5 for layer in layers)
    if not scaled or getattr(config, "add_cross_attention", False):
        raise ValueError("encodings need self-attention scaled by 1/sqrt(d_head): leave scale_attn_"
                         "... and add_cross_attention of the model's config at their defaults")
    check_fit(encoding, torch.arange(3).unsqueeze(-1), 3, d_model=config.hidden_size,
              heads=config.num_attention_heads, d_head=layers[0].head_dim, layers=len(layers))
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # without it padding would not be masked
    model.set_attn_implementation(NAME)
    if not hasattr(base, "position_encoding"):
        setattr(base, own, _NoPositions())
        base.register_forward_pre_hook(_before_decoder, with_kwargs=True)
        for layer in layers:
            layer.register_forward_pre_hook(before_attention, with_kwargs=True)
    base.position_encoding = encoding.to(base.device)
    return model


class _NoPositions(nn.Module):
    """In place of GPT-2's table (adds 0) or Llama's rotary embedding (cosine 1, sine 0)."""
    def forward(self, x: Tensor, position_ids: Tensor | None = None):
        zero = x.new_zeros(1, 1, 1)
        return zero if position_ids is None else (zero + 1, zero)


def _before_decoder(base: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Give the embeddings their positions, and every layer what ``prepare`` returns."""
    if base.config._attn_implementation != NAME or kwargs.get("output_attentions"):
        raise ValueError("positions are lost without this adapter's attention, which returns no "
                         "weights: call install again, and leave output_attentions=False")
    kwargs = dict(zip(inspect.signature(base.forward).parameters, args)) | kwargs
    ids, x = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
    if (ids is None) == (x is None):
        raise ValueError("give either input_ids or inputs_embeds")
    encoding, tokens = base.position_encoding, x[..., 0] if ids is None else ids
    position_ids = kwargs.get("position_ids")
    cache = kwargs.get("cache", kwargs.get("past_key_values"))
    past = 0 if cache is None else int(cache.get_seq_length())
    if past and getattr(encoding, "follows_context", False):
        raise ValueError(f"{type(encoding).__name__} depends on the length of the context, and "
                         "cached keys are those of a shorter one: give it a fixed `factor` "
                         "(rope-dynamic has none), or use_cache=False")
    if position_ids is None:  # count as the model does; on the CPU, to avoid a device sync
        position_ids = torch.arange(past, past + tokens.shape[-1]).unsqueeze(0)
    positions = position_ids.unsqueeze(-1)  # (B or 1, L, 1)
    if type(encoding).embed is not PositionEncoding.embed:
        x = base.get_input_embeddings()(ids) if x is None else x
        positions = positions.to(x.device)
        ends = (positions.flatten(1).amax(1) + 1).tolist()  # of each sequence
        x = (encoding.embed(x, positions, ends[0]) if len(set(ends)) == 1 else
             encoding.embed_each(x, positions, ends)).to(x.dtype)
        kwargs |= {"input_ids": None, "inputs_embeds": x}
    prepared = prepare(encoding, positions, None, tokens.device)
    return (), kwargs | {"positions": (encoding, prepared)}
