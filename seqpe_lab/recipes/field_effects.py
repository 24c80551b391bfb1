"""Which fields of a recipe do nothing because of others, such as ``pivots`` without L_delta."""
from __future__ import annotations

from seqpe_lab.recipes.base import Training

_OF_DELTA = ("pivots", "candidates", "hard", "hard_share", "local")
_OF_OOD = ("distillation_batch", "teachers", "smallest_shift", "distillation_form",
           "distill_shifted")
_OF_SEQPE = ("alpha", "beta", "regularize_every", "clip_separately", "new_projection",
             "keep_encoder", *_OF_DELTA, *_OF_OOD)


def without_effect(recipe: Training) -> dict[str, str]:
    """{field: why it has no effect}, whatever its value within its limits.

    >>> from seqpe_lab.recipes import language_model
    >>> without_effect(language_model("alibi", "small"))["pivots"]
    "encoding 'alibi' has no position encoder and no position losses"
    >>> without_effect(language_model("seqpe-ood-only", "small"))["pivots"]
    'alpha is 0'
    """
    found: dict[str, str] = {}

    def idle(because: str, holds: bool, *fields: str) -> None:
        if holds:
            found.update({name: because for name in fields
                          if name in type(recipe).model_fields and name not in found})

    idle(f"encoding {recipe.encoding!r} has no position encoder and no position losses",
         recipe.encoding != "seqpe", *_OF_SEQPE)
    idle("keep_encoder is true, so nothing of the position encoder is clipped",
         getattr(recipe, "keep_encoder", False), "clip_separately")
    idle("alpha is 0", recipe.alpha == 0, *_OF_DELTA)
    idle("beta is 0", recipe.beta == 0, *_OF_OOD)
    idle("alpha and beta are 0", recipe.alpha == recipe.beta == 0, "regularize_every")
    idle("local is 1: all candidates are near", recipe.local == 1, "hard", "hard_share")
    idle("hard is 0: no set holds look-alikes", recipe.hard == 0, "hard_share")
    idle("hard_share is 0: no set holds look-alikes", recipe.hard_share == 0, "hard")
    idle("shifted is 0", recipe.shifted == 0, "shift_unit", "distill_shifted")
    idle("shift_unit is not 'batch'", recipe.shift_unit != "batch", "distill_shifted")
    if recipe.task == "image":
        augment = recipe.augment
        idle(f"augment is {augment!r}, which erases nothing", augment != "deit", "erasing")
        idle("augment is 'place', which crops nothing", augment == "place", "crop", "test_crop")
    if recipe.task == "qa":
        idle("questions are counted by eval_questions", True, "eval_tokens")
        idle("the text serves only to learn a 'bpe:N' tokenizer",
             not recipe.tokenizer.startswith("bpe:"), "source")
    return found
