"""One attention layer of a Hugging Face decoder with an encoding, and its cache.

Keys are transformed before they are cached, with the positions they have at that time.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from seqpe_lab.attention import Located, attend
from seqpe_lab.encodings.base import PositionEncoding
from seqpe_lab.pair_bias import Bias, Places, bias_between


def before_attention(attention: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Hook of an attention module: give it a :class:`PositionedLayer` in place of its cache.

    ``kwargs["positions"]`` holds the encoding and what :func:`~seqpe_lab.attention.prepare`
    returned; from here on it holds the layer.
    """
    name = "cache" if "cache" in kwargs else "past_key_values"  # as earlier versions call it
    cache, index = kwargs.get(name), attention.layer_idx
    encoding, prepared = kwargs["positions"]
    asks = isinstance(prepared, Located) or type(encoding).at_layer is not PositionEncoding.at_layer
    past = int(cache.get_seq_length(index)) if asks and cache is not None else 0
    keys = cache.layers[index].keys[:, :, :past] if past else None
    of_queries = of_keys = None
    if isinstance(prepared, Located):
        prepared, of_queries = prepared
        of_keys = cache.of_keys.cut(0, past).then(of_queries) if past else of_queries
        if cache is not None:
            cache.of_keys = of_keys  # the same in every layer
    hidden = args[0] if args else kwargs["hidden_states"]
    prepared = encoding.at_layer(prepared, hidden, index, keys)
    layer = PositionedLayer(attention, encoding, prepared, cache, of_queries, of_keys)
    return args, kwargs | {"positions": layer, name: None if cache is None else layer}


@dataclass
class PositionedLayer:
    """The encoding of one attention layer; it also stands in for the layer's cache, if any.

    Attributes:
        prepared: what the encoding's ``at_layer`` returned.
        cache: of transformers, or None.
        of_queries, of_keys: their places if the encoding adds a bias, else None.
    """
    attention: nn.Module
    encoding: PositionEncoding
    prepared: Any
    cache: Any
    of_queries: Places | None
    of_keys: Places | None

    def bias(self, context: int) -> Bias | None:
        if self.of_keys is None:
            return None
        known = self.of_keys.positions.shape[-2]
        # a sliding window keeps the last keys; a cache of fixed size has free places, masked
        of_keys = self.of_keys.cut(max(0, known - context), max(known, context))
        return bias_between(self.encoding, self.attention.layer_idx, self.of_queries, of_keys,
                            context)

    def transform(self, q: Tensor, k: Tensor) -> list[Tensor]:
        both = self.encoding.transform(q, k, self.prepared, self.attention.layer_idx)
        return [x.to(q.dtype) for x in both]

    def each_head(self, x: Tensor) -> Tensor:  # keys or values, shared by groups of query heads
        return x.repeat_interleave(getattr(self.attention, "num_key_value_groups", 1), dim=1)

    def update(self, k: Tensor, v: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        k = self.each_head(k)
        return self.cache.update(self.transform(k, k)[1], self.each_head(v), *args, **kwargs)


def attention(module, q, k, v, mask, dropout=0.0, scaling=None, positions=None, **kwargs):
    """An attention function of transformers' registry.

    Args:
        q, k, v: (B, H, L, d_head) and (B, H or fewer, context, d_head or wider).
        mask: bool (B, 1, L, context), False for keys that are not seen; None: causal.
        positions: the :class:`PositionedLayer`.

    Returns:
        (B, L, H, d_head), and None in place of the attention weights.
    """
    if positions is None:  # another model with the same config object
        return sdpa_attention_forward(module, q, k, v, mask, dropout, scaling, **kwargs)
    if positions.cache is None:
        (q, k), v = positions.transform(q, positions.each_head(k)), positions.each_head(v)
    else:  # keys were transformed before they were cached
        q, _ = positions.transform(q, q)
    if bias := positions.bias(k.shape[-2]):
        out = attend(q, k, v, dropout, mask is None, mask, bias)
        return out.transpose(1, 2), None
    wide = F.pad(v, (0, q.shape[-1] - v.shape[-1]))  # fused kernels need one width
    out = F.scaled_dot_product_attention(q, k, wide, mask, dropout, scale=scaling,
                                         is_causal=mask is None and q.shape[2] > 1)
    return out[..., :v.shape[-1]].transpose(1, 2), None
