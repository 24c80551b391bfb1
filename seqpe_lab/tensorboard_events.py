"""Event files for TensorBoard, beside a run's metrics.jsonl: ``tensorboard --logdir runs``."""
from __future__ import annotations

import shutil

from seqpe_lab.runs import Run


class EventFile:
    """The curves of a run in ``<run>/tensorboard``; nothing if TensorBoard is not installed.

    The file is written again from metrics.jsonl whenever a run starts or resumes, so that after an
    interruption every step still appears once.
    """

    def __init__(self, run: Run):
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        shutil.rmtree(run.folder / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), flush_secs=10)
        for record in run.metrics(speed=True):
            self.add(record)

    def add(self, record: dict) -> None:
        """The values of one line of metrics.jsonl, at its step."""
        if self._writer:
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        if self._writer:
            self._writer.close()
