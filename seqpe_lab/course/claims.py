"""Claims about SeqPE, from the paper's abstract and introduction and from a summary of it.

A claim quotes a statement; its ``found`` computes the same quantity from the paper's tables in
data/paper. The verdict follows:

    supported          the tables agree, to the digits that are stated
    contradicted       the tables disagree
    not in the paper   the paper reports nothing of the kind
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
    """One statement that is compared with the tables.

    Attributes:
        source: ``PAPER`` or ``SUMMARY``.
        quote: the statement in the words of the source.
        stated: the number as written; "all", "best" and the like if there is none.
        found: returns what the tables give (a number, True, False, or None where they say
            nothing) and how it was found.
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
        if isinstance(value, bool):
            return "supported" if value else "contradicted"
        return "supported" if _agrees(value, self.stated, self.at_least) else "contradicted"


def _agrees(value: float, stated: str, at_least: bool) -> bool:
    """Whether a number rounds to what is stated, or lies above it.

    >>> _agrees(0.588, "0.6", at_least=False), _agrees(23.7, "24.2", at_least=True)
    (True, False)
    """
    decimals = len(stated.partition(".")[2])
    return round(value, decimals) == float(stated) or (at_least and value > float(stated))


def audit() -> list[dict[str, str]]:
    """A row for each claim: source, claim, stated, what the tables give, how, and verdict."""
    rows = []
    for claim in CLAIMS:
        value, how = claim.found()
        stated = f"≥ {claim.stated}" if claim.at_least else claim.stated
        rows.append({"source": claim.source, "claim": claim.quote, "stated": stated,
                     "the tables give": _shown(value), "how": how, "verdict": claim.verdict()})
    return rows


def _shown(value: float | bool | None) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}"


# --- what the tables report -----------------------------------------------------------------------

