"""Every experiment as plain values, at four scales of one code path.

    language_model("seqpe", scale="small", seed=0)
    image_model("seqpe-mul", scale="small", seed=0)

A recipe holds everything that a run depends on; its digest is part of the name of the run's folder.
The tokens per step belong to the recipe and do not change with the number of devices: with fewer
devices each accumulates the gradients of more micro-batches.
"""
from seqpe_lab.recipes.algorithmic_tasks import (ALGORITHM_METHODS, ALGORITHM_PRESETS,
                                                 AlgorithmRecipe, algorithm)
from seqpe_lab.recipes.base import SCALES, Training
from seqpe_lab.recipes.chosen_settings import SETTINGS, settings_from, trial_values
from seqpe_lab.recipes.field_effects import without_effect
from seqpe_lab.recipes.fine_tuning import (QA_ABLATIONS, QA_PRESETS, TUNED, QARecipe,
                                           command_for_base, question_answering, tuned_method)
from seqpe_lab.recipes.image_classification import (IMAGE_ABLATIONS, IMAGE_METHODS, IMAGE_PRESETS,
                                                    IMAGE_UNSHIFTED, PLACED, ImageRecipe,
                                                    image_model)
from seqpe_lab.recipes.language_modeling import (ABLATIONS, HEADLINE, METHODS, PRESETS, UNSHIFTED,
                                                 VARIANTS, Recipe, language_model)
from seqpe_lab.recipes.methods import default_scale
from seqpe_lab.recipes.published_form import as_published
from seqpe_lab.recipes.scales import MAKERS, Scale, about, changed_from_preset

__all__ = [
    "ABLATIONS", "ALGORITHM_METHODS", "ALGORITHM_PRESETS", "HEADLINE", "IMAGE_ABLATIONS",
    "IMAGE_METHODS", "IMAGE_PRESETS", "IMAGE_UNSHIFTED", "MAKERS", "METHODS", "PLACED", "PRESETS",
    "QA_ABLATIONS", "QA_PRESETS", "SCALES", "SETTINGS", "TUNED", "UNSHIFTED", "VARIANTS",
    "AlgorithmRecipe", "ImageRecipe", "QARecipe", "Recipe", "Scale", "Training", "about",
    "algorithm", "as_published", "changed_from_preset", "command_for_base", "default_scale",
    "image_model", "language_model", "question_answering", "settings_from", "trial_values",
    "tuned_method", "without_effect",
]
