"""The training loop: its objective (Eq. 15), exact resume, micro-batches, checkpoints.

Kills and several processes: system/test_distributed.py.
"""

import builtins
import dataclasses
import functools
import math
import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import fork_server
import pytest
import torch
from torch import nn

from seqpe_lab import throughput, training
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.objective import main_positions
from seqpe_lab.processes import deterministic_algorithms
from seqpe_lab.recipes import (
    ABLATIONS,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    METHODS,
    image_model,
    language_model,
)
from seqpe_lab.runs import SPEED_AND_MEMORY, CheckpointError, Run, checkpoint_files
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.sampling import contrastive_sample, distillation_sample, seeded
from seqpe_lab.stop_signals import STOP_SIGNALS, Interrupted, StopSignals
from seqpe_lab.tasks.perplexity import perplexity
from seqpe_lab.tasks.text import Chunks
from seqpe_lab.training import Objective, build_model, learning_rate, make_optimizer, train


def close(ours: list[dict], theirs: list[dict], tolerance: float = 1e-5) -> bool:
    """Whether all logged numbers agree, step by step."""
    assert [r.keys() for r in ours] == [r.keys() for r in theirs]
    return all(
        a[key] == pytest.approx(b[key], abs=tolerance, rel=tolerance)
        for a, b in zip(ours, theirs)
        for key in a
    )


def interrupt(run: Run, at: int) -> None:
    """Make a finished run look as if it was killed right after the checkpoint of step ``at``."""
    (run.folder / "results.json").unlink(missing_ok=True)
    for path in run.checkpoints():
        if int(path.name.removeprefix("step-")) > at:
            shutil.rmtree(path)


@pytest.fixture(scope="module")
def finished(tiny_recipe, tiny_data, tmp_path_factory) -> Run:
    """A finished run of 6 steps with checkpoints at 3 and 6; tests work on copies."""
    return train(
        tiny_recipe(dropout=0.1, shifted=0.5),
        tmp_path_factory.mktemp("finished") / "run",
        data=tiny_data,
        cpu=True,
    )


@pytest.fixture
def copy(finished, tmp_path) -> Run:
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run.open(tmp_path / "run")


# --- the objective ------------------------------------------------------------------------------


def objective_of(recipe, gain=8.0):
    model = build_model(recipe, outputs=50)
    with torch.no_grad():
        for parameter in model.encoding.parameters():
            parameter.mul_(gain)
    return Objective(model, recipe)


def batch_of(recipe, seed=0):
    return torch.randint(
        50, (recipe.batch, recipe.train_len + 1), generator=torch.Generator().manual_seed(seed)
    )


def test_eq_15_is_the_main_loss_plus_alpha_l_delta_plus_beta_l_ood(tiny_recipe):
    """Every part computed again from its own module, with the positions of this (seed, step)."""
    recipe = tiny_recipe(alpha=0.3, beta=0.7, shifted=0.5, seed=2)
    objective, tokens = objective_of(recipe), batch_of(recipe)
    encoder, heads = objective.model.encoding.encoder, recipe.heads
    for step in range(4):
        losses, generator = objective(tokens, step), seeded(recipe.seed, step, stream=2)
        positions = main_positions(recipe, generator)
        logits = objective.model(tokens[:, :-1], positions=positions)
        main = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        contrast = contrastive_sample(
            recipe.pivots,
            recipe.candidates,
            recipe.max_position,
            hard=recipe.hard,
            generator=generator,
        )
        distil = distillation_sample(
            recipe.distillation_batch,
            recipe.teachers,
            recipe.train_len,
            recipe.max_position,
            generator=generator,
        )
        l_delta = contrastive_loss(
            encoder(contrast.pivots), encoder(contrast.candidates), contrast.label, contrast.tied
        )
        l_ood = distillation_loss(encoder(distil.teachers), encoder(distil.students), heads)
        for name, value in {
            "main": main,
            "contrastive": l_delta,
            "distillation": l_ood,
            "loss": main + 0.3 * l_delta + 0.7 * l_ood,
        }.items():
            torch.testing.assert_close(losses[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "alpha, beta, expected",
    [
        (0, 0, set()),
        (0.1, 0, {"contrastive"}),
        (0, 0.1, {"distillation"}),
        (0.1, 0.1, {"contrastive", "distillation"}),
    ],
)
def test_a_loss_with_weight_0_is_not_computed(alpha, beta, expected, tiny_recipe):
    recipe = tiny_recipe(alpha=alpha, beta=beta)
    assert objective_of(recipe)(batch_of(recipe), 0).keys() == {"main", "loss"} | expected


def test_all_positions_of_a_step_are_encoded_in_one_call(tiny_recipe, monkeypatch):
    recipe = tiny_recipe(shifted=0.5)
    objective, calls = objective_of(recipe), []
    encoder = objective.model.encoding.encoder
    original = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda positions: calls.append(positions.shape) or original(positions)
    )
    objective(batch_of(recipe), 0)
    assert len(calls) == 1


