"""Perplexity: against a loop that feeds one context at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqpe_lab.tasks.base import evaluation_mode
from seqpe_lab.tasks.perplexity import Perplexity, perplexity, perplexity_by_length

TEXT = torch.randint(23, (60,), generator=torch.Generator().manual_seed(2))


class Uniform(nn.Module):
    """Knows nothing: the same logit for each of 23 tokens."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, tokens):
        return self.nothing.expand(*tokens.shape, 23)


@torch.no_grad()
def nats_one_by_one(model, tokens, begin, target):
    """-log p(tokens[target] | tokens[begin .. target-1]), positions from 0."""
    return -F.log_softmax(model(tokens[begin:target].unsqueeze(0))[0, -1], -1)[
        tokens[target]
    ].item()


@pytest.mark.parametrize("length", [1, 4, 7, 20, 59])
def test_non_overlapping_chunks_predict_every_next_token_once(length, tiny_model):
    model = tiny_model("sinusoidal", train_len=60)
    measured = perplexity(model, TEXT, length)
    chunks = 59 // length
    nats = [
        nats_one_by_one(model, TEXT, c * length, c * length + i + 1)
        for c in range(chunks)
        for i in range(length)
    ]
    assert measured.tokens == len(nats) and measured.protocol == "non-overlapping"
    assert measured.nats == pytest.approx(sum(nats) / len(nats), abs=1e-4)


@pytest.mark.parametrize("length, stride", [(8, 1), (8, 3), (10, 5), (8, 8), (1, 1)])
def test_a_sliding_window_counts_its_last_predictions(length, stride, tiny_model):
    model = tiny_model("rope")
    measured = perplexity(model, TEXT, length, protocol="sliding", stride=stride)
    nats = []
    for begin in range(0, 60 - length, stride):
        targets = range(
            begin + 1 if begin == 0 else begin + length - stride + 1, begin + length + 1
        )
        nats += [nats_one_by_one(model, TEXT, begin, target) for target in targets]
    assert measured.tokens == len(nats) and measured.protocol == f"sliding, stride {stride}"
    assert measured.nats == pytest.approx(sum(nats) / len(nats), abs=1e-4)


def test_a_stride_of_the_whole_length_is_the_non_overlapping_protocol(tiny_model):
    model = tiny_model("alibi")
    assert perplexity(model, TEXT, 10, protocol="sliding", stride=10).nats == pytest.approx(
        perplexity(model, TEXT, 10).nats
    )


def test_the_default_stride_is_half_the_length():
    assert perplexity(Uniform(), TEXT, 10, protocol="sliding").protocol == "sliding, stride 5"


@given(st.integers(1, 59), st.integers(1, 200))
def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(length, tokens_per_pass):
    measured = perplexity(Uniform(), TEXT, length, tokens_per_pass=tokens_per_pass)
    assert measured.perplexity == pytest.approx(23, rel=1e-5)


@pytest.mark.parametrize("tokens_per_pass", [1, 25, 10_000])
def test_how_many_chunks_go_through_at_once_does_not_matter(tokens_per_pass, tiny_model):
    model = tiny_model("seqpe", {"digits": 3})
    assert perplexity(model, TEXT, 10, tokens_per_pass=tokens_per_pass).nats == pytest.approx(
        perplexity(model, TEXT, 10).nats, abs=1e-6
    )


def test_all_lengths_predict_the_same_tokens():
    measured = perplexity_by_length(Uniform(), TEXT, [1, 7, 14, 28])
    assert [m.length for m in measured] == [1, 7, 14, 28]
    assert {m.tokens for m in measured} == {
        56
    }  # 60 tokens hold two chunks of 28 and their next tokens


def test_a_length_s_perplexity_does_not_depend_on_the_other_lengths_order(tiny_model):
    model = tiny_model("rope")
    there, back = (
        perplexity_by_length(model, TEXT, [7, 28]),
        perplexity_by_length(model, TEXT, [28, 7]),
    )
    assert there == back[::-1]


def test_perplexity_is_the_exponential_of_nats_and_never_overflows():
    assert Perplexity(1, math.log(7), 1, "").perplexity == pytest.approx(7)
    assert math.isfinite(Perplexity(1, 1e6, 1, "").perplexity)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_without_dropout_and_leaves_the_mode_as_it_was(training, tiny_model):
    model = tiny_model("rope", dropout=0.5).train(training)
    assert perplexity(model, TEXT, 10) == perplexity(model, TEXT, 10)
    assert model.training is training


def test_the_mode_is_restored_even_when_a_context_is_refused(tiny_model):
    model = tiny_model("rope", max_position=5).train()
    with pytest.raises(ValueError, match="max_position=5"):
        perplexity(model, TEXT, 10)
    assert model.training


def test_evaluation_leaves_no_gradients(tiny_model):
    model = tiny_model("seqpe", {"digits": 3})
    perplexity(model, TEXT, 10)
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_leaves_a_caller_s_autocast_alone(tiny_model):
    seen, model = [], tiny_model("none")
    model.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16), evaluation_mode(model):
        model(torch.zeros(1, 4, dtype=torch.long))
    with evaluation_mode(model):
        model(torch.zeros(1, 4, dtype=torch.long))
    assert seen == [torch.bfloat16, torch.float32]
