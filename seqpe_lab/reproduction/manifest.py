"""Which runs each of the paper's tables and figures needs; a new table is an entry here."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from seqpe_lab import recipes
from seqpe_lab.package_data import OUR_NAMES, paper_table
from seqpe_lab.recipes.chosen_settings import TRIAL_SEED


class Table(NamedTuple):
    """A table of results, or a part of one, with the paper's beside it.

    Attributes:
        name: of its files.
        title: names the paper's table.
        task: "lm", "qa" or "image".
        measure: the key of the results that it shows.
        paper: arguments of :func:`~seqpe_lab.package_data.paper_table`.
        rows: {method: its row in the paper, or None if the paper has none}.
        reference: the method that all others are compared with.
        untuned: every row has the scale's settings, without trials.
        few_seeds: three seeds get an interval, too, Student's.
    """
    name: str
    title: str
    task: str
    measure: str
    paper: tuple
    rows: Mapping[str, str | None]
    reference: str = "seqpe"
    untuned: bool = False
    few_seeds: bool = False


# Encodings of sequences beyond the paper's, with their own default options. Left out are those that
# would repeat a row (rope-dynamic is rope-ntk by default, alibi-euclidean ALiBi under a causal
# mask) and those for grids (rope-mixed, swin, swin-v2).
FURTHER = ("rope-pi", "rope-ntk", "rope-yarn", "p-rope", "rnope", "liere", "fope", "xpos", "pope",
           "shaw", "t5", "kerple-log", "kerple-power", "fire", "sandwich", "deberta", "cope", "fox",
           "floater", *recipes.VARIANTS)
_PAPER_NAMES = {ours: theirs for theirs, ours in OUR_NAMES.items()}
_TABLE_1 = {method: _PAPER_NAMES[method] for method in recipes.METHODS}
_TABLE_2 = _TABLE_1 | dict.fromkeys(["rope-1e4", "rope-1e8", *recipes.QA_ABLATIONS])
_TABLE_3 = {method: _PAPER_NAMES[method.removesuffix("-mul")] for method in (
    "none", "sinusoidal", "learned", "rope-axial", "rope-mixed", "seqpe-mul")}


def _table_4(full: str) -> dict[str, str | None]:
    """The paper's rows, by α and β, then the same without shifted starts."""
    shifted = {f"{full}-no-losses": "0.0, 0.0", f"{full}-delta-only": "0.1, 0.0",
               f"{full}-ood-only": "0.0, 0.1", full: "0.1, 0.1"}
    return shifted | dict.fromkeys(f"{method}-unshifted" for method in shifted)


TABLES: dict[str, list[Table]] = {
    "table1": [Table("table1", "Table 1: language modelling", "lm", "perplexity", (1,), _TABLE_1)],
    "table2": [Table("table2-exact-match", "Table 2: questions, exact match", "qa", "exact_match",
                     (2, "em"), _TABLE_2),
               Table("table2-perplexity", "Table 2: questions, perplexity of the answers", "qa",
                     "perplexity", (2, "perplexity"), _TABLE_2)],
    "table3": [Table("table3", "Table 3: image classification", "image", "accuracy", (3,),
                     _TABLE_3, "seqpe-mul")],
    "table4": [Table("table4-text", "Table 4: losses and shifted starts, text", "lm", "perplexity",
                     (4, "text"), _table_4("seqpe")),
               Table("table4-images", "Table 4: losses and shifted starts, images", "image",
                     "accuracy", (4, "images"), _table_4("seqpe-mul"), "seqpe-mul")],
    "table5": [Table("table5", "Table 5: sum, bias and mul on images", "image", "accuracy", (5,),
                     {f"seqpe-{how}": how for how in ("sum", "bias", "mul")}, "seqpe-mul")],
    "encodings": [Table("encodings", "Table 1 with other encodings: language modelling", "lm",
                        "perplexity", (1,), _TABLE_1 | dict.fromkeys(FURTHER), untuned=True,
                        few_seeds=True)],
}
# Heat maps of the position vectors of trained models: (task, methods). Fig. 2 shows the first two;
# the third has both losses.
FIGURES: dict[str, tuple[str, Sequence[str]]] = {
    "fig2": ("lm", ("seqpe-no-losses", "seqpe-delta-only", "seqpe")),
    "fig3": ("image", ("learned", "seqpe-mul")),
}
NAMES = (*(name for name in TABLES if name != "encodings"), *FIGURES)  # the paper's, or "all"
# beyond the paper: problems that each row learns, one by one or all as "tasks"
TASK_PROBLEMS = ("copy", "reverse", "needle", "induction", "recall")
TASK_ROWS = ("none", "learned", "rope-1e4", "rope-randomized", "alibi", "t5", "seqpe",
             "seqpe-no-losses")


