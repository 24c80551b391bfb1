"""The parts of which drawings are made: boxes, arrows, digit tiles, heat cells, curves, texts.

A drawing is an SVG of ``WIDTH`` units, so its texts can be read on a telephone and on a slide. Its
colours are CSS custom properties, which follow the reader's theme.
"""
from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

WIDTH = 480
SMALL, NORMAL = 14, 16  # units; on a page 390 pixels wide a unit is about 0.75 pixels

# name: (on white, on black), hues after Okabe and Ito; each contrasts with the paper by 4.5 or more
PALETTE = {
    "paper": ("#ffffff", "#111111"), "ink": ("#1b1f24", "#e8eaed"),
    "quiet": ("#5b636c", "#a3abb5"), "blue": ("#0067a3", "#56b4e9"),
    "orange": ("#b34a00", "#f59a4d"), "green": ("#007a58", "#35c79a"),
    "pink": ("#a1457a", "#e09cc4"),
}
MINUS = "−"


def _rules(selector: str, theme: int) -> str:
    values = ";".join(f"--d-{name}:{both[theme]}" for name, both in PALETTE.items())
    return f"{selector}{{{values}}}"


STYLE = "".join([
    _rules(".seqpe-drawing", 0),
    "@media (prefers-color-scheme:dark){", _rules(".seqpe-drawing", 1), "}",
    _rules(":is([data-jp-theme-light=true],[data-theme=light]) .seqpe-drawing", 0),
    _rules(":is([data-jp-theme-light=false],[data-theme=dark],.vscode-dark) .seqpe-drawing", 1),
    ".seqpe-drawing{display:block;width:100%;height:auto;margin:8px auto;",
    "max-width:640px!important}",  # JupyterLab has 100 %
    ".seqpe-drawing text{font-family:Arial,'Liberation Sans','DejaVu Sans',sans-serif}"])


def number(value: float, decimals: int = 2) -> str:
    """A number as the drawings show it: thousands apart, a real minus sign, no minus zero.

    >>> number(-0.5), number(1234, 0)
    ('−0.50', '1,234')
    """
    return f"{round(float(value), decimals) + 0.0:,.{decimals}f}".replace("-", MINUS)


