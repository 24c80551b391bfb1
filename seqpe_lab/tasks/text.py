"""Language modelling as a task: chunks of a text, cross entropy of the next token, perplexity."""
from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import Dataset

from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.output_layer import next_token_loss
from seqpe_lab.position_sampling import sampled_positions
from seqpe_lab.recipes import Recipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.base import Task
from seqpe_lab.tasks.perplexity import perplexity, perplexity_by_length
from seqpe_lab.tasks.text_data import TextData, load_text
from seqpe_lab.tasks.token_storage import StoredTokens

VALIDATION_TOKENS = 16_384


class TextTask(Task):
    """A GPT-2 that is trained on a text (Sec. 4.1)."""
    recipe: Recipe

    def load_data(self) -> TextData:
        return load_text(self.recipe.source, self.recipe.tokenizer, self.kept_tokenizer)

    def outputs(self, data: TextData) -> int:
        return data.vocab_size

    def make_model(self, outputs: int) -> GPT2:
        recipe = self.recipe
        return GPT2(GPT2Config(
            vocab_size=outputs, d_model=recipe.d_model, layers=recipe.layers, heads=recipe.heads,
            train_len=recipe.train_len, max_position=recipe.max_position, dropout=recipe.dropout,
            encoding=recipe.encoding, encoding_options=dict(recipe.encoding_options)))

    def training_set(self, data: TextData) -> Chunks:
        return Chunks(data.train, self.recipe.train_len, self.recipe.seed)

    def main_loss(self, model: GPT2, batch: Tensor, generator: torch.Generator,
                  **options) -> Tensor:
        """Cross entropy of the next token, nats per token, for tokens (B, train_len + 1)."""
        hidden = model.hidden_states(batch[:, :-1], **options).flatten(0, 1)
        return next_token_loss(hidden, model.transformer.wte.weight, batch[:, 1:].flatten())

    def validate(self, model: GPT2, data: TextData) -> float:
        """Nats per token on the start of the validation split."""
        sample = data.validation[: VALIDATION_TOKENS + 1]
        length = min(self.recipe.train_len, len(sample) - 1)
        return self.once(lambda: perplexity(model, sample, length, positions=self.positions).nats)

    def evaluate(self, model: GPT2, data: TextData) -> dict:
        """Perplexity at the recipe's lengths."""
        split, count = self.recipe.eval_split, self.recipe.eval_tokens
        tokens = getattr(data, split)
        tokens = tokens[: count + 1] if count else tokens
        measured = self.once(
            lambda: perplexity_by_length(model, tokens, self.recipe.eval_lens,
                                         positions=self.positions))
        return {"protocol": measured[0].protocol, "split": split, "tokens": measured[0].tokens,
                "perplexity": {str(m.length): m.perplexity for m in measured}}

    def positions(self, length: int) -> Tensor | None:
        """Of every text of that length in an evaluation; None for 0, 1, 2, ...

        A model that was trained on random subsets of all positions reads texts on such a subset,
        too (Ruoss et al. 2023), always the same one.
        """
        recipe = self.recipe
        if recipe.position_sampling != "random":
            return None
        return sampled_positions("random", 1, length, recipe.max_position,
                                 generator=seeded(0, length, stream=8))[0]

    def check(self, data: TextData) -> None:
        split, longest = self.recipe.eval_split, max(self.recipe.eval_lens)
        tokens = len(getattr(data, split))
        if self.recipe.eval_tokens:
            tokens = min(tokens, self.recipe.eval_tokens + 1)
        if tokens <= longest:
            raise ValueError(
                f"the {split} split gives {tokens} tokens, too few for a context of {longest} and "
                "its next token: shorten eval_lens or raise eval_tokens")
        if len(data.validation) < 2:
            raise ValueError(f"the validation split has {len(data.validation)} tokens, too few to "
                             "predict one from another: give more text")


class Chunks(Dataset):
    """The training sequences: item i is always the same train_len + 1 tokens.

    Each epoch begins at a new offset and goes through the chunks in a new order, both drawn from
    (seed, epoch).

    Args:
        tokens: whole numbers (T,), of any integer type.
        length: train_len.

    Raises:
        ValueError: a text too short for two chunks.
    """

    def __init__(self, tokens: Tensor | StoredTokens, length: int, seed: int):
        self.tokens, self.length, self.seed = tokens, length, seed
        self.per_epoch = (len(tokens) - 1) // length - 1
        if self.per_epoch < 1:
            raise ValueError(f"the training text has {len(tokens)} tokens, too few for sequences "
                             f"of {length}: shorten train_len")

    def __getitem__(self, index: int) -> Tensor:
        """int64 (length + 1,)."""
        epoch, place = divmod(index, self.per_epoch)
        offset, order = _offset_and_order(self.length, self.per_epoch, self.seed, epoch)
        begin = offset + int(order[place]) * self.length
        return self.tokens[begin: begin + self.length + 1].long()


@lru_cache(maxsize=4)
def _offset_and_order(length: int, per_epoch: int, seed: int, epoch: int) -> tuple[int, Tensor]:
    generator = seeded(seed, epoch, stream=1)
    offset = int(torch.randint(length, (1,), generator=generator))
    return offset, torch.randperm(per_epoch, generator=generator)
