"""Sum, mul and bias (SeqPE, Eq. 12 to 14) in two dimensions: a query, a key, and position vectors.

Every vector has two features, so that each score can be checked by hand.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqpe_lab.explorers.drawing import axes, either, heading
from seqpe_lab.explorers.explorer import Explorer, Stop
from seqpe_lab.explorers.fields import number

LIMIT, FARTHEST = 2.0, 4.9  # of a slider, and of the axes, which also hold sums and products
QUERY, KEY = "#0072B2", "#D55E00"
E_Q, E_K = "e<sub>q</sub>", "e<sub>k</sub>"
TERMS = {"q·k": ("#56B4E9", ""), f"q·{E_K}": ("#999999", "/"), f"{E_Q}·k": ("#999999", "\\"),
         f"{E_Q}·{E_K}": ("#E69F00", "x"), "feature 1, weighed": ("#009E73", "."),
         "feature 2, weighed": ("#CC79A7", "-")}  # colour, pattern
FORMULAS = ("no position", "sum, Eq. 12", "mul, Eq. 13", "bias, Eq. 14")


def _feature(value: float, name: str, help: str) -> float:
    return number(value, name, help, min=-LIMIT, max=LIMIT, step=0.25)


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
    strength: float = number(
        1.0, "strength", "of the positions: e_q and e_k are multiplied by it; at 0 there is no "
        "position, as with a W_PE of zeros", min=0.0, max=1.0, step=0.1)


@dataclass(frozen=True)
class Arrow:
    """An arrow of one plane."""
    axis: str  # of its plane, as plotly numbers them
    x: list[float]  # start and end
    y: list[float]
    names: list[str]  # at its two ends
    side: str  # where the name is
    colour: str
    dash: str
    width: float
    sizes: list[float]  # of the markers at its ends


@dataclass(frozen=True)
class Term:
    """A term of the scores: its value in each formula that has it, as bars."""
    name: str
    colour: str
    pattern: str
    bars: list[str]
    values: list[float]


@dataclass(frozen=True)
class Numbers:
    """The scores, and what is drawn of them."""
    scores: dict[str, dict[str, float]]  # {formula: {term: value}}
    totals: list[float]  # of the formulas
    arrows: list[Arrow]
    headings: list[dict[str, str]]  # "text" above each plane
    terms: list[Term]
    bars: list[str]  # names of the formulas with their scores
    range: list[float]  # of the scores' axis
    short: dict[str, str]  # numbers in the texts, two decimals at most
    blind: bool  # both weights of mul are 0


def compute(state: State) -> Numbers:
    """Score the query and the key by each formula."""
    vectors = np.array([[state.q1, state.q2], [state.k1, state.k2],
                        [state.eq1, state.eq2], [state.ek1, state.ek2]], dtype=float)
    vectors[2:] *= state.strength
    q, k, e_q, e_k = vectors
    found = scores(q, k, e_q, e_k)
    totals = [sum(terms.values()) for terms in found.values()]
    written = [short(total) for total in totals]
    bars = [f"{name} = <b>{total}</b>" for name, total in zip(FORMULAS, written)]
    terms = [Term(term, colour, pattern, *map(list, zip(*(
        (bar, of[term]) for bar, of in zip(bars, found.values()) if term in of))))
        for term, (colour, pattern) in TERMS.items()]
    ends = [sum(value for value in of.values() if sign * value > 0)
            for of in found.values() for sign in (-1, 1)]
    sign, weight = "−" if e_q @ e_k < 0 else "+", e_q * e_k
    headings = [
        f"sum: (q + {E_Q})·(k + {E_K})<br>{_pair(q + e_q)}·{_pair(k + e_k)} = <b>{written[1]}</b>",
        f"mul: (q ⊙ {E_Q})·(k ⊙ {E_K})<br>{_pair(q * e_q)}·{_pair(k * e_k)} = <b>{written[2]}</b>",
        f"bias: q·k + {E_Q}·{E_K}<br>{written[0]} {sign} {short(abs(e_q @ e_k))} = "
        f"<b>{written[3]}</b>"]
    return Numbers(
        found, totals, arrows(q, k, e_q, e_k), [{"text": text} for text in headings], terms, bars,
        [1.06 * min(-2, *ends), 1.06 * max(12, *ends)],
        dict(zip(("none", "sum", "mul", "bias"), written)) | {
            "q_ek": short(q @ e_k), "eq_k": short(e_q @ k), "eq_ek": short(e_q @ e_k),
            "weight1": short(weight[0]), "weight2": short(weight[1])}, not weight.any())


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


def arrows(q: np.ndarray, k: np.ndarray, e_q: np.ndarray, e_k: np.ndarray) -> list[Arrow]:
    """The vectors of the three planes, all (2,); a name that would cover another is omitted."""
    zero, made = np.zeros((2, 2)), []
    content, position = (q, k), (e_q, e_k)
    added, multiplied = (q + e_q, k + e_k), (q * e_q, k * e_k)
    dotted = (("q", "k"), "dot", zero, content)
    for axis, pairs in (  # names, dash, starts and ends of the query's and the key's arrow
            ("", (((f"q + {E_Q}", f"k + {E_K}"), "solid", zero, added), dotted,
                  (("", ""), "dash", content, added))),
            ("2", (((f"q ⊙ {E_Q}", f"k ⊙ {E_K}"), "solid", zero, multiplied), dotted,
                   (("", ""), "dash", zero, position))),
            ("3", ((("q", "k"), "solid", zero, content), ((E_Q, E_K), "dash", zero, position)))):
        named: list[tuple] = []  # tip, colour and side, the most important arrows first
        for names, dash, starts, ends in pairs:
            for name, colour, start, end in zip(names, (QUERY, KEY), starts, ends):
                if any(of == colour and max(abs(tip - end)) < 0.9 for tip, of, _ in named):
                    name = ""  # the important name says it
                across = ["left", "right"] if end[0] < 0 else ["right", "left"]  # outwards first
                along = ["bottom", "top"] if end[1] < 0 else ["top", "bottom"]
                taken = [side for tip, _, side in named if (abs(tip - end) < (1.8, 0.9)).all()]
                sides = [f"{y} {x}" for x in across for y in along]
                side = next((side for side in sides if side not in taken), sides[0])
                if name:
                    named.append((end, colour, side))
                width = {"solid": 4, "dash": 2.5, "dot": 2}[dash]
                made.append(Arrow(axis, [float(start[0]), float(end[0])],
                                  [float(start[1]), float(end[1])], ["", name], side, colour, dash,
                                  width, [0, 6 + 2 * width]))
    return made


def short(value: float) -> str:
    """Two decimals at most, halves upwards as in the browser, with a real minus sign."""
    return f"{round(float(value) + 1e-9, 2) + 0.0:g}".replace("-", "−")


def _pair(vector: np.ndarray) -> str:
    return f"({short(vector[0])}, {short(vector[1])})"


def _plane(number: int) -> dict[str, Any]:
    """A plane's axes; on a narrow page the planes stand one below the other."""
    left, low = 0.35 * (number - 1), 1.03 - 0.255 * number
    feature_2 = dict(text="feature 2" if number == 1 else either("feature 2", ""), standoff=2)
    axis = dict(range=[-FARTHEST, FARTHEST], dtick=2)
    return axes(number if number > 1 else "", (left, left + 0.3, 0.48, 1), (0, 1, low, low + 0.19),
                axis | dict(title=dict(text="feature 1", standoff=2)),
                axis | dict(title=feature_2))


