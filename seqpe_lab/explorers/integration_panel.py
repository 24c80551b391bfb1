"""Sum, mul and bias (SeqPE, Eq. 12 to 14) in two dimensions: a query, a key, and position vectors.

Every vector has two features, so that each score can be checked by hand.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from ipywidgets import FloatSlider

from seqpe_lab.course.style import add_train_line, finish
from seqpe_lab.explorers.drawing import plain, subplots
from seqpe_lab.explorers.panel import Panel, control

LIMIT, FARTHEST = 2.0, 4.9  # of a slider, and of the axes, which also hold sums and products
QUERY, KEY = "#0072B2", "#D55E00"
E_Q, E_K = "e<sub>q</sub>", "e<sub>k</sub>"
TERMS = {"q·k": ("#56B4E9", ""), f"q·{E_K}": ("#999999", "/"), f"{E_Q}·k": ("#999999", "\\"),
         f"{E_Q}·{E_K}": ("#E69F00", "x"), "feature 1, weighed": ("#009E73", "."),
         "feature 2, weighed": ("#CC79A7", "-")}  # colour, pattern


def _feature(value: float, name: str, help: str) -> float:
    return control(value, FloatSlider, name, help, min=-LIMIT, max=LIMIT, step=0.25)


@dataclass(frozen=True)
class State:
    """Two features of a query, of a key, and of the vectors of their positions."""
    q1: float = _feature(1.0, "q, feature 1", "what token i asks for")
    q2: float = _feature(2.0, "q, feature 2", "what token i asks for")
    k1: float = _feature(2.0, "k, feature 1", "what token j offers")
    k2: float = _feature(1.0, "k, feature 2", "what token j offers")
    eq1: float = _feature(1.0, "e_q, feature 1", "the position of token i")
    eq2: float = _feature(-0.5, "e_q, feature 2", "the position of token i")
    ek1: float = _feature(1.5, "e_k, feature 1", "the position of token j")
    ek2: float = _feature(-0.5, "e_k, feature 2", "the position of token j")
    strength: float = control(
        1.0, FloatSlider, "strength of the positions", "e_q and e_k are multiplied by it: at 0 "
        "there is no position, as with a W_PE of zeros", min=0.0, max=1.0, step=0.1)


class Numbers(NamedTuple):
    """The four vectors, (2,) each, those of positions times their strength, and the scores."""
    q: np.ndarray
    k: np.ndarray
    e_q: np.ndarray
    e_k: np.ndarray
    scores: dict[str, dict[str, float]]  # {formula: {term: value}}
    totals: list[float]  # of the formulas


def compute(state: State) -> Numbers:
    vectors = np.array([[state.q1, state.q2], [state.k1, state.k2],
                        [state.eq1, state.eq2], [state.ek1, state.ek2]], dtype=float)
    vectors[2:] *= state.strength
    found = scores(*vectors)
    return Numbers(*vectors, found, [sum(terms.values()) for terms in found.values()])


def scores(q, k, e_q, e_k) -> dict[str, dict[str, float]]:
    """The scores of a query and a key by each formula, not yet divided by sqrt(d_head), in terms.

    >>> {name: sum(terms.values()) for name, terms
    ...  in scores((1, 2), (3, 1), (1, 0), (2, 1)).items()}    # lesson 07
    {'no position': 5.0, 'sum': 14.0, 'mul': 6.0, 'bias': 7.0}
    """
    q, k, e_q, e_k = (np.asarray(v, dtype=float) for v in (q, k, e_q, e_k))
    four = dict(zip(TERMS, (float(a @ b) for a in (q, e_q) for b in (k, e_k))))
    weighed = dict(zip(list(TERMS)[4:], (e_q * e_k * q * k).tolist()))
    return {"no position": {"q·k": four["q·k"]}, "sum": four, "mul": weighed,
            "bias": {term: four[term] for term in ("q·k", f"{E_Q}·{E_K}")}}


def draw(numbers: Numbers) -> go.Figure:
    """A plane for each formula with the vectors that it multiplies; below, the scores' terms."""
    q, k, e_q, e_k = numbers.q, numbers.k, numbers.e_q, numbers.e_k
    without, by_sum, by_mul, by_bias = map(short, numbers.totals)
    sign, product = "−" if e_q @ e_k < 0 else "+", short(abs(e_q @ e_k))
    figure = subplots([
        f"sum: (q + {E_Q})·(k + {E_K})<br>{_pair(q + e_q)}·{_pair(k + e_k)} = <b>{by_sum}</b>",
        f"mul: (q ⊙ {E_Q})·(k ⊙ {E_K})<br>{_pair(q * e_q)}·{_pair(k * e_k)} = <b>{by_mul}</b>",
        f"bias: q·k + {E_Q}·{E_K}<br>{without} {sign} {product} = <b>{by_bias}</b>",
    ], _set_axes, rows=2, cols=3, specs=[[{}] * 3, [{"colspan": 3}, None, None]],
        row_heights=[0.6, 0.4], vertical_spacing=0.18, horizontal_spacing=0.05)
    origin, content, position = np.zeros((2, 2)), (q, k), (e_q, e_k)
    dotted = (("q", "k"), "dot", origin, content)
    _draw_arrows(figure, 1, (
        ((f"q + {E_Q}", f"k + {E_K}"), "solid", origin, (q + e_q, k + e_k)), dotted,
        (("", ""), "dash", content, (q + e_q, k + e_k))))
    _draw_arrows(figure, 2, (
        ((f"q ⊙ {E_Q}", f"k ⊙ {E_K}"), "solid", origin, (q * e_q, k * e_k)), dotted,
        (("", ""), "dash", origin, position)))
    _draw_arrows(figure, 3, ((("q", "k"), "solid", origin, content),
                             ((E_Q, E_K), "dash", origin, position)))
    _draw_terms(figure, numbers)
    return finish(
        figure, f"The same vectors score {by_sum} by sum, {by_mul} by mul, {by_bias} by bias, "
        f"{without} without position", "dotted: content q and k · dashed: position e · solid: what "
        "is multiplied · blue: of the query, orange: of the key · scores before the division by "
        "√d_head and the softmax · vectors from the sliders, nothing trained · SeqPE, Sec. 3.5, "
        "Eq. 12 to 14", height=790, margin=dict(t=110, l=165))


