"""Recipes: the paper's numbers, the four scales, and how a recipe is stored and named."""

import dataclasses
import inspect
import itertools
import json
import math
import pickle
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import seqpe_lab.recipes
from seqpe_lab.digits import digits_needed
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.losses import DISTILLATION_FORMS
from seqpe_lab.recipes import (
    ABLATIONS,
    HEADLINE,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    IMAGE_PRESETS,
    IMAGE_UNSHIFTED,
    MAKERS,
    METHODS,
    PLACED,
    PRESETS,
    SCALES,
    SETTINGS,
    UNSHIFTED,
    ImageRecipe,
    QARecipe,
    Recipe,
    Training,
    about,
    as_published,
    default_scale,
    image_model,
    language_model,
    question_answering,
)
from seqpe_lab.recipes.step_cost import Machine, hours, memory, operations, parameters
from seqpe_lab.training import Objective, build_model, learning_rate

EVERY = [*METHODS, *ABLATIONS, *UNSHIFTED]
EVERY_IMAGE = [*IMAGE_METHODS, *IMAGE_ABLATIONS, *IMAGE_UNSHIFTED]


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


def chosen(task, scale) -> set[str]:
    """The fields that trials choose for each method."""
    return {field for row in SETTINGS[task].values() for field in row if scale == "small"}


@pytest.mark.parametrize("scale", SCALES)
def test_all_methods_of_a_scale_see_the_same_tokens_in_the_same_shape(scale):
    """A fair comparison: only the encoding and its losses differ."""
    ours = {"method", "encoding", "encoding_options", "alpha", "beta", "shifted"} | chosen(
        "lm", scale
    )
    shapes = [{k: v for k, v in language_model(m, scale) if k not in ours} for m in EVERY]
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
    recipe = language_model(method, "small", alpha=0.0)
    assert (recipe.alpha, recipe.beta, recipe.shifted) == (0.0, 0.0, 0.0)
    for field in ("alpha", "beta", "shifted"):
        with pytest.raises(ValueError, match=f"{field}=0.5 has no effect with encoding"):
            language_model(method, "small", **{field: 0.5})


def test_table_4_s_rows_differ_from_seqpe_in_their_loss_weights_only():
    """ "keeping the rest settings as same": 10 % of the data are shifted in every row."""
    for make, method, ablations in (
        (language_model, "seqpe", ABLATIONS),
        (image_model, "seqpe-mul", IMAGE_ABLATIONS),
    ):
        full = make(method, "small").model_dump()
        for ablation in ablations:
            other = make(ablation, "small").model_dump()
            assert {k for k in full if full[k] != other[k]} <= {"method", "alpha", "beta"}
            assert other["shifted"] == 0.1


# --- the authors' published form ----------------------------------------------------------------


@pytest.mark.parametrize("task", MAKERS)
def test_as_published_names_only_what_differs_from_the_paper_s_form(task):
    recipe, paper = MAKERS[task](scale="full", as_published=True), MAKERS[task](scale="full")
    theirs = as_published(task)
    for field in theirs.keys() - {"encoding_options"}:
        assert getattr(recipe, field) == theirs[field] != getattr(paper, field)
    changed = {name for name, value in recipe if value != getattr(paper, name)}
    assert changed - {"base", "encoding_options"} == theirs.keys() - {"encoding_options"}


def test_as_published_is_complete():
    """DESIGN.md, section 5."""
    losses = dict(
        distillation_form="published",
        clip_separately=True,
        shift_unit="batch",
        distill_shifted=False,
    )
    of_text = losses | dict(local=0.6, smallest_shift=0.25)
    of_images = losses | dict(hard_share=0.375, local=0.2)
    assert as_published("lm") == of_text | {"encoding_options": {"dropout": 0.1}}
    assert as_published("qa") == of_text | {"batch": 64}
    assert as_published("image") == of_images | dict(
        teachers=64,
        drop_path=0.0,
        min_learning_rate=5e-6,
        learning_rate=6e-4 * 1_024 / 512,
        warmup_steps=20 * 1_251,
        repeats=1,
    )
    with pytest.raises(ValueError, match="unknown task 'video': choose from lm, algorithm"):
        as_published("video")


