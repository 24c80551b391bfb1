"""Graded assignments: cells that nbgrader reads, and their release to students.

The source of an assignment has solutions between ``### BEGIN SOLUTION`` and ``### END SOLUTION``,
hidden tests between ``### BEGIN HIDDEN TESTS`` and ``### END HIDDEN TESTS``, and the metadata of
nbgrader (schema 3), which says what is graded and for how many points. A release has neither
solutions nor hidden tests, as `nbgrader generate_assignment` makes it.
"""
from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

BETWEEN = r"^([ \t]*)### BEGIN {0}\n.*?^[ \t]*### END {0}\n?"
SOLUTION, HIDDEN = (re.compile(BETWEEN.format(what), re.MULTILINE | re.DOTALL)
                    for what in ("SOLUTION", "HIDDEN TESTS"))
STUBS = {"code": "# YOUR CODE HERE\nraise NotImplementedError()", "markdown": "YOUR ANSWER HERE"}
FIELDS = {"grade": bool, "grade_id": str, "locked": bool, "schema_version": int, "solution": bool,
          "task": bool}


def graded(cell: NotebookNode) -> dict[str, Any]:
    """nbgrader's metadata of a cell; {} if it has none."""
    return cell.metadata.get("nbgrader", {})


def without_rubrics(notebook: NotebookNode) -> NotebookNode:
    """What nbgrader may have as its source: it would release notes for teachers."""
    source = copy.deepcopy(notebook)
    source.cells = [cell for cell in source.cells if not _for_teachers(cell)]
    return source


def rubrics(notebook: NotebookNode) -> str:
    """All notes for teachers, in Markdown."""
    return "\n\n".join(cell.source for cell in notebook.cells if _for_teachers(cell))


def release(notebook: NotebookNode) -> NotebookNode:
    """What students get: stubs for solutions, no hidden tests, no notes for teachers."""
    released = without_rubrics(notebook)
    for cell in released.cells:
        about = graded(cell)
        if about.get("solution"):
            cell.source = (_with_stubs(cell.source) if cell.cell_type == "code"
                           else STUBS["markdown"])
        cell.source = HIDDEN.sub("", cell.source).rstrip("\n")
    return released


def points(notebook: NotebookNode) -> dict[str, float]:
    """{grade_id: points} of all graded cells."""
    return {graded(cell)["grade_id"]: graded(cell)["points"]
            for cell in notebook.cells if graded(cell).get("grade")}


def secrets(notebook: NotebookNode) -> list[str]:
    """Lines of solutions and hidden tests, and sentences of answers and of notes for teachers."""
    hidden = [match[0] for cell in notebook.cells for pattern in (SOLUTION, HIDDEN)
              for match in pattern.finditer(cell.source)]
    written = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"
               and (graded(cell).get("solution") or _for_teachers(cell))]
    parts = [line for text in hidden for line in text.split("\n")]
    parts += [sentence for text in written for sentence in re.split(r"(?<=[.:])\s|\n", text)]
    return [part.strip() for part in parts if len(part.strip()) > 25]


def faults(notebook: NotebookNode) -> list[str]:
    """What nbgrader would not accept, or what would not be graded as it should be."""
    found, names = [], []
    for cell in notebook.cells:
        about = graded(cell)
        if not about:
            found += [f"{cell.id}: a solution or hidden test without nbgrader's metadata"
                      ] * ("### BEGIN" in cell.source)
            continue
        names.append(about.get("grade_id"))
        for field, kind in FIELDS.items():
            if type(about.get(field)) is not kind:
                found.append(f"{names[-1]}: {field} is to be of type {kind.__name__}")
        if about.get("schema_version") != 3:
            found.append(f"{names[-1]}: schema_version is to be 3")
        if ("points" in about) != about.get("grade", False) or about.get("points", 1) <= 0:
            found.append(f"{names[-1]}: graded cells have points, and no others have")
        if about.get("locked") == about.get("solution"):
            found.append(f"{names[-1]}: a cell is a student's to write in, or locked")
        tests, writes = "### BEGIN HIDDEN TESTS" in cell.source, SOLUTION.search(cell.source)
        if cell.cell_type == "code" and (bool(writes) != about.get("solution", False)
                                         or tests != about.get("grade", False)):
            found.append(f"{names[-1]}: code to write has a solution, a graded test hidden tests")
        if re.search(r"### (BEGIN|END)", HIDDEN.sub("", SOLUTION.sub("", cell.source))):
            found.append(f"{names[-1]}: a BEGIN without its END, or an END without its BEGIN")
    found += [f"{name}: two cells have this grade_id" for name in {*names} if names.count(name) > 1]
    if not any(graded(cell).get("grade") for cell in notebook.cells):
        found.append("nothing is graded")
    return found


def _for_teachers(cell: NotebookNode) -> bool:
    return "teacher" in cell.metadata.get("tags", ())


def _with_stubs(source: str) -> str:
    def stub(found: re.Match) -> str:
        return "".join(f"{found[1]}{line}\n" for line in STUBS["code"].split("\n"))
    return SOLUTION.sub(stub, source).rstrip("\n")
