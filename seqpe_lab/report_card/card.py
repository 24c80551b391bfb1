"""The report card: all that was measured, as text, as JSON and as pictures."""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from seqpe_lab.plain_text import columns
from seqpe_lab.provenance import provenance
from seqpe_lab.recipes import language_model
from seqpe_lab.report_card.behaviour import FAR, Fact, facts, paths, scores
from seqpe_lab.report_card.costs import READ, TRAINED, Cost, costs
from seqpe_lab.report_card.must_hold import Check, run_checks
from seqpe_lab.report_card.toy_model import toy_model

if TYPE_CHECKING:
    import plotly.graph_objects as go


def report_card(encoding: str, options: Mapping[str, Any] | None = None, *,
                lengths: Sequence[int] = (TRAINED, READ), far: int = FAR,
                train: str | None = None) -> Card:
    """Examine an encoding on a small model, on the CPU.

    That takes seconds, or minutes if it is slow at 16,384 tokens, as a bias of all pairs is.

    Args:
        encoding: a registered name, or "package.module:Class", or "folder/file.py:Class".
        options: of the encoding.
        lengths: tokens at which time and memory are measured.
        far: the number of positions at whose end bfloat16 is tried.
        train: the scale of a training with the encoding, and of one with NoPE; None: no training.

    Raises:
        ValueError: an unknown encoding or scale, or an encoding that takes no sequence of text.
        TypeError: an option that the encoding does not have.

    >>> card = report_card("rope", lengths=[], far=100)
    >>> card.failures, card.paths
    ([], ['queries and keys'])
    """
    options = dict(options or {})
    model = toy_model(encoding, options)
    recipes = []
    if train is not None:
        chosen = {"encoding_options": options} if options else {}
        recipes = [language_model(encoding, train, **chosen), language_model("none", train)]
        recipes = recipes[:1] if recipes[0] == recipes[1] else recipes
    checks = run_checks(model)
    try:
        entered, curve = paths(model), scores(model)
    except Exception:  # a failed check names the error of someone's own encoding
        if all(check.passed for check in checks):
            raise
        entered, curve = [], []
    if not all(math.isfinite(score) for row in curve for score in row):
        curve = []
    return Card(encoding, options, checks, facts(model, far), entered, curve,
                costs(encoding, options, lengths) if all(check.passed for check in checks) else [],
                [_trained(recipe) for recipe in recipes], train,
                sum(p.numel() for p in model.encoding.parameters()), provenance("cpu"))


