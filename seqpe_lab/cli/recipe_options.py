"""The recipe that the options of ``train`` ask for; options that would do nothing are refused."""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_origin

from seqpe_lab import recipes
from seqpe_lab.cli.task_table import TASKS

FLAGS = {"method": "--encoding", "scale": "--scale", "seed": "--seed",
         "as_published": "--as-published"}  # options that are values of a recipe


def asked_values(task: str, flags: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Values of a recipe from the options of ``train`` that were given.

    Args:
        flags: {name in ``FLAGS``: its value, or None or False if it was not given}.
        settings: of ``--set``.

    Raises:
        ValueError: the same thing is asked for twice; a setting that is none.
    """
    values = {name: value for name, value in flags.items()
              if value is not None and value is not False}  # a seed of 0 is given
    chosen = settings_of_recipe(task, settings)
    if twice := values.keys() & chosen.keys():
        raise ValueError(f"{', '.join(sorted(twice))}: given both as an option and with --set")
    return values | chosen


def settings_of_recipe(task: str, settings: list[str]) -> dict[str, Any]:
    """Fields of a recipe from FIELD=VALUE: JSON, but for words and paths the text itself.

    >>> settings_of_recipe("lm", ["source=2024", "seed=3", "eval_lens=[64, 128]"])
    {'source': '2024', 'seed': 3, 'eval_lens': [64, 128]}
    """
    def is_word(name: str) -> bool:
        field = TASKS[task].recipe.model_fields.get(name)
        return field is not None and (field.annotation is str
                                      or get_origin(field.annotation) is Literal)
    return _values(settings, is_word)


def settings_of_encoding(settings: list[str]) -> dict[str, Any]:
    """Options of an encoding from FIELD=VALUE: JSON, else the text itself.

    >>> settings_of_encoding(["factor=4", "pairing=half"])
    {'factor': 4, 'pairing': 'half'}
    """
    return _values(settings, lambda name: False)


def _values(settings: list[str], is_word: Callable[[str], bool]) -> dict[str, Any]:
    """{field: value} of FIELD=VALUE; a word is not read as JSON, unless it is quoted."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {setting!r}")
        if name in values:
            raise ValueError(f"--set names {name} twice: {values[name]!r} and {text!r}")
        value: Any = text
        if not is_word(name) or text.startswith('"'):
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                pass  # the recipe or the encoding says what it must be
        values[name] = value
    return values


def asked_recipe(task: str, values: dict[str, Any], cpu: bool = False) -> recipes.Training:
    """The recipe of some :func:`asked_values`.

    Raises:
        ValueError: an unknown or unsuitable value, or one that has no effect on this run.
    """
    try:
        recipe = _make(task, values)
    except ValueError as error:  # of a field that is named first, as FIELD=VALUE
        field = str(error).partition("=")[0]
        raise ValueError(f"--set {error}" if field in values else str(error)) from error
    if "encoding" in values and recipe.method != values.get("method", recipe.method):
        raise ValueError(f"--set encoding={recipe.encoding} is not the encoding of the method "
                         f"{values['method']}: leave out one of --encoding and --set encoding")
    idle = recipes.without_effect(recipe)
    if cpu:
        idle["precision"] = "with --cpu a run computes in float32"
    for name, value in values.items():
        if name in idle and value != getattr(_make(task, _without(values, name)), name):
            raise ValueError(f"--set {name}={value_text(value)} has no effect: {idle[name]}; "
                             "leave it out")
    if values.get("as_published") and _make(task, _without(values, "as_published")) == recipe:
        raise ValueError(f"--as-published has no effect: the authors' code trains {recipe.method} "
                         "at this scale as the paper says; leave it out")
    return recipe


def refuse_other_recipe(folder: str, found: recipes.Training, asked: recipes.Training,
                        values: dict[str, Any]) -> None:
    """Raise ValueError if a folder's recipe is not the one that the options ask for."""
    if asked == found:  # the same command again resumes
        return
    options = dict.fromkeys(FLAGS.get(name, "--set") for name in values)
    other = [f"{name} is {value_text(value)} there, {value_text(dict(asked)[name])} here"
             for name, value in found if value != dict(asked)[name]]
    shown = "; ".join(other[:4]) + (f"; and {len(other) - 4} more" if len(other) > 4 else "")
    raise ValueError(f"{folder} holds a run of another recipe than that of {', '.join(options)} "
                     f"({shown}): leave them out, or choose another folder")


def _make(task: str, values: dict[str, Any]) -> recipes.Training:
    if task != "qa" or "base" not in values:
        return recipes.MAKERS[task](**values)
    from seqpe_lab.runs import Run, runs_folder
    base = str(values["base"])  # its recipe describes the model
    values = values | {"base": Run.open(runs_folder() / base).recipe}
    return recipes.question_answering(**values).changed(base=base)


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in values.items() if other != name}


def value_text(value: Any) -> str:
    """A recipe's value as ``--set`` takes it.

    >>> value_text("a.txt"), value_text((64, 128)), value_text(0.1)
    ('a.txt', '[64,128]', '0.1')
    """
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
