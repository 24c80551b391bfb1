"""The stages of benchmarks.gpu about training: tests, step times, where a step goes, compiling.

Every step is taken by :func:`seqpe_lab.training.train` itself, with its loader, copies and mixed
precision; a ``watch`` measures it and then stops the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from seqpe_lab.devices import matrix_rate
from seqpe_lab.package_data import PACKAGE
from seqpe_lab.provenance import provenance
from seqpe_lab.recipes import Recipe, Training, language_model
from seqpe_lab.recipes.step_cost import operations
from seqpe_lab.tasks.base import Data
from seqpe_lab.tasks.text_data import TextData
from seqpe_lab.training import train

from . import measure
from .encodings import clean
from .measure import Findings

METHODS = ("none", "rope-1e4", "alibi", "seqpe-no-losses", "seqpe")
KERNELS = {
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}
VOCABULARY = 50_257
PROFILED = 3  # steps


@dataclass(frozen=True)
class Sizes:
    """How large everything is; ``pretended`` is a device that computes nothing, for rehearsals."""

    out: Path
    images: Path | None = None  # as benchmarks.medium prepares them
    pretended: bool = False
    layers: int = 12
    batch: int = 32
    train_len: int = 512
    length: int = 16_384  # of the long evaluation
    matrix: int = 8_192
    warm: int = 10  # steps before the first that is timed
    blocks: int = 5  # timed, of five steps each
    workers: Sequence[int] = (0, 8, 14)


class Enough(Exception):
    """What was to be measured is measured."""


class StepTimer:
    """A ``watch`` for the training loop: milliseconds a step, over blocks of five steps.

    The device is waited for between the blocks only.
    """

    def __init__(self, sizes: Sizes, block: int = 5):
        self.warm, self.block = sizes.warm, block
        self.last = sizes.warm + sizes.blocks * block
        self.began, self.first_s, self.times = time.perf_counter(), 0.0, []

    def __call__(self, done: int, model: nn.Module) -> None:
        if done == 1:
            torch.cuda.synchronize()
            self.first_s = time.perf_counter() - self.began
        if done >= self.warm and (done - self.warm) % self.block == 0:
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        if done >= self.last:
            raise Enough

    def ms(self) -> dict[str, float]:
        """Median, smallest and largest of the blocks."""
        return measure.spread(
            [1e3 * (b - a) / self.block for a, b in zip(self.times, self.times[1:])]
        )


def text_recipe(method: str, sizes: Sizes, **changes) -> Recipe:
    """GPT-2 small as the paper trains it, one micro-batch a step."""
    shape = dict(layers=sizes.layers, batch=sizes.batch, micro_batch=sizes.batch)
    values = dict(train_len=sizes.train_len, eval_lens=(sizes.train_len,), eval_tokens=1_024)
    never = dict(checkpoint_every=10**9, source="random tokens")
    return language_model(method, "full", **shape | values | never | changes)


def random_text(tokens: int = 200_000) -> TextData:
    """Tokens drawn at random from GPT-2's vocabulary: speed does not depend on the text."""
    chance = torch.Generator().manual_seed(0)
    parts = {"train": tokens, "validation": 20_000, "test": 40_000}
    drawn = {name: torch.randint(VOCABULARY, (n,), generator=chance) for name, n in parts.items()}
    return TextData(
        "random tokens", "gpt2", "random tokens", VOCABULARY, **drawn, characters=parts,
        hash="random", decode=list,
    )  # fmt: skip


def steps_of(
    recipe: Training, data: Data, watch: Callable, folder: Path | None = None, **options
) -> None:
    """Train until ``watch`` has seen enough; without a folder nothing stays behind."""
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as temporary:
        run = folder or Path(temporary) / "run"
        try:
            train(recipe, run, data=data, progress=False, watch=watch, **options)
        except Enough:
            pass
    clean()


# --- the stages --------------------------------------------------------------------------------


def versions(found: Findings, sizes: Sizes) -> None:
    about = provenance("cuda")
    for name in ("versions", "device", "commit"):
        found[name] = about[name]
    found["cudnn"] = torch.backends.cudnn.version()
    found["cores"] = len(os.sched_getaffinity(0))
    properties = torch.cuda.get_device_properties(0)
    found["GB of the device"] = properties.total_memory / 1e9
    rate = matrix_rate(torch.device("cuda"), torch.bfloat16, sizes.matrix)
    found["matrix rate, TFLOP/s"] = rate / 1e12


