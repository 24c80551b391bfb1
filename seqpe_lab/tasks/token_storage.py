"""The tokens of a large text: made once, then read from memory-mapped files."""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from seqpe_lab.atomic_files import sha256, write_atomically
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.tokenization import AT_ONCE, pieces, tokenise

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LARGE = 2**25  # the tokens of a text with at least as many characters are stored in files


class StoredTokens:
    """Tokens in a memory-mapped file, indexed like an int64 tensor (tokens,).

    What an index names is copied.

    Args:
        file: as :func:`store_tokens` writes it.
    """

    def __init__(self, file: Path):
        self.tokens = np.load(file, mmap_mode="r")  # uint16 or uint32

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if isinstance(index, slice) and index.indices(len(self))[2] < 1:
            raise ValueError(f"the step of a slice of tokens must be at least 1, got {index.step}")
        return torch.from_numpy(np.array(self.tokens[index], np.int64))


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
    kind = np.uint16 if bpe is None or bpe.get_vocab_size() <= 2**16 else np.uint32
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, texts in splits.items():
            if (file := _file(folder, split)).exists():
                continue
            spans = list(pieces(texts, bpe))
            parts = [part.astype(kind)
                     for begin in tqdm(range(0, len(spans), AT_ONCE), desc=f"tokenising {split}")
                     for part in tokenise(texts, spans[begin: begin + AT_ONCE], bpe)]
            partial = file.with_name(f".{os.getpid()}.{file.name}")
            try:
                np.save(partial, np.concatenate(parts))
                os.replace(partial, file)
            finally:
                partial.unlink(missing_ok=True)
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


def stored_tokenizer(folder: Path) -> str | None:
    """The tokenizer, as JSON, of the tokens in a folder; None of bytes, and without readable ones.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))["about"]["tokenizer"]
    return None


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.npy"
