"""A large text's tokens: made once, in parallel, kept in a file, and read from there without taking memory.

``<name>.tokens`` holds the numbers of all splits behind one another, uint16 or uint32; ``<name>.json``
says what they are, with a sha256 of both. It is written last: without it the other does not count.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

LARGE = 2**25  # characters from which on a text's tokens are kept in a file
PIECE, BATCH = 2**14, 2**22  # characters that go through a tokenizer as one text; and through all its threads at once
END_OF_DOCUMENT = "<|endoftext|>"  # of the BPE tokenizers; as bytes, documents end in byte 0
_CUT = re.compile(r"(?<=\S)(?=[ \n])")  # only what is white space to Python and to the tokenizers alike


class MappedTokens:
    """Tokens in a memory-mapped file, used like an int64 tensor (tokens,): ``len``, slices and indices read what they name."""

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index) -> Tensor:
        return torch.from_numpy(np.asarray(self.numbers[np.asarray(index) if isinstance(index, Tensor) else index], dtype=np.int64))


def tokenise(texts: Iterable[str], bpe, *, progress: bool = False) -> Iterator[np.ndarray]:
    """The numbers of texts, one text after the other, each closed by its end mark; batch by batch, so that no text is too large.

    Args:
        bpe: a ``tokenizers.Tokenizer``, whose threads share the work; None takes bytes, and 0 as the end mark.
        progress: show a bar (in a terminal or a notebook, never in a log).
    """
    def numbers(batch: list[tuple[str, bool]]) -> np.ndarray:
        if bpe is None:
            return np.frombuffer(b"".join(piece.encode() + b"\0" * last for piece, last in batch), dtype=np.uint8)
        encoded = bpe.encode_batch_fast([piece for piece, _ in batch])
        return np.concatenate([np.asarray(encoding.ids + end * last, dtype=np.uint32) for encoding, (_, last) in zip(encoded, batch)])

    texts = list(texts)
    end = [] if bpe is None or (mark := bpe.token_to_id(END_OF_DOCUMENT)) is None else [mark]
    whole = bpe is not None and not can_be_cut(bpe)
    batch, size = [], 0
    with tqdm(total=sum(map(len, texts)), unit="char", unit_scale=True, desc="tokenising", disable=None if progress else True) as bar:
        for piece, last in (pair for text in texts for pair in pieces(text, len(text) if whole else PIECE)):
            batch.append((piece, last))
            size += len(piece)
            if size >= BATCH:
                yield numbers(batch)
                bar.update(size)
                batch, size = [], 0
        if batch:
            yield numbers(batch)
            bar.update(size)


def pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Cut a text after at least ``size`` characters, where a word ends and white space begins; with each piece, whether it is the last.

    >>> list(pieces("one two  three", size=2))
    [('one', False), (' two', False), ('  three', True)]
    """
    begin = 0
    while begin + size < len(text) and (cut := _CUT.search(text, begin + max(1, size))):
        yield text[begin: cut.start()], False
        begin = cut.start()
    yield text[begin:], True


def can_be_cut(bpe) -> bool:
    """Whether the pieces of a text have the tokens of the whole: so with GPT-2's own way to split, which never looks back over a white space."""
    from tokenizers import pre_tokenizers, processors
    splits = bpe.pre_tokenizer
    return (isinstance(splits, pre_tokenizers.ByteLevel) and splits.use_regex and not splits.add_prefix_space and bpe.normalizer is None
            and isinstance(bpe.post_processor, processors.ByteLevel | None)
            and not any(token.rstrip or re.search(r"\S\s", token.content) for token in bpe.get_added_tokens_decoder().values()))


def write_tokens(name: Path, parts: dict[str, Iterator[np.ndarray]], vocab_size: int, about: dict) -> None:
    """Write ``<name>.tokens`` and ``<name>.json``, each aside and then renamed.

    Args:
        parts: for each split its numbers, array by array.
        about: plain values to keep with them.

    Raises:
        OSError: the disk is full, say; nothing is left behind.
    """
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    partial, counts = name.with_name(f".{name.name}.{os.getpid()}"), {}
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            for split, arrays in parts.items():
                begin = file.tell()
                for array in arrays:
                    file.write(array.astype(dtype).tobytes())
                counts[split] = (file.tell() - begin) // dtype.itemsize
            file.flush()
            os.fsync(file.fileno())
        header = about | {"dtype": dtype.str, "counts": counts}
        header |= {"sha256": _digest(partial, header)}
        os.replace(partial, name.with_suffix(".tokens"))
        partial.write_text(json.dumps(header), encoding="utf-8")
        os.replace(partial, name.with_suffix(".json"))
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"the tokens could not be written to {name.parent} ({error}): free some space, or set SEQPE_CACHE to a folder elsewhere") from error


def open_tokens(name: Path) -> tuple[dict[str, MappedTokens], dict]:
    """The splits of ``<name>.tokens`` and what ``<name>.json`` says about them, once both are checked (0.5 s for WikiText-103).

    Raises:
        FileNotFoundError: one of the two is not there.
        ValueError: truncated, altered or unreadable; names the file.
    """
    path = name.with_suffix(".tokens")
    try:
        header = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
        intact = header.pop("sha256") == _digest(path, header)
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{path} or its .json is not what was written: truncated or altered")
    ends = np.cumsum(list(header["counts"].values())).tolist()
    numbers = np.memmap(path, header["dtype"], "r")
    return {split: MappedTokens(numbers[end - count: end]) for (split, count), end in zip(header["counts"].items(), ends)}, header


def _digest(path: Path, header: dict) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(header, sort_keys=True).encode())
    return digest.hexdigest()
