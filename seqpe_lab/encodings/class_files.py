"""A class by its place: "package.module:Class", or "folder/file.py:Class"."""
from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_LOADED: dict[tuple[Path, int], ModuleType] = {}  # by path and time of the last change


def load_class(name: str) -> Any:
    """The object that ``name`` describes. Its module or file is executed unless it is loaded.

    A file that has changed since it was loaded is loaded again. A module is looked for where Python
    looks, and in the current folder.

    Raises:
        ValueError: no such module, file or class; says what to do.

    >>> load_class("fractions:Fraction")
    <class 'fractions.Fraction'>
    >>> load_class("fractions:Rational7")
    Traceback (most recent call last):
    ValueError: fractions has no class 'Rational7': name one that it defines at top level
    """
    place, _, attribute = name.rpartition(":")
    if not attribute or not place or place[0] == "." and not place.endswith(".py"):
        raise ValueError(f"{name!r} names no module: write package.module:Class, or "
                         "folder/file.py:Class")
    module = _of_file(Path(place)) if place.endswith(".py") else _of_name(place)
    if not hasattr(module, attribute):
        raise ValueError(f"{place} has no class {attribute!r}: name one that it defines at top "
                         "level")
    return getattr(module, attribute)


def _of_name(place: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)  # `python -m` does so, an installed command does not
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not f"{place}.".startswith(f"{error.name}."):
            raise  # the module exists, and imports another one that does not
        raise ValueError(f"no module {place!r} here or where Python looks: set PYTHONPATH, or name "
                         "the file, as in folder/file.py:Class") from error
    finally:
        sys.path.remove(here)


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {path} in {Path.cwd()}: check the path, which is relative to "
                         "the current folder")
    path = path.resolve()
    version = path, path.stat().st_mtime_ns
    if version not in _LOADED:
        spec = importlib.util.spec_from_file_location(f"encodings_of_{path.stem}", path)
        assert spec and spec.loader  # always, for a name that ends in .py
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _LOADED[version] = module
    return _LOADED[version]
