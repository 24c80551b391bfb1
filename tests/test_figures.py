"""Figures: numbers in, plotly figure out; and the page that shows them."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from seqpe_lab.course import executing, figure_files, figures, style, training_programs
from seqpe_lab.course.lesson import NOT_SEEN, Lesson
from seqpe_lab.course.lesson_page import lesson_page
from seqpe_lab.recipes import (
    ABLATIONS,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    IMAGE_UNSHIFTED,
    METHODS,
    QA_ABLATIONS,
    UNSHIFTED,
)
from seqpe_lab.runs import Run
from seqpe_lab.site import lesson_states, pages


def result(method, seed=0, values=(4.0, 5.0, 6.0), lengths=(64, 128, 256), **changes):
    return {
        "method": method,
        "seed": seed,
        "scale": "small",
        "protocol": "non-overlapping",
        "split": "test",
        "tokens": 1234,
        "perplexity": dict(zip(map(str, lengths), values)),
        "data": {"description": "a text", "tokenizer": "bytes", "hash": "abc"},
    } | changes


def lines(figure):
    return [trace for trace in figure.data if trace.mode and "lines" in trace.mode]


def test_one_style_a_method_and_no_two_alike():
    text = {*METHODS, *ABLATIONS, *UNSHIFTED, *QA_ABLATIONS, "rope-randomized"}
    images = {*IMAGE_METHODS, *IMAGE_ABLATIONS, *IMAGE_UNSHIFTED}
    assert set(style.STYLE) == text | images
    assert len({style[0] for style in style.STYLE.values()}) == len(style.STYLE)
    for task in (text, images):  # no figure shows both
        assert len({style.STYLE[method][1:] for method in task}) == len(task)
    further = {style.style_of(name) for name in style.NAMES}
    assert len({colour for _, colour, _, _ in further} - set(style.COLOURS)) == len(style.NAMES)


def test_extrapolation_draws_a_line_a_method_over_its_lengths():
    figure = figures.extrapolation(
        [result("alibi"), result("seqpe", values=(3.0, 3.5, 4.0))], train_len=64
    )
    assert [line.name for line in lines(figure)] == ["ALiBi", "SeqPE"]
    assert list(lines(figure)[1].x) == [64, 128, 256] and list(lines(figure)[1].y) == [
        3.0,
        3.5,
        4.0,
    ]
    assert lines(figure)[1].line.color == style.STYLE["seqpe"][1]
    assert figure.layout.shapes[0].x0 == 64  # the trained length
    assert (
        "tokens" in figure.layout.xaxis.title.text
        and "perplexity" in figure.layout.yaxis.title.text
    )


def test_lengths_are_sorted_as_numbers():
    figure = figures.extrapolation([result("none", lengths=(1024, 64, 128))], train_len=64)
    assert list(lines(figure)[0].x) == [64, 128, 1024] and list(lines(figure)[0].y) == [
        5.0,
        6.0,
        4.0,
    ]


def image_result(method, values=(90.0, 50.0), **changes):
    return {
        "method": method,
        "seed": 0,
        "scale": "small",
        "protocol": "whole image, resized",
        "split": "test",
        "images": 320,
        "accuracy": dict(zip(("24", "72"), values)),
        "data": {"description": "digits", "hash": "abc"},
    } | changes


def test_resolution_draws_accuracy_over_image_sizes():
    figure = figures.resolution(
        [
            image_result("learned"),
            image_result("seqpe-mul", (92.0, 60.0), interpolated={"24": 92.0, "72": 70.0}),
        ],
        train_size=24,
    )
    assert [line.name for line in lines(figure)] == ["APE learned", "SeqPE mul"] and list(
        lines(figure)[1].y
    ) == [92.0, 60.0]
    assert (
        figure.layout.shapes[0].x0 == 24
        and "pixels" in figure.layout.xaxis.title.text
        and "%" in figure.layout.yaxis.title.text
    )
    caption = figure.layout.annotations[-1].text.replace("<br>", " ")
    assert "320 images" in caption and "chunks" not in caption and "bytes" not in caption


def test_patch_similarity_has_a_row_a_model_and_outlines_the_trained_grid():
    maps = {
        model: {"centre": np.eye(4), "corner": np.ones((4, 4))} for model in ("one", "two", "three")
    }
    figure = figures.patch_similarity(maps, title="maps", trained=2)
    assert (
        len(figure.data) == 6
        and np.array_equal(figure.data[0].z, np.eye(4))
        and len(figure.layout.shapes) == 6
    )
    assert {"one", "two", "three", "centre", "corner"} <= {
        a.text for a in figure.layout.annotations
    }


def test_several_seeds_give_their_mean_and_a_band():
    figure = figures.extrapolation(
        [result("seqpe", 0, (2.0, 4.0, 6.0)), result("seqpe", 1, (4.0, 4.0, 8.0))], train_len=64
    )
    band, line = figure.data
    assert list(line.y) == [3.0, 4.0, 7.0]
    assert list(band.y) == [4.0, 4.0, 8.0, 6.0, 4.0, 2.0] and list(band.x) == [
        64,
        128,
        256,
        256,
        128,
        64,
    ]


def test_relative_perplexity_starts_at_one():
    figure = figures.extrapolation(
        [result("seqpe", values=(4.0, 6.0, 8.0))], train_len=64, relative=True
    )
    assert list(lines(figure)[0].y) == [1.0, 1.5, 2.0]


def test_the_caption_names_scale_data_protocol_and_seeds_and_every_difference():
    caption = figures.caption(
        [
            result("seqpe", 0),
            result(
                "seqpe",
                1,
                split="validation",
                data={"description": "another", "tokenizer": "gpt2", "hash": "def"},
            ),
        ]
    )
    for part in (
        "scale small",
        "a text, bytes",
        "another, gpt2",
        "abc",
        "def",
        "non-overlapping",
        "test / validation",
        "1,234 tokens",
        "seeds 0, 1",
    ):
        assert part in caption


def test_no_results_are_refused():
    with pytest.raises(ValueError, match="no results"):
        figures.extrapolation([], train_len=64)


def test_a_method_unknown_to_the_palette_is_drawn_all_the_same():
    assert lines(figures.extrapolation([result("my-own")], train_len=64))[0].name == "my-own"
    assert figures.label("my-own") == "my-own" and figures.label("rope-1e4") == "RoPE 10⁴"


def test_heatmaps_show_their_matrices():
    matrix = np.arange(9.0).reshape(3, 3)
    assert np.array_equal(figures.heatmap(matrix, title="t").data[0].z, matrix)
    both = figures.heatmaps({"a": matrix, "b": matrix + 1}, title="t")
    assert [np.asarray(trace.z)[0, 0] for trace in both.data] == [0, 1]
    assert [annotation.text for annotation in both.layout.annotations][:2] == ["a", "b"]


def test_curves_take_the_colour_of_the_method_they_are_named_after():
    figure = figures.curves(
        [1, 2],
        {"alibi": [3, 4], "mine": [5, 6]},
        title="t",
        x_title="steps",
        y_title="nats",
        mark=1.5,
        mark_text="here",
    )
    assert [trace.name for trace in figure.data] == ["ALiBi", "mine"] and figure.data[
        0
    ].line.color == style.STYLE["alibi"][1]
    assert figure.layout.xaxis.title.text == "steps" and figure.layout.annotations[0].text == "here"


def test_panels_share_their_lines_and_one_key():
    figure = figures.panels(
        [1, 2],
        {"loss": {"seqpe": [1, 2], "none": [3, 4]}, "rank": {"seqpe": [5, 6], "none": [7, 8]}},
        title="t",
        x_title="step",
        caption="small",
    )
    assert len(figure.data) == 4 and figure.layout.showlegend is False
    *_, key, caption = [note.text for note in figure.layout.annotations]
    assert caption == "small" and figures.label("seqpe") in key and "NoPE" in key
    assert style.STYLE["seqpe"][1] in key


def test_panels_have_a_y_title_and_logarithmic_axes():
    measures = {"loss": {"seqpe": [0.5, 90]}, "rank": {"seqpe": [1e-9, 1]}}
    layout = figures.panels(
        [1, 1_000], measures, title="t", x_title="step", y_title="nats", log_x=True, log_y=True
    ).layout
    assert layout.yaxis.title.text == "nats" and {
        layout.xaxis.type,
        layout.xaxis2.type,
        layout.yaxis.type,
        layout.yaxis2.type,
    } == {"log"}
    assert (layout.yaxis.dtick, layout.yaxis2.exponentformat) == (
        "D2",
        "power",
    )  # each panel's own span
    layout = figures.panels([1, 1_000], measures, title="t", x_title="step").layout
    assert {layout.xaxis2.type, layout.yaxis2.type} == {"linear"} and not layout.yaxis.title.text


@pytest.mark.parametrize(
    "values, log, expected",
    [
        (
            [0, 20_000],
            False,
            dict(exponentformat="power", minexponent=6, separatethousands=True),
        ),  # 20,000 and no "20k"
        (
            [0.0, -3e-5, float("nan"), None],
            False,
            dict(exponentformat="power", minexponent=3),
        ),  # 3×10⁻⁵ and no "30µ"
        ([1, 10**9], True, dict(dtick=1, exponentformat="power", tickformat=None)),
        (
            [1e-30, 1.0],
            True,
            dict(dtick=3, exponentformat="power", tickformat=None),
        ),  # no more labels than fit
        ([1, 10_000], True, dict(dtick=1, tickformat=",~r")),
        (
            [512, 16_384],
            True,
            dict(dtick="D2", tickformat=",~r"),
        ),  # 500, 1,000, 2,000 and no lone 5 and 2
        ([4.0, 6.5], True, dict(dtick=None, nticks=8, tickformat=",~r")),
        ([0.0, -1.0], True, dict()),
        ([], True, dict()),
        ([], False, dict()),  # nothing to draw
    ],
)
def test_ticks_are_plain_numbers_or_powers_of_ten(values, log, expected):
    layout = figures.curves(
        values, {"a": values}, title="t", x_title="", y_title="", log_x=log, log_y=log
    ).layout
    for axis in (layout.xaxis, layout.yaxis):
        assert axis.type == ("log" if log else "linear")
        assert {name: axis[name] for name in expected} == expected


def inner_height(figure):
    return figure.layout.height - figure.layout.margin.t - figure.layout.margin.b


def test_each_line_of_a_caption_has_room_below_the_plot():
    matrix = np.eye(2)
    for draw in (
        lambda caption: figures.curves(
            [1], {"a": [1]}, title="t", x_title="", y_title="", caption=caption
        ),
        lambda caption: figures.table({"a": [1]}, title="t", caption=caption),
        lambda caption: figures.panels(
            [1], {"m": {"a": [1]}}, title="t", x_title="", caption=caption
        ),
        lambda caption: figures.heatmap(matrix, title="t", caption=caption),
        lambda caption: figures.heatmaps({"a": matrix}, title="t", caption=caption),
    ):
        one, long = draw("word"), draw("word " * 100)
        note = long.layout.annotations[-1]
        lines = note.text.count("<br>") + 1
        assert (
            lines == 12 and long.layout.margin.b >= -note.yshift + 13 * lines
        )  # pixels a line at this size
        assert inner_height(long) == inner_height(one)  # the plot itself stays as large


def test_a_table_is_high_enough_for_its_rows_and_wrapped_texts():
    rows = ["seqpe"] * 7
    plain = figures.table({"method": rows, "b": rows}, title="t", caption="c")
    assert 34 + 26 * 7 <= inner_height(plain) <= 34 + 26 * 7 + 10
    wrapped = figures.table(
        {"perplexity at 64 tokens": rows} | {str(i): rows for i in range(6)}, title="t"
    )
    assert inner_height(wrapped) >= inner_height(plain) + 20
    broken = figures.table({"method<br>and<br>more": rows}, title="t")
    assert inner_height(broken) == inner_height(plain) + 40
    assert (
        inner_height(figures.table({"a": ["a word " * 40, "x"], "b": ["y"]}, title="t"))
        > 34 + 26 + 5 * 18
    )  # a cell of five lines or more, columns of unequal length


def test_a_table_shows_four_digits_and_large_numbers_short():
    table = figures.table(
        {"method": ["SeqPE"], "perplexity": [19.3742], "worst": [15_000.0], "steps": [7]}, title="t"
    ).data[0]
    assert [column[0] for column in table.cells.values] == ["SeqPE", "19.37", "1.5e+04", "7"]


def test_every_figure_has_its_title_and_caption():
    matrix = np.eye(2)
    for figure in (
        figures.heatmap(matrix, title="a claim", caption="small"),
        figures.heatmaps({"a": matrix}, title="a claim", caption="small"),
        figures.curves([1], {"a": [1]}, title="a claim", x_title="", y_title="", caption="small"),
        figures.panels([1], {"m": {"a": [1]}}, title="a claim", x_title="", caption="small"),
        figures.table({"a": [1]}, title="a claim", caption="small"),
    ):
        assert figure.layout.title.text == "a claim"
        assert "small" in [annotation.text for annotation in figure.layout.annotations]


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture
def no_browser(monkeypatch):
    def fail(self, *arguments, **options):
        raise RuntimeError("no browser")

    monkeypatch.setattr(go.Figure, "write_image", fail)


def test_without_a_browser_a_figure_is_still_published_and_the_reader_is_told(
    tmp_path, no_browser, capsys
):
    (tmp_path / "one.png").write_bytes(b"of an earlier version")
    figure_files.write_figure(
        figures.heatmap(np.eye(2), title="a <b>bold</b> claim & more"), tmp_path, "one"
    )
    assert "no static image (RuntimeError)" in capsys.readouterr().err
    assert json.loads((tmp_path / "one.json").read_text()) == {
        "name": "one",
        "title": "a bold claim & more",
        "about": "",
    }
    assert (
        "plotly.min.js" in (tmp_path / "one.html").read_text()
        and not (tmp_path / "one.png").exists()
    )
    pages.write_front_page(tmp_path, [], "small")
    index = (tmp_path / "index.html").read_text()
    assert '<iframe src="one.html"' in index and "a bold claim &amp; more" in index


def executed(folder, page="", name="01_digits", **record):
    """A lesson, its page among the figures, and the record of it; the lesson's file is returned."""
    lesson = folder / f"{name}.ipynb"
    lesson.write_text("{}")
    record = {"error": "", "sources": executing.sources(lesson, "small"), "runs": {}} | record
    executing.write_page(folder, lesson, page, record)
    return lesson


