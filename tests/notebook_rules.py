"""What nbval lets pass and these tests do not: a plugin for pytest.

    pytest -p notebook_rules --nbval-lax notebooks

* A mark that skips a cell or accepts its errors fails it, unless ``MARKED`` names the cell.
* Errors in threads, tasks and controls fail the cell (seqpe_lab.course.hidden_errors).
* A measured number in the prose (with decimals or thousands) must occur in the lesson's code, in
  what the lesson prints, or in the paper's tables; else its last cell fails.
"""

import re
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, find_comment_markers, find_metadata_tags

MARKED: dict[str, set[str]] = {}  # notebook -> ids of cells that may carry a mark

# notebook -> numbers of its prose that are no measurements of the lesson
QUOTED = {
    "02_rope_and_alibi": {"0.02"},
    "03_positions_as_digits": {"30,000"},
    "05_the_contrastive_loss": {"19,999"},
    "06_distillation_and_collapse": {"0.02"},
    "07_sum_mul_bias": {"0.02", "8,000"},
    "08_a_small_gpt": {"50,257"},
    "09_length_extrapolation": {"20,000", "1.1"},
    "11_larger_images": {"1,600"},
    "14_an_audit_of_claims": {"18.5", "0.55", "0.65", "23.7", "0.005", "32.8", "1.2", "0.25"},
    "15_questions_over_long_contexts": {"86,820", "0.3"},
    "17_longer_contexts": {"32,768"},
    "19_relative_biases": {"5,000", "9,000", "10,000"},
    "20_your_own_encoding": {"5.20"},
}

NUMBER = re.compile(
    r"(?<![\w.,/\-])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.,/\-])\d+\.\d+(?!\w)"
)
NO_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)"  # code, formulas, addresses of links
    r"|(?:Sec|App|Eq|Python|torch)\.? [A-Z]?[\d.]+(?: and [\d.]+)?",
    re.DOTALL,
)
PAPER = Path(__file__).parents[1] / "data" / "paper"


def numbers(text: str) -> set[str]:
    """All numbers of code or of printed text, without separators of thousands."""
    return {
        number.replace(",", "").replace("_", "")
        for number in re.findall(r"\d[\d_,]*(?:\.\d+)?", text)
    }


def unproved(notebook, printed: str) -> list[str]:
    """The measured numbers of a notebook's prose that stand nowhere else."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    tables = "\n".join(path.read_text(encoding="utf-8") for path in PAPER.glob("*.csv"))
    known = numbers(code) | numbers(printed) | numbers(tables)
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = NUMBER.findall(NO_PROSE.sub(" ", prose))
    return [number for number in dict.fromkeys(found) if number.replace(",", "") not in known]


def marks(cell) -> list[str]:
    """Which of nbval's marks a cell carries, except the one that asks for more."""
    carried = [*find_comment_markers(cell.source), *find_metadata_tags(cell.metadata)]
    return [name for name, value in carried if (name, value) != ("check", True)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    lesson, notebook = item.path.stem, item.parent
    if (found := marks(item.cell)) and item.cell.get("id") not in MARKED.get(lesson, ()):
        item.raise_cell_error(f"the cell is marked ({', '.join(found)}): see MARKED")
    if not hasattr(notebook, "printed"):
        notebook.printed = []
        load = "%load_ext seqpe_lab.course.hidden_errors"
        notebook.kernel.await_reply(notebook.kernel.execute_cell_input(load), timeout=60)
    result = yield
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in item.test_outputs
    ]
    notebook.printed.append("\n".join(texts))
    if len(notebook.printed) == sum(cell.cell_type == "code" for cell in notebook.nb.cells):
        left = set(unproved(notebook.nb, "\n".join(notebook.printed))) - QUOTED.get(lesson, set())
        if left:
            item.raise_cell_error(
                f"the prose says {', '.join(sorted(left))}, which the lesson neither checks nor "
                "prints nor quotes from data/paper: see QUOTED"
            )
    return result
