"""Text for language modelling: Python's own documentation, local files, or the hub.

The default needs no network: the language reference that comes with Python (pydoc_data.topics) and
the docstrings of its standard library, about 2.1 million characters of English without the passages
that several documents share. Nothing is removed from any other source. Nothing falls back silently:
the :class:`TextData` that is returned names, measures and hashes what was loaded.
"""
from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import platform
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seqpe_lab.atomic_files import sha256, write_atomically
from seqpe_lab.hub import cache_folder, load_from_hub, no_source, three_ways_out
from seqpe_lab.tasks import token_storage
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.data_files import WHOLE, by_split, data_files, ending, known_splits
from seqpe_lab.tasks.file_reader import (TABLES, TEXTS, column_of, present, read_table,
                                         read_text)
from seqpe_lab.tasks.repeats import overlap, without_repeats
from seqpe_lab.tasks.token_storage import StoredTokens
from seqpe_lab.tasks.tokenization import as_functions, load_tokenizer

Documents = dict[str, str]  # name -> text
ENDINGS = TEXTS + TABLES
_OTHER_ENDINGS = ".md, .jsonl, .json, .csv or .tsv; all but parquet also as .gz"
TEXT_FILES = f"a .txt, .raw or .parquet file (or {_OTHER_ENDINGS}) or a folder of them"
_WAYS_OUT = three_ways_out("download the files elsewhere and pass their path as `source`",
                           "use source='python', which needs no network")


@dataclass(frozen=True)
class TextData:
    """A text, split by document and tokenised.

    Attributes:
        source, tokenizer: as asked for.
        description: one line for captions.
        train, validation, test: int64 (tokens,), values in [0, vocab_size); those of a large text
            lie in files, and slices read what they name.
        characters: how many each split holds, separators not counted.
        hash: sha256 of the three splits' texts, 16 hex digits.
        decode: token numbers -> str.
        overlap: the share of the validation and test text's windows of 50 bytes that occur in the
            training text, too; None where it was not measured.
        tokenizer_json: the tokenizer as the contents of a tokenizer.json; None for bytes.
    """
    source: str
    tokenizer: str
    description: str
    vocab_size: int
    train: Tensor | StoredTokens
    validation: Tensor | StoredTokens
    test: Tensor | StoredTokens
    characters: dict[str, int]
    hash: str
    decode: Callable[[Tensor], str]
    overlap: dict[str, float] | None = None
    tokenizer_json: str | None = None

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description,
                "tokenizer": self.tokenizer, "hash": self.hash, "characters": self.characters,
                "tokens": {split: len(getattr(self, split)) for split in SPLITS},
                "overlap": self.overlap}