def test_what_an_executed_lesson_did_not_show_stands_beside_its_link(tmp_path, capsys):
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    lab = Lesson("01", "small", 0)
    for claim, seen in (
        ("L_delta < log m & no stray", False),
        ("the loss falls", True),
        ("the last < the first", False),
    ):
        lab.expect(claim, seen)
    cell = new_code_cell(
        f'lab.expect("{NOT_SEEN}as code", False)',
        outputs=[new_output("stream", text=capsys.readouterr().out)],
    )
    lesson = executed(tmp_path, lesson_page(new_notebook(cells=[cell]), "01_digits", ""))
    page = executing.page_of(tmp_path, lesson)
    assert lesson_states.not_seen(page) == ["L_delta < log m & no stray", "the last < the first"]
    pages.write_front_page(tmp_path, [lesson], "small")
    assert (
        "01 digits</a></h3>\n<p><strong>not in this run: L_delta &lt; log m &amp; no stray; "
        "the last &lt; the first</strong></p>" in (tmp_path / "index.html").read_text()
    )


def test_the_headline_figure_stands_first_and_images_are_shown_where_there_are_some(tmp_path):
    for name in ("a", "headline", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "title": name.upper()}))
    (tmp_path / "a.png").write_bytes(b"")
    pages.write_front_page(tmp_path, [executed(tmp_path)], "small")
    index = (tmp_path / "index.html").read_text()
    assert index.index("HEADLINE") < index.index('id="a"') < index.index('id="b"')
    assert '<img src="a.png"' in index and '<iframe src="b.html"' in index
    assert '<a href="lessons/01_digits.html">01 digits</a>' in index


