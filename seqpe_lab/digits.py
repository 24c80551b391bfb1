"""Positions as digit sequences (SeqPE, Sec. 3.2 and App. A.1).

A position of n integers is written as n groups of k digits in base b, most significant digit
first, padded with zeros on the left. Digits of the same place value therefore always stand at
the same place of the sequence:

    (2, 3), k=2, b=10   ->   0 2 0 3          (the paper's Fig. 1)
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_positions(positions: Tensor, dims: int | None = None) -> Tensor:
    """Return ``positions`` as int64, or raise an error that says what is wrong with them.

    Args:
        positions: integer tensor (..., n), 0-based; for images rows before columns.
        dims: the n that is expected; None accepts any.

    Returns:
        int64, of the same shape.

    Raises:
        TypeError: not a tensor of integers.
        ValueError: no axis of coordinates, another n than ``dims``, or a negative position.
    """
    if not isinstance(positions, Tensor):
        raise TypeError(f"positions must be an integer tensor (..., n), got "
                        f"{type(positions).__name__}: use torch.tensor([[7]])")
    if not is_integer(positions):
        raise TypeError(f"positions are whole numbers, got dtype {positions.dtype}: "
                        "round them yourself and call .long()")
    if positions.dim() == 0:
        raise ValueError("positions need a last axis of n coordinates: shape (..., n), "
                         "for text (..., 1); call .unsqueeze(-1)")
    if dims is not None and positions.shape[-1] != dims:
        raise ValueError(f"positions of shape {tuple(positions.shape)} have "
                         f"n={positions.shape[-1]} coordinates, expected n={dims}: "
                         "the last axis holds the coordinates (text: 1, images: 2)")
    positions = positions.long()  # uint16 and wider have no minimum
    if positions.numel() and (lowest := int(positions.min())) < 0:
        raise ValueError(f"position {lowest} is negative: positions start at 0")
    return positions


def check_context(positions: Tensor, batch: int, length: int, dims: int,
                  max_position: int) -> Tensor:
    """Return the positions of a model's tokens or patches as int64, or say what is wrong with them.

    Args:
        positions: integers (L, n), or (B, L, n).
        batch, length, dims: the B, L and n that are expected.
        max_position: exclusive.

    Raises:
        TypeError, ValueError: as in :func:`check_positions`; of another shape; beyond the limit.
    """
    unit, name, remedy = ("tokens", "position", " or shorten eval_len") if dims == 1 else (
        "patches", "row or column", ", enlarge the patch or shrink the images")
    positions = check_positions(positions, dims)
    if positions.shape[:-1] not in ((length,), (batch, length)):
        raise ValueError(f"positions {tuple(positions.shape)} do not fit {batch} x {length} "
                         f"{unit}: give ({length}, {dims}) or ({batch}, {length}, {dims})")
    if (highest := int(positions.max())) >= max_position:
        raise ValueError(f"the context reaches {name} {highest} but max_position={max_position} "
                         f"(exclusive): raise `max_position`{remedy}")
    return positions


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor has an integer dtype of any width; bool does not count."""
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_number_system(digits: int, base: int) -> None:
    """Raise ValueError unless ``base`` >= 2, ``digits`` >= 1, and base^digits <= 2^62."""
    if not isinstance(base, int) or base < 2:
        raise ValueError(f"base must be a whole number of at least 2, got {base!r}")
    if not isinstance(digits, int) or digits < 1:
        raise ValueError(f"digits (k) must be a whole number of at least 1, got {digits!r}")
    if base**digits > 2**62:
        raise ValueError(f"base {base} with {digits} digits exceeds 62 bits a dimension: "
                         "lower `digits` or `base`")


def digits_needed(position: int, base: int = 10) -> int:
    """How many digits it takes to write ``position`` in ``base``.

    >>> digits_needed(9999), digits_needed(10000), digits_needed(255, base=2)
    (4, 5, 8)
    """
    check_number_system(1, base)
    count = 1
    while position >= base:
        position //= base
        count += 1
    return count