@dataclass(repr=False)
class Card:
    """What :func:`report_card` found; its ``repr`` is its text, as a notebook shows it.

    Attributes:
        encoding, options: what was examined.
        checks: what must hold.
        facts: how it behaves.
        paths: where positions enter (:func:`~seqpe_lab.report_card.behaviour.paths`).
        scores: by distance, a row for each head, in nats; empty where they are not finite.
        costs: empty where a check failed.
        results: of the trainings, as :meth:`Run.outcome <seqpe_lab.runs.Run.outcome>` gives them.
        scale: of the trainings; None without.
        parameters: of the encoding, in a model of 2 layers of 32 features.
        provenance: versions, device and commit.
    """
    encoding: str
    options: dict[str, Any]
    checks: list[Check]
    facts: list[Fact]
    paths: list[str]
    scores: list[list[float]]
    costs: list[Cost]
    results: list[dict[str, Any]]
    scale: str | None
    parameters: int
    provenance: dict[str, Any]

    @property
    def failures(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if not check.passed]

    @property
    def warnings(self) -> list[str]:
        """What is allowed, but seldom meant."""
        if len(self.paths) < 2:
            return []
        return [f"positions enter by {' and by '.join(self.paths)}: are these two encodings at "
                "once?"]

    @property
    def title(self) -> str:
        own = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return self.encoding + (f" ({own})" if own else "")

    def verdict(self) -> str:
        """One line: which of the checks failed, if any."""
        if self.failures:
            return f"FAILS {len(self.failures)} of {len(self.checks)}: {', '.join(self.failures)}"
        return f"passes all {len(self.checks)} checks"

    def tables(self) -> dict[str, list[tuple[str, ...]]]:
        """{heading: rows of cells, the first of them the names of the columns}."""
        found: dict[str, list[tuple[str, ...]]] = {"What must hold": [
            ("check", "", "difference", "what must be equal"),
            *((check.name, "pass" if check.passed else "FAIL", _difference(check),
               check.error or check.claim) for check in self.checks)]}
        found["How it behaves"] = [
            ("", "answer", "change"),
            *((fact.name, fact.answer, "-" if fact.change is None else f"{fact.change:.1e}")
              for fact in self.facts),
            ("positions enter by", ", ".join(self.paths) or "none of the hooks", "-"),
            ("parameters of its own", f"{self.parameters:,} in 2 layers of 32", "-")]
        if self.costs:
            found["What it costs, over NoPE"] = [
                ("tokens", "pass", "time", "memory", "seconds", "MiB"),
                *((f"{cost.tokens:,}", cost.work, f"x {cost.time_ratio:.2f}",
                   f"x {cost.memory_ratio:.2f}", f"{cost.seconds:.3f}", f"{cost.mib:.1f}")
                  for cost in self.costs)]
        if self.results:
            lengths = next((list(result["perplexity"]) for result in self.results
                            if "perplexity" in result), [])
            found[f"Perplexity after training at {self.scale} scale, by tokens"] = [
                ("", *(f"{int(length):,}" for length in lengths)),
                *((result["method"], *(f"{result['perplexity'][length]:.2f}"
                                       if "perplexity" in result else "failed"
                                       for length in lengths)) for result in self.results)]
        return found

    def lines(self) -> Iterator[str]:
        """The card as text."""
        yield f"{self.title}: {self.verdict()}"
        yield from (f"WARNING: {warning}" for warning in self.warnings)
        for heading, rows in self.tables().items():
            yield from ("", heading)
            yield from columns(rows, "<" * len(rows[0]))

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        found = asdict(self) | {"failures": self.failures, "warnings": self.warnings}
        for entry, cost in zip(found["costs"], self.costs):
            entry |= {"time_ratio": cost.time_ratio, "memory_ratio": cost.memory_ratio}
        return found

    def figures(self) -> dict[str, go.Figure]:
        """{name: plotly figure}: scores by distance, costs, perplexity; what was measured."""
        import plotly.graph_objects as go

        from seqpe_lab.course import figures
        from seqpe_lab.course.style import COLOURS, finish
        found = {}
        if self.scores:
            heads = {f"head {number}": row for number, row in enumerate(self.scores, start=1)}
            found["scores"] = figures.curves(
                range(len(self.scores[0])), heads, x_title="distance to the key (tokens)",
                title=f"{self.title}: scores of keys with the same content",
                y_title="score minus that at distance 0 (nats)",
                caption="first layer of a small model with random weights: what an encoding "
                        "learns is noise here")
        if self.costs:
            figure = go.Figure()
            passes = [f"{cost.work}, {cost.tokens:,} tokens" for cost in self.costs]
            figure.add_bar(name="time", x=passes, y=[cost.time_ratio for cost in self.costs])
            figure.add_bar(name="memory", x=passes, y=[cost.memory_ratio for cost in self.costs])
            figure.update_traces(texttemplate="%{y:.2f}")
            figure.update_yaxes(title="ratio to NoPE", rangemode="tozero")
            found["costs"] = finish(figure, f"{self.title}: time and memory over NoPE",
                                    "2 layers of 32 features on the CPU, one text", barmode="group",
                                    colorway=COLOURS)
        if any("perplexity" in result for result in self.results):
            recipe = language_model("none", self.scale)
            found["extrapolation"] = figures.extrapolation(self.results,
                                                           train_len=recipe.train_len)
        return found


def _difference(check: Check) -> str:
    return "-" if check.difference is None else f"{check.difference:.1e}"


def _trained(recipe: Any) -> dict[str, Any]:
    """Train, or find the finished run; a run that diverged is a result, too."""
    from seqpe_lab.runs.divergence import DivergedError
    from seqpe_lab.runs import Run
    from seqpe_lab.training import train
    try:
        return train(recipe, progress=False).outcome()
    except DivergedError:
        return Run(recipe).outcome()
