"""Claims about SeqPE, from the paper's own abstract and introduction and from a summary of it, held against the paper's tables.

A claim says what is stated; ``found`` computes the same from data/paper; the verdict follows:

    supported          the tables give what is stated, to the digits that are stated
    contradicted       they give something else
    not in the paper   it reports nothing of the kind
"""
from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqpe_lab import package_data as paper

VERDICTS = ("supported", "contradicted", "not in the paper")
PAPER, SUMMARY = "the paper", "a summary"


@dataclass(frozen=True)
class Claim:
    """One statement that the tables can judge.

    Attributes:
        source: ``PAPER`` or ``SUMMARY``.
        quote: its words.
        stated: the number as written, whose digits say how exact it is; "all" or "best" where no number stands.
        found: -> (what the tables give: a number, True, False, or None where they are silent; how it was found).
        at_least: the statement is a lower bound.
    """
    source: str
    quote: str
    stated: str
    found: Callable[[], tuple[float | bool | None, str]]
    at_least: bool = False

    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        value, _ = self.found()
        if value is None:
            return "not in the paper"
        return "supported" if value is True or (value is not False and _agrees(value, self.stated, self.at_least)) else "contradicted"


def _agrees(value: float, stated: str, at_least: bool) -> bool:
    """Whether a number rounds to what is stated, or lies above it.

    >>> _agrees(0.588, "0.6", at_least=False), _agrees(23.7, "24.2", at_least=True), _agrees(2.3, "2.1", at_least=True)
    (True, False, True)
    """
    decimals = len(stated.partition(".")[2])
    return round(value, decimals) == float(stated) or (at_least and value > float(stated))


def audit() -> list[dict[str, str]]:
    """All claims with their verdicts: "source", "claim", "stated", "the tables give", "how", "verdict"."""
    rows = []
    for claim in CLAIMS:
        value, how = claim.found()
        given = "nothing" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}"
        rows.append({"source": claim.source, "claim": claim.quote, "stated": ("≥ " if claim.at_least else "") + claim.stated, "the tables give": given, "how": how, "verdict": claim.verdict()})
    return rows


# --- what the tables say -----------------------------------------------------------------------

