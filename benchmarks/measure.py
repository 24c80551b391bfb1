"""Two sides of a comparison, measured fairly on a machine that also does other things.

Times are taken alternating, A B A B, and compared pair by pair: what disturbs the machine for a
minute disturbs both. The medians of the ratios count, their spread is shown. CPU seconds stand
beside wall seconds, because waiting for a busy core is not work.

Memory is the peak resident memory of a process of its own, since it never falls again in one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.provenance import provenance

MB = 1e6


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Run once: (wall seconds, CPU seconds of all threads)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def alternate(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> dict:
    """Time two functions in turn, after one unmeasured call each."""
    plain(), ours()
    pairs = [(clock(plain), clock(ours)) for _ in range(repeats)]
    return compare([p for p, _ in pairs], [o for _, o in pairs])


def compare(plain: list[tuple[float, float]], ours: list[tuple[float, float]]) -> dict:
    """Times (wall, CPU) of each round -> medians, and by how much the second is faster."""
    summary = {}
    for i, kind in enumerate(("wall", "cpu")):
        p, o = [t[i] for t in plain], [t[i] for t in ours]
        summary[kind] = {
            "plain_s": statistics.median(p),
            "ours_s": statistics.median(o),
            "faster": spread([a / b for a, b in zip(p, o)]),
        }
    return summary | {"rounds": len(plain)}


def compare_memory(plain: list[dict], ours: list[dict]) -> dict:
    """Medians, in MB, of "peak" and "above" (bytes), and our share of the plain form's."""
    summary = {}
    for kind in ("peak", "above"):
        p, o = [r[kind] / MB for r in plain], [r[kind] / MB for r in ours]
        summary[kind] = {
            "plain_mb": statistics.median(p),
            "ours_mb": statistics.median(o),
            "share": spread([b / a for a, b in zip(p, o)]),
        }
    return summary


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def resident() -> int:
    """Bytes of memory this process holds now."""
    return psutil.Process().memory_info().rss


def peak() -> int:
    """The most bytes of memory this process has ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(module: str, *arguments: object) -> dict:
    """Run ``python -m module --child ...`` and read the JSON of its last line."""
    # glibc raises this threshold as it goes, to 32 MB, and from then on holds on to freed tensors,
    # how many is chance: fixed, the peak is what is in use
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [
        sys.executable,
        "-m",
        module,
        *(str(a) for a in arguments),
        "--threads",
        str(torch.get_num_threads()),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def parser(description: str, repeats: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--repeats", type=int, default=repeats, help="rounds of A B (default %(default)s)"
    )
    result.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="of torch (default %(default)s)",
    )
    result.add_argument(
        "--json", type=Path, metavar="FILE", help="write the numbers with their provenance"
    )
    return result


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned, the first to the left."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths))
        )
        for line in [header, *rows]
    )


def two_sided(
    title: str, unit: str, time: dict, memory: dict, above: str = "above the model"
) -> str:
    """The table of one comparison."""
    rows = [
        [
            f"{kind} s {unit}",
            f"{time[key]['plain_s']:.2f}",
            f"{time[key]['ours_s']:.2f}",
            times(time[key]["faster"]) + " x faster",
        ]
        for key, kind in (("wall", "wall"), ("cpu", "CPU"))
    ]
    rows += [
        [
            f"{name}, MB",
            f"{memory[key]['plain_mb']:,.0f}",
            f"{memory[key]['ours_mb']:,.0f}",
            times(memory[key]["share"]) + " of it",
        ]
        for key, name in (("peak", "peak of the process"), ("above", above))
    ]
    return table([title, "plain", "ours", "ours against plain"], rows)


def times(ratio: dict) -> str:
    """A ratio with its spread: "2.61 (2.4-2.8)"."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def verdict(claim: str, holds: bool) -> bool:
    print(f"{'met   ' if holds else 'MISSED'}  {claim}")
    return holds


def finish(numbers: dict, file: Path | None, bars: list[bool], device: str = "cpu") -> None:
    """Write the numbers and leave with 1 if a bar was missed."""
    if file:
        write_atomically(
            file, json.dumps(numbers | {"bars_met": bars, **provenance(device)}, indent=1)
        )
    sys.exit(0 if all(bars) else 1)


class Findings:
    """What a stage of a measurement finds: a printed line each, and at once in a file.

    So a stage that is ended or breaks off loses nothing that it has found.

    Args:
        file: JSON, written anew with each finding.
    """

    def __init__(self, file: Path):
        self.file, self.values = Path(file), {}

    def __setitem__(self, name: str, value: object) -> None:
        self.values[name] = value
        write_atomically(self.file, json.dumps(self.values, indent=1))
        print(f"    {name}: {in_short(value)}", flush=True)

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """An error inside becomes a finding of that name, and the stage goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc(limit=-4)
            self[name] = failure(error)
        gc.collect()


def failure(error: BaseException) -> str:
    """An error in one line."""
    return f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def in_short(value: object) -> str:
    """A finding in one line, numbers with four digits.

    >>> in_short({"ms": {"median": 57.12345, "min": 56.9, "max": 58.0}, "GB": 18.0361})
    'ms 57.12 (56.9-58), GB 18.04'
    """
    if isinstance(value, dict):
        if value.keys() == {"median", "min", "max"}:
            return "{median:.4g} ({min:.4g}-{max:.4g})".format(**value)
        return ", ".join(f"{name} {in_short(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(in_short, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
