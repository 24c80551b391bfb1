"""Batches of texts of different lengths: each text gets what it gets alone, for every encoding."""

import pytest
import torch
import torch.nn.functional as F
from test_gpt2 import Largest

from seqpe_lab.models.generation import choose

LENGTHS = 3, 9, 20  # a learned table of 12 rows is stretched for the last one


@pytest.fixture(scope="module")
def texts():
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(23, (length,), generator=generator) for length in LENGTHS]


def batch(texts, side, more=2):
    """Tokens (3, 22) and their mask; padding is a token that occurs in the texts."""
    width = max(map(len, texts)) + more
    tokens, mask = torch.full((len(texts), width), 7), torch.zeros(len(texts), width)
    for row, text in enumerate(texts):
        place = torch.arange(width)[: len(text)] if side == "right" else slice(-len(text), None)
        if side == "both":
            place = torch.arange(1, len(text) + 1)
        tokens[row, place], mask[row, place] = text, 1
    return tokens, mask.long()


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_padded_batch_gives_each_text_the_logits_that_it_gets_alone(
    variant, side, tiny_model, texts, start=5
):
    model = tiny_model(*variant)
    tokens, mask = batch(texts, side)
    with torch.no_grad():
        together = model(tokens, attention_mask=mask, start=start)
        for row, text in enumerate(texts):
            alone = model(text.unsqueeze(0), start=start)[0]
            torch.testing.assert_close(together[row, mask[row] == 1], alone, atol=2e-4, rtol=1e-4)


def test_positions_of_one_s_own_go_with_a_mask(variant, tiny_model, texts):
    model = tiny_model(*variant)
    tokens, mask = batch(texts[1:2], "right")
    positions = 2 * torch.arange(tokens.shape[1]).unsqueeze(-1)
    options = dict(context_len=30)
    with torch.no_grad():
        for given in (positions, positions.unsqueeze(0)):
            padded = model(tokens, attention_mask=mask, positions=given, **options)[0, :9]
            alone = model(texts[1][None], positions=positions[:9], **options)[0]
            torch.testing.assert_close(padded, alone, atol=2e-4, rtol=1e-4)


def test_a_cache_keeps_padding_hidden(variant, tiny_model, texts):
    """Read in parts; a later part may be all padding for a text, and several tokens at once."""
    model = tiny_model(*variant)
    tokens, mask = batch(texts, "both")
    with torch.no_grad():
        whole = model(tokens, attention_mask=mask)
        cache, parts, read = [], [], 0
        for part in tokens.split([4, 1, 1, 16], dim=1):
            read += part.shape[1]
            options = dict(context_len=list(LENGTHS), cache=cache)
            parts.append(model(part, attention_mask=mask[:, :read], **options))
    real = mask == 1
    torch.testing.assert_close(torch.cat(parts, 1)[real], whole[real], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_prompts_of_different_lengths_are_continued_as_each_alone(
    variant, side, use_cache, tiny_model, texts
):
    model = tiny_model(*variant)
    tokens, mask = batch(texts, side)
    options = dict(start=3, use_cache=use_cache)
    together = model.generate(tokens, 8, attention_mask=mask, **options)
    assert torch.equal(together[:, : tokens.shape[1]], tokens)
    alone = torch.cat([model.generate(text[None], 8, **options)[:, -8:] for text in texts])
    assert torch.equal(together[:, -8:], alone)
    assert len(alone.unique(dim=0)) > 1
    # a token that ends the second text at once; the others go on
    eos = int(alone[1, 0])
    ended = model.generate(tokens, 8, attention_mask=mask, eos=eos, **options)
    new = ended[:, tokens.shape[1] :]
    assert (new[1] == eos).all()
    for row, text in enumerate(texts):
        own = model.generate(text[None], 8, eos=eos, **options)[0, len(text) :]
        assert own.tolist() == alone[row].tolist()[: len(own)] and len(own) <= new.shape[1]
        assert len(own) == 8 or (own == eos).nonzero().tolist() == [[len(own) - 1]]
        assert new[row].tolist() == own.tolist() + [eos] * (new.shape[1] - len(own))


def test_generation_goes_on_after_a_padded_cache(variant, tiny_model, texts):
    model = tiny_model(*variant)
    tokens, mask = batch(texts, "right")
    whole = model.generate(tokens, 6, attention_mask=mask, context_len=40)
    cache = []
    first = model.generate(tokens, 3, attention_mask=mask, cache=cache, context_len=40)
    seen = F.pad(mask, (0, 3), value=1)
    rest = model.generate(first[:, -1:], 3, attention_mask=seen, cache=cache, context_len=40)
    assert torch.equal(torch.cat([first, rest[:, 1:]], 1), whole)


def test_gradients_of_a_padded_batch_are_those_of_its_texts(variant, tiny_model, texts):
    model = tiny_model(*variant, gain=2.0).train()
    tokens, mask = batch(texts, "left")

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    targets = tokens.roll(-1, 1).masked_fill(mask == 0, -100)
    targets[:, -1] = -100
    logits = model(tokens, attention_mask=mask).transpose(1, 2)
    together = gradients(F.cross_entropy(logits, targets, reduction="sum"))
    alone = gradients(
        sum(F.cross_entropy(model(t[None])[0, :-1], t[1:], reduction="sum") for t in texts)
    )
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=1e-3)


