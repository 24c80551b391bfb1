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
    records = run.metrics(speed=True)
    assert set(events.Tags()["scalars"]) == set().union(*records) - {"step"}
    assert {"tokens_per_second", "peak_gib", "validation"} < set(events.Tags()["scalars"])
    for name in events.Tags()["scalars"]:
        shown, logged = events.Scalars(name), [r for r in records if name in r]
        assert [e.step for e in shown] == [r["step"] for r in logged]
        assert [e.value for e in shown] == pytest.approx(
            [r[name] for r in logged], rel=1e-6
        )  # float32 there


@pytest.mark.parametrize("deleted_at", [1, 5, 6])
def test_its_folder_may_be_deleted_at_any_time(deleted_at, tiny_recipe, tiny_data, tmp_path):
    pytest.importorskip(
        "tensorboard", reason="the tensorboard package is not installed, and training goes without"
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run" / "tensorboard"

    def watch(step, model):
        if step == deleted_at:
            shutil.rmtree(folder)

    run = train(tiny_recipe(), tmp_path / "run", data=tiny_data, cpu=True, watch=watch)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == [r["step"] for r in run.metrics()]


def test_without_the_package_nothing_is_written(tiny_recipe, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # its import fails
    run = train(tiny_recipe(steps=1), tmp_path / "run", data=tiny_data, cpu=True)
    assert run.state == "finished" and not (run.folder / "tensorboard").exists()
