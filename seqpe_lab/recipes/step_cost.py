"""What a training run costs: operations, memory and hours, counted from its recipe.

The product of an (m, k) and a (k, n) matrix takes 2 m k n floating-point operations, and its
backward pass two more products of that size. So a weight takes 6 operations for each token. Only
matrix products are counted, without the patch embedding of a ViT and the similarities of the two
losses (together about 1 %), and a position encoder of the paper's form. Hours are operations over a
stated share of the machine's matrix rate; evaluation and the decoding of images come on top.
"""
from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from seqpe_lab.problems import SYMBOLS
from seqpe_lab.recipes.base import Training

# sizes of the output layer for the sources and tokenizers of the presets, and of all algorithms
OUTPUTS = {"algorithm": len(SYMBOLS), "bytes": 256, "gpt2": 50_257, "digits": 10,
           "hub:uoft-cs/cifar10": 10, "hub:ILSVRC/imagenet-1k": 1_000}
# Bytes that a layer keeps of each feature of a token for its backward pass: inputs and outputs of
# norms, products, attention and GELU, and dropout masks. SeqPE adds the longer queries and keys.
ACTIVATIONS = {"bf16": 60, "fp32": 70}
SEQPE_ACTIVATIONS = {"bf16": 12, "fp32": 20}
LOGIT = 12  # bytes of a logit: itself, its log-probability, its gradient
LOGITS = 2**27  # that are in memory at a time, at most
PROGRAM = 0.8  # GiB of Python and torch themselves, or of CUDA's libraries


def outputs_of(recipe: Training) -> int:
    """Size of the output layer of a preset's model: of the vocabulary, or number of classes.

    >>> from seqpe_lab.recipes import language_model
    >>> outputs_of(language_model("seqpe", "full"))
    50257
    """
    data = {"image": "source", "algorithm": "task"}.get(recipe.task, "tokenizer")
    return OUTPUTS[getattr(recipe, data)]


class Machine(NamedTuple):
    """Where a recipe is meant to run.

    Attributes:
        rate: operations a second of a large matrix product.
        share: what a training step reaches of it.
        precision: of training, "bf16" or "fp32".
        least: seconds that a micro-batch takes however small it is, to launch its kernels.
    """
    name: str
    rate: float
    share: float
    precision: str
    least: float = 0.0


# The rate is the data sheet's, bf16 without sparsity; the share and the least time are assumptions
# until a run has measured them.
H200 = Machine("one H200 GPU", 989e12, 0.35, "bf16", least=0.015)
CPU_SHARE = 0.4  # the small recipes on 1 core reach 0.3 (images) to 0.65 (text)


@lru_cache(maxsize=1)
def this_cpu() -> Machine:
    """This machine's CPU; its matrix rate is measured once, in 0.2 s."""
    import torch  # a recipe is read before it is needed

    from seqpe_lab.devices import matrix_rate
    return Machine("this CPU", matrix_rate(torch.device("cpu")), CPU_SHARE, "fp32")


def operations(recipe: Training, outputs: int) -> dict[str, float]:
    """Floating-point operations of one training step by part: "layers", "attention", "output",
    and of SeqPE "positions".

    Args:
        outputs: size of the vocabulary, or number of classes.

    >>> from seqpe_lab.recipes import language_model
    >>> counted = operations(language_model("none", "full"), 50_257)
    >>> {name: f"{value:.2g}" for name, value in counted.items()}
    {'layers': '3.3e+13', 'attention': '1.9e+12', 'output': '1.5e+13'}
    """
    text, d = recipe.dims == 1, recipe.d_model
    length = math.prod(recipe.train_shape) + (not text)  # an image also has [CLS]
    seqpe = recipe.encoding == "seqpe"
    wide = seqpe and recipe.encoding_options.get("integration", "bias") == "bias"
    scores = recipe.batch * recipe.layers * length**2 * d * (3 if wide else 2)
    # of questions and algorithms only the answers, a few tokens
    answered = {"lm": length, "image": 1}.get(recipe.task, 0)
    counted = {"layers": 6.0 * recipe.batch * length * recipe.layers * _layer_weights(recipe),
               "attention": 6 * scores / (2 if text else 1),  # a causal mask leaves half
               "output": 6.0 * recipe.batch * answered * d * outputs}
    return counted | ({"positions": _position_operations(recipe)} if seqpe else {})


