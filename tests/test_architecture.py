"""The rules of the code that a program can check: imports, side effects, sizes, names, types.

The order of imports is a contract in pyproject.toml, which import-linter checks.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fork_server
import pytest
from optional_packages import OPTIONAL, needs

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "seqpe_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("seqpe_lab", "tests", "benchmarks")
FILES = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]

# group: (modules, imported in this order; packages that none of them may load)
STACK = "timm plotly datasets accelerate ipywidgets IPython"
LOADS = {
    "the idea": (
        "devices digits prefix_tree encoder position_table lookalikes sampling losses regularizer"
        " encodings attention geometry",
        f"{STACK} transformers tokenizers sklearn pydantic torch._dynamo",  # a second to import
    ),
    "evaluation": (
        "models.gpt2 recipes tasks tasks.perplexity tasks.text tasks.images tasks.questions"
        " tasks.books runs",
        STACK,
    ),
    "training": ("training jobs", STACK.replace("accelerate", "")),
}


def python(*arguments: str) -> None:
    """Run ``python <arguments>`` in the project's folder; a failure shows its output."""
    check(
        subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
    )


def check(done: subprocess.CompletedProcess) -> None:
    if done.returncode:
        pytest.fail(done.stdout + (done.stderr or ""), pytrace=False)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def test_imports_point_in_one_direction_and_the_idea_needs_torch_alone():
    needs("importlinter")
    lint = "from importlinter.cli import lint_imports_command as run; run()"
    python("-c", lint, "--no-cache", "--no-logo")


@pytest.mark.parametrize("group", LOADS)
def test_an_import_loads_no_more_of_the_stack_than_it_may(group):
    program = """
import importlib, sys
import seqpe_lab
modules, forbidden = map(str.split, sys.argv[1:])
for name in ("seqpe_lab", *(f"seqpe_lab.{name}" for name in modules)):
    importlib.import_module(name)
    loaded = set(forbidden) & set(sys.modules)
    assert not loaded, f"import {name} loads {', '.join(sorted(loaded))}"
"""
    check(fork_server.python(program, *LOADS[group]))


def test_no_import_has_a_side_effect():
    """An import adds no hook, patch, widget or setting: all of other packages stays unchanged."""
    needs(*OPTIONAL)
    program = (PROJECT / "tests" / "system" / "side_effects.py").read_text(encoding="utf-8")
    check(fork_server.python(program, *map(module_name, MODULES)))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_says_what_it_is_and_has_at_most_300_lines(path):
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= 300
    assert re.match(r'"""\S', text[:4]), "no docstring"


def test_no_line_is_longer_than_100_columns():
    long = [
        f"{path.relative_to(PROJECT)}:{number} ({len(line)} columns)"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    assert not long, f"{len(long)} lines, the first: {', '.join(long[:9])}"


@pytest.mark.parametrize("command", ["check", "format --check tests benchmarks"])
def test_ruff_finds_nothing(command):
    needs("ruff")
    python("-m", "ruff", *command.split(), "--no-cache", "--output-format", "concise")


def test_no_two_modules_have_one_file_name():
    """Except base.py, which in every folder holds what the folder's other modules share."""
    names = Counter(path.stem for path in MODULES if path.stem != "base" and "__" not in path.stem)
    assert not [name for name, count in names.items() if count > 1]


def test_the_module_list_of_the_readme_is_the_tree():
    """A line is a module, or a package with the names of its modules before a colon."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"```\n(devices\.py.*?)```", readme, re.S)[1]
    named = re.findall(r"^(\w+\.py) ", listed, re.M)
    for package, modules in re.findall(r"^(\w+)/ +([^:]+):", listed, re.M):
        named += [f"{package}/{module}.py" for module in re.findall(r"\w+", modules)]
    tree = {path.relative_to(PACKAGE).as_posix() for path in MODULES}
    assert sorted(named) == sorted(name for name in tree if "__" not in name)


def test_the_citation_names_the_version_of_the_package():
    import seqpe_lab

    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {seqpe_lab.__version__}\n" in citation


def test_everything_of_the_face_has_a_docstring():
    import seqpe_lab

    shown = [getattr(seqpe_lab, name) for name in seqpe_lab.__all__]
    assert not [value for value in shown if callable(value) and not (value.__doc__ or "").strip()]


def test_the_types_of_the_idea_fit_together():
    needs("mypy")
    python("-m", "mypy")
