"""What ``runs`` lists: every run below a folder, by task and scale, with what distinguishes it."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from seqpe_lab import recipes
from seqpe_lab.cli.recipe_options import value_text
from seqpe_lab.cli.task_table import TASKS
from seqpe_lab.jobs import Job
from seqpe_lab.plain_text import columns
from seqpe_lab.runs import Run, main_measure, scan_runs

SHOWN = 4  # fields in which a run differs; the others are counted


@dataclass
class Entry:
    """A folder with a recipe.json."""
    folder: Path
    state: str  # one of seqpe_lab.jobs.STATES, or "damaged"
    step: int = 0
    recipe: recipes.Training | None = None  # None if it cannot be read
    results: dict[str, Any] = field(default_factory=dict)  # of a finished run
    trouble: str = ""  # what cannot be read of a damaged folder; where a run diverged
    measured: dict[int, float] = field(default_factory=dict)  # {length or size: value}

    def value(self, name: str) -> Any:
        """"state", or a value of the recipe, "task" included; None where there is none."""
        return self.state if name == "state" else getattr(self.recipe, name, None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for programs."""
        recipe = {} if self.recipe is None else self.recipe.model_dump(mode="json")
        return {"folder": str(self.folder), "state": self.state, "step": self.step,
                "task": self.value("task"), "recipe": recipe, "results": self.results,
                "problem": self.trouble}


def entries_in(root: Path) -> list[Entry]:
    """All runs below a folder, by path; of each only small files and the end of its log are read.

    A folder that cannot be read is an entry of its own and hides no other.
    """
    found, unreadable = scan_runs(root)
    entries = [Entry(folder, "damaged", trouble=reason.splitlines()[0])
               for folder, reason in unreadable.items()]
    return sorted([*entries, *map(_entry_of, found)], key=lambda entry: entry.folder)


def _entry_of(run: Run) -> Entry:
    entry = Entry(run.folder, "damaged", recipe=run.recipe)
    try:
        entry.step = run.step
        if "failed" in (outcome := run.outcome() or {}):
            entry.trouble = outcome["failed"]
        elif outcome:
            measured = outcome[main_measure(outcome)]
            entry.measured = {int(at): float(value) for at, value in measured.items()}
            entry.results = outcome
        entry.state = Job(run.recipe, run.folder).state
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        entry.trouble, entry.results = f"{type(error).__name__}: {error}".splitlines()[0], {}
    return entry


def table(entries: Sequence[Entry]) -> Iterator[str]:
    """Lines: a table for each task and scale, then the damaged folders with what is wrong."""
    readable = [entry for entry in entries if entry.state != "damaged"]

    def place(entry: Entry) -> tuple[int, int]:
        return list(TASKS).index(entry.recipe.task), recipes.SCALES.index(entry.recipe.scale)
    for number, (_, group) in enumerate(groupby(sorted(readable, key=place), key=place)):
        yield from [""] * (number > 0)
        yield from _group(list(group))
    if failed := [entry for entry in readable if entry.trouble]:
        yield from ["", f"{len(failed)} failed: delete the folder to train again"]
        yield from columns([(entry.folder, entry.trouble) for entry in failed], "<<")
    damaged = [entry for entry in entries if entry.state == "damaged"]
    if damaged:
        yield from [""] * bool(readable)
        yield f"{len(damaged)} damaged, or of another version: mend or delete the folder"
        yield from columns([(entry.folder, entry.trouble) for entry in damaged], "<<")


def _group(entries: Sequence[Entry]) -> Iterator[str]:
    """The table of one task and scale."""
    task, scale = entries[0].recipe.task, entries[0].recipe.scale
    finished = [entry for entry in entries if entry.results]
    places = sorted({at for entry in finished for at in entry.measured})
    of_task = TASKS[task]
    heading = f"{of_task.runs}, scale {scale}: {len(entries)} run{'s' * (len(entries) > 1)}"
    if finished:
        measure = of_task.measures[main_measure(finished[0].results)]
        heading += f"; {measure} by {of_task.varied}"
    yield heading
    differences = different_values([entry.recipe for entry in entries])
    rows: list[tuple[object, ...]] = [
        ("state", "steps", "method", "seed", *(f"{at:,}" for at in places), "differs in", "folder")]
    for entry, different in zip(entries, differences):
        values = (f"{entry.measured[at]:.2f}" if at in entry.measured else "" for at in places)
        rows.append((entry.state, f"{entry.step:,}/{entry.recipe.steps:,}", entry.recipe.method,
                     entry.recipe.seed, *values, _short(different), entry.folder))
    yield from columns(rows, f"<><>{'>' * len(places)}<<")


def different_values(training: Sequence[recipes.Training]) -> list[dict[str, Any]]:
    """For each recipe, what it changes of its preset, in the fields that vary among its method's.

    >>> different_values([recipes.language_model("alibi", "smoke", seed, steps=steps, batch=16)
    ...                   for seed, steps in ((0, 3), (1, 3), (0, 12))])
    [{'steps': 3}, {'steps': 3}, {}]
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for recipe in training:
        groups.setdefault((recipe.task, recipe.scale, recipe.method), []).append(dict(recipe))
    found = []
    for recipe in training:
        same = groups[recipe.task, recipe.scale, recipe.method]
        found.append({name: value for name, value in recipes.changed_from_preset(recipe).items()
                      if any(other[name] != value for other in same)})
    return found


def _short(values: dict[str, Any]) -> str:
    """The first few as --set takes them, and how many more there are."""
    shown = [f"{name}={value_text(value)}" for name, value in list(values.items())[:SHOWN]]
    if len(values) > SHOWN:
        shown.append(f"and {len(values) - SHOWN} more (--json)")
    return " ".join(shown)
