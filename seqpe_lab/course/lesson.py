"""What a notebook's first cell calls, and the few things that every lesson does: predict, check, train, show.

    from seqpe_lab import lesson
    lab = lesson.start("05 The contrastive loss")
"""
from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqpe_lab.course.publish import NOT_SEEN, write_figure
from seqpe_lab.devices import best_device
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.recipes import (
    ABOUT,
    ABOUT_IMAGES,
    ABOUT_QA,
    SCALES,
    ImageRecipe,
    Recipe,
    Scale,
    Training,
    default_scale,
    image_model,
    language_model,
    question_answering,
    tuned_method,
)
from seqpe_lab.runs import Run
from seqpe_lab.tasks.image_data import ImageData, load_images
from seqpe_lab.tasks.question_data import QAData, load_questions
from seqpe_lab.tasks.text_data import TextData, load_text
from seqpe_lab.training import train, trained_model

if TYPE_CHECKING:  # timm takes seconds to import
    from seqpe_lab.models.vit import ViT


class Lesson:
    """A lesson's settings: ``scale``, ``seed``, ``device``, and what it has trained and shown."""

    def __init__(self, title: str, scale: str, seed: int):
        self.title, self.scale, self.seed = title, scale, seed
        self.device = best_device()

    def at_scale(self, **values):
        """Pick a value by scale: ``lab.at_scale(smoke=5, small=300)``; a larger scale takes the largest given."""
        given = [values[s] for s in SCALES[: SCALES.index(self.scale) + 1] if s in values]
        if not given:
            raise ValueError(f"no value for scale {self.scale!r} or below: give smoke=...")
        return given[-1]

    def recipe(self, method: str, **overrides) -> Recipe:
        """The recipe of a language model at this lesson's scale and seed."""
        return language_model(method, self.scale, self.seed, **overrides)

    def image_recipe(self, method: str, **overrides) -> ImageRecipe:
        """The recipe of an image model at this lesson's scale and seed."""
        return image_model(method, self.scale, self.seed, **overrides)

    def train(self, method: str, **overrides) -> Run:
        """Train a language model with a progress bar, or take a finished run from the runs folder."""
        return self._train(self.recipe(method, **overrides), self.recipe(method), ABOUT)

    def train_images(self, method: str, **overrides) -> Run:
        """Train an image model with a progress bar, or take a finished run from the runs folder."""
        return self._train(self.image_recipe(method, **overrides), self.image_recipe(method), ABOUT_IMAGES)

    def tune(self, method: str, **overrides) -> Run:
        """Fine-tune a language model of this scale to answer questions, or take a finished run; the language model is trained first if it is not."""
        self.train(tuned_method(method))
        recipe = question_answering(method, self.scale, self.seed, **overrides)
        return self._train(recipe, question_answering(method, self.scale, self.seed), ABOUT_QA)

    def _train(self, recipe: Training, usual: Training, about: dict[str, Scale]) -> Run:
        run = Run(recipe)
        if run.state == "finished":
            print(f"{recipe.method}: finished run {run.folder.name}")
            return run
        as_usual = all(getattr(recipe, name) == getattr(usual, name) for name in ("steps", "batch", "d_model", "layers", "train_shape"))
        time = f" ({about[self.scale].time} on {about[self.scale].hardware})" if as_usual else ""  # true of the scale's own amount of work only
        what = f"{recipe.train_len} tokens" if isinstance(recipe, Recipe) else f"{recipe.image_size} x {recipe.image_size} pixels"
        print(f"{recipe.method}: training {recipe.steps} steps of {recipe.batch} x {what}{time}")
        return train(recipe, data=self.data(recipe))

    def text(self, source: str | None = None, tokenizer: str | None = None) -> TextData:
        """The text of this scale (loaded once)."""
        recipe = self.recipe("none")
        return _text(source or recipe.source, tokenizer or recipe.tokenizer)

    def images(self, source: str | None = None) -> ImageData:
        """The images of this scale (loaded once)."""
        return _images(source or self.image_recipe("none").source)

    def data(self, recipe: Training) -> TextData | QAData | ImageData:
        """What a recipe trains on (loaded once)."""
        if recipe.task == "qa":
            return _questions(recipe.questions, recipe.tokenizer, recipe.source)
        return _images(recipe.source) if recipe.task == "image" else _text(recipe.source, recipe.tokenizer)

    def model(self, run: Run, device: torch.device | str | None = None) -> GPT2 | ViT:
        """A run's model with its trained weights, in evaluation mode on the lesson's device.

        Args:
            device: another one, "cpu" where its weights or vectors are looked at.
        """
        return trained_model(run, self.data(run.recipe), device or self.device)

    def expect(self, claim: str, seen) -> None:
        """Say whether what was trained here shows a claim of the lesson; at smoke scale, where nothing is learnt, say nothing.

        Chance has a part in every training: the same seed on another processor is another run. So this
        does not stop the notebook; what holds for any training is asserted.

        Args:
            seen: a truth value, also as a tensor.

        >>> Lesson("05", "small", seed=0).expect("the loss falls", 0.9 < 0.5)
        ✗ not in this run: the loss falls
        """
        seen = bool(seen)
        if self.scale != "smoke":
            print(f"✓ {claim}" if seen else f"{NOT_SEEN}{claim}")

    def show(self, figure, name: str):
        """Show a figure; make it the last expression of a cell.

        When the lessons are executed for the figures page, the figure is written there and its
        static image is shown in place of the live one, which keeps executed lessons small.

        Args:
            figure: a plotly figure.
            name: file name without ending, "extrapolation" say; the lesson's number is put before it.
        """
        folder = os.environ.get("SEQPE_FIGURES")
        if not folder:
            return figure
        from IPython.display import HTML
        number = re.match(r"\d+", self.title)
        name = f"{number[0] + '-' if number else ''}{name}"
        has_image = write_figure(figure, Path(folder), name)
        shown = f'<img src="../{name}.png" style="max-width:100%">' if has_image else f'<iframe src="../{name}.html" width="100%" height="540"></iframe>'
        return HTML(f'<a href="../{name}.html">{shown}</a>')

    def explore(self, name: str):
        """An explorer of :mod:`seqpe_lab.explorers`, or its static twin where lessons are executed for the figures page.

        Make it the last expression of a cell.
        """
        from seqpe_lab.explorers import explore
        panel = explore(name)
        return self.show(panel.figure, f"explorer-{name}") if os.environ.get("SEQPE_FIGURES") else panel


