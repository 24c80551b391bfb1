"""The explorer of patches, on tiny untrained classifiers in place of the shipped ones."""

import math

import numpy as np
import pytest
import torch

from seqpe_lab.digits import grid
from seqpe_lab.encodings import resample_grid, rotary_angles
from seqpe_lab.explorers import explore, shipped_models
from seqpe_lab.explorers import patches_panel as patches
from seqpe_lab.geometry import KINDS
from seqpe_lab.recipes import image_model
from seqpe_lab.training import build_model

TRAINED, MOST = 3, 10
TINY = dict(
    d_model=16,
    layers=2,
    heads=2,
    patch=4,
    image_size=4 * TRAINED,
    max_position=MOST,
    teachers=4,
    eval_sizes=(12, 16),
)


def forget():
    for cached in (
        shipped_models.model,
        shipped_models.encoding,
        shipped_models.about,
        shipped_models.recipe,
        patches.vectors,
        patches.nearest,
    ):
        cached.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def tiny_bundle(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped_models, "FOLDER", tmp_path_factory.mktemp("bundle"))
        forget()
        for method in patches.METHODS:
            recipe = image_model(method, "smoke", **TINY)
            weights = build_model(recipe, 10).state_dict()
            shipped_models._save(
                "image",
                method,
                {name: t.half() if t.is_floating_point() else t for name, t in weights.items()},
                {
                    "recipe": recipe.to_json(),
                    "outputs": 10,
                    "results": {"data": {"description": "digits", "hash": "abc"}},
                },
            )
        yield
    forget()


@pytest.fixture
def panel():
    panel = explore("patches")
    yield panel
    panel.close()


def numbers(*state):
    return patches.compute(patches.State(*state))


def picture(*state):
    return patches.draw(numbers(*state))


def encoding(method):
    return shipped_models.model("image", method).encoding


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [TRAINED, 7])
def test_rope_similarity_is_the_mean_cosine_of_what_rotation_turns_two_patches_apart(side):
    places = grid(side, side)
    axial = rotary_angles(places, d_head=8, base=100.0)  # (N, 4), the same in every layer and head
    mixed = torch.einsum(
        "pn,nlhf->plhf", places.flip(-1).float(), encoding("rope-mixed").frequency
    ).flatten(1)  # of all layers, heads and pairs
    for method, angles in (("rope-axial", axial), ("rope-mixed", mixed.double())):
        expected = (angles.unsqueeze(1) - angles).cos().mean(-1)
        for kind in KINDS:
            for patch in (0, side + 1, side * side - 1):
                ours = patches.similarity_map(patches.vectors(method, side), patch, kind)
                assert np.allclose(ours, expected[patch].view(side, side), atol=1e-5)


def test_a_learned_table_is_stretched_and_seqpe_reads_digits():
    table = encoding("learned").table.weight
    assert torch.equal(patches.vectors("learned", TRAINED), table)
    assert torch.equal(
        patches.vectors("learned", 8), resample_grid(table, (TRAINED, TRAINED), (8, 8))
    )
    for method in ("seqpe-mul", "seqpe-mul-no-losses"):
        assert torch.allclose(
            patches.vectors(method, 8), encoding(method).encoder(grid(8, 8)), atol=1e-5
        )
        assert torch.allclose(
            patches.vectors(method, 8).view(8, 8, -1)[:3, :3],
            patches.vectors(method, 3).view(3, 3, -1),
            atol=1e-5,
        )  # a larger grid changes nothing


@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_nearest_patches_against_a_loop(kind):
    table = patches.vectors("seqpe-mul", 4)
    for patch in range(16):
        row = [
            float(table[patch] @ other)
            / (float(table[patch].norm() * other.norm()) if kind == "cosine" else 1)
            for other in table
        ]
        assert np.allclose(patches.similarity_map(table, patch, kind).flatten(), row, atol=1e-5)
        found = patches.nearest("seqpe-mul", 4, kind)[patch]
        assert found != patch and row[found] == pytest.approx(
            max(row[:patch] + row[patch + 1 :]), abs=1e-5
        )


def test_distance_is_euclidean_in_patches():
    def away(patch, other):
        nearest = {"learned": [other] * 25}
        return patches.Numbers(patches.State(5, 0, 0), TRAINED, {}, nearest).away("learned", patch)

    assert away(0, 6) == pytest.approx(math.sqrt(2)) and away(0, 4) == 4 and away(7, 22) == 3