# --- what was done before is not done again -----------------------------------------------------


def test_a_finished_run_is_reported_and_another_is_trained_in_its_own_folder(
    tmp_path, monkeypatch, tiny_recipe
):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    finished, new = Run(tiny_recipe("alibi")), Run(tiny_recipe("seqpe"))
    finished.create()
    finished.write_results({"perplexity": {"16": 4.0, "32": 5.0}})
    first, second = training_programs.training_programs([finished.recipe, new.recipe])
    assert (first.name, second.name) == ("seqpe, seed 0", "alibi, seed 0")  # the slow one begins
    assert first.command[1:] == ["-m", "seqpe_lab", "train", "lm", "--folder", str(new.folder)]
    assert second.command is None
    assert second.report() == "perplexity 4.00 at 16, 5.00 at 32 (finished before)"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


CHANGES = {
    "the notebook": lambda folder: (folder / "01_digits.ipynb").write_text('{"cells": []}'),
    "a source": lambda folder: (folder / "package" / "losses.py").write_text("# other"),
    "committed data": lambda folder: (folder / "data" / "table1.csv").write_text("other"),
    "the results of its run": lambda folder: (
        folder / "runs" / "small" / "alibi-seed0-ab" / "results.json"
    ).write_text("{}"),
    "the page, cut short": lambda folder: cut_short(folder / "lessons" / "01_digits.html"),
    "a figure, cut short": lambda folder: cut_short(folder / "01-loss.html"),
    "a figure, lost": lambda folder: (folder / "01-loss.html").unlink(),
    "the record, cut short": lambda folder: cut_short(folder / "lessons" / "01_digits.json"),
}


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """An executed lesson with a figure and a run, in a project of its own."""
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    for name, file in (("PACKAGE", "package/losses.py"), ("DATA", "data/table1.csv")):
        path = tmp_path / file
        path.parent.mkdir()
        path.write_text("as it was")
        monkeypatch.setattr(executing, name, path.parent)
    results = tmp_path / "runs" / "small" / "alibi-seed0-ab" / "results.json"
    results.parent.mkdir(parents=True)
    results.write_text("{...}")
    (tmp_path / "01-loss.html").write_text("a figure")
    runs = {"alibi-seed0-ab": executing.sha256(results)}
    return executed(tmp_path, "a page", runs=runs)


