"""Every evaluation moves data to the model's own device and keeps float64 away from it."""

import copy

import pytest
import torch
from conftest import IMAGE_VARIANTS, VARIANTS
from other_device import NAME, move, pretended

from seqpe_lab.devices import device_of
from seqpe_lab.models.export import InferenceModel
from seqpe_lab.recipes import language_model
from seqpe_lab.runs import Run
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.tasks.images import accuracy
from seqpe_lab.tasks.perplexity import bits_per_character, perplexity, token_nats
from seqpe_lab.tasks.prompts import Prompts
from seqpe_lab.tasks.question_data import load_questions
from seqpe_lab.tasks.questions import answer
from seqpe_lab.tasks.tokenization import make_tokenizer
from seqpe_lab.training import build_model

TEXT = torch.randint(23, (60,), generator=torch.Generator().manual_seed(2))


def both(model, measure, monkeypatch) -> tuple:
    """What ``measure(model)`` gives here and on the other device."""
    here = measure(model)
    with pretended(monkeypatch):
        moved = move(copy.deepcopy(model))
        assert device_of(moved).type == NAME
        return here, measure(moved)


def test_the_other_device_refuses_what_an_accelerator_would(monkeypatch):
    with pretended(monkeypatch) as device:
        there = torch.ones(3).to(device)
        assert there.device.type == NAME and there.sum().item() == 3
        with pytest.raises(AssertionError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(AssertionError, match="float64"):
            there.double()


@pytest.mark.parametrize("options", [{}, {"protocol": "sliding", "stride": 3}], ids=str)
@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"sinusoidal"}))
def test_perplexity(name, options, tiny_model, monkeypatch):
    model = tiny_model(*VARIANTS[name])
    here, there = both(model, lambda m: perplexity(m, TEXT, 10, **options), monkeypatch)
    assert there.nats == pytest.approx(here.nats, rel=1e-4) and there.tokens == here.tokens
    here, there = both(model, lambda m: token_nats(m, TEXT, 10, **options), monkeypatch)
    assert there.device.type == "cpu" and there.dtype == torch.float64
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


def test_bits_per_character(tiny_model, monkeypatch):
    encode, decode, _ = make_tokenizer("bytes", {})
    books = {"a": "Größe: 3 €. " * 4, "b": "A longer one. " * 9}
    here, there = both(
        tiny_model("seqpe", {"digits": 3}, vocab_size=256),
        lambda m: bits_per_character(m, books, encode, decode, [8, 32]),
        monkeypatch,
    )
    assert [m.bits for m in there] == pytest.approx([m.bits for m in here], rel=1e-4)


def test_answers(tiny_model, monkeypatch):
    data = load_questions("facts")
    prompts = [Prompts(data, "test", "brief").make(i, 120 + i % 2, seed=0) for i in range(4)]
    here, there = both(
        tiny_model("seqpe", {"digits": 3}, vocab_size=256),
        lambda m: answer(m, data, prompts, new_tokens=4),
        monkeypatch,
    )
    assert [a.generated for a in there] == [a.generated for a in here]
    assert [a.nats for a in there] == pytest.approx([a.nats for a in here], rel=1e-4)


@pytest.mark.parametrize("place", ["cpu", NAME])
@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"sinusoidal"}))
def test_texts_of_different_lengths(name, place, tiny_model, monkeypatch):
    """The mask may stand on either device."""
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :20] = mask[1, -3:] = 0

    def continued(model):
        tokens = TEXT.view(2, 30).to(device_of(model))
        there = mask.to(place) if device_of(model).type == NAME else mask
        logits = model(tokens, attention_mask=there).detach().cpu()
        return logits[mask == 1], model.generate(tokens, 4, attention_mask=there, eos=3).cpu()

    here, there = both(tiny_model(*VARIANTS[name]), continued, monkeypatch)
    torch.testing.assert_close(there[0], here[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(there[1], here[1])


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"sinusoidal"}))
def test_tabulated_positions(name, tiny_model, monkeypatch):
    def logits(model):
        return InferenceModel(model, 20)(TEXT[None, :9].to(device_of(model))).detach().cpu()

    here, there = both(tiny_model(*VARIANTS[name]), logits, monkeypatch)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("interpolate", [False, True])
def test_accuracy(interpolate, tiny_image_recipe, digit_images, monkeypatch):
    encoding, options = IMAGE_VARIANTS["seqpe-mul"]
    recipe = tiny_image_recipe(encoding=encoding, encoding_options=options)
    here, there = both(
        build_model(recipe, 10),
        lambda m: accuracy(
            m,
            digit_images.test.select(range(12)),
            digit_images,
            recipe,
            24,
            interpolate=interpolate,
        ),
        monkeypatch,
    )
    assert there.accuracy == here.accuracy and there.nats == pytest.approx(here.nats, rel=1e-4)


def test_a_trained_model_goes_to_the_device_asked_for(
    tiny_recipe, tiny_data, tmp_path, monkeypatch
):
    run = Run(tiny_recipe(), tmp_path / "run")
    model = build_model(run.recipe, tiny_data.vocab_size)
    monkeypatch.setattr(Run, "model_weights", lambda self: model.state_dict())
    assert device_of(trained_model(run, tiny_data)).type == "cpu"
    assert device_of(trained_model(run, tiny_data, "meta")).type == "meta"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16], ids=str)
def test_tokens_of_any_integer_type_are_taken(dtype, tiny_model):
    model = tiny_model("alibi")
    assert perplexity(model, TEXT.to(dtype), 10) == perplexity(model, TEXT, 10)
    assert torch.equal(token_nats(model, TEXT.to(dtype), 10), token_nats(model, TEXT, 10))


@pytest.mark.parametrize("measure", [perplexity, token_nats])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool], ids=str)
def test_tokens_of_other_types_are_refused(dtype, measure, tiny_model):
    with pytest.raises(TypeError, match=f"tokens must be whole numbers, got {dtype}"):
        measure(tiny_model("alibi"), TEXT.to(dtype), 10)


def test_the_command_line_and_lessons_take_the_best_device(monkeypatch):
    from seqpe_lab.course import lesson

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = []
    monkeypatch.setattr(lesson, "trained_model", lambda run, data, device: asked.append(device))
    monkeypatch.setattr(lesson.Lesson, "data", lambda self, recipe: None)
    lab, run = lesson.Lesson("t", "smoke", 0), Run(language_model("none", "smoke"))
    lab.model(run), lab.model(run, "cpu")
    assert asked == [torch.device("mps"), "cpu"]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_positions_may_stand_on_the_model_s_device(name, tiny_model, monkeypatch):
    """As transformers makes them."""

    def scores(model):
        encoding, device = model.encoding, device_of(model)
        x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)).to(device)
        positions = torch.arange(5).unsqueeze(-1).to(device)
        x = encoding.embed(x, positions, 5)
        q = x.unflatten(-1, (2, 8)).transpose(1, 2)
        q, k = encoding.transform(q, q, encoding.prepare(positions, None, device), layer=0)
        return (q @ k.transpose(-1, -2)).detach().cpu()

    here, there = both(tiny_model(*VARIANTS[name]), scores, monkeypatch)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
