"""Drawings: valid SVG with a title and a description, readable texts, colours of the palette."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from seqpe_lab.course import drawings
from seqpe_lab.course.drawings_canvas import PALETTE, SMALL, WIDTH, Canvas
from seqpe_lab.course.figure_files import find_browser

SVG = "{http://www.w3.org/2000/svg}"
# texts that leave the drawing or their box, or lie on one another
FAULTS = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
    const size = svg.viewBox.baseVal, faults = [], name = svg.querySelector('title').textContent
    const edges = box => [box.x, box.y, box.x + box.width, box.y + box.height]
    const texts = [...svg.querySelectorAll('text')].map(text => [text, edges(text.getBBox())])
    texts.forEach(([text, [left, top, right, bottom]], number) => {
        const named = fault => faults.push(`${name}: "${text.textContent}" ${fault}`)
        if (left < 1 || top < 0 || right > size.width - 1 || bottom > size.height)
            named('leaves the drawing')
        const box = text.parentNode.querySelector(':scope > rect')
        if (box && text.parentNode.tagName == 'g') {
            const [x0, y0, x1, y1] = edges(box.getBBox())
            if (left < x0 || right > x1 || top < y0 - 3 || bottom > y1 + 3) named('leaves its box')
        }
        for (const [other, [x0, y0, x1, y1]] of texts.slice(0, number))
            if (Math.min(right, x1) - Math.max(left, x0) > 1
                && Math.min(bottom, y1) - Math.max(top, y0) > 4)
                named(`lies on "${other.textContent}"`)
    })
    return faults
})"""


@pytest.mark.parametrize("name", drawings.NAMES)
def test_a_drawing_is_an_svg_with_title_description_large_texts_and_colours_of_the_theme(name):
    svg = drawings.drawing(name).svg
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    labels = {element.get("id"): element.text for element in root if element.get("id")}
    assert root.get("aria-labelledby").split() == list(labels)
    title, description = labels.values()
    assert 10 < len(title) < 70 and len(description) > 100
    colours = {f"var(--d-{colour})" for colour in PALETTE} | {"none"}
    for element in root.iter():
        assert {element.get("fill", "none"), element.get("stroke", "none")} <= colours
        if element.tag == f"{SVG}text":
            assert float(element.get("font-size")) >= SMALL
    assert len(svg) < 20_000


@pytest.mark.parametrize("theme", [0, 1])
def test_each_colour_contrasts_with_the_paper(theme):
    def luminance(colour: str) -> float:  # WCAG 2.1
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts))

    paper = luminance(PALETTE["paper"][theme]) + 0.05
    for name in set(PALETTE) - {"paper"}:
        ratio = (luminance(PALETTE[name][theme]) + 0.05) / paper
        assert max(ratio, 1 / ratio) >= 4.5, name


def test_no_text_leaves_its_box_or_the_drawing_or_lies_on_another(page):
    page.set_content("".join(drawings.drawing(name).svg for name in drawings.NAMES))
    assert page.evaluate("document.querySelectorAll('svg').length") == len(drawings.NAMES)
    assert page.evaluate(FAULTS) == []


def test_the_measurement_finds_texts_that_do_not_fit(page):
    canvas = Canvas("faults", "faults", 100)
    canvas.box(100, 10, 40, 30, "too long for it")
    canvas.text(WIDTH - 10, 70, "beyond")
    canvas.text(100, 90, "twice")
    canvas.text(104, 90, "twice")
    page.set_content(canvas.svg("faults"))
    kinds = [re.sub(r'.*?".*?" ', "", fault) for fault in page.evaluate(FAULTS)]
    assert kinds == ["leaves its box", "leaves the drawing", 'lies on "twice"']


@pytest.mark.parametrize(
    "scheme, attribute, dark",
    [
        ("light", "", False),
        ("dark", "", True),
        ("dark", 'data-jp-theme-light="true"', False),
        ("light", 'data-jp-theme-light="false"', True),
        ("light", 'data-theme="dark"', True),
    ],
)
def test_colours_follow_the_notebook_else_the_reader(page, scheme, attribute, dark):
    page.emulate_media(color_scheme=scheme)
    page.set_content(f"<div {attribute}>{drawings.drawing('digits').svg}</div>")
    red = page.evaluate("getComputedStyle(document.querySelector('text')).fill")
    assert (
        red
        == f"rgb({', '.join(str(int(PALETTE['quiet'][dark][i : i + 2], 16)) for i in (1, 3, 5))})"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_an_exported_drawing_has_its_colours_written_out(tmp_path, monkeypatch, dark):
    monkeypatch.setattr(drawings, "find_browser", lambda: None)
    (file,) = drawings.export("digits", tmp_path, dark=dark)
    svg = file.read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert "var(" not in svg and PALETTE["paper"][dark] in svg


@pytest.mark.skipif(not find_browser(), reason="no browser: `make browser` installs chromium")
def test_an_exported_drawing_is_a_picture_too_if_there_is_a_browser(tmp_path):
    from PIL import Image

    _, picture = drawings.export("digits", tmp_path)
    with Image.open(picture) as image:
        assert image.size == (1_440, 1_200)
        assert image.convert("RGB").getpixel((720, 3)) == (255, 255, 255)


def test_a_lesson_shows_a_drawing_and_an_unknown_name_lists_the_choices():
    from seqpe_lab.course.lesson import Lesson

    shown = Lesson("03", "smoke", seed=0).drawing("digits")
    assert shown._repr_html_() == drawings.drawing("digits").svg
    with pytest.raises(ValueError, match="unknown drawing 'digit': choose from overview, digits"):
        drawings.drawing("digit")
