"""The one training loop, on accelerate.

Every random number of step s is a function of (seed, s): which sequences, their shift, the
positions of the two losses, the dropout masks. So only the weights, the optimizer's state and the
step number need saving, and a resumed run repeats an uninterrupted one: to the last bit on a CPU,
and on a GPU with ``deterministic``; else up to the GPU's rounding, which differs from run to run.

A step's batch is cut into micro-batches, its parts 0, 1, 2, ... Under ``torchrun`` process r of w
takes parts r, r + w, ...; a part's data, shifts, mixing and dropout depend on its number and not on
the process, so runs on one and on several processes differ only by rounding.
"""
from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from seqpe_lab.devices import device_of
from seqpe_lab.runs.divergence import (DivergedError, refuse_divergence,
                                       refuse_infinite_gradients, refuse_infinite_weights)
from seqpe_lab.objective import (Objective, build_model, flatten_optimizer, learning_rate,
                                 make_optimizer, part_number, unflatten_optimizer)
from seqpe_lab.processes import (agreed, deterministic_algorithms, on_all, on_main,
                                 start_processes)
from seqpe_lab.provenance import provenance
from seqpe_lab.recipes import QARecipe, Training
from seqpe_lab.runs.run_data import keep_data, kept_tokenizer
from seqpe_lab.runs.run_weights import load_base
from seqpe_lab.runs import Run
from seqpe_lab.sampling import seed_of
from seqpe_lab.stop_signals import (Interrupted, StopSignals, ignore_stop_signals,
                                    imports_finish)
from seqpe_lab.tasks import Data, Task, task_of
from seqpe_lab.tasks.base import evaluated_in, loading_workers
from seqpe_lab.tensorboard_events import EventFile
from seqpe_lab.throughput import Throughput


@imports_finish()
def train(recipe: Training, folder: str | Path | None = None, *, data: Data | None = None,
          cpu: bool = False, progress: bool = True, workers: int | None = None,
          compile: bool = False, deterministic: bool = False,
          watch: Callable[[int, nn.Module], None] = lambda step, model: None) -> Run:
    """Train, evaluate, and write everything into the run's folder; continue an interrupted run.

    A finished run is returned as it is. Under ``torchrun`` every process takes its share of each
    batch; the tokens per step stay those of the recipe.

    Args:
        recipe: all values of the run.
        folder: by default :class:`~seqpe_lab.runs.Run` chooses it.
        data: the text or the images, if already loaded.
        cpu: stay on the CPU even if there is a GPU.
        progress: show a bar (in a terminal or a notebook, never in a log).
        workers: processes that prepare batches beside each training process, in evaluations too;
            the results do not depend on it. By default none, except at medium and full scale
            where images must be decoded.
        compile: put the model through torch.compile, which takes a minute or two at the start. A
            resumed run then repeats an uninterrupted one only up to rounding, because what is
            compiled depends on the steps seen first.
        deterministic: on a GPU use algorithms that give the same bits every time, some of them
            slower (:func:`~seqpe_lab.processes.deterministic_algorithms`).
        watch: is called with the number of steps done and the model, once before the first step
            and after each; it must not change the model.

    Raises:
        CheckpointError: the last checkpoint is broken or foreign; names it and the previous one.
        DivergedError: NaN or infinity in a loss, gradient, weight or result, now or before; the
            run is marked as failed.
        FolderLostError: the folder was deleted or taken over meanwhile.
        Interrupted: SIGTERM or SIGUSR1 came during the steps; a checkpoint was written.
        RunningError: another process is training in this folder.
        RuntimeError: ``deterministic`` after CUDA has started (see there).
        ValueError: the folder holds another recipe; a batch that the processes do not divide;
            processes that do not see the same data or the same checkpoints.
    """
    run = Run(recipe, folder)
    with deterministic_algorithms(deterministic, cpu), ExitStack() as claims:
        accelerator = start_processes(recipe.precision, cpu)
        world = accelerator.num_processes
        if recipe.batch % (recipe.micro_batch * world):
            raise ValueError(f"{world} processes with micro_batch={recipe.micro_batch} do not "
                             f"divide batch={recipe.batch}: lower micro_batch or the number of "
                             "processes")
        on_main(accelerator, run.check_recipe)
        outcome = run.outcome()
        agreed(accelerator, "the run (recipe, finished or not)", (recipe.digest(), bool(outcome)))
        if outcome and "failed" in outcome:
            raise DivergedError(f"{outcome['failed']}; this run has failed: to train it again, "
                                f"delete {run.folder}")
        if not outcome:
            on_main(accelerator, lambda: claims.enter_context(run.claim()))
            loop = _Loop(accelerator, run, data, workers)
            on_main(accelerator, run.create)  # only now: without its data there is no run
            loop.run_all(compile, progress, watch)
            accelerator.free_memory()
    return run


