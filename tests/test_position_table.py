"""The lookup table of position vectors (SeqPE, Sec. 3.5, "Inference") that cannot go stale."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab import position_table
from seqpe_lab.digits import grid
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.position_table import PositionTable


def make_encoder(d_model=16, *, digits=3, heads=2, gain=8.0, seed=0, **options) -> PositionEncoder:
    """An encoder with large weights, so that a wrong one changes the vectors visibly."""
    torch.manual_seed(seed)
    encoder = PositionEncoder(d_model, digits=digits, heads=heads, **options)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(gain)
    return encoder


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"architecture": "gru"}, {"causal": False}])
def test_the_table_of_a_grid_equals_forward(options):
    encoder = make_encoder(**options)
    table = encoder.table(300, chunk=77)
    # other numbers of rows at a time are summed in another order
    torch.testing.assert_close(table, encoder(grid(300)), atol=4e-5, rtol=1e-5)
    assert not table.requires_grad


def test_the_table_of_a_grid_runs_over_columns_first():
    encoder = make_encoder(dims=2)
    close(encoder.table(3, 4)[1 * 4 + 2], encoder(torch.tensor([[1, 2]]))[0])


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_lookup_equals_forward_whatever_was_looked_up_before(calls):
    encoder = make_encoder(8, dims=2, digits=2)
    lookup = PositionTable(encoder)
    for positions in calls:
        positions = torch.tensor(positions)
        close(lookup(positions), encoder(positions))


def test_positions_in_the_table_are_not_encoded_again(monkeypatch):
    encoder, calls = make_encoder(), []
    lookup, original = PositionTable(encoder), encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda p: calls.append(len(p)) or original(p))
    for position in (99, 3, 98, 150, 199):
        lookup(torch.tensor([[position]]))
    assert calls == [100, 200]


@pytest.mark.parametrize("shape", [(2,), (4, 2), (2, 3, 2)])
def test_leading_axes_are_kept(shape):
    lookup = PositionTable(make_encoder(dims=2))
    assert lookup(torch.zeros(shape, dtype=torch.long)).shape == (*shape[:-1], 16)


def test_it_grows_by_doubling():
    lookup = PositionTable(make_encoder(digits=3))
    for position, rows in [(9, 10), (3, 10), (10, 20), (19, 20), (700, 701), (999, 1000)]:
        lookup(torch.tensor([[position]]))
        assert len(lookup) == rows


def test_it_never_holds_more_than_max_table(monkeypatch):
    """Two far corners of a grid: each needs a strip of 61 cells, both a square of 3,721."""
    monkeypatch.setattr(position_table, "MAX_TABLE", 100)
    encoder = make_encoder(8, dims=2, digits=2)
    lookup = PositionTable(encoder)
    for corner in ([0, 60], [60, 0], [9, 9], [60, 60]):
        close(lookup(torch.tensor([corner])), encoder(torch.tensor([corner])))
        assert len(lookup) <= 100


# --- after any change of the weights the table is computed again ---------------------------------


def step(kind):
    def change(encoder):
        options = {"foreach": kind == "foreach", "fused": kind == "fused"}
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2, **options)
        encoder(grid(40)).square().sum().backward()
        optimizer.step()

    return change


def through_data(encoder):
    """As hand-written SGD and moving averages do; autograd does not notice."""
    for parameter in encoder.parameters():
        parameter.data += 0.01


def one_number(encoder):
    encoder.token.weight.data[3, 0] += 0.5


def swapped_storage(encoder):
    encoder.out.weight.data = encoder.out.weight.data.flip(0)


def new_parameter(encoder):
    encoder.out.weight = torch.nn.Parameter(encoder.out.weight.detach() * 1.1)


def loaded(encoder):
    encoder.load_state_dict(make_encoder(seed=1).state_dict())


def in_inference_mode(encoder):
    with torch.inference_mode():
        through_data(encoder)


CHANGES = [
    *map(step, ("plain", "foreach", "fused")),
    through_data,
    one_number,
    swapped_storage,
    new_parameter,
    loaded,
    in_inference_mode,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_weights_is_seen(change):
    encoder = make_encoder()
    lookup = PositionTable(encoder)
    old = lookup(grid(40)).clone()
    change(encoder)
    close(lookup(grid(40)), encoder(grid(40)))
    assert (lookup(grid(40)) - old).abs().max() > 1e-4


def test_a_change_of_dtype_is_seen():
    encoder = make_encoder()
    lookup = PositionTable(encoder)
    lookup(grid(40))
    encoder.double()
    assert lookup(grid(40)).dtype == torch.float64


def test_a_table_is_float32_under_autocast_too():
    encoder = make_encoder()
    lookup, expected = PositionTable(encoder), encoder(grid(40)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = lookup(grid(40))
    assert inside.dtype == torch.float32
    close(inside, expected)


def test_it_works_in_inference_mode_and_afterwards():
    encoder = make_encoder()
    lookup = PositionTable(encoder)
    with torch.inference_mode():
        inside = lookup(grid(40))
        close(encoder(grid(40)), inside)
    close(lookup(grid(30)), encoder(grid(30)))


def test_a_deep_copy_looks_up_in_its_own_encoder():
    encoder = make_encoder()
    lookup = PositionTable(encoder)
    lookup(grid(40))
    twin = copy.deepcopy(lookup)
    through_data(twin.encoder)
    close(twin(grid(40)), twin.encoder(grid(40)))
    close(lookup(grid(40)), encoder(grid(40)))


def test_no_table_is_kept_of_an_encoder_with_dropout_in_training():
    encoder = make_encoder(dropout=0.5)
    lookup = PositionTable(encoder)
    assert not torch.equal(lookup(grid(40)), lookup(grid(40))) and len(lookup) == 0
    encoder.eval()
    assert torch.equal(lookup(grid(40)), lookup(grid(40))) and len(lookup) == 40
