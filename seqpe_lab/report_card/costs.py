"""What an encoding costs: time and memory of a small model with it, over those with NoPE."""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.report_card.toy_model import texts, toy_model

TRAINED, READ = 512, 16_384  # tokens


@dataclass(frozen=True)
class Cost:
    """One pass over one text, with the encoding and without.

    Attributes:
        work: "training" is a forward and backward pass; "reading" is a forward pass only.
        tokens: of the text.
        seconds, seconds_none: with the encoding and with NoPE, the fastest of some passes taken in
            turn, after a first one in which an encoding may fill a table of its positions.
        mib, mib_none: peak of the memory that the first pass takes, in MiB.
    """
    work: str
    tokens: int
    seconds: float
    seconds_none: float
    mib: float
    mib_none: float

    @property
    def time_ratio(self) -> float:
        return self.seconds / self.seconds_none

    @property
    def memory_ratio(self) -> float:
        return self.mib / self.mib_none


def costs(encoding: str, options: dict[str, Any] | None = None,
          lengths: Sequence[int] = (TRAINED, READ)) -> list[Cost]:
    """The costs at each length, on the CPU: up to 512 tokens of training, beyond of reading.

    >>> same, = costs("none", lengths=[32])       # NoPE over NoPE
    >>> same.work, same.memory_ratio
    ('training', 1.0)
    """
    models = [toy_model(encoding, options), toy_model("none")]
    found = []
    for length in lengths:
        training, tokens = length <= TRAINED, texts(1, length)
        memory = []
        for model in models:  # also the first pass, which is slower
            with LiveMemory() as live:
                _run(model, tokens, training)
            memory.append(live.peak / 2**20)
        times: list[list[float]] = [[], []]
        for _ in range(7 if training else 2):
            for model, own in zip(models, times):
                began = perf_counter()
                _run(model, tokens, training)
                own.append(perf_counter() - began)
        found.append(Cost("training" if training else "reading", length, *map(min, times), *memory))
    return found


def _run(model: GPT2, tokens: Tensor, training: bool) -> None:
    with torch.set_grad_enabled(training):
        out = model.hidden_states(tokens).square().mean()
        if training:
            out.backward()
    model.zero_grad(set_to_none=True)


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that torch's operations create, as long as they live.

    Unlike the memory of the process it does not depend on what ran before.

    >>> with LiveMemory() as live:
    ...     for _ in range(3):
    ...         x = torch.zeros(1000) + 1  # two of 4,000 bytes, and the last pair's second one
    >>> live.peak
    12000
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def free() -> None:
            self._known.discard(key)
            self.now -= size
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, free).atexit = False