class Canvas:
    """A drawing in the making; ``Canvas.svg()`` is the finished one.

    Lengths are units, x to the right and y downwards. Colours are names of ``PALETTE``. In texts
    ``_`` and ``^`` lower and raise the next letter or what stands in braces: "L_δ", "W_{PE}".

    Args:
        title: what the drawing shows, in a few words.
        description: what a reader who cannot see it must know.
        height: units.

    >>> canvas = Canvas("A box", "A box that says hello.", height=60)
    >>> canvas.box(10, 10, 100, 40, "hello")
    >>> canvas.svg("box")[:43]
    '<svg xmlns="http://www.w3.org/2000/svg" cla'
    """

    def __init__(self, title: str, description: str, height: float):
        self.title, self.description, self.height = title, description, height
        self.parts: list[str] = []

    def draw(self, tag: str, content: str = "", **attributes: object) -> None:
        """Add an SVG element; ``stroke_width`` is written stroke-width."""
        written = "".join(f' {name.rstrip("_").replace("_", "-")}="{_short(value)}"'
                          for name, value in attributes.items() if value is not None)
        self.parts.append(f"<{tag}{written}>{content}</{tag}>")

    def text(self, x: float, y: float, text: str, anchor: str = "middle", size: int = NORMAL,
             colour: str = "ink", bold: bool = False) -> None:
        """A text on the line y; further lines after each line break."""
        for row, line in enumerate(text.split("\n")):
            self.draw("text", _raised(line), x=x, y=y + 1.25 * size * row, font_size=size,
                      text_anchor=anchor, fill=f"var(--d-{colour})",
                      font_weight="bold" if bold else None)

    def box(self, x: float, y: float, width: float, height: float, text: str = "",
            colour: str = "blue", fill: float = 0.12, size: int = NORMAL, radius: float = 6,
            line: float = 1.5, bold: bool = False) -> None:
        """A rectangle with a text in its middle; ``fill`` is the strength of its colour, 0..1."""
        self.parts.append("<g>")
        self.draw("rect", x=x, y=y, width=width, height=height, rx=radius,
                  fill=f"var(--d-{colour})", fill_opacity=fill, stroke=f"var(--d-{colour})",
                  stroke_width=line)
        if text:
            middle = y + height / 2 + 0.35 * size - 0.625 * size * text.count("\n")
            self.text(x + width / 2, middle, text, size=size, bold=bold,
                      colour="paper" if fill > 0.6 else "ink")
        self.parts.append("</g>")

    def tiles(self, x: float, y: float, texts: Iterable[object], colour: str = "blue",
              width: float = 34, height: float = 34, fill: float = 0.12,
              size: int = NORMAL) -> None:
        """A row of boxes, one for each text, such as the digits of a position."""
        for place, text in enumerate(texts):
            self.box(x + place * (width + 4), y, width, height, str(text), colour, fill, size,
                     radius=4)

    def cells(self, x: float, y: float, rows: Sequence[Sequence[float]], side: float,
              colour: str = "blue", height: float | None = None) -> None:
        """A table of heat cells; each value, 0..1, is the strength of its cell's colour."""
        high = height or side
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                self.draw("rect", x=x + column * side, y=y + row * high, width=side, height=high,
                          fill=f"var(--d-{colour})", fill_opacity=min(1.0, max(0.0, float(value))),
                          stroke="var(--d-quiet)", stroke_width=0.75)

    def line(self, points: Iterable[tuple[float, float]], colour: str = "quiet",
             width: float = 1.5, dash: str | None = None, opacity: float | None = None) -> None:
        """A line through points."""
        self.draw("polyline", points=" ".join(f"{_short(x)},{_short(y)}" for x, y in points),
                  fill="none", stroke=f"var(--d-{colour})", stroke_width=width,
                  stroke_dasharray=dash, opacity=opacity)

    def arrow(self, x0: float, y0: float, x1: float, y1: float, colour: str = "quiet",
              width: float = 2, head: float = 9) -> None:
        """A straight arrow that ends in (x1, y1)."""
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        along = ((x1 - x0) / length * head, (y1 - y0) / length * head)
        base = (x1 - along[0], y1 - along[1])
        self.line([(x0, y0), base], colour, width)
        side = (-along[1] / 2, along[0] / 2)
        corners = [(x1, y1), (base[0] + side[0], base[1] + side[1]),
                   (base[0] - side[0], base[1] - side[1])]
        self.draw("polygon", points=" ".join(f"{_short(x)},{_short(y)}" for x, y in corners),
                  fill=f"var(--d-{colour})")

    def dot(self, x: float, y: float, radius: float = 5, colour: str = "blue",
            fill: float = 1.0) -> None:
        """A disc; ``fill`` is the strength of its colour, 0..1."""
        self.draw("circle", cx=x, cy=y, r=radius, fill=f"var(--d-{colour})", fill_opacity=fill,
                  stroke=f"var(--d-{colour})", stroke_width=1.5)

    def svg(self, name: str) -> str:
        """The drawing as SVG, to stand in a page; ``name`` makes its ids."""
        named = {"title": self.title, "desc": self.description}
        labels = "".join(f'<{tag} id="drawing-{name}-{tag}">{html.escape(text)}</{tag}>'
                         for tag, text in named.items())
        ids = " ".join(f"drawing-{name}-{tag}" for tag in named)
        size = f"0 0 {WIDTH} {_short(self.height)}"
        return (f'<svg xmlns="http://www.w3.org/2000/svg" class="seqpe-drawing" viewBox="{size}" '
                f'role="img" aria-labelledby="{ids}">{labels}<style>{STYLE}</style>'
                f'<rect width="{WIDTH}" height="{_short(self.height)}" rx="8" '
                f'fill="var(--d-paper)"/>{"".join(self.parts)}</svg>')


def _short(value: object) -> object:
    """A number with at most two decimals; anything else as it is."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _raised(text: str) -> str:
    """``_x``, ``_{xy}`` and ``^x`` as tspans, lower or higher and smaller."""
    parts, lower = [], 0
    for mark, braces, letter, plain in re.findall(r"([_^])(?:\{([^}]*)\}|(\S))|([^_^]+)", text):
        wanted = {"_": 4, "^": -6, "": 0}[mark]
        size = ' font-size=".8em"' if mark else ""
        shift = f' dy="{wanted - lower}"' if wanted != lower else ""
        content = html.escape(braces or letter or plain)
        parts.append(f"<tspan{shift}{size}>{content}</tspan>" if shift or size else content)
        lower = wanted
    return "".join(parts)