def paper_rows(table: Table) -> dict[str, dict[str, float]]:
    """{method: {length or size: number, ..., "average": number}} of the paper's rows.

    >>> paper_rows(TABLES["table5"][0])["seqpe-sum"]["224"]
    80.9
    """
    rows = {row_name(row): {column: value for column, value in row.items() if _measured(column)}
            for row in paper_table(*table.paper)}
    return {method: rows[name] for method, name in table.rows.items() if name}


def row_name(row: Mapping[str, str | float]) -> str:
    """The cells of a row of the paper that name it, before those that are measured."""
    return ", ".join(str(value) for column, value in row.items() if not _measured(column))


def _measured(column: str) -> bool:
    return column.isdigit() or column == "average"


def methods_of(table: Table, scale: str) -> list[str]:
    """The rows of a table at a scale.

    Of fine-tuning, a laptop does four encodings and what else of SeqPE may learn on; from medium
    scale on, SeqPE learns on as a whole, as in the paper, and all encodings of Table 1 are tuned.
    """
    if table.task != "qa":
        return list(table.rows)
    small = scale in ("smoke", "small")
    return [*recipes.TUNED, *recipes.QA_ABLATIONS] if small else list(recipes.METHODS)


def fixed_fields(table: Table, scale: str) -> dict[str, float]:
    """The fields that the rows of an untuned table do not take from trials."""
    preset = recipes.PRESETS[scale]
    names = ("learning_rate", "weight_decay") if table.untuned else ()
    return {name: preset[name] for name in names if name in preset}


def training_of(table: Table, scale: str, seed: int) -> list[recipes.Training]:
    """The recipes of a table's rows."""
    fixed = fixed_fields(table, scale)
    return [recipes.MAKERS[table.task](method, scale, seed, **fixed)
            for method in methods_of(table, scale)]


def runs_of(names: Sequence[str], scale: str, seeds: int) -> list[list[recipes.Training]]:
    """The runs for some tables and figures, without repetition, in two stages.

    The runs of the second stage are fine-tuned from those of the first, each from a language model
    with its own seed.

    >>> [len(stage) for stage in runs_of(["table1", "table4"], "small", seeds=5)]
    [115, 0]
    """
    first, second = {}, {}
    for seed in range(seeds):
        for recipe in _needed(names, scale, seed):
            if recipe.task == "qa":
                second[recipe.digest()] = recipe
                recipe = recipes.language_model(recipes.tuned_method(recipe.method), scale, seed)
            first[recipe.digest()] = recipe
    first |= {recipe.digest(): recipe for recipe in problem_runs(names, scale, seeds)}
    return [list(first.values()), list(second.values())]


def problem_runs(names: Sequence[str], scale: str, seeds: int) -> list[recipes.AlgorithmRecipe]:
    """The runs on the problems among ``names``: one of each row and seed.

    >>> len(problem_runs(["copy"], "small", seeds=5)), len(problem_runs(["tasks"], "small", 5))
    (40, 200)
    """
    problems = [problem for problem in TASK_PROBLEMS if {problem, "tasks"} & set(names)]
    return [recipes.algorithm(method, scale, seed, problem=problem) for problem, method, seed
            in product(problems, TASK_ROWS, range(seeds))]


def _needed(names: Sequence[str], scale: str, seed: int = 0) -> Iterator[recipes.Training]:
    """The recipe of each row."""
    for name in names:
        for table in TABLES.get(name, []):
            yield from training_of(table, scale, seed)
        if name in FIGURES:
            task, methods = FIGURES[name]
            yield from (recipes.MAKERS[task](method, scale, seed) for method in methods)


def trials_of(names: Sequence[str], scale: str) -> list[tuple[recipes.Training, dict]]:
    """The trials from which the settings of some tables' methods are chosen.

    Returns:
        (recipe, the fields that are tried); every method of a task has the same grid. Fine-tuning
        has no trials of its own.

    Raises:
        ValueError: a scale or a table whose settings are not chosen by trials.

    >>> len(trials_of(["table1"], "small"))
    48
    """
    if scale not in ("smoke", "small"):
        raise ValueError(f"there are no trials at scale {scale!r}, whose settings are the paper's "
                         "or fixed: choose small (or smoke, to see that it runs)")
    untuned = [name for name in names if any(table.untuned for table in TABLES.get(name, []))]
    if untried := [*untuned, *sorted({"tasks", *TASK_PROBLEMS} & set(names))]:
        raise ValueError(f"there are no trials for {untried[0]!r}, whose rows all have the scale's "
                         "settings: leave --trials out")
    tasks = {"lm" if recipe.task == "qa" else recipe.task for recipe in _needed(names, scale)}
    trials = []
    for task, rows, presets in (("lm", recipes.METHODS, recipes.PRESETS),
                                ("image", recipes.IMAGE_METHODS, recipes.IMAGE_PRESETS)):
        grid = recipes.trial_values(presets[scale]["learning_rate"]) if task in tasks else []
        for method, values in product(rows, grid):
            trials.append((recipes.MAKERS[task](method, scale, TRIAL_SEED, **values,
                                                eval_split="validation"), values))
    return trials
