"""Editions: what students get holds no solutions, and what teachers get passes its own checks."""

import ast
import contextlib
import copy
import re
from pathlib import Path

import nbformat
import pytest

from seqpe_lab.cli import main
from seqpe_lab.course import assignments, editions, forms
from seqpe_lab.course.lesson_cells import follows_forms, tags
from seqpe_lab.site import course_folder

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in forms.course_of(NOTEBOOKS)
    if follows_forms(nbformat.read(path, as_version=4))
}
ASSIGNMENTS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted((NOTEBOOKS / "assignments").glob("*.ipynb"))
}
every_lesson = pytest.mark.parametrize("name", LESSONS)
every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


def problems(notebook) -> dict[str, str]:
    """{exercise: what its checker says}, after the first cell and those of the exercises."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    namespace: dict = {}
    for cell in code[:1] + [c for c in code if tags(c) & {"exercise", "checker"}]:
        exec(cell.source, namespace)
    return {name: found.problem for name, found in namespace["lab"].exercises.items()}


def secrets(notebook) -> list[str]:
    """Lines of solutions and sentences of answers that no student's edition may hold."""
    found = []
    for cell in notebook.cells:
        if not tags(cell) & editions.WITHHELD:
            continue
        if cell.cell_type == "markdown":
            parts = re.split(r"(?<=[.!?:])\s+|\n+", cell.source)
        else:
            tree = ast.parse(cell.source)
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            parts = [
                line.strip()
                for code in functions or [tree]
                for node in code.body
                for line in ast.unparse(node).split("\n")
            ]
        found += [part for part in parts if len(part) > 25]
    return found


def plain(notebook) -> str:
    """All cells, code in the form in which ``secrets`` has it."""
    return "\n".join(
        ast.unparse(ast.parse(cell.source)) if cell.cell_type == "code" else cell.source
        for cell in notebook.cells
    )


def leaks(notebook, edition) -> list[str]:
    """What a student's edition holds of the solutions, model answers and notes."""
    shown = plain(edition)
    return [secret for secret in secrets(notebook) if secret in shown]


@every_lesson
def test_in_the_student_s_edition_exactly_the_exercises_are_open_and_in_the_teacher_s_none(name):
    student = problems(editions.student_edition(LESSONS[name]))
    teacher = problems(editions.teacher_edition(LESSONS[name]))
    assert student and all(
        "returned None" in said or "Still to be written" in said for said in student.values()
    )
    assert teacher == dict.fromkeys(student, "")


@every_lesson
def test_no_solution_leaks(name):
    student = editions.student_edition(LESSONS[name])
    assert len(secrets(LESSONS[name])) > 5
    assert leaks(LESSONS[name], student) == []
    assert not any(tags(cell) & editions.WITHHELD for cell in student.cells)
    nbformat.validate(student)


@every_lesson
@pytest.mark.parametrize("tag", sorted(editions.WITHHELD))
def test_a_leak_would_be_found(name, tag):
    """One cell that should be withheld, under another tag."""
    student = editions.student_edition(LESSONS[name])
    leaked = next(cell for cell in LESSONS[name].cells if tag in tags(cell))
    student.cells.append(leaked)
    assert leaks(LESSONS[name], student)


@every_lesson
def test_the_teacher_s_edition_has_everything_in_the_open(name):
    teacher = editions.teacher_edition(LESSONS[name])
    nbformat.validate(teacher)
    text = "\n".join(cell.source for cell in teacher.cells)
    assert not any("jupyter" in cell.metadata for cell in teacher.cells)
    assert "@lab.solution" not in text and "your code" not in text
    shown = plain(teacher)
    for secret in secrets(LESSONS[name]):
        assert secret in shown or "<details>" in secret


def test_a_solution_takes_the_place_of_the_stub_and_the_rest_of_its_cell_stays():
    stub = nbformat.v4.new_code_cell(
        "def other():\n    return 1\n\n\ndef double(x):\n    return None  # your code",
        metadata={"tags": ["exercise"]},
    )
    solution = nbformat.v4.new_code_cell(
        "# A solution\n@lab.solution\ndef double(x):\n    return 2 * x\n\n\nassert other() == 1",
        metadata={"jupyter": {"source_hidden": True}, "tags": ["solution"]},
    )
    notebook = nbformat.v4.new_notebook(cells=[stub, solution])
    before = copy.deepcopy(notebook)
    filled, rest = editions.teacher_edition(notebook).cells
    assert filled.source == (
        "def other():\n    return 1\n\n\n# A solution\ndef double(x):\n    return 2 * x"
    )
    assert rest.source == "assert other() == 1"
    assert notebook == before