# --- picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_encoding_has_its_map(kind):
    figure = picture(7, 2, 4, kind)
    assert [trace.name for trace in figure.data] == [
        "APE learned",
        "RoPE axial",
        "RoPE mixed",
        "SeqPE mul",
        "SeqPE mul, no losses",
    ]
    for method, trace in zip(patches.METHODS, figure.data):
        assert np.allclose(
            trace.z, patches.similarity_map(patches.vectors(method, 7), 2 * 7 + 4, kind), atol=1e-4
        )
        assert (trace.coloraxis == "coloraxis") == (
            kind == "cosine"
        )  # one scale for all, or each its own
    assert "Patch (2, 4) of 7 × 7" in figure.layout.title.text.replace(" <br>", " ")


def test_the_chosen_patch_is_framed_and_the_trained_grid_too_where_others_are_new():
    shapes = picture(7, 2, 4, "cosine").layout.shapes
    framed = {s.xref for s in shapes if (s.x0, s.x1, s.y0, s.y1) == (3.5, 4.5, 1.5, 2.5)}
    trained = {
        s.xref
        for s in shapes
        if (s.x0, s.x1, s.y0, s.y1) == (-0.5, TRAINED - 0.5, -0.5, TRAINED - 0.5)
    }
    assert (
        framed == {"x", "x2", "x3", "x4", "x5"}
        and trained == framed - {"x"}
        and len(shapes) == 2 * (5 + 4)
    )


def test_the_title_counts_adjacent_patches():
    close = sum(numbers(7, 2, 4, "cosine").away(m, 18) < 1.5 for m in patches.METHODS)
    assert 0 < close < 5 and f"for {close} of 5 encodings" in picture(
        7, 2, 4, "cosine"
    ).layout.title.text.replace(" <br>", " ")


def test_the_caption_names_runs_data_and_sizes():
    caption = picture(7, 2, 4, "cosine").layout.annotations[-1].text.replace("<br>", " ")
    for part in (
        "scale smoke",
        "digits",
        "hash abc",
        "seed 0",
        "12 × 12 pixels",
        "patches of 4",
        "shown: 28 × 28 pixels",
    ):
        assert part in caption


def test_the_table_holds_the_maps():
    table = patches.table(numbers(5, 1, 3, "cosine"))
    assert (
        table["row"][7] == 1
        and table["column"][7] == 2
        and all(len(column) == 25 for column in table.values())
    )
    assert (
        table["RoPE axial"]
        == patches.similarity_map(patches.vectors("rope-axial", 5), 8, "cosine").flatten().tolist()
    )


# --- panel --------------------------------------------------------------------------------------


def click(panel, row, column):
    """As the page reports it."""
    panel.plot._handle_custom_msg({"x": column, "y": row}, [])


def test_a_click_chooses_the_patch(panel):
    click(panel, 1, 4)
    assert (
        panel.state.row == 1
        and panel.state.column == 4
        and "Patch (1, 4)" in panel.figure.layout.title.text.replace(" <br>", " ")
        and not panel._wrong
    )


def test_a_click_still_works_after_moves(panel):
    panel.controls["side"].value = MOST
    click(panel, 9, 8)
    panel.controls["row"].value = 0
    click(panel, 7, 9)
    assert "Patch (7, 9)" in panel.figure.layout.title.text.replace(" <br>", " ")


def test_sliders_do_what_a_click_does(panel):
    panel.controls["row"].value = 5
    panel.controls["column"].value = 0
    by_sliders = panel.figure.to_json()
    panel.controls["row"].value = 1
    click(panel, 5, 0)
    assert panel.figure.to_json() == by_sliders


def test_a_shrinking_grid_takes_the_patch_along_in_one_drawing(panel, monkeypatch):
    with panel.at_once():
        panel.controls["side"].value = MOST
    panel.controls["row"].value = panel.controls["column"].value = MOST - 1
    drawn, draw = [], panel._draw
    monkeypatch.setattr(panel, "_draw", lambda: drawn.append(draw()))
    panel.controls["side"].value = TRAINED
    assert len(drawn) == 1 and not panel._wrong
    assert (
        panel.state.row,
        panel.controls["row"].max,
        panel.state.column,
        panel.controls["column"].max,
    ) == (TRAINED - 1,) * 4


def test_the_grid_grows_from_the_trained_one_to_the_largest_position(panel):
    assert (panel.controls["side"].min, panel.controls["side"].max) == (TRAINED, MOST)
