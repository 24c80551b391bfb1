"""What exercises say of answers of every kind; the lessons' own stand in test_wrong_answers.py."""

import numpy as np
import pytest
import torch

from seqpe_lab.course.feedback import Exercise
from seqpe_lab.course.lesson import Lesson


def double(x):
    return None


def exercise(**more):
    return Exercise(
        double,
        **dict(cases=[(torch.ones(2),), (torch.tensor([3.0, 4.0]),)], expected=lambda x: 2 * x)
        | more,
    )


SAID = [  # an answer, words of what is said
    (lambda x: None, "double([1.0, 1.0]) returned None: there is nothing to check yet"),
    (lambda x: 2 * x if x[0] == 1 else None, "does every branch have its `return`?"),
    (lambda x: 2 * x[:1], "Its shape is (1,), and (2,) is asked for."),
    (lambda x: (2 * x)[:, None], "(2,) is asked for: the numbers are right."),
    (lambda x: "2", "That is a str; numbers of shape (2,) should come out."),
    (lambda x: {1: 2}, "That is a dict"),
    (lambda x: x - 1 + 2 / (1 - x / 1), "Right would be [2.0, 2.0]."),
    (lambda x: 0 * (x / 0), "It contains nan"),
    (lambda x: x.item(), "stopped at `(lambda x: x.item()"),
    (lambda x: x[7], "with IndexError: index 7 is out of bounds"),
    (lambda x: {}["a"], "with KeyError: 'a'. There is no such entry"),
    (
        lambda x: undefined,  # noqa: F821
        "with NameError: name 'undefined' is not defined. Is the name",
    ),
    (lambda x: 1 / 0, "Which of the inputs makes the divisor zero?"),
    (lambda x: double(), "with TypeError"),
    (lambda: 2, "It is called with 1 arguments"),
    (7, "double is no function any more but 7."),
]


@pytest.mark.parametrize("function, words", SAID, ids=[words[:30] for _, words in SAID])
def test_each_wrong_answer_gets_its_own_sentence(function, words):
    assert words in exercise().feedback(function)


def recursive(x):
    return recursive(x)


def unwritten(x):
    raise NotImplementedError("use the chain rule")


def test_functions_without_end_and_unwritten_ones():
    assert "calls itself without end" in exercise().feedback(recursive)
    assert exercise().feedback(unwritten) == "Still to be written: use the chain rule"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 * x,
        lambda x: (2 * x).tolist(),
        lambda x: (2 * x).numpy(),
        lambda x: [2 * one for one in x],
        lambda x: 2 * x.requires_grad_(),
        lambda x: x.mul_(2),  # its arguments are copies
        lambda x: 2 * x + 1e-7,
        lambda x: (2 * x).double(),
    ],
)
def test_right_answers_of_every_kind_are_accepted(function):
    made = exercise()
    assert made.feedback(function) == "" == made.feedback(function)


@pytest.mark.parametrize(
    "expected, right, wrong",
    [
        (["ab", "c"], lambda x: "ab" if len(x) == 2 else "c", lambda x: "ab"),
        ([{1, 2}, {3}], lambda x: {*x}, lambda x: [*x]),
        ([True, False], lambda x: len(x) == 2, lambda x: True),
        ([np.eye(2), np.eye(1)], lambda x: np.eye(len(x)), lambda x: np.ones((len(x), len(x)))),
        ([torch.inf, 1.0], lambda x: torch.inf if len(x) == 2 else 1.0, lambda x: -torch.inf),
    ],
)
def test_what_is_no_tensor_is_compared_too(expected, right, wrong):
    made = exercise(cases=[([1, 2],), ([3],)], expected=expected)
    assert made.feedback(right) == ""
    assert "returned" in made.feedback(wrong)


def test_a_typical_mistake_is_recognised_on_all_cases_only():
    made = exercise(mistakes={"That is the square.": lambda right, x: x * x, "One each.": [1, 1]})
    assert made.feedback(lambda x: x * x) == "double([1.0, 1.0]) returned [1.0, 1.0]. " + (
        "That is the square."
    )
    assert made.feedback(lambda x: torch.ones(2)).endswith("One each.")
    assert made.feedback(lambda x: torch.zeros(2)).endswith("Right would be [2.0, 2.0].")
    assert made.unseen_mistakes() == []


def test_mistakes_that_pass_or_cannot_be_told_apart_are_found():
    made = exercise(
        mistakes={
            "right": lambda right, x: right,
            "one": lambda right, x: right + 1,
            "the same": lambda right, x: 1 + right,
        }
    )
    assert made.unseen_mistakes() == ["right", "the same"]


def judge(answer, x):
    return "" if answer[0] > x[0] else "The first number has to grow."


def test_a_judge_accepts_several_answers_and_reads_only_those_of_its_kind():
    made = exercise(expected=None, judge=judge)
    assert made.feedback(lambda x: x + 1) == made.feedback(lambda x: 9 * x.requires_grad_()) == ""
    assert made.feedback(lambda x: x - 1).endswith("The first number has to grow.")
    assert "not the kind of answer that is asked for (TypeError" in made.feedback(lambda x: 7)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(cases=[(1,)]), "needs at least two cases: a constant would answer one"),
        (dict(expected=None), "needs either expected= or judge="),
        (dict(judge=judge), "needs either expected= or judge="),
        (dict(expected=[1]), "has 2 cases but 1 expected answers"),
    ],
)
def test_an_exercise_that_checks_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        exercise(**arguments)


def test_an_answer_without_arguments_is_not_told():
    def answer():
        return 6

    made = Exercise(answer, expected=[7])
    assert made.feedback(answer) == "answer() returned 6. That is not the answer."


def test_a_lesson_checks_the_reader_s_function_and_its_own_solution(capsys):
    lab = Lesson("05", "smoke", 0)

    def triple(x):
        return 2 * x

    asked = dict(cases=[(1,), (2,)], expected=[3, 6])
    lab.exercise(triple, **asked)
    assert capsys.readouterr().out == "Not yet: triple(1) returned 2. Right would be 3.\n"
    readers = triple
    assert not lab.solved("triple") and not lab.solved("other")

    @lab.solution
    def triple(x):
        return 3 * x

    assert triple is readers and "passes its checks" in capsys.readouterr().out
    lab.exercise(lambda x: 3 * x, **asked)
    assert lab.solved("<lambda>") and "✓ <lambda>: solved." in capsys.readouterr().out

    def other(x):
        return x

    assert lab.solution(other) is other
    assert "First run the cell above that asks the exercise 'other'" in capsys.readouterr().out


def test_a_solution_that_fails_its_checks_fails_the_cell():
    lab = Lesson("05", "smoke", 0)
    lab.exercise(double, [(1,), (2,)], [2, 4], mistakes={"That is right.": lambda right, x: right})
    with pytest.raises(AssertionError, match="✗ the solution: double.1. returned None"):
        lab.solution(double)

    def solution(x):
        return 2 * x

    solution.__name__ = "double"
    with pytest.raises(AssertionError, match="not recognised: .'That is right.'"):
        lab.solution(solution)
