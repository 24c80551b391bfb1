"""Sum, mul and bias (SeqPE, Eq. 12 to 14) on a plane: one query, one key, and the vectors of their positions.

Everything is a pair of numbers, one a feature, so that each score can be checked by hand.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course.draft import Draft
from seqpe_lab.explorers.panel import Panel, slider

LIMIT, FARTHEST = 2.0, 4.9  # of a coordinate, and of what sum and mul make of two: axes that never move
QUERY, KEY = "#0072B2", "#D55E00"
TERMS = {"q·k": ("#56B4E9", ""), "q·e<sub>k</sub>": ("#999999", "/"), "e<sub>q</sub>·k": ("#999999", "\\"), "e<sub>q</sub>·e<sub>k</sub>": ("#E69F00", "x"),
         "feature 1, weighed": ("#009E73", "."), "feature 2, weighed": ("#CC79A7", "-")}
START = dict(q1=1.0, q2=2.0, k1=2.0, k2=1.0, eq1=1.0, eq2=-0.5, ek1=1.5, ek2=-0.5)


class Scores(NamedTuple):
    """A query's scores of a key, before the division by sqrt(d_head): {term: value}, each score is the sum of its terms."""
    without: dict[str, float]  # no position
    sum: dict[str, float]  # Eq. 12
    mul: dict[str, float]  # Eq. 13
    bias: dict[str, float]  # Eq. 14


def scores(q, k, e_q, e_k) -> Scores:
    """The four scores, in terms.

    Args:
        q, k: the content, two numbers each.
        e_q, e_k: the vectors of both positions (Eq. 11), two numbers each.

    >>> {name: sum(terms.values()) for name, terms in scores((1, 2), (3, 1), (1, 0), (2, 1))._asdict().items()}    # lesson 07
    {'without': 5.0, 'sum': 14.0, 'mul': 6.0, 'bias': 7.0}
    """
    q, k, e_q, e_k = (np.asarray(v, dtype=float) for v in (q, k, e_q, e_k))
    four = dict(zip(TERMS, (float(a @ b) for a in (q, e_q) for b in (k, e_k))))
    weighed = dict(zip(list(TERMS)[4:], (e_q * e_k * q * k).tolist()))
    return Scores({"q·k": four["q·k"]}, four, weighed, {term: four[term] for term in ("q·k", "e<sub>q</sub>·e<sub>k</sub>")})


def vectors(q1: float, q2: float, k1: float, k2: float, eq1: float, eq2: float, ek1: float, ek2: float, strength: float) -> tuple[np.ndarray, ...]:
    """q, k, e_q and e_k of the sliders, the last two times ``strength``; 0 is a position that says nothing."""
    return np.array([q1, q2]), np.array([k1, k2]), strength * np.array([eq1, eq2]), strength * np.array([ek1, ek2])


def picture(**coordinates: float) -> go.Figure:
    """A plane for each formula with the vectors that it multiplies; below, the scores and what they consist of. Args: those of :func:`vectors`."""
    q, k, e_q, e_k = vectors(**coordinates)
    found = scores(q, k, e_q, e_k)
    total = {name: sum(terms.values()) for name, terms in found._asdict().items()}
    figure = Draft(2, 3, specs=[[{}, {}, {}], [{"colspan": 3}, None, None]], row_heights=[0.6, 0.4], vertical_spacing=0.18, horizontal_spacing=0.05, titles=(
        f"sum: (q + e<sub>q</sub>)·(k + e<sub>k</sub>)<br>{_pair(q + e_q)}·{_pair(k + e_k)} = <b>{_number(total['sum'])}</b>",
        f"mul: (q ⊙ e<sub>q</sub>)·(k ⊙ e<sub>k</sub>)<br>{_pair(q * e_q)}·{_pair(k * e_k)} = <b>{_number(total['mul'])}</b>",
        f"bias: q·k + e<sub>q</sub>·e<sub>k</sub><br>{_number(q @ k)} {'−' if e_q @ e_k < 0 else '+'} {_number(abs(e_q @ e_k))} = <b>{_number(total['bias'])}</b>"))
    origin, e = np.zeros(2), ("e<sub>q</sub>", "e<sub>k</sub>")
    _arrows(figure, 1, [(f"q + {e[0]}", QUERY, "solid", origin, q + e_q), (f"k + {e[1]}", KEY, "solid", origin, k + e_k), ("q", QUERY, "dot", origin, q), ("k", KEY, "dot", origin, k),
                        ("", QUERY, "dash", q, q + e_q), ("", KEY, "dash", k, k + e_k)])
    _arrows(figure, 2, [(f"q ⊙ {e[0]}", QUERY, "solid", origin, q * e_q), (f"k ⊙ {e[1]}", KEY, "solid", origin, k * e_k), ("q", QUERY, "dot", origin, q), ("k", KEY, "dot", origin, k),
                        ("", QUERY, "dash", origin, e_q), ("", KEY, "dash", origin, e_k)])
    _arrows(figure, 3, [("q", QUERY, "solid", origin, q), ("k", KEY, "solid", origin, k), (e[0], QUERY, "dash", origin, e_q), (e[1], KEY, "dash", origin, e_k)])
    figure.update_xaxes(range=[-FARTHEST, FARTHEST], title="feature 1", title_standoff=2, dtick=2, row=1)
    figure.update_yaxes(range=[-FARTHEST, FARTHEST], dtick=2, row=1)
    figure.update_yaxes(title="feature 2", row=1, col=1)
    _draw_terms(figure, found, total)
    figure.update_annotations(font_size=13)
    return figure.finish(
        f"The same vectors score {_number(total['sum'])} by sum, {_number(total['mul'])} by mul, {_number(total['bias'])} by bias, {_number(total['without'])} without position",
        "dotted: content q and k · dashed: position e · solid: what is multiplied · blue: of the query, orange: of the key · scores before the division by √d_head and the softmax · "
        "vectors from the sliders, nothing trained · SeqPE, Sec. 3.5, Eq. 12 to 14", height=790, margin=dict(t=110, l=165))


