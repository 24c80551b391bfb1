"""From the name of a method and a scale to a recipe."""
from __future__ import annotations

import os
from typing import Any

from seqpe_lab.plain_text import did_you_mean
from seqpe_lab.recipes.base import SCALES, Training, with_absolute_paths
from seqpe_lab.recipes.chosen_settings import settings_of
from seqpe_lab.recipes.published_form import as_published


def make_recipe(kind: type[Training], presets: dict[str, dict], methods: dict[str, dict],
                method: str, scale: str | None, seed: int, published: bool,
                overrides: dict[str, Any]) -> Any:
    """A recipe of class ``kind``.

    Later values replace earlier ones: the class's defaults, those of the scale, the method's chosen
    settings, those of the method, of the published form if ``published``, and ``overrides``. With
    another encoding than the method's, the run goes by the encoding's name: the method's own name
    and options would say what it is not. The name of an encoding, or of a class as
    "package.module:Class" or "folder/file.py:Class", is a method, too.
    """
    scale = scale or default_scale()
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}: choose from {', '.join(SCALES)}"
                         + did_you_mean(scale, SCALES))
    if method not in methods:
        _check_encoding(method, methods)
        overrides = {"encoding": method} | overrides
    row = methods.get(method, {})
    encoding = overrides.get("encoding", row.get("encoding", "seqpe"))
    if encoding != row.get("encoding", "seqpe"):
        method = run_name(str(encoding))
        row = {} if encoding == "seqpe" else {"encoding_options": {}}
    values = presets[scale] | settings_of(kind.task, method, scale) | row
    if published:
        theirs = as_published(kind.task, encoding, scale)
        options = values.get("encoding_options", {}) | theirs.get("encoding_options", {})
        values = values | theirs | {"encoding_options": options}
    values = values | with_absolute_paths(overrides)
    way = values.get("position_sampling", "consecutive")
    idle = set() if encoding == "seqpe" else {"alpha", "beta"}  # the losses belong to SeqPE
    if way in ("random", "skips") or way == "consecutive" and encoding != "seqpe":
        idle.add("shifted")
    for name in sorted(idle):
        if overrides.get(name):
            raise ValueError(f"{name}={overrides[name]} has no effect with encoding {encoding!r} "
                             f"and position_sampling={way!r}: leave it out")
    values = values | dict.fromkeys(idle, 0.0)
    recipe = kind(method=method, scale=scale, seed=seed, **values)
    from seqpe_lab.encodings import unknown_options  # torch: a recipe is read before it is needed
    if wrong := unknown_options(recipe.encoding, recipe.encoding_options):
        raise ValueError(wrong)
    return recipe


def run_name(method: str) -> str:
    """What a run is called: a method's name, and of an encoding in a file that of its class.

    >>> run_name("rope-1e4"), run_name("my_package.my_pe:MyPE")
    ('rope-1e4', 'MyPE')
    """
    return method.rpartition(":")[2]


def _check_encoding(method: str, methods: dict[str, dict]) -> None:
    """Refuse a name that is neither a method nor an encoding, nor the place of a class."""
    from seqpe_lab.encodings import ENCODINGS  # torch
    if ":" not in method and (method == "seqpe" or method not in ENCODINGS):
        others = [name for name in ENCODINGS if name not in methods and name != "seqpe"]
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(methods)}; other "
                         f"encodings: {', '.join(others)}; or name a class of your own as "
                         "package.module:Class or folder/file.py:Class"
                         + did_you_mean(method, [*methods, *others]))


def default_scale() -> str:
    """The environment variable SEQPE_SCALE, else "small"."""
    return os.environ.get("SEQPE_SCALE") or "small"
