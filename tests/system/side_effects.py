"""Imports modules one by one and fails at the first that changes anything but itself.

    python tests/system/side_effects.py seqpe_lab.digits seqpe_lab.encoder ...

It is run by test_architecture.py, in a process of its own.
"""

import atexit
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import warnings

# imported first, so that what they do at import is not taken for ours
OTHERS = """accelerate anywidget asyncio cyclopts datasets huggingface_hub ipywidgets
IPython.display joblib jsonschema kaleido nbclient nbconvert nbformat plotly.graph_objects
plotly.io plotly.subplots plotly.tools psutil pydantic safetensors.torch sklearn.datasets
tokenizers torch.utils.tensorboard torchvision tqdm transformers timm""".split()


def state() -> dict[str, object]:
    """What modules could change behind others' backs, part by part."""
    import ipywidgets.widgets.widget as widget
    import plotly.io
    import torch

    optimizer, module = sys.modules["torch.optim.optimizer"], torch.nn.modules.module
    return {
        "the garbage collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "the environment": dict(os.environ),
        "what happens at exit": atexit._ncallbacks(),
        "the import system": [list(map(id, part)) for part in (sys.meta_path, sys.path_hooks)],
        "the search path": list(sys.path),
        "hooks of Python": (sys.excepthook, sys.displayhook, threading.excepthook),
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "threads": [thread.name for thread in threading.enumerate()],
        "filters of warnings": list(warnings.filters),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "hooks of all optimizers": (
            len(optimizer._global_optimizer_pre_hooks),
            len(optimizer._global_optimizer_post_hooks),
        ),
        "hooks of all modules": (
            len(module._global_forward_hooks),
            len(module._global_forward_pre_hooks),
            len(module._global_backward_hooks),
        ),
        "torch's settings": (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        ),
        "random numbers": torch.random.get_rng_state().tolist(),
        "plotly's templates": (sorted(plotly.io.templates), plotly.io.templates.default),
        "widgets": len(widget._instances),
    }


def functions_of_others() -> dict[tuple[str, str], int]:
    """{(module, name): identity} of all functions and classes of the packages above."""
    packages = {name.split(".")[0] for name in OTHERS}
    return {
        (name, key): id(value)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in packages
        for key, value in list(vars(module).items())
        if callable(value) and getattr(value, "__module__", None) == name
    }


def main(names: list[str]) -> None:
    for name in OTHERS:
        importlib.import_module(name)
    functions, before, modules = functions_of_others(), state(), set(sys.modules)
    for name in names:
        importlib.import_module(name)
        after = state()
        changed = [key for key in before if before[key] != after[key]]
        assert not changed, f"import {name} changes {', '.join(changed)}"
    now = functions_of_others()
    replaced = [".".join(key) for key in functions if now.get(key) != functions[key]]
    assert not replaced, f"replaced in other packages: {', '.join(replaced)}"
    added = {name: module for name, module in sys.modules.items() if name not in modules}
    stubs = [name for name, module in added.items() if not getattr(module, "__spec__", None)]
    assert not stubs, f"stubs in sys.modules: {', '.join(stubs)}"


if __name__ == "__main__":
    main(sys.argv[1:])
