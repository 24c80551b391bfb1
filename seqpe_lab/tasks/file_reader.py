"""Texts and rows of files, for all kinds of data: plain text, JSON, CSV and parquet.

Every text comes out alike: without a byte order mark, its line ends newlines.
"""
from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seqpe_lab.hub import read_parquet
from seqpe_lab.tasks.data_files import ending

TEXTS = (".txt", ".raw", ".md")
TABLES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")


def normalised(text: str) -> str:
    r"""A text without a byte order mark, its line ends newlines.

    >>> normalised("\ufeffone\r\ntwo\rthree")
    'one\ntwo\nthree'
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_text(file: Path) -> str:
    """The normalised text of a file, which may be compressed (.gz).

    Raises:
        ValueError: it is not UTF-8, or its compression is broken.
    """
    content = file.read_bytes()
    if file.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{file} cannot be decompressed ({error}): replace it") from error
    try:
        return normalised(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}): convert it first") from error


def read_table(file: Path) -> dict[str, Sequence]:
    """The columns of a table, by name; a value that a row of JSON does not have is None.

    JSON is one object a line (.jsonl, .json), or a list of objects, or such a list as "data" of an
    object (.json); CSV (.tsv: with tabs) has the names of the columns in its first line.

    Raises:
        ValueError: the file is not what its ending says.
    """
    kind = ending(file)
    if kind == ".parquet":
        rows = read_parquet(file)
        return {name: rows[name] for name in rows.column_names}
    text = read_text(file)
    if kind in (".csv", ".tsv"):
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a field may be a whole text
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True,
                                delimiter="\t" if kind == ".tsv" else ",")
        records = []
        try:
            for record in reader:
                if None in record:  # the rest of a text with an unquoted comma
                    raise csv.Error("more fields than names of columns: put texts in quotes")
                records.append(record)
        except csv.Error as error:
            raise ValueError(f"{file} cannot be read as {kind[1:].upper()}, line "
                             f"{reader.line_num} ({error})") from error
        names = list(reader.fieldnames or ())
    else:
        records = _json_objects(file, text, kind)
        names = list(dict.fromkeys(name for record in records for name in record))
    return {name: [record.get(name) for record in records] for name in names}


def _json_objects(file: Path, text: str, kind: str) -> list[dict]:
    records: list = []
    try:
        if kind == ".json" and not _is_json_lines(text):
            whole = json.loads(text)
            records = whole.get("data", [whole]) if isinstance(whole, dict) else whole
        else:  # not splitlines: a string may hold other line separators
            for line in filter(str.strip, text.split("\n")):
                records.append(json.loads(line))
    except ValueError as error:
        place = f" of its row {len(records)}" if records else ""
        raise ValueError(f"{file} cannot be read as JSON ({error}{place})") from error
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise ValueError(f"{file} must hold objects with named values, one for each row")
    return records


def _is_json_lines(text: str) -> bool:
    """Whether the first line is complete and another follows: many name such a file .json."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def present(values: Iterable, column: str, origin: object) -> dict[int, str]:
    """The normalised texts of a column by their rows, from 0.

    Rows without one (null) are left out with a warning that counts them.

    Raises:
        ValueError: a value that is not a string.
    """
    found, rows = {}, 0
    for row, value in enumerate(values):
        rows += 1
        if isinstance(value, str):
            found[row] = normalised(value)
        elif value is not None:
            raise ValueError(f"the column {column!r} of {origin} holds {np.asarray(value).dtype} "
                             f"(row {row}): it must hold strings")
    if len(found) < rows:
        first = next(row for row in range(rows) if row not in found)
        warnings.warn(f"{rows - len(found)} of {rows} rows of {origin} have no {column!r} (null), "
                      f"the first is row {first}: they are left out", stacklevel=3)
    return found


def column_of(table: Mapping[str, Sequence], column: str, origin: object) -> Sequence:
    """A column of a table; raises ValueError if it has none of that name."""
    if column not in table:
        raise ValueError(f"{origin} has no column {column!r}, only {', '.join(table)}")
    return table[column]
