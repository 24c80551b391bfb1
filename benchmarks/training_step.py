"""One whole training step of GPT-2 small with SeqPE's bias, as the library does it and written plainly.

Both sides: 12 layers of 768, 12 heads, vocabulary 50,257, 4 sequences of 512 tokens, float32; both
position losses at the paper's sizes (32 pivots with 32 candidates, 32 x 32 teachers and students,
positions below 20,000); forward, backward and AdamW. They start from the same weights and see the
same tokens and positions; their losses and gradients must agree. Dropout is 0 on both sides, so
that there is something to compare. A shift moves the whole batch (``shift_unit="batch"``), so that
the plain side, too, encodes the positions of the text once and not once a sequence.

The plain side (plain.py) encodes every occurrence of a position as a whole sequence, in one call
for the text, one for pivots and candidates, one for the teachers (without gradient) and one for
the students, and adds an H x L x L bias to explicit scores. Each measurement is a process of its
own: it makes the model and the optimizer's state, takes one unmeasured step, then the timed ones.
"""
from __future__ import annotations

import json

import torch

from seqpe_lab.recipes import Recipe
from seqpe_lab.training import Objective, _generator, build_model, make_optimizer

from . import measure, plain

VOCABULARY = 50_257
SHAPE = dict(dropout=0.0, batch=4, micro_batch=4, shift_unit="batch")
FASTER, MEMORY = 1.5, 0.6


def child(side: str, steps: int) -> dict:
    """Measure one side: memory, losses and gradients of step 0, seconds of the steps after it."""
    recipe = Recipe(**SHAPE)
    model = build_model(recipe, VOCABULARY).train()
    objective = Objective(model, recipe)
    optimizer = make_optimizer(model, recipe)
    for p in model.parameters():  # AdamW makes its state; zero gradients leave the weights as they are
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()
    before = measure.resident()

    first = {}

    def step(number: int) -> None:
        tokens = torch.randint(VOCABULARY, (recipe.batch, recipe.train_len + 1), generator=torch.Generator().manual_seed(number))
        if side == "ours":
            losses = objective(tokens, number)
        else:
            losses = plain.training_losses(model, recipe, tokens, _generator(recipe.seed, number, stream=2))
        losses["loss"].backward()
        if number == 0:
            first.update({name: value.item() for name, value in losses.items()})
            first["gradient"] = torch.stack([p.grad.norm() for p in model.parameters()]).tolist()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    seconds = [measure.clock(lambda i=i: step(i + 1)) for i in range(steps)]
    return {"seconds": seconds, "first": first, "peak": measure.peak(), "above_model": measure.peak() - before}


def largest_difference(plain_side: dict, ours: dict) -> tuple[float, float]:
    """Over all losses, and over the gradient norms of all parameters relative to the largest."""
    a, b = plain_side["first"], ours["first"]
    gradient = max(abs(x - y) for x, y in zip(a["gradient"], b["gradient"])) / max(a["gradient"])
    return max(abs(a[name] - b[name]) for name in ("main", "contrastive", "distillation", "loss")), gradient


def main() -> None:
    parser = measure.parser(__doc__, repeats=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps a process (default %(default)s)")
    parser.add_argument("--child", choices=("plain", "ours"), help="measure one side only, in this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child, options.steps)))
        return

    rounds = [[measure.in_fresh_process("benchmarks.training_step", "--child", side, "--steps", options.steps) for side in ("plain", "ours")]
              for _ in range(options.repeats)]
    losses, gradient = largest_difference(*rounds[0])
    assert losses < 1e-4 and gradient < 1e-4, f"the two sides differ: losses by {losses:.1e}, gradients by {gradient:.1e}"
    pairs = [pair for a, b in rounds for pair in zip(a["seconds"], b["seconds"])]
    numbers = {"time": measure.compare([p for p, _ in pairs], [o for _, o in pairs]), "loss_difference": losses, "gradient_difference": gradient}
    for kind in ("peak", "above_model"):
        a, b = [[r[i][kind] for r in rounds] for i in (0, 1)]
        numbers[kind] = {"plain_mb": measure.spread(a)["median"] / measure.MB, "ours_mb": measure.spread(b)["median"] / measure.MB,
                         "share": measure.spread([y / x for x, y in zip(a, b)])}

    rows = [[f"{kind} seconds a step", f"{t['plain_s']:.2f}", f"{t['ours_s']:.2f}", measure.times(t["faster"]) + " x faster"]
            for kind, t in numbers["time"].items() if kind != "rounds"]
    rows += [[label, f"{m['plain_mb']:,.0f}", f"{m['ours_mb']:,.0f}", measure.times(m["share"]) + " of it"]
             for label, m in (("peak memory, MB", numbers["peak"]), ("above model and optimizer, MB", numbers["above_model"]))]
    print(measure.table(["GPT-2 small, 4 x 512 tokens", "plain", "ours", "ours against plain"], rows))
    print(f"losses agree to {losses:.1e}, gradient norms to {gradient:.1e} of the largest")
    bars = [measure.verdict(f"at least {FASTER} x faster", numbers["time"]["wall"]["faster"]["median"] >= FASTER),
            measure.verdict(f"at most {MEMORY} of the memory", numbers["peak"]["share"]["median"] <= MEMORY)]
    measure.finish(numbers, options.json, bars)


if __name__ == "__main__":
    main()
