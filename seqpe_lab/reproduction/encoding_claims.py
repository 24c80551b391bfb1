"""What the papers of the further encodings say of them, beside our results."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqpe_lab.course.result_tables import by_method, markdown, with_interval
from seqpe_lab.course.style import label
from seqpe_lab.reproduction.manifest import FURTHER
from seqpe_lab.statistics import Difference, paired_difference

TRAINED, LONGEST = 0, -1  # which of the measured lengths


class Claim(NamedTuple):
    """A paper's finding that one encoding has a lower perplexity than another.

    Attributes:
        lower, higher: the two methods.
        at: ``TRAINED`` or ``LONGEST``.
        source: authors and year.
        note: what is different in the paper, if it may matter.
    """
    lower: str
    higher: str
    at: int
    source: str
    note: str = ""


CLAIMS = (
    Claim("shaw", "sinusoidal", TRAINED, "Shaw et al. 2018", "translation"),
    Claim("floater", "sinusoidal", TRAINED, "Liu et al. 2020", "translation"),
    Claim("floater", "sinusoidal", LONGEST, "Liu et al. 2020", "translation"),
    Claim("sinusoidal-shift", "sinusoidal", LONGEST, "Kiyono et al. 2021", "translation"),
    Claim("t5", "rope-1e4", LONGEST, "Press et al. 2022"),
    Claim("alibi", "t5", LONGEST, "Press et al. 2022"),
    Claim("kerple-log", "alibi", LONGEST, "Chi et al. 2022"),
    Claim("kerple-log", "t5", LONGEST, "Chi et al. 2022"),
    Claim("xpos", "rope-1e4", LONGEST, "Sun et al. 2023", "attention in blocks at test time"),
    Claim("xpos", "alibi", LONGEST, "Sun et al. 2023", "attention in blocks at test time"),
    Claim("fire", "kerple-log", LONGEST, "Li et al. 2024", "first threshold within the training "
          "length"),
    Claim("fire", "alibi", LONGEST, "Li et al. 2024", "first threshold within the training length"),
    Claim("fire", "t5", LONGEST, "Li et al. 2024", "first threshold within the training length"),
    Claim("rope-yarn", "rope-ntk", LONGEST, "Peng et al. 2024"),
    Claim("rope-ntk", "rope-pi", LONGEST, "Peng et al. 2024"),
    Claim("rope-1e4-skips", "rope-1e4", LONGEST, "Zhu et al. 2024", "interpolated, then tuned"),
    Claim("cope", "learned", TRAINED, "Golovneva et al. 2024"),
    Claim("cope", "shaw", TRAINED, "Golovneva et al. 2024"),
    Claim("cope", "shaw", LONGEST, "Golovneva et al. 2024"),
    Claim("p-rope", "rope-1e4", TRAINED, "Barbero et al. 2025", "contexts of 8,192 tokens"),
    Claim("rnope", "rope-1e4", LONGEST, "Yang et al. 2025", "windows in the layers with RoPE"),
    Claim("fope", "rope-1e4", LONGEST, "Hua et al. 2025", "'more stable'"),
    Claim("fope", "alibi", LONGEST, "Hua et al. 2025", "'more stable'"),
    Claim("fox", "rope-1e4", TRAINED, "Lin et al. 2025"),
    Claim("fox", "rope-1e4", LONGEST, "Lin et al. 2025"),
    Claim("pope", "rope-1e4", TRAINED, "Gopalakrishnan et al. 2025"),
    Claim("pope", "rope-1e4", LONGEST, "Gopalakrishnan et al. 2025"),
    Claim("pope", "rope-yarn", LONGEST, "Gopalakrishnan et al. 2025"),
)
# what our difference says of a claim, in the order of tables
VERDICTS = {"higher": "**the opposite**", "no difference seen": "no difference seen",
            "lower": "the same"}


def judged(results: Sequence[Mapping]) -> list[tuple[Claim, Difference]]:
    """Claims of which both rows are there, what contradicts them first.

    Args:
        results: contents of ``results.json`` of language models.

    Returns:
        Each claim with our difference: of the first row minus the second, paired by seed, with
        Student's interval for three and four seeds.
    """
    values, found = by_method(results, "perplexity"), []
    for claim in CLAIMS:
        if {claim.lower, claim.higher} <= values.keys():
            ours, theirs = ([seeds for length, seeds in values[method].items()
                             if length != "mean"][claim.at]
                            for method in (claim.lower, claim.higher))
            difference = paired_difference(ours, theirs, few_seeds=True)
            if math.isfinite(difference.low):  # neither run failed, and there are enough seeds
                found.append((claim, difference))
    return sorted(found, key=lambda pair: [*VERDICTS].index(pair[1].verdict))


def table(results: Sequence[Mapping]) -> str:
    """Markdown: a row for each claim of :func:`judged`."""
    return markdown(
        ["the paper finds a lower perplexity of", "than of", "at", "our difference", "ours say",
         "source", "in the paper"],
        [[label(claim.lower), label(claim.higher), _length(claim, results),
          with_interval(difference, 2), VERDICTS[difference.verdict], claim.source, claim.note]
         for claim, difference in judged(results)])


def summary(results: Sequence[Mapping]) -> str:
    """Markdown: which rows are below SeqPE, and which results contradict an encoding's paper."""
    means = {method: rows["mean"] for method, rows in by_method(results, "perplexity").items()}
    rows: dict[str, list[str]] = {"lower": [], "no difference seen": [], "higher": []}
    for method in means:
        if method in FURTHER:
            found = paired_difference(means[method], means["seqpe"], few_seeds=True)
            number = f" ({with_interval(found, 2)})" * (found.verdict == "lower")
            rows[found.verdict].append(label(method) + number)
    claims = judged(results)
    against = [f"{label(claim.lower)} above {label(claim.higher)} at "
               f"{_length(claim, results)} ({with_interval(found, 2)})"
               for claim, found in claims if found.verdict == "higher"]
    count = [sum(found.verdict == verdict for _, found in claims) for verdict in VERDICTS]
    return "\n".join([
        f"- **Lower mean perplexity than SeqPE**: {_listed(rows['lower'])}.",
        f"- No difference seen from SeqPE: {_listed(rows['no difference seen'])}.",
        f"- Higher: {_listed(rows['higher'])}.",
        f"- **Against their own papers**: {_listed(against)}.",
        f"- Of {sum(count)} findings of these papers our rows repeat {count[2]}, contradict "
        f"{count[0]} and leave {count[1]} open.\n"])


def _length(claim: Claim, results: Sequence[Mapping]) -> str:
    lengths = [length for length in next(iter(by_method(results, "perplexity").values()))
               if length != "mean"]
    return f"{int(lengths[claim.at]):,}"


def _listed(parts: Sequence[str]) -> str:
    return "; ".join(parts) or "none"
