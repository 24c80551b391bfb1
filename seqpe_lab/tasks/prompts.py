"""Questions over many documents as prompts (Fig. 4, App. B.3), filled to a budget of tokens.

One document holds the answer. Its place is drawn at random and recorded. The other documents are
distractors, which do not hold the answer.
"""
from __future__ import annotations

import itertools
import random
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.question_data import QAData

INSTRUCTION = ("Answer the question based on the given documents. Only give me the answer and do "
               "not output any other words.")


class Template(NamedTuple):
    """The parts of a prompt, tokenised one by one so that their lengths add up."""
    head: str
    document: str
    tail: str


TEMPLATES = {
    "paper": Template(f"{INSTRUCTION}\n\nThe following are given documents.\n\n",
                      "Document {number}:\n{text}\n\n",
                      f"{INSTRUCTION}\n\nQuestion: {{question}} Answer:"),
    # for contexts of a few lines
    "brief": Template("", "{number}: {text}\n", "Question: {question} Answer:"),
}


class Prompt(NamedTuple):
    """A question in its context.

    Attributes:
        tokens: int64 (L,), up to "Answer:".
        answer: int64 (A,), the answer and the end mark; L + A never exceeds the budget.
        text: the answer as text.
        depth: where its document stands, from 0 (the first) to 1 (the last).
        documents: which documents of the split there are, in order.
        others: answers that are right, too.
    """
    tokens: Tensor
    answer: Tensor
    text: str
    depth: float
    documents: tuple[int, ...]
    others: tuple[str, ...] = ()


class Prompts:
    """Makes the prompts of one split.

    Args:
        data: the questions.
        split: "train", "validation" or "test".
        template: "paper" (Fig. 4) or "brief".

    >>> from seqpe_lab.tasks.question_data import load_questions
    >>> data = load_questions("facts")
    >>> prompt = Prompts(data, "test", "brief").make(0, budget=128, seed=0)
    >>> len(prompt.tokens) + len(prompt.answer) <= 128
    True
    >>> data.decode(prompt.answer) == " " + prompt.text
    True
    """

    def __init__(self, data: QAData, split: str = "test", template: str = "paper"):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
        if template not in TEMPLATES:
            raise ValueError(f"unknown template {template!r}: choose from {', '.join(TEMPLATES)}")
        self.data, self.split, self.template = data, data.splits[split], TEMPLATES[template]
        self.lower = [document.lower() for document in self.split.documents]
        self.encode = cache(lambda text: tuple(data.encode(text)))

    def __len__(self) -> int:
        return len(self.split.questions)

    def document(self, number: int, document: int) -> tuple[int, ...]:
        """The tokens of a document that stands at place ``number``, counted from 1."""
        before, after = self.template.document.format(number=number, text="\0").split("\0")
        named = before.rstrip(" ")  # in a BPE a space belongs to the word that follows
        rest = before[len(named):] + self.split.documents[document] + after
        return self.encode(named) + self.encode(rest)

    def fitting(self, budget: int) -> list[int]:
        """The questions that fit a budget of tokens with their document and answer.

        Raises:
            ValueError: none does.
        """
        found = [index for index in range(len(self)) if self._least(index) <= budget]
        if not found:
            raise ValueError(f"no question fits {budget} tokens with its document and its answer: "
                             "raise train_len")
        return found

    def make(self, index: int, budget: int, seed: int | str,
             distractors: int | None = None) -> Prompt:
        """Question ``index`` in a context of at most ``budget`` tokens, answer and end included.

        Documents are drawn and added until the next one would exceed the budget; the same seed
        gives the same prompt on every machine.

        Args:
            distractors: at most so many; None sets no limit.

        Raises:
            ValueError: a budget below the question, its document and its answer; too few documents
                to fill it.
        """
        question, documents = self.split.questions[index], self.split.documents
        total, draw = self._least(index), random.Random(f"{seed}/{index}")
        if total > budget:
            raise ValueError(
                f"the question {question.text!r} needs {total} tokens with its document and its "
                f"answer {question.answer[:40]!r}, above the budget of {budget}: raise the budget "
                "or leave it out")
        others: list[int] = []
        seen = {question.document}
        while distractors is None or len(others) < distractors:
            if len(seen) == len(documents):
                raise ValueError(
                    f"{len(documents)} documents, {len(others)} of them without the answer "
                    f"{question.answer!r}, do not fill a budget of {budget} tokens: give more "
                    "documents or lower it")
            candidate = draw.randrange(len(documents))
            if candidate in seen:
                continue
            seen.add(candidate)
            if self._answers(candidate, index):
                continue
            total += len(self.document(len(others) + 2, candidate))
            if total > budget:
                break
            others.append(candidate)
        place = draw.randrange(len(others) + 1)
        order = (*others[:place], question.document, *others[place:])
        parts = [self.encode(self.template.head),
                 *(self.document(number, document) for number, document in enumerate(order, 1)),
                 self._tail(index)]
        return Prompt(torch.tensor([*itertools.chain(*parts)]), torch.tensor(self._answer(index)),
                      question.answer, place / max(1, len(others)), order, question.others)

    def _answers(self, document: int, index: int) -> bool:
        """Whether a document holds an answer to a question, or has the topic of its document."""
        question, topics = self.split.questions[index], self.split.topics
        same_topic = bool(topics) and topics[document] == topics[question.document]
        return same_topic or any(answer.lower() in self.lower[document]
                                 for answer in (question.answer, *question.others))

    def _tail(self, index: int) -> tuple[int, ...]:
        return self.encode(self.template.tail.format(question=self.split.questions[index].text))

    def _answer(self, index: int) -> tuple[int, ...]:
        return self.encode(" " + self.split.questions[index].answer) + self.data.end

    def _least(self, index: int) -> int:
        """Tokens of question ``index`` with its document and its answer alone."""
        document = self.document(1, self.split.questions[index].document)
        parts = self.encode(self.template.head), document, self._tail(index), self._answer(index)
        return sum(map(len, parts))
