"""Models that learn an algorithmic problem on short inputs and are tested on longer ones."""
from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from seqpe_lab.problems import PROBLEMS
from seqpe_lab.recipes.base import Count, ShareBelow1, Training
from seqpe_lab.recipes.image_classification import (IMAGE_ABLATIONS, IMAGE_METHODS,
                                                    IMAGE_UNSHIFTED, narrow_start)
from seqpe_lab.recipes.language_modeling import ABLATIONS, METHODS, UNSHIFTED
from seqpe_lab.recipes.methods import make_recipe

# those of text, and RoPE on random positions (Ruoss et al. 2023), in training and in tests
ALGORITHM_METHODS: dict[str, dict] = METHODS | ABLATIONS | UNSHIFTED | {
    "rope-randomized": METHODS["rope-1e4"] | {"position_sampling": "random"}}

Sizes = Annotated[tuple[Count, ...], Field(
    strict=False, min_length=1, description="must name at least one size of at least 1")]


class AlgorithmRecipe(Training):
    """One training run on a problem of :mod:`seqpe_lab.problems`, with its evaluation.

    At full scale this is the set-up of Kazemnejad et al. (2023), "The Impact of Positional
    Encoding on Length Generalization in Transformers", App. D: 12 layers, 40,000 steps of 64
    examples with inputs of 1 to 20 symbols.
    """
    problem: str = "copy"
    size: Count = 20  # training has inputs of 1 to so many symbols, all sizes equally often
    max_position: Count = 2_000
    dropout: ShareBelow1 = 0.1
    # optimisation
    steps: Count = 40_000
    batch: Count = 64
    micro_batch: Count = 64
    learning_rate: float = 3e-5
    warmup_steps: Count = 2_400
    weight_decay: float = 0.05
    teachers: Count = 16  # some problems have fewer than 32 trained positions
    # evaluation
    eval_sizes: Sizes = (10, 20, 30, 40, 60, 80)
    eval_examples: Count = 1_000  # of each size

    task: ClassVar[str] = "algorithm"

    @field_validator("problem")
    @classmethod
    def _exists(cls, problem: str) -> str:
        if problem not in PROBLEMS:
            raise ValueError(f"unknown problem {problem!r}: choose from {', '.join(PROBLEMS)}")
        return problem

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        longest = max(*self.eval_sizes, self.size)
        end = longest if self.dims == 2 else PROBLEMS[self.problem].length(longest)
        if end > self.max_position:
            raise ValueError(f"inputs of size {longest} reach position {end - 1} but max_position="
                             f"{self.max_position} (exclusive): raise it or lower eval_sizes")
        if self.dims == 2 and min(*self.eval_sizes, self.size) < 3:
            raise ValueError("a grid needs at least 3 rows and columns, got "
                             f"size={self.size}, eval_sizes={self.eval_sizes}")
        self._check_distillation(self.train_shape[0], "raise `size`")
        return self

    @property
    def dims(self) -> int:
        """n: 2 for a grid, else 1."""
        return PROBLEMS[self.problem].dims

    @property
    def train_shape(self) -> tuple[int, ...]:
        """(tokens,) that the longest training example needs, or (rows, columns) of the grid."""
        if self.dims == 2:
            return (self.size, self.size)
        return (PROBLEMS[self.problem].length(self.size) - 1,)  # nothing follows the last token


