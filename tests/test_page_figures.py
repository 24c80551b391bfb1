"""What nbconvert's page of a lesson holds: every figure, drawn without a kernel or a network."""

import json
import re
from types import SimpleNamespace

import IPython
import nbformat
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from seqpe_lab.course import figure_files, lesson
from seqpe_lab.explorers import explore

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def executed_by(monkeypatch):
    """executed_by("nbconvert"): the kernel then gets its requests from there."""
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")
    monkeypatch.delenv("SEQPE_FIGURES", raising=False)
    monkeypatch.setattr(IPython.display, "display", lambda shown: outputs.append(shown))
    outputs = []

    def by(program):
        request = {"content": {"allow_stdin": program == "JupyterLab"}}
        kernel = SimpleNamespace(get_parent=lambda: request)
        monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
        monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5" if program == "Voila" else "")
        return outputs

    return by


def shown(thing):
    """The bundle of a figure or of a widget."""
    return thing._repr_mimebundle_()


def test_a_reader_gets_the_same_outputs_as_ever(executed_by):
    for program in ("JupyterLab", "Voila"):
        outputs = executed_by(program)
        lesson.start("01")
        panel = explore("digits")
        assert not outputs and pio.renderers.default == "plotly_mimetype"
        assert VIEW in shown(panel) and "text/html" not in shown(panel)
        panel.close()


def test_make_figures_shows_its_images(executed_by, monkeypatch):
    monkeypatch.setenv("SEQPE_FIGURES", "folder")
    outputs = executed_by("nbconvert")
    lesson.start("01")
    panel = explore("digits")
    assert not outputs and VIEW in shown(panel)
    panel.close()


def test_nbconvert_gets_plotly_s_program_once_and_each_figure(executed_by):
    outputs = executed_by("nbconvert")
    lesson.start("01")
    panel = explore("digits")
    assert len(outputs) == 1 and len(outputs[0].data) < 2_500_000
    assert list(shown(panel)) == ["text/html"] and panel.program == ""
    figure = go.Figure(go.Scatter(y=[1, 2]), layout_title_text="</script><b>one</b>")
    page = shown(figure)["text/html"]
    assert page.count("</script") == 1
    data = json.loads(re.search(r"= (\{.*\})$", page, re.MULTILINE)[1])
    assert data["layout"]["title"]["text"] == "</script><b>one</b>"
    panel.close()


@pytest.mark.skipif(not figure_files.find_browser(), reason="no browser")
def test_a_page_of_nbconvert_draws_them_offline(project, tmp_path, monkeypatch):
    """As ``jupyter nbconvert --to html --execute`` makes it."""
    playwright = pytest.importorskip("playwright.sync_api")
    monkeypatch.delenv("SEQPE_FIGURES", raising=False)
    cells = [
        "from seqpe_lab.explorers import explore\nexplore('integration')",
        "import plotly.graph_objects as go\n"
        "go.Figure(go.Scatter(y=[1, 2]), layout_title_text='one')",
    ]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    resources = {"metadata": {"path": project}}
    notebook, _ = ExecutePreprocessor(timeout=300).preprocess(notebook, resources)
    page = tmp_path / "page.html"
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    assert page.stat().st_size < 4_000_000
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=figure_files.find_browser())
        tab = chromium.new_context(offline=True).new_page()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function("document.querySelectorAll('.js-plotly-plot .gtitle').length == 2")
        titles = tab.locator(".js-plotly-plot .gtitle").all_text_contents()
        chromium.close()
    assert titles[0].startswith("The same vectors score") and titles[1] == "one"
