"""A large text's tokens: made once, in parallel, kept in a file, and read from there without taking memory.

``<name>.tokens`` holds the numbers of all splits behind one another, uint16 or uint32, and
``<name>.json`` says what they are, with a sha256 for every block of 16 MiB and one of itself. Both
are written aside and renamed, the .json last: without it the other does not count.
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
BLOCK = 2**24  # bytes that have a hash of their own
CHECKED = 64  # blocks that are read when a file is opened: the whole file up to 1 GiB, which takes about a second
PIECE, BATCH = 2**14, 2**22  # characters that go through a tokenizer as one text; and through all its threads at once
END_OF_DOCUMENT = "<|endoftext|>"  # of the BPE tokenizers; as bytes, documents end in byte 0
_CUT = re.compile(r"(?<=\S)(?=\s)")


class MappedTokens:
    """Tokens in a memory-mapped file, used like an int64 tensor (tokens,): ``len``, slices and indices read what they name."""

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index) -> Tensor:
        return torch.from_numpy(np.asarray(self.numbers[np.asarray(index) if isinstance(index, Tensor) else index], dtype=np.int64))


def tokenise(texts: Iterable[str], bpe, *, progress: bool = False) -> Iterator[np.ndarray]:
    """The numbers of texts, one text after the other, each closed by its end mark; piece by piece, so that no text is too large.

    Args:
        bpe: a ``tokenizers.Tokenizer``, whose threads share the work; None takes bytes, and 0 as the end mark.
        progress: show a bar (in a terminal or a notebook, never in a log).
    """
    texts = list(texts)
    with tqdm(total=sum(map(len, texts)), unit="char", unit_scale=True, desc="tokenising", disable=None if progress else True) as bar:
        if bpe is None:
            for text in texts:
                for begin in range(0, len(text), BATCH):
                    yield np.frombuffer(text[begin: begin + BATCH].encode(), dtype=np.uint8)
                    bar.update(min(BATCH, len(text) - begin))
                yield np.zeros(1, dtype=np.uint8)
            return
        end, cuttable, waiting = bpe.token_to_id(END_OF_DOCUMENT), can_be_cut(bpe), []

        def encoded() -> np.ndarray:
            ids = [encoding.ids + ([end] if last and end is not None else []) for encoding, (_, last) in
                   zip(bpe.encode_batch_fast([piece for piece, _ in waiting]), waiting)]
            bar.update(sum(len(piece) for piece, _ in waiting))
            waiting.clear()
            return np.concatenate([np.asarray(part, dtype=np.uint32) for part in ids])

        size = 0
        for text in texts:
            for piece, last in pieces(text, PIECE if cuttable else len(text)):
                waiting.append((piece, last))
                size += len(piece)
                if size >= BATCH:
                    yield encoded()
                    size = 0
        if waiting:
            yield encoded()


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
    plain = isinstance(bpe.pre_tokenizer, pre_tokenizers.ByteLevel) and not bpe.pre_tokenizer.add_prefix_space and bpe.pre_tokenizer.use_regex
    plain = plain and bpe.normalizer is None and (bpe.post_processor is None or isinstance(bpe.post_processor, processors.ByteLevel))
    return plain and not any(token.rstrip or re.search(r"\S\s", token.content) for token in bpe.get_added_tokens_decoder().values())


def write_tokens(name: Path, parts: dict[str, Iterator[np.ndarray]], vocab_size: int, about: dict) -> None:
    """Write ``<name>.tokens`` and ``<name>.json``.

    Args:
        parts: for each split its numbers, array by array.
        about: plain values to keep with them.

    Raises:
        OSError: the disk is full, say; nothing is left behind.
    """
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    name.parent.mkdir(parents=True, exist_ok=True)
    partial = name.with_name(f".{name.name}.{os.getpid()}")
    counts, blocks, block, filled = {}, [], hashlib.sha256(), 0
    try:
        with open(partial, "wb") as file:
            for split, arrays in parts.items():
                counts[split] = 0
                for array in arrays:
                    counts[split] += len(array)
                    data = memoryview(array.astype(dtype).tobytes())
                    file.write(data)
                    while len(data):
                        taken = data[: BLOCK - filled]
                        block.update(taken)
                        filled, data = filled + len(taken), data[len(taken):]
                        if filled == BLOCK:
                            blocks.append(block.hexdigest())
                            block, filled = hashlib.sha256(), 0
            file.flush()
            os.fsync(file.fileno())
        if filled:
            blocks.append(block.hexdigest())
        header = about | {"vocab_size": vocab_size, "dtype": dtype.str, "counts": counts, "blocks": blocks}
        os.replace(partial, name.with_suffix(".tokens"))
        partial.write_text(json.dumps(header | {"sha256": _digest(header)}), encoding="utf-8")
        os.replace(partial, name.with_suffix(".json"))
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"the tokens could not be written to {name.parent} ({error}): free some space, or set SEQPE_CACHE to a folder elsewhere") from error


def open_tokens(name: Path, *, whole: bool = False) -> tuple[dict[str, MappedTokens], dict]:
    """The splits of ``<name>.tokens`` and what ``<name>.json`` says about them, once both are checked.

    Size and header are always checked, and the hashes of up to 64 blocks of 16 MiB: that is all of a
    file of 1 GiB, 500 million tokens of GPT-2's; of a larger one 64 blocks spread evenly over it.

    Args:
        whole: check every block.

    Raises:
        FileNotFoundError: there is none.
        ValueError: truncated, altered or unreadable; names the file.
    """
    path = name.with_suffix(".tokens")
    try:
        header = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
        intact = header.pop("sha256") == _digest(header)
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{name.with_suffix('.json')} is broken")
    dtype, expected = np.dtype(header["dtype"]), sum(header["counts"].values())
    if (size := path.stat().st_size) != expected * dtype.itemsize:
        raise ValueError(f"{path} has {size:,} bytes, and should have {expected * dtype.itemsize:,}")
    count = len(header["blocks"])
    with open(path, "rb") as file:
        for number in range(count) if whole or count <= CHECKED else np.linspace(0, count - 1, CHECKED).round().astype(int).tolist():
            file.seek(number * BLOCK)
            if hashlib.sha256(file.read(BLOCK)).hexdigest() != header["blocks"][number]:
                raise ValueError(f"{path} is not what was written: its bytes from {number * BLOCK:,} on are altered")
    numbers = np.memmap(path, dtype, "r") if expected else np.empty(0, dtype)
    ends = np.cumsum(list(header["counts"].values())).tolist()
    return {split: MappedTokens(numbers[end - length: end]) for (split, length), end in zip(header["counts"].items(), ends)}, header


def _digest(header: dict) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
