"""The position encoder: every prefix once (a radix tree) against every sequence whole.

Both sides are the same ``PositionEncoder`` with the same weights (d=768, k=5 digits, 2 layers of
12 heads, or a GRU), once with ``share_prefixes=True`` and once with ``False``; both encode 4,096
distinct positions in one call, so neither gains from duplicates. The vectors, and with a backward
pass the gradients, must agree to 1e-5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.encoder import PositionEncoder

from . import measure

COUNT, D_MODEL, DIGITS, HEADS = 4_096, 768, 5, 12
FASTER, EQUAL = 2.3, 1e-5


def positions(kind: str) -> Tensor:
    """COUNT positions: consecutive, or drawn without replacement from all of 5 digits."""
    if kind == "consecutive":
        return torch.arange(COUNT).unsqueeze(-1)
    return torch.randperm(10**DIGITS, generator=torch.Generator().manual_seed(0))[:COUNT].unsqueeze(
        -1
    )


def measure_case(architecture: str, kind: str, backward: bool, repeats: int) -> dict:
    """Time both sides and compare what they compute."""
    sides = []
    for share in (False, True):
        torch.manual_seed(0)
        sides.append(
            PositionEncoder(
                D_MODEL, digits=DIGITS, heads=HEADS, architecture=architecture, share_prefixes=share
            )
        )
    where = positions(kind)
    weight = (
        torch.randn(COUNT, D_MODEL, generator=torch.Generator().manual_seed(1)) / COUNT
    )  # an arbitrary loss: a weighted sum

    def run(encoder: PositionEncoder) -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            vectors = encoder(where)
        if not backward:
            return [vectors]
        return [
            vectors.detach(),
            *torch.autograd.grad((vectors * weight).sum(), list(encoder.parameters())),
        ]

    difference = max(float((a - b).abs().max()) for a, b in zip(*map(run, sides)))
    result = measure.alternate(lambda: run(sides[0]), lambda: run(sides[1]), repeats)
    return {
        "architecture": architecture,
        "positions": kind,
        "backward": backward,
        "largest_difference": difference,
        **result,
    }


def main() -> None:
    parser = measure.parser(__doc__, repeats=3)
    parser.add_argument(
        "--all",
        action="store_true",
        help="random positions, a backward pass and a GRU too: some ten minutes on two cores",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = [("transformer", "consecutive", False)]
    if options.all:
        wanted = [
            (a, kind, backward)
            for a in ("transformer", "gru")
            for backward in (False, True)
            for kind in ("consecutive", "random")
        ]
    cases = []
    print(f"{COUNT:,} positions, each sequence whole against each prefix once")
    for architecture, kind, backward in wanted:
        c = measure_case(architecture, kind, backward, options.repeats)
        cases.append(c)
        print(
            f"{architecture}, {kind}, {'forward and backward' if backward else 'no gradient'}: "
            f"{c['wall']['plain_s']:.2f} s against {c['wall']['ours_s']:.2f} s, "
            f"{measure.times(c['wall']['faster'])} x faster, "
            f"{measure.times(c['cpu']['faster'])} x in CPU time; largest difference "
            f"{c['largest_difference']:.1e}",
            flush=True,
        )
    bars = [
        measure.verdict(
            f"at least {FASTER} x faster on consecutive positions without gradient",
            cases[0]["wall"]["faster"]["median"] >= FASTER,
        ),
        measure.verdict(
            f"everywhere equal to {EQUAL:g}", max(c["largest_difference"] for c in cases) <= EQUAL
        ),
    ]
    measure.finish({"cases": cases}, options.json, bars)


if __name__ == "__main__":
    main()
