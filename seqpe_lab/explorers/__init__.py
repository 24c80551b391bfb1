"""Seven interactive explorers of position encoding.

    from seqpe_lab.explorers import explore
    explore("digits")

Each is a module in three parts: a state (the values of its controls), ``compute(state)``, which
returns numbers, and ``draw(numbers)``, which returns a plotly figure. ``explore()`` makes a panel
of them. They run on data that comes with the package, without training or a GPU.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqpe_lab.explorers.panel import Panel

EXPLORERS = {
    "digits": "a position as digits, and what its neighbours share with it",
    "geometry": "which positions a trained encoder treats as similar",
    "collapse": "train a position encoder and watch its vectors collapse",
    "extrapolation": "trained short, tested long: our curves beside the paper's",
    "patches": "what a patch is similar to, within the trained grid and beyond",
    "attention": "which part of attention comes from content, which from position",
    "integration": "sum, mul and bias on a plane",
}


def explore(name: str) -> Panel:
    """A new panel of an explorer; the last expression of a cell shows it.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in EXPLORERS:
        raise ValueError(f"no explorer {name!r}: choose from {', '.join(EXPLORERS)}")
    from seqpe_lab.course.page_figures import draw_on_pages
    draw_on_pages()
    return importlib.import_module(f"{__name__}.{name}_panel").explore()
