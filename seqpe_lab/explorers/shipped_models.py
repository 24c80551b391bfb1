"""Trained models and position tables that come with the package; the explorers show them.

Each is a safetensors file in data/explorers/, in half precision, with recipe, results and
provenance in its metadata. ``python -m seqpe_lab bundle`` makes them from the small recipes.
"""
from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqpe_lab.digits import grid
from seqpe_lab.encodings import PositionEncoding, make_encoding
from seqpe_lab.package_data import DATA
from seqpe_lab.recipes import Training, image_model, language_model
from seqpe_lab.runs import Run
from seqpe_lab.tasks import task_of
from seqpe_lab.training import build_model, train

FOLDER = DATA / "explorers"
TEXT_MODELS = ("none", "sinusoidal", "learned", "rope-1e4", "alibi", "seqpe")
FURTHER_MODELS = ("t5", "kerple-log", "fire", "fox")  # text, where their files were made
IMAGE_MODELS = ("none", "learned", "rope-axial", "rope-mixed", "seqpe-mul", "seqpe-mul-no-losses")
TABLES = ("seqpe", "seqpe-no-losses", "seqpe-delta-only", "seqpe-ood-only")  # of language models
STEPS = (0, 10, 30, 100, 200, 400, 700, 1_000)  # of training after which a table was kept
WHILE_LEARNING, AT_THE_END = 256, 1_100  # positions in it, from 0: before, and at the last step


@functools.lru_cache(maxsize=32)
def model(kind: str, method: str) -> nn.Module:
    """A trained model in evaluation mode, on the CPU, float32.

    Args:
        kind: "text" (of ``TEXT_MODELS``) or "image" (of ``IMAGE_MODELS``; building one needs timm).
    """
    result = build_model(recipe(kind, method), about(kind, method)["outputs"])
    result.load_state_dict(load_file(_file(kind, method)))  # to float32, as all its parameters
    return result.eval().requires_grad_(False)


@functools.lru_cache(maxsize=32)
def encoding(kind: str, method: str) -> PositionEncoding:
    """The encoding of :func:`model` alone; it does not need timm, which takes long to import."""
    of = recipe(kind, method)
    result = make_encoding(of.encoding, d_model=of.d_model, heads=of.heads, layers=of.layers,
                           train_shape=of.train_shape, dims=of.dims,
                           prefix=1 if kind == "image" else 0, **of.encoding_options)
    weights = load_file(_file(kind, method))
    result.load_state_dict({name.removeprefix("encoding."): t for name, t in weights.items()
                            if name.startswith("encoding.")})
    return result.eval().requires_grad_(False)


@functools.lru_cache(maxsize=32)
def recipe(kind: str, method: str) -> Training:
    """The recipe of a model, or of the run of a "table" (of ``TABLES``)."""
    return Training.from_json(about(kind, method)["recipe"])


@functools.lru_cache(maxsize=32)
def about(kind: str, method: str) -> dict:
    """A file's metadata: "recipe" (JSON), "results" as in ``results.json``, and "outputs"."""
    with safe_open(_file(kind, method), "pt") as file:
        return json.loads(file.metadata()["about"])


def provenance(kind: str, method: str) -> str:
    """Scale, data and seed of a file, for the caption of a figure."""
    of, data = recipe(kind, method), about(kind, method)["results"]["data"]
    return f"scale {of.scale} · {data['description']} (hash {data['hash']}) · seed {of.seed}"


@functools.lru_cache(maxsize=8)
def tables(method: str) -> dict[int, Tensor]:
    """A language model's position vectors while it learnt: {step: float32 (positions, d_model)}.

    All are rounded to half precision. Sinusoidal ones do not learn; of a model without a
    file of its own only the last step is known.
    """
    if kind_of_table(method) == "table":
        stored = load_file(_file("table", method))
        return {step: stored[str(step)].float() for step in sorted(map(int, stored))}
    count = AT_THE_END if method == "sinusoidal" else recipe("text", method).train_len
    nothing = torch.zeros(count, recipe("text", method).d_model)  # to which they are added
    vectors = encoding("text", method).embed(nothing, grid(count), count).half().float()
    if method == "sinusoidal":
        return {step: vectors if step == STEPS[-1] else vectors[:WHILE_LEARNING] for step in STEPS}
    return {STEPS[-1]: vectors}


def kind_of_table(method: str) -> str:
    """The kind of file that a method's position vectors are in: "table", else "text"."""
    return "table" if (FOLDER / f"table-{method}.safetensors").exists() else "text"


def text_models() -> list[str]:
    """The language models that are there: ``TEXT_MODELS``, and what was made of the further ones.

    >>> text_models()[:2]
    ['none', 'sinusoidal']
    """
    return [*TEXT_MODELS, *(method for method in FURTHER_MODELS
                            if (FOLDER / f"text-{method}.safetensors").exists())]


def _file(kind: str, method: str) -> Path:
    path = FOLDER / f"{kind}-{method}.safetensors"
    if not path.exists():
        there = sorted(p.stem.removeprefix(f"{kind}-") for p in FOLDER.glob(f"{kind}-*"))
        known = ", ".join(there) or "none; make them with python -m seqpe_lab bundle"
        raise ValueError(f"no {kind} {method!r} comes with the package: there are {known}")
    return path


# --- making them ---------------------------------------------------------------------------------

def make(report: Callable[[str], None] = print, further: bool = False) -> None:
    """Write all files: takes minutes, because finished runs are reused, except for the tables.

    Args:
        further: only those of ``FURTHER_MODELS``.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    of_paper = (("text", TEXT_MODELS, language_model), ("image", IMAGE_MODELS, image_model))
    for kind, methods, make_recipe in (
            (("text", FURTHER_MODELS, language_model),) if further else of_paper):
        for method in methods:
            report(f"{kind} {method}")
            _write_model(kind, train(make_recipe(method, "small"), progress=False))
    for method in (*TABLES, "learned") if not further else ():
        report(f"table of {method}: training")
        _write_tables(method)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.safetensors"))
    report(f"{size / 1e6:.1f} MB in {FOLDER}")


def _write_tables(method: str) -> None:
    kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def watch(step: int, trained: nn.Module) -> None:
        if step in STEPS:
            count = AT_THE_END if step == STEPS[-1] else WHILE_LEARNING
            kept[str(step)] = (trained.encoding.table.weight if method == "learned" else
                               trained.encoding.encoder(grid(count))).half()

    with tempfile.TemporaryDirectory() as folder:
        run = train(language_model(method, "small"), folder, watch=watch, progress=False)
        _save("table", method, kept, {"recipe": run.recipe.to_json(), "results": run.results()})


def _write_model(kind: str, run: Run) -> None:
    """Round the weights, then evaluate: the stored results are those of the rounded model."""
    recipe, task = run.recipe, task_of(run.recipe)
    data = task.load_data()
    weights = {name: t.half() if t.is_floating_point() else t
               for name, t in run.model_weights().items()}
    rounded = build_model(recipe, task.outputs(data))
    rounded.load_state_dict(weights)
    measured = task.evaluate(rounded.eval(), data)
    _save(kind, recipe.method, weights, {"recipe": recipe.to_json(), "outputs": task.outputs(data),
                                         "results": run.results() | measured})


def _save(kind: str, method: str, tensors: dict[str, Tensor], about: dict) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    save_file(tensors, FOLDER / f"{kind}-{method}.safetensors", {"about": json.dumps(about)})
