"""A training step of GPT-2 small with SeqPE's bias, as the library does it and written plainly.

Both sides: 12 layers of 768, 12 heads, vocabulary 50,257, 4 sequences of 512 tokens, float32; both
position losses at the paper's sizes (32 pivots with 32 candidates, 32 x 32 teachers and students,
positions below 20,000); forward, backward and AdamW. They start from the same weights and see the
same tokens and positions; their losses and gradients must agree. Dropout is 0 on both sides, so
that there is something to compare, and no sequence is shifted.

The plain side (plain.py) encodes every occurrence of a position as a whole sequence, in one call
for the text, one for pivots and candidates, one for the teachers (without gradient) and one for
the students, and adds an L x L bias for each head to explicit scores. "Thrifty" does the same but
encodes the text's positions once for all sequences, since here they stand at the same ones. Every
measurement is a process of its own: it makes the model and the optimizer's state, takes one
unmeasured step, then the timed ones.
"""

from __future__ import annotations

import json

import torch

from seqpe_lab.objective import Objective, build_model, make_optimizer
from seqpe_lab.recipes import Recipe
from seqpe_lab.sampling import seeded

from . import measure, plain

VOCABULARY = 50_257
SIDES = ("plain", "thrifty", "ours")
FASTER, MEMORY, EQUAL = 1.5, 0.6, 1e-4


def child(side: str, steps: int) -> dict:
    """Measure one side: memory, losses, gradients of the first step, seconds of the later steps."""
    recipe = Recipe(dropout=0.0, shifted=0.0, batch=4, micro_batch=4)
    model = build_model(recipe, VOCABULARY).train()
    objective = Objective(model, recipe)
    optimizer = make_optimizer(model, recipe)
    for (
        p
    ) in model.parameters():  # AdamW makes its state; zero gradients leave the weights as they are
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()
    before = measure.resident()
    first = {}

    def step(number: int) -> None:
        tokens = torch.randint(
            VOCABULARY,
            (recipe.batch, recipe.train_len + 1),
            generator=torch.Generator().manual_seed(number),
        )
        if side == "ours":
            losses = objective(tokens, number)
        else:
            losses = plain.training_losses(
                model,
                recipe,
                tokens,
                seeded(recipe.seed, number, stream=2),
                thrifty=side == "thrifty",
            )
        losses["loss"].backward()
        if not first:
            first.update(
                losses={name: value.item() for name, value in losses.items()},
                gradients=[p.grad.norm().item() for p in model.parameters()],
            )
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    seconds = [measure.clock(lambda number=number: step(number)) for number in range(1, steps + 1)]
    return {
        "seconds": seconds,
        "first": first,
        "peak": measure.peak(),
        "above": measure.peak() - before,
    }


def against(theirs: list[dict], ours: list[dict]) -> dict:
    """Rounds of one plain side and of ours -> times, memory and how far their results differ."""
    a, b = theirs[0]["first"], ours[0]["first"]
    losses = max(abs(a["losses"][name] - b["losses"][name]) for name in a["losses"])
    gradients = max(abs(x - y) for x, y in zip(a["gradients"], b["gradients"])) / max(
        a["gradients"]
    )
    assert losses < EQUAL and gradients < EQUAL, (
        f"the two sides differ: losses by {losses:.1e}, gradients by {gradients:.1e}"
    )
    return {
        "losses_differ": losses,
        "gradients_differ": gradients,
        "time": measure.compare(
            [t for r in theirs for t in r["seconds"]], [t for r in ours for t in r["seconds"]]
        ),
        "memory": measure.compare_memory(theirs, ours),
    }


def main() -> None:
    parser = measure.parser(__doc__, repeats=2)
    parser.add_argument(
        "--thrifty", action="store_true", help="compare with the thrifty plain side too"
    )
    parser.add_argument(
        "--steps", type=int, default=1, help="timed steps a process (default %(default)s)"
    )
    parser.add_argument("--child", choices=SIDES, help="measure one side only, in this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child, options.steps)))
        return

    sides = [side for side in SIDES if side != "thrifty" or options.thrifty]
    rounds = [
        {
            side: measure.in_fresh_process(
                "benchmarks.training_step", "--child", side, "--steps", options.steps
            )
            for side in sides
        }
        for _ in range(options.repeats)
    ]
    results = {
        side: against([r[side] for r in rounds], [r["ours"] for r in rounds]) for side in sides[:-1]
    }
    for side, result in results.items():
        print(
            measure.two_sided(
                f"a step, against {side}",
                "a step",
                result["time"],
                result["memory"],
                above="above model and optimizer",
            )
        )
        print(
            f"losses agree to {result['losses_differ']:.1e}, gradient norms to "
            f"{result['gradients_differ']:.1e} of the largest\n"
        )
    time, memory = results["plain"]["time"], results["plain"]["memory"]
    bars = [
        measure.verdict(
            f"at least {FASTER} x faster than the plain form",
            time["wall"]["faster"]["median"] >= FASTER,
        ),
        measure.verdict(
            f"at most {MEMORY} of its memory (the process's peak)",
            memory["peak"]["share"]["median"] <= MEMORY,
        ),
    ]
    measure.finish(results, options.json, bars)


if __name__ == "__main__":
    main()
