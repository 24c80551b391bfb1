"""What the README and the lessons show of committed results is what data/results holds."""
import re

import pytest

from seqpe_lab.publish import BEGIN, END, readme_table
from seqpe_lab.recipes import HEADLINE, Recipe, language_model
from seqpe_lab.runs import PROJECT, committed_results

README = (PROJECT / "README.md").read_text(encoding="utf-8")
RESULTS = committed_results("length-extrapolation-small")


def test_the_table_in_the_readme_is_made_from_the_committed_results():
    shown = README.split(BEGIN)[1].split(END)[0].strip()
    assert shown == readme_table(RESULTS).strip(), "run `python -m seqpe_lab collect`"


def test_the_picture_in_the_readme_is_there():
    path = PROJECT / re.search(r"!\[[^]]*\]\(([^)]+)\)", README)[1]
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: f"{r['method']}-{r['seed']}")
def test_every_committed_result_carries_its_provenance(result):
    recipe = language_model(result["method"], result["scale"], result["seed"])
    assert isinstance(recipe, Recipe) and result["recipe"] == recipe.digest(), "the recipe has changed since: train and collect again"
    assert result["commit"] and not result["commit"].endswith("-dirty")
    assert result["versions"]["torch"] and result["device"] and result["data"]["hash"] and result["protocol"] == "non-overlapping"
    assert list(map(int, result["perplexity"])) == list(recipe.eval_lens)


def test_the_headline_methods_and_alibi_and_seqpe_have_three_seeds():
    seeds = {method: {r["seed"] for r in RESULTS if r["method"] == method} for method in HEADLINE}
    assert seeds["seqpe"] == seeds["alibi"] == {0, 1, 2}
    assert all(seeds.values())


def test_every_lesson_named_in_the_readme_is_there_and_the_other_way_round():
    named = set(re.findall(r"\(notebooks/([^)]+\.ipynb)\)", README))
    assert named == {path.name for path in (PROJECT / "notebooks").glob("*.ipynb")}


def test_the_readme_s_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    scope = {}
    exec(code, scope)
    assert scope["logits"].shape == (1, 64, 256)
