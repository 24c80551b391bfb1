"""Labelled images: the digits, local folders, parquet files, an unreachable hub, rendering."""

import io
import json
import time

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from seqpe_lab.tasks import image_tables
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.image_data import Images, load_images
from seqpe_lab.tasks.image_views import render

WAYS_OUT = [
    "Three ways out",
    "(1) connect to the network",
    "(2) download the images elsewhere and pass their folder",
    "(3) use source='digits'",
]


def picture(number: int, mode: str = "RGB", width: int = 9, height: int = 8) -> bytes:
    """An encoded image of random pixels, always the same for a number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def pixels_of(encoded: bytes) -> torch.Tensor:
    """(3, height, width) in [0, 1], decoded by hand."""
    return (
        torch.from_numpy(np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))).permute(2, 0, 1)
        / 255
    )


def classes(*names, count=30, below=""):
    """{path: number of the picture}: ``count`` images for each class, all different."""
    return {
        f"{below}{name}/{i:02d}.png": 1000 * len(below) + 100 * n + i
        for n, name in enumerate(names)
        for i in range(count)
    }


@pytest.fixture
def folder(tmp_path):
    """folder({path: number}): writes pictures below a new folder."""

    def write(paths, name="pictures"):
        for path, number in paths.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(picture(number))
        return tmp_path / name

    return write


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """parquet(images, labels, name): writes a table; datasets prepares it in a temporary cache."""
    import datasets
    import pyarrow
    from pyarrow.parquet import write_table

    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "elsewhere")

    def write(files, labels, name="rows.parquet", columns=("image", "label")):
        (tmp_path / "tables").mkdir(exist_ok=True)
        write_table(pyarrow.table(dict(zip(columns, (files, labels)))), tmp_path / "tables" / name)
        return tmp_path / "tables" / name

    return write


def cells(numbers):
    """As the hub stores images: bytes and a path that is not there."""
    return [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers]


# --- the digits ---------------------------------------------------------------------------------


def test_the_default_is_1797_grey_digits_of_8_x_8(digit_images):
    assert [len(getattr(digit_images, split)) for split in SPLITS] == [1206, 271, 320]
    assert (digit_images.channels, digit_images.classes) == (1, [str(c) for c in range(10)])
    for split in (getattr(digit_images, split) for split in SPLITS):
        first = split[0]
        assert (
            first.shape == (1, 8, 8)
            and first.dtype == torch.float32
            and 0 <= first.min() < first.max() <= 1
        )
        assert (
            split.labels.dtype == torch.int64 and split.labels.bincount().min() > len(split) / 20
        )  # every class everywhere


def test_images_and_splits_are_fixed_for_ever(digit_images):
    """The split depends on each image alone; a result's hash says that it is this one."""
    assert digit_images.hash == "9df7a56da9811454"
    assert digit_images.test.labels[:12].tolist() == load_images().test.labels[:12].tolist()


def test_no_digit_is_in_two_splits(digit_images):
    bytes_of = [
        [array.tobytes() for array in getattr(digit_images, split).files] for split in SPLITS
    ]
    assert len({b for split in bytes_of for b in split}) == sum(map(len, bytes_of)) == 1797


def test_the_digits_are_scikit_learn_s(digit_images):
    from sklearn.datasets import load_digits

    raw = load_digits()
    theirs = sorted((*image.ravel(), label) for image, label in zip(raw.images / 16, raw.target))
    ours = sorted(
        (*split[i].ravel().tolist(), int(split.labels[i]))
        for split in (getattr(digit_images, s) for s in SPLITS)
        for i in range(len(split))
    )
    torch.testing.assert_close(
        torch.tensor(ours), torch.tensor(theirs), atol=0.5 / 255 + 1e-6, rtol=0, check_dtype=False
    )


def test_provenance_says_what_a_result_was_made_from(digit_images):
    stored = digit_images.provenance()
    assert (
        stored["hash"] == digit_images.hash
        and stored["images"] == {"train": 1206, "validation": 271, "test": 320}
        and stored["classes"] == 10
    )
    json.dumps(stored)


def test_normalised_digits_are_centred(digit_images):
    seen = digit_images.normalise(torch.stack([digit_images.train[i] for i in range(300)]))
    assert abs(float(seen.mean())) < 0.2 and 0.7 < float(seen.std()) < 1.3


