"""The other stages of benchmarks.gpu: output layer, precision, long contexts, resuming, images."""

from __future__ import annotations

import io
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seqpe_lab.devices import device_of
from seqpe_lab.digits import grid
from seqpe_lab.encodings import SeqPE
from seqpe_lab.recipes import ImageRecipe, Recipe, image_model
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.image_data import ImageData, Images
from seqpe_lab.tasks.images import accuracy
from seqpe_lab.tasks.perplexity import perplexity
from seqpe_lab.training import build_model, train

from . import medium
from .encodings import clean, clock
from .gpu_training import VOCABULARY, Enough, Sizes, StepTimer, random_text, steps_of, text_recipe
from .measure import Findings, spread

LENGTHS = (64, 128, 256, 512, 1_024)
EVALUATED = ("none", "alibi", "seqpe")
PRECISIONS = ("bf16", "fp32")


# --- the output layer --------------------------------------------------------------------------


def output_layer(found: Findings, sizes: Sizes) -> None:
    """Forward and backward products of the output layer: 50,257 columns, and a multiple of 64."""
    for columns in (VOCABULARY, 50_304):
        found[f"{columns:,} columns, ms"] = _products(sizes.batch * sizes.train_len, 768, columns)


def _products(rows: int, d_model: int, columns: int, at_once: int = 10) -> dict[str, float]:
    options = dict(device="cuda", dtype=torch.bfloat16)
    hidden, weight = torch.randn(rows, d_model, **options), torch.randn(columns, d_model, **options)
    gradient = torch.randn(rows, columns, **options)

    def work() -> None:
        for _ in range(at_once):
            hidden @ weight.T, gradient @ weight, gradient.T @ hidden

    clock(work, "cuda")
    return spread([1e3 * clock(work, "cuda") / at_once for _ in range(5)])


# --- precision ---------------------------------------------------------------------------------


def precision(found: Findings, sizes: Sizes) -> None:
    """A trained SeqPE in bfloat16: perplexity against float32, scores against float64.

    The model is the language model that comes with the package.
    """
    from seqpe_lab.explorers import shipped_models

    model = shipped_models.model("text", "seqpe").cuda()
    text = task_of(shipped_models.recipe("text", "seqpe")).load_data().test[: 32 * 1_024 + 1]
    for length in LENGTHS:
        with found.case(f"perplexity at {length}"):
            values = {}
            for model.precision in PRECISIONS:  # evaluation computes in it
                values[model.precision] = perplexity(model, text, length).perplexity
            found[f"perplexity at {length}"] = values
    with found.case("scores"):
        found["scores"] = score_errors(model.encoding, max(LENGTHS))


@torch.no_grad()
def score_errors(encoding: SeqPE, length: int) -> dict[str, float]:
    """The bias of Eq. 14 in bfloat16 against float64, over positions 0..length-1.

    Each query's scores are compared up to a constant, which softmax does not notice.

    Returns:
        "spread": standard deviation of a query's scores in float64, mean over queries and heads;
        "mean error", "largest error": absolute, of bfloat16; "error / spread": of the mean error;
        "weights that move": share of a query's attention that goes to other keys than in float64,
        mean over queries and heads, if the bias were alone.
    """
    shape = (1, encoding.heads, length, encoding.encoder.d_model // encoding.heads)
    exact = deepcopy(encoding).cpu().double()
    scores = []
    for form, dtype in ((encoding, torch.bfloat16), (exact, torch.float64)):
        device = device_of(form)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            zero = torch.zeros(shape, dtype=dtype, device=device)
            q, k = form.transform(zero, zero, form.prepare(grid(length), None, device), 0)
        assert q.dtype == k.dtype == dtype, f"queries are {q.dtype}, keys {k.dtype}"
        score = q.cpu().double() @ k.cpu().double().mT
        scores.append(score - score.mean(-1, keepdim=True))
    error, width = (scores[0] - scores[1]).abs(), float(scores[1].std(-1).mean())
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    weights = [(s / shape[-1] ** 0.5).masked_fill(~causal, -torch.inf).softmax(-1) for s in scores]
    return {
        "spread": width,
        "mean error": float(error.mean()),
        "largest error": float(error.max()),
        "error / spread": float(error.mean()) / max(width, 1e-30),
        "weights that move": float((weights[0] - weights[1]).abs().sum(-1).mean()) / 2,
    }


# --- long contexts -----------------------------------------------------------------------------


def long_context(found: Findings, sizes: Sizes) -> None:
    """Perplexity of one sequence of 16,384 tokens: milliseconds and memory, ratios to NoPE."""
    for precision in PRECISIONS:
        none: dict = {}
        for method in EVALUATED:
            with found.case(f"{method}, {precision}"):
                recipe = text_recipe(method, sizes, precision=precision)
                measured = _one_sequence(recipe, sizes.length)
                none = measured if method == "none" else none
                if none:  # without it there is nothing to compare with
                    measured["x NoPE"] = measured["ms"]["median"] / none["ms"]["median"]
                    measured["GB, x NoPE"] = measured["GB"] / none["GB"]
                found[f"{method}, {precision}"] = measured
            clean()


def _one_sequence(recipe: Recipe, length: int) -> dict:
    """Times and the peak of memory; in the first pass SeqPE encodes all positions."""
    tokens = random_text().test[: length + 1]
    model = build_model(recipe, VOCABULARY).cuda()

    def work() -> None:
        perplexity(model, tokens, length)

    def memory() -> float:
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return peak

    memory()
    found = {"first pass, ms": 1e3 * clock(work, "cuda"), "first pass, GB": memory()}
    found["ms"] = spread([1e3 * clock(work, "cuda") for _ in range(3)])
    found["later, GB"] = memory()
    return found | {"GB": max(found["first pass, GB"], found["later, GB"])}


# --- resuming ----------------------------------------------------------------------------------


def resume(found: Findings, sizes: Sizes) -> None:
    """A run that is stopped and resumed against one that is not, and what determinism costs.

    The deterministic run comes first: CUDA reads the setting that it needs only once.
    """
    data = random_text()
    for name, options in (("deterministic", {"deterministic": True}), ("as it is", {})):
        recipe = text_recipe(
            "seqpe", sizes, steps=12, warmup_steps=2, checkpoint_every=6, log_every=1, layers=2
        )
        with found.case(name), tempfile.TemporaryDirectory() as folder:
            whole = train(recipe, Path(folder) / "whole", data=data, progress=False, **options)
            steps_of(recipe, data, _stop_at(9), folder=Path(folder) / "resumed", **options)
            again = train(recipe, Path(folder) / "resumed", data=data, progress=False, **options)
            found[name] = difference(whole, again)
        timer = StepTimer(sizes)
        with found.case(f"{name}, ms a step"):
            steps_of(text_recipe("seqpe", sizes), data, timer, **options)
            found[f"{name}, ms a step"] = timer.ms()


def _stop_at(step: int):
    def watch(done: int, model: nn.Module) -> None:
        if done == step:
            raise Enough

    return watch


def difference(whole, again) -> dict:
    """Of two runs of one recipe: of their logged losses, and of their last weights."""
    losses = [[record["loss"] for record in run.metrics()] for run in (whole, again)]
    weights = [run.model_weights() for run in (whole, again)]
    return {
        "equal": whole.metrics() == again.metrics()
        and all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()),
        "largest difference of losses": max(abs(a - b) for a, b in zip(*losses, strict=True)),
        "of weights": max(float((weights[1][n] - w).abs().max()) for n, w in weights[0].items()),
    }


