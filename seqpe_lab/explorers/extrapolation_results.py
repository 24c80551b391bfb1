"""The results that the extrapolation explorer shows: all committed ones, and the paper's tables."""
from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seqpe_lab.course import figures
from seqpe_lab.course.result_tables import complete
from seqpe_lab.course.style import in_order, label
from seqpe_lab.package_data import DATA, OUR_NAMES, paper_table
from seqpe_lab.problems import LEARNT, has_learnt

ABLATION = {(0.0, 0.0): "seqpe-no-losses", (0.1, 0.0): "seqpe-delta-only",
            (0.0, 0.1): "seqpe-ood-only"}  # Table 4's alpha, beta
OTHER = ("trials", "context-use")  # files whose numbers are not measured over lengths or sizes
TITLES = {"perplexity": "perplexity", "accuracy": "accuracy (%)", "exact_match": "exact match (%)",
          "symbols_right": "right symbols (%)"}


@dataclass(frozen=True)
class Measure:
    """What is measured over which lengths or sizes, by us and in the paper."""
    name: str
    results: str  # data/results/<results>-<scale>.json
    measure: str  # as the file has it
    value: str  # title of the vertical axis
    tables: tuple[tuple[int, str], ...] = ()  # of the paper
    about: str = ""  # the paper's model and data
    place: str = "context length (tokens)"  # title of the horizontal axis
    unit: str = "tokens"
    problem: str = ""  # of algorithmic ones, which share a file

    @property
    def percent(self) -> bool:
        return "%" in self.value


ANSWERS = "GPT-2 small, fine-tuned to answer questions of RULER-SQuAD"
TASKS = {
    "text": Measure("text: next token", "length-extrapolation", "perplexity", "perplexity",
                    ((1, ""), (4, "text")), "GPT-2 small on WikiText-103"),
    "answers": Measure("text: answers, perplexity", "question-answering", "perplexity",
                       "perplexity of the answer", ((2, "perplexity"),), ANSWERS),
    "matches": Measure("text: answers, exact match", "question-answering", "exact_match",
                       "exact match (%)", ((2, "em"),), ANSWERS),
    "images": Measure("images: class", "resolution-extrapolation", "accuracy",
                      "top-1 accuracy (%)", ((3, ""), (4, "images"), (5, "")),
                      "ViT-S/16 on ImageNet-1k", "image size (pixels a side)", "pixels"),
}


@functools.lru_cache
def tasks() -> dict[str, Measure]:
    """``TASKS``, and one for each measure of any other file of results by length or size."""
    known = {task.results for task in TASKS.values()}
    found = dict(TASKS)
    for path in sorted((DATA / "results").glob("*.json")):
        name = path.stem.rpartition("-")[0]
        if name in known or path.stem.startswith(OTHER):
            continue
        runs = results(path.stem)
        for problem in sorted({_problem(run) for run in runs}):
            of_problem = dict(place="symbols in the input", unit="symbols", problem=problem)
            for measure in measures_of([run for run in runs if _problem(run) == problem]):
                title = TITLES.get(measure, measure)
                found["-".join(filter(None, (name, problem, measure)))] = Measure(
                    f"{problem or name.replace('-', ' ')}: {title}", name, measure, title,
                    **of_problem if problem else {})
    return found


def _problem(run: dict) -> str:
    return run.get("data", {}).get("problem", "")


def measures_of(runs: Sequence[dict]) -> list[str]:
    """The names of what runs have measured at several lengths."""
    return sorted({name for run in runs for name, values in run.items()
                   if isinstance(values, dict) and len(values) > 1
                   and all(key.isdigit() for key in values)
                   and all(isinstance(value, (int, float)) for value in values.values())})


def results(stem: str) -> list[dict]:
    """The finished runs of a file; none where there is no such file. Larger canvases are no tests
    of the paper's, which resizes."""
    path = DATA / "results" / f"{stem}.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    runs = [run for run in runs if "canvas" not in run.get("protocol", "")]
    return complete(runs) if runs else []


