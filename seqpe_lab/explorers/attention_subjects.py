"""What the attention explorer shows: the shipped models of texts and of images, or one's own."""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from seqpe_lab.course.style import label
from seqpe_lab.encodings import Learned, PositionEncoding
from seqpe_lab.explorers import shipped_models
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.runs.run import Run
from seqpe_lab.runs.run_data import kept_tokenizer
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.image_data import DIGITS, IMAGENET, load_images
from seqpe_lab.tasks.image_views import render
from seqpe_lab.tasks.tokenization import load_tokenizer

LONGEST, MOST_PATCHES = 64, 200  # tokens of a typed text, and patches of an image
OWN = "own"  # the method of a reader's own model

Encode = Callable[[str], tuple[list[int], list[str]]]  # a text -> tokens, and their names


@dataclass(frozen=True)
class Subject:
    """Models that read texts, or images; all have as many layers and heads.

    Args:
        kind: "text" or "image".
        methods: {method: its name}.
        model: of a method, in evaluation mode.
        provenance: of a method: scale, data and seed.
        shape: of the models: "layers", "heads", "most" (the number of positions) and "trained"
            (tokens, or patches a side); of images "patch", pixels a side, and "channels".
        encode: a text -> tokens and their names.
        normalise: an image in [0, 1] -> what the models read.
        picture: (1, channels, height, width), shown in place of the digits.
    """
    kind: str
    methods: Mapping[str, str]
    model: Callable[[str], nn.Module]
    provenance: Callable[[str], str]
    shape: Mapping[str, int]
    encode: Encode
    normalise: Callable[[Tensor], Tensor]
    picture: Tensor | None = None

    def about(self, method: str) -> dict[str, Any]:
        """Name, provenance, training, what counts as content, and whether it cannot shift."""
        encoding, shape = self.model(method).encoding, self.shape
        content = ("q·k / √d<sub>head</sub> of the same queries and keys before "
                   f"{self.methods[method]} transforms them into q′ and k′")
        if type(encoding) is PositionEncoding:
            content = ("all of it: without an encoding q′ = q and k′ = k, and the position part "
                       "is 0")
        elif type(encoding).embed is not PositionEncoding.embed:
            content = ("q·k / √d<sub>head</sub> with this layer's q and k computed from its input "
                       "less the position vectors (subtracted before its LayerNorm)")
        trained = f"sequences of {shape['trained']} tokens" if self.kind == "text" else (
            f"{shape['trained']} × {shape['trained']} patches of {shape['patch']} pixels")
        return {"name": self.methods[method], "provenance": self.provenance(method),
                "content": content, "trained": trained,
                "fixed": isinstance(encoding, Learned) and self.kind == "image"}

    @property
    def sizes(self) -> list[int]:
        """Sides of images, pixels: the trained one first, up to twice as many patches a side."""
        trained, patch = self.shape["trained"], self.shape["patch"]
        sides = {trained, round(7 * trained / 6), round(1.5 * trained), 2 * trained}
        return [patch * side for side in sorted(sides) if side == trained or
                side**2 <= MOST_PATCHES and side <= self.shape["most"]]


def shipped() -> list[Subject]:
    """Models of texts and of images that come with the package."""
    found = []
    for kind, methods in (("text", shipped_models.TEXT_MODELS),
                          ("image", shipped_models.IMAGE_MODELS)):
        recipe = shipped_models.recipe(kind, methods[0])
        shape = dict(layers=recipe.layers, heads=recipe.heads, most=recipe.max_position,
                     trained=recipe.train_shape[0], patch=getattr(recipe, "patch", 0), channels=1)
        found.append(Subject(
            kind, {method: label(method) for method in methods},
            functools.partial(_shipped_model, kind),
            functools.partial(shipped_models.provenance, kind), shape, bytes_of,
            functools.partial(_normalised, *DIGITS)))
    return found


def _shipped_model(kind: str, method: str) -> nn.Module:
    return shipped_models.model(kind, method)


