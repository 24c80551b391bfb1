"""The look that all figures share: colours of the methods, title, caption, margins, axis labels."""
from __future__ import annotations

import colorsys
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from seqpe_lab.course.figure_labels import CAPTION, TITLE, set_subscripts, wrapped

FONT = dict(family="Arial, DejaVu Sans, sans-serif", size=14)
QUIET = dict(showlegend=False, hoverinfo="skip")  # a trace without legend and hover text

# Okabe and Ito's palette, made for colour-blind readers, with grey and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777", "#000000")

# method: (name in legends, colour, dash, marker). Methods of one family share their colour.
STYLE = {
    "none": ("NoPE", "#777777", "solid", "x"),
    "sinusoidal": ("APE sinusoidal", "#56B4E9", "solid", "diamond"),
    "learned": ("APE learned", "#CC79A7", "solid", "square"),
    "rope-1e4": ("RoPE 10⁴", "#009E73", "solid", "triangle-up"),
    "rope-1e6": ("RoPE 10⁶", "#009E73", "dash", "triangle-right"),
    "rope-1e8": ("RoPE 10⁸", "#009E73", "dot", "triangle-down"),
    "rope-randomized": ("RoPE, random positions", "#009E73", "longdash", "triangle-left"),
    "alibi": ("ALiBi", "#0072B2", "solid", "pentagon"),
    "seqpe": ("SeqPE", "#D55E00", "solid", "circle"),
    "seqpe-no-losses": ("SeqPE, no losses", "#E69F00", "dash", "circle-open"),
    "seqpe-delta-only": ("SeqPE, L_δ only", "#D55E00", "dash", "square-open"),
    "seqpe-ood-only": ("SeqPE, L_OOD only", "#E69F00", "dot", "diamond-open"),
    "seqpe-unshifted": ("SeqPE, no shifts", "#000000", "solid", "circle"),
    "seqpe-no-losses-unshifted": ("SeqPE, no losses, no shifts", "#000000", "dash", "circle-open"),
    "seqpe-delta-only-unshifted": ("SeqPE, L_δ only, no shifts", "#000000", "longdash",
                                   "square-open"),
    "seqpe-ood-only-unshifted": ("SeqPE, L_OOD only, no shifts", "#000000", "dot", "diamond-open"),
    "rope-axial": ("RoPE axial", "#009E73", "solid", "triangle-up"),
    "rope-mixed": ("RoPE mixed", "#009E73", "dash", "triangle-right"),
    "seqpe-mul": ("SeqPE mul", "#D55E00", "solid", "circle"),
    "seqpe-sum": ("SeqPE sum", "#D55E00", "dot", "cross"),
    "seqpe-bias": ("SeqPE bias", "#D55E00", "dash", "hexagon"),
    "seqpe-mul-no-losses": ("SeqPE mul, no losses", "#E69F00", "dash", "circle-open"),
    "seqpe-mul-delta-only": ("SeqPE mul, L_δ only", "#D55E00", "dash", "square-open"),
    "seqpe-mul-ood-only": ("SeqPE mul, L_OOD only", "#E69F00", "dot", "diamond-open"),
    "seqpe-mul-unshifted": ("SeqPE mul, no shifts", "#000000", "solid", "circle"),
    "seqpe-mul-no-losses-unshifted": ("SeqPE mul, no losses, no shifts", "#000000", "dash",
                                      "circle-open"),
    "seqpe-mul-delta-only-unshifted": ("SeqPE mul, L_δ only, no shifts", "#000000", "longdash",
                                       "square-open"),
    "seqpe-mul-ood-only-unshifted": ("SeqPE mul, L_OOD only, no shifts", "#000000", "dot",
                                     "diamond-open"),
    "seqpe-all-learns": ("SeqPE, all learns on", "#E69F00", "solid", "star-open"),
    "seqpe-new-projection": ("SeqPE, new W_PE", "#D55E00", "longdash", "square"),
    "seqpe-kept-encoder": ("SeqPE, kept encoder", "#E69F00", "longdash", "diamond"),
    "seqpe-strong-losses": ("SeqPE, α = β = 0.3", "#D55E00", "dot", "star"),
}

# encodings without a style of their own: their names in legends, with a computed colour
NAMES = {"rope-pi": "RoPE, interpolated", "rope-ntk": "RoPE, NTK-aware",
         "rope-dynamic": "RoPE, dynamic NTK", "rope-yarn": "YaRN", "p-rope": "p-RoPE",
         "rnope": "RNoPE", "liere": "LieRE", "fope": "FoPE", "xpos": "xPos", "pope": "PoPE",
         "floater": "FLOATER", "seqpe-gru": "SeqPE, GRU", "seqpe-base-2": "SeqPE, base 2",
         "seqpe-base-100": "SeqPE, base 100", "seqpe-least-first": "SeqPE, last digit first",
         "sinusoidal-shift": "APE sinusoidal, shifted",
         "sinusoidal-random": "APE sinusoidal, random positions",
         "rope-1e4-random": "RoPE 10⁴, random positions", "rope-1e4-skips": "RoPE 10⁴, PoSE",
         "shaw": "Shaw", "t5": "T5", "kerple-log": "KERPLE log", "kerple-power": "KERPLE power",
         "fire": "FIRE", "sandwich": "Sandwich", "alibi-euclidean": "ALiBi, Euclidean",
         "swin": "Swin table", "swin-v2": "Swin v2", "cope": "CoPE", "deberta": "DeBERTa",
         "fox": "FoX"}


