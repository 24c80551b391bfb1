"""data/paper/*.csv: consistent in themselves, and what the paper's text says."""

import csv
import re

import pytest

from seqpe_lab.package_data import PAPER, paper_table

TABLES = [
    "table1",
    "table2-em",
    "table2-perplexity",
    "table3",
    "table4-images",
    "table4-text",
    "table5",
]


def raw(name: str) -> list[list[str]]:
    """Rows of strings, the header first."""
    with open(PAPER / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def labels(name: str) -> int:
    """How many columns come before the numbers that are averaged."""
    return 2 if name.startswith("table4") else 1


def test_every_table_is_there_and_no_other():
    assert sorted(path.stem for path in PAPER.glob("table*.csv")) == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_value_in_every_column(name):
    header, *rows = raw(name)
    assert header[-1] == "average" and len(rows) >= 3
    assert all(len(row) == len(header) and all(row) for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_averages_are_the_mean_of_their_columns(name):
    """To 0.1, in every row that is printed in full; the paper's own slips are in the next test."""
    checked = 0
    for row in raw(name)[1:]:
        values = row[labels(name) :]
        if any("e" in value for value in values) or row[0] in SLIPS.get(name, ()):
            continue
        *values, average = map(float, values)
        assert average == pytest.approx(sum(values) / len(values), abs=0.1 + 1e-9), row
        checked += 1
    assert checked >= 3


# rows whose printed average is not the mean of the printed columns: (mean, average as printed)
SLIPS = {
    "table1": {"RoPE-10^8": (312.62, 371.25)},
    "table2-perplexity": {
        "NoPE": (4052.62, 698.94),
        "APE-Sin": (378_896.29, 4.3e4),
    },  # 1.5e3 and 1.5e5 at 8K would fit
}


@pytest.mark.parametrize("name, row", [(name, row) for name, rows in SLIPS.items() for row in rows])
def test_slips_of_the_paper_are_kept_as_printed(name, row):
    values = next(r for r in raw(name) if r[0] == row)[1:]
    *values, average = map(float, values)
    mean, printed_average = SLIPS[name][row]
    assert sum(values) / len(values) == pytest.approx(mean, abs=0.01) and average == printed_average


@pytest.mark.parametrize(
    "table, part, row, column, value",
    [
        (1, "", "SeqPE", "512", 19.65),
        (1, "", "SeqPE", "16384", 19.37),
        (1, "", "ALiBi", "2048", 18.65),
        (1, "", "RoPE-10^4", "1024", 35.25),
        (1, "", "APE-Sin", "4096", 2300.0),
        (1, "", "NoPE", "average", 313.17),
        (1, "", "APE-Learn", "8192", 152.53),
        (2, "perplexity", "SeqPE", "8192", 28.60),
        (2, "perplexity", "APE-Sin", "8192", 1.5e6),
        (2, "em", "SeqPE", "2048", 15.0),
        (2, "em", "ALiBi", "average", 11.3),
        (3, "", "SeqPE", "672", 76.7),
        (3, "", "RoPE2D-Mix", "320", 82.2),
        (3, "", "APE-Sin", "average", 32.7),
        (5, "", "mul", "448", 81.2),
        (5, "", "sum", "384", 79.8),
    ],
)
def test_known_values(table, part, row, column, value):
    found = [r for r in paper_table(table, part) if row in (r.get("model"), r.get("integration"))]
    assert len(found) == 1 and found[0][column] == value


def test_the_ablation_s_rows_are_the_four_settings_of_alpha_and_beta():
    settings = [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)]
    for part in ("text", "images"):
        assert [(r["alpha"], r["beta"]) for r in paper_table(4, part)] == settings
    assert (
        paper_table(4, "text")[2]["4096"] == 205.33 and paper_table(4, "images")[1]["448"] == 80.0
    )


def test_the_full_method_is_the_same_row_in_every_table_that_shows_it():
    text, seqpe = (
        paper_table(4, "text")[3],
        next(r for r in paper_table(1) if r["model"] == "SeqPE"),
    )
    assert all(text[n] == seqpe[n] for n in ("512", "1024", "2048", "4096"))
    images, best, mul = (
        paper_table(4, "images")[3],
        next(r for r in paper_table(3) if r["model"] == "SeqPE"),
        next(r for r in paper_table(5) if r["integration"] == "mul"),
    )
    assert all(images[n] == best[n] == mul[n] for n in ("224", "320", "384", "448"))
    assert images["average"] == mul["average"]


# --- against the text of the paper --------------------------------------------------------------


@pytest.fixture(scope="module")
def paper(shared) -> str:
    path = shared / "paper" / "001_c6f92d930ef5286f.txt"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path.read_text(encoding="utf-8")


def printed(paper: str, number: int) -> list[list[str]]:
    """The tab-separated rows below "TABLE number:", without markup."""
    begin = paper.index(f"TABLE {number}: ")
    after = re.search(r"\nTABLE \d: |\n# |\n- \*\*", paper[begin + 10 :])
    block = paper[begin : begin + 10 + after.start()] if after else paper[begin:]
    block = re.sub(r"</?\w+>|\\[a-z]+|[$\\{}*]", "", block)  # markup
    rows = [
        [cell.strip() for cell in line.split("\t")] for line in block.splitlines() if "\t" in line
    ]
    return [[re.sub(r"^- *| *-$", "", cell) for cell in row if cell] for row in rows]


def numbers(row: list[str]) -> list[float]:
    return [float(cell) for cell in row]


def compare(name: str, found: list[list[str]]) -> None:
    """Every value of the CSV equals the printed one, to its last digit."""
    rows = raw(name)[1:]
    assert len(found) >= len(rows)
    assert [numbers(row[1:]) for row in rows] == [numbers(row[1:]) for row in found[: len(rows)]]


def simple(text: str) -> str:
    """A row's name without case, accents and punctuation: "ROPE-10 6" and "RoPE-10^6" are one."""
    text = text.translate(str.maketrans("ĀĪ", "AI")).lower()
    return re.sub(r"[^a-z0-9]", "", text)


@pytest.mark.parametrize("number, name", [(1, "table1"), (3, "table3")])
def test_tables_1_and_3_are_what_the_paper_prints(number, name, paper):
    header, *rows = printed(paper, number)
    names = [simple(row[0]) for row in rows]
    assert names == [simple(row[0]) for row in raw(name)[1:]]
    compare(name, rows)
    assert [int(n.replace("K", "")) * (1024 if "K" in n else 1) for n in header[1:-1]] == [
        int(n) for n in raw(name)[0][1:-1]
    ]


def test_table_2_is_what_the_paper_prints(paper):
    rows = [row for row in printed(paper, 2) if "/" in "".join(row) and "EM" not in "".join(row)]
    # the first five rows stand in one, their cells one after another: "6.07 / 29.2 7.66 / 26.2 ..."
    pairs = [re.findall(r"(\S+) / (\S+)", cell) for row in rows for cell in row[1:]]
    columns = [first + last for first, last in zip(pairs[:5], pairs[5:])]
    assert [len(column) for column in columns] == [6] * 5
    for part, index in (("perplexity", 0), ("em", 1)):
        assert [[float(column[i][index]) for column in columns] for i in range(6)] == [
            numbers(row[1:]) for row in raw(f"table2-{part}")[1:]
        ]


def test_table_4_is_what_the_paper_prints(paper):
    rows = printed(paper, 4)
    text = [row for row in rows if re.fullmatch(r"0\.[01]", row[0]) and "Image" not in row[2]]
    assert [numbers(row) for row in text] == [numbers(row) for row in raw("table4-text")[1:]]
    # the image half stands in one row, three values a cell: "on (Accure 384 79.7 80.7 79.3"
    last = next(row for row in rows if row[0] == "0.0 0.1 0.0")
    columns = [numbers(cell.split()[-3:]) for cell in last]
    assert [list(row) for row in zip(*columns)] == [
        numbers(row) for row in raw("table4-images")[1:4]
    ]
    mul = printed(paper, 5)[-1]  # the text lost the fourth row; it is Table 5's AttnMul
    assert mul[0] == "AttnMul" and numbers(raw("table4-images")[4][2:]) == numbers(mul[1:])


def test_table_5_is_what_the_paper_prints(paper):
    rows = printed(paper, 5)[1:]
    assert [row[0].removeprefix("Attn").lower() for row in rows] == [
        row[0] for row in raw("table5")[1:]
    ]
    compare("table5", rows)
