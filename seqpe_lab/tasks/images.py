"""Image classification as a task for the training loop: data, model, loss, validation, results.

Three ways to show an image (``augment`` of the recipe), in training and, without chance, in tests:

* "deit": timm's training transforms with mixup and cutmix; tests show the whole image, larger.
* "zoom": training shows a random window of an image rendered 1 to 1/sqrt(crop) times larger; tests
  show the whole image, larger. What a patch shows at a larger size has been seen, where it is has not.
* "place": the object always has 2/3 of the training image's side, at a random place on an empty
  canvas; tests enlarge the canvas alone. What patches show has been seen; where they are, and how many, has not.
"""
from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from seqpe_lab.encodings import resample_grid
from seqpe_lab.models.vit import ViT, ViTConfig
from seqpe_lab.recipes import ImageRecipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.pictures import ImageData, Images, bicubic, load_images, render

OBJECT = 2 / 3  # of the training image's side, with augment="place"


def load_data(recipe: ImageRecipe) -> ImageData:
    return load_images(recipe.source)


def outputs(data: ImageData) -> int:
    """How many classes the model tells apart."""
    return len(data.classes)


def make_model(recipe: ImageRecipe, classes: int) -> ViT:
    channels = {"in_chans": 1} if recipe.source == "digits" else {}
    return ViT(ViTConfig(recipe.timm_model, recipe.image_size, classes, recipe.max_position, recipe.encoding, dict(recipe.encoding_options),
                         dict(patch_size=recipe.patch, embed_dim=recipe.d_model, depth=recipe.layers, num_heads=recipe.heads, mlp_ratio=recipe.mlp_ratio,
                              drop_path_rate=recipe.drop_path) | channels))


class Views(Dataset):
    """The training stream: item i is always the same view of the same image, and its label.

    Each epoch goes through the images in another order, drawn from (seed, epoch).
    """

    def __init__(self, data: ImageData, recipe: ImageRecipe):
        self.data, self.recipe, self._epoch = data, recipe, None
        self.transform = _deit(recipe, data) if recipe.augment == "deit" else None

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """A batch, which torch's DataLoader asks for in one call: small images are rendered several times as fast together."""
        numbers, recipe = [self._number(index) for index in indices], self.recipe
        images, labels = [self.data.train[number] for number in numbers], self.data.train.labels[numbers].tolist()
        generators = [seeded(recipe.seed, index, stream=4) for index in indices]
        if self.transform is not None:
            return list(zip(map(self._transformed, images, generators), labels))
        views = zoom(images, recipe, generators) if recipe.augment == "zoom" else torch.stack(
            [place_on_canvas(image, recipe, recipe.image_size, generator) for image, generator in zip(images, generators)])
        return list(zip(self.data.normalise(views), labels))

    def _number(self, index: int) -> int:
        """Which image item ``index`` shows."""
        epoch, place = divmod(index, len(self.data.train))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, torch.randperm(len(self.data.train), generator=seeded(self.recipe.seed, epoch, stream=1))
        return int(self._order[place])

    def _transformed(self, image: Tensor, generator: torch.Generator) -> Tensor:
        from torchvision.transforms.functional import to_pil_image
        with _seeded_globals(generator):  # timm and torchvision draw from there
            return self.transform(to_pil_image(image))


def training_set(recipe: ImageRecipe, data: ImageData) -> Views:
    return Views(data, recipe)


def main_loss(model: ViT, recipe: ImageRecipe, batch: Sequence[Tensor], generator: torch.Generator, **options) -> Tensor:
    """Cross entropy of the class, nats an image, after mixup and cutmix where the recipe has them."""
    images, labels = batch
    if recipe.mixup or recipe.cutmix:
        from timm.data import Mixup
        mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=model.config.classes)
        with _seeded_globals(generator):
            images, labels = mix(images.clone(), labels)
        return -(labels * model(images, **options).float().log_softmax(-1)).sum(-1).mean()
    return F.cross_entropy(model(images, **options).float(), labels, label_smoothing=recipe.smoothing)


# --- views -------------------------------------------------------------------------------------

def zoom(images: Sequence[Tensor], recipe: ImageRecipe, generators: Sequence[torch.Generator]) -> Tensor:
    """A window of image_size pixels, somewhere on each image's middle square rendered 1 to 1/sqrt(crop) times as large.

    Args:
        images: float (channels, height, width) each, in [0, 1].
        generators: one for each image.

    Returns:
        (B, channels, image_size, image_size), in [0, 1].
    """
    images = [_middle(image) for image in images]
    rows, columns = zip(*(_window(image.shape[-1], recipe, generator) for image, generator in zip(images, generators)))
    if len({image.shape for image in images}) == 1:
        images, rows, columns = torch.stack(images), torch.stack(rows).unsqueeze(1), torch.stack(columns).unsqueeze(1)
        return (rows @ images @ columns.mT).clamp(0, 1)
    return torch.stack([(r @ image @ c.T).clamp(0, 1) for r, image, c in zip(rows, images, columns)])


