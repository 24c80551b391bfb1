"""Slow imports that others make on our behalf, put off until somebody asks for what they give."""
from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def postpone(name: str, *functions: str) -> None:
    """Let ``from name import function`` cost nothing: the module is imported with the first call of a function.

    Args:
        name: a module that is not imported yet; else, or if it is not installed, nothing happens.
        functions: all that is taken from it.

    >>> postpone("this_is_not_installed", "f")
    >>> "this_is_not_installed" in sys.modules
    False
    """
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
        return
    standing_in = ModuleType(name, "stands for a module that is imported when it is first used")
    standing_in.__spec__ = spec

    def later(function: str):
        def call(*arguments, **options):
            if sys.modules.get(name) is standing_in:
                del sys.modules[name]
            return getattr(importlib.import_module(name), function)(*arguments, **options)
        return call
    for function in functions:
        setattr(standing_in, function, later(function))
    sys.modules[name] = standing_in
