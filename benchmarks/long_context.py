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
FASTER, MEMORY, LINEAR = 5.0, 0.2, 2.2


@torch.no_grad()
def child(side: str, encoding: str, length: int) -> dict:
    """Measure one side at one length."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=256, encoding=encoding)).eval()
    tokens = torch.randint(256, (1, length), generator=torch.Generator().manual_seed(1))
    encoding_times = []

    def run(tokens: torch.Tensor) -> torch.Tensor:
        if side == "ours":
            return model(tokens)
        vectors = []
        encoding_times.append(measure.clock(lambda: vectors.append(plain.encode(model.encoding.encoder, torch.arange(tokens.shape[1])))))
        return plain.logits(model, tokens, vectors[0])

    run(tokens[:, :16])  # threads start, kernels load
    before = measure.resident()
    output = []
    passes = [measure.clock(lambda: output.append(run(tokens)[0, -1].tolist()))]
    if side == "ours":
        passes.append(measure.clock(lambda: run(tokens)))
    return {"passes": passes, "encoding": encoding_times[-1:], "output": output[0], "peak": measure.peak(), "above_model": measure.peak() - before}


def in_fresh_process(side: str, encoding: str, length: int) -> dict:
    return measure.in_fresh_process("benchmarks.long_context", "--child", side, "--encoding", encoding, "--length", length)


def against_plain(length: int, repeats: int) -> dict:
    """Both sides in turn, with the library's first pass, its later ones, and without the plain side's encoder."""
    rounds = [(in_fresh_process("plain", "seqpe", length), in_fresh_process("ours", "seqpe", length)) for _ in range(repeats)]
    difference = max(abs(a - b) for a, b in zip(rounds[0][0]["output"], rounds[0][1]["output"]))
    assert difference < 1e-4, f"the two sides differ by {difference:.1e}"
    whole = [a["passes"][0] for a, _ in rounds]
    attention = [tuple(t - e for t, e in zip(a["passes"][0], a["encoding"][0])) for a, _ in rounds]
    result = {"length": length, "difference": difference,
              "later_pass": measure.compare(whole, [b["passes"][1] for _, b in rounds]),
              "first_pass": measure.compare(whole, [b["passes"][0] for _, b in rounds]),
              "without_encoder": measure.compare(attention, [b["passes"][1] for _, b in rounds])}
    for kind in ("peak", "above_model"):
        a, b = [r[0][kind] for r in rounds], [r[1][kind] for r in rounds]
        result[kind] = {"plain_mb": measure.spread(a)["median"] / measure.MB, "ours_mb": measure.spread(b)["median"] / measure.MB,
                        "share": measure.spread([y / x for x, y in zip(a, b)])}
    return result


def main() -> None:
    parser = measure.parser(__doc__, repeats=3)
    parser.add_argument("--child", choices=("plain", "ours"), help="measure one side only, in this process")
    parser.add_argument("--encoding", default="seqpe")
    parser.add_argument("--length", type=int, default=COMPARED, help="tokens of the comparison (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child, options.encoding, options.length)))
        return

    alone = {name: in_fresh_process("ours", *name) for name in [("seqpe", length) for length in LENGTHS] + [(e, COMPARED) for e in ENCODINGS]}
    growth = [alone["seqpe", b]["above_model"] / alone["seqpe", a]["above_model"] for a, b in zip(LENGTHS, LENGTHS[1:])]
    rows = [[e, f"{length:,}", f"{m['passes'][0][0]:.1f}", f"{m['passes'][1][0]:.1f}", f"{m['peak'] / measure.MB:,.0f}", f"{m['above_model'] / measure.MB:,.0f}"]
            for (e, length), m in alone.items()]
    print(measure.table(["encoding", "tokens", "first pass, s", "later, s", "peak, MB", "above the model, MB"], rows))
    print("memory above the model, per doubling of the length: " + ", ".join(f"{g:.2f}" for g in growth) + "\n")

    both = against_plain(options.length, options.repeats)
    rows = [[label, f"{t['wall']['plain_s']:.1f}", f"{t['wall']['ours_s']:.1f}", measure.times(t["wall"]["faster"]) + f" x faster, {t['cpu']['faster']['median']:.2f} in CPU time"]
            for label, t in (("seconds a pass", both["later_pass"]), ("... ours with building its table", both["first_pass"]),
                             ("... plain without its encoder", both["without_encoder"]))]
    rows += [[label, f"{m['plain_mb']:,.0f}", f"{m['ours_mb']:,.0f}", measure.times(m["share"]) + " of it"]
             for label, m in (("peak memory, MB", both["peak"]), ("above the model, MB", both["above_model"]))]
    print(measure.table([f"seqpe at {options.length:,} tokens", "plain", "ours", "ours against plain"], rows))
    print(f"logits agree to {both['difference']:.1e}")
    bars = [measure.verdict(f"at least {FASTER:g} x faster", both["later_pass"]["wall"]["faster"]["median"] >= FASTER),
            measure.verdict(f"at most {MEMORY:g} of the memory above the model", both["above_model"]["share"]["median"] <= MEMORY),
            measure.verdict(f"linear: at most x {LINEAR:g} per doubling", max(growth) <= LINEAR)]
    numbers = {"alone": [{"encoding": e, "length": length} | {k: v for k, v in m.items() if k != "output"} for (e, length), m in alone.items()],
               "growth": growth, "against_plain": both}
    measure.finish(numbers, options.json, bars)


if __name__ == "__main__":
    main()
