"""Our curves beside the paper's: every number is a committed or a printed one, on its side."""

import base64
import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from seqpe_lab.course.figure_labels import with_subscripts
from seqpe_lab.course.style import label
from seqpe_lab.explorers import extrapolation_panel
from seqpe_lab.explorers.extrapolation_panel import (
    METHODS,
    TASKS,
    State,
    Value,
    compute,
    draw,
    explore,
    ours,
    papers,
    table,
    winners,
    within,
)
from seqpe_lab.package_data import committed_results, paper_table
from seqpe_lab.recipes import image_model, language_model

EVERYTHING = dict(
    task="text",
    methods=sum(METHODS.values(), ()),
    times=(1, 32),
    scale="small",
    values="measured",
    axis="log",
)


def numbers(**state):
    return compute(State(**state))


def picture(**state):
    return draw(numbers(**state))


def lines(figure, side):
    """{method: trace} of the left (0) or the right (1) panel."""
    axis = "x" if side == 0 else "x2"
    return {t.legendgroup: t for t in figure.data if t.name and (t.xaxis or "x") == axis}


def test_the_right_panel_is_the_paper_table_1():
    drawn = lines(picture(**EVERYTHING), 1)
    rows = paper_table(1)
    names = ("none", "sinusoidal", "learned", "rope-1e4", "rope-1e6", "rope-1e8", "alibi", "seqpe")
    assert [row["model"] for row in rows] == [
        "NoPE",
        "APE-Sin",
        "APE-Learn",
        "RoPE-10^4",
        "RoPE-10^6",
        "RoPE-10^8",
        "ALiBi",
        "SeqPE",
    ]
    for method, row in zip(names, rows):
        assert list(drawn[method].x) == [512, 1024, 2048, 4096, 8192, 16_384]
        assert list(drawn[method].y) == [row[str(n)] for n in drawn[method].x]
    assert (
        drawn["seqpe-no-losses"].y[-1] == 125.32 and drawn["seqpe-ood-only"].y[1] == 33.81
    )  # Table 4
    assert set(drawn) == {*names, "seqpe-no-losses", "seqpe-delta-only", "seqpe-ood-only"}


def test_the_right_panel_is_the_paper_table_3():
    drawn = lines(picture(**EVERYTHING | {"task": "images", "axis": "linear"}), 1)
    for row in paper_table(3):
        method = {
            "NoPE": "none",
            "APE-Sin": "sinusoidal",
            "APE-Learn": "learned",
            "RoPE2D": "rope-axial",
            "RoPE2D-Mix": "rope-mixed",
            "SeqPE": "seqpe-mul",
        }[row["model"]]
        assert list(drawn[method].y) == [row[str(n)] for n in (224, 320, 384, 448, 512, 640, 672)]


@pytest.mark.parametrize(
    ("task", "part", "of_seqpe"), [("answers", "perplexity", 28.60), ("matches", "em", 2.6)]
)
def test_table_2_stands_alone(task, part, of_seqpe):
    figure = picture(**EVERYTHING | {"task": task, "axis": "linear"})
    drawn = lines(figure, 1)
    assert {m: t.y[-1] for m, t in drawn.items()} == dict(
        zip(
            ("none", "sinusoidal", "learned", "rope-1e6", "alibi", "seqpe"),
            [row["8192"] for row in paper_table(2, part)],
        )
    )
    assert drawn["seqpe"].y[-1] == of_seqpe
    assert lines(figure, 0) == {} and any("no run of ours" in (t.text or "") for t in figure.data)


def test_the_left_panel_is_the_mean_and_the_band_of_our_seeds():
    figure = picture(**EVERYTHING | {"axis": "linear"})
    runs = [
        r["perplexity"]
        for r in committed_results("length-extrapolation-small")
        if r["method"] == "seqpe"
    ]
    values = np.array([[run[n] for n in ("64", "128", "256", "512", "1024")] for run in runs])
    assert len(values) > 1
    np.testing.assert_allclose(lines(figure, 0)["seqpe"].y, values.mean(0))
    band = next(t for t in figure.data if t.fill and t.legendgroup == "seqpe")
    np.testing.assert_allclose(band.y, [*values.max(0), *values.min(0)[::-1]])


