"""The JSON files of a run: what each may hold, and that it holds what was written.

Each file ends with the SHA-256 of its other values. The files of earlier versions do not, so of
them only the form can be checked. Weights are checked by the hashes in state.json, and the log of
the losses by that of the last checkpoint (:mod:`~seqpe_lab.runs`).
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from seqpe_lab.atomic_files import write_atomically

HASH = "content_sha256"  # the last key of each file
MAIN_MEASURES = ("exact_match", "accuracy", "perplexity")  # the first that results hold counts


class RunFileError(ValueError):
    """A file of a run that is damaged, or of another run; the message says which and what to do."""


class _RunFile(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class LogDigest(_RunFile):
    """metrics.jsonl up to a checkpoint: so many bytes, with this hash."""
    bytes: int = Field(ge=0)
    sha256: str


class State(_RunFile):
    """state.json of a checkpoint: what goes with its weights."""
    step: int = Field(ge=0)
    recipe: str  # its digest
    sha256: dict[str, str]  # of the files with weights
    validation: float | None = None  # nats
    data: JsonValue = None  # hash of the content
    deterministic_algorithms: bool = False
    metrics: LogDigest | None = None


class _Outcome(_RunFile):
    """What results and failures share: whose they are, and where they come from."""
    method: str
    scale: str
    seed: int
    recipe: str  # its digest
    split: str | None = None
    protocol: str | None = None
    data: dict[str, JsonValue] | None = None
    commit: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    time: str | None = None


class Results(_Outcome):
    """results.json of a finished run; values by length (tokens) or size (pixels)."""
    perplexity: dict[str, float] | None = None
    exact_match: dict[str, float] | None = None  # percent
    accuracy: dict[str, float] | None = None  # percent
    interpolated: dict[str, float] | None = None  # accuracy with interpolated position vectors
    by_depth: dict[str, JsonValue] | None = None
    symbols_right: dict[str, float] | None = None  # percent
    tokens: int | None = None
    questions: int | None = None
    images: int | None = None
    examples: int | None = None
    trained_size: int | None = None  # of an algorithm's training inputs, symbols
    precision: str | None = None
    parameters: int | None = None
    processes: int | None = None
    deterministic_algorithms: bool | None = None

    @model_validator(mode="after")
    def _measures_something(self) -> Self:
        if all(getattr(self, name) is None for name in MAIN_MEASURES):
            raise ValueError(f"it has none of {', '.join(MAIN_MEASURES)}")
        return self


class Failure(_Outcome):
    """failure.json of a run that cannot go on, such as one that diverged."""
    task: str
    failed: str  # why, for a reader


class DataRecord(_RunFile):
    """data.json: what a run is trained on."""
    data: str  # hash of the content
    tokenizer: str | None  # sha256 of tokenizer.json; None without one


class JobRecord(_RunFile):
    """job.json: the process that :class:`~seqpe_lab.jobs.Job` has started last."""
    pid: int
    started: float  # seconds since 1970, by the system's table of processes
    host: str
    processes: int
    cpu: bool
    command: list[str]
    log_from: int = Field(ge=0)  # where in log.txt its output begins
    stopped: bool  # on request


def write_record(path: Path, kind: type[_RunFile] | None, values: Mapping[str, Any],
                 check: Callable[[], object] = lambda: None) -> None:
    """Write a file with its hash.

    Args:
        kind: what it must fit; None if that was checked already.
        check: as in :func:`~seqpe_lab.atomic_files.write_atomically`.

    Raises:
        ValueError: values that do not fit ``kind``, or that JSON does not have, such as NaN.
    """
    values = json.loads(json.dumps(values, allow_nan=False))
    if kind:
        kind.model_validate(values)
    write_atomically(path, json.dumps({**values, HASH: content_hash(values)}, indent=1), check)


def read_record(path: Path, kind: type[_RunFile] | None, remedy: str) -> dict[str, Any]:
    """The values of a file, without its hash, after checking both.

    Args:
        kind: what it must fit; None if the caller checks that.
        remedy: the end of the message of an error.

    Raises:
        RunFileError: it cannot be read, is not what was written, or does not fit.
        FileNotFoundError: there is none.
    """
    try:
        return checked(path, kind)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise RunFileError(f"{path} is refused: it is damaged, or of another version ({error}); "
                           f"{remedy}") from error


def checked(path: Path, kind: type[_RunFile] | None) -> dict[str, Any]:
    """The same, with the bare reason as a ValueError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it holds no table")
    stored = values.pop(HASH, None)
    if stored is not None and stored != content_hash(values):
        raise ValueError("its content does not have the hash that was written with it")
    try:
        if kind:
            kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(": ".join([*map(str, first["loc"]), first["msg"]])) from None
    return values


def content_hash(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values; the order of keys does not matter.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