# --- rendering ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 8, 9, 24, (5, 17), (20, 4)])
def test_values_stay_in_0_1_and_a_constant_image_stays_constant(size):
    noise = torch.rand(
        2, 3, 8, 8, generator=torch.Generator().manual_seed(0)
    ).round()  # black and white: bicubic overshoots
    seen = render(noise, size)
    assert (
        seen.shape == (2, 3, *((size, size) if isinstance(size, int) else size))
        and 0 <= seen.min()
        and seen.max() <= 1
    )
    for value in (0.0, 0.3, 1.0):
        assert (render(torch.full((1, 1, 8, 8), value), size) - value).abs().max() < 1e-5


def test_an_image_rendered_at_its_own_size_is_itself():
    image = torch.rand(1, 3, 8, 6)
    torch.testing.assert_close(render(image, (8, 6)), image)


@pytest.mark.parametrize("size", [4, 7])
def test_images_shrink_as_pil_shrinks_them(size):
    """A model sees what torchvision's transforms would show it.

    (Enlarging, torch's kernel has a = -0.75, PIL's -0.5.)
    """
    image = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    theirs = torch.from_numpy(
        np.array(Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BICUBIC))
    )
    torch.testing.assert_close(
        render(image[None, None], size)[0, 0], theirs.clamp(0, 1), atol=1e-5, rtol=0
    )


# --- local folders ------------------------------------------------------------------------------


def test_a_folder_with_one_folder_a_class(folder):
    data = load_images(str(folder(classes("cat", "dog", "cow"))))
    assert (data.classes, data.channels, data.description) == (["cat", "cow", "dog"], 3, "pictures")
    assert sum(len(getattr(data, split)) for split in SPLITS) == 90
    for split in (getattr(data, split) for split in SPLITS):
        assert [data.classes[label] for label in split.labels] == [
            file.parent.name for file in split.files
        ]
        for i in range(len(split)):
            assert torch.equal(split[i], pixels_of(split.files[i].read_bytes()))


def test_the_splits_that_are_cut_are_disjoint_and_a_tenth_each(folder):
    data = load_images(str(folder(classes("cat", "dog", count=300))))
    files = [set(getattr(data, split).files) for split in SPLITS]
    assert len(set.union(*files)) == sum(map(len, files)) == 600
    assert len(data.test) == pytest.approx(60, abs=20) and len(data.validation) == pytest.approx(
        60, abs=20
    )


def test_a_file_s_split_depends_on_itself_alone(folder):
    """Adding others moves none."""
    small = load_images(str(folder(classes("cat", "dog"), "small")))
    large = load_images(str(folder(classes("cat", "dog", count=50), "large")))
    for split in SPLITS:
        names = [
            {f"{file.parent.name}/{file.name}" for file in getattr(data, split).files}
            for data in (small, large)
        ]
        assert names[0] <= names[1]


@pytest.mark.parametrize(
    "parts",
    [
        ["train"],
        ["train", "test"],
        ["train", "val", "test"],
        ["train", "validation", "test"],
        ["Train", "Valid", "TEST"],
    ],
    ids="-".join,
)
def test_named_folders_keep_their_roles_and_what_is_missing_is_cut_from_train(parts, folder):
    paths = {
        path: number
        for part in parts
        for path, number in classes(
            "cat", "dog", count=30 if part.lower() == "train" else 5, below=f"{part}/"
        ).items()
    }
    data = load_images(str(folder(paths)))
    assert data.classes == ["cat", "dog"] and sum(
        len(getattr(data, split)) for split in SPLITS
    ) == len(paths)
    for split in SPLITS:
        role = {p.lower()[:3]: p for p in parts}.get(split[:3], parts[0])
        assert len(getattr(data, split)) > 0 and all(
            f"/{role}/" in str(file) for file in getattr(data, split).files
        )
        assert role == parts[0] or len(getattr(data, split)) == 10


def test_images_deeper_within_a_class_belong_to_it(folder):
    data = load_images(
        str(
            folder(
                {path.replace("/", "/some/where/"): n for path, n in classes("cat", "dog").items()}
            )
        )
    )
    assert (
        data.classes == ["cat", "dog"] and sum(len(getattr(data, split)) for split in SPLITS) == 60
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_images_of_any_mode_are_converted_to_colour(mode, tmp_path):
    file = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    grey = np.full((6, 5), 255, np.uint8)
    grey[:3] = 0
    Image.fromarray(grey).convert("RGB").convert(mode).save(file)
    seen = Images([file], torch.tensor([0]), 3)[0]
    assert seen.shape == (3, 6, 5)
    assert (seen[:, :3] < 0.1).all() and (seen[:, 3:] > 0.9).all()


def test_colour_images_are_converted_to_grey(tmp_path):
    Image.new("RGB", (5, 6), (255, 0, 0)).save(tmp_path / "red.png")
    seen = Images([tmp_path / "red.png"], torch.tensor([0]), 1)[0]
    assert seen.shape == (1, 6, 5) and float(seen.mean()) == pytest.approx(0.299, abs=0.01)


def test_a_16_bit_image_keeps_its_greys(tmp_path):
    Image.fromarray(np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)).save(
        tmp_path / "deep.png"
    )
    seen = Images([tmp_path / "deep.png"], torch.tensor([0]), 3)[0]
    torch.testing.assert_close(seen[0].flatten(), torch.linspace(0, 1, 64), atol=0.01, rtol=0)


