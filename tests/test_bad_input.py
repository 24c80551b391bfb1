"""Every wrong input is refused where it enters, with the value, the limit and the remedy."""

import contextlib
import io
import json
import os
import shutil
import signal
from functools import partial
from unittest import mock

import pytest
import torch

from seqpe_lab import PositionEncoding, PositionRegularizer, digits, geometry
from seqpe_lab.cli import main
from seqpe_lab.course import lesson
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import ENCODINGS, make_encoding, resample_grid, sinusoidal_vectors
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.output_layer import nats_of_targets, next_token_loss
from seqpe_lab.models.vit import ViT, ViTConfig
from seqpe_lab.package_data import committed_results, paper_table
from seqpe_lab.position_table import PositionTable
from seqpe_lab.recipes import Recipe, image_model, language_model
from seqpe_lab.runs import CheckpointError, Run
from seqpe_lab.sampling import contrastive_sample, distillation_sample, lookalikes
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.image_views import render
from seqpe_lab.tasks.images import accuracy
from seqpe_lab.tasks.perplexity import perplexity, perplexity_by_length
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.training import build_model, train


class Refused(Exception):
    """What the command line said when it ended with status 2."""


def figure_of(results: list):
    from seqpe_lab.course import figures

    figures.extrapolation(results, train_len=8)


def cli(*arguments):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as ended:
            status = ended.code
    assert status == 2, f"exit status {status}, {error.getvalue()!r}"
    assert error.getvalue().count("\n") == 1 and error.getvalue().endswith("\n"), (
        f"not one line: {error.getvalue()!r}"
    )
    raise Refused(error.getvalue())


def pos(*values, **options):
    return torch.tensor([[v] for v in values], **options)


def nothing(*shape):
    return torch.empty(*shape, dtype=torch.long)


def seeded():
    return torch.Generator().manual_seed(0)


def encoder(**options):
    return PositionEncoder(8, **{"digits": 3, "heads": 2} | options)


def model(encoding="rope", **config):
    return GPT2(
        GPT2Config(
            **{
                "vocab_size": 23,
                "d_model": 8,
                "layers": 1,
                "heads": 2,
                "train_len": 8,
                "max_position": 16,
            }
            | config,
            encoding=encoding,
            encoding_options={"digits": 2} if encoding == "seqpe" else {},
        )
    ).eval()


def forward(encoding="rope", length=4, **options):
    return model(encoding)(torch.zeros(1, length, dtype=torch.long), **options)


def generate(length=4, new=2, **options):
    return model().generate(torch.zeros(1, length, dtype=torch.long), new, **options)


def smoke(method="seqpe", **overrides):
    return language_model(method, "smoke", **overrides)


def full(**fields):
    return Recipe(**fields)


def encoding(name="rope", **options):
    return make_encoding(
        name, **{"d_model": 8, "heads": 2, "layers": 1, "train_shape": 8} | options
    )


def contrastive(**options):
    return contrastive_sample(
        **{"batch": 4, "candidates": 4, "max_position": 100, "hard": 1, "generator": seeded()}
        | options
    )


def distillation(**options):
    return distillation_sample(
        **{"batch": 2, "teachers": 4, "train_shape": 8, "max_position": 100, "generator": seeded()}
        | options
    )


def regularizer(given=None, dims=1, **options):
    """Of an encoder of 3 digits; it is refused when it is made, not with the first step."""
    if not isinstance(given, PositionEncoding):
        given = encoder(dims=dims)
    values = {"train_shape": 16, "max_position": 500, "candidates": 4, "hard": 1, "teachers": 4}
    return PositionRegularizer(given, **values | options)


def text(tmp, content, name="text.txt", tokenizer="bytes"):
    path = tmp / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_text(str(path), tokenizer)


def own_cache(tmp):
    return mock.patch.dict(os.environ, SEQPE_CACHE=str(tmp / "cache"))


def parquet(tmp, rows, column="text"):
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({column: rows}), tmp / "rows.parquet")
    with own_cache(tmp):
        return load_text(str(tmp / "rows.parquet"))


def no_parquet(tmp):
    with own_cache(tmp):
        return text(tmp, b"no parquet", "rows.parquet")


def tokenizer_file(tmp, content):
    (tmp / "tokenizer.json").write_text(content)
    return text(tmp, "some words " * 50, tokenizer=str(tmp / "tokenizer.json"))


def unreachable(source, tokenizer="bytes"):
    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "ENDPOINT", "http://127.0.0.1:9"),
        mock.patch.object(constants, "HF_HUB_OFFLINE", False),
    ):
        return load_text(source, tokenizer)


def stored(tmp, recipe=None):
    """A run with one checkpoint."""
    run = Run(recipe or smoke(), tmp / "run")
    run.create()
    run.save_checkpoint(
        1,
        {"weight": torch.ones(2)},
        {"exp_avg.weight": torch.ones(2)},
        {"validation": 1.0, "data": "x"},
    )
    run.save_checkpoint(
        2,
        {"weight": torch.ones(2)},
        {"exp_avg.weight": torch.ones(2)},
        {"validation": 1.0, "data": "x"},
    )
    return run


def broken_checkpoint(tmp):
    path = stored(tmp).checkpoints()[-1]
    (path / "model.safetensors").write_bytes(b"not what was written")
    Run.open(tmp / "run").model_weights()


def foreign_checkpoint(tmp):
    other = stored(tmp).checkpoints()[-1]
    run = Run(smoke(seed=1), tmp / "mine")
    run.create()
    shutil.copytree(other, run.folder / "checkpoints" / other.name)
    run.model_weights()


def recipe_file(tmp, content):
    (tmp / "recipe.json").write_text(content)
    return Run.open(tmp)


def of_another_version(tmp):
    return recipe_file(tmp, json.dumps(json.loads(smoke().to_json()) | {"a_field_of_tomorrow": 1}))


def other_recipe(tmp):
    stored(tmp)
    train(smoke("alibi"), tmp / "run", cpu=True)


def untrained(tmp):
    (tmp / "text.txt").write_text("some words " * 50)
    Run(smoke(source=str(tmp / "text.txt")), tmp / "run").create()
    cli("evaluate", tmp / "run")


def vit(
    encoding="rope",
    name="vit_tiny_patch16_224",
    image_size=16,
    max_position=8,
    options=None,
    **timm_options,
):
    """A ViT of 4 x 4 patches."""
    values = dict(patch_size=4, embed_dim=8, depth=1, num_heads=2)
    return ViT(
        ViTConfig(
            name,
            image_size,
            3,
            max_position,
            encoding,
            options or ({"digits": 2} if encoding == "seqpe" else {}),
            values | timm_options,
        )
    ).eval()


def generate_after_padding():
    cache, mask = [], torch.tensor([[1, 1, 1, 1, 0]])
    model().hidden_states(TEXT[:4].unsqueeze(0), cache=cache)
    return model().generate(TEXT[:1].unsqueeze(0), 2, cache=cache, attention_mask=mask)


def see(height=16, width=16, channels=3, batch=1, encoding="rope", dtype=torch.float32, **options):
    return vit(encoding)(torch.zeros(batch, channels, height, width, dtype=dtype), **options)


def image(method="seqpe-mul", **overrides):
    """A tiny recipe on 2 x 2 patches of the digits."""
    values = dict(
        d_model=8,
        layers=1,
        image_size=8,
        eval_sizes=(8,),
        steps=1,
        batch=4,
        micro_batch=4,
        pivots=2,
        candidates=3,
        hard=1,
        distillation_batch=2,
        teachers=2,
    )
    return image_model(method, "smoke", **values | overrides)


def train_images(tmp, method="seqpe-mul", **overrides):
    return train(image(method, **overrides), tmp / "run", cpu=True)


def measure(method="seqpe-mul", count=1, size=8, **options):
    data, recipe = load_images(), image(method)
    return accuracy(
        build_model(recipe, 10), data.test.select(range(count)), data, recipe, size, **options
    )


def pictures(tmp, *paths, width=8):
    """A folder of all-white images, each a column wider than the one before."""
    from PIL import Image

    for i, path in enumerate(paths):
        (tmp / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width + i, 8), "white").save(tmp / path)
    return load_images(str(tmp))


MANY = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(30)]


def unreadable(tmp, content=b"", keep=0):
    """A training image of other bytes, or of the first ``keep`` of its own."""
    data = pictures(tmp, *MANY)
    file = data.train.files[0]
    file.write_bytes(content or file.read_bytes()[:keep])
    return data.train[0]


