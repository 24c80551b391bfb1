"""The look that all figures share: template, title, caption, margins."""
from __future__ import annotations

import textwrap

import plotly.graph_objects as go
import plotly.io as pio

FONT = dict(family="Arial, DejaVu Sans, sans-serif", size=14)


def finish(figure: go.Figure, title: str, caption: str, height: int = 480, gap: int = 72,
           **layout) -> go.Figure:
    """Give a figure its title, caption and margins, and return it.

    Args:
        figure: a plotly figure with its traces; changed in place.
        title: the claim that the figure shows.
        caption: protocol, scale, data; wrapped at 150 characters below the plot.
        height: pixels, with room for one line of caption; each further line adds its own.
        gap: pixels from the plot to the caption, for the labels and the title of the axis.
        layout: further properties of the layout, which win over those set here.

    >>> finish(go.Figure(), "A claim", "small scale").layout.title.text
    'A claim'
    """
    lines = textwrap.wrap(caption, 150)
    more = 14 * max(0, len(lines) - 1)
    bottom = gap + 18 + more if lines else gap - 12
    figure.update_layout(template=pio.templates["plotly_white"], height=height + more, width=960,
                         title=dict(text=title, x=0.01, xanchor="left"), font=FONT,
                         margin=dict(l=70, r=30, t=70, b=bottom), legend=dict(font_size=12))
    figure.update_layout(**layout)
    if lines:
        figure.add_annotation(text="<br>".join(lines), xref="paper", yref="paper", x=0, y=0,
                              yshift=-gap, xanchor="left", yanchor="top", align="left",
                              showarrow=False, font=dict(size=10, color="#777777"))
    return figure


def add_train_line(figure: go.Figure, x: float, **where) -> None:
    """A dashed vertical line, for instance at the trained length; ``where``: row and col."""
    figure.add_vline(x=x, line=dict(dash="dash", color="#444444"), **where)