def test_selecting_keeps_images_and_labels_together(digit_images):
    some = digit_images.train.select([5, 0, 7])
    assert len(some) == 3 and some.labels.tolist() == digit_images.train.labels[[5, 0, 7]].tolist()
    assert torch.equal(some[0], digit_images.train[5])


def test_a_hidden_or_empty_folder_is_no_class(folder):
    path = folder(classes("cat", "dog"))
    before = load_images(str(path)).hash
    (path / ".ipynb_checkpoints").mkdir()
    data = load_images(str(path))
    assert data.classes == ["cat", "dog"] and data.hash == before


def test_a_folder_with_test_images_alone_is_refused(folder):
    with pytest.raises(ValueError, match="train"):
        load_images(str(folder(classes("cat", "dog", below="test/"))))


def test_the_hash_tells_folders_and_their_splits_apart(folder):
    three = {
        part: classes("cat", "dog", count=4, below=f"{part}/") for part in ("train", "val", "test")
    }

    def hash_of(name, **parts):
        return load_images(
            str(
                folder(
                    {path: n for part in (three | parts).values() for path, n in part.items()}, name
                )
            )
        ).hash

    first = hash_of("1")
    assert hash_of("2") == first and len(first) == 16
    assert hash_of("3", test=classes("cat", "dog", count=5, below="test/")) != first
    assert (
        hash_of("4", train={path.replace("03", "99"): n for path, n in three["train"].items()})
        != first
    )


# --- parquet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["struct", "bytes"])
def test_a_table_with_images_inside(stored, parquet):
    files = cells(range(80)) if stored == "struct" else [picture(n) for n in range(80)]
    data = load_images(str(parquet(files, [n % 3 for n in range(80)])))
    assert (data.description, data.classes, data.channels) == ("rows.parquet", ["0", "1", "2"], 3)
    seen = {}
    for split in (getattr(data, split) for split in SPLITS):
        for i in range(len(split)):
            seen[split[i].numpy().tobytes()] = int(split.labels[i])
    assert seen == {pixels_of(picture(n)).numpy().tobytes(): n % 3 for n in range(80)}


def test_images_outside_a_table_are_read_again_wherever_they_stand_in_it(parquet, tmp_path):
    rows = cells(range(40))
    rows[23] = {"bytes": None, "path": str(tmp_path / "outside.png")}
    found = []
    for number in (900, 901):
        (tmp_path / "outside.png").write_bytes(picture(number))
        found.append(load_images(str(parquet(rows, [0, 1] * 20))).hash)
    assert found[0] != found[1]


def test_equal_images_are_never_in_two_splits(parquet):
    data = load_images(str(parquet(cells([n % 40 for n in range(200)]), [0, 1] * 100)))
    splits = [set(getattr(data, split).files) for split in SPLITS]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]


def test_tables_with_named_roles_and_the_column_names_of_cifar(parquet):
    for n, (name, count) in enumerate(
        {
            "train-00000-of-00002": 30,
            "train-00001-of-00002": 30,
            "validation-00000": 5,
            "test": 7,
        }.items()
    ):
        path = parquet(
            cells(range(100 * n, 100 * n + count)),
            [n % 2] * count,
            f"{name}.parquet",
            ("img", "fine_label"),
        )
    data = load_images(str(path.parent))
    assert [len(getattr(data, split)) for split in SPLITS] == [60, 5, 7]
    assert torch.equal(data.test[0], pixels_of(picture(300)))


def test_names_of_classes_are_those_of_the_table(parquet):
    import datasets

    path = parquet([], [])
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    datasets.Dataset.from_dict(
        {"image": cells(range(60)), "label": [0, 1] * 30}, features=features
    ).to_parquet(path)
    assert load_images(str(path)).classes == ["cat", "dog"]


def test_a_table_too_large_for_memory_is_read_on_demand(parquet, monkeypatch):
    for n, name in enumerate(SPLITS):
        path = parquet(cells(range(100 * n, 100 * n + 20)), [0, 1] * 10, f"{name}.parquet")
    whole = load_images(str(path.parent))
    monkeypatch.setattr(image_tables, "IN_MEMORY", 10)
    data = load_images(str(path.parent))
    assert not isinstance(data.train.files, list)
    assert all(
        torch.equal(getattr(data, split)[i], getattr(whole, split)[i])
        for split in SPLITS
        for i in (0, 19)
    )


