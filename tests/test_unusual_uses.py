"""What a researcher does to a model of their own: other precisions, copies, compilers, classes."""

import copy
import io
import warnings
from functools import partial

import pytest
import torch
from own_encoding import Ramp
from torch.nn.utils import parametrize

from seqpe_lab import PositionEncoder, PositionRegularizer, make_encoding
from seqpe_lab.digits import from_digits, grid, grid_row, to_digits
from seqpe_lab.encodings import ENCODINGS, register
from seqpe_lab.lookalikes import lookalikes
from seqpe_lab.losses import contrastive_loss
from seqpe_lab.models.output_layer import nats_of_targets, next_token_loss
from seqpe_lab.objective import Objective, build_model
from seqpe_lab.position_table import PositionTable
from seqpe_lab.recipes import IMAGE_METHODS, METHODS, image_model, language_model
from seqpe_lab.regularizer import encode_together

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32]
OF_TEXT = torch.randint(23, (2, 9), generator=torch.Generator().manual_seed(1))
OF_IMAGES = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["text", "image"])
def kind(request):
    return request.param


@pytest.fixture
def own():
    """The encoding of own_encoding.py, known as "ramp" for the length of a test."""
    register("ramp")(Ramp)
    yield Ramp
    del ENCODINGS["ramp"]


@pytest.fixture
def each(kind, tiny_model, tiny_vit):
    """each(): (name, make, batch) for every encoding of a kind of model."""
    from conftest import IMAGE_VARIANTS, VARIANTS

    variants, make, batch = {
        "text": (VARIANTS, tiny_model, OF_TEXT),
        "image": (IMAGE_VARIANTS, tiny_vit, OF_IMAGES),
    }[kind]

    def walk():
        for name, (encoding, options) in variants.items():
            yield name, partial(make, encoding, options), batch

    return walk


def equal(a, b, name, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4, msg=lambda text: f"{name}: {text}")


def backward(model, batch):
    model.train()(batch).float().square().mean().backward()
    model.eval()


# --- modes, precisions, copies -------------------------------------------------------------------


def test_inference_mode_leaves_a_model_that_trains(each):
    for name, make, batch in each():
        model = make()
        expected = model(batch).detach()
        with torch.inference_mode():
            equal(model(batch).clone(), expected, name)
        backward(model, batch)
        with torch.no_grad():
            equal(model(batch), expected, name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_in_another_precision_computes_in_it(each, dtype):
    for name, make, batch in each():
        model = make().to(dtype)
        batch = batch.to(dtype) if batch.is_floating_point() else batch
        logits = model(batch)
        with torch.no_grad():
            looked_up = model(batch)
        assert logits.dtype == looked_up.dtype == dtype, name
        coarse = 4 * torch.finfo(dtype).eps * float(logits.detach().abs().max())
        equal(looked_up, logits.detach(), name, atol=max(1e-5, coarse))
        backward(model, batch)
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None), name


def test_a_copy_made_after_use_goes_its_own_way(each):
    for name, make, batch in each():
        model = make()
        with torch.no_grad():
            before = model(batch)
        twin = copy.deepcopy(model)
        backward(model, batch)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data.mul_(1.3)
            assert not torch.allclose(model(batch), before), name
            equal(twin(batch), before, name)
            equal(copy.deepcopy(model)(batch), model(batch), name)


@pytest.mark.parametrize("assign", [False, True])
def test_a_model_built_on_no_device_takes_its_weights(each, assign):
    for name, make, batch in each():
        model = make()
        with torch.device("meta"):
            empty = make()
        if not assign:
            empty = empty.to_empty(device="cpu")
        empty.load_state_dict(model.state_dict(), assign=assign)
        with torch.no_grad():
            equal(empty.eval()(batch), model(batch), name)


