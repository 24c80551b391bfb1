"""Labelled images: scikit-learn's handwritten digits, local files, or the hub.

The default needs no network: 1,797 digits of 8 x 8 pixels, rendered to any size by bicubic
interpolation. Nothing falls back silently: what was loaded is named, counted and hashed in the
:class:`ImageData` it returns.
"""
from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.tasks.corpus import SPLITS, cache_folder, load_from_hub

_WAYS_OUT = ("Three ways out: (1) connect to the network and try again; (2) download the images elsewhere and pass their folder as `source`; "
             "(3) use source='digits', which needs no network.")
IN_MEMORY = 100_000  # images of a table whose encoded files are kept in memory
MEAN_STD = {"digits": ((0.3,), (0.4,))}  # others: ImageNet's


class Images:
    """One split: labels in memory, images decoded when asked for.

    Args:
        files: for each image an array (channels, height, width) of uint8, an encoded file's bytes, or a path.
        labels: int64 (N,).
        channels: 1 (grey) or 3 (RGB); other images are converted.
        origin: what the files came from, for messages.
    """

    def __init__(self, files: Sequence, labels: Tensor, channels: int, origin: str = "the images"):
        self.files, self.labels, self.channels, self.origin = files, labels, channels, origin

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Tensor:
        """float32 (channels, height, width), values in [0, 1].

        Raises:
            ValueError: a file that is no image; names it.
        """
        item = self.files[index]
        if isinstance(item, np.ndarray):
            return torch.from_numpy(item).float() / 255
        from PIL import Image, UnidentifiedImageError
        try:
            with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
                if image.mode.startswith("I"):  # 16 bits, which PIL would cut off at 255
                    image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
                pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError, TypeError, AttributeError) as error:
            name = f"image {index} of {self.origin}" if isinstance(item, bytes) or item is None else item
            reason = str(error).partition(" <_io")[0]  # no address of a buffer
            raise ValueError(f"{name} cannot be read as an image ({reason}): remove or replace it") from error
        return torch.from_numpy(pixels.copy()).float().view(*pixels.shape[:2], self.channels).permute(2, 0, 1) / 255

    def select(self, indices: Sequence[int]) -> Images:
        """Some of the images; nothing is read."""
        return Images(_Some(self.files, indices), self.labels[torch.as_tensor(indices, dtype=torch.long)], self.channels, self.origin)


class _Some(Sequence):
    """Some items of a sequence, looked up when asked for."""

    def __init__(self, items: Sequence, indices: Sequence[int]):
        self.items, self.indices = items, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):
        return self.items[self.indices[index]]


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three disjoint splits.

    Attributes:
        source, description: as asked for; one line for captions.
        channels, classes: 1 or 3; the classes' names.
        train, validation, test: :class:`Images`.
        hash: sha256 of all images and labels (for a folder of paths and sizes, for a large table of numbers), 16 hex digits.
        mean, std: by which the model's input is normalised, a number a channel.
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
        return {"source": self.source, "description": self.description, "hash": self.hash, "classes": len(self.classes),
                "images": {split: len(getattr(self, split)) for split in SPLITS}}

    @property
    def decodes(self) -> bool:
        """Whether every image must be decoded when it is asked for, which takes time."""
        return not isinstance(self.train.files[0], np.ndarray)

    def normalise(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) in [0, 1] -> the model's input."""
        mean, std = (statistic.to(images.device) for statistic in self._statistics)
        return (images - mean) / std

    @functools.cached_property
    def _statistics(self) -> list[Tensor]:
        return [torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std)]


def load_images(source: str = "digits") -> ImageData:
    """Load and split labelled images.

    Args:
        source: "digits"; a folder with a folder of images for each class, or with train/ (and
            validation/ or val/, test/) above those; a folder or file of parquet with columns
            "image" and "label" (files named train, validation, test keep their roles); or
            "hub:NAME", for instance "hub:uoft-cs/cifar10" or "hub:ILSVRC/imagenet-1k".

    A missing test split is cut from train, a tenth of it but at most 10,000 images, and so is validation.
    ImageNet's test labels are secret, so its validation split is the test split, as in the papers.

    Raises:
        ValueError: an unknown source, an empty folder, a label out of range.
        FileNotFoundError: a path that is not there.
        ConnectionError: the hub cannot be reached; names the three ways out.
    """
    if source == "digits":
        return _digits()
    if source.startswith("hub:"):
        return _from_hub(source)
    path = Path(source).expanduser()
    if source.strip() and path.exists():
        tables = [path] if path.suffix == ".parquet" else sorted(path.rglob("*.parquet")) if path.is_dir() else []
        return _from_parquet(source, tables) if tables else _from_folder(source, path)
    if source.strip() and any(mark in source for mark in "/.\\"):
        raise FileNotFoundError(f"no images at {source}: give a folder with one folder a class, or parquet files")
    raise ValueError(f"unknown image source {source!r}: choose 'digits', a folder, or 'hub:NAME'")


