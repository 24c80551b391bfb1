"""The digits explorer: its numbers against brute force and the library, and bad input."""

import itertools
import re

import numpy as np
import pytest
import torch

from seqpe_lab.digits import grid, to_digits
from seqpe_lab.encoder import PositionEncoder, prefix_tree
from seqpe_lab.explorers import digits_panel as digits
from seqpe_lab.explorers import digits_vectors, explore, shipped_models


def numbers(*state):
    """Of text, base, k, along, width."""
    names = ("text", "base", "k", "along", "width")
    return digits.compute(digits.State(**dict(zip(names, state))))


def picture(*state):
    return digits.explorer().draw(numbers(*state))


@pytest.mark.parametrize("text", ["2, 3", "(2, 3)", " 2 3 ", "[2;3]", "2,3,"])
def test_a_position_may_be_typed_in_many_ways(text):
    assert digits.read_position(text) == (2, 3)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "no position"),
        ("abc", "'abc'"),
        ("-1", "'-1'"),
        ("3.5", "whole numbers"),
        ("1,2,3,4", "one to three"),
        ("²", "no position"),
        ("100000", "99,999"),
        ("1000, 3", "999"),
        ("0, 0, 256", "255"),
        ("9" * 30, "no position"),
    ],
)
def test_what_is_no_position_is_refused_with_a_remedy(text, said):
    with pytest.raises(ValueError, match=said):
        digits.read_position(text)


def test_the_reader_is_told_and_the_last_picture_stays():
    panel = explore("digits")
    before = panel.numbers
    panel.set(text="1x")
    assert "'1x'" in panel.message and "like 100" in panel.message and panel.numbers is before
    panel.set(text="12")
    assert panel.message == "" and panel.numbers.name == "12"
    panel.close()


@pytest.mark.parametrize("base, k, dims", [(10, 5, 1), (10, 2, 2), (2, 8, 3), (16, 1, 1)])
def test_embeddings_are_the_rows_of_the_encoders_own_tables(base, k, dims):
    encoder = PositionEncoder(4, digits=k, base=base, dims=dims, heads=1)
    own = [
        encoder.token.num_embeddings,
        encoder.place.num_embeddings,
        encoder.dimension.num_embeddings if encoder.dimension else 0,
    ]
    asked = numbers(", ".join(["0"] * dims), base, k)
    assert list(asked.rows.values()) == own


@pytest.mark.parametrize("position, k", [((100,), 5), ((2, 3), 2), ((1, 20, 7), 3)])
def test_the_three_addends_sum_to_what_the_encoder_reads(position, k):
    sequence, dims = to_digits(torch.tensor(position), k, 10).tolist(), len(position)
    features = digits_vectors.FEATURES
    encoder = PositionEncoder(features, digits=k, dims=dims, layers=1, heads=1)
    tables = digits_vectors.tables("untrained", dims)
    with torch.no_grad():
        encoder.token.weight.copy_(
            torch.from_numpy(np.concatenate([tables["T"][:10], tables["CLS"]]))
        )
        encoder.place.weight.copy_(torch.from_numpy(tables["O"][:k]))
        if dims > 1:
            encoder.dimension.weight.copy_(torch.from_numpy(tables["D"][:dims]))
    expected = encoder.embed(torch.tensor([*sequence, 10]), torch.arange(len(sequence) + 1))
    strips = picture(", ".join(map(str, position)), 10, k, "last", 2).data[0].z
    assert torch.allclose(torch.tensor(strips[-features:]), expected.T, atol=1e-6)


@pytest.mark.parametrize("text, k, method", [("100", 5, "seqpe"), ("2, 3", 2, "seqpe-mul")])
def test_the_trained_encoder_stands_beside_the_untrained(text, k, method):
    shown, kind = numbers(text, 10, k, "last", 3), "text" if k == 5 else "image"
    encoder = shipped_models.encoding(kind, method).encoder
    position = digits.read_position(text)
    sequence = to_digits(torch.tensor(position), k, 10).tolist()
    summed = encoder.embed(torch.tensor([*sequence, 10]), torch.arange(len(sequence) + 1))
    assert [strip["name"] for strip in shown.strips] == ["untrained", "trained"]
    features = digits_vectors.FEATURES
    np.testing.assert_allclose(
        shown.strips[1]["z"][-features:], summed[:, :features].T.detach(), atol=1e-6
    )
    near = torch.tensor([[*position[:-1], p] for p in range(position[-1] - 3, position[-1] + 4)])
    vectors = encoder(near)
    cosines = torch.nn.functional.cosine_similarity(vectors[3:4], vectors)
    np.testing.assert_allclose(shown.cosines[1]["y"], cosines.detach(), atol=1e-5)


