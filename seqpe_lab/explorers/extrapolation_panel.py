"""Trained short, tested long: our curves beside the paper's (Tables 1 to 5).

The two sides differ in model, data and lengths, so ranges are chosen in multiples of the trained
length. Absolute values cannot be compared across the sides; shapes, order and ratios can.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqpe_lab.course.style import in_order, label, number_axis, style_of
from seqpe_lab.explorers.drawing import band, either, heading, note
from seqpe_lab.explorers.explorer import Explorer
from seqpe_lab.explorers.extrapolation_results import (Measure, Side, Value, methods, ours, papers,
                                                        scales, tasks)
from seqpe_lab.explorers.fields import choice, several, span
from seqpe_lab.statistics import LEAST, leaders, paired_difference

TIMES = (1, 1.5, 2, 3, 4, 8, 16, 32)  # multiples of the trained length


@dataclass(frozen=True)
class State:
    """What is compared, over which lengths, and how it is drawn."""
    task: str = choice("text", "task", "what is measured", lambda: {
        name: task.name for name, task in tasks().items()})
    values: str = choice("measured", "show", "as measured, or divided by the value at the trained "
                         "length", {"measured": "as measured", "ratio": "ratio to trained"})
    axis: str = choice("log", "vertical axis", "log makes equal ratios equally high; per cent "
                       "are always linear, as a log axis has no place for 0",
                       ["log", "linear"])
    seeds: str = choice("band", "seeds", "of our runs", {
        "band": "mean and band", "each": "each by itself"})
    scale: str = choice("small", "scale", "of our runs: those with committed results", scales)
    times: tuple[float, float] = span(
        (TIMES[0], TIMES[-1]), "lengths", "from shortest to longest, in multiples of the trained "
        "length or size", {t: f"{t:g}×" for t in TIMES})
    methods: tuple[str, ...] = several(
        ("none", "learned", "rope-1e4", "rope-axial", "alibi", "seqpe", "seqpe-no-losses",
         "seqpe-mul", "seqpe-mul-no-losses"),
        "methods", "those that were measured in this task, by us or in the paper", methods)


def compute(state: State) -> SimpleNamespace:
    """Choose methods and lengths from both sides, and average over seeds."""
    task, ratio = tasks()[state.task], state.values == "ratio"
    log = state.axis == "log" and not task.percent  # without the seeds at 0 a mean would be wrong
    wheres = ours(state.task, state.scale), papers(state.task)
    chosen = [within(where, state.methods, state.times, ratio) for where in wheres]
    alike = (ratio or task.percent) and all(chosen)  # one vertical axis for both
    measured, size = task.value.partition(" (")[0], "size" if task.unit == "pixels" else "length"
    title = f"{measured} ÷ that at the trained {size}" if ratio else task.value
    sides: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []  # a mean, or one seed
    bands: list[dict[str, Any]] = []  # from the lowest to the highest seed
    named: set[str] = set()
    for where, values, nth in zip(wheres, chosen, ("", "2")):
        for method in in_order({v.method for v in values}):
            own = [v for v in values if v.method == method]
            groups = ([[v for v in own if v.seed == seed] for seed in dict.fromkeys(
                v.seed for v in own)] if state.seeds == "each" else [own])
            for group in groups:
                line = drawn_line(method, group, nth)
                lines.append(line | {"legend": method not in named})
                named.add(method)
                if len(group) > len(line["x"]):
                    bands.append(line)
        sides.append({"name": where.name, "trained": where.trained, "drawn": bool(values)}
                     | _axes(where, values, sum(chosen, []) if alike else values, task, log, title))
    best = [f"{who} in {name} ({longest:,})" for name, values in zip(("our runs", "the paper"),
            chosen) if values for who, longest in [winners(values, task)]]
    mine, theirs = ({v.method for v in values} for values in chosen)
    return SimpleNamespace(
        state=state, task=task, sides=sides, lines=lines, bands=bands,
        best=f"{'Highest' if task.percent else 'Lowest'} {measured}{' ratio' * ratio} at the "
        f"{'largest' if size == 'size' else 'longest'}: {', '.join(best)}" if best else
        "Nothing to compare: choose a method and a range",
        caption=" ".join(where.caption for where in wheres if where.caption),
        only=[{"who": who, "names": ", ".join(map(label, in_order(alone)))} for who, alone in (
            ("Ours", mine - theirs), ("The paper's", theirs - mine)) if alone],
        limits={"methods": in_order({v.method for where in wheres for v in where.values})},
        rows=[{"source": where.name, "method": label(v.method), "seed": v.seed, "length": v.length,
               "times": v.length / where.trained, "value": v.value, "ratio": v.ratio}
              for where, values in zip(wheres, chosen) for v in values])


def within(side: Side, methods: Sequence[str], times: Sequence[float],
           ratio: bool = False) -> list[Value]:
    """The values of some methods, from shortest to longest in multiples of the trained length.

    With ``ratio`` their value is the ratio to that at the trained length, where there is one.
    """
    first, last = (t * side.trained for t in times)
    inside = [v for v in side.values if v.method in methods and first <= v.length <= last]
    return [v._replace(value=v.ratio) for v in inside if v.ratio is not None] if ratio else inside


def drawn_line(method: str, values: Iterable[Value], nth: str) -> dict[str, Any]:
    """The mean over the values at each length, their lowest and highest, and the method's look."""
    by_length = {n: [v.value for v in group] for n, group in itertools.groupby(
        sorted(values, key=lambda v: v.length), key=lambda v: v.length)}
    name, colour, dash, symbol = style_of(method)
    red, green, blue = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return {"method": method, "name": name, "colour": colour, "dash": dash, "symbol": symbol,
            "width": 3 if method in ("seqpe", "seqpe-mul") else 2, "nth": nth,
            "shade": f"rgba({red},{green},{blue},0.2)", "x": list(by_length),
            "y": [sum(v) / len(v) for v in by_length.values()],
            "low": list(map(min, by_length.values())), "high": list(map(max, by_length.values()))}


