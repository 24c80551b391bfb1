"""The view of an image that a model gets: random in training, fixed in tests.

The recipe's ``augment`` chooses one of three:

* "deit": timm's transforms, as DeiT uses them, on Pillow's images: in training with random
  augmentation, mixup and cutmix; in tests resized and cropped in the middle.
* "zoom": training shows a random window of an image rendered 1 to 1/sqrt(crop) times larger; tests
  show the whole image, larger. Training contains patches of enlarged objects, but not the
  positions of a larger image.
* "place": the object always has 2/3 of the training image's side, at a random place on an empty
  canvas; tests enlarge only the canvas. Training contains the patches of a test, but neither
  their positions nor their number.
"""
from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from seqpe_lab.recipes import ImageRecipe
from seqpe_lab.sampling import seeded
from seqpe_lab.tasks.base import epoch_order
from seqpe_lab.tasks.image_data import ImageData, Images

OBJECT = 2 / 3  # of the training image's side, with augment="place"


class Views(Dataset):
    """The training images: item i is always the same view of the same image, and its label.

    Each epoch goes through the images in another order, drawn from (seed, epoch).
    """

    def __init__(self, data: ImageData, recipe: ImageRecipe):
        self.data, self.recipe = data, recipe
        self.transform = _deit_transform(data, recipe) if recipe.augment == "deit" else None

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """float (channels, image_size, image_size), normalised, and the class."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """A batch, which torch's DataLoader asks for in one call: faster than one by one."""
        recipe, train = self.recipe, self.data.train
        numbers = [self._number(index) for index in indices]
        generators = [seeded(recipe.seed, index, stream=4) for index in indices]
        labels = train.labels[numbers].tolist()
        if self.transform is not None:
            pictures = map(train.picture, numbers)
            return list(zip(map(self._transformed, pictures, generators), labels))
        images = [train[number] for number in numbers]
        if recipe.augment == "zoom":
            views = zoom(images, recipe, generators)
        else:
            views = torch.stack([place_on_canvas(image, recipe, recipe.image_size, generator)
                                 for image, generator in zip(images, generators)])
        return list(zip(self.data.normalise(views), labels))

    def _number(self, index: int) -> int:
        """Which image item ``index`` shows.

        With repeated augmentation each image of an epoch's order is shown several times in a row,
        so an epoch of as many items shows fewer images.
        """
        epoch, place = divmod(index, len(self.data.train))
        order = epoch_order(len(self.data.train), self.recipe.seed, epoch)
        return int(order[place // self.recipe.repeats])

    def _transformed(self, picture: Image.Image, generator: torch.Generator) -> Tensor:
        with global_generators(generator):
            return self.transform(picture)


class EvaluationViews(Dataset):
    """The images of a split, as evaluation shows them at ``size`` pixels a side, and their labels.

    With "deit" timm resizes the shorter side to size / test_crop, by Pillow's bicubic filter, and
    keeps the middle, as DeiT's own evaluation and the one of the paper's authors do. The others
    show a :func:`test_view`, whose filter is torch's, as in their training.
    """

    def __init__(self, images: Images, data: ImageData, recipe: ImageRecipe, size: int):
        self.images, self.data, self.recipe, self.size = images, data, recipe, size
        self.transform = None
        if recipe.augment == "deit":
            from timm.data import create_transform
            self.transform = create_transform(size, interpolation="bicubic", mean=data.mean,
                                              std=data.std, crop_pct=recipe.test_crop)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """float (channels, size, size), normalised, and the class."""
        label = int(self.images.labels[index])
        if self.transform is not None:
            return self.transform(self.images.picture(index)), label
        view = test_view(self.images[index], self.recipe, self.size, index)
        return self.data.normalise(view), label


@contextmanager
def global_generators(generator: torch.Generator):
    """Seed torch's, numpy's and Python's own generators inside, and restore them afterwards.

    timm and torchvision draw from these three.
    """
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


def _deit_transform(data: ImageData, recipe: ImageRecipe) -> Callable:
    """timm's training transform with DeiT's RandAugment.

    At its largest strength RandAugment keeps 0 bits of each colour, a black image, which Pillow 13
    refuses; here it keeps at least one.
    """
    from timm.data import create_transform
    from timm.data.auto_augment import RandAugment
    transform = create_transform(
        recipe.image_size, is_training=True, scale=(recipe.crop, 1.0), color_jitter=0.3,
        interpolation="bicubic", auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=recipe.erasing, re_mode="pixel", re_count=1, mean=data.mean, std=data.std)
    for augment in (t for t in transform.transforms if isinstance(t, RandAugment)):
        for operation in (op for op in augment.ops if "Posterize" in op.name):
            operation.level_fn = functools.partial(_at_least_one_bit, operation.level_fn)
    return transform


def _at_least_one_bit(bits: Callable, level: float, hparams: dict) -> tuple[int]:
    return (max(1, bits(level, hparams)[0]),)


def zoom(images: Sequence[Tensor], recipe: ImageRecipe,
         generators: Sequence[torch.Generator]) -> Tensor:
    """A random window of each image's middle square, rendered 1 to 1/sqrt(crop) times as large.

    Args:
        images: float (channels, height, width) each, in [0, 1].
        generators: one for each image.

    Returns:
        (B, channels, image_size, image_size), in [0, 1].
    """
    images = [_middle(image) for image in images]
    windows = [_window(image.shape[-1], recipe, g) for image, g in zip(images, generators)]
    rows, columns = zip(*windows)
    if len({image.shape for image in images}) == 1:
        rows, columns = torch.stack(rows).unsqueeze(1), torch.stack(columns).unsqueeze(1)
        return (rows @ torch.stack(images) @ columns.mT).clamp(0, 1)
    return torch.stack([(r @ image @ c.T).clamp(0, 1)
                        for r, image, c in zip(rows, images, columns)])


def _window(side: int, recipe: ImageRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows of :func:`bicubic`'s two matrices that render one view, (image_size, side) each."""
    size, (area, down, right) = recipe.image_size, torch.rand(3, generator=generator).tolist()
    # the window's share of the area is uniform in [crop, 1], as in RandomResizedCrop
    large = round(size / (recipe.crop + (1 - recipe.crop) * area) ** 0.5)
    top, left = (int(place * (large - size + 1)) for place in (down, right))
    enlarge = bicubic(side, large)
    return enlarge[top: top + size], enlarge[left: left + size]


def object_side(recipe: ImageRecipe) -> int:
    """Pixels a side of an object on a canvas."""
    return round(recipe.image_size * OBJECT)


def place_on_canvas(image: Tensor, recipe: ImageRecipe, size: int,
                    generator: torch.Generator) -> Tensor:
    """The object at its trained size, at a random place on an empty canvas.

    Args:
        image: float (channels, height, width) in [0, 1].
        size: pixels a side of the canvas.

    Returns:
        (channels, size, size), in [0, 1].
    """
    side = object_side(recipe)
    canvas = image.new_zeros(image.shape[0], size, size)
    draws = torch.rand(2, generator=generator).tolist()
    top, left = (int(place * (size - side + 1)) for place in draws)
    canvas[:, top: top + side, left: left + side] = render(_middle(image).unsqueeze(0), side)[0]
    return canvas


def test_view(image: Tensor, recipe: ImageRecipe, size: int, number: int) -> Tensor:
    """The view of an image in tests, at ``size`` pixels a side, unless ``augment`` is "deit".

    With "place" a canvas, on which the image's ``number`` decides the place; else the resized
    middle square of the image, of which ``test_crop`` of each side is kept.
    """
    if recipe.augment == "place":
        return place_on_canvas(image, recipe, size, seeded(0, number, stream=5))
    return _middle(render(_middle(image).unsqueeze(0), round(size / recipe.test_crop))[0], size)


def _middle(image: Tensor, side: int | None = None) -> Tensor:
    """The middle square of an image (channels, height, width); by default as large as it can be."""
    side = side or min(image.shape[-2:])
    top, left = ((pixels - side) // 2 for pixels in image.shape[-2:])
    return image[:, top: top + side, left: left + side]


def render(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize by bicubic interpolation (antialiased when it shrinks), clipped to [0, 1].

    Args:
        images: float (B, channels, height, width) in [0, 1].
        size: pixels a side, or (height, width).

    Raises:
        ValueError: a size below 1.

    >>> render(torch.ones(1, 1, 8, 8), 24).shape
    torch.Size([1, 1, 24, 24])
    """
    size = (size, size) if isinstance(size, int) else tuple(size)
    if min(size) < 1:
        raise ValueError(f"an image needs at least 1 pixel a side, got {size}")
    return _resized(images, size).clamp(0, 1)


@lru_cache(maxsize=256)
def bicubic(side: int, size: int) -> Tensor:
    """One axis of :func:`render` as a matrix W, (size, side).

    W image W^T is the rendered image, and some rows of W render a window of it.

    >>> image = torch.rand(8, 8)
    >>> window = bicubic(8, 24)[4:10] @ image @ bicubic(8, 24)[:6].T
    >>> rendered = render(image[None, None], 24)[0, 0, 4:10, :6]
    >>> torch.allclose(window.clamp(0, 1), rendered, atol=1e-6)
    True
    """
    return _resized(torch.eye(side).view(1, 1, side, side), (size, side))[0, 0]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    return F.interpolate(images, size=size, mode="bicubic", antialias=shrinks, align_corners=False)
