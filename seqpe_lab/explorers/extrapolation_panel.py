"""Trained short, tested long: our curves beside the paper's (Tables 1 to 4).

The two sides differ in model, data and lengths, so a range is chosen in multiples of the trained
length, which both have. Heights cannot be compared across them; shapes and order can, and ratios.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course import figures
from seqpe_lab.course.draft import Draft
from seqpe_lab.course.style import number_axis
from seqpe_lab.explorers.panel import LABELLED, Panel, choice, several
from seqpe_lab.package_data import DATA, committed_results, paper_table, results_file
from seqpe_lab.recipes import image_model, language_model

ROWS = {"NoPE": "none", "APE-Sin": "sinusoidal", "APE-Learn": "learned", "RoPE-10^4": "rope-1e4", "RoPE-10^6": "rope-1e6", "RoPE-10^8": "rope-1e8",
        "ALiBi": "alibi", "SeqPE": "seqpe", "RoPE2D": "rope-axial", "RoPE2D-Mix": "rope-mixed"}  # the paper's names
ABLATION = {(0.0, 0.0): "seqpe-no-losses", (0.1, 0.0): "seqpe-delta-only", (0.0, 0.1): "seqpe-ood-only"}  # Table 4's alpha, beta
OF_IMAGES = {"seqpe": "seqpe-mul"} | {name: name.replace("seqpe", "seqpe-mul") for name in ABLATION.values()}  # the same method, integrated by "mul"
METHODS = {"none": "NoPE", "sinusoidal": "APE sinusoidal", "learned": "APE learned", "rope-1e4": "RoPE 10⁴ (text)", "rope-1e6": "RoPE 10⁶ (text)",
           "rope-1e8": "RoPE 10⁸ (text)", "rope-axial": "RoPE axial (images)", "rope-mixed": "RoPE mixed (images)", "alibi": "ALiBi (text)", "seqpe": "SeqPE",
           "seqpe-no-losses": "SeqPE, no losses", "seqpe-delta-only": "SeqPE, L_δ only", "seqpe-ood-only": "SeqPE, L_OOD only",
           "seqpe-strong-losses": "SeqPE, α = β = 0.3 (text)", "seqpe-sum": "SeqPE sum (images)", "seqpe-bias": "SeqPE bias (images)"}
TIMES = (1, 1.5, 2, 3, 4, 8, 16, 32)  # multiples of the trained length


@dataclass(frozen=True)
class Task:
    """What is measured over which lengths or sizes, by us and in the paper."""
    name: str
    measure: str  # as results.json has it
    value: str  # title of the vertical axis
    place: str  # of the horizontal one
    unit: str
    best: str  # word of the title: "lowest" or "highest"
    results: str | None  # data/results/<results>-<scale>.json
    tables: tuple[tuple[int, str], ...]  # of the paper
    trained: int  # length or size, in the paper
    about: str  # the paper's model and data

    @property
    def images(self) -> bool:
        return self.unit == "pixels"


_READS = dict(place="context length (tokens)", unit="tokens")
_ANSWERS = _READS | dict(results=None, trained=1_024, about="GPT-2 small, fine-tuned to answer questions of RULER-SQuAD")
TASKS = {
    "text": Task("text: next token", "perplexity", "perplexity", best="lowest", results="length-extrapolation", tables=((1, ""), (4, "text")), trained=512,
                 about="GPT-2 small on WikiText-103", **_READS),
    "answers": Task("text: answers, perplexity", "perplexity", "perplexity of the answer", best="lowest", tables=((2, "perplexity"),), **_ANSWERS),
    "matches": Task("text: answers, exact match", "match", "exact match (%)", best="highest", tables=((2, "em"),), **_ANSWERS),
    "images": Task("images: class", "accuracy", "top-1 accuracy (%)", "image size (pixels a side)", "pixels", "highest", "resolution-extrapolation",
                   ((3, ""), (4, "images")), 224, "ViT-S/16 on ImageNet-1k"),
}


@dataclass(frozen=True)
class Side:
    """One of the two panels: ``results`` as figures.py takes them, {"method", "seed", <measure>: {length: value}, ...}."""
    name: str
    trained: int
    results: tuple[dict, ...]


@functools.lru_cache
def scales() -> tuple[str, ...]:
    """The scales of which results are committed."""
    prefixes = [task.results for task in TASKS.values() if task.results]
    return tuple(sorted({path.stem.rpartition("-")[2] for prefix in prefixes for path in (DATA / "results").glob(f"{prefix}-*.json")}))


@functools.lru_cache
def ours(task: str, scale: str) -> Side:
    """Our committed results; none where there is no run of that task and scale."""
    asked = TASKS[task]
    trained = image_model(scale=scale).image_size if asked.images else language_model(scale=scale).train_len
    there = asked.results and results_file(f"{asked.results}-{scale}").exists()
    results = committed_results(f"{asked.results}-{scale}") if there else []
    return Side(f"ours, scale {scale}", trained, tuple(r for r in results if "canvas" not in r["protocol"]))  # the paper resizes whole images


@functools.lru_cache
def papers(task: str) -> Side:
    """The paper's numbers; its Table 4 gives the losses apart, over fewer lengths."""
    asked, results = TASKS[task], []
    for table in asked.tables:
        for row in paper_table(*table):
            method = ROWS[row["model"]] if "model" in row else ABLATION.get((row["alpha"], row["beta"]))
            if method:  # Table 4's last row stands in Table 1 or 3 already
                method = OF_IMAGES.get(method, method) if asked.images else method
                results.append({"method": method, "seed": "", asked.measure: {n: v for n, v in row.items() if n.isdigit()}})
    numbers = " and ".join(str(number) for number, _ in asked.tables)
    return Side(f"the paper, Table{'s' if len(asked.tables) > 1 else ''} {numbers}", asked.trained, tuple(results))


