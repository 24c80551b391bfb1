"""Gather finished runs into data/results, and write the README's parts that are made from them."""
from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from seqpe_lab import recipes
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import figures
from seqpe_lab.course.figure_files import write_image
from seqpe_lab.course.result_tables import common_measure, complete, readme_table
from seqpe_lab.package_data import clone, committed_if_any, results_file
from seqpe_lab.reproduction import comparison, context_results, problem_results
from seqpe_lab.reproduction.conclusions import conclusions, headline
from seqpe_lab.reproduction.manifest import (FURTHER, TABLES, TASK_PROBLEMS, TASK_ROWS,
                                             fixed_fields)
from seqpe_lab.runs import Run, runs_folder, scan_runs

ENCODINGS, = TABLES["encodings"]
# file in data/results: (task, methods in the order of its table); the README shows all but the last
RESULTS = {
    "length-extrapolation": ("lm", [*recipes.METHODS, *recipes.ABLATIONS, *recipes.UNSHIFTED]),
    "question-answering": ("qa", [*recipes.METHODS, *recipes.ABLATIONS, *recipes.QA_ABLATIONS]),
    "resolution-extrapolation": ("image", [*recipes.IMAGE_METHODS, *recipes.IMAGE_ABLATIONS,
                                           *recipes.IMAGE_UNSHIFTED]),
    problem_results.FILE: ("algorithm", TASK_ROWS),
    "encodings": ("lm", [*ENCODINGS.rows]),
}
OF_PAPER = tuple(RESULTS)[:3]
# of the README's first screen
HEADLINE_FILES = tuple(f"{name}-small" for name in (
    OF_PAPER[0], problem_results.FILE, context_results.FILE))
OF_SEQPE_ALONE = ("alpha", "beta", "shifted")  # fields that may differ within one table


