"""The digits explorer: its numbers against brute force and the library, and bad input."""

import html
import itertools
import re

import pytest
import torch

from seqpe_lab.digits import grid, to_digits
from seqpe_lab.encoder import PositionEncoder, prefix_tree
from seqpe_lab.explorers import digits_panel as digits


def numbers(*state):
    return digits.compute(digits.State(*state))


def picture(*state):
    return digits.draw(numbers(*state))


def told(panel) -> str:
    return html.unescape(re.sub("<[^>]*>", "", panel._message.value))


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
    panel = digits.explore()
    before = panel.figure
    panel.controls["text"].value = "1x"
    assert "'1x'" in told(panel) and "like 100" in told(panel) and panel.figure is before
    panel.controls["text"].value = "12"
    assert told(panel) == "" and "12 in base 10" in panel.figure.layout.annotations[0].text


@pytest.mark.parametrize("base, k, dims", [(10, 5, 1), (10, 2, 2), (2, 8, 3), (16, 1, 1)])
def test_embeddings_are_the_rows_of_the_encoders_own_tables(base, k, dims):
    encoder = PositionEncoder(4, digits=k, base=base, dims=dims, heads=1)
    own = [
        encoder.token.num_embeddings,
        encoder.place.num_embeddings,
        encoder.dimension.num_embeddings if encoder.dimension else 0,
    ]
    assert list(digits.embeddings(k, base, dims).values()) == own


@pytest.mark.parametrize("position, k", [((100,), 5), ((2, 3), 2), ((1, 20, 7), 3)])
def test_the_three_addends_sum_to_what_the_encoder_reads(position, k):
    sequence, dims = to_digits(torch.tensor(position), k, 10).tolist(), len(position)
    torch.manual_seed(0)
    encoder = PositionEncoder(digits.FEATURES, digits=k, dims=dims, layers=1, heads=1)
    expected = encoder.embed(torch.tensor([*sequence, 10]), torch.arange(len(sequence) + 1))
    assert torch.allclose(sum(digits.addends(tuple(sequence), k, 10, dims)), expected, atol=1e-7)
    strips = picture(", ".join(map(str, position)), 10, k, "last", 2).data[0].z
    assert torch.allclose(torch.tensor(strips[-digits.FEATURES :]), expected.T, atol=1e-6)


@pytest.mark.parametrize(
    "text, base, k, along",
    [("100", 10, 5, "last"), ("9, 99", 10, 2, "first"), ("1, 20, 7", 3, 4, "last")],
)
def test_the_tree_holds_each_prefix_once(text, base, k, along):
    position = digits.read_position(text)
    around, row = digits.neighbours(position, 4, along, base**k)
    assert around[row].tolist() == list(position)
    written = [(*sequence, base) for sequence in to_digits(around, k, base).tolist()]
    prefixes = {sequence[:j] for sequence in written for j in range(1, len(sequence) + 1)}
    figure = picture(text, base, k, along, 4)
    nodes = [
        trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers+text"
    ]
    assert sum(len(trace.x) for trace in nodes) == len(prefixes)
    assert (
        f"{len(around)} positions are {sum(map(len, written))} tokens but {len(prefixes)} "
        "distinct prefixes" in figure.layout.annotations[1].text
    )
    others = written[:row] + written[row + 1 :]
    shared = {written[row][:j] for j in range(1, len(written[row]) + 1)} & {
        s[:j] for s in others for j in range(1, len(s) + 1)
    }
    assert len(nodes[0].x) == len(shared) and len(nodes[0].x) + len(nodes[1].x) == len(written[row])


def test_no_two_nodes_of_the_tree_stand_at_one_place_and_the_own_path_is_straight():
    for row in (0, 3, 11):
        tree = prefix_tree(
            torch.nn.functional.pad(
                to_digits(torch.arange(94, 106).unsqueeze(-1), 4, 10), (0, 1), value=10
            )
        )
        height = digits.heights(tree, row)
        assert len(set(zip(tree.place.tolist(), height.tolist()))) == len(height)
        assert (height[tree.complete[row]] == row).all()


def test_the_table_counts_what_the_neighbours_share():
    table = digits.table(numbers("100", 10, 5, "last", 1))
    assert table == {
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
        and "k = 3" in raised.layout.annotations[0].text
    )


@pytest.mark.parametrize("text", ["0", "99999", "0, 0", "999, 999", "0, 0, 0", "255, 255, 255"])
def test_every_position_that_may_be_typed_is_drawn_in_every_number_system(text):
    for base, k in itertools.product((2, 16), (1, 8)):
        figure = picture(text, base, k, "last", 7)
        assert len(figure.data[0].z[0]) <= 25 and torch.tensor(figure.data[-1].x).isfinite().all()
        assert (
            len(re.sub("<[^>]*>", "", figure.layout.title.text.replace(" <br>", " "))) <= 98
        )  # fits on the page


def test_neighbours_end_where_the_positions_end():
    around, row = digits.neighbours((1, 9), 4, "last", 10)
    assert around.tolist() == [[1, p] for p in range(5, 10)] and row == 4
    around, row = digits.neighbours((1, 9), 4, "first", 10)
    assert around.tolist() == [[p, 9] for p in range(6)] and row == 1
