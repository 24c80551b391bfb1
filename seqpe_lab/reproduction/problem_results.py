"""Results on algorithmic problems: tables, picture and conclusions; exact match by input size.

A row counts only where the problem was learnt: where the mean over its seeds is at least 99 % at
each tested size of the trained range. What a model that has not learnt a problem does with longer
inputs says nothing about its encoding.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from seqpe_lab.course.figures import caption
from seqpe_lab.course.result_tables import by_method, markdown, with_interval
from seqpe_lab.course.style import add_method, add_note, add_train_line, finish, in_order, label
from seqpe_lab.problems import LEARNT, PROBLEMS, has_learnt
from seqpe_lab.statistics import LEAST, leaders, paired_difference

FILE = "algorithms"  # in data/results
README_PROBLEMS = ("copy", "needle")  # one that asks for a far place, one for a neighbour
# Kazemnejad et al. (2023), copying inputs twice as long as in training: means over three seeds of
# models with 12 layers, as a share
PUBLISHED = {"none": 0.99, "t5": 0.77, "alibi": 0.29, "rope-1e4": 0.00}

Sizes = Mapping[str, Mapping[int, float]]  # {size: {seed: percent}}


def rows_of(results: Sequence[Mapping], problem: str) -> dict[str, Sizes]:
    """{method: {size: {seed: exact match in percent}}}; NaN for a run that failed.

    Args:
        results: contents of ``results.json`` of runs on algorithmic problems.
    """
    own = [result for result in results if result["data"]["problem"] == problem]
    found = by_method(own, "exact_match") if own else {}
    return {method: {size: seeds for size, seeds in found[method].items() if size != "mean"}
            for method in in_order(found)}


def learnt(results: Sequence[Mapping], problem: str) -> dict[str, Sizes]:
    """The rows of :func:`rows_of` that count.

    >>> results = [{"data": {"problem": "copy"}, "method": method, "seed": 0,
    ...             "trained_size": 8, "exact_match": {"8": inside, "16": 50.0}}
    ...            for method, inside in (("none", 60.0), ("alibi", 99.5))]
    >>> list(learnt(results, "copy"))
    ['alibi']
    """
    trained = trained_size(results)
    return {method: sizes for method, sizes in rows_of(results, problem).items()
            if has_learnt({size: seeds.values() for size, seeds in sizes.items()}, trained)}


def trained_size(results: Sequence[Mapping]) -> int:
    """The largest size of training inputs."""
    size, = {result["trained_size"] for result in results if "trained_size" in result}
    return size


def table(results: Sequence[Mapping], problem: str) -> str:
    """Markdown: mean exact match at each size, with 95 % intervals from five seeds on.

    A row that has not learnt the problem has numbers at the trained sizes only, and says so.
    """
    rows, trained = rows_of(results, problem), trained_size(results)
    sizes = next(iter(rows.values()))
    cells = []
    for method, row in rows.items():
        counts = method in learnt(results, problem)
        shown = [_cell(seeds) if counts or int(size) <= trained else "–"
                 for size, seeds in row.items()]
        cells.append([label(method) + ("" if counts else ", not learnt"), *shown,
                      str(len(next(iter(row.values()))))])
    return markdown([f"{problem}, exact match (%) at", *sizes, "seeds"], cells)


def picture(results: Sequence[Mapping], problems: Sequence[str] = (),
            title: str = "") -> go.Figure:
    """Exact match against input size, a panel for each problem: means, bands over the seeds.

    Rows that have not learnt a problem are named in its panel, and end at the trained size.

    Args:
        problems: by default all in the results.
    """
    problems = list(problems or problems_of(results))
    results = [result for result in results if result["data"]["problem"] in problems]
    trained = trained_size(results)
    columns = 2 if len(problems) == 4 else min(len(problems), 3)
    rows = math.ceil(len(problems) / columns)
    figure = make_subplots(rows, columns, subplot_titles=problems if len(problems) > 1 else None,
                           shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.16)
    named: set[str] = set()
    order = in_order({result["method"] for result in results})
    for number, problem in enumerate(problems):
        where = dict(row=number // columns + 1, col=number % columns + 1)
        kept = learnt(results, problem)
        for method, row in rows_of(results, problem).items():
            counts = method in kept
            look = dict(showlegend=counts and method not in named, legendrank=order.index(method))
            named |= {method} & kept.keys()
            points = {int(size): [*seeds.values()] for size, seeds in row.items()
                      if counts or int(size) <= trained}
            if not any(math.isnan(value) for seeds in points.values() for value in seeds):
                add_method(figure, method, [*points], [*points.values()],
                           "%{y:.1f} % at %{x} symbols", **look, **where)
        if missing := _not_learnt(results, problem):
            ends = [_mean(row[max(row, key=int)]) for row in kept.values()]
            y, side = (0.98, "top") if max(ends, default=0) < 50 else (0.02, "bottom")
            add_note(figure, "not learnt:<br>" + "<br>".join(missing), 0.98, y, xref="x domain",
                     xanchor="right", yanchor=side, align="right", font_size=11, **where)
        add_train_line(figure, trained, "trained up to here" * (len(problems) == 1), **where)
    largest = max(map(int, next(iter(rows_of(results, problems[0]).values()))))
    figure.update_xaxes(title="symbols in the input" if len(problems) == 1 else "symbols",
                        range=[0, 1.05 * largest])
    figure.update_yaxes(range=[0, 105])
    figure.update_yaxes(title="exact match (%)", col=1)
    title = title or f"Trained on up to {trained} symbols (dashed), tested on longer inputs"
    free = rows * columns > len(problems)  # a place without a panel, for the legend
    return finish(figure, title, caption(results), height=180 + 260 * rows,
                  **{"legend": dict(x=1.02 - 1 / columns, y=0.42, yanchor="top")} if free else {})


def page(results: Sequence[Mapping]) -> str:
    """Markdown: what is asked, the table, and the conclusions, problem by problem."""
    commits = " / ".join(sorted({str(result.get("commit")) for result in results}))
    parts = [f"# Tasks that need positions\n\n{caption(results)} · commit {commits}\n\n"
             "In brackets: 95 % intervals of the mean (bootstrap over seeds, from five seeds on). "
             f"{_rule(results)} Else it has not learnt the problem, and its longer inputs are not "
             "shown.\n"]
    for problem in problems_of(results):
        parts.append(f"## {problem}: it needs {PROBLEMS[problem].needs}\n\n"
                     f"{table(results, problem)}\n{conclusion(results, problem)}\n")
    if "copy" in problems_of(results):
        parts.append(published_comparison(results))
    return "\n".join([*parts, ""])


def conclusion(results: Sequence[Mapping], problem: str) -> str:
    """In some sentences: which rows lead at twice the trained size, and which have not learnt.

    "Lead" are the row with the highest mean and all from which no difference of it is seen. At the
    largest size nothing is compared.
    """
    kept, twice = learnt(results, problem), str(2 * trained_size(results))
    missing = "; ".join(f"{m} ({seeds})" for m, seeds in _not_learnt(results, problem).items())
    if not kept:
        return f"No row has learnt the problem (in brackets: seeds that did): {missing}."
    end = f" Not learnt (in brackets: seeds that did): {missing}." if missing else ""
    scores = {method: kept[method][twice] for method in kept}
    best = leaders(scores)
    if min(map(len, scores.values())) < LEAST:
        led = " With fewer than five seeds nothing is concluded."
    elif len(scores) == 1:
        led = " No other row counts."
    elif best and not _hardly_any(scores):
        led = (f" The highest: {label(best[0])}"
               + "".join(f"; no difference seen from {label(method)}" for method in best[1:]) + ".")
    else:
        led = " No row that counts is right in 1 % of the inputs."
    largest = max(next(iter(kept.values())), key=int)
    far = f" At size {largest}: {_means(kept, largest)}." if largest != twice else ""
    return f"At size {twice}, twice the trained size: {_means(kept, twice)}.{led}{far}{end}"


def best_of(results: Sequence[Mapping], problem: str, size: str, methods: Collection[str],
            nobody: str = "") -> tuple[list[str], str]:
    """(methods, means in words): which of some methods are best at a size.

    Nothing is decided, and none is given, where one of them has not learnt the problem or has
    fewer than five seeds.

    Args:
        nobody: given alone where all have learnt it and none is right in 1 % of the inputs.
    """
    kept = {m: row for m, row in learnt(results, problem).items() if m in methods}
    said = f"By the committed results, at size {size}: {_means(kept, size) or 'no row counts'}."
    if missing := [label(method) for method in methods if method not in kept]:
        return [], f"{said} Not learnt, and so not compared: {', '.join(missing)}."
    scores = {method: row[size] for method, row in kept.items()}
    best = leaders(scores)
    return ([nobody] if best and _hardly_any(scores) else best), said


def published_comparison(results: Sequence[Mapping]) -> str:
    """McGill's published means for copying beside ours: where the order of two rows agrees.

    Of two rows, ours are compared by their paired difference, where both have learnt to copy.
    """
    kept, twice = learnt(results, "copy"), str(2 * trained_size(results))
    lines = []
    for method, share in PUBLISHED.items():
        ours = _cell(kept[method][twice]) if method in kept else "not learnt"
        lines.append([label(method), f"{100 * share:.0f}", ours])
    text = markdown(["copying at twice the trained size (%)", "published", "ours"], lines)
    both = [method for method in PUBLISHED if method in kept]
    if nothing := both and _hardly_any({method: kept[method][twice] for method in both}):
        both = []
    found: dict[str, list[str]] = {}
    for higher, lower in itertools.combinations(both, 2):  # in the published order
        verdict = paired_difference(kept[higher][twice], kept[lower][twice]).verdict
        kind = {"higher": "The orders agree", "lower": "The orders disagree"}
        found.setdefault(kind.get(verdict, "Our seeds do not decide"), []).append(
            f"{label(higher)} above {label(lower)}")
    sentences = [f"- {kind}: {'; '.join(names)}." for kind, names in found.items()]
    if nothing:
        sentences.append("- None of our rows that count copies 1 % of the words: there is no order "
                         "to compare.")
    if left := [label(method) for method in PUBLISHED if method not in kept]:
        sentences.append(f"- Nothing is compared for {', '.join(left)}, which did not learn to "
                         "copy the trained sizes here.")
    return "\n".join(["## Beside the published means\n", text, *sentences])


def readme_part(results: Sequence[Mapping]) -> str:
    """What the README says of each problem, and the tables of ``README_PROBLEMS``."""
    begin = (f"Tasks that need positions: trained on up to {trained_size(results)} symbols, tested "
             "on longer inputs ([lesson 18](notebooks/18_tasks_that_need_positions.ipynb)). In "
             f"brackets: 95 % intervals of the mean, from five seeds on. {_rule(results)} The "
             f"tables of all problems are in [{FILE}-small.md](data/results/{FILE}-small.md).\n")
    parts = [begin]
    for problem in problems_of(results):
        parts.append(f"**{problem}** needs {PROBLEMS[problem].needs}. "
                     f"{conclusion(results, problem)}\n")
        if problem in README_PROBLEMS:
            parts.append(table(results, problem))
    return "\n".join(parts)


def readme_figure(results: Sequence[Mapping]) -> go.Figure:
    """The README's second picture: the problems of ``README_PROBLEMS`` that have results."""
    shown = [problem for problem in README_PROBLEMS if problem in problems_of(results)]
    largest = max(int(size) for problem in shown
                  for row in rows_of(results, problem).values() for size in row)
    title = f"Trained on up to {trained_size(results)} symbols (dashed), tested on up to {largest}"
    return picture(results, shown, title)


