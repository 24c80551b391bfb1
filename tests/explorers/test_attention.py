"""Content and position parts of attention, against the model's output and each formula."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from seqpe_lab.encodings import ENCODINGS, alibi_slopes, sinusoidal_vectors
from seqpe_lab.explorers import explore, make_explorer, shipped_models
from seqpe_lab.explorers.attention_parts import by_distance, deviation_within_rows, recorded, split
from seqpe_lab.explorers.attention_subjects import pieces_of
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.vit import ViT, ViTConfig
from seqpe_lab.recipes import image_model, language_model
from seqpe_lab.tasks.tokenization import load_tokenizer
from seqpe_lab.training import build_model, train

TOKENS = torch.tensor([list(b"to be or not")])


def loud(recipe, outputs):
    """An untrained model whose attention is not flat."""
    model = build_model(recipe, outputs)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models():
    made = {("text", m): loud(language_model(m, "small"), 256) for m in shipped_models.TEXT_MODELS}
    return made | {
        ("image", m): loud(image_model(m, "small"), 10) for m in shipped_models.IMAGE_MODELS
    }


@pytest.fixture
def shipped(models, monkeypatch):
    """The explorer runs on models that need no files."""

    def about(kind, method):
        recipe = language_model(method, "small") if kind == "text" else image_model(method, "small")
        return {
            "recipe": recipe.to_json(),
            "results": {"data": {"description": "no data", "hash": "abc"}},
        }

    monkeypatch.setattr(shipped_models, "model", lambda kind, method: models[kind, method])
    monkeypatch.setattr(shipped_models, "about", about)
    shipped_models.recipe.cache_clear()
    yield
    shipped_models.recipe.cache_clear()


def image(side):
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()  # as in the explorer: the encoder then looks its vectors up in one table
def caught(module, forward):
    """Input and output of a module while ``forward`` runs."""
    seen = []
    hook = module.register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0][0], output[0]))
    )
    forward()
    hook.remove()
    return seen[0]


def softmax(scores, sees):
    weights = np.where(
        sees, np.exp(scores - np.where(sees, scores, -np.inf).max(-1, keepdims=True)), 0
    )
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("method", shipped_models.TEXT_MODELS)
@pytest.mark.parametrize(("layer", "start"), [(0, 0), (2, 700)])
def test_the_parts_of_a_text_add_up_to_what_the_model_attends_with(models, method, layer, start):
    model = models["text", method]
    parts = split(model, TOKENS, start, layer)
    np.testing.assert_allclose(
        softmax(parts.content + parts.position, parts.sees), parts.weights, atol=1e-12
    )
    block = model.transformer.h[layer].attn
    v = (
        caught(block.c_attn, lambda: model(TOKENS, start=start))[1]
        .chunk(3, -1)[2]
        .unflatten(-1, (4, -1))
        .transpose(0, 1)
    )  # (H, L, d_head)
    out = caught(block.c_proj, lambda: model(TOKENS, start=start))[0]
    torch.testing.assert_close(
        (torch.from_numpy(parts.weights).float() @ v).transpose(0, 1).flatten(-2),
        out,
        atol=2e-4,
        rtol=2e-4,
    )
    assert np.array_equal(parts.sees, np.tri(TOKENS.shape[1], dtype=bool))


@pytest.mark.parametrize("method", shipped_models.IMAGE_MODELS)
@pytest.mark.parametrize(("layer", "side", "start"), [(0, 24, 0), (1, 36, 3)])
def test_the_parts_of_an_image_add_up_to_what_the_model_attends_with(
    models, method, layer, side, start
):
    model, start = models["image", method], 0 if method == "learned" else start
    parts = split(model, image(side), start, layer)
    np.testing.assert_allclose(
        softmax(parts.content + parts.position, parts.sees), parts.weights, atol=1e-12
    )
    attn = model.vit.blocks[layer].attn
    v = (
        caught(attn.qkv, lambda: model(image(side), start=(start, start)))[1]
        .unflatten(-1, (3, 4, -1))[:, 2]
        .transpose(0, 1)
    )
    out = caught(attn.proj, lambda: model(image(side), start=(start, start)))[0]
    torch.testing.assert_close(
        (torch.from_numpy(parts.weights).float() @ v).transpose(0, 1).flatten(-2),
        out,
        atol=2e-4,
        rtol=2e-4,
    )
    assert parts.sees.all() and len(parts.sees) == 1 + (side // 4) ** 2


def dots(model, layer, x):
    """q.k / sqrt(d_head) of a layer's input, head by head and pair by pair."""
    block = model.transformer.h[layer]
    q, k, _ = block.attn.c_attn(block.ln_1(x)).chunk(3, -1)
    d = q.shape[-1] // 4
    return np.array(
        [
            [
                [
                    float(q[i, h * d : (h + 1) * d].double() @ k[j, h * d : (h + 1) * d].double())
                    / d**0.5
                    for j in range(len(k))
                ]
                for i in range(len(q))
            ]
            for h in range(4)
        ]
    )


