"""Question answering as a task for the training loop: data, model, loss, validation, results.

A language model is fine-tuned on prompts that hold the answer somewhere; only the answer's tokens
count. What it answers is measured twice: the perplexity of the right answer, and whether greedy
generation gives it to the letter.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.recipes import QARecipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks import text as language
from seqpe_lab.tasks.prompts import Prompt, Prompts, QAData, load_questions

VALIDATION_QUESTIONS = 64
NOT_COUNTED = -100  # a target that no loss sees
DEPTHS = 5  # parts of the context in which accuracy is counted apart


def make_model(recipe: QARecipe, vocab_size: int) -> GPT2:
    """The language model's; its position encoder learns nothing where the recipe keeps it."""
    model = language.make_model(recipe, vocab_size)
    if recipe.keep_encoder and recipe.encoding == "seqpe":
        model.encoding.encoder.requires_grad_(False)
    return model


def load_data(recipe: QARecipe) -> QAData:
    return load_questions(recipe.questions, recipe.tokenizer, recipe.source)


def outputs(data: QAData) -> int:
    return data.vocab_size


class Examples(Dataset):
    """The training stream: item i is always the same question in the same context.

    Each epoch goes through the questions that fit in another order, drawn from (seed, epoch), and
    surrounds each with other documents, drawn from (seed, i); at the beginning, where the recipe says
    so, with none: to copy is learnt first, to choose afterwards.
    """

    def __init__(self, recipe: QARecipe, data: QAData):
        self.recipe, self.prompts, self._epoch = recipe, Prompts(data, "train", recipe.template), None
        self.fitting = fitting(self.prompts, recipe.train_len)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets, both int64 (train_len,): padded behind the answer, where no token is seen by it."""
        epoch, place = divmod(index, len(self.fitting))
        if epoch != self._epoch:
            self._order = torch.randperm(len(self.fitting), generator=seeded(self.recipe.seed, epoch, stream=1)).tolist()
            self._epoch = epoch
        begins = index < self.recipe.alone * self.recipe.steps * self.recipe.batch
        prompt = self.prompts.make(self.fitting[self._order[place]], self.recipe.train_len, f"{self.recipe.seed}/{index}", most=0 if begins else None)
        tokens, targets = torch.zeros(self.recipe.train_len, dtype=torch.long), torch.full((self.recipe.train_len,), NOT_COUNTED)
        end = len(prompt.tokens) + len(prompt.answer)
        tokens[:end] = torch.cat([prompt.tokens, prompt.answer])
        targets[len(prompt.tokens) - 1: end - 1] = prompt.answer
        return tokens, targets


def training_set(recipe: QARecipe, data: QAData) -> Examples:
    return Examples(recipe, data)


def fitting(prompts: Prompts, budget: int) -> list[int]:
    """The questions that fit a budget of tokens with the document that answers them.

    Raises:
        ValueError: none does.
    """
    found = [index for index in range(len(prompts)) if prompts.fits(index, budget)]
    if not found:
        raise ValueError(f"no question fits {budget} tokens with its document and its answer: raise train_len")
    return found


def main_loss(model: GPT2, recipe: QARecipe, batch: tuple[Tensor, Tensor], generator: torch.Generator, **options) -> Tensor:
    """Cross entropy of the answers' tokens and end marks, nats a token."""
    tokens, targets = batch
    counted = targets != NOT_COUNTED
    hidden = model.read(tokens, **options)[counted]
    return F.cross_entropy(F.linear(hidden, model.transformer.wte.weight).float(), targets[counted])


class Answer(NamedTuple):
    """What a model makes of one prompt."""
    nats: float  # negative log-likelihood of the right answer's tokens, end mark not counted
    tokens: int  # how many those are
    said: str  # what greedy generation gives, up to the end mark
    correct: bool  # whether that is the right answer, case and space around it aside
    depth: float


