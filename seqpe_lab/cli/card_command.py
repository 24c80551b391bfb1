"""The command that examines one encoding: card."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seqpe_lab.cli.base import Several, app
from seqpe_lab.cli.recipe_options import settings_of_encoding
from seqpe_lab.recipes.base import ScaleName


class FailedCheckError(RuntimeError):
    """An encoding does not do what every encoding must."""
    exit_status = 1


@app.command
def card(encoding: str, /, *,
         settings: Annotated[list[str] | None, Several, Parameter(name="--set")] = None,
         skip_long: bool = False, train: ScaleName | None = None, folder: str | None = None,
         as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Print the report card of an encoding: what must hold, how it behaves, what it costs.

    It takes seconds on the CPU, or minutes if the encoding is slow at 16,384 tokens. The exit
    status is 1 if something that must hold does not.

    Args:
        encoding: A registered name, or a class: module:Class or file.py:Class.
        settings: FIELD=VALUE, as often as needed: options of the encoding, values in JSON.
        skip_long: Leave out time and memory at 16,384 tokens.
        train: Also train a language model with it, and one with NoPE, at this scale.
        folder: Also write a page with pictures there, and card.json.
        as_json: Print JSON, for programs.
    """
    from seqpe_lab.devices import leave_a_core
    from seqpe_lab.report_card import report_card
    from seqpe_lab.report_card.costs import READ, TRAINED
    leave_a_core()
    found = report_card(encoding, settings_of_encoding(settings or []),
                        lengths=(TRAINED,) if skip_long else (TRAINED, READ), train=train)
    print(json.dumps(found.as_dict(), indent=1) if as_json else found)
    if folder is not None:
        from seqpe_lab.report_card.card_page import write_page
        page = write_page(found, Path(folder))
        if not as_json:
            print(f"\npage: {page}")
    if found.failures:
        raise FailedCheckError(f"{found.title} {found.verdict()}")
