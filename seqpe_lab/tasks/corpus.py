"""Text for language modelling: the reader's own Python documentation, local files, or the hub.

The default needs no network: the language reference that every Python carries (pydoc_data.topics)
and the docstrings of its standard library, about 2.2 million characters of English. Nothing falls
back silently: what was loaded is named, measured and hashed in the :class:`TextData` it returns.
"""
from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import sys
import sysconfig
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.tasks import tokens as token_files
from seqpe_lab.tasks.tokens import (
    END_OF_DOCUMENT,
    MappedTokens,
    open_tokens,
    tokenise,
    write_tokens,
)

SPLITS = ("train", "validation", "test")
Documents = dict[str, str]  # name -> text


@dataclass(frozen=True)
class TextData:
    """A text, split by document and tokenised.

    Attributes:
        source, tokenizer: as asked for.
        description: one line for captions.
        train, validation, test: int64 (tokens,), values in [0, vocab_size); of a large text they lie in a
            file, and slices and indices read what they name.
        characters: how many each split holds, separators not counted.
        hash: sha256 of the three splits' texts, 16 hex digits.
        decode: token numbers -> str.
    """
    source: str
    tokenizer: str
    description: str
    vocab_size: int
    train: Tensor | MappedTokens
    validation: Tensor | MappedTokens
    test: Tensor | MappedTokens
    characters: dict[str, int]
    hash: str
    decode: object

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description, "tokenizer": self.tokenizer, "hash": self.hash,
                "characters": self.characters, "tokens": {split: len(getattr(self, split)) for split in SPLITS}}


