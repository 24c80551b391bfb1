"""All explorers: every control at its ends and every combination of a few choices.

The figures hold finite numbers and named axes; how long the moves took is printed.
"""

import itertools
import json
import time

import fork_server
import ipywidgets
import numpy as np
import pytest
from jupyter_client.jsonutil import json_default

from seqpe_lab.explorers import EXPLORERS, explore
from seqpe_lab.explorers import attention_panel as attention
from seqpe_lab.explorers.panel import Panel

COMBINATIONS = 150  # of the choices of one panel; of more, evenly spaced ones


@pytest.fixture
def panel(request):
    panel = explore(request.param)
    if request.param == "attention":  # a kernel does so seconds after the first picture
        attention.load_image_models().join()
    yield panel
    panel.close()


def settings(control) -> list:
    """A control's lowest, highest and first value; of choices all."""
    if isinstance(control, (ipywidgets.IntSlider, ipywidgets.FloatSlider)):
        return [control.min, control.max, control.value]
    if isinstance(control, ipywidgets.Checkbox):
        return [not control.value, control.value]
    if isinstance(control, ipywidgets.SelectionRangeSlider):
        low, high = control._options_values[0], control._options_values[-1]
        return [(low, low), (high, high), (low, high)]
    if isinstance(control, ipywidgets.SelectMultiple):
        return [(), control._options_values[:1], tuple(control._options_values), control.value]
    if isinstance(control, (ipywidgets.Dropdown, ipywidgets.SelectionSlider)):
        return [v for v in control._options_values if v != control.value] + [control.value]
    return [control.value]  # what is typed is tested for each explorer


def is_small(control) -> bool:
    """Whether all of a control's values belong into the combinations."""
    return isinstance(control, (ipywidgets.Dropdown, ipywidgets.Checkbox))


def check(panel: Panel) -> None:
    message = panel._message.value
    assert 'role="alert"' not in message, f"{panel.state}: {message}"
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
    """Set one control; the seconds that drawing took on the clock, and on the processor alone."""
    control = panel.controls[name]
    if control.value == value:
        return 0.0, 0.0
    began = time.process_time()
    control.value = value
    worked = time.process_time() - began
    check(panel)
    return panel.seconds, worked


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_every_control_at_its_ends(panel, record_property):
    check(panel)
    first, slowest, where = panel.seconds, (0.0, 0.0), ""
    for name in list(panel.controls):
        for value in settings(panel.controls[name]):
            if value in settings(panel.controls[name]) or not is_small(
                panel.controls[name]
            ):  # a move may have changed what can be chosen
                took = move(panel, name, value)
                if took > slowest:
                    slowest, where = took, f"{name} = {value}"
    record_property(
        "explorer",
        f"{panel.title}: first picture {first * 1000:.0f} ms, slowest move "
        f"{slowest[0] * 1000:.0f} ms, {slowest[1] * 1000:.0f} ms of the processor ({where})",
    )


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_every_combination_of_the_small_choices(panel):
    names = [name for name, control in panel.controls.items() if is_small(control)]
    combinations = list(itertools.product(*(settings(panel.controls[name]) for name in names)))
    for combination in combinations[:: 1 + len(combinations) // COMBINATIONS]:
        with panel.at_once():
            for name, value in zip(names, combination):
                if value in settings(
                    panel.controls[name]
                ):  # else an earlier choice has ruled it out
                    panel.controls[name].value = value
        check(panel)


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_everything_is_explained_and_has_a_static_twin(panel):
    for name, control in panel.controls.items():
        assert control.description and control.help and control.tooltip == control.help, name
    again = panel.picture(panel.compute(panel.state))
    assert json.loads(again.to_json()) == json.loads(panel.figure.to_json()), (
        "the picture depends on more than the controls"
    )


@pytest.mark.parametrize("panel", EXPLORERS, indirect=True)
def test_what_is_sent_to_the_page_is_json_without_gaps(panel):
    """Else Jupyter warns, and packs the whole message a second time."""
    json.dumps(panel.plot.get_state(), allow_nan=False, default=json_default)
    json.loads(panel.plot.figure, parse_constant=pytest.fail)


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


def test_a_failing_picture_is_told_to_the_reader_and_the_next_good_one_takes_it_back():
    panel = explore("integration")
    good, name = (
        panel.picture,
        next(n for n, c in panel.controls.items() if isinstance(c, ipywidgets.FloatSlider)),
    )

    def broken(numbers):
        raise RuntimeError("out of <ink>")

    panel.picture = broken
    panel.controls[name].value = panel.controls[name].max
    assert (
        'role="alert"' in panel._message.value
        and "RuntimeError: out of &lt;ink&gt;" in panel._message.value
    )
    assert panel.figure is not None, "the last good picture stays"
    panel.picture = good
    panel.controls[name].value = panel.controls[name].min
    assert "alert" not in panel._message.value
    panel.close()


def test_a_table_can_be_copied_and_downloaded():
    from base64 import b64decode
    from re import search

    from seqpe_lab.explorers.panel import table_html

    page = table_html({"method": ["a<b", "c"], "perplexity": [1.23456789, 2.0]}, "numbers")
    assert (
        b64decode(search(r"base64,([^\"]+)", page)[1]).decode()
        == "method,perplexity\na<b,1.23456789\nc,2.0\n"
    )
    assert 'download="numbers.csv"' in page and "a<b" not in page
