"""The provenance of a result, stored with it: versions, device, commit and time."""
from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime

import torch

from seqpe_lab import __version__
from seqpe_lab.package_data import CLONE


def provenance(device: torch.device | str) -> dict:
    """Versions of Python and packages, the code's commit, the device, and the time (UTC)."""
    packages = ("torch", "numpy", "accelerate", "datasets", "tokenizers", "safetensors", "timm")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"versions": versions, "commit": _commit(),
            "device": f"{device.type} ({name}, {torch.get_num_threads()} threads)",
            "time": datetime.now(UTC).isoformat(timespec="seconds")}


def _commit() -> str:
    """The clone's commit; of a wheel, which has none, the version."""
    if CLONE is None:
        return f"version {__version__}"
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
