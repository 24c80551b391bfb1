"""A pretended device: it computes on the CPU and refuses what an accelerator would refuse.

Tensors of two devices in one operation are refused, and so is float64, which Apple's MPS does not
have. It goes by the name of torch's device "meta".
"""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device, with its numbers in a CPU tensor."""

    @staticmethod
    def __new__(cls, inner):
        assert inner.dtype != torch.float64, "float64 on a device that does not have it"
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=NAME
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the pretended device")


class _Pretend(TorchDispatchMode):
    INDICES = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t for t in tensors if isinstance(t, Elsewhere)]
        mixed = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim()]
        target = kwargs.get("device")
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        allowed = moves or func in self.INDICES and isinstance(args[0], Elsewhere)
        assert not (there and mixed) or allowed, f"{func}: tensors on two devices"
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        wrap = bool(there) if target is None else torch.device(target).type == NAME
        return tree_map(lambda t: Elsewhere(t) if wrap and isinstance(t, torch.Tensor) else t, out)


def _inner(value):
    return value.inner if isinstance(value, Elsewhere) else value


@contextlib.contextmanager
def pretended(monkeypatch):
    """Inside, ``.to("meta")`` moves tensors and models to the pretended device."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    with sdpa_kernel(SDPBackend.MATH), _Pretend():
        yield NAME


def move(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and buffers on the pretended device."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(Elsewhere(value.data), False)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = Elsewhere(value)
    return model
