"""Algorithmic problems as a task: answers to short inputs are learnt, longer ones are tested.

The loss covers the answer's symbols only. A test counts the answers that are right from the first
to the last symbol ("exact match"), and the right symbols. Both come from one pass over prompt and
right answer: greedy generation gives the whole answer exactly if each symbol is the likeliest one
after the right ones before it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.output_layer import next_token_loss
from seqpe_lab.position_sampling import sampled_positions
from seqpe_lab.problems import PROBLEMS, SYMBOLS, Example, draw_example, encode
from seqpe_lab.recipes import AlgorithmRecipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.base import Task, evaluation_mode

NOT_COUNTED = -100  # a target that the loss ignores
VALIDATION_EXAMPLES = 128


class DrawnExamples(NamedTuple):
    """The data of a problem: nothing but its name, since examples are drawn as they are needed."""
    problem: str
    hash: str

    def provenance(self) -> dict:
        """What is stored with a result."""
        return {"description": f"drawn examples of {self.problem!r}", "problem": self.problem,
                "hash": self.hash}


class AlgorithmTask(Task):
    """A small model that learns a problem of :mod:`seqpe_lab.problems`.

    Sequences are read by a GPT-2, grids by a ViT with a patch for each cell.
    """
    recipe: AlgorithmRecipe

    def load_data(self) -> DrawnExamples:
        return DrawnExamples(self.recipe.problem, fingerprint(self.recipe.problem))

    @property
    def protocol(self) -> str:
        return (f"{self.recipe.eval_examples} new examples of each size; all symbols of the "
                "answer, or single ones")

    def outputs(self, data: DrawnExamples) -> int:
        return len(SYMBOLS)

    def make_model(self, outputs: int) -> nn.Module:
        recipe = self.recipe
        if recipe.dims == 2:
            from seqpe_lab.models.vit import ViT, ViTConfig
            shape = dict(patch_size=1, in_chans=outputs, embed_dim=recipe.d_model,
                         depth=recipe.layers, num_heads=recipe.heads, proj_drop_rate=recipe.dropout)
            return ViT(ViTConfig("vit_tiny_patch16_224", recipe.size, outputs, recipe.max_position,
                                 recipe.encoding, dict(recipe.encoding_options), shape))
        return GPT2(GPT2Config(
            vocab_size=outputs, d_model=recipe.d_model, layers=recipe.layers, heads=recipe.heads,
            train_len=recipe.train_shape[0], max_position=recipe.max_position,
            dropout=recipe.dropout, encoding=recipe.encoding,
            encoding_options=dict(recipe.encoding_options)))

    def training_set(self, data: DrawnExamples) -> Examples:
        return Examples(self.recipe)

    def main_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor],
                  generator: torch.Generator, **options) -> Tensor:
        """Cross entropy of the answers' symbols, nats per symbol."""
        tokens, targets = batch
        if self.recipe.dims == 2:
            return F.cross_entropy(model(self._cells(tokens), **options).float(), targets[:, -1])
        counted = targets != NOT_COUNTED
        hidden = model.hidden_states(tokens, **options)[counted]
        return next_token_loss(hidden, model.transformer.wte.weight, targets[counted])

    def validate(self, model: nn.Module, data: DrawnExamples) -> float:
        """Nats per symbol of answers in the validation split, of the trained sizes."""
        sizes = validated_sizes(self.recipe)
        count = max(1, VALIDATION_EXAMPLES // len(sizes))
        few = self.once(lambda: [self.measure(model, size, "validation", count) for size in sizes])
        return sum(score.nats for score in few) / sum(score.symbols for score in few)

    def evaluate(self, model: nn.Module, data: DrawnExamples) -> dict:
        """Exact match and right symbols, percent, at the recipe's sizes."""
        recipe = self.recipe
        scores = self.once(lambda: {
            str(size): self.measure(model, size, recipe.eval_split, recipe.eval_examples)
            for size in recipe.eval_sizes})
        return {"protocol": self.protocol,
                "split": recipe.eval_split, "examples": recipe.eval_examples,
                "trained_size": recipe.size,
                "exact_match": {n: 100 * s.exact / s.examples for n, s in scores.items()},
                "symbols_right": {n: 100 * s.right / s.symbols for n, s in scores.items()}}

    def measure(self, model: nn.Module, size: int, split: str, count: int) -> Score:
        """The model's answers to ``count`` examples of a size, always the same ones."""
        drawn = [draw_example(self.recipe.problem, size, split, f"exam/{number}")
                 for number in range(count)]
        at_once = max(1, 16_384 // len(drawn[0].prompt))
        parts = []
        with evaluation_mode(model) as device:
            for begin in range(0, count, at_once):
                tokens, targets = (part.to(device) for part in stack(drawn[begin: begin + at_once]))
                positions = self._positions(tokens, begin)
                if self.recipe.dims == 2:
                    logits = model(self._cells(tokens), **positions).unsqueeze(1)  # (B, 1, symbols)
                    targets = targets[:, -1:]
                else:
                    logits = model(tokens, **positions)  # (B, L, symbols)
                parts.append(_score(logits.float(), targets))
        return Score(*(sum(values) for values in zip(*parts)))

    def _positions(self, tokens: Tensor, begin: int) -> dict[str, Tensor]:
        """{"positions": ...} of a test: those of training with "random", as in Ruoss et al.

        With every other way to sample them the model counts from 0, and nothing is given.
        """
        recipe, (batch, length) = self.recipe, tokens.shape
        if recipe.position_sampling != "random":
            return {}
        side = round(length ** 0.5)
        shape = (length,) if recipe.dims == 1 else (side, side)
        generator = seeded(recipe.seed, begin, stream=8)
        return {"positions": sampled_positions("random", batch, shape, recipe.max_position,
                                               generator=generator)}

    def _cells(self, tokens: Tensor) -> Tensor:
        """Grids as images: int64 (B, rows * columns) -> float (B, symbols, rows, columns)."""
        side = round(tokens.shape[1] ** 0.5)
        return F.one_hot(tokens, len(SYMBOLS)).movedim(-1, 1).unflatten(-1, (side, side)).float()

    def check(self, data: DrawnExamples) -> None:
        for split, sizes in (("train", trained_sizes(self.recipe)),
                             ("validation", validated_sizes(self.recipe)),
                             (self.recipe.eval_split, self.recipe.eval_sizes)):
            for size in sizes:  # an error if the split has none
                draw_example(self.recipe.problem, size, split, "exam/0")


class Score(NamedTuple):
    """Counts over some examples."""
    exact: int  # answers that are right as a whole
    examples: int
    right: int  # symbols
    symbols: int
    nats: float  # negative log-likelihood of all right symbols


def _score(logits: Tensor, targets: Tensor) -> Score:
    counted = targets != NOT_COUNTED
    hits = (logits.argmax(-1) == targets) | ~counted
    nats = F.cross_entropy(logits[counted], targets[counted], reduction="sum")
    return Score(int(hits.all(-1).sum()), len(targets), int((hits & counted).sum()),
                 int(counted.sum()), float(nats))


def stack(examples: Sequence[Example], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Tokens and targets of some examples, padded behind the answer.

    Args:
        length: tokens of each row; by default those of the longest example.

    Returns:
        int64 (B, length) twice; target i is what follows token i, or ``NOT_COUNTED``. A prompt
        without an asking symbol (a grid) has its answer as the last target.

    >>> tokens, targets = stack([Example("ab=", "ab.")])
    >>> tokens.tolist(), targets.tolist()
    ([[14, 15, 2, 14, 15]], [[-100, -100, 14, 15, 0]])
    """
    length = length or max(len(e.prompt) + len(e.answer) - 1 for e in examples)
    tokens = torch.zeros(len(examples), length, dtype=torch.long)
    targets = torch.full_like(tokens, NOT_COUNTED)
    for row, (prompt, answer) in enumerate(examples):
        whole, begin = torch.tensor(encode(prompt + answer)), len(prompt) - 1
        tokens[row, : len(whole) - 1] = whole[:-1]
        targets[row, begin: len(whole) - 1] = whole[len(prompt):]
    return tokens, targets


def trained_sizes(recipe: AlgorithmRecipe) -> list[int]:
    """The sizes of training inputs: 1 to n for a sequence, n only for a grid."""
    return [recipe.size] if recipe.dims == 2 else list(range(1, recipe.size + 1))


def validated_sizes(recipe: AlgorithmRecipe) -> list[int]:
    """The upper half of them: of tiny inputs the validation split may have none."""
    sizes = trained_sizes(recipe)
    return sizes[len(sizes) // 2:]


def fingerprint(problem: str) -> str:
    """16 hex digits that change when the examples of a problem do."""
    few = [draw_example(problem, size, split, "fingerprint")
           for size in (5, 12) for split in ("train", "validation", "test")]
    return hashlib.sha256(repr(few).encode()).hexdigest()[:16]


class Examples(Dataset):
    """The training examples: item i is always the same one, of a random trained size."""

    def __init__(self, recipe: AlgorithmRecipe):
        self.recipe, self.sizes = recipe, trained_sizes(recipe)
        self.length = PROBLEMS[recipe.problem].length(recipe.size) - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets, int64 (length of the longest,) each."""
        recipe = self.recipe
        place = torch.randint(len(self.sizes), (1,), generator=seeded(recipe.seed, index, stream=4))
        example = draw_example(recipe.problem, self.sizes[int(place)], "train",
                               f"{recipe.seed}/{index}")
        tokens, targets = stack([example], self.length)
        return tokens[0], targets[0]