@functools.lru_cache(maxsize=4)
def _images(source: str) -> ImageData:
    return load_images(source)


@functools.lru_cache(maxsize=4)
def _questions(source: str, tokenizer: str, text: str) -> QAData:
    return load_questions(source, tokenizer, text)


@functools.lru_cache(maxsize=4)
def _text(source: str, tokenizer: str) -> TextData:
    return load_text(source, tokenizer)


def start(title: str, seed: int = 0) -> Lesson:
    """Begin a lesson: fix the seed and say at which scale, with which seed and where it runs.

    The scale comes from $SEQPE_SCALE: "smoke", "small" (the default), "medium" or "full".
    """
    scale = default_scale()
    if scale not in SCALES:
        raise ValueError(f"SEQPE_SCALE={scale!r} is no scale: choose from {', '.join(SCALES)}")
    torch.manual_seed(seed)
    lesson = Lesson(title, scale, seed)
    print(f"{title} · scale {scale} · seed {seed} · {lesson.device.type}, {torch.get_num_threads()} threads · torch {torch.__version__}")
    if scale == "smoke":
        print("At smoke scale nothing is learnt: the numbers below only prove that the lesson runs. Set SEQPE_SCALE=small for the real ones.")
    return lesson


def predict(question: str, choices: Sequence[str]) -> Callable[[str, str], None]:
    """Ask before showing: displays the question with its choices, and returns ``reveal(answer, why)``.

    Nothing waits for the reader; ``reveal`` says how the committed prediction compares.

    >>> reveal = predict("Which is nearer to 100?", ["123", "1000"])       # doctest: +SKIP
    >>> reveal("1000", "they share more digits")                           # doctest: +SKIP
    """
    if len(choices) < 2:
        raise ValueError(f"a prediction needs at least two choices, got {list(choices)}")
    import ipywidgets
    from IPython.display import display

    buttons = ipywidgets.RadioButtons(options=list(choices), value=None, layout=ipywidgets.Layout(width="auto"))
    buttons.add_class("seqpe-prediction")
    display(ipywidgets.VBox([ipywidgets.HTML(f"<b>Your prediction.</b> {question}"), buttons]))

    def reveal(answer: str, why: str = "") -> None:
        if answer not in choices:
            raise ValueError(f"{answer!r} is none of the choices {list(choices)}")
        verdict = "no prediction made" if buttons.value is None else "as you predicted" if buttons.value == answer else f"you predicted: {buttons.value}"
        print(f"{question}\n→ {answer} ({verdict}). {why}".rstrip())

    reveal.buttons = buttons
    return reveal


