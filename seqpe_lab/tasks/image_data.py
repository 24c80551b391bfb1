"""Labelled images: scikit-learn's handwritten digits, local files, or the hub.

The default needs no network: 1,797 digits of 8 x 8 pixels. Nothing falls back silently: what was
loaded is named, counted and hashed in its :class:`ImageData`.
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from seqpe_lab.hub import load_from_hub, no_source, read_parquet, three_ways_out
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.data_files import WHOLE, by_split, data_files, known_splits, split_place
from seqpe_lab.tasks.image_decoding import check_all, decode, sha256_of
from seqpe_lab.tasks.image_tables import (column_names, encoded, encoded_images, labels_of,
                                          labels_of_words)

DIGITS, IMAGENET = ((0.3,), (0.4,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_WAYS_OUT = three_ways_out("download the images elsewhere and pass their folder as `source`",
                           "use source='digits', which needs no network")


class Images:
    """One split: labels in memory, images decoded when asked for.

    Args:
        files: for each image a uint8 array (channels, height, width), its encoded bytes, its path,
            or an undecoded cell of a table.
        labels: int64 (N,).
        channels: 1 (grey) or 3 (RGB); other images are converted.
        origin: what the files came from, for messages.
    """

    def __init__(self, files: Sequence, labels: Tensor, channels: int, origin: str = "the images"):
        self.files, self.labels, self.channels, self.origin = files, labels, channels, origin

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Tensor:
        """float32 (channels, height, width), values in [0, 1]; fails as :meth:`picture` does."""
        item = self.files[index]
        if isinstance(item, np.ndarray):
            return torch.from_numpy(item).float() / 255
        pixels = np.array(self.picture(index))
        pixels = pixels.reshape(*pixels.shape[:2], self.channels)
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    def picture(self, index: int) -> Image.Image:
        """The image as timm's transforms take it, grey ("L") or "RGB".

        Raises:
            ValueError: an image that cannot be read, as :func:`decode` refuses it; names it.
        """
        item = encoded(self.files[index])
        if isinstance(item, np.ndarray):
            return Image.fromarray(item[0] if self.channels == 1 else item.transpose(1, 2, 0))
        inside = isinstance(item, bytes | None)
        return decode(item, self.channels, f"image {index} of {self.origin}" if inside else item)

    def select(self, indices: Sequence[int]) -> Images:
        """Some of the images; nothing is read."""
        labels = self.labels[torch.tensor([*indices]).long()]
        return Images(Subset(self.files, indices), labels, self.channels, self.origin)


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three disjoint splits.

    Attributes:
        description: one line for captions.
        channels, classes: 1 or 3; the classes' names.
        hash: sha256 of all encoded images and labels (and their paths in a folder), 16 hex digits.
        mean, std: for the normalisation of the model's input, a number for each channel.
    """
    source: str
    description: str
    channels: int
    classes: list[str]
    train: Images
    validation: Images
    test: Images
    hash: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def provenance(self) -> dict:
        """What to store beside a result."""
        return {"source": self.source, "description": self.description, "hash": self.hash,
                "classes": len(self.classes),
                "images": {split: len(getattr(self, split)) for split in SPLITS}}

    @property
    def decodes(self) -> bool:
        """Whether images must be decoded, which takes time."""
        return not isinstance(self.train.files[0], np.ndarray)

    def normalise(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) in [0, 1] -> the model's input."""
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1)
                     for values in (self.mean, self.std))
        return (images - mean) / std


