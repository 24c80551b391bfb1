"""TensorBoard files beside metrics.jsonl: every step once, however often a run was stopped; nothing without the package."""
import shutil
import sys
from types import ModuleType

import pytest

from seqpe_lab import tensorboard
from seqpe_lab.__main__ import main
from seqpe_lab.runs import Run
from seqpe_lab.tensorboard import Board
from seqpe_lab.training import train


class Writer:
    """What torch.utils.tensorboard.SummaryWriter would write."""
    written: list[tuple] = []

    def __init__(self, folder, **options):
        self.written.clear()  # the folder was removed

    def add_scalar(self, name, value, step):
        self.written.append((name, step, value))

    def close(self):
        pass


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setattr(tensorboard, "INSTALLED", True)
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def stopped_and_resumed(recipe, data, folder) -> Run:
    run = train(recipe, folder, data=data, cpu=True)
    (folder / "results.json").unlink()
    shutil.rmtree(run.checkpoints()[-1])
    return train(recipe, folder, data=data, cpu=True)


def test_a_resumed_run_shows_every_step_once(package, tiny_recipe, tiny_data, tmp_path):
    run = stopped_and_resumed(tiny_recipe(), tiny_data, tmp_path / "run")
    assert sorted(Writer.written) == sorted((name, r["step"], value) for r in run.metrics() for name, value in r.items() if name != "step")


def test_the_package_reads_every_step_once(tiny_recipe, tiny_data, tmp_path):
    pytest.importorskip("tensorboard", reason="the tensorboard package is optional and not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run = stopped_and_resumed(tiny_recipe(), tiny_data, tmp_path / "run")
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == run.metrics()[0].keys() - {"step"}
    for name in events.Tags()["scalars"]:
        assert [(e.step, e.value) for e in events.Scalars(name)] == pytest.approx([(r["step"], r[name]) for r in run.metrics()], rel=1e-6)


def test_without_the_package_nothing_is_written_and_doctor_says_so(tiny_recipe, tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard, "INSTALLED", False)
    run = train(tiny_recipe(steps=1), tmp_path / "run", data=tiny_data, cpu=True)
    Board(run).add(run.metrics()[0])
    assert not (run.folder / "tensorboard").exists()
    monkeypatch.setattr("importlib.metadata.version", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)) if name == "tensorboard" else "1.0")
    main(["doctor"])
    assert "tensorboard" in capsys.readouterr().out
