"""Trained short, tested long: our curves beside the paper's (Tables 1 to 4).

The two sides differ in model, data and lengths, so ranges are chosen in multiples of the trained
length. Absolute values cannot be compared across the sides; shapes, order and ratios can.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from ipywidgets import Dropdown, SelectionRangeSlider, SelectMultiple

from seqpe_lab.course import figures
from seqpe_lab.course.result_tables import complete
from seqpe_lab.course.style import (QUIET, add_method, add_train_line, finish, in_order, label,
                                    number_axis)
from seqpe_lab.explorers.drawing import BARE, subplots
from seqpe_lab.explorers.panel import Panel, control
from seqpe_lab.package_data import DATA, OUR_NAMES, committed_results, paper_table, results_file
from seqpe_lab.recipes import image_model, language_model
from seqpe_lab.statistics import leaders

ABLATION = {(0.0, 0.0): "seqpe-no-losses", (0.1, 0.0): "seqpe-delta-only",
            (0.0, 0.1): "seqpe-ood-only"}  # Table 4's alpha, beta
OF_IMAGES = {name: name.replace("seqpe", "seqpe-mul") for name in ("seqpe", *ABLATION.values())}
METHODS = {  # by the tasks that have them
    "": ("none", "sinusoidal", "learned", "seqpe", *ABLATION.values()),
    " (text)": ("rope-1e4", "rope-1e6", "rope-1e8", "alibi", "seqpe-strong-losses"),
    " (images)": ("rope-axial", "rope-mixed", "seqpe-sum", "seqpe-bias")}
TIMES = (1, 1.5, 2, 3, 4, 8, 16, 32)  # multiples of the trained length


@dataclass(frozen=True)
class Measure:
    """What is measured over which lengths or sizes, by us and in the paper."""
    name: str
    measure: str  # as results.json has it
    value: str  # title of the vertical axis
    tables: tuple[tuple[int, str], ...]  # of the paper
    trained: int  # length or size, in the paper
    about: str  # the paper's model and data
    results: str | None = None  # data/results/<results>-<scale>.json
    place: str = "context length (tokens)"  # title of the horizontal axis
    higher_is_better: bool = False
    unit: str = "tokens"

    @property
    def images(self) -> bool:
        return self.unit == "pixels"


ANSWERS = "GPT-2 small, fine-tuned to answer questions of RULER-SQuAD"
TASKS = {
    "text": Measure("text: next token", "perplexity", "perplexity", ((1, ""), (4, "text")), 512,
                    "GPT-2 small on WikiText-103", results="length-extrapolation"),
    "answers": Measure("text: answers, perplexity", "perplexity", "perplexity of the answer",
                       ((2, "perplexity"),), 1_024, ANSWERS),
    "matches": Measure("text: answers, exact match", "match", "exact match (%)", ((2, "em"),),
                       1_024, ANSWERS, higher_is_better=True),
    "images": Measure("images: class", "accuracy", "top-1 accuracy (%)",
                      ((3, ""), (4, "images")), 224, "ViT-S/16 on ImageNet-1k",
                      results="resolution-extrapolation", place="image size (pixels a side)",
                      higher_is_better=True, unit="pixels"),
}


@dataclass(frozen=True)
class State:
    """What is compared, over which lengths, and how it is drawn."""
    task: str = control("text", Dropdown, "task", "what is measured; of the answers there are the "
                        "paper's numbers only", options=[(t.name, key) for key, t in TASKS.items()])
    methods: tuple[str, ...] = control(
        ("none", "learned", "rope-1e4", "rope-axial", "alibi", "seqpe", "seqpe-no-losses"),
        SelectMultiple, "methods", "one or more, with Ctrl or Shift; (text) and (images) exist for "
        "one of the two only", rows=10, options=[(f"{label(method)}{where}", method)
                                                 for where, methods in METHODS.items()
                                                 for method in methods])
    times: tuple[float, float] = control(
        (TIMES[0], TIMES[-1]), SelectionRangeSlider, "lengths", "from shortest to longest, in "
        "multiples of the trained length or size", options=[(f"{t:g}×", t) for t in TIMES])
    scale: str = control("small", Dropdown, "scale", "of our runs: those with committed results")
    values: str = control("measured", Dropdown, "show", "as measured, or divided by the value at "
                          "the trained length", options=[("as measured", "measured"), (
                              "ratio to the trained length", "ratio")])
    axis: str = control("log", Dropdown, "vertical axis", "log makes equal ratios equally high",
                        options=["log", "linear"])


class Value(NamedTuple):
    """What a method reached at one length or size, by one seed."""
    method: str
    seed: int | str  # "" in the paper
    length: int
    value: float
    ratio: float  # to the same run's value at the trained length


@dataclass(frozen=True)
class Side:
    """One of the two subplots."""
    name: str
    trained: int
    values: list[Value]
    runs: list[dict]  # ours as results.json has them, for the caption


class Numbers(NamedTuple):
    """Our results and the paper's, of the chosen methods and lengths."""
    state: State
    task: Measure
    sides: tuple[Side, Side]


