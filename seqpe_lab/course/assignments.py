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

from seqpe_lab.course.lesson_cells import tags

if TYPE_CHECKING:
    from nbformat import NotebookNode

BETWEEN = r"^([ \t]*)### BEGIN {0}\n.*?^[ \t]*### END {0}\n?"
SOLUTION, HIDDEN = (re.compile(BETWEEN.format(what), re.MULTILINE | re.DOTALL)
                    for what in ("SOLUTION", "HIDDEN TESTS"))
STUBS = {"code": "# YOUR CODE HERE\nraise NotImplementedError()", "markdown": "YOUR ANSWER HERE"}


def graded(cell: NotebookNode) -> dict[str, Any]:
    """nbgrader's metadata of a cell; {} if it has none."""
    return cell.metadata.get("nbgrader", {})


def without_rubrics(notebook: NotebookNode) -> NotebookNode:
    """What nbgrader may have as its source: it would release notes for teachers."""
    source = copy.deepcopy(notebook)
    source.cells = [cell for cell in source.cells if "teacher" not in tags(cell)]
    return source


def rubrics(notebook: NotebookNode) -> str:
    """All notes for teachers, in Markdown."""
    return "\n\n".join(cell.source for cell in notebook.cells if "teacher" in tags(cell))


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


def _with_stubs(source: str) -> str:
    def stub(found: re.Match) -> str:
        return "".join(f"{found[1]}{line}\n" for line in STUBS["code"].split("\n"))
    return SOLUTION.sub(stub, source).rstrip("\n")