def _set_axes(figure: go.Figure) -> None:
    figure.update_annotations(font_size=13)
    figure.update_xaxes(range=[-FARTHEST, FARTHEST], title="feature 1", title_standoff=2, dtick=2,
                        row=1)
    figure.update_yaxes(range=[-FARTHEST, FARTHEST], dtick=2, row=1)
    figure.update_yaxes(title="feature 2", row=1, col=1)
    figure.update_xaxes(title="score (unit: that of q·k); dashed: without position",
                        zerolinecolor="#111111", row=2)
    figure.update_yaxes(autorange="reversed", categoryorder="array", automargin=False, row=2)
    above_bars = figure.layout.yaxis4.domain[1] + 0.01
    figure.update_layout(barmode="relative", legend=dict(
        orientation="h", x=0, y=above_bars, yanchor="bottom", itemclick=False))


def _draw_arrows(figure: go.Figure, column: int, pairs) -> None:
    """Arrows of one plane, the important ones first; a name that would cover another is omitted.

    Args:
        pairs: (names, dash, starts, ends), each for the query and for the key.
    """
    named = []
    arrows = [(name, colour, dash, start, end) for names, dash, starts, ends in pairs
              for name, colour, start, end in zip(names, (QUERY, KEY), starts, ends)]
    for name, colour, dash, start, end in arrows:
        if any(other == colour and np.abs(tip - end).max() < 0.9 for tip, other, _ in named):
            name = ""  # the important name says it
        across = ["left", "right"] if end[0] < 0 else ["right", "left"]  # outwards first
        along = ["bottom", "top"] if end[1] < 0 else ["top", "bottom"]
        sides = [f"{y} {x}" for x in across for y in along]
        near = [side for tip, _, side in named if (np.abs(tip - end) < (1.8, 0.9)).all()]
        side = next((side for side in sides if side not in near), sides[0])
        if name:
            named.append((end, colour, side))
        width = {"solid": 4, "dash": 2.5, "dot": 2}[dash]
        figure.add_scatter(
            x=[start[0], end[0]], y=[start[1], end[1]], mode="lines+markers+text", text=["", name],
            textposition=side, textfont=dict(color=colour, size=14), row=1, col=column,
            line=dict(color=colour, width=width, dash=dash), cliponaxis=False, showlegend=False,
            marker=dict(color=colour, symbol="arrow", angleref="previous", size=[0, 6 + 2 * width],
                        opacity=1),
            hovertemplate=f"(%{{x:.2f}}, %{{y:.2f}})<extra>{name or 'e'}</extra>")


