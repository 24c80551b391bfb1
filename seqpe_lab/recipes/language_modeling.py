"""Language models that are tested on longer texts than they were trained on (Sec. 4.1)."""
from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from seqpe_lab.recipes.base import AtLeast0, Count, ShareBelow1, Training
from seqpe_lab.recipes.methods import make_recipe

Lengths = Annotated[tuple[Count, ...], Field(
    strict=False, min_length=1, description="must name at least one length of at least 1 token")]


class Recipe(Training):
    """A language model: one training run with its evaluation (Sec. 4.1, App. A and B.1)."""
    # data
    source: str = "hub:Salesforce/wikitext:wikitext-103-raw-v1"
    tokenizer: str = "gpt2"
    train_len: Count = 512  # tokens
    dropout: ShareBelow1 = 0.1
    # evaluation
    eval_lens: Lengths = (512, 1024, 2048, 4096, 8192, 16_384)  # tokens
    eval_tokens: Annotated[AtLeast0, Field(
        description="must be at least 0 (all of the split)")] = 0

    task: ClassVar[str] = "lm"
    dims: ClassVar[int] = 1

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.max_position < self.train_len:
            raise ValueError(f"max_position={self.max_position} is below "
                             f"train_len={self.train_len}: raise it")
        if max(self.eval_lens) > self.max_position:
            raise ValueError(f"eval_len {max(self.eval_lens)} is beyond max_position="
                             f"{self.max_position}: raise `max_position` or shorten eval_lens")
        self._check_distillation(self.train_len, "raise train_len")
        return self

    @property
    def train_shape(self) -> tuple[int, ...]:
        """(tokens,) of the training context."""
        return (self.train_len,)


# What differs from the paper at each scale. In short runs max_position is not far above the longest
# evaluation, so that each position is trained often (App. A.4). At small scale 1,200 was too low:
# the digits of 1,000..1,199 were too rare. Its two position losses have 240 rows a step: then a
# position is a pivot 160 times in the whole run, as in the paper.
PRESETS: dict[str, dict] = {
    "smoke": dict(
        source="python", tokenizer="bytes", d_model=32, layers=2, heads=2, dropout=0.0,
        train_len=32, max_position=240, steps=12, batch=8, micro_batch=8, learning_rate=3e-3,
        warmup_steps=2, weight_decay=0.01, adam_beta2=0.99, clip=1.0, pivots=8, candidates=8,
        hard=2, distillation_batch=4, teachers=8, log_every=1, checkpoint_every=6,
        eval_lens=(32, 64, 128), eval_tokens=1_024),
    "small": dict(
        source="python", tokenizer="bytes", d_model=96, layers=3, heads=4, dropout=0.0,
        train_len=64, max_position=1_500, steps=1_000, batch=32, micro_batch=32,
        learning_rate=2e-3, warmup_steps=50, weight_decay=0.01, adam_beta2=0.99, clip=1.0,
        pivots=240, distillation_batch=240, checkpoint_every=250,
        eval_lens=(64, 128, 256, 512, 1_024), eval_tokens=65_536),
    "medium": dict(
        steps=6_000, batch=64, micro_batch=32, learning_rate=3e-4, warmup_steps=300,
        weight_decay=0.01, pivots=128, distillation_batch=64, checkpoint_every=500,
        eval_tokens=262_144),
    "full": {},
}

# the rows of Table 1
METHODS: dict[str, dict] = {
    "none": dict(encoding="none"),
    "sinusoidal": dict(encoding="sinusoidal"),
    "learned": dict(encoding="learned"),
    "rope-1e4": dict(encoding="rope", encoding_options={"base": 1e4}),
    "rope-1e6": dict(encoding="rope", encoding_options={"base": 1e6}),
    "rope-1e8": dict(encoding="rope", encoding_options={"base": 1e8}),
    "alibi": dict(encoding="alibi"),
    "seqpe": dict(encoding="seqpe"),
}

# The rows of Table 4, and loss weights three times the paper's. As in the paper ("keeping the rest
# settings as same") 10 % of the training data start at shifted positions in every row.
ABLATIONS: dict[str, dict] = {
    "seqpe-no-losses": dict(alpha=0.0, beta=0.0),
    "seqpe-delta-only": dict(beta=0.0),
    "seqpe-ood-only": dict(alpha=0.0),
    "seqpe-strong-losses": dict(alpha=0.3, beta=0.3),
}

# the second half of Table 4's design: the same rows without shifted starts
UNSHIFTED: dict[str, dict] = {
    f"{method}-unshifted": ABLATIONS.get(method, {}) | dict(shifted=0.0)
    for method in ("seqpe-no-losses", "seqpe-delta-only", "seqpe-ood-only", "seqpe")}

# SeqPE with other encoders and digits, and encodings trained on other positions than 0, 1, 2, ...
VARIANTS: dict[str, dict] = {
    "seqpe-gru": dict(encoding="seqpe", encoding_options={"architecture": "gru"}),
    "seqpe-base-2": dict(encoding="seqpe", encoding_options={"base": 2, "digits": 15}),
    "seqpe-base-100": dict(encoding="seqpe", encoding_options={"base": 100, "digits": 3}),
    "seqpe-least-first": dict(encoding="seqpe", encoding_options={"least_first": True}),
    "sinusoidal-shift": dict(encoding="sinusoidal", position_sampling="shift"),
    "sinusoidal-random": dict(encoding="sinusoidal", position_sampling="random"),
    "rope-1e4-random": dict(encoding="rope", encoding_options={"base": 1e4},
                            position_sampling="random"),
    "rope-1e4-skips": dict(encoding="rope", encoding_options={"base": 1e4},
                           position_sampling="skips"),
}

# trained first: the methods of the headline figure
HEADLINE = ("seqpe", "seqpe-no-losses", "rope-1e4", "alibi")


def language_model(method: str = "seqpe", scale: str | None = None, seed: int = 0,
                   as_published: bool = False, **overrides: Any) -> Recipe:
    """The recipe of one run.

    Args:
        method: a row of Table 1 (``METHODS``) or of the ablation (``ABLATIONS``, ``UNSHIFTED``),
            or one of ``VARIANTS``; or an encoding's name, or "package.module:Class" or
            "folder/file.py:Class".
        scale: "smoke", "small", "medium" or "full"; by default $SEQPE_SCALE, else "small".
        as_published: use the form of the authors' code where it differs from the paper.
        overrides: any field of :class:`Recipe`, for instance ``steps=200``.

    >>> recipe = language_model("seqpe-ood-only", scale="small")
    >>> recipe.encoding, recipe.alpha, recipe.beta
    ('seqpe', 0.0, 0.1)
    """
    rows = METHODS | ABLATIONS | UNSHIFTED | VARIANTS
    return make_recipe(Recipe, PRESETS, rows, method, scale, seed, as_published, overrides)
