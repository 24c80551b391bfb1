"""No number of a result is typed in the prose of lessons and README.

Results are printed by cells or written by ``collect``. What may be typed: times to plan with, sizes
of the recipes, numbers of the paper, and the worked examples listed here.
"""

import csv
import re
from pathlib import Path

import nbformat
import pytest
from page_parts import part_of

from seqpe_lab.course.claims import FLAT
from seqpe_lab.package_data import PAPER
from seqpe_lab.recipes import image_model, language_model, question_answering
from seqpe_lab.statistics import LEAST

PROJECT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.,])(?<!\w-)\d[\d,]*(?:\.\d+)?(?!\w|\.\d)")
# fences, formulas, code, addresses, tags, comments; then references, headings, times to plan with
NO_PROSE = r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->|<[^>\n]+>"
REFERENCE = (
    r"(Sec|Eq|Fig|App)\. (\w\.)?\d[\d.]*( (and|to) [\d.]+)?|[Tt]ables? \d(, \d)*( and \d)?"
    r"|[Ll]essons? \[?\d\d( to \d\d)?|section \d|Exercise \d|^#+ \d+|\[\d\d |\b\d\d (?=[A-Z])"
    r"|[Ww]ithin? \d+ s\b|\d+( to \d+)? (s|min|minutes)\b|\d CPU cores|SQuAD 2\.0|^\d\. |\*\*\d\. "
)
EXAMPLES = {  # what prose takes as an example or defines, and numbers of the paper's text
    "05": "7 23 99 105 122 123 150 167 599 600 700 1233 1234 1235 1243 19,999",
    "06": "0.02 0.3 63 123 223 700",
    "09": "95",
    "11": "5",
    "12": "",
    "15": "0.3 0.4 86,820",
    "16": "7",
    "README": "95",
}
RESULT = re.compile(r"\b(two|three|four|five|six|\d+) seeds")


def prose(text: str) -> str:
    text = re.sub(NO_PROSE, " ", text, flags=re.DOTALL)
    return re.sub(REFERENCE, " ", text, flags=re.MULTILINE)


def typed(text: str) -> set[str]:
    return {number.rstrip(",") for number in NUMBER.findall(prose(text))}


def lesson(number: str) -> str:
    (path,) = (PROJECT / "notebooks").glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, 4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def results_section() -> str:
    """The README's section on results, without what ``collect`` writes, and its introduction."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"<!-- (.+): begin -->", readme)
    for name in names:
        readme = readme.replace(part_of(readme, name) or "\0", "")
    introduction, rest = readme.split("\n## Install\n")
    return introduction + rest.split("\n## What comes out\n")[1].split("\n## ")[0]


def recipe_numbers() -> set[str]:
    """All numbers of the recipes at small and full scale, and sizes that follow from them."""
    found: list = []
    for scale in ("small", "full"):
        text, image = language_model("seqpe", scale), image_model("seqpe-mul", scale)
        for recipe in (text, image, question_answering("seqpe", scale)):
            for value in dict(recipe).values():
                found += value if isinstance(value, tuple) else [value]
        found.append(round(image.image_size / image.crop**0.5))  # pixels at the largest zoom
        found += [size // image.patch for size in (image.image_size, image.eval_sizes[-1])]
        found += [max(text.eval_lens) // text.train_len, round(100 * text.shifted)]
    numbers = [v for v in found if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return {f"{v:,}" for v in numbers} | {str(v) for v in numbers}


def paper_numbers() -> set[str]:
    rows = [row for path in PAPER.glob("*.csv") for row in csv.reader(path.open(encoding="utf-8"))]
    found = {cell for row in rows for cell in row if NUMBER.fullmatch(cell)}
    return found | {f"{int(cell):,}" for cell in found if cell.isdigit()}


@pytest.mark.parametrize("place", EXAMPLES)
def test_no_result_is_typed(place):
    text = results_section() if place == "README" else lesson(place)
    allowed = recipe_numbers() | paper_numbers() | {f"{FLAT}"} | {*EXAMPLES[place].split()}
    if place == "README":
        allowed |= {"92", "0.06"}  # test_readme.py measures them
    found = typed(text)
    assert not found - allowed, f"made by a cell or by collect? {sorted(found - allowed)}"
    assert not {*EXAMPLES[place].split()} - found, "an example that is not there any more"


@pytest.mark.parametrize("place", EXAMPLES)
def test_how_many_seeds_there_are_is_not_typed(place):
    """Only the least number that gives an interval is, and that there are several."""
    text = prose(results_section() if place == "README" else lesson(place))
    assert LEAST == 5
    for phrase in ("fewer than five seeds", "five seeds or more", "from five seeds on"):
        text = text.replace(phrase, "")
    assert not RESULT.findall(text)


def test_a_typed_result_is_found():
    text = "On 64 tokens SeqPE gives 4.99, that is 27 % less (Sec. 4.1, Table 1; about 3 min)."
    assert typed(text) == {"64", "4.99", "27"}
    assert RESULT.search("over three seeds") and typed("$4.5$ and `x = 7`") == set()


def test_the_readme_states_the_sizes_of_the_recipes():
    text, image = language_model("seqpe", "small"), image_model("seqpe-mul", "small")
    tuned = question_answering("seqpe", "small")
    grids = [size // image.patch for size in (image.image_size, image.eval_sizes[-1])]
    section = " ".join(results_section().split())
    for stated in (
        f"a byte-level GPT of {text.layers} layers of {text.d_model}, {text.steps:,} steps of "
        f"{text.batch} x {text.train_len} tokens",
        f"a ViT of {image.layers} layers of {image.d_model} on scikit-learn's handwritten digits, "
        f"{image.steps:,} steps of {image.batch} images of {image.image_size} pixels ({grids[0]} x "
        f"{grids[0]} patches), tested on up to {image.eval_sizes[-1]} ({grids[1]} x {grids[1]})",
        f"in contexts of {tuned.train_len} bytes, then asked {tuned.eval_questions} questions",
        f"trained on {text.train_len} tokens.",
    ):
        assert stated in section, stated
