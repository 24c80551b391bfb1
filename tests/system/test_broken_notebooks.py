"""Six notebooks, each broken in a way that nbval alone lets pass: each fails where it must."""

import os
import shutil

import nbformat
import notebook_rules
import pytest
from fork_server import fork_kernels

BROKEN = {
    "figures": ["would be empty", "shows nan in the y of 'loss'"],
    "expectations": ["not in this run: one is more", "contradict the answer '1'"],
    "number": ["the prose says 2.8565, which the lesson neither"],
    "thread": ["invalid literal for int() with base 10: 'one'"],
    "explorer": ["ZeroDivisionError"],
    "marks": ["marked (skip)", "marked (skip)", "marked (check_exception)"],
}


class Reports:
    """{notebook: [(outcome, error) of each cell]}"""

    def __init__(self):
        self.by_file: dict[str, list[tuple[str, str]]] = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            name = report.fspath.removesuffix(".ipynb")
            self.by_file.setdefault(name, []).append((report.outcome, report.longreprtext))


@pytest.fixture(scope="module")
def reports(tmp_path_factory, project):
    """Of nbval, with the rules that the lessons have, in this process; the kernels are forked."""
    fork_kernels()
    folder, reports = tmp_path_factory.mktemp("broken"), Reports()
    for name in BROKEN:
        shutil.copy(project / "tests" / "broken" / f"{name}.ipynb", folder)
    options = "--nbval-lax --nbval-current-env --nbval-cell-timeout=100 --noconftest --color=no -q"
    quiet = [f"-pno:{plugin}" for plugin in ("cacheprovider", "faulthandler", "xdist")]
    command = [*options.split(), *quiet, "-c", os.devnull, f"--rootdir={folder}", str(folder)]
    assert pytest.main(command, plugins=[notebook_rules, reports]) == pytest.ExitCode.TESTS_FAILED
    return reports.by_file


@pytest.mark.parametrize("name", BROKEN)
def test_it_fails_in_its_wrong_cells_only_and_says_why(name, reports, project):
    notebook = nbformat.read(project / "tests" / "broken" / f"{name}.ipynb", as_version=4)
    ids = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    outcomes, errors = zip(*reports[name])
    assert outcomes == tuple("failed" if id.startswith("wrong") else "passed" for id in ids)
    for reason, error in zip(BROKEN[name], filter(None, errors), strict=True):
        assert reason in error
