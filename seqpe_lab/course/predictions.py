"""Predictions: a question, the reader's choice, and an answer that waits for both.

A prediction is known by its lesson and its name. The answer appears when the reader has chosen and
the result is there; until then it stays behind a click. What a reader chooses is kept in
``predictions/`` in the runs folder, a file a lesson, and is there again on another day or in
another lesson. A page that has no kernel shows the question, its choices and a folded answer.
"""
from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.page_figures import nobody_watches
from seqpe_lab.runs import runs_folder

if TYPE_CHECKING:  # widgets are for notebooks only
    from pathlib import Path

    from ipywidgets import HTMLMath, RadioButtons

_asked: dict[tuple[str, str], Prediction] = {}  # in this kernel; a cell may run again


class Prediction:
    """A question and what became of it.

    Args:
        lesson, name: under which the choice is kept, such as "05" and "nearer".
        choices: what one can choose, with what is said to a reader who chose it.

    Attributes:
        choice: what the reader chose; None so far.
        answers: None as long as there is no result. Several are such that the results show no
            difference between them; none, that the results decide nothing.
    """

    def __init__(self, lesson: str, name: str, question: str, choices: Mapping[str, str]):
        if len(choices) < 2:
            raise ValueError(f"a prediction needs at least two choices, got {list(choices)}")
        self.lesson, self.name, self.question = lesson, name, question
        self.choices = dict(choices)
        self.choice: str | None = None
        self.answers: list[str] | None = None
        self.why, self.note = "", ""
        self._views: dict[str, tuple[RadioButtons, HTMLMath]] = {}
        self._told = False  # the reader chose and saw the answer: later choices are not kept
        if not nobody_watches():  # a page shows nobody's choices
            self._remember()

    def choose(self, choice: str | None) -> None:
        """Note a reader's choice; it is kept unless the answer has been seen before."""
        if choice == self.choice or choice is None:
            return
        self.choice, self.note = choice, ""
        if not self._told:
            self._keep()
        self._update()

    def answer(self, answer: str | Iterable[str], why: str = "", holds: object = True) -> None:
        """Say what the results are.

        Raises:
            ValueError: the answer is none of the choices.
            AssertionError: ``holds`` is false.
        """
        answers = [answer] if isinstance(answer, str) else [*answer]
        for one in answers:
            if one not in self.choices:
                raise ValueError(f"{one!r} is none of the choices {list(self.choices)}")
        if not holds:
            raise AssertionError(f"✗ the results contradict the answer {answer!r} to: "
                                 f"{self.question}")
        self.answers, self.why = answers, why
        self._update()

    def display(self, place: str) -> None:
        """Show it as the output of a cell.

        Args:
            place: "asked" or "result"; what was shown in the same place before is replaced.
        """
        from IPython.display import display
        shown = {}
        if not nobody_watches():
            import ipywidgets
            question = ipywidgets.HTMLMath(f"<b>Your prediction.</b> {html.escape(self.question)}")
            buttons = ipywidgets.RadioButtons(options=list(self.choices), value=self.choice,
                                              layout=ipywidgets.Layout(width="auto"))
            buttons.add_class("seqpe-prediction")
            said = ipywidgets.HTMLMath()
            said.add_class("seqpe-answer")
            buttons.observe(lambda change: self.choose(change["new"]), "value")
            self._views[place] = buttons, said
            self._update()
            layout = ipywidgets.Layout(margin="0 0 1em 0")
            shown = ipywidgets.VBox([question, buttons, said], layout=layout)._repr_mimebundle_()
        display(shown | {"text/plain": self._text(), "text/html": self._page()}, raw=True)

    # --- what is said --------------------------------------------------------------------------

    def said(self) -> str:
        """What stands below the choices now, as HTML."""
        said = [html.escape(self.note)] if self.note else []
        if self.answers is None:
            if self.choice:
                said.append("Noted. The answer appears as soon as the result is there.")
        elif self.choice is None:
            said.append("The result is there. Choose, and the answer appears here. "
                        f"{self._folded('Show the answer without choosing')}")
        else:
            mark = "✓ " if self.choice in self.answers else "✗ " if self.answers else ""
            own = f"{mark}You chose <b>{html.escape(self.choice)}</b>."
            parts = [own, html.escape(self.choices[self.choice]), self._answer()]
            said.append("<br>".join(filter(None, parts)))
        return "<br>".join(said)

    def _answer(self) -> str:
        shown = " or ".join(f"<b>{html.escape(one)}</b>" for one in self.answers or ())
        between = ("" if len(self.answers or ()) < 2
                   else " (these results show no difference between them)")
        return (f"Answer: {shown or 'these results do not decide it'}{between}. "
                f"{html.escape(self.why)}").rstrip()

    def _folded(self, summary: str) -> str:
        """The answer, and what is said of every choice, behind a click."""
        said = "".join(f"<li><b>{html.escape(choice)}</b>: {html.escape(words)}</li>"
                       for choice, words in self.choices.items() if words)
        return (f"<details><summary>{summary}</summary>{self._answer()}"
                f"{f'<ul>{said}</ul>' if said else ''}</details>")

    def _page(self) -> str:
        """For a page without a kernel."""
        choices = "".join(f"<li>{html.escape(choice)}</li>" for choice in self.choices)
        folded = "" if self.answers is None else self._folded("Answer")
        return (f'<div class="seqpe-prediction"><b>Your prediction.</b> '
                f"{html.escape(self.question)}<ul>{choices}</ul>{folded}</div>")

    def _text(self) -> str:
        choices = "\n".join(f"( ) {choice}" for choice in self.choices)
        return f"Your prediction. {self.question}\n{choices}"

    def _update(self) -> None:
        self._told |= self.choice is not None and self.answers is not None
        for buttons, said in self._views.values():
            buttons.value, said.value = self.choice, self.said()

    # --- what is kept --------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return runs_folder() / "predictions" / f"{self.lesson}.json"

    def _kept(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        if not isinstance(kept, dict):
            raise ValueError(f"{self._file} holds no table")
        return kept

    def _remember(self) -> None:
        try:
            kept = self._kept().get(self.name, {})
        except (OSError, ValueError):
            self.note = f"Earlier predictions cannot be read: {self._file} is damaged."
            return
        if kept.get("choice") in self.choices:
            self.choice = kept["choice"]
            self.note = f"Your choice of {kept['time']}, in lesson {self.lesson}."
        elif kept:
            self.note = f"You once chose {kept['choice']}, which the question no longer offers."

    def _keep(self) -> None:
        try:
            try:
                kept = self._kept()
            except ValueError:  # damaged, as the reader was told
                kept = {}
            kept[self.name] = {"question": self.question, "choice": self.choice,
                               "time": time.strftime("%Y-%m-%d %H:%M")}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(kept, indent=1, ensure_ascii=False))
        except OSError as error:  # an exception of a widget would be shown to nobody
            self.note = f"Your choice could not be kept: {error}"


def lesson_key(title: str) -> str:
    """The first word of a lesson's title, under which its predictions are kept.

    >>> lesson_key("05 The contrastive loss"), lesson_key("Primer: attention")
    ('05', 'primer')
    """
    return re.findall(r"\w+", title.lower())[0]


def ask(lesson: str, name: str, question: str,
        choices: Mapping[str, str] | Sequence[str]) -> Prediction:
    """A prediction; asked again in the same words, it is the same one, with all that is known."""
    offered = dict(choices) if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    known = _asked.get((lesson, name))
    if known is None or (known.question, known.choices) != (question, offered):
        known = _asked[lesson, name] = Prediction(lesson, name, question, offered)
    return known


def asked(lesson: str, name: str) -> Prediction | None:
    """The prediction of this name, if its cell has run in this kernel."""
    return _asked.get((lesson, name))
