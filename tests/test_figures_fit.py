"""Figures in a browser, from a telephone's width to a large screen's; and what labels them."""

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from plotly.offline import get_plotlyjs

from seqpe_lab.course import figure_labels, figures
from seqpe_lab.course.style import COLOURS, STYLE

CAPTION = (
    "scale small · a novel · positions 0..2,047, means over 8 x 8 · trained with a model · seed 0"
)
TITLE = "A band of neighbours, or a texture of digits? The paper's figure of L_delta and L_OOD"
GIVEN = {"title": TITLE, "caption": CAPTION}
METHODS = ("none", "rope-1e4", "alibi", "seqpe", "seqpe-no-losses-unshifted")
LENGTHS = [512, 1_024, 2_048, 4_096, 8_192, 16_384]
FIGURES = {
    "curves": lambda: figures.curves(
        LENGTHS,
        {method: [20 + n] * 6 for n, method in enumerate(METHODS)},
        **GIVEN,
        x_title="context length (tokens)",
        y_title="perplexity",
        log_x=True,
        log_y=True,
        mark=512,
        mark_text="trained at 512",
    ),
    "panels": lambda: figures.panels(
        range(5),
        {m: {"α = 0": range(5), "L_δ only": range(5)} for m in "abc"},
        x_title="step",
        **GIVEN,
    ),
    "heatmap": lambda: figures.heatmap(np.eye(9), positions=range(0, 72, 8), **GIVEN),
    "heatmaps": lambda: figures.heatmaps(
        {figures.label(method): np.eye(9) for method in METHODS[-3:]}, relative=True, **GIVEN
    ),
    "patches": lambda: figures.patch_similarity({"one": {"a": np.eye(9), "b": np.eye(9)}}, **GIVEN),
    "depths": lambda: figures.depths(
        {m: [[1, 2], [3, None]] for m in METHODS}, lengths=[64, 128], **GIVEN
    ),
}
DRAW = """figures => Promise.all(figures.map(({data, layout}) => Plotly.newPlot(
    document.body.appendChild(document.createElement('div')), data, layout, {responsive: true})))"""
CUT = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot, number) => {
    const frame = plot.getBoundingClientRect()
    return [...plot.querySelectorAll('text')].filter(text => text.textContent.trim())
        .filter(text => {
            const box = text.getBoundingClientRect()
            return box.left < frame.left - 1 || box.right > frame.right + 1 ||
                box.top < frame.top - 1 || box.bottom > frame.bottom + 1 })
        .map(text => `${number}: ${text.textContent}`)
})"""


def test_no_text_is_cut_and_nothing_scrolls_from_a_telephone_to_a_large_screen(page):
    page.set_content(f"<body style='margin:0'><script>{get_plotlyjs()}</script>")
    drawn = [pio.to_json(draw(), validate=False) for draw in FIGURES.values()]
    page.evaluate(f"figures => ({DRAW})(figures.map(JSON.parse))", drawn)
    for width in (274, 1_920):  # 274: JupyterLab's output on a page of 390
        page.set_viewport_size({"width": width, "height": 720})
        page.wait_for_function(
            "width => [...document.querySelectorAll('.js-plotly-plot')].every("
            "plot => plot._fullLayout.width == document.body.clientWidth)",
            arg=width,
        )
        assert page.evaluate(CUT) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_no_width_real_subscripts_and_one_scale_of_colours(name):
    figure = FIGURES[name]()
    assert figure.layout.width is None and figure.layout.height <= 900
    assert figure.layout.title.text.endswith("L<sub>δ</sub> and L<sub>OOD</sub>")
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert {trace.coloraxis for trace in maps} <= {"coloraxis"}
    assert bool(maps) == (figure.layout.coloraxis.colorbar.len is not None)


def test_names_stand_at_the_ends_of_their_lines_and_not_on_one_another():
    close = {"a": [1.0, 2.0], "b": [1.0, 2.01], "c": [1.0, None], "L_δ only": [5.0, 2.02]}
    layout = figures.curves([1, 2], close, title="t", x_title="x", y_title="y").layout
    notes = {note.text: note for note in layout.annotations}
    assert list(notes) == ["a", "b", "c", "L<sub>δ</sub> only"]
    assert notes["c"].x == 1 and notes["b"].x == 2  # the last point that has a value
    low, high = layout.yaxis.range
    inner = layout.height - layout.margin.t - layout.margin.b
    places = sorted(inner * (n.y - low) / (high - low) - n.ay for n in notes.values())
    assert min(np.diff(places)) >= figure_labels.LINE - 0.01 and places[-1] <= inner
    assert not layout.showlegend


def test_a_logarithmic_axis_names_lines_at_their_last_value_above_0():
    lines = {"a": [2.0, 0.0], "b": [1.0, 4.0], "c": [0.0, -1.0]}
    layout = figures.curves([1, 2], lines, title="t", x_title="x", y_title="y", log_y=True).layout
    assert [(note.text, note.x, 10**note.y) for note in layout.annotations] == [
        ("a", 1, pytest.approx(2)),
        ("b", 2, pytest.approx(4)),
    ]


def test_one_line_has_no_name_at_its_end():
    layout = figures.curves([1, 2], {"a": [1, 2]}, title="t", x_title="x", y_title="y").layout
    assert not layout.annotations


@pytest.mark.parametrize("colour", sorted({*COLOURS, *(style[1] for style in STYLE.values())}))
def test_the_colours_of_names_can_be_read_on_white(colour):
    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        light = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot(light, (0.2126, 0.7152, 0.0722))

    line = go.scatter.Line(color=colour)
    figure = go.Figure(layout=dict(height=300, margin=dict(t=0, b=0)))
    for name in "ab":
        figure.add_scatter(x=[1, 2], y=[1, 2], name=name, line=line)
    name = figure_labels.label_ends(figure).layout.annotations[0]
    assert 1.05 / (luminance(name.font.color) + 0.05) >= 4.5


def test_axes_are_in_positions_and_relative_tables_keep_their_values():
    tables = {"a": np.diag([1.0, 2.0]), "b": np.diag([100.0, 300.0])}
    figure = figures.heatmaps(tables, title="t", positions=[0, 8], relative=True)
    assert list(figure.data[0].x) == list(figure.data[1].y) == [0, 8]
    assert np.max(figure.data[1].z) == 1 and np.max(figure.data[1].customdata) == 300
    assert "customdata" in figure.data[1].hovertemplate
    shared = figures.heatmaps(tables, title="t")
    assert np.max(shared.data[1].z) == 300 and "%{z" in shared.data[1].hovertemplate
