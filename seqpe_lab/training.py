"""The one training loop, on accelerate.

Every random number of step s is a function of (seed, s): which sequences, their shift, the
positions of the two losses, the dropout masks. So nothing but weights, optimizer state and the
step number need saving, and a resumed run repeats an unbroken one to the last bit.

A step's batch is cut into micro-batches, its parts 0, 1, 2, ... Under ``torchrun`` process r of w
takes parts r, r + w, ...; a part's data, shifts, mixing and dropout depend on its number and not on
who computes it, so runs on one and on several processes differ by rounding alone.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from seqpe_lab.digits import grid
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.memory import keep_freed_memory
from seqpe_lab.recipes import ImageRecipe, Training
from seqpe_lab.runs import Run, provenance, runs_folder
from seqpe_lab.sampling import (
    contrastive_sample,
    distillation_sample,
    random_shift,
    seed_of,
    seeded,
)
from seqpe_lab.tasks import task_of
from seqpe_lab.tensorboard import Board

PATIENCE = timedelta(hours=12)  # of the processes that wait while the main one evaluates: NCCL's own 10 minutes are too short for ImageNet at 672 pixels


def build_model(recipe: Training, outputs: int) -> nn.Module:
    """The model of a recipe, initialised from its seed.

    Args:
        outputs: size of the vocabulary, or number of classes.
    """
    torch.manual_seed(recipe.seed)
    return task_of(recipe).make_model(outputs)


class Objective(nn.Module):
    """Model and losses in one module: L = L_main + alpha L_delta + beta L_OOD (Eq. 15).

    All positions that a step needs, those of the batch and of both losses, are encoded in one call.
    """

    def __init__(self, model: nn.Module, recipe: Training):
        super().__init__()
        self.model, self.recipe, self.task = model, recipe, task_of(recipe)

    def forward(self, batch, step: int, part: int = 0, regularise: bool = True) -> dict[str, Tensor]:
        """Losses of one micro-batch.

        Args:
            batch: tokens, int64 (B, train_len + 1); or images, float (B, channels, height, width), and labels, int64 (B,).
            step: decides, with the recipe's seed, on the shifts and the sampled positions.
            part: which micro-batch of the step this is, over all processes.
            regularise: False leaves the position losses out (all but a process's first micro-batch). They are
                those of the whole step, so each process computes the same ones and their mean changes nothing.

        Returns:
            "main", and where the recipe has them "contrastive" and "distillation", scalars in nats;
            "loss", the weighted sum.
        """
        recipe, generator = self.recipe, seeded(self.recipe.seed, step, stream=2)
        positions = main_positions(recipe, recipe.train_shape, generator)
        if positions.dim() == 3:
            positions = positions[part * recipe.micro_batch:][: len(batch[0] if isinstance(batch, (list, tuple)) else batch)]  # (B, L, n)
        mixing = seeded(recipe.seed, part_number(recipe, step, part), stream=6)
        if recipe.encoding != "seqpe":
            main = self.task.main_loss(self.model, batch, mixing, positions=positions)
            return {"main": main, "loss": main}

        which = None
        if positions.dim() == 3:  # few starts, many sequences: each start is encoded and projected once
            starts, which = positions[:, 0].unique(dim=0, return_inverse=True)
            parts = [starts.unsqueeze(1) + grid(*recipe.train_shape)]
        else:
            parts = [positions]
        contrast = distil = None
        if recipe.alpha > 0 and regularise:
            contrast = contrastive_sample(recipe.pivots, recipe.candidates, recipe.max_position, dims=recipe.dims, base=self.model.encoding.encoder.base,
                                          hard=recipe.hard, hard_share=recipe.hard_share, local=recipe.local, generator=generator)
            parts += [contrast.pivots, contrast.candidates]
        is_shifted = recipe.shift_unit == "batch" and int(positions.min()) > 0
        if recipe.beta > 0 and regularise and (recipe.distill_shifted or not is_shifted):
            distil = distillation_sample(recipe.distillation_batch, recipe.teachers, recipe.train_shape, recipe.max_position, dims=recipe.dims, generator=generator)
            parts += [distil.teachers, distil.students]
        encoded = self.model.encoding.encoder(torch.cat([p.flatten(0, -2) for p in parts]))
        vectors = [v.unflatten(0, p.shape[:-1]) for v, p in zip(encoded.split([p[..., 0].numel() for p in parts]), parts)]

        of_main = vectors.pop(0) if which is None else (vectors.pop(0), which.to(encoded.device))
        losses = {"main": self.task.main_loss(self.model, batch, mixing, positions=positions, vectors=of_main)}
        total = losses["main"]
        if contrast is not None:
            losses["contrastive"] = contrastive_loss(vectors.pop(0), vectors.pop(0), contrast.label.to(encoded.device))
            total = total + recipe.alpha * losses["contrastive"]
        if distil is not None:
            losses["distillation"] = distillation_loss(vectors.pop(0), vectors.pop(0), recipe.heads, recipe.distillation_form)
            total = total + recipe.beta * losses["distillation"]
        return losses | {"loss": total}


def main_positions(recipe: Training, shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Where the sequences or images of a step stand: most at 0, a share at a start z drawn for this step (App. A.5).

    Args:
        shape: of the training context: L, or (rows, columns).

    Returns:
        int64 (batch, L, n), or (L, n) where all start alike, as with ``shift_unit="batch"``.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    shift = random_shift(shape, recipe.max_position, generator=generator, dims=recipe.dims)  # (n,)
    draws = torch.rand(1 if recipe.shift_unit == "batch" else recipe.batch, 1, 1, generator=generator)
    starts = (draws < recipe.shifted) * shift  # (batch, 1, n)
    positions = starts + grid(*shape)
    return positions[0] if bool((starts == starts[0]).all()) else positions


def part_number(recipe: Training, step: int, part: int) -> int:
    """The number of a micro-batch within the whole run, whoever computes it."""
    return step * (recipe.batch // recipe.micro_batch) + part


def learning_rate(recipe: Training, step: int) -> float:
    """Linear warm-up, then decay to zero: linear for text (App. B.1), along a cosine for images (DeiT). ``step`` counts from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if isinstance(recipe, ImageRecipe):
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps))) / 2
    return recipe.learning_rate * (recipe.steps - step) / max(1, recipe.steps - recipe.warmup_steps)


