"""All pages of the site but those of results and of the library."""
from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course import executing
from seqpe_lab.course.lesson import NOT_SEEN
from seqpe_lab.course.lesson_page import lesson_page, summary_of
from seqpe_lab.course.page_templates import render, write_assets
from seqpe_lab.course.typesetting import Renderer, slug, to_html
from seqpe_lab.explorers import EXPLORERS
from seqpe_lab.package_data import clone
from seqpe_lab.runs import Run
from seqpe_lab.site.lesson_states import state_of
from seqpe_lab.site.reference import write_reference
from seqpe_lab.site.search_index import write_search_index

# page: (title, source in the clone)
DOCUMENTS = {"glossary.html": ("Glossary and notation", "docs/glossary.md"),
             "teaching.html": ("Teaching", "docs/teaching.md"),
             "protocol.html": ("How results are made", "data/results/PROTOCOL.md")}
GALLERY = "docs/gallery"  # a committed picture of each lesson, named as the lesson
NOT_EXECUTED = ('<div role="status" class="state">Not executed here yet: this page has text and '
                "code, and no outputs. <code>make figures</code> executes all lessons.</div>")


def write_lasting_pages(folder: Path, lessons: Sequence[Path]) -> None:
    """Write what does not change while lessons are executed."""
    write_assets(folder)
    for page, (title, source) in (DOCUMENTS | further_pages()).items():
        text = (clone() / source).read_text(encoding="utf-8")
        body = to_html(text, Renderer(lambda url, where=source: _target(url, where)))
        if page == "glossary.html":
            body = _with_anchors(body, lessons)
        write_atomically(folder / page, render("base.html", title=title, here=page,
                                               body=Markup(body)))
    write_explorers_page(folder)
    write_reference(folder)
    for lesson in lessons:
        _write_unexecuted(folder, lesson, anew=True)


def further_pages() -> dict[str, tuple[str, str]]:
    """Pages of committed results that come as Markdown, as ``DOCUMENTS`` has them."""
    folder = clone() / "data" / "results"
    sources = sorted(path for path in folder.glob("*.md") if path.name != "PROTOCOL.md")
    titles = {path: path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
              for path in sources}
    return {f"{path.stem}.html": (titles[path], f"data/results/{path.name}") for path in sources}


def write_explorers_page(folder: Path) -> None:
    """Write the page that leads to the explorers, if they are among the pages."""
    write_atomically(folder / "explorers.html", render(
        "explorers.html", title="Explorers", here="explorers.html", explorers=EXPLORERS,
        there=(folder / "explorers" / "index.html").exists()))


def write_changing_pages(folder: Path, lessons: Sequence[Path], scale: str,
                         runs: Sequence[Run] = ()) -> None:
    """Write the contents, with the state of each lesson, figure and run, and the search index."""
    for lesson in lessons:
        if not executing.page_of(folder, lesson).exists():
            _write_unexecuted(folder, lesson)
    write_front_page(folder, lessons, scale, runs)
    write_search_index(folder)


def write_front_page(folder: Path, lessons: Sequence[Path], scale: str,
                     runs: Sequence[Run] = ()) -> None:
    """Write the contents: lessons, their figures, and runs, each with its state."""
    figures = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    figures.sort(key=lambda entry: (entry["name"] != "headline", entry["name"]))
    cards = []
    for lesson in lessons:
        number, page = lesson.stem.split("_")[0], executing.page_of(folder, lesson)
        mine = [entry for entry in figures if entry["name"].split("-")[0] == number]
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for entry in mine:
            entry["shown"] = f'<figure id="{entry["name"]}">' in text
        cards.append(_card(folder, lesson, scale, mine))
    states = {card["number"]: card["state"] for card in cards
              if not card["state"].startswith(NOT_SEEN.removeprefix("✗ "))}
    for entry in figures:
        entry["has_image"] = (folder / f"{entry['name']}.png").exists()
        entry["state"] = states.get(entry["name"].split("-")[0], "")
    listed = {entry["name"] for card in cards for entry in card["figures"]}
    write_atomically(folder / "index.html", render(
        "index.html", title="Position encoding in Transformers", here="index.html", scale=scale,
        time=time.strftime("%Y-%m-%d %H:%M"), cards=cards,
        figures=[entry for entry in figures if entry["name"] not in listed],
        executed=sum(card["executed"] for card in cards),
        runs=[{"run": run, "made_by": _made_by(run)} for run in runs]))


def _card(folder: Path, lesson: Path, scale: str, figures: list[dict]) -> dict[str, Any]:
    """What the contents show of a lesson."""
    page = executing.page_of(folder, lesson)
    record, picture = executing.record_of(page), f"{GALLERY}/{lesson.stem}.webp"
    summary = summary_of(lesson)
    return {"page": page, "number": lesson.stem.split("_")[0], "there": page.exists(),
            "name": Markup(summary.name), "question": Markup(summary.question),
            "finding": Markup(summary.finding), "state": state_of(folder, lesson, scale),
            "executed": bool(record), "figures": figures, "picture": _copied(folder, picture)}


def _copied(folder: Path, picture: str) -> str:
    """Copy a committed picture into the site; returns where it is, "" if there is none."""
    source, copy = clone() / picture, folder / "gallery" / Path(picture).name
    if not source.exists():
        return ""
    if not copy.exists() or copy.stat().st_mtime < source.stat().st_mtime:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(source.read_bytes())
    return copy.relative_to(folder).as_posix()


def _write_unexecuted(folder: Path, lesson: Path, anew: bool = False) -> None:
    """Write a lesson's text and code, unless it was executed, or has a page and not ``anew``."""
    page = executing.page_of(folder, lesson)
    if executing.record_of(page):
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(lesson, as_version=4)
    text = lesson_page(notebook, lesson.stem, NOT_EXECUTED)
    if anew or not page.exists():  # its execution may have ended meanwhile
        write_atomically(page, text)


def _target(url: str, source: str) -> str:
    """Where a link of a document in the clone leads on the site."""
    if re.match(r"\w+:|#", url):
        return url
    path, _, anchor = url.partition("#")
    found = (clone() / source).parent.joinpath(path).resolve()
    places = {(clone() / where).resolve(): page for page, (_, where) in
              (DOCUMENTS | further_pages()).items()}
    if found.suffix == ".ipynb":
        page = "explorers.html" if found.stem == "explorers" else f"lessons/{found.stem}.html"
    else:
        page = places.get(found, "index.html")
    return f"{page}#{anchor}" if anchor else page


def _with_anchors(glossary: str, lessons: Sequence[Path]) -> str:
    """The glossary's table with an anchor for each term and links to lessons."""
    pages = {lesson.stem.split("_")[0]: f"lessons/{lesson.stem}.html" for lesson in lessons}

    def row(found: re.Match) -> str:
        term, meaning, number = found.groups()
        page = pages.get(number)
        name = f'<a href="{page}">{number}</a>' if page else number
        return (f'<tr>\n  <td><dfn id="{slug(term)}">{term}</dfn></td>\n  <td>{meaning}</td>\n'
                f"  <td>{name}</td>\n</tr>")
    before, heading, terms = glossary.partition('<h2 id="terms">')
    rows = r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(\d\d|primer)</td>\s*</tr>"
    return before + heading + re.sub(rows, row, terms)


def _made_by(run: Run) -> str:
    results = run.results() or {}
    torch_version = results.get("versions", {}).get("torch")
    return f"commit {results['commit']}, torch {torch_version}" if "commit" in results else ""
