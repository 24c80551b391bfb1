"""The forms of lessons: tags, header, footer, times; what does not follow them is found."""

import re
from pathlib import Path

import nbformat
import pytest

from seqpe_lab.course import forms
from seqpe_lab.course.lesson_cells import tags

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("path", forms.course_of(NOTEBOOKS), ids=lambda path: path.stem)
def test_a_lesson_follows_the_forms(path):
    assert forms.faults(path) == []


FORMED = NOTEBOOKS / "primer.ipynb"


def change(notebook, tag, old, new):
    """Replace a piece of the first cell that has the tag, if one is named, and the piece."""
    tagged = [cell for cell in notebook.cells if not tag or tag in tags(cell)]
    cell = next(cell for cell in tagged if old in cell.source)
    cell.source = cell.source.replace(old, new)


def drop(notebook, tag):
    notebook.cells = [cell for cell in notebook.cells if tag not in tags(cell)]


def untag(notebook, tag):
    for cell in notebook.cells:
        cell.metadata["tags"] = [name for name in cell.metadata.get("tags", ()) if name != tag]


def unfold(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("jupyter", None)


BROKEN = {  # what is done to the primer: words of a fault
    "no question": (lambda n: change(n, "header", "**Question.**", ""), "the header lacks"),
    "another time": (
        lambda n: change(n, "header", "25 min of ex", "5 min of ex"),
        "time should be",
    ),
    "no time": (lambda n: change(n, "header", "| Time |", "| Hours |"), "the header lacks"),
    "no footer": (lambda n: drop(n, "footer"), "needs the tag footer"),
    "a dead link": (lambda n: change(n, "footer", "01_why", "1_why"), "needs the tag footer"),
    "an unknown tag": (lambda n: n.cells[5].metadata.update(tags=["hidden"]), "no such tags"),
    "an answer in the open": (unfold, "source_hidden"),
    "a first line that is code": (
        lambda n: change(n, "prediction", "# The quiz", "x = 1  #"),
        "a comment that says what it is",
    ),
    "no words for a choice": (
        lambda n: change(n, "prediction", '"They cannot: the weights of a query sum to 1."', '""'),
        "say something to the reader",
    ),
    "one name twice": (lambda n: change(n, "prediction", '"heads"', '"mask"'), "have one name"),
    "revealed, never asked": (
        lambda n: change(n, "prediction", "two = ", 'lab.reveal("depth", "2", holds=True)\ntwo = '),
        "revealed, but never asked: depth",
    ),
    "an untagged prediction": (lambda n: untag(n, "prediction"), "the tag prediction belongs"),
    "an untagged exercise": (lambda n: untag(n, "exercise"), "the cell before defines"),
    "no solution": (lambda n: drop(n, "solution"), "no cell tagged solution"),
    "an exercise without minutes": (
        lambda n: change(n, "", "attention by hand (10 min)", "attention by hand"),
        "each exercise has a heading",
    ),
    "an open exercise without an answer": (
        lambda n: change(
            n, "", "## Exercise 1: attention by hand (10 min)", "## Exercise 9 (open):"
        ),
        "an open exercise has a cell tagged model-answer",
    ),
    "no model answer": (lambda n: drop(n, "model-answer"), "has the tag model-answer"),
    "an open model answer": (
        lambda n: change(n, "model-answer", "<details><summary>", ""),
        "begins with <details>",
    ),
    "a discussion without minutes": (lambda n: change(n, "discuss", "(3 min)", ""), "(5 min)"),
    "nothing for teachers": (lambda n: drop(n, "teacher"), "no cell has the tag teacher"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_follow_the_forms_is_found(name, tmp_path):
    breaks, words = BROKEN[name]
    for path in NOTEBOOKS.glob("*.ipynb"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    notebook = nbformat.read(FORMED, as_version=4)
    breaks(notebook)
    nbformat.write(notebook, tmp_path / FORMED.name)
    found = forms.faults(tmp_path / FORMED.name)
    assert any(words in fault for fault in found), found


def test_time_and_links_are_mended_and_nothing_else(tmp_path):
    for path in NOTEBOOKS.glob("*.ipynb"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / FORMED.name
    forms.mend(path)
    assert path.read_bytes() == FORMED.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    change(notebook, "header", "25 min of exercises", "5 min of exercises")
    change(notebook, "footer", "01_why", "1_why")
    nbformat.write(notebook, path)
    assert len(forms.faults(path)) == 2
    forms.mend(path)
    assert path.read_bytes() == FORMED.read_bytes()


ASKS = 'lab.predict("flat", "Which?", ["a", "b"])'


@pytest.mark.parametrize(
    "again, found",
    [
        ('lab.predict("flat", "Which?", {"a": "A.", "b": "B."}, first_asked="00")', False),
        ('lab.predict("flat", "Which one?", {"a": "A.", "b": "B."}, first_asked="00")', True),
        ('lab.predict("flat", "Which?", {"a": "A.", "c": "C."}, first_asked="00")', True),
        ('lab.predict("flat", "Which?", ["a", "b"], first_asked="01")', True),
        ('lab.predict("other", "What?", ["a", "b"])', False),
    ],
)
def test_what_is_met_again_was_asked_in_the_same_words(again, found, tmp_path):
    for name, source in (("00_start", ASKS), ("01_next", ""), ("09_later", again)):
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    faults = forms.faults(tmp_path / "09_later.ipynb")
    assert any("in the same words" in fault for fault in faults) is found


def test_reading_time_counts_prose_and_visible_code():
    cell = nbformat.v4.new_markdown_cell
    notebook = nbformat.v4.new_notebook(
        cells=[
            cell("word " * 450 + "$\\frac{a}{b} + c$"),
            cell("word " * 900, metadata={"tags": ["model-answer"]}),
            nbformat.v4.new_code_cell("\n\n".join(["x = 1"] * 30)),
            nbformat.v4.new_code_cell("x = 1\n" * 99, metadata={"tags": ["checker"]}),
        ]
    )
    assert forms.reading_minutes(notebook) == 3 + 2


def test_the_course_begins_with_the_start_and_the_primer():
    names = [path.stem for path in forms.course_of(NOTEBOOKS)]
    assert names[:3] == ["00_start_here", "primer", "01_why_position_matters"]
    assert "explorers" not in names


@pytest.mark.parametrize("path", forms.course_of(NOTEBOOKS), ids=lambda path: path.stem)
def test_the_table_for_teachers_has_the_times_of_a_lesson(path):
    teaching = (NOTEBOOKS.parent / "docs" / "teaching.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| \[[^|]*{path.name}\).*", teaching, re.MULTILINE)
    alone, in_class = map(int, row.split(" | ")[2].split(", "))
    cells = nbformat.read(path, as_version=4).cells
    stated = int(re.search(r"\| Time \| about (\d+) min", cells[0].source)[1])
    (notes,) = [cell.source for cell in cells if "teacher" in tags(cell)]
    assert alone == stated
    assert re.search(rf"\*\*Timing\.\*\*.*\b{in_class} min", notes)
