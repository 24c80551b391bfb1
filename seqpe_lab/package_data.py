"""Data that comes with the package: the paper's tables, committed results, the explorers' models.

In a clone it lies in ``data/``; in an installed wheel in ``seqpe_lab/data/`` (see pyproject.toml).
"""
from __future__ import annotations

import csv
import json
from pathlib import Path

PACKAGE = Path(__file__).parent
CLONE = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None  # None: a wheel
DATA = CLONE / "data" if CLONE else PACKAGE / "data"
PAPER = DATA / "paper"
# the names of methods in the paper's tables, and ours
OUR_NAMES = {"NoPE": "none", "APE-Sin": "sinusoidal", "APE-Learn": "learned",
             "RoPE-10^4": "rope-1e4", "RoPE-10^6": "rope-1e6", "RoPE-10^8": "rope-1e8",
             "ALiBi": "alibi", "SeqPE": "seqpe", "RoPE2D": "rope-axial", "RoPE2D-Mix": "rope-mixed"}


def paper_table(number: int, part: str = "") -> list[dict[str, str | float]]:
    """The rows of one of the paper's Tables 1 to 5, numbers as floats.

    Args:
        number: 1 to 5.
        part: Tables 2 and 4 come in two: "perplexity" or "em", "text" or "images".

    Raises:
        ValueError: no such table; lists those that exist.

    >>> paper_table(1)[-1]["model"], paper_table(1)[-1]["16384"]
    ('SeqPE', 19.37)
    """
    path = PAPER / f"table{number}{'-' + part if part else ''}.csv"
    if not path.exists():
        choices = ", ".join(sorted(p.stem for p in PAPER.glob("table*.csv")))
        raise ValueError(f"no table {path.stem!r}: there are {choices}")
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def committed_results(name: str) -> list[dict]:
    """Results of finished runs that come with the package, each with its provenance.

    Args:
        name: of a file in ``data/results``, without ".json".

    Raises:
        ValueError: no such file; lists those that exist.

    >>> committed_results("length-extrapolation-small")[0]["method"]
    'none'
    """
    path = results_file(name)
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise ValueError(f"no committed results {name!r}: there are {there}")
    return json.loads(path.read_text(encoding="utf-8"))


def committed_if_any(name: str) -> list[dict]:
    """The same, or nothing where there is no such file, as before its runs are made.

    >>> committed_if_any("no-such-results")
    []
    """
    return committed_results(name) if results_file(name).exists() else []


def results_file(name: str) -> Path:
    """The file that :func:`committed_results` reads; it need not exist."""
    return DATA / "results" / f"{name}.json"


def clone() -> Path:
    """The root folder of the clone, for code that needs the notebooks or writes to ``data/``.

    Raises:
        FileNotFoundError: the package was installed as a wheel.
    """
    if CLONE is None:
        raise FileNotFoundError("this needs a clone of seqpe_lab: an installed package has neither "
                                "the notebooks nor a README to write to")
    return CLONE


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