def test_as_published_changes_what_applies_to_an_encoding():
    assert language_model("alibi", "full", as_published=True).encoding_options == {"scaled": True}
    assert language_model("seqpe", "full", as_published=True).encoding_options == {"dropout": 0.1}
    assert language_model("rope-1e4", as_published=True) == language_model("rope-1e4")
    mul = image_model("seqpe-mul", "small", as_published=True)
    assert mul.encoding_options == image_model("seqpe-mul", "small").encoding_options
    assert image_model("none", "small", as_published=True, augment="place").test_crop == 1
    rope = image_model("rope-axial", "full", as_published=True)
    assert (rope.drop_path, rope.teachers, rope.local) == (0.0, 32, 0.5)
    tuned = question_answering("alibi", "full", as_published=True)
    assert (tuned.batch, tuned.encoding_options) == (64, {"scaled": True})
    assert tuned.base.endswith(language_model("alibi", "full", as_published=True).digest())


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_as_published_leaves_the_sizes_of_smaller_scales(scale):
    for make in MAKERS.values():
        theirs, ours = make(scale=scale, as_published=True), make(scale=scale)
        assert (theirs.batch, theirs.teachers) == (ours.batch, ours.teachers)
        assert (
            theirs.distillation_form == "published"
            and theirs.local == as_published(ours.task)["local"]
        )


def test_as_published_gives_way_to_what_is_chosen():
    recipe = language_model("seqpe", "small", as_published=True, local=0.7, encoding_options={})
    assert (recipe.local, recipe.smallest_shift, recipe.encoding_options) == (0.7, 0.25, {})


@pytest.mark.parametrize("make", [language_model, image_model])
def test_the_learning_rate_decays_to_its_minimum(make):
    recipe = make(scale="smoke", min_learning_rate=1e-4, steps=1_000, warmup_steps=10)
    rates = [learning_rate(recipe, step) for step in range(10, 1_001)]
    assert rates[0] == recipe.learning_rate and rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)
    free = recipe.changed(min_learning_rate=0.0)
    share = (learning_rate(recipe, 400) - 1e-4) / (recipe.learning_rate - 1e-4)
    assert share == pytest.approx(learning_rate(free, 400) / free.learning_rate)
    with pytest.raises(ValueError, match="min_learning_rate=1.0 is above learning_rate=.*lower it"):
        recipe.changed(min_learning_rate=1.0)


# --- values and names ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY)
def test_every_method_has_a_style_of_its_own(method):
    from seqpe_lab.course.style import STYLE

    assert method in STYLE


def test_the_headline_runs_are_methods():
    assert set(HEADLINE) <= set(EVERY) and HEADLINE[0] == "seqpe"


@pytest.mark.parametrize("field", [*Recipe.model_fields])
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
            "test": "validation",
        }.get(v, v + "x"),
        tuple: lambda v: (*v[:-1], v[-1] // 2),
        dict: lambda v: {"digits": 4},
    }[type(value)](value)
    extra = {
        "batch": dict(batch=16),
        "micro_batch": dict(micro_batch=4),
        "position_sampling": dict(position_sampling="skips", shifted=0.0),
        "d_model": dict(d_model=64),
        "heads": dict(heads=4),
        "train_len": dict(train_len=64),
        "min_learning_rate": dict(min_learning_rate=1e-4),
    }
    changed = recipe.changed(**extra.get(field, {field: other}))
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
    with pytest.raises(ValidationError, match="frozen"):
        language_model("seqpe", "smoke").steps = 5


def test_a_changed_recipe_is_checked_like_a_new_one_and_leaves_the_first_alone():
    recipe = language_model("seqpe", "smoke")
    assert recipe.changed(steps=5).steps == 5 and recipe.steps == 12
    with pytest.raises(ValueError, match="^steps must be a whole number of at least 1, got 0$"):
        recipe.changed(steps=0)
    with pytest.raises(ValueError, match="^a recipe has no field speed: it has adam_beta2, "):
        recipe.changed(speed=1)


@pytest.mark.parametrize("kind", [Recipe, QARecipe, ImageRecipe])
def test_every_field_says_in_one_line_what_it_must_be(kind):
    """Of a value of another type; which values a type cannot have is in test_bad_input.py."""
    for field in kind.model_fields:
        with pytest.raises(ValueError) as error:
            kind(**{"base": "run"} if kind is QARecipe and field != "base" else {}, **{field: [[]]})
        message = str(error.value)
        assert field in message and "[[]]" in message and "\n" not in message


def test_choices_are_those_of_the_parts_that_take_them():
    """Recipes name them again, so that reading one does not load torch."""
    assert get_args(Training.model_fields["distillation_form"].annotation) == DISTILLATION_FORMS
    assert all(Recipe(encoding=name).encoding == name for name in ENCODINGS)


