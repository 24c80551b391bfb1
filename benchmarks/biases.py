"""Encodings with a bias: memory that grows linearly, against the L x L matrix of biases.

Both sides: one causal attention layer with 2 heads of 32, one sequence, float32, forward and
backward. The library adds the bias for a block of queries at a time and computes it again in the
backward pass; the explicit side keeps the whole matrix. FoX, which needs no bias, is there for
comparison. Memory is that of a process of its own, above what it holds before the pass.
"""

from __future__ import annotations

import json
from functools import partial

import torch

from seqpe_lab.attention import positioned_attention, prepare
from seqpe_lab.encodings import make_encoding

from . import measure

NAMES = (
    "t5 kerple-log kerple-power fire sandwich alibi-euclidean swin swin-v2 shaw deberta cope fox"
).split()
SHORT, LONG, COMPARED = 2_048, 16_384, 4_096
HEADS, D_HEAD = 2, 32
LINEAR, SLOWER, EQUAL = 1.3 * LONG / SHORT, 1.5, 1e-5


def inputs(length: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, length, HEADS * D_HEAD, generator=generator)
    return [x, *torch.randn(3, 1, HEADS, length, D_HEAD, generator=generator).requires_grad_()]


def encoding_of(name: str):
    torch.manual_seed(0)
    return make_encoding(name, d_model=HEADS * D_HEAD, heads=HEADS, layers=1, train_shape=SHORT)


def ours(encoding, x, q, k, v) -> torch.Tensor:
    prepared = prepare(encoding, torch.arange(x.shape[1]).unsqueeze(-1))
    out, _ = positioned_attention(encoding, prepared, 0, x, q, k, v)
    out.square().mean().backward()
    return out.detach()


def explicit(encoding, x, q, k, v) -> torch.Tensor:
    positions = torch.arange(x.shape[1]).unsqueeze(-1)
    allowed = torch.ones(len(positions), len(positions), dtype=torch.bool).tril()
    prepared = encoding.at_layer(encoding.prepare(positions), x, 0)
    q, k = encoding.transform(q, k, prepared, 0)
    scores = q @ k.transpose(-1, -2) / D_HEAD**0.5
    if encoding.adds_bias:
        scores = scores + encoding.content_bias(q, k, positions, positions, allowed, 0)
    out = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
    out.square().mean().backward()
    return out.detach()


def child(name: str, length: int) -> dict:
    """Memory of our side at one length."""
    encoding = encoding_of(name)
    ours(encoding, *inputs(16))  # threads start, modules load
    before = measure.resident()
    ours(encoding, *inputs(length))
    return {"above": measure.peak() - before}


def main() -> None:
    parser = measure.parser(__doc__, repeats=2)
    parser.add_argument("--child", nargs=2, metavar=("NAME", "TOKENS"), help="memory, this process")
    parser.add_argument("--names", nargs="+", default=NAMES, help="encodings (default all)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child[0], int(options.child[1]))))
        return
    rows, numbers = [], {}
    # memory first: a process that this one starts counts what this one holds as its own
    memories = {
        name: [
            measure.in_fresh_process("benchmarks.biases", "--child", name, length)["above"]
            for length in (SHORT, LONG)
        ]
        for name in options.names
    }
    for name, memory in memories.items():
        encoding, given = encoding_of(name), inputs(COMPARED)
        difference = (ours(encoding, *given) - explicit(encoding, *given)).abs().max().item()
        assert difference < EQUAL, f"{name}: the two sides differ by {difference:.1e}"
        time = measure.alternate(
            partial(explicit, encoding, *given), partial(ours, encoding, *given), options.repeats
        )["cpu"]
        numbers[name] = {
            "difference": difference,
            "time": time,
            "slower": 1 / time["faster"]["median"],
            "memory": memory,
            "growth": memory[1] / memory[0],
        }
        rows.append(
            [
                name,
                f"{time['plain_s']:.2f}",
                f"{time['ours_s']:.2f}",
                f"{numbers[name]['slower']:.2f}",
                *(f"{m / measure.MB:,.0f}" for m in memory),
                f"{numbers[name]['growth']:.1f}",
            ]
        )
        print(" ".join(rows[-1]), flush=True)
    head = ["", "explicit, CPU s", "blocks", "ratio", f"MB at {SHORT:,}", f"at {LONG:,}", "ratio"]
    print(measure.table(head, rows))
    bars = [
        measure.verdict(
            f"at most {SLOWER:g} x the explicit form's time at {COMPARED:,} tokens",
            max(n["slower"] for n in numbers.values()) <= SLOWER,
        ),
        measure.verdict(
            f"linear: memory grows at most x {LINEAR:g} from {SHORT:,} to {LONG:,} tokens",
            max(n["growth"] for n in numbers.values()) <= LINEAR,
        ),
    ]
    measure.finish(numbers, options.json, bars)


if __name__ == "__main__":
    main()
