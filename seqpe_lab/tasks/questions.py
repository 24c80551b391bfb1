"""Question answering as a task: a language model is fine-tuned on prompts that hold the answer.

The loss covers the answer's tokens only. Two things are measured: the perplexity of the right
answer, and whether greedy generation gives exactly that answer.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.models.output_layer import next_token_loss
from seqpe_lab.recipes import QARecipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.base import epoch_order, evaluation_mode
from seqpe_lab.tasks.prompts import Prompt, Prompts
from seqpe_lab.tasks.question_data import QAData, load_questions
from seqpe_lab.tasks.text import TextTask

VALIDATION_QUESTIONS = 64
NOT_COUNTED = -100  # a target that the loss ignores
DEPTHS = 5  # parts of the context for which accuracy is counted separately


class QuestionTask(TextTask):
    """A language model that learns to answer questions over many documents (Sec. 4.2)."""
    recipe: QARecipe

    def load_data(self) -> QAData:
        return load_questions(self.recipe.questions, self.recipe.tokenizer, self.recipe.source,
                              self.kept_tokenizer)

    def make_model(self, outputs: int) -> GPT2:
        """The language model's; its position encoder is frozen where the recipe keeps it."""
        model = super().make_model(outputs)
        if self.recipe.keep_encoder and self.recipe.encoding == "seqpe":
            model.encoding.encoder.requires_grad_(False)
        return model

    def training_set(self, data: QAData) -> Examples:
        return Examples(self.recipe, data)

    def main_loss(self, model: GPT2, batch: tuple[Tensor, Tensor], generator: torch.Generator,
                  **options) -> Tensor:
        """Cross entropy of the answers' tokens and end marks, nats per token."""
        tokens, targets = batch
        counted = targets != NOT_COUNTED
        hidden = model.hidden_states(tokens, **options)[counted]
        return next_token_loss(hidden, model.transformer.wte.weight, targets[counted])

    def exam(self, data: QAData, split: str, questions: int, length: int) -> list[Prompt]:
        """Prompts of ``length`` tokens: the same questions at every length and for all seeds."""
        recipe = self.recipe
        prompts, fitting = _candidates(data, split, recipe.template, min(recipe.eval_lens))
        drawn = torch.randperm(len(fitting), generator=seeded(0, 0, stream=4))[:questions].tolist()
        return [prompts.make(fitting[i], length, f"exam/{length}") for i in drawn]

    def validate(self, model: GPT2, data: QAData) -> float:
        """Nats per token of the answers at the trained length."""
        prompts = self.exam(data, "validation", VALIDATION_QUESTIONS, self.recipe.train_len)
        return mean_nats(self.once(lambda: answer(model, data, prompts, new_tokens=1)))

    def answers(self, model: GPT2, data: QAData, length: int, split: str = "test") -> list[Answer]:
        """The answers to the recipe's exam at a length, on a split."""
        prompts = self.exam(data, split, self.recipe.eval_questions, length)
        return answer(model, data, prompts, new_tokens=self.recipe.new_tokens)

    def evaluate(self, model: GPT2, data: QAData) -> dict:
        """Perplexity of the answers and exact match, percent, at the recipe's lengths.

        "by_depth": for each part of the context, [right answers, questions].
        """
        measured = self.once(
            lambda: {str(n): self.answers(model, data, n, self.recipe.eval_split)
                     for n in self.recipe.eval_lens})
        count = max(map(len, measured.values()))
        return {
            "protocol": f"the same {count} questions at every length, {self.recipe.new_tokens} "
                        "greedy tokens",
            "split": self.recipe.eval_split, "questions": count,
            "perplexity": {n: float(torch.tensor(mean_nats(answers)).exp())
                           for n, answers in measured.items()},
            "exact_match": {n: exact_match(answers) for n, answers in measured.items()},
            "by_depth": {n: by_depth(answers) for n, answers in measured.items()}}

    def check(self, data: QAData) -> None:
        for length in self.recipe.eval_lens:
            self.exam(data, self.recipe.eval_split, self.recipe.eval_questions, length)
        self.exam(data, "validation", VALIDATION_QUESTIONS, self.recipe.train_len)


@lru_cache(maxsize=4)  # every document and question of the split must be tokenised for it
def _candidates(data: QAData, split: str, template: str, budget: int) -> tuple[Prompts, list[int]]:
    prompts = Prompts(data, split, template)
    return prompts, prompts.fitting(budget)