def facts() -> dict[str, str]:
    """The paper's own statements about its set-up, from data/paper/facts.csv."""
    with open(paper.PAPER / "facts.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row["value"] for row in csv.DictReader(file)}


def _columns(number: int, part: str = "") -> tuple[list[str], dict[str, list[float]]]:
    """(lengths or sizes, {method: its numbers}) of a table, without its printed average."""
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
    return ahead, (f"Table {number}, means of {len(places)} columns: "
                   f"SeqPE {average['SeqPE']:.2f}, next {best} {others[best]:.2f}")


def _ahead(number: int, part: str = "", higher_is_better: bool = False) -> tuple[bool, str]:
    ahead, how = lead(number, part, higher_is_better)
    return ahead > 0, how


def best_everywhere(tables: Mapping[tuple[int, str], bool]) -> tuple[bool, str]:
    """Whether SeqPE is the best in every column of {(number, part): higher is better}."""
    won = total = 0
    for (number, part), higher in tables.items():
        places, rows = _columns(number, part)
        for i in range(len(places)):
            won += (max if higher else min)(rows, key=lambda method: rows[method][i]) == "SeqPE"
        total += len(places)
    return won == total, (f"best in {won} of the {total} columns of Tables 1 to 3; "
                          "on the average of each table")


def entry(number: int, method: str, place: str, part: str = "") -> tuple[float | None, str]:
    """One number of a table; None where it has no such column."""
    places, rows = _columns(number, part)
    if place not in places:
        return None, (f"Table {number} has no column {int(place):,}; "
                      f"its columns are {', '.join(places)}")
    return rows[method][places.index(place)], f"Table {number}, {method} at {int(place):,}"


def fact(name: str) -> tuple[float, str]:
    """A number of the set-up."""
    return float(facts()[name]), name


def reports(kind: str, name: str) -> tuple[bool | None, str]:
    """True where the paper reports on a data set or measure, else None."""
    listed = facts()[kind]
    return (True if name in listed.split("; ") else None), f"{kind}: {listed}"


def _best_rope(place: str) -> tuple[float, str]:
    bases = ("RoPE-10^4", "RoPE-10^6", "RoPE-10^8")
    values = {method: entry(1, method, place)[0] for method in bases}
    best = min(values, key=values.get)
    return values[best], f"Table 1, the best of three bases, {best}, at {int(place):,}"


def _baselines_above(place: str, limit: float) -> tuple[bool, str]:
    places, rows = _columns(1)
    others = {method: values[places.index(place)] for method, values in rows.items()
              if method != "SeqPE"}
    below = [f"{method} {value:.2f}" for method, value in others.items() if value <= limit]
    result = f"not above {limit:g}: {', '.join(below)}" if below else "all others above it"
    return not below, f"Table 1 at {int(place):,}: {result}"


def _shrinks_less(part: str) -> tuple[bool, str]:
    """Whether SeqPE keeps most of its result from the shortest to the longest context."""
    _, rows = _columns(2, part)
    kept = {method: values[-1] / values[0] for method, values in rows.items()}
    first = (max if part == "em" else min)(kept, key=kept.get)
    second = sorted(kept, key=kept.get, reverse=part == "em")[1]
    return first == "SeqPE", (f"Table 2 ({part}), longest ÷ shortest: {first} {kept[first]:.1%}, "
                              f"then {second} {kept[second]:.1%}")


def _longest_context() -> tuple[None, str]:
    longest = int(fact("eval_len of language modelling at most (tokens)")[0])
    return None, f"the longest text is WikiText-103's at {longest:,} tokens; no books"


def _positions_in_all() -> tuple[bool, str]:
    positions = int(fact("positions that can be written (b^k)")[0])
    return False, f"k = 5 digits write {positions:,} positions: many, with an end"


OF_BASELINES = {(1, ""): False, (2, "perplexity"): False, (2, "em"): True, (3, ""): True}
LM = "train_len of language modelling (tokens)"
IMAGES = "image size in training (pixels)"

CLAIMS = (
    # abstract and introduction
    Claim(PAPER, "SeqPE outperforms other baselines by at least 0.6 perplexity points on "
          "WikiText-103", "0.6", lambda: lead(1), at_least=True),
    Claim(PAPER, "at least 24.2 points of average improvement in perplexity of the answer",
          "24.2", lambda: lead(2, "perplexity"), at_least=True),
    Claim(PAPER, "at least 2.6 points of average improvement in exact match",
          "2.6", lambda: lead(2, "em", True), at_least=True),
    Claim(PAPER, "surpasses other baselines by a minimum of 2.1 percentage points in accuracy "
          "on ImageNet-1k", "2.1", lambda: lead(3, "", True), at_least=True),
    Claim(PAPER, "surpasses strong baselines in perplexity (averages of Table 1)",
          "ahead", lambda: _ahead(1)),
    Claim(PAPER, "surpasses strong baselines in exact match (averages of Table 2)",
          "ahead", lambda: _ahead(2, "em", True)),
    Claim(PAPER, "surpasses strong baselines in accuracy (averages of Table 3)",
          "ahead", lambda: _ahead(3, "", True)),
    Claim(PAPER, "three types of embeddings: sequence tokens, sequence positions, data dimensions",
          "3", lambda: fact("kinds of embeddings")),
    Claim(PAPER, "two complementary objectives", "2", lambda: fact("regularisers")),
    # the summary
    Claim(SUMMARY, "Quality score 9/10", "9", lambda: (None, "the paper does not grade itself")),
    Claim(SUMMARY, "Total citations 40; report based on analysis of 40 citations",
          "40", lambda: (None, "the paper does not count its citations")),
    Claim(SUMMARY, "training on 1024 length (language modelling, WikiText-103)",
          "1024", lambda: fact(LM)),
    Claim(SUMMARY, "WikiText-103 perplexity: 22.9 at 2048",
          "22.9", lambda: entry(1, "SeqPE", "2048")),
    Claim(SUMMARY, "outperforming ALiBi (25.2) at 2048", "25.2", lambda: entry(1, "ALiBi", "2048")),
    Claim(SUMMARY, "outperforming RoPE (26.1) at 2048", "26.1", lambda: _best_rope("2048")),
    Claim(SUMMARY, "at length 4096, SeqPE maintained 25.8 perplexity",
          "25.8", lambda: entry(1, "SeqPE", "4096")),
    Claim(SUMMARY, "at length 4096, baselines degraded above 30",
          "30", lambda: _baselines_above("4096", 30)),
    Claim(SUMMARY, "80.5 % top-1 accuracy at 256x256", "80.5", lambda: entry(3, "SeqPE", "256")),
    Claim(SUMMARY, "80.5 % top-1 accuracy beyond the training resolution (it stands at 512)",
          "80.5", lambda: entry(3, "SeqPE", "512")),
    Claim(SUMMARY, "after training on 224x224", "224", lambda: fact(IMAGES)),
    Claim(SUMMARY, "standard APE collapsed to 71.4 % at 256x256",
          "71.4", lambda: entry(3, "APE-Learn", "256")),
    Claim(SUMMARY, "consistently outperforms strong baselines in all three tasks",
          "all", lambda: best_everywhere(OF_BASELINES)),
    Claim(SUMMARY, "robust performance retention in question answering as context length "
          "increased (more than the others)", "best", lambda: _shrinks_less("em")),
    Claim(SUMMARY, "on the book-level data set PG-19",
          "PG-19", lambda: reports("data sets", "PG-19")),
    Claim(SUMMARY, "better stability in bits per character",
          "BPC", lambda: reports("measures", "bits per character")),
    Claim(SUMMARY, "context lengths exceeding 16,000 tokens (on books)",
          "16000", _longest_context),
    Claim(SUMMARY, "infinite flexibility in sequence length",
          "without end", _positions_in_all),
    Claim(SUMMARY, "dual regularization: 2 objectives", "2", lambda: fact("regularisers")),
    Claim(SUMMARY, "three elements: sequence tokens, sequence positions, data dimensions",
          "3", lambda: fact("kinds of embeddings")),
)
