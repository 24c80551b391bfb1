"""The paper's Figures 2 and 3 from trained runs: heat maps of position vectors, with numbers."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab import geometry
from seqpe_lab.course import figures
from seqpe_lab.course.result_tables import difference_table, summary_table
from seqpe_lab.course.style import label
from seqpe_lab.digits import grid
from seqpe_lab.runs import Run
from seqpe_lab.tasks import task_of
from seqpe_lab.runs.run_weights import trained_model

POSITIONS = 2_048  # of Fig. 2
BLOCK = 8  # of positions, whose mean is one dot of Fig. 2


def figure_2(runs: Sequence[Run]) -> tuple[go.Figure, str]:
    """Dot products of a language model's position vectors, and how many look-alikes are nearest.

    Args:
        runs: of language models with SeqPE; the picture shows their first seed.

    Returns:
        The picture, and a page of Markdown on all seeds.
    """
    count = min(POSITIONS, runs[0].recipe.max_position)
    vectors = [(run, model.encoding.encoder.table(count)) for run, model in _models(runs)]
    maps = {label(run.recipe.method): F.avg_pool2d(geometry.similarity(table)[None], BLOCK)[0]
            for run, table in vectors if run.recipe.seed == runs[0].recipe.seed}
    figure = figures.heatmaps(
        maps, title="Fig. 2: dot products of position vectors, by the losses of SeqPE",
        positions=range(0, count - BLOCK + 1, BLOCK), value="dot product", relative=True,
        caption=_caption(runs[0]))
    digits = runs[0].recipe.encoding_options.get("digits", 5)

    def lookalikes(table: Tensor) -> dict[str, float]:
        return {kind: 100 * geometry.lexical_confusion(table, digits, kind=kind)
                for kind in geometry.KINDS}
    heading = f"% of positions 0..{count - 1} whose most similar one is a far look-alike, by"
    return figure, _page("Fig. 2", vectors, lookalikes, heading, "seqpe-delta-only")


def figure_3(runs: Sequence[Run]) -> tuple[go.Figure, str]:
    """Dot products of five patches with all others, on the trained grid.

    Arguments and result as of :func:`figure_2`.
    """
    side = runs[0].recipe.train_shape[0]
    vectors = [(run, model.encoding.table.weight.detach() if run.recipe.encoding == "learned"
                else model.encoding.encoder.table(side, side)) for run, model in _models(runs)]
    end = side - 1
    patches = {"upper left": (0, 0), "upper right": (0, end), "centre": (side // 2, side // 2),
               "lower left": (end, 0), "lower right": (end, end)}
    maps = {label(run.recipe.method): {
                name: geometry.similarity(table[[row * side + column]], table).view(side, side)
                for name, (row, column) in patches.items()}
            for run, table in vectors if run.recipe.seed == runs[0].recipe.seed}
    figure = figures.patch_similarity(
        maps, title="Fig. 3: dot products of five patches with all others",
        caption=_caption(runs[0]))

    def distances(table: Tensor) -> dict[str, float]:
        places, found = grid(side, side).float(), {}
        for kind in geometry.KINDS:
            nearest = places[geometry.nearest_neighbours(table, kind)[:, 0]]
            found[kind] = float((nearest - places).norm(dim=-1).mean())
        return found
    heading = "patches from each patch to the most similar other, by"
    return figure, _page("Fig. 3", vectors, distances, heading, "seqpe-mul")


def _models(runs: Sequence[Run]) -> list[tuple[Run, torch.nn.Module]]:
    data = task_of(runs[0].recipe).load_data()
    return [(run, trained_model(run, data)) for run in runs]


def _page(title: str, vectors: Sequence[tuple[Run, Tensor]],
          measure: Callable[[Tensor], dict[str, float]], heading: str, reference: str) -> str:
    values: dict[str, dict[str, dict[int, float]]] = {}
    for run, table in vectors:
        for column, value in measure(table).items():
            columns = values.setdefault(run.recipe.method, {})
            columns.setdefault(column, {})[run.recipe.seed] = value
    return "\n".join([
        f"# {title}: the position vectors in numbers\n", summary_table(values, heading, 2),
        f"## Minus {label(reference)}, with 95 % intervals\n",
        difference_table(values, reference, heading, 2)])


def _caption(run: Run) -> str:
    recipe = run.recipe
    return f"scale {recipe.scale} · data {recipe.source} · seed {recipe.seed}"
