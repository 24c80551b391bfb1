"""What every page of the site must keep: links that lead somewhere, pictures with texts, ..."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

LARGEST = 1_000_000  # bytes of a page
RAW_TEX = r"\\(?:[a-zA-Z]{2,}|[,;!_{}])|\$[^$\s][^$]{0,80}\$"
WIDGET = r"\b(?:VBox|HBox|HTML|RadioButtons|FigureWidget|Panel)\((?:children|value)="
WITHOUT_WORDS = ("script", "style", "pre", "code", "annotation")
VOID = ("meta", "link", "img", "br", "input", "hr", "path", "source", "wbr")


class Page(HTMLParser):
    """A page's links, pictures, headings and words."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.loaded, self.wrong = path, [], [], [], []
        self.headings, self.landmarks, self.words, self.open = [], set(), [], []
        self.language = self.title = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loaded += [given[key] for key in ("src", "href") if key in given and tag != "a"]
        self.language = given.get("lang", "") if tag == "html" else self.language
        self.headings += [int(tag[1])] if re.fullmatch(r"h[1-6]", tag) else []
        self.landmarks |= {tag} & {"header", "nav", "main", "footer"}
        if tag == "img" and not given.get("alt", "").strip():
            self.wrong.append(f"a picture without a text: {given.get('src', '')[:60]}")
        if tag == "iframe" and not given.get("title"):
            self.wrong.append("a frame without a title")
        if tag == "input" and not given.get("aria-label"):
            self.wrong.append("a field without a label")

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if "title" in self.open:
            self.title += data
        if not set(self.open) & {*WITHOUT_WORDS}:
            self.words.append(data)


def problems_of(folder: Path) -> list[str]:
    """What is wrong on the site's pages, each with its page."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    return [
        f"{path.relative_to(folder.resolve())}: {wrong}"
        for path, page in pages.items()
        for wrong in [*_of_a_page(page), *_of_links(page, pages)]
    ]


def _of_a_page(page: Page):
    yield from page.wrong
    if (size := page.path.stat().st_size) > LARGEST:
        yield f"{size:,} bytes"
    if len(set(page.ids)) < len(page.ids):
        yield f"an id occurs twice: {sorted({i for i in page.ids if page.ids.count(i) > 1})}"
    if not (page.language and page.title.strip()):
        yield "no language or no title"
    if page.headings[:1] != [1] or page.headings.count(1) != 1:
        yield f"its headings do not begin with the only one of level 1: {page.headings}"
    for above, below in zip(page.headings, page.headings[1:]):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"
    if "main" not in page.landmarks:
        yield "no main part"
    text = "".join(page.words)
    for kind, pattern in (("TeX", RAW_TEX), ("a widget's text", WIDGET)):
        if found := re.search(pattern, text):
            yield f"{kind}: {text[max(0, found.start() - 30) : found.end() + 30]!r}"


def _of_links(page: Page, pages: dict[Path, Page]):
    for url in page.loaded:
        if re.match(r"\w+:", url) and not url.startswith("data:"):
            yield f"a request outside: {url[:80]}"
        elif not url.startswith("data:") and not (page.path.parent / unquote(url)).exists():
            yield f"it needs {url}, which is not there"
    for url in page.links:
        if re.match(r"(?:https?|mailto):", url):
            continue
        path, _, anchor = url.partition("#")
        target = (page.path.parent / unquote(path)).resolve() if path else page.path.resolve()
        if not target.is_file():
            yield f"a dead link: {url}"
        elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
            yield f"a link to a place that is not on the page: {url}"
