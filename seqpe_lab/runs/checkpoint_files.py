"""A checkpoint of a run is a folder: model.safetensors, optimizer.safetensors and state.json."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from seqpe_lab.atomic_files import flush, sha256
from seqpe_lab.runs.run_files import State, checked, write_record

WEIGHTS = ("model.safetensors", "optimizer.safetensors")


def write_checkpoint(target: Path, model: dict[str, Tensor], optimizer: dict[str, Tensor],
                     state: dict, check: Callable[[], object]) -> None:
    """Write a checkpoint under another name, then rename it.

    Args:
        state: values of :class:`~seqpe_lab.runs.run_files.State`, without the weights' hashes.
        check: called before the renaming; if it raises an error, there is no checkpoint.

    Raises:
        OSError, SafetensorError: for example a full disk.
    """
    folder, partial = target.parent, target.with_name(f".partial-{target.name}")
    check()
    for leftover in folder.glob(".*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir()
        for name, tensors in zip(WEIGHTS, (model, optimizer)):
            tensors = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
            save_file(tensors, partial / name)
        hashes = {name: sha256(partial / name) for name in WEIGHTS}
        write_record(partial / "state.json", State, state | {"sha256": hashes})
        for path in partial.iterdir():
            flush(path)
        check()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        flush(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_checkpoint(path: Path) -> None:
    """Remove it; a kill meanwhile leaves no half of it under its name."""
    aside = path.with_name(f".removed-{path.name}")
    os.replace(path, aside)
    shutil.rmtree(aside)


def read_state(path: Path, recipe: str) -> dict:
    """The values of its state.json.

    Args:
        recipe: the digest of the run's recipe.

    Raises:
        ValueError: truncated, altered, unreadable, of another step or recipe.
    """
    try:
        values = checked(path / "state.json", State)
    except (OSError, ValueError) as error:
        raise ValueError(f"its state.json cannot be read ({error})") from error
    state = State(**values).model_dump()
    if path.name != f"step-{state['step']:07d}":
        raise ValueError(f"its state.json is of step {state['step']}")
    if state["recipe"] != recipe:
        raise ValueError(f"it belongs to another recipe ({state['recipe']}, this is {recipe})")
    return state


def read_weights(path: Path, state: dict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(model, optimizer), after checking that the files are what was written.

    Raises:
        ValueError: truncated, altered or missing.
    """
    for name in WEIGHTS:
        if not (path / name).exists():
            raise ValueError(f"{name} is missing")
        if sha256(path / name) != state["sha256"].get(name):
            raise ValueError(f"{name} is not what was written: truncated or altered")
    model, optimizer = (load_file(path / name) for name in WEIGHTS)
    return model, optimizer
