"""Exercises that say what is wrong with an answer: what it returned, and what was probably thought.

    exercise = Exercise(double, cases=[(1,), (3,)], expected=[2, 6],
                        mistakes={"That is the square.": lambda right, x: x * x})
    exercise.feedback(double)        # "" if all is right
"""
from __future__ import annotations

import copy
import inspect
import reprlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

HELP = {
    NameError: "Is the name spelt as above, and has the cell that defines it been run?",
    IndexError: "An index lies outside: print the shapes and the indices just before this line.",
    KeyError: "There is no such entry: print the keys just before this line.",
    ZeroDivisionError: "Which of the inputs makes the divisor zero?",
    RecursionError: "The function calls itself without end.",
}


class Exercise:
    """What is asked of a reader's function.

    Args:
        function: the reader's.
        cases: the arguments of each call that is checked: tuples. At least two, for a constant
            answers a single one, unless the function takes no arguments.
        expected: the right answers, one a case, or a function that finds them by another way than
            the solution: readers can open the checker.
        judge: instead of ``expected`` where several answers are right:
            ``judge(answer, *arguments)`` returns a sentence that says what is wrong, or "".
        mistakes: {what was probably thought: a wrong answer}. A wrong answer is a function of the
            right one and the arguments, ``wrong(right, *arguments)``, or a value.
        tolerance: of numbers.

    Attributes:
        problem: what was wrong with the reader's function when it was last checked.

    Raises:
        ValueError: fewer than two cases, or not one of ``expected`` and ``judge``.

    >>> def double(x):
    ...     return x * x
    >>> exercise = Exercise(double, [(1,), (3,)], [2, 6], mistakes={
    ...     "That is the square.": lambda right, x: x * x})
    >>> exercise.feedback(double)
    'double(1) returned 1. That is the square.'
    >>> exercise.feedback(lambda x: 2 * x)
    ''
    """

    def __init__(self, function: Callable, cases: Sequence[tuple] = ((),),
                 expected: Sequence | Callable | None = None, *,
                 judge: Callable[..., str] | None = None,
                 mistakes: Mapping[str, Any] | None = None, tolerance: float = 1e-5):
        self.function, self.cases = function, [tuple(case) for case in cases]
        self.name = getattr(function, "__name__", repr(function))
        self.problem = "not checked yet"
        self.judge, self.mistakes, self.tolerance = judge, dict(mistakes or {}), tolerance
        if (expected is None) == (judge is None):
            raise ValueError(f"the exercise {self.name} needs either expected= or judge=")
        if len(self.cases) < 2 and self.cases != [()]:
            raise ValueError(f"the exercise {self.name} needs at least two cases: "
                             "a constant would answer one")
        if callable(expected):
            expected = [expected(*copied(case)) for case in self.cases]
        self.expected = [None] * len(self.cases) if expected is None else list(expected)
        if len(self.expected) != len(self.cases):
            raise ValueError(f"the exercise {self.name} has {len(self.cases)} cases "
                             f"but {len(self.expected)} expected answers")

    def feedback(self, function: Callable) -> str:
        """What is wrong with a function, in one or two sentences; "" if nothing is."""
        if not callable(function):
            return f"{self.name} is no function any more but {shortly(function)}."
        answers = []
        for case in self.cases:
            try:
                answers.append(function(*copied(case)))
            except Exception as error:
                return self._of_exception(function, case, error)
            if answers[-1] is None:
                return (f"{self._call(case)} returned None: "
                        + ("there is nothing to check yet, or a `return` is missing."
                           if len(answers) == 1 else "does every branch have its `return`?"))
        problems = [self._problem(*of_case) for of_case in zip(self.cases, answers, self.expected)]
        for case, answer, problem in zip(self.cases, answers, problems):
            if problem:
                sentence = self._thought(answers) or problem
                return f"{self._call(case)} returned {shortly(answer)}. {sentence}"
        return ""

    def unseen_mistakes(self) -> list[str]:
        """The sentences of mistakes that the cases accept, or take for another one."""
        wrong = []
        for sentence, mistake in self.mistakes.items():
            answers = self._mistaken(mistake)
            problems = map(self._problem, self.cases, answers, self.expected)
            if not any(problems) or self._thought(answers) != sentence:
                wrong.append(sentence)
        return wrong

    def _mistaken(self, mistake: Any) -> list:
        """What one who makes it would answer."""
        if not callable(mistake):
            return [mistake] * len(self.cases)
        return [mistake(*copied([right, *case])) for case, right in zip(self.cases, self.expected)]

    def _thought(self, answers: Sequence) -> str:
        for sentence, mistake in self.mistakes.items():
            if all(map(self._agree, answers, self._mistaken(mistake))):
                return sentence
        return ""

    def _agree(self, answer: Any, right: Any) -> bool:
        return not self._difference(answer, right)

    def _problem(self, case: tuple, answer: Any, right: Any) -> str:
        if self.judge is None:
            return self._difference(answer, right, tell=bool(case))
        try:
            return self.judge(answer, *copied(case)) or ""
        except Exception as error:  # an answer of another kind than the judge can read
            return f"This is not the kind of answer that is asked for ({_named(error)})."

    def _difference(self, answer: Any, right: Any, tell: bool = True) -> str:
        """How an answer differs from the right one; "" if it does not."""
        mine, other = as_numbers(answer), as_numbers(right)
        right_is = f"Right would be {shortly(right)}." if tell else "That is not the answer."
        if mine is not None and other is not None and other.numel() > 9:
            right_is = "Not all of the numbers are right."
        if other is None:
            return "" if type(answer) is type(right) and answer == right else right_is
        if mine is None:
            kind = "a number" if not other.dim() else f"numbers of shape {tuple(other.shape)}"
            return f"That is a {type(answer).__name__}; {kind} should come out."
        if mine.shape != other.shape:
            same = mine.numel() == other.numel() and torch.equal(mine.flatten(), other.flatten())
            return (f"Its shape is {tuple(mine.shape)}, and {tuple(other.shape)} is asked for"
                    f"{': the numbers are right' if same else ''}.")
        if mine.isnan().any() and not other.isnan().any():
            return ("It contains nan: was 0 divided by 0, infinity taken from infinity, or a "
                    "negative number's root or logarithm taken?")
        return "" if torch.allclose(mine, other, rtol=0, atol=self.tolerance, equal_nan=True) \
            else right_is

    def _of_exception(self, function: Callable, case: tuple, error: Exception) -> str:
        if isinstance(error, NotImplementedError):
            return f"Still to be written: {error}" if str(error) else "Still to be written."
        lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)
                 if frame.filename == function.__code__.co_filename] if inspect.isfunction(
                     function) else []
        where = f" at `{lines[-1]}`" if lines and lines[-1] else ""
        more = next((text for kind, text in HELP.items() if isinstance(error, kind)), "")
        if isinstance(error, TypeError) and not _accepts(function, case):
            more = f"It is called with {len(case)} arguments: keep those of its first line."
        return f"{self._call(case)} stopped{where} with {_named(error)}. {more}".rstrip()

    def _call(self, case: tuple) -> str:
        return f"{self.name}({', '.join(map(shortly, case))})"