def compute(state: State) -> Numbers:
    """Choose methods and lengths from both sides."""
    task, sides = TASKS[state.task], (ours(state.task, state.scale), papers(state.task))
    return Numbers(state, task, tuple(replace(side, values=within(
        side, task, state.methods, state.times)) for side in sides))


@functools.lru_cache
def ours(task: str, scale: str) -> Side:
    """Our committed results; none where there is no run of that task and scale."""
    asked, recipe = TASKS[task], language_model(scale=scale)
    trained = image_model(scale=scale).image_size if asked.images else recipe.train_len
    name = f"{asked.results}-{scale}"
    runs = committed_results(name) if asked.results and results_file(name).exists() else []
    runs = [run for run in runs if "canvas" not in run.get("protocol", "")]  # the paper resizes
    values = [value for run in (complete(runs) if runs else [])
              for value in _values(run["method"], run["seed"], run[asked.measure], trained)]
    return Side(f"ours, scale {scale}", trained, values, runs)


@functools.lru_cache
def papers(task: str) -> Side:
    """The paper's numbers; its Table 4 gives the losses apart, over fewer lengths."""
    asked, values = TASKS[task], []
    for row in (row for table in asked.tables for row in paper_table(*table)):
        pair = row.get("alpha"), row.get("beta")
        method = OUR_NAMES[row["model"]] if "model" in row else ABLATION.get(pair)
        if method:  # Table 4's last row stands in Table 1 or 3 already
            method = OF_IMAGES.get(method, method) if asked.images else method
            by_length = {n: value for n, value in row.items() if n.isdigit()}
            values += _values(method, "", by_length, asked.trained)
    names = " and ".join(str(number) for number, _ in asked.tables)
    name = f"the paper, Table{'s' * (len(asked.tables) > 1)} {names}"
    return Side(name, asked.trained, values, [])


def _values(method: str, seed: int | str, by_length: dict, trained: int) -> list[Value]:
    return [Value(method, seed, int(n), float(value), float(value / by_length[str(trained)]))
            for n, value in by_length.items()]


def within(side: Side, task: Measure, methods: Sequence[str],
           times: Sequence[float]) -> list[Value]:
    """The values of some methods, from shortest to longest in multiples of the trained length."""
    chosen = {OF_IMAGES.get(m, m) for m in methods} if task.images else set(methods)
    first, last = (t * side.trained for t in times)
    return [v for v in side.values if v.method in chosen and first <= v.length <= last]


def winners(values: Sequence[Value], task: Measure) -> tuple[list[str], int]:
    """(methods, length): which are best at the longest length.

    Of our runs all that their intervals do not tell apart, and none with too few seeds to tell; of
    the paper's numbers, which have no seeds, one.

    >>> winners([Value("none", "", 64, 9.0, 1.0), Value("alibi", "", 64, 5.0, 1.0)], TASKS["text"])
    (['alibi'], 64)
    """
    longest = max(v.length for v in values)
    scores: dict[str, dict[int | str, float]] = {}
    for v in values:
        if v.length == longest:
            scores.setdefault(v.method, {})[v.seed] = v.value
    if all(v.seed == "" for v in values):
        best = max if task.higher_is_better else min
        return [best(scores, key=lambda method: scores[method][""])], longest
    return leaders(scores, lower=not task.higher_is_better), longest