def _axes(side: Side, values: Sequence[Value], on_axis: Sequence[Value], task: Measure,
          log: bool, title: str) -> dict[str, Any]:
    """Both axes: lengths are labelled where there is room, on a log axis where they are lengths."""
    log_x = task.unit != "pixels"
    places = sorted({v.length for v in values} | {side.trained})
    at = [float(np.log10(place)) if log_x else float(place) for place in places]
    span, names, last = (at[-1] - at[0]) or 1.0, [], np.inf
    for place, x in zip(places[::-1], at[::-1]):  # from the right: the longest is always labelled
        fits = last - x > 0.1 * span
        names.append(f"{place:,}" if fits else "")
        last = x if fits else last
    return {"x": {"type": "log" if log_x else "linear", "tickvals": places, "tickangle": 0,
                  "ticktext": names[::-1], "range": [at[0] - 0.06 * span, at[-1] + 0.06 * span]},
            "mark": at[0], "y_axis": number_axis([v.value for v in on_axis], log, labels=6) | {
                "rangemode": "tozero" if task.percent else "normal", "title": {"text": title}}}


def winners(values: Sequence[Value], task: Measure) -> tuple[str, int]:
    """(names, length): which are best at the longest length.

    Of our runs all that their intervals do not tell apart, and none with too few seeds to tell; of
    the paper's numbers, which have no seeds, one.

    >>> from seqpe_lab.explorers.extrapolation_results import TASKS
    >>> winners([Value("none", "", 64, 9.0, 1.0), Value("alibi", "", 64, 5.0, 1.0)], TASKS["text"])
    ('ALiBi', 64)
    """
    longest = max(v.length for v in values)
    scores: dict[str, dict[int | str, float]] = {}
    for v in values:
        if v.length == longest:
            scores.setdefault(v.method, {})[v.seed] = v.value
    if all(v.seed == "" for v in values):
        best = max if task.percent else min
        return label(best(scores, key=lambda method: scores[method][""])), longest
    names = leaders(scores, lower=not task.percent)
    return " or ".join(map(label, names)) or "too few seeds to say", longest