def render(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize by bicubic interpolation (antialiased when it shrinks), values clipped to [0, 1].

    Args:
        images: float (B, channels, height, width) in [0, 1].
        size: pixels a side, or (height, width).

    >>> render(torch.ones(1, 1, 8, 8), 24).shape
    torch.Size([1, 1, 24, 24])
    """
    size = (size, size) if isinstance(size, int) else tuple(size)
    if min(size) < 1:
        raise ValueError(f"an image needs at least 1 pixel a side, got {size}")
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]  # enlarging, torch's plain kernel is three times faster
    return F.interpolate(images, size=size, mode="bicubic", antialias=shrinks, align_corners=False).clamp(0, 1)


@functools.lru_cache(maxsize=256)
def bicubic(side: int, size: int) -> Tensor:
    """One axis of :func:`render` as a matrix, (size, side): W image W^T is the image rendered, some rows of W a window of it.

    >>> image = torch.rand(8, 8)
    >>> window = bicubic(8, 24)[4:10] @ image @ bicubic(8, 24)[:6].T
    >>> torch.allclose(window.clamp(0, 1), render(image[None, None], 24)[0, 0, 4:10, :6], atol=1e-6)
    True
    """
    return F.interpolate(torch.eye(side).view(1, 1, side, side), size=(size, side), mode="bicubic", antialias=size < side, align_corners=False)[0, 0]


# --- sources -----------------------------------------------------------------------------------

def _digits() -> ImageData:
    from sklearn.datasets import load_digits
    raw = load_digits()
    files = [(image[None] * 255 / 16).round().astype(np.uint8) for image in raw.images]
    data = Images(files, torch.from_numpy(raw.target).long(), 1)
    digests = [hashlib.sha256(f.tobytes()).hexdigest() for f in files]
    return _finish("digits", "scikit-learn's handwritten digits", [str(c) for c in range(10)], {"train": data}, {"train": digests})


def _from_parquet(source: str, tables: list[Path]) -> ImageData:
    from datasets import Dataset, concatenate_datasets
    parts: dict[str, list] = {}
    for table in tables:
        role = next((ROLES[word] for word in ROLES if table.stem.lower().startswith(word)), "train")
        try:
            parts.setdefault(role, []).append(Dataset.from_parquet(str(table), cache_dir=str(cache_folder() / "datasets")))
        except Exception as error:  # datasets and pyarrow raise many kinds
            raise ValueError(f"{table} cannot be read as a table of images ({type(error).__name__}: {error})") from error
    names = ", ".join(str(table) for table in tables)
    return _from_datasets(source, Path(source).name, {role: concatenate_datasets(sets) for role, sets in parts.items()}, names)


def _from_hub(source: str) -> ImageData:
    name = source.removeprefix("hub:")
    splits = dict(load_from_hub(name, _WAYS_OUT, name))
    if name.endswith("imagenet-1k"):
        splits = {"train": splits["train"], "test": splits["validation"]}
    return _from_datasets(source, name, splits, name)


def _from_datasets(source: str, description: str, splits: dict, origin: str) -> ImageData:
    from datasets import Image
    found, digests, names = {}, {}, []
    for role, table in splits.items():
        columns = {"image": next((c for c in ("image", "img") if c in table.column_names), None),
                   "label": next((c for c in ("label", "fine_label") if c in table.column_names), None)}
        if None in columns.values():
            raise ValueError(f"{origin} has columns {', '.join(table.column_names)}; it needs 'image' and 'label'")
        names = list(getattr(table.features[columns["label"]], "names", None) or names)
        labels = np.asarray(table.with_format("numpy")[columns["label"]][:])
        if not np.issubdtype(labels.dtype, np.integer):
            missing = np.issubdtype(labels.dtype, np.floating) and bool(np.isnan(labels).any())
            raise ValueError(f"the label column of {origin} must hold whole numbers: {'some are missing' if missing else f'it holds {labels.dtype}'}")
        try:
            column = table.cast_column(columns["image"], Image(decode=False))[columns["image"]]
            if len(column) <= IN_MEMORY:
                files = [_file(item) for item in column]
                digests[role] = [hashlib.sha256(f if isinstance(f, bytes) else str(f).encode()).hexdigest() for f in files]
            else:  # stays on the disk, and is split by the number of each image
                files = _Encoded(column)
                digests[role] = [hashlib.sha256(f"{role} {i}".encode()).hexdigest() for i in range(len(column))]
        except Exception as error:  # datasets and pyarrow raise many kinds
            raise ValueError(f"the image column of {origin} does not hold encoded images ({type(error).__name__}: {error})") from error
        found[role] = Images(files, torch.from_numpy(labels.astype(np.int64)), 3, origin)
    highest = max(int(images.labels.max()) for images in found.values() if len(images)) + 1
    return _finish(source, description, names or [str(c) for c in range(highest)], found, digests)


class _Encoded(Sequence):
    """Encoded files in a column of a ``datasets`` table, read on demand."""

    def __init__(self, column):
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index):
        return _file(self.column[int(index)])


def _file(item: dict | None) -> bytes | str | None:
    """A cell of an image column as ``datasets`` gives it, undecoded: the encoded file, else its path."""
    return None if item is None else item["bytes"] if item["bytes"] is not None else item["path"]


ROLES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def _from_folder(source: str, path: Path) -> ImageData:
    if not path.is_dir():
        raise ValueError(f"{source} is neither a folder nor a parquet file")
    parts = {ROLES[child.name.lower()]: child for child in sorted(path.iterdir()) if child.is_dir() and child.name.lower() in ROLES}
    if "train" not in parts and parts:
        raise ValueError(f"{source} has {' and '.join(sorted(parts))} but no train folder: give one, or a folder a class alone")
    found, digests, names = {}, {}, []
    for role, root in sorted((parts or {"train": path}).items(), key=lambda item: item[0] != "train"):
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in ENDINGS and file.parent != root
                       and not any(part.startswith(".") for part in file.relative_to(root).parts))
        if not files:
            raise ValueError(f"{root} holds no images: it needs one folder a class with {', '.join(sorted(ENDINGS))} files")
        classes = [file.relative_to(root).parts[0] for file in files]
        names = names or sorted(set(classes))
        if unknown := set(classes) - set(names):
            raise ValueError(f"{root} has classes that the training folder does not have: {', '.join(sorted(unknown))}")
        found[role] = Images(files, torch.tensor([names.index(c) for c in classes]), 3, str(root))
        digests[role] = [hashlib.sha256(f"{file.relative_to(root)} {file.stat().st_size}".encode()).hexdigest() for file in files]
    return _finish(source, path.name, names, found, digests)


def _finish(source: str, description: str, names: list[str], found: dict[str, Images], digests: dict[str, list[str]]) -> ImageData:
    """Cut the splits that are missing from train, by a hash: of the image itself, of its path and size in a folder, of its number in a large table."""
    if "train" not in found:
        raise ValueError(f"{source!r} has no train split, only {', '.join(sorted(found))}: name a file or a folder train")
    for role, images in found.items():
        if len(images) == 0:
            raise ValueError(f"the {role} split of {source!r} holds no images")
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= len(names):
            raise ValueError(f"the {role} split of {source!r} has label {low if low < 0 else high}, but its {len(names)} classes allow 0..{len(names) - 1}")
    missing = [split for split in ("test", "validation") if split not in found]
    if missing:
        place = [int(digest[:8], 16) / 2**32 for digest in digests["train"]]
        share = 0.15 if source == "digits" else min(0.1, 10_000 / len(place))  # for each split that is cut; the digits are few
        chosen = {split: [i for i, p in enumerate(place) if p // share == j] for j, split in enumerate(missing)}
        rest = [i for i, p in enumerate(place) if p // share >= len(missing)]
        whole = found["train"]
        if not rest or not all(chosen.values()):
            raise ValueError(f"{source!r} has {len(whole)} images, too few to cut {' and '.join(missing)} from: give more, or those splits")
        found = found | {split: whole.select(indices) for split, indices in chosen.items()} | {"train": whole.select(rest)}
    digest = hashlib.sha256()
    for role in sorted(digests):
        digest.update(role.encode() + "".join(digests[role]).encode())
    for split in SPLITS:
        digest.update(found[split].labels.numpy().tobytes())
    mean, std = MEAN_STD.get(source, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ImageData(source, description, found["train"].channels, names, found["train"], found["validation"], found["test"], digest.hexdigest()[:16], mean, std)