def test_padding_builds_no_l_by_l_tensor_either(variant, tiny_model):
    model = tiny_model(*variant, layers=1, max_position=1_000)
    tokens, mask = torch.zeros(2, 512, dtype=torch.long), torch.ones(2, 512, dtype=torch.bool)
    mask[0, :100] = False
    with torch.no_grad(), Largest(512) as seen:
        model(tokens, attention_mask=mask)
    assert not seen.found


def test_a_mask_without_padding_changes_no_bit(variant, tiny_model, tokens):
    model = tiny_model(*variant)
    with torch.no_grad(), Largest(1) as plain:
        alone = model(tokens)
    with torch.no_grad(), Largest(1) as masked:
        assert torch.equal(model(tokens, attention_mask=torch.ones(2, 9).int()), alone)
    assert max(shape[-1] for _, shape in masked.found) == max(s[-1] for _, s in plain.found)


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [None, 4])
def test_top_p_samples_from_the_tokens_that_transformers_keeps(top_p, top_k):
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    scores = 2 * torch.randn(3, 17, generator=torch.Generator().manual_seed(0))
    kept = scores / 0.8
    if top_k:
        kept = TopKLogitsWarper(top_k)(None, kept)
    kept = TopPLogitsWarper(top_p)(None, kept).isfinite()
    drawn = torch.zeros_like(kept)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3_000):
        drawn[torch.arange(3), choose(scores, 0.8, top_k, top_p, generator)] = True
    assert not (drawn & ~kept).any()
    p = scores.div(0.8).softmax(-1)
    assert drawn[kept & (p > 0.005)].all()


def test_top_p_keeps_one_token_at_least(tiny_model, tokens):
    model = tiny_model("rope")
    sampled = model.generate(tokens, 10, temperature=1.0, top_p=1e-6)
    assert torch.equal(sampled, model.generate(tokens, 10))


CONTENT_AND_PAIRS = "fox cope t5 shaw deberta kerple-log fire sandwich alibi-euclidean swin swin-v2"


@pytest.mark.parametrize("name", CONTENT_AND_PAIRS.split())
def test_padding_before_cached_tokens_is_as_if_it_were_not_there(name, tiny_model, texts):
    """Gates, counts and biases of the tokens that follow must not notice it."""
    model = tiny_model(name)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():  # away from their quiet start
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    tokens, mask = batch(texts, "right")
    following = torch.tensor([[1], [2], [3]])
    with torch.no_grad():
        cache = []
        model(tokens, attention_mask=mask, cache=cache)
        seen = F.pad(mask, (0, 1), value=1)
        together = model(following, attention_mask=seen, cache=cache)[:, 0]
        for row, text in enumerate(texts):
            alone = model(torch.cat([text, following[row]])[None])[0, -1]
            torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)