def to_digits(positions: Tensor, digits: int, base: int = 10) -> Tensor:
    """Write positions as left-padded digit sequences.

    Args:
        positions: integers (..., n), each in [0, base**digits).
        digits: k, digits per dimension.
        base: b, the number system.

    Returns:
        int64 (..., n*k), values in [0, base), most significant digit first, dimension by dimension.

    Raises:
        ValueError: a position that is negative or does not fit into k digits; a base below 2.
        TypeError: not a tensor of integers.

    >>> to_digits(torch.tensor([[2, 3]]), digits=2)          # the patch (2, 3) of Fig. 1
    tensor([[0, 2, 0, 3]])
    >>> to_digits(torch.tensor([[100], [1000], [123]]), digits=4)
    tensor([[0, 1, 0, 0],
            [1, 0, 0, 0],
            [0, 1, 2, 3]])
    """
    check_number_system(digits, base)
    positions = check_positions(positions)
    if positions.numel() and (highest := int(positions.max())) >= base**digits:
        need = digits_needed(highest, base)
        raise ValueError(f"position {highest} needs {need} digits in base {base} but k={digits}: "
                         f"raise `digits` to {need} or shorten eval_len")
    places = _powers(base, digits, positions.device)
    return (positions.unsqueeze(-1) // places % base).flatten(-2)  # (..., n, k) -> (..., n*k)


def from_digits(sequence: Tensor, dims: int, base: int = 10) -> Tensor:
    """Read digit sequences back: the inverse of :func:`to_digits`.

    Args:
        sequence: integers (..., n*k), values in [0, base).
        dims: n.

    Returns:
        int64 positions (..., n).

    Raises:
        ValueError: a length that n does not divide, or a digit outside [0, base).

    >>> from_digits(torch.tensor([0, 2, 0, 3]), dims=2)
    tensor([2, 3])
    """
    if dims < 1 or sequence.shape[-1] % dims:
        raise ValueError(f"a sequence of {sequence.shape[-1]} digits does not split into n={dims} "
                         "dimensions of equal length")
    sequence = sequence.long()  # uint16 and wider have no minimum
    if sequence.numel() and not 0 <= int(sequence.min()) <= int(sequence.max()) < base:
        raise ValueError(f"digits must lie in [0, {base}), "
                         f"got {int(sequence.min())}..{int(sequence.max())}")
    grouped = sequence.unflatten(-1, (dims, -1))  # (..., n, k)
    return (grouped * _powers(base, grouped.shape[-1], sequence.device)).sum(-1)


def grid(*sizes: int) -> Tensor:
    """All positions of an n-dimensional grid, the last dimension running fastest.

    Returns:
        int64 (size_0 * ... * size_{n-1}, n).

    Raises:
        ValueError: no size, or one that is not a whole number of at least 1.

    >>> grid(3)
    tensor([[0],
            [1],
            [2]])
    >>> grid(2, 2)
    tensor([[0, 0],
            [0, 1],
            [1, 0],
            [1, 1]])
    """
    if not sizes or any(int(s) != s or s < 1 for s in sizes):
        raise ValueError(f"a grid needs whole sizes of at least 1, got {sizes}")
    axes = [torch.arange(s) for s in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def grid_row(positions: Tensor, sizes: Sequence[int]) -> Tensor:
    """The row of ``grid(*sizes)`` in which each position stands: integers (..., n) -> int64 (...).

    >>> grid_row(torch.tensor([[1, 0], [0, 1]]), (2, 3))
    tensor([3, 1])
    """
    positions = positions.long()  # rows of a large grid exceed a narrow integer
    row = positions[..., 0]
    for size, coordinate in zip(sizes[1:], positions.unbind(-1)[1:]):
        row = row * size + coordinate
    return row


def position_limits(size: int | tuple[int, ...], dims: int) -> Tensor:
    """Exclusive upper limits of positions, int64 (n,), from one number for all dimensions or n.

    Raises:
        ValueError: another number of sizes than n, or a size below 2.

    >>> position_limits(100, dims=2)
    tensor([100, 100])
    """
    sizes = torch.as_tensor(size)
    limit = sizes.expand(dims) if isinstance(size, int) else sizes
    if limit.shape != (dims,) or int(limit.min()) < 2:
        raise ValueError(f"need a size of at least 2 for each of the n={dims} dimensions, "
                         f"got {size}")
    return limit


def distinct(positions: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The distinct positions, sorted, and for each position its index among them.

    Args:
        positions: int64 (N, n), N >= 1.
        limit: where all coordinates are below it, each position is compared as a single number,
            which is faster than comparing rows. The result is the same.

    Returns:
        int64 (U, n), sorted, and int64 (N,), indices into it.

    >>> distinct(torch.tensor([[7], [3], [7]]), limit=10)
    (tensor([[3],
            [7]]), tensor([1, 0, 1]))
    """
    dims = positions.shape[1]
    if limit**dims > 2**62 or int(positions.max()) >= limit:
        return torch.unique(positions, dim=0, return_inverse=True)
    weights = _powers(limit, dims, positions.device)
    codes, inverse = torch.unique(grid_row(positions, (limit,) * dims), return_inverse=True)
    return codes.unsqueeze(1) // weights % limit, inverse


def _powers(base: int, count: int, device: torch.device) -> Tensor:
    """base^(count-1), ..., base, 1: the values of the places, int64 (count,)."""
    return torch.tensor([base**j for j in range(count - 1, -1, -1)], device=device)
