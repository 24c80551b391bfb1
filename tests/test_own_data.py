"""A reader's own files: names of splits, leftovers, formats, odd pictures, and what a run keeps."""

import gzip
import io
import json
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from seqpe_lab.cli import main
from seqpe_lab.recipes import Training, language_model, question_answering
from seqpe_lab.runs import Run
from seqpe_lab.runs.run_data import check_data, kept_tokenizer, trained_on
from seqpe_lab.tasks import image_decoding, token_storage, tokenization
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.books import load_books
from seqpe_lab.tasks.data_files import data_files, known_splits, named_split
from seqpe_lab.tasks.file_reader import read_table
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.paper_comparison import images_of
from seqpe_lab.tasks.question_data import load_questions
from seqpe_lab.tasks.questions import QuestionTask
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.tasks.tokenization import make_tokenizer
from seqpe_lab.training import train

pytestmark = pytest.mark.filterwarnings("error::UserWarning:seqpe_lab")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))


def table(**columns) -> bytes:
    """A parquet file."""
    import pyarrow
    from pyarrow.parquet import write_table

    file = io.BytesIO()
    write_table(pyarrow.table(columns), file)
    return file.getvalue()


def png(colour, size=(4, 4), mode="RGB", kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """folder({path: text or bytes}): writes files below a new folder, data/."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "data"

    return write


# --- names of splits ------------------------------------------------------------------------------

NAMES = {
    "train": "train Training training_set trainset train_images images_train train2017 train.txt"
    " wiki.train.raw train-00000-of-00001.parquet train-clean-100 TRAIN_1.TXT train-v2.0.json",
    "validation": "validation valid val dev val_set devset val.txt dev.jsonl.gz"
    " validation-00000-of-00001.parquet wiki.valid.raw development",
    "test": "test Testing test_set testset test.txt TEST_1.txt test-clean wiki_test",
    None: "cat notes.txt 0000.parquet greatest.txt the_test_of_time.txt mindset trains latest"
    " contest.md protest validate.txt 1.txt",
    "refused": "trainA testB train_val train-dev.txt trainval eval evaluation.txt holdout_set"
    " unlabeled tests",
}


@pytest.mark.parametrize(
    "name, split", [(name, split) for split, names in NAMES.items() for name in names.split()]
)
def test_one_table_names_the_splits(name, split):
    if split == "refused":
        with pytest.raises(ValueError, match=f"'{name}' looks like .* train .*, validation .*test"):
            named_split(name)
    else:
        assert named_split(name) == split


def test_splits_of_the_hub_go_by_the_same_table():
    with pytest.warns(UserWarning, match="'unsupervised' of x/y is left out"):
        found = known_splits({"training": 1, "dev": 2, "test": 3, "unsupervised": 4}, "x/y")
    assert found == {"train": 1, "validation": 2, "test": 3}
    with pytest.raises(ValueError, match="x/y has two splits for validation"):
        known_splits({"validation_matched": 1, "validation_mismatched": 2}, "x/y")


# where the files of the three splits stand: "{}" is their number
LAYOUTS = {
    "folders, as PG-19": ("train/{}", "validation/{}", "test/{}"),
    "folders of other names": ("training_set/{}", "dev/{}", "Testing/{}"),
    "folders below another": ("data/train/{}", "data/val/{}", "data/test/{}"),
    "files": ("train", "val", "test"),
    "files of other names": ("my.training.{}", "dev_{}", "TESTSET-{}"),
    "the hub's files": (
        "data/train-0000{}-of-00002",
        "data/validation-0000{}-of-00002",
        "data/test-0000{}-of-00002",
    ),
}
TEXT_FILES = {
    ".txt": lambda text: text,
    ".md": lambda text: text,
    ".TXT": lambda text: text,
    ".txt.gz": lambda text: gzip.compress(text.encode()),
    ".jsonl": lambda text: json.dumps({"id": 1, "text": text}) + "\n\n",
    ".json": lambda text: json.dumps([{"text": text}], indent=1),
    ".tsv": lambda text: f'id\ttext\n1\t"{text}"\n',
    ".csv": lambda text: f'id,text\r\n1,"{text}"\r\n',
    ".parquet": lambda text: table(text=[text]),
}


def written(layout, kind, texts):
    """{path: content} of two files a split, or of one where their names have no number."""
    files = {}
    for place, text in zip(LAYOUTS[layout], texts):
        for number in range(2 if "{}" in place else 1):
            files[place.format(number) + kind] = TEXT_FILES[kind](f"{text} {number}. ")
    return files


@pytest.mark.parametrize(
    "layout, kind",
    [(layout, ".txt") for layout in LAYOUTS] + [("the hub's files", kind) for kind in TEXT_FILES],
)
def test_texts_and_books_are_read_from_every_layout_and_format(layout, kind, folder):
    path = folder(written(layout, kind, ("learn", "validate", "secret")))
    data = load_text(str(path))
    for split, word in zip(SPLITS, ("learn", "validate", "secret")):
        assert {*data.decode(getattr(data, split)).split()} <= {word, "0.", "1."}
        assert data.decode(getattr(data, split)).startswith(f"{word} 0. ")
    assert all(text.startswith("secret") for text in load_books(str(path)).texts.values())


@pytest.mark.parametrize(
    "paths, named",
    [
        (["train.txt", "ship.txt", "car.txt"], ["train.txt", "car.txt, ship.txt", "or none"]),
        (["test.txt", "a.txt"], ["test.txt", "a.txt"]),
        (["train/a.txt", "test/b.txt"], ["test and train", "none for validation"]),
        (["test/a.txt"], ["of the splits test", "none for train and validation"]),
        (["train/a.txt", "holdout/b.txt"], ["'holdout'", "looks like the name of a split"]),
    ],
    ids=" ".join,
)
def test_texts_that_would_be_mixed_are_refused_with_their_names(paths, named, folder):
    path = folder({name: "some words " * 20 for name in paths})
    with pytest.raises(ValueError) as error:
        load_text(str(path))
    assert all(part in str(error.value) for part in named), error.value


def test_beside_all_three_splits_others_are_left_out_with_a_warning(folder):
    path = folder({f"{split}.txt": split for split in SPLITS} | {"README.md": "not read"})
    with pytest.warns(UserWarning, match="README.md belong to none of the three splits"):
        data = load_text(str(path))
    assert data.decode(data.train) == "train"


def test_books_of_named_splits_without_a_test_split_are_refused(folder):
    path = folder({"train/1.txt": "learnt", "validation/2.txt": "learnt"})
    with pytest.raises(ValueError, match="train and validation but none for test"):
        load_books(str(path))
    assert list(load_books(str(path / "train")).texts) == ["1.txt"]


IMAGE_LAYOUTS = {
    "folders": "{}/{}/{}.png",
    "class first": "{1}/{0}/{2}.png",
    "below another": "images/{}/{}/more/{}.PNG",
}


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "dev", "testing_set")])
@pytest.mark.parametrize("layout", IMAGE_LAYOUTS)
def test_images_are_read_from_every_layout(layout, names, folder):
    place, counts = IMAGE_LAYOUTS[layout], (8, 3, 5)
    path = folder(
        {
            place.format(name, kind, number): png((number, 10 * split, 100 * ("cat" == kind)))
            for split, (name, count) in enumerate(zip(names, counts))
            for kind in ("cat", "train_station" if layout == "folders" else "dog")
            for number in range(count)
        }
    )
    data = load_images(str(path))
    assert [len(getattr(data, split)) for split in SPLITS] == [16, 6, 10]
    assert data.classes == ["cat", "train_station" if layout == "folders" else "dog"]
    for split, green in zip(SPLITS, (0, 10, 20)):
        for i, label in enumerate(getattr(data, split).labels):
            seen = (getattr(data, split)[i][:, 0, 0] * 255).round().tolist()
            assert seen[1:] == [green, 100 * (label == 0)]


def test_published_models_are_tested_on_the_validation_folder_whatever_its_name(folder):
    for name, count in {"training": 40, "dev": 30, "testing": 5}.items():
        path = folder(
            {
                f"{name}/{kind}/{i}.png": png((i, len(kind), 0))
                for kind in "ab"
                for i in range(count)
            }
        )
    assert len(images_of(str(path))[0]) == 60


@pytest.mark.parametrize("layout", ["folders, as PG-19", "the hub's files"])
def test_tables_of_images_are_split_by_the_names_of_folders_and_files(layout, folder):
    path = folder(
        {
            f"{place.format(0)}.parquet": table(
                image=[png((i, split, 0)) for i in range(count)], label=[0, 1] * (count // 2)
            )
            for split, (place, count) in enumerate(zip(LAYOUTS[layout], (8, 4, 6)))
        }
    )
    data = load_images(str(path))
    assert [len(getattr(data, split)) for split in SPLITS] == [8, 4, 6]
    assert int(data.test[0][1, 0, 0] * 255) == 2


def test_images_of_a_class_named_like_a_split_are_refused_until_they_lie_below_train(folder):
    files = {
        f"{name}/{i}.png": png((i, len(name), 0)) for name in ("car", "train") for i in range(40)
    }
    with pytest.raises(ValueError, match=r"\(train/0.png\) beside files of none \(car/0.png"):
        load_images(str(folder(files)))
    below = folder({f"all/train/{name}": content for name, content in files.items()}) / "all"
    assert load_images(str(below)).classes == ["car", "train"]


def test_images_of_a_single_class_are_refused(folder):
    """The folder above that of the classes would give an accuracy of 100 %."""
    path = folder({f"all/{name}/{i}.png": png((i, 0, 0)) for name in "ab" for i in range(40)})
    with pytest.raises(ValueError, match="only one class, all: .* holds the classes' folders"):
        load_images(str(path))
    assert load_images(str(path / "all")).classes == ["a", "b"]


def test_images_outside_every_class_are_counted(folder):
    path = folder({f"{name}/{i}.png": png((i, 0, 0)) for name in "ab" for i in range(40)})
    (path / "cover.png").write_bytes(png("red"))
    with pytest.warns(UserWarning, match="1 images of .* are in no class's folder"):
        assert sum(len(getattr(load_images(str(path)), split)) for split in SPLITS) == 80


# --- leftovers, links, endings --------------------------------------------------------------------

LEFTOVERS = [
    ".ipynb_checkpoints/book-checkpoint.txt",
    "._book.txt",
    ".hidden/book.txt",
    "__MACOSX/book.txt",
    "book.txt~",
    "~$book.txt",
    "a/.Trash-1000/book.txt",
]


def test_leftovers_of_systems_are_skipped_by_one_rule(folder):
    path = folder({name: b"\xff old" for name in LEFTOVERS} | {"B.TXT": "new", "c.md.GZ": b""})
    assert [file.name for file in data_files(path, [".txt", ".md"])] == ["B.TXT", "c.md.GZ"]


def test_links_are_followed_and_loops_end(folder, tmp_path):
    path = folder({"a/1.txt": "one", "b/2.txt": "two"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3.txt").write_text("three")
    (path / "c").symlink_to(tmp_path / "elsewhere")
    (path / "a" / "up").symlink_to(path)
    (path / "b" / "to_a").symlink_to(path / "a")
    found = [file.relative_to(path).as_posix() for file in data_files(path, [".txt"])]
    assert found == ["a/1.txt", "b/2.txt", "b/to_a/1.txt", "c/3.txt"]
    (path / "4.txt").symlink_to(path / "gone.txt")
    with pytest.raises(FileNotFoundError, match="4.txt is a link to a file that is not there"):
        data_files(path, [".txt"])


def test_a_linked_folder_is_a_class(folder, tmp_path):
    path = folder({f"cat/{i}.png": png((i, 0, 0)) for i in range(40)})
    (tmp_path / "dogs").mkdir()
    for i in range(40):
        (tmp_path / "dogs" / f"{i}.png").write_bytes(png((0, i, 9)))
    (path / "dog").symlink_to(tmp_path / "dogs")
    assert load_images(str(path)).classes == ["cat", "dog"]


@pytest.mark.parametrize("kind", TEXT_FILES)
def test_marks_and_line_ends_are_normalised_from_every_format(kind, folder):
    content = TEXT_FILES[kind]("one\r\ntwo\rthree\n")
    if isinstance(content, str):
        content = "\ufeff" + content
    path = folder({f"{split}{kind}": content for split in SPLITS})
    data = load_text(str(path))
    assert data.decode(data.test) == "one\ntwo\nthree\n"


def test_rows_without_a_text_are_counted_and_left_out(folder):
    path = folder({f"{split}.parquet": table(text=["a", None, "b", None]) for split in SPLITS})
    with pytest.warns(UserWarning, match="2 of 4 rows of .*.parquet have no 'text' .* row 1"):
        data = load_text(str(path))
    assert data.decode(data.train) == "ab"


@pytest.mark.parametrize(
    "name, content, fragments",
    [
        ("a.jsonl", '{"text": "a"}\n{"text": ', ["a.jsonl", "JSON", "row 1"]),
        ("a.json", "[1, 2]", ["a.json", "objects"]),
        ("a.jsonl", '{"words": "a"}', ["a.jsonl", "no column 'text'", "words"]),
        ("a.jsonl", '{"text": 1}', ["a.jsonl", "'text'", "int64", "row 0"]),
        ("a.txt.gz", b"no gzip", ["a.txt.gz", "decompressed"]),
        ("a.txt.gz", gzip.compress(b"cut short " * 50, mtime=0)[:-9], ["a.txt.gz", "decompressed"]),
        ("a.csv", 'text\n"no end', ["a.csv", "CSV"]),
        ("a.csv", "text,id\none, two,3", ["a.csv", "line 2", "put texts in quotes"]),
        ("a.parquet", b"PAR1 no parquet", ["a.parquet", "parquet"]),
    ],
)
def test_broken_files_are_refused_by_name(name, content, fragments, folder):
    with pytest.raises(ValueError) as error:
        load_text(str(folder({name: content})))
    assert all(part in str(error.value) for part in fragments), error.value


def test_json_lines_may_be_named_json(folder):
    lines = '{"text": "one"}\n{"text": "two\u2028three"}\n'
    assert read_table(folder({"a.json": lines}) / "a.json")["text"] == ["one", "two\u2028three"]


def test_csv_fields_may_be_whole_texts_with_line_ends(folder):
    path = folder({"a.csv": 'name,text\nx,"' + "long, " * 50_000 + '\nend"\n'})
    assert read_table(path / "a.csv")["text"][0].endswith("long, \nend")


# --- questions ------------------------------------------------------------------------------------

ASKED = {
    "title": ["A"] * 3,
    "context": ["The sky is blue.", "The sky is blue.", "Grass\r\nis green."],
    "question": ["What is blue?", "Unanswerable?", "What is green?"],
    "answers": [{"text": ["The sky", "sky"]}, {"text": []}, {"text": ["Grass\r\nis"]}],
}


def as_rows(columns=ASKED):
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def squad_s_own_file():
    return {
        "version": "2.0",
        "data": [
            {
                "title": row["title"],
                "paragraphs": [
                    {
                        "context": row["context"],
                        "qas": [
                            {
                                "question": row["question"],
                                "answers": [{"text": text} for text in row["answers"]["text"]],
                            }
                        ],
                    }
                ],
            }
            for row in as_rows()
        ],
    }


@pytest.mark.parametrize(
    "files",
    [
        {f"data/{split}-00000-of-00001.parquet": table(**ASKED) for split in SPLITS},
        {
            f"{split}.jsonl": "\n".join(json.dumps(row) for row in as_rows())
            for split in ("train", "dev", "test")
        },
        {
            f"{split}/1.json.gz": gzip.compress(json.dumps(as_rows()).encode())
            for split in ("training", "valid", "testing")
        },
        {
            f"{split}-v2.0.json": json.dumps(squad_s_own_file())
            for split in ("train", "dev", "test")
        },
        {
            f"{split}.jsonl": "\n".join(
                json.dumps(row | {"answers": row["answers"]["text"]}) for row in as_rows()
            )
            for split in SPLITS
        },
    ],
    ids=["the hub's", "jsonl", "folders of json.gz", "SQuAD's own", "plain answers"],
)
def test_questions_are_read_from_every_layout_and_format(files, folder):
    splits = load_questions(str(folder(files))).splits
    for name in SPLITS:
        assert splits[name].documents == ["The sky is blue.", "Grass\nis green."]
        assert [tuple(question)[:3] for question in splits[name].questions] == [
            ("What is blue?", "The sky", 0),
            ("What is green?", "Grass\nis", 1),
        ]
    assert splits["test"].questions[0].others == ("sky",)  # learnt is the first


@pytest.mark.parametrize("column", ["title", "context", "question", "answers"])
def test_a_question_with_a_missing_part_is_refused_by_row(column, folder):
    columns = ASKED | {column: [*ASKED[column][:2], None]}
    rows = "\n".join(json.dumps(row) for row in as_rows(columns))
    with pytest.raises(ValueError, match=rf"row 2 of .*train.jsonl has None as {column}"):
        load_questions(str(folder({"train.jsonl": rows, "dev.jsonl": rows})))


def test_each_of_several_answers_is_right_and_is_no_distractor(folder):
    rows = as_rows(
        {
            "title": ["A", "A", "A"],
            "context": ["red is it", "a blue one", "neither is"],
            "question": ["Which?", "One?", "Else?"],
            "answers": [["red", "Blue"], ["blue"], ["neither"]],
        }
    )
    text = "\n".join(map(json.dumps, rows))
    data = load_questions(str(folder({f"{split}.jsonl": text for split in SPLITS})))
    from seqpe_lab.tasks.prompts import Prompts
    from seqpe_lab.tasks.questions import _answer_together

    prompts = Prompts(data, "test", "brief")
    drawn = {n for seed in range(9) for n in prompts.make(0, 60, seed, distractors=1).documents}
    assert drawn == {0, 2}

    class Model:
        """Says "blue" and the end."""

        def __call__(self, tokens, **options):
            return torch.zeros(*tokens.shape, 256)

        def hidden_states(self, tokens, **options):
            return None

        def generate(self, tokens, new, **options):
            return torch.tensor([[0, *b" BLUE", 0]])

    prompt = prompts.make(0, 60, 0, distractors=0)
    (answer,) = _answer_together(Model(), data, [prompt], 6, 0, torch.device("cpu"))
    assert answer.correct


# --- labels ---------------------------------------------------------------------------------------


def labelled(folder, **labels):
    """A table for each split with these labels."""
    return load_images(
        str(
            folder(
                {
                    f"{split}.parquet": table(
                        image=[png((i, len(split), 0)) for i in range(len(column))], label=column
                    )
                    for split, column in labels.items()
                }
            )
        )
    )


@pytest.mark.parametrize(
    "train_labels, test_labels, classes, expected",
    [
        (["dog", "cat", "cow"] * 20, ["cow", "cat"], ["cat", "cow", "dog"], [1, 0]),
        ([0.0, 1.0] * 30, [1.0, 0.0], ["0", "1"], [1, 0]),
        ([0, 2] * 30, [2, 1], ["0", "1", "2"], [2, 1]),
        ([False, True] * 30, [True, False], ["0", "1"], [1, 0]),
    ],
)
def test_labels_are_words_or_whole_numbers(train_labels, test_labels, classes, expected, folder):
    data = labelled(folder, train=train_labels, test=test_labels)
    assert data.classes == classes and data.test.labels.tolist() == expected


@pytest.mark.parametrize(
    "train_labels, test_labels, message",
    [
        (["a", "b"] * 30, ["c"], "the test split of .* classes that the training .* have: c"),
        ([0, None, 1, None] * 15, [0], "missing: 30 of 60 in the train split, the first in row 1"),
        ([0.0, float("nan")] * 30, [0.0], "missing: 30 of 60 in the train split"),
        ([0.5, 1.0] * 30, [0.0], "whole numbers or words, not 0.5 .float."),
        (["a", "b"] * 30, [0], "whole numbers or words, not 'a' .str. beside others"),
    ],
)
def test_other_labels_are_refused(train_labels, test_labels, message, folder):
    with pytest.raises(ValueError, match=message):
        labelled(folder, train=train_labels, test=test_labels)


def test_class_names_in_another_order_are_refused(folder):
    import datasets

    path = folder({"x.txt": ""})
    for split, names in (("train", ["a", "b"]), ("test", ["b", "a"])):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
        )
        datasets.Dataset.from_dict(
            {"image": [{"bytes": png("red"), "path": None}] * 4, "label": [0, 1] * 2},
            features=features,
        ).to_parquet(path / f"{split}.parquet")
    with pytest.raises(ValueError, match="different names of classes, or in another order"):
        load_images(str(path))


# --- odd pictures ---------------------------------------------------------------------------------


def encoded(array, mode=None, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, kind, **options) if mode else Image.fromarray(
        array
    ).save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    """A JPEG of 8 x 16 pixels, its left half white, with an EXIF orientation."""
    exif, array = Image.Exif(), np.zeros((8, 16), np.uint8)
    exif[0x0112] = orientation
    array[:, :8] = 255
    return encoded(array, kind="JPEG", exif=exif)


def glyph(mode):
    """The left half opaque black, the right half transparent black."""
    image = Image.new("LA", (4, 2), (0, 255))
    image.paste((0, 0), (2, 0, 4, 2))
    if mode == "P":
        image = Image.new("P", (4, 2), 0)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.paste(1, (2, 0, 4, 2))
    file = io.BytesIO()
    options = {"transparency": 1} if mode == "P" else {}
    (image if mode == "P" else image.convert(mode)).save(file, "PNG", **options)
    return file.getvalue()


RAMP = np.linspace(0, 1, 4)[None].repeat(2, 0)
PICTURES = {  # encoded image: the greys of its first row, from 0 to 1
    "RGBA": (glyph("RGBA"), [0, 0, 1, 1]),
    "LA": (glyph("LA"), [0, 0, 1, 1]),
    "P with transparency": (glyph("P"), [0, 0, 1, 1]),
    "half transparent": (png((0, 0, 0, 128), (4, 2), "RGBA"), [0.5] * 4),
    "float TIFF": (encoded(RAMP.astype(np.float32), kind="TIFF"), [0, 1 / 3, 2 / 3, 1]),
    "16-bit PNG": (encoded((RAMP * 65_535).astype(np.uint16)), [0, 1 / 3, 2 / 3, 1]),
    "16-bit TIFF": (encoded((RAMP * 65_535).astype(np.uint16), kind="TIFF"), [0, 1 / 3, 2 / 3, 1]),
    "16-bit PGM": (
        b"P5 4 1 65535\n" + (RAMP[0] * 65_535).astype(">u2").tobytes(),
        [0, 1 / 3, 2 / 3, 1],
    ),
    "CMYK JPEG": (png((0, 0, 0, 0), (4, 2), "CMYK", "JPEG"), [1] * 4),
    "1 bit": (png(1, (4, 2), "1"), [1] * 4),
    "broken EXIF": (png("white", (4, 2), kind="JPEG", exif=b"Exif\0\0broken"), [1] * 4),
    "turned by half": (turned(3), [0] * 8 + [1] * 8),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_as_a_viewer_shows_it(name, channels):
    content, row = PICTURES[name]
    seen = np.asarray(image_decoding.decode(content, channels, name)) / 255
    assert seen.ndim == (2 if channels == 1 else 3)
    np.testing.assert_allclose(seen.reshape(*seen.shape[:2], -1)[0, :, 0], row, atol=0.01)


@pytest.mark.parametrize("orientation, white", [(1, "left"), (6, "top"), (8, "bottom")])
def test_a_picture_is_turned_as_its_exif_data_say(orientation, white):
    seen = np.asarray(image_decoding.decode(turned(orientation), 1, "photo")) > 128
    assert seen.shape == ((8, 16) if orientation == 1 else (16, 8))
    halves = {"left": seen[:, :8], "top": seen[:8], "bottom": seen[-8:]}
    assert halves[white].all() and seen.mean() == 0.5


REFUSED = {
    "floats up to 255": (encoded((RAMP * 255).astype(np.float32), kind="TIFF"), r"\[0, 255\]"),
    "a float that is none": (encoded(np.full((2, 2), np.nan, np.float32), kind="TIFF"), "nan"),
    "32 bits": (encoded((RAMP * 2**30).astype(np.int32), kind="TIFF"), "32 bits"),
    "81 megapixels": (png(0, (9_000, 9_000), "1"), "9000 x 9000 pixels are more than 80,000,000"),
    "400 megapixels": (png(0, (20_000, 20_000), "1"), "400000000 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_of_unknown_range_or_beyond_all_measure_is_refused_by_name(name):
    content, reason = REFUSED[name]
    with warnings.catch_warnings(), pytest.raises(ValueError, match=f"photo.*{reason}"):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image_decoding.decode(content, 3, "photo")


def test_all_images_are_checked_before_a_run_and_once(folder, monkeypatch):
    files = {f"{name}/{i:02d}.png": png((i, 0, 9)) for name in "ab" for i in range(40)}
    path = folder(files)
    (path / "a" / "07.png").write_bytes(b"no image")
    (path / "b" / "09.png").write_bytes(files["b/09.png"][:45])
    with pytest.raises(ValueError, match="a/07.png cannot.*2 images in all are so.*b/09.png"):
        load_images(str(path))
    for name in ("a/07.png", "b/09.png"):
        (path / name).write_bytes(files[name])
    first = load_images(str(path)).hash
    with monkeypatch.context() as patch:
        patch.setattr(image_decoding, "decode", lambda *a: pytest.fail("was decoded again"))
        assert load_images(str(path)).hash == first


@pytest.mark.parametrize("large", [False, True])
def test_a_bad_row_of_a_table_is_named_before_a_run(large, folder, monkeypatch):
    from seqpe_lab.tasks import image_tables

    monkeypatch.setattr(image_tables, "IN_MEMORY", 10 if large else 1_000)
    images = [png((i, 0, 0)) for i in range(40)]
    images[17] = None
    path = folder({"rows.parquet": table(image=images, label=[0, 1] * 20)})
    with pytest.raises(ValueError, match="image 17 of .*rows.parquet cannot be read"):
        load_images(str(path))


# --- content decides, not size and time -----------------------------------------------------------


def rewritten(path, content):
    """Another content of the same length at the same time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", [".txt", ".parquet"])
@pytest.mark.parametrize("large", [False, True])
def test_a_text_is_identified_by_its_bytes(kind, large, folder, monkeypatch):
    monkeypatch.setattr(token_storage, "LARGE", 100 if large else 10**9)
    path = folder({f"a{kind}": TEXT_FILES[kind]("one text " * 50)}) / f"a{kind}"
    first = load_text(str(path))
    content = TEXT_FILES[kind]("two text " * 50)
    rewritten(path, content if isinstance(content, bytes) else content.encode())
    second = load_text(str(path))
    assert first.hash != second.hash and second.decode(second.train[:3]) == "two"


def test_images_are_identified_by_their_bytes(folder):
    files = {f"{name}/{i:02d}.bmp": png((i, 0, 9), kind="BMP") for name in "ab" for i in range(40)}
    path = folder(files)
    first = load_images(str(path)).hash
    rewritten(path / "a" / "07.bmp", png((99, 0, 9), kind="BMP"))
    assert load_images(str(path)).hash != first


def test_relative_paths_are_resolved_when_a_recipe_is_made(folder, monkeypatch):
    path = folder({"book.txt": "x", "digits/a.txt": "x", "python": "x"})
    monkeypatch.chdir(path)
    recipe = language_model("none", "smoke", source="book.txt", tokenizer="book.txt")
    assert recipe.source == recipe.tokenizer == str(path / "book.txt")
    assert recipe.changed(source="digits/a.txt").source == str(path / "digits/a.txt")
    assert language_model("none", "smoke").source == "python"  # never a path
    written = recipe.to_json().replace(str(path / "book.txt"), "book.txt")
    assert Training.from_json(written).source == "book.txt"  # of an earlier version


# --- tokenizers -----------------------------------------------------------------------------------


def test_no_special_tokens_of_a_post_processor_are_added(folder):
    from tokenizers import Tokenizer, processors

    path = folder({"t.txt": "a baker bakes bread " * 30}) / "t.txt"
    plain = tokenization.load_tokenizer("bpe:280", {"a": path.read_text()})
    added = Tokenizer.from_str(plain.to_str())
    added.add_special_tokens(["<s>", "</s>"])
    added.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(name, added.token_to_id(name)) for name in ("<s>", "</s>")],
    )
    added.save(str(path.with_name("tokenizer.json")))
    name = str(path.with_name("tokenizer.json"))
    documents = {"a": "a baker", "b": "bread"}
    assert torch.equal(
        make_tokenizer(name, {})[0](documents), tokenization.as_functions(plain)[0](documents)
    )
    questions = load_questions("facts", name)
    assert questions.decode(questions.encode(" baker")) == " baker"


