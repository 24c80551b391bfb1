"""What the commands know of each task: its recipes and methods, and how its results are shown."""
from __future__ import annotations

from typing import NamedTuple

from seqpe_lab import recipes


class TaskEntry(NamedTuple):
    """A task of ``train``."""
    recipe: type[recipes.Training]
    methods: dict[str, dict]  # that --encoding takes, beside any encoding: {name: what it changes}
    runs: str  # what its runs are, for headings
    varied: str  # what an evaluation varies, with its unit
    measures: dict[str, str]  # {key of the results: its name and unit}, the main one first
    next_option: str = "--split validation"  # of ``evaluate``, to measure a run in another way


_TEXT_METHODS = recipes.METHODS | recipes.ABLATIONS | recipes.UNSHIFTED
TASKS = {
    "lm": TaskEntry(
        recipes.Recipe, _TEXT_METHODS, "language models", "context (tokens)",
        {"perplexity": "perplexity (per token)"}, "--protocol sliding"),
    "qa": TaskEntry(
        recipes.QARecipe, _TEXT_METHODS | recipes.QA_ABLATIONS, "questions", "context (tokens)",
        {"exact_match": "exact match (%)", "perplexity": "perplexity (of the answers)"}),
    "image": TaskEntry(
        recipes.ImageRecipe,
        recipes.IMAGE_METHODS | recipes.IMAGE_ABLATIONS | recipes.IMAGE_UNSHIFTED, "images",
        "image side (pixels)",
        {"accuracy": "top-1 accuracy (%)",
         "interpolated": "the same, position vectors interpolated"}),
    "algorithm": TaskEntry(
        recipes.AlgorithmRecipe, recipes.ALGORITHM_METHODS, "algorithms", "size of the input",
        {"exact_match": "exact match (%)", "symbols_right": "symbols right (%)"}),
}