@pytest.mark.parametrize("change", CHANGES)
def test_a_lesson_is_executed_again_after_any_change_and_until_then_is_said_to_be_old(
    change, lesson, tmp_path
):
    task = lesson_states.executing_program(lesson, tmp_path, "small")
    assert task.command is None and task.report() == "executed before"
    assert lesson_states.state_of(tmp_path, lesson, "small") == ""
    CHANGES[change](tmp_path)
    task = lesson_states.executing_program(lesson, tmp_path, "small")
    assert task.command and task.environment["SEQPE_SCALE"] == "small"
    assert task.report() == "executed"
    expected = (
        "not executed" if change == "the record, cut short" else "damaged, or of other sources"
    )
    assert lesson_states.state_of(tmp_path, lesson, "small").startswith(expected)


def test_a_lesson_is_executed_again_at_another_scale_and_after_a_failure(lesson, tmp_path):
    assert lesson_states.executing_program(lesson, tmp_path, "smoke").command
    executed(tmp_path, "a page", error="cell 3: ValueError: wrong")
    assert lesson_states.executing_program(lesson, tmp_path, "small").command
    state = "failed: cell 3: ValueError: wrong"
    assert lesson_states.state_of(tmp_path, lesson, "small") == state
    (tmp_path / "01-loss.json").write_text('{"name": "01-loss", "title": "A loss"}')
    pages.write_front_page(tmp_path, [lesson], "small")
    assert f"A loss</a>; lesson 01: {state}</figcaption>" in (tmp_path / "index.html").read_text()