def test_a_bpe_is_trained_on_short_texts_of_the_same_words():
    long = "x" * (2 * tokenization.LONG_WORD + 10)
    texts = ["some words " * 5_000, f"a {long} b", "", "y" * tokenization.LONG_WORD]
    parts = list(tokenization._short_texts(texts))
    assert "".join(parts) == "".join(texts)
    assert max(map(len, parts)) < 2 * tokenization.PIECE
    words = [word for part in parts for word in part.split()]
    assert max(map(len, words)) == tokenization.LONG_WORD
    assert words.count("some") == 5_000 and [len(w) for w in words if "x" in w] == [1000, 1000, 10]


# --- what a run keeps -----------------------------------------------------------------------------

BOOK = "".join(f"Position {i} is written {i:05d}, digit by digit. " for i in range(400))


@pytest.fixture
def trained(folder, tiny_recipe, tmp_path):
    """trained(tokenizer): (a book's file, a run on it)."""

    def run_on(tokenizer="bpe:280", **values):
        path = folder({"book.txt": BOOK}) / "book.txt"
        recipe = tiny_recipe("none", source=str(path), tokenizer=tokenizer, steps=3, **values)
        return path, train(recipe, tmp_path / "run", cpu=True, progress=False)

    return run_on


@pytest.mark.parametrize("tokenizer", ["bpe:280", "bytes"])
def test_an_edited_text_is_refused_with_both_hashes(tokenizer, trained, capsys):
    path, run = trained(tokenizer)
    before = trained_on(run)
    assert main(["evaluate", str(run.folder), "--cpu"]) == 0
    path.write_text(BOOK.replace("digit", "figure"))
    capsys.readouterr()
    assert main(["evaluate", str(run.folder), "--cpu"]) == 2
    message = capsys.readouterr().err
    assert before["data"] in message and load_text(str(path)).hash in message
    assert "was trained on other data" in message


