"""What a run at each scale needs, counted from its recipe, and what result to expect."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqpe_lab.recipes.algorithmic_tasks import algorithm
from seqpe_lab.recipes.base import Training
from seqpe_lab.recipes.fine_tuning import question_answering
from seqpe_lab.recipes.image_classification import image_model
from seqpe_lab.recipes.language_modeling import language_model
from seqpe_lab.recipes.step_cost import H200, hours, memory, outputs_of, this_cpu

# by task, the function that makes its recipes
MAKERS = {"lm": language_model, "qa": question_answering, "image": image_model,
          "algorithm": algorithm}

EXPECTED = {
    "smoke": "nothing is learnt: it proves that it runs",
    "small": "data/results and the README's tables show what came out",
    "medium": "not run yet: no number is shown",
    "full": "not run here: the paper's tables are its authors' results",
}


@dataclass(frozen=True)
class Scale:
    """What a run with SeqPE needs at a scale, how long its training takes, and what comes out."""
    hardware: str
    time: str
    memory: str
    expect: str


def about(task: str, scale: str) -> Scale:
    """The needs of a task's SeqPE run at a scale: on this CPU, or on a GPU at medium and full.

    Training only. :mod:`~seqpe_lab.recipes.step_cost` says what is counted and what is assumed.

    Args:
        task: "lm", "qa", "image" or "algorithm".

    >>> about("lm", "full").hardware, about("lm", "smoke").time
    ('one H200 GPU', 'under a minute')
    """
    recipe = MAKERS[task](scale=scale)
    outputs = outputs_of(recipe)
    machine = H200 if scale in ("medium", "full") else this_cpu()
    return Scale(machine.name, hours_in_words(hours(recipe, outputs, machine)),
                 f"about {memory(recipe, outputs, machine.precision):.1f} GiB",
                 EXPECTED[scale])


def changed_from_preset(recipe: Training, **kept: Any) -> dict[str, Any]:
    """The fields in which a recipe differs from that of its method, scale and seed.

    Args:
        kept: fields that the preset shall have, too.

    >>> changed_from_preset(language_model("alibi", "smoke", seed=3, steps=5))
    {'steps': 5}
    """
    make, scale, seed = MAKERS[recipe.task], recipe.scale, recipe.seed
    if recipe.task == "algorithm":
        kept = {"problem": recipe.problem} | kept
    try:
        preset = make(recipe.method, scale, seed, **kept)
    except ValueError:  # an encoding of the reader's own, whose runs go by its name
        preset = make(scale=scale, seed=seed, encoding=recipe.encoding, **kept)
    return {name: value for name, value in recipe if value != dict(preset)[name]}


def hours_in_words(hours: float) -> str:
    """A time that is only about right.

    >>> hours_in_words(0.01), hours_in_words(1.2), hours_in_words(1_000)
    ('under a minute', 'about 72 min', 'about 42 days')
    """
    minutes = 60 * hours
    if minutes < 1:
        return "under a minute"
    if minutes < 100:
        return f"about {minutes:.0f} min"
    return f"about {hours:.0f} h" if hours < 72 else f"about {hours / 24:,.0f} days"
