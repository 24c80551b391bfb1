"""The picture of the collapse explorer as a template."""
from __future__ import annotations

import math
from typing import Any

from seqpe_lab.explorers.collapse_training import CANDIDATES, POSITIONS, TRAIN_LEN, WARM_UP
from seqpe_lab.explorers.drawing import axes, either, heading

COLLAPSED = 0.1  # below this spread all positions count as having the same vector
SMALLEST = 1e-8  # nats; smaller losses are rounding errors of float32
CLOSEST = 1e-3  # 1 - cosine; closer vectors have one colour
EVERY = 3  # one in so many positions is drawn


def _line(nth: int, x: Any, y: Any, name: str, colour: str, dash: str = "solid", **more: Any
          ) -> dict[str, Any]:
    return dict(type="scatter", mode="lines", x=x, y=y, name=name, xaxis=f"x{nth}",
                yaxis=f"y{nth}", line=dict(color=colour, dash=dash, width=2), showlegend=False,
                hovertemplate=f"{name} at %{{x}}: %{{y:.3g}}<extra></extra>") | more


BLUE, GREY, CHANCE = "#0072B2", "#777777", math.log(CANDIDATES)
STEPS = dict(title=dict(text="training step", standoff=2), range=[-1, "@end"])
COSINE = dict(range=[-1.08, 1.08], dtick=0.5, title=dict(text="mean cosine", standoff=2))
TEMPLATE = {
    "title": {"when": "trained", "else": "Untrained, spread {spread:.2f}: press Start to train "
              "with α = {state.alpha:.4g}, β = {state.beta:.4g}", "value": {"join": [
                  "Step {step}, α = {state.alpha:.4g}, β = {state.beta:.4g}: ",
                  {"when": "collapsed", "value": "collapsed, all positions have one vector",
                   "else": "positions differ"}, " (spread {spread:.2f})"]}},
    "caption": f"an encoder of width 64 alone, no text · positions 0..{POSITIONS - 1}, every "
               f"{EVERY}rd drawn, teachers 0..{TRAIN_LEN - 1} · seed {{state.seed}} · "
               f"AdamW, rate {{names.rate}} after {WARM_UP} steps · losses on fixed "
               "samples, drawn from 10⁻⁸ up · colours by orders of magnitude: 1 − cosine, "
               f"{CLOSEST:g} or less is darkest · collapsed: spread below {COLLAPSED} · grey "
               "vertical lines: weights or rate changed",
    "data": [
        dict(type="heatmap", x="@shown", y="@shown", z="@apart", colorscale="Viridis", zmin=-3,
             zmax=0.3,
             hovertemplate="positions %{x}, %{y}: 1 − cosine = 10^%{z:.2f}<extra></extra>",
             colorbar=dict(orientation="h", x=either(0.5, 0.19), len=either(1, 0.38), thickness=12,
                           xpad=0, y=either(0.715, -0.08), yanchor="top",
                           tickvals=[-3, -2, -1, 0],
                           ticktext=["0.001", "0.01", "0.1", "1"])),
        _line(2, "@shifts", "@untrained", "untrained", GREY, "dot"),
        _line(2, "@shifts", "@now", "now", BLUE),
        _line(2, ["@state.z"], ["@here"], "z", BLUE, mode="markers",
              marker=dict(color=BLUE, size=9)),
        _line(3, "@steps", "@cosines", "cosine", BLUE),
        _line(4, "@steps", "@ranks", "effective rank", "#009E73"),
        _line(5, [0, "@end"], [CHANCE, CHANCE], "chance", GREY, "dot"),
        _line(5, "@steps", "@l_delta", "L<sub>δ</sub>", "#CC79A7"),
        _line(5, "@steps", "@l_ood", "L<sub>OOD</sub>", "#D55E00", "dash")],
    "layout": {
        "height": either(1330, 520), "margin": dict(t=40, r=14, l=60, b=either(50, 90)),
        **axes("", (0, 0.38, 0, 1), (0, 1, 0.76, 1),
               dict(constrain="domain", title=dict(text="position", standoff=2)),
               dict(constrain="domain", constraintoward="top", autorange="reversed",
                    scaleanchor="x", title=dict(text="position", standoff=2))),
        **axes(2, (0.48, 0.7, 0.6, 1), (0, 1, 0.5, 0.61),
               dict(title=dict(text="shift z (positions)", standoff=2)), COSINE),
        **axes(3, (0.78, 1, 0.6, 1), (0, 1, 0.335, 0.44), STEPS, COSINE),
        **axes(4, (0.48, 0.7, 0, 0.4), (0, 1, 0.17, 0.275), STEPS,
               dict(title=dict(text="directions", standoff=2), range=[0, "@top"])),
        **axes(5, (0.78, 1, 0, 0.4), (0, 1, 0, 0.11), STEPS,
               dict(title=dict(text="loss (nats)", standoff=2), type="log", dtick=2,
                    range=[math.log10(SMALLEST) - 0.3, 1], exponentformat="power")),
        "shapes": [dict(each="changes", type="line", xref=f"x{nth}", yref=f"y{nth} domain",
                        x0="@at", x1="@at", y0=0, y1=1, line=dict(color="#bbbbbb", width=2))
                   for nth in (3, 4, 5)],
        "annotations": [heading(text, str(nth or ""), 12) for nth, text in (
            (0, "1 − cosine of all pairs, now"),
            (2, "e<sub>p</sub> and e<sub>p+z</sub>, now; dotted: untrained"),
            (3, "e<sub>p</sub> and e<sub>p+{state.z}</sub>"), (4, "effective rank"),
            (5, f"L<sub>δ</sub> solid (log {CANDIDATES} dotted), L<sub>OOD</sub> dashed"))]},
    "words": "Mean cosine of e<sub>p</sub> and e<sub>p+{state.z}</sub> {here:.3f} (1: the shift "
             "cannot be seen), effective rank {rank:.2f} (1: all parallel), spread {spread:.3f} "
             f"(0: one point), L_δ {{delta:.2f}} nats (chance: log {CANDIDATES} = {CHANCE:.2f}), "
             "L_OOD {ood} nats. One vector for all satisfies L_OOD best, so its curve alone looks "
             "like success, while L_δ stays at chance. A low rank by itself proves nothing: with "
             "both losses it falls to 2 or 3.",
    "table": {"step": "@steps", "α": "@alphas", "β": "@betas", "rate": "@rates",
              "mean cosine at z={state.z}": "@cosines", "effective rank": "@ranks",
              "spread": "@spreads", "L_δ (nats)": "@l_delta", "L_OOD (nats)": "@l_ood"},
}
