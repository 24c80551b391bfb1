"""Language modelling as a task for the training loop: data, model, loss, validation, results.

vision.py gives the same functions for images; training.py takes the one that the recipe asks for.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.recipes import Recipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.corpus import TextData, load_text
from seqpe_lab.tasks.perplexity import perplexity, perplexity_by_length

VALIDATION_TOKENS = 16_384


def load_data(recipe: Recipe) -> TextData:
    return load_text(recipe.source, recipe.tokenizer)


def outputs(data: TextData) -> int:
    """How many classes the model tells apart: the vocabulary."""
    return data.vocab_size


def make_model(recipe: Recipe, vocab_size: int) -> GPT2:
    return GPT2(GPT2Config(vocab_size=vocab_size, d_model=recipe.d_model, layers=recipe.layers, heads=recipe.heads,
                           train_len=recipe.train_len, max_position=recipe.max_position, dropout=recipe.dropout,
                           encoding=recipe.encoding, encoding_options=dict(recipe.encoding_options)))


class Chunks(Dataset):
    """The training stream: item i is always the same sequence of train_len + 1 tokens.

    Each epoch cuts the text at another offset and goes through the chunks in another order, both
    drawn from (seed, epoch).
    """

    def __init__(self, tokens: Tensor, length: int, seed: int):
        self.tokens, self.length, self.seed = tokens, length, seed
        self.per_epoch = (len(tokens) - 1) // length - 1
        if self.per_epoch < 1:
            raise ValueError(f"the training text has {len(tokens)} tokens, too few for sequences of {length}: shorten train_len")
        self._epoch = None

    def __getitem__(self, index: int) -> Tensor:
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            generator = seeded(self.seed, epoch, stream=1)
            self._offset = int(torch.randint(self.length, (1,), generator=generator))
            self._order = torch.randperm(self.per_epoch, generator=generator)
            self._epoch = epoch
        begin = self._offset + int(self._order[place]) * self.length
        return self.tokens[begin: begin + self.length + 1]


def training_set(recipe: Recipe, data: TextData) -> Chunks:
    return Chunks(data.train, recipe.train_len, recipe.seed)


def main_loss(model: GPT2, recipe: Recipe, tokens: Tensor, generator: torch.Generator, **options) -> Tensor:
    """Cross entropy of the next token, nats a token, in chunks that keep the logits small."""
    hidden, weight = model.read(tokens[:, :-1], **options).flatten(0, 1), model.transformer.wte.weight
    targets = tokens[:, 1:].flatten()
    if torch.is_autocast_enabled(hidden.device.type):  # mixed precision is left to torch
        return F.cross_entropy(F.linear(hidden, weight).float(), targets)
    return F.cross_entropy(F.linear(hidden, weight), targets)


def validate(model: GPT2, recipe: Recipe, data: TextData) -> float:
    """Nats a token on the start of the validation split."""
    sample = data.validation[: VALIDATION_TOKENS + 1]
    return perplexity(model, sample, min(recipe.train_len, len(sample) - 1)).nats


def evaluate(model: GPT2, recipe: Recipe, data: TextData) -> dict:
    """Perplexity on the test split at the recipe's lengths."""
    test = data.test[: recipe.eval_tokens + 1] if recipe.eval_tokens else data.test
    measured = perplexity_by_length(model, test, recipe.eval_lens)
    return {"protocol": measured[0].protocol, "split": "test", "tokens": measured[0].tokens,
            "perplexity": {str(m.length): m.perplexity for m in measured}}


def check(recipe: Recipe, data: TextData) -> None:
    """Refuse before the first step what would fail after the last."""
    test = min(len(data.test), recipe.eval_tokens + 1) if recipe.eval_tokens else len(data.test)
    if test <= max(recipe.eval_lens):
        raise ValueError(f"the test split gives {test} tokens, too few for a context of {max(recipe.eval_lens)} and its next token: shorten eval_lens or raise eval_tokens")
    if len(data.validation) < 2:
        raise ValueError(f"the validation split has {len(data.validation)} tokens, too few to predict one from another: give more text")
