"""The site in a real browser, from disk and offline: light and dark, on a phone and a large screen.

$SEQPE_SCREENSHOTS names a folder that keeps a picture of each page.
"""

import os
from pathlib import Path

import made_site
import nbformat
import pytest

from seqpe_lab.course import figures
from seqpe_lab.course.figure_files import find_browser, write_on_page
from seqpe_lab.course.lesson_page import lesson_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e '.[lab,test]'"
)
pytestmark = pytest.mark.skipif(
    not find_browser(), reason="no browser: `make browser` installs chromium where it can"
)
PAGES = (
    "index.html",
    "results.html",
    "glossary.html",
    "teaching.html",
    "explorers.html",
    "reference.html",
    "reference/digits.html",
    "lessons/executed.html",
    "01-line.html",
)
WIDTHS, SCHEMES = (390, 1024, 1400), ("light", "dark")
ANSWER = "Because it has no positions."


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = made_site.make(tmp_path_factory.mktemp("site"))
    figure = figures.curves([1, 2], {"a": [1, 2]}, title="A line", x_title="x", y_title="y")
    asked = (
        '<div class="seqpe-prediction"><b>Your prediction.</b> Which?<ul><li>a</li><li>b</li></ul>'
        f"<details><summary>Answer</summary><p>{ANSWER}</p></details></div>"
    )
    outputs = [
        {"text/html": write_on_page(figure, folder, "01-line", "executed at scale small")},
        {"text/html": asked},
        {"text/plain": "a long line " * 40},
    ]
    wide = "\n".join(f"|{cell * 20}" for cell in (" wide |", "---|", " cell |"))
    formula = f"$${'x + ' * 99}x$$"
    cells = [
        nbformat.v4.new_markdown_cell(f"# 01 Executed\n\n## A wide formula\n\n{formula}\n\n{wide}"),
        nbformat.v4.new_markdown_cell("| | |\n|---|---|\n| Time | 10 min |"),
    ]
    cells += [
        nbformat.v4.new_code_cell(
            "print(1)\n" * 20, outputs=[nbformat.v4.new_output("display_data", data)]
        )
        for data in outputs
    ]
    page = lesson_page(nbformat.v4.new_notebook(cells=cells), "executed", "")
    (folder / "lessons" / "executed.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, site):
    """opened(page, width, scheme): a tab, with a page or "", and what goes wrong in it."""
    contexts = []

    def open_page(page: str, width: int = 1024, scheme: str = "light"):
        context = browser.new_context(
            offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}
        )
        contexts.append(context)
        tab, wrong = context.new_page(), []
        tab.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
        tab.on("request", lambda sent: sent.url.startswith("http") and wrong.append(sent.url))
        if page:
            tab.goto((site / page).as_uri())
        return tab, wrong

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways_or_misses_anything(opened, site, width, scheme):
    tab, wrong = opened("", width, scheme)
    for page in PAGES:
        tab.goto((site / page).as_uri())
        tab.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        tab.wait_for_function("[...document.images].every(image => image.complete)")
        missing = "[...document.images].filter(image => !image.naturalWidth).map(i => i.src)"
        assert tab.evaluate(missing) == [], page
        beyond = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{page} is {beyond} px too wide at {width}"
        back = tab.evaluate("getComputedStyle(document.documentElement).colorScheme")
        assert back == "light dark", page
        if folder := os.environ.get("SEQPE_SCREENSHOTS"):
            tab.screenshot(path=Path(folder, f"{page.replace('/', '-')}-{width}-{scheme}.png"))
        assert not wrong, (page, wrong)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_automatic_check_of_accessibility_finds_nothing(opened, site, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install -e '.[test]'"
    )
    tab, _ = opened("", scheme=scheme)
    for page in PAGES:
        tab.goto((site / page).as_uri())
        found = axe.Axe().run(tab)
        assert found.violations_count == 0, f"{page}, {scheme}:\n{found.generate_report()}"


def test_a_prediction_s_answer_is_behind_a_click(opened):
    tab, _ = opened("lessons/executed.html")
    assert not tab.get_by_text(ANSWER).is_visible()
    tab.locator("summary", has_text="Answer").click()
    assert tab.get_by_text(ANSWER).is_visible()


@pytest.mark.parametrize("start", ["index.html", "lessons/07_sum_mul_bias.html"])
def test_the_search_finds_a_section_and_leads_to_it(opened, start):
    tab, wrong = opened(start)
    tab.keyboard.press("/")
    tab.keyboard.type("candidate set")
    tab.locator("#found li").nth(2).wait_for()
    tab.locator("#found a").first.click()
    tab.wait_for_url("**/glossary.html#candidate-set")
    assert tab.locator("dfn#candidate-set").is_visible()
    tab.locator("#search").fill("nosuchword")
    tab.get_by_text("Nothing found.").wait_for()
    assert not wrong
