"""A lesson as a page that needs no kernel and no network: text, formulas, code and outputs."""
from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup
from nbconvert.filters import ansi2html

from seqpe_lab.course.forms import course_of, title_of
from seqpe_lab.course.lesson_cells import folded, tags
from seqpe_lab.course.page_templates import lesson_name, render
from seqpe_lab.course.typesetting import Renderer, formula, slug, to_html, with_formulas
from seqpe_lab.package_data import CLONE

if TYPE_CHECKING:
    from nbformat import NotebookNode

LONG_CODE, LONG_OUTPUT = 14, 30  # lines; longer code is folded, longer output scrolls
ONLY_A_KERNEL_CAN = ('<p class="soft">What stands here answers to the mouse and needs a kernel: '
                     "open the lesson in Jupyter.</p>")


class Summary(NamedTuple):
    """What the contents say of a lesson, as HTML: its name, its question and its finding."""
    name: str
    question: str
    finding: str


def lessons() -> list[Path]:
    """The lessons' notebooks in reading order; none, without a clone."""
    return course_of(CLONE / "notebooks") if CLONE else []


def summary_of(lesson: Path) -> Summary:
    """What a lesson asks and finds: its question, and the first point of its summary.

    The question is the first paragraph that begins with a bold "Question".
    """
    cells = json.loads(lesson.read_text(encoding="utf-8")).get("cells", ())
    text = "\n\n".join("".join(cell["source"]) for cell in cells
                       if cell["cell_type"] == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    question = re.search(r"^\*\*(?:The )?[Qq]uestion\b.*?\*\*:?\s*(.+?)(?:\n\n|\Z)", text,
                         re.MULTILINE | re.DOTALL)
    finding = re.search(r"^#+ [^\n]*Summary[^\n]*\n+(?:[-*]|1\.) (.+?)(?=^(?:[-*]|\d+\.) |\n\n|\Z)",
                        text, re.MULTILINE | re.DOTALL)

    def inline(found: re.Match | None) -> str:
        return re.sub(r"^<p>|</p>\s*$", "", to_html(found[1].strip()).strip()) if found else ""
    return Summary(inline(title) or html.escape(lesson_name(lesson)), inline(question),
                   inline(finding))


def lesson_page(notebook: NotebookNode, stem: str, banner: str) -> str:
    """The page of a lesson, executed or not.

    Args:
        notebook: with outputs, if it was executed.
        stem: the name of its file, without ending.
        banner: HTML that says what the page was made of.
    """
    order = lessons()
    names = {path.stem for path in order}
    here = next((n for n, path in enumerate(order) if path.stem == stem), None)

    def relink(url: str) -> str:
        target = re.fullmatch(r"(?:(?:\./)?([\w-]+)\.ipynb)?(?:#(.*))?", url)
        anchor = f"#{slug(target[2])}" if target and target[2] else ""  # Jupyter's has capitals
        if target and target[1] == "explorers":
            return "../explorers.html"
        if target and target[1] in (*names, None):
            return (f"{target[1]}.html" if target[1] else "") + anchor
        return url

    renderer = Renderer(relink)
    cells = "".join(_cell(cell, number, renderer)
                    for number, cell in enumerate(notebook.cells, start=1))
    headings = [(anchor, Markup(text)) for level, anchor, text in renderer.headings if level == 2]
    return render(
        "lesson.html", root="../", title=lesson_name(Path(stem)), banner=Markup(banner),
        headings=headings, body=Markup(cells),
        before=_named(order[here - 1]) if here else None,
        after=_named(order[here + 1]) if here is not None and here + 1 < len(order) else None)


def _named(lesson: Path) -> tuple[str, str]:
    """(page, title) of a neighbour."""
    return f"{lesson.stem}.html", title_of(lesson)


def _cell(cell: NotebookNode, number: int, renderer: Renderer) -> str:
    """A cell as HTML; ``number`` counts from 1 and is its anchor."""
    if cell.cell_type != "code":
        source = cell.source
        if "footer" in tags(cell):  # the page has links to its neighbours of its own
            source = re.sub(r"[^\n]*\.ipynb\)[^\n]*\s*\Z", "", source)
        return to_html(source, renderer) if cell.cell_type == "markdown" else ""
    outputs = "".join(map(_output, cell.get("outputs", ())))
    lines = len(cell.source.splitlines())
    code = _code(cell.source)
    if folded(cell):  # the first line says what it is
        title = re.match(r"#\s*(.+)", cell.source)
        code = _folded(title[1] if title else "Code", code)
    elif lines > LONG_CODE:
        code = _folded(f"Code, {lines} lines", code)
    return f'<div class="cell" id="cell-{number}">{code}{outputs}</div>\n'


def _code(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    return highlight(source, PythonLexer(), HtmlFormatter()).replace("<pre>", '<pre tabindex="0">')


def _folded(title: str, code: str) -> str:
    return f'<details class="code"><summary>{html.escape(title)}</summary>{code}</details>'


def _output(output: NotebookNode) -> str:
    kind = output.output_type
    if kind == "stream":
        shown = _text(output.text)
    elif kind == "error":
        shown = _text("\n".join(output.traceback))
    else:
        shown = _data(output.data)
    return f'<div class="output {kind}">\n{shown}</div>' if shown else ""


def _data(data: dict[str, Any]) -> str:
    """The richest form that a page can show."""
    if "text/html" in data:
        shown = data["text/html"]
        return shown if "<script" in shown else with_formulas(shown)
    if "image/svg+xml" in data:
        return data["image/svg+xml"]
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<img src="data:{kind};base64,{data[kind].strip()}" alt="output of this cell">'
    if "text/markdown" in data:
        return to_html(data["text/markdown"], Renderer(level=2))
    if "text/latex" in data:
        return formula(data["text/latex"].strip("$ \n"), display=True)
    plain = data.get("text/plain", "")
    if any("widget" in kind for kind in data):
        return "" if "%|" in plain else ONLY_A_KERNEL_CAN  # a progress bar says nothing afterwards
    return _text(plain)


def _text(text: str) -> str:
    """Text as a terminal would show it: a line that was written over shows its last state."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    shown = "\n".join(lines).strip("\n")
    long = ' class="long"' * (len(lines) > LONG_OUTPUT)
    return f'<pre tabindex="0"{long}>{ansi2html(shown)}</pre>' if shown else ""