def gpu_tests(found: Findings, sizes: Sizes) -> None:
    """tests/test_gpu.py, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    log = sizes.out / "test_gpu.log"
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(
            [*command, "tests/test_gpu.py"],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"SEQPE_SCALE": "smoke"},
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=150,
        )
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    found["summary"] = lines[-1] if lines else "no output"
    found["failed"] = [line.split()[1] for line in lines if line.startswith(("FAILED", "ERROR"))]
    found["status"] = done.returncode


def step_times(found: Findings, sizes: Sizes) -> None:
    """Milliseconds and memory of a training step, with each choice of attention kernels."""
    data = random_text()
    rate = matrix_rate(torch.device("cuda"), torch.bfloat16, sizes.matrix)
    for kernels in ("default", *KERNELS):
        if kernels == "cudnn" and sizes.pretended:
            continue
        none = None
        for method in METHODS:
            name = method if kernels == "default" else f"{method}, {kernels}"
            recipe, timer = text_recipe(method, sizes), StepTimer(sizes)
            with found.case(name), _kernels(kernels):
                steps_of(recipe, data, timer)
                ms = timer.ms()
                none = ms["median"] if method == "none" else none
                work = sum(operations(recipe, VOCABULARY).values())
                found[name] = {
                    "ms": ms,
                    "x NoPE": none and ms["median"] / none,
                    "GB": torch.cuda.max_memory_allocated() / 1e9,
                    "of matrix rate": work / (ms["median"] / 1e3) / rate,
                }


def _kernels(choice: str):
    """All of attention with these kernels; "default" leaves the choice to the library."""
    if choice == "default":
        return nullcontext()
    return sdpa_kernel(KERNELS[choice], set_priority=True)


def where_a_step_goes(found: Findings, sizes: Sizes) -> None:
    """Waits of one step and where they are, then a profile: kernels, copies, the longest."""
    for method in ("none", "seqpe"):
        with found.case(method):
            probe = StepProbe(sizes)
            steps_of(text_recipe(method, sizes, log_every=10**9), random_text(), probe)
            found[f"{method}, waits"] = dict(probe.waits)
            if not sizes.pretended:
                found[f"{method}, a step"] = summary(probe.profiler.events(), PROFILED)
                averages = probe.profiler.key_averages()
                table = averages.table(sort_by="self_device_time_total", row_limit=40)
                with open(sizes.out / "profile.txt", "a", encoding="utf-8") as file:
                    file.write(f"{method}, {PROFILED} steps\n{table}\n\n")


class StepProbe:
    """A ``watch`` for the training loop: in one step it counts waits, and then profiles some.

    Attributes:
        waits: {line of the library: how often it made the CPU wait in one step}.
        profiler: torch's, of ``PROFILED`` steps; not on a pretended device.
    """

    def __init__(self, sizes: Sizes):
        self.warm, self.pretended = sizes.warm, sizes.pretended
        self.waits: Counter[str] = Counter()
        self.profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        self._warnings = warnings.catch_warnings()

    def __call__(self, done: int, model: nn.Module) -> None:
        if done == self.warm:
            self._warnings.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: self.waits.update(_lines(str(message)))
            torch.cuda.set_sync_debug_mode("warn")
        elif done == self.warm + 1:
            torch.cuda.set_sync_debug_mode("default")
            self._warnings.__exit__(None, None, None)
            if self.pretended:
                raise Enough
            self.profiler.start()
        elif done == self.warm + 1 + PROFILED:
            torch.cuda.synchronize()
            self.profiler.stop()
            raise Enough


def _lines(message: str) -> list[str]:
    """The line of the library that makes the CPU wait; none if a warning is about other things."""
    if "synchronizing CUDA operation" not in message:
        return []
    ours = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
    return [f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "elsewhere"]


def summary(events, steps: int) -> dict[str, float]:
    """A profile in numbers, each a step.

    Args:
        events: torch.profiler's; those of the device are kernels, copies and memory that is set.
    """
    on_device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    copies = Counter(e.name for e in on_device if e.name.startswith("Memcpy"))
    kernels = [
        e for e in on_device
        if not e.name.startswith(("Memcpy", "Memset")) and not getattr(e, "is_user_annotation", 0)
    ]  # fmt: skip
    return {
        "kernels": len(kernels) / steps,
        "kernels, ms": sum(e.time_range.elapsed_us() for e in kernels) / 1e3 / steps,
        "blocking copies": sum(n for name, n in copies.items() if "Pageable" in name) / steps,
    } | {name: n / steps for name, n in copies.items()}


def compiled(found: Findings, sizes: Sizes) -> None:
    """torch.compile: seconds until the first step is done, then milliseconds a step."""
    if sizes.pretended:
        found["all"] = "not on a pretended device"
        return
    for method in ("none", "seqpe"):
        timer = StepTimer(sizes)
        with found.case(method):
            steps_of(text_recipe(method, sizes), random_text(), timer, compile=True)
            found[method] = {
                "first step, s": timer.first_s,
                "ms": timer.ms(),
                "GB": torch.cuda.max_memory_allocated() / 1e9,
            }
