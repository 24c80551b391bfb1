"""Figures and texts as templates, filled with numbers here and, by the same rules, in fill.js.

A template is made of plain dicts, lists and strings:

- ``"@name"`` is the value of that name, of any type; ``"@name.part.0"`` goes into it, and
  ``"@runs.*.name"`` is a list: that of each run;
- ``"{name}"`` and ``"{name:,.2f}"`` inside a text are formatted (``%{x}`` is left to plotly);
  formats are ``,`` ``.2f`` ``,.2f`` ``.1%`` and ``.4g``;
- a dict with ``"when": "name"`` is left out if the value is false, or replaced by its ``"else"``;
- a dict with ``"each": "name"`` is repeated for every element of a list. The parts of an element
  are names there, for ``when`` too, and so are ``number`` (1, 2, ...) and ``nth`` ("", 2, 3, ...,
  as plotly numbers axes). Under a key that holds ``{nth}`` the repeated dicts have a key each;
- ``"value"`` in such a dict stands for it, where it is no dict itself; with ``"each"`` a list of
  values stands for several;
- a dict with ``"join": [...]`` is one text, its parts separated by ``"by"`` (default: "").

>>> heights = {"runs": [{"name": "a", "y": [1, 2]}, {"name": "b", "y": [3]}], "mean": -1234.5}
>>> fill({"title": "mean {mean:,.1f}",
...       "data": [{"each": "runs", "type": "scatter", "y": "@y", "xaxis": "x{nth}"}],
...       "words": {"join": ["runs: ", {"each": "runs", "value": "{name} "},
...                          {"when": "more", "value": "and more"}]}}, heights, {"more": False})
{'title': 'mean −1,234.5', 'data': [{'type': 'scatter', 'y': [1, 2], 'xaxis': 'x'},
 {'type': 'scatter', 'y': [3], 'xaxis': 'x2'}], 'words': 'runs: a b '}
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PLACE = re.compile(r"(?<!%)\{([A-Za-z][\w.]*)(?::([^{}]*))?\}")
RULES = ("when", "else", "each", "value")


def fill(template: Any, *scopes: Any) -> Any:
    """A template with the numbers of ``scopes`` in it: mappings or objects, the first one first.

    Raises:
        ValueError: a name that no scope has.
    """
    if isinstance(template, str):
        if template.startswith("@"):
            return look_up(template[1:], scopes)
        return PLACE.sub(lambda at: as_text(look_up(at[1], scopes), at[2] or ""), template)
    if isinstance(template, (list, tuple)):
        return [filled for part in template for filled, _ in _repeated(part, scopes)]
    if not isinstance(template, Mapping):
        return template
    if "join" in template:
        return template.get("by", "").join(map(str, fill(template["join"], *scopes)))
    return {fill(key, *inner): filled for key, part in template.items() if key not in RULES
            for filled, inner in _repeated(part, scopes)}


def _repeated(part: Any, scopes: tuple) -> Iterator[tuple[Any, tuple]]:
    """A part as often as its rules say, filled, each with the scopes of its names."""
    rules = part if isinstance(part, Mapping) else {}
    around: Sequence[tuple] = [scopes]
    if "each" in rules:
        around = [(item, {"item": item, "number": number, "nth": number if number > 1 else ""},
                   *scopes) for number, item in enumerate(look_up(rules["each"], scopes), start=1)]
    for inner in around:
        if "when" not in rules or truth(look_up(rules["when"], inner)):
            if "value" in rules:
                some = "each" in rules and isinstance(rules["value"], list)
                for value in rules["value"] if some else [rules["value"]]:
                    yield from _repeated(value, inner)
            else:
                yield fill(part, *inner), inner
        elif "else" in rules:
            yield from _repeated(rules["else"], inner)


def truth(value: Any) -> bool:
    """Whether there is something: of arrays, an element."""
    return bool(len(value)) if hasattr(value, "__len__") else bool(value)


def look_up(path: str, scopes: Sequence[Any]) -> Any:
    """The value of a name such as ``runs.0.mean``, in the first scope that has it."""
    first, *rest = path.split(".")
    for scope in scopes:
        if first in scope if isinstance(scope, Mapping) else hasattr(scope, first):
            return follow(scope, [first, *rest])
    raise ValueError(f"the template asks for {path!r}, which is not among the numbers")


def follow(value: Any, names: Sequence[str]) -> Any:
    """A part of a part of a mapping, an object or a sequence; ``*`` is each element of it."""
    for place, name in enumerate(names):
        if name == "*":
            return [follow(element, names[place + 1:]) for element in value]
        if isinstance(value, Mapping):
            value = value[name]
        else:
            value = value[int(name)] if name.isdigit() else getattr(value, name)
    return value


def as_text(value: Any, form: str) -> str:
    """A formatted value; numbers with a real minus sign, and none before zero.

    >>> as_text(-0.004, ".2f"), as_text(-2, ""), as_text("a-b", "")
    ('0.00', '−2', 'a-b')
    """
    if isinstance(value, str):
        return value
    text = format(value, form)
    if text.startswith("-") and not any(digit in text for digit in "123456789"):
        text = text[1:]
    return text.replace("-", "−")
