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
    "index.html", "results.html", "glossary.html", "teaching.html", "explorers.html",
    "protocol.html", "reference.html", "reference/encodings.html", "lessons/executed.html",
    "lessons/07_sum_mul_bias.html", "01-line.html",
)  # fmt: skip
WIDTHS, SCHEMES = (390, 1024, 1400), ("light", "dark")
ANSWER = "Because it has no positions."


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = made_site.make(tmp_path_factory.mktemp("site"), pictures=True)
    figure = figures.curves([1, 2], {"a": [1, 2]}, title="A line", x_title="x", y_title="y")
    outputs = [
        {"text/html": write_on_page(figure, folder, "01-line", "executed at scale small")},
        {"text/html": '<div class="seqpe-prediction"><b>Your prediction.</b> Which?<ul><li>a</li>'
                      f"<li>b</li></ul><details><summary>Answer</summary>{ANSWER}</details></div>"},
        {"text/plain": "a long line " * 40},
    ]  # fmt: skip
    cells = [nbformat.v4.new_markdown_cell("# 01 Executed\n\n## A wide formula\n\n$$" + "x+" * 99
                                           + "x$$\n\n" + "| wide " * 20 + "|\n" + "|---" * 20
                                           + "|\n" + "| cell " * 20 + "|")]  # fmt: skip
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


def opened(browser, site, page, width=1024, scheme="light"):
    """A tab with a page, and the list of what went wrong so far."""
    context = browser.new_context(
        offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    tab, wrong = context.new_page(), []
    tab.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
    tab.on("request", lambda request: request.url.startswith("http") and wrong.append(request.url))
    tab.goto((site / page).as_uri())
    return tab, wrong


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways_or_misses_anything(browser, site, width, scheme):
    for page in PAGES:
        tab, wrong = opened(browser, site, page, width, scheme)
        tab.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        tab.wait_for_function("[...document.images].every(image => image.complete)")
        missing = "[...document.images].filter(image => !image.naturalWidth).map(i => i.src)"
        assert tab.evaluate(missing) == [], page
        beyond = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{page} is {beyond} px too wide at {width}"
        dark = (
            tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        )
        assert dark == (scheme == "dark") or page == "01-line.html"
        if folder := os.environ.get("SEQPE_SCREENSHOTS"):
            tab.screenshot(path=Path(folder, f"{page.replace('/', '-')}-{width}-{scheme}.png"))
        assert not wrong, (page, wrong)
        tab.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_automatic_check_of_accessibility_finds_nothing(browser, site, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install -e '.[test]'"
    )
    for page in PAGES:
        tab, _ = opened(browser, site, page, scheme=scheme)
        tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        found = axe.Axe().run(tab)
        assert found.violations_count == 0, f"{page}, {scheme}:\n{found.generate_report()}"
        tab.context.close()


def test_a_prediction_s_answer_is_behind_a_click(browser, site):
    tab, _ = opened(browser, site, "lessons/executed.html")
    assert not tab.get_by_text(ANSWER).is_visible()
    tab.get_by_text("Answer", exact=True).click()
    assert tab.get_by_text(ANSWER).is_visible()


@pytest.mark.parametrize("start", ["index.html", "lessons/07_sum_mul_bias.html"])
def test_the_search_finds_a_section_and_leads_to_it(browser, site, start):
    tab, wrong = opened(browser, site, start)
    tab.keyboard.press("/")
    tab.keyboard.type("candidate set")
    link = tab.locator("#found a", has_text="candidate set").first
    link.wait_for()
    assert tab.locator("#found li").count() > 2
    link.click()
    tab.wait_for_url("**/glossary.html#candidate-set")
    assert tab.locator("dfn#candidate-set").is_visible()
    tab.locator("#search").fill("nosuchword")
    tab.get_by_text("Nothing found.").wait_for()
    assert not wrong
