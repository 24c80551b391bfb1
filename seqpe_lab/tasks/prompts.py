"""Questions over many documents: the paper's prompt (Fig. 4, App. B.3), filled to a token budget.

One document holds the answer, its place among the others is drawn and recorded, and the others are
distractors that do not hold it. The default questions need no network: invented facts in varied
sentences, which nobody can know by heart, so that a model must find the answer and copy it.
"""
from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqpe_lab.tasks.corpus import (
    SPLITS,
    cache_folder,
    load_documents,
    load_from_hub,
    make_tokenizer,
)
from seqpe_lab.tasks.facts import facts

INSTRUCTION = "Answer the question based on the given documents. Only give me the answer and do not output any other words."


class Template(NamedTuple):
    """The parts of a prompt. They are tokenised one by one, so that their lengths add up."""
    head: str
    document: str
    tail: str


TEMPLATES = {
    "paper": Template(f"{INSTRUCTION}\n\nThe following are given documents.\n\n", "Document {number}:\n{text}\n\n", f"{INSTRUCTION}\n\nQuestion: {{question}} Answer:"),
    "brief": Template("", "{number}: {text}\n", "Question: {question} Answer:"),  # where a context is a few lines long
}


class Question(NamedTuple):
    text: str
    answer: str
    document: int  # which document of its split holds the answer


class Split(NamedTuple):
    documents: list[str]
    questions: list[Question]
    topics: list[str] | None = None  # of each document; a distractor has another one than the document with the answer


class Prompt(NamedTuple):
    """A question in its context.

    Attributes:
        tokens: int64 (L,), up to "Answer:".
        answer: int64 (A,), the answer and the end mark; L + A never exceeds the budget.
        text: the answer as text.
        depth: where its document stands, from 0 (the first) to 1 (the last).
        documents: which documents of the split there are, in order.
    """
    tokens: Tensor
    answer: Tensor
    text: str
    depth: float
    documents: tuple[int, ...]


@dataclass(frozen=True, eq=False)  # told apart by identity: what is derived from one can be kept
class QAData:
    """Questions with their documents, in three splits, and the tokenizer of the language model that is to answer.

    Attributes:
        source: as asked for.
        description: one line for captions.
        splits: "train", "validation", "test".
        vocab_size: token numbers lie below it.
        encode: str -> list of token numbers.
        decode: token numbers -> str.
        end: the token(s) after an answer.
        hash: sha256 of all documents and questions, 16 hex digits.
    """
    source: str
    tokenizer: str
    description: str
    splits: dict[str, Split]
    vocab_size: int
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    end: tuple[int, ...]
    hash: str

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description, "tokenizer": self.tokenizer, "hash": self.hash,
                "documents": {name: len(split.documents) for name, split in self.splits.items()},
                "questions": {name: len(split.questions) for name, split in self.splits.items()}}


