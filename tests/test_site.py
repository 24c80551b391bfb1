"""The site: all its pages, their links, search, formulas; and what it shows of results."""

import json
import re
import shutil
from pathlib import Path

import made_site
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from page_rules import problems_of

from seqpe_lab.course import drawings, figure_files
from seqpe_lab.course.lesson_page import lesson_page, lessons, summary_of
from seqpe_lab.course.typesetting import formula, to_html
from seqpe_lab.reproduction import conclusions
from seqpe_lab.reproduction.collecting import marks
from seqpe_lab.runs import Run
from seqpe_lab.site import gallery, pages, reference, result_pages, slides

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as it is before anything was executed, without pictures."""
    return made_site.make(tmp_path_factory.mktemp("site"))


def words(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")).split())


def test_every_page_keeps_the_rules(site):
    assert problems_of(site) == []


WRONG = {
    "a dead link": '<a href="nowhere.html">',
    "a place that is not on the page": '<a href="index.html#nowhere">',
    "a request outside": '<script src="https://example.org/a.js"></script>',
    "which is not there": '<img src="a.png" alt="a">',
    "a picture without a text": '<img src="data:image/png;base64,AA">',
    "TeX": r"<p>where $\mathcal L$ is</p>",
    "a widget's text": "<p>VBox(children=(HTML(value='a'),))</p>",
    "an id occurs twice": '<p id="main">',
    "follows one of level": "<h4>a</h4>",
    "bytes": f"<p>{'a' * 1_000_000}</p>",
    "a field without a label": "<input>",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_rules_see_what_is_wrong(wrong, site, tmp_path):
    for name in ("index.html", "site.css", "site.js"):
        shutil.copy(site / name, tmp_path / name)
    text = (site / "teaching.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</main>", f"{WRONG[wrong]}</main>"))
    assert any(p.startswith("page.html: ") and wrong in p for p in problems_of(tmp_path))


# --- lessons --------------------------------------------------------------------------------------


def test_every_lesson_has_a_question_and_a_finding_on_the_contents(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    for lesson in lessons():
        summary = summary_of(lesson)
        assert summary.question and summary.finding, lesson.stem
        assert summary.question in index and summary.finding in index
        assert f'<a href="lessons/{lesson.stem}.html">' in index


def test_lessons_lead_to_their_neighbours_and_the_primer_follows_lesson_00(site):
    order = [lesson.stem for lesson in lessons()]
    assert order[:3] == ["00_start_here", "primer", "01_why_position_matters"]
    for before, after in zip(order, order[1:]):
        first, second = (site / "lessons" / f"{stem}.html" for stem in (before, after))
        assert f'rel="next" href="{after}.html"' in first.read_text(encoding="utf-8")
        assert f'rel="prev" href="{before}.html"' in second.read_text(encoding="utf-8")


def page_of(*cells):
    return lesson_page(new_notebook(cells=list(cells)), "01_digits", "")


def test_a_page_shows_html_of_outputs_and_no_text_of_widgets():
    view = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox(children=(H"}
    asked = (
        "<div class=seqpe-prediction>Which $p$?<details><summary>Answer</summary>a</details></div>"
    )
    outputs = [
        new_output("display_data", view),
        new_output("display_data", view | {"text/html": asked}),
        new_output("stream", text="step 1\rstep 2\n\x1b[1mbold\x1b[0m <b>"),
        new_output("display_data", {"text/markdown": "## Found\n\n$x$"}),
        new_output("error", ename="E", evalue="e", traceback=["E: <e>"]),
    ]
    page = page_of(new_code_cell("a = '<b>'", outputs=outputs))
    assert asked.replace("$p$", formula("p")) in page
    assert "VBox" not in page and "needs a kernel" in page
    assert "step 2" in page and "step 1" not in page and "&lt;b&gt;" in page
    assert "<math" in page and "E: &lt;e&gt;" in page


def test_a_page_leaves_progress_bars_out():
    bar = {
        "application/vnd.jupyter.widget-view+json": {},
        "text/plain": "copying:   0%|          | 0/3 [00:00<?, ?it/s]",
    }
    page = page_of(new_code_cell("train()", outputs=[new_output("display_data", bar)]))
    assert "copying" not in page and "needs a kernel" not in page and "train" in page


def test_long_code_is_folded_and_short_code_is_not():
    page = page_of(new_code_cell("a = 1\n" * 20), new_code_cell("b = 1"))
    assert '<details class="code"><summary>Code, 20 lines</summary>' in page
    assert page.count("<details class") == 1


def test_links_between_notebooks_lead_to_pages_and_headings_skip_no_level():
    page = page_of(
        new_markdown_cell("# A title\n\n# Part A\n\n#### Deep\n\n[next](primer.ipynb#quiz)"),
        new_markdown_cell("## Part A\n\n[explorers](explorers.ipynb)"),
    )
    assert re.findall(r"<(h\d) id=\"([\w-]+)\"", page) == [
        ("h1", "a-title"), ("h2", "part-a"), ("h3", "deep"), ("h2", "part-a-"),
    ]  # fmt: skip
    assert 'href="primer.html#quiz"' in page and 'href="../explorers.html"' in page


def test_the_links_of_a_footer_stand_on_the_page_once():
    footer = new_markdown_cell("Next: more.\n\n← [a](00_start_here.ipynb) · [b](primer.ipynb) →")
    footer.metadata.tags = ["footer"]
    page = lesson_page(new_notebook(cells=[footer]), "01_why_position_matters", "")
    assert "Next: more." in page and page.count('href="primer.html"') == 1


def test_an_empty_heading_of_a_table_is_none():
    assert "<th" not in to_html("| | |\n|---|---|\n| a | b |")
    page = to_html("| | x |\n|---|---|\n| a | b |")
    assert page.count("<th>") == 1 and "<td></td>" in page


# --- formulas -------------------------------------------------------------------------------------


def test_every_formula_of_lessons_and_documents_is_typeset():
    texts = [(PROJECT / source).read_text(encoding="utf-8")
             for _, source in pages.DOCUMENTS.values()]  # fmt: skip
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = 0
    for text in texts:
        found += to_html(text).count("<math")  # raises where one cannot be typeset
    assert found > 500


def test_a_formula_that_cannot_be_typeset_is_named():
    for tex in (r"\nosuchcommand x", r"x_{a}_{b}", "a & b"):
        with pytest.raises(ValueError, match="cannot be typeset"):
            formula(tex)


def test_named_functions_stand_apart_from_their_neighbours():
    typeset = formula(r"x \cos \alpha + \log(y) + \sin 2")
    assert typeset.count("<mspace") == 3  # on both sides of cos, behind sin; not before a bracket


def test_aligned_equations_and_their_numbers_are_typeset():
    typeset = formula(r"\begin{aligned} a &= b & (12) \\ c &= d & (13) \end{aligned}", True)
    assert typeset.count("<mtr>") == 2 and "&" not in re.sub(r"&#\w+;", "", typeset)
    assert "(9)" in formula(r"x \tag{9}", display=True)


# --- glossary, reference, search ------------------------------------------------------------------


def test_the_glossary_names_lessons_that_exist_and_no_symbol_or_term_twice(site):
    text = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
    notation, terms = text.split("## Terms")
    rows = re.findall(r"^\| (?!term |---)(.+?) \| (.+?) \| (.+?) \|$", terms, re.M)
    assert len(rows) == terms.count("\n| ") - 1 >= 100  # no row is left out
    names = [name for name, _, _ in rows]
    assert len({*names}) == len(names)
    assert names == sorted(names, key=lambda name: re.sub(r"\W", "", name).lower())
    assert {lesson for _, _, lesson in rows} <= {
        f"{number:02}" for number in range(21)} | {"primer"}  # fmt: skip
    cells = re.findall(r"^\| (\$.+?) \|", notation, re.M)
    symbols = [symbol for cell in cells for symbol in re.findall(r"\$(.+?)\$", cell)]
    assert len({*symbols}) == len(symbols) > 40
    assert '<dfn id="pivot">pivot</dfn>' in (site / "glossary.html").read_text(encoding="utf-8")


def test_the_reference_shows_signatures_sections_and_examples(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        '"""A module."""\n'
        "class Pair(NamedTuple):\n"
        '    """Two."""\n    a: int\n    b: str = "x"\n'
        "    def both(self, times: int = 1) -> str:\n"
        '        """Both.\n\n        Args:\n            times: how often\n'
        "                in all, *at least* 1.\n\n"
        '        >>> Pair(1).both()\n        1\n        """\n'
        "def _hidden():\n    pass\n"
    )
    found = list(reference.entries(module))
    assert [entry.name for entry in found] == ["", "Pair", "Pair.both"]
    assert found[1].signature == "class Pair(a: int, b: str = 'x')"
    assert found[2].signature == "both(self, times: int=1) -> str"
    about = found[2].about
    assert (
        "<code>times</code>: how often in all, *at least* 1." in about and "&gt;&gt;&gt;" in about
    )