def load_text(source: str = "python", tokenizer: str = "bytes",
              kept: str | None = None) -> TextData:
    """Load, split and tokenise a text.

    Args:
        source: "python" (the documentation of this Python), a path (a file of text or a table with
            a column "text", or a folder of them, whose names may name splits: see
            :mod:`~seqpe_lab.tasks.data_files`), or "hub:NAME" / "hub:NAME:CONFIG", such as
            "hub:Salesforce/wikitext:wikitext-103-raw-v1".
        tokenizer: as :func:`~seqpe_lab.tasks.tokenization.make_tokenizer` takes it; "bpe:SIZE" is
            trained on the training split.
        kept: the contents of the tokenizer.json that a run keeps, in place of that.

    A text of more than 32 million characters is tokenised once, and its tokens are kept in the
    cache, in a folder named by a hash of the source, its files' bytes, and the tokenizer. From then
    on the hub is not needed, and a run takes no memory for its tokens.

    Raises:
        ValueError: an unknown source or tokenizer, a file that holds no text or is not UTF-8.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    folder = _stored_in(source, tokenizer, kept)
    if (folder / "about.json").exists():
        try:
            return _from_storage(folder, source, tokenizer)
        except (ValueError, FileNotFoundError) as error:
            warnings.warn(f"{error}: the text is tokenised again", stacklevel=2)
            shutil.rmtree(folder, ignore_errors=True)
    splits, description = load_documents(source)
    bpe = load_tokenizer(tokenizer, splits["train"], kept)
    written = kept or (bpe and bpe.to_str())
    digest = hashlib.sha256()
    for split in SPLITS:
        for text in (split, *splits[split].values()):
            digest.update(text.encode() + b"\0")
    about = {"description": description, "hash": digest.hexdigest()[:16],
             "characters": {split: sum(map(len, splits[split].values())) for split in SPLITS},
             "overlap": {split: round(overlap(splits["train"].values(), splits[split].values()), 5)
                         for split in ("validation", "test")}}
    if sum(about["characters"].values()) >= token_storage.LARGE:
        texts = {split: list(splits[split].values()) for split in SPLITS}
        token_storage.store_tokens(folder, texts, bpe, about | {"tokenizer": written})
        return _from_storage(folder, source, tokenizer)
    encode, decode, vocab_size = as_functions(bpe)
    tokens = {split: encode(splits[split]) for split in SPLITS}
    return TextData(source, tokenizer, vocab_size=vocab_size, decode=decode, **tokens, **about,
                    tokenizer_json=written)


def _stored_in(source: str, tokenizer: str, kept: str | None) -> Path:
    """The folder that the tokens of a large text are kept in, whether it is there or not."""
    read = []  # every file that the tokens depend on
    for path in (Path(name).expanduser() for name in (source, tokenizer) if name.strip()):
        files = data_files(path, ENDINGS) if path.is_dir() else [path] * path.is_file()
        read += [(str(file), sha256(file)) for file in files]
    name = hashlib.sha256(json.dumps([source, tokenizer, read]).encode()).hexdigest()[:16]
    folder = cache_folder() / "tokens" / name
    if kept is None or token_storage.stored_tokenizer(folder) == kept:
        return folder
    return folder.with_name(f"{name}-{hashlib.sha256(kept.encode()).hexdigest()[:8]}")


def _from_storage(folder: Path, source: str, tokenizer: str) -> TextData:
    """A text that was tokenised before; errors as in ``open_tokens``."""
    from tokenizers import Tokenizer
    tokens, about = token_storage.open_tokens(folder)
    written = about.pop("tokenizer")
    _, decode, vocab_size = as_functions(Tokenizer.from_str(written) if written else None)
    return TextData(source, tokenizer, vocab_size=vocab_size, decode=decode, **tokens, **about,
                    tokenizer_json=written)


# --- documents -----------------------------------------------------------------------------------

def load_documents(source: str = "python") -> tuple[dict[str, Documents], str]:
    """The documents of the three splits, by name, and a line that describes them.

    Arguments and errors as in :func:`load_text`.
    """
    path = Path(source).expanduser()
    if source == "python":
        splits = _split_by_hash(without_repeats(python_documentation()))
        description = (f"documentation of Python {platform.python_version()} without repeated "
                       "passages")
    elif source.startswith("hub:"):
        splits, description = _from_hub(source), source.removeprefix("hub:")
    elif source.strip() and path.exists():
        splits, description = _from_path(path), path.name
    else:
        no_source("text", source, TEXT_FILES, "'python', a path, or 'hub:NAME[:CONFIG]'")
    for split in SPLITS:
        if not any(text.strip() for text in splits[split].values()):
            raise ValueError(f"the {split} split of {source!r} holds no text")
    return splits, description


def python_documentation() -> Documents:
    """The language reference and the docstrings of this Python, by topic and module, as they are.

    Modules are parsed, never imported. That takes about 10 s, so the result is cached.
    """
    version = (sys.version + sysconfig.get_path("stdlib")).encode()
    cache = cache_folder() / f"python-{hashlib.sha256(version).hexdigest()[:12]}.json"
    if cache.exists():
        with contextlib.suppress(ValueError):  # altered: it is made again
            return json.loads(cache.read_text(encoding="utf-8"))
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("this Python comes without pydoc_data.topics: install its documentation "
                         "package or pass a path as `source`") from error
    documents = {f"topic/{name}": text for name, text in sorted(topics.items())}
    library = Path(sysconfig.get_path("stdlib"))
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if not left_out & set(name.parts) and (texts := _docstrings(path)):
            documents[f"module/{name.as_posix()}"] = "\n\n".join(texts)
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, json.dumps(documents))
    return documents


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []  # a template, not valid Python
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [text for node in ast.walk(tree)
            if isinstance(node, kinds) and (text := ast.get_docstring(node))]


def _split_by_hash(documents: Documents) -> dict[str, Documents]:
    """90 % train, 5 % validation, 5 % test, by a hash of the name: fixed, in shuffled order."""
    splits: dict[str, Documents] = {split: {} for split in SPLITS}
    numbers = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in documents}
    for name in sorted(documents, key=numbers.get):
        share = numbers[name] / 2**32
        split = "train" if share < 0.9 else "validation" if share < 0.95 else "test"
        splits[split][name] = documents[name]
    return splits


def _from_path(path: Path) -> dict[str, Documents]:
    if path.is_file():  # its name is the reader's choice, and says nothing of its parts
        return _cut(read_files(path))
    parts = by_split(path, data_files(path, ENDINGS))
    missing = [split for split in SPLITS if split not in parts]
    if not missing:
        return {split: read_files(path, parts[split]) for split in SPLITS}
    if parts.keys() <= {WHOLE, "train"}:
        return _cut(read_files(path, *parts.values()))
    raise ValueError(f"{path} has files of the splits {' and '.join(sorted(parts))} but none for "
                     f"{' and '.join(missing)}: give them, or train alone, from which the others "
                     "are cut")


def _cut(documents: Documents) -> dict[str, Documents]:
    """The three splits of a text without named ones."""
    if len(documents) >= 60:
        return _split_by_hash(documents)
    # a few long documents: the last tenth of each is held out
    splits: dict[str, Documents] = {split: {} for split in SPLITS}
    for name, text in documents.items():
        cuts = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
        for split, begin, end in zip(SPLITS, cuts, cuts[1:]):
            splits[split][name] = text[begin:end]
    return splits


def read_files(path: Path, files: Sequence[Path] | None = None) -> Documents:
    """The documents of a file or folder, by their paths in it; of some of its files, if named.

    Raises:
        ValueError: no files of text, one that cannot be read, a table without strings in "text".
    """
    root, documents = path if path.is_dir() else path.parent, {}
    files = data_files(path, ENDINGS) if files is None else files
    if not files:
        raise ValueError(f"{path} holds no .txt, .raw or .parquet file (nor {_OTHER_ENDINGS})")
    for file in files:
        name = file.relative_to(root).as_posix()
        if ending(file) in TEXTS:
            documents[name] = read_text(file)
        else:
            rows = present(column_of(read_table(file), "text", file), "text", file)
            documents |= {f"{name}/{row}": text for row, text in rows.items()}
    return documents


def _from_hub(source: str) -> dict[str, Documents]:
    name, _, config = source.removeprefix("hub:").partition(":")
    rows = load_from_hub(f"the data set {name!r}", _WAYS_OUT, name, config or None)
    found = known_splits(rows, name)
    if missing := [split for split in SPLITS if split not in found]:
        raise ValueError(f"the data set {name!r} has no split {', '.join(missing)}, only "
                         f"{', '.join(rows)}")
    # a row may be one line of a text, so all rows of a split form one document
    return {split: {split: "".join(line if line.endswith("\n") else line + "\n" for line in
                                   present(found[split]["text"], "text", f"{name}, {split}")
                                   .values())}
            for split in SPLITS}
