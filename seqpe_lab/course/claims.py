"""Claims about SeqPE, of the paper and of a summary of it, beside what the paper's tables give.

data/paper/claims.csv holds the quotations, word for word, and what to look up. The verdict is not
written there; it follows from the tables.

    a number    exact | rounded | stated differs from table
    a bound     bound holds | bound fails, behind the verdict on its number (none for "above")
    words       holds in every column | holds on average | holds | does not hold
    no data     in no table (the paper), not in the paper (a summary)
    a marking   marking fits | marking does not fit
"""
from __future__ import annotations

import csv
from collections.abc import Callable, Sequence

from seqpe_lab import package_data as paper

PAPER, SUMMARY = "the paper", "a summary"
NO_DATA = {PAPER: "in no table", SUMMARY: "not in the paper"}
LABELS = ("model", "integration", "alpha", "beta")  # the columns that name a row
LOWER_IS_BETTER = ("table1", "table2-perplexity", "table4-text")
TABLES = (*LOWER_IS_BETTER, "table2-em", "table3", "table4-images", "table5")
FLAT = 1.1  # "flat": at the last column at most 10 % worse than at the first
EPSILON = 1e-9  # what is smaller is a floating-point difference


def audit() -> list[dict[str, str]]:
    """A row for each claim: source, where, claim, table, stated, the tables give, verdict, how."""
    rows = []
    for claim in _read("claims"):
        given, verdict, how = _judge(claim)
        how = "; ".join(part for part in (how, claim["note"]) if part)
        quoted = {key: claim[key] for key in ("source", "where", "claim", "table", "stated")}
        rows.append(quoted | {"the tables give": given, "verdict": verdict, "how": how})
    return rows


def averages() -> list[dict[str, str | float]]:
    """A row for each printed average: table, row, printed, the mean of its columns, verdict.

    "rounded" means that some numbers with more digits, which round to the printed columns, have a
    mean that rounds to the printed average.
    """
    rows = []
    for table in TABLES:
        for name, cells in printed(table).items():
            stated = cells.pop("average")
            mean = sum(map(float, cells.values())) / len(cells)
            slack = sum(map(half_unit, cells.values())) / len(cells)
            rows.append({"table": table, "row": name, "printed": stated, "mean": mean,
                         "verdict": agreement(mean, stated, slack)})
    return rows


def markings() -> list[dict[str, str | int]]:
    """A row for each number printed bold (best) or underlined (second): its rank, and a verdict.

    Only the marks that our copy of the paper's text has, in data/paper/markings.csv; it lost most
    of the bold print, so a missing mark says nothing. Equal numbers share the better rank.
    """
    rows = []
    for mark in _read("markings"):
        sign = 1 if mark["table"] in LOWER_IS_BETTER else -1
        column = {row: sign * float(cells[mark["column"]])
                  for row, cells in printed(mark["table"]).items()}
        rank = 1 + sum(value < column[mark["row"]] for value in column.values())
        fits = rank == (1 if mark["mark"] == "best" else 2)
        rows.append(mark | {"rank": rank,
                            "verdict": "marking fits" if fits else "marking does not fit"})
    return rows


# --- numbers --------------------------------------------------------------------------------------

def half_unit(number: str) -> float:
    """Half a unit of the last printed digit: how far the number before rounding may lie from it.

    >>> half_unit("0.6"), half_unit("4.3e4")
    (0.05, 500.0)
    """
    digits, _, exponent = number.lower().partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def agreement(value: float, stated: str, slack: float = 0.0) -> str:
    """The verdict on a number; ``slack`` is what earlier rounding may have done to ``value``.

    >>> agreement(18.51, "18.51"), agreement(0.588, "0.6"), agreement(2.3, "2.1")
    ('exact', 'rounded', 'stated differs from table')
    """
    difference = abs(value - float(stated))
    if difference < EPSILON:
        return "exact"
    close = difference < half_unit(stated) + slack + EPSILON
    return "rounded" if close else "stated differs from table"


# --- tables ---------------------------------------------------------------------------------------

def printed(table: str) -> dict[str, dict[str, str]]:
    """{row: {column: number as printed}} of data/paper/<table>.csv, the average included."""
    return {" ".join(row[label] for label in LABELS if label in row):
            {column: number for column, number in row.items() if column not in LABELS}
            for row in _read(table)}


def facts() -> dict[str, str]:
    """The paper's own statements about its set-up, from data/paper/facts.csv."""
    return {row["name"]: row["value"] for row in _read("facts")}


