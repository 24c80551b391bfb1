"""What any encoding may do: biases in blocks, hidden states, caches, masks, classes from files."""

import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seqpe_lab import ModelShape, PositionEncoding, attention, make_encoding, register
from seqpe_lab.attention import attend, positioned_attention, prepare
from seqpe_lab.course.style import COLOURS, style_of
from seqpe_lab.digits import grid
from seqpe_lab.encodings import encoding_class, option_names
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.pair_bias import bias_between, places
from seqpe_lab.recipes import image_model, language_model, question_answering

FILE = Path(__file__).parent / "outside_encoding.py"
OUTSIDE = f"{FILE}:Fading"
B, H, D = 2, 2, 8


@pytest.fixture(autouse=True)
def blocks_of_three(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 3)


class Ragged(PositionEncoding):
    """A bias of pairs and of content, with a parameter, which no shift leaves as it is."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.7, -0.4]))

    def content_bias(self, q, k, query_positions, key_positions, allowed, layer):
        i, j = query_positions.float().sum(-1), key_positions.float().sum(-1)  # (..., l), (..., L)
        pairs = (i.unsqueeze(-1) * 0.3 - j.unsqueeze(-2)).sin().unsqueeze(-3)
        return self.weight.view(-1, 1, 1) * pairs * q[..., :1] + k[..., 0].unsqueeze(-2)


def qkv(length, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, B, H, length, D)
    return [t.requires_grad_(requires_grad) for t in torch.randn(shape, generator=generator)]


def explicit(encoding, q, k, v, positions, allowed):
    """Softmax attention with the L x L matrix of biases."""
    bias = encoding.content_bias(q, k, positions, positions, allowed, 0)
    scores = q @ k.transpose(-1, -2) / D**0.5 + bias
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


POSITIONS = {  # (positions, tokens before them that have none)
    "n=1": (torch.arange(3, 10).unsqueeze(-1), 0),
    "n=1, each its own": (torch.stack([torch.arange(7), torch.arange(40, 47)]).unsqueeze(-1), 0),
    "n=2": (grid(2, 4), 0),
    "n=2 after [CLS]": (grid(2, 4), 1),
}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("positions, prefix", POSITIONS.values(), ids=POSITIONS)
def test_a_bias_in_blocks_is_the_matrix_in_value_and_gradient(positions, prefix, causal):
    encoding, length = Ragged(), prefix + positions.shape[-2]
    allowed = torch.ones(length, length, dtype=torch.bool)
    allowed = allowed.tril() if causal else allowed
    results = []
    for in_blocks in (True, False):
        q, k, v = qkv(length, requires_grad=True)
        if in_blocks:
            prepared = prepare(encoding, positions)
            out, _ = positioned_attention(encoding, prepared, 0, q, q, k, v, causal=causal)
        else:
            inner = encoding.content_bias(
                q[:, :, prefix:], k[:, :, prefix:], positions, positions, allowed, 0
            )
            bias = F.pad(inner, (prefix, 0, prefix, 0))
            scores = q @ k.transpose(-1, -2) / D**0.5 + bias
            out = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        gradients = torch.autograd.grad(out.square().sum(), [q, k, v, encoding.weight])
        results.append([out, *gradients])
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_masks_of_padding_and_of_packed_texts_are_applied_to_blocks():
    positions, (q, k, v) = torch.arange(7).unsqueeze(-1), qkv(7)
    texts = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [9, 9, 0, 0, 0, 1, 1]])  # 9: padding, on the left
    mask = (texts.unsqueeze(-1) == texts.unsqueeze(-2)) & (texts != 9).unsqueeze(-2)
    mask = mask.unsqueeze(1)  # (B, 1, L, L)
    encoding = Ragged()
    out, _ = positioned_attention(encoding, prepare(encoding, positions), 0, q, q, k, v, mask=mask)
    allowed = mask & torch.ones(7, 7, dtype=torch.bool).tril()
    expected = explicit(encoding, q, k, v, positions, allowed).nan_to_num()  # padding sees nothing
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    keys = mask[:, :, -1:]  # the same for all queries
    plain, rows = attend(q, k, v, mask=keys), keys.expand(-1, -1, 7, -1)
    torch.testing.assert_close(plain[:, :, 5:], attend(q, k, v, mask=rows)[:, :, 5:])
    scores = (q @ k.transpose(-1, -2) / D**0.5).masked_fill(
        ~(rows & allowed.new_ones(7, 7).tril()), -torch.inf
    )
    torch.testing.assert_close(plain[:, :, 5:], (scores.softmax(-1) @ v)[:, :, 5:])


def test_between_forward_and_backward_nothing_of_the_size_of_the_matrix_is_kept(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 64)
    length, kept = 512, []

    class Watched(Ragged):
        def content_bias(self, *arguments):
            bias = super().content_bias(*arguments)
            kept.extend(weakref.ref(t) for t in (bias, arguments[-2]))  # and the allowed keys
            return bias

    q, k, v = qkv(length, requires_grad=True)
    encoding = Watched()
    out, _ = positioned_attention(encoding, prepare(encoding, grid(length)), 0, q, q, k, v)
    assert len(kept) == 2 * 8 and not [t.shape for t in (ref() for ref in kept) if t is not None]
    out.sum().backward()
    assert len(kept) == 2 * 2 * 8


@pytest.mark.parametrize("each_its_own", [False, True])
def test_a_cache_holds_the_positions_of_its_keys(each_its_own):
    positions, (q, k, v) = torch.arange(7).unsqueeze(-1), qkv(7)
    if each_its_own:
        positions = torch.stack([positions, 3 * positions])
    encoding, past, outs = Ragged(), None, []
    whole, _ = positioned_attention(encoding, prepare(encoding, positions), 0, q, q, k, v)
    for part in (slice(0, 2), slice(2, 6), slice(6, 7)):
        new = [x[:, :, part] for x in (q, k, v)]
        prepared = prepare(encoding, positions[..., part, :])
        out, past = positioned_attention(encoding, prepared, 0, new[0], *new, past)
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, -2), whole, atol=1e-5, rtol=1e-5)


def test_dropout_drops_the_same_weights_in_the_backward_pass():
    """Else the gradient would be that of another function than the output's."""
    positions, encoding = torch.arange(7).unsqueeze(-1), Ragged()
    q, k, v = qkv(7, requires_grad=True)
    torch.manual_seed(0)
    out, _ = positioned_attention(
        encoding, prepare(encoding, positions), 0, q, q, k, v, dropout=0.5
    )
    (gradient,) = torch.autograd.grad(out.sum(), v)
    torch.testing.assert_close((gradient * v).sum(), out.sum())  # out is linear in v


