"""Without the packages of the lessons, as on a cluster: what needs them is skipped and names them.

Training and evaluation need none of them; test_cluster.py blocks them all and checks that. Where
all are installed, as after `make setup`, nothing here has an effect.
"""

import re
from importlib.util import find_spec

import pytest

OPTIONAL = """plotly ipywidgets anywidget datasets jupyterlab IPython ipykernel nbformat nbconvert
nbclient jupyter_client kaleido playwright pyarrow transformers mypy importlinter ruff
hatchling""".split()
MISSING = [package for package in OPTIONAL if not find_spec(package)]


def needs(*packages: str) -> None:
    """Skip the running test if it needs a package that is not installed, and name that."""
    if missing := ", ".join(sorted(set(packages) & set(MISSING))):
        pytest.skip(f"needs {missing}, which is not installed")


def missing_package(error: BaseException | None) -> str | None:
    """The package of ``MISSING`` whose absence is the reason of an error, if that is so."""
    while error:
        package = (getattr(error, "name", None) or "").split(".")[0]
        if isinstance(error, ImportError) and package in MISSING:
            return package
        error = error.__cause__ or error.__context__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that cannot be imported without such a package is skipped."""
    report = yield
    said = str(report.longrepr) if report.failed else ""
    for package in MISSING:
        if re.search(rf"ModuleNotFoundError: .*\b{package}\b", said):
            reason = f"Skipped: needs {package}, which is not installed"
            report.outcome, report.longrepr = "skipped", (str(collector.path), 1, reason)
            break
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that ends at the import of such a package is skipped."""
    try:
        return (yield)
    except Exception as error:
        needs(missing_package(error) or "")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """The same for its fixtures."""
    try:
        return (yield)
    except Exception as error:
        needs(missing_package(error) or "")
        raise
