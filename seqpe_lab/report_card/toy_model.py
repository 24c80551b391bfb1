"""The small model on which an encoding is examined, and how two of its outputs are compared."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqpe_lab.models.gpt2 import GPT2, GPT2Config

VOCABULARY, TRAIN_LEN, LENGTH = 23, 16, 24  # the texts are longer than those of a training
REACH = 200_000  # the model's max_position; an encoding may end before


def toy_model(encoding: str, options: dict[str, Any] | None = None) -> GPT2:
    """A GPT-2 of 2 layers and 2 heads of 16 features, in evaluation mode.

    Its weights are larger than at the start of a training, and the encoding's parameters get some
    noise. So attention is far from uniform, and positions show in the logits, also where an
    encoding starts with zeros. torch's own random numbers stay as they are.

    Args:
        encoding: a registered name, or "package.module:Class", or "folder/file.py:Class".
        options: of the encoding.

    >>> toy_model("alibi")(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 23])
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = GPT2(GPT2Config(VOCABULARY, 32, 2, 2, TRAIN_LEN, REACH, 0.0, encoding,
                                dict(options or {}))).eval()
        for parameter in model.transformer.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
        disturb(model.encoding)
    return model


@torch.no_grad()
def disturb(module: torch.nn.Module) -> None:
    """Add noise of standard deviation 0.1 to all parameters, as training would change them."""
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))


def texts(count: int = 2, length: int = LENGTH) -> Tensor:
    """Random tokens, int64 (count, length)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCABULARY, (count, length), generator=generator)


def places(start: int, length: int = LENGTH) -> Tensor:
    """Consecutive positions, int64 (length, 1)."""
    return torch.arange(start, start + length).unsqueeze(-1)


def difference(found: Tensor, expected: Tensor) -> float:
    """How far two outputs lie apart: |found - expected| / |expected|, infinite if either is NaN.

    >>> difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))
    0.2
    >>> difference(torch.tensor([torch.nan]), torch.ones(1))
    inf
    """
    if torch.equal(found, expected):  # also where both are 0
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    apart = float((found - expected).norm() / expected.norm())
    return round(apart, 12) if apart < float("inf") else float("inf")
