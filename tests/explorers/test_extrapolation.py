"""Our curves beside the paper's: every number is a committed or a printed one, on its side."""

import json
from dataclasses import replace

import numpy as np
import pytest

from seqpe_lab.course.figure_labels import with_subscripts
from seqpe_lab.course.style import label
from seqpe_lab.explorers import explore, extrapolation_results
from seqpe_lab.explorers.extrapolation_panel import State, compute, explorer, winners, within
from seqpe_lab.explorers.extrapolation_results import (
    TASKS,
    Value,
    methods,
    ours,
    papers,
    results,
    tasks,
)
from seqpe_lab.package_data import committed_results, paper_table
from seqpe_lab.recipes import image_model, language_model

EVERYTHING = dict(
    task="text",
    methods=tuple(methods()),
    times=(1, 32),
    scale="small",
    values="measured",
    axis="log",
)


def numbers(**state):
    return compute(State(**state))


def picture(**state):
    return explorer().draw(numbers(**state))


def table(shown):
    return explorer().answer(shown.state, shown, table=True)["table"]


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
def test_table_2_stands_beside_our_answers(task, part, of_seqpe):
    figure = picture(**EVERYTHING | {"task": task, "axis": "linear"})
    drawn = lines(figure, 1)
    assert {m: t.y[-1] for m, t in drawn.items()} == dict(
        zip(
            ("none", "sinusoidal", "learned", "rope-1e6", "alibi", "seqpe"),
            [row["8192"] for row in paper_table(2, part)],
        )
    )
    assert drawn["seqpe"].y[-1] == of_seqpe
    ours_alone = {run["method"] for run in results("question-answering-small")}
    assert set(lines(figure, 0)) == ours_alone


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
    place = next(i for i, t in enumerate(figure.data) if t.fill and t.legendgroup == "seqpe")
    np.testing.assert_allclose(figure.data[place].y, values.max(0))
    np.testing.assert_allclose(figure.data[place - 1].y, values.min(0))  # it is filled down to this


def test_single_seeds_are_lines_of_their_own():
    figure = picture(**EVERYTHING | {"axis": "linear", "seeds": "each", "methods": ("seqpe",)})
    runs = [r for r in committed_results("length-extrapolation-small") if r["method"] == "seqpe"]
    drawn = [t for t in figure.data if t.xaxis == "x"]
    assert [list(t.y) for t in drawn] == [list(run["perplexity"].values()) for run in runs]
    assert [t.showlegend for t in figure.data] == [True] + [False] * (len(figure.data) - 1)


def test_a_side_without_numbers_still_has_a_trace():
    """Without one, plotly gives the axes of the other side no room either."""
    drawn = picture(task="encodings-perplexity", methods=("t5",))
    assert {trace.xaxis for trace in drawn.data} == {"x", "x2"}
    assert [trace.name for trace in drawn.data if trace.xaxis == "x2"] == [None]


def test_table_5_is_among_the_images():
    drawn = lines(picture(**EVERYTHING | {"task": "images", "axis": "linear"}), 1)
    for row in paper_table(5):
        own = drawn[f"seqpe-{row['integration']}"]
        assert list(own.y[:4]) == [row[str(n)] for n in (224, 320, 384, 448)]


@pytest.fixture
def other_results(tmp_path, monkeypatch):
    """A function that makes a text the only file of results that the explorer finds."""
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(extrapolation_results, "DATA", tmp_path)
    cached = (tasks, methods, ours, papers)

    def write(name: str, runs: list[dict]) -> None:
        (tmp_path / "results" / name).write_text(json.dumps(runs), encoding="utf-8")
        for function in cached:
            function.cache_clear()

    yield write
    for function in cached:
        function.cache_clear()


def test_each_algorithmic_problem_is_a_task_from_the_trained_size_on(other_results):
    runs = [
        {
            "method": method,
            "seed": seed,
            "scale": "small",
            "split": "test",
            "examples": 500,
            "protocol": "p",
            "data": {
                "description": f"drawn examples of {problem!r}",
                "problem": problem,
                "hash": "abc",
            },
            "trained_size": 8,
            "exact_match": {"6": 100.0, "8": inside, "16": value + seed},
        }
        for method, inside in (("alibi", 99.0), ("none", 98.9))
        for problem, value in (("copy", 0.0), ("needle", 50.0))
        for seed in (0, 1)
    ]
    other_results("algorithms-small.json", runs)
    named = ["algorithms-copy-exact_match", "algorithms-needle-exact_match"]
    assert list(tasks())[len(TASKS) :] == named
    assert tasks()[named[0]].value == "exact match (%)"
    for name, last in zip(named, (0.5, 50.5)):
        side = ours(name, "small")
        assert side.trained == 8
        measured = {(v.method, v.length) for v in side.values}
        assert measured == {("alibi", 8), ("alibi", 16), ("none", 8)}  # not learnt: it ends there
        assert "below 99 % at a trained size" in side.caption
        panel = explore("extrapolation")
        panel.set(task=name, methods=("alibi",), axis="linear")
        (drawn,) = (t for t in panel.figure.data if t.name)
        assert list(drawn.y) == [99.0, last] and not panel.message
        panel.close()


