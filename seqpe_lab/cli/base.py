"""What all commands share: the program they belong to, its exit status, and checks of options."""
from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, Token

PROGRAM = "python -m seqpe_lab"

app = App(name=PROGRAM, help="A lab for position encoding in Transformers.", version_flags=(),
          help_format="plaintext", result_action="return_value",
          suppress_keyboard_interrupt=False,
          default_parameter=Parameter(negative=(), show_default=False))
Several = Parameter(consume_multiple=(1, None))


def _whole_number(kind: type[int], tokens: Sequence[Token]) -> int:
    """Strict: cyclopts by itself takes 16.5 as 16."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


Whole = Annotated[int, Parameter(converter=_whole_number)]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; expected errors become one line and exit status 2.

    A training that a signal stopped has status 75: the same command goes on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments:
            commands = ", ".join(name for name in app if not name.startswith("-"))
            raise ValueError(f"name a command: {commands} (see {PROGRAM} --help)")
        if any(re.fullmatch(r"(--[\w-]+=)?", argument) for argument in arguments):
            raise ValueError("an argument is empty, perhaps a variable of the shell that is not "
                             f"set: {' '.join(map(repr, arguments))}")
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        command = " ".join((PROGRAM, *(error.command_chain or ()), "--help"))
        print(f"seqpe_lab: {' '.join(str(error).split())} (see {command})", file=sys.stderr)
        return 2
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"seqpe_lab: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        print("seqpe_lab: interrupted; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


def check_counts(smallest: int = 1, **options: int | Sequence[int] | None) -> None:
    """Refuse numbers that are too small, and a number that is named twice.

    Args:
        options: {option, without its dashes: the number or numbers given, or None}.

    Raises:
        ValueError: names the option as it was typed.

    >>> check_counts(lengths=[64, 0])
    Traceback (most recent call last):
    ValueError: --lengths must be at least 1, got 0
    """
    for name, given in options.items():
        numbers = [] if given is None else [given] if isinstance(given, int) else given
        for number in numbers:
            if number < smallest:
                raise ValueError(f"--{name} must be at least {smallest}, got {number}")
            if numbers.count(number) > 1:
                raise ValueError(f"--{name} names {number} twice")
