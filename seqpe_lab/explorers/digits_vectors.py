"""The vectors that the digits explorer shows: of a trained encoder, and of one that is not."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.explorers import shipped_models

MOST_BASE, MOST_PLACES, WIDEST = 16, 17, 7  # of 99,999 in base 2; neighbours on each side
FEATURES = 6  # of the vectors shown
STRIP = FEATURES + 2  # rows of a strip of the picture; two are for labels
TRAINED = {1: ("text", "seqpe"), 2: ("image", "seqpe-mul")}  # dimensions: whose encoder


def is_taught(position: tuple[int, ...], base: int, k: int) -> bool:
    """Whether a trained encoder reads this position in this number system."""
    dims = len(position)
    return (dims in TRAINED and base == 10 and k == encoder(dims).digits
            and max(position) < reach(dims))


def reach(dims: int) -> int:
    """The first position that is none of the trained model's."""
    return shipped_models.recipe(*TRAINED[dims]).max_position


@functools.lru_cache
def encoder(dims: int, trained: bool = True) -> PositionEncoder:
    """The encoder of a shipped model, or one of the same shape that has learned nothing."""
    known = shipped_models.encoding(*TRAINED[dims]).encoder
    if trained:
        return known
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PositionEncoder(known.d_model, digits=known.digits, dims=dims, heads=known.heads)


@functools.lru_cache
def tables(name: str, dims: int) -> dict[str, np.ndarray]:
    """The first features of T (without [CLS]), of [CLS], O and D: (rows, FEATURES) each."""
    if name == "trained":
        known = encoder(dims)
        dimension = known.dimension.weight if known.dimension else torch.zeros(1, known.d_model)
        parts = (known.token.weight[:-1], known.token.weight[-1:], known.place.weight, dimension)
    else:
        sizes = (MOST_BASE, 1, MOST_PLACES, 3)
        parts = 0.02 * torch.randn(sum(sizes), FEATURES,
                                   generator=torch.Generator().manual_seed(0))
        parts = parts.split(sizes)
        if dims == 1:
            parts = (*parts[:3], torch.zeros_like(parts[3]))
    names = ("T", "CLS", "O", "D")
    return {name: part.detach()[:, :FEATURES].numpy() for name, part in zip(names, parts)}


def strip(name: str, tables: dict[str, np.ndarray], own: Sequence[int], k: int,
          dims: int) -> dict[str, Any]:
    """Four strips of features, one column for each token: T + O + D = U."""
    digits, nothing = own[:-1], np.zeros((1, FEATURES), np.float32)
    addends = [np.concatenate([tables["T"][digits], tables["CLS"]]),
               np.concatenate([np.tile(tables["O"][:k], (dims, 1)), nothing]),
               np.concatenate([np.repeat(tables["D"][:dims], k, 0), nothing])]
    addends.append(sum(addends))
    limit = 0.06 if name == "untrained" else float(max(np.abs(a).max() for a in addends))
    gap = np.full((2, len(own)), np.nan, np.float32)
    return {"name": name, "z": np.concatenate([part for a in addends for part in (gap, a.T)]),
            "low": -limit, "high": limit}


def index_of(position: Sequence[int], dims: int) -> int:
    """Row of a position in :func:`near`."""
    return int(sum(p * reach(dims) ** (dims - 1 - i) for i, p in enumerate(position)))


@functools.lru_cache
def near(name: str, dims: int, axis: int) -> np.ndarray:
    """Cosine of each position's vector and those up to WIDEST away, (N, 2 WIDEST + 1)."""
    sizes = [reach(dims)] * dims
    vectors = torch.nn.functional.normalize(encoder(dims, name == "trained").table(*sizes), dim=-1)
    moved = vectors.unflatten(0, sizes).movedim(axis, 0)  # the coordinate that moves comes first
    found = torch.full((*moved.shape[:-1], 2 * WIDEST + 1), torch.nan)
    for column, by in enumerate(range(-WIDEST, WIDEST + 1)):
        a, b = max(0, -by), reach(dims) - max(0, by)
        found[a:b, ..., column] = (moved[a:b] * moved[a + by:b + by]).sum(-1)
    return found.movedim(0, axis).flatten(0, dims - 1).numpy()