def test_other_results_are_found_whatever_they_measure(other_results):
    """A new file of results, with an encoding and a length that no other has, breaks nothing."""
    known = committed_results("length-extrapolation-small")[0]
    runs = [
        known | {"method": method, "seed": seed, "loss_by_length": {"32": 1.0 + seed, "48": 2.0}}
        for method in ("seqpe", "my-own")
        for seed in (0, 1)
    ]
    other_results("trials-small-unfinished.json", runs)
    other_results("algorithmic-tasks-small.json", runs)
    assert list(tasks())[len(TASKS) :] == [
        "algorithmic-tasks-loss_by_length",
        "algorithmic-tasks-perplexity",
    ]
    state = dict(task="algorithmic-tasks-loss_by_length", methods=("my-own", "seqpe"))
    panel = explore("extrapolation")
    panel.set(**state, axis="linear")
    assert not panel.message and [list(t.y) for t in panel.figure.data if t.name] == [
        [1.5, 2.0],
        [1.5, 2.0],
    ]
    panel.close()


def test_only_the_papers_protocol_of_images_is_shown(monkeypatch):
    whole = results("resolution-extrapolation-small")
    control = [run | {"protocol": "object on a larger canvas"} for run in whole]
    assert not any("canvas" in run["protocol"] for run in whole)
    monkeypatch.setattr(extrapolation_results.json, "loads", lambda text: whole + control)
    assert results("resolution-extrapolation-small") == whole
    monkeypatch.undo()
    runs = [r["accuracy"]["72"] for r in whole if r["method"] == "learned"]
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
    assert [a.text for a in figure.layout.annotations if a.text.startswith("trained at")] == [
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


@pytest.mark.parametrize("seeds", ["band", "each"])
def test_zero_percent_counts_whatever_axis_is_asked_for(seeds):
    """On a log axis the seeds at 0 would be missing, and the mean over the others too high."""
    linear, log = (
        picture(**EVERYTHING | {"task": "matches", "axis": axis, "seeds": seeds})
        for axis in ("linear", "log")
    )
    assert linear == log and log.layout.yaxis.type == "linear"
    assert lines(log, 1)["sinusoidal"].y[-1] == 0


def test_the_title_names_the_best_at_the_longest():
    figure = picture(**EVERYTHING | {"methods": ("none", "alibi", "seqpe"), "times": (1, 4)})
    title = figure.layout.title.text.replace(" <br>", " ")
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
    said = " or ".join(map(label, best)) or "too few seeds to say"
    assert winners(results, TASKS["images"]) == (said, 12)


@pytest.mark.parametrize("nothing", [{"methods": ()}, {"task": "images", "times": (8, 32)}])
def test_an_empty_choice_says_what_to_do(nothing):
    figure = picture(**EVERYTHING | nothing)
    notes = [a.text for a in figure.layout.annotations]
    assert sum("choose other methods or a wider range" in text for text in notes) == 2
    assert not figure.layout.shapes and not any("trained at" in text for text in notes)
    assert figure.layout.title.text.startswith("Nothing to compare")
    assert all(len(column) == 0 for column in table(numbers(**EVERYTHING | nothing)).values())


def test_the_table_holds_what_is_drawn():
    asked = EVERYTHING | {"task": "images", "times": (1, 2)}
    rows = list(zip(*table(numbers(**asked)).values()))
    drawn = sum(
        len(within(side, asked["methods"], (1, 2)))
        for side in (ours("images", "small"), papers("images"))
    )
    assert len(rows) == drawn > 0
    of_paper = {(row[1], row[3]): row for row in rows if row[0].startswith("the paper")}
    assert of_paper["SeqPE mul", 448][4:] == (2.0, 81.2, pytest.approx(81.2 / 81.2))
    assert of_paper["RoPE axial", 448][4:] == (2.0, 78.2, pytest.approx(78.2 / 80.9))


def test_the_reader_downloads_what_the_panel_shows():
    panel = explore("extrapolation")
    panel.set(methods=("alibi",))
    panel.table = True
    shown = json.loads(panel.answer)["table"]
    rows = [dict(zip(shown, row)) for row in zip(*shown.values())]
    assert {row["method"] for row in rows} == {"ALiBi"}
    assert [row["perplexity"] for row in rows if row["source"].startswith("the paper")] == [
        20.06,
        19.06,
        18.65,
        18.72,
        19.36,
        21.39,
    ]
    panel.close()


def test_only_methods_that_were_measured_in_the_task_can_be_chosen():
    text, images = (
        set(numbers(**EVERYTHING | {"task": t}).limits["methods"])
        for t in TASKS
        if t in ("text", "images")
    )
    assert {"rope-1e4", "alibi"} <= text and {"rope-axial", "seqpe-mul"} <= images
    assert not text & {"rope-axial", "seqpe-mul"} and not images & {"rope-1e4", "seqpe"}


def test_methods_with_results_of_our_own_can_be_chosen(monkeypatch):
    more = [Value("t5", 0, 64, 5.0, 1.0), Value("MyPE", 0, 64, 5.0, 1.0)]
    real = extrapolation_results.ours

    def with_more(*asked):
        return replace(real(*asked), values=real(*asked).values + more)

    monkeypatch.setattr(extrapolation_results, "ours", with_more)
    monkeypatch.setattr("seqpe_lab.explorers.extrapolation_panel.ours", with_more)
    known = methods.__wrapped__()
    assert known["MyPE"] == "MyPE" and known["t5"] == "T5"
    drawn = picture(methods=("MyPE", "t5"))
    named = {trace.name: trace.line.color for trace in drawn.data if trace.name}
    assert named.keys() == {"MyPE", "T5"} and len(set(named.values())) == 2
