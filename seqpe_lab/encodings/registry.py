"""From a name to an encoding for a model: its class, its options, its parameters."""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from seqpe_lab.encodings.base import ENCODINGS, OF_SHAPE, ModelShape, PositionEncoding, subclass
from seqpe_lab.encodings.class_files import load_class
from seqpe_lab.plain_text import did_you_mean


def make_encoding(name: str, *, d_model: int, heads: int, layers: int,
                  train_shape: int | tuple[int, ...], dims: int = 1, prefix: int = 0,
                  **options: Any) -> PositionEncoding:
    """Build the encoding called ``name`` for a model of this shape.

    Args:
        name: one of ``ENCODINGS``, or "package.module:Class", or "folder/file.py:Class".
        d_model, heads, layers: of the model.
        train_shape: tokens of a training sequence, or (rows, columns) of the training grid.
        dims: n, dimensions of a position, if ``train_shape`` is one number for all of them.
        prefix: number of tokens before the others that have no position ([CLS]).
        options: of the encoding, as its ``for_model`` takes them.

    Raises:
        ValueError: an unknown name (with the choices), heads that do not divide d_model, or a model
            that the encoding does not fit, such as a grid for ALiBi.
        TypeError: an option that the encoding does not have (with those it has).

    >>> make_encoding("rope", d_model=8, heads=2, layers=1, train_shape=16, base=1e6)
    RoPE()
    >>> make_encoding("rotary", d_model=8, heads=2, layers=1, train_shape=16)
    Traceback (most recent call last):
    ValueError: unknown encoding 'rotary': choose from none, sinusoidal, learned, alibi, ...
    """
    encoding = encoding_class(name)
    if wrong := unknown_options(name, options):
        raise TypeError(wrong)
    if isinstance(train_shape, Sequence):
        sizes = tuple(train_shape)
        if dims not in (1, len(sizes)):
            raise ValueError(f"train_shape={sizes} has {len(sizes)} dimensions but dims={dims}")
    else:
        sizes = (train_shape,) * dims
    return encoding.for_model(ModelShape(d_model, heads, layers, sizes, prefix), **options)


def encoding_class(name: str) -> type[PositionEncoding]:
    """The class that is registered under a name, or that "module:Class" or "file.py:Class" names.

    Raises:
        ValueError: an unknown name, with the choices; a module, file or class that is not there.
        TypeError: not a subclass of :class:`PositionEncoding`.
    """
    if ":" in name:
        return subclass(load_class(name))
    if name not in ENCODINGS:
        raise ValueError(f"unknown encoding {name!r}: choose from {', '.join(ENCODINGS)}; name a "
                         "class of your own as package.module:Class or folder/file.py:Class; under "
                         "a name it must first be registered in the same program "
                         f"(seqpe_lab.register){did_you_mean(name, ENCODINGS)}")
    return ENCODINGS[name]


def unknown_options(name: str, options: Iterable[str]) -> str:
    """What is wrong with the names of a method's options; empty if nothing is.

    >>> unknown_options("rope", ["base", "bse"])
    "encoding 'rope' has no option bse: it has base, pairing. Did you mean 'base'?"
    """
    known = option_names(encoding_class(name))
    unknown = sorted(set(options) - known)
    return (f"encoding {name!r} has no option {', '.join(unknown)}: it has "
            f"{', '.join(sorted(known)) or 'none'}"
            + did_you_mean(unknown[0], known)) if unknown else ""


def option_names(encoding: type[PositionEncoding]) -> set[str]:
    """The names of an encoding's options.

    >>> sorted(option_names(ENCODINGS["rope"]))
    ['base', 'pairing']
    """
    inherited = encoding.for_model.__qualname__ == "PositionEncoding.for_model"
    parameters = inspect.signature(encoding if inherited else encoding.for_model).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {name for name, parameter in parameters.items() if parameter.kind in named}
    return names - {*OF_SHAPE} if inherited else names - {"shape"}
