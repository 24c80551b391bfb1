"""Markdown as HTML for pages without a network: formulas become MathML, headings get anchors."""
from __future__ import annotations

import html
import re
from collections.abc import Callable

from mistune import HTMLRenderer
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

FORMULA = r"(?s)\$\$([^$<]+)\$\$|\$([^\s$<](?:[^$<]*[^\s$<])?)\$"  # in raw HTML


class Renderer(IPythonRenderer):
    """nbconvert's Markdown, with typeset formulas and with changed links and headings.

    The first heading is the page's only one of its level, and no level is skipped, as screen
    readers expect.

    Args:
        link: takes the target of a link and returns the one to write.
        level: of the heading above this text; 0 for the text of a whole page.

    Attributes:
        headings: (level, anchor, text as HTML) of all headings so far.
    """

    def __init__(self, link: Callable[[str], str] = str, level: int = 0):
        super().__init__(escape=False)
        self.relink, self.level = link, level
        self.headings: list[tuple[int, str, str]] = []

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        # A wide formula scrolls in its own box, not the page.
        return f'<span class="formula" tabindex="0">{formula(body, display=True)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def block_html(self, html: str) -> str:
        return with_formulas(html)

    def heading(self, text: str, level: int, **attributes) -> str:
        before = self.headings[-1][0] if self.headings else self.level
        level = min(max(level + self.level, 2 if before else 1), before + 1)
        anchor, taken = slug(text), {name for _, name, _ in self.headings}
        while anchor in taken:
            anchor += "-"
        self.headings.append((level, anchor, text))
        return f'<h{level} id="{html.escape(anchor)}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        text = re.sub(r"<thead>\s*<tr>(?:\s*<th[^>]*></th>)+\s*</tr>\s*</thead>\s*", "", text)
        text = re.sub(r"<th[^>]*></th>", "<td></td>", text)  # an empty heading says nothing
        return f'<div class="table" tabindex="0"><table>\n{text}</table></div>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return HTMLRenderer.link(self, text, self.relink(url), title)

    def block_code(self, code: str, info: str | None = None) -> str:
        return super().block_code(code, info).replace("<pre>", '<pre tabindex="0">')


def to_html(markdown: str, renderer: Renderer | None = None) -> str:
    """A text in Markdown as HTML.

    >>> to_html("is $p^+$ near?")
    '<p>is <math ...>...<mi>p</mi><mo>&#x0002B;</mo>...</math> near?</p>\\n'
    """
    return MarkdownWithMath(renderer=renderer or Renderer()).render(markdown)


def with_formulas(page: str) -> str:
    """HTML with the formulas in its text typeset, as Jupyter shows it.

    >>> with_formulas("<li>$p &lt; q$</li>").count("<mi>")
    2
    """
    def typeset(found: re.Match) -> str:
        return formula(html.unescape(found[1] or found[2]), display=bool(found[1]))
    return re.sub(FORMULA, typeset, page)


def formula(tex: str, display: bool = False) -> str:
    """A formula in TeX as MathML.

    Args:
        display: it stands on a line of its own.

    Raises:
        ValueError: a command that cannot be typeset.
    """
    from latex2mathml.converter import convert
    known = tex.replace(r"\_", "_") if r"\text" in tex else tex
    known = re.sub(r"\\tag\{(.*?)\}", r"\\qquad\\text{(\1)}", known)
    known = known.replace("{aligned}", "{align*}")
    try:
        typeset = convert(known, display="block" if display else "inline")
    except Exception as error:  # latex2mathml has a kind of its own for each mistake
        raise ValueError(f"the formula ${tex}$ cannot be typeset: {type(error).__name__}") from None
    if left := re.search(r"\\\w*|\$|&(?!#?\w+;)", re.sub(r"<[^>]+>", "", typeset)):
        raise ValueError(f"the formula ${tex}$ cannot be typeset: {left[0]} is not known")
    return _with_thin_spaces(typeset)


def _with_thin_spaces(mathml: str) -> str:
    """MathML with the space around cos, sin and log that TeX sets, and that the converter omits."""
    space = '<mspace width="0.17em"/>'
    named = "<mi>(?:cos|sin|tan|exp|log|ln)</mi>"
    mathml = re.sub(rf"(</(?:mi|mn|msub|msup)>)(?={named})", rf"\1{space}", mathml)
    return re.sub(rf"({named})(?=<m(?!o))", rf"\1{space}", mathml)


def slug(heading: str) -> str:
    """The anchor of a heading, from its text or its HTML.

    >>> slug("2. A whole <em>model</em> is just as blind")
    '2-a-whole-model-is-just-as-blind'
    """
    text = html.unescape(re.sub(r"<[^>]+>", "", heading)).lower()
    return re.sub(r"[^\w]+", "-", text).strip("-") or "section"


def plain(page: str) -> str:
    """The words of some HTML, in one line.

    >>> plain("<p>05 The <em>contrastive</em>\\nloss</p>")
    '05 The contrastive loss'
    """
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
