"""Seven explorers: take position encoding apart with your hands.

    from seqpe_lab.explorers import explore
    explore("digits")

Each is a module of its own: pure functions from numbers to a figure, and ``explore()``, which puts
controls on them. They run on what comes with the project (bundle.py), without training or a GPU.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from seqpe_lab.explorers import plot  # noqa: F401  first of all, so that the page reads plotly's program while the kernel imports torch

if TYPE_CHECKING:
    from seqpe_lab.explorers.panel import Panel

EXPLORERS = {
    "digits": "a position as digits, and what its neighbours share with it",
    "geometry": "which positions a trained encoder takes for alike",
    "collapse": "train a position encoder and watch its space fold up",
    "extrapolation": "trained short, tested long: our curves beside the paper's",
    "patches": "what a patch is similar to, within the trained grid and beyond",
    "attention": "which part of attention is content, which is position",
    "integration": "sum, mul and bias on a plane",
}


def explore(name: str) -> Panel:
    """A new panel of an explorer; the last expression of a cell shows it.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in EXPLORERS:
        raise ValueError(f"no explorer {name!r}: choose from {', '.join(EXPLORERS)}")
    return importlib.import_module(f".{name}_panel", __package__).explore()