def _draw_terms(figure: go.Figure, numbers: Numbers) -> None:
    """One bar for each score, split into terms; a diamond at their sum."""
    formulas = ("no position", "sum, Eq. 12", "mul, Eq. 13", "bias, Eq. 14")
    bars = [f"{name} = <b>{short(total)}</b>" for name, total in zip(formulas, numbers.totals)]
    all_terms = numbers.scores.values()
    for term, (colour, pattern) in TERMS.items():
        values = {bar: terms[term] for bar, terms in zip(bars, all_terms) if term in terms}
        figure.add_bar(y=list(values), x=list(values.values()), orientation="h", name=term,
                       marker=dict(color=colour, pattern_shape=pattern, line_width=1,
                                   line_color="#111111"),
                       hovertemplate=f"{term}: %{{x:.2f}}<extra></extra>", row=2, col=1)
    figure.add_scatter(y=bars, x=numbers.totals, mode="markers", name="score", cliponaxis=False,
                       marker=dict(symbol="diamond", size=13, color="#111111", line_width=1,
                                   line_color="white"),
                       hovertemplate="score %{x:.2f}<extra></extra>", row=2, col=1)
    add_train_line(figure, numbers.totals[0], row=2, col=1)
    ends = [sum(value for value in terms.values() if sign * value > 0)
            for terms in all_terms for sign in (-1, 1)]
    figure.layout.xaxis4.range = [1.06 * min(-2, *ends), 1.06 * max(12, *ends)]
    figure.layout.yaxis4.categoryarray = bars


def short(value: float) -> str:
    """Two decimals at most."""
    return plain(value).rstrip("0").rstrip(".")


def _pair(vector: np.ndarray) -> str:
    return f"({short(vector[0])}, {short(vector[1])})"


def words(numbers: Numbers) -> str:
    """What each formula keeps and loses, with the numbers of the sliders."""
    q, k, e_q, e_k = numbers.q, numbers.k, numbers.e_q, numbers.e_k
    weight = e_q * e_k
    blind = "" if weight.any() else " Both are 0: mul ignores the content."
    return (f"<b>Sum</b> is bias and two mixed terms, q·{E_K} = {short(q @ e_k)} and {E_Q}·k = "
            f"{short(e_q @ k)}. <b>Mul</b> multiplies feature 1 by {short(weight[0])} and feature "
            f"2 by {short(weight[1])}: 1 leaves a feature alone, 0 removes it, less than 0 flips "
            f"its sign.{blind} <b>Bias</b> adds {short(e_q @ e_k)}, whatever the content is. Let "
            "the strength go to 0: sum and bias fall back to q·k, mul to 0.")


def explore() -> Panel:
    """The panel: the four vectors on sliders."""
    return Panel("Sum, mul, bias", "A query, a key, and a position vector for each, of two "
                 "features. Move them: every formula makes another score of the same vectors.",
                 State, compute, draw, words=words)