@pytest.mark.parametrize("state", [("100", 2, 7), ("100", 10, 4), ("1, 2, 3", 10, 2), ("1500",)])
def test_where_nothing_was_trained_the_reader_is_told_why(state):
    shown = numbers(*state)
    assert [strip["name"] for strip in shown.strips] == ["untrained"] and not shown.cosines
    assert "up to 1,499" in digits.explorer().answer(shown.state, shown)["words"]


@pytest.mark.parametrize(
    "text, base, k, along",
    [("100", 10, 5, "last"), ("9, 99", 10, 2, "first"), ("1, 20, 7", 3, 4, "last")],
)
def test_the_tree_holds_each_prefix_once(text, base, k, along):
    position = digits.read_position(text)
    axis = 0 if along == "first" else len(position) - 1
    around, row = digits.neighbours(position, 4, axis, base**k)
    assert around[row] == position
    written = [(*s, base) for s in to_digits(torch.tensor(around), k, base).tolist()]
    prefixes = {sequence[:j] for sequence in written for j in range(1, len(sequence) + 1)}
    figure = picture(text, base, k, along, 4)
    nodes = [
        trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers+text"
    ]
    assert sum(len(trace.x) for trace in nodes) == len(prefixes)
    assert (
        f"{len(around)} positions: {sum(map(len, written))} tokens, {len(prefixes)} "
        "distinct prefixes" in figure.layout.xaxis3.title.text
    )
    others = written[:row] + written[row + 1 :]
    shared = {written[row][:j] for j in range(1, len(written[row]) + 1)} & {
        s[:j] for s in others for j in range(1, len(s) + 1)
    }
    assert len(nodes[0].x) == len(shared) and len(nodes[0].x) + len(nodes[1].x) == len(written[row])


def test_no_two_nodes_of_the_tree_stand_at_one_place_and_the_own_path_is_straight():
    sequences = torch.nn.functional.pad(
        to_digits(torch.arange(94, 106).unsqueeze(-1), 4, 10), (0, 1), value=10
    )
    for row in (0, 3, 11):
        nodes = digits.prefixes(sequences.tolist(), row)
        assert len(nodes) == len(prefix_tree(sequences).token)  # as the library counts them
        assert len({(node["place"], node["height"]) for node in nodes.values()}) == len(nodes)
        assert all(node["height"] == row for node in nodes.values() if node["own"])
        assert sum(node["own"] for node in nodes.values()) == sequences.shape[1]


def test_the_table_counts_what_the_neighbours_share():
    asked = numbers("100", 10, 5, "last", 1)
    assert digits.explorer().answer(asked.state, asked, table=True)["table"] == {
        "position": ["99", "100", "101"],
        "digits": ["0 0 0 9 9", "0 0 1 0 0", "0 0 1 0 1"],
        "shared prefix": [2, 5, 4],
        "digits that agree": [2, 5, 4],
    }


@pytest.mark.parametrize("base, k", [(2, 3), (3, 2), (10, 2), (5, 1)])
def test_the_lookalike_is_the_farthest_that_differs_in_one_digit(base, k):
    written = to_digits(grid(base**k), k, base)
    for p in range(base**k):
        one_off = ((written != written[p]).sum(1) == 1).nonzero().flatten()
        (found,) = digits.look_alike((p,), k, base)
        assert found in one_off and abs(found - p) == (one_off - p).abs().max()


def test_the_title_says_why_digits_mislead_or_that_they_do_not_suffice():
    assert (
        picture("100", 10, 5, "last", 4).layout.title.text.replace(" <br>", " ")
        == "1 away, 99 differs in 3 digits; 90,000 away, 90,100 differs in 1"
    )
    assert (
        picture("2, 3", 10, 2, "last", 4).layout.title.text.replace(" <br>", " ")
        == "1 away, (2, 2) differs in 1 digit; 90 away, (2, 93) differs in 1"
    )
    raised = picture("123", 10, 2, "last", 4)
    assert (
        "does not fit into k = 2" in raised.layout.title.text.replace(" <br>", " ")
        and "needs 3" in raised.layout.title.text.replace(" <br>", " ")
        and list(raised.layout.xaxis3.ticktext) == ["10<sup>2</sup>", "10", "1", "CLS"]
    )


@pytest.mark.parametrize("text", ["0", "99999", "0, 0", "999, 999", "0, 0, 0", "255, 255, 255"])
def test_every_position_that_may_be_typed_is_drawn_in_every_number_system(text):
    for base, k in itertools.product((2, 16), (1, 8)):
        figure = picture(text, base, k, "last", 7)
        assert len(figure.data[0].z[0]) <= 52 and np.isfinite(figure.data[-1].x).all()
        assert len(re.sub("<[^>]*>", "", figure.layout.title.text)) <= 98  # fits on the page


def test_neighbours_end_where_the_positions_end():
    around, row = digits.neighbours((1, 9), 4, 1, 10)
    assert around == [(1, p) for p in range(5, 10)] and row == 4
    around, row = digits.neighbours((1, 9), 4, 0, 10)
    assert around == [(p, 9) for p in range(6)] and row == 1
