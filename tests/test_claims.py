"""The audit of claims: its verdicts follow the tables, and no number of either text is left out."""

import re
import shutil

import pytest

from seqpe_lab import package_data as paper
from seqpe_lab.course import claims
from seqpe_lab.course.claims import CLAIMS, PAPER, SUMMARY, audit

NUMBER = r"(?<![\w.\-])\d[\d,]*(?:\.\d+)?(?![\w\-]|\.\d)"


def verdicts() -> dict[str, str]:
    return {row["claim"]: row["verdict"] for row in audit()}


def test_the_verdicts_on_the_paper_itself():
    found = [row["verdict"] for row in audit() if row["source"] == PAPER]
    assert (
        found.count("contradicted") == 1
        and verdicts()["at least 24.2 points of average improvement in perplexity of the answer"]
        == "contradicted"
    )
    assert set(found) == {"supported", "contradicted"}


def test_the_leads_are_those_that_one_computes_by_hand():
    assert claims.lead(1)[0] == pytest.approx(
        (20.06 + 19.06 + 18.65 + 18.72 + 19.36 + 21.39) / 6
        - (19.65 + 18.74 + 18.51 + 18.58 + 18.86 + 19.37) / 6
    )
    assert claims.lead(2, "perplexity")[0] == pytest.approx(36.055 - 12.345)
    assert claims.lead(2, "em", True)[0] == pytest.approx(13.95 - 11.3)
    assert claims.lead(3, "", True)[0] == pytest.approx(2.3)


def test_every_verdict_is_one_of_three_and_every_row_says_how():
    for row in audit():
        assert row["verdict"] in claims.VERDICTS and row["how"] and row["claim"] and row["stated"]
    assert {row["verdict"] for row in audit() if row["source"] == SUMMARY} == set(claims.VERDICTS)


@pytest.mark.parametrize(
    "table, old, new, claim, verdict",
    [
        (
            "table1.csv",
            "SeqPE,19.65,18.74,18.51",
            "SeqPE,19.65,18.74,22.90",
            "WikiText-103 perplexity: 22.9 at 2048",
            "supported",
        ),
        (
            "table1.csv",
            "ALiBi,20.06",
            "ALiBi,18.06",
            "SeqPE outperforms other baselines by at least 0.6 perplexity points on WikiText-103",
            "contradicted",
        ),
        (
            "table2-perplexity.csv",
            "121.14",
            "123.14",
            "at least 24.2 points of average improvement in perplexity of the answer",
            "supported",
        ),
        (
            "table3.csv",
            "80.5,77.8,76.7",
            "70.5,77.8,76.7",
            "surpasses other baselines by a minimum of 2.1 percentage points in accuracy "
            "on ImageNet-1k",
            "contradicted",
        ),
        (
            "facts.csv",
            "WikiText-103; RULER",
            "PG-19; WikiText-103; RULER",
            "on the book-level data set PG-19",
            "supported",
        ),
        (
            "facts.csv",
            "(tokens),512",
            "(tokens),1024",
            "training on 1024 length (language modelling, WikiText-103)",
            "supported",
        ),
    ],
)
def test_a_changed_number_turns_the_verdict(table, old, new, claim, verdict, tmp_path, monkeypatch):
    assert verdicts()[claim] != verdict
    folder = shutil.copytree(paper.PAPER, tmp_path / "paper")
    text = (folder / table).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / table).write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(paper, "PAPER", folder)
    assert verdicts()[claim] == verdict


@pytest.mark.parametrize(
    "value, stated, at_least, agrees",
    [
        (18.51, "18.5", False, True),
        (18.56, "18.5", False, False),
        (0.588, "0.6", True, True),
        (0.54, "0.6", True, False),
        (23.7, "24.2", True, False),
        (2.3, "2.1", True, True),
        (2.3, "2.1", False, False),
        (512.0, "1024", False, False),
    ],
)
def test_a_number_agrees_to_the_digits_that_are_stated(value, stated, at_least, agrees):
    assert claims._agrees(value, stated, at_least) is agrees


def numbers(text: str) -> set[str]:
    text = re.sub(r"\[[\d, ]+\]", "", text)  # references
    text = re.sub(r"(\d)\s*(?:x|×|\\times)\s*(\d)", r"\1 \2", text)
    text = re.sub(r"^\s*\d\.\s", "", text, flags=re.MULTILINE)  # items of a list
    return {n.replace(",", "") for n in re.findall(NUMBER, text)}


def test_every_number_of_the_summary_is_in_the_audit(shared):
    summary = (shared / "paper" / "000_76bd25e875e26d19.txt").read_text(
        encoding="utf-8", errors="replace"
    )
    audited = set().union(
        *(numbers(f"{c.quote} {c.stated}".replace("/", " ")) for c in CLAIMS if c.source == SUMMARY)
    )
    missing = numbers(summary.replace("/", " ")) - audited - {"10"}  # of "9/10"
    assert not missing


def test_every_measured_number_of_the_abstract_and_the_introduction_is_in_the_audit(shared):
    text = (shared / "paper" / "001_c6f92d930ef5286f.txt").read_text(
        encoding="utf-8", errors="replace"
    )
    abstract = text[text.index("**Abstract**") : text.index("# 2 PRELIMINARY")]
    examples = {
        "100",
        "1000",
        "123",
        "2",
        "3",
        "0",
        "4",
        "1",
    }  # positions, Fig. 1's patch, limitations that are counted
    audited = set().union(*(numbers(f"{c.quote} {c.stated}") for c in CLAIMS if c.source == PAPER))
    assert not numbers(abstract) - audited - examples