def check(mine, reference, what: str = "mine equals the library's", tolerance: float = 1e-5) -> None:
    """Assert that two tensors (or numbers) agree and print by how much.

    Raises:
        AssertionError: another shape, or a difference above ``tolerance``.

    >>> check(torch.tensor([1., 2.]), torch.tensor([1., 2.]), "a copy")
    ✓ a copy: (2,), largest difference 0.0e+00
    """
    if mine is None:
        raise AssertionError(f"✗ {what}: nothing to check yet, the exercise still returns None")
    mine, reference = (torch.as_tensor(t).detach().double() for t in (mine, reference))
    if mine.shape != reference.shape:
        raise AssertionError(f"✗ {what}: shape {tuple(mine.shape)}, expected {tuple(reference.shape)}")
    both_infinite = mine.isinf() & (mine == reference)
    worst = float(torch.where(both_infinite, 0.0, (mine - reference).abs()).max()) if mine.numel() else 0.0
    if not worst <= tolerance:
        raise AssertionError(f"✗ {what}: largest difference {worst:.1e}, allowed {tolerance:.0e}")
    print(f"✓ {what}: {tuple(mine.shape)}, largest difference {worst:.1e}")


def exercise(attempt: Callable[[], None]) -> None:
    """Run a checker on the reader's answer: says what is still missing instead of stopping the notebook.

    Only for stubs that wait to be filled in; the lesson's own claims use ``assert`` and :func:`check`.
    """
    try:
        attempt()
    except (AssertionError, NotImplementedError) as message:
        print(f"Not yet: {message}")
    else:
        print("Solved.")


def tensor_table(tensor: Tensor, rows: Sequence | None = None, columns: Sequence | None = None, digits: int = 3) -> str:
    """A small matrix as aligned text, with names for rows and columns, to be checked by hand.

    >>> print(tensor_table(torch.tensor([[1., 2.], [3., 4.]]), rows="ab", columns="xy", digits=1))
         x   y
    a  1.0 2.0
    b  3.0 4.0
    """
    if tensor.dim() != 2:
        raise ValueError(f"a table needs a matrix, got shape {tuple(tensor.shape)}")
    rows = [str(r) for r in (rows if rows is not None else range(len(tensor)))]
    columns = [str(c) for c in (columns if columns is not None else range(tensor.shape[1]))]
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row] for row in tensor.tolist()]
    width = max(len(c) for row in [columns, *cells] for c in row)
    first = max(map(len, rows))
    lines = [" " * (first + 2) + " ".join(c.rjust(width) for c in columns)]
    lines += [f"{name.ljust(first)}  " + " ".join(c.rjust(width) for c in row) for name, row in zip(rows, cells)]
    return "\n".join(lines)
