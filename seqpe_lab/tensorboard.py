"""TensorBoard files beside metrics.jsonl, where the ``tensorboard`` package is installed: ``tensorboard --logdir runs``."""
from __future__ import annotations

import importlib.util
import shutil

from seqpe_lab.runs import Run

INSTALLED = importlib.util.find_spec("tensorboard") is not None


class Board:
    """The curves of a run in ``<run>/tensorboard``; nothing where the package is missing.

    metrics.jsonl is what counts. The event file is made anew from it whenever a run starts or goes
    on, so a run that was killed shows every step once and none that it forgot.
    """

    def __init__(self, run: Run):
        self.writer = None
        if INSTALLED:
            from torch.utils.tensorboard import SummaryWriter
            shutil.rmtree(run.folder / "tensorboard", ignore_errors=True)
            self.writer = SummaryWriter(str(run.folder / "tensorboard"), flush_secs=10)
            for record in run.metrics():
                self.add(record)

    def add(self, record: dict) -> None:
        """The values of a line of metrics.jsonl, at its step."""
        if self.writer:
            for name, value in record.items():
                if name != "step":
                    self.writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        if self.writer:
            self.writer.close()
