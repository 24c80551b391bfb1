"""A lesson's predictions and exercises in JupyterLab: Run All twice, choose, run any cell again."""

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator

import nbformat
import pytest
from test_browser import PATIENCE, Site, browser, free_port, server, wait_until

from seqpe_lab.course.figure_files import find_browser

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.skipif(
    not find_browser(), reason="no browser: `make browser` installs chromium where it can"
)
FOLDED = {"jupyter": {"source_hidden": True}}
ASKED = """# The prediction
lab.predict("nearer", "Which is nearer to 100?",
            {"123": "You counted steps.", "1000": "You compared spelling."})"""
CHECKED = """# The checker of your answer
lab.exercise(double, cases=[(1,), (3,)], expected=[2, 6],
             mistakes={"That is the square.": lambda right, x: x * x})"""
SOLVED = "# A solution\n@lab.solution\ndef double(x):\n    return 2 * x"
CELLS = [
    ("from seqpe_lab.course import lesson\nlab = lesson.start('05 Asked')", {}),
    (ASKED, FOLDED),
    ("share = 2\nlab.reveal('nearer', '1000', f'They share {share} digits.', holds=share > 1)", {}),
    ("def double(x):\n    return x * x", {}),
    (CHECKED, FOLDED),
    (SOLVED, FOLDED),
]
FAILED = """() => jupyterapp.shell.currentWidget.content.widgets.filter(cell =>
    cell.model.type == 'code' && cell.model.outputs.toJSON().some(output =>
        output.output_type == 'error' || output.name == 'stderr')).length"""
RUN_ALL = "async () => await jupyterapp.commands.execute('notebook:run-all-cells')"
RUN_ONE = """async number => {
    jupyterapp.shell.currentWidget.content.activeCellIndex = number
    return await jupyterapp.commands.execute('notebook:run-cell') }"""


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Iterator[Site]:
    """JupyterLab with a lesson of which no cell has run."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_markdown_cell("# 05 Asked")]
    cells += [nbformat.v4.new_code_cell(source, metadata=about) for source, about in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, folder / "asked.ipynb")
    settings = folder / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    settings.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": quiet}))
    port, log = free_port(), folder / "log"
    command = f"""{sys.executable} -m jupyter lab --no-browser --allow-root --ip=127.0.0.1
        --port={port} --ServerApp.port_retries=0 --IdentityProvider.token=test
        --ServerApp.root_dir={folder} --LabApp.expose_app_in_browser=True"""
    places = {
        f"JUPYTER_{kind.upper()}_DIR": folder / kind for kind in ("config", "data", "runtime")
    } | {f"JUPYTERLAB_{kind.upper()}_DIR": folder / kind for kind in ("settings", "workspaces")}
    with server(command.split(), log, SEQPE_RUNS=folder / "runs", **places):
        wait_until(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test", timeout=5),
            log,
        )
        site = Site(browser.new_page(viewport=dict(width=1_280, height=1_400)), folder)
        site.page.goto(f"http://127.0.0.1:{port}/lab/tree/asked.ipynb?token=test")
        site.page.locator(".jp-Notebook h1").wait_for()
        site.page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
        )
        yield site
        site.page.close()
    shutil.rmtree(folder / "runs", ignore_errors=True)


def answers(site: Site) -> list[str]:
    """What stands below the choices, where they are asked and where the result is."""
    return [
        text.replace("\n", " ") for text in site.page.locator(".seqpe-answer").all_inner_texts()
    ]


def test_run_all_twice_choose_and_run_any_cell_again(site):
    """No cell fails, and no answer is seen before the reader chooses."""
    page = site.page
    for _ in range(2):
        assert page.evaluate(RUN_ALL)
        page.wait_for_function("document.querySelectorAll('.seqpe-answer').length == 2")
        page.wait_for_function(
            "[...document.querySelectorAll('.seqpe-answer')].every(place => place.innerText)"
        )
        assert page.evaluate(FAILED) == 0
        shown = page.locator(".jp-Notebook").inner_text()
        assert "They share 2 digits" not in shown and "You c" not in shown  # answers, sources
        assert page.locator(".seqpe-prediction input:checked").count() == 0
    assert "double(1) returned 1. That is the square." in shown

    page.locator(".seqpe-prediction input").first.check()
    said = "✗ You chose 123. You counted steps. Answer: 1000. They share 2 digits."
    page.wait_for_function(
        "[...document.querySelectorAll('.seqpe-answer')].every(p => p.innerText.includes('chose'))",
        timeout=1_000 * PATIENCE,
    )
    assert answers(site) == [said, said]
    for number in [*range(1, len(CELLS) + 1), *reversed(range(1, len(CELLS) + 1))]:
        assert page.evaluate(RUN_ONE, number)
        assert page.evaluate(FAILED) == 0
    page.wait_for_function("document.querySelectorAll('.seqpe-answer').length == 2")
    assert answers(site) == [said, said]
    assert page.locator(".seqpe-prediction input:checked").count() == 2
    kept = json.loads((site.folder / "runs" / "predictions" / "05.json").read_text("utf-8"))
    assert kept["nearer"]["choice"] == "123"
    assert not site.errors and not site.outside
