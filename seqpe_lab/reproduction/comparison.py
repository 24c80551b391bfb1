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
BESIDE_PUBLISHED = (
    "Our rows have small models, a short training length and the same untuned settings for all. "
    "Differences are paired by seed; in brackets Student's 95 % intervals. The last column says in "
    "what a paper's own comparison differs.\n")
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
        "## Ours\n", "Means and standard deviations over the seeds.\n",
        summary_table(values, heading, decimals),
        f"## Ours, minus {label(table.reference)}\n",
        INTERVALS.format(OF_FEW_SEEDS if table.few_seeds else "") + "\n",
        difference_table(values, table.reference, heading, decimals, table.few_seeds),
        *_beside_published(table, results),
        "## The paper's\n",
        markdown([heading, *columns],
                 [[label(method), *(_printed(row[column], decimals) for column in columns)]
                  for method, row in theirs.items()])])


def _beside_published(table: Table, results: Sequence[Mapping]) -> list[str]:
    """Of encodings beyond the paper's: what published papers find, and what ours say of it."""
    if table.name != "encodings" or not encoding_claims.judged(results):
        return []
    return ["## What published papers find\n", BESIDE_PUBLISHED,
            encoding_claims.summary(results), encoding_claims.table(results)]


def readme_part(results: Sequence[Mapping]) -> str:
    """The README's lines on encodings beyond the paper's."""
    further = {result["method"] for result in results} & set(FURTHER)
    seqpe = by_method(results, "perplexity")["seqpe"]
    seeds, lengths = len(seqpe["mean"]), [int(n) for n in seqpe if n != "mean"]
    return (f"{len(further)} further encodings and variants beside those of the paper, {seeds} "
            f"seeds a row, all of commit {results[0].get('commit')}. All rows have the same "
            "settings, which were tuned for none of them; so SeqPE's mean over "
            f"{min(lengths):,} to {max(lengths):,} tokens is "
            f"{sum(seqpe['mean'].values()) / seeds:.2f} here and another one in the table above. "
            "All numbers are in [encodings-small.md](data/results/encodings-small.md).\n\n"
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
