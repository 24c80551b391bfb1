"""Recipes: the paper's numbers, the four scales, and how a recipe is stored and named."""

import dataclasses
import json

import pytest

from seqpe_lab.course.figures import STYLE
from seqpe_lab.digits import digits_needed
from seqpe_lab.recipes import (
    ABLATIONS,
    ABOUT,
    ABOUT_IMAGES,
    AS_PUBLISHED,
    HEADLINE,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    IMAGE_PRESETS,
    METHODS,
    PLACED,
    PRESETS,
    SCALES,
    ImageRecipe,
    Recipe,
    Training,
    default_scale,
    image_model,
    language_model,
)
from seqpe_lab.training import build_model

EVERY = [*METHODS, *ABLATIONS]
EVERY_IMAGE = [*IMAGE_METHODS, *IMAGE_ABLATIONS]


def test_the_full_scale_is_the_paper_s():
    """Sec. 4, 4.1, App. A and B.1."""
    recipe = language_model("seqpe", "full")
    assert recipe == Recipe()
    assert (recipe.steps, recipe.batch, recipe.train_len) == (100_000, 4 * 32, 512)
    assert (
        recipe.learning_rate,
        recipe.warmup_steps,
        recipe.dropout,
        recipe.precision,
        recipe.clip,
    ) == (5e-5, 4_000, 0.1, "bf16", 5.0)
    assert (recipe.d_model, recipe.layers, recipe.heads, recipe.max_position) == (
        768,
        12,
        12,
        20_000,
    )
    assert (
        recipe.alpha,
        recipe.beta,
        recipe.candidates,
        recipe.teachers,
        recipe.pivots,
        recipe.distillation_batch,
    ) == (0.1, 0.1, 32, 32, 32, 32)
    assert (recipe.shifted, recipe.distillation_form, recipe.encoding_options) == (0.1, "paper", {})
    assert recipe.eval_lens == (512, 1_024, 2_048, 4_096, 8_192, 16_384)
    assert (
        recipe.source == "hub:Salesforce/wikitext:wikitext-103-raw-v1"
        and recipe.tokenizer == "gpt2"
    )


def test_appendix_a4_the_paper_trains_each_position_160_times_and_meets_its_own_bound():
    recipe = language_model("seqpe", "full")
    assert recipe.pivots_per_position == 160
    assert (
        recipe.pivots >= 16 * recipe.max_position / 10_000
        and recipe.distillation_batch >= 16 * recipe.max_position / 10_000
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", EVERY)
def test_every_method_has_a_recipe_at_every_scale(method, scale):
    recipe = language_model(method, scale, seed=3)
    assert (recipe.method, recipe.scale, recipe.seed) == (method, scale, 3)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("method", EVERY)
def test_every_method_has_a_model(method):
    build_model(language_model(method, "smoke"), outputs=11)


@pytest.mark.parametrize("scale", SCALES)
def test_five_digits_reach_every_position(scale):
    assert digits_needed(language_model("seqpe", scale).max_position - 1) <= 5


@pytest.mark.parametrize("scale", SCALES)
def test_all_methods_of_a_scale_see_the_same_tokens_in_the_same_shape(scale):
    """A fair comparison: only the encoding and its losses differ."""
    ours = {"method", "encoding", "encoding_options", "alpha", "beta", "shifted"}
    shapes = [
        {k: v for k, v in dataclasses.asdict(language_model(m, scale)).items() if k not in ours}
        for m in EVERY
    ]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("scale", SCALES)
def test_micro_batches_change_nothing_but_memory(scale):
    recipe = language_model("seqpe", scale)
    assert recipe.batch % recipe.micro_batch == 0


def test_the_methods_are_the_rows_of_table_1_and_the_ablations_those_of_table_4():
    assert len(METHODS) == 8
    weights = {
        m: (language_model(m, "full").alpha > 0, language_model(m, "full").beta > 0)
        for m in ("seqpe", "seqpe-no-losses", "seqpe-delta-only", "seqpe-ood-only")
    }
    assert sorted(weights.values()) == [(False, False), (False, True), (True, False), (True, True)]
    assert [METHODS[f"rope-1e{n}"]["encoding_options"]["base"] for n in (4, 6, 8)] == [
        1e4,
        1e6,
        1e8,
    ]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "seqpe"])
def test_the_position_losses_and_the_shift_belong_to_seqpe(method):
    recipe = language_model(method, "small", alpha=0.5, shifted=0.5)
    assert (recipe.alpha, recipe.beta, recipe.shifted) == (0.0, 0.0, 0.0)


def test_the_ablations_differ_from_seqpe_in_their_loss_weights_only_and_the_shift_goes_with_l_ood():
    full = dataclasses.asdict(language_model("seqpe", "small"))
    for method in ABLATIONS:
        other = dataclasses.asdict(language_model(method, "small"))
        assert {k for k in full if full[k] != other[k]} <= {"method", "alpha", "beta", "shifted"}
        assert (other["shifted"] > 0) == (other["beta"] > 0)


