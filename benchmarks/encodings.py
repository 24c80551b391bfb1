"""Every encoding against NoPE and, where there is one, against its plain L x L form.

Training: whole steps of a GPT-2 (forward, backward, clipping, fused AdamW) as the training loop
takes them, SeqPE with both losses at the paper's sizes, bf16 on a GPU. Evaluation: one sequence, no
gradient, all logits; the second pass and later ones, in which SeqPE reads its table of positions
(the first pass, which builds it, is shown apart). NoPE's steps are timed in turn with those of each
encoding, so that what disturbs the machine disturbs both. The plain side (plain.py: a bias matrix
for each head on explicit scores) has the same weights, and no dropout on either side.

The share of the matrix rate counts, for every encoding alike, the operations of the model without
positions: 6 N + 6 layers d_model L a token (N parameters, the output layer among them; causal
attention), over what one large matrix product reaches in the same precision on the same device in
the same run.

    python -m benchmarks.encodings                          # the machine's GPU, else its CPU
    python -m benchmarks.encodings --device cpu --batch 1 --length 1024 --methods none alibi seqpe
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable

import torch
from accelerate import Accelerator

from seqpe_lab.devices import matrix_rate
from seqpe_lab.models.gpt2 import GPT2
from seqpe_lab.objective import Objective, build_model, make_optimizer
from seqpe_lab.recipes import METHODS, Recipe, language_model
from seqpe_lab.sampling import seeded

from . import measure, plain

SIZES = {  # GPT-2 small where there is a GPU, and what a CPU does in minutes
    "cuda": dict(
        d_model=768,
        layers=12,
        heads=12,
        vocabulary=50_257,
        batch=32,
        train_len=512,
        length=16_384,
        plain_length=8_192,
        steps=10,
        matrix=8_192,
    ),
    "cpu": dict(
        d_model=256,
        layers=4,
        heads=4,
        vocabulary=4_096,
        batch=4,
        train_len=256,
        length=4_096,
        plain_length=2_048,
        steps=1,
        matrix=2_048,
    ),
}
COMPARED = (
    "none",
    "sinusoidal",
    "learned",
    "rope-1e4",
    "alibi",
    "seqpe-no-losses",
    "seqpe",
)  # RoPE costs the same at every base
PLAIN = ("none", "alibi", "seqpe")
STEP, SHARE, TIME, MEMORY = 1.10, 0.40, 1.3, 1.3  # on a GPU
EQUAL = {
    "cuda": 0.15,
    "cpu": 1e-3,
}  # largest difference between logits of the two forms, bf16 and float32


def recipe_of(method: str, options: argparse.Namespace, **changes) -> Recipe:
    return language_model(
        method,
        "full",
        d_model=options.d_model,
        layers=options.layers,
        heads=options.heads,
        train_len=options.train_len,
        batch=options.batch,
        micro_batch=options.batch,
        max_position=max(20_000, options.length),
        **changes,
    )


def clock(work: Callable[[], object], device: str) -> float:
    """Wall seconds of one call, to the last kernel."""

    def waited() -> None:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    return measure.clock(waited)[0]


def in_turn(base: Callable, other: Callable, repeats: int, device: str) -> dict:
    """Seconds of two functions, A B A B after one unmeasured call each.

    Also the second's time over the first's, round by round.
    """
    clock(base, device), clock(other, device)
    pairs = [(clock(base, device), clock(other, device)) for _ in range(repeats)]
    a, b = zip(*pairs)
    return {
        "base_s": measure.spread(a),
        "s": measure.spread(b),
        "ratio": measure.spread([y / x for x, y in pairs]),
    }


# --- the two works -----------------------------------------------------------------------------


def training(
    recipe: Recipe, options: argparse.Namespace, plainly: bool = False
) -> Callable[[], None]:
    """A function that takes ``options.steps`` training steps."""
    accelerator = Accelerator(
        cpu=options.device == "cpu", mixed_precision="bf16" if options.device == "cuda" else "no"
    )
    model = build_model(recipe, options.vocabulary)
    objective, optimizer = accelerator.prepare(
        Objective(model, recipe), make_optimizer(model, recipe)
    )
    objective.train()
    tokens = torch.randint(
        options.vocabulary,
        (recipe.batch, recipe.train_len + 1),
        generator=torch.Generator().manual_seed(1),
    ).to(accelerator.device)
    number = 0

    def work() -> None:
        nonlocal number
        for _ in range(options.steps):
            number += 1
            if plainly:
                with accelerator.autocast():
                    loss = plain.training_losses(
                        model, recipe, tokens, seeded(recipe.seed, number, stream=2)
                    )["loss"]
            else:
                loss = objective(tokens, number)["loss"]
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()

    return work


def evaluation(
    recipe: Recipe, options: argparse.Namespace, length: int, plainly: bool = False
) -> Callable[[], torch.Tensor]:
    """A function that gives the logits of one long sequence."""
    model: GPT2 = (
        build_model(recipe, options.vocabulary)
        .eval()
        .to(options.device, torch.bfloat16 if options.device == "cuda" else torch.float32)
    )
    tokens = torch.randint(
        options.vocabulary, (1, length), generator=torch.Generator().manual_seed(2)
    ).to(options.device)

    @torch.no_grad()
    def work() -> torch.Tensor:
        if not plainly:
            return model(tokens)
        if recipe.encoding == "seqpe":
            return plain.logits(
                model,
                tokens,
                plain.encode(model.encoding.encoder, torch.arange(length).unsqueeze(-1)),
            )
        return plain.biased_logits(
            model,
            tokens,
            plain.alibi_bias(model, length).to(model.transformer.wte.weight.dtype)
            if recipe.encoding == "alibi"
            else 0.0,
        )

    return work


def make(
    kind: str,
    method: str,
    options: argparse.Namespace,
    length: int = 0,
    plainly: bool = False,
    compared: bool = False,
) -> Callable:
    """The work of a case; ``compared`` with the plain form there is no dropout and no shift."""
    recipe = recipe_of(
        method, options, **(dict(dropout=0.0, shifted=0.0) if compared or plainly else {})
    )
    return (
        training(recipe, options, plainly)
        if kind == "training"
        else evaluation(recipe, options, length or options.length, plainly)
    )


def memory(
    kind: str, method: str, options: argparse.Namespace, length: int = 0, plainly: bool = False
) -> float:
    """Peak bytes that a case needs, model and optimizer among them.

    On a GPU its own count, on a CPU that of a separate process, without Python and torch.
    """
    if options.device == "cpu":
        sizes = [
            word
            for name in SIZES["cpu"]
            for word in (f"--{name.replace('_', '-')}", getattr(options, name))
        ]
        return measure.in_fresh_process(
            "benchmarks.encodings",
            "--child",
            kind,
            "--methods",
            method,
            "--child-length",
            length,
            *sizes,
            "--device",
            "cpu",
            *(["--child-plain"] if plainly else []),
        )["above"]
    clean()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work = make(kind, method, options, length, plainly)
    work(), work()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del work
    clean()
    return peak


def clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def child(options: argparse.Namespace) -> dict:
    before = measure.resident()
    work = make(
        options.child, options.methods[0], options, options.child_length, options.child_plain
    )
    work(), work()
    return {"above": measure.peak() - before}


# --- rates -------------------------------------------------------------------------------------


def operations_a_token(options: argparse.Namespace) -> int:
    """Of a training step, forward and backward, without positions: 6 N + 6 layers d_model L."""
    parameters = sum(
        p.numel() for p in build_model(recipe_of("none", options), options.vocabulary).parameters()
    )
    return 6 * parameters + 6 * options.layers * options.d_model * options.train_len


# --- the run -----------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict:
    """All cases -> one record a method, with the machine's matrix rate."""
    device, repeats = options.device, options.repeats
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rate, operations, tokens = (
        matrix_rate(torch.device(device), dtype, options.matrix),
        operations_a_token(options),
        options.batch * options.train_len,
    )
    records = {}
    base = {kind: make(kind, "none", options) for kind in ("training", "evaluation")}
    for method in dict.fromkeys(["none", *options.methods]):
        record = records[method] = {}
        work = make("training", method, options)
        step = record["step"] = in_turn(base["training"], work, repeats, device)
        for key in ("base_s", "s"):
            step[key] = {name: value / options.steps for name, value in step[key].items()}
        record["tokens_per_s"] = tokens / step["s"]["median"]
        record["share"] = record["tokens_per_s"] * operations / rate
        del work
        clean()
        work = make("evaluation", method, options)
        record["first_pass_s"] = clock(work, device)
        record["evaluation"] = in_turn(base["evaluation"], work, repeats, device)
        del work
        clean()
        print(
            f"{method}: a step {step['s']['median']:.4f} s, {measure.times(step['ratio'])} x "
            "NoPE's; "
            f"{options.length:,} tokens {record['evaluation']['s']['median']:.4f} s, "
            f"{measure.times(record['evaluation']['ratio'])} x",
            flush=True,
        )
    del base
    clean()
    for method, record in records.items():
        record["step_bytes"], record["evaluation_bytes"] = (
            memory("training", method, options),
            memory("evaluation", method, options),
        )
    for method in [m for m in records if m in PLAIN and not options.no_plain]:
        records[method]["plain"] = against_plain(method, options)
        print(
            f"{method}, plain: "
            + ", ".join(
                f"{name} {value:.2f} x"
                for name, value in records[method]["plain"].items()
                if isinstance(value, float) and name != "difference"
            ),
            flush=True,
        )
    return {
        "sizes": {name: getattr(options, name) for name in SIZES["cuda"]},
        "device": device,
        "matrix_rate": rate,
        "operations_a_token": operations,
        "methods": records,
    }