def parameters(recipe: Training, outputs: int) -> float:
    """Weights of the model's matrices; biases and norms are left out."""
    d, total = recipe.d_model, recipe.layers * _layer_weights(recipe)
    if recipe.encoding == "seqpe":
        layers = recipe.encoding_options.get("encoder_layers", 2)
        total += d * d * (12 * layers + 1 + 2 * _projections(recipe))
    return total + d * outputs


def memory(recipe: Training, outputs: int, precision: str) -> float:
    """GiB of one device in training: weights, gradients and AdamW's two moments, 16 bytes a weight
    in all; what a micro-batch keeps for its backward pass; the program. No allocator's reserve.

    Args:
        precision: "bf16" or "fp32".
    """
    text = recipe.dims == 1
    tokens = recipe.micro_batch * (math.prod(recipe.train_shape) + (not text))
    feature = ACTIVATIONS[precision]
    feature += SEQPE_ACTIVATIONS[precision] if recipe.encoding == "seqpe" else 0
    predicted = {"lm": tokens, "image": recipe.micro_batch}.get(recipe.task, 0)
    kept = tokens * recipe.layers * recipe.d_model * feature
    kept += LOGIT * min(outputs * predicted, LOGITS)
    return (16 * parameters(recipe, outputs) + kept) / 2**30 + PROGRAM


def hours(recipe: Training, outputs: int, machine: Machine) -> float:
    """Of the whole training on one device."""
    step = sum(operations(recipe, outputs).values()) / (machine.rate * machine.share)
    least = recipe.batch // recipe.micro_batch * machine.least
    return recipe.steps * max(step, least) / 3_600


def _layer_weights(recipe: Training) -> float:
    """Of one layer: queries, keys, values, output, and the MLP's two matrices."""
    return (4 + 2 * getattr(recipe, "mlp_ratio", 4.0)) * recipe.d_model**2


def _projections(recipe: Training) -> int:
    return 1 if recipe.encoding_options.get("shared_projection", True) else recipe.layers


def _position_operations(recipe: Training) -> float:
    """Of the position encoder over its prefix tree, and of W_PE (Eq. 11)."""
    options, d = recipe.encoding_options, recipe.d_model
    rounds = recipe.batch // recipe.micro_batch  # each encodes the contexts anew
    contexts = 1 + (1 - (1 - recipe.shifted) ** recipe.micro_batch)  # at 0, and at the step's z
    drawn = recipe.pivots * (recipe.alpha > 0) * (1 + recipe.candidates)
    drawn += recipe.distillation_batch * (recipe.beta > 0) * recipe.teachers
    symbols = recipe.dims * options.get("digits", 5) * options.get("base", 10) + 1
    total = 0.0
    due = 1 / recipe.regularize_every  # position losses: in the first round only, or more rarely
    for count, times in ((drawn, due), (0, rounds - due)):
        nodes, distinct = _tree(recipe, contexts, count)
        # the first layer has no products for queries, keys and values, the last only [CLS]
        weights = (12 * options.get("encoder_layers", 2) - 13) * nodes + 11 * distinct
        total += times * (weights * d * d + nodes * symbols * d)
    projected = rounds * contexts * math.prod(recipe.train_shape) * 2 * _projections(recipe)
    passes = 2 if getattr(recipe, "keep_encoder", False) else 6  # a kept one has no backward pass
    return passes * total + 6 * projected * d * d


def _tree(recipe: Training, contexts: float, drawn: int) -> tuple[float, float]:
    """Expected nodes of the prefix tree and distinct positions: some contexts, ``drawn`` others."""
    digits, base = recipe.encoding_options.get("digits", 5), recipe.encoding_options.get("base", 10)
    nodes, above, above_context = 0.0, 1, 1.0  # cells and a context's cells of earlier dimensions
    for length in recipe.train_shape:
        for place in range(digits):
            width = base ** (digits - 1 - place)  # positions that share the prefix
            cells = above * math.ceil(recipe.max_position / width)
            covered = min(cells, contexts * above_context * math.ceil(length / width))
            found = covered + (cells - covered) * (1 - math.exp(-drawn / cells))
            nodes += found
        above, above_context = cells, above_context * length
    return nodes + found, found  # each distinct position ends in [CLS]
