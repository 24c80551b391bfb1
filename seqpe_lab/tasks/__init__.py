"""Kinds of work for the training loop: language models, question answering, image classifiers."""
from __future__ import annotations

from seqpe_lab.recipes import Training
from seqpe_lab.tasks.base import Data, Task

__all__ = ["Data", "Task", "task_of"]


def task_of(recipe: Training) -> Task:
    """The task that a recipe belongs to.

    Raises:
        ValueError: a recipe of a task that this version does not know.

    >>> from seqpe_lab.recipes import language_model
    >>> type(task_of(language_model("alibi", "smoke"))).__name__
    'TextTask'
    """
    if recipe.task == "lm":
        from seqpe_lab.tasks.text import TextTask
        return TextTask(recipe)
    if recipe.task == "qa":
        from seqpe_lab.tasks.questions import QuestionTask
        return QuestionTask(recipe)
    if recipe.task == "image":
        from seqpe_lab.tasks.images import ImageTask
        return ImageTask(recipe)
    raise ValueError(f"unknown task {recipe.task!r}: choose from lm, qa, image")
