"""Pages from the templates in ``templates/``, all with one header, footer, style and search."""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from seqpe_lab import __version__
from seqpe_lab.atomic_files import write_atomically

FOLDER = Path(__file__).parent / "templates"
MENU = [("Lessons", "index.html#lessons"), ("Results", "results.html"),
        ("Explorers", "explorers.html"), ("Glossary", "glossary.html"),
        ("Library", "reference.html"), ("Teaching", "teaching.html")]


def render(template: str, **values: Any) -> str:
    """A page; texts are escaped unless they are :class:`markupsafe.Markup`.

    Args:
        values: of the template; ``root`` leads from the page to the site's folder: "" or "../".
    """
    return _environment().get_template(template).render(
        {"root": "", "site_menu": MENU, "version": __version__} | values)


def write_assets(folder: Path) -> None:
    """Write style and script of all pages."""
    from pygments.formatters import HtmlFormatter
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight")
                   for name in ("default", "github-dark"))
    style = (FOLDER / "site.css").read_text(encoding="utf-8")
    write_atomically(folder / "site.css",
                     f"{style}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n")
    write_atomically(folder / "site.js", (FOLDER / "site.js").read_text(encoding="utf-8"))


def lesson_name(lesson: Path) -> str:
    """The name of a lesson from that of its file.

    >>> lesson_name(Path("01_why_position_matters.ipynb"))
    '01 why position matters'
    """
    return lesson.stem.replace("_", " ")


@functools.cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), autoescape=True)
