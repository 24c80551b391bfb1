"""Ctrl-C and full disks: nothing is left half done, and errors name what they are about."""

import os
import signal
import sys
import threading
import time

import pytest
from fork_server import python

from seqpe_lab import atomic_files
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.stop_signals import imports_finish
from seqpe_lab.tasks import token_storage
from seqpe_lab.tasks.base import SPLITS

TRAIN = """
import os, signal, sys
os.environ |= {"SEQPE_RUNS": sys.argv[1], "SEQPE_SCALE": "smoke"}
from seqpe_lab.course import lesson
lab, imports = lesson.start("92 Interrupted"), []

def interrupt(event, arguments):
    imports.extend([event] * (event == "import"))
    if event == "import" and len(imports) == 200:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
small = dict(d_model=16, layers=1, heads=2, train_len=16, max_position=64, steps=2,
             pivots=4, candidates=4, hard=1, distillation_batch=2, teachers=4, eval_lens=(16,))
for attempt in range(2):
    try:
        print(lab.train("seqpe", **small).state)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_training_that_is_interrupted_in_its_imports_works_afterwards(tmp_path):
    done = python(TRAIN, str(tmp_path))
    lines = [line for line in done.stdout.splitlines() if line in ("interrupted", "finished")]
    assert lines == ["interrupted", "finished"], done.stdout + done.stderr


SLOW = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
complete = True
"""


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


WITHIN = """
import os, signal
from seqpe_lab.stop_signals import imports_finish
with imports_finish():
    os.kill(os.getpid(), signal.SIGINT)
    print("it waited")
"""


def test_a_training_within_an_import_can_be_interrupted(tmp_path):
    """``import my_script`` runs all that the script does inside an import."""
    (tmp_path / "my_script.py").write_text(WITHIN)
    program = "import sys\nsys.path.insert(0, sys.argv[1])\nimport my_script"
    done = python(program, str(tmp_path))
    assert done.stdout == "" and "KeyboardInterrupt" in done.stderr


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


FULL = """
import resource, sys
from pathlib import Path
folder = Path(sys.argv[1])
import plotly.graph_objects as go
from datasets import Dataset
from seqpe_lab import hub
from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.tasks import token_storage
texts = [str(number) * 90 for number in range(3000)]
Dataset.from_dict({"text": texts}).to_parquet(folder / "a.parquet")
for name in ("text", "tokens", "figure", "cache"):
    (folder / name).mkdir()
import os
os.environ["SEQPE_CACHE"] = str(folder / "cache")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for name, write in {
    "text": lambda: write_atomically(folder / "text" / "a.json", "x" * 50_000),
    "tokens": lambda: token_storage.store_tokens(
        folder / "tokens" / "a", {"train": ["x" * 50_000]}, None, {}),
    "figure": lambda: write_figure(go.Figure(layout_title_text="t"), folder / "figure", "a"),
    "cache": lambda: hub.read_parquet(folder / "a.parquet"),
}.items():
    try:
        write()
    except OSError as error:
        left = [path.name for path in (folder / name).rglob("*") if path.is_file()]
        left = [name for name in left if not name.endswith(".lock")]
        print(name, left, type(error).__name__, error)
"""


def test_a_file_that_grows_too_large_is_named_and_not_left_behind(tmp_path):
    done = python(FULL, str(tmp_path))
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    too_large = r"[Errno 27] File too large"
    assert lines["text"] == f"[] OSError {too_large}: '{tmp_path}/text/a.json'", done.stderr
    assert lines["figure"] == f"[] OSError {too_large}: '{tmp_path}/figure/plotly.min.js'"
    assert lines["tokens"].startswith(f"[] OSError the tokens could not be written to {tmp_path}")
    assert lines["cache"].startswith(
        f"[] OSError there is no room for the rows of {tmp_path}/a.par"
    )
    assert "set SEQPE_CACHE" in lines["cache"] and "set SEQPE_CACHE" in lines["tokens"]