def facts() -> dict[str, str]:
    """What the paper says of its own set-up, from data/paper/facts.csv."""
    with open(paper.PAPER / "facts.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row["value"] for row in csv.DictReader(file)}


def _columns(number: int, part: str = "") -> tuple[list[str], dict[str, list[float]]]:
    """(lengths or sizes, {method: its numbers}) of a table; its printed average is left out and made again."""
    rows = paper.paper_table(number, part)
    places = [name for name in rows[0] if name.isdigit()]
    return places, {str(row["model"]): [float(row[place]) for place in places] for row in rows}


def lead(number: int, part: str = "", higher_is_better: bool = False) -> tuple[float, str]:
    """By how much SeqPE's average over a table's columns is ahead of the best other method's.

    Returns:
        (lead, in the table's units, positive where SeqPE is ahead; how it was found).
    """
    places, rows = _columns(number, part)
    average = {method: sum(values) / len(places) for method, values in rows.items()}
    others = {method: value for method, value in average.items() if method != "SeqPE"}
    best = (max if higher_is_better else min)(others, key=others.get)
    ahead = (average["SeqPE"] - others[best]) * (1 if higher_is_better else -1)
    return ahead, f"Table {number}, means of {len(places)} columns: SeqPE {average['SeqPE']:.2f}, next {best} {others[best]:.2f}"


def best_everywhere(tables: Mapping[tuple[int, str], bool]) -> tuple[bool, str]:
    """Whether SeqPE is the best in every column of {(number, part): higher is better}."""
    won = total = 0
    for (number, part), higher in tables.items():
        places, rows = _columns(number, part)
        for i in range(len(places)):
            won += (max if higher else min)(rows, key=lambda method: rows[method][i]) == "SeqPE"
        total += len(places)
    return won == total, f"best in {won} of the {total} columns of Tables 1 to 3; on the average of each table"


def entry(number: int, method: str, place: str, part: str = "") -> tuple[float | None, str]:
    """One number of a table; None where it has no such column."""
    places, rows = _columns(number, part)
    if place not in places:
        return None, f"Table {number} has no column {int(place):,}; its columns are {', '.join(places)}"
    return rows[method][places.index(place)], f"Table {number}, {method} at {int(place):,}"


def fact(name: str) -> tuple[float, str]:
    """A number of the set-up."""
    return float(facts()[name]), name


def reports(kind: str, name: str) -> tuple[bool | None, str]:
    """True where the paper reports on a data set or measure, else None."""
    listed = facts()[kind]
    return (True if name in listed.split("; ") else None), f"{kind}: {listed}"


def _best_rope(place: str) -> tuple[float, str]:
    values = {method: entry(1, method, place)[0] for method in ("RoPE-10^4", "RoPE-10^6", "RoPE-10^8")}
    best = min(values, key=values.get)
    return values[best], f"Table 1, the best of three bases, {best}, at {int(place):,}"


def _baselines_above(place: str, limit: float) -> tuple[bool, str]:
    places, rows = _columns(1)
    below = [f"{method} {values[places.index(place)]:.2f}" for method, values in rows.items() if method != "SeqPE" and values[places.index(place)] <= limit]
    return not below, f"Table 1 at {int(place):,}: " + (f"not above {limit:g}: {', '.join(below)}" if below else "all others above it")


def _shrinks_less(part: str) -> tuple[bool, str]:
    """Whether SeqPE keeps the largest share of its exact match, or loses least, from the shortest to the longest context of Table 2."""
    _, rows = _columns(2, part)
    kept = {method: values[-1] / values[0] for method, values in rows.items()}
    first = (max if part == "em" else min)(kept, key=kept.get)
    second = sorted(kept, key=kept.get, reverse=part == "em")[1]
    return first == "SeqPE", f"Table 2 ({part}), longest ÷ shortest: {first} {kept[first]:.1%}, then {second} {kept[second]:.1%}"


OF_BASELINES = {(1, ""): False, (2, "perplexity"): False, (2, "em"): True, (3, ""): True}
LM, QA, IMAGES = "train_len of language modelling (tokens)", "train_len of question answering (tokens)", "image size in training (pixels)"

CLAIMS = (
    # abstract and introduction
    Claim(PAPER, "SeqPE outperforms other baselines by at least 0.6 perplexity points on WikiText-103", "0.6", lambda: lead(1), at_least=True),
    Claim(PAPER, "at least 24.2 points of average improvement in perplexity of the answer", "24.2", lambda: lead(2, "perplexity"), at_least=True),
    Claim(PAPER, "at least 2.6 points of average improvement in exact match", "2.6", lambda: lead(2, "em", True), at_least=True),
    Claim(PAPER, "surpasses other baselines by a minimum of 2.1 percentage points in accuracy on ImageNet-1k", "2.1", lambda: lead(3, "", True), at_least=True),
    Claim(PAPER, "surpasses strong baselines in perplexity (averages of Table 1)", "ahead", lambda: (lead(1)[0] > 0, lead(1)[1])),
    Claim(PAPER, "surpasses strong baselines in exact match (averages of Table 2)", "ahead", lambda: (lead(2, "em", True)[0] > 0, lead(2, "em", True)[1])),
    Claim(PAPER, "surpasses strong baselines in accuracy (averages of Table 3)", "ahead", lambda: (lead(3, "", True)[0] > 0, lead(3, "", True)[1])),
    Claim(PAPER, "three types of embeddings: sequence tokens, sequence positions, data dimensions", "3", lambda: fact("kinds of embeddings")),
    Claim(PAPER, "two complementary objectives", "2", lambda: fact("regularisers")),
    # the summary
    Claim(SUMMARY, "Quality score 9/10", "9", lambda: (None, "the paper does not grade itself")),
    Claim(SUMMARY, "Total citations 40; report based on analysis of 40 citations", "40", lambda: (None, "the paper does not count its citations")),
    Claim(SUMMARY, "training on 1024 length (language modelling, WikiText-103)", "1024", lambda: fact(LM)),
    Claim(SUMMARY, "WikiText-103 perplexity: 22.9 at 2048", "22.9", lambda: entry(1, "SeqPE", "2048")),
    Claim(SUMMARY, "outperforming ALiBi (25.2) at 2048", "25.2", lambda: entry(1, "ALiBi", "2048")),
    Claim(SUMMARY, "outperforming RoPE (26.1) at 2048", "26.1", lambda: _best_rope("2048")),
    Claim(SUMMARY, "at length 4096, SeqPE maintained 25.8 perplexity", "25.8", lambda: entry(1, "SeqPE", "4096")),
    Claim(SUMMARY, "at length 4096, baselines degraded above 30", "30", lambda: _baselines_above("4096", 30)),
    Claim(SUMMARY, "80.5 % top-1 accuracy at 256x256", "80.5", lambda: entry(3, "SeqPE", "256")),
    Claim(SUMMARY, "80.5 % top-1 accuracy beyond the training resolution (it stands at 512)", "80.5", lambda: entry(3, "SeqPE", "512")),
    Claim(SUMMARY, "after training on 224x224", "224", lambda: fact(IMAGES)),
    Claim(SUMMARY, "standard APE collapsed to 71.4 % at 256x256", "71.4", lambda: entry(3, "APE-Learn", "256")),
    Claim(SUMMARY, "consistently outperforms strong baselines in all three tasks", "all", lambda: best_everywhere(OF_BASELINES)),
    Claim(SUMMARY, "robust performance retention in question answering as context length increased (more than the others)", "best", lambda: _shrinks_less("em")),
    Claim(SUMMARY, "on the book-level data set PG-19", "PG-19", lambda: reports("data sets", "PG-19")),
    Claim(SUMMARY, "better stability in bits per character", "BPC", lambda: reports("measures", "bits per character")),
    Claim(SUMMARY, "context lengths exceeding 16,000 tokens (on books)", "16000",
          lambda: (None, f"the longest text is WikiText-103's at {int(facts()['eval_len of language modelling at most (tokens)']):,} tokens; no books")),
    Claim(SUMMARY, "infinite flexibility in sequence length", "without end",
          lambda: (False, f"k = 5 digits write {int(fact('positions that can be written (b^k)')[0]):,} positions: many, with an end")),
    Claim(SUMMARY, "dual regularization: 2 objectives", "2", lambda: fact("regularisers")),
    Claim(SUMMARY, "three elements: sequence tokens, sequence positions, data dimensions", "3", lambda: fact("kinds of embeddings")),
)