def make_optimizer(model: nn.Module, recipe: Training) -> torch.optim.AdamW:
    """AdamW; weight decay only on the main model's matrices, none on the position encoder (Sec. 4) nor on what a model exempts."""
    exempt = getattr(model, "no_weight_decay", set)()
    decays = {name: p.dim() > 1 and "encoder." not in name and name not in exempt for name, p in model.named_parameters()}
    decayed, others = ([p for name, p in model.named_parameters() if decays[name] is choice] for choice in (True, False))
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.adam_beta2), fused=True)


def train(recipe: Training, folder: str | Path | None = None, *, data=None, cpu: bool = False, progress: bool = True, workers: int | None = None,
          compile: bool = False, watch: Callable[[int, nn.Module], None] = lambda step, model: None) -> Run:
    """Train, evaluate, and write everything into the run's folder; go on where an interrupted run stopped.

    A finished run is returned as it is. Under ``torchrun`` every process takes its share of each
    batch; the tokens per step stay those of the recipe.

    Args:
        recipe: what to run.
        folder: by default :class:`~seqpe_lab.runs.Run` chooses it.
        data: the text or the images, if already loaded.
        cpu: stay on the CPU where there is a GPU.
        progress: show a bar (in a terminal or a notebook, never in a log).
        workers: processes that prepare batches beside each training process; the numbers are the same
            with any. By default none, but for runs at medium and full scale whose images are decoded.
        compile: put the model through torch.compile, which takes a minute or two at the start. A resumed
            run then repeats an unbroken one up to rounding only: what is compiled depends on the first steps seen.
        watch: is called with the number of steps done, at first 0, and the model; may look, not touch.

    Raises:
        CheckpointError: the last checkpoint is broken or foreign; names it and the previous one.
        RunningError: another process is training in this folder.
        ValueError: the folder holds another recipe; a batch that the processes do not divide; processes
            that do not see the same data or the same checkpoints.
    """
    run = Run(recipe, folder)
    accelerator = start_processes(recipe, cpu)
    world = accelerator.num_processes
    if recipe.batch % (recipe.micro_batch * world):
        raise ValueError(f"{world} processes with micro_batch={recipe.micro_batch} do not divide batch={recipe.batch}: lower micro_batch or the number of processes")
    _, finished = agreed(accelerator, "the run (recipe, finished or not)", (recipe.digest(), run.state == "finished"))
    on_main(accelerator, run.create)  # says so if it holds another recipe
    if not finished:
        with ExitStack() as claims:
            on_main(accelerator, lambda: claims.enter_context(run.claim()))
            if accelerator.device.type == "cpu":
                keep_freed_memory()
            _train(accelerator, run, data, progress, workers, compile, watch)
            accelerator.free_memory()
    return run