def test_every_public_name_of_the_face_is_in_the_reference_and_in_the_search(site):
    import seqpe_lab

    script = (site / "search_index.js").read_text(encoding="utf-8")
    sections = json.loads(script.removeprefix("window.seqpeSearchIndex = "))
    headings = {section["heading"].split(".")[-1].strip() for section in sections}
    assert {name for name in seqpe_lab.__all__ if callable(getattr(seqpe_lab, name))} <= headings
    found = {s["page"] for s in sections if "pivot" in s["text"] or s["heading"] == "pivot"}
    assert "glossary.html#pivot" in found and any(p.startswith("lessons/05") for p in found)


# --- results --------------------------------------------------------------------------------------


def test_results_are_the_committed_ones_until_all_own_runs_of_a_table_are_finished(
    site, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(figure_files, "write_image", made_site.draw)
    page = words(site / "results.html")
    assert "{" not in page
    assert "Your own runs" not in page and page.count("Committed results: ") == len(
        result_pages.SHOWN
    )
    for task in result_pages._committed().values():  # as they stand as a whole
        assert conclusions.standing(task) in page
    assert ("do not follow" in page) is not all(
        map(conclusions.follows_protocol, result_pages._committed().values())
    )
    from seqpe_lab import recipes

    runs = [Run(recipes.language_model(method, "small")) for method in recipes.HEADLINE]
    for number, run in enumerate(runs):
        result_pages.write(tmp_path, runs)
        about = json.loads((tmp_path / "headline.json").read_text())["about"]
        assert about.startswith("Committed results: "), number
        run.create()
        lengths = {str(length): 4.0 + number for length in run.recipe.eval_lens}
        made = {"commit": "abc123", "tokens": 9, "protocol": "p", "split": "test"}
        data = {"description": "a text", "tokenizer": "bytes", "hash": "ab"}
        run.write_results({"perplexity": lengths, "data": data} | made)
    result_pages.write(tmp_path, runs)
    headline = json.loads((tmp_path / "headline.json").read_text())
    assert headline["title"].endswith("your run, one seed")
    assert headline["about"].startswith("Your own runs, one seed (0), commit abc123")
    page = words(tmp_path / "results.html")
    assert "Your own runs: one seed" in page


# --- pictures -------------------------------------------------------------------------------------


def test_the_readme_shows_the_gallery_and_it_is_small():
    folder = PROJECT / pages.GALLERY
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert gallery._table().join(marks("gallery")) in readme
    shown = set(re.findall(r"docs/gallery/([\w.]+)", readme))
    assert shown == {path.name for path in folder.iterdir()} and len(shown) > 15
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000


def test_the_gallery_takes_a_drawing_or_else_the_first_figure(tmp_path, monkeypatch):
    clone, figures = tmp_path / "clone", tmp_path / "figures"
    for folder in (clone, figures):
        folder.mkdir()
    (clone / "README.md").write_text("<!-- gallery: begin -->\nold\n<!-- gallery: end -->\n")
    monkeypatch.setattr(gallery, "clone", lambda: clone)
    monkeypatch.setattr(gallery, "PICTURES", {"03": "digits"})
    monkeypatch.setattr(
        drawings, "export", lambda name, folder: made_site.draw(None, folder / f"{name}.png")
    )
    for name in ("14-second", "14-first", "140-other"):
        made_site.draw(None, figures / f"{name}.png")
    written = {path.name for path in gallery.write_gallery(figures)}
    assert written == {"03_positions_as_digits.webp", "14_an_audit_of_claims.webp", "README.md"}
    readme = (clone / "README.md").read_text(encoding="utf-8")
    assert "old" not in readme and readme.count("[![") == 2
    assert "](notebooks/14_an_audit_of_claims.ipynb)<br>14 An audit of claims" in readme


def test_slides_are_every_drawing_and_a_page_that_keeps_the_rules(tmp_path, monkeypatch):
    monkeypatch.setattr(
        drawings,
        "export",
        lambda name, folder, dark: (folder / f"{name}.svg").write_text(f"<svg>{dark}</svg>"),
    )
    page = slides.write_slides(tmp_path / "slides", dark=True)
    assert problems_of(page.parent) == []
    assert page.read_text(encoding="utf-8").count("<section") == len(drawings.NAMES)
    assert (page.parent / "digits.svg").read_text() == "<svg>True</svg>"
