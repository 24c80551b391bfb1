"""Text for readers: aligned columns, and the known name that is nearest to a misspelt one."""
from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def columns(rows: Sequence[Sequence[object]], align: str) -> list[str]:
    """Lines in which each column is as wide as its widest cell.

    Args:
        rows: of as many cells as ``align`` has characters.
        align: for each column "<" (to the left) or ">" (to the right).

    >>> for line in columns([("length", "perplexity"), (16, "5.25"), (1024, "20.94")], ">>"):
    ...     print(line)
    length  perplexity
        16        5.25
      1024       20.94
    """
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    return ["  ".join(f"{str(cell):{side}{width}}"
                      for cell, side, width in zip(row, align, widths)).rstrip() for row in rows]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question to end an error message with; empty if no known name is near.

    The start of a known name counts like the whole.

    >>> did_you_mean("stpes", ["seed", "steps"]), did_you_mean("rope", ["none", "rope-1e4"])
    (". Did you mean 'steps'?", ". Did you mean 'rope-1e4'?")
    >>> did_you_mean("rotary", ["none", "rope-1e4"])
    ''
    """
    word = str(name).lower()
    starts: dict[str, str] = {}
    for choice in known:
        for start in (choice, choice[: len(word)]):
            starts.setdefault(start, choice)
    near = difflib.get_close_matches(word, starts, n=1, cutoff=0.7)
    return f". Did you mean {starts[near[0]]!r}?" if near else ""