def test_a_name_cannot_be_html_on_the_index(tmp_path):
    attack = "01_<script>alert('x')<!--\"&?#%"
    lesson = executed(tmp_path, name=attack, error=attack)
    entry = {"name": attack, "title": attack}
    (tmp_path / "figure.json").write_text(json.dumps(entry))
    pages.write_front_page(tmp_path, [lesson], "small")
    index = (tmp_path / "index.html").read_text()
    assert (
        index.count("<script") == 1  # the site's own
        and "<!--" not in index
        and 'href="lessons/01_%3Cscript%3E' in index
    )
    assert index.count("&lt;script&gt;alert(") >= 3


def test_the_index_names_each_run_its_state_and_what_made_it(tmp_path, monkeypatch, tiny_recipe):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    finished, new = Run(tiny_recipe("alibi")), Run(tiny_recipe("seqpe"))
    finished.create()
    measured = {"perplexity": {"64": 5.0}, "commit": "abc123", "versions": {"torch": "2.99"}}
    finished.write_results(measured)
    pages.write_front_page(tmp_path, [], "small", [finished, new])
    index = (tmp_path / "index.html").read_text()
    for words in (finished.folder.name, "<td>finished</td>", "commit abc123, torch 2.99"):
        assert words in index
    assert new.folder.name in index and "<td>new</td>" in index