def against_plain(method: str, options: argparse.Namespace) -> dict:
    """The plain form's time and memory over ours at ``plain_length`` tokens.

    Of SeqPE also for a training step.
    """
    length, device = options.plain_length, options.device
    result: dict = {"length": length}
    try:
        ours, plainly = (
            make("evaluation", method, options, length, side, compared=True)
            for side in (False, True)
        )
        result["difference"] = float((ours() - plainly()).abs().max())
        if result["difference"] > EQUAL[device]:
            raise RuntimeError(
                f"{method}: the logits of the two forms differ by {result['difference']:.3g}, "
                f"more than {EQUAL[device]}"
            )
        result["evaluation_time"] = in_turn(ours, plainly, options.repeats, device)["ratio"][
            "median"
        ]
        del ours, plainly
        result["evaluation_memory"] = memory(
            "evaluation", method, options, length, plainly=True
        ) / memory("evaluation", method, options, length)
        if method == "seqpe":
            ours, plainly = (
                make("training", method, options, 0, side, compared=True) for side in (False, True)
            )
            result["step_time"] = in_turn(ours, plainly, options.repeats, device)["ratio"]["median"]
    except torch.OutOfMemoryError:
        result["note"] = "out of memory"
    clean()
    return result


def table(result: dict) -> str:
    """One row a method."""
    records, mb = result["methods"], measure.MB
    of_plain = any("plain" in r for r in records.values())
    header = [
        "encoding",
        "step, ms",
        "x NoPE",
        "tokens/s",
        "of matrix rate",
        "MB",
        "x NoPE",
        f"{result['sizes']['length']:,} tokens, ms",
        "x NoPE",
        "first pass, ms",
        "MB",
        "x NoPE",
    ]
    rows = []
    for method, r in records.items():
        none = records["none"]
        row = [
            method,
            f"{1e3 * r['step']['s']['median']:.1f}",
            f"{r['step']['ratio']['median']:.2f}",
            f"{r['tokens_per_s']:,.0f}",
            f"{r['share']:.0%}",
            f"{r['step_bytes'] / mb:,.0f}",
            f"{r['step_bytes'] / none['step_bytes']:.2f}",
            f"{1e3 * r['evaluation']['s']['median']:.1f}",
            f"{r['evaluation']['ratio']['median']:.2f}",
            f"{1e3 * r['first_pass_s']:.1f}",
            f"{r['evaluation_bytes'] / mb:,.0f}",
            f"{r['evaluation_bytes'] / none['evaluation_bytes']:.2f}",
        ]
        if of_plain:
            p = r.get("plain", {})
            row += [
                f"{p[key]:.2f}" if key in p else p.get("note", "-")
                for key in ("step_time", "evaluation_time", "evaluation_memory")
            ]
        rows.append(row)
    if of_plain:
        header += ["plain: step x", f"{result['sizes']['plain_length']:,} tokens x", "memory x"]
    return measure.table(header, rows)


