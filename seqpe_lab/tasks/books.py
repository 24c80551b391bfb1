"""Whole books, to be read in one piece: PG-19, a folder of text files, or the longest documents of the reader's own Python.

The default needs no network, and no model of this lab was trained on it: it comes from the test split
of the documentation (:mod:`seqpe_lab.tasks.corpus`), less every passage that stands in its other splits
too. Splitting by document does not see to that: the language reference says some things twice, in a
chapter and in a topic of its own.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seqpe_lab.tasks.corpus import Documents, _files, _read, load_documents, load_from_hub

PG19 = "hub:emozilla/pg19-test"  # the 100 test books in parquet; deepmind/pg19 is a script, which `datasets` no longer runs
PASSAGE = 13  # words in a row; two texts that share as many are taken for copies (Brown et al. 2020, App. C)
_WAYS_OUT = ("Three ways out: (1) connect to the network and try again; (2) download its parquet files elsewhere and pass their path as `source`; "
             "(3) use source='python', which needs no network.")


@dataclass(frozen=True)
class Books:
    """Long documents, the longest first.

    Attributes:
        source: as asked for.
        description: one line for captions.
        texts: name -> text; a part of a document is named like a slice, "topic/specialnames[100:9000]".
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
        source: "python", the test split of the documentation of this Python, less what it shares with
            the other splits; "pg19" (:data:`PG19`); another "hub:NAME" with a split "test" and a
            column "text"; or a path, of a .txt, .raw or .parquet file or a folder of them. Line ends
            become newlines. Of a path or the hub nobody here knows what a model was trained on.
        count: how many, at most.

    Raises:
        ValueError: an unknown source, an empty document, a file that is not UTF-8 (each named), count < 1.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 book, got {count}")
    name = PG19 if source == "pg19" else source
    path = Path(name).expanduser()
    if name == "python":
        splits, description = load_documents("python")
        books = parts_apart(splits["test"], (text for split in ("train", "validation") for text in splits[split].values()))
        description += ", test split without what stands in the others"
    elif name.startswith("hub:"):
        books, description = _from_hub(name.removeprefix("hub:")), name.removeprefix("hub:")
    elif source.strip() and path.exists():
        books, description = _from_path(path), path.name
    elif "/" in source or "." in source:
        raise FileNotFoundError(f"no books at {source}: give a .txt, .raw or .parquet file or a folder of them")
    else:
        raise ValueError(f"unknown source of books {source!r}: choose 'python', 'pg19', a path, or 'hub:NAME'")
    if empty := [book for book, text in books.items() if not text.strip()]:
        raise ValueError(f"the document {empty[0]} of {source} is empty: nothing in it can be predicted; take it out")
    chosen = sorted(books, key=lambda book: -len(books[book]))[:count]
    texts = {book: books[book] for book in chosen}
    digest = hashlib.sha256("".join(f"{book}\0{text}\0" for book, text in texts.items()).encode())
    return Books(source, description, texts, digest.hexdigest()[:16])


def _from_path(path: Path) -> Documents:
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise ValueError(f"{path} holds no .txt, .raw or .parquet file")
    root = path if path.is_dir() else path.parent
    return {name: text for file in files for name, text in _read(file, root).items()}


def _from_hub(name: str) -> Documents:
    rows = load_from_hub(f"the books {name!r}", _WAYS_OUT, name, split="test")
    if "text" not in rows.column_names:
        raise ValueError(f"the books {name!r} have no column 'text', only {', '.join(rows.column_names)}")
    titles = rows["short_book_title"] if "short_book_title" in rows.column_names else [""] * len(rows)
    return {f"{i} {title}".strip(): text or "" for i, (title, text) in enumerate(zip(titles, rows["text"]))}


# --- what is in no other text --------------------------------------------------------------------

def passages(text: str, words: int = PASSAGE) -> set[str]:
    """Every run of that many words, whatever stands between them.

    >>> sorted(passages("to be or not", words=3))
    ['be or not', 'to be or']
    """
    parts = text.split()
    return {" ".join(parts[i: i + words]) for i in range(len(parts) - words + 1)}


def parts_apart(documents: Documents, others: Iterable[str], words: int = PASSAGE) -> Documents:
    """The documents cut wherever they share a passage with ``others`` or with a longer document among them.

    Args:
        others: texts, of the training split say.
        words: how many in a row make a passage.

    Returns:
        name -> text; a part of a document is named "name[begin:end]", in characters.

    >>> parts_apart({"a": "here is what nobody else says: to be or not"}, ["To be or not to be or not"], words=3)
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
        begin = 0
        for i, is_copy in enumerate([*copied, True]):
            if not is_copy:
                continue
            if i > begin:
                first, last = found[begin].start(), found[i - 1].end()
                whole = not any(copied)
                apart[name if whole else f"{name}[{first}:{last}]"] = text if whole else text[first:last]
            begin = i + 1
        known |= passages(text, words)
    return apart