class _Loop:
    """The loop itself, in a folder that no other process writes to."""

    def __init__(self, accelerator: Accelerator, run: Run, data: Data | None,
                 workers: int | None):
        self.accelerator, self.run, self.recipe = accelerator, run, run.recipe
        self.task = task_of(run.recipe, workers, partial(on_all, accelerator))
        self.task.kept_tokenizer = kept_tokenizer(run)
        with accelerator.local_main_process_first():  # one process a machine prepares the data
            self.data = data or self.task.load_data()
        self.task.check(self.data)
        self.model = build_model(run.recipe, self.task.outputs(self.data))
        self.uncompiled: Callable[[], AbstractContextManager] = nullcontext

    def run_all(self, compile: bool, progress: bool,
                watch: Callable[[int, nn.Module], None]) -> None:
        """Prepare, train and evaluate; a run that diverges is marked as failed."""
        try:
            self.prepare(compile)
            self.train(progress, watch)
            self.finish()
        except DivergedError as error:
            if self.accelerator.is_main_process:
                self.run.write_failure(str(error), protocol=self.task.protocol,
                                       data=self.data.provenance(),
                                       **provenance(self.accelerator.device))
            raise

    def prepare(self, compile: bool) -> None:
        """Load the last checkpoint, if any, and wrap everything for this process."""
        recipe, run, model = self.recipe, self.run, self.model
        on_main(self.accelerator, keep_data, run, self.data)
        optimizer = make_optimizer(model, recipe)
        self.first = 0  # the number of the first step to take
        self.deterministic = torch.are_deterministic_algorithms_enabled()  # in all steps so far
        if run.checkpoints():
            weights, optimizer_state, state = run.load_checkpoint(run.checkpoints()[-1])
            model.load_state_dict(weights)
            unflatten_optimizer(optimizer, model, optimizer_state)
            self.first = state["step"]
            self.deterministic &= state.get("deterministic_algorithms", False)
        elif isinstance(recipe, QARecipe):
            load_base(model, recipe)
        agreed(self.accelerator, "(steps done, hash of the data)", (self.first, self.data.hash))
        on_main(self.accelerator, run.truncate_metrics, self.first)
        loader = DataLoader(
            self.task.training_set(self.data), batch_size=recipe.micro_batch,
            sampler=range(self.first * recipe.batch, recipe.steps * recipe.batch),
            num_workers=loading_workers(recipe, self.data, self.task.workers),
            pin_memory=self.accelerator.device.type == "cuda", worker_init_fn=ignore_stop_signals,
            generator=torch.Generator())  # so that it does not draw from dropout's generator
        if compile:
            self.uncompiled = compile_model(model)
        self.objective, self.optimizer, self.loader = self.accelerator.prepare(
            Objective(model, recipe), optimizer, loader)

    def train(self, progress: bool, watch: Callable[[int, nn.Module], None]) -> None:
        """All steps that are left, with checkpoints."""
        recipe, accelerator = self.recipe, self.accelerator
        main = accelerator.is_main_process
        bar = tqdm(range(self.first, recipe.steps), initial=self.first, total=recipe.steps,
                   desc=recipe.method, disable=None if progress and main else True)
        throughput = Throughput(recipe, self.task.outputs(self.data), accelerator.device,
                                accelerator.num_processes)
        watch(self.first, self.model)
        norms: list[Tensor] = []  # of the gradients, since the last logged step
        with (StopSignals(accelerator) as stop,
              closing(EventFile(self.run)) if main else nullcontext() as events):
            batches = iter(self.loader)
            throughput.restart(self.first)
            for step in bar:
                losses, norm = self.step(step, batches)
                norms.append(norm)
                done, record = step + 1, {}
                watch(done, self.model)
                saves = done % recipe.checkpoint_every == 0 or done == recipe.steps
                logs = saves or done % recipe.log_every == 0
                if logs:
                    record = {name: accelerator.reduce(value, "mean").item()
                              for name, value in losses.items()}
                    record |= {"step": done, "learning_rate": learning_rate(recipe, step),
                               "gradient_norm": float(norm)} | throughput.measure(done)
                    refuse_infinite_gradients(self.run, done, norms)
                    norms.clear()
                    bar.set_postfix(loss=f"{record['loss']:.3f}")
                if saves:
                    with self.uncompiled():
                        record["validation"] = self.task.validate(self.model, self.data)
                refuse_divergence(self.run, done, record)
                if logs and main:  # before the checkpoint: resuming keeps the log up to it
                    self.run.append_metrics(record)
                    events.add(record)
                received = stop.agreed(waits=logs)
                if saves or received:
                    on_main(accelerator, self.save, done, record.get("validation"))
                    throughput.restart(done)
                if received:
                    raise Interrupted(
                        f"{signal.Signals(received).name} stopped the training after step "
                        f"{done:,} of {recipe.steps:,}; its checkpoint is written: start the same "
                        "command again to go on")

    def step(self, step: int, batches: Any) -> tuple[dict[str, Tensor], Tensor]:
        """One optimizer step over this process's micro-batches.

        Returns:
            Its losses, and the gradient norm before clipping, scalars on the device (reading them
            makes a GPU wait, so they are read only for the log).
        """
        recipe, accelerator = self.recipe, self.accelerator
        world = accelerator.num_processes
        accumulation = recipe.batch // (recipe.micro_batch * world)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        self.objective.train()
        logged: dict[str, Tensor] = {}
        for micro in range(accumulation):
            last, part = micro == accumulation - 1, micro * world + accelerator.process_index
            dropout_seed = seed_of(recipe.seed, part_number(recipe, step, part), stream=3)
            torch.manual_seed(dropout_seed)
            with nullcontext() if last else accelerator.no_sync(self.objective):
                losses = self.objective(next(batches), step, part, regularize=micro == 0)
                # the position losses count once per step, the main loss is a mean over its parts
                main, total = losses["main"], losses["loss"]
                losses |= {"main": main / accumulation, "loss": main / accumulation + total - main}
                accelerator.backward(losses["loss"])
            for name, value in losses.items():
                logged[name] = logged.get(name, 0) + value.detach()
        norms = [accelerator.clip_grad_norm_(group, recipe.clip) for group in self.clipped()]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return logged, torch.stack(norms).max()  # NaN if one of them is

    def clipped(self) -> list[list[nn.Parameter]]:
        """The groups of parameters whose gradients are clipped together."""
        if not self.recipe.clip_separately:
            return [list(self.model.parameters())]
        encoder, others = [], []
        for name, parameter in self.model.named_parameters():
            (encoder if "encoder." in name else others).append(parameter)
        return [group for group in (encoder, others) if group]

    def save(self, done: int, validation: float | None) -> None:
        """Write the checkpoint after ``done`` steps, if all weights are finite."""
        refuse_infinite_weights(self.run, done, self.model)
        self.run.save_checkpoint(done, self.model.state_dict(),
                                 flatten_optimizer(self.optimizer, self.model),
                                 {"validation": validation, "data": self.data.hash,
                                  "deterministic_algorithms": self.deterministic})

    def finish(self) -> None:
        """Evaluate, on all processes, and write the run's results on one."""
        if self.recipe.takes_best:
            self.task.on_all(lambda *_: self.model.load_state_dict(self.run.model_weights()))
        with self.uncompiled():
            results = evaluate(self.run, self.model, self.data, self.task)
        refuse_divergence(self.run, self.recipe.steps, results)
        on_main(self.accelerator, self.run.write_results,
                results | {"processes": self.accelerator.num_processes,
                           "deterministic_algorithms": self.deterministic})


def compile_model(model: nn.Module) -> Callable[[], AbstractContextManager]:
    """Compile the layers of a training step, but not those of evaluation, of many lengths.

    Returns:
        A function that makes a context manager in which the model runs uncompiled.
    """
    model.run_layers = torch.compile(model.run_layers)
    return lambda: torch.compiler.set_stance("force_eager")


def evaluate(run: Run, model: nn.Module, data: Data, task: Task | None = None) -> dict:
    """Results at the recipe's lengths or sizes, with provenance.

    Args:
        task: of the run, where several processes evaluate together.
    """
    recipe, task = run.recipe, task or task_of(run.recipe)
    return {"method": recipe.method, "scale": recipe.scale, "seed": recipe.seed,
            "recipe": recipe.digest(), **task.evaluate(model, data),
            "precision": evaluated_in(model),
            "parameters": sum(p.numel() for p in model.parameters()),
            "data": data.provenance(), **provenance(device_of(model))}
