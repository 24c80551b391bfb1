"""A machine with what training needs and nothing for lessons, figures and checks of the code."""

import fork_server
import pytest
from optional_packages import MISSING, OPTIONAL

PROGRAM = """
import os, sys

sys.modules.update(dict.fromkeys(sys.argv[1].split()))  # importing them now fails
os.environ["SEQPE_RUNS"] = os.environ["SEQPE_CACHE"] = sys.argv[2]
from seqpe_lab.cli import main
from seqpe_lab.runs import list_runs
from seqpe_lab.tasks import token_storage

token_storage.LARGE = 1_000  # every text is stored in files

for task in ("lm", "qa", "image"):
    assert main(["train", task, "--scale", "smoke", "--cpu"]) == 0
for run in list_runs():
    assert main(["evaluate", str(run.folder), "--cpu"]) == 0
print("collected:", flush=True)

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "seqpe_lab", "tests"]))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> tuple[str, str]:
    """What training and evaluation print, and what pytest does that collects all tests."""
    done = fork_server.python(PROGRAM, " ".join(OPTIONAL), str(tmp_path_factory.mktemp("runs")))
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    trained, collected = done.stdout.split("collected:")
    return trained, collected


def test_text_questions_and_images_are_trained_on_and_evaluated(printed):
    trained, _ = printed
    for says in ("tokens: perplexity", "tokens: exact match", "pixels: top-1"):
        assert trained.count(says) >= 2


def test_all_tests_are_collected(printed):
    """A module of tests that needs a package that is not there is skipped, with its name."""
    _, collected = printed
    assert " error" not in collected
    for needs_none in ("test_training.py", "test_evaluation.py", "test_gpu.py", "test_qa.py"):
        assert f"{needs_none}::" in collected
    assert "explorers/test_all.py::" not in collected  # it needs plotly


def test_nothing_is_skipped_for_a_package_that_is_installed():
    """`make setup` installs all of them; a skip must not hide that one is named wrongly."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    assert {"plotly", "datasets", "ipywidgets", "jupyterlab"} <= set(OPTIONAL)
