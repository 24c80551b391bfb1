"""What the geometry explorer measures of a run's position vectors."""
from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.explorers import shipped_models
from seqpe_lab.geometry import similarity
from seqpe_lab.recipes import Training

MOST_CELLS = 400  # the most rows of a heatmap: more cannot be distinguished


def recipe_of(method: str) -> Training:
    """The recipe of a run."""
    return shipped_models.recipe(shipped_models.kind_of_table(method), method)


def provenance(method: str) -> str:
    return shipped_models.provenance(shipped_models.kind_of_table(method), method)


def stride(count: int) -> int:
    """A heatmap of ``count`` positions draws every ``stride``-th of them."""
    return 1 + (count - 1) // MOST_CELLS


@functools.lru_cache(maxsize=512)
def measures(method: str, step: int, positions: int, kind: str) -> dict[str, float]:
    """The library's measures of a position space, of the first ``positions`` vectors."""
    vectors = shipped_models.tables(method)[step][:positions]
    drawn = vectors[::stride(positions)]  # a rank correlation of 600,000 pairs takes too long
    rho = geometry.distance_correlation(drawn, kind=kind)  # nan where all similarities are equal
    return {"correlation": 0.0 if math.isnan(rho) else rho,
            "confusion": geometry.lexical_confusion(vectors, digits_of(method), kind=kind),
            **geometry.collapse(vectors, shift=10)}


def digits_of(method: str) -> int:
    return recipe_of(method).encoding_options.get("digits", 5)


@functools.lru_cache(maxsize=128)
def path_of(method: str, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """:func:`principal_path` of the first positions."""
    return principal_path(shipped_models.tables(method)[step][:count])


def principal_path(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The three directions along which positions differ most (PCA): (N, 3), and their shares (3,).

    Each axis points from the first position to the last; shares are of the variance.
    """
    u, s, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    coordinates = u[:, :3] * s[:3]
    flip = torch.where(coordinates[-1] < coordinates[0], -1.0, 1.0)  # the same way with every step
    shares = s[:3].square() / s.square().sum().clamp(min=1e-30)
    return (coordinates * flip).numpy(), shares.numpy()


@functools.lru_cache(maxsize=512)
def curve(method: str, step: int, first: int, end: int, kind: str) -> np.ndarray:
    """:func:`by_distance` of the positions from ``first`` to ``end``."""
    return by_distance(similarity(shipped_models.tables(method)[step][first:end], kind=kind))


def by_distance(table: Tensor) -> np.ndarray:
    """Similarity of all pairs that lie z apart, (3, N): mean, lower and upper tenth, for each z.

    The tenths are values that occur (nearest rank) in the symmetric ``table``, (N, N).

    >>> by_distance(torch.tensor([[1.0, 0.5], [0.5, 1.0]])).tolist()
    [[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]
    """
    pairs = [np.sort(np.diagonal(table.numpy(), z)) for z in range(len(table))]
    return np.array([(p.mean(), p[round(0.1 * (len(p) - 1))], p[round(0.9 * (len(p) - 1))])
                     for p in pairs]).T
