"""Whole books: PG-19, text files, or the longest documents of this Python's documentation.

The default needs no network, and no model of this lab was trained on it: it comes from the test
split of the documentation (:mod:`seqpe_lab.tasks.text_data`) without the passages that also occur
in its other splits. Splitting by document does not exclude those: the language reference repeats
some passages, in a chapter and in a topic.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from seqpe_lab.hub import load_from_hub, no_source, three_ways_out
from seqpe_lab.tasks.text_data import TEXT_FILES, Documents, load_documents, read_files

PG19 = "hub:emozilla/pg19-test"  # the 100 test books as parquet; deepmind/pg19 needs a script
PASSAGE = 13  # consecutive words; texts that share so many overlap (Brown et al. 2020, App. C)
_WAYS_OUT = three_ways_out("download its parquet files elsewhere and pass their path as `source`",
                           "use source='python', which needs no network")


@dataclass(frozen=True)
class Books:
    """Long documents, the longest first.

    Attributes:
        source: as asked for.
        description: one line for captions.
        texts: name -> text; a part of a document is named like a slice,
            "topic/specialnames[100:9000]".
        hash: sha256 of names and texts, 16 hex digits.
    """
    source: str
    description: str
    texts: Documents
    hash: str

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description, "hash": self.hash,
                "characters": {name: len(text) for name, text in self.texts.items()}}


def load_books(source: str = "python", count: int = 10) -> Books:
    """The longest books of a source.

    Args:
        source: "python", the test split of the documentation of this Python, without what it
            shares with the other splits; "pg19" (:data:`PG19`); another "hub:NAME" with a split
            "test" and a column "text"; or a path, of a .txt, .raw or .parquet file or a folder of
            them. Line ends become newlines. Whether a model was trained on books of a path or of
            the hub is not checked.
        count: the largest number of books.

    Raises:
        ValueError: an unknown source, an empty document, a file that is not UTF-8 (each named),
            count < 1.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 book, got {count}")
    name = PG19 if source == "pg19" else source
    path = Path(name).expanduser()
    if name == "python":
        splits, description = load_documents("python")
        others = [text for split in ("train", "validation") for text in splits[split].values()]
        books = without_shared_passages(splits["test"], others)
        description += ", test split without what stands in the others"
    elif name.startswith("hub:"):
        description = name.removeprefix("hub:")
        books = _from_hub(description)
    elif source.strip() and path.exists():
        books, description = read_files(path, [path] if path.is_file() else None), path.name
    else:
        no_source("books", source, TEXT_FILES, "'python', 'pg19', a path, or 'hub:NAME'")
    if empty := [book for book, text in books.items() if not text.strip()]:
        raise ValueError(f"the document {empty[0]} of {source} is empty: nothing in it can be "
                         "predicted; take it out")
    chosen = sorted(books, key=lambda book: -len(books[book]))[:count]
    texts = {book: books[book] for book in chosen}
    digest = hashlib.sha256("".join(f"{name}\0{text}\0" for name, text in texts.items()).encode())
    return Books(source, description, texts, digest.hexdigest()[:16])


def _from_hub(name: str) -> Documents:
    rows = load_from_hub(f"the books {name!r}", _WAYS_OUT, name, split="test")
    if "text" not in rows.column_names:
        raise ValueError(f"the books {name!r} have no column 'text', only "
                         f"{', '.join(rows.column_names)}")
    has_titles = "short_book_title" in rows.column_names
    titles = rows["short_book_title"] if has_titles else [""] * len(rows)
    return {f"{i} {title}".strip(): text or ""
            for i, (title, text) in enumerate(zip(titles, rows["text"]))}


# --- passages shared with other texts -------------------------------------------------------------

def passages(text: str, words: int = PASSAGE) -> set[str]:
    """Every sequence of that many words, with single spaces between them.

    >>> sorted(passages("to be or not", words=3))
    ['be or not', 'to be or']
    """
    parts = text.split()
    return {" ".join(parts[i: i + words]) for i in range(len(parts) - words + 1)}


def without_shared_passages(documents: Documents, others: Iterable[str],
                            words: int = PASSAGE) -> Documents:
    """The documents without the passages they share with ``others`` or a longer document.

    Args:
        others: for example the texts of the training split.
        words: how many consecutive words make a passage.

    Returns:
        name -> text; a part of a document is named "name[begin:end]", in characters.

    >>> others = ["To be or not to be or not"]
    >>> documents = {"a": "here is what nobody else says: to be or not"}
    >>> without_shared_passages(documents, others, words=3)
    {'a[0:30]': 'here is what nobody else says:'}
    """
    known = set().union(*(passages(text, words) for text in others))
    apart: Documents = {}
    for name in sorted(documents, key=lambda name: -len(documents[name])):
        text = documents[name]
        found = list(re.finditer(r"\S+", text))
        copied = [False] * len(found)
        for i in range(len(found) - words + 1):
            if " ".join(word[0] for word in found[i: i + words]) in known:
                copied[i: i + words] = [True] * words
        for is_copy, group in groupby(range(len(found)), copied.__getitem__):
            part = list(group)
            if len(part) == len(found) and not is_copy:
                apart[name] = text
            elif not is_copy:
                begin, end = found[part[0]].start(), found[part[-1]].end()
                apart[f"{name}[{begin}:{end}]"] = text[begin:end]
        known |= passages(text, words)
    return apart