class Examples(Dataset):
    """The training examples: item i is always the same question in the same context.

    Each epoch goes through the questions that fit in a new order, drawn from (seed, epoch), and
    surrounds each with distractors, drawn from (seed, i). During the first part of training, the
    recipe's share ``alone``, there are no distractors: the model first learns to copy an answer,
    then to choose among documents.
    """

    def __init__(self, recipe: QARecipe, data: QAData):
        self.recipe, self.prompts = recipe, Prompts(data, "train", recipe.template)
        self.fitting = self.prompts.fitting(recipe.train_len)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets, int64 (train_len,) each, padded behind the answer."""
        recipe, (epoch, place) = self.recipe, divmod(index, len(self.fitting))
        number = self.fitting[int(epoch_order(len(self.fitting), recipe.seed, epoch)[place])]
        alone = index < recipe.alone * recipe.steps * recipe.batch
        prompt = self.prompts.make(number, recipe.train_len, f"{recipe.seed}/{index}",
                                   distractors=0 if alone else None)
        tokens = torch.zeros(recipe.train_len, dtype=torch.long)
        targets = torch.full_like(tokens, NOT_COUNTED)
        begin, end = len(prompt.tokens), len(prompt.tokens) + len(prompt.answer)
        tokens[:end] = torch.cat([prompt.tokens, prompt.answer])
        targets[begin - 1: end - 1] = prompt.answer
        return tokens, targets


# --- answers -------------------------------------------------------------------------------------

class Answer(NamedTuple):
    """A model's answer to one prompt."""
    nats: float  # negative log-likelihood of the right answer's tokens, without the end mark
    tokens: int  # how many those are
    generated: str  # by greedy generation, up to the end mark
    correct: bool  # whether that is a right answer, apart from case and surrounding space
    depth: float  # of the document with the answer, as in Prompt


def exact_match(answers: Sequence[Answer]) -> float:
    """Right answers, percent."""
    return 100 * sum(a.correct for a in answers) / len(answers)


def mean_nats(answers: Sequence[Answer]) -> float:
    """Nats per token of the right answers."""
    return sum(a.nats for a in answers) / sum(a.tokens for a in answers)


def by_depth(answers: Sequence[Answer]) -> list[list[int]]:
    """[right answers, questions] for each of ``DEPTHS`` parts of the context."""
    parts = [[a.correct for a in answers if min(DEPTHS - 1, int(DEPTHS * a.depth)) == part]
             for part in range(DEPTHS)]
    return [[sum(part), len(part)] for part in parts]


def answer(model: GPT2, data: QAData, prompts: Sequence[Prompt], *, new_tokens: int = 16,
           start: int = 0, tokens_per_pass: int = 16_384) -> list[Answer]:
    """Let a model answer, in evaluation mode and on its own device.

    Prompts of the same length are read together, each once.

    Args:
        new_tokens: the longest answer it may give.
        start: position of the first token.

    Returns:
        One answer for each prompt, in order.

    Raises:
        ValueError: prompt and answer reach beyond the model's ``max_position``.
    """
    found: dict[int, Answer] = {}
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
    with evaluation_mode(model) as device:
        for length, group in groupby(by_length, key=lambda i: len(prompts[i].tokens)):
            same, at_once = list(group), max(1, tokens_per_pass // length)
            for some in (same[i: i + at_once] for i in range(0, len(same), at_once)):
                chosen = [prompts[i] for i in some]
                found |= zip(some, _answer_together(model, data, chosen, new_tokens, start,
                                                        device))
    return [found[i] for i in range(len(prompts))]


def _answer_together(model: GPT2, data: QAData, prompts: Sequence[Prompt], new_tokens: int,
                     start: int, device: torch.device) -> list[Answer]:
    """Answers to prompts of one length.

    The context is read once; the right answer and the model's own both continue from its cache.
    """
    tokens = torch.stack([prompt.tokens for prompt in prompts]).to(device)
    right = pad_sequence([prompt.answer for prompt in prompts], batch_first=True,
                         padding_value=NOT_COUNTED)
    longest = max(new_tokens, right.shape[1])
    options = dict(start=start, context_len=start + tokens.shape[1] + longest)
    cache: list = []
    if tokens.shape[1] > 1:
        model.hidden_states(tokens[:, :-1], cache=cache, **options)
    read = torch.cat([tokens[:, -1:], right[:, :-1].clamp(min=0).to(device)], 1)
    logits = model(read, cache=list(cache), **options).float()
    nats = F.cross_entropy(logits.transpose(1, 2), right.to(device), ignore_index=NOT_COUNTED,
                           reduction="none").cpu()
    generated = model.generate(tokens[:, -1:], new_tokens, cache=list(cache), **options)
    answers = []
    for prompt, costs, numbers in zip(prompts, nats, generated[:, 1:].cpu().tolist()):
        counted = len(prompt.answer) - len(data.end)
        text = data.decode(_until(numbers, data.end)).strip()
        right_texts = {right.strip().lower() for right in (prompt.text, *prompt.others)}
        correct = text.lower() in right_texts
        answers.append(Answer(costs[:counted].sum().item(), counted, text, correct, prompt.depth))
    return answers


def _until(tokens: list[int], end: tuple[int, ...]) -> list[int]:
    """The tokens before the end mark."""
    return tokens[: tokens.index(end[0])] if end and end[0] in tokens else tokens
