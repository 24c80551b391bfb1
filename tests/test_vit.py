"""The vision transformer: against the authors' published code and against timm's own.

Also what shifting, permuting and a third dimension do.
"""

import itertools
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch.utils._python_dispatch import TorchDispatchMode

from seqpe_lab.attention import attend
from seqpe_lab.digits import grid, to_digits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import MixedRoPE, RoPE, make_encoding, resample_grid, sinusoidal_vectors
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.models.checkpoints import load_published, load_timm
from seqpe_lab.models.vit import ViT, ViTConfig
from seqpe_lab.sampling import contrastive_sample, distillation_sample

# their name: (our encoding, options)
PUBLISHED = {
    "rope2d_axial": ("rope", {}),
    "rope2d_mixed": ("rope-mixed", {"as_published": True}),
    "seqpe_bias": ("seqpe", {"integration": "bias", "digits": 2, "shared_places": False}),
    "seqpe_mul": (
        "seqpe",
        {"integration": "mul", "digits": 2, "shared_places": False, "shared_projection": False},
    ),
}
WITHOUT_CLS = dict(class_token=False, global_pool="avg")
RELATIVE = ["none", "rope", "rope-half", "rope-mixed"]
ABSOLUTE = [
    "sinusoidal",
    "seqpe-sum",
    "seqpe-mul",
    "seqpe-bias",
    "seqpe-gru",
]  # and the learned table, which has no row beyond its grid


def images(rows=3, columns=4, batch=2, seed=0):
    """Random images of rows x columns patches of 4 pixels."""
    return torch.randn(
        batch, 3, 4 * rows, 4 * columns, generator=torch.Generator().manual_seed(seed)
    )


def permuted(images, order):
    """The same patches of 4 x 4 pixels, in another order."""
    rows, columns = images.shape[2] // 4, images.shape[3] // 4
    patches = (
        images.unflatten(2, (rows, 4))
        .unflatten(4, (columns, 4))
        .permute(0, 2, 4, 1, 3, 5)
        .flatten(1, 2)[:, order]
    )  # (B, N, 3, 4, 4)
    return patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


# --- the authors' published code ----------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(shared):
    path = shared / "reference" / "vit_reference.safetensors"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load_file(path)