def load_text(source: str = "python", tokenizer: str = "bytes") -> TextData:
    """Load, split and tokenise a text.

    Args:
        source: "python" (the documentation of this Python), a path (a .txt, .raw or .parquet file,
            or a folder of them; files named train, validation/valid and test keep their roles), or
            "hub:NAME" / "hub:NAME:CONFIG", for instance "hub:Salesforce/wikitext:wikitext-103-raw-v1".
        tokenizer: "bytes"; "bpe:SIZE", trained on the training split on the spot; "gpt2" (from the
            hub), or the path of a tokenizer.json.

    A text of more than 32 million characters is tokenised once: its tokens lie in the cache folder, in a
    file named after the source, its files' sizes and times, and the tokenizer. From then on neither
    the text nor the hub is needed, and a run takes no memory for its tokens.

    Raises:
        ValueError: an unknown source or tokenizer, a file that holds no text or is not UTF-8.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    kept = _token_file(source, tokenizer)
    if kept.with_suffix(".json").exists():
        try:
            return _mapped(kept, source, tokenizer)
        except (ValueError, FileNotFoundError) as error:
            warnings.warn(f"{error}: the text is tokenised again", stacklevel=2)
    splits, description = load_documents(source)
    bpe = _make_bpe(tokenizer, splits["train"])
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(split.encode() + b"\0")
        for text in splits[split].values():
            digest.update(text.encode() + b"\0")
    characters = {split: sum(map(len, splits[split].values())) for split in SPLITS}
    if sum(characters.values()) >= token_files.LARGE:
        about = {"description": description, "characters": characters, "hash": digest.hexdigest()[:16], "tokenizer": bpe and bpe.to_str()}
        parts = {split: tokenise(splits[split].values(), bpe, progress=True) for split in SPLITS}
        write_tokens(kept, parts, bpe.get_vocab_size() if bpe else 256, about)
        return _mapped(kept, source, tokenizer)
    encode, decode, vocab_size = _functions(bpe)
    return TextData(source, tokenizer, description, vocab_size, **{split: encode(splits[split]) for split in SPLITS},
                    characters=characters, hash=digest.hexdigest()[:16], decode=decode)


def load_documents(source: str = "python") -> tuple[dict[str, Documents], str]:
    """The documents of the three splits, by name, and a line that describes them; arguments and errors as in :func:`load_text`."""
    if not source.strip():
        raise ValueError(f"unknown text source {source!r}: choose 'python', a path, or 'hub:NAME[:CONFIG]'")
    if source == "python":
        splits = _split_by_hash(python_documentation())
        description = f"documentation of Python {platform.python_version()}"
    elif source.startswith("hub:"):
        splits, description = _from_hub(source), source.removeprefix("hub:")
    elif Path(source).expanduser().exists():
        splits, description = _from_path(Path(source).expanduser()), Path(source).name
    elif "/" in source or "." in source or os.sep in source:
        raise FileNotFoundError(f"no text at {source}: give a .txt, .raw or .parquet file or a folder of them")
    else:
        raise ValueError(f"unknown text source {source!r}: choose 'python', a path, or 'hub:NAME[:CONFIG]'")
    for split in SPLITS:
        if not any(text.strip() for text in splits[split].values()):
            raise ValueError(f"the {split} split of {source!r} holds no text")
    return splits, description


def _token_file(source: str, tokenizer: str) -> Path:
    """Where the tokens of this text would lie, without ending."""
    stamps = []
    for path in (Path(name).expanduser() for name in (source, tokenizer) if name.strip()):
        for file in _files(path) if path.is_dir() else [path] * path.is_file():
            stamps.append((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns))
    return cache_folder() / "tokens" / hashlib.sha256(json.dumps([source, tokenizer, stamps]).encode()).hexdigest()[:16]


def _mapped(kept: Path, source: str, tokenizer: str) -> TextData:
    """A text that was tokenised before; the errors are those of :func:`~seqpe_lab.tasks.tokens.open_tokens`."""
    from tokenizers import Tokenizer
    parts, header = open_tokens(kept)
    _, decode, vocab_size = _functions(header["tokenizer"] and Tokenizer.from_str(header["tokenizer"]))
    return TextData(source, tokenizer, header["description"], vocab_size, **parts, characters=header["characters"], hash=header["hash"], decode=decode)


# --- documents ---------------------------------------------------------------------------------

def python_documentation() -> Documents:
    """The language reference and the standard library's docstrings of this Python, by topic and module.

    Modules are parsed, never imported. That takes some 10 s, so the text is kept in a cache folder.
    """
    cache = cache_folder() / f"python-{hashlib.sha256((sys.version + sysconfig.get_path('stdlib')).encode()).hexdigest()[:12]}.json"
    if cache.exists():
        try:
            return json.loads(cache.read_text(encoding="utf-8"))
        except ValueError:
            cache.unlink()  # half written by a machine that went down
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("this Python comes without pydoc_data.topics: install its documentation package or pass a path as `source`") from error
    documents = {f"topic/{name}": text for name, text in sorted(topics.items())}
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if {"test", "tests", "idle_test", "site-packages", "dist-packages"} & set(name.parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # templates that are not Python
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts = [text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))]
        if texts:
            documents[f"module/{name.as_posix()}"] = "\n\n".join(texts)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(documents), encoding="utf-8")
    os.replace(partial, cache)
    return documents


def cache_folder() -> Path:
    """Where prepared data is kept: $SEQPE_CACHE or ~/.cache/seqpe_lab."""
    return Path(os.environ.get("SEQPE_CACHE") or Path.home() / ".cache" / "seqpe_lab")


def _split_by_hash(documents: Documents) -> dict[str, Documents]:
    """90 % train, 5 % validation, 5 % test of the documents, by a hash of the name: fixed for ever, in shuffled order."""
    splits: dict[str, Documents] = {split: {} for split in SPLITS}
    numbers = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in documents}
    for name in sorted(documents, key=numbers.get):
        share = numbers[name] / 2**32
        splits["train" if share < 0.9 else "validation" if share < 0.95 else "test"][name] = documents[name]
    return splits


def _files(path: Path) -> list[Path]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [p for p in files if p.suffix in (".txt", ".raw", ".parquet")]


def _from_path(path: Path) -> dict[str, Documents]:
    files = _files(path)
    if not files:
        raise ValueError(f"{path} holds no .txt, .raw or .parquet file")
    roles: dict[str, list[Path]] = {}
    for file in files:
        words = file.stem.lower().replace("-", ".").replace("_", ".").split(".")
        role = next((split for split, names in zip(SPLITS, (("train",), ("validation", "valid"), ("test",))) if set(names) & set(words)), None)
        roles.setdefault(role or "all", []).append(file)
    root = path if path.is_dir() else path.parent
    missing = [split for split in SPLITS if split not in roles]
    if not missing:
        return {split: {name: text for file in roles[split] for name, text in _read(file, root).items()} for split in SPLITS}
    if len(missing) == 1:
        raise ValueError(f"{path} has files for two of the splits but none for {missing[0]}: name one so, or none of them")
    documents = {name: text for file in files for name, text in _read(file, root).items()}
    if len(documents) >= 60:
        return _split_by_hash(documents)
    # a few long documents: the last tenth of each is held out
    splits: dict[str, Documents] = {split: {} for split in SPLITS}
    for name, text in documents.items():
        cuts = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
        for split, begin, end in zip(SPLITS, cuts, cuts[1:]):
            splits[split][name] = text[begin:end]
    return splits


def _read(file: Path, root: Path) -> Documents:
    name = file.relative_to(root).as_posix()
    if file.suffix == ".parquet":
        from datasets import load_dataset
        try:
            rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(cache_folder() / "datasets"))
        except Exception as error:  # pyarrow's and datasets' own
            raise ValueError(f"{file} cannot be read as parquet ({type(error).__name__}: {error})") from error
        if "text" not in rows.column_names:
            raise ValueError(f"{file} has no column 'text', only {', '.join(rows.column_names)}")
        if (kind := rows.features["text"].dtype) not in ("string", "large_string"):
            raise ValueError(f"the column 'text' of {file} holds {kind}: it must hold strings")
        return {f"{name}/{i}": text or "" for i, text in enumerate(rows["text"])}
    try:
        return {name: file.read_text(encoding="utf-8")}
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}): convert it first") from error


def _from_hub(source: str) -> dict[str, Documents]:
    name, _, config = source.removeprefix("hub:").partition(":")
    rows = load_from_hub(f"the data set {name!r}", _WAYS_OUT, name, config or None)
    if missing := [split for split in SPLITS if split not in rows]:
        raise ValueError(f"the data set {name!r} has no split {', '.join(missing)}, only {', '.join(rows)}")
    # rows may be lines: blank ones belong to the text, so all of a split is one document
    return {split: {split: "".join(t if t.endswith("\n") else t + "\n" for t in rows[split]["text"])} for split in SPLITS}


_WAYS_OUT = ("Three ways out: (1) connect to the network and try again; (2) download the files elsewhere and pass their path as `source`; "
             "(3) use source='python', which needs no network.")
_WAYS_OUT_GPT2 = ("Three ways out: (1) connect to the network and try again; (2) download its tokenizer.json elsewhere and pass the path as `tokenizer`; "
                  "(3) use tokenizer='bytes' or 'bpe:SIZE', which need no network.")


def require_hub(what: str, ways_out: str = _WAYS_OUT, timeout: float = 2.0) -> None:
    """Raise ConnectionError within 3 s if the hub gives no answer (its own client takes minutes to say so)."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session
    if constants.HF_HUB_OFFLINE:
        return  # the client then answers at once, from its cache or with an error
    failed: list[object] = [f"no answer within {timeout:g} s"]

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout)  # by the client's own ways and proxies; any answer will do
            failed.clear()
        except Exception as error:  # the client's library has its own
            failed[:] = [error]

    # Looking a name up knows no time limit, and each of its addresses is given the whole one: so somebody else does it.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout + 0.5)
    if failed:
        raise ConnectionError(f"the hub cannot be reached for {what} ({failed[0]}). {ways_out}")