def test_weights_go_through_a_file_of_weights_only(each):
    for name, make, batch in each():
        model, file = make(), io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        twin = make()
        for parameter in twin.parameters():
            parameter.data.zero_()
        twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
        with torch.no_grad():
            equal(twin(batch), model(batch), name)


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("options", [{}, {"architecture": "gru"}])
def test_a_table_sees_a_parametrization_and_its_changes(options):
    """The numbers in the parameters are the same before and after; their names are not."""
    encoder = PositionEncoder(16, digits=3, heads=2, **options)
    table = PositionTable(encoder)
    old = table(grid(40))
    parametrize.register_parametrization(encoder.token, "weight", Doubled())
    assert not torch.allclose(table(grid(40)), old)
    equal(table(grid(40)), encoder(grid(40)).detach(), "parametrized")
    encoder.token.parametrizations.weight.original.data.mul_(1.5)
    equal(table(grid(40)), encoder(grid(40)).detach(), "changed")


def test_a_table_sees_a_changed_buffer():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.ones(()))

        def forward(self, weight):
            return self.factor * weight

    encoder = PositionEncoder(16, digits=3, heads=2)
    parametrize.register_parametrization(encoder.out, "weight", Scaled())
    table = PositionTable(encoder)
    old = table(grid(40))
    encoder.out.parametrizations.weight[0].factor.fill_(3.0)
    assert not torch.allclose(table(grid(40)), old)


# --- torch.compile -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rope", "seqpe-bias"])
def test_a_compiled_model_computes_the_same(tiny_model, name):
    from conftest import VARIANTS

    torch._dynamo.reset()
    model = tiny_model(*VARIANTS[name])
    compiled = torch.compile(model, backend="eager")
    for length in (5, 9):
        tokens = torch.randint(23, (2, length))
        equal(compiled(tokens), model(tokens), f"{length} tokens, with gradient")
        with torch.no_grad():
            equal(compiled(tokens), model(tokens), f"{length} tokens")
    for parameter in model.parameters():
        parameter.data.mul_(1.2)
    with torch.no_grad():
        equal(compiled(tokens), model(tokens), "changed weights")


@pytest.mark.parametrize(
    "recipe",
    [
        *(language_model(m, "smoke") for m in METHODS),
        *(image_model(m, "smoke") for m in IMAGE_METHODS),
    ],
    ids=[*METHODS, *(f"image-{m}" for m in IMAGE_METHODS)],
)
def test_the_layers_of_a_training_step_are_one_graph(recipe):
    """No check, no choice of positions and no loss interrupts them."""
    recipe = recipe.changed(shifted=0.5) if recipe.encoding == "seqpe" else recipe
    graphs = []
    model = build_model(recipe, 10)
    model.run_layers = torch.compile(
        model.run_layers, backend=lambda graph, _: graphs.append(graph) or graph
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    objective = Objective(model, recipe)
    size = recipe.micro_batch
    batch = torch.zeros(size, recipe.train_shape[0] + 1, dtype=torch.long)
    if recipe.task == "image":
        side = recipe.image_size
        batch = torch.zeros(size, 1, side, side), torch.zeros(size, dtype=torch.long)
    for step in range(3):
        objective(batch, step)["loss"].backward()
    assert len(graphs) == 1 and not torch._dynamo.utils.counters["graph_break"]


def test_the_encoder_stays_outside_a_compiled_graph():
    """Its graphs would be cut to pieces and made anew for other positions."""
    torch._dynamo.reset()
    encoder = PositionEncoder(16, digits=3, heads=2)
    compiled, graphs = [], []
    compiled = torch.compile(encoder, backend=lambda graph, _: graphs.append(graph) or graph)
    for count in (7, 30, 250):
        equal(compiled(grid(count)), encoder(grid(count)), f"{count} positions")
    compiled(grid(9)).sum().backward()
    assert not graphs and encoder.token.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="k=3"):
        compiled(torch.tensor([[1_000]]))


# --- integers of any width -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_tokens_and_positions_may_be_integers_of_any_width(each, kind, dtype):
    for name, make, batch in each():
        model = make()
        if kind == "text":
            positions, given = torch.arange(110, 119).unsqueeze(-1), batch.to(dtype)
        else:
            positions, given = grid(4, 3) + (0 if name == "learned" else 20), batch
        expected = model(batch, positions=positions)
        equal(model(given, positions=positions.to(dtype)), expected, name)
        several = positions.to(dtype).expand(2, *positions.shape)
        equal(model(given, positions=several), expected, name)
        with torch.no_grad():
            equal(model(given, positions=several), expected.detach(), name)


