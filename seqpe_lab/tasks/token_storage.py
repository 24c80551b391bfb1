"""The tokens of a large text: made once by ``datasets``, then read from memory-mapped files."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.tokenization import AT_ONCE, pieces, tokenise

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LARGE = 2**25  # characters from which on a text's tokens are stored


class StoredTokens:
    """Tokens in a memory-mapped arrow file, indexed like an int64 tensor (tokens,).

    Slices are fast and copy what they name; other indices look up one token after the other.

    Args:
        file: as :func:`store_tokens` writes it.
    """

    def __init__(self, file: Path):
        from datasets import Dataset
        column = Dataset.from_file(str(file)).data.column("tokens")
        self.parts = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if not isinstance(index, slice):
            places = torch.as_tensor(index)
            begins = [range(len(self))[place] for place in places.flatten().tolist()]
            return torch.cat([self[begin: begin + 1] for begin in begins]).view(places.shape)
        begin, end, step = index.indices(len(self))
        if step < 1:
            raise ValueError(f"the step of a slice of tokens must be at least 1, got {step}")
        found, at = [np.empty(0, np.int64)], int(np.searchsorted(self.ends, begin, side="right"))
        while begin < end:
            part, offset = self.parts[at], int(self.ends[at]) - len(self.parts[at])
            found.append(part[begin - offset: end - offset].astype(np.int64))
            begin, at = offset + len(part), at + 1
        return torch.from_numpy(np.concatenate(found)[::step])


def store_tokens(folder: Path, splits: Mapping[str, Sequence[str]], bpe: Tokenizer | None,
                 about: dict) -> None:
    """Tokenise a text into ``folder``, one file for each split.

    A file appears under its name when it is complete, and ``about.json`` comes last: an
    interrupted job continues after the last complete split.

    Args:
        splits: the documents of each split.
        bpe: None takes bytes.
        about: plain values to store with the tokens.

    Raises:
        OSError: the tokens cannot be written, to a full disk say; nothing is left behind.
    """
    from datasets import Dataset, Features, List, Value
    kind = "uint16" if bpe is None or bpe.get_vocab_size() <= 2**16 else "uint32"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, texts in splits.items():
            spans = list(pieces(texts, bpe))
            Dataset.from_dict({"span": spans}).map(
                lambda rows, texts=texts: {"tokens": [
                    part.astype(kind) for part in tokenise(texts, rows["span"], bpe)]},
                batched=True, batch_size=AT_ONCE, remove_columns="span", desc="tokenising",
                features=Features({"tokens": List(Value(kind))}), new_fingerprint=folder.name,
                cache_file_name=str(_file(folder, split)))
        digests = {split: _digest(_file(folder, split)) for split in splits}
        partial = folder / f"about.{os.getpid()}.tmp"
        partial.write_text(json.dumps({"about": about, "sha256": digests}), encoding="utf-8")
        os.replace(partial, folder / "about.json")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(f"the tokens could not be written to {folder.parent} ({error}): free some "
                      "space, or set SEQPE_CACHE to a folder elsewhere") from error


def open_tokens(folder: Path) -> tuple[dict[str, StoredTokens], dict]:
    """The splits that :func:`store_tokens` wrote, and what was stored with them; both are checked.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file was truncated or altered; names the folder.
    """
    try:
        stored = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        files = {split: _file(folder, split) for split in SPLITS}
        intact = stored["sha256"] == {split: _digest(file) for split, file in files.items()}
        about = stored["about"]
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{folder} does not hold what was written: truncated or altered")
    return {split: StoredTokens(file) for split, file in files.items()}, about


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.arrow"


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