TEMPLATE = {
    "title": "The same vectors score {short.sum} by sum, {short.mul} by mul, {short.bias} by bias, "
             "{short.none} without position",
    "caption": "dotted: content q and k · dashed: position e · solid: what is multiplied · blue: "
               "of the query, orange: of the key · scores before the division by √d_head and the "
               "softmax · vectors from the sliders, nothing trained · SeqPE, Sec. 3.5, Eq. 12 to "
               "14",
    "data": [
        {"each": "arrows", "type": "scatter", "x": "@x", "y": "@y", "mode": "lines+markers+text",
         "text": "@names", "textposition": "@side", "textfont": dict(color="@colour", size=14),
         "xaxis": "x{axis}", "yaxis": "y{axis}", "cliponaxis": False, "showlegend": False,
         "line": dict(color="@colour", width="@width", dash="@dash"),
         "marker": dict(color="@colour", symbol="arrow", angleref="previous", size="@sizes",
                        opacity=1),
         "hovertemplate": "(%{x:.2f}, %{y:.2f})<extra></extra>"},
        {"each": "terms", "type": "bar", "orientation": "h", "x": "@values", "y": "@bars",
         "name": "{name}", "xaxis": "x4", "yaxis": "y4",
         "marker": dict(color="@colour", pattern=dict(shape="@pattern"),
                        line=dict(width=1, color="#111111")),
         "hovertemplate": "{name}: %{x:.2f}<extra></extra>"},
        dict(type="scatter", x="@totals", y="@bars", mode="markers", name="score", xaxis="x4",
             yaxis="y4", cliponaxis=False, hovertemplate="score %{x:.2f}<extra></extra>",
             marker=dict(symbol="diamond", size=13, color="#111111",
                         line=dict(width=1, color="white")))],
    "layout": {
        "height": either(1450, 680), "barmode": "relative",
        "margin": dict(t=60, r=either(36, 12), b=50, l=either(136, 150)),
        **_plane(1), **_plane(2), **_plane(3),
        **axes(4, (0, 1, 0, 0.25), (0, 1, 0, 0.14),
               dict(range="@range", zerolinecolor="#111111",
                    title=dict(text=either("score", "score; dashed: without position"),
                               standoff=4)),
               dict(autorange="reversed", categoryorder="array", categoryarray="@bars",
                    automargin=False)),
        "legend": dict(orientation="h", x=0, xanchor="left", y=either(0.145, 0.26),
                       yanchor="bottom", itemclick=False),
        "shapes": [dict(type="line", xref="x4", yref="y4 domain", x0="@totals.0", x1="@totals.0",
                        y0=0, y1=1, line=dict(dash="dash", color="#444444"))],
        "annotations": [heading("{text}", each="headings")]},
    "words": {"join": [
        "<b>Sum</b> is bias and two mixed terms, q·" + E_K + " = {short.q_ek} and " + E_Q +
        "·k = {short.eq_k}. <b>Mul</b> multiplies feature 1 by {short.weight1} and feature 2 by "
        "{short.weight2}: 1 leaves a feature alone, 0 removes it, less than 0 flips its sign.",
        {"when": "blind", "value": " Both are 0: mul ignores the content."},
        " <b>Bias</b> adds {short.eq_ek}, whatever the content is. Let the strength go to 0: sum "
        "and bias fall back to q·k, mul to 0."]},
}