def _window(side: int, recipe: ImageRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where a view lies: the rows of :func:`bicubic`'s two matrices that render only it, (image_size, side) each."""
    size, (area, down, right) = recipe.image_size, torch.rand(3, generator=generator).tolist()
    share = recipe.crop + (1 - recipe.crop) * area  # of the area, uniformly, as RandomResizedCrop
    large = round(size / share**0.5)
    top, left = (int(place * (large - size + 1)) for place in (down, right))
    enlarge = bicubic(side, large)
    return enlarge[top: top + size], enlarge[left: left + size]


def place_on_canvas(image: Tensor, recipe: ImageRecipe, size: int, generator: torch.Generator) -> Tensor:
    """The object at its trained size, at a random place on an empty canvas of ``size`` pixels a side."""
    side = round(recipe.image_size * OBJECT)
    canvas = image.new_zeros(image.shape[0], size, size)
    top, left = (int(place * (size - side + 1)) for place in torch.rand(2, generator=generator).tolist())
    canvas[:, top: top + side, left: left + side] = render(_middle(image).unsqueeze(0), side)[0]
    return canvas


def test_view(image: Tensor, recipe: ImageRecipe, size: int, number: int) -> Tensor:
    """What a test shows of an image at ``size`` pixels a side.

    "place": on a canvas, at a place drawn from the image's number; else the image's middle square,
    resized. Of that square ``test_crop`` keeps so large a share of each side, in the middle.
    """
    if recipe.augment == "place":
        return place_on_canvas(image, recipe, size, seeded(0, number, stream=5))
    shown = render(_middle(image).unsqueeze(0), round(size / recipe.test_crop))[0]
    start = (shown.shape[-1] - size) // 2
    return shown[:, start: start + size, start: start + size]


def _middle(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top: top + side, left: left + side]


def _deit(recipe: ImageRecipe, data: ImageData):
    from timm.data import create_transform
    return create_transform(recipe.image_size, is_training=True, scale=(recipe.crop, 1.0), color_jitter=0.3, interpolation="bicubic",
                            auto_augment="rand-m9-mstd0.5-inc1", re_prob=recipe.erasing, re_mode="pixel", re_count=1, mean=data.mean, std=data.std)


@contextmanager
def _seeded_globals(generator: torch.Generator):
    """torch's, numpy's and Python's own generators are seeded inside, and afterwards as if nothing had been."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


# --- evaluation --------------------------------------------------------------------------------

class Accuracy(NamedTuple):
    """One measured number: top-1, percent."""
    size: int  # pixels a side
    accuracy: float  # percent
    nats: float  # mean cross entropy, nats an image
    images: int


@torch.no_grad()
def accuracy(model: ViT, images: Images, data: ImageData, recipe: ImageRecipe, size: int, *, interpolate: bool = False, patches_per_pass: int | None = None) -> Accuracy:
    """Top-1 accuracy with images of ``size`` pixels a side, in evaluation mode.

    Args:
        images: a split of ``data``.
        interpolate: give SeqPE the vectors of the trained grid, stretched over the new one by bicubic
            interpolation like a learned table, in place of the vectors of the new positions.
        patches_per_pass: how many patches go through the model at once; by default 8,192 on a CPU, whose
            cache is small, and 32,768 on a GPU.

    Raises:
        ValueError: no images, a size that the patch does not divide or that is beyond max_position.
    """
    if len(images) == 0:
        raise ValueError("no images to evaluate on")
    device = next(model.parameters()).device
    patches_per_pass = patches_per_pass or (8_192 if device.type == "cpu" else 32_768)
    side, vectors = size // recipe.patch, None
    if interpolate:
        if recipe.encoding != "seqpe":
            raise ValueError(f"interpolate=True stretches the position vectors of encoding 'seqpe', this model has {recipe.encoding!r}")
        vectors = resample_grid(model.encoding.encoder.table(*model.train_grid), model.train_grid, (side, side))
    was_training = model.training
    model.eval()
    right, nats = 0, 0.0
    try:
        for part in torch.arange(len(images)).split(max(1, patches_per_pass // max(1, side**2))):
            seen = torch.stack([test_view(images[int(i)], recipe, size, int(i)) for i in part])
            logits = model(data.normalise(seen).to(device), vectors=vectors).float()
            labels = images.labels[part].to(device)
            right += int((logits.argmax(-1) == labels).sum())
            nats += float(F.cross_entropy(logits, labels, reduction="sum"))
    finally:
        model.train(was_training)
    return Accuracy(size, 100 * right / len(images), nats / len(images), len(images))


def validate(model: ViT, recipe: ImageRecipe, data: ImageData) -> float:
    """Nats an image on the validation split, at the training size."""
    return accuracy(model, first(data.validation, recipe.eval_images), data, recipe, recipe.image_size).nats


def evaluate(model: ViT, recipe: ImageRecipe, data: ImageData) -> dict:
    """Top-1 accuracy on the test split at the recipe's sizes; of SeqPE also with its positions interpolated."""
    images = first(data.test, recipe.eval_images)
    measured = [accuracy(model, images, data, recipe, size) for size in recipe.eval_sizes]
    protocol = "whole image, resized" if recipe.test_crop == 1 else f"middle {recipe.test_crop:g} of each side, resized"
    if recipe.augment == "place":
        protocol = "object at its trained size on a larger canvas"
    results = {"protocol": protocol, "split": "test",
               "images": len(images), "accuracy": {str(m.size): m.accuracy for m in measured}}
    if recipe.encoding == "seqpe":
        results["interpolated"] = {str(size): accuracy(model, images, data, recipe, size, interpolate=True).accuracy for size in recipe.eval_sizes}
    return results


def check(recipe: ImageRecipe, data: ImageData) -> None:
    """Refuse before the first step what would fail after the last."""
    if recipe.augment == "deit" and data.channels != 3:
        raise ValueError(f"augment='deit' needs colour images, {recipe.source} has {data.channels} channel: use augment='zoom' or 'place'")
    if recipe.augment == "place" and min(recipe.eval_sizes) < round(recipe.image_size * OBJECT):
        raise ValueError(f"a canvas of {min(recipe.eval_sizes)} pixels is smaller than its object of {round(recipe.image_size * OBJECT)}: raise eval_sizes")


def first(images: Images, count: int) -> Images:
    """The first ``count`` images; 0 takes all."""
    return images.select(range(min(count, len(images)))) if count else images
