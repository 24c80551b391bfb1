"""ViT-S with SeqPE mul against timm's own ViT-S, forward, at 224 and 672 pixels: time and memory.

Both sides have timm's vit_small_patch16_224 (float32, evaluation mode, no gradient), the same
images, and each is a process of its own. timm's resamples its learned table in every pass; ours
encodes its positions in the first pass and reads them from the cached table afterwards.
"""

from __future__ import annotations

import json

import timm
import torch

from seqpe_lab.models.vit import ViT, ViTConfig

from . import measure

SIZES, BATCH = (224, 672), 4
AT_MOST = 1.15


@torch.no_grad()
def child(side: str, size: int, passes: int) -> dict:
    """Measure one side at one size."""
    torch.manual_seed(0)
    if side == "timm":
        model = timm.create_model("vit_small_patch16_224", dynamic_img_size=True).eval()
    else:
        model = ViT(
            ViTConfig(
                encoding_options={"integration": "mul", "shared_projection": False, "digits": 2}
            )
        ).eval()
    images = torch.randn(BATCH, 3, size, size)
    model(images)
    return {
        "seconds": [measure.clock(lambda: model(images)) for _ in range(passes)],
        "peak": measure.peak(),
        "above": measure.peak(),
    }


def main() -> None:
    parser = measure.parser(__doc__, repeats=3)
    parser.add_argument(
        "--child", choices=("timm", "ours"), help="measure one side only, in this process"
    )
    parser.add_argument("--size", type=int, default=SIZES[0])
    parser.add_argument(
        "--passes", type=int, default=3, help="timed passes a process (default %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options.child, options.size, options.passes)))
        return
    numbers, bars = {}, []
    for size in SIZES:
        sides = {"timm": [], "ours": []}
        for _ in range(options.repeats):
            for side, results in sides.items():
                results.append(
                    measure.in_fresh_process(
                        "benchmarks.vision",
                        "--child",
                        side,
                        "--size",
                        size,
                        "--passes",
                        options.passes,
                    )
                )
        time = measure.compare(
            *([t for r in results for t in r["seconds"]] for results in sides.values())
        )
        memory = measure.compare_memory(*sides.values())
        slower, share = 1 / time["wall"]["faster"]["median"], memory["peak"]["share"]["median"]
        print(
            f"{size} pixels, batch {BATCH}: timm {time['wall']['plain_s']:.2f} s, "
            f"{memory['peak']['plain_mb']:,.0f} MB; ours takes {slower:.2f} of the time and "
            f"{share:.2f} of the memory"
        )
        bars += [
            measure.verdict(f"at {size} pixels at most {AT_MOST} x the time", slower <= AT_MOST),
            measure.verdict(f"and at most {AT_MOST} x the memory", share <= AT_MOST),
        ]
        numbers[size] = {"time": time, "memory": memory}
    measure.finish(numbers, options.json, bars)


if __name__ == "__main__":
    main()