def image_table(tmp, labels=(0, 1) * 20, files=None, column="label"):
    import io

    import datasets
    import pyarrow
    from PIL import Image
    from pyarrow.parquet import write_table

    def png(i):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (i, i, i)).save(file, "PNG")
        return file.getvalue()

    write_table(
        pyarrow.table({"image": files or [png(i) for i in range(len(labels))], column: labels}),
        tmp / "rows.parquet",
    )
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp / "cache"), own_cache(tmp):
        return load_images(str(tmp / "rows.parquet"))


def no_image_table(tmp):
    import datasets

    (tmp / "rows.parquet").write_bytes(b"no parquet")
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp / "cache"), own_cache(tmp):
        return load_images(str(tmp / "rows.parquet"))


def unreachable_images(source):
    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "ENDPOINT", "http://127.0.0.1:9"),
        mock.patch.object(constants, "HF_HUB_OFFLINE", False),
    ):
        return load_images(source)


TEXT = torch.zeros(20, dtype=torch.long)
CHOICES = ", ".join(ENCODINGS)
HUB = ["Three ways out", "(1)", "(2)", "(3)", "source='python'"]

# (what is wrong, how it is called, what is raised, what the message must say)
CASES = [
    (
        "positions of 64 bits without a sign beyond all digits",
        lambda tmp: encoder()(torch.tensor([[2**63]], dtype=torch.uint64)),
        ValueError,
        ["negative", "start at 0"],
    ),
    (
        "tokens in a list",
        lambda tmp: model()([[1, 2]]),
        TypeError,
        ["list", "torch.tensor([[7, 2]])"],
    ),
    (
        "a prompt without a batch",
        lambda tmp: model().generate(torch.tensor([1, 2]), 2),
        ValueError,
        ["(B, L)", "(2,)"],
    ),
    (
        "tokens of 16 bits beyond the vocabulary",
        lambda tmp: model()(torch.tensor([[40_000]], dtype=torch.uint16)),
        ValueError,
        ["40000", "vocabulary of 23"],
    ),
    (
        "a start beside positions",
        lambda tmp: forward(length=2, positions=pos(3, 4), start=5),
        ValueError,
        ["start=5", "no effect", "positions"],
    ),
    (
        "a start beside positions of patches",
        lambda tmp: see(positions=digits.grid(4, 4), start=(1, 0)),
        ValueError,
        ["start=(1, 0)", "no effect", "positions"],
    ),
    (
        "a cache of another batch",
        lambda tmp: forward(cache=[(torch.zeros(3, 2, 1, 4),) * 2]),
        ValueError,
        ["3 sequences", "1 sequences", "empty list"],
    ),
    (
        "a cache of another depth",
        lambda tmp: generate(cache=[(torch.zeros(1, 2, 1, 4),) * 2] * 5),
        ValueError,
        ["5 layers", "1 layers", "empty list"],
    ),
    (
        "a temperature that is no number",
        lambda tmp: generate(temperature=float("nan")),
        ValueError,
        ["temperature", "nan"],
    ),
    (
        "position vectors of other positions",
        lambda tmp: forward("seqpe", vectors=torch.zeros(3, 8)),
        ValueError,
        ["(3, 8)", "4 positions", "d_model=8"],
    ),
    (
        "position vectors of another size",
        lambda tmp: forward("seqpe", vectors=torch.zeros(4, 6)),
        ValueError,
        ["(4, 6)", "d_model=8"],
    ),
    (
        "an encoder without features",
        lambda tmp: PositionEncoder(0),
        ValueError,
        ["d_model=0", "at least 1"],
    ),
    (
        "an encoding of no layers",
        lambda tmp: encoding(layers=0),
        ValueError,
        ["layers=0", "at least 1"],
    ),
    (
        "an encoding with fewer than no tokens before the positions",
        lambda tmp: encoding("seqpe", prefix=-1),
        ValueError,
        ["prefix=-1"],
    ),
    (
        "an encoding of an empty context",
        lambda tmp: encoding("learned", train_shape=0),
        ValueError,
        ["train_shape", "at least 1", "(0,)"],
    ),
    (
        "an encoding of half a token",
        lambda tmp: encoding("learned", train_shape=8.5),
        ValueError,
        ["train_shape", "whole number", "8.5"],
    ),
    (
        "an encoding without dimensions",
        lambda tmp: encoding(train_shape=()),
        ValueError,
        ["train_shape", "()"],
    ),
    (
        "an encoding of one dimension that is to have two",
        lambda tmp: encoding(train_shape=(8,), dims=2),
        ValueError,
        ["(8,)", "1 dimensions", "dims=2"],
    ),
    (
        "a language model without layers",
        lambda tmp: model(layers=0),
        ValueError,
        ["layers=0", "at least 1"],
    ),
    (
        "text positions for mixed RoPE on a grid",
        lambda tmp: encoding("rope-mixed", train_shape=(4, 4), heads=1).prepare(pos(3)),
        ValueError,
        ["n=1", "expected n=2"],
    ),
    (
        "fractional positions for ALiBi",
        lambda tmp: encoding("alibi").prepare(torch.tensor([[0.5]])),
        TypeError,
        ["float32", "whole numbers"],
    ),
    (
        "a context that shrinks",
        lambda tmp: encoding("rope-pi", factor=0.5),
        ValueError,
        ["factor", "at least 1", "0.5"],
    ),
    (
        "text positions for YaRN on a grid",
        lambda tmp: encoding("rope-yarn", train_shape=(4, 4), heads=1).prepare(pos(3)),
        ValueError,
        ["n=1", "expected n=2"],
    ),
    (
        "NTK-aware scaling of one pair of features",
        lambda tmp: encoding("rope-ntk", heads=4),
        ValueError,
        ["d_head=2", "at least 4"],
    ),
    (
        "YaRN with turns the wrong way round",
        lambda tmp: encoding("rope-yarn", beta_fast=1, beta_slow=32),
        ValueError,
        ["beta_fast=1", "beta_slow=32"],
    ),
    (
        "p-RoPE without a share",
        lambda tmp: encoding("p-rope", p=0),
        ValueError,
        ["(0, 1]", "got 0"],
    ),
    (
        "p-RoPE of less than one pair",
        lambda tmp: encoding("p-rope", p=0.3),
        ValueError,
        ["p=0.3", "2 pairs", "at least 0.5", "'none'"],
    ),
    (
        "RNoPE in a model without such a layer",
        lambda tmp: encoding("rnope", layers=3, every=4),
        ValueError,
        ["3 layers", "every 4-th", "lower `every`"],
    ),
    (
        "RNoPE without RoPE",
        lambda tmp: encoding("rnope", layers=3, every=1),
        ValueError,
        ["at least 2", "got 1", "'none'"],
    ),
    (
        "LieRE with blocks that do not fit",
        lambda tmp: encoding("liere", block=3),
        ValueError,
        ["block=3", "d_head=4"],
    ),
    (
        "text positions for LieRE on a grid",
        lambda tmp: encoding("liere", train_shape=(4, 4)).prepare(pos(3)),
        ValueError,
        ["n=1", "expected n=2"],
    ),
    (
        "FoPE on a grid",
        lambda tmp: encoding("fope", train_shape=(8, 8)),
        ValueError,
        ["sequences", "'liere'"],
    ),
    (
        "FoPE with a context of less than a turn",
        lambda tmp: encoding("fope", train_shape=6),
        ValueError,
        ["6 tokens", "at least 7"],
    ),
    (
        "xPos on a grid",
        lambda tmp: encoding("xpos", train_shape=(8, 8)),
        ValueError,
        ["grid", "choose another"],
    ),
    (
        "xPos beyond the range of its numbers",
        lambda tmp: encoding("xpos").transform(
            *torch.ones(2, 1, 2, 1, 4), encoding("xpos").prepare(pos(100_000)), 0
        ),
        ValueError,
        ["scale_base=512", "float32", "33,", "100,000", "raise scale_base to 1,"],
    ),
    (
        "xPos that decays at once",
        lambda tmp: encoding("xpos", scale_base=0),
        ValueError,
        ["scale_base", "above 0"],
    ),
    (
        "PoPE with a feature that belongs to no dimension",
        lambda tmp: encoding("pope", dims=3),
        ValueError,
        ["n=3", "d_head=4", "divisible by 3"],
    ),
    (
        "text positions for PoPE on a grid",
        lambda tmp: encoding("pope", train_shape=(4, 4)).prepare(pos(3)),
        ValueError,
        ["n=1", "expected n=2"],
    ),
    (
        "FLOATER on a grid",
        lambda tmp: encoding("floater", train_shape=(8, 8)),
        ValueError,
        ["one time", "'seqpe'"],
    ),
    (
        "FLOATER that stands still",
        lambda tmp: encoding("floater", step=0),
        ValueError,
        ["step=0", "above 0"],
    ),
    (
        "real positions for an encoder of whole ones",
        lambda tmp: encoder()(torch.tensor([[0.5]])),
        TypeError,
        ["float32", "whole numbers"],
    ),
    (
        "half a digit after the point",
        lambda tmp: encoder(decimals=0.5),
        ValueError,
        ["decimals", "whole number", "0.5"],
    ),
    (
        "a real position with too many digits",
        lambda tmp: encoder(decimals=1)(torch.tensor([[999.96]])),
        ValueError,
        ["position 1000", "k=3", "before the point"],
    ),
    (
        "a position that is no number",
        lambda tmp: encoder(decimals=1)(torch.tensor([[float("nan")]])),
        ValueError,
        ["finite"],
    ),
    (
        "interpolation without digits after the point",
        lambda tmp: encoding("seqpe", train_shape=(8, 8), interpolate=True),
        ValueError,
        ["decimals", "got 0"],
    ),
    (
        "interpolation of text",
        lambda tmp: encoding("seqpe", decimals=1, interpolate=True),
        ValueError,
        ["grid", "n=1"],
    ),
    (
        "grid positions for ALiBi",
        lambda tmp: encoding("alibi").prepare(digits.grid(2, 2)),
        ValueError,
        ["n=2", "expected n=1"],
    ),
    (
        "a position beyond the context that a learned table is told of",
        lambda tmp: encoding("learned").embed(torch.zeros(1, 1, 8), pos(20), 12),
        ValueError,
        ["12 tokens", "position 20", "whole context"],
    ),
    (
        "a regularizer without an encoder",
        lambda tmp: regularizer(encoding()),
        TypeError,
        ["RoPE", "no position encoder", "PositionEncoder"],
    ),
    *(
        (f"a regularizer with {name}", partial(regularizer, **options), ValueError, fragments)
        for name, options, fragments in (
            ("a negative weight", {"alpha": -1.0}, ["alpha=-1.0", "at least 0"]),
            ("an infinite weight", {"beta": float("inf")}, ["beta=inf", "finite"]),
            ("a grid for text", {"train_shape": (4, 4)}, ["(4, 4)", "n=1", "dims"]),
            ("a text for a grid", {"dims": 2, "train_shape": (16,)}, ["(16,)", "n=2", "dims"]),
            ("too few digits", {"max_position": 2_000}, ["2000", "k=3", "raise `digits`"]),
            ("no room for shifts", {"max_position": 20}, ["16", "20", "raise `max_position`"]),
            ("too many teachers", {"teachers": 17}, ["17 teachers", "16", "lower `teachers`"]),
            ("too many look-alikes", {"hard": 4}, ["hard=4", "0..3"]),
            ("too few candidates", {"candidates": 1, "hard": 0}, ["2 candidates", "candidates=1"]),
            ("no pivots", {"pivots": 0}, ["1 pivot", "batch=0"]),
            ("another form", {"form": "authors"}, ["authors", "paper, published"]),
            ("heads that do not divide", {"heads": 3}, ["3 heads", "d_model=8"]),
            ("no heads", {"heads": 0}, ["0 heads", "d_model=8"]),
            ("a negative smallest shift", {"smallest_shift": -1.0}, ["smallest_shift", "-1.0"]),
            ("a share above 1", {"local": 2.0}, ["local", "2.0"]),
        )
    ),
    (
        "an unknown option of an encoding in a recipe",
        lambda tmp: smoke(encoding="rope", encoding_options={"bse": 1e4}),
        ValueError,
        ["'rope'", "bse", "base, pairing"],
    ),
    (
        "an encoding of one's own that the command line does not know",
        lambda tmp: cli("train", "lm", "--set", "encoding=mine"),
        Refused,
        ["'mine'", CHOICES, "registered in the same program", "seqpe_lab.register"],
    ),
    # positions and digits
    (
        "a negative position",
        lambda tmp: digits.to_digits(pos(3, -1), 4),
        ValueError,
        ["position -1", "negative", "start at 0"],
    ),
    (
        "a position with too many digits",
        lambda tmp: digits.to_digits(pos(12345), 4),
        ValueError,
        ["12345", "needs 5 digits", "k=4", "raise `digits` to 5", "shorten eval_len"],
    ),
    (
        "a position too large in another base",
        lambda tmp: digits.to_digits(pos(8), 3, base=2),
        ValueError,
        ["8", "needs 4 digits in base 2", "k=3"],
    ),
    (
        "positions that are floats",
        lambda tmp: digits.to_digits(torch.tensor([[1.0]]), 4),
        TypeError,
        ["float32", "whole numbers", ".long()"],
    ),
    (
        "positions that are complex",
        lambda tmp: digits.to_digits(torch.tensor([[1j]]), 4),
        TypeError,
        ["complex64", "whole numbers"],
    ),
    (
        "positions that are bools",
        lambda tmp: digits.to_digits(torch.tensor([[True]]), 4),
        TypeError,
        ["bool", "whole numbers"],
    ),
    (
        "positions in a list",
        lambda tmp: digits.to_digits([[7]], 4),
        TypeError,
        ["list", "torch.tensor([[7]])"],
    ),
    (
        "a position without an axis",
        lambda tmp: digits.to_digits(torch.tensor(7), 4),
        ValueError,
        ["last axis", "(..., 1)", "unsqueeze"],
    ),
    (
        "positions of another n",
        lambda tmp: digits.check_positions(pos(7), dims=2),
        ValueError,
        ["n=1", "expected n=2", "last axis"],
    ),
    (
        "a base under 2",
        lambda tmp: digits.to_digits(pos(7), 4, base=1),
        ValueError,
        ["base", "at least 2", "got 1"],
    ),
    (
        "a base that is no whole number",
        lambda tmp: digits.to_digits(pos(7), 4, base=2.5),
        ValueError,
        ["base", "at least 2", "2.5"],
    ),
    (
        "no digits",
        lambda tmp: digits.to_digits(pos(7), 0),
        ValueError,
        ["digits (k)", "at least 1", "got 0"],
    ),
    (
        "more digits than 62 bits hold",
        lambda tmp: digits.to_digits(pos(7), 19),
        ValueError,
        ["base 10", "19 digits", "62 bits", "lower"],
    ),
    (
        "counting digits in a base under 2",
        lambda tmp: digits.digits_needed(7, base=1),
        ValueError,
        ["base", "at least 2", "got 1"],
    ),
    (
        "digits that do not split into n dimensions",
        lambda tmp: digits.from_digits(nothing(1, 5), dims=2),
        ValueError,
        ["5 digits", "n=2"],
    ),
    (
        "a digit that the base does not have",
        lambda tmp: digits.from_digits(torch.tensor([1, 2]), dims=1, base=2),
        ValueError,
        ["[0, 2)", "1..2"],
    ),
    ("a grid of size 0", lambda tmp: digits.grid(3, 0), ValueError, ["at least 1", "(3, 0)"]),
    # encoder
    ("an encoder for floats", lambda tmp: encoder()(torch.tensor([[1.5]])), TypeError, ["float32"]),
    ("an encoder for another n", lambda tmp: encoder(dims=2)(pos(7)), ValueError, ["n=1", "n=2"]),
    (
        "an encoder with too few digits",
        lambda tmp: encoder()(pos(1000)),
        ValueError,
        ["1000", "needs 4 digits", "k=3"],
    ),
    (
        "a lookup with too few digits",
        lambda tmp: PositionTable(encoder())(pos(1000)),
        ValueError,
        ["1000", "needs 4 digits", "k=3"],
    ),
    (
        "no positions to encode",
        lambda tmp: encoder()(nothing(0, 1)),
        ValueError,
        ["no positions", "empty"],
    ),
    (
        "no positions to look up",
        lambda tmp: PositionTable(encoder())(nothing(0, 1)),
        ValueError,
        ["no positions", "empty"],
    ),
    (
        "an encoder architecture that does not exist",
        lambda tmp: encoder(architecture="lstm"),
        ValueError,
        ["'lstm'", "transformer, gru"],
    ),
    (
        "encoder heads that do not divide",
        lambda tmp: encoder(heads=3),
        ValueError,
        ["3 heads", "d_model=8", "for instance 2"],
    ),
    (
        "an encoder without heads",
        lambda tmp: encoder(heads=0),
        ValueError,
        ["heads", "0", "at least 1"],
    ),
    (
        "an encoder without layers",
        lambda tmp: encoder(layers=0),
        ValueError,
        ["layers=0", "at least 1"],
    ),
    (
        "an encoder without dimensions",
        lambda tmp: encoder(dims=0),
        ValueError,
        ["dims=0", "at least 1"],
    ),
    (
        "a GRU that reads both ways",
        lambda tmp: encoder(architecture="gru", causal=False),
        ValueError,
        ["GRU", "causal=False", "transformer"],
    ),
    (
        "a table of another n",
        lambda tmp: encoder().table(3, 4),
        ValueError,
        ["(3, 4)", "2 sizes", "n=1"],
    ),
    # losses
    (
        "a single candidate",
        lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 1, 4), nothing(2)),
        ValueError,
        ["at least 2 candidates", "m=1"],
    ),
    (
        "no candidates",
        lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 0, 4), nothing(2)),
        ValueError,
        ["at least 2 candidates", "m=0"],
    ),
    (
        "no pivots",
        lambda tmp: contrastive_loss(torch.ones(0, 4), torch.ones(0, 3, 4), nothing(0)),
        ValueError,
        ["at least one pivot", "(0, 4)"],
    ),
    (
        "candidates of another size",
        lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 3, 5), nothing(2)),
        ValueError,
        ["(2, 4)", "(2, 3, 5)"],
    ),
    (
        "a distillation form that does not exist",
        lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), form="code"),
        ValueError,
        ["'code'", "paper, published"],
    ),
    (
        "students of another shape",
        lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 3, 4)),
        ValueError,
        ["(1, 2, 4)", "(1, 3, 4)"],
    ),
    (
        "no teachers",
        lambda tmp: distillation_loss(torch.ones(2, 0, 4), torch.ones(2, 0, 4)),
        ValueError,
        ["teachers", "(2, 0, 4)"],
    ),
    (
        "heads that do not divide the vectors",
        lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), heads=3),
        ValueError,
        ["3 heads", "size 4"],
    ),
    (
        "vectors without heads",
        lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), heads=0),
        ValueError,
        ["heads", "0"],
    ),
    # sampling
    (
        "a sample without pivots",
        lambda tmp: contrastive(batch=0),
        ValueError,
        ["at least 1 pivot", "batch=0"],
    ),
    (
        "a sample with one candidate",
        lambda tmp: contrastive(candidates=1, hard=0),
        ValueError,
        ["2 candidates", "candidates=1"],
    ),
    (
        "more candidates than positions",
        lambda tmp: contrastive(candidates=100),
        ValueError,
        ["100 candidates", "100 positions", "lower `candidates` or raise `max_position`"],
    ),
    ("only look-alikes", lambda tmp: contrastive(hard=4), ValueError, ["hard=4", "0..3"]),
    ("a share above 1", lambda tmp: contrastive(local=1.5), ValueError, ["[0, 1]", "1.5"]),
    (
        "look-alikes in a base under 2",
        lambda tmp: contrastive(base=1),
        ValueError,
        ["base", "at least 2", "got 1"],
    ),
    (
        "look-alikes of nothing in a base under 2",
        lambda tmp: lookalikes(pos(7), 2, 100, base=1, generator=seeded()),
        ValueError,
        ["base", "at least 2", "got 1"],
    ),
    (
        "sizes for another n",
        lambda tmp: contrastive(max_position=(100, 100)),
        ValueError,
        ["n=1", "(100, 100)"],
    ),
    (
        "a space of one position",
        lambda tmp: contrastive(max_position=1),
        ValueError,
        ["at least 2", "got 1"],
    ),
    (
        "more teachers than positions",
        lambda tmp: distillation(teachers=9),
        ValueError,
        ["9 teachers", "8 positions", "lower `teachers` or raise train_len"],
    ),
    (
        "a sample without teachers",
        lambda tmp: distillation(teachers=0),
        ValueError,
        ["0 teachers", "8 positions"],
    ),
    (
        "a training context beyond max_position",
        lambda tmp: distillation(max_position=7),
        ValueError,
        ["max_position (7,)", "training context (8,)"],
    ),
    # encodings
    ("an unknown encoding", lambda tmp: encoding("rotary"), ValueError, ["'rotary'", CHOICES]),
    (
        "an option that RoPE does not have",
        lambda tmp: encoding("rope", scaled=True),
        TypeError,
        ["'rope'", "scaled", "base, pairing"],
    ),
    (
        "an option that NoPE does not have",
        lambda tmp: encoding("none", base=2),
        TypeError,
        ["'none'", "base", "it has none"],
    ),
    (
        "an unknown integration",
        lambda tmp: encoding("seqpe", integration="product"),
        ValueError,
        ["'product'", "sum, mul, bias"],
    ),
    (
        "an unknown pairing",
        lambda tmp: encoding("rope", pairing="neox"),
        ValueError,
        ["'neox'", "interleaved, half"],
    ),
    (
        "a RoPE base of 1",
        lambda tmp: encoding("rope", base=1),
        ValueError,
        ["base", "above 1", "got 1"],
    ),
    (
        "a head of odd size under RoPE",
        lambda tmp: encoding("rope", d_model=6),
        ValueError,
        ["d_head=3", "even"],
    ),
    (
        "sinusoidal vectors of odd size",
        lambda tmp: sinusoidal_vectors(pos(1), 5),
        ValueError,
        ["d_model=5", "divisible by 2"],
    ),
    (
        "heads that do not divide",
        lambda tmp: encoding(heads=3),
        ValueError,
        ["3 heads", "d_model=8"],
    ),
    ("no heads", lambda tmp: encoding(heads=0), ValueError, ["heads", "0"]),
    (
        "ALiBi on a grid",
        lambda tmp: encoding("alibi", dims=2),
        ValueError,
        ["ALiBi", "a grid does not have", "another encoding"],
    ),
    (
        "ALiBi with a [CLS] token",
        lambda tmp: encoding("alibi", prefix=1),
        ValueError,
        ["ALiBi", "another encoding"],
    ),
    (
        "heads too small for mixed RoPE on a grid",
        lambda tmp: encoding("rope-mixed", d_model=12, dims=2),
        ValueError,
        ["n=2", "d_head=6", "divisible by 4"],
    ),
    (
        "sinusoidal vectors too small for a grid",
        lambda tmp: sinusoidal_vectors(nothing(1, 2).zero_(), 6),
        ValueError,
        ["n=2", "d_model=6", "divisible by 4"],
    ),
    (
        "a table of a video that should stretch",
        lambda tmp: resample_grid(torch.zeros(8, 3), (2, 2, 2), (2, 2, 3)),
        ValueError,
        ["rows and columns", "(2, 2, 2)", "(2, 2, 3)"],
    ),
    (
        "an option that mixed RoPE does not have",
        lambda tmp: encoding("rope-mixed", dims=2, pairing="half"),
        TypeError,
        ["'rope-mixed'", "pairing", "as_published, base"],
    ),
    # model
    (
        "a context beyond max_position",
        lambda tmp: forward(length=17),
        ValueError,
        ["position 16", "max_position=16", "raise `max_position` or shorten eval_len"],
    ),
    (
        "a start that shifts the context beyond max_position",
        lambda tmp: forward(start=13),
        ValueError,
        ["position 16", "max_position=16"],
    ),
    (
        "a context that does not start at 0 or later",
        lambda tmp: forward(start=-2),
        ValueError,
        ["position -2", "negative", "start at 0"],
    ),
    (
        "positions of tokens that are floats",
        lambda tmp: forward(positions=torch.arange(4.0).unsqueeze(-1)),
        TypeError,
        ["float32", "whole numbers"],
    ),
    (
        "positions of tokens of another n",
        lambda tmp: forward("none", positions=nothing(4, 2).zero_()),
        ValueError,
        ["n=2", "n=1"],
    ),
    (
        "fewer positions than tokens",
        lambda tmp: forward("none", positions=pos(0, 1, 2)),
        ValueError,
        ["3", "4"],
    ),
    ("no tokens", lambda tmp: forward(length=0), ValueError, ["tokens", "(1, 0)"]),
    (
        "tokens that are floats",
        lambda tmp: model()(torch.zeros(1, 4)),
        ValueError,
        ["whole numbers (B, L)", "float32"],
    ),
    ("tokens without a batch", lambda tmp: model()(TEXT[:4]), ValueError, ["(B, L)", "(4,)"]),
    (
        "generation beyond max_position",
        lambda tmp: generate(new=13),
        ValueError,
        ["position 16", "max_position=16"],
    ),
    (
        "generation from a late start",
        lambda tmp: generate(start=11),
        ValueError,
        ["position 16", "max_position=16"],
    ),
    ("generation without a prompt", lambda tmp: generate(length=0), ValueError, ["prompt", "0"]),
    (
        "generation of nothing",
        lambda tmp: generate(new=0),
        ValueError,
        ["at least one new token", "0"],
    ),
    (
        "a negative temperature",
        lambda tmp: generate(temperature=-1.0),
        ValueError,
        ["temperature", "at least 0", "-1.0"],
    ),
    (
        "sampling from the 0 likeliest",
        lambda tmp: generate(temperature=1.0, top_k=0),
        ValueError,
        ["top_k", "at least 1", "0"],
    ),
    (
        "sampling from no probability",
        lambda tmp: generate(temperature=1.0, top_p=0.0),
        ValueError,
        ["top_p", "(0, 1]", "0.0"],
    ),
    (
        "greedy generation from the likeliest",
        lambda tmp: generate(top_p=0.9),
        ValueError,
        ["top_p", "no effect at temperature 0", "leave them out"],
    ),
    (
        "an end beyond the vocabulary",
        lambda tmp: generate(eos=23),
        ValueError,
        ["eos=23", "vocabulary of 23"],
    ),
    (
        "several ends",
        lambda tmp: generate(eos=[1, 2]),
        TypeError,
        ["eos", "whole number", "[1, 2]"],
    ),
    (
        "sampling from half a token",
        lambda tmp: generate(temperature=1.0, top_k=1.5),
        TypeError,
        ["top_k", "whole number", "1.5"],
    ),
    (
        "a mask of another shape",
        lambda tmp: forward("none", attention_mask=torch.ones(1, 3).bool()),
        ValueError,
        ["attention_mask (1, 3)", "give (1, 4)", "cache"],
    ),
    (
        "a mask of floats",
        lambda tmp: forward("none", attention_mask=torch.zeros(1, 4)),
        TypeError,
        ["attention_mask", "0 and 1", "float32"],
    ),
    (
        "a mask of scores",
        lambda tmp: forward("none", attention_mask=torch.tensor([[0, 1, 2, 1]])),
        ValueError,
        ["1 for a real token", "got 2"],
    ),
    (
        "a text of padding",
        lambda tmp: forward("none", attention_mask=torch.tensor([[0, 0, 0, 0]])),
        ValueError,
        ["sequence 0", "no real token"],
    ),
    (
        "a prompt of padding after a cache",
        lambda tmp: generate_after_padding(),
        ValueError,
        ["no real token in its prompt"],
    ),
    (
        "model heads that do not divide",
        lambda tmp: model(heads=3),
        ValueError,
        ["3 heads", "d_model=8"],
    ),
    (
        "a target beyond the vocabulary",
        lambda tmp: nats_of_targets(torch.zeros(2, 8), torch.zeros(23, 8), torch.tensor([3, 23])),
        ValueError,
        ["targets", "[0, 23)", "3..23"],
    ),
    (
        "targets that are floats",
        lambda tmp: next_token_loss(torch.zeros(2, 8), torch.zeros(23, 8), torch.zeros(2)),
        TypeError,
        ["targets are whole numbers", "float32"],
    ),
    (
        "fewer targets than tokens",
        lambda tmp: next_token_loss(torch.zeros(2, 8), torch.zeros(23, 8), nothing(1)),
        ValueError,
        ["targets (1,)", "(2, 8)", "one for each"],
    ),
    # vision transformer
    *(
        (
            f"a training size of {size!r}",
            lambda tmp, size=size: vit(image_size=size),
            ValueError,
            ["image_size", "(height, width)", repr(size)],
        )
        for size in [(16,), (16, 16, 3), (16, -4), 16.0, "16", 0]
    ),
    (
        "a rectangle that the patch does not divide",
        lambda tmp: vit(image_size=(16, 18)),
        ValueError,
        ["16 x 18", "patches of 4", "resize it to 16 x 16"],
    ),
    ("a start in one dimension", lambda tmp: see(start=3), ValueError, ["(row, column)", "got 3"]),
    (
        "an image that the patch does not divide",
        lambda tmp: see(16, 18),
        ValueError,
        ["16 x 18", "patches of 4", "resize it to 16 x 16"],
    ),
    (
        "an image smaller than a patch",
        lambda tmp: see(2, 2),
        ValueError,
        ["2 x 2", "patches of 4", "4 x 4"],
    ),
    (
        "a training size that the patch does not divide",
        lambda tmp: vit(image_size=18),
        ValueError,
        ["18 x 18", "patches of 4", "resize it to 16 x 16"],
    ),
    (
        "images of other channels",
        lambda tmp: see(channels=1),
        ValueError,
        ["1 channel", "takes 3", "in_chans"],
    ),
    (
        "images of whole numbers",
        lambda tmp: see(dtype=torch.uint8),
        ValueError,
        ["float tensor (B, channels, height, width)", "torch.uint8"],
    ),
    (
        "an image without a batch",
        lambda tmp: vit()(torch.zeros(3, 16, 16)),
        ValueError,
        ["(B, channels, height, width)", "(3, 16, 16)"],
    ),
    (
        "a batch without images",
        lambda tmp: see(batch=0),
        ValueError,
        ["(B, channels, height, width)", "(0, 3, 16, 16)"],
    ),
    (
        "a grid beyond max_position",
        lambda tmp: see(16, 36),
        ValueError,
        [
            "column 8",
            "max_position=8",
            "raise `max_position`, enlarge the patch or shrink the images",
        ],
    ),
    (
        "a start that shifts the grid beyond max_position",
        lambda tmp: see(start=(0, 5)),
        ValueError,
        ["column 8", "max_position=8"],
    ),
    (
        "a grid beyond its digits",
        lambda tmp: vit("seqpe", max_position=40, options={"digits": 1})(torch.zeros(1, 3, 16, 44)),
        ValueError,
        ["position 10", "2 digits", "k=1", "raise `digits` to 2"],
    ),
    (
        "a start before the grid",
        lambda tmp: see(start=(-1, 0)),
        ValueError,
        ["position -1", "negative", "start at 0"],
    ),
    ("half a start", lambda tmp: see(start=(0.5, 0)), TypeError, ["float32", "whole numbers"]),
    (
        "positions of other patches",
        lambda tmp: see(positions=nothing(15, 2).zero_()),
        ValueError,
        ["(15, 2)", "16 patches", "(16, 2) or (1, 16, 2)"],
    ),
    (
        "positions of patches of another n",
        lambda tmp: see(positions=nothing(16, 1).zero_()),
        ValueError,
        ["n=1", "n=2"],
    ),
    (
        "a place outside the learned table",
        lambda tmp: see(encoding="learned", start=(0, 1)),
        ValueError,
        ["(4, 4) patches", "no row", "[0, 4]"],
    ),
    (
        "ALiBi in a vision transformer",
        lambda tmp: vit("alibi"),
        ValueError,
        ["ALiBi", "another encoding"],
    ),
    (
        "heads too small for 2-D RoPE",
        lambda tmp: vit(embed_dim=12)(torch.zeros(1, 3, 16, 16)),
        ValueError,
        ["n=2", "d_head=6", "divisible by 4"],
    ),
    (
        "a model too small for 2-D sinusoidal vectors",
        lambda tmp: vit("sinusoidal", embed_dim=6)(torch.zeros(1, 3, 16, 16)),
        ValueError,
        ["n=2", "d_model=6", "divisible by 4"],
    ),
    (
        "a timm model of other blocks",
        lambda tmp: vit(name="vit_small_patch16_18x2_224"),
        ValueError,
        ["vit_small_patch16_18x2_224", "plain patches and blocks", "vit_small_patch16_224"],
    ),
    # evaluation
    ("an accuracy without images", lambda tmp: measure(count=0), ValueError, ["no images"]),
    (
        "an accuracy at a size that the patch does not divide",
        lambda tmp: measure(size=10),
        ValueError,
        ["10 x 10", "patches of 4", "8 x 8"],
    ),
    (
        "an accuracy beyond max_position",
        lambda tmp: measure(size=68),
        ValueError,
        ["column 16", "max_position=16"],
    ),
    (
        "an unknown protocol",
        lambda tmp: perplexity(model(), TEXT, 8, protocol="overlapping"),
        ValueError,
        ["'overlapping'", "non-overlapping, sliding"],
    ),
    (
        "a stride of 0",
        lambda tmp: perplexity(model(), TEXT, 8, protocol="sliding", stride=0),
        ValueError,
        ["stride", "[1, 8]", "got 0"],
    ),
    (
        "a stride beyond the length",
        lambda tmp: perplexity(model(), TEXT, 8, protocol="sliding", stride=9),
        ValueError,
        ["stride", "[1, 8]", "got 9"],
    ),
    (
        "a text shorter than one chunk",
        lambda tmp: perplexity(model(), TEXT[:8], 8),
        ValueError,
        ["chunk of 8", "text of 8", "shorten the length"],
    ),
    (
        "a context of 0",
        lambda tmp: perplexity(model(), TEXT, 0),
        ValueError,
        ["0 tokens", "shorten the length"],
    ),
    (
        "evaluation beyond max_position",
        lambda tmp: perplexity(model(), TEXT, 17),
        ValueError,
        ["position 16", "max_position=16", "shorten eval_len"],
    ),
    (
        "a text shorter than the longest length",
        lambda tmp: perplexity_by_length(model(), TEXT, [4, 20]),
        ValueError,
        ["20 tokens", "context of 20", "shorten eval_lens"],
    ),
    # recipes
    (
        "an unknown scale",
        lambda tmp: language_model("seqpe", "huge"),
        ValueError,
        ["'huge'", "smoke, small, medium, full"],
    ),
    (
        "an unknown method",
        lambda tmp: language_model("xposs", "smoke"),
        ValueError,
        ["'xposs'", "none, sinusoidal", "seqpe-no-losses", "Did you mean 'xpos'"],
    ),
    (
        "an unknown field",
        lambda tmp: smoke(learning_speed=1),
        ValueError,
        ["learning_speed", "learning_rate"],
    ),
    (
        "a batch that micro_batch does not divide",
        lambda tmp: smoke(micro_batch=3),
        ValueError,
        ["micro_batch=3", "batch=8", "tokens per step stay fixed", "for instance micro_batch=1"],
    ),
    (
        "recipe heads that do not divide",
        lambda tmp: smoke(heads=3),
        ValueError,
        ["3 heads", "d_model=32"],
    ),
    (
        "an evaluation beyond max_position",
        lambda tmp: smoke(eval_lens=(32, 256)),
        ValueError,
        ["256", "max_position=240", "raise `max_position` or shorten eval_lens"],
    ),
    (
        "no evaluation lengths",
        lambda tmp: smoke(eval_lens=()),
        ValueError,
        ["eval_lens", "at least one"],
    ),
    (
        "an evaluation length of 0",
        lambda tmp: smoke(eval_lens=(0,)),
        ValueError,
        ["eval_lens", "at least 1 token", "(0,)"],
    ),
    (
        "a negative number of test tokens",
        lambda tmp: smoke(eval_tokens=-5),
        ValueError,
        ["eval_tokens", "-5", "at least 0"],
    ),
    (
        "training beyond max_position",
        lambda tmp: smoke(train_len=250),
        ValueError,
        ["max_position=240", "train_len=250", "raise"],
    ),
    (
        "a max_position beyond the digits",
        lambda tmp: smoke(max_position=200_000),
        ValueError,
        ["max_position=200000", "k=5", "`digits`"],
    ),
    (
        "more teachers than training positions",
        lambda tmp: smoke(teachers=33),
        ValueError,
        ["33 teachers", "32 training positions", "lower `teachers` or raise train_len"],
    ),
    (
        "a negative loss weight",
        lambda tmp: smoke(alpha=-0.1),
        ValueError,
        ["at least 0", "alpha=-0.1"],
    ),
    (
        "another negative loss weight",
        lambda tmp: smoke(beta=-1),
        ValueError,
        ["at least 0", "beta=-1"],
    ),
    (
        "a loss weight that is no number",
        lambda tmp: smoke(beta=float("nan")),
        ValueError,
        ["at least 0", "beta=nan"],
    ),
    ("a negative seed", lambda tmp: smoke(seed=-1), ValueError, ["seed", "at least 0", "-1"]),
    (
        "a seed beyond the generator's",
        lambda tmp: smoke(seed=2**70),
        ValueError,
        ["seed", str(2**70)],
    ),
    ("half a step", lambda tmp: smoke(steps=1.5), ValueError, ["steps", "whole number", "1.5"]),
    ("no steps", lambda tmp: smoke(steps=0), ValueError, ["steps", "at least 1", "0"]),
    (
        "a share of shifted data above 1",
        lambda tmp: smoke(shifted=2),
        ValueError,
        ["shifted", "[0, 1]", "2"],
    ),
    (
        "an unknown unit of shifts",
        lambda tmp: smoke(shift_unit="token"),
        ValueError,
        ["'token'", "sequence, batch"],
    ),
    ("a dropout of 1", lambda tmp: smoke(dropout=1.0), ValueError, ["dropout", "[0, 1)", "1.0"]),
    (
        "a dropout that is a word",
        lambda tmp: smoke(dropout="much"),
        (TypeError, ValueError),
        ["dropout", "'much'"],
    ),
    (
        "a learning rate of 0",
        lambda tmp: smoke(learning_rate=0),
        ValueError,
        ["learning_rate", "above 0", "0"],
    ),
    (
        "an unknown precision",
        lambda tmp: full(precision="fp8"),
        ValueError,
        ["'fp8'", "bf16, fp32"],
    ),
    (
        "a recipe with an unknown distillation form",
        lambda tmp: smoke(distillation_form="code"),
        ValueError,
        ["'code'", "paper, published"],
    ),
    (
        "a recipe with an unknown encoding",
        lambda tmp: full(encoding="rotary"),
        ValueError,
        ["'rotary'", CHOICES],
    ),
    (
        "a recipe that is no JSON",
        lambda tmp: Recipe.from_json("steps: 5"),
        ValueError,
        ["no recipe of this version"],
    ),
    (
        "a recipe that is a list",
        lambda tmp: Recipe.from_json("[1]"),
        ValueError,
        ["no recipe of this version"],
    ),
    # recipes of images
    (
        "an unknown image method",
        lambda tmp: image("rope-2d"),
        ValueError,
        ["'rope-2d'", "rope-axial", "seqpe-mul-no-losses"],
    ),
    (
        "a field of the other task",
        lambda tmp: image(train_len=3),
        ValueError,
        ["train_len", "image_size"],
    ),
    (
        "a patch that does not divide the image",
        lambda tmp: image(patch=3),
        ValueError,
        ["8 pixels", "patches of 3"],
    ),
    ("a patch of no pixels", lambda tmp: image(patch=0), ValueError, ["patch", "at least 1", "0"]),
    ("half a patch", lambda tmp: image(patch=1.5), ValueError, ["patch", "whole number", "1.5"]),
    (
        "an image size that the patch does not divide",
        lambda tmp: image(image_size=10),
        ValueError,
        ["10 pixels", "patches of 4"],
    ),
    (
        "an image of no pixels",
        lambda tmp: image(image_size=0),
        ValueError,
        ["image_size", "at least 1", "0"],
    ),
    (
        "no evaluation sizes",
        lambda tmp: image(eval_sizes=()),
        ValueError,
        ["eval_sizes", "at least one"],
    ),
    (
        "an evaluation size that the patch does not divide",
        lambda tmp: image(eval_sizes=(8, 10)),
        ValueError,
        ["10 pixels", "patches of 4"],
    ),
    ("an evaluation size of 0", lambda tmp: image(eval_sizes=(0,)), ValueError, ["0 pixels"]),
    (
        "an evaluation size beyond max_position",
        lambda tmp: image(eval_sizes=(8, 80)),
        ValueError,
        ["80 pixels", "20 patches", "max_position=16", "raise `max_position` or shrink"],
    ),
    (
        "a max_position beyond two digits",
        lambda tmp: image(max_position=101),
        ValueError,
        ["max_position=101", "k=2", "`digits`"],
    ),
    (
        "an unknown augmentation",
        lambda tmp: image(augment="flip"),
        ValueError,
        ["'flip'", "deit, zoom, place"],
    ),
    ("a crop of nothing", lambda tmp: image(crop=0.0), ValueError, ["crop", "(0, 1]", "0.0"]),
    (
        "a crop larger than the image",
        lambda tmp: image(crop=1.5),
        ValueError,
        ["crop", "(0, 1]", "1.5"],
    ),
    (
        "a negative mixup",
        lambda tmp: image(mixup=-1.0),
        ValueError,
        ["mixup", "at least 0", "-1.0"],
    ),
    (
        "a cutmix that is a word",
        lambda tmp: image(cutmix="much"),
        ValueError,
        ["cutmix", "a number", "'much'"],
    ),
    (
        "a smoothing of 1",
        lambda tmp: image(smoothing=1.0),
        ValueError,
        ["smoothing", "[0, 1)", "1.0"],
    ),
    ("an erasing of 1", lambda tmp: image(erasing=1.0), ValueError, ["erasing", "[0, 1)", "1.0"]),
    (
        "an MLP without hidden units",
        lambda tmp: image(mlp_ratio=0.0),
        ValueError,
        ["mlp_ratio=0.0", "hidden unit"],
    ),
    (
        "a negative drop path",
        lambda tmp: image(drop_path=-0.1),
        ValueError,
        ["drop_path", "[0, 1)", "-0.1"],
    ),
    (
        "a negative number of test images",
        lambda tmp: image(eval_images=-5),
        ValueError,
        ["eval_images", "at least 0", "-5"],
    ),
    (
        "more teachers than patches",
        lambda tmp: image(teachers=5),
        ValueError,
        ["5 teachers", "4 training positions", "lower `teachers` or enlarge the image"],
    ),
    (
        "deit's transforms on grey images",
        lambda tmp: train_images(tmp, augment="deit"),
        ValueError,
        ["augment='deit'", "digits", "1 channel", "'zoom' or 'place'"],
    ),
    # images
    (
        "images that are not there",
        lambda tmp: load_images(str(tmp / "none")),
        FileNotFoundError,
        ["none", "folder a class", "parquet"],
    ),
    (
        "an unknown source of images",
        lambda tmp: load_images("mnist"),
        ValueError,
        ["'mnist'", "'digits', a folder, or 'hub:NAME'"],
    ),
    (
        "an empty source of images",
        lambda tmp: load_images(""),
        ValueError,
        ["''", "'digits', a folder, or 'hub:NAME'"],
    ),
    (
        "a text for images",
        lambda tmp: (tmp / "a.txt").write_text("a") and load_images(str(tmp / "a.txt")),
        ValueError,
        ["a.txt", "neither a folder nor a parquet file"],
    ),
    (
        "a folder without images",
        lambda tmp: load_images(str(tmp)),
        ValueError,
        ["no images", "one folder a class", ".png"],
    ),
    (
        "a folder of images without classes",
        lambda tmp: pictures(tmp, "1.png", "2.png"),
        ValueError,
        ["no images", "one folder a class"],
    ),
    (
        "a class that train does not have",
        lambda tmp: pictures(tmp, *(f"train/{p}" for p in MANY), "test/cow/1.png"),
        ValueError,
        ["test", "training folder does not have", "cow"],
    ),
    (
        "too few images to cut splits from",
        lambda tmp: pictures(tmp, "cat/1.png", "dog/1.png"),
        ValueError,
        ["2 images", "too few", "test and validation"],
    ),
    (
        "a file that is no image",
        lambda tmp: unreadable(tmp, b"no image"),
        ValueError,
        ["cat/", ".png", "cannot be read as an image", "remove or replace it"],
    ),
    (
        "an image cut short",
        lambda tmp: unreadable(tmp, keep=50),
        ValueError,
        ["cat/", ".png", "truncated", "remove or replace it"],
    ),
    (
        "an image of no bytes",
        lambda tmp: unreadable(tmp),
        ValueError,
        ["cat/", ".png", "cannot be read as an image"],
    ),
    (
        "a table without labels",
        lambda tmp: image_table(tmp, column="name"),
        ValueError,
        ["rows.parquet", "image, name", "'image' and 'label'"],
    ),
    (
        "a label below 0",
        lambda tmp: image_table(tmp, (0, -1) * 20),
        ValueError,
        ["train split", "rows.parquet", "label -1", "0..0"],
    ),
    (
        "an unreachable hub of images",
        lambda tmp: unreachable_images("hub:uoft-cs/cifar10"),
        ConnectionError,
        ["uoft-cs/cifar10", "Three ways out", "(1)", "(2)", "(3)", "source='digits'"],
    ),
    (
        "rendering to nothing",
        lambda tmp: render(torch.zeros(1, 1, 8, 8), (8, 0)),
        ValueError,
        ["at least 1 pixel", "(8, 0)"],
    ),
    # texts and tokenizers
    (
        "a file that is not there",
        lambda tmp: load_text(str(tmp / "no.txt")),
        FileNotFoundError,
        ["no.txt", ".txt, .raw or .parquet"],
    ),
    (
        "an unknown source",
        lambda tmp: load_text("wikitext"),
        ValueError,
        ["'wikitext'", "'python', a path, or 'hub:NAME[:CONFIG]'"],
    ),
    (
        "an empty name of a source",
        lambda tmp: load_text(""),
        ValueError,
        ["''", "'python', a path, or 'hub:NAME[:CONFIG]'"],
    ),
    (
        "a file that is not UTF-8",
        lambda tmp: text(tmp, b"caf\xe9 " * 50),
        ValueError,
        ["text.txt", "not UTF-8", "byte 3", "convert"],
    ),
    (
        "an empty file",
        lambda tmp: text(tmp, ""),
        ValueError,
        ["train split", "text.txt", "no text"],
    ),
    (
        "a file of blanks",
        lambda tmp: text(tmp, " \n" * 100),
        ValueError,
        ["train split", "no text"],
    ),
    (
        "a folder without texts",
        lambda tmp: load_text(str(tmp)),
        ValueError,
        [".txt, .raw or .parquet"],
    ),
    (
        "a parquet file without text",
        lambda tmp: parquet(tmp, ["a"], column="words"),
        ValueError,
        ["rows.parquet", "no column 'text'", "only words"],
    ),
    (
        "a parquet file of numbers",
        lambda tmp: parquet(tmp, [1, 2]),
        ValueError,
        ["rows.parquet", "'text'", "int64"],
    ),
    ("a parquet file that is none", no_parquet, ValueError, ["rows.parquet", "parquet"]),
    (
        "an unreachable hub",
        lambda tmp: unreachable("hub:Salesforce/wikitext"),
        ConnectionError,
        ["Salesforce/wikitext", *HUB],
    ),
    (
        "an unknown tokenizer",
        lambda tmp: text(tmp, "words " * 50, tokenizer="words"),
        ValueError,
        ["'words'", "'bytes', 'bpe:SIZE', 'gpt2', or the path of a tokenizer.json"],
    ),
    (
        "a BPE smaller than its bytes",
        lambda tmp: text(tmp, "words " * 50, tokenizer="bpe:100"),
        ValueError,
        ["'bpe:100'", "at least 257", "'bpe:1024'"],
    ),
    (
        "a BPE of no size",
        lambda tmp: text(tmp, "words " * 50, tokenizer="bpe:large"),
        ValueError,
        ["'bpe:large'", "at least 257"],
    ),
    (
        "a tokenizer.json that is none",
        lambda tmp: tokenizer_file(tmp, "{}"),
        ValueError,
        ["tokenizer.json"],
    ),
    # runs
    (
        "a folder that is no run",
        lambda tmp: Run.open(tmp),
        FileNotFoundError,
        ["is no run", "no recipe.json"],
    ),
    (
        "a run of another version",
        of_another_version,
        ValueError,
        ["no recipe of this version", "a_field_of_tomorrow"],
    ),
    (
        "a broken recipe",
        lambda tmp: recipe_file(tmp, "{"),
        ValueError,
        ["recipe.json is refused", "damaged", "restore it from a copy, or delete"],
    ),
    (
        "a folder that holds another run",
        other_recipe,
        ValueError,
        ["run of another recipe", "choose another folder or delete it"],
    ),
    (
        "a broken checkpoint",
        broken_checkpoint,
        CheckpointError,
        ["step-0000002", "refused", "truncated or altered", "the previous one is step-0000001"],
    ),
    (
        "a foreign checkpoint",
        foreign_checkpoint,
        CheckpointError,
        ["step-0000002", "refused", "another recipe", "no earlier one"],
    ),
    (
        "a run without a checkpoint",
        lambda tmp: Run(smoke(), tmp).model_weights(),
        FileNotFoundError,
        ["no checkpoint", "train it first"],
    ),
    (
        "results that were not committed",
        lambda tmp: committed_results("nothing"),
        ValueError,
        ["'nothing'", "there are"],
    ),
    # measures, figures, lessons
    (
        "an unknown similarity",
        lambda tmp: geometry.similarity(torch.eye(2), kind="euclid"),
        ValueError,
        ["'euclid'", "dot, cosine"],
    ),
    (
        "more neighbours than there are",
        lambda tmp: geometry.nearest_neighbours(torch.eye(3), count=3),
        ValueError,
        ["[1, 2]", "got 3"],
    ),
    (
        "a shift beyond the vectors",
        lambda tmp: geometry.shift_cosine(torch.eye(3), 3),
        ValueError,
        ["[1, 2]", "got 3"],
    ),
    ("a figure of nothing", lambda tmp: figure_of([]), ValueError, ["no results"]),
    (
        "a table that the paper does not have",
        lambda tmp: paper_table(6),
        ValueError,
        ["'table6'", "table1", "table5"],
    ),
    (
        "a part that the paper's table does not have",
        lambda tmp: paper_table(4, "audio"),
        ValueError,
        ["'table4-audio'", "table4-images"],
    ),
    (
        "a prediction without a choice",
        lambda tmp: lesson.Lesson("05", "smoke", 0).predict("n", "?", ["a"]),
        ValueError,
        ["two choices", "['a']"],
    ),
    (
        "a table of a vector",
        lambda tmp: lesson.tensor_table(torch.ones(3)),
        ValueError,
        ["matrix", "(3,)"],
    ),
    # the command line: exit status 2 and one line
    ("no command", lambda tmp: cli(), Refused, ["command"]),
    ("an unknown command", lambda tmp: cli("fly"), Refused, ["fly", "train"]),
    ("an unknown task", lambda tmp: cli("train", "vit"), Refused, ["vit", "lm"]),
    (
        "an unknown scale on the command line",
        lambda tmp: cli("train", "lm", "--scale", "huge"),
        Refused,
        ["--scale", "huge", "smoke", "full"],
    ),
    (
        "an unknown image method on the command line",
        lambda tmp: cli("train", "image", "--scale", "smoke", "--encoding", "rope-2d"),
        Refused,
        ["'rope-2d'", "rope-axial"],
    ),
    (
        "a patch that does not fit on the command line",
        lambda tmp: cli("train", "image", "--scale", "smoke", "--set", "patch=3"),
        Refused,
        ["16 pixels", "patches of 3"],
    ),
    (
        "images that are not there on the command line",
        lambda tmp: cli(
            "train",
            "image",
            "--scale",
            "smoke",
            "--folder",
            tmp / "run",
            "--set",
            f"source={tmp}/none",
        ),
        Refused,
        ["none"],
    ),
    (
        "a seed that is a word",
        lambda tmp: cli("train", "lm", "--seed", "one"),
        Refused,
        ["--seed", "one"],
    ),
    (
        "an unknown encoding on the command line",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--encoding", "rotary"),
        Refused,
        ["'rotary'", "none, sinusoidal"],
    ),
    (
        "a negative seed on the command line",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--seed", "-1"),
        Refused,
        ["seed", "-1", "at least 0"],
    ),
    (
        "a setting without a value",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "steps"),
        Refused,
        ["FIELD=VALUE", "'steps'"],
    ),
    (
        "a setting of no field",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "speed=1"),
        Refused,
        ["speed", "steps"],
    ),
    (
        "a setting of another type",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "steps=many"),
        Refused,
        ["steps", "'many'", "whole number"],
    ),
    (
        "a list that is none",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "eval_lens=32"),
        Refused,
        ["eval_lens", "32"],
    ),
    (
        "a setting that does not fit",
        lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "micro_batch=3"),
        Refused,
        ["micro_batch=3", "batch=8"],
    ),
    (
        "a text that is not there",
        lambda tmp: cli(
            "train",
            "lm",
            "--scale",
            "smoke",
            "--folder",
            tmp / "run",
            "--set",
            f"source={tmp}/no.txt",
        ),
        Refused,
        ["no.txt"],
    ),
    (
        "evaluating a folder that is no run",
        lambda tmp: cli("evaluate", tmp),
        Refused,
        ["is no run", "recipe.json"],
    ),
    (
        "evaluating without lengths",
        lambda tmp: cli("evaluate", tmp, "--lengths", "many"),
        Refused,
        ["--lengths", "many"],
    ),
    (
        "evaluating an unknown split",
        lambda tmp: cli("evaluate", tmp, "--split", "all"),
        Refused,
        ["--split", "all", "validation", "test"],
    ),
    ("evaluating what was not trained", untrained, Refused, ["no checkpoint", "train it first"]),
    (
        "a timm model that is no ViT",
        lambda tmp: vit(name="swin_tiny_patch4_window7_224"),
        ValueError,
        ["swin_tiny_patch4_window7_224", "vit_small_patch16_224"],
    ),
    (
        "a timm model that does not exist",
        lambda tmp: vit(name="vit_tiny"),
        ValueError,
        ["vit_tiny", "vit_small_patch16_224"],
    ),
    (
        "a timm model with a token of its own",
        lambda tmp: vit(name="deit_tiny_distilled_patch16_224"),
        ValueError,
        ["deit_tiny_distilled_patch16_224"],
    ),
    (
        "a timm model that sees through a convolutional network",
        lambda tmp: ViT(ViTConfig("vit_tiny_r_s16_p8_224", timm_options={"depth": 1})),
        ValueError,
        ["vit_tiny_r_s16_p8_224"],
    ),
    (
        "patches that are not square",
        lambda tmp: vit(patch_size=(4, 2))(torch.zeros(1, 3, 16, 16)),
        ValueError,
        ["(4, 2)"],
    ),
    (
        "patches dropped in training",
        lambda tmp: vit("seqpe", patch_drop_rate=0.5).train()(torch.zeros(1, 3, 16, 16)),
        ValueError,
        ["patch_drop_rate"],
    ),
    (
        "a recipe whose students have no room",
        lambda tmp: language_model("seqpe", "smoke", max_position=60, eval_lens=(32,)),
        ValueError,
        ["max_position=60", "32 trained positions", "at least 64"],
    ),
    (
        "an image recipe whose students have no room",
        lambda tmp: image_model("seqpe-mul", "smoke", max_position=7, eval_sizes=(16,)),
        ValueError,
        ["max_position=7", "4 trained positions", "at least 8"],
    ),
    (
        "heads that do not divide in a vision transformer",
        lambda tmp: vit(num_heads=3),
        ValueError,
        ["3 heads", "8"],
    ),
    (
        "mixup of batches of odd size",
        lambda tmp: train_images(tmp, mixup=0.5, batch=3, micro_batch=3),
        ValueError,
        ["micro_batch=3", "even"],
    ),
    (
        "a canvas smaller than its object",
        lambda tmp: train_images(tmp, augment="place", image_size=16, eval_sizes=(16, 8)),
        ValueError,
        ["8 pixels", "object"],
    ),
    (
        "interpolated positions of an encoding without vectors",
        lambda tmp: measure("rope-axial", interpolate=True),
        ValueError,
        ["interpolate", "seqpe"],
    ),
    (
        "position vectors of other patches",
        lambda tmp: see(encoding="seqpe", vectors=torch.zeros(15, 8)),
        ValueError,
        ["(15, 8)", "16"],
    ),
    (
        "labels that are lists",
        lambda tmp: image_table(tmp, ([0], [1]) * 20),
        ValueError,
        ["label", "rows.parquet", "whole numbers or words", "[0] (list)"],
    ),
    (
        "labels that are missing",
        lambda tmp: image_table(tmp, (0, None) * 20),
        ValueError,
        ["label", "missing"],
    ),
    (
        "labels that are fractions",
        lambda tmp: image_table(tmp, (0.5, 1.5) * 20),
        ValueError,
        ["label", "rows.parquet"],
    ),
    (
        "images that are numbers",
        lambda tmp: image_table(tmp, files=list(range(40))),
        ValueError,
        ["image", "rows.parquet"],
    ),
    ("an image table that is none", no_image_table, ValueError, ["rows.parquet"]),
    (
        "an unreadable image in a table",
        lambda tmp: image_table(tmp, files=[b"no image %d" % i for i in range(40)]).train[0],
        ValueError,
        ["rows.parquet", "cannot be read as an image"],
    ),
]


def too_long(signum, frame):
    raise TimeoutError("5 s of computing and no answer")


@pytest.mark.parametrize(
    "call, kind, fragments", [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_it_is_refused_with_the_value_the_limit_and_the_remedy(
    call, kind, fragments, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)  # seconds of computing, however busy the machine
    try:
        with pytest.raises(kind) as error:
            call(tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    message = str(error.value)
    assert not [fragment for fragment in fragments if fragment not in message], message


def test_every_case_has_a_name_of_its_own():
    names = [case[0] for case in CASES]
    assert len(set(names)) == len(names) >= 40
