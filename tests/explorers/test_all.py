"""All explorers: every control at its ends and every combination of a few choices.

The figures hold finite numbers and named axes; how long the moves took is printed.
"""

import dataclasses
import itertools
import json
import time

import fork_server
import numpy as np
import pytest
from jupyter_client.jsonutil import json_default

from seqpe_lab.explorers import EXPLORERS, explore, fields
from seqpe_lab.explorers.panel import Panel
from seqpe_lab.explorers.templates import as_text, fill

COMBINATIONS = 150  # of the choices of one panel; of more, evenly spaced ones


@pytest.fixture
def panel(request):
    panel = explore(request.param)
    yield panel
    panel.close()


def settings(field) -> list:
    """A field's lowest, highest and first value; of choices all."""
    kind, default = field["kind"], field["default"]
    values = [option for option, _ in field.get("options", [])]
    if kind == "number":
        return [field["min"], field["max"], default]
    if kind == "flag":
        return [not default, default]
    if kind == "span":
        return [[values[0], values[0]], [values[-1], values[-1]], [values[0], values[-1]]]
    if kind == "several":
        return [[], values[:1], values, default]
    if kind in ("choice", "scale"):
        return [value for value in values if value != default] + [default]
    return [default]  # what is typed is tested for each explorer


def check(panel: Panel) -> None:
    assert not panel.message, f"{panel.state}: {panel.message}"
    figure = panel.figure
    assert figure.layout.title.text, "a figure says what it shows"
    cartesian = [t for t in figure.data if t.type in ("scatter", "heatmap", "bar")]
    for trace in figure.data:
        for name in ("x", "y", "z"):
            values = getattr(trace, name, None)
            if values is None or trace.type == "scatter3d" and name not in "xyz":
                continue
            numbers = np.array(
                [
                    np.nan if v is None else v
                    for v in np.asarray(values, dtype=object).ravel()
                    if not isinstance(v, str)
                ],
                dtype=float,
            )
            assert not np.isinf(numbers).any(), (
                f"{panel.state}: {trace.type} {trace.name} holds an infinite {name}"
            )
            if (
                trace.type != "heatmap"
            ):  # there a gap is what the causal mask hides; a line's gaps are None
                assert not any(
                    isinstance(v, float) and np.isnan(v)
                    for v in np.asarray(values, dtype=object).ravel()
                ), f"{panel.state}: {trace.name} holds NaN in {name}"
    if cartesian:
        for axis in (figure.select_xaxes(), figure.select_yaxes()):
            axes = list(axis)
            assert any(a.title.text or a.visible is False for a in axes) or all(
                a.showticklabels is False for a in axes
            ), f"{panel.state}: no axis says what it measures"


