"""What is recomputed gives the same numbers and keeps less."""

import ctypes
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seqpe_lab import memory
from seqpe_lab.memory import recomputed


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch):
    monkeypatch.setattr(memory, "WORTH_IT", 0)


def saved_bytes(work) -> int:
    """How much the graph of ``work()`` holds for its backward pass, each storage once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        packed.append(tensor)  # keeps the storage, whose address must not be used again
        return tensor

    packed: list = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(storages.values())


def test_the_same_values_and_gradients():
    torch.manual_seed(0)
    narrow = nn.Sequential(nn.GELU(), nn.Linear(12, 3))
    x = torch.randn(5, 12)
    results = []
    for apply in (lambda x: narrow(x), lambda x: recomputed(narrow, x)):
        narrow.zero_grad()
        ours = x.clone().requires_grad_()
        apply(ours).square().sum().backward()
        results.append([ours.grad, *(p.grad.clone() for p in narrow.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_the_widest_tensor_is_not_kept():
    x, weight = torch.randn(100, 64, requires_grad=True), torch.randn(8, 64, requires_grad=True)
    kept = saved_bytes(lambda: F.linear(F.gelu(x), weight))
    assert (
        kept - saved_bytes(lambda: recomputed(lambda x: F.linear(F.gelu(x), weight), x))
        >= 4 * 100 * 64
    )


def test_without_gradients_it_is_a_plain_call():
    with torch.no_grad():
        assert not recomputed(lambda x: x + 1, torch.ones(1, requires_grad=True)).requires_grad


def test_small_inputs_are_kept(monkeypatch):
    monkeypatch.setattr(memory, "WORTH_IT", 101)
    x = torch.randn(100, requires_grad=True)
    assert saved_bytes(lambda: recomputed(lambda x: x.exp().square(), x)) == saved_bytes(
        lambda: x.exp().square()
    )


def test_no_matrix_product_is_repeated():
    """The recomputation stops where the last tensor that the backward pass needs stands."""
    calls = []

    class Counting(nn.Linear):
        def forward(self, x):
            calls.append("enters")
            result = super().forward(x)
            calls.append("leaves")
            return result

    narrow = nn.Sequential(nn.GELU(), Counting(4, 2))
    recomputed(narrow, torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert calls == ["enters", "leaves", "enters"]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="the C library's memory has no such options here",
)
def test_memory_that_is_kept_is_not_fetched_again():
    """64 MiB in tensors of 1 MiB, freed and taken again: page faults of a process of its own."""
    program = """
import ctypes, resource, torch
from seqpe_lab.memory import _M_MMAP_THRESHOLD, keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [torch.ones(2**18) for _ in range(64)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# where glibc begins, and stays: else it learns, and what it learns is a matter of luck
ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 * 2**10)
faults(), print(faults())
keep_freed_memory()
faults(), print(faults())
"""
    without, kept = map(
        int,
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split(),
    )
    assert kept < without / 10, (kept, without)