def test_a_recipe_can_be_sent_to_another_process():
    recipe = image_model("seqpe-mul", "small")
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_a_new_field_with_a_default_leaves_the_digest_as_it_is():
    class Tomorrow(Recipe):
        patience: int = 7
        tempo: dict = {"beats": 4}

    for recipe in (language_model("seqpe", "small"), language_model("alibi", "full", 3)):
        values = dict(recipe)
        assert Tomorrow(**values).digest() == recipe.digest()
        assert Tomorrow(**values, patience=7).digest() == recipe.digest()
        changed = [Tomorrow(**values, patience=8), Tomorrow(**values, tempo={"beats": 3})]
        assert len({recipe.digest(), *(other.digest() for other in changed)}) == 3


def test_the_scheme_of_the_digest_stays():
    """A change of it would rename every finished run."""
    assert Recipe(method="alibi", encoding="alibi", steps=7).digest() == "cb5f1e89"
    assert ImageRecipe(seed=2, eval_sizes=(224,)).digest() == "05d73bed"


def test_the_digest_names_task_method_scale_and_seed_even_where_they_are_the_defaults():
    class Other(Recipe):
        method: str = "alibi"
        seed: int = 3

    assert Recipe(method="alibi", seed=3).digest() == Other().digest() != Recipe().digest()
    digests = {question_answering("seqpe", "small").digest()}
    digests |= {
        make(scale="small", seed=seed).digest()
        for seed in (0, 1)
        for make in (language_model, image_model)
    }
    assert len(digests) == 5


def test_a_whole_number_where_a_fraction_may_stand_is_the_same_value():
    assert Recipe(learning_rate=1).digest() == Recipe(learning_rate=1.0).digest()


def test_no_recipe_module_loads_torch(project):
    modules = list((project / "seqpe_lab" / "recipes").glob("*.py"))
    assert len(modules) == 12
    for source in (module.read_text() for module in modules):
        assert "\nimport torch" not in source and "\nfrom torch" not in source


