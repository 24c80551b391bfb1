"""The folder of a run: whose it is, which recipe it has, and what came out of it.

Only the process that has claimed the folder writes to it. What is read is checked: each file
against its hash, and against the recipe by its digest.
"""
from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from seqpe_lab.runs.folder_claims import Claim, claimed, holder_of
from seqpe_lab.runs.metrics_log import last_record
from seqpe_lab.package_data import CLONE
from seqpe_lab.recipes import Training
from seqpe_lab.runs.run_files import (MAIN_MEASURES, Failure, Results, RunFileError, read_record,
                                 write_record)


def runs_folder() -> Path:
    """Where runs are kept: $SEQPE_RUNS, else ``runs`` in the working directory.

    Anywhere within a clone of the lab it is the ``runs`` of the clone's root, so that notebooks
    and the command line share their runs.
    """
    if chosen := os.environ.get("SEQPE_RUNS"):
        return Path(chosen).expanduser()
    here = Path.cwd()
    return (CLONE if CLONE and here.is_relative_to(CLONE) else here) / "runs"


class RunFolder:
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
    def open(cls, folder: str | Path) -> Self:
        """Open an existing run.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its recipe is damaged, or of another version.
        """
        path = Path(folder) / "recipe.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder} is no run: it holds no recipe.json")
        values = read_record(path, None, f"restore it from a copy, or delete {folder}")
        try:
            return cls(Training.from_json(json.dumps(values)), folder)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def check_recipe(self) -> bool:
        """Whether the folder holds this very recipe; False if it holds none yet.

        Raises:
            ValueError: it holds another recipe, or a damaged one.
        """
        there = (self.folder / "recipe.json").exists()
        if there and type(self).open(self.folder).recipe != self.recipe:
            raise ValueError(f"{self.folder} holds a run of another recipe: "
                             "choose another folder or delete it")
        return there

    def create(self) -> None:
        """Make the folder, or check that it holds this very recipe.

        Raises:
            RunningError: another process is just making or training a run there.
            ValueError: as in :meth:`check_recipe`.
        """
        if self.check_recipe():
            return
        with self.claim() as claim:
            if not self.check_recipe():  # nobody was quicker
                (self.folder / "checkpoints").mkdir(exist_ok=True)
                recipe = json.loads(self.recipe.to_json())
                write_record(self.folder / "recipe.json", None, recipe, claim.check)

    def claim(self) -> AbstractContextManager[Claim]:
        """Keep others from writing to this folder, until this process ends in any way.

        Raises:
            RunningError: another process or thread trains there; two would overwrite each other's
                files.
        """
        return claimed(self.folder)

    @property
    def trainer(self) -> str | None:
        """The process that trains here now, "process 4711 on node17"."""
        return holder_of(self.folder)

    @property
    def _log(self) -> Path:
        return self.folder / "metrics.jsonl"

    # results

    def outcome(self) -> dict | None:
        """What a table has of the run: its results, or its failure; None before its end.

        Raises:
            RunFileError: a file is damaged, or another run's.
        """
        if failure := self._read("failure.json", Failure):
            return failure
        if (results := self._read("results.json", Results)) is None:
            return None
        # earlier versions let a run that diverged go on to its end
        numbers = (last_record(self._log) or {}) | results[main_measure(results)]
        if not (wrong := [name for name, value in numbers.items() if not math.isfinite(value)]):
            return results
        kept = {name: results[name] for name in Failure.model_fields if name in results}
        return kept | {"task": self.recipe.task, "failed": f"{wrong[0]} is {numbers[wrong[0]]}"}

    def results(self) -> dict | None:
        """The contents of results.json; None if there is none, or if the run has failed."""
        outcome = self.outcome()
        return None if outcome is None or "failed" in outcome else outcome

    def failure(self) -> dict | None:
        """Why the run cannot go on, as ``failed``, beside its method, seed and origin; or None."""
        outcome = self.outcome()
        return outcome if outcome and "failed" in outcome else None

    def measured(self) -> dict[str, float]:
        """For each length or size: perplexity, or exact match or accuracy in percent."""
        return (results := self.results())[main_measure(results)]

    def write_results(self, results: dict) -> None:
        """Write results.json; ValueError if they hold NaN or infinity, or do not fit its form."""
        self._write("results.json", Results, results)

    def write_failure(self, reason: str, **about: object) -> None:
        """Mark the run as one that cannot go on.

        Args:
            about: where it comes from, as in results.json.
        """
        values = {"task": self.recipe.task, "split": self.recipe.eval_split, "failed": reason}
        self._write("failure.json", Failure, values | about)

    def _write(self, name: str, kind: type[Results] | type[Failure], values: dict) -> None:
        with self.claim() as claim:
            write_record(self.folder / name, kind, values | self._identity(), claim.check)

    def _read(self, name: str, kind: type[Results] | type[Failure]) -> dict | None:
        path = self.folder / name
        remedy = f"delete it and start {self.folder} again to go on from its last checkpoint"
        try:
            values = read_record(path, kind, remedy)
        except FileNotFoundError:
            return None
        for key, own in self._identity().items():
            if values[key] != own:
                raise RunFileError(f"{path} is refused: it belongs to another run ({key} "
                                   f"{values[key]}, this is {own}); {remedy}")
        return values

    def _identity(self) -> dict:
        recipe = self.recipe
        return {"method": recipe.method, "scale": recipe.scale, "seed": recipe.seed,
                "recipe": recipe.digest()}


def main_measure(results: Mapping) -> str:
    """The key of the results that a task is compared by; questions also have a perplexity."""
    return next(key for key in MAIN_MEASURES if key in results)
