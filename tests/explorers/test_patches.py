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

TRAINED, MOST = 3, 20
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
    """Of side, row, column and kind."""
    side, row, column, *kind = state
    return patches.compute(
        patches.State(rows=side, columns=side, row=row, column=column, kind=kind[0])
    )


def picture(*state):
    return patches.explorer().draw(numbers(*state))


def similarity_map(method, side, patch, kind):
    """Of a patch to all of a square grid."""
    state = patches.State(rows=side, columns=side, kind=kind)
    return patches.similarity_map(method, state, *divmod(patch, side))


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
                ours = similarity_map(method, side, patch, kind).similarities
                assert np.allclose(ours, expected[patch].view(side, side), atol=1e-5)


def test_a_learned_table_is_stretched_and_seqpe_reads_digits():
    table = encoding("learned").table.weight
    assert torch.equal(patches.vectors("learned", TRAINED, TRAINED), table)
    assert torch.equal(
        patches.vectors("learned", 8, 8), resample_grid(table, (TRAINED, TRAINED), (8, 8))
    )
    for method in ("seqpe-mul", "seqpe-mul-no-losses"):
        assert torch.allclose(
            patches.vectors(method, 8, 8), encoding(method).encoder(grid(8, 8)), atol=1e-5
        )
        assert torch.allclose(
            patches.vectors(method, 8, 8).view(8, 8, -1)[:3, :3],
            patches.vectors(method, 3, 3).view(3, 3, -1),
            atol=1e-5,
        )  # a larger grid changes nothing


@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_nearest_patches_against_a_loop(kind):
    table = patches.vectors("seqpe-mul", 4, 4)
    for patch in range(16):
        row = [
            float(table[patch] @ other)
            / (float(table[patch].norm() * other.norm()) if kind == "cosine" else 1)
            for other in table
        ]
        ours = similarity_map("seqpe-mul", 4, patch, kind)
        assert np.allclose(ours.flat, row, atol=1e-5)
        found = ours.nearest[0] * 4 + ours.nearest[1]
        assert found != patch and row[found] == pytest.approx(
            max(row[:patch] + row[patch + 1 :]), abs=1e-5
        )


@pytest.mark.parametrize("method", patches.METHODS)
def test_a_grid_may_be_a_rectangle(method):
    """Its vectors are those of the same places of a square grid; a learned table is stretched."""
    table = patches.vectors(method, 4, 7)
    if method == "learned":
        own = encoding(method).table.weight
        assert torch.equal(table, resample_grid(own, (TRAINED, TRAINED), (4, 7)))
    else:
        square = patches.vectors(method, 7, 7)
        assert torch.allclose(table.view(4, 7, -1), square.view(7, 7, -1)[:4], atol=1e-5)
    state = patches.State(methods=(method,), rows=4, columns=7, row=3, column=6)
    (found,) = patches.compute(state).maps
    assert found.similarities.shape == (4, 7)
    assert found.away == math.dist((3, 6), found.nearest) > 0


@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_has_its_own_projection_and_its_own_rotations(layer):
    seqpe = encoding("seqpe-mul")
    expected = seqpe.projections[layer](seqpe.encoder(grid(5, 5)))
    assert torch.allclose(patches.vectors("seqpe-mul", 5, 5, layer), expected, atol=1e-5)
    both = patches.vectors("rope-mixed", 5, 5).chunk(2, dim=1)  # the layers, one after the other
    own = patches.vectors("rope-mixed", 5, 5, layer)
    assert torch.allclose(own, both[layer] * 2**0.5, atol=1e-6)


# --- picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_chosen_encoding_has_its_map_on_its_own_colours(kind):
    figure = picture(7, 2, 4, kind)
    assert [trace.name for trace in figure.data] == [
        "APE learned",
        "RoPE axial",
        "RoPE mixed",
        "SeqPE mul",
        "SeqPE mul, no losses",
    ]
    for method, trace in zip(patches.METHODS, figure.data):
        ours = similarity_map(method, 7, 2 * 7 + 4, kind).similarities
        others = np.delete(ours.ravel(), 2 * 7 + 4)
        assert np.allclose(trace.z, ours, atol=1e-4)
        assert (trace.zmin, trace.zmax) == pytest.approx((others.min(), others.max()))
    assert "Patch (2, 4) of 7 × 7" in figure.layout.title.text
    some = patches.State(methods=("rope-axial", "seqpe-mul"), colours="same", rows=7, columns=7)
    figure = patches.explorer().draw(patches.compute(some))
    assert [trace.name for trace in figure.data] == ["RoPE axial", "SeqPE mul"]
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(-1, 1)}


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
    close = sum(m.away < 1.5 for m in numbers(7, 2, 4, "cosine").maps)
    title = picture(7, 2, 4, "cosine").layout.title.text.replace(" <br>", " ")
    assert 0 < close < 5 and f"for {close} of 5 encodings" in title


def test_the_caption_names_runs_data_and_sizes():
    caption = picture(7, 2, 4, "cosine").layout.annotations[-1].text.replace("<br>", " ")
    for part in ("scale smoke", "digits", "hash abc", "seed 0", "3 × 3 patches", "28 × 28 pixels"):
        assert part in caption


def test_the_table_holds_the_maps():
    asked = numbers(5, 1, 3, "cosine")
    table = patches.explorer().answer(asked.state, asked, table=True)["table"]
    assert (
        table["row"][7] == 1
        and table["column"][7] == 2
        and all(len(column) == 25 for column in table.values())
    )
    assert table["RoPE axial"] == similarity_map("rope-axial", 5, 8, "cosine").flat.tolist()


# --- panel --------------------------------------------------------------------------------------


def test_a_click_sets_row_and_column(panel):
    """What the page does with it is tested in a browser."""
    assert panel.about["click"] == {"row": "y", "column": "x"}


def test_a_shrinking_grid_takes_the_patch_along_in_one_drawing(panel, monkeypatch):
    panel.set(rows=MOST, columns=MOST, row=MOST - 1, column=MOST - 1)
    drawn, draw = [], panel._draw
    monkeypatch.setattr(panel, "_draw", lambda: drawn.append(draw()))
    panel.set(rows=TRAINED, columns=TRAINED + 1)
    assert len(drawn) == 1 and not panel.message
    shown = panel.numbers
    assert (shown.row, shown.column) == (TRAINED - 1, TRAINED)
    assert shown.limits == {"row": TRAINED - 1, "column": TRAINED}


def test_the_grid_grows_from_the_trained_one_to_the_largest_position(panel):
    fields = {field["name"]: field for field in panel.about["fields"]}
    for name in ("rows", "columns"):
        assert (fields[name]["min"], fields[name]["max"]) == (TRAINED, MOST)