def test_scores_with_a_bias_are_float32_at_least():
    """A bias of -300 and its neighbours would be one number in bfloat16."""

    class Steep(PositionEncoding):
        def bias(self, query_positions, key_positions, layer):
            return 0.1 * key_positions.T.float() - 300 + torch.zeros(H, len(query_positions), 1)

    positions, encoding = torch.arange(40).unsqueeze(-1), Steep()
    q, k, v = (x.bfloat16() for x in qkv(40))
    out, _ = positioned_attention(encoding, prepare(encoding, positions), 0, q, 0 * q, k, v)
    weights = (0.1 * torch.arange(40.0)).expand(40, 40).clone()
    weights = weights.masked_fill(~torch.ones(40, 40).tril().bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(out.float(), weights @ v.float(), atol=1e-2, rtol=1e-2)


def test_a_bias_that_returns_nothing_is_named():
    class Empty(PositionEncoding):
        def bias(self, query_positions, key_positions, layer):
            query_positions - key_positions.T

    with pytest.raises(TypeError, match="Empty.bias returned None: return scores"):
        positioned_attention(Empty(), prepare(Empty(), grid(7)), 0, *qkv(7)[:1], *qkv(7))


def test_a_bias_without_positions_is_refused_rather_than_left_out():
    q, k, v = qkv(7)
    with pytest.raises(TypeError, match="Ragged adds a bias, which needs the positions: prepare"):
        positioned_attention(Ragged(), Ragged().prepare(grid(7)), 0, q, q, k, v)


def test_encodings_without_a_bias_are_not_asked_for_one(variant):
    name, options = variant
    encoding = make_encoding(name, d_model=H * D, heads=H, layers=1, train_shape=16, **options)
    assert not encoding.adds_bias
    assert type(prepare(encoding, grid(5))) is type(encoding.prepare(grid(5)))


# --- an encoding outside the package -------------------------------------------------------------


def test_the_encoding_outside_has_forty_lines():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 40


def test_an_encoding_is_found_by_module_or_file(monkeypatch, tmp_path):
    by_file = encoding_class(OUTSIDE)
    assert encoding_class(OUTSIDE) is by_file and by_file.__name__ == "Fading"
    monkeypatch.chdir(FILE.parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(FILE.parent))])
    before = list(sys.path)
    assert encoding_class("outside_encoding:Fading").__name__ == "Fading"
    assert sys.path == before
    copy = tmp_path / "mine.py"
    copy.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    first = encoding_class(f"{copy}:Fading")
    copy.write_text(FILE.read_text(encoding="utf-8") + "\n\nNEW = 1\n", encoding="utf-8")
    assert encoding_class(f"{copy}:Fading") is not first, "a changed file"


