"""Execute a lesson and write its page, which says what it was made of and whether it failed.

    python -m seqpe_lab.course.executing notebooks/01_why.ipynb figures small

Beside the page, ``figures/lessons/01_why.json`` keeps what it was made of; :func:`reusable`
compares that with what is there now.
"""
from __future__ import annotations

import hashlib
import html
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqpe_lab import __version__
from seqpe_lab.atomic_files import sha256, write_atomically
from seqpe_lab.package_data import DATA, PACKAGE
from seqpe_lab.provenance import provenance
from seqpe_lab.runs import runs_folder

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_TIMEOUT = 1800  # seconds
RUN = re.compile(r"\brun ([\w.-]+-seed\d+-[0-9a-f]+)")  # as lab.train prints it


def page_of(folder: Path, lesson: Path) -> Path:
    """The page of a lesson among the figures."""
    return folder / "lessons" / f"{lesson.stem}.html"


def record_of(page: Path) -> dict[str, Any]:
    """What was noted when a page was written; {} if nothing was, or nothing that can be read."""
    try:
        return json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def sources(lesson: Path, scale: str) -> str:
    """A digest of all that decides what a lesson shows, except its runs (sha256)."""
    packages = ("torch", "numpy", "plotly", "timm", "tokenizers", "nbconvert")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    digest = hashlib.sha256(repr([scale, platform.python_version(), versions]).encode())
    files = [file for root in (PACKAGE, DATA) for file in sorted(root.rglob("*"))
             if file.is_file() and "__pycache__" not in file.parts]
    for file in (lesson, *files):
        digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def whole(folder: Path, page: Path) -> bool:
    """Whether a page and its lesson's figures are the files that were written, to the last byte."""
    files = record_of(page).get("files", {})
    return bool(files) and _hashes(folder, files) == files


def reusable(folder: Path, lesson: Path, scale: str) -> bool:
    """Whether executing the lesson again would give the page and the figures that are there."""
    page = page_of(folder, lesson)
    record = record_of(page)
    return (record.get("error") == "" and record["sources"] == sources(lesson, scale)
            and whole(folder, page) and _results(record["runs"], scale) == record["runs"])


def execute(lesson: Path, folder: Path, scale: str) -> str:
    """Execute a lesson, write its page and the record; returns the error, "" if there is none.

    What an earlier execution left is removed first: a kill leaves no page of another version.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal

    from seqpe_lab.course.lesson_page import lesson_page
    page = page_of(folder, lesson)
    for left in (page.with_suffix(".json"), page, *folder.glob(f"{_number(lesson)}-*")):
        left.unlink(missing_ok=True)
    made_of = sources(lesson, scale)
    notebook = nbformat.read(lesson, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, store_widget_state=False,
        resources={"metadata": {"path": str(lesson.parent)}},
        extra_arguments=["--IPKernelApp.extra_extensions=seqpe_lab.course.hidden_errors"])
    error = ""
    try:
        client.execute()
        error = _error_shown(notebook)
    except (CellControlSignal, RuntimeError) as failure:  # of a cell; the kernel died
        error = _error_shown(notebook) or _one_line(type(failure).__name__, failure)
    printed = "".join(output.get("text", "") for cell in notebook.cells
                      for output in cell.get("outputs", ()))
    record = {"error": error, "sources": made_of, "scale": scale, "version": __version__,
              "runs": _results(sorted(set(RUN.findall(printed))), scale), **_times(notebook),
              **provenance("cpu")}
    write_page(folder, lesson, lesson_page(notebook, lesson.stem, banner(record)), record)
    return error


def write_page(folder: Path, lesson: Path, text: str, record: Mapping[str, Any]) -> None:
    """Write a page, and beside it the record with a hash of the page and each of its figures."""
    page = page_of(folder, lesson)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, text)
    made = [page, *folder.glob(f"{_number(lesson)}-*")]
    names = [file.relative_to(folder).as_posix() for file in sorted(made)]
    write_atomically(page.with_suffix(".json"),
                     json.dumps({**record, "files": _hashes(folder, names)}, indent=1))


def banner(record: Mapping[str, Any]) -> str:
    """The first lines of a page, in HTML: state, version, scale and runs."""
    runs = ", ".join(record["runs"]) or "none"
    about = (f"Executed on {record['time']} with seqpe_lab {record['version']} (commit "
             f"{record['commit']}, torch {record['versions'].get('torch')}), scale "
             f"{record['scale']}. Runs: {runs}. Its cells took {record.get('seconds', 0):.0f} s.")
    failed = f"<b>This lesson failed: {html.escape(record['error'])}</b><br>What follows may not " \
             "have been executed.<br>" if record["error"] else ""
    state = "state failed" if failed else "state"
    return f'<div role="status" class="{state}">{failed}{html.escape(about)}</div>'


def _number(lesson: Path) -> str:
    """The lesson's number, with which the names of its figures begin."""
    return lesson.stem.split("_")[0]


def _error_shown(notebook: NotebookNode) -> str:
    """The first cell that shows an error, by its place in the notebook from 1, and the error."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                return f"cell {number}: {_one_line(output.ename, output.evalue)}"
    return ""


def _times(notebook: NotebookNode) -> dict[str, Any]:
    """{"seconds": of all cells, "slow": {number of a cell: seconds, if they are more than 5}}."""
    seconds = {}
    for number, cell in enumerate(notebook.cells, start=1):
        times = cell.metadata.get("execution", {})
        began, ended = (times.get(name) for name in ("iopub.execute_input", "shell.execute_reply"))
        if began and ended:
            lasted = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
            seconds[number] = round(lasted.total_seconds(), 1)
    return {"seconds": sum(seconds.values()),
            "slow": {number: time for number, time in seconds.items() if time > 5}}


def _one_line(kind: str, message: object) -> str:
    return " ".join(f"{kind}: {message}".split())


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: sha256(folder / name) if (folder / name).is_file() else "" for name in names}


def _results(runs: Iterable[str], scale: str) -> dict[str, str]:
    """A digest of each run's results as they are now; "" for a run that has none."""
    files = {run: f"{run}/results.json" for run in runs}
    hashes = _hashes(runs_folder() / scale, files.values())
    return {run: hashes[file] for run, file in files.items()}


if __name__ == "__main__":
    wrong = execute(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    sys.exit(f"{sys.argv[1]}: {wrong}" if wrong else 0)
