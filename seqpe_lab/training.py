"""The one training loop, on accelerate.

Every random number of step s is a function of (seed, s): which sequences, their shift, the
positions of the two losses, the dropout masks. So nothing but weights, optimizer state and the
step number need saving, and a resumed run repeats an unbroken one to the last bit.
"""
from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .data.text import TextData, load_text
from .evaluation import perplexity, perplexity_by_length
from .losses import contrastive_loss, distillation_loss, linear_cross_entropy
from .models.gpt2 import GPT2, GPT2Config
from .recipes import Recipe
from .runs import Run, provenance
from .sampling import contrastive_sample, distillation_sample, random_shift

VALIDATION_TOKENS = 16_384


def build_model(recipe: Recipe, vocab_size: int) -> GPT2:
    """The model of a recipe, initialised from its seed."""
    torch.manual_seed(recipe.seed)
    return GPT2(GPT2Config(vocab_size=vocab_size, d_model=recipe.d_model, layers=recipe.layers, heads=recipe.heads,
                           train_len=recipe.train_len, max_position=recipe.max_position, dropout=recipe.dropout,
                           encoding=recipe.encoding, encoding_options=dict(recipe.encoding_options)))


class Chunks(Dataset):
    """The training stream: item i is always the same sequence of train_len + 1 tokens.

    Each epoch cuts the text at another offset and goes through the chunks in another order, both
    drawn from (seed, epoch).
    """

    def __init__(self, tokens: Tensor, length: int, seed: int):
        self.tokens, self.length, self.seed = tokens, length, seed
        self.per_epoch = (len(tokens) - 1) // length - 1
        if self.per_epoch < 1:
            raise ValueError(f"the training text has {len(tokens)} tokens, too few for sequences of {length}: shorten train_len")
        self._epoch = None

    def __getitem__(self, index: int) -> Tensor:
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            generator = _generator(self.seed, epoch, stream=1)
            self._offset = int(torch.randint(self.length, (1,), generator=generator))
            self._order = torch.randperm(self.per_epoch, generator=generator)
            self._epoch = epoch
        begin = self._offset + int(self._order[place]) * self.length
        return self.tokens[begin: begin + self.length + 1]


class Objective(nn.Module):
    """Model and losses in one module: L = L_main + alpha L_delta + beta L_OOD (Eq. 15).

    All positions that a step needs, those of the text and of both losses, are encoded in one call.
    """

    def __init__(self, model: GPT2, recipe: Recipe):
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, tokens: Tensor, step: int, part: int = 0, regularise: bool = True) -> dict[str, Tensor]:
        """Losses of one micro-batch.

        Args:
            tokens: int64 (B, train_len + 1).
            step: decides, with the recipe's seed, on the shifts and the sampled positions.
            part: which micro-batch of the step this is, over all processes.
            regularise: False leaves the position losses out (all but a process's first micro-batch).

        Returns:
            "main", and where the recipe has them "contrastive" and "distillation", scalars in nats;
            "loss", the weighted sum.
        """
        recipe, generator = self.recipe, _generator(self.recipe.seed, step, stream=2)
        length = tokens.shape[1] - 1
        positions = main_positions(recipe, length, generator)
        if positions.dim() == 3:
            positions = positions[part * recipe.micro_batch:][: len(tokens)]  # (B, L, 1)
        if recipe.encoding != "seqpe":
            main = self._main(tokens, positions=positions)
            return {"main": main, "loss": main}

        parts = [positions]
        contrast = distil = None
        if recipe.alpha > 0 and regularise:
            contrast = contrastive_sample(recipe.pivots, recipe.candidates, recipe.max_position, base=self.model.encoding.encoder.base,
                                          hard=recipe.hard, hard_share=recipe.hard_share, local=recipe.local, generator=generator)
            parts += [contrast.pivots, contrast.candidates]
        is_shifted = recipe.shift_unit == "batch" and int(positions.min()) > 0
        if recipe.beta > 0 and regularise and (recipe.distill_shifted or not is_shifted):
            distil = distillation_sample(recipe.distillation_batch, recipe.teachers, recipe.train_len, recipe.max_position, generator=generator)
            parts += [distil.teachers, distil.students]
        encoded = self.model.encoding.encoder(torch.cat([p.flatten(0, -2) for p in parts]))
        vectors = [v.unflatten(0, p.shape[:-1]) for v, p in zip(encoded.split([p[..., 0].numel() for p in parts]), parts)]

        losses = {"main": self._main(tokens, positions=positions, vectors=vectors.pop(0))}
        total = losses["main"]
        if contrast is not None:
            losses["contrastive"] = contrastive_loss(vectors.pop(0), vectors.pop(0), contrast.label.to(tokens.device))
            total = total + recipe.alpha * losses["contrastive"]
        if distil is not None:
            losses["distillation"] = distillation_loss(vectors.pop(0), vectors.pop(0), recipe.heads, recipe.distillation_form)
            total = total + recipe.beta * losses["distillation"]
        return losses | {"loss": total}

    def _main(self, tokens: Tensor, **options) -> Tensor:
        """Cross entropy of the next token, nats a token, in chunks that keep the logits small."""
        hidden, weight = self.model.read(tokens[:, :-1], **options).flatten(0, 1), self.model.transformer.wte.weight
        targets = tokens[:, 1:].flatten()
        if torch.is_autocast_enabled(hidden.device.type):  # mixed precision is left to torch
            return F.cross_entropy(F.linear(hidden, weight).float(), targets)
        return linear_cross_entropy(hidden, weight, targets)


