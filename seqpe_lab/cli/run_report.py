"""What ``train`` says of a run: what it found, its results with units, what to type next."""
from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from seqpe_lab import recipes
from seqpe_lab.cli.base import PROGRAM
from seqpe_lab.cli.recipe_options import value_text
from seqpe_lab.cli.task_table import TASKS
from seqpe_lab.plain_text import columns
from seqpe_lab.runs import Run, runs_folder
from seqpe_lab.tasks import task_of


def before_training(run: Run) -> str:
    """One line: the folder, how far its run is, and what distinguishes it from its preset."""
    recipe, state = run.recipe, run.state
    state = {"finished": "finished before, nothing is trained",
             "new": f"new, {recipe.steps:,} steps",
             "interrupted": f"goes on from a checkpoint; {run.step:,} of {recipe.steps:,} steps "
                            "are logged"}.get(state, state)
    changed = recipes.changed_from_preset(recipe)
    shown = " ".join(f"{name}={value_text(value)}" for name, value in changed.items())
    return (f"{run.folder}: {state}; {recipe.task}, method {recipe.method}, scale {recipe.scale}, "
            f"seed {recipe.seed}{f', changed: {shown}' if shown else ''}")


def check_source(run: Run, named: bool) -> str:
    """Compare a finished run's data with what its source is now, if that is a path.

    Args:
        named: the options name the source, so it must be there; else a missing one is only noted.

    Returns:
        A remark for the reader, or "".

    Raises:
        ValueError: the source holds other data than the run was trained on.
    """
    recipe, then = run.recipe, run.results()["data"]["hash"]
    if recipe.task == "algorithm":
        return ""
    source = recipe.questions if recipe.task == "qa" else recipe.source
    if source in ("python", "digits", "facts") or source.startswith("hub:"):
        return ""
    if not named and not Path(source).expanduser().exists():
        return f"{source} is not here, so it was not compared with the data of the run"
    now = task_of(recipe).load_data().hash
    if now != then:
        raise ValueError(
            f"{run.folder} holds results on other data: its {source} had the hash {then}, now it "
            f"has {now}. Choose another folder for a new run (--folder), delete this one, or put "
            "the old data back")
    return ""


def results_table(run: Run) -> Iterator[str]:
    """The results of a finished run, line by line."""
    results, entry = run.results(), TASKS[run.recipe.task]
    data = results["data"]
    kinds = {key: name for key, name in entry.measures.items() if key in results}
    if run.recipe.task == "lm" and run.recipe.tokenizer == "bytes":
        kinds["perplexity"] = "perplexity (per byte)"
    rows = [(entry.varied, *kinds.values())]
    rows += [(f"{int(at):,}", *(f"{results[key][at]:.2f}" for key in kinds))
             for at in next(iter(results[key] for key in kinds))]
    yield from columns(rows, ">" * len(rows[0]))
    counts = [f"{results[key]:,} {key}" for key in ("tokens", "questions", "images", "examples")
              if key in results]
    yield f"on {', '.join(counts)} ({results['protocol']}, {results['split']} split)"
    yield f"data: {data['description']}, hash {data['hash']}"
    if shared := data.get("overlap"):
        yield (f"{100 * shared['test']:.2f} % of the test text's windows of 50 bytes also occur in "
               "the training text")


def next_commands(run: Run) -> Iterator[str]:
    """What to type next: measure the run otherwise, and list it among others."""
    folder, place = shlex.quote(str(run.folder)), run.folder.resolve()
    listed = place.is_relative_to(runs_folder().resolve())
    yield f"next: {PROGRAM} evaluate {folder} {TASKS[run.recipe.task].next_option}"
    where = "" if listed else f" --folder {shlex.quote(str(place.parent))}"
    yield f"      {PROGRAM} runs{where}"
