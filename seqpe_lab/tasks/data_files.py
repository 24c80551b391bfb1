"""Which files of a folder are data, and which split each of them belongs to.

One table of names serves texts, questions, books and images. A folder (``train/``, ``val/``,
``test_set/``), a file (``wiki.valid.txt``) or the hub's file names
(``train-00000-of-00001.parquet``) name a split; nothing is guessed from what a file holds.
"""
from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SPLIT_NAMES = {"train": ("train", "training"),
               "validation": ("validation", "valid", "val", "dev", "devel", "development"),
               "test": ("test", "testing")}
WHOLE = "whole"  # the split of files none of which names one
_SPLIT = {word: split for split, words in SPLIT_NAMES.items() for word in words}
# words that stand beside a split's name: test_set, train-00000-of-00001, images_val
_BESIDE = {"set", "split", "data", "image", "images", "img", "imgs", "text", "texts", "file",
           "files", "tokens", "raw", "rows", "part", "of"}
# names of splits elsewhere, which could be taken for one of ours or for a class
_OTHERS = re.compile(r"eval|evaluation|holdout|heldout|unlabell?ed|unsupervised|tests|"
                     r"(train|test|valid|val|dev)(a|b|train|val|dev|test)")
# of operating systems, besides hidden files
_LEFTOVERS = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir",
              "system volume information", "lost+found"}


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or was left there by a system, an editor or Jupyter.

    >>> [is_leftover(name) for name in (".ipynb_checkpoints", "._a.txt", "Thumbs.db", "a.txt")]
    [True, True, True, False]
    """
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in _LEFTOVERS


def ending(file: Path) -> str:
    """The ending of a file's name in lower case, without that of its compression.

    >>> ending(Path("A.TXT")), ending(Path("rows.jsonl.gz"))
    ('.txt', '.jsonl')
    """
    return Path(file.name.lower().removesuffix(".gz")).suffix


def data_files(path: Path, endings: Sequence[str]) -> list[Path]:
    """The files with one of the endings in a folder, sorted; a file itself if it has one.

    Leftovers are skipped. Links are followed, except to a folder that they lie in.

    Raises:
        FileNotFoundError: a link to a file that is not there.
    """
    if path.is_dir():
        return sorted(_files_below(path, frozenset(), endings))
    return [path] if ending(path) in endings else []


def _files_below(folder: Path, above: frozenset[Path], endings: Sequence[str]) -> Iterator[Path]:
    if (real := folder.resolve()) in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if is_leftover(entry.name):
                continue
            if entry.is_dir():
                yield from _files_below(path, above | {real}, endings)
            elif ending(path) in endings:
                if not entry.is_file():
                    raise FileNotFoundError(f"{path} is a link to a file that is not there: "
                                            "remove it, or bring the file back")
                yield path


# --- splits --------------------------------------------------------------------------------------

def named_split(name: str) -> str | None:
    """The split that a folder or a file is named after, or None.

    The whole name, or a part of it between dots, begins or ends with the split's; numbers and words
    such as "set" do not count.

    Raises:
        ValueError: a name of two splits, or of a split that is none of ours.

    >>> named_split("training_set"), named_split("images_val"), named_split("wiki.test.raw")
    ('train', 'validation', 'test')
    >>> named_split("the_test_of_time.txt"), named_split("greatest.txt")
    (None, None)
    """
    named, others = set(), False
    for part in name.lower().split("."):
        words = [_short(word) for word in re.findall(r"[^\W\d_]+", part)]
        telling = [word for word in words if word not in _BESIDE]
        named |= {_SPLIT[word] for word in telling[:1] + telling[-1:] if word in _SPLIT}
        others |= len(telling) == 1 and bool(_OTHERS.fullmatch(telling[0]))
    if others or len(named) > 1:
        raise ValueError(
            f"{name!r} looks like the name of a split, but is none of ours: name files and folders "
            + ", ".join(f"{split} ({', '.join(words[1:])})" for split, words in SPLIT_NAMES.items())
            + ", or after what is in them")
    return named.pop() if named else None


def _short(word: str) -> str:
    """"trainset" -> "train"."""
    short = re.sub("(set|split|data)$", "", word)
    return short if short in _SPLIT else word


def split_place(names: Sequence[str], file_name: bool = True) -> tuple[str | None, int]:
    """The split of a file, and the number of the name that says so, counted from the outermost.

    Args:
        names: of its folders, below the source's folder, and its own.
        file_name: whether its own counts.
    """
    for place, name in enumerate(names if file_name else names[:-1]):
        if split := named_split(name):
            return split, place
    return None, -1


def by_split(root: Path, files: Sequence[Path], file_names: bool = True) -> dict[str, list[Path]]:
    """Files by the split that their folders, or their own names, name.

    Args:
        root: the folder of the source.
        file_names: whether the names of files count, too.

    Returns:
        Files of some of the three splits, or all of them as :data:`WHOLE`. Beside files of all
        three splits, others are left out with a warning.

    Raises:
        ValueError: only some of the files name a split; a name as :func:`named_split` refuses it.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        names = file.relative_to(root).parts
        found.setdefault(split_place(names, file_names)[0] or WHOLE, []).append(file)
    if WHOLE in found and len(found) > 1:
        rest = found.pop(WHOLE)
        shown = ", ".join(str(file.relative_to(root)) for file in rest[:3])
        shown += f" and {len(rest) - 3} more" if len(rest) > 3 else ""
        if len(found) < len(SPLIT_NAMES):
            one = next(iter(found.values()))[0].relative_to(root)
            raise ValueError(f"{root} has files of a split ({one}) beside files of none ({shown}): "
                             "name all of them or their folders train, validation or test, or none")
        warnings.warn(f"{root}: {shown} belong to none of the three splits and are left out",
                      stacklevel=3)
    return {split: found[split] for split in (*SPLIT_NAMES, WHOLE) if split in found}


def known_splits(splits: Mapping[str, T], origin: str) -> dict[str, T]:
    """The splits of a data set of the hub under our names; others are left out with a warning.

    Raises:
        ValueError: two that are one of ours, such as "validation_matched" and
            "validation_mismatched".
    """
    found: dict[str, T] = {}
    for name, rows in splits.items():
        try:
            split = named_split(name)
        except ValueError:
            split = None
        if split is None:
            warnings.warn(f"the split {name!r} of {origin} is left out", stacklevel=3)
        elif split in found:
            raise ValueError(f"{origin} has two splits for {split}, {name!r} is one of them: "
                             "download it and pass a folder with the one that you want")
        else:
            found[split] = rows
    return found
