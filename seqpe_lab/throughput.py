"""How fast a run trains and how much memory it takes: what its log says beside the losses."""
from __future__ import annotations

import sys
import time

import torch

from seqpe_lab.devices import matrix_rate
from seqpe_lab.recipes import Training
from seqpe_lab.recipes.step_cost import operations


def step_size(recipe: Training) -> tuple[str, int]:
    """What a step of a recipe takes, over all devices: ("tokens" or "images", how many).

    A grid of symbols counts as an image.

    >>> from seqpe_lab.recipes import language_model
    >>> step_size(language_model("seqpe", "full"))
    ('tokens', 65536)
    """
    if recipe.dims == 2:
        return "images", recipe.batch
    return "tokens", recipe.batch * recipe.train_shape[0]


class Throughput:
    """Speed and memory of the steps since the last record.

    Args:
        recipe: of the run.
        outputs: size of the vocabulary, or number of classes.
        device: of this process.
        processes: that share each step.
    """

    def __init__(self, recipe: Training, outputs: int, device: torch.device, processes: int):
        (self._unit, self._size), self._device = step_size(recipe), device
        self._shares = 0.0  # of the matrix rate, of one step a second
        if device.type == "cuda":
            dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
            step = sum(operations(recipe, outputs).values())
            self._shares = step / processes / matrix_rate(device, dtype)
            torch.cuda.reset_peak_memory_stats(device)  # to that of this run

    def restart(self, step: int) -> None:
        """Count from here: ``step`` steps are done, and validation and checkpoints do not count."""
        self._first, self._began = step, time.perf_counter()

    def measure(self, step: int) -> dict[str, float]:
        """The values that :data:`~seqpe_lab.runs.SPEED_AND_MEMORY` names, up to ``step``.

        To be called when a GPU has just been waited for. There is no speed if the clock stood still
        or went back meanwhile.
        """
        first, began = self._first, self._began
        self.restart(step)
        values, seconds = {"peak_gib": peak_gib(self._device)}, self._began - began
        if seconds > 0:
            pace = (step - first) / seconds  # steps a second
            values[f"{self._unit}_per_second"] = pace * self._size
            if self._shares:
                values["matrix_share"] = pace * self._shares
        return values


def peak_gib(device: torch.device) -> float:
    """The most memory so far, GiB: a GPU's tensors, or this process's resident memory.

    0.0 where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
