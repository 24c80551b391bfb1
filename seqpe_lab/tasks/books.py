"""Whole books: PG-19, text files, or the longest documents of this Python's documentation.

The default needs no network, and no model is trained on it: it is the test split of the
documentation (:mod:`seqpe_lab.tasks.text_data`), which shares no passage with the other splits.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from seqpe_lab.hub import load_from_hub, no_source, three_ways_out
from seqpe_lab.tasks.text_data import TEXT_FILES, Documents, load_documents, read_files

PG19 = "hub:emozilla/pg19-test"  # the 100 test books as parquet; deepmind/pg19 needs a script
_WAYS_OUT = three_ways_out("download its parquet files elsewhere and pass their path as `source`",
                           "use source='python', which needs no network")


@dataclass(frozen=True)
class Books:
    """Long documents, the longest first.

    Attributes:
        source: as asked for.
        description: one line for captions.
        texts: name -> text.
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
        source: "python", the test split of the documentation of this Python; "pg19"
            (:data:`PG19`); another "hub:NAME" with a split "test" and a column "text"; or a path,
            of a .txt, .raw or .parquet file or a folder of them. Line ends become newlines. Whether
            a model was trained on books of a path or of the hub is not checked.
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
        books, description = splits["test"], f"{description}, test split"
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
