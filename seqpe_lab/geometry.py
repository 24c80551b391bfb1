"""Measures of a position space: what a set of position vectors e_0 .. e_{N-1} looks like.

Everywhere ``vectors`` is float (N, d), row p the vector of position p.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("dot", "cosine")


def similarity(vectors: Tensor, others: Tensor | None = None, kind: str = "dot") -> Tensor:
    """All pairwise similarities, (N, M).

    Args:
        others: float (M, d); by default ``vectors`` themselves.
        kind: "dot", which the paper's Fig. 2 shows, or "cosine", in [-1, 1].

    >>> similarity(torch.tensor([[3., 0.], [0., 2.]]))
    tensor([[9., 0.],
            [0., 4.]])
    """
    if kind not in KINDS:
        raise ValueError(f"unknown similarity {kind!r}: choose from {', '.join(KINDS)}")
    others = vectors if others is None else others
    if kind == "cosine":
        vectors, others = F.normalize(vectors, dim=-1), F.normalize(others, dim=-1)
    return vectors @ others.T


def nearest_neighbours(vectors: Tensor, kind: str = "cosine", count: int = 1) -> Tensor:
    """The ``count`` most similar other positions of each position, int64 (N, count), best first."""
    if not 1 <= count < len(vectors):
        raise ValueError(f"count must lie in [1, {len(vectors) - 1}], got {count}")
    table = similarity(vectors, kind=kind).clone()
    table.fill_diagonal_(-torch.inf)
    return table.topk(count, dim=1).indices


def is_digit_edit(p: int, q: int, digits: int, base: int = 10) -> bool:
    """Whether one edit of digits turns p into q.

    An edit replaces one digit (padding included), swaps two, removes one or adds one.

    >>> is_digit_edit(100, 1000, digits=5), is_digit_edit(100, 123, digits=5)
    (True, False)
    """
    if p == q:
        return False
    written = [_digits(p, base), _digits(q, base)]
    padded = [[0] * (digits - len(w)) + w for w in written]
    differing = [(a, b) for a, b in zip(*padded) if a != b]
    if len(differing) == 1 or (len(differing) == 2 and differing[0] == differing[1][::-1]):
        return True
    short, long = sorted(written, key=len)
    one_less = (long[:i] + long[i + 1:] for i in range(len(long)))
    return len(long) == len(short) + 1 and short in one_less


def lexical_confusion(vectors: Tensor, digits: int, base: int = 10, near: int = 2,
                      kind: str = "cosine") -> float:
    """How often a position's nearest neighbour is a digit edit of it and no actual neighbour.

    Args:
        near: positions at most this far away are actual neighbours.

    Returns:
        A share in [0, 1]: 0 where every nearest neighbour is near or at least no look-alike.

    >>> only_units = torch.eye(10)[torch.arange(40) % 10]        # 7, 17, 27, 37 look the same
    >>> lexical_confusion(only_units, digits=2)
    1.0
    """
    nearest = nearest_neighbours(vectors, kind)[:, 0].tolist()
    confused = [abs(p - q) > near and is_digit_edit(p, q, digits, base)
                for p, q in enumerate(nearest)]
    return sum(confused) / len(confused)


def neighbour_distance(vectors: Tensor, kind: str = "cosine") -> Tensor:
    """|p - q| of each position p and its nearest neighbour q, int64 (N,)."""
    return (nearest_neighbours(vectors, kind)[:, 0] - torch.arange(len(vectors))).abs()


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007).

    It lies between 1 (all vectors parallel) and min(N, d).

    >>> round(effective_rank(torch.eye(4)), 3), round(effective_rank(torch.ones(4, 4)), 3)
    (4.0, 1.0)
    """
    values = torch.linalg.svdvals(vectors.double())
    shares = values / values.sum().clamp(min=1e-300)
    return float(torch.special.entr(shares).sum().exp())


def spread(vectors: Tensor) -> float:
    """RMS distance from the centroid over the RMS norm: 0 (one point) to 1 (centred at 0)."""
    centred = vectors - vectors.mean(0)
    distance, norm = (v.square().sum(-1).mean().sqrt() for v in (centred, vectors))
    return float(distance / norm.clamp(min=1e-30))


def shift_cosine(vectors: Tensor, shift: int) -> float:
    """Mean cosine of e_p and e_{p+z}; at 1 a shift by z cannot be seen, a collapse (Sec. 3.4)."""
    if not 1 <= shift < len(vectors):
        raise ValueError(f"the shift must lie in [1, {len(vectors) - 1}], got {shift}")
    return float(F.cosine_similarity(vectors[:-shift], vectors[shift:], dim=-1).mean())


def collapse(vectors: Tensor, shift: int) -> dict[str, float]:
    """Three signs of a collapse: shift_cosine and effective_rank near 1, spread near 0."""
    return {"shift_cosine": shift_cosine(vectors, shift),
            "effective_rank": effective_rank(vectors), "spread": spread(vectors)}


def distance_correlation(vectors: Tensor, window: int | None = None, kind: str = "cosine") -> float:
    """Spearman correlation of distance |p - q| and similarity, over pairs at most ``window`` apart.

    -1: the farther, the less similar, always; 0: similarity says nothing about distance.
    """
    table = similarity(vectors, kind=kind)
    p, q = torch.triu_indices(len(vectors), len(vectors), offset=1)
    keep = (q - p) <= (window or len(vectors))
    p, q = p[keep], q[keep]
    ranks = torch.stack([_ranks((q - p).double()), _ranks(table[p, q].double())])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts + 1) / 2)[inverse]


def _digits(number: int, base: int) -> list[int]:
    out = [number % base]
    while number >= base:
        number //= base
        out.append(number % base)
    return out[::-1]
