"""Where the authors' published code differs from their paper.

The lab's recipes follow the paper. This module holds the complete other form, for comparisons with
the published code or weights: ``--as-published`` on the command line, ``as_published=True`` in
Python.
"""
from __future__ import annotations

from typing import Any

_LOSSES: dict[str, Any] = {
    "distillation_form": "published",  # KL both ways, averaged over all elements
    "shift_unit": "batch",
    "distill_shifted": False,
    "clip_separately": True,
}
# Which candidates and students their code draws. Images: half of the sets are random, 30 % hold
# look-alikes, 20 % are local; text: 40 % hold look-alikes, 60 % are local, and students are shifted
# by at least a quarter of the training context. (hard_share is a share of the sets that are not
# local.)
_TEXT_SAMPLES = {"local": 0.6, "smallest_shift": 0.25}
_SAMPLES: dict[str, dict[str, float]] = {
    "lm": _TEXT_SAMPLES, "qa": _TEXT_SAMPLES, "algorithm": _TEXT_SAMPLES,
    "image": {"hard_share": 0.375, "local": 0.2}}
# Their SeqPE also divides the bias by sqrt(d_head), which is the default here.
_TEXT_OPTIONS: dict[str, dict[str, Any]] = {"alibi": {"scaled": True}, "seqpe": {"dropout": 0.1}}
_IMAGES = {"drop_path": 0.0, "min_learning_rate": 5e-6}
# at full scale; images: 6e-4 for each 512 images, 20 epochs of warm-up, no repeated augmentation
_SIZES: dict[str, dict[str, Any]] = {
    "lm": {}, "algorithm": {}, "qa": {"batch": 64},
    "image": {"teachers": 64, "learning_rate": 1.2e-3, "warmup_steps": 25_020, "repeats": 1}}


def as_published(task: str, encoding: str = "seqpe", scale: str = "full") -> dict[str, Any]:
    """The fields of a recipe in which the published code differs from the paper's text.

    Only those that have an effect: the losses belong to SeqPE, and sizes and the schedule are
    changed only at full scale. A language model with RoPE is therefore the same in both forms.

    Args:
        task: "lm", "qa" (whose encoding is the language model's), "algorithm" (of which the authors
            published nothing; the form of their losses is the same) or "image".
        encoding: of the recipe.

    >>> as_published("lm", "alibi")
    {'encoding_options': {'scaled': True}}
    >>> as_published("image", "rope", "small")
    {'drop_path': 0.0, 'min_learning_rate': 5e-06}
    """
    if task not in _SIZES:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(_SIZES)}")
    fields = _LOSSES | _SAMPLES[task] if encoding == "seqpe" else {}
    if task == "lm" and encoding in _TEXT_OPTIONS:
        fields["encoding_options"] = dict(_TEXT_OPTIONS[encoding])
    if task == "image":
        fields |= _IMAGES
    sizes = {name: value for name, value in _SIZES[task].items()
             if name != "teachers" or encoding == "seqpe"}
    return fields | (sizes if scale == "full" else {})
