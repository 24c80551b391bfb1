"""Lessons executed for ``make figures``: a page says what it was made of, and what failed."""

import nbformat
import pytest
from fork_server import fork_kernels

from seqpe_lab.course import executing
from seqpe_lab.site import lesson_states, pages

SOUND = """
from seqpe_lab.course import figures, lesson
lab = lesson.start("01 Sound")
print("alibi: finished run alibi-seed0-ab12")
lab.expect("one is more than two", 1 > 2)
lab.show(figures.curves([1, 2], {"a": [1, 2]}, title="A line", x_title="x", y_title="y"), "line")
"""
THREAD = "import threading\nthreading.Thread(target=int, args=('<b>one</b>',)).start()"
HANDLER = """
import ipywidgets
button = ipywidgets.Button()
button.on_click(int)
button.click()
"""


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """make("02_name", cell, ...): a lesson; its figures and runs lie beside it."""
    fork_kernels()
    monkeypatch.setenv("SEQPE_SCALE", "small")
    monkeypatch.setenv("SEQPE_FIGURES", str(tmp_path))
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PATH", "")  # no browser

    def make(name, *cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        return tmp_path / f"{name}.ipynb"

    return make


def test_an_executed_lesson_is_reused_and_its_page_names_version_scale_and_runs(lessons, tmp_path):
    lesson = lessons("01_sound", SOUND)
    results = tmp_path / "runs" / "small" / "alibi-seed0-ab12" / "results.json"
    results.parent.mkdir(parents=True)
    results.write_text("{}")
    (tmp_path / "01-old.json").write_text('{"name": "01-old", "title": "of another version"}')
    assert executing.execute(lesson, tmp_path, "small") == ""
    page = executing.page_of(tmp_path, lesson).read_text(encoding="utf-8")
    for words in ("seqpe_lab 0.", "commit", "scale small", "Runs: alibi-seed0-ab12."):
        assert words in page
    assert {path.name for path in tmp_path.glob("01-*")} == {
        "01-line.html",
        "01-line.js",
        "01-line.json",
    }
    assert executing.reusable(tmp_path, lesson, "small")
    assert (
        lesson_states.state_of(tmp_path, lesson, "small") == "not in this run: one is more than two"
    )
    results.write_text('{"perplexity": {}}')
    assert not executing.reusable(tmp_path, lesson, "small")


WRONG = {
    "02_raises": ("raise ValueError('<b>one</b>')", "cell 2: ValueError: <b>one</b>"),
    "03_thread": (THREAD, "cell 2: ValueError: invalid literal for int()"),
    "04_handler": (HANDLER, "cell 2: TypeError: int()"),
    "05_dies": ("import os\nos._exit(1)", "DeadKernelError: Kernel died"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_lesson_that_fails_is_marked_on_its_page_and_on_the_index(name, lessons, tmp_path):
    cell, error = WRONG[name]
    lesson = lessons(name, "print('before')", cell, "print('after' + 'wards')")
    assert executing.execute(lesson, tmp_path, "small").startswith(error)
    page = executing.page_of(tmp_path, lesson).read_text(encoding="utf-8")
    assert "This lesson failed: " + error.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "before" in page and "<b>one</b>" not in page
    assert ("afterwards" in page) == (name == "04_handler")  # Jupyter goes on after that
    pages.write_front_page(tmp_path, [lesson], "small")
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"</a></h3>\n<p><strong>failed: {error[:7]}" in index
    assert lesson_states.executing_program(lesson, tmp_path, "small").command  # it is tried again


ASKED = """
from seqpe_lab.course import lesson
lab = lesson.start("06 Asked")
lab.predict("size", "Two or three?", {"two": "You guessed low.", "three": "You guessed high."})
"""
ANSWERED = """
lab.reveal("size", "three" if 1 + 2 == 3 else "two", "One and two make three.")
lab.exercise(len, cases=[("a",), ("bc",)], expected=[1, 2])
import time; time.sleep(0.1)  # so that the cells take a time
"""


def test_a_page_shows_question_choices_and_a_folded_answer_and_no_widgets(lessons, tmp_path):
    lesson = lessons("06_asked", ASKED, ANSWERED)
    assert executing.execute(lesson, tmp_path, "small") == ""
    page = executing.page_of(tmp_path, lesson).read_text(encoding="utf-8")
    assert "VBox(" not in page and "RadioButtons(" not in page
    outputs = page.split('<div class="seqpe-prediction">')[1:]
    asked, result = (part[: part.index("</div>")] for part in outputs)
    for shown in (asked, result):
        assert "Two or three?<ul><li>two</li><li>three</li></ul>" in shown
    assert "details" not in asked and "You guessed" not in asked
    assert (
        "<details><summary>Answer</summary>Answer: <b>three</b>. One and two make three." in result
    )
    assert "✓ len: solved." in page
    record = executing.record_of(executing.page_of(tmp_path, lesson))
    assert record["seconds"] > 0 and f"Its cells took {record['seconds']:.0f} s." in page
    assert all(seconds > 5 for seconds in record["slow"].values())
