"""Pictures of what is claimed of positions: their vectors, norms and similarities, and attention.

Vectors are float tensors (L, d), row p the vector of position p, as an encoder's ``table`` gives
them; a table of a run's model: ``lab.model(run, "cpu").encoding.encoder.table(1000).detach()``.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course.figure_labels import bar_below_title
from seqpe_lab.course.figures_lines import curves
from seqpe_lab.course.figures_maps import heatmaps
from seqpe_lab.course.style import finish


def features(vectors: Tensor, *, title: str, caption: str = "") -> go.Figure:
    """Each feature of position vectors as a row over the positions: waves, if they are sinusoidal.

    Args:
        vectors: (L, d), of positions 0 .. L-1.

    >>> import torch
    >>> from seqpe_lab.encodings.absolute import sinusoidal_vectors
    >>> vectors = sinusoidal_vectors(torch.arange(64).unsqueeze(-1), 32)
    >>> features(vectors, title="Slow and fast waves").data[0].z.shape
    (32, 64)
    """
    figure = go.Figure()
    figure.add_heatmap(z=vectors.detach().T.numpy(), coloraxis="coloraxis",
                       hovertemplate="position %{x}, feature %{y}: %{z:.3f}<extra></extra>")
    figure.update_xaxes(title="position")
    figure.update_yaxes(title="feature", autorange="reversed")
    finish(figure, title, caption, height=400, coloraxis=dict(colorscale="RdBu_r", cmid=0))
    return bar_below_title(figure, "value of the feature")


def attention_maps(weights: Tensor, *, title: str, tokens: Sequence[str] | None = None,
                   caption: str = "") -> go.Figure:
    """The attention weights of each head: which key (column) a query (row) looks at.

    Args:
        weights: (H, L, L), each row adds up to 1.
        tokens: names of the L tokens; default: their positions.

    >>> import torch
    >>> figure = attention_maps(torch.ones(3, 4, 4).tril() / 4, title="Three heads")
    >>> [note.text for note in figure.layout.annotations]
    ['head 1', 'head 2', 'head 3', 'weight']
    """
    heads = {f"head {number}": head.numpy() for number, head in enumerate(weights.detach(), 1)}
    names = None if tokens is None else [f"{place} {token}" for place, token in enumerate(tokens)]
    return heatmaps(heads, title=title, axis="key", y_axis="query", value="weight",
                    positions=names, caption=caption)


def norms(tables: Mapping[str, Tensor], *, title: str, train_len: int | None = None,
          caption: str = "") -> go.Figure:
    """The length of each position's vector, by position.

    Args:
        tables: {name or method: (L, d)}, the same L for all.
        train_len: marked by a vertical line.

    >>> import torch
    >>> figure = norms({"seqpe": torch.ones(4, 9), "learned": torch.zeros(4, 9)}, title="Norms")
    >>> figure.data[0].y
    (3.0, 3.0, 3.0, 3.0)
    """
    values = {name: table.detach().norm(dim=-1).tolist() for name, table in tables.items()}
    length = len(next(iter(values.values())))
    return curves(range(length), values, title=title, x_title="position", mark=train_len,
                  y_title="norm of the vector", mark_text="trained up to here", caption=caption)


def similarity_to(position: int, tables: Mapping[str, Tensor], *, title: str,
                  kind: str = "cosine", train_len: int | None = None,
                  caption: str = "") -> go.Figure:
    """The similarity of one position to all others, for instance before and after training.

    Args:
        position: as 100, which spelling makes similar to 1,000.
        tables: {name or method: (L, d)}, the same L for all.
        kind: "cosine" or "dot".
        train_len: marked by a vertical line.

    >>> import torch
    >>> before, after = torch.eye(9), torch.ones(9, 2)
    >>> figure = similarity_to(4, {"before": before, "after": after}, title="Position 4")
    >>> figure.data[0].y[4], figure.data[0].y[5]
    (1.0, 0.0)
    """
    values = {name: geometry.similarity(table[[position]], table, kind)[0].detach().tolist()
              for name, table in tables.items()}
    length, name = len(next(iter(values.values()))), {"dot": "dot product"}.get(kind, kind)
    return curves(range(length), values, title=title, x_title="position", mark=train_len,
                  y_title=f"{name} with position {position:,}", mark_text="trained up to here",
                  caption=caption)


def teachers_and_students(teachers: Tensor, students: Tensor, *, title: str,
                          positions: Sequence[int] | None = None, caption: str = "") -> go.Figure:
    """P beside S, the similarities that L_OOD compares (Eq. 10), after softmax, in one scale.

    Args:
        teachers, students: (m, d), vectors of the positions and of the shifted ones.
        positions: of the teachers, in order, as names of the rows and columns.

    >>> import torch
    >>> vectors = torch.eye(3)
    >>> figure = teachers_and_students(vectors, vectors, title="P and S", positions=[4, 9, 30])
    >>> figure.data[0].z.round(2)[0]
    array([0.58, 0.21, 0.21], dtype=float32)
    """
    both = {"P: teachers": teachers, "S: students": students}
    shares = {name: geometry.similarity(vectors.detach()).softmax(-1).numpy()
              for name, vectors in both.items()}
    names = None if positions is None else [f"{position:,}" for position in positions]
    return heatmaps(shares, title=title, value="share, after softmax",
                    positions=names, caption=caption)