@pytest.mark.parametrize("name", ["alibi", "learned", "rope", "seqpe", "sinusoidal"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_encodings_take_them_without_a_model(name, dtype):
    options = {"digits": 3} if name == "seqpe" else {}
    encoding = make_encoding(name, d_model=16, heads=2, layers=1, train_shape=128, **options)
    positions, x = torch.arange(100, 120).unsqueeze(-1), torch.zeros(1, 20, 16)
    for given in (positions, positions.to(dtype)):
        q = torch.ones(1, 2, 20, 8)
        transformed = encoding.transform(q, q, encoding.prepare(given), 0)
        results = (encoding.embed(x, given, 120), *transformed)
        if given is positions:
            expected = results
    for a, b in zip(results, expected):
        equal(a, b, name)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_targets_labels_and_grids_may_be_integers_of_any_width(dtype):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 8, generator=generator) for n in (9, 23))
    tokens, positions = OF_TEXT[0], grid(50, 3)
    for loss in (next_token_loss, nats_of_targets):
        assert torch.equal(loss(hidden, weight, tokens.to(dtype)), loss(hidden, weight, tokens))
    label = torch.tensor([2, 0, 1])
    vectors = hidden[:3], weight[:9].view(3, 3, 8)
    expected = contrastive_loss(*vectors, label)
    assert torch.equal(contrastive_loss(*vectors, label.to(dtype)), expected)
    assert grid_row(positions.to(dtype), (50, 3)).tolist() == list(range(150))
    assert torch.equal(from_digits(to_digits(positions, 2).to(dtype), dims=2), positions)
    seen = [
        lookalikes(p, 4, 1_000, generator=torch.Generator().manual_seed(0))
        for p in (positions, positions.to(dtype))
    ]
    assert torch.equal(*seen)


# --- generation ----------------------------------------------------------------------------------


def test_generation_is_the_same_with_and_without_a_cache_anywhere(tiny_model, variant):
    model = tiny_model(*variant)
    prompt = OF_TEXT[:, :4]
    for options in ({}, {"start": 50}, {"context_len": 60}):
        text = model.generate(prompt, 8, **options)
        assert torch.equal(model.generate(prompt.to(torch.uint8), 8, **options), text)
        assert torch.equal(model.generate(prompt, 8, use_cache=False, **options), text)
    cache = []
    first = model.generate(prompt, 3, cache=cache, context_len=60)
    rest = model.generate(first[:, -1:], 5, cache=cache, context_len=60)
    assert torch.equal(torch.cat([first, rest[:, 1:]], 1), text)


def test_generation_after_a_change_through_data_is_of_the_new_weights(tiny_model):
    model, prompt = tiny_model("seqpe", {"digits": 3}), OF_TEXT[:, :4]
    model.generate(prompt, 8)
    for parameter in model.encoding.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    twin = copy.deepcopy(model)
    twin.encoding.table = PositionTable(twin.encoding.encoder)
    cache, fresh = [], []
    assert torch.equal(
        model.generate(prompt, 8, cache=cache), twin.generate(prompt, 8, cache=fresh)
    )
    equal(cache[1][0], fresh[1][0], "keys with their positions")


def test_generation_compares_the_weights_once(tiny_model, monkeypatch):
    model, calls = tiny_model("seqpe", {"digits": 3}), []
    is_fresh = PositionTable._is_fresh
    monkeypatch.setattr(PositionTable, "_is_fresh", lambda t: calls.append(1) or is_fresh(t))
    model.generate(OF_TEXT, 20)
    assert len(calls) == 1


@pytest.mark.parametrize("temperature", [1e-45, 1e-30])
def test_the_coldest_sampling_is_greedy(tiny_model, temperature):
    model = tiny_model("rope")
    assert torch.equal(
        model.generate(OF_TEXT, 6, temperature=temperature), model.generate(OF_TEXT, 6)
    )