def verdicts(result: dict) -> list[bool]:
    """The bars, which are for GPT-2 small on a GPU."""
    if "seqpe" not in result["methods"] or result["device"] != "cuda":
        print("The bars are SeqPE's on a GPU: not judged here.")
        return []
    seqpe, none, length = (
        result["methods"]["seqpe"],
        result["methods"]["none"],
        result["sizes"]["length"],
    )
    share = seqpe["evaluation_bytes"] / none["evaluation_bytes"]
    return [
        measure.verdict(
            f"a step with both losses at most {STEP} x NoPE's: "
            f"{measure.times(seqpe['step']['ratio'])}",
            seqpe["step"]["ratio"]["median"] <= STEP,
        ),
        measure.verdict(
            f"at least {SHARE:.0%} of the measured matrix rate: {seqpe['share']:.1%}, "
            f"{seqpe['tokens_per_s']:,.0f} tokens/s",
            seqpe["share"] >= SHARE,
        ),
        measure.verdict(
            f"{length:,} tokens in at most {TIME} x NoPE's time: "
            f"{measure.times(seqpe['evaluation']['ratio'])}",
            seqpe["evaluation"]["ratio"]["median"] <= TIME,
        ),
        measure.verdict(f"and at most {MEMORY} x its memory: {share:.2f}", share <= MEMORY),
    ]


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = measure.parser(__doc__, repeats=3)
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default: %(default)s, here",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(COMPARED),
        choices=[*METHODS, "seqpe-no-losses"],
        metavar="METHOD",
        help="default: " + " ".join(COMPARED),
    )
    for name, value in SIZES["cuda"].items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            help=f"default {value:,}, on a CPU {SIZES['cpu'][name]:,}",
        )
    parser.add_argument("--no-plain", action="store_true", help="leave the plain forms out")
    parser.add_argument("--child", choices=("training", "evaluation"), help=argparse.SUPPRESS)
    parser.add_argument("--child-length", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child-plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name, value in SIZES[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.plain_length = min(options.plain_length, options.length)
    return options


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options)))
        return
    result = run(options)
    sizes = result["sizes"]
    print(
        f"\nGPT-2 of {sizes['layers']} layers of {sizes['d_model']}, {sizes['heads']} heads, "
        f"vocabulary {sizes['vocabulary']:,}; steps of {sizes['batch']} x {sizes['train_len']} "
        "tokens; "
        f"{'bf16' if result['device'] == 'cuda' else 'float32'}; one product of "
        f"{sizes['matrix']:,} x {sizes['matrix']:,} matrices: "
        f"{result['matrix_rate'] / 1e12:.3g} TFLOP/s; "
        f"{result['operations_a_token'] / 1e9:.3g} GFLOP a token\n"
    )
    print(table(result) + "\n")
    measure.finish(result, options.json, verdicts(result), options.device)


if __name__ == "__main__":
    main()
