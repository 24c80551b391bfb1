"""Predictions: an answer waits for the reader's choice and for the result; choices are kept."""

import json

import IPython.display
import numpy as np
import pytest
import torch

from seqpe_lab.course import lesson, predictions
from seqpe_lab.runs import runs_folder

CHOICES = {"123": "You counted steps.", "1000": "You compared spelling."}


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What cells display, in order; nothing was asked or kept before."""
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    monkeypatch.setattr(predictions, "_asked", {})
    displayed = []
    monkeypatch.setattr(IPython.display, "display", lambda what, raw: displayed.append(what))
    return displayed


@pytest.fixture
def lab(shown):
    return lesson.Lesson("05 The contrastive loss", "smoke", 0)


def ask(lab, **more):
    lab.predict("nearer", "Which is nearer to 100?", CHOICES, **more)
    return predictions.asked("05", "nearer")


def buttons(prediction, place="asked"):
    return prediction._views[place][0]


def said(prediction, place="asked"):
    return prediction._views[place][1].value


def test_nothing_is_chosen_and_nothing_is_spoiled_by_running_all_cells_twice(lab):
    for _ in range(2):
        prediction = ask(lab)
        assert buttons(prediction).value is None
        lab.reveal("nearer", "1000", "They share digits.")
        for place in ("asked", "result"):
            before, _, folded = said(prediction, place).partition("<details>")
            assert "1000" not in before and "digits" not in before
            assert "1000" in folded and "They share digits." in folded
    assert not (runs_folder() / "predictions").exists()


def test_the_answer_appears_when_the_reader_has_chosen_and_the_result_is_there(lab):
    prediction = ask(lab)
    buttons(prediction).value = "123"
    assert "Noted" in said(prediction) and "1000" not in said(prediction)
    lab.reveal("nearer", "1000", "They share digits.")
    for place in ("asked", "result"):
        assert buttons(prediction, place).value == "123"
        assert said(prediction, place) == (
            "✗ You chose <b>123</b>.<br>You counted steps.<br>"
            "Answer: <b>1000</b>. They share digits."
        )


def test_one_may_choose_where_the_result_is(lab):
    prediction = ask(lab)
    lab.reveal("nearer", "1000")
    buttons(prediction, "result").value = "1000"
    assert buttons(prediction).value == "1000"
    assert said(prediction).startswith("✓ You chose <b>1000</b>.<br>You compared spelling.")


@pytest.mark.parametrize(
    "answers, mark, words",
    [
        ("1000", "✗", "Answer: <b>1000</b>."),
        (["1000", "123"], "✓", "<b>1000</b> or <b>123</b> (these results show no difference"),
        ([], "You", "Answer: these results do not decide it."),
    ],
)
def test_a_prediction_may_have_several_answers_or_none(lab, answers, mark, words):
    prediction = ask(lab)
    prediction.choose("123")
    lab.reveal("nearer", answers)
    assert said(prediction).startswith(mark) and words in said(prediction)


def test_an_answer_that_is_known_appears_at_the_choice(lab):
    prediction = ask(lab, answer="1000")
    assert said(prediction).startswith("The result is there.")
    buttons(prediction).value = "1000"
    assert said(prediction).startswith("✓")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(answer="c"), ValueError, "'c' is none of the choices"),
        (dict(answer="123", holds=torch.tensor(False)), AssertionError, "contradict the answer"),
        (dict(answer="123", holds=np.False_), AssertionError, "answer .123. to: Which is nearer"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(lab, arguments, error, message):
    ask(lab)
    with pytest.raises(error, match=message):
        lab.reveal("nearer", **arguments)


def test_a_choice_needs_an_alternative(lab):
    with pytest.raises(ValueError, match=r"at least two choices, got \['a'\]"):
        lab.predict("n", "?", ["a"])


def test_a_choice_is_kept_for_another_day_until_the_answer_is_seen(lab, monkeypatch):
    prediction = ask(lab)
    prediction.choose("1000")
    prediction.choose("123")
    lab.reveal("nearer", "1000")
    prediction.choose("1000")  # to read what is said to others
    kept = json.loads((runs_folder() / "predictions" / "05.json").read_text(encoding="utf-8"))
    assert kept["nearer"]["choice"] == "123"
    monkeypatch.setattr(predictions, "_asked", {})  # another day
    prediction = ask(lab)
    assert buttons(prediction).value == "123"
    assert said(prediction).startswith("Your choice of 20")
    lab.reveal("nearer", "1000")
    assert "✗ You chose <b>123</b>" in said(prediction, "result")


def test_another_lesson_meets_a_prediction_again_and_may_use_the_name_itself(lab, shown):
    ask(lab).choose("123")
    later = lesson.Lesson("09 Length extrapolation", "smoke", 0)
    later.predict("nearer", "Which is nearer to 100?", CHOICES, first_asked="05")
    assert buttons(predictions.asked("05", "nearer")).value == "123"
    later.predict("nearer", "Which is nearer to 5?", ["4", "50"])
    assert buttons(predictions.asked("09", "nearer")).value is None


def test_a_question_in_new_words_is_a_new_one(lab):
    ask(lab)
    lab.reveal("nearer", "1000")
    lab.predict("nearer", "Which is farther?", CHOICES)
    assert predictions.asked("05", "nearer").answers is None


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"nearer": {"choice": "7", "time": "now"}}', "You once chose 7"),
    ],
)
def test_what_was_kept_and_is_of_no_use_is_said_and_can_be_replaced(lab, text, words):
    file = runs_folder() / "predictions" / "05.json"
    file.parent.mkdir()
    file.write_text(text)
    prediction = ask(lab)
    assert words in said(prediction) and prediction.choice is None
    buttons(prediction).value = "123"
    assert json.loads(file.read_text())["nearer"]["choice"] == "123"


def test_a_choice_that_cannot_be_kept_is_a_choice_all_the_same(lab):
    (runs_folder() / "predictions").write_text("a file in the way")
    prediction = ask(lab)
    buttons(prediction).value = "123"
    assert "Your choice could not be kept:" in said(prediction)


def test_the_cell_of_a_result_may_run_before_the_question(lab, capsys, monkeypatch):
    lab.reveal("nearer", "1000")
    assert "First run the cell above that asks the prediction 'nearer'" in capsys.readouterr().out
    monkeypatch.setattr("seqpe_lab.course.reader_answers.executed", lambda: True)
    with pytest.raises(ValueError, match="no prediction 'nearer' above"):
        lab.reveal("nearer", "1000")


def test_a_page_shows_question_choices_and_a_folded_answer_and_nobody_s_choice(
    lab, shown, monkeypatch
):
    ask(lab).choose("123")
    monkeypatch.setattr(predictions, "_asked", {})
    monkeypatch.setattr(predictions, "nobody_watches", lambda: True)
    ask(lab)
    lab.reveal("nearer", "1000", "They share digits.")
    asked, revealed = shown[-2:]
    assert {*asked} == {*revealed} == {"text/plain", "text/html"}
    assert "Which is nearer to 100?<ul><li>123</li><li>1000</li></ul></div>" in asked["text/html"]
    folded = revealed["text/html"].partition("<details><summary>Answer</summary>")[2]
    for words in ("<b>1000</b>. They share digits.", "<b>123</b>: You counted steps."):
        assert words in folded
    assert "chose" not in revealed["text/html"]


def test_a_question_is_text_and_no_html(lab, shown):
    lab.predict("n", "Is a < b & c?", {"<i>": "x & y", "b": ""}, answer="<i>")
    predictions.asked("05", "n").choose("<i>")
    assert "Is a &lt; b &amp; c?" in shown[-1]["text/html"]
    assert (
        "&lt;i&gt;" in said(predictions.asked("05", "n")) and "x &amp; y" in shown[-1]["text/html"]
    )