def test_every_public_name_is_listed():
    public = {
        name
        for name, value in vars(seqpe_lab.recipes).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(seqpe_lab.recipes.__all__)


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
    assert list(PRESETS) == list(IMAGE_PRESETS) == list(SCALES)
    for task in MAKERS:
        assert all(all(dataclasses.astuple(about(task, scale))) for scale in SCALES)
        for scale in ("medium", "full"):  # no result of others as if it were ours
            expected = about(task, scale).expect
            assert "not run" in expected and not any(sign.isdigit() for sign in expected)


@pytest.mark.parametrize(
    "recipe, outputs",
    [
        (language_model("none", "small"), 256),
        (language_model("seqpe", "smoke"), 256),
        (language_model("seqpe", "small", micro_batch=8), 256),
        (language_model("seqpe", "small", encoding_options={"integration": "sum"}), 256),
        (image_model("rope-axial", "small"), 10),
        (image_model("seqpe-mul", "small"), 10),
        (image_model("seqpe-bias", "smoke"), 10),
    ],
    ids=lambda value: getattr(value, "method", ""),
)
def test_a_step_has_the_operations_that_torch_counts(recipe, outputs):
    """Within 7 %, as the mean of three steps, which draw different positions.

    torch's counter sees explicit attention, the masked half included.
    """
    objective, counted = Objective(build_model(recipe, outputs), recipe), 0
    if recipe.task == "lm":
        batch = torch.randint(outputs, (recipe.micro_batch, recipe.train_len + 1))
    else:
        side = recipe.image_size
        batch = [torch.randn(recipe.micro_batch, 1, side, side), torch.arange(recipe.micro_batch)]
        batch[1] %= outputs
    for step, part in itertools.product(range(3), range(recipe.batch // recipe.micro_batch)):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            objective(batch, step, part, regularize=part == 0)["loss"].backward()
        counted += counter.get_total_flops() / 3
    ours = operations(recipe, outputs)
    masked = ours["attention"] if recipe.task == "lm" else 0
    assert sum(ours.values()) + masked == pytest.approx(counted, rel=0.07)
    assert ("positions" in ours) == (recipe.encoding == "seqpe")


@pytest.mark.parametrize("method", ["none", "seqpe"])
def test_a_layer_keeps_the_memory_that_is_stated(method):
    kept, stated = [], []
    for layers in (2, 4):
        recipe = language_model(method, "small", layers=layers, d_model=192, micro_batch=8)
        objective, sizes = Objective(build_model(recipe, 256), recipe), {}

        def pack(tensor, sizes=sizes):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            objective(torch.randint(256, (8, recipe.train_len + 1)), 0)
        for parameter in objective.parameters():
            sizes.pop(parameter.untyped_storage().data_ptr(), None)
        kept.append(sum(size for size, _ in sizes.values()))
        weights = 16 * parameters(recipe, 256)
        stated.append(memory(recipe, 256, "fp32") * 2**30 - weights)
    assert stated[1] - stated[0] == pytest.approx(kept[1] - kept[0], rel=0.15)


def test_hours_follow_from_operations_and_the_stated_share_of_the_matrix_rate():
    recipe = language_model("none", "full")
    whole = recipe.steps * sum(operations(recipe, 50_257).values())
    machine = Machine("a GPU", rate=1e15, share=0.5, precision="bf16")
    assert hours(recipe, 50_257, machine) == pytest.approx(whole / 0.5e15 / 3600)
    slow_start = machine._replace(least=10.0)  # seconds for each of the 4 micro-batches
    assert hours(recipe, 50_257, slow_start) == pytest.approx(recipe.steps * 40 / 3600)
    assert hours(language_model("seqpe", "full"), 50_257, machine) > hours(recipe, 50_257, machine)
    build = parameters(recipe, 50_257)
    assert build == pytest.approx(
        sum(p.numel() for p in build_model(recipe, 50_257).parameters()), rel=0.01
    )


# --- images -------------------------------------------------------------------------------------


def test_the_full_scale_of_images_is_the_paper_s():
    """Sec. 4, 4.3, App. A and B.4: ViT-S/16 on ImageNet-1k, DeiT's recipe."""
    recipe = image_model("seqpe-mul", "full")
    assert recipe == ImageRecipe(
        method="seqpe-mul",
        repeats=3,
        min_learning_rate=1e-5,
        test_crop=7 / 8,
        validation_images=10_000,
    )
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
        5e-4 * recipe.batch / 512
    ) and recipe.warmup_steps * recipe.batch / 1_281_167 == pytest.approx(5, abs=0.01)
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
    ours = {"method", "encoding", "encoding_options", "alpha", "beta", "shifted"} | chosen(
        "image", scale
    )
    shapes = [{k: v for k, v in image_model(m, scale) if k not in ours} for m in EVERY_IMAGE]
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


@pytest.mark.parametrize("method", EVERY_IMAGE)
def test_every_image_method_has_a_style_of_its_own(method):
    from seqpe_lab.course.style import STYLE

    assert method in STYLE


@pytest.mark.parametrize("field", [*ImageRecipe.model_fields])
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
            "test": "validation",
            "zoom": "place",
        }.get(v, v + "x"),
        tuple: lambda v: (*v[:-1], v[-1] // 2),
        dict: lambda v: {"digits": 3},
    }[type(value)](value)
    extra = {
        "batch": dict(batch=32),
        "micro_batch": dict(micro_batch=8),
        "position_sampling": dict(position_sampling="skips", shifted=0.0),
        "d_model": dict(d_model=64),
        "heads": dict(heads=4),
        "patch": dict(patch=2),
        "image_size": dict(image_size=32),
        "teachers": dict(teachers=4),
        "min_learning_rate": dict(min_learning_rate=1e-4),
    }
    assert recipe.changed(**extra.get(field, {field: other})).digest() != recipe.digest()


def test_appendix_a4_each_place_of_a_grid_is_a_position():
    recipe = image_model("seqpe-mul", "full")
    assert recipe.pivots_per_position == recipe.steps * 32 / 100**2


def test_another_encoding_can_be_asked_of_any_image_method():
    assert image_model("none", "smoke", encoding="seqpe").encoding == "seqpe"


def test_rarer_position_losses_cost_less():
    always, rarely = (
        operations(language_model("seqpe", "small", regularize_every=n), 256)["positions"]
        for n in (1, 4)
    )
    contexts = operations(language_model("seqpe-no-losses", "small"), 256)["positions"]
    assert rarely - contexts == pytest.approx((always - contexts) / 4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize(
    "field",
    "learning_rate min_learning_rate weight_decay adam_beta2 clip alpha beta hard_share local "
    "smallest_shift shifted dropout".split(),
)
def test_no_number_of_a_recipe_is_nan_infinite_or_negative(field, value, tiny_recipe):
    with pytest.raises(ValueError, match=f"{field}(.|\n)*{value}"):
        tiny_recipe(**{field: value})


@pytest.mark.parametrize("field", "pivots candidates hard distillation_batch teachers".split())
def test_no_count_of_a_recipe_is_negative(field, tiny_recipe):
    with pytest.raises(ValueError, match=f"{field} must be a whole number of at least .*got -1"):
        tiny_recipe(**{field: -1})