def draw(numbers: Numbers) -> go.Figure:
    """Ours on the left, the paper's on the right: a line for each method, a band over seeds."""
    state, task, sides = numbers.state, numbers.task, numbers.sides
    ratio, log, percent = state.values == "ratio", state.axis == "log", "%" in task.value
    alike = (ratio or percent) and all(side.values for side in sides)  # one vertical axis for both
    figure = subplots([side.name for side in sides], cols=2, horizontal_spacing=0.1,
                      shared_yaxes="all" if alike else False)
    figure.update_annotations(yshift=20)  # above the mark of the trained length
    chosen = [[v._replace(value=v.ratio) if ratio else v for v in side.values] for side in sides]
    shown = [[v for v in values if v.value > 0 or not log] for values in chosen]
    named: set[str] = set()
    for column, (side, values) in enumerate(zip(sides, shown), start=1):
        place = dict(row=1, col=column)
        if not values:
            why = ("no run of ours answers questions" if task.results is None and column == 1 else
                   "nothing was measured here:<br>choose other methods or a wider range")
            figure.add_scatter(x=[0], y=[0], mode="text", text=why, **QUIET, **place)
            figure.update_xaxes(showticklabels=False, **BARE, **place)
            figure.update_yaxes(showticklabels=False, **BARE, **place)
            continue
        for method in in_order({v.method for v in values}):
            own = [v for v in values if v.method == method]
            x = sorted({v.length for v in own})
            add_method(figure, method, x, [[v.value for v in own if v.length == n] for n in x],
                       f"%{{y:.4~g}} at %{{x:,}} {task.unit}", showlegend=method not in named,
                       **place)
            named.add(method)
        lengths = sorted({v.length for v in values} | {side.trained})
        _name_lengths(figure, column, side.trained, lengths, log=not task.images)
        on_axis = [v.value for v in (sum(shown, []) if alike else values)]
        figure.update_yaxes(showticklabels=True, rangemode="tozero" if percent else "normal",
                            **number_axis(on_axis, log, labels=6), **place)
    measured = task.value.partition(" (")[0]
    figure.update_xaxes(title=task.place)
    trained = f"{measured} ÷ that at the trained {'size' if task.images else 'length'}"
    figure.update_yaxes(title=trained if ratio else task.value, col=1)
    best = []
    for where, values in zip(("our runs", "the paper"), chosen):
        if values:
            names, longest = winners(values, task)
            best.append(f"{' or '.join(map(label, names)) or 'too few seeds to say'} in {where} "
                        f"({longest:,})")
    title = (f"{'Highest' if task.higher_is_better else 'Lowest'} {measured}{' ratio' * ratio} at "
             f"the {'largest' if task.images else 'longest'}: {', '.join(best)}")
    drawn = {v.method for v in sides[0].values}
    runs = [run for run in sides[0].runs if run["method"] in drawn]
    captions = [f"Ours: {figures.caption(runs)}, a band from lowest to highest where a method has "
                "several." if runs else "", f"The paper: {task.about}, one value each.",
                "0 % has no place on a log axis." if shown != chosen else ""]
    return finish(figure, title if best else "Nothing to compare: choose a method and a range",
                  " ".join(filter(None, captions)), height=560, margin_t=112, title_font_size=16,
                  legend_orientation="v")


def _name_lengths(figure: go.Figure, column: int, trained: int, places: Sequence[int],
                  log: bool) -> None:
    """The horizontal axis: lengths are labelled where there is room, the trained one is marked."""
    scale = np.log10 if log else float
    at = [float(scale(place)) for place in places]
    span = (at[-1] - at[0]) or 1.0
    names, last = [], np.inf
    for place, x in zip(places[::-1], at[::-1]):  # from the right: the longest is always labelled
        fits = last - x > 0.08 * span
        names.append(f"{place:,}" if fits else "")
        last = x if fits else last
    add_train_line(figure, trained, f"trained at {trained:,}", log, row=1, col=column)
    figure.update_xaxes(type="log" if log else "linear", tickvals=places, ticktext=names[::-1],
                        range=[at[0] - 0.06 * span, at[-1] + 0.06 * span], tickfont_size=11,
                        tickangle=0, row=1, col=column)


def words(numbers: Numbers) -> str:
    """How to read the two sides, and which of the chosen methods only one of them has."""
    have = [{v.method for v in side.values} for side in numbers.sides]
    text = ["The sides differ in model and data: compare shapes, order and ratios, not heights."]
    for where, only in (("Ours", have[0] - have[1]), ("The paper's", have[1] - have[0])):
        if only:
            names = [label(m) for m in in_order(only)]
            text.append(f"{where} only: {', '.join(names)}.")
    return " ".join(text)


def table(numbers: Numbers) -> dict[str, list]:
    """Every number of the figure, one row for each run and length."""
    names = ("source", "method", "seed", numbers.task.place, "times the trained",
             numbers.task.value, "ratio to the trained")
    rows = [(side.name, label(v.method), v.seed, v.length, v.length / side.trained, v.value,
             v.ratio) for side in numbers.sides for v in side.values]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def scales() -> list[str]:
    """The scales of which results are committed."""
    files = [path for task in TASKS.values() if task.results
             for path in (DATA / "results").glob(f"{task.results}-*.json")]
    return sorted({path.stem.rpartition("-")[2] for path in files})


def choices() -> list[tuple[str, str]]:
    """Names and methods to choose from: the paper's, and others of which results are committed."""
    known = [(f"{label(method)}{where}", method)
             for where, methods in METHODS.items() for method in methods]
    measured = {v.method for task in TASKS for scale in scales() for v in ours(task, scale).values}
    others = measured - {method for _, method in known} - set(OF_IMAGES.values())
    return known + [(label(method), method) for method in in_order(others)]


def explore() -> Panel:
    """Choose a task, methods and lengths; ours and the paper's are drawn side by side."""
    known = scales()
    return Panel("Trained short, tested long", "Which encodings hold beyond the trained length "
                 "(dashed)? Choose methods, and narrow the lengths to see where a line begins to "
                 "rise.", State, compute, draw, words=words, table=table, file="extrapolation",
                 scale=dict(options=known, value=known[0]), methods=dict(options=choices()))