def load_from_hub(what: str, ways_out: str, *arguments, **options):
    """``datasets.load_dataset(*arguments, **options)``, if the hub answers and gives it; else ConnectionError, which names the ways out."""
    require_hub(what, ways_out)
    from datasets import load_dataset
    try:
        return load_dataset(*arguments, **options)
    except Exception as error:  # datasets' and the hub's own
        raise ConnectionError(f"the hub did not give {what} ({type(error).__name__}: {error}). {ways_out}") from error


# --- tokenizers --------------------------------------------------------------------------------

def make_tokenizer(name: str, train: Documents):
    """Return (encode: Documents -> int64 (tokens,), decode: tokens -> str, vocab_size)."""
    return _functions(_make_bpe(name, train))


def _functions(bpe):
    """encode, decode and vocab_size of a tokenizer; None stands for bytes."""
    def encode(documents):
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *tokenise(documents.values(), bpe)]))

    def decode(tokens):
        numbers = torch.as_tensor(tokens[:]).tolist()
        return bpe.decode(numbers) if bpe else bytes(t for t in numbers if t).decode(errors="replace")
    return encode, decode, bpe.get_vocab_size() if bpe else 256


def _make_bpe(name: str, train: Documents):
    """The ``tokenizers.Tokenizer`` of that name; None for bytes."""
    if name == "bytes":
        return None
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    if name.startswith("bpe:"):
        size = name.removeprefix("bpe:")
        if not size.isdigit() or int(size) < 257:
            raise ValueError(f"a byte-level BPE needs at least 257 entries, got {name!r}: for instance 'bpe:1024'")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=int(size), special_tokens=[END_OF_DOCUMENT], show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        bpe.train_from_iterator(train.values(), trainer)
    elif name == "gpt2":
        require_hub("GPT-2's vocabulary", _WAYS_OUT_GPT2)
        try:
            bpe = Tokenizer.from_pretrained("openai-community/gpt2")
        except Exception as error:
            raise ConnectionError(f"the hub did not give GPT-2's vocabulary ({type(error).__name__}: {error}). {_WAYS_OUT_GPT2}") from error
    elif Path(name).expanduser().is_file():
        try:
            bpe = Tokenizer.from_file(str(Path(name).expanduser()))
        except Exception as error:  # tokenizers raises nothing more special
            raise ValueError(f"{name} is no tokenizer.json of the tokenizers library: {error}") from error
    else:
        raise ValueError(f"unknown tokenizer {name!r}: choose 'bytes', 'bpe:SIZE', 'gpt2', or the path of a tokenizer.json")
    bpe.no_truncation()
    bpe.no_padding()
    return bpe
