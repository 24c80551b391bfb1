"""Ctrl-C leaves nothing half done: no module, no file."""

import os
import signal
import sys
import threading
import time

import pytest

from seqpe_lab import atomic_files
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.stop_signals import imports_finish
from seqpe_lab.tasks import token_storage
from seqpe_lab.tasks.base import SPLITS

SLOW = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
complete = True
"""


@pytest.fixture
def heeds_interrupts():
    """Python's own handler, which a process in the background of a shell does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_waits_for_the_end_of_an_import_and_for_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), imports_finish():
        import slow_to_import  # noqa: F401

        time.sleep(5)
    assert sys.modules.pop("slow_to_import").complete
    with pytest.raises(KeyboardInterrupt), imports_finish():
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it waited")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a program that nohup started
    try:
        with imports_finish():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with imports_finish():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(where, tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    file.write_text("old")
    monkeypatch.setattr(atomic_files.os, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert file.read_text() == "old"


def test_interrupted_tokenising_leaves_no_partial_file(tmp_path, monkeypatch):
    def half(file, tokens):
        file.write_bytes(tokens.tobytes()[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(token_storage.np, "save", half)
    with pytest.raises(KeyboardInterrupt):
        token_storage.store_tokens(tmp_path / "x", {split: ["text"] for split in SPLITS}, None, {})
    assert list((tmp_path / "x").iterdir()) == []
