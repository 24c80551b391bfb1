"""Any position encoding of this package in a model of another library: ``huggingface``, ``timm``.

Each module has one function, ``install(model, encoding)``. The libraries are optional and imported
only by their own module: ``pip install 'seqpe_lab[adapters]'``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.attention import positioned_attention, prepare
from seqpe_lab.encodings.base import PositionEncoding


def check_fit(encoding: PositionEncoding, positions: Tensor, context: int | tuple[int, ...], *,
              d_model: int, heads: int, d_head: int, layers: int, prefix: int = 0) -> None:
    """Run ``encoding`` on zeros of a model's shape, so that errors come before the model changes.

    Args:
        positions: int64 (L, n), as the model will give them.
        context: tokens, or (rows, columns) of the grid, that contain the positions.
        d_model, heads, d_head, layers: of the model; d_head may differ from d_model/heads.
        prefix: tokens before the positions ([CLS]).

    Raises:
        TypeError: ``encoding`` is not a :class:`PositionEncoding`.
        ValueError: it was made for a model of another shape; says what failed.

    >>> from seqpe_lab.encodings import make_encoding
    >>> alibi = make_encoding("alibi", d_model=8, heads=2, layers=1, train_shape=16)
    >>> check_fit(alibi, torch.tensor([[0], [1]]), 2, d_model=8, heads=4, d_head=2, layers=1)
    Traceback (most recent call last):
    ValueError: ALiBi does not fit 1 layers of 4 heads of 2, d_model=8: ...
    """
    if not isinstance(encoding, PositionEncoding):
        raise TypeError(f"expected a PositionEncoding, got {type(encoding).__name__}: "
                        "make one with seqpe_lab.encodings.make_encoding")
    like = next(encoding.parameters(), torch.zeros(()))  # for its device and dtype
    x = like.new_zeros(1, len(positions), d_model)
    q = like.new_zeros(1, heads, prefix + len(positions), d_head)
    try:
        if encoding.embed(x, positions.to(x.device), context).shape != x.shape:
            raise ValueError("it changes the shape of the embeddings")
        prepared = prepare(encoding, positions, None, x.device)
        hidden = F.pad(x, (0, 0, prefix, 0))
        for layer in range(layers):
            out, _ = positioned_attention(encoding, prepared, layer, hidden, q, q, q)
            if out.shape != q.shape:
                raise ValueError("it changes the number of queries or keys")
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        after = f", {prefix} tokens before the positions" if prefix else ""
        raise ValueError(f"{type(encoding).__name__} does not fit {layers} layers of {heads} heads "
                         f"of {d_head}, d_model={d_model}{after}: {error}") from error
