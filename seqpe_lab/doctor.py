"""What this machine has and what each scale needs, as lines for the command line."""
from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from seqpe_lab import recipes
from seqpe_lab.course.figure_files import find_browser

PACKAGES = ("torch", "torchvision", "accelerate", "datasets", "tokenizers", "timm", "jupyterlab",
            "ipywidgets", "plotly", "nbval", "kaleido", "tensorboard")


def describe() -> Iterator[str]:
    """Python, cores, GPUs, packages and the browser; then hardware, time and memory of a run."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield (f"python {platform.python_version()}, {os.cpu_count()} cores, "
           f"GPUs: {', '.join(gpus) or 'none'}, "
           f"free disk {shutil.disk_usage('.').free / 2**30:.0f} GiB")
    for package in PACKAGES:
        try:
            yield f"  {package:<12} {version(package)}"
        except PackageNotFoundError:
            yield f"  {package:<12} missing"
    browser = find_browser() or "none found: figures are written as web pages only"
    yield f"  browser for static images: {browser}"
    yield ("training with SeqPE, without evaluation and decoding of images: time and memory that "
           "recipes/step_cost.py counts")
    for task in recipes.MAKERS:
        for name in recipes.SCALES:
            about = recipes.about(task, name)
            yield (f"scale {name:<6} of {task:<5} {about.hardware}; {about.time}; {about.memory}; "
                   f"{about.expect}")