def _train(accelerator: Accelerator, run: Run, data, progress: bool, workers: int | None, compile: bool, watch: Callable[[int, nn.Module], None]) -> None:
    """The loop itself, in a folder that nobody else writes to."""
    recipe, world = run.recipe, accelerator.num_processes
    accumulation = recipe.batch // (recipe.micro_batch * world)
    task = task_of(recipe)
    with accelerator.local_main_process_first():  # one process of each machine prepares what is not there yet
        data = data or task.load_data()
    task.check(data)
    model = build_model(recipe, task.outputs(data))
    optimizer = make_optimizer(model, recipe)

    first = 0
    if run.checkpoints():
        weights, optimizer_state, state = run.load_checkpoint(run.checkpoints()[-1])
        if state["data"] != data.hash:
            raise ValueError(f"{run.folder} was trained on other data (hash {state['data']}, now {data.hash}): choose another folder or delete it")
        model.load_state_dict(weights)
        unflatten_optimizer(optimizer, model, optimizer_state)
        first = state["step"]
    elif recipe.base:
        load_base(model, recipe)
    agreed(accelerator, "(steps done, hash of the data)", (first, data.hash))
    on_main(accelerator, run.truncate_metrics, first)
    board = Board(run) if accelerator.is_main_process else None

    loader = DataLoader(task.training_set(data), batch_size=recipe.micro_batch, sampler=range(first * recipe.batch, recipe.steps * recipe.batch),
                        num_workers=loading_workers(recipe, data) if workers is None else workers, pin_memory=accelerator.device.type == "cuda",
                        generator=torch.Generator())  # else its first batch takes a number from dropout's generator, and a resumed run differs
    uncompiled = compile_model(model) if compile else nullcontext
    objective, optimizer, loader = accelerator.prepare(Objective(model, recipe), optimizer, loader)
    model_groups = [[p for n, p in model.named_parameters() if "encoder." in n], [p for n, p in model.named_parameters() if "encoder." not in n]]

    def save(done: int) -> None:
        with uncompiled():
            validation = task.validate(model, data)
        run.save_checkpoint(done, model.state_dict(), flatten_optimizer(optimizer, model), {"validation": validation, "data": data.hash})

    def finish() -> None:
        if recipe.takes_best:
            model.load_state_dict(run.model_weights())
        with uncompiled():
            run.write_results(evaluate(run, model, data) | {"processes": world})

    batches = iter(loader)
    bar = tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc=recipe.method,
               disable=None if progress and accelerator.is_main_process else True)
    watch(first, model)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        objective.train()
        logged: dict[str, Tensor] = {}
        for micro in range(accumulation):
            last, part = micro == accumulation - 1, micro * world + accelerator.process_index
            torch.manual_seed(seed_of(recipe.seed, part_number(recipe, step, part), stream=3))  # dropout
            with nullcontext() if last else accelerator.no_sync(objective):
                losses = objective(next(batches), step, part, regularise=micro == 0)
                weight = losses["main"] / accumulation + (losses["loss"] - losses["main"])
                accelerator.backward(weight)
            for name, value in losses.items():
                share = value.detach() / accumulation if name == "main" else value.detach() if name != "loss" else weight.detach()
                logged[name] = logged.get(name, 0) + share
        clipped = model_groups if recipe.clip_separately else [list(model.parameters())]
        norms = [accelerator.clip_grad_norm_(group, recipe.clip) for group in clipped if group]
        optimizer.step()
        optimizer.zero_grad()

        done = step + 1
        watch(done, model)
        if done % recipe.log_every == 0 or done == recipe.steps:
            record = {name: accelerator.reduce(value, "mean").item() for name, value in logged.items()}
            record |= {"step": done, "learning_rate": learning_rate(recipe, step), "gradient_norm": float(max(norms))}
            bar.set_postfix(loss=f"{record['loss']:.3f}")
            if board:
                run.append_metrics(record)
                board.add(record)
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            on_main(accelerator, save, done)
    on_main(accelerator, finish)
    if board:
        board.close()


# --- processes ---------------------------------------------------------------------------------

