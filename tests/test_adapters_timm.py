"""Encodings in timm's vision transformer: against the lab's own, and against timm's own table."""

import copy

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from seqpe_lab.adapters.timm import install
from seqpe_lab.encodings import make_encoding
from seqpe_lab.models.checkpoints import load_timm
from seqpe_lab.models.vit import ViT, ViTConfig

NAME = "vit_small_patch16_224"
SHAPE = dict(patch_size=4, embed_dim=24, depth=2, num_heads=2)
FEATURES = {
    "plain": {},
    "registers": dict(reg_tokens=2),
    "no class token": dict(class_token=False, global_pool="avg"),
    "every norm": dict(qk_norm=True, scale_attn_norm=True, pre_norm=True, init_values=0.5),
}
SIZES = {"trained size": (16, 16), "larger": (24, 24), "wide": (8, 28), "smaller": (12, 12)}


def timm_model(features="plain", pos_embed="learn", size=16, seed=0, **options):
    torch.manual_seed(seed)
    shape = SHAPE | FEATURES[features] | options
    return timm.create_model(
        NAME, num_classes=5, img_size=size, pos_embed=pos_embed, **shape
    ).eval()


def lab_model(method, options, features="plain", **more):
    """The lab's own model; its weights are drawn wide enough for positions to matter."""
    torch.manual_seed(1)
    shape = SHAPE | FEATURES[features] | more
    model = ViT(ViTConfig(NAME, 16, 5, 100, method, options, timm_options=shape)).eval()
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return model


def adapted(model, method, options, features="plain", **more):
    """timm's own model with the lab model's encoding of its own making, and its weights."""
    vit = timm_model(features, **more)
    encoding = make_encoding(
        method,
        d_model=vit.embed_dim,
        heads=2,
        layers=2,
        train_shape=(4, 4),
        dims=2,
        prefix=vit.num_prefix_tokens,
        **options,
    )
    install(vit, encoding)
    names = {
        name.removeprefix("vit.").replace("encoding.", "position_encoding.", 1)
        if name.startswith("encoding.")
        else name.removeprefix("vit."): value
        for name, value in model.state_dict().items()
    }
    vit.load_state_dict(names)
    return vit


def images(height=16, width=16, batch=3):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def both(image_variant):
    model = lab_model(*image_variant)
    return model, adapted(model, *image_variant)


# --- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_it_equals_the_lab_s_own_model_at_every_size(both, size):
    model, vit = both
    assert torch.equal(vit(images(*size)), model(images(*size)))


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("method", ["learned", "rope", "rope-mixed", "seqpe"])
@torch.no_grad()
def test_it_equals_the_lab_s_own_model_with_every_kind_of_token_and_norm(method, features):
    options = {"integration": "mul", "projection_bias": 1.0} if method == "seqpe" else {}
    model = lab_model(method, options, features)
    vit = adapted(model, method, options, features)
    assert torch.equal(vit(images(24, 16)), model(images(24, 16)))


