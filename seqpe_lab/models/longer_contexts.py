"""A language model trained with RoPE, in contexts longer than those it was trained on."""
from __future__ import annotations

import copy
import dataclasses
from typing import Any

from seqpe_lab.encodings import RoPE, make_encoding
from seqpe_lab.models.gpt2 import GPT2

SCALINGS = ("rope", "rope-pi", "rope-ntk", "rope-dynamic", "rope-yarn")


def with_scaling(model: GPT2, scaling: str, max_position: int | None = None,
                 **options: Any) -> GPT2:
    """A copy of the model whose RoPE is scaled; its weights are the same.

    Args:
        model: trained with RoPE, or the result of an earlier call.
        scaling: one of ``SCALINGS``; "rope" takes a scaling away.
        max_position: of the copy, exclusive; by default the model's.
        options: of the scaling, such as ``factor``. Without a factor each context gets the one
            that it needs. The model's own base and pairing are kept.

    Raises:
        TypeError: no GPT2, or an option that the scaling does not have.
        ValueError: a model with another encoding; another scaling; a base or pairing.

    >>> import torch
    >>> from seqpe_lab.models.gpt2 import GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=10, d_model=8, layers=1, heads=2, train_len=16,
    ...                         encoding="rope")).eval()
    >>> longer, tokens = with_scaling(model, "rope-yarn"), torch.randint(10, (1, 32))
    >>> torch.equal(longer(tokens[:, :16]), model(tokens[:, :16]))
    True
    >>> torch.equal(longer(tokens), model(tokens))
    False
    """
    if not isinstance(model, GPT2):
        raise TypeError(f"expected a GPT2 of this package, got {type(model).__name__}")
    config = model.config
    if config.encoding not in SCALINGS or not isinstance(model.encoding, RoPE):
        raise ValueError(f"the model was trained with encoding {config.encoding!r}: only RoPE's "
                         "frequencies can be scaled afterwards")
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: choose from {', '.join(SCALINGS)}")
    if fixed := sorted({"base", "pairing"} & set(options)):
        raise ValueError(f"the weights were trained with their own {' and '.join(fixed)}: leave "
                         "that out")
    options = {"base": model.encoding.base, "pairing": model.encoding.pairing} | options
    longer = copy.deepcopy(model)
    longer.config = dataclasses.replace(config, encoding=scaling, encoding_options=options,
                                        max_position=max_position or config.max_position)
    longer.encoding = make_encoding(scaling, d_model=config.d_model, heads=config.heads,
                                    layers=config.layers, train_shape=config.train_len, **options)
    return longer
