"""Seven interactive explorers of position encoding.

    from seqpe_lab.explorers import explore
    explore("digits")

Each is a module in three parts: a state (the values of its controls), ``compute(state)``, which
returns numbers, and a template that draws them (see explorer.py). They run on data that comes with
the package, without training or a GPU, in a notebook or on a static page.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqpe_lab.explorers.explorer import Explorer
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


def make_explorer(name: str, **options: Any) -> Explorer:
    """An explorer without a panel; ``options`` as its module's ``explorer`` takes them.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in EXPLORERS:
        raise ValueError(f"no explorer {name!r}: choose from {', '.join(EXPLORERS)}")
    return importlib.import_module(f"{__name__}.{name}_panel").explorer(**options)


def explore(link: str, **options: Any) -> Panel:
    """A new panel of an explorer; the last expression of a cell shows it.

    Args:
        link: its name, or a name and a state as "Copy link" gives them: "digits?base=2".
        options: of this explorer, such as ``model`` of "attention".

    Raises:
        ValueError: an unknown name, or a state that is not allowed; says what is.
    """
    from seqpe_lab.course.page_figures import draw_on_pages
    from seqpe_lab.explorers.fields import from_link
    from seqpe_lab.explorers.panel import Panel
    name, _, query = link.partition("?")
    explorer = make_explorer(name, **options)
    state = from_link(explorer.state, query)
    draw_on_pages()
    return explorer.panel(state) if explorer.panel else Panel(explorer, state)
