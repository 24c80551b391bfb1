"""Questions with the documents that answer them: invented facts, SQuAD's columns, or the hub.

The default needs no network: facts in varied sentences that are drawn anew for every document, so
that a model must find the answer in its context and copy it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seqpe_lab.hub import load_from_hub, no_source, read_parquet, three_ways_out
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.facts import facts
from seqpe_lab.tasks.text_data import load_documents
from seqpe_lab.tasks.tokenization import make_tokenizer

FACTS = {"train": 20_000, "validation": 1_000, "test": 1_000}  # how many are drawn
_WAYS_OUT = three_ways_out(
    "download train.parquet and validation.parquet elsewhere and pass their folder",
    "use 'facts', which needs no network")


class Question(NamedTuple):
    text: str
    answer: str
    document: int  # number of the document that holds the answer, in its split


class Split(NamedTuple):
    """Documents and questions; ``topics`` has one entry per document, if topics are known.

    A distractor never has the topic of the document with the answer.
    """
    documents: list[str]
    questions: list[Question]
    topics: list[str] | None = None


@dataclass(frozen=True, eq=False)  # compared by identity: what is derived from it can be cached
class QAData:
    """Questions with their documents, and the tokenizer of the language model that answers them.

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
        return {"source": self.source, "description": self.description,
                "tokenizer": self.tokenizer, "hash": self.hash,
                "documents": {name: len(split.documents) for name, split in self.splits.items()},
                "questions": {name: len(split.questions) for name, split in self.splits.items()}}


def load_questions(source: str = "facts", tokenizer: str = "bytes",
                   text: str = "python") -> QAData:
    """Load questions and documents.

    Args:
        source: "facts" (invented, no network), a folder with train.parquet and validation.parquet
            in SQuAD's columns, or "hub:NAME", for instance "hub:rajpurkar/squad_v2", whose 86,821
            answerable training questions are the paper's 86,820 but for one.
        tokenizer: of the language model, as :func:`~seqpe_lab.tasks.text_data.load_text` takes it.
        text: what a "bpe:SIZE" tokenizer was trained on.

    Raises:
        ValueError: an unknown source, an empty document, an answer that its document does not hold.
        FileNotFoundError: a folder without the two files.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    folder = Path(source).expanduser()
    if source == "facts":
        splits, description = {split: _invented(split) for split in SPLITS}, "invented facts"
    elif source.startswith("hub:"):
        description = source.removeprefix("hub:")
        splits = _squad(load_from_hub(f"the data set {description!r}", _WAYS_OUT, description))
    elif folder.is_dir():
        splits, description = _squad(_from_folder(folder)), folder.name
    else:
        no_source("questions", source, "a folder with train.parquet and validation.parquet",
                  "'facts', a folder, or 'hub:NAME'")
    digest = hashlib.sha256()
    for name, split in splits.items():
        check_split(split, f"the {name} split of {source!r}")
        content = (name, split.documents, [tuple(question) for question in split.questions])
        digest.update(repr(content).encode())
    learnt_from = load_documents(text)[0]["train"] if tokenizer.startswith("bpe:") else {}
    encode, decode, vocab_size = make_tokenizer(tokenizer, learnt_from)
    end = tuple(encode({"": ""}).tolist())
    return QAData(source, tokenizer, description, splits, vocab_size,
                  lambda text: encode({"": text}).tolist()[: -len(end) or None], decode, end,
                  digest.hexdigest()[:16])


def check_split(split: Split, what: str) -> None:
    """Refuse a split whose questions cannot be answered.

    Raises:
        ValueError: no question, an empty document, an empty answer, or one that its document does
            not hold.
    """
    if not split.questions:
        raise ValueError(f"{what} holds no question")
    for number, document in enumerate(split.documents):
        if not document.strip():
            raise ValueError(f"document {number} of {what} is empty: leave it out")
    for question in split.questions:
        document = split.documents[question.document]
        if not question.answer.strip() or question.answer not in document:
            raise ValueError(f"the answer {question.answer!r} to {question.text!r} is not in its "
                             f"document, {document[:60]!r}: correct one of them")


def _invented(split: str) -> Split:
    drawn = facts(split, FACTS[split])
    return Split([fact.sentence for fact in drawn],
                 [Question(fact.question, fact.answer, i) for i, fact in enumerate(drawn)],
                 [fact.topic for fact in drawn])


def _from_folder(folder: Path) -> dict:
    files = {split: folder / f"{split}.parquet" for split in ("train", "validation")}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: a folder of questions holds train.parquet "
                                    "and validation.parquet")
    return {split: read_parquet(file) for split, file in files.items()}


def _squad(rows) -> dict[str, Split]:
    """SQuAD's train split; a fifth of its validation articles as validation, the rest as test."""
    splits = {name: Split([], []) for name in SPLITS}
    needed = ("title", "context", "question", "answers")
    for official in ("train", "validation"):
        if official not in rows:
            raise ValueError(f"the questions have no split {official}, only {', '.join(rows)}")
        table = rows[official]
        if missing := set(needed) - set(table.column_names):
            raise ValueError(f"the {official} questions have no column "
                             f"{', '.join(sorted(missing))}: they need SQuAD's")
        places: dict[str, tuple[str, int]] = {}
        for title, context, question, answers in zip(*(table[column] for column in needed)):
            if not answers["text"]:
                continue  # SQuAD 2.0's unanswerable ones
            if context not in places:
                held_out = hashlib.sha256(title.encode()).digest()[0] < 51
                name = "train" if official == "train" else "validation" if held_out else "test"
                places[context] = name, len(splits[name].documents)
                splits[name].documents.append(context)
            name, document = places[context]
            answer = answers["text"][0]
            splits[name].questions.append(Question(question.strip(), answer, document))
    return splits