def within(side: Side, task: Task, methods: Sequence[str], times: tuple[float, float], ratio: bool = False) -> list[dict]:
    """The results of some methods over a range of lengths.

    Args:
        times: shortest and longest, in multiples of the trained length.
        ratio: divide each value by the same run's at the trained length.
    """
    chosen = {OF_IMAGES.get(m, m) for m in methods} if task.images else set(methods)
    kept = []
    for result in side.results:
        values = result[task.measure]
        base = values[str(side.trained)] if ratio else 1.0
        shown = {n: v / base for n, v in values.items() if times[0] * side.trained <= int(n) <= times[1] * side.trained}
        if result["method"] in chosen and shown:
            kept.append(result | {task.measure: shown})
    return kept


def winner(results: Sequence[Mapping], task: Task) -> tuple[str, int]:
    """(method, length): which is best at the longest length, over the mean of its seeds.

    >>> winner([{"method": "none", "perplexity": {"64": 9.0}}, {"method": "alibi", "perplexity": {"64": 5.0}}], TASKS["text"])
    ('alibi', 64)
    """
    longest = max(int(n) for r in results for n in r[task.measure])
    seeds: dict[str, list[float]] = {}
    for r in results:
        if str(longest) in r[task.measure]:
            seeds.setdefault(r["method"], []).append(r[task.measure][str(longest)])
    return (min if task.best == "lowest" else max)(seeds, key=lambda method: np.mean(seeds[method])), longest


def picture(task: str, methods: Sequence[str], times: tuple[float, float], scale: str, values: str, axis: str) -> go.Figure:
    """Ours on the left, the paper's on the right; a line a method through the mean of its seeds, a band from their lowest to their highest."""
    asked, ratio = TASKS[task], values == "ratio"
    sides = (ours(task, scale), papers(task))
    shown = [within(side, asked, methods, times, ratio) for side in sides]
    alike = (ratio or "%" in asked.value) and all(shown)  # then one vertical axis serves both
    figure = Draft(1, 2, [side.name for side in sides], horizontal_spacing=0.1, shared_yaxes="all" if alike else False)
    figure.update_annotations(yshift=20)  # above the mark of the trained length
    named, hidden = set(), False
    for column, (side, results) in enumerate(zip(sides, shown), start=1):
        if axis == "log":
            positive = [r | {asked.measure: {n: v for n, v in r[asked.measure].items() if v > 0}} for r in results]
            hidden |= positive != results
            results = [r for r in positive if r[asked.measure]]
        if not results:
            why = "no run of ours answers questions" if asked.results is None and column == 1 else "nothing was measured here:<br>choose other methods or a wider range"
            figure.add("scatter", x=[0], y=[0], mode="text", text=why, hoverinfo="skip", showlegend=False, row=1, col=column)
            figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, row=1, col=column)
            figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False, row=1, col=column)
            continue
        for trace in (t.to_plotly_json() for t in figures._by_method(results, asked.measure, f"%{{y:.4~g}} at %{{x:,}} {asked.unit}").data):
            if "fill" in trace:  # a band
                trace["mode"] = "lines"
            else:
                trace["showlegend"] = trace["legendgroup"] not in named
                named.add(trace["legendgroup"])
            figure.add(**trace, row=1, col=column)
        _lengths(figure, column, side.trained, sorted({int(n) for r in results for n in r[asked.measure]} | {side.trained}), log=not asked.images)
        numbers = [v for r in (sum(shown, []) if alike else results) for v in r[asked.measure].values()]
        figure.update_yaxes(showticklabels=True, rangemode="tozero" if "%" in asked.value else "normal", **number_axis(numbers, axis == "log", labels=6), row=1, col=column)
    figure.update_xaxes(title=asked.place)
    figure.update_yaxes(title=f"{asked.value.partition(' (')[0]} ÷ that at the trained {'size' if asked.images else 'length'}" if ratio else asked.value, col=1)
    return _finish(figure, asked, shown, ratio, hidden)


