"""All runs below a folder, a line for each: state, steps, folder, and what came out."""
from __future__ import annotations

from collections.abc import Iterator

from seqpe_lab.jobs import Job
from seqpe_lab.runs import Run, runs_folder, scan_runs


def describe_runs(folder: str | None = None) -> Iterator[str]:
    """The lines; a run whose files are damaged is named with the reason and hides no other."""
    found, unreadable = scan_runs(folder)
    if not found and not unreadable:
        yield f"no runs in {folder or runs_folder()}"
    for run in found:
        try:
            yield _line(run)
        except (ValueError, OSError, RuntimeError) as error:
            unreadable[run.folder] = str(error)
    for place, reason in unreadable.items():
        yield f"{'damaged':<11} {'':>7} {'':<7} {place}  {reason}"


def _line(run: Run) -> str:
    shown, outcome = "", run.outcome()
    if outcome:
        shown = outcome.get("failed") or ", ".join(
            f"{float(value):.2f} at {where}" for where, value in run.measured().items())
    state = f"{Job(run.folder).state:<11} {run.step:>7}/{run.recipe.steps:<7}"
    return f"{state} {run.folder}  {shown}".rstrip()