def main_positions(recipe: Recipe, length: int, generator: torch.Generator) -> Tensor:
    """Where the sequences of a step stand: most at 0, a share at a start z drawn for this step (App. A.5).

    Returns:
        int64 (batch, length, 1), or (length, 1) where all start alike, as with ``shift_unit="batch"``.
    """
    shift = random_shift(length, recipe.max_position, generator=generator)  # (1,)
    draws = torch.rand(1 if recipe.shift_unit == "batch" else recipe.batch, 1, 1, generator=generator)
    starts = (draws < recipe.shifted) * shift  # (batch, 1, 1)
    positions = starts + torch.arange(length).unsqueeze(-1)
    return positions[0] if bool((starts == starts[0]).all()) else positions


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then linear decay to zero (App. B.1). ``step`` counts from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    return recipe.learning_rate * (recipe.steps - step) / max(1, recipe.steps - recipe.warmup_steps)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay only on the main model's matrices, none on the position encoder (Sec. 4)."""
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "encoder." not in name]
    others = [p for name, p in model.named_parameters() if p.dim() <= 1 or "encoder." in name]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.adam_beta2), fused=True)


def train(recipe: Recipe, folder: str | Path | None = None, *, data: TextData | None = None, cpu: bool = False, progress: bool = True) -> Run:
    """Train, evaluate, and write everything into the run's folder; go on where an interrupted run stopped.

    A finished run is returned as it is. Under ``torchrun`` every process takes its share of each
    batch; the tokens per step stay those of the recipe.

    Args:
        recipe: what to run.
        folder: by default :class:`~seqpe_lab.runs.Run` chooses it.
        data: the text, if already loaded.
        cpu: stay on the CPU where there is a GPU.
        progress: show a bar (in a terminal or a notebook, never in a log).

    Raises:
        CheckpointError: the last checkpoint is broken or foreign; names it and the previous one.
        ValueError: the folder holds another recipe; a batch that the processes do not divide.
    """
    run = Run(recipe, folder)
    if run.state == "finished":
        run.create()  # says so if it holds another recipe
        return run
    bf16 = recipe.precision == "bf16" and torch.cuda.is_available() and not cpu
    accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if bf16 else "no",
                              dataloader_config=DataLoaderConfiguration(even_batches=False))
    world = accelerator.num_processes
    if recipe.batch % (recipe.micro_batch * world):
        raise ValueError(f"{world} processes with micro_batch={recipe.micro_batch} do not divide batch={recipe.batch}: lower micro_batch or the number of processes")
    accumulation = recipe.batch // (recipe.micro_batch * world)
    if accelerator.is_main_process:
        run.create()
    accelerator.wait_for_everyone()
    data = data or load_text(recipe.source, recipe.tokenizer)
    _check_lengths(recipe, data)
    model = build_model(recipe, data.vocab_size)
    optimizer = make_optimizer(model, recipe)

    first = 0
    if run.checkpoints():
        weights, optimizer_state, state = run.load_checkpoint(run.checkpoints()[-1])
        if state["data"] != data.hash:
            raise ValueError(f"{run.folder} was trained on other data (hash {state['data']}, now {data.hash}): choose another folder or delete it")
        model.load_state_dict(weights)
        unflatten_optimizer(optimizer, model, optimizer_state)
        first = state["step"]
    if accelerator.is_main_process:
        run.truncate_metrics(first)

    chunks = Chunks(data.train, recipe.train_len, recipe.seed)
    loader = DataLoader(chunks, batch_size=recipe.micro_batch, sampler=range(first * recipe.batch, recipe.steps * recipe.batch),
                        generator=torch.Generator())  # else its first batch takes a number from dropout's generator, and a resumed run differs
    objective, optimizer, loader = accelerator.prepare(Objective(model, recipe), optimizer, loader)
    model_groups = [[p for n, p in model.named_parameters() if "encoder." in n], [p for n, p in model.named_parameters() if "encoder." not in n]]
    batches = iter(loader)
    bar = tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc=recipe.method,
               disable=None if progress and accelerator.is_main_process else True)
    for step in bar:
        torch.manual_seed(_seed(recipe.seed, step * world + accelerator.process_index, stream=3))  # dropout
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        objective.train()
        logged: dict[str, Tensor] = {}
        for micro in range(accumulation):
            last = micro == accumulation - 1
            with nullcontext() if last else accelerator.no_sync(objective):
                losses = objective(next(batches), step, micro * world + accelerator.process_index, regularise=micro == 0)
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
        if done % recipe.log_every == 0 or done == recipe.steps:
            record = {name: accelerator.reduce(value, "mean").item() for name, value in logged.items()}
            record |= {"step": done, "learning_rate": learning_rate(recipe, step), "gradient_norm": float(max(norms))}
            bar.set_postfix(loss=f"{record['loss']:.3f}")
            if accelerator.is_main_process:
                run.append_metrics(record)
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            if accelerator.is_main_process:
                sample = data.validation[: VALIDATION_TOKENS + 1]
                validation = perplexity(model, sample, min(recipe.train_len, len(sample) - 1)).nats
                run.save_checkpoint(done, model.state_dict(), flatten_optimizer(optimizer, model),
                                    {"validation": validation, "data": data.hash})
            accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.write_results(evaluate(run, model, data))
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    return run


