"""Event files for TensorBoard, beside a run's metrics.jsonl: ``tensorboard --logdir runs``."""
from __future__ import annotations

import shutil
import warnings
from contextlib import suppress

from seqpe_lab.runs import Run


class EventFile:
    """The curves of a run in ``<run>/tensorboard``; nothing if TensorBoard is not installed.

    The files are written again from metrics.jsonl whenever a run starts or resumes, so that after
    an interruption every step still appears once, and whenever they were deleted. They are a view
    of the log: a run goes on without them if they cannot be written.
    """

    def __init__(self, run: Run):
        self._run, self._folder, self._writer = run, run.folder / "tensorboard", None
        self._begin()

    def _begin(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._writer = SummaryWriter(str(self._folder), flush_secs=10)
            for record in self._run.metrics(speed=True):
                self._write(record)
            self._writer.flush()
        except OSError as error:
            self._writer = None
            warnings.warn(f"{self._folder} cannot be written ({error}): the run goes on without "
                          "curves for TensorBoard", stacklevel=2)

    def add(self, record: dict) -> None:
        """The values of one line of metrics.jsonl, at its step; they are in that file already."""
        if self._writer is None:
            return
        try:
            if not self._folder.exists():
                raise FileNotFoundError(self._folder)
            self._write(record)
        except OSError:  # perhaps in the thread of the writer, some time ago
            self.close()
            self._begin()

    def _write(self, record: dict) -> None:
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is left."""
        with suppress(OSError):  # its folder was deleted
            if self._writer:
                self._writer.close()