def below(tensors, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def published(name, reference, **options) -> ViT:
    """Our model with their weights, trained on 5 x 5 patches."""
    encoding, values = PUBLISHED[name]
    model = ViT(
        ViTConfig(
            "vit_small_patch16_224",
            20,
            11,
            encoding=encoding,
            encoding_options=values | options,
            timm_options=dict(patch_size=4, embed_dim=48, depth=2, num_heads=4),
        )
    ).eval()
    load_published(
        model, below(reference, f"{name}/model/") | below(reference, f"{name}/pe_model/")
    )
    return model


@pytest.mark.parametrize("gradients", [True, False], ids=["with gradients", "from the table"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_equal_the_published_code_s(name, gradients, reference):
    with torch.set_grad_enabled(gradients):
        logits = published(name, reference)(reference["images"])
    torch.testing.assert_close(logits, reference[f"{name}/output"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [True, False], ids=["prefix tree", "whole sequences"])
@pytest.mark.parametrize("name", ["seqpe_bias", "seqpe_mul"])
def test_position_vectors_equal_the_published_code_s(name, share, reference):
    encoder = published(name, reference, share_prefixes=share).encoding.encoder
    torch.testing.assert_close(
        encoder(reference["positions"]), reference[f"{name}/position_embeddings"], atol=1e-5, rtol=0
    )


def test_the_paper_s_mixed_rope_is_not_what_the_published_code_computes(reference):
    """It shuffles heads and positions; see MixedRoPE's ``as_published``."""
    logits = published("rope2d_mixed", reference, as_published=False)(reference["images"])
    assert (logits - reference["rope2d_mixed/output"]).abs().max() > 1e-3


def test_unknown_missing_and_misshapen_parameters_are_all_listed(reference):
    weights, encoder = below(reference, "seqpe_mul/model/"), below(reference, "seqpe_mul/pe_model/")
    del weights["blocks.0.mlp.fc1.bias"], weights["cls_token_pos_embed"], encoder["layernorm.bias"]
    weights |= {"blocks.7.surprise": torch.zeros(1), "norm.weight": torch.zeros(3)}
    model = published("seqpe_mul", reference)
    before = model.vit.norm.bias.clone()
    with pytest.raises(ValueError) as error:
        load_published(model, weights | encoder)
    for part in [
        "unknown: vit.blocks.7.surprise",
        "missing: vit.blocks.0.mlp.fc1.bias",
        "missing: encoding.prefix",
        "missing: encoding.encoder.ln_f.bias",
        "shape of vit.norm.weight: (3,), expected (48,)",
    ]:
        assert part in str(error.value)
    assert torch.equal(model.vit.norm.bias, before)


# --- timm ---------------------------------------------------------------------------------------

TIMM = {
    "[CLS]": {},
    "no [CLS]": WITHOUT_CLS,
    "registers": {"reg_tokens": 4},
    "registers without [CLS]": {"reg_tokens": 2} | WITHOUT_CLS,
    "positions for patches only": {"no_embed_class": True, "reg_tokens": 2},
    "averaged beside [CLS]": {"global_pool": "avg"},
    "normalised queries, scaled layers": {"qk_norm": True, "init_values": 0.1, "pre_norm": True},
}


def timm_model(**options):
    """timm's own ViT with dynamic image size; everything random that would be zero or tiny."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", dynamic_img_size=True, num_classes=7, **{"depth": 2} | options
    ).eval()
    for parameter in (model.pos_embed, model.head.weight, model.cls_token, model.reg_token):
        if parameter is not None:
            torch.nn.init.normal_(parameter)
    return model


def ours(encoding="learned", image_size=224, classes=7, **options) -> ViT:
    return ViT(
        ViTConfig(
            "vit_tiny_patch16_224",
            image_size,
            classes,
            encoding=encoding,
            timm_options={"depth": 2} | options,
        )
    ).eval()


@pytest.mark.parametrize("options", TIMM.values(), ids=TIMM)
@torch.no_grad()
def test_with_a_learned_table_it_is_timm_s_own_model_at_any_size(options):
    theirs, model = timm_model(**options), ours(**options)
    load_timm(model, theirs.state_dict())
    for height, width in [(224, 224), (320, 320), (96, 160)]:
        seen = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(model(seen), theirs(seen), atol=1e-4, rtol=0)


def test_timm_s_weights_load_into_every_encoding_which_keeps_its_own():
    theirs, model = timm_model(), ours("rope-mixed")
    before = model.encoding.frequency.clone()
    load_timm(model, theirs.state_dict())
    assert torch.equal(
        model.vit.blocks[1].attn.qkv.weight, theirs.blocks[1].attn.qkv.weight
    ) and torch.equal(model.encoding.frequency, before)


def test_a_timm_checkpoint_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match="timm checkpoint does not fit(.|\n)*missing: vit.blocks.2.attn.qkv.weight"
    ):
        load_timm(ours(depth=3), timm_model().state_dict())
    with pytest.raises(
        ValueError, match=r"shape of encoding.table.weight: \(196, 192\), expected \(49, 192\)"
    ):
        load_timm(ours(patch_size=32), timm_model().state_dict())


@pytest.mark.parametrize("options", TIMM.values(), ids=TIMM)
@torch.no_grad()
def test_timm_s_weights_load_at_another_image_size_and_with_a_new_head(options):
    """Resampled as timm's own filter for checkpoints does."""
    theirs = timm_model(img_size=96, **options)
    weights = theirs.state_dict()
    resized = timm.create_model(
        "vit_tiny_patch16_224", num_classes=7, depth=2, img_size=(128, 64), **options
    ).eval()
    resized.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(weights, resized))
    model = ours(image_size=(128, 64), **options)
    load_timm(model, weights, resample=True)
    seen = torch.randn(1, 3, 128, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(seen), resized(seen), atol=1e-4, rtol=0)

    other = ours(image_size=(128, 64), classes=3, **options)
    head = other.vit.head.weight.clone()
    with pytest.raises(ValueError, match="shape of vit.head.weight(.|\n)*new_head=True"):
        load_timm(other, weights, resample=True)
    load_timm(other, weights, resample=True, new_head=True)
    assert other(seen).shape == (1, 3) and torch.equal(other.vit.head.weight, head)
    assert torch.equal(other.vit.blocks[1].mlp.fc1.weight, model.vit.blocks[1].mlp.fc1.weight)


@torch.no_grad()
def test_a_rectangular_table_of_timm_is_resampled_on_request():
    """timm's filter takes every table to be square; this one is 4 x 6."""
    weights, model = timm_model(img_size=(64, 96)).state_dict(), ours(image_size=64)
    with pytest.raises(ValueError, match="25 rows, which are no grid that is square"):
        load_timm(model, weights, resample=True)  # they are not 5 x 5 patches without [CLS]
    load_timm(model, weights, resample=(4, 6))
    table = resample_abs_pos_embed(weights["pos_embed"], [4, 4], [4, 6], num_prefix_tokens=1)
    torch.testing.assert_close(model.encoding.table.weight, table[0, 1:])


def test_a_table_that_cannot_be_resampled_is_refused():
    weights = timm_model().state_dict()
    with pytest.raises(ValueError, match=r"197 rows.*no grid of \(14, 15\) patches.*resample=\("):
        load_timm(ours(image_size=64), weights, resample=(14, 15))
    wide = timm_model(img_size=(64, 112)).state_dict()
    with pytest.raises(ValueError, match="29 rows, which are no grid that is square"):
        load_timm(ours(image_size=64), wide, resample=True)
    with pytest.raises(ValueError, match="resample has no effect.*'rope'"):
        load_timm(ours("rope"), weights, resample=True)
    with pytest.raises(ValueError, match=r"expected \(16, 192\)(.|\n)*resample=True"):
        load_timm(ours(image_size=64), weights)


# --- rectangles ---------------------------------------------------------------------------------


@torch.no_grad()
def test_a_model_trained_on_rectangles(image_variant, tiny_vit):
    model = tiny_vit(*image_variant, image_size=(8, 16))
    assert model.train_grid == (2, 4)
    for rows, columns in [(2, 4), (3, 4), (5, 2)]:
        seen = images(rows, columns)
        order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(1))
        again = model(permuted(seen, order), positions=grid(rows, columns)[order])
        torch.testing.assert_close(again, model(seen), atol=1e-4, rtol=1e-4)
    square, named = tiny_vit(*image_variant), tiny_vit(*image_variant, image_size=(12, 12))
    assert torch.equal(square(images()), named(images()))


@torch.no_grad()
def test_the_table_of_a_rectangle_is_stretched_from_its_own_grid(tiny_vit):
    model = tiny_vit("learned", image_size=(8, 16))
    table = model.encoding.table.weight
    assert table.shape == (8, 16)
    added = model.encoding.embed(torch.zeros(1, 15, 16), grid(3, 5), (3, 5))
    theirs = resample_abs_pos_embed(table[None], [3, 5], [2, 4], num_prefix_tokens=0)
    torch.testing.assert_close(added, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "old, new",
    [((3, 3), (5, 5)), ((3, 4), (6, 2)), ((14, 14), (20, 26)), ((6, 5), (4, 3)), ((1, 1), (3, 2))],
)
def test_a_table_is_resampled_as_timm_does(old, new):
    table = torch.randn(math.prod(old), 6, generator=torch.Generator().manual_seed(0))
    theirs = resample_abs_pos_embed(table.unsqueeze(0), list(new), list(old), num_prefix_tokens=0)[
        0
    ]
    torch.testing.assert_close(resample_grid(table, old, new), theirs, atol=1e-6, rtol=0)


def test_a_table_is_not_resampled_to_its_own_size():
    table = torch.randn(12, 6)
    assert resample_grid(table, (3, 4), (3, 4)) is table


# --- where a patch stands -----------------------------------------------------------------------


@pytest.mark.parametrize("image_variant", [*RELATIVE, *ABSOLUTE], indirect=True)
@torch.no_grad()
def test_patches_stand_at_row_and_column_from_the_start_on(image_variant, tiny_vit):
    """``start`` is short for the positions row by row, and every image can have its own."""
    model, seen = tiny_vit(*image_variant), images()
    positions = torch.stack(
        [grid(3, 4) + torch.tensor([2, 5]), grid(3, 4) + torch.tensor([20, 0])]
    )  # (B, N, 2)
    together = model(seen, positions=positions)
    alone = torch.cat([model(seen[:1], start=(2, 5)), model(seen[1:], start=(20, 0))])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("image_variant", RELATIVE, indirect=True)
@torch.no_grad()
def test_shifting_the_start_is_a_no_op_for_relative_encodings(image_variant, tiny_vit):
    model, seen = tiny_vit(*image_variant, **WITHOUT_CLS), images()
    torch.testing.assert_close(model(seen, start=(7, 3)), model(seen), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("encoding", ["rope", "rope-mixed"])
@torch.no_grad()
def test_a_class_token_that_is_not_rotated_makes_rope_absolute(encoding, tiny_vit):
    """[CLS] stays at angle 0 while the patches move on.

    So what it sees of them depends on where they are.
    """
    model, seen = tiny_vit(encoding), images()
    assert (model(seen, start=(7, 3)) - model(seen)).abs().max() > 1e-2


@pytest.mark.parametrize("image_variant", ABSOLUTE, indirect=True)
@torch.no_grad()
def test_shifting_the_start_changes_what_absolute_encodings_see(image_variant, tiny_vit):
    model, seen = tiny_vit(*image_variant, **WITHOUT_CLS), images()
    assert (model(seen, start=(7, 3)) - model(seen)).abs().max() > 1e-2


def test_a_learned_table_refuses_places_outside_the_grid_it_is_stretched_over(tiny_vit):
    """Column 3 of a grid of 3 columns would be read as column 0 of the next row."""
    model, seen, positions = tiny_vit("learned"), images(3, 3), grid(3, 3)
    with pytest.raises(
        ValueError, match=r"learned table of \(3, 3\) patches has no row for position \[2, 3\]"
    ):
        model(
            seen,
            positions=positions + (positions == 2).all(-1, keepdim=True) * torch.tensor([0, 1]),
        )
    with pytest.raises(ValueError, match="start at"):
        model(seen, start=(1, 0))


@pytest.mark.parametrize("rows, columns", [(3, 3), (4, 5)], ids=["trained size", "another size"])
@torch.no_grad()
def test_patches_in_another_order_with_their_positions_are_the_same_image(
    rows, columns, image_variant, tiny_vit
):
    model, seen = tiny_vit(*image_variant), images(rows, columns)
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        model(permuted(seen, order), positions=grid(rows, columns)[order]),
        model(seen),
        atol=1e-4,
        rtol=1e-4,
    )


@torch.no_grad()
def test_without_a_position_encoding_the_order_of_the_patches_is_lost_and_with_one_it_is_not(
    image_variant, tiny_vit
):
    model, seen = tiny_vit(*image_variant), images()
    difference = (
        (
            model(permuted(seen, torch.randperm(12, generator=torch.Generator().manual_seed(1))))
            - model(seen)
        )
        .abs()
        .max()
    )
    assert difference < 1e-4 if image_variant[0] == "none" else difference > 1e-2


@torch.no_grad()
def test_mixed_rope_as_published_does_not_know_where_its_patches_are(tiny_vit):
    """Heads and positions are shuffled.

    The same patches at the same places, listed in another order, are another image.
    """
    model, seen = tiny_vit("rope-mixed", {"as_published": True}), images()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert (
        model(permuted(seen, order), positions=grid(3, 4)[order]) - model(seen)
    ).abs().max() > 1e-2


@torch.no_grad()
def test_position_vectors_given_replace_the_encoder_s(tiny_vit):
    model, seen = (
        tiny_vit("seqpe", {"integration": "mul", "digits": 2, "projection_bias": 1.0}),
        images(),
    )
    vectors = model.encoding.encoder(grid(3, 4))
    torch.testing.assert_close(model(seen, vectors=vectors), model(seen), atol=1e-5, rtol=1e-5)
    assert (model(seen, vectors=vectors.flip(0)) - model(seen)).abs().max() > 1e-3


@pytest.mark.parametrize("integration", ["sum", "mul", "bias"])
@torch.no_grad()
def test_images_with_the_same_start_can_share_their_position_vectors(integration, tiny_vit):
    model, seen = (
        tiny_vit(
            "seqpe",
            {
                "integration": integration,
                "digits": 2,
                "projection_bias": 1.0,
                "shared_projection": False,
            },
        ),
        images(batch=5),
    )
    starts, which = (
        torch.stack([grid(3, 4), grid(3, 4) + torch.tensor([4, 9])]),
        torch.tensor([1, 0, 0, 1, 0]),
    )
    positions = starts[which]
    expected = model(seen, positions=positions)
    torch.testing.assert_close(
        model(seen, positions=positions, vectors=(model.encoding.encoder(starts), which)),
        expected,
        atol=1e-4,
        rtol=1e-4,
    )
    torch.testing.assert_close(
        model(seen, positions=positions, vectors=model.encoding.encoder(positions)),
        expected,
        atol=1e-4,
        rtol=1e-4,
    )


# --- the model ----------------------------------------------------------------------------------


def test_gradients_reach_every_parameter(image_variant, tiny_vit):
    model = tiny_vit(*image_variant, reg_tokens=1).train()
    F.cross_entropy(model(images(3, 5)), torch.tensor([1, 2])).backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() == 0
    ]
    assert without == []


def test_what_is_exempt_from_weight_decay_exists():
    for encoding, tokens in itertools.product(["learned", "rope-mixed", "seqpe", "swin"], [0, 2]):
        options = dict(patch_size=4, embed_dim=16, depth=1, num_heads=2, reg_tokens=tokens)
        model = ViT(
            ViTConfig(
                "vit_tiny_patch16_224",
                12,
                3,
                encoding=encoding,
                encoding_options={"digits": 2} if encoding == "seqpe" else {},
                timm_options=options,
            )
        )
        names = {name for name, _ in model.named_parameters()}
        assert model.no_weight_decay() - names <= {"vit.reg_token"}


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gives back."""

    def __init__(self):
        super().__init__()
        self.elements, self.operation = 0, None

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **options or {})
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage().nbytes() // tensor.element_size() > self.elements
            ):
                self.elements, self.operation = (
                    tensor.untyped_storage().nbytes() // tensor.element_size(),
                    str(function),
                )
        return result


def test_no_l_x_l_matrix_is_ever_built(image_variant, tiny_vit):
    """32 x 32 patches: 1,024 squared are a million scores per head.

    No tensor comes near that size, forward or backward.
    """
    model, seen = tiny_vit(*image_variant), images(32, 32, batch=1)
    with LargestTensor() as largest:
        model(seen).sum().backward()
    assert 1024 * 16 <= largest.elements < 1024 * 1024 // 2, largest.operation


def test_the_l_x_l_matrix_would_have_been_seen():
    q, k = torch.randn(2, 1024, 4).unbind()
    with LargestTensor() as largest:
        (q @ k.T).softmax(-1)
    assert largest.elements == 1024 * 1024


# --- three dimensions: a small video ------------------------------------------------------------

VIDEO = (3, 4, 5)  # frames, rows, columns
D_MODEL, HEADS = 24, 2  # d_head 12: two pairs of features a dimension
VIDEO_VARIANTS = {
    "none": {},
    "sinusoidal": {},
    "learned": {},
    "rope": {},
    "rope-mixed": {},
    "seqpe": {"digits": 2, "projection_bias": 1.0, "integration": "mul"},
}


def video_encoding(name, **options):
    torch.manual_seed(0)
    return make_encoding(
        name, d_model=D_MODEL, heads=HEADS, layers=2, train_shape=VIDEO, dims=3, **options
    )


def read(encoding, x, positions):
    """One attention layer without weights over tokens (B, L, d_model)."""
    x = encoding.embed(x, positions, VIDEO)
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for _ in range(3))
    return attend(*encoding.transform(q, k, encoding.prepare(positions), layer=1), v, causal=False)


@pytest.mark.parametrize("name", VIDEO_VARIANTS)
def test_every_encoding_reads_a_video_in_any_order(name):
    encoding, positions = video_encoding(name, **VIDEO_VARIANTS[name]), grid(*VIDEO)
    x, order = torch.randn(2, 60, D_MODEL), torch.randperm(60)
    there = read(encoding, x, positions)
    torch.testing.assert_close(
        read(encoding, x[:, order], positions[order]), there[:, :, order], atol=1e-4, rtol=1e-4
    )
    assert name == "none" or (read(encoding, x, positions[order]) - there).abs().max() > 1e-3


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "make",
    [lambda dims: RoPE(12, base=100.0), lambda dims: MixedRoPE(12, heads=2, layers=2, dims=dims)],
    ids=["axial", "mixed"],
)
def test_rope_s_scores_depend_on_differences_alone_in_n_dimensions(make, dims):
    torch.manual_seed(0)
    encoding, (q, k) = make(dims), torch.randn(2, 1, 2, 9, 12)
    positions, shift = torch.randint(30, (9, dims)), torch.randint(1, 50, (dims,))

    def scores(positions):
        new_q, new_k = encoding.transform(q, k, encoding.prepare(positions), layer=1)
        return new_q @ new_k.transpose(-1, -2)

    torch.testing.assert_close(scores(positions + shift), scores(positions), atol=1e-3, rtol=0)
    for d in range(dims):  # and on every one of them
        moved = positions.clone()
        moved[0, d] += 1
        assert (scores(moved) - scores(positions)).abs().max() > 1e-2


def test_axial_rope_gives_each_dimension_pairs_of_its_own():
    angles = RoPE(12, base=100.0).prepare(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))[
        1
    ]  # sines (3, 6)
    assert (angles > 0).tolist() == [
        [False] * 4 + [True] * 2,
        [False] * 2 + [True] * 2 + [False] * 2,
        [True] * 2 + [False] * 4,
    ]  # columns first


def test_mixed_rope_starts_from_axial_frequencies_in_directions_of_its_own():
    """Each pair of features turns fastest along one direction, of axial RoPE's length.

    Those of a head are at right angles.
    """
    frequency = MixedRoPE(
        12, heads=2, layers=3, dims=3, base=10.0
    ).frequency  # (n, layers, H, d_head/2)
    expected = 10.0 ** (-torch.arange(0, 12, 6) / 12)
    directions = frequency.unflatten(-1, (3, 2))  # ... (axis of the head, size)
    torch.testing.assert_close(directions.norm(dim=0), expected.expand(3, 2, 3, 2))
    for size in range(2):
        axes = directions[..., size].permute(1, 2, 0, 3) / expected[size]
        torch.testing.assert_close(
            axes.transpose(-1, -2) @ axes, torch.eye(3).expand(3, 2, 3, 3), atol=1e-5, rtol=0
        )


def test_sinusoidal_vectors_give_each_dimension_features_of_its_own():
    positions = torch.tensor([[2, 30, 7]])
    expected = torch.cat(
        [sinusoidal_vectors(positions[:, d : d + 1], 8) for d in range(3)], -1
    )  # rows first
    torch.testing.assert_close(sinusoidal_vectors(positions, 24), expected)


def test_a_learned_table_of_a_video_is_not_stretched():
    encoding = video_encoding("learned")
    x = torch.zeros(1, 60, D_MODEL)
    torch.testing.assert_close(encoding.embed(x, grid(*VIDEO), VIDEO)[0], encoding.table.weight)
    with pytest.raises(
        ValueError,
        match=r"only grids of rows and columns can be resampled, got \(3, 4, 5\) -> \(3, 4, 6\)",
    ):
        encoding.embed(x, grid(*VIDEO), (3, 4, 6))


@pytest.mark.parametrize("shared_places", [True, False])
def test_seqpe_s_prefix_tree_in_three_dimensions_equals_whole_sequences(shared_places):
    torch.manual_seed(0)
    encoder = PositionEncoder(8, digits=2, dims=3, heads=2, shared_places=shared_places)
    positions = torch.randint(100, (40, 3))
    assert to_digits(positions, 2).shape == (40, 6) and encoder.place.num_embeddings == (
        2 if shared_places else 6
    )
    shared = encoder(positions)
    encoder.share_prefixes = False
    torch.testing.assert_close(shared, encoder(positions), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.table(3, 4, 5), encoder(grid(3, 4, 5)), atol=1e-5, rtol=1e-5)


def chebyshev(p, q):
    return (p - q).abs().amax(-1)


def slow_time(p, q):
    """Ten frames are as far as one pixel, and columns close into a ring of 40."""
    gap = (p - q).abs().float()
    gap[..., 2] = torch.minimum(gap[..., 2], 40 - gap[..., 2])
    return (gap * torch.tensor([0.1, 1.0, 1.0])).norm(dim=-1)


@pytest.mark.parametrize(
    "distance",
    [chebyshev, slow_time, lambda p, q: (p - q).abs().sum(-1)],
    ids=["chebyshev", "slow time", "manhattan"],
)
def test_both_losses_train_an_encoder_of_videos_under_any_distance(distance):
    torch.manual_seed(0)
    encoder, generator = (
        PositionEncoder(24, digits=2, dims=3, heads=2),
        torch.Generator().manual_seed(0),
    )
    contrast = contrastive_sample(
        16, 8, (20, 30, 40), dims=3, hard=2, distance=distance, generator=generator
    )
    distil = distillation_sample(4, 12, VIDEO, (20, 30, 40), dims=3, generator=generator)
    nearest = distance(contrast.pivots.unsqueeze(1), contrast.candidates).min(1).values
    chosen = contrast.candidates[torch.arange(16), contrast.label]
    assert torch.equal(distance(contrast.pivots, chosen), nearest)
    loss = contrastive_loss(
        encoder(contrast.pivots), encoder(contrast.candidates), contrast.label, contrast.tied
    ) + distillation_loss(encoder(distil.teachers), encoder(distil.students), HEADS)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