def _arrows(figure: Draft, column: int, arrows) -> None:
    """Arrows of one plane: (name, colour, dash, start, end), the important ones first; a name that would cover another gives way."""
    named = []
    for name, colour, dash, start, end in arrows:
        corner = ["bottom", "top"][int(end[1] >= 0)], ["left", "right"][int(end[0] >= 0)]
        crowd = [taken for tip, _, taken in named if abs(tip[0] - end[0]) < 1.8 and abs(tip[1] - end[1]) < 0.9]
        sides = [f"{y} {x}" for x in sorted(("left", "right"), key=lambda x: x != corner[1]) for y in sorted(("top", "bottom"), key=lambda y: y != corner[0])]  # outwards first
        side = next((side for side in sides if side not in crowd), sides[0])
        shown = "" if any(other == colour and np.abs(tip - end).max() < 0.9 for tip, other, _ in named) else name  # the important name says it
        if shown:
            named.append((end, colour, side))
        width = {"solid": 4, "dash": 2.5, "dot": 2}[dash]
        figure.add("scatter", x=[start[0], end[0]], y=[start[1], end[1]], mode="lines+markers+text", text=["", shown], textposition=side, textfont=dict(color=colour, size=14),
                   line=dict(color=colour, width=width, dash=dash), marker=dict(color=colour, symbol="arrow", angleref="previous", size=[0, 6 + 2 * width], opacity=1),
                   cliponaxis=False, showlegend=False, hovertemplate=f"(%{{x:.2f}}, %{{y:.2f}})<extra>{name or 'e'}</extra>", row=1, col=column)


def _draw_terms(figure: Draft, found: Scores, total: dict[str, float]) -> None:
    """A bar a score, in its terms; a diamond at their sum."""
    bars = {name: f"{title} = <b>{_number(total[name])}</b>" for name, title in zip(found._fields, ("no position", "sum, Eq. 12", "mul, Eq. 13", "bias, Eq. 14"))}
    for term, (colour, pattern) in TERMS.items():
        of = {bars[name]: terms[term] for name, terms in found._asdict().items() if term in terms}
        figure.add("bar", y=list(of), x=list(of.values()), orientation="h", name=term, marker=dict(color=colour, pattern_shape=pattern, line=dict(color="#111111", width=1)),
                       hovertemplate=term + ": %{x:.2f}<extra></extra>", row=2, col=1)
    figure.add("scatter", y=list(bars.values()), x=list(total.values()), mode="markers", name="score", marker=dict(symbol="diamond", size=13, color="#111111", line=dict(color="white", width=1)),
                       hovertemplate="score %{x:.2f}<extra></extra>", cliponaxis=False, row=2, col=1)
    figure.add_vline(total["without"], row=2, col=1)
    ends = [sum(v for v in terms.values() if sign * v > 0) for terms in found for sign in (-1, 1)]
    figure.update_xaxes(title="score (unit: that of q·k); dashed: without position", range=[1.06 * min(-2, *ends), 1.06 * max(12, *ends)], zerolinecolor="#111111", row=2, col=1)
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=list(bars.values()), automargin=False, row=2, col=1)
    figure.update_layout(barmode="relative", legend=dict(orientation="h", x=0, y=figure.layout["yaxis4"]["domain"][1] + 0.01, yanchor="bottom", itemclick=False))


def _number(value: float) -> str:
    """Two decimals at most, and no minus zero."""
    return f"{round(float(value), 2) + 0.0:.2f}".rstrip("0").rstrip(".").replace("-", "−")


def _pair(vector) -> str:
    return f"({_number(vector[0])}, {_number(vector[1])})"


def words(**coordinates: float) -> str:
    """What each formula keeps and loses, with the numbers of the sliders."""
    q, k, e_q, e_k = vectors(**coordinates)
    weight = e_q * e_k
    blind = " Both are 0: mul is deaf to the content." if not weight.any() else ""
    return (f"<b>Sum</b> is bias and two mixed terms, q·e<sub>k</sub> = {_number(q @ e_k)} and e<sub>q</sub>·k = {_number(e_q @ k)}. "
            f"<b>Mul</b> weighs feature 1 by {_number(weight[0])} and feature 2 by {_number(weight[1])}: 1 leaves a feature alone, 0 silences it, less than 0 turns liking into dislike.{blind} "
            f"<b>Bias</b> adds {_number(e_q @ e_k)}, whatever the content is. Let the strength go to 0: sum and bias fall back to q·k, mul to 0.")


def explore() -> Panel:
    """The panel: the four vectors on sliders."""
    of = {"q": ("q", "what token i asks for"), "k": ("k", "what token j offers"), "eq": ("e_q", "the position of token i"), "ek": ("e_k", "the position of token j")}
    return Panel("Sum, mul, bias", "A query, a key, and a position vector for each, of two features. Move them: every formula makes another score of the same four vectors.", picture, {
        **{key: slider(f"{of[key[:-1]][0]}, feature {key[-1]}", of[key[:-1]][1], -LIMIT, LIMIT, value, 0.25) for key, value in START.items()},
        "strength": slider("strength of the positions", "e_q and e_k are multiplied by it: at 0 there is no position, as with a W_PE of zeros", 0.0, 1.0, 1.0, 0.1),
    }, words=words)