def test_as_published_names_only_what_differs_from_the_paper_s_form():
    recipe, paper = language_model("seqpe", "full", **AS_PUBLISHED), Recipe()
    assert all(
        getattr(recipe, field) == value != getattr(paper, field)
        for field, value in AS_PUBLISHED.items()
    )
    assert {
        "distillation_form",
        "hard_share",
        "local",
        "clip_separately",
        "distill_shifted",
    } <= AS_PUBLISHED.keys()


@pytest.mark.parametrize("method", EVERY)
def test_every_method_has_a_style_of_its_own(method):
    assert method in STYLE


def test_the_headline_runs_are_methods():
    assert set(HEADLINE) <= set(EVERY) and HEADLINE[0] == "seqpe"


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Recipe)])
def test_the_digest_depends_on_every_field(field):
    recipe = language_model("seqpe", "smoke")
    value = getattr(recipe, field)
    other = {
        bool: lambda v: not v,
        int: lambda v: v * 2 + 1,
        float: lambda v: v / 2 + 0.01,
        str: lambda v: {
            "smoke": "small",
            "paper": "published",
            "bf16": "fp32",
            "seqpe": "none",
            "sequence": "batch",
        }.get(v, v + "x"),
        tuple: lambda v: (*v[:-1], v[-1] // 2),
        dict: lambda v: {"digits": 4},
    }[type(value)](value)
    extra = {
        "batch": dict(batch=16),
        "micro_batch": dict(micro_batch=4),
        "d_model": dict(d_model=64),
        "heads": dict(heads=4),
        "train_len": dict(train_len=64),
    }
    changed = dataclasses.replace(recipe, **extra.get(field, {field: other}))
    assert changed.digest() != recipe.digest()
    assert len(recipe.digest()) == 8 and int(recipe.digest(), 16) >= 0


def test_a_recipe_is_plain_json():
    stored = json.loads(language_model("rope-1e6", "small").to_json())
    assert stored["encoding_options"] == {"base": 1e6} and stored["eval_lens"] == [
        64,
        128,
        256,
        512,
        1024,
    ]


def test_recipes_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        language_model("seqpe", "smoke").steps = 5


def test_changing_one_recipe_s_options_changes_no_other(monkeypatch):
    monkeypatch.setitem(
        METHODS, "rope-1e4", {"encoding": "rope", "encoding_options": {"base": 1e4}}
    )
    language_model("rope-1e4", "smoke").encoding_options["base"] = 7
    assert language_model("rope-1e4", "smoke").encoding_options == {"base": 1e4}


def test_the_scale_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SEQPE_SCALE", "medium")
    assert default_scale() == "medium" and language_model("none").scale == "medium"
    monkeypatch.delenv("SEQPE_SCALE")
    assert default_scale() == "small"


def test_each_scale_states_hardware_time_memory_and_result():
    assert list(PRESETS) == list(ABOUT) == list(IMAGE_PRESETS) == list(ABOUT_IMAGES) == list(SCALES)
    assert all(
        all(dataclasses.astuple(about)) for about in [*ABOUT.values(), *ABOUT_IMAGES.values()]
    )


# --- images -------------------------------------------------------------------------------------


def test_the_full_scale_of_images_is_the_paper_s():
    """Sec. 4, 4.3, App. A and B.4: ViT-S/16 on ImageNet-1k, DeiT's recipe."""
    recipe = image_model("seqpe-mul", "full")
    assert recipe == ImageRecipe(method="seqpe-mul")
    assert (
        recipe.timm_model,
        recipe.d_model,
        recipe.layers,
        recipe.heads,
        recipe.patch,
        recipe.image_size,
        recipe.mlp_ratio,
    ) == ("vit_small_patch16_224", 384, 12, 6, 16, 224, 4.0)
    assert recipe.train_shape == (14, 14) and recipe.max_position == 100 and recipe.dims == 2
    assert (
        recipe.steps * recipe.batch / 1_281_167 == pytest.approx(400, abs=0.5)
        and recipe.batch == 4 * 256
    )
    assert recipe.learning_rate == pytest.approx(
        6e-4 * recipe.batch / 512
    ) and recipe.warmup_steps * recipe.batch / 1_281_167 == pytest.approx(20, abs=0.1)
    assert (
        recipe.weight_decay,
        recipe.clip,
        recipe.mixup,
        recipe.cutmix,
        recipe.erasing,
        recipe.smoothing,
        recipe.augment,
    ) == (0.05, 5.0, 0.8, 1.0, 0.25, 0.1, "deit")
    assert (
        recipe.eval_sizes == (224, 320, 384, 448, 512, 640, 672)
        and recipe.source == "hub:ILSVRC/imagenet-1k"
    )
    assert (recipe.alpha, recipe.beta, recipe.shifted, recipe.candidates, recipe.teachers) == (
        0.1,
        0.1,
        0.1,
        32,
        32,
    )
    assert recipe.encoding_options == {
        "integration": "mul",
        "shared_projection": False,
        "digits": 2,
    }


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", EVERY_IMAGE)
def test_every_image_method_has_a_recipe_at_every_scale(method, scale):
    recipe = image_model(method, scale, seed=3)
    assert (recipe.method, recipe.scale, recipe.seed) == (method, scale, 3)
    assert Training.from_json(recipe.to_json()) == recipe and isinstance(
        Training.from_json(recipe.to_json()), ImageRecipe
    )
    if recipe.encoding == "seqpe":
        assert digits_needed(recipe.max_position - 1) <= recipe.encoding_options["digits"]
        assert max(recipe.eval_sizes) // recipe.patch <= recipe.max_position
    else:
        assert (recipe.alpha, recipe.beta, recipe.shifted) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("method", EVERY_IMAGE)
def test_every_image_method_has_a_model(method):
    build_model(image_model(method, "smoke"), outputs=3)


def test_a_recipe_of_either_task_is_read_back_as_what_it_was():
    for recipe in (language_model("rope-1e4", "small"), image_model("rope-axial", "small")):
        assert (
            type(Training.from_json(recipe.to_json())) is type(recipe)
            and Training.from_json(recipe.to_json()) == recipe
        )


@pytest.mark.parametrize("scale", SCALES)
def test_all_image_methods_of_a_scale_see_the_same_images_in_the_same_shape(scale):
    """A fair comparison: only the encoding and its losses differ."""
    ours = {"method", "encoding", "encoding_options", "alpha", "beta", "shifted"}
    shapes = [
        {k: v for k, v in dataclasses.asdict(image_model(m, scale)).items() if k not in ours}
        for m in EVERY_IMAGE
    ]
    assert all(shape == shapes[0] for shape in shapes)


def test_the_image_methods_are_the_rows_of_tables_3_and_5_and_the_ablations_those_of_table_4():
    assert {IMAGE_METHODS[m]["encoding"] for m in IMAGE_METHODS} == {
        "none",
        "sinusoidal",
        "learned",
        "rope",
        "rope-mixed",
        "seqpe",
    }
    assert {IMAGE_METHODS[m]["encoding_options"].get("integration") for m in IMAGE_METHODS} == {
        None,
        "mul",
        "sum",
        "bias",
    }
    weights = [
        (image_model(m, "full").alpha > 0, image_model(m, "full").beta > 0)
        for m in ("seqpe-mul", *IMAGE_ABLATIONS)
    ]
    assert sorted(weights) == [(False, False), (False, True), (True, False), (True, True)]
    assert set(PLACED) <= set(EVERY_IMAGE)
    whole = dataclasses.asdict(image_model("seqpe-mul", "small"))
    for method in IMAGE_ABLATIONS:
        other = dataclasses.asdict(image_model(method, "small"))
        assert {k for k in whole if whole[k] != other[k]} <= {
            "method",
            "alpha",
            "beta",
            "shifted",
        } and (other["shifted"] > 0) == (other["beta"] > 0)


@pytest.mark.parametrize("method", EVERY_IMAGE)
def test_every_image_method_has_a_style_of_its_own(method):
    assert method in STYLE


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ImageRecipe)])
def test_the_digest_of_an_image_recipe_depends_on_every_field(field):
    recipe = image_model("seqpe-mul", "smoke")
    value = getattr(recipe, field)
    other = {
        bool: lambda v: not v,
        int: lambda v: v * 2 + 1,
        float: lambda v: v / 2 + 0.01,
        str: lambda v: {
            "smoke": "small",
            "paper": "published",
            "bf16": "fp32",
            "seqpe": "none",
            "sequence": "batch",
            "zoom": "place",
        }.get(v, v + "x"),
        tuple: lambda v: (*v[:-1], v[-1] // 2),
        dict: lambda v: {"digits": 3},
    }[type(value)](value)
    extra = {
        "batch": dict(batch=32),
        "micro_batch": dict(micro_batch=8),
        "d_model": dict(d_model=64),
        "heads": dict(heads=4),
        "patch": dict(patch=2),
        "image_size": dict(image_size=32),
        "teachers": dict(teachers=4),
    }
    assert (
        dataclasses.replace(recipe, **extra.get(field, {field: other})).digest() != recipe.digest()
    )


def test_appendix_a4_each_place_of_a_grid_is_a_position():
    recipe = image_model("seqpe-mul", "full")
    assert recipe.pivots_per_position == recipe.steps * 32 / 100**2


def test_another_encoding_can_be_asked_of_any_image_method():
    assert image_model("none", "smoke", encoding="seqpe").encoding == "seqpe"
