"""The explorer of position spaces, on tables of random numbers in place of the shipped ones."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqpe_lab import geometry as library
from seqpe_lab.encodings.absolute import sinusoidal_vectors
from seqpe_lab.explorers import explore, geometry_vectors, shipped_models
from seqpe_lab.explorers import geometry_panel as explorer
from seqpe_lab.recipes import language_model

BASE = dict(
    method="seqpe",
    step=shipped_models.STEPS[-1],
    view="heatmap",
    kind="cosine",
    positions=256,
    position=100,
    compare="123, 1000",
)
TRAINED = 64
SHIPPED = shipped_models.FOLDER


def forget():
    for cached in (
        shipped_models.tables,
        shipped_models.about,
        geometry_vectors.measures,
        geometry_vectors.curve,
        geometry_vectors.path_of,
        shipped_models.recipe,
    ):
        cached.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def tables(tmp_path_factory):
    """{method: {step: vectors}} as the explorer reads them; one vector for all by L_OOD alone."""
    folder, chance = tmp_path_factory.mktemp("bundle"), torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped_models, "FOLDER", folder)
        forget()
        for method in shipped_models.TABLES:
            vectors = {
                str(s): torch.randn(
                    shipped_models.AT_THE_END
                    if s == shipped_models.STEPS[-1]
                    else shipped_models.WHILE_LEARNING,
                    8,
                    generator=chance,
                ).half()
                for s in shipped_models.STEPS
            }
            if method == "seqpe-ood-only":
                vectors = {s: v[:1].repeat(len(v), 1) for s, v in vectors.items()}
            shipped_models._save(
                "table",
                method,
                vectors,
                {
                    "recipe": language_model(method, "small").to_json(),
                    "results": {"data": {"description": "a text", "hash": "abc"}},
                },
            )
        yield {method: shipped_models.tables(method) for method in shipped_models.TABLES}
    forget()


@pytest.fixture(scope="module")
def panel(tables):
    panel = explore("geometry")
    yield panel
    panel.close()


@pytest.fixture(autouse=True)
def as_at_first(panel):
    panel.set(**BASE | {"positions": shipped_models.AT_THE_END})
    yield
    assert not panel.message


def picture(**state):
    return explorer.explorer().draw(explorer.compute(explorer.State(**state)))


def vectors(method="seqpe", step=shipped_models.STEPS[-1], count=256):
    return shipped_models.tables(method)[step][:count]


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected", [("123, 1000", (123, 1000)), ("7;7  8", (7, 8)), ("", ()), ("0", (0,))]
)
def test_typed_positions_are_read(text, expected):
    assert explorer.read_positions(text) == expected


@pytest.mark.parametrize(
    "text, reason",
    [
        ("12, x", "'x' is no position"),
        ("-3", "'-3' is no position"),
        ("1.5", "'1.5' is no position"),
        ("²", "is no position"),
        ("1 2 3 4 5 6 7", "7 positions .* leave some out"),
    ],
)
def test_what_is_typed_wrong_is_named(text, reason):
    with pytest.raises(ValueError, match=reason):
        explorer.read_positions(text)


def test_the_path_keeps_distances_where_three_directions_hold_everything():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [5.0, 2.0, 1.0]
    )
    turned = (
        points
        @ torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)))[0][:3]
        + 7
    )
    coordinates, shares = geometry_vectors.principal_path(turned)
    centred, covariance = (points - points.mean(0)).numpy(), np.cov(points.T.numpy())
    assert np.allclose(
        coordinates @ coordinates.T, centred @ centred.T, atol=1e-3
    )  # all products, hence all distances
    assert np.allclose(shares, np.linalg.eigvalsh(covariance)[::-1] / covariance.trace(), atol=1e-4)
    assert (coordinates[-1] >= coordinates[0]).all()


def test_the_path_of_one_point_is_finite():
    coordinates, shares = geometry_vectors.principal_path(torch.ones(70, 8))
    assert np.isfinite(coordinates).all() and np.isfinite(shares).all()


def test_similarity_by_distance_against_a_loop():
    table = library.similarity(vectors(count=30))
    mean, low, high = geometry_vectors.by_distance(table)
    for z in range(30):
        pairs = sorted(float(table[p, p + z]) for p in range(30 - z))
        assert mean[z] == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
        assert (
            sum(v < low[z] for v in pairs) <= 0.1 * len(pairs) + 1
            and sum(v > high[z] for v in pairs) <= 0.1 * len(pairs) + 1
        )
        assert {low[z], high[z]} <= {np.float32(v) for v in pairs} and low[z] <= high[z]


@pytest.mark.parametrize("kind", library.KINDS)
def test_measures_are_the_librarys(kind):
    ours = geometry_vectors.measures("seqpe", 100, 256, kind)
    assert ours == {
        "correlation": library.distance_correlation(vectors(step=100), kind=kind),
        "confusion": library.lexical_confusion(vectors(step=100), 5, kind=kind),
        **library.collapse(vectors(step=100), 10),
    }


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, stretch", [("dot", False), ("cosine", False), ("cosine", True)])
def test_the_heatmap_shows_all_similarities_and_where_training_ended(kind, stretch):
    figure = picture(**BASE | {"kind": kind, "stretch": stretch})
    assert np.allclose(figure.data[0].z, library.similarity(vectors(), kind=kind), atol=1e-3)
    table = figure.data[0].z
    assert (figure.data[0].zmin, figure.data[0].zmax) == (
        (table.min(), table.max()) if kind == "dot" or stretch else (-1, 1)
    )
    assert (
        {shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1}
        == {TRAINED - 0.5}
        == {shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1}
    )
    assert not picture(**BASE | {"positions": TRAINED}).layout.shapes


def test_stretched_colours_show_what_is_hard_to_tell_apart_and_no_mere_rounding(tables):
    slightly = torch.cat(
        [torch.ones(256, 1), torch.linspace(0, 0.03, 256).unsqueeze(1), torch.zeros(256, 6)], 1
    )
    tables["seqpe"][10] = slightly
    heatmap = picture(**BASE | {"step": 10, "stretch": True}).data[0]
    assert (
        heatmap.zmin == heatmap.z.min()
        and 0.9995 < heatmap.z.min() < 0.9996
        and len(np.unique(heatmap.z[0])) > 100
    )
    collapsed = picture(**BASE | {"method": "seqpe-ood-only", "stretch": True}).data[0]
    assert (collapsed.zmin, collapsed.zmax) == (-1, 1)


def test_many_positions_are_thinned_and_the_axis_says_so():
    figure = picture(**BASE | {"positions": shipped_models.AT_THE_END})
    heatmap = figure.data[0]
    assert heatmap.dx == heatmap.dy == 3 and "every 3rd" in figure.layout.xaxis.title.text
    assert np.allclose(
        heatmap.z, library.similarity(vectors(count=1_100)[::3], kind="cosine"), atol=1e-4
    )


def test_the_path_tells_the_trained_from_the_others_and_names_those_asked_for():
    figure = picture(**BASE | {"view": "path", "positions": shipped_models.AT_THE_END})
    trained, beyond = figure.data[1:]
    assert (
        list(map(int, trained.text)) == list(range(TRAINED))
        and list(map(int, beyond.text)) == list(range(TRAINED, 1_100))
        and trained.marker.symbol != beyond.marker.symbol
    )
    coordinates, _ = geometry_vectors.principal_path(vectors(count=1_100))
    assert np.allclose(np.stack([beyond.x, beyond.y, beyond.z], 1), coordinates[TRAINED:])
    notes = {note.text: (note.x, note.y, note.z) for note in figure.layout.scene.annotations}
    assert set(notes) == {
        f"<b>{p}</b>" for p in ("0", "100", "123", "1,000", "1,099")
    } and np.allclose(notes["<b>123</b>"], coordinates[123])


@pytest.mark.parametrize("kind", library.KINDS)
def test_neighbours_are_the_librarys_and_look_alikes_are_marked(kind):
    figure = picture(
        **BASE | {"view": "neighbours", "kind": kind, "positions": shipped_models.AT_THE_END}
    )
    everything = vectors(count=1_100)
    assert np.allclose(
        named(figure, "all positions").y, library.similarity(everything, kind=kind)[100], atol=1e-4
    )
    nearest = library.nearest_neighbours(everything, kind, 8)[100].tolist()
    assert list(
        named(figure, "the 8 most similar").x
    ) == nearest and f"most similar to {nearest[0]:,}, " in figure.layout.title.text.replace(
        " <br>", " "
    )
    alike = list(named(figure, "one digit edit away").x)
    assert (
        alike == [q for q in range(1_100) if library.is_digit_edit(100, q, 5)]
        and 1_000 in alike
        and 123 not in alike
    )
    asked, (e_100, e_123) = named(figure, "asked for"), everything[[100, 123]]
    assert list(asked.x) == [100, 123, 1_000] and asked.y[1] == pytest.approx(
        float(e_100 @ e_123 if kind == "dot" else F.cosine_similarity(e_100, e_123, dim=0)),
        abs=1e-4,
    )


def test_distance_is_drawn_for_trained_pairs_and_for_those_beyond():
    figure = picture(**BASE | {"view": "distance"})
    lines = [trace for trace in figure.data if trace.name]
    assert [len(line.y) for line in lines] == [TRAINED, 256 - TRAINED] and lines[
        0
    ].line.dash != lines[1].line.dash
    for line, part in zip(lines, (vectors()[:TRAINED], vectors()[TRAINED:])):
        assert np.allclose(
            line.y, geometry_vectors.by_distance(library.similarity(part, kind="cosine"))[0]
        )
    assert (
        len(picture(**BASE | {"view": "distance", "positions": TRAINED}).data) == 3
    )  # the edges of a band and a line


def test_titles_claim_what_the_numbers_say(tables):
    line = torch.linspace(0, 1.5, 256)
    tables["seqpe"][30] = torch.stack([line.cos(), line.sin(), *torch.zeros(6, 256)], 1)
    assert "falls with distance (ρ = −1.00)" in picture(
        **BASE | {"step": 30}
    ).layout.title.text.replace(" <br>", " ")
    assert "says little about distance" in picture(**BASE).layout.title.text.replace(" <br>", " ")
    assert "0.0% as wide" in picture(
        **BASE | {"method": "seqpe-ood-only", "view": "path"}
    ).layout.title.text.replace(" <br>", " ")


@pytest.mark.parametrize("view", explorer.VIEWS)
@pytest.mark.parametrize("kind", library.KINDS)
def test_a_collapsed_space_is_drawn_too(view, kind):
    figure = picture(**BASE | {"method": "seqpe-ood-only", "view": view, "kind": kind})
    assert "nan" not in figure.layout.title.text.replace(" <br>", " ")
    for trace in figure.data:
        for values in (trace.y, trace.z if trace.type != "scatter" else None):
            assert values is None or np.isfinite(np.asarray(values, dtype=float)).all()


def test_the_caption_names_run_data_and_range():
    figure = picture(**BASE | {"step": 100})
    caption = figure.layout.annotations[-1].text.replace("<br>", " ")
    for part in (
        "scale small",
        "a text",
        "hash abc",
        "seed 0",
        "d=8",  # of the vectors above
        "step 100 of 1,000",
        "positions 0 to 63",
        "shown 0 to 255",
    ):
        assert part in caption


# --- panel --------------------------------------------------------------------------------------


def answer(panel) -> dict:
    """What the page shows."""
    return json.loads(panel.answer)


def test_only_positions_that_are_known_can_be_asked_for(panel):
    panel.set(position=1_000, step=100)
    assert answer(panel)["limits"]["position"] == panel.numbers.runs[0].position == 255
    assert "shown 0 to 255" in answer(panel)["caption"]
    panel.set(positions=64)
    assert answer(panel)["limits"]["position"] == 63
    panel.set(step=1_000, positions=1_100)
    assert answer(panel)["limits"]["position"] == 1_099


def test_a_shorter_range_is_drawn_once(panel, monkeypatch):
    panel.set(position=1_000)
    drawn, draw = [], panel._draw
    monkeypatch.setattr(panel, "_draw", lambda: drawn.append(draw()))
    panel.set(step=100)
    assert len(drawn) == 1


def test_words_compare_with_those_asked_for_and_say_which_are_not_there(panel):
    row = library.similarity(vectors(count=1_100), kind="cosine")[100]
    rank = int((row > row[123]).sum())  # position 100 itself is the one above all
    assert f"123: {row[123]:.3f} (rank {rank})".replace("-", "−") in answer(panel)["words"]
    panel.set(step=100)
    assert "1,000: not among positions 0 to 255" in answer(panel)["words"]


def test_a_typing_error_is_shown_and_the_picture_stays(panel):
    before = panel.numbers
    panel.set(compare="12, x")
    assert "is no position" in panel.message and panel.numbers is before
    assert answer(panel) == {"message": panel.message, "role": "alert"}
    panel.set(compare="12")
    assert panel.message == "" and panel.numbers is not before


# --- side by side, and without an encoder ---------------------------------------------------------


@pytest.mark.parametrize("view", explorer.VIEWS)
def test_two_runs_stand_side_by_side_as_each_would_alone(view):
    both = explorer.compute(
        explorer.State(**BASE | {"view": view, "beside": "seqpe-delta-only", "step": 100})
    )
    for run, method in zip(both.runs, ("seqpe", "seqpe-delta-only")):
        alone = explorer.run(method, both.state, (123, 1000))
        np.testing.assert_array_equal(run.row, alone.row)
        assert run.measures == alone.measures and run.name == alone.name
    figure = explorer.explorer().draw(both)
    places = {trace.scene if view == "path" else trace.xaxis for trace in figure.data}
    assert places == ({"scene", "scene2"} if view == "path" else {"x", "x2"})


def test_the_sinusoidal_table_does_not_learn(monkeypatch):
    real = shipped_models.encoding
    monkeypatch.setattr(shipped_models, "FOLDER", SHIPPED)
    forget()
    known = shipped_models.tables("sinusoidal")
    assert torch.equal(known[0], known[1_000][:256]) and len(known[1_000]) == 1_100
    expected = sinusoidal_vectors(torch.arange(1_100).unsqueeze(-1), known[0].shape[1])
    assert torch.allclose(known[1_000], expected, atol=1e-3)
    learned = shipped_models.tables("learned")
    table = real("text", "learned").table.weight
    assert torch.allclose(learned[1_000], table[: len(learned[1_000])], atol=1e-3)
    forget()