@torch.no_grad()
def answer(model: GPT2, data: QAData, prompts: Sequence[Prompt], *, new_tokens: int = 16, start: int = 0, tokens_per_pass: int = 16_384) -> list[Answer]:
    """Let a model answer, in evaluation mode; prompts of the same length are read together and once.

    Args:
        new_tokens: the longest answer it may give.
        start: position of the first token.

    Returns:
        One for each prompt, in order.

    Raises:
        ValueError: prompt and answer reach beyond the model's ``max_position``.
    """
    was_training = model.training
    model.eval()
    found: dict[int, Answer] = {}
    try:
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
        for length, same in groupby(by_length, key=lambda i: len(prompts[i].tokens)):
            same, at_once = list(same), max(1, tokens_per_pass // length)
            for some in (same[i: i + at_once] for i in range(0, len(same), at_once)):
                found |= zip(some, _answer_together(model, data, [prompts[i] for i in some], new_tokens, start))
    finally:  # also where a context is refused
        model.train(was_training)
    return [found[i] for i in range(len(prompts))]


def _answer_together(model: GPT2, data: QAData, prompts: Sequence[Prompt], new_tokens: int, start: int) -> list[Answer]:
    """Answers to prompts of one length; the context is read once, and both the right answer and the model's own go on from it."""
    device, longest = next(model.parameters()).device, max(len(prompt.answer) for prompt in prompts)
    tokens = torch.stack([prompt.tokens for prompt in prompts]).to(device)
    context = start + tokens.shape[1] + max(new_tokens, longest)  # the same for both continuations
    cache: list = []
    if tokens.shape[1] > 1:
        model.read(tokens[:, :-1], start=start, cache=cache, context_len=context)
    right = torch.nn.utils.rnn.pad_sequence([prompt.answer for prompt in prompts], batch_first=True, padding_value=NOT_COUNTED).to(device)
    logits = model(torch.cat([tokens[:, -1:], right[:, :-1].clamp(min=0)], 1), start=start, cache=list(cache), context_len=context).float()
    nats = F.cross_entropy(logits.transpose(1, 2), right, ignore_index=NOT_COUNTED, reduction="none").cpu()
    said = model.generate(tokens[:, -1:], new_tokens, start=start, cache=list(cache), context_len=context)[:, 1:].tolist()
    answers = []
    for prompt, costs, numbers in zip(prompts, nats, said):
        counted, text = len(prompt.answer) - len(data.end), data.decode(_until(numbers, data.end)).strip()
        answers.append(Answer(costs[:counted].sum().item(), counted, text, text.lower() == prompt.text.strip().lower(), prompt.depth))
    return answers


def _until(tokens: list[int], end: tuple[int, ...]) -> list[int]:
    """What stands before the end mark."""
    return tokens[: tokens.index(end[0])] if end and end[0] in tokens else tokens


def exam(recipe: QARecipe, data: QAData, split: str, questions: int, length: int) -> list[Prompt]:
    """Prompts of ``length`` tokens about questions of a split: the same questions at every length, drawn once for all seeds."""
    prompts, able = _candidates(data, split, recipe.template, min(recipe.eval_lens))
    drawn = torch.randperm(len(able), generator=seeded(0, 0, stream=4))[:questions].tolist()
    return [prompts.make(able[i], length, f"exam/{length}") for i in drawn]


@functools.lru_cache(maxsize=4)
def _candidates(data: QAData, split: str, template: str, budget: int) -> tuple[Prompts, list[int]]:
    """Found once: every document and question of the split must be tokenised for it."""
    prompts = Prompts(data, split, template)
    return prompts, fitting(prompts, budget)


def exact_match(answers: Sequence[Answer]) -> float:
    """Percent of right answers."""
    return 100 * sum(a.correct for a in answers) / len(answers)


def mean_nats(answers: Sequence[Answer]) -> float:
    return sum(a.nats for a in answers) / sum(a.tokens for a in answers)


def validate(model: GPT2, recipe: QARecipe, data: QAData) -> float:
    """Nats a token of the answers at the trained length."""
    return mean_nats(answer(model, data, exam(recipe, data, "validation", VALIDATION_QUESTIONS, recipe.train_len), new_tokens=1))


def evaluate(model: GPT2, recipe: QARecipe, data: QAData) -> dict:
    """Perplexity of the answers and exact match, percent, on the test split at the recipe's lengths; exact match also by depth."""
    perplexity, matches, by_depth = {}, {}, {}
    for length in recipe.eval_lens:
        answers = answer(model, data, exam(recipe, data, "test", recipe.eval_questions, length), new_tokens=recipe.new_tokens)
        perplexity[str(length)] = float(torch.tensor(mean_nats(answers)).exp())
        matches[str(length)] = exact_match(answers)
        parts = [[a.correct for a in answers if min(DEPTHS - 1, int(DEPTHS * a.depth)) == part] for part in range(DEPTHS)]
        by_depth[str(length)] = [[sum(part), len(part)] for part in parts]
    return {"protocol": f"the same {len(answers)} questions at every length, {recipe.new_tokens} greedy tokens", "split": "test", "questions": len(answers),
            "perplexity": perplexity, "exact_match": matches, "by_depth": by_depth}


def check(recipe: QARecipe, data: QAData) -> None:
    """Refuse before the first step what would fail after the last."""
    for length in recipe.eval_lens:
        exam(recipe, data, "test", recipe.eval_questions, length)
    exam(recipe, data, "validation", VALIDATION_QUESTIONS, recipe.train_len)