def collect(scale: str, files: Collection[str] = tuple(RESULTS)) -> list[Path]:
    """Write the results of all finished runs of a scale, and at small scale the README's part.

    A run that has failed is written as such, with the reason in ``failed`` and without numbers, and
    tables say so in its row. One whose recipe cannot be read is left out with a warning.

    At medium and full scale runs may differ from the preset (in source or steps, for instance),
    but all in the same way. The encodings beyond the paper's and the algorithmic problems come with
    a page; that of the encodings also holds the paper's with the same settings, and without any
    others it is not written.

    Args:
        files: which of ``RESULTS``.

    Returns:
        The files written, each a list with the results or the failure of every run, sorted.

    Raises:
        ValueError: no finished run at this scale; runs that were changed in different ways; two
            runs of one method and seed; results of different commits in one file; a run whose
            files are damaged.
    """
    found, unreadable = scan_runs()
    for reason in unreadable.values():
        warnings.warn(f"left out of the tables: {reason}", stacklevel=2)
    finished = [run for run in found if run.recipe.scale == scale and run.outcome()]
    tables: dict[str, list[dict]] = {}
    for name in files:
        task, methods = RESULTS[name]
        runs = [run for run in finished
                if run.recipe.task == task and run.recipe.method in methods]
        if task == "algorithm":
            runs = [run for run in runs if run.recipe.problem in TASK_PROBLEMS]
        fixed = fixed_fields(ENCODINGS, scale) if name == "encodings" else {}
        if name == "encodings" and not any(run.recipe.method in FURTHER for run in runs):
            continue
        results = [run.outcome() for run in _changed_alike(runs, scale, fixed)]
        results.sort(key=lambda r: (_place_of_problem(r), r.get("protocol", ""),
                                    methods.index(r["method"]), r["seed"]))
        if results:
            check_one_commit(results)
            tables[name] = results
    if not tables:
        raise ValueError(f"no finished runs at scale {scale!r} in {runs_folder()}: "
                         "train some first")
    written = []
    for name, results in tables.items():
        path = results_file(f"{name}-{scale}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(results, indent=1))
        written.append(path)
        page = {"encodings": partial(comparison.page, ENCODINGS),
                problem_results.FILE: problem_results.page}.get(name)
        if page:
            written.append(path.with_suffix(".md"))
            write_atomically(written[-1], page(results))
        if name == "encodings" and scale == "small":
            write_readme_part("encodings", comparison.readme_part(results))
        elif scale == "small":
            write_readme(results)
    return written


def _place_of_problem(result: Mapping) -> int:
    problem = result.get("data", {}).get("problem")
    return TASK_PROBLEMS.index(problem) if problem else 0


def check_one_commit(results: Sequence[Mapping]) -> None:
    """Refuse results of different versions of the code, which cannot stand in one table.

    Each algorithmic problem has a table of its own.

    Raises:
        ValueError: names the runs of each commit.
    """
    tables: dict[str, dict[str, list[str]]] = {}  # {problem: {commit: runs}}
    for result in results:
        commits = tables.setdefault(result.get("data", {}).get("problem", ""), {})
        runs = commits.setdefault(str(result.get("commit")), [])
        runs.append(f"{result['method']} seed {result['seed']}")
    for commits in (found for found in tables.values() if len(found) > 1):
        listed = "\n  ".join(f"{commit}: {', '.join(runs)}" for commit, runs in commits.items())
        raise ValueError(f"these results are of {len(commits)} different commits and cannot stand "
                         f"in one table:\n  {listed}\nMove the runs of all but one elsewhere and "
                         "train those methods again")


def _changed_alike(runs: Sequence[Run], scale: str, fixed: Mapping) -> Sequence[Run]:
    """The runs of the preset; without any, at medium and full scale, those of its one variant.

    Args:
        fixed: fields that the preset has instead of its own.
    """
    variants: dict[str, list[Run]] = {}
    for run in runs:
        kept = {"augment": run.recipe.augment} if run.recipe.task == "image" else {}
        changed = recipes.changed_from_preset(run.recipe, **kept, **fixed)
        if not changed or scale in ("medium", "full"):
            shared = {name: v for name, v in changed.items() if name not in OF_SEQPE_ALONE}
            variants.setdefault(json.dumps(shared, sort_keys=True), []).append(run)
    if "{}" not in variants and len(variants) > 1:
        listed = "\n  ".join(f"{len(group)} with {changed}, such as {group[0].folder}"
                             for changed, group in variants.items())
        raise ValueError(f"the finished runs at scale {scale!r} differ from the preset in "
                         f"different ways and cannot stand in one table:\n  {listed}\nMove all "
                         "but one kind elsewhere, or point SEQPE_RUNS at a folder with one kind")
    chosen = variants.get("{}") or next(iter(variants.values()), [])
    seen: dict[tuple, Run] = {}
    for run in chosen:
        recipe = run.recipe
        key = (recipe.method, recipe.seed, getattr(recipe, "augment", None),
               getattr(recipe, "problem", None))
        if key in seen:
            raise ValueError(f"there are two runs of {recipe.method} with seed "
                             f"{recipe.seed}, {seen[key].folder} and {run.folder}: move one "
                             "elsewhere")
        seen[key] = run
    return chosen


def write_readme_part(name: str, new: str) -> None:
    """Write another part between two marks of the README."""
    readme = clone() / "README.md"
    write_atomically(readme, between(name, new, readme.read_text(encoding="utf-8")))


def write_readme(results: Sequence[Mapping]) -> None:
    """Write the README's table and text of a task; its first pictures, if they show the task."""
    if "trained_size" in complete(results)[0]:  # algorithmic problems, whose part is a whole
        write_readme_part("tasks", problem_results.readme_part(results))
        write_first_screen()
        return
    measure = common_measure(results)
    write_readme_part(measure, readme_table(results))
    write_readme_part(f"{measure} conclusions", conclusions(measure, results))
    if measure == "perplexity":
        write_first_screen()


def write_first_screen() -> None:
    """Write the README's first pictures: perplexity and, once there are results, exact match."""
    of_text, of_problems, of_context = map(committed_if_any, HEADLINE_FILES)
    folder = results_file("").parent
    if not of_text:
        return
    figure = figures.extrapolation(
        [r for r in of_text if r["method"] in recipes.HEADLINE],
        train_len=recipes.language_model("seqpe", "small").train_len,
        title="Trained on 64 tokens, tested on up to 1,024")
    write_image(figure, folder / "extrapolation.png")
    if of_problems:
        write_image(problem_results.readme_figure(of_problems), folder / "exact-match.png")
    write_readme_part("headline", headline(of_text, of_problems, of_context))


def marks(name: str) -> tuple[str, str]:
    """The lines before and after a generated part of a page."""
    return f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"


def between(name: str, new: str, text: str) -> str:
    """The text with another part between its marks, which it need not have."""
    begin, end = marks(name)
    before, mark, rest = text.partition(begin)
    return before + begin + new + end + rest.partition(end)[2] if mark else text