def test_a_table_too_large_for_memory_can_lack_a_split_as_imagenet_does(parquet, monkeypatch):
    parquet(cells(range(80)), [0, 1] * 40, "train.parquet")
    path = parquet(cells(range(100, 120)), [0, 1] * 10, "test.parquet")
    monkeypatch.setattr(image_tables, "IN_MEMORY", 10)
    data = load_images(str(path.parent))
    assert (
        len(data.test) == 20
        and 0 < len(data.validation) < 20
        and len(data.train) + len(data.validation) == 80
    )
    assert not isinstance(data.train.files, list)


def test_a_table_of_test_images_alone_is_refused_by_name(parquet):
    path = parquet(cells(range(60)), [0, 1] * 30, "test.parquet")
    with pytest.raises(ValueError, match="train"):
        load_images(str(path))


def test_what_is_prepared_lies_in_the_cache_of_the_lab(parquet, tmp_path):
    load_images(str(parquet(cells(range(60)), [0, 1] * 30)))
    assert (tmp_path / "cache").exists() and not (tmp_path / "elsewhere").exists()


def test_cifar_10_as_the_hub_stores_it(shared, tmp_path, monkeypatch):
    """A piece of it: the class names come with the table."""
    import datasets
    from pyarrow.parquet import ParquetFile, write_table

    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "elsewhere")
    for split in ("train", "test"):
        if not (path := shared / "data" / "cifar10" / f"{split}.parquet").exists():
            pytest.skip(f"no {path}")
        write_table(
            ParquetFile(path).read_row_group(0).slice(0, 300), tmp_path / f"{split}.parquet"
        )
    data = load_images(str(tmp_path))
    assert data.classes == [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    assert len(data.test) == 300 and len(data.train) == pytest.approx(270, abs=15)
    assert (
        data.train[0].shape == (3, 32, 32) and 0 <= data.train[0].min() < data.train[0].max() <= 1
    )


# --- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def nobody_there(monkeypatch):
    """A port that refuses at once, whatever network the machine has."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def refused(source) -> str:
    began = time.monotonic()
    with pytest.raises(ConnectionError) as error:
        load_images(source)
    assert time.monotonic() - began < 5
    return str(error.value)


@pytest.mark.parametrize("name", ["uoft-cs/cifar10", "ILSVRC/imagenet-1k"])
def test_an_unreachable_hub_is_named_within_seconds_with_three_ways_out(name, nobody_there):
    message = refused(f"hub:{name}")
    assert name in message and all(part in message for part in WAYS_OUT)


def test_offline_mode_ends_in_the_same_error(monkeypatch):
    import datasets

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def not_cached(*arguments, **options):
        raise FileNotFoundError("not in the local cache")

    monkeypatch.setattr(datasets, "load_dataset", not_cached)
    message = refused("hub:uoft-cs/cifar10")
    assert "not in the local cache" in message and all(part in message for part in WAYS_OUT)


@pytest.fixture
def hub(monkeypatch):
    """hub(train=60, ...): what the hub would give, with so many images a split."""
    import datasets

    def give(**splits):
        features = datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        )
        tables = {
            split: datasets.Dataset.from_dict(
                {
                    "img": cells(range(1000 * n, 1000 * n + count)),
                    "label": [i % 2 for i in range(count)],
                },
                features=features,
            )
            for n, (split, count) in enumerate(splits.items())
        }
        monkeypatch.setattr(datasets, "load_dataset", lambda name: tables)
        monkeypatch.setattr("seqpe_lab.hub.require_hub", lambda *arguments: None)

    return give


def test_splits_of_a_hub_data_set_keep_their_roles_and_the_missing_one_is_cut(hub):
    hub(train=60, test=10)
    data = load_images("hub:uoft-cs/cifar10")
    assert (
        len(data.test) == 10
        and len(data.validation) > 0
        and len(data.train) + len(data.validation) == 60
    )
    assert (data.source, data.description, data.classes) == (
        "hub:uoft-cs/cifar10",
        "uoft-cs/cifar10",
        ["cat", "dog"],
    )


def test_imagenet_s_validation_split_is_its_test_split(hub):
    """The labels of its own test split are secret."""
    hub(train=60, validation=10, test=5)
    data = load_images("hub:ILSVRC/imagenet-1k")
    assert torch.equal(data.test[0], pixels_of(picture(1000))) and len(data.test) == 10
    assert len(data.train) + len(data.validation) == 60
