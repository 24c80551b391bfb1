"""Tables of results in Markdown: mean and standard deviation over seeds, and paired differences."""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from seqpe_lab.course.style import label
from seqpe_lab.runs import main_measure
from seqpe_lab.statistics import Difference, mean_and_deviation, paired_difference

# measure: (heading of its tables, decimals)
MEASURES = {
    "exact_match": ("exact match (%) at", 1),
    "perplexity": ("perplexity at", 2),
    "accuracy": ("top-1 accuracy (%) at", 1),
}
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # {method: {column: {seed: value}}}


def by_method(results: Sequence[Mapping], measure: str) -> dict[str, dict[str, dict[int, float]]]:
    """The values of a measure at each length or size, and their mean, for each seed.

    >>> by_method([{"method": "none", "seed": 0, "perplexity": {"64": 4.0, "128": 6.0}}],
    ...           "perplexity")
    {'none': {'64': {0: 4.0}, '128': {0: 6.0}, 'mean': {0: 5.0}}}
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for result in results:
        measured = result[measure]
        mean = sum(measured.values()) / len(measured)
        for column, value in (measured | {"mean": mean}).items():
            values.setdefault(result["method"], {}).setdefault(column, {})[result["seed"]] = value
    return values


def summary_table(values: Values, heading: str, decimals: int, reference: str = "") -> str:
    """A row for each method: mean ± standard deviation over its seeds, and their number.

    Args:
        reference: a method; if ``values`` has it, a column gives the paired difference to it in
            the last measured column, as in :func:`difference_table`.
    """
    *columns, last = next(iter(values.values()))
    titles, rows = [heading, *map(_title, [*columns, last]), "seeds"], []
    for method, measured in values.items():
        cells = [_summary(seeds.values(), decimals) for seeds in measured.values()]
        rows.append([label(method), *cells, str(len(measured[last]))])
        if reference in values:
            shared = measured[last].keys() & values[reference][last].keys()
            rows[-1].append("" if method == reference or not shared else _interval(
                paired_difference(measured[last], values[reference][last]), decimals))
    if reference in values:
        titles.append(f"{last} minus {label(reference)}")
    return markdown(titles, rows)


def difference_table(values: Values, reference: str, heading: str, decimals: int) -> str:
    """A row for each method but the reference: its paired differences, and the last one's verdict.

    An interval in square brackets is that of :func:`~seqpe_lab.statistics.paired_difference`.
    """
    theirs, rows = values[reference], []
    for method in (method for method in values if method != reference):
        found = [paired_difference(seeds, theirs[column])
                 for column, seeds in values[method].items()]
        verdict = found[-1].verdict if math.isfinite(found[-1].low) else "too few seeds to say"
        if math.isnan(found[-1].mean):
            verdict = "a run diverged"
        rows.append([label(method), *(_interval(d, decimals) for d in found), verdict])
    *columns, last = map(_title, theirs)
    return markdown([heading, *columns, last, f"the {last} is"], rows)


def readme_table(results: Sequence[Mapping], measure: str | None = None) -> str:
    """The table of a measure, by default the task's main one, at each length or size."""
    measure = measure or main_measure(results[0])
    # Runs on objects placed on larger canvases are a control, shown in lesson 11 alone.
    results = [r for r in results if not r["protocol"].startswith("object")]
    values = by_method(results, measure)
    reference = "seqpe-mul" if "seqpe-mul" in values else "seqpe"
    return summary_table(values, *MEASURES[measure], reference)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["at", "64"], [["NoPE", "9.5"]]), end="")
    | at | 64 |
    |---|---|
    | NoPE | 9.5 |
    """
    lines = [f"| {' | '.join(cells)} |\n" for cells in (titles, *rows)]
    return "".join([lines[0], "|---" * len(titles) + "|\n", *lines[1:]])


def _title(column: str) -> str:
    return f"{int(column):,}" if column.isdigit() else column


def _summary(values: Collection[float], decimals: int) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{decimals}f}" + (
        "" if deviation is None else f" ± {deviation:.{decimals}f}")


def _interval(difference: Difference, decimals: int) -> str:
    mean, low, high = (f"{value:+.{decimals}f}" for value in difference)
    return f"{mean} [{low}, {high}]" if math.isfinite(difference.low) else mean
