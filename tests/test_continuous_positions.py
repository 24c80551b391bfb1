"""Other ways from a position to a vector: FLOATER's flow, other digit orders, real positions."""

import copy

import pytest
import torch

from seqpe_lab import PositionEncoder, PositionRegularizer
from seqpe_lab.digits import grid
from seqpe_lab.encodings import FlowEncoder, make_encoding
from seqpe_lab.position_table import PositionTable


def seeded(make, *arguments, **options):
    torch.manual_seed(0)
    module = make(*arguments, **options)
    with torch.no_grad():  # large enough for positions to differ
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    return module


# --- FLOATER ------------------------------------------------------------------------------------


def finer(flow: FlowEncoder, last: int, parts: int = 32):
    """p(0), ..., p(last) by the midpoint rule with many small steps, in float64."""
    p, states = flow.start, [flow.start]
    first, second = flow.h[0], flow.h[2]

    def h(t, p):
        hidden = first.weight[:, :-1] @ p + first.weight[:, -1] * t + first.bias
        return second.weight @ hidden.tanh() + second.bias

    small = flow.step / parts
    for i in range(last * parts):
        t = i * small
        p = p + small * h(t + small / 2, p + small / 2 * h(t, p))
        states += [p] if (i + 1) % parts == 0 else []
    return torch.stack(states)


def test_the_flow_solves_its_equation_forward_and_backward():
    torch.manual_seed(0)
    flow = FlowEncoder(6)
    exact = copy.deepcopy(flow).double()
    weights = torch.randn(9, 6)
    ours, theirs = flow(torch.arange(9).unsqueeze(-1)), finer(exact, 8)
    torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad((ours * weights).sum(), list(flow.parameters()))
    expected = torch.autograd.grad((theirs * weights).sum(), list(exact.parameters()))
    for a, b in zip(gradients, expected):
        torch.testing.assert_close(a, b.float(), atol=1e-5, rtol=1e-5)


