"""A run is a folder: recipe.json, metrics.jsonl, checkpoints/, results.json.

Nothing in it is ever half written: files and checkpoint folders are written under another name,
flushed, and renamed, so a run that is killed at any moment can be read and resumed. Checkpoints are
safetensors only (never pickle) and carry the sha256 of their files.
"""
from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TextIO

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqpe_lab.atomic_files import (flush, last_json_line, lock, read_json_lines, sha256,
                                    write_atomically)
from seqpe_lab.package_data import CLONE
from seqpe_lab.recipes import Training

KEEP_LAST = 2  # so many checkpoints are kept, besides the best
# fields of metrics.jsonl that differ from run to run (throughput.py); a resumed run repeats others
SPEED_AND_MEMORY = ("tokens_per_second", "images_per_second", "peak_gib", "matrix_share")


class CheckpointError(RuntimeError):
    """A checkpoint that is broken or of another run; the message names the previous one."""


class RunningError(RuntimeError):
    """Another process is training in the folder; the message says which."""


def runs_folder() -> Path:
    """Where runs are kept: $SEQPE_RUNS, else ``runs`` in the working directory.

    Anywhere within a clone of the lab it is the ``runs`` of the clone's root, so that notebooks
    and the command line share their runs.
    """
    if chosen := os.environ.get("SEQPE_RUNS"):
        return Path(chosen).expanduser()
    here = Path.cwd()
    return (CLONE if CLONE and here.is_relative_to(CLONE) else here) / "runs"


