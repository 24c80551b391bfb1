"""The state of an explorer: a frozen dataclass whose fields say how a reader sets them.

Each field is made by one of the functions below from its default, its label, one sentence about it,
and what its kind needs. A panel and the static page make a control of it, and a link holds the
values that are not the default ones.

>>> @dataclasses.dataclass(frozen=True)
... class State:
...     base: int = number(10, "base b", "how many digits there are", min=2, max=16)
...     view: str = choice("near", "view", "what is drawn", {"near": "near by", "far": "far away"})
>>> to_link(State(base=2))
'base=2'
>>> from_link(State, "base=2&view=far")
State(base=2, view='far')
>>> from_link(State, "base=1")
Traceback (most recent call last):
ValueError: base b is 1: choose 2 to 16
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode


def _kind(kind: str) -> Callable[..., Any]:
    def field(default: Any, label: str, help: str, options: Any = None, **about: Any) -> Any:
        """A field; ``options`` are {value: name}, a list, or a function that returns one of them.

        Args:
            min, max, step: of a number, which may be functions; steps are 1 by default.
            play: True adds a play button.
            when: {field: values of it}, all of which must hold for the control to be visible.
        """
        about |= {} if options is None else {"options": options}
        return dataclasses.field(default=default, metadata=dict(kind=kind, label=label, help=help,
                                                                step=1) | about)
    return field


choice = _kind("choice")  # one of several values
scale = _kind("scale")  # one of several values in their order, on a slider
number = _kind("number")  # on a slider with a box to type it
text = _kind("text")  # a line; ``compute`` raises a ValueError for what it cannot read
picture = _kind("picture")  # a drawing of 8 x 8 grey pixels as 64 hexadecimal digits, or ""
flag = _kind("flag")  # on or off
several = _kind("several")  # any number of several values
span = _kind("span")  # the first and the last of some values in their order


def describe(state: type) -> list[dict[str, Any]]:
    """Each field as plain values: name, default, kind, label, help, options as [value, name]."""
    described = []
    for field in dataclasses.fields(state):
        about = {"name": field.name, "default": as_plain(field.default)} | {
            name: part() if callable(part) else part for name, part in field.metadata.items()}
        if "options" in about:
            options = about["options"]
            if not isinstance(options, Mapping):
                options = {value: f"{value:,}" if isinstance(value, int) else str(value)
                           for value in options}
            about["options"] = [list(pair) for pair in options.items()]
        described.append(about)
    return described


def as_plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def make(state: type, values: Mapping[str, Any]) -> Any:
    """A state from plain values; those that are missing have their defaults.

    Raises:
        ValueError: an unknown field, or a value that is not allowed; says which are.
    """
    fields = {field["name"]: field for field in describe(state)}
    if unknown := set(values) - set(fields):
        raise ValueError(f"no control {min(unknown)!r}: there are {', '.join(fields)}")
    return state(**{name: _checked(value, fields[name]) for name, value in values.items()})


def _checked(value: Any, field: Mapping[str, Any]) -> Any:
    kind, label = field["kind"], field["label"]
    if kind in ("several", "span"):
        value = tuple(value)
    if kind == "number" and not field["min"] <= value <= field["max"]:
        raise ValueError(f"{label} is {value}: choose {field['min']} to {field['max']}")
    if "options" in field:
        known = [option for option, _ in field["options"]]
        for chosen in value if isinstance(value, tuple) else (value,):
            if chosen not in known:
                raise ValueError(f"{label} is {chosen!r}: choose from "
                                 f"{', '.join(map(str, known))}")
    if kind == "span" and (len(value) != 2 or known.index(value[0]) > known.index(value[1])):
        raise ValueError(f"{label} is {value}: choose a first and a last one of {known}")
    return value


def to_link(state: Any) -> str:
    """The fields that differ from their defaults, as a query string."""
    changed = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)
               if getattr(state, field.name) != field.default}
    return urlencode({name: ",".join(map(str, value)) if isinstance(value, tuple) else
                      int(value) if isinstance(value, bool) else value
                      for name, value in changed.items()})


def from_link(state: type, link: str) -> Any:
    """The state of a query string, as :func:`to_link` and the pages' links have it."""
    fields = {field["name"]: field for field in describe(state)}
    pairs = dict(parse_qsl(link, keep_blank_values=True))
    return make(state, {name: _read(text, fields[name]) if name in fields else text
                        for name, text in pairs.items()})


def _read(text: str, field: Mapping[str, Any]) -> Any:
    kind = field["kind"]
    if kind == "flag":
        return text == "1"
    if kind == "number":
        try:
            return type(field["default"])(float(text))
        except ValueError:
            raise ValueError(f"{field['label']} is {text!r}: choose {field['min']} to "
                             f"{field['max']}") from None
    if "options" not in field:
        return text
    known = {str(option): option for option, _ in field["options"]}
    parts = tuple(known.get(part, part) for part in text.split(",") if part)
    return parts if kind in ("several", "span") else known.get(text, text)
