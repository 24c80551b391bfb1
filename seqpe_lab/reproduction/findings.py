"""What results say beside the paper: better, worse or no difference seen, by their intervals.

A finding compares two rows of a table by their means over all lengths or sizes, or says whether the
perplexity of a row stays flat. The paper's table is read in the same way; a result contradicts it
where both are decided and differ.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from seqpe_lab.course.claims import FLAT
from seqpe_lab.course.result_tables import (HEADINGS, Values, by_method, plus_minus,
                                            with_interval)
from seqpe_lab.course.style import label
from seqpe_lab.reproduction.manifest import TABLES, Table, paper_rows
from seqpe_lab.statistics import Difference, paired_difference

PARTS = {part.name: part for parts in TABLES.values() for part in parts}
# compared besides each row with the table's reference
ALSO = {
    "table3": [("rope-axial", "none"), ("rope-axial", "sinusoidal"), ("rope-mixed", "none"),
               ("rope-mixed", "learned")],
    "table4-text": [("seqpe-ood-only", "seqpe-no-losses"), ("seqpe-delta-only", "seqpe-no-losses")],
    "table4-images": [("seqpe-mul-ood-only", "seqpe-mul-no-losses"),
                      ("seqpe-mul-delta-only", "seqpe-mul-no-losses")],
    "table5": [("seqpe-bias", "seqpe-sum")],
}
TIE, OPEN, FEW, FAILED = "no difference seen", "undecided", "too few seeds", "failed"
PAPERS_LEAST = 0.002  # a smaller relative gap between two rows of the paper counts as none
UNDECIDED = (TIE, OPEN, FEW, FAILED)


class Finding(NamedTuple):
    """What a table's results say of one row.

    Attributes:
        method, other: rows; without an ``other`` it is said whether ``method`` stays flat.
        verdict: "better", "worse", "flat", "not flat", or one of ``UNDECIDED``.
        paper: the verdict of the paper's numbers; "" if the paper has no such row.
        evidence, paper_evidence: the numbers behind them.
    """
    method: str
    other: str
    verdict: str
    paper: str
    evidence: str
    paper_evidence: str

    @property
    def decided(self) -> bool:
        return self.verdict not in UNDECIDED

    @property
    def contradicts(self) -> bool:
        """Whether results and paper are decided and differ."""
        return self.decided and self.paper not in ("", self.verdict)

    @property
    def claim(self) -> str:
        """A sentence without its full stop.

        >>> Finding("alibi", "seqpe", "worse", "worse", "", "").claim
        'ALiBi is worse than SeqPE'
        """
        rows = label(self.method) + (f" and {label(self.other)}" if self.other else "")
        if not self.decided:
            return {TIE: f"no difference seen between {rows}",
                    OPEN: f"whether {rows} is flat is open",
                    FEW: f"nothing is concluded about {rows}, with fewer than five seeds",
                    FAILED: f"nothing is concluded about {rows}, since a run failed"}[self.verdict]
        than = f" than {label(self.other)}" if self.other else ""
        return f"{label(self.method)} is {self.verdict}{than}"


# --- findings -----------------------------------------------------------------------------------

def values_of(name: str, results: Iterable[Mapping]) -> Values:
    """The values of a table's rows in its order, as :func:`by_method` gives them.

    Args:
        name: of a table in ``PARTS``, such as "table4-text".
        results: contents of ``results.json``; those of other tables are left out.
    """
    values = by_method(rows_of(name, results), PARTS[name].measure)
    return {method: values[method] for method in PARTS[name].rows if method in values}


def rows_of(name: str, results: Iterable[Mapping]) -> list[Mapping]:
    """The results that stand in a table; a run that failed has "failed" in place of numbers."""
    part = PARTS[name]
    return [r for r in results if r["method"] in part.rows and (part.measure in r or "failed" in r)
            and not r.get("protocol", "").startswith("object")]  # a control of lesson 11


def of_table(name: str, results: Iterable[Mapping], one_seed: bool = False) -> list[Finding]:
    """All findings of a table: each row against the reference, ``ALSO``, and which rows are flat.

    Args:
        one_seed: decide by the sign, as one does of a single run; for a reader's own runs.
    """
    part, values = PARTS[name], values_of(name, results)
    pairs = [(method, part.reference) for method in part.rows if method != part.reference]
    found = [compare(part, values, *pair, one_seed=one_seed) for pair in pairs + ALSO.get(name, [])
             if set(pair) <= values.keys()]
    if part.task == "lm":
        found += [flatness(part, values, method, one_seed) for method in values]
    return found


def compare(part: Table, values: Values, method: str, other: str, column: str = "mean",
            one_seed: bool = False) -> Finding:
    """Compare two rows in a column, by default in their means over all lengths or sizes."""
    mine, theirs = values[method][column], values[other][column]
    sign = -1 if part.measure == "perplexity" else 1
    decimals = HEADINGS[part.measure][1]
    measured = _difference(mine, theirs)
    difference = _one_seed(measured) if one_seed else measured
    failed = _failed({method: mine, other: theirs})
    verdict = _undecided(difference, failed) or (
        TIE if difference.verdict == TIE else "better" if sign * difference.mean > 0 else "worse")
    evidence = failed or (
        f"{plus_minus(mine, decimals)} against "
        f"{plus_minus(theirs, decimals)}, {with_interval(measured, decimals)}")
    paper = paper_rows(part)
    if not {method, other} <= paper.keys() or column != "mean":
        return Finding(method, other, verdict, "", evidence, "")
    gap = _mean(paper[method]) - _mean(paper[other])
    theirs_say = "better" if sign * gap > 0 else "worse"
    if abs(gap) < PAPERS_LEAST * _mean(paper[other]):
        theirs_say = ""  # about equal: nothing that a result could contradict
    return Finding(method, other, verdict, theirs_say, evidence, f"{gap:+.{decimals}f}")


def flatness(part: Table, values: Values, method: str, one_seed: bool = False) -> Finding:
    """Whether perplexity at the last length is at most ``FLAT`` times that at the first."""
    change = changes(part, values)[method]
    difference = _difference(change, dict.fromkeys(change, 0.0))
    difference = _one_seed(difference) if one_seed else difference
    bound, failed = math.log(FLAT), _failed({method: change})
    verdict = _undecided(difference, failed)
    if not verdict:
        verdict = ("flat" if difference.high <= bound else
                   "not flat" if difference.low > bound else OPEN)
    evidence = _times(difference.mean)
    if verdict == FAILED:
        evidence = failed
    elif not one_seed and math.isfinite(difference.low):
        evidence += f" [{math.exp(difference.low):.2f}, {math.exp(difference.high):.2f}]"
    row = paper_rows(part).get(method)
    if row is None:
        return Finding(method, "", verdict, "", evidence, "")
    first, *_, last = _measured(row)
    return Finding(method, "", verdict, "flat" if last / first <= FLAT else "not flat", evidence,
                   _times(math.log(last / first)))


def changes(part: Table, values: Values) -> dict[str, dict[int, float]]:
    """{method: {seed: change}} from the first to the last length or size.

    In points, and for perplexity the logarithm of the ratio.
    """
    found = {}
    for method, columns in values.items():
        first, *_, last = (seeds for column, seeds in columns.items() if column != "mean")
        found[method] = {seed: math.log(last[seed]) - math.log(first[seed])
                         if part.measure == "perplexity" else last[seed] - first[seed]
                         for seed in first}
    return found


# --- parts --------------------------------------------------------------------------------------

def _difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """The paired difference; without a common seed as undecided as with too few."""
    return (paired_difference(a, b) if a.keys() & b.keys()
            else Difference(math.nan, -math.inf, math.inf))


def _one_seed(difference: Difference) -> Difference:
    """As if the mean were exact."""
    return Difference(*[difference.mean] * 3)


def _failed(rows: Mapping[str, Mapping[int, float]]) -> str:
    """Names the runs whose value is no number."""
    return ", ".join(f"seed {seed} of {label(method)}" for method, values in rows.items()
                     for seed, value in values.items() if not math.isfinite(value))


def _undecided(difference: Difference, failed: str) -> str:
    """``FAILED`` or ``FEW``, if nothing can be said."""
    if failed:
        return FAILED
    return FEW if math.isinf(difference.low) else ""


def _measured(row: Mapping[str, float]) -> list[float]:
    return [value for column, value in row.items() if column != "average"]


def _mean(row: Mapping[str, float]) -> float:
    """Of the columns: three averages that the paper prints cannot be right (lesson 14)."""
    return sum(_measured(row)) / len(_measured(row))


def _times(logarithm: float) -> str:
    return f"× {math.exp(logarithm):.2f}"