class Run:
    """One run's folder.

    Args:
        recipe: all settings of the run.
        folder: by default ``runs/<scale>/<method>-seed<seed>-<digest>``, with ``qa-`` before a run
            on questions.
    """

    def __init__(self, recipe: Training, folder: str | Path | None = None):
        self.recipe = recipe
        name = f"{recipe.method}-seed{recipe.seed}-{recipe.digest()}"
        default = runs_folder() / recipe.scale / f"{'qa-' * (recipe.task == 'qa')}{name}"
        self.folder = Path(folder) if folder else default

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open an existing run; raises FileNotFoundError or ValueError if there is none."""
        path = Path(folder) / "recipe.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder} is no run: it holds no recipe.json")
        return cls(Training.from_json(path.read_text(encoding="utf-8")), folder)

    def create(self) -> None:
        """Make the folder, or check that it holds this very recipe."""
        path = self.folder / "recipe.json"
        if not path.exists():
            (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.recipe.to_json())
        elif Training.from_json(path.read_text(encoding="utf-8")) != self.recipe:
            raise ValueError(f"{self.folder} holds a run of another recipe: "
                             "choose another folder or delete it")

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes from training in this folder, until this process ends in any way.

        Raises:
            RunningError: another process trains there; two would overwrite each other's files.
        """
        with open(self.folder / "lock", "a+", encoding="utf-8") as file:
            for _ in range(10):  # a process that only looks holds the lock for a moment
                if lock(file, exclusive=True):
                    break
                time.sleep(0.05)
            else:
                raise RunningError(f"{self.folder} is being trained by {_holder(file)}: "
                                   "wait for it, or stop it first")
            file.truncate(0)
            file.write(_this_process())
            file.flush()
            claimed = self.folder.resolve()
            _claims.add(claimed)
            try:
                yield
            finally:
                _claims.discard(claimed)

    @property
    def trainer(self) -> str | None:
        """The process that trains here now, "process 4711 on node17"; None also without locks."""
        if self.folder.resolve() in _claims:  # to open and close our own lock file would unlock it
            return _this_process()
        try:
            with open(self.folder / "lock", encoding="utf-8") as file:
                return None if lock(file, exclusive=False) else _holder(file)
        except FileNotFoundError:
            return None

    @property
    def state(self) -> str:
        """"new", "running" (a process trains in the folder now), "interrupted" (it can go on from a
        checkpoint), or "finished"."""
        if (self.folder / "results.json").exists():
            return "finished"
        return "running" if self.trainer else "interrupted" if self.checkpoints() else "new"

    # metrics

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return last_json_line(self.folder / "metrics.jsonl").get("step", 0)

    def metrics(self, speed: bool = False) -> list[dict]:
        """{"step", "loss", ...} of each logged step, in nats; ``speed`` adds SPEED_AND_MEMORY."""
        return [{name: record[name] for name in record if speed or name not in SPEED_AND_MEMORY}
                for record in read_json_lines(self.folder / "metrics.jsonl")]

    def append_metrics(self, record: dict) -> None:
        """Log a step."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def truncate_metrics(self, step: int) -> None:
        """Delete what was logged after the checkpoint of ``step``: it will be computed again."""
        kept = [json.dumps(r) + "\n" for r in self.metrics(speed=True) if r["step"] <= step]
        write_atomically(self.folder / "metrics.jsonl", "".join(kept))

    # checkpoints

    def checkpoints(self) -> list[Path]:
        """Complete checkpoint folders, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def save_checkpoint(self, step: int, model: dict[str, Tensor], optimizer: dict[str, Tensor],
                        state: dict) -> Path:
        """Write a checkpoint under another name, then rename it; keep the last two and the best.

        Args:
            state: plain values; ``state["validation"]`` (nats) decides which is best, if not None.

        Raises:
            OSError: for example a full disk; earlier checkpoints are untouched.
        """
        folder = self.folder / "checkpoints"
        target, partial = folder / f"step-{step:07d}", folder / f".partial-{step:07d}"
        for leftover in folder.glob(".*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            for name, tensors in (("model", model), ("optimizer", optimizer)):
                tensors = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
                save_file(tensors, partial / f"{name}.safetensors")
            hashes = {path.name: sha256(path) for path in sorted(partial.glob("*.safetensors"))}
            state = state | {"step": step, "recipe": self.recipe.digest(), "sha256": hashes}
            write_atomically(partial / "state.json", json.dumps(state, indent=1))
            for path in partial.iterdir():
                flush(path)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            flush(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            last = self.checkpoints()
            left = f"the last good one is {last[-1].name}" if last else "none was written before"
            raise OSError(f"the checkpoint of step {step} could not be written to {folder} "
                          f"({error}): {left}; free some space and start again to resume"
                          ) from error
        self._prune()
        return target

    def load_checkpoint(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
        """Read (model, optimizer, state) after checking that every file is what was written.

        Raises:
            CheckpointError: truncated, altered, unreadable, or of another recipe.
        """
        def refuse(reason: str) -> NoReturn:
            earlier = [c.name for c in self.checkpoints() if c.name < path.name]
            remedy = (f"the previous one is {earlier[-1]}: delete {path} to go on from there"
                      if earlier else f"there is no earlier one: delete {path} to start afresh")
            raise CheckpointError(f"checkpoint {path} is refused: {reason}; {remedy}")

        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            hashes, recipe = state["sha256"], state["recipe"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            refuse(f"its state.json cannot be read ({error})")
        if path.name != f"step-{state.get('step', -1):07d}":
            refuse(f"its state.json is of step {state.get('step')}")
        if recipe != self.recipe.digest():
            refuse(f"it belongs to another recipe ({recipe}, this is {self.recipe.digest()})")
        for name in ("model.safetensors", "optimizer.safetensors"):
            if not (path / name).exists():
                refuse(f"{name} is missing")
            if sha256(path / name) != hashes.get(name):
                refuse(f"{name} is not what was written: truncated or altered")
        model, optimizer = path / "model.safetensors", path / "optimizer.safetensors"
        return load_file(model), load_file(optimizer), state

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest validation loss."""
        scored = [(loss, path) for path in self.checkpoints()
                  if (loss := _validation(path)) is not None]
        return min(scored)[1] if scored else None

    def model_weights(self) -> dict[str, Tensor]:
        """The weights of the last checkpoint, or of the best where the recipe says so; checked.

        Raises:
            FileNotFoundError: nothing was trained.
            CheckpointError: the checkpoint is broken.
        """
        if not self.checkpoints():
            raise FileNotFoundError(f"{self.folder} holds no checkpoint: train it first")
        best = self.best_checkpoint() if self.recipe.takes_best else None
        return self.load_checkpoint(best or self.checkpoints()[-1])[0]

    def _prune(self) -> None:
        everything = self.checkpoints()
        for path in {*everything[:-KEEP_LAST]} - {self.best_checkpoint()}:
            aside = path.with_name(f".removed-{path.name}")
            os.replace(path, aside)  # first: a kill must not leave half a checkpoint
            shutil.rmtree(aside)

    # results

    def results(self) -> dict | None:
        """The contents of results.json, or None."""
        path = self.folder / "results.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def measured(self) -> dict[str, float]:
        """For each length or size: perplexity, or exact match or accuracy in percent."""
        return (results := self.results())[main_measure(results)]

    def write_results(self, results: dict) -> None:
        write_atomically(self.folder / "results.json", json.dumps(results, indent=1))


def main_measure(results: Mapping) -> str:
    """The key of the results that a task is compared by; questions also have a perplexity."""
    return next(key for key in ("exact_match", "accuracy", "perplexity") if key in results)


def list_runs(folder: str | Path | None = None) -> list[Run]:
    """All readable runs below a folder, by path."""
    root = Path(folder) if folder else runs_folder()
    found = []
    for path in sorted(root.rglob("recipe.json")):
        with suppress(ValueError):  # of another version
            found.append(Run.open(path.parent))
    return found


_claims: set[Path] = set()  # folders in which this process trains


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read() or "another process"


def _validation(path: Path) -> float | None:
    try:
        return json.loads((path / "state.json").read_text(encoding="utf-8")).get("validation")
    except (OSError, ValueError):
        return None
