"""What a lesson asks of its reader: predictions, and exercises with their solutions."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from seqpe_lab.course import predictions
from seqpe_lab.course.feedback import Exercise
from seqpe_lab.course.hidden_errors import executed


class ReaderAnswers:
    """The part of a lesson that its reader answers.

    Attributes:
        title: its first word is the lesson's name among the predictions.
        exercises: those whose cells have run, by the names of their functions.
    """

    def __init__(self, title: str):
        self.title = title
        self.exercises: dict[str, Exercise] = {}

    def predict(self, name: str, question: str, choices: Mapping[str, str] | Sequence[str],
                answer: str | Iterable[str] | None = None, why: str = "", *,
                holds: object = True, first_asked: str = "") -> None:
        """Ask for a prediction; the reader's choice is kept, and found again on another day.

        Args:
            name: of this prediction within the lesson, such as "nearer".
            choices: {choice: what to say to one who chose it}; without words for it, a list.
            answer, why, holds: if it is known at once, as for :meth:`reveal`.
            first_asked: the lesson that asked it first, such as "00"; what the reader chose there
                is chosen here.

        Raises:
            ValueError, AssertionError: as :meth:`reveal`.
        """
        lesson = first_asked or predictions.lesson_key(self.title)
        prediction = predictions.ask(lesson, name, question, choices)
        if answer is not None:
            prediction.answer(answer, why, holds)
        prediction.display("asked")

    def reveal(self, name: str, answer: str | Iterable[str], why: str = "", *,
               holds: object = True, first_asked: str = "") -> None:
        """Give a prediction its result: shown to a reader who has chosen, else after a click.

        Args:
            answer: one of the choices; several are such that the results show no difference
                between them; an empty list says that they decide nothing.
            why: one sentence; numbers of the results belong here.
            holds: whether the results bear out an answer that is not computed from them.

        Raises:
            ValueError: the answer is none of the choices.
            AssertionError: ``holds`` is false.
        """
        lesson = first_asked or predictions.lesson_key(self.title)
        if prediction := self._found(predictions.asked(lesson, name), "prediction", name):
            prediction.answer(answer, why, holds)
            prediction.display("result")

    def exercise(self, function: Callable, *of_what, **asked) -> None:
        """Check a reader's function and print what is wrong with it.

        Args:
            of_what, asked: as of :class:`~seqpe_lab.course.feedback.Exercise`.
        """
        exercise = Exercise(function, *of_what, **asked)
        self.exercises[exercise.name] = exercise
        exercise.problem = exercise.feedback(function)
        print(f"Not yet: {exercise.problem}" if exercise.problem
              else f"✓ {exercise.name}: solved.")

    def solved(self, name: str) -> bool:
        """Whether the reader's function of this name passed, when it was last checked."""
        return name in self.exercises and not self.exercises[name].problem

    def solution(self, function: Callable) -> Callable:
        """Check the lab's own solution; a decorator, which gives the reader's function back.

        Raises:
            AssertionError: the exercise does not accept it, or does not recognise its mistakes.
        """
        exercise = self._found(self.exercises.get(function.__name__), "exercise",
                               function.__name__)
        if exercise is None:
            return function
        if problem := exercise.feedback(function):
            raise AssertionError(f"✗ the solution: {problem}")
        if unseen := exercise.unseen_mistakes():
            raise AssertionError(f"✗ {exercise.name}: not recognised: {unseen}")
        print(f"✓ the solution of {exercise.name} passes its checks")
        return exercise.function

    def _found(self, asked, kind: str, name: str):
        """What an earlier cell asked; that this cell has not run stops no reader."""
        if asked is None:
            if executed():
                raise ValueError(f"this lesson has no {kind} {name!r} above")
            print(f"First run the cell above that asks the {kind} {name!r}, then this one again.")
        return asked
