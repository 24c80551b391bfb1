"""What lessons call: ``start`` and the methods of what it returns, ``check``, ``tensor_table``.

    from seqpe_lab.course import lesson
    lab = lesson.start("05 The contrastive loss")
"""
from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from seqpe_lab import recipes
from seqpe_lab.course.figure_files import check_figure, write_on_page
from seqpe_lab.course.hidden_errors import executed
from seqpe_lab.course.reader_answers import ReaderAnswers
from seqpe_lab.devices import best_device, leave_a_core
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.provenance import provenance
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.runs import Run
from seqpe_lab.stop_signals import imports_finish
from seqpe_lab.tasks.image_data import ImageData, load_images
from seqpe_lab.tasks.question_data import QAData, load_questions
from seqpe_lab.tasks.text_data import TextData, load_text
from seqpe_lab.training import train

if TYPE_CHECKING:  # timm takes seconds to import
    from seqpe_lab.course.drawings import Drawing
    from seqpe_lab.models.vit import ViT

NOT_SEEN = "✗ not in this run: "  # begins the line on which a lesson reports a missing effect

_text = functools.lru_cache(maxsize=4)(load_text)
_images = functools.lru_cache(maxsize=4)(load_images)
_questions = functools.lru_cache(maxsize=4)(load_questions)


class Lesson(ReaderAnswers):
    """A lesson's settings: ``title``, ``scale``, ``seed``, ``device``; ``own``, for its figures."""

    def __init__(self, title: str, scale: str, seed: int):
        super().__init__(title)
        self.scale, self.seed = scale, seed
        self.device = best_device()
        self.own = f"your run, one seed ({seed})"

    def at_scale(self, **values):
        """The value for this scale: the largest given that is not above it.

        >>> Lesson("05", "medium", seed=0).at_scale(smoke=5, small=300)
        300
        """
        scales = recipes.SCALES[: recipes.SCALES.index(self.scale) + 1]
        given = [values[scale] for scale in scales if scale in values]
        if not given:
            raise ValueError(f"no value for scale {self.scale!r} or below: give smoke=...")
        return given[-1]

    def progress(self, steps: Iterable, what: str):
        """The steps of a loop that takes seconds, with a bar that shows how far it is.

        Args:
            what: stands before the bar, such as "training the encoder".
        """
        return tqdm(steps, desc=what, leave=False, disable=executed())

    # --- training ------------------------------------------------------------------------------

    def recipe(self, method: str, **overrides) -> recipes.Recipe:
        """The recipe of a language model at this lesson's scale and seed."""
        return recipes.language_model(method, self.scale, self.seed, **overrides)

    def image_recipe(self, method: str, **overrides) -> recipes.ImageRecipe:
        """The recipe of an image model at this lesson's scale and seed."""
        return recipes.image_model(method, self.scale, self.seed, **overrides)

    def train(self, method: str, **overrides) -> Run:
        """Train a language model with a progress bar, or load a finished run."""
        return self._train(self.recipe(method, **overrides))

    def train_images(self, method: str, **overrides) -> Run:
        """Train an image model with a progress bar, or load a finished run."""
        return self._train(self.image_recipe(method, **overrides))

    def tune(self, method: str, **overrides) -> Run:
        """Fine-tune a language model to answer questions, or load a finished run.

        The language model itself is trained first, unless there is a finished run of it.
        """
        self.train(recipes.tuned_method(method))
        return self._train(recipes.question_answering(method, self.scale, self.seed, **overrides))

    @imports_finish()
    def _train(self, recipe: recipes.Training) -> Run:
        run = Run(recipe)
        if run.state == "finished":
            print(f"{recipe.method}: finished run {run.folder.name}")
            return run
        preset = recipes.MAKERS[recipe.task](recipe.method, self.scale, self.seed)
        amount, time = ("steps", "batch", "d_model", "layers", "train_shape"), ""
        if all(getattr(recipe, name) == getattr(preset, name) for name in amount):
            about = recipes.about(recipe.task, self.scale)
            time = f" ({about.time} with SeqPE, on {about.hardware})"  # of the preset's work only
        size = (f"{recipe.train_len} tokens" if isinstance(recipe, recipes.Recipe)
                else f"{recipe.image_size} x {recipe.image_size} pixels")
        print(f"{recipe.method}: training {recipe.steps} steps of {recipe.batch} x {size}{time}, "
              f"run {run.folder.name}")
        return train(recipe, data=self.data(recipe))

    def text(self, source: str | None = None, tokenizer: str | None = None) -> TextData:
        """The text of this scale (loaded once)."""
        recipe = self.recipe("none")
        return _text(source or recipe.source, tokenizer or recipe.tokenizer)

    def images(self) -> ImageData:
        """The images of this scale (loaded once)."""
        return _images(self.image_recipe("none").source)

    def data(self, recipe: recipes.Training) -> TextData | QAData | ImageData:
        """What a recipe trains on (loaded once)."""
        if recipe.task == "qa":
            return _questions(recipe.questions, recipe.tokenizer, recipe.source)
        if recipe.task == "image":
            return _images(recipe.source)
        return _text(recipe.source, recipe.tokenizer)

    @imports_finish()
    def model(self, run: Run, device: torch.device | str | None = None) -> GPT2 | ViT:
        """A run's model with its trained weights, in evaluation mode.

        Args:
            device: by default the lesson's; "cpu" to look at weights or vectors.
        """
        return trained_model(run, self.data(run.recipe), device or self.device)

    # --- showing -------------------------------------------------------------------------------

    def expect(self, claim: str, seen) -> None:
        """Report whether what was trained here shows a claim of the lesson.

        Results vary with the seed and the processor, so a missing effect is printed and does not
        stop the notebook; lessons assert only what holds in every training. At smoke scale
        nothing is learnt, and nothing is printed.

        Args:
            seen: True or False, also as a tensor.

        Raises:
            AssertionError: it is not seen, and a test executes the notebook.

        >>> Lesson("05", "small", seed=0).expect("the loss falls", 0.9 < 0.5)
        ✗ not in this run: the loss falls
        """
        seen = bool(seen)
        if self.scale != "smoke":
            if not seen and executed() and "SEQPE_FIGURES" not in os.environ:
                raise AssertionError(f"{NOT_SEEN}{claim}")
            print(f"✓ in this run: {claim}" if seen else f"{NOT_SEEN}{claim}")

    def show(self, figure, name: str, gaps: bool = False):
        """Show a plotly figure; make it the last expression of a cell.

        When ``make figures`` executes the lesson, the figure is written to a file and the lesson
        shows its static image, which keeps executed lessons small.

        Args:
            name: file name without ending; the lesson's number is put before it.
            gaps: as :func:`~seqpe_lab.course.figure_files.check_figure` takes it, which checks the
                figure and raises a ValueError if it has no title or shows no numbers.
        """
        check_figure(figure, name, gaps)
        folder = os.environ.get("SEQPE_FIGURES")
        if not folder:
            return figure
        from IPython.display import HTML
        number = re.match(r"\d+|primer", self.title.lower())
        name = f"{number[0]}-{name}" if number else name
        about = (f"executed at scale {self.scale}, seed {self.seed}, commit "
                 f"{provenance('cpu')['commit']}")
        return HTML(write_on_page(figure, Path(folder), name, about))

    def drawing(self, name: str) -> Drawing:
        """A drawing (see :mod:`seqpe_lab.course.drawings`); the last expression of a cell."""
        from seqpe_lab.course.drawings import drawing
        return drawing(name)

    @imports_finish()
    def explore(self, name: str):
        """An explorer (see :mod:`seqpe_lab.explorers`); make it the last expression of a cell.

        When ``make figures`` executes the lesson, it is a figure without controls.
        """
        from seqpe_lab.explorers import explore
        panel = explore(name)
        if os.environ.get("SEQPE_FIGURES"):
            return self.show(panel.figure, f"explorer-{name}", gaps=True)
        return panel