def evaluate(run: Run, model: GPT2, data: TextData) -> dict:
    """Perplexity on the test split at the recipe's lengths, with provenance."""
    recipe = run.recipe
    test = data.test[: recipe.eval_tokens + 1] if recipe.eval_tokens else data.test
    measured = perplexity_by_length(model, test, recipe.eval_lens)
    return {
        "method": recipe.method, "scale": recipe.scale, "seed": recipe.seed, "recipe": recipe.digest(),
        "protocol": measured[0].protocol, "split": "test", "tokens": measured[0].tokens,
        "perplexity": {str(m.length): m.perplexity for m in measured},
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": data.provenance(),
        **provenance(next(model.parameters()).device),
    }


def trained_model(run: Run, data: TextData) -> GPT2:
    """The model of a run with its last weights, in evaluation mode."""
    model = build_model(run.recipe, data.vocab_size)
    model.load_state_dict(run.model_weights())
    return model.eval()


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


def _generator(seed: int, number: int, stream: int) -> torch.Generator:
    """An independent generator for each (seed, number, stream)."""
    return torch.Generator().manual_seed(_seed(seed, number, stream))


def _seed(seed: int, number: int, stream: int) -> int:
    """32 bits from all three: torch's CPU generator ignores any higher bit."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stream} {number}".encode()).digest()[:4], "big")


def _check_lengths(recipe: Recipe, data: TextData) -> None:
    """Refuse before the first step what would fail after the last."""
    test = min(len(data.test), recipe.eval_tokens + 1) if recipe.eval_tokens else len(data.test)
    if test <= max(recipe.eval_lens):
        raise ValueError(f"the test split gives {test} tokens, too few for a context of {max(recipe.eval_lens)} and its next token: shorten eval_lens or raise eval_tokens")
    if len(data.validation) < 2:
        raise ValueError(f"the validation split has {len(data.validation)} tokens, too few to predict one from another: give more text")
