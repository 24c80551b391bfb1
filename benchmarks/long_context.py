"""Reading a long context: memory that grows linearly, against the L x L form written plainly.

Both sides: GPT-2 small with SeqPE's bias (12 layers of 768, 12 heads, float32), one sequence, no
gradient, evaluation mode. The vocabulary is 256 on both sides, so that the logits (1.6 GB at
8,192 tokens of 50,257 words, whatever the attention) do not hide what is compared. The library
encodes its position table in the first pass and reads it afterwards, so both its first and its
second pass are shown; the plain side encodes every position in every pass, and how long that takes
is shown apart, since a table would spare it that. Every measurement is a process of its own.
"""

from __future__ import annotations

import json

import torch

from seqpe_lab.models.gpt2 import GPT2, GPT2Config

from . import measure, plain

LENGTHS = (2_048, 4_096, 8_192, 16_384)
COMPARED = 8_192
ENCODINGS = ("none", "rope", "alibi")
FASTER, MEMORY, LINEAR, EQUAL = 5.0, 0.2, 2.2, 1e-4


@torch.no_grad()
def child(side: str, encoding: str, length: int) -> dict:
    """Measure one side at one length."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=256, encoding=encoding)).eval()
    tokens = torch.randint(256, (1, length), generator=torch.Generator().manual_seed(1))
    encoder_time = None

    def run(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal encoder_time
        if side == "ours":
            return model(tokens)
        vectors = []
        positions = torch.arange(tokens.shape[1]).unsqueeze(-1)
        encoder_time = measure.clock(
            lambda: vectors.append(plain.encode(model.encoding.encoder, positions))
        )
        return plain.logits(model, tokens, vectors[0])

    run(tokens[:, :16])  # threads start, kernels load
    before = measure.resident()
    output = []
    passes = [measure.clock(lambda: output.append(run(tokens)[0, -1].tolist()))]
    if side == "ours":
        passes.append(measure.clock(lambda: run(tokens)))
    return {
        "passes": passes,
        "encoder": encoder_time,
        "output": output[0],
        "peak": measure.peak(),
        "above": measure.peak() - before,
    }


def in_fresh_process(side: str, encoding: str, length: int) -> dict:
    return measure.in_fresh_process(
        "benchmarks.long_context", "--child", side, "--encoding", encoding, "--length", length
    )


def against_plain(length: int, repeats: int) -> dict:
    """Both sides in turn: our later passes, our first, and the plain side without its encoder."""
    rounds = [
        (in_fresh_process("plain", "seqpe", length), in_fresh_process("ours", "seqpe", length))
        for _ in range(repeats)
    ]
    plain_side, ours = zip(*rounds)
    difference = max(abs(a - b) for a, b in zip(plain_side[0]["output"], ours[0]["output"]))
    assert difference < EQUAL, f"the two sides differ by {difference:.1e}"
    whole, first, later = (
        [p["passes"][0] for p in plain_side],
        [o["passes"][0] for o in ours],
        [o["passes"][1] for o in ours],
    )
    without = [tuple(t - e for t, e in zip(p["passes"][0], p["encoder"])) for p in plain_side]
    return {
        "length": length,
        "difference": difference,
        "later_pass": measure.compare(whole, later),
        "first_pass": measure.compare(whole, first),
        "plain_without_encoder": measure.compare(without, later),
        "memory": measure.compare_memory(plain_side, ours),
    }


def main() -> None:
    parser = measure.parser(__doc__, repeats=1)
    parser.add_argument(
        "--child", choices=("plain", "ours"), help="measure one side only, in this process"
    )
    parser.add_argument("--encoding", default="seqpe", help="of the child (default %(default)s)")
    parser.add_argument(
        "--length",
        type=int,
        default=COMPARED,
        help="tokens of the comparison (default %(default)s)",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child, options.encoding, options.length)))
        return

    alone = {
        case: in_fresh_process("ours", *case)
        for case in [("seqpe", length) for length in LENGTHS] + [(e, COMPARED) for e in ENCODINGS]
    }
    above = [alone["seqpe", length]["above"] for length in LENGTHS]
    growth = [b / a for a, b in zip(above, above[1:])]
    rows = [
        [
            e,
            f"{length:,}",
            f"{m['passes'][0][0]:.1f}",
            f"{m['passes'][1][0]:.1f}",
            f"{m['peak'] / measure.MB:,.0f}",
            f"{m['above'] / measure.MB:,.0f}",
        ]
        for (e, length), m in alone.items()
    ]
    print(
        measure.table(
            ["ours", "tokens", "first pass, s", "later, s", "peak, MB", "above the model, MB"], rows
        )
    )
    print(
        "seqpe's memory above the model grows, per doubling of the length, by "
        + ", ".join(f"{g:.2f}" for g in growth)
        + "\n"
    )

    both = against_plain(options.length, options.repeats)
    print(
        measure.two_sided(
            f"seqpe, {options.length:,} tokens", "a pass", both["later_pass"], both["memory"]
        )
    )
    print(
        "with the first pass, which builds the table: "
        f"{measure.times(both['first_pass']['wall']['faster'])} x faster; "
        "against the plain form without its encoder: "
        f"{measure.times(both['plain_without_encoder']['wall']['faster'])} x"
    )
    print(f"logits agree to {both['difference']:.1e}\n")
    bars = [
        measure.verdict(
            f"at least {FASTER:g} x faster",
            both["later_pass"]["wall"]["faster"]["median"] >= FASTER,
        ),
        measure.verdict(
            f"at most {MEMORY:g} of the memory above the model",
            both["memory"]["above"]["share"]["median"] <= MEMORY,
        ),
        measure.verdict(f"linear: at most x {LINEAR:g} per doubling", max(growth) <= LINEAR),
    ]
    numbers = [
        {"encoding": e, "length": length} | {key: m[key] for key in ("passes", "peak", "above")}
        for (e, length), m in alone.items()
    ]
    measure.finish({"alone": numbers, "growth": growth, "against_plain": both}, options.json, bars)


if __name__ == "__main__":
    main()
