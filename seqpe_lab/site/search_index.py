"""The search index: a script with the sections of all pages, which the pages load to search."""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.typesetting import plain

HEADING = re.compile(r'<(h[123]|dfn)\b[^>]*id="(?P<anchor>[^"]*)"[^>]*>(?P<words>.*?)</\1>',
                     re.DOTALL)
LONGEST = 700  # letters kept of a section


def write_search_index(folder: Path) -> None:
    """Write ``search_index.js``: for each section its page with anchor, heading and text."""
    pages = [*sorted(folder.glob("lessons/*.html")), *sorted(folder.glob("reference/*.html")),
             *(folder / f"{name}.html" for name in ("glossary", "results", "teaching", "protocol"))]
    sections = [section for page in pages if page.exists()
                for section in _sections(page, page.relative_to(folder).as_posix(),
                                         page.stat().st_mtime_ns)]
    write_atomically(folder / "search_index.js",
                     f"window.seqpeSearchIndex = {json.dumps(sections, ensure_ascii=False)}\n")


@functools.lru_cache(maxsize=500)
def _sections(page: Path, address: str, written: int) -> list[dict[str, str]]:
    """The sections of a page as it was ``written``."""
    main = page.read_text(encoding="utf-8").partition("<main")[2].partition("</main>")[0]
    main = re.sub(r"<(script|style)\b.*?</\1>", " ", main, flags=re.DOTALL)
    headings = [*HEADING.finditer(main)]
    ends = [found.start() for found in headings[1:]] + [len(main)]
    return [{"page": f"{address}#{found['anchor']}", "heading": _words(found["words"]),
             "text": _words(main[found.end():end])[:LONGEST]}
            for found, end in zip(headings, ends)]


def _words(page: str) -> str:
    """The text of some HTML; formulas lose their layout."""
    spaced = re.sub(r"</?(?:p|li|td|th|tr|div|br|pre|summary|h\d)\b[^>]*>", " ", page)
    return plain(spaced)