# --- assignments ----------------------------------------------------------------------------------


FIELDS = {
    "grade": bool,
    "grade_id": str,
    "locked": bool,
    "schema_version": int,
    "solution": bool,
    "task": bool,
}


def points(notebook) -> dict[str, float]:
    """{grade_id: points} of all graded cells."""
    cells = [assignments.graded(cell) for cell in notebook.cells]
    return {about["grade_id"]: about["points"] for about in cells if about.get("grade")}


def hidden_parts(notebook) -> list[str]:
    """Lines of solutions and hidden tests, and sentences of answers and of notes for teachers."""
    hidden = [
        match[0]
        for cell in notebook.cells
        for pattern in (assignments.SOLUTION, assignments.HIDDEN)
        for match in pattern.finditer(cell.source)
    ]
    written = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        and (assignments.graded(cell).get("solution") or "teacher" in tags(cell))
    ]
    parts = [line for text in hidden for line in text.split("\n")]
    parts += [sentence for text in written for sentence in re.split(r"(?<=[.:])\s|\n", text)]
    return [part.strip() for part in parts if len(part.strip()) > 25]


def faults(notebook) -> list[str]:
    """What nbgrader would not accept, or what would not be graded as it should be."""
    found, names = [], []
    for cell in notebook.cells:
        about = assignments.graded(cell)
        if not about:
            if "### BEGIN" in cell.source:
                found.append(f"{cell.id}: a solution or hidden test without nbgrader's metadata")
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
        tests = "### BEGIN HIDDEN TESTS" in cell.source
        writes = bool(assignments.SOLUTION.search(cell.source))
        if cell.cell_type == "code" and (writes, tests) != (
            about.get("solution", False),
            about.get("grade", False),
        ):
            found.append(f"{names[-1]}: code to write has a solution, a graded test hidden tests")
        rest = assignments.HIDDEN.sub("", assignments.SOLUTION.sub("", cell.source))
        if re.search(r"### (BEGIN|END)", rest):
            found.append(f"{names[-1]}: a BEGIN without its END, or an END without its BEGIN")
    found += [f"{name}: two cells have this grade_id" for name in {*names} if names.count(name) > 1]
    if not any(assignments.graded(cell).get("grade") for cell in notebook.cells):
        found.append("nothing is graded")
    return found


def run(notebook) -> dict[str, str]:
    """Run all cells as nbgrader does: {cell: the error} of those that fail."""
    namespace, failed = {}, {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                exec(cell.source, namespace)
            except Exception as error:
                failed[assignments.graded(cell)["grade_id"]] = type(error).__name__
    return failed


def test_there_are_three_assignments():
    assert len(ASSIGNMENTS) == 3


@every_assignment
def test_nbgrader_accepts_an_assignment_and_its_release(name):
    source = ASSIGNMENTS[name]
    assert faults(source) == []
    total = sum(points(source).values())
    assert f"**Points:** {total}." in source.cells[0].source
    released = assignments.release(source)
    nbformat.validate(released)
    assert points(released) == points(source)
    assert [assignments.graded(cell) for cell in released.cells] == [
        assignments.graded(cell)
        for cell in source.cells
        if "teacher" not in cell.metadata.get("tags", ())
    ]


@every_assignment
def test_the_source_passes_and_the_release_fails_exactly_its_graded_tests(name):
    source, released = ASSIGNMENTS[name], assignments.release(ASSIGNMENTS[name])
    assert run(source) == {}
    tests = [grade for grade in points(source) if grade.startswith("test-")]
    assert len(tests) == 3
    assert run(released) == dict.fromkeys(tests, "NotImplementedError")


@every_assignment
def test_a_release_holds_no_solution_no_hidden_test_and_no_rubric(name):
    source = ASSIGNMENTS[name]
    text = "\n".join(cell.source for cell in assignments.release(source).cells)
    for secret in hidden_parts(source):
        assert secret not in text
    assert len(hidden_parts(source)) > 15
    assert "### " not in text and text.count("YOUR CODE HERE") >= 3
    assert "YOUR ANSWER HERE" in text


@every_assignment
def test_a_written_answer_has_a_rubric_with_its_points(name):
    cells = ASSIGNMENTS[name].cells
    for cell, after in zip(cells, cells[1:]):
        about = assignments.graded(cell)
        if cell.cell_type == "markdown" and about.get("grade"):
            rows = [line.split("|")[1] for line in after.source.split("\n") if line[:2] == "| "]
            assert "teacher" in tags(after)
            assert sum(map(int, rows[1:])) == about["points"]


def graded_cell(source="### BEGIN HIDDEN TESTS\n1\n### END HIDDEN TESTS", kind="code", **change):
    about = {
        "grade": True,
        "grade_id": "a",
        "locked": True,
        "points": 2,
        "schema_version": 3,
        "solution": False,
        "task": False,
    }
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, metadata={"nbgrader": about | change})


