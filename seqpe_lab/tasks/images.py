"""Image classification as a task: views of images, cross entropy of the class, accuracy by size."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from seqpe_lab.encodings import resample_grid
from seqpe_lab.recipes import ImageRecipe
from seqpe_lab.stop_signals import ignore_stop_signals
from seqpe_lab.tasks.base import Task, alone, evaluation_mode, loading_workers
from seqpe_lab.tasks.image_data import ImageData, Images, load_images
from seqpe_lab.tasks.image_views import EvaluationViews, Views, global_generators, object_side

if TYPE_CHECKING:  # timm takes seconds to import
    from seqpe_lab.models.vit import ViT


class ImageTask(Task):
    """A ViT that learns to classify images (Sec. 4.3)."""
    recipe: ImageRecipe

    def load_data(self) -> ImageData:
        return load_images(self.recipe.source)

    def outputs(self, data: ImageData) -> int:
        return len(data.classes)

    def make_model(self, outputs: int) -> ViT:
        from seqpe_lab.models.vit import ViT, ViTConfig
        recipe = self.recipe
        shape = dict(patch_size=recipe.patch, embed_dim=recipe.d_model, depth=recipe.layers,
                     num_heads=recipe.heads, mlp_ratio=recipe.mlp_ratio,
                     drop_path_rate=recipe.drop_path)
        if recipe.source == "digits":
            shape["in_chans"] = 1
        return ViT(ViTConfig(recipe.timm_model, recipe.image_size, outputs, recipe.max_position,
                             recipe.encoding, dict(recipe.encoding_options), shape))

    def training_set(self, data: ImageData) -> Views:
        return Views(data, self.recipe)

    def main_loss(self, model: ViT, batch: Sequence[Tensor], generator: torch.Generator,
                  **options) -> Tensor:
        """Cross entropy of the class, nats per image, after the recipe's mixup and cutmix."""
        recipe, (images, labels) = self.recipe, batch
        if not recipe.mixup and not recipe.cutmix:
            logits = model(images, **options).float()
            return F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        from timm.data import Mixup
        mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing,
                    num_classes=model.config.classes)
        with global_generators(generator):
            images, labels = mix(images.clone(), labels)
        return -(labels * model(images, **options).float().log_softmax(-1)).sum(-1).mean()

    def validate(self, model: ViT, data: ImageData) -> float:
        """Nats per image on the validation split, at the training size."""
        images = some_images(data.validation, self.recipe.validation_images)
        return self._accuracy(model, images, data, self.recipe.image_size).nats

    def _accuracy(self, model: ViT, images: Images, data: ImageData, size: int,
                  **options) -> Accuracy:
        return accuracy(model, images, data, self.recipe, size, workers=self.workers,
                        on_all=self.on_all, **options)

    @property
    def protocol(self) -> str:
        """How accuracy is measured, in words."""
        if self.recipe.augment == "place":
            return "object at its trained size on a larger canvas"
        if self.recipe.test_crop == 1:
            return "whole image, resized"
        return f"middle {self.recipe.test_crop:g} of each side, resized"

    def evaluate(self, model: ViT, data: ImageData) -> dict:
        """Top-1 accuracy, percent, at the recipe's sizes.

        "interpolated", for SeqPE only: with the trained grid's vectors interpolated to the image.
        """
        recipe = self.recipe
        images = some_images(getattr(data, recipe.eval_split), recipe.eval_images)

        def by_size(**options) -> dict[str, float]:
            return {str(size): self._accuracy(model, images, data, size, **options).accuracy
                    for size in recipe.eval_sizes}

        results = {"protocol": self.protocol, "split": recipe.eval_split, "images": len(images),
                   "accuracy": by_size()}
        if recipe.encoding == "seqpe":
            results["interpolated"] = by_size(interpolate=True)
        return results

    def check(self, data: ImageData) -> None:
        recipe, smallest = self.recipe, min(self.recipe.eval_sizes)
        if recipe.augment == "deit" and data.channels != 3:
            raise ValueError(f"augment='deit' needs colour images, {recipe.source} has "
                             f"{data.channels} channel: use augment='zoom' or 'place'")
        if recipe.augment == "place" and smallest < object_side(recipe):
            raise ValueError(f"a canvas of {smallest} pixels is smaller than its object of "
                             f"{object_side(recipe)}: raise eval_sizes")