def test_the_flow_equals_torchdiffeq():
    odeint = pytest.importorskip("torchdiffeq", reason="needs torchdiffeq").odeint
    torch.manual_seed(0)
    flow = FlowEncoder(6)
    times = torch.arange(9) * flow.step
    theirs = odeint(
        lambda t, p: flow.h(torch.cat([p, t.view(1)])), flow.start, times, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(flow(torch.arange(9).unsqueeze(-1)), theirs, atol=1e-5, rtol=1e-5)


def test_a_table_holds_the_flow_and_sees_a_change():
    flow, positions = FlowEncoder(4), torch.tensor([[7], [3]])
    table = PositionTable(flow)
    torch.testing.assert_close(table(positions), flow(positions).detach())
    assert len(table) == 8
    flow.start.data += 1.0
    torch.testing.assert_close(table(positions), flow(positions).detach())


def test_the_flow_does_not_depend_on_autocast():
    encoding = make_encoding("floater", d_model=16, heads=2, layers=2, train_shape=16)
    positions = torch.arange(40).unsqueeze(-1)
    plain = encoding.prepare(positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoding.prepare(positions)
    assert all(torch.equal(a, b) for layer in zip(plain, low) for a, b in zip(*layer))


# --- the digits of an encoder -------------------------------------------------------------------

WRITTEN = {  # options -> how a position is written, without the point
    "as in the paper": ({}, lambda p: f"{p:03.0f}"),
    "from the last digit": ({"least_first": True}, lambda p: f"{p:03.0f}"[::-1]),
    "with a decimal": ({"decimals": 1}, lambda p: f"{p:05.1f}".replace(".", "")),
    "both": ({"decimals": 2, "least_first": True}, lambda p: f"{p:06.2f}".replace(".", "")[::-1]),
}


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("case", WRITTEN)
def test_an_encoder_reads_the_digits_as_they_are_written(case, dims, architecture):
    """Each sequence written out and encoded on its own, with the encoder's own layers."""
    options, write = WRITTEN[case]
    shape = {"digits": 3, "dims": dims, "heads": 2, "architecture": architecture}
    encoder = seeded(PositionEncoder, 8, **shape, **options)
    generator = torch.Generator().manual_seed(0)
    positions = torch.randint(1_000, (30, dims), generator=generator)
    positions[1] = positions[0]
    if encoder.decimals:
        positions = positions.double() / 2  # some whole, some not
    sequences = torch.tensor(
        [[int(c) for p in row for c in write(p)] + [10] for row in positions.tolist()]
    )
    expected = encoder.out(encoder.ln_f(encoder.encode_whole(sequences)))
    ours = encoder(positions)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    places = encoder.place.weight
    of_ours, of_theirs = (
        torch.autograd.grad((x * weights).sum(), places)[0] for x in (ours, expected)
    )
    torch.testing.assert_close(of_ours, of_theirs, atol=1e-4, rtol=1e-4)


def test_real_positions_are_rounded_to_the_last_digit_and_whole_ones_are_among_them():
    encoder = seeded(PositionEncoder, 8, digits=2, decimals=1, heads=2)
    real = encoder(torch.tensor([[7.0], [7.04], [7.06], [7.1]]))
    torch.testing.assert_close(real[[0, 2]], real[[1, 3]])
    assert (real[0] - real[2]).abs().max() > 1e-3
    torch.testing.assert_close(encoder(torch.tensor([[7]])), real[:1])
    torch.testing.assert_close(encoder.table(8)[7], real[0])


@pytest.mark.parametrize("dims", [1, 2])
def test_the_losses_see_real_positions(dims):
    encoder = seeded(PositionEncoder, 8, digits=2, decimals=1, dims=dims, heads=2)
    regularizer = PositionRegularizer(encoder, train_shape=8, max_position=40, hard=2)
    samples = regularizer.sample(torch.Generator().manual_seed(0))
    for positions in samples.positions():
        assert 0 <= positions.min() and positions.max() < 40
        assert (positions % 1 != 0).float().mean() > 0.5
        torch.testing.assert_close(positions * 10, (positions * 10).round())
    assert samples.distil.teachers.max() < 8 <= samples.distil.students.amax(-1).min()
    regularizer(step=0).backward()
    assert encoder.place.weight.grad.abs().amax(-1).min() > 0  # the last place, too


# --- images -------------------------------------------------------------------------------------


def interpolated(interpolate=True):
    options = {"digits": 2, "decimals": 2, "interpolate": interpolate}
    return seeded(
        make_encoding, "seqpe", d_model=16, heads=2, layers=1, train_shape=(5, 9), **options
    )


def test_a_larger_grid_is_interpolated_between_the_trained_positions():
    """Every second row of 9 is a trained row of 5; in between are halves. Columns as trained."""
    encoding, inside = interpolated(), torch.tensor([[0.0, 0.0], [0.5, 3.0], [4.0, 8.0]])
    vectors = encoding.encode(grid(9, 9)).view(9, 9, -1)
    expected = encoding.encoder(inside)
    for place, vector in zip([(0, 0), (1, 3), (8, 8)], expected):
        torch.testing.assert_close(vectors[place], vector)
    assert not torch.allclose(interpolated(False).encode(grid(9, 9)).view(9, 9, -1)[1, 3], vector)


@pytest.mark.parametrize("size", [(5, 9), (3, 4), (1, 1)])
def test_a_grid_up_to_the_trained_size_is_not(size):
    with torch.no_grad():
        ours, plain = (interpolated(i).encode(grid(*size)) for i in (True, False))
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("maker", ["text", "image"])
def test_they_train_by_a_recipe(maker, tmp_path, tiny_recipe, tiny_image_recipe):
    from seqpe_lab.evaluation import evaluate_run
    from seqpe_lab.training import train

    options = {"digits": 2, "decimals": 1, "least_first": True}
    make = {"text": tiny_recipe, "image": tiny_image_recipe}[maker]
    recipe = make(steps=3, encoding_options=options | {"interpolate": maker == "image"})
    assert recipe.alpha > 0 and recipe.beta > 0
    run = train(recipe, tmp_path / "run", cpu=True, progress=False)
    assert list(evaluate_run(run, cpu=True))