@pytest.mark.parametrize("method", shipped_models.TEXT_MODELS)
def test_content_of_the_first_layer_is_of_the_tokens_alone(models, method):
    model = models["text", method]
    np.testing.assert_allclose(
        split(model, TOKENS, 3, 0).content,
        dots(model, 0, model.transformer.wte(TOKENS[0])),
        atol=2e-3,
        rtol=1e-4,
    )


@pytest.mark.parametrize("method", ["sinusoidal", "learned"])
def test_content_of_a_later_layer_is_of_its_input_less_the_position_vectors(models, method):
    model, length = models["text", method], TOKENS.shape[1]
    positions = torch.arange(5, 5 + length)
    vectors = (
        sinusoidal_vectors(positions.unsqueeze(-1), 96)
        if method == "sinusoidal"
        else model.encoding.table(positions)
    )
    x = caught(model.transformer.h[1].ln_1, lambda: model(TOKENS, start=5))[0]
    parts = split(model, TOKENS, 5, 1)
    np.testing.assert_allclose(parts.content, dots(model, 1, x - vectors), atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(
        parts.content + parts.position, dots(model, 1, x), atol=2e-3, rtol=1e-4
    )
    assert np.abs(parts.position).max() > 0.1


def test_content_of_an_image_leaves_the_class_token_without_a_vector(models):
    model = models["image", "learned"]
    norm, attn = model.vit.blocks[1].norm1, model.vit.blocks[1].attn
    x = caught(norm, lambda: model(image(24)))[0].clone()  # (1 + 36, d)
    x[1:] -= model.encoding.table.weight
    q, k, _ = attn.qkv(norm(x)).unflatten(-1, (3, 4, -1)).permute(1, 2, 0, 3).double()
    np.testing.assert_allclose(
        split(model, image(24), 0, 1).content, (q @ k.mT / 4).numpy(), atol=2e-3, rtol=1e-4
    )


def test_nope_has_no_position_part(models):
    assert np.abs(split(models["text", "none"], TOKENS, 100, 2).position).max() == 0
    assert np.abs(split(models["image", "none"], image(36), 2, 2).position).max() == 0


def test_alibi_becomes_minus_m_times_distance_as_the_softmax_sees_it(models):
    for start in (0, 1_000):
        parts = split(models["text", "alibi"], TOKENS, start, 1)
        for head, slope in enumerate(alibi_slopes(4).tolist()):
            curve = by_distance(parts, head, relative=True)
            np.testing.assert_allclose(curve.mean, -slope * curve.distance, atol=1e-4)
            assert curve.spread.max() < 1e-4
            np.testing.assert_allclose(
                parts.position[head][:, 3], slope * (start + 3), atol=1e-4
            )  # as computed: m j


def test_rope_sees_distances_only_and_leaves_a_token_with_itself_alone(models):
    here, there = (split(models["text", "rope-1e4"], TOKENS, start, 1) for start in (0, 1_200))
    np.testing.assert_allclose(here.position, there.position, atol=5e-2)
    assert np.abs(here.position).max() > 1
    assert np.abs(np.diagonal(here.position, axis1=1, axis2=2)).max() < 1e-3


def test_seqpe_bias_is_the_product_of_its_two_vectors(models):
    model = models["text", "seqpe"]
    parts = split(model, TOKENS, 40, 0)
    with torch.no_grad():
        e_q, e_k = model.encoding.prepare(torch.arange(40, 40 + TOKENS.shape[1]).unsqueeze(-1))[0]
    np.testing.assert_allclose(
        parts.position, (e_q.double() @ e_k.double().mT / 24**0.5).numpy(), atol=1e-4, rtol=1e-5
    )
    assert np.abs(parts.position - split(model, TOKENS, 41, 0).position).max() > 1e-2


@pytest.mark.parametrize("relative", [True, False])
def test_the_curve_is_the_mean_over_all_pairs_at_a_distance(models, relative):
    parts = split(models["image", "seqpe-mul"], image(24), 0, 1)
    curve, groups = by_distance(parts, 2, relative), {}
    for i in range(36):
        for j in range(36):
            away = round(((i // 6 - j // 6) ** 2 + (i % 6 - j % 6) ** 2) ** 0.5, 6)
            value = parts.position[2][i + 1, j + 1]  # [CLS] is row and column 0
            groups.setdefault(away, []).append(
                value - parts.position[2][i + 1, i + 1] if relative else value
            )
    np.testing.assert_allclose(curve.distance, sorted(groups))
    assert list(curve.pairs) == [len(groups[d]) for d in sorted(groups)]
    np.testing.assert_allclose(curve.mean, [np.mean(groups[d]) for d in sorted(groups)], atol=1e-9)
    np.testing.assert_allclose(curve.spread, [np.std(groups[d]) for d in sorted(groups)], atol=1e-9)


def test_the_curve_of_a_text_looks_back_only(models):
    curve = by_distance(split(models["text", "seqpe"], TOKENS, 0, 0), 0, relative=False)
    assert list(curve.distance) == list(range(12)) and list(curve.pairs) == list(range(12, 0, -1))


def test_how_far_a_part_moves_scores_is_its_deviation_within_rows():
    sees = np.tri(3, dtype=bool)
    part = np.array([[5.0, 99, 99], [1, 3, 99], [100, 100, 103]])
    assert deviation_within_rows(part, sees) == pytest.approx(((0 + 1 + 1 + 1 + 1 + 4) / 6) ** 0.5)


def test_the_model_is_left_as_it_was(models):
    model = models["text", "learned"]
    before = model(TOKENS)
    split(model, TOKENS, 0, 1)
    with pytest.raises(RuntimeError, match="stop"), recorded(model.encoding):
        raise RuntimeError("stop")
    assert not {"transform", "embed"} & vars(model.encoding).keys()
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(TOKENS), before)


def caption(panel) -> str:
    return panel.explorer.answer(panel.state, panel.numbers)["caption"]


def tables(panel) -> list:
    """Content part, position part and weights of the chosen head, then the weights of all heads."""
    return [trace.z for trace in panel.figure.data if trace.meta]


def test_a_typed_text_is_drawn_refused_when_empty_and_cut_when_long(shipped):
    panel = explore("attention")
    assert list(panel.figure.layout.xaxis.ticktext) == list("the·cat·sat·on·the·mat")
    panel.set(text="naïve")
    assert panel.numbers.ticks["texts"] == ["n", "a", "c3", "af", "v", "e"]
    assert panel.numbers.maps[0].z.shape == (6, 6)
    panel.set(text="")
    assert "type at least 1" in panel.message and panel.numbers.maps[0].z.shape == (6, 6)
    panel.set(text="x" * 80)
    assert panel.message == "" and panel.numbers.maps[0].z.shape == (64, 64)
    assert "cut: the first 64 of 80 tokens" in caption(panel)
    panel.set(text="\ud800a")  # half a character, as a browser may send
    assert panel.message == "" and panel.numbers.maps[0].z.shape == (2, 2)
    panel.set(text="<i>", query=0)
    assert "&lt;" in json.loads(panel.answer)["words"], "no letter of a text becomes a tag"
    panel.close()


def test_the_heatmaps_show_the_causal_half_of_all_heads(shipped, models):
    panel = explore("attention?start=900&head=3")
    parts = split(models["text", "seqpe"], torch.tensor([list(panel.state.text.encode())]), 900, 0)
    expected = [parts.content[3], parts.position[3], parts.weights[3], *parts.weights]
    assert len(tables(panel)) == len(expected) == 7
    for shown, part in zip(tables(panel), expected):
        np.testing.assert_array_equal(np.isnan(shown), np.triu(np.ones((22, 22), dtype=bool), 1))
        np.testing.assert_allclose(
            np.tril(np.nan_to_num(shown)), np.tril(part), rtol=1e-5, atol=1e-6
        )
    panel.close()


def test_a_click_on_a_map_chooses_head_and_query(shipped):
    panel = explore("attention")
    maps = [trace for trace in panel.figure.data if trace.meta]
    assert [trace.meta["head"] for trace in maps] == [0, 0, 0, 0, 1, 2, 3]
    assert panel.explorer.click == {"query": "y", "head": "head"}
    panel.set(query=4, head=2)
    numbers = panel.numbers
    assert numbers.keys == [0, 1, 2, 3, 4] and numbers.who == "c"
    content, _, weights = (table.z[4] for table in numbers.maps[:3])
    np.testing.assert_allclose(numbers.row["content"], content[:5], rtol=1e-5)
    assert numbers.share == pytest.approx(np.nanmax(weights), rel=1e-5)
    panel.set(text="no", query=60)
    assert panel.message == "" and panel.numbers.who == "o", "the nearest token that there is"
    panel.close()


def test_an_image_starts_only_where_its_grid_fits_and_says_so(shipped):
    panel = explore("attention?kind=image&size=48&corner=14")
    assert panel.message == "" and "rows and columns from 8" not in caption(panel)
    assert "rows and columns 8 to 19" in caption(panel)
    assert "start 14 is not possible: positions end at 19" in caption(panel)
    assert panel.numbers.maps[0].z.shape == (145, 145)
    panel.set(image_method="learned")
    assert panel.message == "" and "a learned table has no other start than 0" in caption(panel)
    panel.set(size=24, image_method="rope-axial")
    assert "not possible" not in caption(panel)  # 14 + 6 patches = 20
    panel.close()


def test_only_the_controls_of_the_chosen_input_are_shown(shipped):
    when = {field["name"]: field.get("when") for field in make_explorer("attention").fields}
    only = {
        kind: {name for name, condition in when.items() if condition == {"kind": [kind]}}
        for kind in ("text", "image")
    }
    assert only["text"] == {"text", "method", "start"}
    assert only["image"] == {"digit", "drawing", "size", "image_method", "corner"}


def test_the_table_is_the_curve(shipped):
    panel = explore("attention")
    columns = panel.explorer.answer(panel.state, panel.numbers, table=True)["table"]
    curve = [trace for trace in panel.figure.data if trace.xaxis == "x6"][-1]
    assert columns["mean position part (nats)"] == pytest.approx(list(curve.y))
    assert columns["distance"] == list(range(22))
    panel.close()


def test_a_drawing_takes_the_place_of_the_digit(shipped):
    panel = explore("attention?kind=image")
    digit = panel.numbers.pixels
    panel.set(drawing="f" * 32 + "0" * 32)
    drawn = panel.numbers.pixels
    assert drawn.shape == digit.shape == (24, 24) and drawn[:10].min() > 0.9 > drawn[14:].max()
    for wrong in ("f" * 63, "g" * 64):
        panel.set(drawing=wrong)
        assert "64 digits 0 to f" in panel.message
    panel.close()


# --- a model of one's own -------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_the_explorer_takes_any_encoding_of_the_zoo_with_a_model_of_texts(name):
    shape = dict(vocab_size=256, d_model=24, layers=2, heads=2, train_len=32, max_position=256)
    try:
        model = GPT2(GPT2Config(**shape, encoding=name))
    except ValueError as error:
        assert "grid" in str(error) or "dimensions" in str(error), error
        return
    made = make_explorer("attention", model=model)
    state = made.state(text="abcab", start=3, layer=1)
    numbers = made.compute(state)
    content, position, weights = (m.z[4] for m in numbers.maps[:3])
    score = content.astype(float) + position
    np.testing.assert_allclose(softmax(score, np.isfinite(score)), weights, atol=1e-5)
    model.eval()
    block = model.transformer.h[1].attn
    tokens = torch.tensor([list(b"abcab")])
    v = caught(block.c_attn, lambda: model(tokens, start=3))[1].chunk(3, -1)[2][:, :12]
    out = caught(block.c_proj, lambda: model(tokens, start=3))[0][:, :12]  # of head 0
    np.testing.assert_allclose(np.nan_to_num(numbers.maps[2].z) @ v.numpy(), out, atol=1e-4)
    assert made.answer(state, numbers)["title"] and list(made.state().__dict__)[0] == "kind"


def test_an_image_model_of_ones_own_and_a_picture():
    small = dict(patch_size=4, embed_dim=16, depth=2, num_heads=2)
    model = ViT(ViTConfig(image_size=16, classes=3, encoding="rope", timm_options=small))
    made = make_explorer("attention", model=model, image=np.full((5, 7, 3), 255))
    state = made.state(layer=1, head=1)
    numbers = made.compute(state)
    assert numbers.pixels.shape == (16, 16) and numbers.pixels.min() == 1.0
    assert numbers.maps[0].z.shape == (17, 17) and len(numbers.maps) == 3 + 2
    assert made.state.__dataclass_fields__["size"].metadata["options"] == [16, 20, 24, 32]
    assert "RoPE" in made.answer(state, numbers)["title"]


def test_a_run_can_be_shown(tmp_path):
    recipe = language_model("alibi", "smoke", steps=1, warmup_steps=1)
    train(recipe, tmp_path / "run", progress=False)
    made = make_explorer("attention", model=tmp_path / "run")
    about = made.compute(made.state(text="the def of")).about
    assert about["name"] == "ALiBi" and "run · scale smoke · seed 0" in about["provenance"]


def test_a_tokenizer_names_its_tokens():
    tokenizer = load_tokenizer("bpe:300", {"a": "the cat sat on the mat " * 9})
    numbers, names = pieces_of(tokenizer, "the cat")
    assert "".join(names) == "the·cat" and len(names) == len(numbers) < 7


@pytest.mark.parametrize(
    ("model", "image", "kind", "says"),
    [
        (nn.Linear(2, 2), None, TypeError, "Linear is neither a GPT2 nor a ViT"),
        ({"vocab_size": 10}, None, ValueError, "10 tokens does not hold the 256 bytes"),
        ({"vocab_size": 256}, np.zeros((8, 8)), ValueError, "this model reads texts"),
    ],
)
def test_what_cannot_be_shown_is_refused(model, image, kind, says):
    if isinstance(model, dict):
        model = GPT2(GPT2Config(**model, d_model=8, layers=1, heads=2, encoding="none"))
    with pytest.raises(kind, match=says):
        make_explorer("attention", model=model, image=image)
