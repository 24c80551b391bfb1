"""Every wrong input is refused where it enters, with the value, the limit and the remedy (DESIGN.md, section 9)."""
import contextlib
import io
import json
import os
import shutil
import signal
from unittest import mock

import pytest
import torch

from seqpe_lab import digits, figures, geometry, lesson
from seqpe_lab.__main__ import main
from seqpe_lab.data.paper import paper_table
from seqpe_lab.data.text import load_text
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import make_encoding, sinusoidal_vectors
from seqpe_lab.evaluation import perplexity, perplexity_by_length
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.recipes import Recipe, language_model
from seqpe_lab.runs import CheckpointError, Run, committed_results
from seqpe_lab.sampling import contrastive_sample, distillation_sample, lookalikes
from seqpe_lab.training import train


class Refused(Exception):
    """What the command line said when it ended with status 2."""


def cli(*arguments):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as ended:
            status = ended.code
    assert status == 2, f"exit status {status}, {error.getvalue()!r}"
    assert error.getvalue().count("\n") == 1 and error.getvalue().endswith("\n"), f"not one line: {error.getvalue()!r}"
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
    return GPT2(GPT2Config(**{"vocab_size": 23, "d_model": 8, "layers": 1, "heads": 2, "train_len": 8, "max_position": 16} | config, encoding=encoding,
                           encoding_options={"digits": 2} if encoding == "seqpe" else {})).eval()


def forward(encoding="rope", length=4, **options):
    return model(encoding)(torch.zeros(1, length, dtype=torch.long), **options)


def generate(length=4, new=2, **options):
    return model().generate(torch.zeros(1, length, dtype=torch.long), new, **options)


def smoke(method="seqpe", **overrides):
    return language_model(method, "smoke", **overrides)


def full(**fields):
    return Recipe(**fields)


def encoding(name="rope", **options):
    return make_encoding(name, **{"d_model": 8, "heads": 2, "layers": 1, "train_shape": 8} | options)


def contrastive(**options):
    return contrastive_sample(**{"batch": 4, "candidates": 4, "max_position": 100, "hard": 1, "generator": seeded()} | options)


def distillation(**options):
    return distillation_sample(**{"batch": 2, "teachers": 4, "train_shape": 8, "max_position": 100, "generator": seeded()} | options)


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
    with mock.patch.object(constants, "ENDPOINT", "http://127.0.0.1:9"), mock.patch.object(constants, "HF_HUB_OFFLINE", False):
        return load_text(source, tokenizer)


def stored(tmp, recipe=None):
    """A run with one checkpoint."""
    run = Run(recipe or smoke(), tmp / "run")
    run.create()
    run.save_checkpoint(1, {"weight": torch.ones(2)}, {"exp_avg.weight": torch.ones(2)}, {"validation": 1.0, "data": "x"})
    run.save_checkpoint(2, {"weight": torch.ones(2)}, {"exp_avg.weight": torch.ones(2)}, {"validation": 1.0, "data": "x"})
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


TEXT = torch.zeros(20, dtype=torch.long)
CHOICES = "none, sinusoidal, learned, rope, rope-mixed, alibi, seqpe"
HUB = ["Three ways out", "(1)", "(2)", "(3)", "source='python'"]