def test_only_the_papers_protocol_of_images_is_shown(monkeypatch):
    whole = ours("images", "small").runs
    control = [run | {"protocol": "object on a larger canvas"} for run in whole]
    monkeypatch.setattr(extrapolation_panel, "committed_results", lambda name: whole + control)
    shown = ours.__wrapped__("images", "small").runs
    assert shown == whole and not any(r["protocol"].startswith("object") for r in shown)
    runs = [r["accuracy"]["72"] for r in shown if r["method"] == "learned"]
    assert lines(picture(**EVERYTHING | {"task": "images", "axis": "linear"}), 0)["learned"].y[
        -1
    ] == pytest.approx(np.mean(runs))


@pytest.mark.parametrize("task", TASKS)
def test_a_method_has_one_style_and_one_legend_entry(task):
    figure = picture(**EVERYTHING | {"task": task})
    left, right = lines(figure, 0), lines(figure, 1)
    for method in left.keys() & right.keys():
        assert (left[method].line.color, left[method].line.dash, left[method].marker.symbol) == (
            right[method].line.color,
            right[method].line.dash,
            right[method].marker.symbol,
        )
    entries = [t.name for t in figure.data if t.showlegend is not False and t.name]
    assert sorted(entries) == sorted({with_subscripts(label(m)) for m in left | right})


@pytest.mark.parametrize(
    ("task", "marks"),
    [
        ("text", [language_model(scale="small").train_len, 512]),
        ("images", [image_model(scale="small").image_size, 224]),
    ],
)
@pytest.mark.parametrize("times", [(1, 32), (2, 3)])
def test_the_trained_length_is_marked_in_both(task, marks, times):
    figure = picture(**EVERYTHING | {"task": task, "times": times})
    assert [shape.x0 for shape in figure.layout.shapes] == marks
    assert [a.text for a in figure.layout.annotations if a.text.startswith("trained")] == [
        f"trained at {n}" for n in marks
    ]
    for axis, mark in zip((figure.layout.xaxis, figure.layout.xaxis2), marks):
        assert axis.range[0] < (np.log10(mark) if task == "text" else mark) < axis.range[1]


def test_a_range_is_in_multiples_of_the_trained_length():
    drawn = [lines(picture(**EVERYTHING | {"times": (2, 8)}), side) for side in (0, 1)]
    assert list(drawn[0]["alibi"].x) == [128, 256, 512] and list(drawn[1]["alibi"].x) == [
        1024,
        2048,
        4096,
    ]


def test_a_ratio_is_to_the_trained_length_even_where_that_is_not_shown():
    whole, part = (
        lines(picture(**EVERYTHING | {"values": "ratio", "times": times}), 1)["rope-1e4"]
        for times in ((1, 32), (4, 32))
    )
    assert whole.y[0] == 1.0 and whole.y[-1] == pytest.approx(745.52 / 19.44)
    assert list(part.y) == list(whole.y[2:])


def test_nothing_of_zero_percent_on_a_log_axis():
    linear, log = (
        picture(**EVERYTHING | {"task": "matches", "axis": axis}) for axis in ("linear", "log")
    )
    assert lines(linear, 1)["sinusoidal"].y[-1] == 0
    assert min(min(t.y) for t in lines(log, 1).values()) > 0
    said = [
        any("log axis" in a.text for a in figure.layout.annotations) for figure in (linear, log)
    ]
    assert said == [False, True]


def test_the_title_names_the_best_at_the_longest():
    title = picture(
        **EVERYTHING | {"methods": ("none", "alibi", "seqpe"), "times": (1, 4)}
    ).layout.title.text.replace(" <br>", " ")
    assert title.startswith("Lowest perplexity at the longest: ")
    assert title.endswith(" in our runs (256), SeqPE in the paper (2,048)")


