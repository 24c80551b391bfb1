"""What this machine has and what it can train, as lines for the command line."""
from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import product

import psutil
import torch

from seqpe_lab import recipes
from seqpe_lab.course.figure_files import find_browser
from seqpe_lab.devices import best_device, matrix_rate
from seqpe_lab.plain_text import columns
from seqpe_lab.recipes.scales import hours_in_words
from seqpe_lab.recipes.step_cost import (H200, Machine, hours, memory, outputs_of,
                                         parameters, this_cpu)

PACKAGES = ("torch", "torchvision", "accelerate", "datasets", "tokenizers", "timm", "jupyterlab",
            "ipywidgets", "plotly", "nbval", "kaleido", "tensorboard")
PATIENCE = 7 * 24.0  # hours; a run that takes longer is called too slow
CHECKPOINTS = 4  # that are on disk at a time: the last two, the best, the one being written


def describe() -> Iterator[str]:
    """Python, cores, GPUs, packages and the browser; what each scale needs here; a verdict."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    ram, disk = psutil.virtual_memory().total, shutil.disk_usage(".").free
    yield (f"python {platform.python_version()}, {os.cpu_count()} cores, {ram / 2**30:.0f} GiB of "
           f"memory, GPUs: {', '.join(gpus) or 'none'}, free disk {disk / 2**30:.0f} GiB")
    missing = []
    for package in PACKAGES:
        try:
            yield f"  {package:<12} {version(package)}"
        except PackageNotFoundError:
            missing.append(package)
            yield f"  {package:<12} missing"
    browser = find_browser() or "none found: figures are written as web pages only"
    yield f"  browser for static images: {browser}"
    machine = this_machine()
    room = torch.cuda.mem_get_info()[1] if gpus else ram
    yield ""
    yield (f"One training run with SeqPE on {machine.name}, without evaluation and decoding of "
           "images,\ncounted from its recipe and the speed of a matrix product measured just now:")
    fits, rows = {}, []
    for task, scale in product(recipes.MAKERS, recipes.SCALES):
        recipe = recipes.MAKERS[task](scale=scale)
        fits[task, scale], *needs = fit(recipe, machine, room, disk)
        elsewhere = "" if fits[task, scale] == "yes" else recipes.about(task, scale)
        rows.append((f"  scale {scale} of {task}", fits[task, scale], *needs,
                     f"{elsewhere.time} on {elsewhere.hardware}" if elsewhere else ""))
    yield from columns(rows, "<<<<<<")
    yield from (f"  {scale}: {recipes.about('lm', scale).expect}" for scale in recipes.SCALES)
    yield ""
    yield from verdict(fits, machine.name, missing)


def this_machine() -> Machine:
    """The device that training takes here, with its measured matrix rate."""
    device = best_device()
    if device.type == "cpu":
        return this_cpu()
    cuda = device.type == "cuda"
    return Machine(f"one {torch.cuda.get_device_name()}" if cuda else "this GPU",
                   matrix_rate(device, torch.bfloat16 if cuda else torch.float32), H200.share,
                   "bf16" if cuda else "fp32", H200.least)


def fit(recipe: recipes.Training, machine: Machine, room: float,
        disk: float) -> tuple[str, str, str, str]:
    """Whether a machine can train a recipe within ``PATIENCE``.

    Args:
        room: bytes of memory of the device.
        disk: free bytes where the run's folder lies.

    Returns:
        "yes" or what is in the way; the time; the memory; data that must be downloaded.

    >>> fit(recipes.language_model(scale="full"), H200, 140 * 2**30, 10 * 2**30)[:2]
    ('yes', 'about 4 h')
    >>> fit(recipes.language_model(scale="full"), H200, 8 * 2**30, 10 * 2**30)[0]
    'too little memory'
    """
    outputs = outputs_of(recipe)
    time, gib = hours(recipe, outputs, machine), memory(recipe, outputs, machine.precision)
    stored = CHECKPOINTS * 12 * parameters(recipe, outputs)  # weights and AdamW's two moments
    answer = ("too little memory" if gib * 2**30 > room else
              "too little disk" if stored > disk else "too slow" if time > PATIENCE else "yes")
    source = getattr(recipe, "questions" if recipe.task == "qa" else "source", "")
    download = f"data: {source}" if source.startswith("hub:") else "data: included"
    return answer, hours_in_words(time), f"about {gib:.1f} GiB", download


def verdict(fits: dict[tuple[str, str], str], machine: str, missing: list[str]) -> Iterator[str]:
    """What to make of it, in a few lines.

    Args:
        fits: (task, scale) -> first value of :func:`fit`.
        missing: packages.

    >>> fits = {(task, scale): "yes" if scale in ("smoke", "small") else "too slow"
    ...         for task in recipes.MAKERS for scale in recipes.SCALES}
    >>> print(*verdict(fits, "this CPU", ["timm"]), sep="\\n")
    Verdict: this CPU can train lm at smoke, small; qa at smoke, small; ...
    Missing: timm. First type: pip install 'seqpe_lab[lab]'
    """
    able = {task: [scale for scale in recipes.SCALES if fits[task, scale] == "yes"]
            for task in recipes.MAKERS}
    parts = [f"{task} at {', '.join(scales) or 'no scale'}" for task, scales in able.items()]
    yield f"Verdict: {machine} can train {'; '.join(parts)}."
    if missing:
        yield f"Missing: {', '.join(missing)}. First type: pip install 'seqpe_lab[lab]'"
    else:
        yield "Next: python -m seqpe_lab train lm"