# (what is wrong, how it is called, what is raised, what the message must say)
CASES = [
    # positions and digits
    ("a negative position", lambda tmp: digits.to_digits(pos(3, -1), 4), ValueError, ["position -1", "negative", "start at 0"]),
    ("a position with too many digits", lambda tmp: digits.to_digits(pos(12345), 4), ValueError, ["12345", "needs 5 digits", "k=4", "raise `digits` to 5", "shorten eval_len"]),
    ("a position too large in another base", lambda tmp: digits.to_digits(pos(8), 3, base=2), ValueError, ["8", "needs 4 digits in base 2", "k=3"]),
    ("positions that are floats", lambda tmp: digits.to_digits(torch.tensor([[1.0]]), 4), TypeError, ["float32", "whole numbers", ".long()"]),
    ("positions that are complex", lambda tmp: digits.to_digits(torch.tensor([[1j]]), 4), TypeError, ["complex64", "whole numbers"]),
    ("positions that are bools", lambda tmp: digits.to_digits(torch.tensor([[True]]), 4), TypeError, ["bool", "whole numbers"]),
    ("positions in a list", lambda tmp: digits.to_digits([[7]], 4), TypeError, ["list", "torch.tensor([[7]])"]),
    ("a position without an axis", lambda tmp: digits.to_digits(torch.tensor(7), 4), ValueError, ["last axis", "(..., 1)", "unsqueeze"]),
    ("positions of another n", lambda tmp: digits.check_positions(pos(7), dims=2), ValueError, ["n=1", "expected n=2", "last axis"]),
    ("a base under 2", lambda tmp: digits.to_digits(pos(7), 4, base=1), ValueError, ["base", "at least 2", "got 1"]),
    ("a base that is no whole number", lambda tmp: digits.to_digits(pos(7), 4, base=2.5), ValueError, ["base", "at least 2", "2.5"]),
    ("no digits", lambda tmp: digits.to_digits(pos(7), 0), ValueError, ["digits (k)", "at least 1", "got 0"]),
    ("more digits than 62 bits hold", lambda tmp: digits.to_digits(pos(7), 19), ValueError, ["base 10", "19 digits", "62 bits", "lower"]),
    ("counting digits in a base under 2", lambda tmp: digits.digits_needed(7, base=1), ValueError, ["base", "at least 2", "got 1"]),
    ("digits that do not split into n dimensions", lambda tmp: digits.from_digits(nothing(1, 5), dims=2), ValueError, ["5 digits", "n=2"]),
    ("a digit that the base does not have", lambda tmp: digits.from_digits(torch.tensor([1, 2]), dims=1, base=2), ValueError, ["[0, 2)", "1..2"]),
    ("a grid of size 0", lambda tmp: digits.grid(3, 0), ValueError, ["at least 1", "(3, 0)"]),
    # encoder
    ("an encoder for floats", lambda tmp: encoder()(torch.tensor([[1.5]])), TypeError, ["float32"]),
    ("an encoder for another n", lambda tmp: encoder(dims=2)(pos(7)), ValueError, ["n=1", "n=2"]),
    ("an encoder with too few digits", lambda tmp: encoder()(pos(1000)), ValueError, ["1000", "needs 4 digits", "k=3"]),
    ("a lookup with too few digits", lambda tmp: encoder().lookup(pos(1000)), ValueError, ["1000", "needs 4 digits", "k=3"]),
    ("no positions to encode", lambda tmp: encoder()(nothing(0, 1)), ValueError, ["no positions", "empty"]),
    ("no positions to look up", lambda tmp: encoder().lookup(nothing(0, 1)), ValueError, ["no positions", "empty"]),
    ("an encoder architecture that does not exist", lambda tmp: encoder(architecture="lstm"), ValueError, ["'lstm'", "transformer, gru"]),
    ("encoder heads that do not divide", lambda tmp: encoder(heads=3), ValueError, ["3 heads", "d_model=8", "for instance 2"]),
    ("an encoder without heads", lambda tmp: encoder(heads=0), ValueError, ["heads", "0", "at least 1"]),
    ("an encoder without layers", lambda tmp: encoder(layers=0), ValueError, ["layers=0", "at least 1"]),
    ("an encoder without dimensions", lambda tmp: encoder(dims=0), ValueError, ["dims=0", "at least 1"]),
    ("a GRU that reads both ways", lambda tmp: encoder(architecture="gru", causal=False), ValueError, ["GRU", "causal=False", "transformer"]),
    ("a table of another n", lambda tmp: encoder().table(3, 4), ValueError, ["(3, 4)", "2 sizes", "n=1"]),
    # losses
    ("a single candidate", lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 1, 4), nothing(2)), ValueError, ["at least 2 candidates", "m=1"]),
    ("no candidates", lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 0, 4), nothing(2)), ValueError, ["at least 2 candidates", "m=0"]),
    ("no pivots", lambda tmp: contrastive_loss(torch.ones(0, 4), torch.ones(0, 3, 4), nothing(0)), ValueError, ["at least one pivot", "(0, 4)"]),
    ("candidates of another size", lambda tmp: contrastive_loss(torch.ones(2, 4), torch.ones(2, 3, 5), nothing(2)), ValueError, ["(2, 4)", "(2, 3, 5)"]),
    ("a distillation form that does not exist", lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), form="code"), ValueError, ["'code'", "paper, published"]),
    ("students of another shape", lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 3, 4)), ValueError, ["(1, 2, 4)", "(1, 3, 4)"]),
    ("no teachers", lambda tmp: distillation_loss(torch.ones(2, 0, 4), torch.ones(2, 0, 4)), ValueError, ["teachers", "(2, 0, 4)"]),
    ("heads that do not divide the vectors", lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), heads=3), ValueError, ["3 heads", "size 4"]),
    ("vectors without heads", lambda tmp: distillation_loss(torch.ones(1, 2, 4), torch.ones(1, 2, 4), heads=0), ValueError, ["heads", "0"]),
    # sampling
    ("a sample without pivots", lambda tmp: contrastive(batch=0), ValueError, ["at least 1 pivot", "batch=0"]),
    ("a sample with one candidate", lambda tmp: contrastive(candidates=1, hard=0), ValueError, ["2 candidates", "candidates=1"]),
    ("more candidates than positions", lambda tmp: contrastive(candidates=100), ValueError, ["100 candidates", "100 positions", "lower `candidates` or raise `max_position`"]),
    ("only look-alikes", lambda tmp: contrastive(hard=4), ValueError, ["hard=4", "0..3"]),
    ("a share above 1", lambda tmp: contrastive(local=1.5), ValueError, ["[0, 1]", "1.5"]),
    ("look-alikes in a base under 2", lambda tmp: contrastive(base=1), ValueError, ["base", "at least 2", "got 1"]),
    ("look-alikes of nothing in a base under 2", lambda tmp: lookalikes(pos(7), 2, 100, base=1, generator=seeded()), ValueError, ["base", "at least 2", "got 1"]),
    ("sizes for another n", lambda tmp: contrastive(max_position=(100, 100)), ValueError, ["n=1", "(100, 100)"]),
    ("a space of one position", lambda tmp: contrastive(max_position=1), ValueError, ["at least 2", "got 1"]),
    ("more teachers than positions", lambda tmp: distillation(teachers=9), ValueError, ["9 teachers", "8 positions", "lower `teachers` or raise train_len"]),
    ("a sample without teachers", lambda tmp: distillation(teachers=0), ValueError, ["0 teachers", "8 positions"]),
    ("a training context beyond max_position", lambda tmp: distillation(max_position=7), ValueError, ["max_position (7,)", "training context (8,)"]),
    # encodings
    ("an unknown encoding", lambda tmp: encoding("rotary"), ValueError, ["'rotary'", CHOICES]),
    ("an option that RoPE does not have", lambda tmp: encoding("rope", scaled=True), TypeError, ["'rope'", "scaled", "base, pairing"]),
    ("an option that NoPE does not have", lambda tmp: encoding("none", base=2), TypeError, ["'none'", "base", "it has none"]),
    ("an unknown integration", lambda tmp: encoding("seqpe", integration="product"), ValueError, ["'product'", "sum, mul, bias"]),
    ("an unknown pairing", lambda tmp: encoding("rope", pairing="neox"), ValueError, ["'neox'", "interleaved, half"]),
    ("a RoPE base of 1", lambda tmp: encoding("rope", base=1), ValueError, ["base", "above 1", "got 1"]),
    ("a head of odd size under RoPE", lambda tmp: encoding("rope", d_model=6), ValueError, ["d_head=3", "even"]),
    ("sinusoidal vectors of odd size", lambda tmp: sinusoidal_vectors(pos(1), 5), ValueError, ["d_model=5", "divisible by 2"]),
    ("heads that do not divide", lambda tmp: encoding(heads=3), ValueError, ["3 heads", "d_model=8"]),
    ("no heads", lambda tmp: encoding(heads=0), ValueError, ["heads", "0"]),
    # model
    ("a context beyond max_position", lambda tmp: forward(length=17), ValueError, ["position 16", "max_position=16", "raise `max_position` or shorten eval_len"]),
    ("a start that shifts the context beyond max_position", lambda tmp: forward(start=13), ValueError, ["position 16", "max_position=16"]),
    ("a context that does not start at 0 or later", lambda tmp: forward(start=-2), ValueError, ["position -2", "negative", "start at 0"]),
    ("positions of tokens that are floats", lambda tmp: forward(positions=torch.arange(4.0).unsqueeze(-1)), TypeError, ["float32", "whole numbers"]),
    ("positions of tokens of another n", lambda tmp: forward("none", positions=nothing(4, 2).zero_()), ValueError, ["n=2", "n=1"]),
    ("fewer positions than tokens", lambda tmp: forward("none", positions=pos(0, 1, 2)), ValueError, ["3", "4"]),
    ("no tokens", lambda tmp: forward(length=0), ValueError, ["tokens", "(1, 0)"]),
    ("tokens that are floats", lambda tmp: model()(torch.zeros(1, 4)), ValueError, ["whole numbers (B, L)", "float32"]),
    ("tokens without a batch", lambda tmp: model()(TEXT[:4]), ValueError, ["(B, L)", "(4,)"]),
    ("generation beyond max_position", lambda tmp: generate(new=13), ValueError, ["position 16", "max_position=16"]),
    ("generation from a late start", lambda tmp: generate(start=11), ValueError, ["position 16", "max_position=16"]),
    ("generation without a prompt", lambda tmp: generate(length=0), ValueError, ["prompt", "0"]),
    ("generation of nothing", lambda tmp: generate(new=0), ValueError, ["at least one new token", "0"]),
    ("a negative temperature", lambda tmp: generate(temperature=-1.0), ValueError, ["temperature", "at least 0", "-1.0"]),
    ("sampling from the 0 likeliest", lambda tmp: generate(temperature=1.0, top_k=0), ValueError, ["top_k", "at least 1", "0"]),
    ("model heads that do not divide", lambda tmp: model(heads=3), ValueError, ["3 heads", "d_model=8"]),
    # evaluation
    ("an unknown protocol", lambda tmp: perplexity(model(), TEXT, 8, protocol="overlapping"), ValueError, ["'overlapping'", "non-overlapping, sliding"]),
    ("a stride of 0", lambda tmp: perplexity(model(), TEXT, 8, protocol="sliding", stride=0), ValueError, ["stride", "[1, 8]", "got 0"]),
    ("a stride beyond the length", lambda tmp: perplexity(model(), TEXT, 8, protocol="sliding", stride=9), ValueError, ["stride", "[1, 8]", "got 9"]),
    ("a text shorter than one chunk", lambda tmp: perplexity(model(), TEXT[:8], 8), ValueError, ["chunk of 8", "text of 8", "shorten the length"]),
    ("a context of 0", lambda tmp: perplexity(model(), TEXT, 0), ValueError, ["0 tokens", "shorten the length"]),
    ("evaluation beyond max_position", lambda tmp: perplexity(model(), TEXT, 17), ValueError, ["position 16", "max_position=16", "shorten eval_len"]),
    ("a text shorter than the longest length", lambda tmp: perplexity_by_length(model(), TEXT, [4, 20]), ValueError, ["20 tokens", "context of 20", "shorten eval_lens"]),
    # recipes
    ("an unknown scale", lambda tmp: language_model("seqpe", "huge"), ValueError, ["'huge'", "smoke, small, medium, full"]),
    ("an unknown method", lambda tmp: language_model("xpos", "smoke"), ValueError, ["'xpos'", "none, sinusoidal", "seqpe-no-losses"]),
    ("an unknown field", lambda tmp: smoke(learning_speed=1), ValueError, ["learning_speed", "learning_rate"]),
    ("a batch that micro_batch does not divide", lambda tmp: smoke(micro_batch=3), ValueError, ["micro_batch=3", "batch=8", "tokens per step stay fixed"]),
    ("recipe heads that do not divide", lambda tmp: smoke(heads=3), ValueError, ["3 heads", "d_model=32"]),
    ("an evaluation beyond max_position", lambda tmp: smoke(eval_lens=(32, 256)), ValueError, ["256", "max_position=160", "raise `max_position` or shorten eval_lens"]),
    ("no evaluation lengths", lambda tmp: smoke(eval_lens=()), ValueError, ["eval_lens", "at least one"]),
    ("an evaluation length of 0", lambda tmp: smoke(eval_lens=(0,)), ValueError, ["eval_lens", "at least 1 token", "(0,)"]),
    ("a negative number of test tokens", lambda tmp: smoke(eval_tokens=-5), ValueError, ["eval_tokens", "-5", "at least 0"]),
    ("training beyond max_position", lambda tmp: smoke(train_len=200), ValueError, ["max_position=160", "train_len=200", "raise"]),
    ("a max_position beyond the digits", lambda tmp: smoke(max_position=200_000), ValueError, ["max_position=200000", "k=5", "`digits`"]),
    ("more teachers than training positions", lambda tmp: smoke(teachers=33), ValueError, ["33 teachers", "32 training positions", "lower `teachers` or raise train_len"]),
    ("a negative loss weight", lambda tmp: smoke(alpha=-0.1), ValueError, ["at least 0", "alpha=-0.1"]),
    ("another negative loss weight", lambda tmp: smoke(beta=-1), ValueError, ["at least 0", "beta=-1"]),
    ("a loss weight that is no number", lambda tmp: smoke(beta=float("nan")), ValueError, ["at least 0", "beta=nan"]),
    ("a negative seed", lambda tmp: smoke(seed=-1), ValueError, ["seed", "at least 0", "-1"]),
    ("a seed beyond the generator's", lambda tmp: smoke(seed=2**70), ValueError, ["seed", str(2**70)]),
    ("half a step", lambda tmp: smoke(steps=1.5), ValueError, ["steps", "whole number", "1.5"]),
    ("no steps", lambda tmp: smoke(steps=0), ValueError, ["steps", "at least 1", "0"]),
    ("a share of shifted data above 1", lambda tmp: smoke(shifted=2), ValueError, ["shifted", "[0, 1]", "2"]),
    ("an unknown unit of shifts", lambda tmp: smoke(shift_unit="token"), ValueError, ["'token'", "sequence, batch"]),
    ("a dropout of 1", lambda tmp: smoke(dropout=1.0), ValueError, ["dropout", "[0, 1)", "1.0"]),
    ("a dropout that is a word", lambda tmp: smoke(dropout="much"), (TypeError, ValueError), ["dropout", "'much'"]),
    ("a learning rate of 0", lambda tmp: smoke(learning_rate=0), ValueError, ["learning_rate", "above 0", "0"]),
    ("an unknown precision", lambda tmp: full(precision="fp8"), ValueError, ["'fp8'", "bf16, fp32"]),
    ("a recipe with an unknown distillation form", lambda tmp: smoke(distillation_form="code"), ValueError, ["'code'", "paper, published"]),
    ("a recipe with an unknown encoding", lambda tmp: full(encoding="rotary"), ValueError, ["'rotary'", CHOICES]),
    ("a recipe that is no JSON", lambda tmp: Recipe.from_json("steps: 5"), ValueError, ["no recipe of this version"]),
    ("a recipe that is a list", lambda tmp: Recipe.from_json("[1]"), ValueError, ["no recipe of this version"]),
    # texts and tokenizers
    ("a file that is not there", lambda tmp: load_text(str(tmp / "no.txt")), FileNotFoundError, ["no.txt", ".txt, .raw or .parquet"]),
    ("an unknown source", lambda tmp: load_text("wikitext"), ValueError, ["'wikitext'", "'python', a path, or 'hub:NAME[:CONFIG]'"]),
    ("an empty name of a source", lambda tmp: load_text(""), ValueError, ["''", "'python', a path, or 'hub:NAME[:CONFIG]'"]),
    ("a file that is not UTF-8", lambda tmp: text(tmp, b"caf\xe9 " * 50), ValueError, ["text.txt", "not UTF-8", "byte 3", "convert"]),
    ("an empty file", lambda tmp: text(tmp, ""), ValueError, ["train split", "text.txt", "no text"]),
    ("a file of blanks", lambda tmp: text(tmp, " \n" * 100), ValueError, ["train split", "no text"]),
    ("a folder without texts", lambda tmp: load_text(str(tmp)), ValueError, [".txt, .raw or .parquet"]),
    ("a parquet file without text", lambda tmp: parquet(tmp, ["a"], column="words"), ValueError, ["rows.parquet", "no column 'text'", "only words"]),
    ("a parquet file of numbers", lambda tmp: parquet(tmp, [1, 2]), ValueError, ["rows.parquet", "'text'", "int64"]),
    ("a parquet file that is none", no_parquet, ValueError, ["rows.parquet", "parquet"]),
    ("an unreachable hub", lambda tmp: unreachable("hub:Salesforce/wikitext"), ConnectionError, ["Salesforce/wikitext", *HUB]),
    ("an unknown tokenizer", lambda tmp: text(tmp, "words " * 50, tokenizer="words"), ValueError, ["'words'", "'bytes', 'bpe:SIZE', 'gpt2', or the path of a tokenizer.json"]),
    ("a BPE smaller than its bytes", lambda tmp: text(tmp, "words " * 50, tokenizer="bpe:100"), ValueError, ["'bpe:100'", "at least 257", "'bpe:1024'"]),
    ("a BPE of no size", lambda tmp: text(tmp, "words " * 50, tokenizer="bpe:large"), ValueError, ["'bpe:large'", "at least 257"]),
    ("a tokenizer.json that is none", lambda tmp: tokenizer_file(tmp, "{}"), ValueError, ["tokenizer.json"]),
    # runs
    ("a folder that is no run", lambda tmp: Run.open(tmp), FileNotFoundError, ["is no run", "no recipe.json"]),
    ("a run of another version", of_another_version, ValueError, ["no recipe of this version", "a_field_of_tomorrow"]),
    ("a broken recipe", lambda tmp: recipe_file(tmp, "{"), ValueError, ["no recipe of this version"]),
    ("a folder that holds another run", other_recipe, ValueError, ["run of another recipe", "choose another folder or delete it"]),
    ("a broken checkpoint", broken_checkpoint, CheckpointError, ["step-0000002", "refused", "truncated or altered", "the previous one is step-0000001"]),
    ("a foreign checkpoint", foreign_checkpoint, CheckpointError, ["step-0000002", "refused", "another recipe", "no earlier one"]),
    ("a run without a checkpoint", lambda tmp: Run(smoke(), tmp).model_weights(), FileNotFoundError, ["no checkpoint", "train it first"]),
    ("results that were not committed", lambda tmp: committed_results("nothing"), ValueError, ["'nothing'", "there are"]),
    # measures, figures, lessons
    ("an unknown similarity", lambda tmp: geometry.similarity(torch.eye(2), kind="euclid"), ValueError, ["'euclid'", "dot, cosine"]),
    ("more neighbours than there are", lambda tmp: geometry.nearest_neighbours(torch.eye(3), count=3), ValueError, ["[1, 2]", "got 3"]),
    ("a shift beyond the vectors", lambda tmp: geometry.shift_cosine(torch.eye(3), 3), ValueError, ["[1, 2]", "got 3"]),
    ("a figure of nothing", lambda tmp: figures.extrapolation([], train_len=8), ValueError, ["no results"]),
    ("a table that the paper does not have", lambda tmp: paper_table(6), ValueError, ["'table6'", "table1", "table5"]),
    ("a part that the paper's table does not have", lambda tmp: paper_table(4, "audio"), ValueError, ["'table4-audio'", "table4-images"]),
    ("a prediction without a choice", lambda tmp: lesson.predict("?", ["a"]), ValueError, ["two choices", "['a']"]),
    ("a table of a vector", lambda tmp: lesson.tensor_table(torch.ones(3)), ValueError, ["matrix", "(3,)"]),
    # the command line: exit status 2 and one line
    ("no command", lambda tmp: cli(), Refused, ["command"]),
    ("an unknown command", lambda tmp: cli("fly"), Refused, ["fly", "train"]),
    ("an unknown task", lambda tmp: cli("train", "vit"), Refused, ["vit", "lm"]),
    ("an unknown scale on the command line", lambda tmp: cli("train", "lm", "--scale", "huge"), Refused, ["--scale", "huge", "smoke", "full"]),
    ("a seed that is a word", lambda tmp: cli("train", "lm", "--seed", "one"), Refused, ["--seed", "one"]),
    ("an unknown encoding on the command line", lambda tmp: cli("train", "lm", "--scale", "smoke", "--encoding", "rotary"), Refused, ["'rotary'", "none, sinusoidal"]),
    ("a negative seed on the command line", lambda tmp: cli("train", "lm", "--scale", "smoke", "--seed", "-1"), Refused, ["seed", "-1", "at least 0"]),
    ("a setting without a value", lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "steps"), Refused, ["FIELD=VALUE", "'steps'"]),
    ("a setting of no field", lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "speed=1"), Refused, ["speed", "steps"]),
    ("a setting of another type", lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "steps=many"), Refused, ["steps", "'many'", "whole number"]),
    ("a list that is none", lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "eval_lens=32"), Refused, ["eval_lens", "32"]),
    ("a setting that does not fit", lambda tmp: cli("train", "lm", "--scale", "smoke", "--set", "micro_batch=3"), Refused, ["micro_batch=3", "batch=8"]),
    ("a text that is not there", lambda tmp: cli("train", "lm", "--scale", "smoke", "--folder", tmp / "run", "--set", f"source={tmp}/no.txt"), Refused, ["no.txt"]),
    ("evaluating a folder that is no run", lambda tmp: cli("evaluate", tmp), Refused, ["is no run", "recipe.json"]),
    ("evaluating without lengths", lambda tmp: cli("evaluate", tmp, "--lengths", "many"), Refused, ["--lengths", "many"]),
    ("evaluating an unknown split", lambda tmp: cli("evaluate", tmp, "--split", "all"), Refused, ["--split", "all", "validation", "test"]),
    ("evaluating what was not trained", untrained, Refused, ["no checkpoint", "train it first"]),
]


def too_long(signum, frame):
    raise TimeoutError("5 s of computing and no answer")


@pytest.mark.parametrize("call, kind, fragments", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_refused_with_the_value_the_limit_and_the_remedy(call, kind, fragments, tmp_path, monkeypatch):
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