# --- the regularizer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dims, train_shape, max_position",
    [(1, 64, 900), (1, (64,), 900), (2, 6, 90), (2, (4, 8), (60, 90))],
)
def test_a_regularizer_reaches_every_parameter_of_its_encoder(dims, train_shape, max_position):
    encoder = PositionEncoder(16, digits=3, heads=2, dims=dims)
    regularizer = PositionRegularizer(
        encoder, train_shape, max_position, candidates=8, hard=2, teachers=8
    )
    assert regularizer.positions(0, batch=3, shifted=1.0).shape[-1] == dims
    loss = regularizer(3)
    assert torch.equal(loss, regularizer(3)) and not torch.equal(loss, regularizer(4))
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(regularizer(3), loss)


def test_a_regularizer_encodes_what_training_encodes_for_its_losses(tiny_recipe, monkeypatch):
    """As many positions, in one call: a step of either costs the same."""
    from seqpe_lab import regularizer as module
    from seqpe_lab.objective import build_model, regularizer_of

    recipe = tiny_recipe()
    regularizer, counts = regularizer_of(build_model(recipe, 256), recipe), []
    monkeypatch.setattr(
        module,
        "encode_together",
        lambda e, parts: (
            counts.append(sum(p[..., 0].numel() for p in parts)) or encode_together(e, parts)
        ),
    )
    regularizer(0)
    contrastive = recipe.pivots * (1 + recipe.candidates)
    assert counts == [contrastive + 2 * recipe.distillation_batch * recipe.teachers]


# --- an encoding of one's own --------------------------------------------------------------------


def test_an_encoding_of_ones_own_works_in_both_models(own, tiny_model, tiny_vit):
    for model, batch in (
        (tiny_model("ramp", {"strength": 2.0}), OF_TEXT),
        (tiny_vit("ramp", {"curve": "root"}), OF_IMAGES),
    ):
        plain = model(batch)
        model.encoding.strength = 0.0
        assert not torch.allclose(model(batch), plain)
        backward(model, batch)
        assert model.encoding.direction.grad is not None
    model = tiny_model("ramp")
    assert torch.equal(model.generate(OF_TEXT, 5), model.generate(OF_TEXT, 5, use_cache=False))


@pytest.mark.parametrize("maker", ["text", "image"])
def test_an_encoding_of_ones_own_trains_by_a_recipe(
    own, maker, tmp_path, tiny_recipe, tiny_image_recipe
):
    from seqpe_lab.evaluation import evaluate_run
    from seqpe_lab.training import train

    make = {"text": tiny_recipe, "image": tiny_image_recipe}[maker]
    recipe = make(encoding="ramp", steps=3)
    assert (recipe.method, recipe.encoding_options, recipe.alpha) == ("ramp", {}, 0.0)
    other = make(encoding="ramp", encoding_options={"strength": 0.5})
    assert other.encoding_options == {"strength": 0.5} and other.digest() != recipe.digest()
    run = train(recipe, tmp_path / "run", cpu=True, progress=False)
    assert run.results()["method"] == "ramp"
    assert list(evaluate_run(run, cpu=True))
    del ENCODINGS["ramp"]  # as in another program, which does not import the class
    with pytest.raises(ValueError, match="registered in the same program"):
        type(run)(recipe, tmp_path / "run").open(tmp_path / "run")
    register("ramp")(own)


@pytest.mark.parametrize("make", [language_model, image_model])
def test_another_encoding_than_the_methods_goes_by_its_own_name(make):
    """Else a run with RoPE would stand among those of SeqPE, with options that it has not."""
    recipe = make(encoding="rope", scale="smoke")
    assert (recipe.method, recipe.encoding_options) == ("rope", {})
    recipe = make(scale="smoke", encoding="seqpe")
    assert recipe.method in ("seqpe", "seqpe-mul") and recipe == make(scale="smoke")


def test_importing_the_package_warns_of_nothing():
    import subprocess
    import sys

    command = "from seqpe_lab import *; import seqpe_lab.models.gpt2; print(SeqPE.__name__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", command], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "SeqPE\n", done.stderr


def test_nothing_here_warns(each):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, make, batch in each():
            backward(make(), batch)
