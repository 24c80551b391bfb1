"""Questions with the documents that answer them: invented facts, SQuAD's columns, or the hub.

The default needs no network: facts in varied sentences that are drawn anew for every document, so
that a model must find the answer in its context and copy it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from seqpe_lab.hub import load_from_hub, no_source, three_ways_out
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.data_files import by_split, data_files, known_splits
from seqpe_lab.tasks.facts import facts
from seqpe_lab.tasks.file_reader import TABLES, normalised, read_table
from seqpe_lab.tasks.text_data import load_documents
from seqpe_lab.tasks.tokenization import as_functions, load_tokenizer

QUESTION_FILES = "train and validation (and test) as .parquet, .jsonl, .json, .csv or .tsv"
FACTS = {"train": 20_000, "validation": 1_000, "test": 1_000}  # how many are drawn
_WAYS_OUT = three_ways_out(
    "download train.parquet and validation.parquet elsewhere and pass their folder",
    "use 'facts', which needs no network")


class Question(NamedTuple):
    text: str
    answer: str
    document: int  # number of the document that holds the answer, in its split
    others: tuple[str, ...] = ()  # in tests these are right, too


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
        tokenizer_json: the tokenizer as the contents of a tokenizer.json; None for bytes.
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
    tokenizer_json: str | None = None

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description,
                "tokenizer": self.tokenizer, "hash": self.hash,
                "documents": {name: len(split.documents) for name, split in self.splits.items()},
                "questions": {name: len(split.questions) for name, split in self.splits.items()}}


def load_questions(source: str = "facts", tokenizer: str = "bytes", text: str = "python",
                   kept: str | None = None) -> QAData:
    """Load questions and documents.

    Args:
        source: "facts" (invented, no network), a folder of tables in SQuAD's columns (title,
            context, question, answers) or of SQuAD's own JSON files, whose names name splits
            (:mod:`~seqpe_lab.tasks.data_files`), or "hub:NAME", for instance
            "hub:rajpurkar/squad_v2", whose 86,821 answerable training questions are the paper's
            86,820 but for one. Without a test split, a fifth of the validation articles (by a hash
            of their titles) are the validation split, and the others the test split. Questions
            without an answer are left out.
        tokenizer: of the language model, as :func:`~seqpe_lab.tasks.text_data.load_text` takes it.
        text: what a "bpe:SIZE" tokenizer was trained on.
        kept: the contents of the tokenizer.json that a run keeps, in place of that.

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
        splits = _splits(_from_hub(description))
    elif folder.is_dir():
        splits, description = _splits(_from_folder(folder)), folder.name
    else:
        no_source("questions", source, f"a folder with {QUESTION_FILES}",
                  "'facts', a folder, or 'hub:NAME'")
    digest = hashlib.sha256()
    for name, split in splits.items():
        check_split(split, f"the {name} split of {source!r}")
        questions = [tuple(question) if question.others else question[:3]
                     for question in split.questions]
        digest.update(repr((name, split.documents, questions)).encode())
    learns = tokenizer.startswith("bpe:") and kept is None
    bpe = load_tokenizer(tokenizer, load_documents(text)[0]["train"] if learns else {}, kept)
    encode, decode, vocab_size = as_functions(bpe)
    end = tuple(encode({"": ""}).tolist())
    return QAData(source, tokenizer, description, splits, vocab_size,
                  lambda text: encode({"": text}).tolist()[: -len(end) or None], decode, end,
                  digest.hexdigest()[:16], kept or (bpe and bpe.to_str()))


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


def _from_folder(folder: Path) -> dict[str, Iterator[Row]]:
    files = by_split(folder, data_files(folder, TABLES))
    for split in ("train", "validation"):
        if split not in files:
            raise FileNotFoundError(f"{folder / split}.parquet is missing: a folder of questions "
                                    f"holds {QUESTION_FILES}")
    return {split: chain.from_iterable(_rows(read_table(file), str(file)) for file in some)
            for split, some in files.items()}


def _from_hub(name: str) -> dict[str, Iterator[Row]]:
    splits = load_from_hub(f"the data set {name!r}", _WAYS_OUT, name)
    found = known_splits(splits, name)
    for split in ("train", "validation"):
        if split not in found:
            raise ValueError(f"the questions have no split {split}, only {', '.join(splits)}")
    return {split: _rows({column: table[column] for column in table.column_names},
                         f"the {split} split of {name}")
            for split, table in found.items()}


class Row(NamedTuple):
    """A question as SQuAD's tables hold it."""
    title: str
    context: str
    question: str
    answers: list[str]  # the gold answers; of SQuAD 2.0's unanswerable questions none


def _rows(table: Mapping[str, Sequence], origin: str) -> Iterator[Row]:
    if "paragraphs" in table:
        try:
            table = _flat(table)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{origin} is not as SQuAD's own files are ({error!r})") from error
    if missing := sorted({*Row._fields} - table.keys()):
        raise ValueError(f"{origin} has no column {', '.join(missing)}: questions need SQuAD's, "
                         f"{', '.join(Row._fields)}")
    for number, values in enumerate(zip(*(table[column] for column in Row._fields))):
        answers = values[-1].get("text") if isinstance(values[-1], Mapping) else values[-1]
        answers = answers if isinstance(answers, list) else [answers]
        for name, value in (*zip(Row._fields[:-1], values), *(("answers", a) for a in answers)):
            if not isinstance(value, str):
                raise ValueError(f"row {number} of {origin} has {value!r} as {name}: correct it or "
                                 "take it out")
        yield Row(*map(normalised, values[:-1]), [normalised(text) for text in answers])


def _flat(articles: Mapping[str, Sequence]) -> dict[str, Sequence]:
    """The nested articles of SQuAD's own files as columns."""
    rows = [(title, paragraph["context"], asked["question"], [a["text"] for a in asked["answers"]])
            for title, paragraphs in zip(articles["title"], articles["paragraphs"])
            for paragraph in paragraphs for asked in paragraph["qas"]]
    return dict(zip(Row._fields, zip(*rows)))


def _splits(rows: Mapping[str, Iterator[Row]]) -> dict[str, Split]:
    """The splits as named; of two, a fifth of the validation articles, and the rest as test."""
    splits = {name: Split([], []) for name in SPLITS}
    for official, some in rows.items():
        places: dict[str, tuple[str, int]] = {}
        for title, context, question, answers in some:
            if not answers:
                continue  # SQuAD 2.0's unanswerable ones
            if context not in places:
                name = official
                if official == "validation" and "test" not in rows:
                    held_out = hashlib.sha256(title.encode()).digest()[0] < 51
                    name = "validation" if held_out else "test"
                places[context] = name, len(splits[name].documents)
                splits[name].documents.append(context)
            name, document = places[context]
            others = () if name == "train" else tuple(
                dict.fromkeys(text for text in answers if text != answers[0]))
            splits[name].questions.append(Question(question.strip(), answers[0], document, others))
    return splits
