"""TensorBoard files: every step once, however often a run was stopped; none without TensorBoard."""

import shutil
import sys

import pytest

from seqpe_lab.training import train


def test_a_resumed_run_shows_every_step_once(tiny_recipe, tiny_data, tmp_path):
    pytest.importorskip(
        "tensorboard", reason="the tensorboard package is not installed, and training goes without"
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tiny_recipe(), tmp_path / "run", data=tiny_data, cpu=True)
    (run.folder / "results.json").unlink()
    shutil.rmtree(run.checkpoints()[-1])
    train(tiny_recipe(), run.folder, data=tiny_data, cpu=True)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == run.metrics()[0].keys() - {"step"}
    for name in events.Tags()["scalars"]:
        shown = events.Scalars(name)
        assert [e.step for e in shown] == [r["step"] for r in run.metrics()]
        assert [e.value for e in shown] == pytest.approx(
            [r[name] for r in run.metrics()], rel=1e-6
        )  # float32 there


def test_without_the_package_nothing_is_written(tiny_recipe, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # its import fails
    run = train(tiny_recipe(steps=1), tmp_path / "run", data=tiny_data, cpu=True)
    assert run.state == "finished" and not (run.folder / "tensorboard").exists()