@pytest.mark.parametrize(
    "cells, words",
    [
        ([graded_cell(schema_version=2)], "schema_version is to be 3"),
        ([graded_cell(locked=None)], "locked is to be of type bool"),
        ([graded_cell(points=0)], "graded cells have points"),
        ([graded_cell(locked=False)], "a student's to write in, or locked"),
        ([graded_cell("assert 1")], "a graded test hidden tests"),
        ([graded_cell("### BEGIN HIDDEN TESTS\n1")], "a BEGIN without its END"),
        ([graded_cell(), graded_cell()], "two cells have this grade_id"),
        ([nbformat.v4.new_code_cell("### BEGIN SOLUTION")], "without nbgrader's metadata"),
        ([nbformat.v4.new_code_cell("1")], "nothing is graded"),
    ],
)
def test_what_nbgrader_would_not_accept_is_found(cells, words):
    found = faults(nbformat.v4.new_notebook(cells=cells))
    assert any(words in fault for fault in found), found


# --- make course ----------------------------------------------------------------------------------


def test_the_course_is_written_as_notebooks(tmp_path, capsys):
    course_folder.make_course(tmp_path, "smoke", pages=False)
    for name in ("student", "teacher"):
        found = {path.stem for path in (tmp_path / name).glob("*.ipynb")}
        assert found == {*LESSONS, "explorers"}
    for name, source in ASSIGNMENTS.items():
        for kind in ("source", "release"):
            written = nbformat.read(
                tmp_path / "nbgrader" / kind / name / f"{name}.ipynb", as_version=4
            )
            assert points(written) == points(source)
            assert "rubric" not in "\n".join(cell.source for cell in written.cells)
        rubric = (tmp_path / "nbgrader" / f"{name}_rubric.md").read_text(encoding="utf-8")
        assert "| points | for |" in rubric
    left_out = [path.stem for path in forms.course_of(NOTEBOOKS) if path.stem not in LESSONS]
    printed = capsys.readouterr().out
    assert all(name in printed for name in left_out) and ("Left out" in printed) == bool(left_out)
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"]+)"', index):
        assert (tmp_path / link).is_file(), link


def test_both_editions_are_executed_as_sites_of_their_own(tmp_path, monkeypatch):
    """The programs that execute them; system/test_lesson_pages.py executes lessons."""
    stages = []
    monkeypatch.setattr(course_folder, "run_stages", lambda made, *rest: stages.extend(made))
    monkeypatch.setattr(course_folder.Site, "kept", contextlib.nullcontext)
    course_folder.make_course(tmp_path, "smoke", workers=1)
    assert len(stages) == 2
    for name, stage in zip(course_folder.EDITIONS, stages):
        programs = stage.programs()
        assert [program.name for program in programs] == [*LESSONS]
        for program, lesson in zip(programs, LESSONS):
            folder = tmp_path / name
            assert program.command[-3:] == [str(folder / f"{lesson}.ipynb"), str(folder), "smoke"]
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="student/index.html"' in index and 'href="teacher/index.html"' in index


def test_the_command_hands_its_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        course_folder, "make_course", lambda *given, **named: asked.append((*given, named))
    )
    assert main(["course", "--folder", str(tmp_path), "--scale", "smoke", "--workers", "1"]) == 0
    assert main(["course", "--notebooks-only"]) == 0
    assert asked == [
        (tmp_path, "smoke", 1, {"pages": True}),
        (Path("course"), None, None, {"pages": False}),
    ]