class Accuracy(NamedTuple):
    """One measured number: top-1, percent."""
    size: int  # pixels a side
    accuracy: float  # percent
    nats: float  # mean cross entropy, nats per image
    images: int


def accuracy(model: ViT, images: Images, data: ImageData, recipe: ImageRecipe, size: int, *,
             interpolate: bool = False, patches_per_pass: int | None = None,
             workers: int | None = None, on_all: Callable = alone) -> Accuracy:
    """Top-1 accuracy on images of ``size`` pixels a side, on the model's device.

    Each of several processes takes its share of the images; all get the result of all images, the
    same as that of one process except for the rounding of the nats.

    Args:
        images: a split of ``data``.
        interpolate: give SeqPE the vectors of the trained grid, interpolated (bicubic) to the new
            grid as for a learned table, instead of the vectors of the new positions.
        patches_per_pass: how many patches go through the model at once; by default 8,192 on a
            CPU, whose cache is small, and 32,768 elsewhere.
        workers: processes that load images beside this one; by default
            :func:`~seqpe_lab.tasks.base.loading_workers` decides. The result does not depend on it.
        on_all: as in :class:`~seqpe_lab.tasks.base.Task`.

    Raises:
        ValueError: no images, a size that the patch does not divide or that is beyond max_position.
    """
    if len(images) == 0:
        raise ValueError("no images to evaluate on")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"an image needs at least 1 pixel a side, got {size}: views are square, "
                         "of a whole number of pixels")
    if interpolate and recipe.encoding != "seqpe":
        raise ValueError("interpolate=True stretches the position vectors of encoding 'seqpe', "
                         f"this model has {recipe.encoding!r}")

    def part(number: int, count: int) -> tuple[int, float]:
        """Right answers and nats of every ``count``-th image."""
        side, vectors, right, nats = size // recipe.patch, None, [], []
        with evaluation_mode(model) as device:
            if interpolate:
                trained = model.encoding.encoder.table(*model.train_grid)
                vectors = resample_grid(trained, model.train_grid, (side, side))
            patches = patches_per_pass or (8_192 if device.type == "cpu" else 32_768)
            loader = DataLoader(
                EvaluationViews(images, data, recipe, size),
                batch_size=max(1, patches // max(1, side**2)),
                sampler=range(number, len(images), count),
                num_workers=loading_workers(recipe, data, workers),
                pin_memory=device.type == "cuda", worker_init_fn=ignore_stop_signals,
                generator=torch.Generator())  # so that it does not draw from the global one
            for views, labels in loader:
                logits = model(views.to(device, non_blocking=True), vectors=vectors).float()
                labels = labels.to(device, non_blocking=True)
                # read after the loop: reading a number makes the CPU wait for a GPU
                right.append((logits.argmax(-1) == labels).sum())
                nats.append(F.cross_entropy(logits, labels, reduction="sum"))
        return sum(map(int, right)), sum(map(float, nats))

    right, nats = map(sum, zip(*on_all(part)))
    return Accuracy(size, 100 * right / len(images), nats / len(images), len(images))


def some_images(images: Images, count: int) -> Images:
    """``count`` images: the first, or evenly spaced ones where a folder sorts them by class.

    0 takes all.
    """
    if not 0 < count < len(images):
        return images
    by_class = bool((images.labels.diff() >= 0).all())
    step = len(images) // count if by_class else 1
    return images.select(range(0, count * step, step))
