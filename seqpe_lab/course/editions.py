"""The editions of a lesson, from one source: the student's and the teacher's.

The student's has no solutions, model answers and notes for teachers; its checkers stay. The
teacher's has them all in the open, and each solution in the place of the reader's stub.
"""
from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seqpe_lab.course.lesson_cells import tags

if TYPE_CHECKING:
    from nbformat import NotebookNode

WITHHELD = {"solution", "model-answer", "teacher"}  # from students
DECORATOR = "@lab.solution\n"


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Without what only teachers have."""
    edition = copy.deepcopy(notebook)
    edition.cells = [cell for cell in edition.cells if not tags(cell) & WITHHELD]
    return edition


def teacher_edition(notebook: NotebookNode) -> NotebookNode:
    """With all of it unfolded; each solution stands where the reader would write his own."""
    edition = copy.deepcopy(notebook)
    solutions = dict(solved for cell in edition.cells for solved in solutions_of(cell))
    for cell in edition.cells:
        cell.metadata.pop("jupyter", None)
        if tags(cell) & WITHHELD and cell.cell_type == "markdown":
            cell.source = cell.source.replace("<details>", "<details open>")
        if "exercise" in tags(cell):
            for name, solution in solutions.items():
                cell.source = _replaced(cell.source, name, solution)
        elif list(solutions_of(cell)):
            cell.source = _without_solutions(cell.source)
    edition.cells = [cell for cell in edition.cells if cell.source.strip()]
    return edition


def solutions_of(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """The names and sources of a cell's solutions, each with the comment above it."""
    if cell.cell_type == "code" and "solution" in tags(cell):
        for name, first, last in _solutions(cell.source):
            lines = cell.source.split("\n")[first:last]
            yield name, "\n".join(lines).replace(DECORATOR, "")


def _solutions(source: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and line behind the last of each solution, comments above it included."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and "lab.solution" in map(ast.unparse,
                                                                       node.decorator_list):
            first = node.decorator_list[0].lineno - 1
            while first and lines[first - 1].startswith("#"):
                first -= 1
            yield node.name, first, node.end_lineno or 0


def _without_solutions(source: str) -> str:
    lines = source.split("\n")
    for _, first, last in reversed(list(_solutions(source))):
        del lines[first:last]
    return "\n".join(lines).strip("\n")


def _replaced(source: str, name: str, solution: str) -> str:
    """A cell's source with another definition of a function, if it defines it."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            lines[node.lineno - 1:node.end_lineno] = solution.split("\n")
    return "\n".join(lines)
