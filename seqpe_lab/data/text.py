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
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")
END_OF_DOCUMENT = "<|endoftext|>"  # of the BPE tokenizers; as bytes, documents end in byte 0
Documents = dict[str, str]  # name -> text


@dataclass(frozen=True)
class TextData:
    """A text, split by document and tokenised.

    Attributes:
        source, tokenizer: as asked for.
        description: one line for captions.
        train, validation, test: int64 (tokens,), values in [0, vocab_size).
        characters: how many each split holds, separators not counted.
        hash: sha256 of the three splits' texts, 16 hex digits.
        decode: token numbers -> str.
    """
    source: str
    tokenizer: str
    description: str
    vocab_size: int
    train: Tensor
    validation: Tensor
    test: Tensor
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

    Raises:
        ValueError: an unknown source or tokenizer, a file that holds no text or is not UTF-8.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    splits, description = load_documents(source)
    encode, decode, vocab_size = make_tokenizer(tokenizer, splits["train"])
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(split.encode() + b"\0")
        for text in splits[split].values():
            digest.update(text.encode() + b"\0")
    tokens = {split: encode(splits[split]) for split in SPLITS}
    characters = {split: sum(map(len, splits[split].values())) for split in SPLITS}
    return TextData(source, tokenizer, description, vocab_size, **tokens, characters=characters, hash=digest.hexdigest()[:16], decode=decode)


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


def _from_path(path: Path) -> dict[str, Documents]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    files = [p for p in files if p.suffix in (".txt", ".raw", ".parquet")]
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
    require_hub(f"the data set {name!r}")
    from datasets import load_dataset
    try:
        rows = load_dataset(name, config or None)
    except Exception as error:
        raise ConnectionError(f"the hub did not give the data set {name!r} ({type(error).__name__}: {error}). {_WAYS_OUT}") from error
    if missing := [split for split in SPLITS if split not in rows]:
        raise ValueError(f"the data set {name!r} has no split {', '.join(missing)}, only {', '.join(rows)}")
    # rows may be lines: blank ones belong to the text, so all of a split is one document
    return {split: {split: "".join(t if t.endswith("\n") else t + "\n" for t in rows[split]["text"])} for split in SPLITS}


_WAYS_OUT = ("Three ways out: (1) connect to the network and try again; (2) download the files elsewhere and pass their path as `source`; "
             "(3) use source='python', which needs no network.")
_WAYS_OUT_GPT2 = ("Three ways out: (1) connect to the network and try again; (2) download its tokenizer.json elsewhere and pass the path as `tokenizer`; "
                  "(3) use tokenizer='bytes' or 'bpe:SIZE', which need no network.")


def require_hub(what: str, ways_out: str = _WAYS_OUT, timeout: float = 2.0) -> None:
    """Raise ConnectionError within seconds if the hub cannot be reached (its own client takes minutes)."""
    from huggingface_hub import constants
    if constants.HF_HUB_OFFLINE:
        return  # the client then answers at once, from its cache or with an error
    url = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname, url.port or (80 if url.scheme == "http" else 443)), timeout).close()
    except OSError as error:
        raise ConnectionError(f"the hub cannot be reached for {what} ({error}). {ways_out}") from error


# --- tokenizers --------------------------------------------------------------------------------

def make_tokenizer(name: str, train: Documents):
    """Return (encode: Documents -> int64 (tokens,), decode: tokens -> str, vocab_size)."""
    if name == "bytes":
        def encode(documents):
            return torch.from_numpy(np.frombuffer(b"".join(t.encode() + b"\0" for t in documents.values()), dtype=np.uint8).astype(np.int64))

        def decode(tokens):
            return bytes(t for t in torch.as_tensor(tokens).tolist() if t).decode(errors="replace")
        return encode, decode, 256

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
    end = bpe.token_to_id(END_OF_DOCUMENT)

    def encode_bpe(documents):
        parts = [encoding.ids + ([end] if end is not None else []) for encoding in bpe.encode_batch(list(documents.values()))]
        return torch.from_numpy(np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]))

    return encode_bpe, lambda tokens: bpe.decode([int(t) for t in tokens]), bpe.get_vocab_size()
