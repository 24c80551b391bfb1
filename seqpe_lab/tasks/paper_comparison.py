"""The authors' published models evaluated as the paper does, beside the numbers in its tables."""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from seqpe_lab.hub import load_from_hub, three_ways_out
from seqpe_lab.package_data import paper_table
from seqpe_lab.recipes import image_model
from seqpe_lab.tasks.data_files import data_files, ending, is_leftover, named_split
from seqpe_lab.tasks.file_reader import TEXTS, read_text
from seqpe_lab.tasks.image_data import ImageData, Images, load_images
from seqpe_lab.tasks.images import Accuracy, accuracy
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.tasks.tokenization import make_tokenizer

SOURCES = {"lm": "hub:Salesforce/wikitext:wikitext-103-raw-v1", "image": "hub:ILSVRC/imagenet-1k"}
_WAYS_OUT = three_ways_out(
    "download the test split elsewhere and pass it: --source wiki.test.raw, or for images a folder",
    "--source python, whose numbers are no reproduction of the paper's")


def paper_row(table: int) -> dict[int, float]:
    """What the paper's Table 1 (perplexity by tokens) or 3 (top-1 by pixels) says of SeqPE.

    >>> paper_row(1)[16_384], paper_row(3)[672]
    (19.37, 76.7)
    """
    row = next(row for row in paper_table(table) if row["model"] == "SeqPE")
    return {int(key): value for key, value in row.items() if key.isdigit()}


def text_of(source: str, tokenizer: str) -> Tensor:
    """The tokens of a test text, int64 (tokens,).

    WikiText (the hub's, or its wiki.test.raw) is read as the authors do: line by line, without
    blank lines and with nothing between the lines. Of other sources it is the test split that
    :func:`~seqpe_lab.tasks.text_data.load_text` makes.
    """
    path = Path(source).expanduser()
    if source.startswith("hub:"):
        name, _, config = source.removeprefix("hub:").partition(":")
        lines = load_from_hub(f"the data set {name!r}", _WAYS_OUT, name, config or None,
                              split="test")["text"]
    elif ending(path) in TEXTS and path.is_file():
        lines = [line + "\n" for line in read_text(path).split("\n")]
    else:
        return load_text(source, tokenizer).test
    encode = make_tokenizer(tokenizer, {})[0]
    tokens = encode({str(i): line for i, line in enumerate(lines) if line.strip()})
    return tokens[~torch.isin(tokens, encode({"": ""}))]  # without the ends of documents


def images_of(source: str) -> tuple[Images, ImageData]:
    """The images that a ViT is tested on, and the data they come from.

    Args:
        source: as in :func:`~seqpe_lab.tasks.image_data.load_images`; of a folder with a folder
            for validation (or else for test) only that one is read, and a folder of classes is
            taken whole.
    """
    path, inner = Path(source).expanduser(), {}
    if source.strip() and path.is_dir():
        inner = {named_split(child.name): str(child) for child in sorted(path.iterdir())
                 if child.is_dir() and not is_leftover(child.name)}
    data = load_images(inner.get("validation", inner.get("test", source)))
    if not path.is_dir() or data_files(path, [".parquet"]):
        return data.test, data
    splits = (data.train, data.validation, data.test)  # the loader has cut the folder in three
    files = [file for split in splits for file in split.files]
    return Images(files, torch.cat([split.labels for split in splits]), 3, source), data


def evaluate_images(model: nn.Module, source: str, sizes: list[int] | None = None,
                    count: int = 0) -> list[Accuracy]:
    """Top-1 accuracy by size, by default at those of the paper's Table 3.

    The images are shown as in the evaluation of the lab's own runs at full scale: the middle 7/8,
    as in the authors' tests.

    Args:
        count: only so many of the images, drawn at random; 0 takes all.

    Raises:
        ValueError: images of other classes than the model's.
    """
    images, data = images_of(source)
    if len(data.classes) != model.config.classes:
        raise ValueError(f"{source} has {len(data.classes)} classes but the model tells "
                         f"{model.config.classes} apart: give the data that it was trained on")
    sizes = sizes or list(paper_row(3))
    recipe = image_model("seqpe-mul", "full", patch=model.patch, alpha=0.0, beta=0.0,
                         image_size=model.config.image_size, eval_sizes=tuple(sizes),
                         max_position=model.config.max_position)
    if count:  # files are sorted by class
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        images = images.select(order[:count].tolist())
    return [accuracy(model, images, data, recipe, size) for size in sizes]