WRONG = {
    "no_such_module:Mine": "no module 'no_such_module' here or where Python looks",
    "seqpe_lab.nothing:Mine": "no module 'seqpe_lab.nothing' here",
    "nowhere/mine.py:Mine": "no file nowhere/mine.py in .*: check the path",
    f"{FILE}:Fadin": "outside_encoding.py has no class 'Fadin'",
    "seqpe_lab:": "names no module: write package.module:Class",
    ":Mine": "names no module",
    ".mine:Mine": "names no module",
    "fractions:Fraction": "is no subclass of PositionEncoding",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_class_that_is_not_there_is_refused(name):
    with pytest.raises((ValueError, TypeError), match=WRONG[name]):
        language_model(name, "smoke")


def test_a_missing_import_of_the_users_own_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "needs_much.py").write_text("import not_installed_here\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
        encoding_class("needs_much:Mine")


def test_an_unknown_method_is_told_what_there_is():
    with pytest.raises(
        ValueError, match="choose from none, .*other encodings: .*t5, .*file.py:Class"
    ):
        language_model("rotary", "smoke")


def test_methods_are_rows_encodings_or_classes():
    named = language_model(OUTSIDE, "smoke", encoding_options={"strength": 2.0})
    assert (named.method, named.encoding, named.alpha) == ("Fading", OUTSIDE, 0.0)
    assert named == language_model(
        "seqpe", "smoke", encoding=OUTSIDE, encoding_options={"strength": 2.0}
    )
    assert language_model("rope", "smoke").encoding == "rope"
    assert image_model(OUTSIDE, "smoke").method == "Fading"
    tuned = question_answering(OUTSIDE, "smoke")
    assert tuned.method == "Fading" and tuned.base.startswith("smoke/Fading-seed0-")
    with pytest.raises(ValueError, match="has no option bse: it has strength"):
        language_model(OUTSIDE, "smoke", encoding_options={"bse": 1})


def test_it_has_a_colour_of_its_own():
    name, colour, _, _ = style_of("Fading")
    assert name == "Fading" and colour not in COLOURS and style_of("Falling")[1] != colour


@pytest.mark.parametrize("kind", ["text", "image"])
def test_it_trains_and_evaluates_from_the_command_line(kind, tmp_path, capsys):
    from seqpe_lab.cli import main

    task = {"text": "lm", "image": "image"}[kind]
    folder = tmp_path / "run"
    command = (
        f"train {task} --encoding {OUTSIDE} --scale smoke --cpu --folder {folder} --set steps=2"
    )
    assert main(command.split()) == 0, capsys.readouterr().err
    assert main(["evaluate", str(folder), "--cpu"]) == 0, capsys.readouterr().err
    assert "smoke" in (folder / "recipe.json").read_text(encoding="utf-8")


def test_it_generates_the_same_with_and_without_a_cache():
    torch.manual_seed(0)
    model = GPT2(GPT2Config(23, 16, 2, 2, 8, 100, 0.0, OUTSIDE, {"strength": 1.5})).eval()
    prompt = torch.randint(23, (2, 5))
    assert torch.equal(model.generate(prompt, 6), model.generate(prompt, 6, use_cache=False))
    shifted = model(prompt, start=50)
    torch.testing.assert_close(model(prompt), shifted)
    model.encoding.strength.data.zero_()
    assert not torch.allclose(model(prompt), shifted)


def test_the_attention_explorer_counts_a_bias_as_the_position_part():
    from seqpe_lab.explorers.attention_parts import split

    model = GPT2(GPT2Config(23, 16, 2, 2, 8, 100, 0.0, OUTSIDE, {"strength": 1.5})).eval()
    for mood in model.encoding.mood:
        torch.nn.init.zeros_(mood.weight), torch.nn.init.zeros_(mood.bias)
    parts = split(model, torch.randint(23, (1, 7)), start=4, layer=1)
    i = torch.arange(7)
    expected = -1.5 * (i.unsqueeze(-1) - i).abs().double().log1p().expand(H, 7, 7)
    torch.testing.assert_close(torch.from_numpy(parts.position), expected, atol=1e-5, rtol=1e-5)


def test_a_name_is_not_registered_that_would_be_read_as_a_place():
    with pytest.raises(ValueError, match="'my:own' would be read as module:Class"):
        register("my:own")(Ragged)


def test_bias_between_covers_cached_keys():
    encoding, (q, k, _) = Ragged(), qkv(7)
    keys, last = places(grid(7)), places(grid(7)[4:])
    whole = bias_between(encoding, 0, keys, keys, 7)(q, k, 0, None)
    later = bias_between(encoding, 0, last, keys, 7)(q[:, :, 4:], k, 0, None)
    torch.testing.assert_close(later, whole[:, :, 4:])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", POSITIONS)
@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_flexattention_adds_the_same_bias(case, causal):
    """In its slow form, which runs on a CPU; tests/test_gpu.py has the compiled one."""
    positions, prefix = POSITIONS[case]
    length = prefix + positions.shape[-2]
    encoding = encoding_class(OUTSIDE)(H, 1, D, strength=0.7)
    q, k, v = qkv(length)
    where = places(positions)
    bias = bias_between(encoding, 0, where, where, length)
    mask = torch.rand(B, 1, length, length) < 0.8
    mask[..., 0] = True
    for hidden in (None, mask):
        expected = attend(q, k, v, causal=causal, mask=hidden, bias=bias)
        out = attention._in_flex(q, k, v, causal, hidden, bias, D**-0.5)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    later = bias_between(encoding, 0, where.cut(4 - prefix, length - prefix), where, length)
    if not prefix:  # after a cache
        expected = attend(q[:, :, 4:], k, v, bias=later)
        out = attention._in_flex(q[:, :, 4:], k, v, True, None, later, D**-0.5)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


class ByName(PositionEncoding):
    """Takes values of the model's shape by their names, and has no ``for_model`` of its own."""

    sequences_only = "it counts tokens"

    def __init__(self, shape, heads, train_shape, strength=0.5):
        super().__init__()
        self.given = shape, heads, train_shape, strength


def test_parameters_called_like_values_of_the_shape_get_them_and_the_others_are_options():
    shape = ModelShape(8, heads=2, layers=3, train_shape=(5,))
    assert ByName.for_model(shape, strength=2.0).given == (shape, 2, (5,), 2.0)
    assert option_names(ByName) == {"strength"}


@pytest.mark.parametrize("train_shape, prefix", [((5, 5), 0), ((5,), 1)])
def test_an_encoding_of_sequences_takes_no_grid_and_no_token_without_position(train_shape, prefix):
    shape = ModelShape(8, heads=2, layers=3, train_shape=train_shape, prefix=prefix)
    with pytest.raises(ValueError, match=f"it counts tokens, got n={shape.dims} and {prefix} tok"):
        ByName.for_model(shape)