def scales() -> list[str]:
    """The scales of which results are committed, the smallest first."""
    names = {task.results for task in tasks().values()}
    order = ["smoke", "small", "medium", "full"]
    found = {path.stem.rpartition("-")[2] for path in (DATA / "results").glob("*.json")
             if path.stem.rpartition("-")[0] in names}
    return sorted(found, key=lambda scale: (order.index(scale) if scale in order else 9, scale))


@functools.lru_cache
def methods() -> dict[str, str]:
    """All methods of our results and of the paper, and their names."""
    every = {value.method for task in tasks() for where in (papers(task), *(
        ours(task, scale) for scale in scales())) for value in where.values}
    return {method: label(method) for method in in_order(every)}


class Value(NamedTuple):
    """What a method reached at one length or size, by one seed."""
    method: str
    seed: int | str  # "" in the paper
    length: int
    value: float
    ratio: float | None  # to the same run's value at the trained length; None if that is 0


@dataclass(frozen=True)
class Side:
    """One of the two subplots."""
    name: str
    trained: int  # the shortest length or smallest size
    values: list[Value]
    caption: str


@functools.lru_cache
def ours(task: str, scale: str) -> Side:
    """Our committed results."""
    asked = tasks()[task]
    runs = [run for run in results(f"{asked.results}-{scale}")
            if asked.measure in run and _problem(run) == asked.problem]
    counts = {method: _counts(method, runs) for method in {run["method"] for run in runs}}
    values = [value for run in runs for value in _values(
        run["method"], run["seed"], _tested(run, asked.measure, counts[run["method"]]))]
    caption = f"Ours: {figures.caption(runs)}." if runs else ""
    if asked.problem:
        caption += (f" A row below {LEARNT:g} % at a trained size has not learnt the problem and "
                    "ends there.")
    return _side(f"ours, scale {scale}", values, caption)


def _counts(method: str, runs: Sequence[dict]) -> bool:
    """Whether a method's values beyond the trained size count: on problems, where it learnt it."""
    own = [run for run in runs if run["method"] == method]
    if not _problem(own[0]):
        return True
    percents = {n: [run["exact_match"][n] for run in own] for n in own[0]["exact_match"]}
    return has_learnt(percents, own[0]["trained_size"])


def _tested(run: dict, measure: str, beyond: bool) -> dict[str, float]:
    """What a run reached from the trained length or size on; without ``beyond`` at it alone."""
    trained = run.get("trained_size", 0)
    return {n: value for n, value in run[measure].items()
            if int(n) == trained or beyond and int(n) > trained}


@functools.lru_cache
def papers(task: str) -> Side:
    """The paper's numbers; Tables 4 and 5 give losses and integrations, over fewer lengths."""
    asked, values = tasks()[task], []
    for row in (row for table in asked.tables for row in paper_table(*table)):
        if "model" in row:
            method = OUR_NAMES[row["model"]]
        elif "integration" in row:
            method = f"seqpe-{row['integration']}"
        else:  # the last row stands in Table 1 or 3 already
            method = ABLATION.get((row["alpha"], row["beta"]), "")
        if asked.unit == "pixels" and method in ("seqpe", *ABLATION.values()):
            method = method.replace("seqpe", "seqpe-mul")
        if method and not (method == "seqpe-mul" and "integration" in row):  # it is in Table 3
            values += _values(method, "", {n: v for n, v in row.items() if n.isdigit()})
    names = " and ".join(str(number) for number, _ in asked.tables)
    return _side(f"the paper, Table{'s' * (len(asked.tables) > 1)} {names}" if names else
                 "the paper", values, f"The paper: {asked.about}, one value each." if names else "")


def _side(name: str, values: list[Value], caption: str) -> Side:
    return Side(name, min((v.length for v in values), default=1), values, caption)


def _values(method: str, seed: int | str, by_length: dict) -> list[Value]:
    first = float(by_length[min(by_length, key=int)])
    return [Value(method, seed, int(n), float(value), float(value) / first if first else None)
            for n, value in by_length.items()]
