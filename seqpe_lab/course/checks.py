"""Compare a reader's result with the library's: ``lesson.check`` and ``lesson.exercise``."""
from __future__ import annotations

from collections.abc import Callable

import torch


def check(mine, reference, what: str = "mine equals the library's",
          tolerance: float = 1e-5) -> None:
    """Assert that two tensors (or numbers) agree and print by how much.

    Raises:
        AssertionError: another shape, or a difference above ``tolerance``.

    >>> check(torch.tensor([1., 2.]), torch.tensor([1., 2.]), "a copy")
    ✓ a copy: (2,), largest difference 0.0e+00
    """
    if mine is None:
        raise AssertionError(f"✗ {what}: nothing to check yet, "
                             "the exercise still returns None")
    mine, reference = (torch.as_tensor(t).detach().double() for t in (mine, reference))
    if mine.shape != reference.shape:
        raise AssertionError(f"✗ {what}: shape {tuple(mine.shape)}, "
                             f"expected {tuple(reference.shape)}")
    both_infinite = mine.isinf() & (mine == reference)
    differences = torch.where(both_infinite, 0.0, (mine - reference).abs())
    worst = float(differences.max()) if mine.numel() else 0.0
    if not worst <= tolerance:
        raise AssertionError(f"✗ {what}: largest difference {worst:.1e}, "
                             f"allowed {tolerance:.0e}")
    print(f"✓ {what}: {tuple(mine.shape)}, largest difference {worst:.1e}")


def exercise(attempt: Callable[[], None]) -> None:
    """Check the reader's answer, and print what is still missing instead of raising.

    Only for stubs to be filled in; the lesson's own claims use ``assert`` and :func:`check`.
    """
    try:
        attempt()
    except (AssertionError, NotImplementedError) as message:
        print(f"Not yet: {message}")
    else:
        print("Solved.")