ON = dict(xaxis="x{nth}", yaxis="y{nth}", legendgroup="{method}")
PICTURE = {
    "data": [
        *band("@x", "@low", "@high", "@shade", each="bands", **ON),
        dict(ON, each="lines", type="scatter", x="@x", y="@y", name="{name}", showlegend="@legend",
             mode="lines+markers", line=dict(color="@colour", dash="@dash", width="@width"),
             marker=dict(symbol="@symbol", size=9),
             hovertemplate="%{y:.4~g} at %{x:,} {task.unit}"),
        # plotly lays the axes of a grid out only where each has a trace
        dict(each="sides", when="drawn", value=[], **{"else": dict(
            type="scatter", xaxis="x{nth}", yaxis="y{nth}", x="@x.tickvals", y="@x.tickvals",
            mode="markers", marker=dict(opacity=0), showlegend=False, hoverinfo="skip")})],
    "layout": {
        "height": either(760, 430), "margin": dict(t=60, l=60, r=20, b=60),
        "legend": either(dict(orientation="h", y=-0.12, yanchor="top"), dict(orientation="v")),
        "grid": dict(pattern="independent", xgap=0.14, ygap=0.3, rows=either(2, 1),
                     columns=either(1, 2)),
        "xaxis{nth}": dict(each="sides", type="@x.type", tickvals="@x.tickvals", range="@x.range",
                           ticktext="@x.ticktext", tickangle=0, tickfont=dict(size=11),
                           title=dict(text="{task.place}")),
        "yaxis{nth}": dict(each="sides", value="@y_axis"),
        "shapes": [dict(each="sides", when="drawn", type="line", xref="x{nth}",
                        yref="y{nth} domain", x0="@trained", x1="@trained", y0=0, y1=1,
                        line=dict(dash="dash", color="#777777"))],
        "annotations": [
            heading("<b>{name}</b>", each="sides", yshift=18),
            note("trained at {trained:,}", each="sides", when="drawn", x="@mark", y=1,
                 xref="x{nth}", yref="y{nth} domain", **{"else": note(
                     "nothing was measured here:<br>choose other methods or a wider range",
                     x=0.5, y=0.5, xanchor="center", xref="x{nth} domain",
                     yref="y{nth} domain")})]},
    "table": {"source": "@rows.*.source", "method": "@rows.*.method", "seed": "@rows.*.seed",
              "{task.place}": "@rows.*.length", "times the trained": "@rows.*.times",
              "{task.value}": "@rows.*.value", "ratio to the trained": "@rows.*.ratio"},
}


def stored() -> dict[str, Any]:
    """For the page: all values, and which pairs of methods the seeds do not tell apart."""
    kept: dict[str, Any] = {}
    for name, task in tasks().items():
        kept[name] = {"task": vars(task) | {"percent": task.percent}, "paper": _plain(papers(name))}
        kept[name] |= {scale: _plain(ours(name, scale)) | {"ties": _ties(ours(name, scale))}
                       for scale in scales()}
    return {"tasks": kept, "methods": list(methods()), "least": LEAST,
            "looks": {method: drawn_line(method, [], "") for method in methods()}}


def _plain(side: Side) -> dict[str, Any]:
    return vars(side) | {"values": [list(value) for value in side.values]}


def _ties(side: Side) -> list[str]:
    """"length measured|ratio method method" where no difference is seen between the two."""
    ties = []
    for ratio, how in enumerate(("measured", "ratio")):
        at: dict[int, dict[str, dict]] = {}
        for v in (v for v in side.values if v.ratio is not None):
            at.setdefault(v.length, {}).setdefault(v.method, {})[v.seed] = v[3 + ratio]
        ties += [f"{length} {how} {a} {b}" for length, scores in at.items()
                 for a, b in itertools.permutations(scores, 2)
                 if len(scores[a].keys() & scores[b].keys()) >= LEAST
                 and paired_difference(scores[a], scores[b]).verdict == "no difference seen"]
    return ties


def explorer() -> Explorer:
    """Choose a task, methods and lengths; ours and the paper's are drawn side by side."""
    return Explorer("extrapolation", State, compute, PICTURE, stored=stored)
