"""Measures of a position space: what a set of position vectors e_0 .. e_{N-1} looks like.

Everywhere ``vectors`` is float (N, d), row p the vector of position p.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.digits import digits_needed

KINDS = ("dot", "cosine")


def similarity(vectors: Tensor, others: Tensor | None = None, kind: str = "dot") -> Tensor:
    """All pairwise similarities, (N, M).

    Args:
        others: float (M, d); by default ``vectors`` themselves.
        kind: "dot", which the paper's Fig. 2 shows, or "cosine", in [-1, 1].

    Raises:
        ValueError: another kind.

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
    """The ``count`` most similar other positions of each position, int64 (N, count), best first.

    Raises:
        ValueError: a count outside [1, N - 1], or another kind of similarity.
    """
    if not 1 <= count < len(vectors):
        raise ValueError(f"count must lie in [1, {len(vectors) - 1}], got {count}")
    similarities = similarity(vectors, kind=kind).fill_diagonal_(-torch.inf)
    return similarities.topk(count, dim=1).indices


def is_digit_edit(p: int, q: int, digits: int, base: int = 10) -> bool:
    """Whether one edit of digits turns p into q.

    An edit replaces one digit or swaps two, padding included, or removes or adds one digit of the
    number as it is written without padding.

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
    """How often the most similar position only looks alike: a digit edit, but far away.

    Args:
        digits, base: k and b, as for :func:`is_digit_edit`.
        near: positions more than this far away count as far.

    Returns:
        The share of such positions, in [0, 1].

    >>> only_units = torch.eye(10)[torch.arange(40) % 10]        # 7, 17, 27, 37 look the same
    >>> lexical_confusion(only_units, digits=2)
    1.0
    """
    nearest = nearest_neighbours(vectors, kind)[:, 0].tolist()
    confused = [abs(p - q) > near and is_digit_edit(p, q, digits, base)
                for p, q in enumerate(nearest)]
    return sum(confused) / len(confused)


def neighbour_distance(vectors: Tensor, kind: str = "cosine") -> Tensor:
    """|p - q| for each position p and the position q that is most similar to it, int64 (N,)."""
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
    """Mean cosine of e_p and e_{p+z}, z = ``shift``, in [-1, 1].

    At 1 the vectors do not change when positions shift by z: the collapse of Sec. 3.4.

    Raises:
        ValueError: a shift outside [1, N - 1].
    """
    if not 1 <= shift < len(vectors):
        raise ValueError(f"the shift must lie in [1, {len(vectors) - 1}], got {shift}")
    return float(F.cosine_similarity(vectors[:-shift], vectors[shift:], dim=-1).mean())


def collapse(vectors: Tensor, shift: int) -> dict[str, float]:
    """Three signs of a collapse: shift_cosine and effective_rank near 1, spread near 0."""
    return {"shift_cosine": shift_cosine(vectors, shift),
            "effective_rank": effective_rank(vectors), "spread": spread(vectors)}


def distance_correlation(vectors: Tensor, window: int | None = None, kind: str = "cosine") -> float:
    """Spearman correlation of distance |p - q| and similarity, over pairs at most ``window`` apart.

    In [-1, 1]. At -1 a pair that is farther apart is always less similar; at 0 similarity and
    distance are unrelated. By default all pairs count.
    """
    similarities = similarity(vectors, kind=kind)
    p, q = torch.triu_indices(len(vectors), len(vectors), offset=1)
    keep = (q - p) <= (window or len(vectors))
    p, q = p[keep], q[keep]
    ranks = torch.stack([_ranks((q - p).double()), _ranks(similarities[p, q].double())])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts + 1) / 2)[inverse]


def _digits(number: int, base: int) -> list[int]:
    """The digits of a number as it is written, without padding."""
    return [number // base**j % base for j in reversed(range(digits_needed(number, base)))]
