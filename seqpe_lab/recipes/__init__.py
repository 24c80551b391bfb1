"""Every experiment as plain values, at four scales of one code path.

    language_model("seqpe", scale="small", seed=0)
    image_model("seqpe-mul", scale="small", seed=0)

A recipe holds everything that a run depends on; its digest is part of the name of the run's folder.
The tokens per step belong to the recipe and do not change with the number of devices: with fewer
devices each accumulates the gradients of more micro-batches.
"""
from seqpe_lab.recipes.base import SCALES, Scale, Training, default_scale
from seqpe_lab.recipes.fine_tuning import (ABOUT_QA, QA_ABLATIONS, QA_PRESETS, TUNED, QARecipe,
                                           question_answering, tuned_method)
from seqpe_lab.recipes.image_classification import (ABOUT_IMAGES, IMAGE_ABLATIONS, IMAGE_METHODS,
                                                    IMAGE_PRESETS, PLACED, ImageRecipe, image_model)
from seqpe_lab.recipes.language_modeling import (ABLATIONS, ABOUT, HEADLINE, METHODS, PRESETS,
                                                 Recipe, language_model)
from seqpe_lab.recipes.published_form import as_published

# by task, the function that makes its recipes
MAKERS = {"lm": language_model, "qa": question_answering, "image": image_model}

__all__ = [
    "ABLATIONS", "ABOUT", "ABOUT_IMAGES", "ABOUT_QA", "HEADLINE", "IMAGE_ABLATIONS",
    "IMAGE_METHODS", "IMAGE_PRESETS", "MAKERS", "METHODS", "PLACED", "PRESETS", "QA_ABLATIONS",
    "QA_PRESETS", "SCALES", "TUNED", "ImageRecipe", "QARecipe", "Recipe", "Scale", "Training",
    "as_published", "default_scale", "image_model", "language_model", "question_answering",
    "tuned_method",
]
