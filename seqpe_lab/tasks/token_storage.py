"""The tokens of a large text: made once by ``datasets``, then read from memory-mapped files."""
from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.atomic_files import sha256, write_atomically
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.tokenization import AT_ONCE, pieces, tokenise

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LARGE = 2**25  # the tokens of a text with at least as many characters are stored in files


class StoredTokens:
    """Tokens in a memory-mapped arrow file, indexed like an int64 tensor (tokens,).

    Slices are fast and copy what they name; other indices look up one token after the other.

    Args:
        file: as :func:`store_tokens` writes it.
    """

    def __init__(self, file: Path):
        import pyarrow
        from datasets import Dataset
        lists = Dataset.from_file(str(file)).data.column("tokens")
        self.column = pyarrow.chunked_array([chunk.flatten() for chunk in lists.chunks])

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if not isinstance(index, slice):
            places = torch.as_tensor(index)
            begins = [range(len(self))[place] for place in places.flatten().tolist()]
            return torch.cat([self[begin: begin + 1] for begin in begins]).view(places.shape)
        begin, end, step = index.indices(len(self))
        if step < 1:
            raise ValueError(f"the step of a slice of tokens must be at least 1, got {step}")
        found = self.column.slice(begin, max(0, end - begin)).to_numpy()[::step]
        return torch.from_numpy(found.astype(np.int64))


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
        OSError: the tokens cannot be written, for example to a full disk; nothing is left behind.
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
        digests = {split: sha256(_file(folder, split)) for split in splits}
        write_atomically(folder / "about.json", json.dumps({"about": about, "sha256": digests}))
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
        intact = stored["sha256"] == {split: sha256(file) for split, file in files.items()}
        about = stored["about"]
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{folder} does not hold what was written: truncated or altered")
    return {split: StoredTokens(file) for split, file in files.items()}, about


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.arrow"