def load_questions(source: str = "facts", tokenizer: str = "bytes", text: str = "python") -> QAData:
    """Load questions and documents.

    Args:
        source: "facts" (invented, no network), a folder with train.parquet and validation.parquet in
            SQuAD's columns, or "hub:NAME", for instance "hub:rajpurkar/squad_v2", whose 86,821
            answerable training questions are the paper's 86,820 but for one.
        tokenizer: of the language model, as :func:`~seqpe_lab.tasks.corpus.load_text` takes it.
        text: what a "bpe:SIZE" tokenizer was trained on.

    Raises:
        ValueError: an unknown source, an empty document, an answer that its document does not hold.
        FileNotFoundError: a folder without the two files.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    if source == "facts":
        splits, description = {split: _facts(split) for split in SPLITS}, "invented facts"
    elif source.startswith("hub:"):
        description = source.removeprefix("hub:")
        splits = _squad(load_from_hub(f"the data set {description!r}", _WAYS_OUT, description))
    elif Path(source).expanduser().is_dir():
        splits, description = _squad(_from_folder(Path(source).expanduser())), Path(source).name
    elif "/" in source:
        raise FileNotFoundError(f"no folder of questions at {source}: give one with train.parquet and validation.parquet")
    else:
        raise ValueError(f"unknown questions {source!r}: choose 'facts', a folder, or 'hub:NAME'")
    digest = hashlib.sha256()
    for name, split in splits.items():
        check_split(split, f"the {name} split of {source!r}")
        digest.update(repr((name, split.documents, [tuple(question) for question in split.questions])).encode())
    many, decode, vocab_size = make_tokenizer(tokenizer, load_documents(text)[0]["train"] if tokenizer.startswith("bpe:") else {})
    end = tuple(many({"": ""}).tolist())
    return QAData(source, tokenizer, description, splits, vocab_size, lambda text: many({"": text}).tolist()[:-len(end) or None], decode, end, digest.hexdigest()[:16])


def check_split(split: Split, what: str) -> None:
    """Refuse what cannot be asked.

    Raises:
        ValueError: nothing to ask, an empty document, an empty answer, an answer that is not in its document.
    """
    if not split.questions:
        raise ValueError(f"{what} holds no question")
    for number, document in enumerate(split.documents):
        if not document.strip():
            raise ValueError(f"document {number} of {what} is empty: leave it out")
    for question in split.questions:
        if not question.answer.strip() or question.answer not in split.documents[question.document]:
            raise ValueError(f"the answer {question.answer!r} to {question.text!r} is not in its document, {split.documents[question.document][:60]!r}: correct one of them")


# --- prompts --------------------------------------------------------------------------------------

class Prompts:
    """Makes prompts of one split.

    Args:
        data: the questions.
        split: "train", "validation" or "test".
        template: "paper" (Fig. 4) or "brief".

    >>> data = load_questions("facts")
    >>> prompt = Prompts(data, "test", "brief").make(0, budget=128, seed=0)
    >>> len(prompt.tokens) + len(prompt.answer) <= 128, data.decode(prompt.answer) == " " + prompt.text
    (True, True)
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
        named = before.rstrip(" ")  # a space belongs to the word behind it, as BPE has it
        return self.encode(named) + self.encode(before[len(named):] + self.split.documents[document] + after)

    def fits(self, index: int, budget: int) -> bool:
        """Whether question ``index`` and the document that answers it leave the budget unbroken."""
        return self._alone(index) <= budget

    def make(self, index: int, budget: int, seed: int | str, most: int | None = None) -> Prompt:
        """Question ``index`` in a context of at most ``budget`` tokens, answer and end mark included, and of at most ``most`` distractors.

        Documents are drawn and added until the next one would break the budget; the same seed gives
        the same prompt on every machine.

        Raises:
            ValueError: a budget below the question, its document and its answer; too few documents to fill it.
        """
        question = self.split.questions[index]
        total, draw = self._alone(index), random.Random(f"{seed}/{index}")
        if total > budget:
            raise ValueError(f"the question {question.text!r} needs {total} tokens with its document and its answer {question.answer[:40]!r}, "
                             f"above the budget of {budget}: raise the budget or leave it out")
        others: list[int] = []
        seen, topics = {question.document}, self.split.topics
        while most is None or len(others) < most:
            if len(seen) == len(self.split.documents):
                raise ValueError(f"{len(self.split.documents)} documents, {len(others)} of them without the answer {question.answer!r}, "
                                 f"do not fill a budget of {budget} tokens: give more documents or lower it")
            candidate = draw.randrange(len(self.split.documents))
            if candidate in seen:
                continue
            seen.add(candidate)
            if question.answer.lower() in self.lower[candidate] or (topics and topics[candidate] == topics[question.document]):
                continue  # no distractor holds the answer or speaks of the same thing
            total += len(self.document(len(others) + 2, candidate))
            if total > budget:
                break
            others.append(candidate)
        place = draw.randrange(len(others) + 1)
        documents = (*others[:place], question.document, *others[place:])
        parts = [self.encode(self.template.head), *(self.document(number, document) for number, document in enumerate(documents, 1)),
                 self.encode(self.template.tail.format(question=question.text))]
        return Prompt(torch.tensor([*itertools.chain(*parts)]), torch.tensor(self._answer(index)), question.answer, place / max(1, len(others)), documents)

    def _answer(self, index: int) -> tuple[int, ...]:
        return self.encode(" " + self.split.questions[index].answer) + self.data.end

    def _alone(self, index: int) -> int:
        question = self.split.questions[index]
        return sum(map(len, (self.encode(self.template.head), self.document(1, question.document), self.encode(self.template.tail.format(question=question.text)), self._answer(index))))


# --- invented facts -------------------------------------------------------------------------------

FACTS = {"train": 20_000, "validation": 1_000, "test": 1_000}


def _facts(split: str) -> Split:
    drawn = facts(split, FACTS[split])
    return Split([fact.told for fact in drawn], [Question(fact.asked, fact.answer, number) for number, fact in enumerate(drawn)], [fact.topic for fact in drawn])


# --- SQuAD ----------------------------------------------------------------------------------------

_WAYS_OUT = ("Three ways out: (1) connect to the network and try again; (2) download train.parquet and validation.parquet elsewhere and pass their folder; "
             "(3) use 'facts', which needs no network.")


def _from_folder(folder: Path):
    files = {split: folder / f"{split}.parquet" for split in ("train", "validation")}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: a folder of questions holds train.parquet and validation.parquet")
    from datasets import load_dataset
    try:
        return load_dataset("parquet", data_files={split: str(file) for split, file in files.items()}, cache_dir=str(cache_folder() / "datasets"))
    except Exception as error:  # pyarrow's and datasets' own
        raise ValueError(f"{folder} cannot be read as parquet ({type(error).__name__}: {error})") from error


def _squad(rows) -> dict[str, Split]:
    """Train as it is; the official validation split, by article, is a fifth validation and the rest test."""
    splits = {name: Split([], []) for name in SPLITS}
    for official in ("train", "validation"):
        if official not in rows:
            raise ValueError(f"the questions have no split {official}, only {', '.join(rows)}")
        if missing := {"title", "context", "question", "answers"} - set(rows[official].column_names):
            raise ValueError(f"the {official} questions have no column {', '.join(sorted(missing))}: they need SQuAD's")
        places: dict[str, tuple[str, int]] = {}
        for title, context, question, answers in zip(*(rows[official][column] for column in ("title", "context", "question", "answers"))):
            if not answers["text"]:
                continue  # SQuAD 2.0's unanswerable ones
            if context not in places:
                name = "train" if official == "train" else "validation" if hashlib.sha256(title.encode()).digest()[0] < 51 else "test"
                places[context] = name, len(splits[name].documents)
                splits[name].documents.append(context)
            name, document = places[context]
            splits[name].questions.append(Question(question.strip(), answers["text"][0], document))
    return splits
