"""Kinds of work for the training loop: language models, questions, images, algorithms."""
from __future__ import annotations

from typing import Any

from seqpe_lab.recipes import Training
from seqpe_lab.tasks.base import Data, Task

__all__ = ["Data", "Task", "task_of"]


def task_of(recipe: Training, *options: Any) -> Task:
    """The task that a recipe belongs to.

    Args:
        options: of :class:`~seqpe_lab.tasks.base.Task`, how its work is divided.

    Raises:
        ValueError: a recipe of a task that this version does not know.

    >>> from seqpe_lab.recipes import language_model
    >>> type(task_of(language_model("alibi", "smoke"))).__name__
    'TextTask'
    """
    if recipe.task == "lm":
        from seqpe_lab.tasks.text import TextTask
        return TextTask(recipe, *options)
    if recipe.task == "qa":
        from seqpe_lab.tasks.questions import QuestionTask
        return QuestionTask(recipe, *options)
    if recipe.task == "image":
        from seqpe_lab.tasks.images import ImageTask
        return ImageTask(recipe, *options)
    if recipe.task == "algorithm":
        from seqpe_lab.tasks.algorithms import AlgorithmTask
        return AlgorithmTask(recipe, *options)
    raise ValueError(f"unknown task {recipe.task!r}: choose from lm, qa, image, algorithm")
