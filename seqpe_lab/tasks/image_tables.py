"""Images and labels in the columns of tables: parquet files, or data sets of the hub."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqpe_lab.tasks.image_decoding import Encoded, check_all

if TYPE_CHECKING:  # takes a second to import
    from datasets import Dataset

IN_MEMORY = 100_000  # encoded images of a table with at most so many are kept in memory


def column_names(table: Dataset, origin: str) -> tuple[str, str]:
    """The names of the columns with images and labels; raises ValueError if one is missing."""
    columns = table.column_names
    image = next((name for name in ("image", "img") if name in columns), None)
    label = next((name for name in ("label", "fine_label") if name in columns), None)
    if image is None or label is None:
        raise ValueError(f"{origin} has columns {', '.join(columns)}: it needs 'image' and 'label'")
    return image, label


def encoded_images(table: Dataset, column: str, origin: str) -> tuple[Sequence, list[str]]:
    """The encoded images, which are all checked, and their digests.

    Those of a large table stay on the disk.
    """
    from datasets import Image
    from pyarrow.compute import struct_field
    try:
        table = table.cast_column(column, Image(decode=False))
        cells = table[column]
        files = cells if len(cells) > IN_MEMORY else [encoded(cell) for cell in cells]
        elsewhere = struct_field(table.data.column(column), "bytes").null_count  # paths of files
    except Exception as error:  # datasets and pyarrow raise many kinds
        raise ValueError(f"the image column of {origin} does not hold encoded images "
                         f"({type(error).__name__}: {error})") from error
    written = [] if elsewhere else [Path(file["filename"]) for file in table.cache_files]
    digests = check_all(len(cells), lambda row: encoded(files[row]),
                        lambda row: f"image {row} of {origin}", origin, written)
    return files, digests


def encoded(cell: dict | Encoded | None) -> Encoded | None:
    """An undecoded cell of an image column as the encoded bytes, else their path."""
    if not isinstance(cell, dict):
        return cell
    return cell["path"] if cell["bytes"] is None else cell["bytes"]


def labels_of(tables: Mapping[str, Dataset], columns: Mapping[str, str],
              origin: str) -> tuple[list[str], dict[str, Tensor]]:
    """The classes' names, and each split's labels, int64 (N,).

    A column holds whole numbers (as floats, too), with the table's own names for them or none, or
    words: then the classes are those of the training split, in alphabetical order.

    Args:
        columns: the name of each split's column.

    Raises:
        ValueError: a row without a label, a column of other values, splits with different names
            for the numbers.
    """
    values = {split: list(table[columns[split]][:]) for split, table in tables.items()}
    for split, column in values.items():
        missing = [row for row, value in enumerate(column)
                   if value is None or isinstance(value, float) and math.isnan(value)]
        if missing:
            raise ValueError(f"some labels of {origin} are missing: {len(missing)} of "
                             f"{len(column)} in the {split} split, the first in row {missing[0]}; "
                             "add them, or take the rows out")
    named = {tuple(names) for split, table in tables.items()
             if (names := getattr(table.features[columns[split]], "names", None))}
    if len(named) > 1:
        raise ValueError(f"the splits of {origin} have different names of classes, or in another "
                         f"order: {' and '.join(str(list(names)[:5]) for names in named)}")
    everything = [value for column in values.values() for value in column]
    if everything and all(isinstance(value, str) for value in everything):
        return labels_of_words({split: values[split] for split in values}, origin)
    for value in everything:
        if not isinstance(value, int | float) or int(value) != value:
            raise ValueError(f"the label column of {origin} must hold whole numbers or words, not "
                             f"{value!r} ({type(value).__name__}) beside others")
    labels = {split: torch.tensor([int(value) for value in column], dtype=torch.long)
              for split, column in values.items()}
    highest = max(map(int, everything), default=-1)
    return list(*named) or [str(number) for number in range(highest + 1)], labels


def labels_of_words(words: Mapping[str, Sequence[str]],
                    origin: str) -> tuple[list[str], dict[str, Tensor]]:
    """The classes of the training split, sorted, and each split's labels, int64 (N,).

    Raises:
        ValueError: a class that the training split does not have.
    """
    names = sorted({*words.get("train", next(iter(words.values())))})
    numbers = {name: number for number, name in enumerate(names)}
    for split, some in words.items():
        if unknown := sorted({*some} - numbers.keys()):
            raise ValueError(f"the {split} split of {origin} has classes that the training split "
                             f"or training folder does not have: {', '.join(unknown)}")
    return names, {split: torch.tensor([numbers[word] for word in some], dtype=torch.long)
                   for split, some in words.items()}
