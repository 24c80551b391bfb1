"""Tables of results in Markdown: mean and standard deviation over seeds, and paired differences."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seqpe_lab import runs
from seqpe_lab.course.style import label
from seqpe_lab.statistics import Difference, mean_and_deviation, paired_difference

# measure: (heading of its tables, decimals)
HEADINGS = {
    "exact_match": ("exact match (%) at", 1),
    "perplexity": ("perplexity at", 2),
    "accuracy": ("top-1 accuracy (%) at", 1),
}
# {method: {column: {seed: value}}}; NaN stands for a run that failed, and is never averaged
Values = Mapping[str, Mapping[str, Mapping[int, float]]]


def by_method(results: Sequence[Mapping], measure: str) -> dict[str, dict[str, dict[int, float]]]:
    """The values of a measure at each length or size, and their mean, for each seed.

    A run that failed (see :meth:`~seqpe_lab.runs.Run.outcome`) has NaN in each column.

    Raises:
        ValueError: all runs have failed; names them.

    >>> by_method([{"method": "none", "seed": 0, "perplexity": {"64": 4.0, "128": 6.0}}],
    ...           "perplexity")
    {'none': {'64': {0: 4.0}, '128': {0: 6.0}, 'mean': {0: 5.0}}}
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    columns = next(result[measure] for result in complete(results) if measure in result)
    for result in results:
        measured = result.get(measure) or dict.fromkeys(columns, math.nan)
        mean = sum(measured.values()) / len(measured)
        for column, value in (measured | {"mean": mean}).items():
            values.setdefault(result["method"], {}).setdefault(column, {})[result["seed"]] = value
    return values


def summary_columns(values: Values, heading: str, decimals: int,
                    reference: str = "") -> dict[str, list[str]]:
    """The columns of :func:`summary_table`, for :func:`~seqpe_lab.course.figures.table`."""
    *_, last = next(iter(values.values()))
    columns = {heading: [label(method) for method in values]}
    for column in next(iter(values.values())):
        columns[_title(column)] = [plus_minus(measured[column], decimals)
                                   for measured in values.values()]
    columns["seeds"] = [str(len(measured[last])) for measured in values.values()]
    if reference in values:
        theirs = values[reference][last]
        columns[f"{last} minus {label(reference)}"] = [
            "" if method == reference or not measured[last].keys() & theirs.keys()
            else with_interval(paired_difference(measured[last], theirs), decimals)
            for method, measured in values.items()]
    return columns


def summary_table(values: Values, heading: str, decimals: int, reference: str = "") -> str:
    """A row for each method: mean ± standard deviation over its seeds, and their number.

    Where a seed's run has failed, the row says so in place of a mean.

    Args:
        reference: a method; if ``values`` has it, a column gives the paired difference to it in
            the last measured column, as in :func:`difference_table`.
    """
    columns = summary_columns(values, heading, decimals, reference)
    return markdown([*columns], [*zip(*columns.values())])


def difference_table(values: Values, reference: str, heading: str, decimals: int,
                     few_seeds: bool = False) -> str:
    """A row for each method but the reference: its paired differences, and the last one's verdict.

    An interval in square brackets is that of :func:`~seqpe_lab.statistics.paired_difference`.
    Where a run of either method has failed there is no difference.
    """
    theirs, rows = values[reference], []
    for method in (method for method in values if method != reference):
        found = [paired_difference(seeds, theirs[column], few_seeds)
                 for column, seeds in values[method].items()]
        verdict = found[-1].verdict if math.isfinite(found[-1].low) else "too few seeds to say"
        if not math.isfinite(found[-1].mean):
            verdict = "a run failed"
        rows.append([label(method), *(with_interval(d, decimals) for d in found), verdict])
    *columns, last = map(_title, theirs)
    return markdown([heading, *columns, last, f"the {last} is"], rows)


def readme_table(results: Sequence[Mapping]) -> str:
    """The table of the task's main measure, at each length or size."""
    measure = common_measure(results)
    # Runs on objects placed on larger canvases are a control, shown in lesson 11 alone.
    results = [r for r in results if not r.get("protocol", "").startswith("object")]
    values = by_method(results, measure)
    reference = "seqpe-mul" if "seqpe-mul" in values else "seqpe"
    return summary_table(values, *HEADINGS[measure], reference)


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


def common_measure(results: Sequence[Mapping]) -> str:
    """The measure that the results of a task are compared by; ValueError if all runs failed."""
    return runs.main_measure(complete(results)[0])


def complete(results: Sequence[Mapping]) -> list[Mapping]:
    """The results of methods without a failed run: a mean of the others would be of fewer seeds.

    Raises:
        ValueError: there are none; names the failed runs.
    """
    failed = failures(results)
    if kept := [result for result in results if result["method"] not in failed]:
        return kept
    raise ValueError("no method has results of all its runs: "
                     f"{'; '.join(failed.values()) or 'there are no runs'}")


def failures(results: Sequence[Mapping]) -> dict[str, str]:
    """For each method with failed runs, which and why.

    >>> failures([{"method": "alibi", "seed": 2, "failed": "loss is nan"}])
    {'alibi': 'ALiBi, seed 2, failed: loss is nan'}
    """
    found: dict[str, list[str]] = {}
    for result in results:
        if "failed" in result:
            name = f"{label(result['method'])}, seed {result['seed']}"
            found.setdefault(result["method"], []).append(f"{name}, failed: {result['failed']}")
    return {method: "; ".join(reasons) for method, reasons in found.items()}


def plus_minus(seeds: Mapping[int, float], decimals: int) -> str:
    """Mean ± standard deviation over seeds; of one seed only its value.

    >>> plus_minus({0: 4.0, 1: 5.0, 2: 6.0}, 2), plus_minus({0: 4.0}, 2)
    ('5.00 ± 1.00', '4.00')
    >>> plus_minus({0: 4.0, 3: math.nan}, 2)
    'seed 3 failed'
    """
    if failed := [str(seed) for seed, value in seeds.items() if not math.isfinite(value)]:
        return f"seed {', '.join(failed)} failed"
    mean, deviation = mean_and_deviation(seeds.values())
    return f"{mean:.{decimals}f}" + (
        "" if deviation is None else f" ± {deviation:.{decimals}f}")


def with_interval(difference: Difference, decimals: int) -> str:
    """A difference and its interval, if it has one.

    >>> with_interval(Difference(0.28, 0.14, 0.38), 2)
    '+0.28 [+0.14, +0.38]'
    """
    if not math.isfinite(difference.mean):
        return "no common seed" if math.isinf(difference.low) else "failed"
    mean, low, high = (f"{value:+.{decimals}f}" for value in difference)
    return f"{mean} [{low}, {high}]" if math.isfinite(difference.low) else mean
