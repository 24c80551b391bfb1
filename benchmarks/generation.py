"""Greedy generation: keys and values kept, against reading the whole context again for every token.

Both sides are ``GPT2.generate`` of the same model, with and without its cache; they must give the
same tokens, for every encoding and from a shifted start too.
"""

from __future__ import annotations

import torch

from seqpe_lab.models.gpt2 import GPT2, GPT2Config

from . import measure

METHODS = {"none": {}, "sinusoidal": {}, "learned": {}, "rope": {}, "alibi": {}, "seqpe": {}}
FASTER = 8.0


def measure_case(encoding: str, options) -> dict:
    """Time both sides from position 0 and from a shifted start, and compare their tokens."""
    torch.manual_seed(0)
    reach = options.length + options.new + options.shift
    model = GPT2(
        GPT2Config(
            options.vocabulary,
            options.d_model,
            options.layers,
            options.heads,
            train_len=min(512, options.length),
            max_position=reach,
            dropout=0.0,
            encoding=encoding,
            encoding_options=METHODS[encoding],
        )
    ).eval()
    with torch.no_grad():  # as they start, all weights are so small that every context looks alike
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    tokens = torch.randint(
        options.vocabulary, (1, options.length), generator=torch.Generator().manual_seed(1)
    )
    same = all(
        torch.equal(
            *(
                model.generate(tokens, options.new, start=start, use_cache=cached)
                for cached in (False, True)
            )
        )
        for start in (0, options.shift)
    )
    result = measure.alternate(
        lambda: model.generate(tokens, options.new, use_cache=False),
        lambda: model.generate(tokens, options.new),
        options.repeats,
    )
    return {"encoding": encoding, "same_tokens": same, **result}


def main(arguments: list[str] | None = None) -> None:
    parser = measure.parser(__doc__, repeats=2)
    for name, value in (
        ("length", 2_048),
        ("new", 16),
        ("shift", 37),
        ("d-model", 256),
        ("layers", 4),
        ("heads", 8),
        ("vocabulary", 1_024),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(
        f"{options.length:,} tokens of context, {options.new} new ones: everything again "
        "against the cache"
    )
    cases = []
    for encoding in METHODS:
        c = measure_case(encoding, options)
        cases.append(c)
        print(
            f"{encoding:<10} {c['wall']['plain_s']:.2f} s against {c['wall']['ours_s']:.2f} s, "
            f"{measure.times(c['wall']['faster'])} x faster; "
            + (
                "the same tokens, also from a shifted start" if c["same_tokens"] else "OTHER TOKENS"
            ),
            flush=True,
        )
    bars = [
        measure.verdict(
            f"at least {FASTER:g} x faster with every encoding",
            min(c["wall"]["faster"]["median"] for c in cases) >= FASTER,
        ),
        measure.verdict("the same tokens", all(c["same_tokens"] for c in cases)),
    ]
    measure.finish({"cases": cases}, options.json, bars)


if __name__ == "__main__":
    main()