def _lengths(figure: Draft, column: int, trained: int, places: Sequence[int], log: bool) -> None:
    """The horizontal axis of a panel, each length named where there is room, the trained one marked."""
    at = np.log10(places) if log else np.array(places, dtype=float)
    span = (at[-1] - at[0]) or 1.0
    named, last = [], np.inf
    for place in at[::-1]:  # from the right: the longest has its name
        named.append(last - place > 0.08 * span)
        last = place if named[-1] else last
    mark = float(np.log10(trained) if log else trained)
    figure.add_vline(trained, row=1, col=column)
    figure.add_annotation(x=mark, y=1, yref="y domain", text=f"trained at {trained:,}", showarrow=False, xanchor="left", yanchor="bottom", font_size=12, row=1, col=column)
    figure.update_xaxes(type="log" if log else "linear", range=[at[0] - 0.06 * span, at[-1] + 0.06 * span], tickvals=places,
                        ticktext=[f"{n:,}" if name else "" for n, name in zip(places, named[::-1])], tickfont_size=11, tickangle=0, row=1, col=column)


def _finish(figure: Draft, task: Task, shown: Sequence[Sequence[Mapping]], ratio: bool, hidden: bool) -> go.Figure:
    best = [f"{figures.label(method)} in {where} ({n:,})" for where, (method, n) in
            ((where, winner(results, task)) for where, results in zip(("our runs", "the paper"), shown) if results)]
    title = f"{task.best.capitalize()} {task.value.partition(' (')[0]}{' ratio' if ratio else ''} at the {'largest' if task.images else 'longest'}: {', '.join(best)}"
    captions = [f"Ours: {figures.caption(shown[0])}, a band from lowest to highest where a method has several." if shown[0] else "",
                f"The paper: {task.about}, one value each.", "0 % has no place on a log axis." if hidden else ""]
    return figure.finish(title if best else "Nothing to compare: choose a method and a range", " ".join(filter(None, captions)), height=560,
                         margin=dict(t=112), title_font_size=16, legend=dict(orientation="v"))


def words(task: str, methods: Sequence[str], times: tuple[float, float], scale: str, **_) -> str:
    """How to read the two panels, and which of the chosen methods only one of them has."""
    asked = TASKS[task]
    have = [{r["method"] for r in within(side, asked, methods, times)} for side in (ours(task, scale), papers(task))]
    alone = [f"{where} only: {', '.join(figures.label(m) for m in figures.STYLE if m in only)}." for where, only in
             (("Ours", have[0] - have[1]), ("The paper's", have[1] - have[0])) if only]
    return " ".join(["The two sides differ in model and data: compare shapes, order and ratios, not heights.", *alone])


def table(task: str, methods: Sequence[str], times: tuple[float, float], scale: str, **_) -> dict[str, list]:
    """Every number behind the picture, a row a run and length."""
    asked, rows = TASKS[task], []
    for side in (ours(task, scale), papers(task)):
        ratios = within(side, asked, methods, times, ratio=True)
        for result, ratio in zip(within(side, asked, methods, times), ratios):
            rows += [(side.name, figures.label(result["method"]), result["seed"], int(n), int(n) / side.trained, float(value), float(ratio[asked.measure][n]))
                     for n, value in result[asked.measure].items()]
    names = ("source", "method", "seed", asked.place, "times the trained", asked.value, "ratio to the trained")
    return dict(zip(names, map(list, zip(*rows)))) if rows else {name: [] for name in names}


def explore() -> Panel:
    """Choose a task, methods and a range of lengths; ours and the paper's are drawn side by side."""
    times = ipywidgets.SelectionRangeSlider(options=[(f"{t:g}×", t) for t in TIMES], index=(0, len(TIMES) - 1), description="lengths", **LABELLED)
    times.tooltip = times.help = "from shortest to longest, in multiples of the trained length or size"
    controls = {
        "task": choice("task", "what is measured; of the answers there are the paper's numbers only", [(task.name, key) for key, task in TASKS.items()], "text"),
        "methods": several("methods", "one or more, with Ctrl or Shift; (text) and (images) exist for one of the two only",
                           [(name, method) for method, name in METHODS.items()], ("none", "learned", "rope-1e4", "rope-axial", "alibi", "seqpe", "seqpe-no-losses")),
        "times": times,
        "scale": choice("scale", "of our runs: those with committed results", scales(), scales()[0]),
        "values": choice("show", "as measured, or divided by the value at the trained length", [("as measured", "measured"), ("ratio to the trained length", "ratio")], "measured"),
        "axis": choice("vertical axis", "log makes equal ratios equally high", ["log", "linear"], "log"),
    }
    return Panel("Trained short, tested long", "Which encodings hold beyond the trained length (dashed)? Choose methods, and narrow the lengths to see where a line begins to rise.",
                 picture, controls, words=words, table=table, file="extrapolation")
