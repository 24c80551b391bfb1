"""The wheel without the clone: its contents, and what works in an environment of its own.

Installing torch and JupyterLab from an index takes minutes. So an environment here is a new venv
with the wheel, and with links to exactly the installed packages that the wheel requires, directly
or indirectly: a package that is not declared cannot be imported.
"""

import ast
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2]
DATA = ("data/paper/*.csv", "data/results/*.json", "data/explorers/*.safetensors")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def needed(requirements: list[str], extra: str, found: dict) -> dict:
    """The installed distributions that meet the requirements, directly or indirectly, by name."""
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # for another platform, or missing: then a test below fails to import it
        for chosen in ("", *sorted(requirement.extras)):
            if (installed.name, chosen) not in found:
                found[installed.name, chosen] = installed
                needed(installed.requires or [], chosen, found)
    return found


class Environment:
    """A venv with the wheel, and an empty folder in which its programs run."""

    def __init__(self, folder: Path, wheel: Path, extra: str = ""):
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        self.packages = Path(
            self.run("-c", "import site; print(site.getsitepackages()[0])", folder=folder)
        )
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install"]
        install = [*pip, "--quiet", "--no-deps", "--no-index", str(wheel)]
        subprocess.run(install, check=True, capture_output=True)
        (declared,) = self.packages.glob("seqpe_lab-*.dist-info")
        text = (declared / "METADATA").read_text(encoding="utf-8")
        requirements = re.findall(r"^Requires-Dist: (.*)$", text, re.M)
        for package in needed(requirements, extra, {}).values():
            for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                link = self.packages / name
                if not link.exists():
                    link.symlink_to(package.locate_file(name))
        self.folder = folder / "work"
        self.folder.mkdir()

    def run(self, *arguments: str, folder: Path | None = None, status: int = 0) -> str:
        """Run ``python <arguments>``; returns its output, errors included."""
        hidden = ("PYTHON", "SEQPE_RUNS", "VIRTUAL_ENV", "COV")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=folder or self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout
        return done.stdout.strip()


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory) -> Environment:
    return Environment(tmp_path_factory.mktemp("core"), wheel)


@pytest.fixture(scope="module")
def lab(wheel, tmp_path_factory) -> Environment:
    return Environment(tmp_path_factory.mktemp("lab"), wheel, "lab")


def test_a_wheel_holds_the_package_its_data_and_its_licence_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    package = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("seqpe_lab/**/*.py")}
    data = {
        f"seqpe_lab/{path.relative_to(PROJECT)}" for glob in DATA for path in PROJECT.glob(glob)
    }
    about = {name for name in names if name.startswith("seqpe_lab-")}
    data |= {
        str(path.relative_to(PROJECT))
        for glob in (
            "course/templates/*",
            "course/*.js",
            "explorers/*.js",
            "explorers/*.css",
            "explorers/*.html",
            "explorers/*.toml",
        )
        for path in PROJECT.glob(f"seqpe_lab/{glob}")
    }
    others = {name for name in names - package - data - about if not name.endswith((".md", ".svg"))}
    assert package | data <= names and others == {"seqpe_lab/py.typed"}
    assert {Path(name).name for name in about} >= {"METADATA", "LICENSE", "entry_points.txt"}
    assert not any("shared" in name for name in names)


def test_the_core_alone_is_imported_and_encodes_positions(core, record_property):
    program = """
import json, time
import torch
start = time.perf_counter()
import seqpe_lab
seconds = time.perf_counter() - start
from seqpe_lab import ENCODINGS, PositionRegularizer, make_encoding
from seqpe_lab.attention import positioned_attention, prepare
shape = {"d_model": 16, "heads": 2, "layers": 2, "train_shape": 64}
positions, finite = torch.arange(100)[:, None], []
for name in ENCODINGS:
    encoding = make_encoding(name, **shape)
    x = encoding.embed(torch.randn(1, 100, 16), positions, context=100)
    q = x.unflatten(-1, (2, 8)).transpose(1, 2)
    prepared = prepare(encoding, positions)
    out, _ = positioned_attention(encoding, prepared, 0, x, q, q, q)
    finite.append(out.isfinite().all().item())
loss = PositionRegularizer(make_encoding("seqpe", **shape), train_shape=64, max_position=1_000)(0)
loss.backward()
shown = [getattr(seqpe_lab, name) for name in seqpe_lab.__all__]
print(json.dumps([seqpe_lab.__file__, seconds, finite, loss.item(), len(shown)]))
"""
    file, seconds, finite, loss, shown = json.loads(core.run("-c", program).splitlines()[-1])
    assert Path(file).parent == core.packages / "seqpe_lab"
    assert len(finite) > 6 and all(finite) and loss > 0 and shown > 10
    record_property("measured", f"wheel: import seqpe_lab takes {seconds:.2f} s beyond torch")


@pytest.mark.parametrize("package", ["timm", "plotly", "datasets", "accelerate", "IPython"])
def test_the_core_s_environment_has_nothing_of_the_lab(core, package):
    assert "No module named" in core.run("-c", f"import {package}", status=1)


def test_the_command_line_without_the_lab_names_the_extra_in_one_line(core):
    said = core.run("-m", "seqpe_lab", "runs", status=2)
    assert len(said.splitlines()) == 1 and "pip install 'seqpe_lab[lab]'" in said


def test_the_lab_trains_and_evaluates_into_the_working_directory(lab):
    lab.run("-m", "seqpe_lab", "train", "lm", "--scale", "smoke")
    (run,) = lab.folder.glob("runs/smoke/*")
    assert json.loads((run / "results.json").read_text())["perplexity"]
    assert "perplexity" in lab.run("-m", "seqpe_lab", "evaluate", str(run))
    assert {path.name for path in lab.folder.iterdir()} == {"runs"}
    assert not list(lab.packages.glob("seqpe_lab/**/results.json"))


def test_the_script_is_the_command_line(lab, capsys):
    from seqpe_lab.cli import main

    command = ["runs", "--folder", str(lab.folder / "runs")]
    said = lab.run(str(lab.python.with_name("seqpe_lab")), *command)
    assert main(command) == 0
    assert said == capsys.readouterr().out.strip()


def test_the_lab_shows_an_explorer_the_audit_and_committed_results_and_has_no_clone(lab):
    program = """
import json
import seqpe_lab
from seqpe_lab.course.claims import audit
from seqpe_lab.explorers import explore
from seqpe_lab.package_data import clone, committed_results
try:
    clone()
except Exception as error:
    said = str(error)
shown = len(explore("digits").figure.data)
results = len(committed_results("length-extrapolation-small"))
print(json.dumps([seqpe_lab.__file__, shown, len(audit()), results, said]))
"""
    file, shown, claims, results, said = json.loads(lab.run("-c", program).splitlines()[-1])
    assert Path(file).parent == lab.packages / "seqpe_lab"
    assert shown > 0 and claims > 0 and results > 0
    assert "this needs a clone of seqpe_lab" in said


def test_all_that_the_package_imports_is_declared(lab):
    """Every import, also in rarely run branches, except in the adapters (a separate extra)."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in PROJECT.glob("seqpe_lab/**/*.py")
        if path.parent.name != "adapters"
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    packages = sorted({name.split(".")[0] for name in names} - sys.stdlib_module_names)
    program = "import sys; from importlib.util import find_spec as found\n"
    program += "print(*(name for name in sys.argv[1:] if not found(name)))"
    assert {"torch", "plotly", "seqpe_lab"} <= set(packages)
    assert lab.run("-c", program, *packages) == ""