def leads(table: str, row: str, against: Sequence[str] = (), columns: Sequence[str] = (),
          worse: bool = False) -> dict[str, float]:
    """By how much a row is ahead of the best of others, on the average and in each column.

    Args:
        against: the other rows; all if empty.
        columns: the average is over these; all if empty.
        worse: by how much it is behind the worst of them instead.

    Returns:
        {"average": lead, column: lead, ...} in the table's units, negative where it is not so.
        The best on average need not be the best in any column.

    >>> leads("table1", "SeqPE")["average"] > 0 > leads("table1", "SeqPE")["512"]
    True
    """
    rows = _numbers(table)
    columns = columns or list(rows[row])
    sign = -1 if (table in LOWER_IS_BETTER) != worse else 1
    others = [other for other in against or rows if other != row]

    def lead(of: Callable[[dict[str, float]], float]) -> float:
        return min(sign * (of(rows[row]) - of(rows[other])) for other in others) + 0.0  # no -0.0

    found = {"average": lead(lambda cells: sum(cells[c] for c in columns) / len(columns))}
    return found | {column: lead(lambda cells, c=column: cells[c]) for column in columns}


def worsening(table: str, row: str) -> float:
    """The factor by which a row is worse in its last column than in its first.

    >>> round(worsening("table2-perplexity", "SeqPE"), 1)
    5.1
    """
    first, *_, last = _numbers(table)[row].values()
    return last / first if table in LOWER_IS_BETTER else first / max(last, EPSILON)


# --- verdicts -------------------------------------------------------------------------------------

def _judge(claim: dict[str, str]) -> tuple[str, str, str]:
    """(what the tables give, verdict, how it was found)."""
    table, row, stated = claim["table"], claim["row"], claim["stated"]
    against, columns = ([name for name in claim[key].split(";") if name]
                        for key in ("against", "columns"))
    if not table:
        return "nothing", NO_DATA[claim["source"]], ""
    if table == "facts":
        return facts()[row], agreement(float(facts()[row]), stated), row
    if stated in ("flat", "steadier"):
        return _steady(table, row, against, stated)
    if stated in ("better", "worse"):
        found = leads(table, row, against, columns, worse=stated == "worse")
        return _in_words(found), _verdict_on_words(found), f"{table}, {row}: {_shown(found)}"
    if claim["columns"]:  # one number
        cells = printed(table)[row]
        if claim["columns"] not in cells:
            return "nothing", NO_DATA[claim["source"]], f"{table} has {', '.join(cells)}"
        value, how = float(cells[claim["columns"]]), f"{table}, {row} at {claim['columns']}"
    else:
        found = leads(table, row, against)
        value, how = found["average"], f"{table}, {row} ahead by: {_shown(found)}"
    bound, _, number = stated.rpartition(" ")  # "at least 0.6", "above 30", "22.9"
    verdicts = [] if bound == "above" else [agreement(value, number)]
    if bound:
        verdicts.append("bound holds" if value > float(number) - EPSILON else "bound fails")
    return f"{value:.4g}", ", ".join(verdicts), how


def _steady(table: str, row: str, against: list[str], stated: str) -> tuple[str, str, str]:
    mine = worsening(table, row)
    given, how = f"{mine:.3g} times as bad", f"{table}, {row}, last column against first"
    if stated == "flat":
        return given, "holds" if mine <= FLAT else "does not hold", f"{how}; flat is up to {FLAT}"
    others = {other: worsening(table, other) for other in against or printed(table) if other != row}
    next_best = min(others, key=others.get)
    verdict = "holds" if mine < others[next_best] else "does not hold"
    return given, verdict, f"{how}; {next_best} {others[next_best]:.3g} times"


def _verdict_on_words(found: dict[str, float]) -> str:
    if found["average"] < EPSILON:
        return "does not hold"
    return "holds in every column" if min(found.values()) > EPSILON else "holds on average"


def _in_words(found: dict[str, float]) -> str:
    """The average lead, and the columns in which there is none."""
    without = [column for column, lead in found.items() if lead < EPSILON and column != "average"]
    return f"{found['average']:+.4g}" + (f", not at {', '.join(without)}" if without else "")


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{column} {lead:+.4g}" for column, lead in found.items())


def _numbers(table: str) -> dict[str, dict[str, float]]:
    """``printed`` as numbers, without the average."""
    return {row: {column: float(number) for column, number in cells.items() if column != "average"}
            for row, cells in printed(table).items()}


def _read(name: str) -> list[dict[str, str]]:
    with open(paper.PAPER / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