def start_processes(recipe: Training, cpu: bool = False) -> Accelerator:
    """accelerate, once it is certain that it sees all processes that were started.

    Raises:
        RuntimeError: it sees another number of processes than ``torchrun`` started.
    """
    bf16 = recipe.precision == "bf16" and torch.cuda.is_available() and not cpu
    # Else torch sums the gradients in another order after the first step seen, and of three processes or more a resumed run differs in the last bits.
    in_one_order = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if bf16 else "no",
                              dataloader_config=DataLoaderConfiguration(even_batches=False, non_blocking=True),
                              kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE), in_one_order])
    started = int(os.environ.get("WORLD_SIZE", accelerator.num_processes))
    if accelerator.num_processes != started:
        raise RuntimeError(f"{started} processes were started but accelerate sees {accelerator.num_processes}: start them with torchrun, "
                           "or python -m torch.distributed.run, in a fresh program")
    return accelerator


def on_main(accelerator: Accelerator, do: Callable, *arguments) -> None:
    """``do(*arguments)`` on the main process while the others wait. Where it fails all fail, and nobody waits for ever."""
    error, said = None, [None]
    if accelerator.is_main_process:
        try:
            do(*arguments)
        except Exception as caught:
            error, said = caught, [str(caught)]
    broadcast_object_list(said)
    if error is not None:
        raise error
    if said[0] is not None:
        raise RuntimeError(f"the main process stopped: {said[0]}")


def agreed(accelerator: Accelerator, what: str, value):
    """``value``, if all processes have the same.

    Raises:
        ValueError: they do not, as on several machines without a common disk.
    """
    values = gather_object([value])
    if any(other != values[0] for other in values):
        raise ValueError(f"the processes do not agree on {what}: {', '.join(map(str, values))}. All machines need the same data, and a folder of the run that they share")
    return value


def loading_workers(recipe: Training, data) -> int:
    """How many processes prepare the batches of one training process: none where nothing is decoded, or where little is."""
    if recipe.scale in ("smoke", "small") or not getattr(data, "decodes", False):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def compile_model(model: nn.Module) -> Callable:
    """Compile what a training step computes with the model's layers; evaluation, at many lengths, stays as it is.

    Returns:
        A context manager in which the model runs uncompiled.
    """
    name = "read" if hasattr(model, "read") else "forward"
    setattr(model, name, torch.compile(getattr(model, name)))
    return lambda: torch.compiler.set_stance("force_eager")


def load_base(model: nn.Module, recipe: Training) -> None:
    """Give a model the weights of the run that its recipe starts from; a learned table is stretched to the longer context, and W_PE stays new where the recipe says so.

    Raises:
        FileNotFoundError: there is no such run, or it is not trained; says how to train it.
    """
    folder = runs_folder() / recipe.base
    if not (folder / "results.json").exists():
        raise FileNotFoundError(f"{folder} holds no finished run to start from: train its language model first (python -m seqpe_lab train lm), or name another `base`")
    weights = Run.open(folder).model_weights()
    for name, value in model.state_dict().items():
        if name.endswith("encoding.table.weight") and weights[name].shape != value.shape:
            weights[name] = nn.functional.interpolate(weights[name].T.unsqueeze(0), size=len(value), mode="linear", align_corners=True)[0].T.contiguous()
        if recipe.new_projection and ".projections." in name:
            weights[name] = value
    model.load_state_dict(weights)


def evaluate(run: Run, model: nn.Module, data) -> dict:
    """Results on the test split at the recipe's lengths or sizes, with provenance."""
    recipe = run.recipe
    return {
        "method": recipe.method, "scale": recipe.scale, "seed": recipe.seed, "recipe": recipe.digest(),
        **task_of(recipe).evaluate(model, data),
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": data.provenance(),
        **provenance(next(model.parameters()).device),
    }


def trained_model(run: Run, data, device: torch.device | str = "cpu") -> nn.Module:
    """The model of a run with its last weights, in evaluation mode on a device."""
    model = build_model(run.recipe, task_of(run.recipe).outputs(data))
    model.load_state_dict(run.model_weights())
    return model.eval().to(device)


def flatten_optimizer(optimizer, model: nn.Module) -> dict[str, Tensor]:
    """AdamW's state as named tensors: "exp_avg.<parameter>", "exp_avg_sq.<parameter>", "step.<parameter>"."""
    state = getattr(optimizer, "optimizer", optimizer).state
    return {f"{kind}.{name}": value for name, p in model.named_parameters() for kind, value in state.get(p, {}).items()}


def unflatten_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of :func:`flatten_optimizer`, before ``accelerator.prepare``."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        optimizer.state[parameters[name]][kind] = value
