"""Everything that only a GPU can show, in ten minutes.

    python -m benchmarks.gpu OUT                                    # all stages
    python -m benchmarks.gpu OUT --only step-time long-context      # some
    python -m benchmarks.gpu OUT --then-medium prepared/lm.npz --minutes 20

Each stage runs in a process of its own, with a time limit: an error, even one that leaves the
device unusable, or a stage that never ends does not stop the others. When the whole time is over,
the stages that are left are skipped. OUT/found.json is written after every stage; a line is printed
for every finding, and at the end a table of the bars. Step times are of GPT-2 small with
micro-batches of 32 sequences, taken by the training loop itself. The exit status is 1 if a bar is
missed, and after --then-medium that of the medium runs.

On a pretended device, which computes nothing, all stages run through, but speed and values are not
judged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from seqpe_lab.atomic_files import write_atomically

from . import gpu_evaluation, gpu_training, measure
from .gpu_training import Sizes

SMOKE = dict(layers=2, matrix=512, warm=1, blocks=2, workers=(0, 2))
MEDIUM = ("none", "rope-1e4", "alibi", "seqpe")
SHARE, MEMORY, ERROR = "of matrix rate", "GB, x NoPE", "error / spread"  # names of findings


class Stage(NamedTuple):
    name: str
    work: Callable[[measure.Findings, Sizes], None]
    limit: float  # seconds


STAGES = (
    Stage("versions", gpu_training.versions, 60),
    Stage("gpu-tests", gpu_training.gpu_tests, 160),
    Stage("step-time", gpu_training.step_times, 180),
    Stage("where-a-step-goes", gpu_training.where_a_step_goes, 60),
    Stage("output-layer", gpu_evaluation.output_layer, 30),
    Stage("precision", gpu_evaluation.precision, 60),
    Stage("long-context", gpu_evaluation.long_context, 90),
    Stage("resume", gpu_evaluation.resume, 120),
    Stage("images", gpu_evaluation.images, 150),
    Stage("compile", gpu_training.compiled, 180),
)


# --- running the stages ------------------------------------------------------------------------


def attempt(stage: Stage, sizes: Sizes, file: Path, start_method: str) -> None:
    """The stage in its own process: what it finds is in ``file``, an error under "error".

    Loading processes are started as in any program, not as this process was: that takes seconds.
    """
    multiprocessing.set_start_method(start_method, force=True)
    os.setsid()  # with the processes that it starts it can be ended as a group
    found = measure.Findings(file)
    try:
        if sizes.pretended:  # cuDNN is not pretended
            torch.backends.cudnn.enabled = False
            torch.backends.cuda.enable_cudnn_sdp(False)
        stage.work(found, sizes)
    except Exception as error:
        traceback.print_exc(limit=-6)
        found["error"] = measure.failure(error)


def run_stage(stage: Stage, sizes: Sizes, seconds: float, method: str = "forkserver") -> dict:
    """One stage, ended after ``seconds``.

    Args:
        method: how multiprocessing starts the process.

    Returns:
        "state": "finished", "failed" (by its own error or with the process), or "out of time";
        "seconds" that it took; "found": what it had found by then.
    """
    context, usual = multiprocessing.get_context(method), multiprocessing.get_start_method()
    if method == "forkserver":  # what takes seconds to import is imported once
        context.set_forkserver_preload([gpu_training.__name__, gpu_evaluation.__name__])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        process = context.Process(target=attempt, args=(stage, sizes, file, usual))
        process.start()
        process.join(seconds)
        state = "out of time" if process.is_alive() else "finished"
        with contextlib.suppress(ProcessLookupError):  # none is left
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if state == "finished" and process.exitcode:
        found["error"] = f"FAILED: the process ended with status {process.exitcode}"
    if "error" in found:
        state = "failed"
    return {"state": state, "seconds": round(time.monotonic() - began, 1), "found": found}


def run_all(stages: list[Stage], sizes: Sizes, minutes: float, **options) -> dict[str, dict]:
    """All stages one after the other; {name: as :func:`run_stage` returns it}.

    A stage for which less than ten seconds of all ``minutes`` are left is skipped.
    """
    deadline, records = time.monotonic() + 60 * minutes, {}
    for stage in stages:
        left = min(stage.limit, deadline - time.monotonic())
        print(f"{stage.name}", flush=True)
        records[stage.name] = (
            run_stage(stage, sizes, left, **options)
            if left >= 10
            else {"state": "skipped", "seconds": 0.0, "found": {}}
        )
        print("    {state}, {seconds:.0f} s".format(**records[stage.name]), flush=True)
        write_atomically(sizes.out / "found.json", json.dumps({"stages": records}, indent=1))
    return records


# --- the bars ----------------------------------------------------------------------------------


class Bar(NamedTuple):
    """``value`` is to be at most (sign "<=") or at least (">=") the limit; None: not measured."""

    claim: str
    sign: str
    limit: float
    value: float | None

    @property
    def verdict(self) -> str:
        if self.value is None or self.value != self.value:
            return "not measured"
        holds = self.value <= self.limit if self.sign == "<=" else self.value >= self.limit
        return "met" if holds else "MISSED"


def bars(records: dict[str, dict], pretended: bool = False) -> list[Bar]:
    """What the findings say about each bar."""

    def get(stage: str, *names: str) -> float | None:
        value = records.get(stage, {}).get("found", {})
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return None if value is None or isinstance(value, str) else float(value)

    def real(*path: str) -> float | None:
        return None if pretended else get(*path)

    def over(stage: str, name: str, *key: str, base: str = "none") -> float | None:
        first, second = get(stage, name, *key), get(stage, base, *key)
        return first / second if first and second else None

    where, long, seqpe, alibi = "where-a-step-goes", "long-context", "seqpe, bf16", "alibi, bf16"
    kernels = over(where, "seqpe, a step", "kernels", base="none, a step")
    copies = get(where, "seqpe, a step", "blocking copies")
    status = real("gpu-tests", "status")
    return [
        Bar("tests/test_gpu.py: exit status", "<=", 0, status),
        Bar("SeqPE's step over NoPE's, ms", "<=", 1.10, real("step-time", "seqpe", "x NoPE")),
        Bar("NoPE's share of the matrix rate", ">=", 0.40, real("step-time", "none", SHARE)),
        Bar("SeqPE's share of the matrix rate", ">=", 0.40, real("step-time", "seqpe", SHARE)),
        Bar("SeqPE's kernels a step over NoPE's", "<=", 1.5, kernels),
        Bar("SeqPE's blocking copies a step", "<=", 1, copies),
        Bar("ALiBi's memory in training over NoPE's", "<=", 1.2, over("step-time", "alibi", "GB")),
        Bar("ALiBi's memory at 16,384 over NoPE's", "<=", 1.2, get(long, alibi, MEMORY)),
        Bar("SeqPE's memory at 16,384 over NoPE's", "<=", 1.3, get(long, seqpe, MEMORY)),
        Bar("SeqPE's time at 16,384 over NoPE's", "<=", 1.3, real(long, seqpe, "x NoPE")),
        Bar("error of bfloat16 scores / spread", "<=", 0.01, real("precision", "scores", ERROR)),
        Bar("deterministic runs resume exactly", ">=", 1, real("resume", "deterministic", "equal")),
    ]  # fmt: skip


def table(results: list[Bar]) -> str:
    rows = []
    for bar in results:
        measured = "-" if bar.verdict == "not measured" else measure.in_short(bar.value)
        rows.append([bar.claim, bar.sign, f"{bar.limit:g}", measured, bar.verdict])
    return measure.table(["bar", "", "limit", "measured", ""], rows)


# --- then the medium runs ----------------------------------------------------------------------


def medium_command(file: str, minutes: float, out: Path) -> list[str]:
    """The medium language models on the time that is left; the same command goes on later."""
    command = [sys.executable, "-m", "benchmarks.medium", "lm", "--source", file]
    budget = ["--minutes", f"{minutes:g}", "--slice", f"{minutes:g}", "--out", str(out)]
    return [*command, "--methods", *MEDIUM, *budget]


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of found.json, profile.txt and test_gpu.log")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="STAGE")
    parser.add_argument("--limit", type=float, default=10.0, help="minutes of all stages (10)")
    parser.add_argument(
        "--smoke", action="store_true", help="two layers and few steps: a rehearsal"
    )
    parser.add_argument("--images", type=Path, help="as benchmarks.medium prepares them")
    parser.add_argument("--then-medium", metavar="FILE", help="a prepared text: train on it after")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the medium runs (20)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    if not torch.cuda.is_available():
        print("benchmarks.gpu: torch sees no GPU here", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # this process leaves the GPU free
        pretended = "pretended" in pool.apply(torch.cuda.get_device_name)
    sizes = Sizes(options.out.resolve(), images=options.images, pretended=pretended)
    if options.smoke:
        sizes = replace(sizes, **SMOKE)
    stages = [stage for stage in STAGES if stage.name in options.only]
    records = run_all(stages, sizes, options.limit)
    results = bars(records, pretended)
    print(f"\n{table(results)}\n")
    judged = [bar._asdict() | {"verdict": bar.verdict} for bar in results]
    found = {"sizes": vars(sizes), "stages": records, "bars": judged}
    write_atomically(options.out / "found.json", json.dumps(found, default=str, indent=1))
    command = medium_command(options.then_medium or "prepared/lm.npz", options.minutes, options.out)
    if options.then_medium:
        return subprocess.run(command).returncode
    print("Medium runs in the time that is left: " + " ".join(["python", *command[1:]]))
    return 1 if any(bar.verdict == "MISSED" for bar in results) else 0


if __name__ == "__main__":
    sys.exit(main())