def readme_picture(results: Sequence[Mapping]) -> str:
    """What the README's second picture shows, as its text."""
    twice = str(2 * trained_size(results))
    shown = ". ".join(f"{problem}: " + "; ".join(filter(None, [
        _means(learnt(results, problem), twice),
        *(f"{name} not learnt" for name in _not_learnt(results, problem))]))
        for problem in README_PROBLEMS if problem in problems_of(results))
    return (f"Exact match against the size of the input; at size {twice}, twice the trained size: "
            f"{shown}")


def _not_learnt(results: Sequence[Mapping], problem: str) -> dict[str, str]:
    """The names of the rows that do not count, and how many of their seeds would ("2 of 5")."""
    kept, trained = learnt(results, problem), trained_size(results)

    def seeds(row: Sizes) -> str:
        every = next(iter(row.values()))
        did = [has_learnt({size: [row[size][seed]] for size in row}, trained) for seed in every]
        return f"{sum(did)} of {len(every)}"
    return {label(method): seeds(row) for method, row in rows_of(results, problem).items()
            if method not in kept}


def _rule(results: Sequence[Mapping]) -> str:
    """Which rows count, in a sentence."""
    trained = trained_size(results)
    sizes = {int(size) for result in results for size in result.get("exact_match", ())}
    tested = " and ".join(str(size) for size in sorted(sizes) if size <= trained)
    return f"A row counts if its mean is at least {LEARNT:g} % at the trained sizes {tested}."


def problems_of(results: Sequence[Mapping]) -> list[str]:
    """The problems that results are of, in their order."""
    return list(dict.fromkeys(result["data"]["problem"] for result in results))


def _means(rows: Mapping[str, Sizes], size: str) -> str:
    """The means of some rows at a size, in words, the highest first."""
    order = sorted(rows, key=lambda method: -_mean(rows[method][size]))
    return "; ".join(f"{label(method)} {_mean(rows[method][size]):.1f} %" for method in order)


def _hardly_any(scores: Mapping[str, Mapping[int, float]]) -> bool:
    """Whether no row is right in 1 % of the inputs: then no order of them means anything."""
    return all(_mean(seeds) < 1 for seeds in scores.values())


def _mean(seeds: Mapping[int, float]) -> float:
    return sum(seeds.values()) / len(seeds)


def _cell(seeds: Mapping[int, float]) -> str:
    """A mean with the interval of it."""
    if failed := [str(seed) for seed, value in seeds.items() if math.isnan(value)]:
        return f"seed {', '.join(failed)} failed"
    found = paired_difference(seeds, dict.fromkeys(seeds, 0.0))
    if math.isinf(found.low):
        return f"{found.mean:.1f}"
    return with_interval(found, 1).replace("+", "")
