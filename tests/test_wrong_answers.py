"""Every exercise says something useful to every wrong answer, and accepts only right ones.

The rows stand in wrong_answers/, a file a lesson: {function: [(body of a wrong one, words of what
the checker says)]}. Some wrong answers are tried for every exercise. A checker needs only the
lesson's first cell of code and the cells of its exercises, as for a reader who comes back to one.
"""

import ast
import importlib.util
import inspect
import linecache
import textwrap
from pathlib import Path

import nbformat
import pytest

from seqpe_lab.course.forms import course_of
from seqpe_lab.course.lesson_cells import tags

PROJECT = Path(__file__).parents[1]
LESSONS = {path.stem: path for path in course_of(PROJECT / "notebooks")}

ALWAYS = {  # body: words of what is said
    "return None": "returned None: there is nothing to check yet",
    "return torch.zeros(7, 1, 5)": "(7, 1, 5)",
    "raise IndexError('index 9 is out of range')": "IndexError: index 9 is out of range. An index",
    "raise TypeError('no int')": "with TypeError: no int",
    "return torch.zeros(2) @ torch.zeros(3)": "at `return torch.zeros(2) @ torch.zeros(3)` with",
    "return 'a'": "returned 'a'",
}
CONSTANTS = ("0", "1", "100", "True", "False", "[]", "exercise.expected[0]")


def rows_of(lesson: str) -> dict[str, list[tuple[str, str]]]:
    path = Path(__file__).parent / "wrong_answers" / f"{lesson}.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"wrong_answers_{lesson}", path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.ROWS


def exercises_of(lesson: str) -> list[str]:
    notebook = nbformat.read(LESSONS[lesson], as_version=4)
    calls = [
        node
        for cell in notebook.cells
        if "checker" in tags(cell)
        for node in ast.walk(ast.parse(cell.source))
    ]
    return [
        ast.unparse(node.args[0])
        for node in calls
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lab.exercise"
    ]


@pytest.fixture(scope="module")
def namespace_of():
    """namespace_of("05_..."): what is defined once the cells of all exercises have run."""
    made = {}

    def make(lesson):
        if lesson not in made:
            notebook = nbformat.read(LESSONS[lesson], as_version=4)
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            made[lesson] = namespace = {"__name__": "lesson"}
            for cell in code[:1] + [c for c in code if tags(c) & {"exercise", "checker"}]:
                exec(compile(cell.source, f"{lesson}, cell {cell.id}", "exec"), namespace)
        return made[lesson]

    return make


def wrong(exercise, body: str, namespace: dict):
    """The exercise's function with another body, whose lines a traceback can show."""
    head = f"def {exercise.name}{inspect.signature(exercise.function)}:\n"
    source = head + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    name = f"<wrong {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope = {**namespace, "exercise": exercise}
    exec(compile(source, name, "exec"), scope)
    return scope[exercise.name]


ROWS = [
    pytest.param(lesson, function, *row, id=f"{lesson[:6]}-{function}-{number}")
    for lesson in LESSONS
    for function, rows in rows_of(lesson).items()
    for number, row in enumerate(rows)
]
EXERCISES = [
    pytest.param(lesson, function, id=f"{lesson[:6]}-{function}")
    for lesson in LESSONS
    for function in exercises_of(lesson)
]


@pytest.mark.parametrize("lesson, function, body, words", ROWS)
def test_a_wrong_answer_is_told_what_is_wrong(lesson, function, body, words, namespace_of):
    namespace = namespace_of(lesson)
    exercise = namespace["lab"].exercises[function]
    said = exercise.feedback(wrong(exercise, body, namespace))
    assert words in said, said
    assert said.startswith(f"{function}("), "it shows the call"


@pytest.mark.parametrize("lesson, function", EXERCISES)
def test_what_no_exercise_accepts(lesson, function, namespace_of):
    namespace = namespace_of(lesson)
    exercise = namespace["lab"].exercises[function]
    for body, words in ALWAYS.items():
        said = exercise.feedback(wrong(exercise, body, namespace))
        assert words in said, said
    for constant in CONSTANTS[: len(CONSTANTS) - (exercise.cases == [()])]:
        said = exercise.feedback(wrong(exercise, f"return {constant}", namespace))
        assert said, f"return {constant} passes"


@pytest.mark.parametrize("lesson, function", EXERCISES)
def test_each_exercise_has_its_rows_and_two_of_them_are_typical_mistakes(
    lesson, function, namespace_of
):
    exercise = namespace_of(lesson)["lab"].exercises[function]
    said = " ".join(words for _, words in rows_of(lesson).get(function, ()))
    known = [
        sentence
        for sentence in exercise.mistakes
        for _, words in rows_of(lesson).get(function, ())
        if words in sentence
    ]
    if exercise.judge is None:
        assert len({*known}) >= 2, f"rows for two of {list(exercise.mistakes)}, not: {said}"
    else:
        assert len({words for _, words in rows_of(lesson).get(function, ())}) >= 2
    assert not exercise.unseen_mistakes()


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_row_is_for_an_exercise_that_is_gone(lesson):
    assert not {*rows_of(lesson)} - {*exercises_of(lesson)}
