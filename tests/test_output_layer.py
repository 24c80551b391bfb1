"""The output layer of a language model and its loss, in parts and with padded columns."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqpe_lab.models import output_layer
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.output_layer import logits, nats_of_targets, next_token_loss
from seqpe_lab.tasks.perplexity import perplexity

ROWS, D, CLASSES = 50, 16, 257


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, D, generator=generator, requires_grad=True)
    weight = torch.randn(CLASSES, D, generator=generator, requires_grad=True)
    return hidden, weight, torch.randint(CLASSES, (ROWS,), generator=generator)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(output_layer, "AT_ONCE", 7 * CLASSES)  # 7 rows at a time


@pytest.fixture
def padded(monkeypatch):
    """As on a GPU: the weight has rows up to a multiple of 64."""

    def pad(weight, rows):
        return F.pad(weight, (0, 0, 0, -len(weight) % output_layer.ALIGNED))

    monkeypatch.setattr(output_layer, "_padded", pad)


def gradients(loss, *tensors):
    return [loss.item(), *torch.autograd.grad(loss, tensors)]


def test_the_loss_in_parts_is_the_cross_entropy_with_its_gradients(inputs, in_parts):
    hidden, weight, targets = inputs
    ours = gradients(3 * next_token_loss(hidden, weight, targets), hidden, weight)
    plain = gradients(3 * F.cross_entropy(hidden @ weight.T, targets), hidden, weight)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parts", ["in parts", "at once"])
def test_padded_columns_get_no_probability_and_no_gradient(inputs, padded, request, parts):
    if parts == "in parts":
        request.getfixturevalue("in_parts")
    hidden, weight, targets = inputs
    assert logits(hidden, weight).shape == (ROWS, CLASSES)
    torch.testing.assert_close(logits(hidden, weight), hidden @ weight.T, atol=1e-5, rtol=1e-5)
    ours = gradients(next_token_loss(hidden, weight, targets), hidden, weight)
    plain = gradients(F.cross_entropy(hidden @ weight.T, targets), hidden, weight)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    nats = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    torch.testing.assert_close(nats_of_targets(hidden, weight, targets), nats)


def test_the_loss_in_parts_is_float32_under_autocast_and_its_gradients_follow(inputs, in_parts):
    hidden, weight, targets = inputs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = next_token_loss(hidden, weight, targets)
    assert loss.dtype == torch.float32
    ours = gradients(loss, hidden, weight)
    plain = gradients(F.cross_entropy(hidden @ weight.T, targets), hidden, weight)
    assert ours[0] == pytest.approx(plain[0], rel=0.01)
    for a, b in zip(ours[1:], plain[1:]):
        assert a.dtype == torch.float32
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999


def test_without_gradients_the_loss_is_the_same(inputs, in_parts):
    hidden, weight, targets = inputs
    with torch.no_grad():
        loss = next_token_loss(hidden, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets).detach())


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.found = max([self.found, *sizes])
        return out


def test_no_tensor_holds_the_logits_of_a_whole_batch(inputs, in_parts):
    hidden, weight, targets = inputs
    with Largest() as largest:
        next_token_loss(hidden, weight, targets).backward()
    assert CLASSES * 7 <= largest.found < CLASSES * ROWS / 2


def test_nor_does_the_evaluation_of_a_language_model(monkeypatch):
    model = GPT2(GPT2Config(vocab_size=CLASSES, d_model=16, layers=1, heads=2, encoding="none"))
    tokens = torch.randint(CLASSES, (201,), generator=torch.Generator().manual_seed(0))
    plain = perplexity(model, tokens, 100)
    monkeypatch.setattr(output_layer, "AT_ONCE", 7 * CLASSES)
    with Largest() as largest:
        measured = perplexity(model, tokens, 100)
    assert measured.nats == pytest.approx(plain.nats, rel=1e-6)
    assert largest.found < CLASSES * 100


@pytest.mark.parametrize("target", [-100, -1, CLASSES])
def test_targets_outside_the_vocabulary_are_refused(inputs, in_parts, target):
    hidden, weight, targets = inputs
    targets[3] = target
    with pytest.raises(ValueError, match=f"targets must lie in .0, {CLASSES}., got "):
        next_token_loss(hidden, weight, targets)


def test_the_loss_in_parts_keeps_float64(inputs, in_parts):
    hidden, weight, targets = (t.detach().double() if t.is_floating_point() else t for t in inputs)
    hidden.requires_grad_(), weight.requires_grad_()
    ours = gradients(next_token_loss(hidden, weight, targets), hidden, weight)
    plain = gradients(F.cross_entropy(hidden @ weight.T, targets), hidden, weight)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-12)