@pytest.mark.parametrize(
    "seeds, best",
    [
        ({"a": (70, 71, 72, 70, 71), "b": (45, 46, 45, 46, 45)}, ["a"]),
        ({"a": (60, 70, 62, 68, 66), "b": (66, 64, 67, 61, 63), "c": (9,) * 5}, ["a", "b"]),
        ({"a": (70, 71, 72), "b": (45, 46, 45)}, []),
    ],
)
def test_the_best_are_all_that_the_seeds_do_not_tell_apart(seeds, best):
    results = [
        Value(method, seed, length, value, 1.0)
        for method, values in seeds.items()
        for seed, last in enumerate(values)
        for length, value in ((9, 99.0), (12, last))
    ]
    assert winners(results, TASKS["images"]) == (best, 12)


@pytest.mark.parametrize("nothing", [{"methods": ()}, {"task": "images", "times": (8, 32)}])
def test_an_empty_choice_says_what_to_do(nothing):
    figure = picture(**EVERYTHING | nothing)
    assert sum("choose other methods or a wider range" in (t.text or "") for t in figure.data) == 2
    assert figure.layout.title.text.replace(" <br>", " ").startswith("Nothing to compare")
    assert all(len(column) == 0 for column in table(numbers(**EVERYTHING | nothing)).values())


def test_the_table_holds_what_is_drawn():
    asked = EVERYTHING | {"task": "images", "times": (1, 2)}
    rows = list(zip(*table(numbers(**asked)).values()))
    drawn = sum(
        len(within(side, TASKS["images"], asked["methods"], (1, 2)))
        for side in (ours("images", "small"), papers("images"))
    )
    assert len(rows) == drawn > 0
    of_paper = {(row[1], row[3]): row for row in rows if row[0].startswith("the paper")}
    assert of_paper["SeqPE mul", 448][4:] == (2.0, 81.2, pytest.approx(81.2 / 81.2))
    assert of_paper["RoPE axial", 448][4:] == (2.0, 78.2, pytest.approx(78.2 / 80.9))


def test_the_reader_downloads_what_the_panel_shows():
    panel = explore()
    panel.controls["methods"].value = ("alibi",)
    panel._sheet.selected_index = 0
    text = base64.b64decode(re.search(r"base64,([^\"]+)", panel._table.value).group(1)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["method"] for row in rows} == {"ALiBi"}
    assert [row["perplexity"] for row in rows if row["source"].startswith("the paper")] == [
        "20.06",
        "19.06",
        "18.65",
        "18.72",
        "19.36",
        "21.39",
    ]
    panel.close()


def test_the_page_shows_the_static_twin_after_every_move():
    panel = explore()
    for methods in (
        ("learned", "rope-1e6"),
        ("seqpe", "alibi"),
        ("learned", "rope-1e6"),
    ):  # lines, and bands where a method has several seeds
        panel.controls["methods"].value = methods
        assert len(panel.figure.data) >= 4
        assert json.loads(panel.plot.figure)["data"] == json.loads(panel.figure.to_json())["data"]
    panel.close()


def test_methods_with_results_of_our_own_can_be_chosen(monkeypatch):
    import seqpe_lab.explorers.extrapolation_panel as module

    paper = {method for methods in module.METHODS.values() for method in methods}
    assert {method for _, method in module.choices()} >= paper
    ours = module.ours
    more = [module.Value("t5", 0, 64, 5.0, 1.0), module.Value("MyPE", 0, 64, 5.0, 1.0)]
    monkeypatch.setattr(
        module, "ours", lambda *asked: replace(ours(*asked), values=ours(*asked).values + more)
    )
    assert module.choices()[-2:] == [("MyPE", "MyPE"), ("T5", "t5")]
    assert ("T5", "t5") in module.explore().controls["methods"].options
    drawn = module.draw(module.compute(module.State(methods=("MyPE", "t5"))))
    named = {trace.name: trace.line.color for trace in drawn.data if trace.name}
    assert named.keys() == {"MyPE", "T5"} and len(set(named.values())) == 2