def own(model: nn.Module | Run | str | Path, image: Any = None) -> Subject:
    """A reader's model, or that of a run.

    Args:
        model: a :class:`GPT2` or :class:`ViT <seqpe_lab.models.vit.ViT>`; a run, or its folder.
        image: for an image model: a file, an array (height, width) or (height, width, 3) of
            numbers 0 to 255, or a tensor (channels, height, width) in [0, 1].

    Raises:
        TypeError: another class of model.
        ValueError: a model of texts whose vocabulary has no bytes, and no run says which it is;
            an image for a model of texts.
    """
    name, encode, constants = type(getattr(model, "encoding", None)).__name__, bytes_of, None
    provenance = "a model of your own"
    if isinstance(model, (str, Path)):
        model = Run.open(Path(model))
    if isinstance(model, Run):
        run, task = model, task_of(model.recipe)
        task.kept_tokenizer = kept_tokenizer(run)
        data = task.load_data()
        model, name = trained_model(run, data, same_data=False), label(run.recipe.method)
        provenance = f"{run.folder.name} · scale {run.recipe.scale} · seed {run.recipe.seed}"
        constants = (data.mean, data.std) if hasattr(data, "mean") else None
        if tokenizer := getattr(data, "tokenizer_json", None):
            encode = functools.partial(pieces_of, load_tokenizer(data.tokenizer, {}, tokenizer))
    model = model.eval()
    if isinstance(model, GPT2):
        config = model.config
        if image is not None:
            raise ValueError("this model reads texts: leave `image` out, or give an image model")
        if config.vocab_size < 256 and encode is bytes_of:
            raise ValueError(f"a vocabulary of {config.vocab_size} tokens does not hold the 256 "
                             "bytes of a typed text: give the run in place of the model")
        shape = dict(layers=config.layers, heads=config.heads, most=config.max_position,
                     trained=config.train_len)
        return Subject("text", {OWN: name}, lambda _: model, lambda _: provenance, shape, encode,
                       lambda images: images)
    from seqpe_lab.models.vit import ViT  # timm takes seconds to import
    if not isinstance(model, ViT):
        raise TypeError(f"{type(model).__name__} is neither a GPT2 nor a ViT of this package, nor "
                        "a run: give one of them")
    shape = dict(layers=len(model.vit.blocks), heads=model.heads, most=model.config.max_position,
                 trained=model.train_grid[0], patch=model.patch, channels=model.channels)
    constants = constants or (DIGITS if model.channels == 1 else IMAGENET)
    return Subject("image", {OWN: name}, lambda _: model, lambda _: provenance, shape, bytes_of,
                   functools.partial(_normalised, *constants),
                   None if image is None else picture_of(image, model.channels))


def bytes_of(text: str) -> tuple[list[int], list[str]]:
    """A text's bytes, and a name for each: its letter, or two hexadecimal digits.

    >>> bytes_of("a é")
    ([97, 32, 195, 169], ['a', '·', 'c3', 'a9'])
    """
    tokens = list(text.encode(errors="replace"))
    return tokens, ["·" if b == 32 else chr(b) if 32 < b < 127 else f"{b:02x}" for b in tokens]


def pieces_of(tokenizer: Any, text: str) -> tuple[list[int], list[str]]:
    """A text's tokens, and their letters."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return found.ids, [tokenizer.decode([number]).replace(" ", "·") for number in found.ids]


_images = functools.lru_cache(load_images)


def digit_image(digit: int) -> Tensor:
    """The first test image of a digit, float (1, 1, 8, 8) in [0, 1]."""
    test = _images("digits").test
    return test[int((test.labels == digit).nonzero()[0])].unsqueeze(0)


def drawn_image(drawing: str) -> Tensor:
    """A drawing of 8 x 8 pixels from 64 hexadecimal digits, float (1, 1, 8, 8) in [0, 1].

    Raises:
        ValueError: other characters, or another number of them.
    """
    if len(drawing) != 64 or set(drawing) - set("0123456789abcdef"):
        raise ValueError("a drawing is 64 digits 0 to f, one for each of its 8 x 8 pixels, got "
                         f"{drawing[:70]!r}")
    return torch.tensor([int(pixel, 16) / 15 for pixel in drawing]).view(1, 1, 8, 8)


def picture_of(image: Any, channels: int) -> Tensor:
    """A file or an array as float (1, channels, height, width) in [0, 1]; see :func:`own`."""
    if isinstance(image, Tensor):
        return image.float().view(1, *image.shape[-3:]).expand(1, channels, -1, -1)
    opened = Image.open(image) if isinstance(image, (str, Path)) else \
        Image.fromarray(np.asarray(image, dtype=np.uint8))
    pixels = np.asarray(opened.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)[None]


def shown_image(subject: Subject, digit: int, drawing: str, size: int) -> Tensor:
    """The picture, the drawing, or the digit, at a size: float (1, channels, size, size)."""
    given = drawn_image(drawing) if drawing else subject.picture
    given = digit_image(digit) if given is None else given
    return render(given.expand(1, subject.shape["channels"], -1, -1), size)


def _normalised(mean: tuple, std: tuple, images: Tensor) -> Tensor:
    middle, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (images - middle) / scale
