"""Sum, mul and bias (SeqPE, Eq. 12 to 14) in two dimensions: a query, a key, and position vectors.

Every vector has two features, so that each score can be checked by hand.
"""
from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqpe_lab.explorers.drawing import axes, either, heading
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.fields import number

LIMIT, FARTHEST = 2.0, 4.9  # of a slider, and of the axes, which also hold sums and products
QUERY, KEY = "#0072B2", "#D55E00"
E_Q, E_K = "e<sub>q</sub>", "e<sub>k</sub>"
TERMS = {"q·k": ("#56B4E9", ""), f"q·{E_K}": ("#999999", "/"), f"{E_Q}·k": ("#999999", "\\"),
         f"{E_Q}·{E_K}": ("#E69F00", "x"), "feature 1, weighed": ("#009E73", "."),
         "feature 2, weighed": ("#CC79A7", "-")}  # colour, pattern
FORMULAS = ("no position", "sum, Eq. 12", "mul, Eq. 13", "bias, Eq. 14")


def _feature(value: float, vector: str, feature: int, help: str) -> float:
    return number(value, f"{vector}, feature {feature}", help, min=-LIMIT, max=LIMIT, step=0.25)


@dataclass(frozen=True)
class State:
    """Two features of a query, of a key, and of the vectors of their positions."""
    q1: float = _feature(1.0, "q", 1, "what token i asks for")
    q2: float = _feature(2.0, "q", 2, "what token i asks for")
    k1: float = _feature(2.0, "k", 1, "what token j offers")
    k2: float = _feature(1.0, "k", 2, "what token j offers")
    eq1: float = _feature(1.0, "e_q", 1, "the position of token i")
    eq2: float = _feature(-0.5, "e_q", 2, "the position of token i")
    ek1: float = _feature(1.5, "e_k", 1, "the position of token j")
    ek2: float = _feature(-0.5, "e_k", 2, "the position of token j")
    strength: float = number(
        1.0, "strength", "of the positions: e_q and e_k are multiplied by it; at 0 there is no "
        "position, as with a W_PE of zeros", min=0.0, max=1.0, step=0.1)


def compute(state: State) -> SimpleNamespace:
    """Score the query and the key by each formula."""
    vectors = np.array([[state.q1, state.q2], [state.k1, state.k2],
                        [state.eq1, state.eq2], [state.ek1, state.ek2]], dtype=float)
    vectors[2:] *= state.strength
    q, k, e_q, e_k = vectors
    found, weight = scores(q, k, e_q, e_k), e_q * e_k
    totals = [sum(terms.values()) for terms in found.values()]
    written = [short(total) for total in totals]
    bars = [f"{name} = <b>{total}</b>" for name, total in zip(FORMULAS, written)]
    ends = [sum(value for value in of.values() if sign * value > 0)
            for of in found.values() for sign in (-1, 1)]
    products = dict(q_ek=q @ e_k, eq_k=e_q @ k, eq_ek=e_q @ e_k, size=abs(e_q @ e_k),
                    weight1=weight[0], weight2=weight[1])
    return SimpleNamespace(
        state=state, totals=totals, arrows=arrows(q, k, e_q, e_k), bars=bars,
        terms=[{"name": term, "bars": [bar for bar, of in zip(bars, found.values()) if term in of],
                "values": [of[term] for of in found.values() if term in of]} for term in TERMS],
        pairs=dict(zip(("q_sum", "k_sum", "q_mul", "k_mul"), map(
            _pair, (q + e_q, k + e_k, q * e_q, k * e_k)))),
        range=[1.06 * min(-2, *ends), 1.06 * max(12, *ends)],
        short=dict(zip(("none", "sum", "mul", "bias"), written)) | {
            name: short(value) for name, value in products.items()},
        less=bool(e_q @ e_k < 0), blind=not weight.any())


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


def arrows(q: np.ndarray, k: np.ndarray, e_q: np.ndarray, e_k: np.ndarray) -> list[dict[str, Any]]:
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
                made.append({"axis": axis, "x": [float(start[0]), float(end[0])],
                             "y": [float(start[1]), float(end[1])], "names": ["", name],
                             "side": side, "colour": colour, "dash": dash, "width": width,
                             "sizes": [0, 6 + 2 * width]})
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


SIGN = {"when": "less", "value": "−", "else": "+"}
PICTURE = {
    "data": [
        dict(each="arrows", type="scatter", x="@x", y="@y", mode="lines+markers+text",
             text="@names", textposition="@side", textfont=dict(color="@colour", size=14),
             xaxis="x{axis}", yaxis="y{axis}", cliponaxis=False, showlegend=False,
             line=dict(color="@colour", width="@width", dash="@dash"),
             marker=dict(color="@colour", symbol="arrow", angleref="previous", size="@sizes",
                         opacity=1), hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>"),
        *(dict(type="bar", orientation="h", x=f"@terms.{i}.values", y=f"@terms.{i}.bars", name=name,
               xaxis="x4", yaxis="y4", hovertemplate=f"{name}: %{{x:.2f}}<extra></extra>",
               marker=dict(color=colour, pattern=dict(shape=pattern),
                           line=dict(width=1, color="#111111")))
          for i, (name, (colour, pattern)) in enumerate(TERMS.items())),
        dict(type="scatter", x="@totals", y="@bars", mode="markers", name="score", xaxis="x4",
             yaxis="y4", cliponaxis=False, hovertemplate="score %{x:.2f}<extra></extra>",
             marker=dict(symbol="diamond", size=13, color="#111111",
                         line=dict(width=1, color="white")))],
    "layout": {
        "height": either(1450, 680), "barmode": "relative",
        "margin": dict(t=60, r=either(36, 12), b=50, l=either(136, 150)),
        **_plane(1), **_plane(2), **_plane(3),
        **axes(4, (0, 1, 0, 0.25), (0, 1, 0, 0.125),
               dict(range="@range", zerolinecolor="#111111",
                    title=dict(text=either("score", "score; dashed: without position"),
                               standoff=4)),
               dict(autorange="reversed", categoryorder="array", categoryarray="@bars")),
        "legend": dict(orientation="h", x=0, xanchor="left", y=either(0.128, 0.26),
                       yanchor="bottom", itemclick=False, font=dict(size=either(10, 12))),
        "shapes": [dict(type="line", xref="x4", yref="y4 domain", x0="@totals.0", x1="@totals.0",
                        y0=0, y1=1, line=dict(dash="dash", color="#444444"))],
        "annotations": [
            heading(f"sum: (q + {E_Q})·(k + {E_K})<br>{{pairs.q_sum}}·{{pairs.k_sum}} = "
                    "<b>{short.sum}</b>", ""),
            heading(f"mul: (q ⊙ {E_Q})·(k ⊙ {E_K})<br>{{pairs.q_mul}}·{{pairs.k_mul}} = "
                    "<b>{short.mul}</b>", "2"),
            heading({"join": [f"bias: q·k + {E_Q}·{E_K}<br>{{short.none}} ", SIGN, " {short.size} "
                              "= <b>{short.bias}</b>"]}, "3")]},
}


def stored() -> dict[str, Any]:
    """Names and colours."""
    return {"colours": [QUERY, KEY], "terms": list(TERMS), "formulas": FORMULAS, "eQ": E_Q,
            "eK": E_K}


def explorer() -> Explorer:
    """The four vectors on sliders."""
    return Explorer("integration", State, compute, PICTURE, stored=stored)
