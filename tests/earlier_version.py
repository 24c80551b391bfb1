"""Recipes of committed results and of the explorers' models, while these are of earlier versions.

Once results follow the protocol, this module has nothing left to say and can be deleted.
"""

from collections.abc import Mapping, Sequence

from seqpe_lab.recipes import Training
from seqpe_lab.reproduction.conclusions import follows_protocol


def as_committed(recipe: Training, result: Mapping, results: Sequence[Mapping]) -> Training:
    """The recipe itself if ``result`` is of the commit of ``results`` that follow the protocol.

    Else with other position losses and image MLPs, the settings of the preset in place of those
    chosen by trials, and no shifted starts in rows without L_OOD.
    """
    if follows_protocol(results) and result["commit"] == results[0]["commit"]:
        return recipe
    late = recipe.method.endswith(("no-losses", "delta-only"))
    changed = {"shifted": 0.0 if late else recipe.shifted, "pivots": 32, "distillation_batch": 32}
    changed |= {"learning_rate": 2e-3, "weight_decay": 0.01}
    if recipe.task == "image":
        changed |= {"learning_rate": 3e-3, "weight_decay": 0.05}
        weights = {name: round(3 * getattr(recipe, name), 1) for name in ("alpha", "beta")}
        changed |= weights | {"mlp_ratio": 1.0, "pivots": 16, "distillation_batch": 16}
    return recipe.changed(**changed)
