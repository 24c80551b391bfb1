"""The cells of a lesson: what their tags mean, and which code is folded.

A lesson follows the forms if its first cell has the tag ``header``.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

# tag: what its cells are; a teacher's edition has all of them
TAGS = {
    "header": "title, question, goals, prerequisites, time",
    "prediction": "a call of lab.predict; its code is folded",
    "exercise": "the function that the reader writes",
    "checker": "a call of lab.exercise; its code is folded",
    "hint": "a folded hint",
    "solution": "a solution, folded; not in the student's edition",
    "discuss": "a question for five minutes in class",
    "model-answer": "one answer to it, folded; not in the student's edition",
    "teacher": "typical errors, timing, how to lead the discussion; not in the student's edition",
    "appendix": "for the curious: counts as no reading time",
    "footer": "links to the lesson before, the map and the next lesson",
    "conclusions": "what committed results say",
}
FOLDED = ("prediction", "checker", "solution")  # code that Jupyter shows after a click


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def folded(cell: NotebookNode) -> bool:
    """Whether Jupyter shows only the first line of a cell's code."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden", False))


def follows_forms(notebook: NotebookNode) -> bool:
    return bool(notebook.cells) and "header" in tags(notebook.cells[0])


def calls(cell: NotebookNode, name: str) -> Iterator[ast.Call]:
    """The calls of a function, such as ``lab.predict``, in a cell of code."""
    if cell.cell_type == "code":
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield node
