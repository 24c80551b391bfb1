"""The explorers' page that opens from disk, in a real browser: its answers are those of Python."""

import dataclasses
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from seqpe_lab.course.figure_files import find_browser
from seqpe_lab.explorers import EXPLORERS, fields, make_explorer, static_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e '.[lab,test]'"
)
pytestmark = pytest.mark.skipif(
    not find_browser(), reason="no browser: `make browser` installs chromium where it can"
)

SAMPLES = 12  # random states of each explorer, beside those of its tour
EQUAL = "seqpe-ood-only"  # a run all whose vectors are the same
TYPED = {  # what is typed into the boxes
    "text": ["99", "1100", "2, 3", "19, 0", "1, 20, 7", "99999"],
    "compare": ["", "7", "0 5 1099"],
}
ANSWER = """async ([name, state, narrow]) => {
    const all = JSON.parse(document.getElementById("about").textContent)
    const defaults = Object.fromEntries(all[name].about.fields.map(f => [f.name, f.default]))
    const answer = await seqpeAnswer(all[name], {...defaults, ...state}, {narrow, table: true})
    const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value
    return JSON.parse(JSON.stringify(answer, plain)) }"""
NUMBER = re.compile(r"[−-]?\d[\d,]*\.?\d*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    static_page.write(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=120_000)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=find_browser())
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, folder):
    """A page without a network; it ends without an error in the console or a request outside."""
    context = browser.new_context(viewport=dict(width=1_280, height=900), offline=True)
    page, wrong = context.new_page(), []
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "blob:")) else wrong.append(asked.url),
    )
    yield page
    context.close()
    assert not wrong


def opened(tab, folder: Path, address: str = ""):
    tab.goto(f"{(folder / 'index.html').as_uri()}#{address}")
    playwright.expect(tab.locator(".seqpe-title")).not_to_be_empty()
    tab.locator(".js-plotly-plot .main-svg").first.wait_for()
    return tab


def states(name: str) -> list[dict]:
    """The states of the tour, and some at random."""
    explorer, chance = make_explorer(name), random.Random(0)
    chosen = [stop["state"] for stop in explorer.tour]
    for _ in range(SAMPLES):
        state = {}
        for field in explorer.fields:
            kind = field["kind"]
            if kind in ("choice", "scale"):
                state[field["name"]] = chance.choice(field["options"])[0]
            elif kind == "number":
                steps = round((field["max"] - field["min"]) / field["step"])
                state[field["name"]] = field["min"] + chance.randint(0, steps) * field["step"]
            elif kind == "flag":
                state[field["name"]] = chance.random() < 0.5
            elif kind == "several":
                values = [option for option, _ in field["options"]]
                state[field["name"]] = sorted(
                    chance.sample(values, chance.randint(0, len(values))), key=values.index
                )
            elif kind == "span":
                places = sorted(chance.choices(range(len(field["options"])), k=2))
                state[field["name"]] = [field["options"][place][0] for place in places]
            elif field["name"] in TYPED:
                state[field["name"]] = chance.choice(TYPED[field["name"]])
        chosen.append(state)
    return chosen


def plain(value):
    """As JSON has it, gaps as None."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def compare(ours, theirs, where: str = "") -> None:
    """Equal but for rounding: what is stored has half precision."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            compare(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        if ours and all(isinstance(value, float) for value in [*ours, *theirs]):
            atol = 2e-3 * max(1.0, *map(abs, ours))
            np.testing.assert_allclose(theirs, ours, rtol=2e-3, atol=atol, err_msg=where)
            return
        for place, (a, b) in enumerate(zip(ours, theirs)):
            compare(a, b, f"{where}[{place}]")
    elif isinstance(ours, str):
        assert isinstance(theirs, str), f"{where}: {ours} / {theirs}"
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs), where
        for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs)):
            a, b = (float(text.replace("−", "-").replace(",", "")) for text in (a, b))
            assert a == pytest.approx(b, rel=2e-3, abs=0.011), f"{where}: {ours} / {theirs}"
    elif isinstance(ours, (int, float)) and not isinstance(ours, bool):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-3), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_page_answers_as_python_does(tab, folder, name):
    explorer = make_explorer(name)
    opened(tab, folder, name)
    for number, state in enumerate(states(name)):
        narrow = number % 2 == 1
        theirs = tab.evaluate(ANSWER, [name, plain(state), narrow])
        made = fields.make(explorer.state, state)
        ours = plain(explorer.answer(made, narrow=narrow, table=True))
        if EQUAL in state.values():  # which of equal vectors is nearest is a matter of rounding
            for answer in (ours, theirs):
                del answer["words"]
            if state.get("view") == "neighbours":
                continue
        compare(ours, theirs, f"{name} {state}")


# --- what a reader sees and does ------------------------------------------------------------------


