"""Results: pictures and a page of tables with intervals, committed ones and the reader's own.

Pictures are drawn from the committed results until all own runs of a table are finished.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go
from markupsafe import Markup

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import figures
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.course.page_templates import render
from seqpe_lab.course.result_tables import HEADINGS, summary_table
from seqpe_lab.course.typesetting import to_html
from seqpe_lab.package_data import committed_results, results_file
from seqpe_lab.reproduction import comparison, conclusions
from seqpe_lab.reproduction.collecting import OF_PAPER, RESULTS
from seqpe_lab.reproduction.findings import PARTS, of_table, rows_of, values_of
from seqpe_lab.runs import Run
from seqpe_lab.site.pages import further_pages

SHOWN = ("table1", "table4-text", "table2-exact-match", "table3", "table4-images", "table5")


class Shown(NamedTuple):
    """Results of one table of the paper, and what is said of where they come from."""
    name: str
    committed: Sequence[Mapping]
    own: Sequence[Mapping]
    standing: str  # of all committed results of the task, not of these rows alone

    @property
    def about(self) -> str:
        return _of_one_seed(self.own) if self.own else f"Committed results: {self.standing}"


def write(folder: Path, runs: Iterable[Run]) -> None:
    """Draw the headline and a picture of each table, and write ``results.html``.

    Args:
        runs: the reader's own; those of a table count when all of them are finished.
    """
    runs, committed = list(runs), _committed()
    _draw(folder, "headline", *_headline(committed.get("lm", []), runs))
    tables = []
    for name in SHOWN:
        task = PARTS[name].task
        if task in committed:
            shown = Shown(name, rows_of(name, committed[task]),
                          rows_of(name, _finished(runs, task, PARTS[name].rows)),
                          conclusions.standing(committed[task]))
            tables.append(_table(folder, shown))
    write_atomically(folder / "results.html", render(
        "results.html", title="Results", here="results.html", tables=tables,
        intervals=comparison.INTERVALS.format(""), further=further_pages()))


def _table(folder: Path, shown: Shown) -> dict:
    """Draw a table's picture; returns what the page shows of it."""
    part = PARTS[shown.name]
    if shown.own:
        recipe = recipes.MAKERS[part.task](part.reference, shown.own[0]["scale"])
        figure = comparison.picture(part, shown.own, recipe)
        figure.update_layout(title_text=f"{part.title}, your run, one seed")
    else:
        figure = conclusions.picture(shown.name, shown.committed)
    _draw(folder, shown.name, figure, shown.about)
    values = values_of(shown.name, shown.committed)
    heading, decimals = HEADINGS[part.measure]
    own = values_of(shown.name, shown.own) if shown.own else {}
    return {
        "name": shown.name, "title": part.title, "about": shown.about,
        "has_image": (folder / f"{shown.name}.png").exists(),
        "standing": shown.standing,
        "table": Markup(to_html(summary_table(values, heading, decimals, part.reference))),
        "conclusions": Markup(to_html(conclusions.summary(of_table(shown.name, shown.committed)))),
        "own": Markup(to_html(summary_table(own, heading, decimals, part.reference))) if own else ""
    }


def _headline(committed: Sequence[Mapping], runs: Sequence[Run]) -> tuple[go.Figure | None, str]:
    """The course's first picture, and where it comes from."""
    own = _finished(runs, "lm", recipes.HEADLINE)
    rows = own or [r for r in committed if r["method"] in recipes.HEADLINE]
    if not rows:
        return None, ""
    recipe = recipes.language_model("seqpe", rows[0]["scale"])
    lengths = f"Trained on {recipe.train_len} tokens, tested on up to {max(recipe.eval_lens):,}"
    whose = "your run, one seed" if own else "committed results"
    figure = figures.extrapolation(rows, train_len=recipe.train_len, title=f"{lengths}: {whose}")
    return figure, (_of_one_seed(own) if own else
                    f"Committed results: {conclusions.standing(committed)}")


def _draw(folder: Path, name: str, figure: go.Figure | None, about: str) -> None:
    """Write a picture, unless the one that is there is of the same results."""
    if figure is None:
        return
    drawn, page = folder / f"{name}.drawn", folder / f"{name}.html"
    digest = hashlib.sha256((figure.to_json() + about).encode()).hexdigest()
    if not (page.exists() and drawn.exists() and drawn.read_text(encoding="utf-8") == digest):
        write_figure(figure, folder, name, about=about, back="index.html")
        write_atomically(drawn, digest)


def _committed() -> dict[str, list[dict]]:
    """{task: its committed results at small scale}, of the tasks that have some."""
    names = {RESULTS[name][0]: f"{name}-small" for name in OF_PAPER}
    return {task: committed_results(name) for task, name in names.items()
            if results_file(name).exists()}


def _finished(runs: Iterable[Run], task: str, methods: Iterable[str]) -> list[dict]:
    """Results of own runs of a table's methods; none as long as one of them is missing."""
    wanted = [run for run in runs if run.recipe.task == task and run.recipe.method in methods
              and getattr(run.recipe, "augment", None) != "place"]
    if not wanted or any(run.state not in ("finished", "failed") for run in wanted):
        return []
    outcomes = [run.outcome() for run in wanted]
    return outcomes if any("failed" not in outcome for outcome in outcomes) else []


def _of_one_seed(results: Sequence[Mapping]) -> str:
    seeds = ", ".join(sorted({str(result["seed"]) for result in results}))
    return (f"Your own runs, one seed ({seeds}), commit {results[0].get('commit')}: "
            "one draw, from which nothing is concluded.")
