"""A model trained with RoPE, given another scaling afterwards."""

import pytest
import torch

from seqpe_lab.models.longer_contexts import SCALINGS, with_scaling

TOKENS = torch.randint(23, (2, 48), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(tiny_model):
    return tiny_model("rope", {"base": 500.0, "pairing": "half"})  # trained on 12 tokens


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_copy_has_the_same_weights_and_another_encoding(model, scaling, tiny_model):
    before = {name: p.clone() for name, p in model.state_dict().items()}
    longer = with_scaling(model, scaling)
    assert (longer.config.encoding, model.config.encoding) == (scaling, "rope")
    fresh = tiny_model(scaling, {"base": 500.0, "pairing": "half"})  # the same from the start
    fresh.load_state_dict(before)
    torch.testing.assert_close(longer(TOKENS), fresh(TOKENS))
    torch.testing.assert_close(longer(TOKENS[:, :12]), model(TOKENS[:, :12]))
    assert (longer(TOKENS) - model(TOKENS)).abs().max() > 1e-2 or scaling == "rope"
    torch.testing.assert_close(with_scaling(longer, "rope")(TOKENS), model(TOKENS))
    for parameter in longer.parameters():  # tuning the copy leaves the model as it was
        parameter.data.add_(1.0)
    assert all(torch.equal(model.state_dict()[name], p) for name, p in before.items())


def test_a_fixed_factor_and_a_longer_limit(model):
    longer = with_scaling(model, "rope-yarn", max_position=1_000, factor=8)
    assert longer.encoding.factor == 8 and longer.config.max_position == 1_000
    assert (longer(TOKENS[:, :12]) - model(TOKENS[:, :12])).abs().max() > 1e-2
    longer(TOKENS, start=900)
    with pytest.raises(ValueError, match="max_position=200"):
        model(TOKENS, start=900)


def test_it_generates_with_a_cache_as_without(model):
    longer = with_scaling(model, "rope-dynamic")
    prompt = TOKENS[:, :20]
    generated = longer.generate(prompt, 20)
    assert torch.equal(generated, longer.generate(prompt, 20, use_cache=False))


REFUSED = {  # how it is called -> what is raised, and said
    "a model with ALiBi": (("alibi",), {"scaling": "rope-pi"}, ValueError, "'alibi': only RoPE"),
    "a learned rotation": (("liere",), {"scaling": "rope-pi"}, ValueError, "'liere': only RoPE"),
    "another encoding": (("rope",), {"scaling": "alibi"}, ValueError, "choose from rope, rope-pi"),
    "another base": (("rope",), {"scaling": "rope-pi", "base": 10.0}, ValueError, "own base"),
    "an option of another": (("rope",), {"scaling": "rope-pi", "p": 1}, TypeError, "no option p"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scaled_is_refused(case, tiny_model):
    arguments, options, error, said = REFUSED[case]
    with pytest.raises(error, match=said):
        with_scaling(tiny_model(*arguments), **options)


def test_a_model_of_another_package_is_refused():
    with pytest.raises(TypeError, match="expected a GPT2 of this package, got Linear"):
        with_scaling(torch.nn.Linear(2, 2), "rope-pi")


def test_yarn_and_ntk_extend_the_model_that_comes_with_the_lab():
    """Without tuning, on Python's documentation; interpolation alone needs tuning."""
    from pydoc_data.topics import topics

    from seqpe_lab.explorers import shipped_models
    from seqpe_lab.tasks.perplexity import perplexity

    trained = shipped_models.model("text", "rope-1e4")  # on 64 tokens
    text = torch.tensor(list("".join(topics.values()).encode()[:4_097]))
    measured = {
        name: perplexity(with_scaling(trained, name), text, 256).perplexity for name in SCALINGS
    }
    assert max(measured["rope-ntk"], measured["rope-yarn"]) < 0.8 * measured["rope"]
    assert measured["rope-pi"] > measured["rope"]
