"""Conclusions from findings, in words: for lessons, and for the README (``collect`` writes it).

No conclusion is typed by hand; with fewer than five seeds a row, none is drawn.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from seqpe_lab import recipes
from seqpe_lab.course import figures
from seqpe_lab.course.result_tables import HEADINGS, by_method, common_measure, summary_columns
from seqpe_lab.course.style import label
from seqpe_lab.reproduction import comparison, context_results, problem_results
from seqpe_lab.reproduction.findings import (FAILED, FEW, OPEN, PARTS, TIE, Finding, compare,
                                             flatness, of_table, rows_of, values_of)
from seqpe_lab.reproduction.manifest import methods_of
from seqpe_lab.statistics import LEAST

if TYPE_CHECKING:
    from seqpe_lab.course.lesson import Lesson

OF_MEASURE = {"perplexity": ("table1", "table4-text"), "exact_match": ("table2-exact-match",),
              "accuracy": ("table3", "table4-images", "table5")}


def follows_protocol(results: Sequence[Mapping]) -> bool:
    """Whether results have all rows of their tables, seeds 0 to 4 each, of one clean commit.

    Args:
        results: all of a task at small scale.
    """
    commits, seeds = _commits_and_seeds(results)
    tables = (PARTS[name] for name in OF_MEASURE[common_measure(results)])
    rows = {method for part in tables for method in methods_of(part, "small")}
    wanted = set(range(LEAST))
    return (len(commits) == 1 and re.fullmatch(r"[0-9a-f]+", *commits) is not None
            and all(seeds.get(method, set()) >= wanted for method in rows))


def standing(results: Sequence[Mapping]) -> str:
    """How many seeds and commits are behind results, in a sentence or two."""
    commits, seeds = _commits_and_seeds(results)
    counts = sorted(map(len, seeds.values()))
    number = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    if follows_protocol(results):
        chosen = ("fine-tuning has the same settings for all rows, which earlier versions chose "
                  "partly by test questions" if common_measure(results) == "exact_match" else
                  "settings were chosen on validation data")
        return (f"{number} seeds a row, all of commit {commits.pop()}; {chosen}, as "
                "data/results/PROTOCOL.md says.")
    return (f"{number} seed{'s' * (counts[-1] > 1)} a row, of {len(commits)} "
            f"commit{'s' * (len(commits) > 1)}. These results do not follow "
            "data/results/PROTOCOL.md, which asks for five seeds in each row of the tables, "
            "all of one commit.")


def summary(found: Iterable[Finding]) -> str:
    """Findings as a list in Markdown; what contradicts the paper comes first, in bold.

    >>> found = Finding("alibi", "seqpe", "better", "worse", "4.6 against 5.0, -0.4", "+0.6")
    >>> print(summary([found]), end="")
    - **Against the paper: ALiBi is better than SeqPE** (4.6 against 5.0, -0.4; the paper: +0.6).
    """
    found = list({(f.method, f.other): f for f in found}.values())  # rows of two tables once
    lines = [f"**Against the paper: {f.claim}** ({f.evidence}; the paper: {f.paper_evidence})."
             for f in found if f.contradicts]
    decided = [f for f in found if f.decided and not f.contradicts]
    lines += _grouped("As in the paper, ", [f for f in decided if f.paper])
    lines += _grouped("Not compared in the paper, ", [f for f in decided if not f.paper])
    lines += _grouped("", [f for f in found if f.verdict in (TIE, OPEN)])
    if failed := dict.fromkeys(f.evidence for f in found if f.verdict == FAILED):
        lines.append(f"Failed, so that nothing is concluded about the row: {_listed(failed)}.")
    if few := [f for f in found if f.verdict == FEW]:
        rows = dict.fromkeys(label(f.method) for f in few)
        lines.append("With fewer than five seeds no interval exists, and nothing is concluded "
                     f"about {_listed(rows) if len(few) < len(found) else 'these rows'}.")
    return "".join(f"- {line[0].upper()}{line[1:]}\n" for line in lines)


def conclusions(measure: str, results: Sequence[Mapping]) -> str:
    """The README's text on a measure: what its results are, and all they say."""
    found = [f for name in OF_MEASURE[measure] for f in of_table(name, results)]
    return f"{standing(results)}\n\n{summary(found)}"


def headline(results: Sequence[Mapping], of_problems: Sequence[Mapping] = (),
             of_context: Sequence[Mapping] = ()) -> str:
    """The README's pictures, with what they show, and SeqPE's comparison with ALiBi.

    Args:
        results: of language models.
        of_problems: of algorithmic problems; without any, there is one picture.
        of_context: how the language models use their context; what they say stands last.
    """
    part, rows = PARTS["table1"], [r for r in results if r["method"] in recipes.HEADLINE]
    values = by_method(rows, "perplexity")
    grown = "; ".join(f"{label(method)} {flatness(part, values, method).evidence}"
                      for method in recipes.HEADLINE if method in values)
    grown = grown.replace("[", "(").replace("]", ")")  # the text of a picture ends at a "]"
    first, *_, last = (int(column) for column in values[rows[0]["method"]] if column != "mean")
    text = (f"![Perplexity against context length, trained on {first} tokens; from {first} to "
            f"{last:,} tokens it changes by: {grown}](data/results/extrapolation.png)")
    if of_problems:
        second = f"![{problem_results.readme_picture(of_problems)}](data/results/exact-match.png)"
        text = f"| {text} | {second} |\n|---|---|"
    text += "\n"
    if {"seqpe", "alibi"} <= values.keys():
        found = compare(part, values, "seqpe", "alibi")
        text += f"\nMean perplexity over the lengths: {found.claim} ({found.evidence}).\n"
    text += _on_problems(of_problems, "seqpe")
    if of_context:
        methods = ("seqpe", "alibi", "rope-1e4")
        text += f"\n{context_results.readme_line(of_context, methods)}"
    return text


