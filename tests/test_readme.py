"""What the README and the lessons show of committed results is what data/results holds."""

import re
from pathlib import Path

import pytest
from page_parts import part_of

from seqpe_lab.package_data import committed_if_any, committed_results
from seqpe_lab.recipes import (
    HEADLINE,
    IMAGE_METHODS,
    TUNED,
    Recipe,
    image_model,
    language_model,
    question_answering,
    tuned_method,
)
from seqpe_lab.reproduction import collecting, comparison, conclusions, problem_results
from seqpe_lab.reproduction.collecting import readme_table
from seqpe_lab.tasks import text_data
from seqpe_lab.tasks.repeats import overlap
from seqpe_lab.tasks.text_data import load_documents, python_documentation

PROJECT = Path(__file__).parents[1]

README = (PROJECT / "README.md").read_text(encoding="utf-8")
RESULTS = committed_results("length-extrapolation-small")
IMAGE_RESULTS = committed_results("resolution-extrapolation-small")
QA_RESULTS = committed_results("question-answering-small")


OF_MEASURE = {"perplexity": RESULTS, "accuracy": IMAGE_RESULTS, "exact_match": QA_RESULTS}


@pytest.mark.parametrize("measure", OF_MEASURE)
def test_tables_and_conclusions_of_the_readme_are_made_from_the_committed_results(measure):
    results, remedy = OF_MEASURE[measure], "run `python -m seqpe_lab collect`"
    assert part_of(README, measure) == readme_table(results), remedy
    said = part_of(README, f"{measure} conclusions")
    assert said == conclusions.conclusions(measure, results), remedy


def test_what_the_readme_says_of_further_encodings_is_made_from_the_committed_results():
    said = comparison.readme_part(committed_results("encodings-small"))
    assert part_of(README, "encodings") == said


def test_what_is_said_of_tasks_is_made_from_the_committed_results():
    results = committed_results(f"{problem_results.FILE}-small")
    assert part_of(README, "tasks") == problem_results.readme_part(results)
    page = (PROJECT / "data" / "results" / f"{problem_results.FILE}-small.md").read_text("utf-8")
    assert page == problem_results.page(results)


def test_the_readme_s_first_picture_says_what_it_shows():
    others = map(committed_if_any, collecting.HEADLINE_FILES[1:])
    assert part_of(README, "headline") == conclusions.headline(RESULTS, *others)


def test_the_picture_in_the_readme_is_there():
    path = PROJECT / re.search(r"!\[[^]]*\]\(([^)]+)\)", README)[1]
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: f"{r['method']}-{r['seed']}")
def test_every_committed_result_carries_its_provenance(result):
    recipe = language_model(result["method"], result["scale"], result["seed"])
    assert isinstance(recipe, Recipe) and result["recipe"] == recipe.digest(), (
        "the recipe has changed since: train and collect again"
    )
    assert result["commit"] and not result["commit"].endswith("-dirty")
    assert (
        result["versions"]["torch"]
        and result["device"]
        and result["data"]["hash"]
        and result["protocol"] == "non-overlapping"
    )
    assert list(map(int, result["perplexity"])) == list(recipe.eval_lens)


@pytest.mark.parametrize(
    "result", IMAGE_RESULTS, ids=lambda r: f"{r['method']}-{r['seed']}-{r['protocol'].split()[0]}"
)
def test_every_committed_image_result_carries_its_provenance(result):
    shown = "place" if result["protocol"].startswith("object") else "zoom"
    recipe = image_model(result["method"], result["scale"], result["seed"], augment=shown)
    assert result["recipe"] == recipe.digest(), (
        "the recipe has changed since: train and collect again"
    )
    assert result["commit"] and not result["commit"].endswith("-dirty")
    assert (
        result["versions"]["timm"]
        and result["device"]
        and result["data"]["hash"]
        and result["split"] == "test"
    )
    assert list(map(int, result["accuracy"])) == list(recipe.eval_sizes)


@pytest.mark.parametrize("result", QA_RESULTS, ids=lambda r: f"{r['method']}-{r['seed']}")
def test_every_committed_result_of_questions_carries_its_provenance(result):
    base = language_model(tuned_method(result["method"]), result["scale"], result["seed"])
    recipe = question_answering(result["method"], base=base)
    assert result["recipe"] == recipe.digest(), (
        "the recipe has changed since: train and collect again"
    )
    assert result["commit"] and not result["commit"].endswith("-dirty")
    assert (
        result["versions"]["torch"]
        and result["device"]
        and result["data"]["hash"]
        and result["questions"] == recipe.eval_questions
    )
    assert list(map(int, result["exact_match"])) == list(recipe.eval_lens)


def test_tuned_methods_have_three_seeds():
    assert all(
        {r["seed"] for r in QA_RESULTS if r["method"] == method} >= {0, 1, 2} for method in TUNED
    )


def test_the_methods_of_table_3_have_several_seeds():
    seeds = {
        method: {r["seed"] for r in IMAGE_RESULTS if r["method"] == method}
        for method in IMAGE_METHODS
    }
    assert all(
        {1, 2} <= seeds[m]
        for m in ("none", "sinusoidal", "learned", "rope-axial", "rope-mixed", "seqpe-mul")
    )


def test_the_headline_methods_and_alibi_and_seqpe_have_three_seeds():
    seeds = {method: {r["seed"] for r in RESULTS if r["method"] == method} for method in HEADLINE}
    assert {0, 1, 2} <= seeds["seqpe"] & seeds["alibi"]
    assert all(seeds.values())


def test_what_is_said_of_repeated_passages_is_measured():
    before, after = python_documentation(), load_documents("python")[0]
    with_repeats = text_data._split_by_hash(before)
    kept = sum(len(t) for split in after.values() for t in split.values())
    shares = [
        overlap(splits["train"].values(), splits["test"].values())
        for splits in (with_repeats, after)
    ]
    assert shares[0] > 100 * shares[1]
    whole = sum(map(len, before.values()))
    prose = " ".join(README.split())
    assert f"{100 * kept / whole:.0f} % of the text is kept" in prose
    assert f"that also occur in the training text is {100 * shares[1]:.2f} %." in prose


def test_every_lesson_named_in_the_readme_is_there_and_the_other_way_round():
    named = set(re.findall(r"\(notebooks/([^)]+\.ipynb)\)", README))
    assert named == {path.name for path in (PROJECT / "notebooks").glob("*.ipynb")}


def examples() -> list[dict]:
    """What each Python example of the README defines, once it has run."""
    scopes = []
    for code in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(code, scope := {})
        scopes.append(scope)
    return scopes


def test_the_readme_s_examples_run():
    own_layer, model = examples()
    assert model["logits"].shape == (1, 64, 256)
    assert own_layer["loss"].isfinite() and own_layer["loss"] > 0
    parameters = dict(own_layer["layer"].named_parameters())
    assert all(p.grad is not None and p.grad.any() for p in parameters.values()), parameters.keys()