def test_a_run_keeps_its_tokenizer(trained, monkeypatch, capsys):
    path, run = trained()
    monkeypatch.setattr(
        tokenization, "_train_bpe", lambda *arguments: pytest.fail("was trained again")
    )
    assert main(["evaluate", str(run.folder), "--cpu"]) == 0
    assert main(["evaluate", str(run.folder), "--cpu", "--books", str(path), "--lengths", "8"]) == 0
    known = json.loads((run.folder / "data.json").read_text())
    known.pop("content_sha256")
    assert known == trained_on(run) and len(known["tokenizer"]) == 64
    kept = run.folder / "tokenizer.json"
    kept.write_text(kept.read_text().replace("Ġ", "G", 1))
    capsys.readouterr()
    assert main(["evaluate", str(run.folder), "--cpu"]) == 2
    assert known["tokenizer"] in capsys.readouterr().err


def test_a_large_text_is_not_tokenised_again_for_the_kept_tokenizer(folder, monkeypatch):
    monkeypatch.setattr(token_storage, "LARGE", 100)
    path = folder({"a.txt": BOOK}) / "a.txt"
    first = load_text(str(path), "bpe:280")
    other = tokenization.load_tokenizer("bpe:270", {"a": BOOK}).to_str()
    assert len(load_text(str(path), "bpe:280", other).train) > len(first.train)
    monkeypatch.setattr(
        token_storage, "store_tokens", lambda *arguments: pytest.fail("was tokenised again")
    )
    again = load_text(str(path), "bpe:280", first.tokenizer_json)
    assert torch.equal(again.test[:], first.test[:])


