"""Programs that are interrupted or whose files grow too large: real signals, real limits."""

from fork_server import python

TRAIN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
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


WITHIN = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
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
