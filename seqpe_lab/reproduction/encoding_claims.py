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
    """What a paper finds: one encoding does better than another, by perplexity.

    Attributes:
        better, worse: the two methods.
        at: ``TRAINED`` or ``LONGEST``.
        source: authors, and the year of the conference.
        note: what is different in the paper, if it may matter.
    """
    better: str
    worse: str
    at: int
    source: str
    note: str = ""


def _of(source: str, at: int, pairs: str, note: str = "") -> list[Claim]:
    """Claims of one paper; ``pairs`` as in "a < b, c < d"."""
    return [Claim(*pair.split(" < "), at, source, note) for pair in pairs.split(", ")]


_WITH_BLOCKS = "up to 4 times the trained length; attention in blocks at test time not used here"
CLAIMS = [
    *_of("Shaw et al. 2018", TRAINED, "shaw < sinusoidal", "BLEU in translation"),
    *_of("Liu et al. 2020", TRAINED, "floater < sinusoidal", "BLEU in translation"),
    *_of("Kiyono et al. 2021", LONGEST, "sinusoidal-shift < sinusoidal", "BLEU in translation"),
    *_of("Press et al. 2022", TRAINED, "alibi < rope-1e4, alibi < sinusoidal, t5 < rope-1e4"),
    *_of("Press et al. 2022", LONGEST, "alibi < t5, alibi < rope-1e4, alibi < sinusoidal, "
         "t5 < rope-1e4, t5 < sinusoidal, rope-1e4 < sinusoidal"),
    *_of("Haviv et al. 2022", TRAINED, "alibi < sinusoidal, sinusoidal < learned, learned < none"),
    *_of("Chi et al. 2022", LONGEST, "kerple-log < kerple-power, kerple-log < alibi, "
         "kerple-log < t5, kerple-log < rope-1e4, kerple-log < sinusoidal"),
    *_of("Sun et al. 2023", TRAINED, "xpos < rope-1e4, xpos < alibi"),
    *_of("Sun et al. 2023", LONGEST, "xpos < rope-1e4, alibi < xpos", _WITH_BLOCKS),
    *_of("Li et al. 2024", LONGEST, "fire < kerple-log, fire < alibi, fire < t5",
         "up to 4 times the trained length; the initial threshold lies within it"),
    *_of("Zhu et al. 2024", LONGEST, "rope-pi < rope-1e4, rope-ntk < rope-1e4, "
         "rope-yarn < rope-1e4, rope-pi < rope-ntk, rope-yarn < rope-pi, rope-yarn < rope-ntk",
         "8 times the trained length"),
    *_of("Zhu et al. 2024", LONGEST, "rope-1e4-skips < rope-1e4, rope-1e4-skips < rope-1e4-random, "
         "rope-1e4-random < rope-1e4", "a trained model, tuned"),
    *_of("Golovneva et al. 2024", TRAINED, "cope < learned, cope < shaw"),
    *_of("Barbero et al. 2025", TRAINED, "p-rope < rope-1e4, p-rope < none, rope-1e4 < none"),
    *_of("Hua et al. 2025", LONGEST, "fope < rope-1e4, alibi < fope"),
    *_of("Lin et al. 2025", TRAINED, "fox < rope-1e6", "RoPE of base 500,000"),
    *_of("Lin et al. 2025", LONGEST, "fox < rope-1e6", "RoPE of base 500,000"),
    *_of("Gopalakrishnan et al. 2025", TRAINED, "pope < rope-1e4"),
    *_of("Gopalakrishnan et al. 2025", LONGEST, "pope < rope-1e4"),
    *_of("Gopalakrishnan et al. 2025", LONGEST, "pope < rope-yarn", "YaRN tuned to 4 times the "
         "trained length"),
]
# what our difference says of a claim, in the order of tables
VERDICTS = {"higher": "**the opposite**", "no difference seen": "not decided", "lower": "the same"}


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
        if {claim.better, claim.worse} <= values.keys():
            ours, theirs = ([seeds for length, seeds in values[method].items()
                             if length != "mean"][claim.at]
                            for method in (claim.better, claim.worse))
            difference = paired_difference(ours, theirs, few_seeds=True)
            if math.isfinite(difference.low):  # neither run failed, and there are enough seeds
                found.append((claim, difference))
    return sorted(found, key=lambda pair: [*VERDICTS].index(pair[1].verdict))


def table(results: Sequence[Mapping]) -> str:
    """Markdown: a row for each claim of :func:`judged`."""
    lengths = _lengths(results)
    return markdown(
        ["better in its paper", "than", "at", "our difference", "ours say", "source",
         "in the paper"],
        [[label(claim.better), label(claim.worse), f"{lengths[claim.at]:,}",
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
    claims, lengths = judged(results), _lengths(results)
    against = [f"{label(claim.better)} higher than {label(claim.worse)} at "
               f"{lengths[claim.at]:,} ({with_interval(found, 2)}; {claim.source})"
               for claim, found in claims if found.verdict == "higher"]
    count = [sum(found.verdict == verdict for _, found in claims) for verdict in VERDICTS]
    return "\n".join([
        f"- **Lower mean perplexity than SeqPE**: {_listed(rows['lower'])}.",
        f"- Not decided by these seeds: {_listed(rows['no difference seen'])}.",
        f"- Higher: {_listed(rows['higher'])}.",
        f"- **Against a published finding**: {_listed(against)}.",
        f"- Of {sum(count)} published findings our rows repeat {count[2]}, contradict {count[0]} "
        f"and do not decide {count[1]}. Intervals are not corrected for their number. The papers' "
        "set-ups differ from ours in more than size (FIRE's initial threshold lay within the "
        "trained length, and here far beyond it), so a contradiction does not refute a paper.\n"])


def _lengths(results: Sequence[Mapping]) -> list[int]:
    """The measured lengths, the trained one first."""
    first, *_ = by_method(results, "perplexity").values()
    return [int(length) for length in first if length != "mean"]


def _listed(parts: Sequence[str]) -> str:
    return "; ".join(parts) or "none"
