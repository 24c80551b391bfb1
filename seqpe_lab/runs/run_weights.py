"""The weights of a finished run: its model, or what fine-tuning starts from."""
from __future__ import annotations

import torch
from torch import nn

from seqpe_lab.runs.divergence import DivergedError
from seqpe_lab.objective import build_model
from seqpe_lab.recipes import Training, command_for_base
from seqpe_lab.runs.run_data import check_data
from seqpe_lab.runs.run import Run
from seqpe_lab.runs.run_folder import runs_folder
from seqpe_lab.tasks import Data, task_of


def trained_model(run: Run, data: Data, device: torch.device | str = "cpu",
                  same_data: bool = True) -> nn.Module:
    """The model of a run with its last weights, in evaluation mode on ``device``.

    Raises:
        ValueError: ``same_data``, and the run was trained on other data; names both hashes.
        DivergedError: the run has failed.
    """
    if failure := run.failure():
        raise DivergedError(f"{run.folder} has failed: {failure['failed']}")
    if same_data:
        check_data(run, data)
    model = build_model(run.recipe, task_of(run.recipe).outputs(data))
    model.load_state_dict(run.model_weights())
    return model.to(device).eval()


def load_base(model: nn.Module, recipe: Training) -> None:
    """Load the weights of the run that the recipe starts from.

    A learned table is interpolated to the longer context; W_PE keeps its new weights if the recipe
    has ``new_projection``.

    Raises:
        DivergedError: that run has failed.
        FileNotFoundError: that run does not exist or is not finished; says how to train it.
    """
    folder = runs_folder() / recipe.base
    base = Run.open(folder) if (folder / "recipe.json").exists() else None
    if base and (failure := base.failure()):
        raise DivergedError(f"the language model to start from has failed: {failure['failed']}")
    if not (base and base.results()):
        raise FileNotFoundError(f"{folder} holds no finished run to start from: train its language "
                                f"model first (python -m seqpe_lab {command_for_base(recipe)}), or "
                                "name another `base`")
    weights = base.model_weights()
    for name, value in model.state_dict().items():
        if name.endswith("encoding.table.weight") and weights[name].shape != value.shape:
            longer = nn.functional.interpolate(weights[name].T.unsqueeze(0), size=len(value),
                                               mode="linear", align_corners=True)
            weights[name] = longer[0].T.contiguous()
        if recipe.new_projection and ".projections." in name:
            weights[name] = value
    model.load_state_dict(weights)