def _on_problems(results: Sequence[Mapping], method: str) -> str:
    """Where a method is among the best at twice the trained size, and what it has not learnt."""
    best, below, nobody, missed = (
        f"{label(method)} has the highest exact match, or no difference from it is seen, in",
        f"{label(method)} is below the highest in", "no encoding that counts is right in 1 % in",
        f"{label(method)} has not learnt the trained sizes well enough to count in")
    groups: dict[str, list[str]] = {best: [], below: [], nobody: [], missed: []}
    for problem in problem_results.problems_of(results):
        twice = str(2 * problem_results.trained_size(results))
        kept = problem_results.learnt(results, problem)
        leaders, _ = problem_results.best_of(results, problem, twice, kept, nobody)
        if method in kept and leaders:  # none with fewer than five seeds
            among = best if method in leaders else below
            groups[nobody if leaders == [nobody] else among].append(problem)
        elif method in problem_results.rows_of(results, problem) and method not in kept:
            groups[missed].append(problem)
    said = "; ".join(f"{what} {', '.join(names)}" for what, names in groups.items() if names)
    return ("\nTasks that need positions, at twice the trained size ([lesson 18](notebooks/"
            f"18_tasks_that_need_positions.ipynb)): {said}.\n") if said else ""


def table(name: str, results: Sequence[Mapping]) -> go.Figure:
    """A table of committed results: mean ± standard deviation, differences to the reference."""
    part, rows = PARTS[name], rows_of(name, results)
    columns = summary_columns(values_of(name, rows), *HEADINGS[part.measure], part.reference)
    widths = {"seeds": 0.6, next(iter(columns)): 1.4, [*columns][-1]: 1.8}
    return figures.table(
        columns, title=f"{part.title}, committed results",
        widths=[widths.get(column, 1.0) for column in columns],
        caption=f"{figures.caption(rows)} · ± standard deviation over the seeds; in brackets "
        "95 % intervals, from five seeds on")


def picture(name: str, results: Sequence[Mapping]) -> go.Figure:
    """Committed results of a table: means, with bands from the lowest to the highest seed."""
    part, rows = PARTS[name], rows_of(name, results)
    figure = comparison.picture(part, rows, recipes.MAKERS[part.task](part.reference, "small"))
    failed = dict.fromkeys(label(r["method"]) for r in rows if "failed" in r)
    missing = f" (a run failed, no line: {_listed(failed)})" if failed else ""
    return figure.update_layout(title_text=f"{part.title}, committed results{missing}")


def compare_own_runs(lab: Lesson, name: str, committed: Sequence[Mapping],
                     own: Sequence[Mapping]) -> None:
    """Report whether a reader's own runs, of one seed, agree with what committed results decide.

    Where those decide nothing, nothing is expected of one seed.
    """
    mine = {(f.method, f.other): f for f in of_table(name, own, one_seed=True)}
    theirs = [f for f in of_table(name, committed) if (f.method, f.other) in mine]
    for f in theirs:
        if f.decided:
            lab.expect(f.claim, mine[f.method, f.other].verdict == f.verdict)
    if left := sum(not f.decided for f in theirs):
        print(f"Nothing is expected of one seed in {left} of {len(theirs)} comparisons: "
              "the committed results do not decide them.")


def _grouped(heading: str, found: Sequence[Finding]) -> list[str]:
    """A line for each verdict and row that others are compared with."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for f in found:
        groups.setdefault((f.verdict, f.other), []).append(f)
    lines = []
    for (verdict, other), group in groups.items():
        # of many decided rows the numbers stand in the table
        brief = group[0].decided and len(group) > 2 and verdict != "flat"
        names = []
        for f in group:
            paper = f"; the paper: {f.paper_evidence}" * bool(f.paper and not f.decided)
            names.append(label(f.method) + f" ({f.evidence}{paper})" * (not brief))
        link = f" from {label(other)}" if verdict == TIE else f" than {label(other)}" * bool(other)
        what = "flat or not is open" if verdict == OPEN else verdict + link
        lines.append(f"{heading}{what}: {_listed(names)}.")
    return lines


def _listed(names: Iterable[str]) -> str:
    return "; ".join(names)  # names of rows contain commas


def _commits_and_seeds(results: Iterable[Mapping]) -> tuple[set[str], dict[str, set[int]]]:
    commits, seeds = set(), {}
    for result in results:
        if not result.get("protocol", "").startswith("object"):
            commits.add(str(result.get("commit")))
            seeds.setdefault(result["method"], set()).add(result["seed"])
    return commits, seeds
