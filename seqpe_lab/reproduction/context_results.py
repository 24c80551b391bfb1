"""How the finished language models of a folder use their context: measured, stored, drawn.

Each run is measured once, and its numbers are stored before the next one begins, so the command may
be interrupted and started again.
"""
from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.figures import caption
from seqpe_lab.course.style import (add_method, add_train_line, finish, in_order, label,
                                    number_axis)
from seqpe_lab.devices import best_device
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.provenance import provenance
from seqpe_lab.recipes import Recipe
from seqpe_lab.runs import Run, list_runs
from seqpe_lab.runs.run_data import kept_tokenizer
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.statistics import Difference, paired_difference
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.context_use import (attention_by_distance, loss_by_position,
                                         perplexity_in_window)
from seqpe_lab.tasks.text_data import TextData

FILE = "context-use"  # in data/results
WINDOWS = (16, 32, 64, 128)
DISTANCES = (1, 4, 16, 64, 256)  # where a range of distances ends, tokens
BEGINNING = (4, 8, 16, 32, 64)  # where the first ranges of positions end; then every 64 tokens
CONTROLS = ("none", "rope-1e4")  # cut to the trained length at test time, at every length
ENOUGH = 32_768  # tokens of text
NEAR = 4  # tokens; where one of the ranges of distances begins


def measure(model: GPT2, tokens: torch.Tensor, recipe: Recipe) -> dict:
    """All measurements of a model, in its longest context.

    Args:
        tokens: of the text it is tested on, more than the longest context.

    Returns:
        * "length": the context, tokens; "tokens": how many were predicted;
        * "by_position": {last position of a range, exclusive: nats};
        * "windows": {w, or "all": perplexity};
        * "attention": {distance at which a range begins: share}, the mean over the layers;
        * "cut": {length: perplexity} in a window of the trained length, of ``CONTROLS`` alone.

    Raises:
        ValueError: a text that does not fill the context once.
    """
    length = max(recipe.eval_lens)
    chunks = (len(tokens) - 1) // length
    tokens = tokens[: max(1, chunks) * length + 1]
    nats = loss_by_position(model, tokens, length)
    ends = position_ranges(length)
    means = {str(end): nats[begin:end].mean().item() for begin, end in zip((0, *ends), ends)}
    windows = {str(w): perplexity_in_window(model, tokens, [length], w)[length]
               for w in WINDOWS if w < length}
    shares = attention_by_distance(model, tokens, length, DISTANCES).mean(0).tolist()
    found = {"length": length, "tokens": chunks * length, "by_position": means,
             "windows": windows | {"all": nats.mean().exp().item()},
             "attention": {str(at): share for at, share in zip((0, *DISTANCES), shares)}}
    if recipe.method in CONTROLS:
        cut = perplexity_in_window(model, tokens, recipe.eval_lens, recipe.train_len)
        found["cut"] = {str(at): value for at, value in cut.items()}
    return found


def position_ranges(length: int) -> list[int]:
    """Where ranges of positions end, exclusive: finer at the beginning.

    >>> position_ranges(200)
    [4, 8, 16, 32, 64, 128, 192, 200]
    """
    ends = [*BEGINNING, *range(2 * BEGINNING[-1], length, BEGINNING[-1])]
    return [end for end in ends if end < length] + [length]


