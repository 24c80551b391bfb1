"""Labelled images: scikit-learn's handwritten digits, local files, or the hub.

The default needs no network: 1,797 digits of 8 x 8 pixels. Nothing falls back silently: what was
loaded is named, counted and hashed in its :class:`ImageData`.
"""
from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Subset

from seqpe_lab.hub import load_from_hub, no_source, read_parquet, three_ways_out
from seqpe_lab.tasks.base import SPLITS

IN_MEMORY = 100_000  # encoded images of a table with at most so many are kept in memory
DIGITS, IMAGENET = ((0.3,), (0.4,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std
ROLES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
         "test": "test"}
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
            ValueError: a file that is no image; names it.
        """
        item = self.files[index]
        if isinstance(item, dict):
            item = _file(item)
        if isinstance(item, np.ndarray):
            return Image.fromarray(item[0] if self.channels == 1 else item.transpose(1, 2, 0))
        try:
            with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
                if image.mode.startswith("I"):  # 16 bits, which PIL would clip at 255
                    deep = (np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255)
                    image = Image.fromarray(deep.astype(np.uint8))
                return image.convert("L" if self.channels == 1 else "RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, TypeError, AttributeError) as error:
            inside = isinstance(item, bytes | None)
            name = f"image {index} of {self.origin}" if inside else item
            reason = str(error).partition(" <_io")[0]  # without the address of a buffer
            raise ValueError(
                f"{name} cannot be read as an image ({reason}): remove or replace it") from error

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
        hash: sha256 of all images and labels (for a folder, of paths and sizes; for a large table,
            of numbers), 16 hex digits.
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
        source: "digits"; a folder with a folder of images for each class, or with train/ (and
            validation/ or val/, test/) above those; a folder or file of parquet with columns
            "image" and "label" (files named train, validation, test keep their roles); or
            "hub:NAME", for instance "hub:uoft-cs/cifar10" or "hub:ILSVRC/imagenet-1k".

    A missing test or validation split is cut from train: a tenth of it, at most 10,000 images.
    ImageNet's test labels are secret, so its validation split serves as test split.

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
        tables = [path] if path.suffix == ".parquet" else sorted(path.rglob("*.parquet"))
        return _from_parquet(source, tables) if tables else _from_folder(source, path)
    no_source("images", source, "a folder with one folder a class, or parquet files",
              "'digits', a folder, or 'hub:NAME'")


def _digits() -> ImageData:
    from sklearn.datasets import load_digits
    raw = load_digits()
    files = [(image[None] * 255 / 16).round().astype(np.uint8) for image in raw.images]
    images = {"train": Images(files, torch.from_numpy(raw.target).long(), 1)}
    return _finish("digits", "scikit-learn's handwritten digits", [str(c) for c in range(10)],
                   images, {"train": [_digest(file.tobytes()) for file in files]})


def _from_parquet(source: str, tables: list[Path]) -> ImageData:
    from datasets import concatenate_datasets
    parts: dict[str, list] = {}
    for table in tables:
        stem = table.stem.lower()
        role = next((ROLES[word] for word in ROLES if stem.startswith(word)), "train")
        parts.setdefault(role, []).append(read_parquet(table))
    splits = {role: concatenate_datasets(sets) for role, sets in parts.items()}
    return _from_datasets(source, Path(source).name, splits, ", ".join(map(str, tables)))


def _from_hub(source: str) -> ImageData:
    name = source.removeprefix("hub:")
    splits = dict(load_from_hub(name, _WAYS_OUT, name))
    if name.endswith("imagenet-1k"):
        splits = {"train": splits["train"], "test": splits["validation"]}
    return _from_datasets(source, name, splits, name)


def _from_datasets(source: str, description: str, splits: dict, origin: str) -> ImageData:
    found, digests, names = {}, {}, []
    for role, table in splits.items():
        columns = table.column_names
        image = next((c for c in ("image", "img") if c in columns), None)
        label = next((c for c in ("label", "fine_label") if c in columns), None)
        if image is None or label is None:
            raise ValueError(f"{origin} has columns {', '.join(columns)}: it needs 'image' and "
                             "'label'")
        names = list(getattr(table.features[label], "names", None) or names)
        files, digests[role] = _files_of(table, image, role, origin)
        found[role] = Images(files, _labels_of(table, label, origin), 3, origin)
    highest = max((int(i.labels.max()) for i in found.values() if len(i)), default=-1)
    names = names or [str(c) for c in range(highest + 1)]
    return _finish(source, description, names, found, digests)


def _labels_of(table, column: str, origin: str) -> Tensor:
    labels = np.asarray(table.with_format("numpy")[column][:])
    if np.issubdtype(labels.dtype, np.integer):
        return torch.from_numpy(labels.astype(np.int64))
    missing = np.issubdtype(labels.dtype, np.floating) and np.isnan(labels).any()
    raise ValueError(f"the label column of {origin} must hold whole numbers: "
                     + ("some are missing" if missing else f"it holds {labels.dtype}"))


def _files_of(table, column: str, role: str, origin: str) -> tuple[Sequence, list[str]]:
    """Encoded files and their digests; those of a large table stay on the disk."""
    from datasets import Image
    try:
        cells = table.cast_column(column, Image(decode=False))[column]
        if len(cells) > IN_MEMORY:
            return cells, [_digest(f"{role} {i}") for i in range(len(cells))]
        files = [_file(cell) for cell in cells]
    except Exception as error:  # datasets and pyarrow raise many kinds
        raise ValueError(f"the image column of {origin} does not hold encoded images "
                         f"({type(error).__name__}: {error})") from error
    return files, [_digest(file if isinstance(file, bytes) else str(file)) for file in files]


def _digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _file(cell: dict | None) -> bytes | str | None:
    """An undecoded cell of an image column: the encoded file, else its path."""
    return cell and (cell["path"] if cell["bytes"] is None else cell["bytes"])


def _from_folder(source: str, path: Path) -> ImageData:
    if not path.is_dir():
        raise ValueError(f"{source} is neither a folder nor a parquet file")
    parts = {ROLES[child.name.lower()]: child for child in sorted(path.iterdir())
             if child.is_dir() and child.name.lower() in ROLES}
    if parts and "train" not in parts:
        raise ValueError(f"{source} has {' and '.join(sorted(parts))} but no train folder: give "
                         "one, or one folder a class")
    found, digests, names = {}, {}, []
    for role in ("train", *(part for part in parts if part != "train")):
        root = parts.get(role, path)
        files = {file: file.relative_to(root) for file in sorted(root.rglob("*"))
                 if file.suffix.lower() in ENDINGS and file.parent != root
                 and not any(part.startswith(".") for part in file.relative_to(root).parts)}
        if not files:
            raise ValueError(f"{root} holds no images: it needs one folder a class with "
                             f"{', '.join(ENDINGS)} files")
        classes = [name.parts[0] for name in files.values()]
        names = names or sorted(set(classes))
        if unknown := sorted(set(classes) - set(names)):
            raise ValueError(f"{root} has classes that the training folder does not have: "
                             f"{', '.join(unknown)}")
        labels = torch.tensor([names.index(name) for name in classes])
        found[role] = Images(list(files), labels, 3, str(root))
        digests[role] = [_digest(f"{name} {file.stat().st_size}") for file, name in files.items()]
    return _finish(source, path.name, names, found, digests)


def _finish(source: str, description: str, names: list[str], found: dict[str, Images],
            digests: dict[str, list[str]]) -> ImageData:
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
    if missing := [split for split in ("test", "validation") if split not in found]:
        found = found | _cut(found["train"], digests["train"], missing, source)
    content = "".join(role + "".join(digests[role]) for role in sorted(digests)).encode()
    content += b"".join(found[split].labels.numpy().tobytes() for split in SPLITS)
    mean, std = DIGITS if source == "digits" else IMAGENET
    return ImageData(source, description, found["train"].channels, names, found["train"],
                     found["validation"], found["test"], _digest(content)[:16], mean, std)


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
