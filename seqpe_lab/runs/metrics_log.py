"""metrics.jsonl: a line of JSON for each logged step of a run, appended while it trains."""
from __future__ import annotations

import json
import os
from pathlib import Path

from seqpe_lab.runs.run_files import RunFileError

TAIL = 8_192  # bytes; longer than any line


class MetricsLog:
    """Reads the log of a run, and from then on only what is new.

    A line that is not complete yet, or was cut short by a kill, is left for the next time.

    >>> MetricsLog(Path("nowhere/metrics.jsonl")).read()
    []
    """

    def __init__(self, path: Path):
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self._records: list[dict] = []
        self._file, self._offset = None, 0

    def read(self) -> list[dict]:
        """All records so far, oldest first: {"step": 10, "loss": 2.3, ...}; not to be changed.

        Raises:
            RunFileError: a line that is no record; names it.
        """
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            self._begin()
            return self._records
        with file:
            status = os.fstat(file.fileno())
            which = status.st_dev, status.st_ino
            if which != self._file or status.st_size < self._offset:  # a run that resumed: anew
                self._begin()
                self._file = which
            file.seek(self._offset)
            lines, end, _ = file.read().rpartition(b"\n")
        new = lines.split(b"\n") if end else []
        count = len(self._records)
        records = [_record(line, f"{self.path}, line {count + number},")
                   for number, line in enumerate(new, start=1)]
        self._records += records
        self._offset += len(lines) + len(end)
        return self._records


def last_record(path: Path) -> dict | None:
    """The last complete record, without reading the others; None if there is none.

    Raises:
        RunFileError: the last line is no record.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return _record(lines[-1], f"the last line of {path}") if lines else None


def _record(line: bytes, place: str) -> dict:
    try:
        record = json.loads(line)
        if isinstance(record["step"], int) and all(
                isinstance(value, int | float) for value in record.values()):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise RunFileError(f"{place} is refused: it is no record of a step ({line[:40]!r}); restore "
                       "the file from a copy, or delete the run's folder to train it again")