def move(panel: Panel, name: str, value) -> tuple[float, float]:
    """Set one field; the seconds that drawing took on the clock, and on the processor alone."""
    if panel.values[name] == value:
        return 0.0, 0.0
    began = time.process_time()
    panel.set(**{name: value})
    worked = time.process_time() - began
    check(panel)
    return panel.seconds, worked


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_every_control_at_its_ends(panel, record_property):
    check(panel)
    first, slowest, where = panel.seconds, (0.0, 0.0), ""
    for field in panel.explorer.fields:
        for value in settings(field):
            took = move(panel, field["name"], value)
            if took > slowest:
                slowest, where = took, f"{field['name']} = {value}"
    record_property(
        "explorer",
        f"{panel.explorer.texts['title']}: first picture {first * 1000:.0f} ms, slowest move "
        f"{slowest[0] * 1000:.0f} ms, {slowest[1] * 1000:.0f} ms of the processor ({where})",
    )


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_every_combination_of_the_small_choices(panel):
    small = [field for field in panel.explorer.fields if field["kind"] in ("choice", "flag")]
    combinations = list(itertools.product(*map(settings, small)))
    for number, combination in enumerate(combinations[:: 1 + len(combinations) // COMBINATIONS]):
        panel.narrow = bool(number % 2)
        panel.set(**{field["name"]: value for field, value in zip(small, combination)})
        check(panel)


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_everything_is_explained_and_has_a_static_twin(panel):
    for field in panel.explorer.fields:
        assert field["label"] and field["help"], field["name"]
    state = panel.state
    again = panel.explorer.draw(panel.explorer.compute(state), state)
    assert json.loads(again.to_json()) == json.loads(panel.figure.to_json()), (
        "the picture depends on more than the controls"
    )


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_the_tour_has_five_stops_each_of_which_draws_and_a_link_opens_it_again(panel):
    assert len(panel.explorer.tour) == 5
    for stop in panel.explorer.tour:
        assert stop["text"] and stop["look"]
        state = fields.make(panel.explorer.state, stop["state"])
        panel.set(**{name: getattr(state, name) for name in panel.values})
        check(panel)
        assert fields.from_link(panel.explorer.state, fields.to_link(state)) == state


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_what_is_sent_to_the_page_is_json_without_gaps(panel):
    """Else Jupyter warns, and packs the whole message a second time."""
    panel.table = True
    json.dumps(panel.get_state(), allow_nan=False, default=json_default)
    assert json.loads(panel.answer, parse_constant=pytest.fail)["data"]


def test_imports_make_no_widget_and_load_nothing_early():
    program = (
        "import importlib, sys\n"
        "from seqpe_lab.explorers import EXPLORERS\n"
        "early = [name for name in ('plotly', 'ipywidgets') if name in sys.modules]\n"
        "for name in EXPLORERS: importlib.import_module(f'seqpe_lab.explorers.{name}_panel')\n"
        "from ipywidgets.widgets.widget import _instances\n"
        "print(early, list(_instances.values()))"
    )
    done = fork_server.python(program)
    assert done.stdout == "[] []\n", done.stderr


def test_an_unknown_explorer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="digits, geometry"):
        explore("rotations")


# --- the panel itself ----------------------------------------------------------------------------


def test_a_link_names_an_explorer_and_a_state():
    panel = explore("digits?base=2&k=7&along=first")
    assert (panel.state.base, panel.state.k, panel.state.along) == (2, 7, "first")
    panel.close()


@pytest.mark.parametrize(
    "link, said",
    [
        ("base=1", "base b is 1: choose 2 to 16"),
        ("base=two", "base b is 'two': choose 2 to 16"),
        ("along=middle", "differ in is 'middle': choose from last, first"),
        ("seed=1", "no control 'seed': there are text, base, k"),
    ],
)
def test_a_link_with_what_cannot_be_chosen_is_refused_with_what_can(link, said):
    with pytest.raises(ValueError, match=said):
        explore(f"digits?{link}")


def test_a_failing_computation_is_told_to_the_reader_and_the_next_good_one_takes_it_back():
    panel = explore("digits")
    whole, numbers = panel.explorer, panel.numbers

    def broken(state):
        raise RuntimeError("out of <ink>")

    panel.explorer = dataclasses.replace(whole, compute=broken)
    panel.set(base=2)
    assert panel.message == "RuntimeError: out of <ink>"
    assert json.loads(panel.answer) == {"message": panel.message, "role": "alert"}
    assert panel.numbers is numbers, "the last good picture stays"
    panel.explorer = whole
    panel.set(base=10)
    assert panel.message == "" and json.loads(panel.answer)["title"]
    panel.close()


def test_a_template_that_asks_for_what_is_not_there_says_so():
    with pytest.raises(ValueError, match="asks for 'mean.low', which is not among the numbers"):
        fill({"y": "@mean.low"}, {"median": 1})


def test_a_part_of_every_element_of_a_list_is_a_list():
    runs = {"runs": [{"name": "a", "at": [1, 2]}, {"name": "b", "at": [3, 4]}]}
    assert fill(["@runs.*.name", "@runs.*.at.1"], runs) == [["a", "b"], [2, 4]]


@pytest.mark.parametrize(
    "value, form, text",
    [
        (1234567.891, ",.1f", "1,234,567.9"),
        (-0.0004, ".3f", "0.000"),
        (-12, "", "−12"),
        (0.256, ".1%", "25.6%"),
        (1100, ",", "1,100"),
        ("a-b", ".2f", "a-b"),
    ],
)
def test_numbers_are_written_alike(value, form, text):
    assert as_text(value, form) == text