def test_a_new_start_waits_for_what_a_killed_one_left_behind(tmp_path, monkeypatch, tiny_recipe):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    trainers, said = iter(["process 1", "process 1", None]), []
    monkeypatch.setattr(Run, "trainer", property(lambda run: next(trainers)))
    monkeypatch.setattr(training_programs.time, "sleep", lambda seconds: said.append(seconds))
    run = Run(tiny_recipe("alibi"))
    training_programs.wait_for_others([run], said.append)
    assert said == [f"Waiting for other processes, which train {run.folder.name}", 0.5]
    assert next(trainers, "asked until nobody trains") == "asked until nobody trains"


def test_a_script_of_plotly_that_was_cut_short_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_files, "find_browser", lambda: None)
    figure = figures.heatmap(np.eye(2), title="a claim")
    figure_files.write_figure(figure, tmp_path, "one")
    script = tmp_path / "plotly.min.js"
    whole = script.read_bytes()
    cut_short(script)
    figure_files.write_figure(figure, tmp_path, "one")
    assert script.read_bytes() == whole


@pytest.mark.parametrize(
    "figure, name, message",
    [
        (go.Figure(go.Scatter(y=[1])), "a", "no title"),
        (go.Figure(layout_title_text="t"), "a", "no traces"),
        (go.Figure(go.Scatter(y=[]), layout_title_text="t"), "a", "shows nothing for 'trace 0'"),
        (go.Figure(go.Scatter(x=[1], y=[None]), layout_title_text="t"), "a", "shows nothing"),
        (go.Figure(go.Scatter(x=[np.inf], y=[1]), layout_title_text="t"), "a", "inf in the x"),
        (figures.heatmap([[1.0, np.nan]], title="t"), "a", "nan in the z"),
        (figures.table({"a": [float("nan")]}, title="t"), "a", "nan in the cells"),
        (figures.heatmap(np.eye(2), title="t"), "../a", "cannot name a figure's file"),
        (figures.heatmap(np.eye(2), title="t"), 'a"><script>', "cannot name a figure's file"),
    ],
)
def test_a_figure_without_a_title_numbers_or_a_plain_name_is_not_shown(figure, name, message):
    with pytest.raises(ValueError, match=message):
        Lesson("01", "smoke", 0).show(figure, name)


def test_the_page_of_a_large_figure_is_small(tmp_path, no_browser):
    figure = figures.heatmap(np.eye(300), title="t")
    figure_files.write_figure(figure, tmp_path, "one")
    assert (tmp_path / "one.html").stat().st_size < 5_000 < (tmp_path / "one.js").stat().st_size
    assert '<script src="one.js">' in (tmp_path / "one.html").read_text()


def test_a_gap_in_a_line_is_no_mistake():
    figure = figures.curves([1, 2], {"a": [None, 2.0]}, title="t", x_title="", y_title="")
    lab = Lesson("01", "smoke", 0)
    assert lab.show(figure, "a") is figure
    masked = figures.heatmaps({"a": [[1.0, np.nan]], "b": [[np.nan]]}, title="t")
    assert lab.show(masked, "a", gaps=True) is masked
    with pytest.raises(ValueError, match="shows nothing for 'trace 0'"):
        lab.show(figures.heatmap([[np.nan]], title="t"), "a", gaps=True)


@pytest.mark.parametrize("title", ["A claim", "A claim " * 9, "A claim " * 30])
def test_title_and_caption_stand_outside_the_margins_of_a_picture_with_headings(title):
    own = dict(t=50, b=40, l=60, r=20)
    axis = dict(title="x")
    layout = style.surround(go.Figure(), title, "small scale " * 9, 300, own, xaxis2=axis).layout
    (caption,) = [note for note in layout.annotations if note.name == "caption"]
    lines = layout.title.text.count("<br>") + 1
    assert layout.margin.t - own["t"] >= layout.title.pad.t + 18 * lines
    assert -caption.yshift >= own["b"]
    assert layout.margin.b + caption.yshift >= 13 * (caption.text.count("<br>") + 1)
    assert layout.height - layout.margin.t - layout.margin.b == 300 - own["t"] - own["b"]
    assert layout.xaxis2.title.font.size == layout.xaxis2.tickfont.size + 1
