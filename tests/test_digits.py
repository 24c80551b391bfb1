"""Positions <-> digit sequences (SeqPE, Sec. 3.2, App. A.1)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab.digits import check_positions, digits_needed, from_digits, grid, to_digits


@st.composite
def numbered(draw, max_digits=8):
    """(positions (P, n), k, b): any base, any number of dimensions, any positions that fit."""
    base = draw(st.integers(2, 36))
    digits = draw(st.integers(1, max_digits))
    dims = draw(st.integers(1, 4))
    one = st.lists(st.integers(0, base**digits - 1), min_size=dims, max_size=dims)
    return torch.tensor(draw(st.lists(one, min_size=1, max_size=8))), digits, base


def test_the_patch_2_3_of_fig_1_is_0_2_0_3():
    assert to_digits(torch.tensor([2, 3]), digits=2).tolist() == [0, 2, 0, 3]


def test_the_position_123_of_appendix_a1_is_1_2_3():
    assert to_digits(torch.tensor([123]), digits=3).tolist() == [1, 2, 3]


def test_hexadecimal_writes_255_as_two_fifteens():
    assert to_digits(torch.tensor([255]), digits=3, base=16).tolist() == [0, 15, 15]


@given(numbered())
def test_digits_read_back_as_the_position_they_were_written_from(number):
    positions, digits, base = number
    written = to_digits(positions, digits, base)
    assert written.shape == (len(positions), positions.shape[1] * digits)
    assert 0 <= int(written.min()) and int(written.max()) < base
    assert torch.equal(from_digits(written, dims=positions.shape[1], base=base), positions)


@given(numbered(max_digits=6))
def test_digits_agree_with_python_s_own_division(number):
    positions, digits, base = number
    expected = [
        [p // base**j % base for p in row for j in range(digits - 1, -1, -1)]
        for row in positions.tolist()
    ]
    assert to_digits(positions, digits, base).tolist() == expected


@given(numbered(max_digits=6), st.integers(1, 4))
def test_padding_adds_zeros_on_the_left_and_changes_nothing_else(number, more):
    positions, digits, base = number
    dims = positions.shape[1]
    narrow, wide = (
        to_digits(positions, k, base).unflatten(-1, (dims, k)) for k in (digits, digits + more)
    )
    assert torch.equal(wide[..., more:], narrow)
    assert not wide[..., :more].any()
    assert torch.equal(from_digits(wide.flatten(-2), dims, base), positions)


@given(st.lists(st.integers(0, 9_999), min_size=2, max_size=20))
def test_the_order_of_digit_sequences_is_the_order_of_positions(positions):
    written = to_digits(torch.tensor(positions).unsqueeze(-1), digits=4).tolist()
    assert [p for _, p in sorted(zip(written, positions))] == sorted(positions)


def test_digits_of_one_place_value_stand_at_one_place():
    """The reason for padding (Sec. 3.2): the units of 7, 42 and 314 are all the last digit."""
    written = to_digits(torch.tensor([[7], [42], [314]]), digits=5)
    assert written[:, -1].tolist() == [7, 2, 4]
    assert written[:, -2].tolist() == [0, 4, 1]


@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 2), (2, 2, 2, 3), (0, 1)])
def test_leading_axes_are_kept(shape):
    assert to_digits(torch.zeros(shape, dtype=torch.long), digits=4).shape == (
        *shape[:-1],
        4 * shape[-1],
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_every_whole_number_dtype_is_accepted_and_becomes_int64(dtype):
    assert check_positions(torch.tensor([[7]], dtype=dtype)).dtype == torch.int64


@given(st.integers(0, 10**15))
def test_digits_needed_is_the_length_of_the_written_number(position):
    assert digits_needed(position) == len(str(position))
    assert digits_needed(position, base=2) == len(np.base_repr(position, 2))
    assert digits_needed(position, base=36) == len(np.base_repr(position, 36))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_a_grid_lists_every_cell_once_rows_before_columns(sizes):
    assert grid(*sizes).tolist() == [list(cell) for cell in itertools.product(*map(range, sizes))]
