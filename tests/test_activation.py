"""The activation is GPT-2's, in value and in slope."""

import pytest
import torch
import torch.nn.functional as F

from seqpe_lab.activation import GELU, gelu


def both(function, x):
    """Values and gradients of a weighted sum."""
    x = x.clone().requires_grad_()
    y = function(x)
    (y * torch.linspace(-1, 2, x.numel()).view_as(x).to(x)).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gelu_equals_torchs_tanh_form(dtype):
    x = torch.cat(
        [torch.linspace(-30, 30, 4_001), torch.tensor([0.0, 1e-30, -1e-30, 1e4, -1e4])]
    ).to(dtype)
    for ours, theirs in zip(both(gelu, x), both(lambda x: F.gelu(x, approximate="tanh"), x)):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_the_slope_is_the_slope_of_the_function():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu, x)


def test_no_input_is_written_over_and_views_are_read_as_they_are():
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    torch.testing.assert_close(gelu(x.T), gelu(x).T)
    assert torch.equal(GELU()(x), gelu(x)) and torch.equal(x, kept)