def start(title: str, seed: int = 0) -> Lesson:
    """Begin a lesson: fix the seed, choose the number of threads, print what was chosen.

    The scale comes from $SEQPE_SCALE: "smoke", "small" (the default), "medium" or "full".
    """
    scale = recipes.default_scale()
    if scale not in recipes.SCALES:
        raise ValueError(f"SEQPE_SCALE={scale!r} is not a scale: "
                         f"choose from {', '.join(recipes.SCALES)}")
    torch.manual_seed(seed)
    lesson = Lesson(title, scale, seed)
    print(f"{title} · scale {scale} · seed {seed} · {lesson.device.type}, "
          f"threads: {leave_a_core(most=4)} · torch {torch.__version__}")
    if scale == "smoke":
        print("At smoke scale nothing is learnt: the numbers below only prove that the lesson "
              "runs. Set SEQPE_SCALE=small for the real ones.")
    if "IPython" in sys.modules:
        from seqpe_lab.course.page_figures import draw_on_pages
        draw_on_pages()
    return lesson


def check(mine, reference, what: str = "mine equals the library's",
          tolerance: float = 1e-5) -> None:
    """Assert that two tensors (or numbers) agree and print by how much.

    Raises:
        AssertionError: another shape, or a difference above ``tolerance``.

    >>> check(torch.tensor([1., 2.]), torch.tensor([1., 2.]), "a copy")
    ✓ a copy: (2,), largest difference 0.0e+00
    """
    if mine is None:
        raise AssertionError(f"✗ {what}: nothing to check yet, "
                             "the exercise still returns None")
    mine, reference = (torch.as_tensor(t).detach().double() for t in (mine, reference))
    if mine.shape != reference.shape:
        raise AssertionError(f"✗ {what}: shape {tuple(mine.shape)}, "
                             f"expected {tuple(reference.shape)}")
    both_infinite = mine.isinf() & (mine == reference)
    differences = torch.where(both_infinite, 0.0, (mine - reference).abs())
    worst = float(differences.max()) if mine.numel() else 0.0
    if not worst <= tolerance:
        raise AssertionError(f"✗ {what}: largest difference {worst:.1e}, "
                             f"allowed {tolerance:.0e}")
    print(f"✓ {what}: {tuple(mine.shape)}, largest difference {worst:.1e}")


def tensor_table(tensor: torch.Tensor, rows: Sequence | None = None,
                 columns: Sequence | None = None, digits: int = 3) -> str:
    """A small matrix as aligned text, with names for rows and columns, to be checked by hand.

    >>> print(tensor_table(torch.tensor([[1., 2.], [3., 4.]]), rows="ab", columns="xy", digits=1))
         x   y
    a  1.0 2.0
    b  3.0 4.0
    """
    if tensor.dim() != 2:
        raise ValueError(f"a table needs a matrix, got shape {tuple(tensor.shape)}")
    names = ["", *map(str, rows if rows is not None else range(len(tensor)))]
    columns = list(map(str, columns if columns is not None else range(tensor.shape[1])))
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row]
             for row in tensor.tolist()]
    width = max(len(cell) for row in [columns, *cells] for cell in row)
    first = max(map(len, names))
    return "\n".join(f"{name.ljust(first)}  {' '.join(cell.rjust(width) for cell in row)}"
                     for name, row in zip(names, [columns, *cells]))