def test_it_trains_as_the_lab_s_own_model_with_every_dropout(both, image_variant):
    rates = dict(pos_drop_rate=0.1, attn_drop_rate=0.2, proj_drop_rate=0.1, drop_path_rate=0.3)
    model = lab_model(*image_variant, **rates).train()
    vit = adapted(model, *image_variant, **rates).train()
    outputs = []
    for each in (model, vit):
        torch.manual_seed(5)
        outputs.append(each(images()))
        outputs[-1].square().mean().backward()
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], both[0](images()))  # the rates do something
    theirs = {name.split(".", 1)[1]: p.grad for name, p in model.named_parameters()}
    for name, p in vit.named_parameters():
        torch.testing.assert_close(p.grad, theirs[name.removeprefix("position_encoding.")])


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_with_its_own_table_as_encoding_it_is_timm_s_model(size):
    theirs = timm_model(dynamic_img_size=True)
    table = make_encoding("learned", d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2)
    table.table.weight.copy_(theirs.pos_embed[0, 1:])
    vit = timm_model()
    vit.cls_token.add_(vit.pos_embed[:, :1])
    install(vit, table)
    torch.testing.assert_close(vit(images(*size)), theirs(images(*size)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_pretrained_model_keeps_all_but_its_table():
    theirs = timm_model(seed=7)
    model = lab_model("rope", {})
    load_timm(model, theirs.state_dict())
    rope = make_encoding(
        "rope", d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2, prefix=1
    )
    assert torch.equal(install(theirs, rope)(images()), model(images()))


# --- timm's other ways through the model --------------------------------------------------------


@torch.no_grad()
def test_features_and_intermediate_layers_have_positions_too(both):
    model, vit = both
    x = images(24, 16)
    features = vit.forward_features(x)
    assert torch.equal(vit.forward_head(features), model(x))
    last, layers = vit.forward_intermediates(x)
    assert torch.equal(last, features)
    assert [layer.shape for layer in layers] == [(3, 24, 6, 4)] * 2
    inner = vit.get_intermediate_layers(x, n=1, norm=True)[0]
    assert torch.equal(inner, features[:, 1:])


# --- one source of position, gradients, copies --------------------------------------------------


@torch.no_grad()
def test_every_encoding_but_none_changes_the_logits_and_a_second_install_replaces_it(
    both, image_variant
):
    model, vit = both
    logits, kept = vit(images()), vit.position_encoding
    assert "pos_embed" not in vit.state_dict()
    install(vit, make_encoding("none", d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2))
    assert not [name for name in vit.state_dict() if "position" in name]
    plain = timm_model(pos_embed="none")
    plain.load_state_dict(vit.state_dict())
    torch.testing.assert_close(vit(images()), plain(images()), atol=1e-5, rtol=1e-5)
    difference = (vit(images()) - logits).abs().max()
    assert difference == 0 if image_variant[0] == "none" else difference > 1e-3
    assert torch.equal(install(vit, kept)(images()), logits)


def test_gradients_reach_every_parameter_and_a_copy_is_a_model_of_its_own(both):
    vit = both[1]
    vit(images()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in vit.parameters())
    twin = copy.deepcopy(vit)
    with torch.no_grad():
        logits = vit(images())
        assert torch.equal(twin(images()), logits)
        for p in twin.position_encoding.parameters():
            p.zero_()
        assert torch.equal(vit(images()), logits)


def test_two_batches_of_different_sizes_train_together(both):
    """Nothing of a forward pass is kept for the next: a backward pass finds its own positions."""
    vit = both[1]
    (vit(images(24, 24)).sum() + vit(images()).sum()).backward()
    together = [p.grad.clone() for p in vit.parameters()]
    vit.zero_grad()
    vit(images(24, 24)).sum().backward()
    vit(images()).sum().backward()
    for p, grad in zip(vit.parameters(), together):
        torch.testing.assert_close(p.grad, grad, atol=1e-4, rtol=1e-4)


def test_what_is_exempt_from_weight_decay(both, image_variant):
    vit = both[1]
    own = {f"position_encoding.{name}" for name in vit.position_encoding.no_weight_decay()}
    names = {name for name, _ in vit.named_parameters()}
    assert vit.no_weight_decay() & names == {"cls_token", *own} and own <= names
    name, options = image_variant
    expected = {"learned": "table.weight", "rope-mixed": "frequency", "seqpe": "prefix"}.get(name)
    assert expected is None or f"position_encoding.{expected}" in own


def test_the_encoding_goes_to_the_model_s_device():
    table = make_encoding("learned", d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2)
    assert install(timm_model().to("meta"), table).position_encoding.table.weight.is_meta


@torch.no_grad()
def test_a_model_in_half_precision_keeps_an_encoding_in_single(both):
    vit = both[1]
    expected, kept = vit(images()), copy.deepcopy(vit.position_encoding)
    half = install(vit.bfloat16(), kept)
    assert all(p.dtype == torch.float32 for p in half.position_encoding.parameters())
    logits = half(images().bfloat16())
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


# --- what is refused ----------------------------------------------------------------------------


def none(**options):
    shape = dict(d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2) | options
    return make_encoding("none", **shape)


@pytest.mark.parametrize(
    "name, options",
    [
        ("deit_tiny_distilled_patch16_224", dict(embed_dim=24, depth=1, num_heads=2)),
        ("eva02_tiny_patch14_224", dict(embed_dim=24, depth=1, num_heads=2)),
        ("resnet18", {}),
        (NAME, SHAPE | dict(attn_layer="diff")),
        ("vit_small_resnet26d_224", dict(embed_dim=24, depth=1, num_heads=2)),
    ],
    ids=["distilled", "eva", "resnet", "differential attention", "convolutional patches"],
)
def test_other_models_are_refused_by_name(name, options):
    model = timm.create_model(name, num_classes=5, **options)
    before = type(model)
    with pytest.raises(ValueError, match=f"{before.__name__} is not made of timm's plain patches"):
        install(model, none())
    assert type(model) is before


def test_what_loses_positions_is_refused():
    with pytest.raises(ValueError, match="patch_drop_rate drops patches"):
        install(timm_model(patch_drop_rate=0.1), none())
    vit = timm_model()
    vit.set_grad_checkpointing()
    with pytest.raises(ValueError, match="leave gradient checkpointing off"):
        install(vit, none())
    vit.set_grad_checkpointing(False)
    with pytest.raises(ValueError, match="leave gradient checkpointing off"):
        install(vit, none()).set_grad_checkpointing()
    with pytest.raises(ValueError, match="without a mask"):
        vit(images(), is_causal=True)
    with pytest.raises(ValueError, match="without a mask"):
        vit.forward_intermediates(images(), attn_mask=torch.ones(17, 17).bool())


@pytest.mark.parametrize(
    "misfit",
    [
        dict(name="rope", d_model=16),
        dict(name="rope"),  # no prefix
        dict(name="learned", d_model=16),
        dict(name="learned", train_shape=16, dims=1),
        dict(name="rope-mixed", layers=1, prefix=1),
        dict(name="seqpe", prefix=2),
        dict(name="seqpe", train_shape=16, dims=1, prefix=1),
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_an_encoding_of_another_shape_is_refused_before_anything_changes(misfit):
    shape = dict(d_model=24, heads=2, layers=2, train_shape=(4, 4), dims=2) | misfit
    vit = timm_model()
    with pytest.raises(
        ValueError, match="does not fit 2 layers of 2 heads of 12, d_model=24, 1 tok"
    ):
        install(vit, make_encoding(shape.pop("name"), **shape))
    assert type(vit) is VisionTransformer and torch.equal(vit(images()), timm_model()(images()))
    with pytest.raises(TypeError, match="expected a PositionEncoding, got NoneType"):
        install(vit, None)


@torch.no_grad()
def test_an_image_that_the_patch_does_not_divide_is_refused(both):
    with pytest.raises(AssertionError, match="divisible by patch size"):
        both[1](images(18, 16))