# The small settings are the same for all methods; data/results/PROTOCOL.md says how they were
# chosen. App. A.4 asks how often a position is a pivot of L_delta: 160 times in the paper's text
# runs, as here on the grid. Of 120 positions that would be 3 pivots a step of copying, too few to
# learn from; so it is 32 a step, the paper's number.
ALGORITHM_PRESETS: dict[str, dict] = {
    "smoke": dict(
        size=6, d_model=32, layers=2, heads=2, max_position=240, dropout=0.0, steps=12, batch=8,
        micro_batch=8, learning_rate=3e-3, warmup_steps=2, weight_decay=0.01, adam_beta2=0.99,
        clip=1.0, pivots=8, candidates=8, hard=2, distillation_batch=4, teachers=6, log_every=1,
        checkpoint_every=6, eval_sizes=(6, 12), eval_examples=16),
    "small": dict(
        size=8, d_model=64, layers=3, heads=4, max_position=120, dropout=0.0, steps=8_000,
        batch=32, micro_batch=32, learning_rate=6e-3, warmup_steps=100, weight_decay=0.01,
        adam_beta2=0.99, clip=1.0, teachers=10, checkpoint_every=1_000,
        eval_sizes=(6, 8, 9, 10, 12, 16, 24, 32), eval_examples=500),
    "medium": dict(
        d_model=384, layers=6, heads=6, steps=20_000, batch=128, micro_batch=128,
        learning_rate=3e-4, warmup_steps=1_000, weight_decay=0.01),
    "full": {},
}
# To find the symbol after another needs larger batches and a smaller learning rate than to copy.
_LOOKUP = dict(batch=128, micro_batch=128, learning_rate=2e-3, checkpoint_every=1_000)
_SMALL_SETTINGS: dict[str, dict] = {
    "needle": _LOOKUP | dict(steps=1_000),
    "induction": _LOOKUP | dict(steps=4_000),
    "recall": _LOOKUP | dict(steps=3_000),
}
# The grid of the two-dimensional problem has fewer rows than a word has letters.
_GRID_SIZES: dict[str, dict] = {
    "smoke": dict(size=4, eval_sizes=(4, 8), max_position=16),
    "small": dict(size=6, eval_sizes=(6, 9, 12, 18, 24), max_position=30, steps=2_000,
                  learning_rate=2e-3, pivots=72, distillation_batch=72, teachers=16,
                  checkpoint_every=500, eval_examples=200),
    "medium": dict(size=8, eval_sizes=(8, 12, 16, 24, 32), max_position=40),
    "full": dict(size=8, eval_sizes=(8, 12, 16, 24, 32), max_position=40),
}


def algorithm(method: str = "seqpe", scale: str | None = None, seed: int = 0,
              as_published: bool = False, problem: str | None = None,
              **overrides: Any) -> AlgorithmRecipe:
    """The recipe of one run on an algorithmic problem.

    Args:
        method: of ``ALGORITHM_METHODS``, or as in :func:`~seqpe_lab.recipes.language_model`; for
            the grid a method of :func:`~seqpe_lab.recipes.image_model`.
        scale: "smoke", "small", "medium" or "full"; by default $SEQPE_SCALE, else "small".
        problem: of :data:`~seqpe_lab.problems.PROBLEMS`, by default "copy"; ``task`` is another
            name for it, as in ``train algorithm --set task=copy``.
        as_published, overrides: as in :func:`~seqpe_lab.recipes.language_model`.

    Raises:
        ValueError: an unknown method or problem; two problems.

    >>> recipe = algorithm("alibi", "small", problem="reverse")
    >>> recipe.train_shape, recipe.eval_sizes
    ((17,), (6, 8, 9, 10, 12, 16, 24, 32))
    """
    named = {problem, overrides.pop("task", problem)} - {None}
    if len(named) > 1:
        raise ValueError(f"problem and task name two problems, {' and '.join(sorted(named))}: "
                         "leave task out")
    overrides["problem"] = named.pop() if named else "copy"
    methods, presets = ALGORITHM_METHODS, ALGORITHM_PRESETS
    presets = presets | {"small": presets["small"] | _SMALL_SETTINGS.get(overrides["problem"], {})}
    if PROBLEMS.get(overrides["problem"], PROBLEMS["copy"]).dims == 2:
        methods = IMAGE_METHODS | IMAGE_ABLATIONS | IMAGE_UNSHIFTED
        presets = {name: values | _GRID_SIZES[name] for name, values in presets.items()}
        method = "seqpe-mul" if method == "seqpe" else method
    recipe = make_recipe(AlgorithmRecipe, presets, methods, method, scale, seed, as_published,
                         overrides)
    return narrow_start(recipe) if "encoding_options" not in overrides else recipe
