"""The data of a run: what it was trained on, and the tokenizer, which belongs to the run.

A run's folder keeps both: ``data.json`` (the hash of the data, and of the tokenizer) and
``tokenizer.json`` (not of bytes). So a text that is edited later is noticed, and cannot change what
a token number means.
"""
from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.recipes import QARecipe
from seqpe_lab.runs.run_files import DataRecord, read_record, write_record
from seqpe_lab.runs.run import Run
from seqpe_lab.runs.run_folder import runs_folder
from seqpe_lab.tasks import Data


def keep_data(run: Run, data: Data) -> None:
    """Write down what a run is trained on, before its first step; errors as in :func:`check_data`.
    """
    check_data(run, data)
    if tokenizer := getattr(data, "tokenizer_json", None):
        write_atomically(run.folder / "tokenizer.json", tokenizer)
    write_record(run.folder / "data.json", DataRecord, _hashes(data))


def check_data(run: Run, data: Data) -> None:
    """Refuse data, or a tokenizer, that a run was not trained on.

    Raises:
        ValueError: names both hashes.
    """
    now = _hashes(data)
    for name, known in trained_on(run).items():
        if known != now[name]:
            other = "on other data" if name == "data" else "with another tokenizer"
            raise ValueError(f"{run.folder} was trained {other} (hash {known}, now {now[name]}): "
                             "bring it back as it was, choose another folder, or delete this one")


def trained_on(run: Run) -> dict[str, str]:
    """The hashes of a run's "data" and "tokenizer", as far as they are known.

    Nothing is known before the first checkpoint, and "data" alone of bytes, of images, and of runs
    of earlier versions.
    """
    if not (last := run.checkpoints()[-1:]):
        return {}
    known = {}
    with suppress(OSError, ValueError, KeyError):  # load_checkpoint names what is broken
        known["data"] = json.loads((last[0] / "state.json").read_text(encoding="utf-8"))["data"]
    if (path := run.folder / "data.json").exists():
        remedy = "delete it if neither the data nor the tokenizer has changed since the training"
        if tokenizer := read_record(path, DataRecord, remedy)["tokenizer"]:
            known["tokenizer"] = tokenizer
    return known


def kept_tokenizer(run: Run) -> str | None:
    """The contents of a run's tokenizer.json, or of the run that it starts from; None without one.

    Raises:
        ValueError: the file is not what was written.
    """
    if not run.checkpoints() and isinstance(run.recipe, QARecipe):
        base = runs_folder() / run.recipe.base
        return kept_tokenizer(Run.open(base)) if (base / "recipe.json").exists() else None
    path, known = run.folder / "tokenizer.json", trained_on(run).get("tokenizer")
    if known is None:
        return None
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if _sha256(text) != known:
        raise ValueError(f"{path} is not the tokenizer that the run was trained with (hash "
                         f"{_sha256(text)}, trained with {known}): bring it back, or train again")
    return text


def _hashes(data: Data) -> dict[str, str | None]:
    tokenizer = getattr(data, "tokenizer_json", None)
    return {"data": data.hash, "tokenizer": tokenizer and _sha256(tokenizer)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