TOUR = (
    Stop("A query and a key, each with the vector of its position. The score is a dot product; the "
         "three formulas differ in what they multiply.", {},
         "The diamonds below: four scores of the same four vectors."),
    Stop("<b>Without position</b> (strength 0), sum and bias give q·k. Mul multiplies by zero.",
         {"strength": 0.0}, "Mul's score is 0, whatever the content is. Models therefore start "
         "it near 1."),
    Stop("<b>Sum</b> mixes content and position: two of its four terms hold one of each.",
         {"eq1": -2.0, "eq2": 1.0, "ek1": 0.0, "ek2": 0.0},
         "The position of the key is 0, and yet e_q·k changes the score."),
    Stop("<b>Mul</b> weighs features: here the positions keep feature 1 and remove feature 2.",
         {"eq1": 1.0, "eq2": 0.0, "ek1": 1.0, "ek2": 0.0},
         "The solid arrows of the second plane lie along feature 1."),
    Stop("<b>Bias</b> adds the same number for every content: here q and k are orthogonal.",
         {"q1": 2.0, "q2": 0.0, "k1": 0.0, "k2": 2.0, "eq1": 1.5, "eq2": 1.0, "ek1": 1.5,
          "ek2": 1.0},
         "q·k is 0; all of bias's score is e_q·e_k. Move q and k: that part stays."),
)


def explorer() -> Explorer:
    """The four vectors on sliders."""
    return Explorer(
        "integration", "Sum, mul, bias", "A query, a key, and a position vector for each, of two "
        "features. Move them: every formula makes another score of the same vectors.", State,
        compute, TEMPLATE, TOUR, stored=stored,
        scripts=(Path(__file__).with_name("integration.js"),))


def stored() -> dict[str, Any]:
    """Names and colours."""
    return {"colours": [QUERY, KEY], "terms": TERMS, "formulas": FORMULAS, "eQ": E_Q, "eK": E_K}
