"""The explorer of sum, mul and bias: scores against the library's, and readable pictures."""

import itertools

import numpy as np
import pytest
import torch

from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import INTEGRATIONS, SeqPE
from seqpe_lab.explorers import explore
from seqpe_lab.explorers import integration_panel as integration

VECTORS = ((1.0, -2.0), (0.25, 1.5), (-0.5, 2.0), (1.75, -1.0))  # q, k, e_q, e_k


def picture(**state):
    state = integration.State(**state)
    return integration.explorer().draw(integration.compute(state), state)


def words(**state) -> str:
    return integration.explorer().answer(integration.State(**state))["words"]


def coordinates(q, k, e_q, e_k, strength=1.0) -> dict:
    return dict(
        zip(("q1", "q2", "k1", "k2", "eq1", "eq2", "ek1", "ek2"), (*q, *k, *e_q, *e_k)),
        strength=strength,
    )


def arrows(figure, plane: int):
    """The arrows of a plane, from 1."""
    return [
        trace
        for trace in figure.data
        if trace.type == "scatter" and (trace.xaxis or "x") == ("x" if plane == 1 else f"x{plane}")
    ]


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_a_score_is_the_dot_product_of_what_the_library_makes_of_query_and_key(name):
    seqpe = SeqPE(PositionEncoder(2, heads=1), heads=1, layers=1, integration=name)
    q, k, e_q, e_k = (torch.tensor(v) for v in VECTORS)
    new_q, new_k = seqpe.transform(
        q.unsqueeze(0), k.unsqueeze(0), [(e_q.unsqueeze(0), e_k.unsqueeze(0))], layer=0
    )
    terms = integration.scores(*VECTORS)[name]
    assert sum(terms.values()) == pytest.approx((new_q * new_k).sum().item(), abs=1e-6)


def test_the_terms_are_named_after_what_they_are():
    q, k, e_q, e_k = (np.array(v) for v in VECTORS)
    found = integration.scores(q, k, e_q, e_k)
    assert list(found["sum"].values()) == pytest.approx(
        [q @ k, q @ e_k, e_q @ k, e_q @ e_k]
    ) and list(found["sum"]) == [
        "q·k",
        "q·e<sub>k</sub>",
        "e<sub>q</sub>·k",
        "e<sub>q</sub>·e<sub>k</sub>",
    ]
    assert list(found["mul"].values()) == pytest.approx(list(e_q * e_k * q * k))
    assert found["no position"] == {"q·k": pytest.approx(q @ k)} and set(found["bias"]) == {
        "q·k",
        "e<sub>q</sub>·e<sub>k</sub>",
    }


def test_without_position_sum_and_bias_are_the_content_and_mul_is_nothing():
    figure = picture(**coordinates(*VECTORS, strength=0.0))
    content = np.dot(*VECTORS[:2])
    assert list(next(trace for trace in figure.data if trace.name == "score").x) == pytest.approx(
        [content, content, 0, content]
    )
    assert "mul ignores the content" in words(**coordinates(*VECTORS, strength=0.0))


def test_the_bars_of_a_score_add_up_to_its_diamond_and_to_the_title():
    figure = picture(**coordinates(*VECTORS, strength=0.5))
    score = next(trace for trace in figure.data if trace.name == "score")
    for name, total in zip(score.y, score.x):
        assert sum(
            value
            for bar in figure.data
            if bar.type == "bar"
            for y, value in zip(bar.y, bar.x)
            if y == name
        ) == pytest.approx(total)
        assert integration.short(total) in name and integration.short(
            total
        ) in figure.layout.title.text.replace(" <br>", " ")


def test_the_thick_arrows_are_what_each_formula_multiplies():
    q, k, e_q, e_k = (np.array(v) for v in VECTORS)
    figure = picture(**coordinates(*VECTORS))
    for plane, expected in ((1, (q + e_q, k + e_k)), (2, (q * e_q, k * e_k)), (3, (q, k))):
        solid = [arrow for arrow in arrows(figure, plane) if arrow.line.dash == "solid"]
        assert [(arrow.x[1], arrow.y[1]) for arrow in solid] == [
            pytest.approx(tuple(v)) for v in expected
        ]
    dashed = [
        arrow for arrow in arrows(figure, 1) if arrow.line.dash == "dash"
    ]  # from the content's tip to the sum's
    assert (dashed[0].x[0], dashed[0].y[0]) == pytest.approx(tuple(q)) and (
        dashed[0].x[1],
        dashed[0].y[1],
    ) == pytest.approx(tuple(q + e_q))


def test_no_arrow_leaves_its_plane():
    limit = integration.LIMIT
    for corner in itertools.product((-limit, limit), repeat=2):
        figure = picture(**coordinates((limit, limit), (-limit, limit), corner, corner))
        for plane in (1, 2, 3):
            assert (
                max(abs(v) for arrow in arrows(figure, plane) for v in (*arrow.x, *arrow.y))
                < integration.FARTHEST
            )


def test_names_that_would_cover_each_other_give_way():
    nothing = picture(**coordinates(*[(0.0, 0.0)] * 4))
    for plane in (1, 2, 3):
        named = [
            (arrow.text[1], arrow.textposition) for arrow in arrows(nothing, plane) if arrow.text[1]
        ]
        assert len(named) == 2 and named[0][1] != named[1][1]
    assert [
        arrow.text[1]
        for arrow in arrows(picture(**coordinates((1, 2), (2, -1), (-2, -2), (-2, 2))), 3)
    ] == ["q", "k", "e<sub>q</sub>", "e<sub>k</sub>"]


@pytest.mark.parametrize(
    "value, shown",
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-0.001, "0"),
        (10.0, "10"),
        (-13.94, "−13.94"),
        (0.5, "0.5"),
        (100.0, "100"),
    ],
)
def test_numbers_are_written_short(value, shown):
    assert integration.short(value) == shown


def test_a_slider_moves_the_vector():
    panel = explore("integration")
    panel.set(k1=-2.0)
    assert arrows(panel.figure, 3)[1].x[1] == -2.0 and panel.state.k1 == -2.0
    assert panel.message == ""
    panel.close()
