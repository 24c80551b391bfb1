"""A run is a folder: recipe.json, metrics.jsonl, checkpoints/, and results.json or failure.json.

Nothing in it is ever half written: files and checkpoint folders are written under another name,
flushed, and renamed, so a run that is killed at any moment can be read and resumed. Checkpoints are
safetensors only (never pickle).
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from seqpe_lab.atomic_files import flush, write_atomically
from seqpe_lab.runs.checkpoint_files import (read_state, read_weights, remove_checkpoint,
                                             write_checkpoint)
from seqpe_lab.runs.metrics_log import MetricsLog, last_record
from seqpe_lab.runs.run_files import RunFileError
from seqpe_lab.runs.run_folder import RunFolder, runs_folder

KEEP_LAST = 2  # so many checkpoints are kept, besides the best
# fields of metrics.jsonl that differ from run to run (throughput.py); a resumed run repeats others
SPEED_AND_MEMORY = ("tokens_per_second", "images_per_second", "peak_gib", "matrix_share")


class CheckpointError(RuntimeError):
    """A checkpoint that is broken or of another run; the message names the previous one."""


class Run(RunFolder):
    """A run's folder with its log and its checkpoints; arguments as there."""

    @property
    def state(self) -> str:
        """"new", "running" (a process trains in the folder now), "interrupted" (it can go on from a
        checkpoint), "failed" (it cannot, see :meth:`failure`), or "finished".

        Raises:
            RunFileError: its results are damaged or another run's.
        """
        if outcome := self.outcome():
            return "failed" if "failed" in outcome else "finished"
        return "running" if self.trainer else "interrupted" if self.checkpoints() else "new"

    # metrics

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return (last_record(self._log) or {"step": 0})["step"]

    def metrics(self, speed: bool = False) -> list[dict]:
        """{"step", "loss", ...} of each logged step, in nats; ``speed`` adds SPEED_AND_MEMORY.

        Raises:
            RunFileError: the log is not what was written, up to the last checkpoint.
        """
        for last in self.checkpoints()[-1:]:
            logged = self._state(last)["metrics"]  # None in runs of earlier versions
            if logged and self._log_digest(logged["bytes"]) != logged:
                raise RunFileError(
                    f"{self._log} is refused: it is not what was logged up to {last.name}; restore "
                    f"it from a copy, or delete {self.folder} to train again")
        return [{name: record[name] for name in record if speed or name not in SPEED_AND_MEMORY}
                for record in MetricsLog(self._log).read()]

    def append_metrics(self, record: dict) -> None:
        """Log a step.

        Raises:
            ValueError: a value that is NaN or infinite.
        """
        with self.claim() as claim, open(self._log, "a", encoding="utf-8") as file:
            claim.check()  # again: now this very file is open
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def truncate_metrics(self, step: int) -> None:
        """Delete what was logged after the checkpoint of ``step``: it will be computed again."""
        kept = [json.dumps(r) + "\n" for r in self.metrics(speed=True) if r["step"] <= step]
        with self.claim() as claim:
            write_atomically(self._log, "".join(kept), claim.check)

    def _log_digest(self, size: int | None = None) -> dict:
        """The values of a :class:`~seqpe_lab.runs.run_files.LogDigest` for ``size`` bytes."""
        content = (self._log.read_bytes() if self._log.exists() else b"")[:size]
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    # checkpoints

    def checkpoints(self) -> list[Path]:
        """Complete checkpoint folders, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def save_checkpoint(self, step: int, model: dict[str, Tensor], optimizer: dict[str, Tensor],
                        state: dict) -> Path:
        """Write a checkpoint, and the log up to it, to the disk; keep the last two and the best.

        Args:
            state: "data" (a hash), "deterministic_algorithms", and "validation" (nats), which
                decides which is best, if not None.

        Raises:
            OSError: for example a full disk; earlier checkpoints are untouched.
        """
        folder = self.folder / "checkpoints"
        target = folder / f"step-{step:07d}"
        with self.claim() as claim:
            try:
                folder.mkdir(exist_ok=True)
                if self._log.exists():
                    flush(self._log)
                about = {"step": step, "recipe": self.recipe.digest(),
                         "metrics": self._log_digest()}
                write_checkpoint(target, model, optimizer, state | about, claim.check)
            except (OSError, SafetensorError) as error:
                claim.check()
                last = [path.name for path in self.checkpoints()[-1:]]
                left = f"the last good one is {last[0]}" if last else "none was written before"
                raise OSError(f"the checkpoint of step {step} could not be written to {folder} "
                              f"({error}): {left}; free some space and start again to resume"
                              ) from error
            everything = self.checkpoints()
            for path in {*everything[:-KEEP_LAST]} - {self.best_checkpoint()}:
                remove_checkpoint(path)
        return target

    def load_checkpoint(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
        """Read (model, optimizer, state) after checking that every file is what was written.

        Raises:
            CheckpointError: truncated, altered, unreadable, or of another recipe.
        """
        state = self._state(path)
        with self._refusing(path):
            return *read_weights(path, state), state

    def _state(self, path: Path) -> dict:
        with self._refusing(path):
            return read_state(path, self.recipe.digest())

    @contextmanager
    def _refusing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (ValueError, SafetensorError) as error:
            earlier = [c.name for c in self.checkpoints() if c.name < path.name]
            remedy = (f"the previous one is {earlier[-1]}: delete {path} to go on from there"
                      if earlier else f"there is no earlier one: delete {path} to start afresh")
            raise CheckpointError(f"checkpoint {path} is refused: {error}; {remedy}") from error

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest validation loss.

        Raises:
            CheckpointError: one of them cannot say its own.
        """
        scored = [(loss, path) for path in self.checkpoints()
                  if (loss := self._state(path)["validation"]) is not None]
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


def scan_runs(folder: str | Path | None = None) -> tuple[list[Run], dict[Path, str]]:
    """All runs below a folder, by path, and of those whose recipe cannot be read the reasons."""
    root = Path(folder) if folder else runs_folder()
    found, unreadable = [], {}
    for path in sorted(root.rglob("recipe.json")):
        try:
            found.append(Run.open(path.parent))
        except (ValueError, OSError) as error:
            unreadable[path.parent] = str(error)
    return found, unreadable


def list_runs(folder: str | Path | None = None) -> list[Run]:
    """All runs below a folder whose recipes can be read, by path."""
    return scan_runs(folder)[0]
