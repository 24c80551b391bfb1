"""A run is a folder: recipe.json, metrics.jsonl, clock.jsonl, checkpoints/, results.json.

Nothing in it is ever half written: files and checkpoint folders are written aside, flushed, and
renamed into place, so a run that is killed at any moment can be read and resumed. Checkpoints are
safetensors only (never pickle) and carry the sha256 of their files.
"""
from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqpe_lab.package_data import CLONE
from seqpe_lab.recipes import Training

KEEP_LAST = 2  # checkpoints, besides the best


class CheckpointError(RuntimeError):
    """A checkpoint that is broken or belongs to another run; the message names it and offers the previous one."""


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
        recipe: what is run.
        folder: by default ``runs/<scale>/<method>-seed<seed>-<digest>``, with ``qa-`` before a run on questions.
    """

    def __init__(self, recipe: Training, folder: str | Path | None = None):
        self.recipe = recipe
        self.folder = Path(folder) if folder else runs_folder() / recipe.scale / f"{'qa-' * (recipe.task == 'qa')}{recipe.method}-seed{recipe.seed}-{recipe.digest()}"

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open an existing run; FileNotFoundError or ValueError say why it cannot be."""
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
            raise ValueError(f"{self.folder} holds a run of another recipe: choose another folder or delete it")

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes from training in this folder meanwhile. The claim ends with the process, in whatever way that ends.

        Raises:
            RunningError: another process does already; two would write over one another.
        """
        with open(self.folder / "lock", "a+", encoding="utf-8") as file:
            for _ in range(10):  # somebody who only looks holds it for a moment
                if _lock(file, exclusive=True):
                    break
                time.sleep(0.05)
            else:
                raise RunningError(f"{self.folder} is being trained by {self._named(file)}: wait for it, or stop it first")
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
        """Who trains in this folder now, "process 4711 on node17"; None if nobody does, or where the disk or the system has no locks."""
        if self.folder.resolve() in _claims:  # a look at our own lock would end it: the system drops it with the first file that is closed
            return _this_process()
        try:
            with open(self.folder / "lock", encoding="utf-8") as file:
                return None if _lock(file, exclusive=False) else self._named(file)
        except FileNotFoundError:
            return None

    @staticmethod
    def _named(lock: TextIO) -> str:
        lock.seek(0)
        return lock.read() or "another process"

    @property
    def state(self) -> str:
        """"new", "running" (a process trains in the folder now), "interrupted" (has a checkpoint to go on from), or "finished"."""
        if (self.folder / "results.json").exists():
            return "finished"
        return "running" if self.trainer else "interrupted" if self.checkpoints() else "new"

    # metrics

    def metrics(self) -> list[dict]:
        """The logged steps: a list of {"step", "loss", ...}, losses in nats per token."""
        return _read_lines(self.folder / "metrics.jsonl")

    def append_metrics(self, record: dict) -> None:
        """Log a step, and beside it when: metrics.jsonl itself is the same to the last byte however often a run was resumed."""
        for name, values in (("metrics.jsonl", record), ("clock.jsonl", {"step": record["step"], "time": time.time()})):
            with open(self.folder / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def clock(self) -> list[dict]:
        """When each step was logged: {"step", "time"}, seconds since 1970; a resumed run logs some steps twice."""
        return _read_lines(self.folder / "clock.jsonl")

    def truncate_metrics(self, step: int) -> None:
        """Forget what came after the checkpoint of ``step``: it will be computed again."""
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        write_atomically(self.folder / "metrics.jsonl", "".join(kept))

    # checkpoints

    def checkpoints(self) -> list[Path]:
        """Complete checkpoint folders, oldest first."""
        folder = self.folder / "checkpoints"
        return sorted(folder.glob("step-*")) if folder.exists() else []

    def save_checkpoint(self, step: int, model: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict) -> Path:
        """Write a checkpoint aside and rename it into place; keep the last two and the best.

        Args:
            state: plain values; ``state["validation"]`` (nats a token) decides which is best.

        Raises:
            OSError: the disk is full, say; the checkpoints that were there are untouched.
        """
        folder = self.folder / "checkpoints"
        target, partial = folder / f"step-{step:07d}", folder / f".partial-{step:07d}"
        for leftover in folder.glob(".*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save_file({k: v.detach().contiguous() for k, v in model.items()}, partial / "model.safetensors")
            save_file({k: v.detach().contiguous() for k, v in optimizer.items()}, partial / "optimizer.safetensors")
            hashes = {path.name: _sha256(path) for path in sorted(partial.glob("*.safetensors"))}
            state = state | {"step": step, "recipe": self.recipe.digest(), "sha256": hashes}
            write_atomically(partial / "state.json", json.dumps(state, indent=1))
            for path in partial.iterdir():
                _flush(path)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            _flush(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            last = self.checkpoints()
            raise OSError(f"the checkpoint of step {step} could not be written to {folder} ({error}): "
                          f"{'the last good one is ' + last[-1].name if last else 'none was written before'}; free some space and start again to resume") from error
        self._prune()
        return target

    def load_checkpoint(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
        """Read (model, optimizer, state) after checking that every file is what was written.

        Raises:
            CheckpointError: truncated, altered, unreadable, or of another recipe.
        """
        def refuse(reason: str):
            earlier = [c.name for c in self.checkpoints() if c.name < path.name]
            remedy = f"the previous one is {earlier[-1]}: delete {path} to go on from there" if earlier else f"there is no earlier one: delete {path} to start afresh"
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
            if _sha256(path / name) != hashes.get(name):
                refuse(f"{name} is not what was written: truncated or altered")
        return load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors"), state

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest validation loss."""
        scored = [(loss, path) for path in self.checkpoints() if (loss := _validation(path)) is not None]
        return min(scored)[1] if scored else None

    def model_weights(self) -> dict[str, Tensor]:
        """The weights that a run has come to: of its last checkpoint, or of its best where the recipe says so; checked.

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
        keep = {*everything[-KEEP_LAST:], self.best_checkpoint()}
        for path in everything:
            if path not in keep:  # out of sight first: a kill must not leave half a checkpoint
                aside = path.with_name(f".removed-{path.name}")
                os.replace(path, aside)
                shutil.rmtree(aside)

    # results

    def results(self) -> dict | None:
        """What the evaluation wrote, or None."""
        path = self.folder / "results.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def measured(self) -> dict[str, float]:
        """What the task is judged by, for each length or size: perplexity, exact match (percent) or accuracy (percent)."""
        results = self.results()
        return results[judged_by(results)]

    def write_results(self, results: dict) -> None:
        write_atomically(self.folder / "results.json", json.dumps(results, indent=1))


def judged_by(results: Mapping) -> str:
    """What a run's task is judged by, a key of its results; a run on questions has a perplexity, too."""
    return next(measure for measure in ("exact_match", "accuracy", "perplexity") if measure in results)


