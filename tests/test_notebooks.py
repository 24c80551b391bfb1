"""The lessons keep their form; and nbval, which executes them, can fail."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_rules import MARKED, marks

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name[0].isdigit()]  # the others collect
# lesson -> the name of its prediction whose answer is a reading of several figures or of the paper
UNPROVED = {"11": "best", "12": "learned_beyond", "15": "second"}
BROKEN = PROJECT / "tests" / "broken" / "broken.ipynb"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def lines_of_code(source: str) -> int:
    return sum(
        1 for line in source.splitlines() if line.strip() and not line.strip().startswith("#")
    )


def test_it_is_valid(notebook):
    nbformat.validate(notebook)


def test_it_is_stripped(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.source[:80]
    assert "widgets" not in notebook.metadata


def test_it_has_at_most_60_cells_and_300_lines_of_code(notebook):
    assert len(notebook.cells) <= 60
    assert sum(map(lines_of_code, code(notebook))) <= 300


def test_its_cells_are_short(notebook):
    lengths = sorted(map(lines_of_code, code(notebook)))
    assert lengths[len(lengths) // 2] <= 8  # the median


def test_it_has_neither_shell_cells_nor_magics(notebook):
    for source in code(notebook):
        assert not re.search(r"^\s*[!%]", source, re.MULTILINE), source
        ast.parse(source)  # plain Python


def test_no_definition_has_more_than_20_lines(notebook):
    for source in code(notebook):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                assert node.end_lineno - node.lineno + 1 <= 20, node.name


def test_its_first_cell_of_code_starts_the_lesson(lesson):
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(code(lesson)[0]))
        if isinstance(node, ast.Call)
    ]
    assert any(call in ("lesson.start", "start") for call in calls)


def test_it_asserts_or_checks_something(lesson):
    trees = [node for source in code(lesson) for node in ast.walk(ast.parse(source))]
    asserts = [node for node in trees if isinstance(node, ast.Assert)]
    checks = [
        node
        for node in trees
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("lesson.check", "check")
    ]
    assert asserts or checks


def test_no_cell_is_skipped_or_accepts_any_exception(notebook, request):
    allowed = MARKED.get(request.node.callspec.params["notebook"].stem, ())
    assert not [cell.id for cell in notebook.cells if marks(cell) and cell.id not in allowed]


def uncomputed_answers(source: str) -> list[str]:
    """The predictions to which a cell gives a constant answer that nothing bears out."""
    place = {"lab.predict": 3, "lab.reveal": 1}  # of the answer among the arguments
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in place:
            words = {word.arg: word.value for word in node.keywords}
            answer = dict(enumerate(node.args)).get(place[name], words.get("answer"))
            if isinstance(answer, ast.Constant) and answer.value and "holds" not in words:
                found.append(node.args[0].value)
    return found


def test_a_prediction_s_answer_is_computed_or_borne_out_by_results(notebook, request):
    allowed = UNPROVED.get(request.node.callspec.params["notebook"].stem[:2])
    assert {*sum(map(uncomputed_answers, code(notebook)), [])} <= {allowed}


@pytest.mark.parametrize(
    "source, found",
    [
        ('lab.reveal("n", "4")', ["n"]),
        ('lab.reveal("n", "4", "why", holds=x == 4)', []),
        ('lab.reveal("n", str(x))', []),
        ('lab.predict("n", "?", ["3", "4"], "4")', ["n"]),
        ('lab.predict("n", "?", ["3", "4"], answer="4")', ["n"]),
        ('lab.predict("n", "?", ["3", "4"])', []),
    ],
)
def test_that_test_can_fail(source, found):
    assert uncomputed_answers(source) == found


def test_there_are_lessons():
    assert LESSONS, f"no notebooks in {PROJECT / 'notebooks'}"


# --- the runner can fail ------------------------------------------------------------------------


def sound_notebook() -> dict:
    notebook = json.loads(BROKEN.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = [line.replace("2 + 2 == 5", "2 + 2 == 4") for line in cell["source"]]
    return notebook


def test_a_false_assert_fails_under_nbval_and_a_true_one_passes(tmp_path):
    """One notebook is broken on purpose; its twin differs in that assert alone."""
    shutil.copy(BROKEN, tmp_path)
    (tmp_path / "sound.ipynb").write_text(json.dumps(sound_notebook()), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval-lax",
            "--nbval-current-env",
            "--nbval-cell-timeout=100",
            "-p",
            "no:cacheprovider",
            "--noconftest",
            "-c",
            os.devnull,
            "--rootdir",
            str(tmp_path),
            "-rA",
            "-q",
            "broken.ipynb",
            "sound.ipynb",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    outcomes = dict(
        reversed(line.split(" ")[:2])
        for line in done.stdout.splitlines()
        if re.match(r"(PASSED|FAILED|ERROR) .*ipynb", line)
    )
    by_file = {
        name: {outcome for test, outcome in outcomes.items() if name in test}
        for name in ("broken.ipynb", "sound.ipynb")
    }
    assert done.returncode == 1, done.stdout + done.stderr
    assert by_file == {"broken.ipynb": {"FAILED"}, "sound.ipynb": {"PASSED"}}, done.stdout
    assert "AssertionError" in done.stdout


def test_the_broken_notebook_is_not_collected_by_a_normal_run(project):
    """Also not where nbval runs over tests and notebooks together, as `make test` does."""
    from conftest import collect_ignore_glob

    assert any((project / "tests").glob(pattern) for pattern in collect_ignore_glob)
    assert BROKEN in [
        path for pattern in collect_ignore_glob for path in (project / "tests").glob(pattern)
    ]