@pytest.mark.parametrize("large", [False, True])
def test_the_kept_tokenizer_stays_what_was_written(large, folder, monkeypatch):
    """Some tokenizers round their numbers when they are read, so writing them again may differ."""
    monkeypatch.setattr(token_storage, "LARGE", 100 if large else 10**9)
    kept = tokenization.load_tokenizer("bpe:280", {"a": BOOK}).to_str().replace(",", ", ", 1)
    path = str(folder({"a.txt": BOOK}) / "a.txt")
    assert load_text(path, "bpe:280", kept).tokenizer_json == kept
    assert load_questions("facts", "bpe:280", path, kept).tokenizer_json == kept


def test_a_tokenizer_s_file_belongs_to_the_run_too(trained, folder):
    path = folder({"tokenizer.json": ""}) / "tokenizer.json"
    tokenization.load_tokenizer("bpe:280", {"a": BOOK}).save(str(path))
    book, run = trained(str(path))
    first = load_text(str(book), str(path))
    tokenization.load_tokenizer("bpe:290", {"a": BOOK}).save(str(path))
    with pytest.raises(ValueError, match="was trained with another tokenizer"):
        check_data(run, load_text(str(book), str(path)))
    check_data(run, load_text(str(book), str(path), kept_tokenizer(run)))
    assert first.tokenizer_json == kept_tokenizer(run)


def test_questions_take_the_tokenizer_of_the_language_model(
    trained, tmp_path, monkeypatch, tiny_recipe
):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    path, base = trained(max_position=400)
    recipe = question_answering("none", "smoke", base=base.recipe).changed(base="run")
    path.write_text("other words altogether " * 500)
    task = QuestionTask(recipe)
    task.kept_tokenizer = kept_tokenizer(Run(recipe, tmp_path / "qa"))
    assert task.kept_tokenizer == (base.folder / "tokenizer.json").read_text()
    assert task.load_data().tokenizer_json == task.kept_tokenizer


def test_runs_of_earlier_versions_are_known_by_their_checkpoints(trained):
    path, run = trained("bytes")
    (run.folder / "data.json").unlink()
    assert trained_on(run) == {"data": load_text(str(path)).hash} and kept_tokenizer(run) is None
    path.write_text(BOOK + "more")
    with pytest.raises(ValueError, match="was trained on other data"):
        check_data(run, load_text(str(path)))