_claims: set[Path] = set()  # folders in which this process trains


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _lock(file: TextIO, exclusive: bool) -> bool:
    """Whether the lock was there to take; True also where there are none (Windows has others, and some disks have none)."""
    try:
        import fcntl
        fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):
        pass
    return True


def list_runs(folder: str | Path | None = None) -> list[Run]:
    """All readable runs below a folder, by path."""
    root = Path(folder) if folder else runs_folder()
    found = []
    for path in sorted(root.rglob("recipe.json")):
        try:
            found.append(Run.open(path.parent))
        except ValueError:
            continue  # of another version
    return found


def provenance(device: torch.device | str) -> dict:
    """Where and with what a result was made: versions, device, commit, time."""
    packages = ("torch", "numpy", "accelerate", "datasets", "tokenizers", "safetensors", "timm")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"versions": versions, "device": f"{device.type} ({name}, {torch.get_num_threads()} threads)", "commit": _commit(),
            "time": datetime.now(UTC).isoformat(timespec="seconds")}


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new one and nothing between."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _read_lines(path: Path) -> list[dict]:
    """The records of a file of JSON lines."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # a line that a kill cut short
    return records


def _commit() -> str:
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def _validation(path: Path) -> float | None:
    try:
        return json.loads((path / "state.json").read_text(encoding="utf-8")).get("validation")
    except (OSError, ValueError):
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Make the system write a file or a folder's entries out, so that a power cut cannot reorder them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