def load_images(source: str = "digits") -> ImageData:
    """Load and split labelled images.

    Args:
        source: "digits"; a folder with a folder of images for each class, or with a folder for each
            split above those; a folder or file of parquet with columns "image" and "label"; or
            "hub:NAME", for instance "hub:uoft-cs/cifar10" or "hub:ILSVRC/imagenet-1k". Names of
            splits are those of :mod:`~seqpe_lab.tasks.data_files`.

    A missing test or validation split is cut from train: a tenth of it, at most 10,000 images.
    ImageNet's test labels are secret, so its validation split serves as test split. All images are
    decoded once, as :mod:`~seqpe_lab.tasks.image_decoding` describes.

    Raises:
        ValueError: an unknown source, an empty folder, a label out of range, an image that cannot
            be read.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    if source == "digits":
        return _digits()
    if source.startswith("hub:"):
        return _from_hub(source)
    path = Path(source).expanduser()
    if source.strip() and path.exists():
        tables = data_files(path, [".parquet"])
        if not path.is_dir() and not tables:
            raise ValueError(f"{source} is neither a folder nor a parquet file")
        files = data_files(path, ENDINGS) if path.is_dir() else []
        if tables and files:
            raise ValueError(f"{source} holds parquet files ({tables[0].name}) and images "
                             f"({files[0].name}): give the folder of one kind")
        if tables:
            return _from_parquet(source, path, tables)
        return _from_folder(source, path, files)
    no_source("images", source, "a folder with one folder a class, or parquet files",
              "'digits', a folder, or 'hub:NAME'")


def _digits() -> ImageData:
    from sklearn.datasets import load_digits
    raw = load_digits()
    files = [(image[None] * 255 / 16).round().astype(np.uint8) for image in raw.images]
    images = {"train": Images(files, torch.from_numpy(raw.target).long(), 1)}
    return _finish("digits", "scikit-learn's handwritten digits", [str(c) for c in range(10)],
                   images, {"train": [sha256_of(file.tobytes()) for file in files]})


def _from_parquet(source: str, path: Path, tables: list[Path]) -> ImageData:
    from datasets import concatenate_datasets
    root = path if path.is_dir() else path.parent
    splits = {"train" if split == WHOLE else split:
              concatenate_datasets([read_parquet(file) for file in files])
              for split, files in by_split(root, tables).items()}
    return _from_datasets(source, path.name, splits, ", ".join(map(str, tables)))


def _from_hub(source: str) -> ImageData:
    name = source.removeprefix("hub:")
    splits = dict(load_from_hub(name, _WAYS_OUT, name))
    if name.endswith("imagenet-1k"):
        splits = {"train": splits["train"], "test": splits["validation"]}
    return _from_datasets(source, name, known_splits(splits, name), name)


def _from_datasets(source: str, description: str, splits: dict, origin: str) -> ImageData:
    columns = {split: column_names(table, origin) for split, table in splits.items()}
    names, labels = labels_of(splits, {split: columns[split][1] for split in splits}, origin)
    found, digests = {}, {}
    for split, table in splits.items():
        where = f"the {split} split of {origin}" if len(splits) > 1 else origin
        files, digests[split] = encoded_images(table, columns[split][0], where)
        found[split] = Images(files, labels[split], 3, where)
    return _finish(source, description, names, found, digests)


def _from_folder(source: str, path: Path, files: list[Path]) -> ImageData:
    parts = by_split(path, files, file_names=False)
    if WHOLE not in parts and "train" not in parts and parts:
        raise ValueError(f"{source} has {' and '.join(sorted(parts))} but no train folder: give "
                         "one, or one folder a class")
    parts = {"train" if split == WHOLE else split: some for split, some in parts.items()}
    classes: dict[str, list[str]] = {}
    for split, some in parts.items():
        inside = [(file, name) for file in some if (name := _class_of(path, file))]
        if len(inside) < len(some):
            outside = next(file for file in some if not _class_of(path, file))
            warnings.warn(f"{len(some) - len(inside)} images of {source} are in no class's folder, "
                          f"such as {outside}: they are left out", stacklevel=3)
        parts[split], classes[split] = [file for file, _ in inside], [name for _, name in inside]
    if not any(parts.values()):
        raise ValueError(f"{path} holds no images: it needs one folder a class with "
                         f"{', '.join(ENDINGS)} files")
    names, labels = labels_of_words(classes, source)
    found = {split: Images(some, labels[split], 3, source) for split, some in parts.items()}
    digests = {split: check_all(len(some), some.__getitem__, some.__getitem__, source, some)
               for split, some in parts.items()}
    paths = [file.relative_to(path).as_posix() for some in parts.values() for file in some]
    return _finish(source, path.name, names, found, digests, "\n".join(paths))


def _class_of(root: Path, file: Path) -> str | None:
    """The folder of a file's class: the one in its split's folder, or else the outermost."""
    folders = file.relative_to(root).parts[:-1]
    _, place = split_place((*folders, file.name), file_name=False)
    if place + 1 < len(folders):
        return folders[place + 1]
    return folders[0] if place > 0 else None  # cat/train/1.png; train/1.png has no class


def _finish(source: str, description: str, names: list[str], found: dict[str, Images],
            digests: dict[str, list[str]], paths: str = "") -> ImageData:
    """Check the splits, cut those that are missing from train by the images' digests, and hash."""
    if "train" not in found:
        raise ValueError(f"{source!r} has no train split, only {', '.join(sorted(found))}: name a "
                         "file or a folder train")
    for role, images in found.items():
        if not len(images):
            raise ValueError(f"the {role} split of {source!r} holds no images")
        wrong = images.labels[(images.labels < 0) | (images.labels >= len(names))]
        if len(wrong):
            raise ValueError(f"the {role} split of {source!r} has label {int(wrong[0])}, but its "
                             f"{len(names)} classes allow 0..{len(names) - 1}")
    if len(names) < 2:
        raise ValueError(f"{source!r} has only one class, {names[0]}: give images of two at least; "
                         "of folders, the path of the one that holds the classes' folders")
    if missing := [split for split in ("test", "validation") if split not in found]:
        found = found | _cut(found["train"], digests["train"], missing, source)
    content = "".join(role + "".join(digests[role]) for role in sorted(digests)).encode()
    content += paths.encode()
    content += b"".join(found[split].labels.numpy().tobytes() for split in SPLITS)
    mean, std = DIGITS if source == "digits" else IMAGENET
    return ImageData(source, description, found["train"].channels, names, found["train"],
                     found["validation"], found["test"], sha256_of(content)[:16], mean, std)


def _cut(whole: Images, digests: list[str], missing: list[str], source: str) -> dict[str, Images]:
    """The missing splits, and what is left to train on."""
    # the share of each split; larger for the digits, which are few
    share = 0.15 if source == "digits" else min(0.1, 10_000 / len(digests))
    parts = [int(int(digest[:8], 16) / 2**32 // share) for digest in digests]
    chosen = {split: [i for i, part in enumerate(parts) if part == number]
              for number, split in enumerate(missing)}
    chosen["train"] = [i for i, part in enumerate(parts) if part >= len(missing)]
    if not all(chosen.values()):
        raise ValueError(f"{source!r} has {len(whole)} images, too few to cut "
                         f"{' and '.join(missing)} from: give more, or those splits")
    return {split: whole.select(indices) for split, indices in chosen.items()}