# --- images ------------------------------------------------------------------------------------


def images(found: Findings, sizes: Sizes) -> None:
    """Milliseconds a step by the number of loading processes, and images a second in evaluation."""
    data = medium.load("image", str(sizes.images)) if sizes.images else random_images(4_096, 32)
    recipe = image_model("seqpe-mul", "medium", source="images", **_image_changes(sizes))
    for workers in sizes.workers:
        with found.case(f"32 pixels, {workers} workers"):
            found[f"32 pixels, {workers} workers"] = _image_steps(recipe, data, sizes, workers)
    with found.case("32 pixels, evaluation"):
        found["32 pixels, evaluation"] = _images_a_second(recipe, data)
    data = random_images(512, 400)
    recipe = image_model("seqpe-mul", "full", source="images", **_image_changes(sizes))
    recipe = recipe.changed(batch=recipe.micro_batch)
    short = Sizes(sizes.out, warm=2, blocks=2)
    with found.case("224 pixels, evaluation"):
        found["224 pixels, evaluation"] = _images_a_second(recipe, data)
    workers = max(sizes.workers)
    with found.case(f"224 pixels, {workers} workers"):
        found[f"224 pixels, {workers} workers"] = _image_steps(recipe, data, short, workers)


def _image_changes(sizes: Sizes) -> dict:
    never = dict(steps=10_000, warmup_steps=10, checkpoint_every=10**9, log_every=10**9)
    return never | dict(layers=min(sizes.layers, 8))


def _image_steps(recipe: ImageRecipe, data: ImageData, sizes: Sizes, workers: int) -> dict:
    timer = StepTimer(sizes)
    steps_of(recipe, data, timer, workers=workers)
    ms = timer.ms()
    return {"ms": ms, "images/s": 1e3 * recipe.batch / ms["median"]}


def _images_a_second(recipe: ImageRecipe, data: ImageData, count: int = 512) -> float:
    """In evaluation at the training size."""
    model = build_model(recipe, len(data.classes)).cuda()
    images = data.test.select(range(min(count, len(data.test))))
    accuracy(model, images, data, recipe, recipe.image_size)
    began = time.perf_counter()
    accuracy(model, images, data, recipe, recipe.image_size)
    return len(images) / (time.perf_counter() - began)


def random_images(count: int, side: int, classes: int = 10) -> ImageData:
    """JPEG files in memory, of ``side`` x ``side`` pixels, of smooth random colours."""
    from PIL import Image

    chance, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((side, side)).save(file := io.BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    labels = torch.arange(count) % classes
    everything = Images(files, labels, 3, "random images")
    return ImageData(
        "random images", "random images", 3, [str(i) for i in range(classes)], everything,
        everything, everything, "random", (0.5,) * 3, (0.25,) * 3,
    )  # fmt: skip