def measure_folder(folder: Path, path: Path, *, split: str = "test", tokens: int = ENOUGH,
                   cpu: bool = False, show: Callable[[str], None] = print) -> list[dict]:
    """Measure every finished language model below a folder; those that ``path`` has are kept.

    Args:
        path: a JSON file, a list with an entry for each run, sorted by method and seed.
        split: "test" or "validation".
        tokens: of the split's text; at least one context is needed.
        show: takes a line for each run, with the time that the rest will take.

    Raises:
        ValueError: no finished language model in the folder; a file of other measurements (of
            another split or number of tokens).
    """
    runs = [run for run in list_runs(folder)
            if run.recipe.task == "lm" and run.recipe.seed < 100 and run.results()]
    if not runs:
        raise ValueError(f"no finished language model in {folder}: train some first, or name "
                         "another folder")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if other := [e for e in known if (e["split"], e["asked"]) != (split, tokens)]:
        raise ValueError(f"{path} holds measurements on {other[0]['asked']:,} tokens of the "
                         f"{other[0]['split']} split: give the same, or another file")
    done = {e["recipe"] for e in known}
    left = [run for run in runs if run.recipe.digest() not in done]
    show(f"{len(runs)} finished language models, {len(runs) - len(left)} measured before")
    begin = time.monotonic()
    for number, run in enumerate(left, start=1):
        measured = _entry(run, split, tokens, cpu)
        known.append(measured)
        order = in_order(dict.fromkeys(e["method"] for e in known))
        known.sort(key=lambda e: (order.index(e["method"]), e["seed"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known, indent=1))
        rest = (time.monotonic() - begin) / number * (len(left) - number)
        shown = ", ".join(f"{value:.2f} ({w})" for w, value in measured["windows"].items())
        show(f"{run.recipe.method}, seed {run.recipe.seed}: perplexity {shown}; "
             f"{len(left) - number} left, about {rest / 60:.0f} min")
    return known


def _entry(run: Run, split: str, tokens: int, cpu: bool) -> dict:
    task, device = task_of(run.recipe), best_device(cpu)
    task.kept_tokenizer = kept_tokenizer(run)
    data = task.load_data()
    found = entry(trained_model(run, data, device), run.recipe, data, split, tokens)
    return found | {"trained_on_commit": run.results().get("commit")} | provenance(device)


def entry(model: GPT2, recipe: Recipe, data: TextData, split: str, tokens: int) -> dict:
    """What is stored of a model, without provenance: its recipe, the data, and :func:`measure`.

    Args:
        tokens: of the split's text that are predicted, at most.
    """
    return {"method": recipe.method, "scale": recipe.scale, "seed": recipe.seed,
            "recipe": recipe.digest(), "train_len": recipe.train_len, "split": split,
            "asked": tokens, "protocol": "non-overlapping", "data": data.provenance(),
            **measure(model, getattr(data, split)[: tokens + 1], recipe)}


# --- figures ------------------------------------------------------------------------------------

def by_position(entries: Sequence[Mapping]) -> go.Figure:
    """Mean loss by position in the longest context: means over seeds, bands over all of them."""
    figure, length = go.Figure(), entries[0]["length"]
    ends = [int(end) for end in entries[0]["by_position"]]
    middles = [(begin + end - 1) / 2 for begin, end in zip((0, *ends), ends)]
    for method, own in _seeds_of_methods(entries).items():
        add_method(figure, method, middles,
                   [[e["by_position"][str(end)] for e in own] for end in ends],
                   "%{y:.3f} nats at position %{x}")
    train_len = entries[0]["train_len"]
    add_train_line(figure, train_len, f"trained up to {train_len}", log_x=True)
    figure.update_xaxes(title="position in the context (tokens)", **number_axis(middles, log=True))
    figure.update_yaxes(title="loss (nats per token)")
    return finish(figure, f"Loss at each place of a context of {length:,} tokens", caption(entries))


def by_window(entries: Sequence[Mapping]) -> go.Figure:
    """Perplexity in the longest context if each layer attends to the last w tokens only."""
    figure, windows = go.Figure(), list(entries[0]["windows"])
    for method, own in _seeds_of_methods(entries).items():
        add_method(figure, method, windows,
                   [[e["windows"][w] for e in own] for w in windows], "%{y:.3f}, window %{x}")
    figure.update_xaxes(title="each layer sees the last ... tokens", type="category")
    figure.update_yaxes(title="perplexity", type="log", tickformat="~g", nticks=8)
    title = f"A context of {entries[0]['length']:,} tokens, attention cut to the last ones"
    return finish(figure, title, caption(entries))


def by_distance(entries: Sequence[Mapping]) -> go.Figure:
    """The share of attention that goes to each range of distances, stacked: a bar a method."""
    starts = [int(at) for at in entries[0]["attention"]]
    names = [_range(begin, end) for begin, end in zip(starts, [*starts[1:], None])]
    methods, figure = _seeds_of_methods(entries), make_subplots(1, 1)
    shades = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#fdae6b", "#d94801")
    for at, name, shade in zip(starts, names, shades):
        shares = [100 * sum(e["attention"][str(at)] for e in own) / len(own)
                  for own in methods.values()]
        figure.add_bar(y=[label(m) for m in methods], x=shares, name=name, orientation="h",
                       marker_color=shade, hovertemplate="%{x:.1f} % at distance " + name)
    figure.update_layout(barmode="stack", legend_title_text="distance (tokens)",
                         legend_traceorder="normal")
    figure.update_xaxes(title="share of the attention (%), mean over layers and heads",
                        range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    return finish(figure, "How far back attention goes", caption(entries))


FIGURES = {"by-position": by_position, "by-window": by_window, "by-distance": by_distance}


def conclusion(entries: Sequence[Mapping]) -> str:
    """A list in Markdown: what each method loses if it sees no more tokens than in training.

    The change is that of the perplexity in the longest context, with an interval over the seeds; it
    is called a loss or a gain where the interval excludes a factor of 1.
    """
    window, length = str(entries[0]["train_len"]), entries[0]["length"]
    lines = []
    for method, own in _seeds_of_methods(entries).items():
        change, factor = _cut(own)
        verdict = {"higher": "it loses", "lower": "it gains"}.get(change.verdict, change.verdict)
        if math.isinf(change.low):
            verdict = "too few seeds to say more"
        whole, cut = (sum(e["windows"][w] for e in own) / len(own) for w in ("all", window))
        lines.append(f"- {label(method)}: perplexity {whole:.2f} with all {length:,} tokens in "
                     f"sight, {cut:.2f} with the last {window}: {factor}, {verdict}.\n")
    return "".join(lines)


def readme_line(entries: Sequence[Mapping], methods: Sequence[str]) -> str:
    """What some methods have of distant tokens, in a sentence or two for the README.

    Args:
        entries: of all methods.
        methods: those to name; the share of attention is that of the first.
    """
    rows, window = _seeds_of_methods(entries), entries[0]["train_len"]
    changes = ", ".join(f"{label(m)} {_cut(rows[m])[1]}" for m in methods if m in rows)
    first = rows[methods[0]]
    near = sum(share for e in first for begin, share in e["attention"].items() if int(begin) < NEAR)
    return ("What are distant tokens worth to these models? Where each layer sees only the last "
            f"{window} of {entries[0]['length']:,} tokens, perplexity changes by: {changes}. "
            f"{label(methods[0])} gives {near / len(first):.0%} of its attention to the last "
            f"{NEAR} tokens ([lesson 09](notebooks/09_length_extrapolation.ipynb)).\n")


def _cut(own: Sequence[Mapping]) -> tuple[Difference, str]:
    """The change of a method's log perplexity in a window of the trained length, and its factor."""
    window = str(own[0]["train_len"])
    logarithms = {e["seed"]: math.log(e["windows"][window] / e["windows"]["all"]) for e in own}
    change = paired_difference(logarithms, dict.fromkeys(logarithms, 0.0))
    interval = "" if math.isinf(change.low) else (
        f" [{math.exp(change.low):.3f}, {math.exp(change.high):.3f}]")
    return change, f"× {math.exp(change.mean):.3f}{interval}"


def cut_rows(entries: Sequence[Mapping]) -> dict[str, dict[str, list[float]]]:
    """{method: {length: perplexity of each seed}} in a window of the trained length."""
    return {method: {at: [e["cut"][at] for e in own] for at in own[0]["cut"]}
            for method, own in _seeds_of_methods([e for e in entries if "cut" in e]).items()}


def _seeds_of_methods(entries: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    methods = in_order(dict.fromkeys(e["method"] for e in entries))
    return {method: [e for e in entries if e["method"] == method] for method in methods}


def _range(begin: int, end: int | None) -> str:
    """Distances from ``begin`` on, before ``end``.

    >>> _range(0, 1), _range(1, 4), _range(256, None)
    ('0 (itself)', '1 to 3', '256 and more')
    """
    if end is None:
        return f"{begin} and more"
    return f"{begin} to {end - 1}" if end - begin > 1 else f"{begin}" + " (itself)" * (not begin)
