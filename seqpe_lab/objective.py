"""What a training step minimises, and how: Eq. 15, the learning rate and the optimizer."""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqpe_lab.devices import moved
from seqpe_lab.digits import grid
from seqpe_lab.position_sampling import sampled_positions
from seqpe_lab.recipes import ImageRecipe, Training
from seqpe_lab.regularizer import NO_SAMPLES, PositionRegularizer, encode_together
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks import task_of


def build_model(recipe: Training, outputs: int) -> nn.Module:
    """The model of a recipe, initialised from its seed; ``precision`` is that of its evaluation.

    Args:
        outputs: size of the vocabulary, or number of classes.
    """
    torch.manual_seed(recipe.seed)
    model = task_of(recipe).make_model(outputs)
    model.precision = recipe.precision
    return model


class Objective(nn.Module):
    """Model and losses in one module: L = L_main + alpha L_delta + beta L_OOD (Eq. 15).

    All positions that a step needs, those of the batch and of both losses, are encoded in one call,
    so that their common digit prefixes are computed once.
    """

    def __init__(self, model: nn.Module, recipe: Training):
        super().__init__()
        self.model, self.recipe, self.task = model, recipe, task_of(recipe)
        self.regularizer = regularizer_of(model, recipe) if recipe.encoding == "seqpe" else None

    def forward(self, batch: Any, step: int, part: int = 0,
                regularize: bool = True) -> dict[str, Tensor]:
        """Losses of one micro-batch.

        Args:
            batch: tokens, int64 (B, train_len + 1); or images, float (B, channels, height, width),
                and labels, int64 (B,).
            step: determines, with the recipe's seed, the shifts and the sampled positions.
            part: number of this micro-batch within the step, counted over all processes.
            regularize: False leaves the position losses out. They belong to the whole step: each
                process computes the same ones, in its first micro-batch only. With the recipe's
                ``regularize_every`` n they are computed at the last of every n steps.

        Returns:
            "main", and where the recipe has them "contrastive" and "distillation", scalars in nats;
            "loss", the weighted sum.
        """
        recipe, generator = self.recipe, seeded(self.recipe.seed, step, stream=2)
        positions = main_positions(recipe, generator)
        if positions.dim() == 3:
            size = len(batch[0] if isinstance(batch, (list, tuple)) else batch)
            positions = positions[part * recipe.micro_batch:][:size]  # (B, L, n)
        mixing = seeded(recipe.seed, part_number(recipe, step, part), stream=6)
        options: dict[str, Any] = {"positions": positions}
        losses: dict[str, Tensor] = {}
        if self.regularizer is not None:
            which, contexts = None, positions
            consecutive = recipe.position_sampling in ("consecutive", "shift")
            if positions.dim() == 3 and consecutive:  # few starts: each is encoded once
                starts, which = positions[:, 0].unique(dim=0, return_inverse=True)
                contexts = starts.unsqueeze(1) + grid(*recipe.train_shape)
            is_shifted = (consecutive and recipe.shift_unit == "batch"
                          and int(positions.min()) > 0)
            distil = recipe.distill_shifted or not is_shifted
            due = regularize and (step + 1) % recipe.regularize_every == 0
            samples = self.regularizer.sample(generator, distil) if due else NO_SAMPLES
            parts = [contexts, *samples.positions()]
            vectors, *others = encode_together(self.regularizer.encoder, parts)
            if which is not None:
                vectors = (vectors, *moved([which], vectors.device))
            options["vectors"] = vectors
            losses = self.regularizer.losses(samples, others)
        main = self.task.main_loss(self.model, batch, mixing, **options)
        total = main
        if losses:  # their mean over the steps stays that of Eq. 15
            total = main + recipe.regularize_every * self.regularizer.weighted(losses)
        return {"main": main, **losses, "loss": total}


def regularizer_of(model: nn.Module, recipe: Training) -> PositionRegularizer:
    """Both position losses of a model with SeqPE, with the options of its recipe."""
    return PositionRegularizer(
        model.encoding, recipe.train_shape, recipe.max_position, alpha=recipe.alpha,
        beta=recipe.beta, heads=recipe.heads, pivots=recipe.pivots, candidates=recipe.candidates,
        hard=recipe.hard, hard_share=recipe.hard_share, local=recipe.local,
        distillation_batch=recipe.distillation_batch, teachers=recipe.teachers,
        smallest_shift=recipe.smallest_shift,
        form=recipe.distillation_form, seed=recipe.seed)


def main_positions(recipe: Training, generator: torch.Generator) -> Tensor:
    """Positions of a step's whole batch, as the recipe samples them.

    Returns:
        int64 (batch, L, n), or (L, n) where all sequences start alike.
    """
    return sampled_positions(recipe.position_sampling, recipe.batch, recipe.train_shape,
                             recipe.max_position, generator=generator, shifted=recipe.shifted,
                             whole_batch=recipe.shift_unit == "batch")


def part_number(recipe: Training, step: int, part: int) -> int:
    """The number of a micro-batch within the whole run, the same on any number of processes."""
    return step * (recipe.batch // recipe.micro_batch) + part


def learning_rate(recipe: Training, step: int) -> float:
    """Linear warm-up, then decay to the recipe's minimum.

    The decay is linear for text (App. B.1) and follows a cosine for images (DeiT).

    Args:
        step: counts from 0.
    """
    peak, low, warmup = recipe.learning_rate, recipe.min_learning_rate, recipe.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, recipe.steps - warmup)  # share of the decay, in [0, 1)
    along_cosine = (1 + math.cos(math.pi * done)) / 2
    return low + (peak - low) * (along_cosine if isinstance(recipe, ImageRecipe) else 1 - done)


def make_optimizer(model: nn.Module, recipe: Training) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, but not on those that ``model.no_weight_decay`` names.

    These are parameters of the position encoding; of SeqPE the position encoder (Sec. 4).
    """
    exempt: set[str] = model.no_weight_decay()  # type: ignore[operator]
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        decays = parameter.dim() > 1 and name not in exempt
        (decayed if decays else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay},
              {"params": others, "weight_decay": 0.0}]
    betas = (0.9, recipe.adam_beta2)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, fused=True)


def flatten_optimizer(optimizer: Any, model: nn.Module) -> dict[str, Tensor]:
    """AdamW's state as named tensors: "exp_avg.<parameter>", "step.<parameter>", ..."""
    state = getattr(optimizer, "optimizer", optimizer).state
    return {f"{kind}.{name}": value for name, p in model.named_parameters()
            for kind, value in state.get(p, {}).items()}


def unflatten_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module,
                        tensors: dict[str, Tensor]) -> None:
    """The inverse of :func:`flatten_optimizer`, before ``accelerator.prepare``."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        optimizer.state[parameters[name]][kind] = value
