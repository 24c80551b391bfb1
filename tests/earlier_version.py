"""The recipes of committed results and of the explorers' models: those of an earlier version."""

from seqpe_lab.recipes import Training


def as_committed(recipe: Training) -> Training:
    """Other position losses and image MLPs, and no shifted starts in rows without L_OOD."""
    late = recipe.method.endswith(("no-losses", "delta-only"))
    changed = {"shifted": 0.0 if late else recipe.shifted, "pivots": 32, "distillation_batch": 32}
    if recipe.task == "image":
        weights = {name: round(3 * getattr(recipe, name), 1) for name in ("alpha", "beta")}
        changed |= weights | {"mlp_ratio": 1.0, "pivots": 16, "distillation_batch": 16}
    return recipe.changed(**changed)
