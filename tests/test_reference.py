"""Against results of the authors' published code for the same weights (../shared/reference)."""

import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.checkpoints import load_published
from seqpe_lab.models.gpt2 import GPT2, GPT2Config

# their name: (our encoding, options)
MODELS = {
    "nope": ("none", {}),
    "sinusoidal": ("sinusoidal", {}),
    "rope": ("rope", {"base": 1e4, "pairing": "interleaved"}),
    "alibi": ("alibi", {"scaled": True}),
    "seqpe_bias": ("seqpe", {"integration": "bias"}),
    "seqpe_sum": ("seqpe", {"integration": "sum"}),
    "seqpe_mul": ("seqpe", {"integration": "mul", "shared_projection": False}),
}


@pytest.fixture(scope="module")
def reference(shared):
    path = shared / "reference" / "gpt2_reference.safetensors"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load_file(path)


@pytest.fixture(scope="module")
def sizes(shared):
    with safe_open(shared / "reference" / "gpt2_reference.safetensors", "pt") as file:
        return {key: int(value) for key, value in file.metadata().items()}


def below(tensors, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def build(name, sizes) -> GPT2:
    encoding, options = MODELS[name]
    if encoding == "seqpe":
        options = {**options, "digits": sizes["digits"]}
    return GPT2(
        GPT2Config(
            sizes["vocab"],
            sizes["d_model"],
            sizes["n_layer"],
            sizes["n_head"],
            train_len=sizes["length"],
            encoding=encoding,
            encoding_options=options,
        )
    ).eval()


@pytest.fixture(params=MODELS)
def loaded(request, reference, sizes):
    """(name, our model with their weights)"""
    model = build(request.param, sizes)
    load_published(
        model,
        below(reference, f"{request.param}/model/")
        | below(reference, f"{request.param}/pe_model/"),
    )
    return request.param, model


@pytest.mark.parametrize("gradients", [True, False], ids=["with gradients", "from the table"])
def test_logits_equal_the_published_code_s(loaded, reference, gradients):
    name, model = loaded
    with torch.set_grad_enabled(gradients):
        logits = model(reference["input_ids"])
    torch.testing.assert_close(logits, reference[f"{name}/logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [True, False], ids=["prefix tree", "whole sequences"])
@pytest.mark.parametrize("name", ["seqpe_bias", "seqpe_sum", "seqpe_mul"])
def test_position_vectors_equal_the_published_code_s(name, share, reference, sizes):
    model = build(name, sizes)
    load_published(
        model, below(reference, f"{name}/model/") | below(reference, f"{name}/pe_model/")
    )
    model.encoding.encoder.share_prefixes = share
    vectors = model.encoding.encoder(torch.arange(sizes["length"]).unsqueeze(-1))
    torch.testing.assert_close(vectors, reference[f"{name}/position_embeddings"], atol=1e-5, rtol=0)


def test_the_contrastive_loss_equals_the_published_code_s(reference):
    loss = contrastive_loss(
        reference["loss/pivot"], reference["loss/candidates"], reference["loss/label"]
    )
    torch.testing.assert_close(loss, reference["loss/contrastive"], atol=1e-5, rtol=0)


def test_the_distillation_loss_equals_the_published_code_s(reference, sizes):
    teachers = reference["loss/teacher"][reference["loss/teacher_index"]]
    loss = distillation_loss(
        teachers, reference["loss/student"], heads=sizes["n_head"], form="published"
    )
    torch.testing.assert_close(loss, reference["loss/transfer_code"], atol=1e-5, rtol=0)


def test_unknown_missing_and_misshapen_parameters_are_all_listed(reference, sizes):
    model, weights, encoder = (
        build("seqpe_bias", sizes),
        below(reference, "seqpe_bias/model/"),
        below(reference, "seqpe_bias/pe_model/"),
    )
    del weights["transformer.h.0.mlp.c_fc.bias"], encoder["layernorm.bias"]
    weights["transformer.h.7.surprise"] = torch.zeros(1)
    encoder["rotary.weight"] = torch.zeros(1)
    weights["transformer.ln_f.weight"] = torch.zeros(3)
    with pytest.raises(ValueError) as error:
        load_published(model, weights | encoder)
    for part in [
        "unknown: transformer.h.7.surprise",
        "unknown: rotary.weight",
        "missing: transformer.h.0.mlp.c_fc.bias",
        "missing: encoding.encoder.ln_f.bias",
        "shape of transformer.ln_f.weight: (3,), expected (32,)",
    ]:
        assert part in str(error.value)


def test_nothing_is_loaded_from_a_checkpoint_that_does_not_fit(reference, sizes):
    model, weights = build("nope", sizes), below(reference, "nope/model/")
    before = model.transformer.wte.weight.clone()
    with pytest.raises(ValueError, match="missing: transformer.ln_f.bias"):
        load_published(
            model,
            {name: value for name, value in weights.items() if name != "transformer.ln_f.bias"},
        )
    assert torch.equal(model.transformer.wte.weight, before)


def test_the_encoder_s_weights_do_not_load_into_another_encoding(reference, sizes):
    with pytest.raises(ValueError, match="unknown: encoding.encoder"):
        load_published(
            build("rope", sizes),
            below(reference, "rope/model/") | below(reference, "seqpe_bias/pe_model/"),
        )


def test_an_untied_output_layer_is_refused(reference, sizes):
    weights = below(reference, "nope/model/")
    weights["lm_head.weight"] = weights["transformer.wte.weight"] + 1
    with pytest.raises(ValueError, match="lm_head.weight differs"):
        load_published(build("nope", sizes), weights)


def test_every_equation_the_library_cites_has_a_test_named_after_it(project):
    cited = {
        int(n)
        for path in (project / "seqpe_lab").rglob("*.py")
        for match in re.findall(
            r"Eqs?\. (\d+(?:(?:, | and )\d+)*)", path.read_text(encoding="utf-8")
        )
        for n in re.findall(r"\d+", match)
    }
    names = " ".join(
        re.findall(
            r"def (test_eq_\w+)",
            "\n".join(
                path.read_text(encoding="utf-8") for path in (project / "tests").glob("test_*.py")
            ),
        )
    )
    named = {
        int(n)
        for match in re.findall(r"eq_(\d+(?:_(?:and_)?\d+)*)", names)
        for n in re.findall(r"\d+", match)
    }
    assert len(cited) >= 10 and not cited - named
