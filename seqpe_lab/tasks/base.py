"""The interface of a task: data, a model, the loss of a batch, and an evaluation."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from seqpe_lab.devices import cores_per_process, device_of, precision_on
from seqpe_lab.recipes import Training
from seqpe_lab.sampling import seeded

SPLITS = ("train", "validation", "test")
T = TypeVar("T")


class Data(Protocol):
    """Loaded data of any kind.

    Attributes:
        hash: of the whole content, 16 hex digits; a run resumes only with the same.
    """
    hash: str

    def provenance(self) -> dict:
        """What is stored with a result: plain values."""
        ...


def alone(function: Callable[[int, int], T]) -> list[T]:
    """Call ``function(number, count)`` as process 0 of 1.

    Where several processes evaluate, :func:`seqpe_lab.processes.on_all` takes its place.
    """
    return [function(0, 1)]


class Task(ABC):
    """One kind of work for the training loop, with one recipe.

    All processes of a run call ``validate`` and ``evaluate``, with the same weights, and all get
    the result. How the work is divided is up to the task: either each process computes a part
    (``on_all``), or the first computes everything (``once``).

    ``kept_tokenizer`` may be set before the data is loaded: the tokenizer.json that a run keeps.

    Args:
        recipe: plain values, everything that a run depends on.
        workers: processes that load data beside this one; by default :func:`loading_workers`
            decides. The results do not depend on it.
        on_all: calls a function on every process, as :func:`alone` does for a single one.

    Attributes:
        protocol: how results are measured, in words, if that is known before.
    """
    protocol: str = ""

    kept_tokenizer: str | None = None

    def __init__(self, recipe: Training, workers: int | None = None, on_all: Callable = alone):
        self.recipe, self.workers, self.on_all = recipe, workers, on_all

    def once(self, function: Callable[[], T]) -> T:
        """What ``function`` returns on the first process, for all of them."""
        return self.on_all(lambda number, count: None if number else function())[0]

    @abstractmethod
    def load_data(self) -> Data:
        """The data that the recipe names, in the splits "train", "validation" and "test"."""

    @abstractmethod
    def outputs(self, data: Data) -> int:
        """Size of the model's output layer: of the vocabulary, or the number of classes."""

    @abstractmethod
    def make_model(self, outputs: int) -> nn.Module:
        """A new model; its weights are drawn from torch's global generator."""

    @abstractmethod
    def training_set(self, data: Data) -> Dataset:
        """An endless data set: item i is the same in every process and after every restart."""

    @abstractmethod
    def main_loss(self, model: nn.Module, batch, generator: torch.Generator, **options) -> Tensor:
        """The main loss of a micro-batch, L_main of Eq. 15: nats, a scalar.

        Args:
            batch: collated items of the training set, on the model's device.
            generator: for all random draws of this batch.
            options: "positions" and "vectors", as the model's forward pass takes them.
        """

    @abstractmethod
    def validate(self, model: nn.Module, data: Data) -> float:
        """The main loss on the validation split, nats; on the model's device."""

    @abstractmethod
    def evaluate(self, model: nn.Module, data: Data) -> dict:
        """Results on the recipe's ``eval_split``, plain values; on the model's device."""

    @abstractmethod
    def check(self, data: Data) -> None:
        """Fail before training, not in the evaluation after it.

        Raises:
            ValueError: the recipe asks for what the data does not have.
        """


def loading_workers(recipe: Training, data: Data, asked: int | None = None) -> int:
    """How many processes load data beside each one of a run.

    Args:
        asked: so many; None asks for none, except at medium and full scale where images must be
            decoded.
    """
    if asked is not None:
        return asked
    if recipe.scale in ("smoke", "small") or not getattr(data, "decodes", False):
        return 0
    return max(1, min(8, cores_per_process() - 1))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[torch.device]:
    """No dropout and no gradients inside; yields the model's device, then restores its mode.

    On a GPU a model with a ``precision`` of "bf16" computes in that, as in training; the caller's
    own autocast stays as it is for others.
    """
    was_training, device = model.training, device_of(model)
    model.eval()
    low = evaluated_in(model) == "bf16"
    try:
        with (torch.no_grad(),
              torch.autocast(device.type, torch.bfloat16) if low else nullcontext()):
            yield device
    finally:
        model.train(was_training)


def evaluated_in(model: nn.Module) -> str:
    """The precision of a model's evaluation: "bf16" or "fp32"."""
    return precision_on(device_of(model), getattr(model, "precision", "fp32"))


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of ``count`` items in an epoch, int64 (count,)."""
    return torch.randperm(count, generator=seeded(seed, epoch, stream=1))