def label(method: str) -> str:
    """The method's name in legends and tables.

    >>> label("rope-1e4"), label("my-own")
    ('RoPE 10⁴', 'my-own')
    """
    return style_of(method)[0]


def style_of(method: str) -> tuple[str, str, str, str]:
    """(name in legends, colour, dash, marker): as in ``STYLE``, else computed from the name.

    So an encoding of one's own has the same colour in every figure.

    >>> style_of("alibi")
    ('ALiBi', '#0072B2', 'solid', 'pentagon')
    >>> style_of("my-own")
    ('my-own', '#329820', 'dot', 'star-triangle-up')
    """
    if method in STYLE:
        return STYLE[method]
    hue, shade, dash, marker, *_ = hashlib.sha256(method.encode()).digest()
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(
        hue / 256, 0.3 + 0.2 * shade / 256, 0.65))
    return (NAMES.get(method, method), f"#{red:02x}{green:02x}{blue:02x}",
            ("solid", "dash", "dot")[dash % 3],
            ("star-triangle-up", "star-square", "hourglass", "bowtie", "hexagram")[marker % 5])


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of ``STYLE``, then others in the order of their names."""
    place = {method: number for number, method in enumerate(STYLE)}
    return sorted(methods, key=lambda method: (place.get(method, len(place)), method))


def line_styles(names: Iterable[str]) -> dict[str, dict]:
    """Legend name and line of each trace: a method's own style, else a free colour.

    >>> line_styles(["alibi", "mine"])["mine"]["line"]["color"]
    '#D55E00'
    """
    taken = {STYLE[name][1] for name in names if name in STYLE}
    free = [colour for colour in COLOURS if colour not in taken]
    styles, used = {}, 0
    for name in names:
        if name in STYLE:
            shown, colour, dash, _ = STYLE[name]
        else:
            shown, colour = name, free[used % len(free)]
            dash = ("solid", "dash", "dot")[used // len(free) % 3]
            used += 1
        styles[name] = dict(name=shown, line=dict(color=colour, dash=dash, width=2))
    return styles


def number_axis(values: Iterable, log: bool, labels: int = 10) -> dict:
    """Properties of an axis labelled with plain numbers or powers of ten.

    Plotly's default writes "1k" and "10µ", and single digits 2 and 5 between powers of ten.

    Args:
        values: what is drawn along the axis.
        log: whether the axis is logarithmic.
        labels: how many labels fit.
    """
    values = np.asarray([np.nan if v is None else float(v) for v in values])
    values = np.abs(values[np.isfinite(values) & ((values > 0) if log else True)])
    if not log:
        plain = 6 if values.max(initial=0) >= 1 else 3  # numbers from 10⁻³ to 10⁶ in full
        return dict(type="linear", exponentformat="power", minexponent=plain,
                    separatethousands=True)
    low, high = (np.log10(values.min()), np.log10(values.max())) if len(values) else (0.0, 1.0)
    decades = high - low
    if decades < 1:
        return dict(type="log", nticks=min(labels, 8), tickformat=",~r")
    in_full = low >= -3 and high <= 6
    format = dict(tickformat=",~r") if in_full else dict(exponentformat="power")
    if in_full and 3 * decades <= labels:
        return dict(type="log", dtick="D2", **format)  # 1, 2, 5, 10, 20, 50, ...
    return dict(type="log", dtick=int(np.ceil(decades / labels)), **format)


def finish(figure: go.Figure, title: str, caption: str, height: int = 490, gap: int = 82,
           **layout) -> go.Figure:
    """Give a figure its title, caption and margins, and return it.

    The figure is as wide as its page. Title and caption are wrapped for the narrowest page, and
    ``L_delta``, ``W_PE`` and the like get real subscripts in all texts.

    Args:
        figure: a plotly figure with its traces; changed in place.
        title: the claim that the figure shows.
        caption: protocol, scale, data; below the plot.
        height: pixels, with room for one line of title and of caption; further ones add theirs.
        gap: pixels from the plot to the caption, for the labels and the title of the axis.
        layout: further properties of the layout, which win over those set here.

    >>> finish(go.Figure(), "A claim", "small scale").layout.title.text
    'A claim'
    """
    head, lines = wrapped(title, TITLE), wrapped(caption, CAPTION)
    above, below = 20 * max(0, len(head) - 1), 14 * max(0, len(lines) - 1)
    bottom = gap + 18 + below if lines else gap - 12
    figure.update_layout(template="plotly_white", height=height + above + below, autosize=True,
                         title=dict(text=" <br>".join(head), x=0, xref="container", y=1,
                                    yref="container", xanchor="left", yanchor="top", font_size=14,
                                    pad=dict(l=10, t=12 if len(head) < 2 else 24)), font=FONT,
                         margin=dict(l=66, r=20, t=66 + above, b=bottom),
                         legend=dict(font_size=12))
    figure.update_xaxes(title_font_size=13, tickfont_size=12)
    figure.update_yaxes(title_font_size=13, tickfont_size=12, title_standoff=6)
    figure.update_layout(**layout)
    if lines:
        figure.add_annotation(text="<br>".join(lines), name="caption", align="left",
                              font=dict(size=10, color="#595959"), showarrow=False,
                              xref="paper", x=0, xanchor="left", xshift=10 - figure.layout.margin.l,
                              yref="paper", y=0, yanchor="top", yshift=-gap)
    set_subscripts(figure)
    return figure


def surround(figure: go.Figure, title: str, caption: str, height: int, margin: Mapping[str, int],
             **layout) -> go.Figure:
    """Title and caption around a picture that has headings and axis labels in its own margins.

    Args:
        figure, title, caption: as in :func:`finish`.
        height, margin: of the picture alone, pixels; the figure becomes higher.
        layout: further properties of the layout.

    >>> own = dict(t=40, b=30, l=60, r=20)
    >>> surround(go.Figure(), "A claim", "small scale", 300, own).layout.margin.t > 40 + 30
    True
    """
    figure.update_layout(**layout)  # its axes are there when finish sets the size of their letters
    sides = dict(l=margin["l"], r=margin["r"])
    finish(figure, title, caption, height + 60, margin["b"], margin=sides, **layout)
    figure.update_xaxes(title_font_size=13)  # a title that is only a text has replaced finish's
    figure.update_yaxes(title_font_size=13)
    figure.layout.margin.t += margin["t"] - 24  # finish leaves 24 pixels for headings
    return figure


def for_wide_page(figure: go.Figure) -> go.Figure:
    """A copy of what :func:`finish` made, with lines twice as long in its title and its caption.

    >>> figure = finish(go.Figure(), "Trained on 64 tokens, tested on up to 1,024", "small scale")
    >>> for_wide_page(figure).layout.title.text          # finish had wrapped it before "to"
    'Trained on 64 tokens, tested on up to 1,024'
    """
    figure = go.Figure(figure)
    if None in (figure.layout.height, figure.layout.margin.t, figure.layout.margin.b):
        return figure  # another's
    texts = [(figure.layout.title, TITLE, 20, "t"), *((note, CAPTION, 14, "b") for note
             in figure.layout.annotations if note.name == "caption")]
    for text, letters, line, side in texts:
        lines = re.split(r" ?<br>", text.text or "")
        whole = " ".join(lines).replace("- ", "-")  # a line may have ended in "non-overlapping"
        fewer = wrapped(whole, 2 * letters)
        saved = line * (len(lines) - len(fewer))
        text.text = "<br>".join(fewer)
        figure.layout.height -= saved
        figure.layout.margin[side] -= saved
    return figure


def add_train_line(figure: go.Figure, x: float, text: str = "", log_x: bool = False,
                   **where) -> None:
    """A dashed vertical line, for instance at the trained length, with a text above it.

    Args:
        log_x: whether the horizontal axis is logarithmic.
        where: row and col of a subplot.
    """
    figure.add_vline(x=x, line=dict(dash="dash", color="#444444"), **where)
    if text:  # on a log axis plotly wants a shape's x itself, and an annotation's logarithm
        add_note(figure, text, float(np.log10(x)) if log_x else x, **where)


def add_note(figure: go.Figure, text: str, x: float, y: float = 1, row: int | None = None,
             col: int | None = None, **note) -> None:
    """A small text without an arrow, to the right of and above its place, or as ``note`` says."""
    usual = dict(yref="y domain", showarrow=False, xanchor="left", yanchor="bottom", font_size=12)
    figure.add_annotation(text=text, x=x, y=y, row=row, col=col, **usual | note)


def add_band(figure: go.Figure, x: Sequence, low, high, colour: str, **trace) -> None:
    """A band from ``low`` to ``high``, without an entry in the legend."""
    figure.add_scatter(x=[*x, *x[::-1]], y=[*high, *low[::-1]], mode="lines", line_width=0,
                       fill="toself", fillcolor=colour, opacity=0.2, **trace | QUIET)


def add_method(figure: go.Figure, method: str, x: Sequence, seeds: Sequence[Sequence[float]],
               hover: str, **trace) -> None:
    """A method's mean over its seeds, and a band from their lowest to their highest value.

    Args:
        seeds: for each x, the values of all seeds.
        hover: what the mouse shows, in plotly's notation.
        trace: further properties of the line, such as row and col.
    """
    name, colour, dash, marker = style_of(method)
    trace["legendgroup"] = method
    if max(map(len, seeds)) > 1:
        add_band(figure, x, list(map(min, seeds)), list(map(max, seeds)), colour, **trace)
    width = 3 if method in ("seqpe", "seqpe-mul") else 2
    figure.add_scatter(x=x, y=list(map(np.mean, seeds)), name=name, mode="lines+markers",
                       line=dict(color=colour, dash=dash, width=width), hovertemplate=hover,
                       marker=dict(symbol=marker, size=9), **trace)