def copied(values: Sequence) -> list:
    """Copies, so that a function may change its arguments; tensors keep ``requires_grad``."""
    return [value.detach().clone().requires_grad_(value.requires_grad)
            if isinstance(value, Tensor) else copy.deepcopy(value) for value in values]


def as_numbers(value: Any) -> Tensor | None:
    """Numbers, lists and arrays of them as a float64 tensor; None for anything else."""
    try:
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            value = torch.stack([torch.as_tensor(one) for one in value])
        return torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        return None


def shortly(value: Any) -> str:
    """A value in at most one line.

    >>> shortly(torch.tensor([0.5, 1.0])), shortly(torch.zeros(4, 5)), shortly(len)
    ('[0.5, 1.0]', 'a tensor of shape (4, 5)', 'len')
    """
    if isinstance(value, Tensor):
        if value.numel() > 9:
            return f"a tensor of shape {tuple(value.shape)}"
        value = value.detach().tolist()
    if callable(value):
        return getattr(value, "__name__", repr(value))
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxset = short.maxdict = 9
    short.maxstring = short.maxother = 60
    return short.repr(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ").removesuffix(".")


def _accepts(function: Callable, case: tuple) -> bool:
    try:
        inspect.signature(function).bind(*case)
    except TypeError:
        return False
    return True