def test_the_folder_is_small(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6


@pytest.mark.parametrize("in_site", [True, False])
def test_the_page_has_a_heading_and_in_a_site_a_way_back_before_its_scripts_run(tmp_path, in_site):
    if in_site:
        (tmp_path / "explorers.html").touch()
    page = static_page.write(tmp_path / "explorers", ["integration"]).read_text(encoding="utf-8")
    before, _, _ = page.partition("<script")
    assert "<h1>Explorers of position encoding</h1>" in before
    assert ('<a href="../index.html">' in before) == in_site


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_phone_needs_no_sideways_scrolling_and_the_picture_no_wider_page(tab, folder, name):
    tab.set_viewport_size(dict(width=390, height=844))
    opened(tab, folder, name)
    tab.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')._fullLayout?.width <= 390"
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_labels_of_digits_survive_every_move(tab, folder):
    opened(tab, folder, "digits")
    leaves = tab.locator(".js-plotly-plot .y3tick text")
    playwright.expect(leaves).to_have_count(9)
    for label, text, first in (("position", "1100", "1,096"), ("base b", "2", "1,096")):
        box = tab.locator(".seqpe-field", has_text=label).locator("input").last
        box.fill(text)
        box.press("Enter")
        playwright.expect(leaves.first).to_contain_text(first)
        playwright.expect(leaves).to_have_count(9)
        assert all(leaves.all_text_contents())
    playwright.expect(tab.locator(".seqpe-title")).to_contain_text("of base 2")


def test_what_is_typed_wrong_is_said_and_the_picture_stays(tab, folder):
    opened(tab, folder, "digits")
    title = tab.locator(".seqpe-title").text_content()
    box = tab.locator(".seqpe-text input")
    for text, said in (("1x", "'1x' is no position"), ("100000", "type numbers up to 99,999")):
        box.fill(text)
        box.press("Enter")
        playwright.expect(tab.get_by_role("alert")).to_contain_text(said)
        assert tab.locator(".seqpe-title").text_content() == title
    box.fill("7")
    box.press("Enter")
    playwright.expect(tab.get_by_role("alert")).to_have_count(0)


def test_a_link_opens_a_state_and_a_wrong_one_says_so(tab, folder):
    opened(tab, folder, "digits?base=2&k=7&along=first")
    tab.get_by_role("button", name="Copy link").click()
    said = tab.locator(".seqpe-message")
    playwright.expect(said).to_contain_text("#digits?base=2&k=7&along=first")
    opened(tab, folder, "digits?base=99")
    playwright.expect(tab.get_by_role("alert")).to_contain_text("base=99, which cannot be chosen")


def test_touch_keyboard_tour_table_and_large_type(browser, folder):
    context = browser.new_context(viewport=dict(width=800, height=900), has_touch=True)
    tab = opened(context.new_page(), folder, "patches")
    title = tab.locator(".seqpe-title")
    plot = tab.locator(".js-plotly-plot .nsewdrag").first
    box = plot.bounding_box()
    plot.tap(position=dict(x=0.9 * box["width"], y=0.1 * box["height"]))
    playwright.expect(title).to_contain_text("Patch (1, 10)")
    row = tab.locator(".seqpe-field").filter(has=tab.get_by_text("row", exact=True))
    row.locator("input[type=range]").press("ArrowRight")
    playwright.expect(title).to_contain_text("Patch (2, 10)")
    tab.get_by_role("button", name="Tour").tap()
    playwright.expect(tab.locator(".seqpe-tour")).to_contain_text("1 of 5")
    playwright.expect(title).to_contain_text("Patch (2, 2) of 6 × 6")
    tab.get_by_role("button", name="Next").tap()
    playwright.expect(title).to_contain_text("of 12 × 12")
    tab.locator("summary").tap()
    playwright.expect(tab.locator(".seqpe-table tr")).to_have_count(145)
    before = tab.locator(".seqpe-plot").bounding_box()["height"]
    tab.get_by_role("button", name="Large type").tap()
    tab.wait_for_function(
        f"document.querySelector('.seqpe-plot').getBoundingClientRect().height > {1.3 * before}"
    )
    context.close()


def test_what_a_reader_turned_or_zoomed_stays_while_the_axes_mean_the_same(tab, folder):
    """plotly.js keeps it while ``uirevision`` stays."""
    opened(tab, folder, "geometry?positions=256")

    def revision(label: str, option: str) -> str:
        old = tab.locator(".seqpe-title").text_content()
        field = tab.locator(".seqpe-field").filter(has=tab.get_by_text(label, exact=True))
        if label == "step":
            field.locator("input").press(option)
        else:
            field.locator("select").select_option(label=option)
        playwright.expect(tab.locator(".seqpe-title")).not_to_have_text(old)
        tab.wait_for_timeout(300)
        return tab.evaluate("document.querySelector('.js-plotly-plot').layout.uirevision")

    path = revision("view", "path through the positions")
    assert revision("step", "ArrowLeft") == path
    heatmap = revision("view", "heatmap: all with all")
    assert heatmap != path == revision("view", "path through the positions")
    assert revision("view", "neighbours of a position") not in (heatmap, path)
