"""Our results beside the paper's: a page of Markdown tables, and a picture with bands."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from seqpe_lab import recipes
from seqpe_lab.course import figures
from seqpe_lab.course.result_tables import (HEADINGS, by_method, difference_table, markdown,
                                            summary_table)
from seqpe_lab.course.style import label
from seqpe_lab.reproduction import encoding_claims
from seqpe_lab.reproduction.manifest import FURTHER, Table, paper_rows

INTERVALS = ('Differences are paired by seed; in brackets 95 % intervals (bootstrap over seeds, '
             'from five seeds on{}). "Lower" and "higher" stand where the interval excludes 0.')
BESIDE_THEIR_PAPERS = (
    "These rows have small models, a short training length and the same untuned settings for all. "
    "A result against a paper speaks of this set-up; it does not refute the paper. Differences are "
    "paired by seed, in brackets Student's 95 % interval, not corrected for their number.\n")
OF_FEW_SEEDS = "; Student's for three and four"


def page(table: Table, results: Sequence[Mapping]) -> str:
    """Markdown: means and standard deviations, paired differences, and the paper's numbers.

    Args:
        results: contents of ``results.json``, as many seeds of each method.
    """
    values, (heading, decimals) = by_method(results, table.measure), HEADINGS[table.measure]
    theirs = paper_rows(table)
    columns = list(next(iter(theirs.values())))
    return "\n".join([
        f"# {table.title}\n", f"{figures.caption(results)} · commit {results[0].get('commit')}\n",
        "## Ours\n", summary_table(values, heading, decimals),
        f"## Ours, minus {label(table.reference)}\n",
        INTERVALS.format(OF_FEW_SEEDS if table.few_seeds else "") + "\n",
        difference_table(values, table.reference, heading, decimals, table.few_seeds),
        *_beside_their_papers(table, results),
        "## The paper's\n",
        markdown([heading, *columns],
                 [[label(method), *(_printed(row[column], decimals) for column in columns)]
                  for method, row in theirs.items()])])


def _beside_their_papers(table: Table, results: Sequence[Mapping]) -> list[str]:
    """Of encodings beyond the paper's: what their own papers find, and what ours say of it."""
    if table.name != "encodings" or not encoding_claims.judged(results):
        return []
    return ["## What their own papers find\n", BESIDE_THEIR_PAPERS,
            encoding_claims.summary(results), encoding_claims.table(results)]


def readme_part(results: Sequence[Mapping]) -> str:
    """The README's lines on encodings beyond the paper's."""
    methods = list(dict.fromkeys(result["method"] for result in results))
    seeds = len({result["seed"] for result in results})
    return (f"{sum(method in FURTHER for method in methods)} further encodings and variants beside "
            f"those of the paper, {seeds} seeds a row, all of commit {results[0].get('commit')}. "
            "All rows have the same settings and none was tuned, so SeqPE's number is not that of "
            "the table above; all numbers are in "
            "[encodings-small.md](data/results/encodings-small.md).\n\n"
            + encoding_claims.summary(results))


def picture(table: Table, results: Sequence[Mapping], recipe: recipes.Training) -> go.Figure:
    """Lines through the means, bands from the lowest to the highest seed.

    Args:
        recipe: of any of the runs: all have the trained length or size.
    """
    if isinstance(recipe, recipes.ImageRecipe):
        return figures.resolution(results, train_size=recipe.image_size, title=table.title)
    draw = figures.answers if table.measure == "exact_match" else figures.extrapolation
    return draw(results, train_len=recipe.train_len, title=table.title)


def _printed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if value < 1_000 else f"{value:,.0f}"