def test_position_losses_at_every_third_step_have_three_times_the_weight(tiny_recipe):
    recipe = tiny_recipe(alpha=0.3, beta=0.7, shifted=0.5)
    always, objective = objective_of(recipe), objective_of(recipe.changed(regularize_every=3))
    for step in range(6):
        losses, usual = objective(batch_of(recipe), step), always(batch_of(recipe), step)
        assert losses["main"] == usual["main"]
        if step in (2, 5):
            extra = 0.3 * usual["contrastive"] + 0.7 * usual["distillation"]
            torch.testing.assert_close(losses["loss"], usual["main"] + 3 * extra)
        else:
            assert losses.keys() == {"main", "loss"} and losses["loss"] == losses["main"]
    with pytest.raises(ValueError, match="regularize_every=3 has no effect without position loss"):
        tiny_recipe(alpha=0.0, beta=0.0, regularize_every=3)


def test_a_step_is_a_function_of_seed_and_step(tiny_recipe):
    recipe = tiny_recipe(shifted=0.5)
    objective, tokens = objective_of(recipe), batch_of(recipe)
    again = [objective(tokens, 5)["loss"].item() for _ in range(2)]
    assert again[0] == again[1] != objective(tokens, 6)["loss"].item()


def test_mixed_precision_computes_about_the_same_losses_with_every_encoding(variant, tiny_recipe):
    """What a GPU does with precision="bf16", on the CPU: all dtypes fit, forward and backward."""
    encoding, options = variant
    shifts = {"shifted": 0.5} if encoding == "seqpe" else {}
    recipe = tiny_recipe(encoding=encoding, encoding_options=options, **shifts)
    objective, tokens = objective_of(recipe, gain=1.0), batch_of(recipe)
    full = objective(tokens, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective(tokens, 0)
    mixed["loss"].backward()
    assert mixed.keys() == full.keys()
    assert all(
        mixed[name].dtype == torch.float32
        and mixed[name].item() == pytest.approx(full[name].item(), rel=0.02, abs=1e-3)
        for name in full
    )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


@pytest.mark.parametrize("unit", ["sequence", "batch"])
def test_appendix_a5_a_share_of_the_data_is_shifted_within_max_position(unit, tiny_recipe):
    recipe = tiny_recipe(shifted=0.25, shift_unit=unit)
    starts = []
    for step in range(300):
        positions = main_positions(recipe, seeded(0, step, stream=2)).expand(8, 16, 1)
        assert (positions[:, 1:] - positions[:, :-1] == 1).all()  # the context keeps its length
        assert int(positions.max()) < recipe.max_position
        starts.append(positions[:, 0, 0])
    starts = torch.stack(starts)
    assert (starts > 0).float().mean() == pytest.approx(0.25, abs=0.06)
    whole = ((starts > 0).all(1) | (starts == 0).all(1)).all()
    assert whole == (unit == "batch")


def test_without_a_share_nothing_is_shifted(tiny_recipe):
    positions = main_positions(tiny_recipe(shifted=0.0), seeded(0, 0, stream=2)).expand(8, 16, 1)
    assert torch.equal(positions, torch.arange(16).view(1, 16, 1).expand(8, 16, 1))


# --- data, schedule, optimizer ------------------------------------------------------------------


def test_each_epoch_shows_every_chunk_once_in_an_order_of_its_own():
    chunks = Chunks(torch.arange(100), length=7, seed=0)
    epochs = [[chunks[e * chunks.per_epoch + i] for i in range(chunks.per_epoch)] for e in range(3)]
    begins = [[int(chunk[0]) for chunk in epoch] for epoch in epochs]
    for epoch in begins:
        assert len({b % 7 for b in epoch}) == 1 and sorted(epoch) == list(
            range(min(epoch), max(epoch) + 1, 7)
        )
    assert begins[0] != begins[1] != begins[2]
    assert all(
        torch.equal(chunk, torch.arange(int(chunk[0]), int(chunk[0]) + 8))
        for epoch in epochs
        for chunk in epoch
    )


def test_chunks_do_not_depend_on_what_was_read_before():
    there, back = Chunks(torch.arange(100), 7, seed=0), Chunks(torch.arange(100), 7, seed=0)
    ahead = [there[i] for i in range(30)]
    assert all(torch.equal(back[i], ahead[i]) for i in reversed(range(30)))


def test_every_seed_shows_the_text_in_an_order_of_its_own_and_samples_its_own_positions():
    """torch's CPU generator looks at the lower 32 bits of a seed alone."""
    orders = [
        [int(Chunks(torch.arange(200), 7, seed)[i][0]) for i in range(20)] for seed in range(4)
    ]
    draws = [
        torch.rand(4, generator=seeded(seed, 0, stream)).tolist()
        for seed in range(4)
        for stream in (1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert len({tuple(draw) for draw in draws}) == 8


def test_runs_of_two_seeds_differ_in_data_dropout_and_positions(
    tiny_recipe, tiny_data, tmp_path, monkeypatch
):
    """The same initial weights: the rest comes from the order of the text and sampled positions."""
    original = training.build_model
    monkeypatch.setattr(
        training, "build_model", lambda recipe, outputs: original(recipe.changed(seed=0), outputs)
    )
    first, second = (
        train(tiny_recipe(seed=s, steps=1), tmp_path / str(s), data=tiny_data, cpu=True).metrics()[
            0
        ]
        for s in (0, 1)
    )
    assert (
        first["main"] != second["main"]
        and first["contrastive"] != second["contrastive"]
        and first["distillation"] != second["distillation"]
    )


def test_the_learning_rate_warms_up_and_decays_linearly(tiny_recipe):
    recipe = tiny_recipe(steps=10, warmup_steps=4, learning_rate=1.0)
    assert [learning_rate(recipe, s) for s in range(10)] == pytest.approx(
        [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )


def test_the_position_encoder_has_no_weight_decay(tiny_recipe):
    model = build_model(tiny_recipe(weight_decay=0.3), 50)
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(model, tiny_recipe(weight_decay=0.3)).param_groups
        for p in group["params"]
    }
    assert all(decay[id(p)] == 0 for p in model.encoding.encoder.parameters())
    assert (
        decay[id(model.transformer.wte.weight)]
        == decay[id(model.encoding.projections[0].weight)]
        == 0.3
    )
    assert decay[id(model.transformer.ln_f.weight)] == 0 and len(decay) == len(
        list(model.parameters())
    )


def decayed(recipe) -> set[str]:
    """The parameters that the optimizer decays."""
    model = build_model(recipe, 50)
    group, _ = make_optimizer(model, recipe).param_groups
    assert group["weight_decay"] == recipe.weight_decay > 0
    inside = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in inside}


OWN = f"{Path(__file__).parent / 'outside_encoding.py'}:Fading"
PUBLISHED = [(language_model, method) for method in [*METHODS, *ABLATIONS]]
PUBLISHED += [(image_model, method) for method in [*IMAGE_METHODS, *IMAGE_ABLATIONS]]


@pytest.mark.parametrize("make, method", PUBLISHED)
def test_weight_decay_of_the_published_rows_is_that_of_their_results(make, method):
    """What data/results were trained with, before encodings could name parameters."""
    recipe = make(method, "smoke")
    exempt = {"vit.cls_token"}
    if recipe.task == "image":
        exempt |= {"encoding.table.weight", "encoding.prefix", "encoding.frequency"}
    expected = {
        name
        for name, p in build_model(recipe, 50).named_parameters()
        if p.dim() > 1 and "encoder." not in name and name not in exempt
    }
    assert decayed(recipe) == expected


@pytest.mark.parametrize("method", [*sorted({*ENCODINGS} - {"learned", "seqpe", "floater"}), OWN])
def test_other_encodings_have_no_weight_decay_unless_they_say_so(method, monkeypatch):
    recipe = language_model(method, "smoke")
    assert not any(name.startswith("encoding.") for name in decayed(recipe))
    kind = type(build_model(recipe, 50).encoding)
    monkeypatch.setattr(kind, "no_weight_decay", lambda encoding: set())
    matrices = {n for n, p in build_model(recipe, 50).encoding.named_parameters() if p.dim() > 1}
    assert {f"encoding.{name}" for name in matrices} <= decayed(recipe)


def test_the_seed_decides_on_the_initial_weights(tiny_recipe):
    weights = [build_model(tiny_recipe(seed=s), 50).transformer.wte.weight for s in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# --- a whole run --------------------------------------------------------------------------------


def test_a_run_logs_every_step_and_writes_results_with_their_provenance(finished, tiny_data):
    assert [r["step"] for r in finished.metrics()] == [1, 2, 3, 4, 5, 6]
    assert all(
        r.keys()
        >= {"loss", "main", "contrastive", "distillation", "learning_rate", "gradient_norm"}
        for r in finished.metrics()
    )
    assert finished.metrics()[0]["main"] == pytest.approx(math.log(256), abs=0.1)
    results = finished.results()
    assert (
        results["data"] == tiny_data.provenance() and results["recipe"] == finished.recipe.digest()
    )
    assert (results["protocol"], results["split"], list(results["perplexity"])) == (
        "non-overlapping",
        "test",
        ["16", "32"],
    )
    assert {"versions", "device", "commit", "time", "tokens", "parameters"} <= results.keys()


def test_the_stored_perplexities_are_those_of_the_stored_weights(finished, tiny_data):
    """Also at the trained length, whose position table was cached before the last steps."""
    again = training.evaluate(finished, trained_model(finished, tiny_data), tiny_data)["perplexity"]
    assert again == pytest.approx(finished.results()["perplexity"], rel=1e-5)


def test_the_stored_validation_losses_are_those_of_the_stored_weights(finished, tiny_data):
    model = build_model(finished.recipe, tiny_data.vocab_size)
    for path in finished.checkpoints():
        weights, _, state = finished.load_checkpoint(path)
        model.load_state_dict(weights)
        assert perplexity(model, tiny_data.validation, 16).nats == pytest.approx(
            state["validation"], abs=1e-5
        )


def test_a_finished_run_is_returned_as_it_is(copy, tiny_data):
    before = {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*")}
    assert train(copy.recipe, copy.folder, data=tiny_data, cpu=True).state == "finished"
    assert {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*")} == before


def test_a_run_resumed_in_the_middle_of_an_epoch_equals_an_unbroken_one(copy, finished, tiny_data):
    """To the last bit, dropout included."""
    interrupt(copy, at=3)
    train(copy.recipe, copy.folder, data=tiny_data, cpu=True)
    assert copy.metrics() == finished.metrics()
    assert all(torch.equal(v, finished.model_weights()[k]) for k, v in copy.model_weights().items())
    assert copy.results()["perplexity"] == finished.results()["perplexity"]


def test_the_log_has_the_validation_losses_of_the_checkpoints(finished):
    logged = {r["step"]: r["validation"] for r in finished.metrics() if "validation" in r}
    stored = [finished.load_checkpoint(path)[2] for path in finished.checkpoints()]
    assert logged == {state["step"]: state["validation"] for state in stored}
    assert [*logged] == [3, 6]


def test_speed_and_memory_are_logged_and_left_out_of_what_resuming_repeats(finished):
    for record in finished.metrics(speed=True):
        assert record["tokens_per_second"] > 0 and 0.05 < record["peak_gib"] < 50
        assert "matrix_share" not in record  # the CPU's rate is not measured
    assert not any(set(SPEED_AND_MEMORY) & record.keys() for record in finished.metrics())


@pytest.mark.parametrize("unit", ["tokens", "images"])
def test_speed_counts_all_processes_and_no_pause(unit, tiny_recipe, tiny_image_recipe, monkeypatch):
    """4 steps in 2 s, after a checkpoint of 5 s; a GPU's share of 1e9 operations a second."""
    recipe = tiny_recipe() if unit == "tokens" else tiny_image_recipe()
    times = iter([0.0, 5.0, 7.0, 8.0])
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    monkeypatch.setattr(throughput, "matrix_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(throughput, "peak_gib", lambda device: 2.0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    meter = throughput.Throughput(recipe, 10, torch.device("cuda"), processes=2)
    meter.restart(10)
    meter.restart(10)
    values = meter.measure(14)
    a_step = recipe.batch * (recipe.train_len if unit == "tokens" else 1)
    share = sum(throughput.operations(recipe, 10).values()) * 2 / 2 / 1e9
    assert values == pytest.approx(
        {f"{unit}_per_second": 2 * a_step, "peak_gib": 2.0, "matrix_share": share}
    )
    assert meter.measure(15)[f"{unit}_per_second"] == pytest.approx(a_step)  # 1 s for the next


@pytest.mark.parametrize("clock", [(5.0, 5.0), (5.0, 3.0)], ids=["stands", "goes back"])
def test_without_a_clock_that_goes_on_there_is_no_speed(clock, tiny_recipe, monkeypatch):
    times = iter(clock)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    meter = throughput.Throughput(tiny_recipe(), 10, torch.device("cpu"), processes=1)
    meter.restart(0)
    assert meter.measure(4).keys() == {"peak_gib"}


def test_accelerate_s_own_variable_does_not_divide_gradients_again(
    tiny_recipe, tiny_data, tmp_path, monkeypatch
):
    recipe = tiny_recipe(steps=2, micro_batch=4)
    plain = train(recipe, tmp_path / "plain", data=tiny_data, cpu=True)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    assert train(recipe, tmp_path / "set", data=tiny_data, cpu=True).metrics() == plain.metrics()


# --- deterministic algorithms -------------------------------------------------------------------


def settings() -> tuple:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_deterministic_algorithms_are_on_in_training_and_as_before_afterwards(
    fails, tiny_recipe, tiny_data, tmp_path
):
    seen, before = [], settings()

    def watch(step, model):
        seen.append(settings())
        if fails and step == 2:
            raise OSError("the disk is gone")

    options = dict(data=tiny_data, cpu=True, deterministic=True, watch=watch)
    if fails:
        with pytest.raises(OSError, match="the disk is gone"):
            train(tiny_recipe(), tmp_path / "run", **options)
    else:
        run = train(tiny_recipe(), tmp_path / "run", **options)
        assert run.results()["deterministic_algorithms"] is True
    assert set(seen) == {(True, True, False, ":4096:8")} and settings() == before
    assert before[0] is False


def test_a_run_counts_as_deterministic_only_if_all_its_steps_were(copy, finished, tiny_data):
    assert finished.results()["deterministic_algorithms"] is False
    interrupt(copy, at=3)
    train(copy.recipe, copy.folder, data=tiny_data, cpu=True, deterministic=True)
    assert copy.results()["deterministic_algorithms"] is False


def test_deterministic_algorithms_are_refused_once_cuda_has_started_without_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with pytest.raises(RuntimeError, match="set it to :4096:8 before Python"):
        with deterministic_algorithms(True):
            pass
    assert settings() == before
    with deterministic_algorithms(True, cpu=True):  # CUDA does not matter there
        assert settings()[0]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic_algorithms(True):
        assert settings() == (True, True, False, ":16:8")
    assert settings() == (*before[:3], ":16:8")


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint_and_it_resumes_exactly(
    number, finished, tiny_data, tmp_path
):
    before = [signal.getsignal(each) for each in STOP_SIGNALS]

    def watch(step, model):
        if step == 2:
            os.kill(os.getpid(), number)

    options = dict(data=tiny_data, cpu=True)
    with pytest.raises(
        Interrupted, match=f"{number.name} stopped the training after step 2 of 6; .*start the same"
    ):
        train(finished.recipe, tmp_path / "run", watch=watch, **options)
    run = Run.open(tmp_path / "run")
    assert [path.name for path in run.checkpoints()] == ["step-0000002"]
    assert run.state == "interrupted" and run.best_checkpoint() is None  # it was not validated
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before
    train(run.recipe, run.folder, **options)
    assert run.metrics() == finished.metrics()
    assert all(torch.equal(v, finished.model_weights()[k]) for k, v in run.model_weights().items())
    assert run.results()["perplexity"] == finished.results()["perplexity"]


def test_a_signal_at_a_checkpoint_s_step_leaves_that_checkpoint(finished, tiny_data, tmp_path):
    def watch(step, model):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 3 of 6"):
        train(finished.recipe, tmp_path / "run", data=tiny_data, cpu=True, watch=watch)
    run = Run.open(tmp_path / "run")
    assert run.best_checkpoint() == run.checkpoints()[-1] == run.folder / "checkpoints/step-0000003"


def test_signals_are_left_alone_in_threads_and_notebooks(monkeypatch):
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look():
        with StopSignals(None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start(), thread.join()
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    look()
    assert seen == [before, before]
    monkeypatch.undo()
    look()
    assert seen[-1] != before == signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize(
    "overrides",
    [
        {"as_published": True},
        {"distillation_form": "published"},
        {"encoding_options": {"integration": "mul", "shared_projection": False}},
        {"encoding_options": {"architecture": "gru"}},
        {"encoding_options": {"causal": False}},
        {"distill_shifted": False, "shift_unit": "batch", "shifted": 1.0},
        {"clip_separately": True, "clip": 0.01},
    ],
    ids=lambda o: "-".join(o)[:40],
)
def test_every_option_of_seqpe_trains(overrides, tiny_recipe, tiny_data, tmp_path):
    run = train(
        tiny_recipe(**{"shifted": 0.5} | overrides, steps=3),
        tmp_path / "run",
        data=tiny_data,
        cpu=True,
    )
    assert run.state == "finished" and all(math.isfinite(r["loss"]) for r in run.metrics())
    if overrides.get("shifted") == 1.0:  # no L_OOD on shifted steps, and nearly all of them are
        assert any("distillation" not in r for r in run.metrics())


@pytest.mark.parametrize(
    "method",
    [
        "none",
        "sinusoidal",
        "learned",
        "rope-1e6",
        "alibi",
        "seqpe-no-losses",
        "seqpe-delta-only",
        "seqpe-ood-only",
    ],
)
def test_every_method_trains_and_learns_the_text(method, tiny_recipe, tiny_data, tmp_path):
    run = train(
        tiny_recipe(method, steps=12, learning_rate=1e-2),
        tmp_path / "run",
        data=tiny_data,
        cpu=True,
    )
    assert run.metrics()[-1]["main"] < run.metrics()[0]["main"] - 0.3


@pytest.mark.parametrize("method", ["seqpe", "rope-1e4"])
def test_accumulation_changes_no_loss(method, tiny_recipe, tiny_data, tmp_path):
    whole, split = (
        train(
            tiny_recipe(method, **({"shifted": 0.5} if method == "seqpe" else {}), micro_batch=m),
            tmp_path / str(m),
            data=tiny_data,
            cpu=True,
        )
        for m in (8, 4)
    )
    assert close(split.metrics(), whole.metrics())


# --- what is refused ----------------------------------------------------------------------------


def test_the_last_checkpoint_is_refused_by_name_if_it_is_broken_and_the_run_goes_on_without_it(
    copy, finished, tiny_data
):
    (copy.folder / "results.json").unlink()
    last = copy.checkpoints()[-1]
    (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(
        CheckpointError, match="step-0000006 is refused(.|\n)*the previous one is step-0000003"
    ):
        train(copy.recipe, copy.folder, data=tiny_data, cpu=True)
    shutil.rmtree(last)  # what the message says
    train(copy.recipe, copy.folder, data=tiny_data, cpu=True)
    assert copy.metrics() == finished.metrics()


def test_a_full_disk_stops_the_run_with_its_last_checkpoint_intact_and_it_resumes(
    tiny_recipe, tiny_data, finished, tmp_path, monkeypatch
):
    real = checkpoint_files.save_file

    def full_at_step_6(tensors, path):
        if "0000006" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "save_file", full_at_step_6)
        with pytest.raises(OSError, match="the last good one is step-0000003"):
            train(finished.recipe, tmp_path / "run", data=tiny_data, cpu=True)
    run = Run.open(tmp_path / "run")
    assert [path.name for path in run.checkpoints()] == [
        "step-0000003"
    ] and run.state == "interrupted"
    train(run.recipe, run.folder, data=tiny_data, cpu=True)
    assert run.metrics() == finished.metrics()


@pytest.mark.parametrize("state", ["finished", "interrupted", "new"])
def test_a_folder_with_a_run_of_another_recipe_is_refused(state, copy, tiny_recipe, tiny_data):
    if state != "finished":
        interrupt(copy, at=3 if state == "interrupted" else 0)
    with pytest.raises(
        ValueError, match="holds a run of another recipe: choose another folder or delete it"
    ):
        train(tiny_recipe("alibi"), copy.folder, data=tiny_data, cpu=True)


def test_a_run_does_not_go_on_with_other_data(copy, tiny_data):
    interrupt(copy, at=3)
    with pytest.raises(ValueError, match="was trained on other data(.|\n)*tiny(.|\n)*other"):
        train(copy.recipe, copy.folder, data=dataclasses.replace(tiny_data, hash="other"), cpu=True)


@pytest.mark.parametrize(
    "split, keep, expected",
    [("train", 20, "too few"), ("test", 20, "32"), ("validation", 1, "validation")],
)
def test_a_text_too_short_is_refused_before_the_first_step(
    split, keep, expected, tiny_recipe, tiny_data, tmp_path
):
    """Not after it: a run of hours must not end in an error that was there from the start."""
    data = dataclasses.replace(tiny_data, **{split: getattr(tiny_data, split)[:keep]})
    with pytest.raises(ValueError, match=expected):
        train(tiny_recipe(), tmp_path / "run", data=data, cpu=True)
    assert Run(tiny_recipe(), tmp_path / "run").metrics() == []


def test_a_source_that_is_not_there_leaves_no_folder_of_a_run(tiny_recipe, tmp_path):
    recipe = tiny_recipe(source=str(tmp_path / "missing.txt"))
    with pytest.raises(FileNotFoundError, match="no text at .*missing.txt"):
        train(recipe, tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("kept")
    with pytest.raises(FileNotFoundError):
        train(recipe, tmp_path / "own", cpu=True)
    assert {path.name for path in (tmp_path / "own").iterdir()} >= {"notes.txt"}


def test_a_compiled_run_has_the_losses_of_a_plain_one(
    tiny_recipe, tiny_data, tmp_path, monkeypatch
):
    """What is trained is compiled; validation and evaluation, at lengths of their own, are not."""
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    recipe = tiny_recipe(steps=2, checkpoint_every=1, shifted=0.5)
    plain, compiled = (
        train(recipe, tmp_path / str(choice), data=tiny_data, cpu=True, compile=choice)
        for choice in (False, True)
    )
    assert seen and close(compiled.metrics(), plain.metrics())
    assert compiled.results()["perplexity"] == pytest.approx(
        plain.results()["perplexity"], rel=1e-4
    )
    assert compiled.model_weights().keys() == plain.model_weights().keys()


# --- a program ----------------------------------------------------------------------------------


def test_training_and_evaluation_import_neither_plotly_nor_ipywidgets_nor_datasets(text_file):
    program = """
import sys
for name in ("plotly", "ipywidgets", "datasets"):
    sys.modules[name] = None  # importing it now fails
import seqpe_lab.training, seqpe_lab.tasks.perplexity, seqpe_lab.tasks.text_data, seqpe_lab.cli
assert len(seqpe_lab.tasks.text_data.load_text(sys.argv[1]).train) > 100
"""
    done = fork_server.python(program, str(text_file))
    assert done.returncode == 0, done.stderr
