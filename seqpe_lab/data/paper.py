"""The numbers that the SeqPE paper prints, from data/paper/*.csv."""
from __future__ import annotations

import csv
from pathlib import Path

PAPER = Path(__file__).parents[2] / "data" / "paper"


def paper_table(number: int, part: str = "") -> list[dict[str, str | float]]:
    """Rows of the paper's Table 1 to 5, numbers as floats.

    Args:
        number: 1 to 5.
        part: Tables 2 and 4 come in two: "perplexity" or "em", "text" or "images".

    >>> paper_table(1)[-1]["model"], paper_table(1)[-1]["16384"]
    ('SeqPE', 19.37)
    """
    path = PAPER / f"table{number}{'-' + part if part else ''}.csv"
    if not path.exists():
        choices = ", ".join(sorted(p.stem for p in PAPER.glob("table*.csv")))
        raise ValueError(f"no table {path.stem!r}: there are {choices}")
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
