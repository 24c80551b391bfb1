"""Models for inference with their positions tabulated, as torch.export and ONNX take them."""

import io

import pytest
import torch
from conftest import IMAGE_VARIANTS, VARIANTS
from torch import nn

from seqpe_lab.encodings import PositionEncoding
from seqpe_lab.models.export import InferenceModel, export

LENGTH, SIZE = 20, (16, 24)  # a learned table of 12 rows is stretched to a context of 20
EXPORTED = {"text": ["rope", "seqpe-bias", "cope", "shaw", "fire"], "image": ["rope-mixed"]}


def texts(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(23, size, generator=generator) for size in sizes]


def images(*batches):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, *SIZE, generator=generator) for batch in batches]


@torch.no_grad()
def test_a_text_of_any_length_has_the_model_s_logits(variant, tiny_model):
    model = tiny_model(*variant)
    fixed = InferenceModel(model, LENGTH)
    for tokens in texts((2, 9), (1, 1), (3, LENGTH)):
        expected = model(tokens, context_len=LENGTH)
        torch.testing.assert_close(fixed(tokens), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(InferenceModel(model, 12)(tokens[:, :9]), model(tokens[:, :9]))


@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "avg"}], ids=str)
@torch.no_grad()
def test_an_image_has_the_model_s_logits(image_variant, options, tiny_vit):
    model = tiny_vit(*image_variant, **options)
    for seen in images(1, 3):
        torch.testing.assert_close(InferenceModel(model, SIZE)(seen), model(seen))
    square = InferenceModel(model, 4)  # a single patch
    torch.testing.assert_close(square(seen[..., :4, :4]), model(seen[..., :4, :4]))


@pytest.fixture(scope="module", params=[f"{k}: {n}" for k in EXPORTED for n in EXPORTED[k]])
def exported(request, tiny_model, tiny_vit):
    """(program, model's own logits, inputs)."""
    kind, name = request.param.split(": ")
    if kind == "text":
        model = tiny_model(*VARIANTS.get(name, (name, {})), layers=1)
        inputs = texts((2, 9), (1, 1), (3, LENGTH))
        return export(model, LENGTH), lambda x: model(x, context_len=LENGTH), inputs
    model = tiny_vit(*IMAGE_VARIANTS[name], depth=1)
    return export(model, SIZE), model, images(1, 3)


@torch.no_grad()
def test_an_exported_program_takes_any_batch_and_length_and_can_be_saved(exported):
    program, logits, inputs = exported
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for x in inputs:
        torch.testing.assert_close(loaded(x), logits(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_onnx_runtime_computes_the_same(exported, tmp_path):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    program, logits, inputs = exported
    torch.onnx.export(program, verbose=False).save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    name = session.get_inputs()[0].name
    for x in inputs:
        found = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
        torch.testing.assert_close(found, logits(x), atol=1e-3, rtol=1e-3)


def test_a_longer_text_than_its_table_is_refused(exported):
    program, _, inputs = exported
    if inputs[0].dim() == 2:
        with pytest.raises(AssertionError, match=f"<= {LENGTH}"):
            program.module()(torch.zeros(1, LENGTH + 1, dtype=torch.long))


class Twice(PositionEncoding):
    def embed(self, x, positions, context):
        return 2 * x


@pytest.mark.parametrize(
    "size, change, message",
    [
        (LENGTH, nn.Module.train, "training mode: call model.eval"),
        (201, nn.Module.eval, "position 200 but max_position=200"),
        (LENGTH, lambda model: setattr(model, "encoding", Twice()), "Twice does more"),
    ],
    ids=["training", "beyond max_position", "no vector that is added"],
)
def test_what_cannot_be_tabulated_is_refused(size, change, message, tiny_model):
    model = tiny_model("rope")
    change(model)
    with pytest.raises(ValueError, match=message):
        InferenceModel(model, size)
