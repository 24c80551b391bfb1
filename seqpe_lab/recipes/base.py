"""What the recipes of all tasks share: fields and their checks, a file format, and a digest.

A recipe holds every value that a training run depends on. It cannot be changed; ``changed`` makes
another one. Its digest is part of the name of the run's folder.
"""
from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator,
                      model_validator)

from seqpe_lab.plain_text import did_you_mean

ScaleName = Literal["smoke", "small", "medium", "full"]
SCALES: tuple[str, ...] = get_args(ScaleName)
WITHOUT_POSITIONS = ("none", "fox", "cope")  # encodings that see the content alone
NAMES = ("python", "digits", "facts", "bytes", "gpt2")  # of data and tokenizers, never paths

# Types of fields. The description says what a value must be; error messages quote it.
Count = Annotated[int, Field(ge=1, description="must be a whole number of at least 1")]
AtLeast0 = Annotated[int, Field(ge=0, description="must be a whole number of at least 0")]
Weight = Annotated[float, Field(ge=0, description="must be a number of at least 0")]
Share = Annotated[float, Field(ge=0, le=1, description="is a share in [0, 1]")]
PositiveShare = Annotated[float, Field(gt=0, le=1, description="is a share in (0, 1]")]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1, description="must lie in [0, 1)")]
Seed = Annotated[int, Field(
    ge=0, lt=2**32, description="must be a whole number of at least 0 and below 2**32")]
Rate = Annotated[float, Field(gt=0, description="must be above 0")]
LossWeight = Annotated[float, Field(allow_inf_nan=True)]  # checked together, see below
Options = Annotated[dict[str, JsonValue], Field(description="must be a table of options")]
WITHOUT_LIMITS: dict[Any, str] = {int: "must be a whole number", float: "must be a number",
                             str: "must be a word", bool: "must be true or false"}


class Training(BaseModel):
    """The fields of every training run. Defaults are the paper's.

    Raises:
        ValueError: a value that cannot be run; one line with the field, its value and the limit.

    >>> from seqpe_lab.recipes import language_model
    >>> recipe = language_model("seqpe", "small")
    >>> recipe.changed(steps=5).steps, recipe.steps
    (5, 1000)
    >>> recipe.changed(steps=0)
    Traceback (most recent call last):
    ValueError: steps must be a whole number of at least 1, got 0
    """
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    method: str = "seqpe"
    scale: ScaleName = "full"
    seed: Seed = 0
    # model
    d_model: Count = 768
    layers: Count = 12
    heads: Count = 12
    max_position: Count = 20_000  # L_max, exclusive; of each dimension
    encoding: str = "seqpe"
    encoding_options: Options = {}
    # optimisation: AdamW
    steps: Count = 100_000
    batch: Count = 128  # sequences or images per step, over all devices
    micro_batch: Count = 32  # sequences or images per device and forward pass
    learning_rate: Rate = 5e-5
    min_learning_rate: Weight = 0.0  # at the end of the decay
    warmup_steps: AtLeast0 = 4_000
    weight_decay: Weight = 0.0  # the position encoder always has 0
    adam_beta2: ShareBelow1 = 0.999
    clip: Rate = 5.0  # largest gradient norm
    precision: Literal["bf16", "fp32"] = "bf16"  # on a GPU; the CPU computes in float32
    # position losses (SeqPE only): L = L_main + alpha L_delta + beta L_OOD, Eq. 15
    alpha: LossWeight = 0.1
    beta: LossWeight = 0.1
    # n: only at every n-th step, with n times the weight; quicker, but worse on long contexts
    regularize_every: Count = 1
    pivots: Count = 32  # batch size of L_delta
    candidates: Count = 32  # m of L_delta
    hard: AtLeast0 = 8  # look-alikes among the candidates
    hard_share: Share = 1.0  # share of the global candidate sets that hold look-alikes
    local: Share = 0.5  # share of the pivots with local candidates
    distillation_batch: Count = 32  # batch size of L_OOD
    teachers: Count = 32  # m of L_OOD
    smallest_shift: Share = 1.0  # L_OOD shifts by at least this share of the training context
    distillation_form: Literal["paper", "published"] = "paper"
    shifted: Share = 0.1  # share of the training data whose positions start at a random z
    # which positions a training sequence gets; shifted belongs to the first two
    position_sampling: Literal["consecutive", "shift", "random", "skips"] = "consecutive"
    shift_unit: Literal["sequence", "batch"] = "sequence"  # a share of each batch, or whole batches
    distill_shifted: bool = True  # False: no L_OOD on steps with a shifted batch
    clip_separately: bool = False  # True: model and position encoder are clipped separately
    eval_split: Literal["test", "validation"] = "test"  # what the results are measured on
    # bookkeeping
    log_every: Count = 10  # steps
    checkpoint_every: Count = 1_000  # steps; validation happens at the same time

    task: ClassVar[str]  # "lm", "qa", "image" or "algorithm"
    dims: ClassVar[int]  # n: of a position
    takes_best: ClassVar[bool] = False  # the result is the checkpoint with the best validation

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(self._in_one_line(error, values)) from None

    @classmethod
    def _in_one_line(cls, error: ValidationError, values: dict[str, Any]) -> str:
        """The first error that pydantic found, with the value and what it must be."""
        errors = error.errors()
        unknown = sorted(str(e["loc"][0]) for e in errors if e["type"] == "extra_forbidden")
        if unknown:
            return (f"a recipe has no field {', '.join(unknown)}: "
                    f"it has {', '.join(sorted(cls.model_fields))}"
                    + did_you_mean(unknown[0], cls.model_fields))
        if not errors[0]["loc"] or errors[0]["type"] == "value_error":
            return str(errors[0]["ctx"]["error"])
        name = str(errors[0]["loc"][0])
        field, value = cls.model_fields[name], values[name]
        if errors[0]["type"] == "literal_error":
            known = get_args(field.annotation)
            return (f"unknown {name} {value!r}: choose from {', '.join(known)}"
                    + did_you_mean(value, known))
        if errors[0]["type"] == "finite_number":
            return f"{name} must be a finite number, got {value!r}"
        return f"{name} {field.description or WITHOUT_LIMITS[field.annotation]}, got {value!r}"

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        from seqpe_lab.encodings import encoding_class  # loads torch, which --help does without
        encoding_class(encoding)
        return encoding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch={self.micro_batch} must divide batch={self.batch}: "
                             "the tokens per step stay fixed; set both, for instance "
                             f"micro_batch={math.gcd(self.batch, self.micro_batch)}")
        if self.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide d_model={self.d_model}")
        base = self.encoding_options.get("base", 10)
        digits = self.encoding_options.get("digits", 5)
        if (self.encoding == "seqpe" and isinstance(base, int) and isinstance(digits, int)
                and self.max_position > base**digits):
            raise ValueError(
                f"max_position={self.max_position} does not fit into k={digits} digits in base "
                f"{base}: raise `digits` in encoding_options or lower max_position")
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise ValueError("loss weights must be finite numbers of at least 0, "
                             f"got alpha={self.alpha}, beta={self.beta}")
        if self.regularize_every > 1 and not (self.alpha or self.beta):
            raise ValueError(f"regularize_every={self.regularize_every} has no effect without "
                             "position losses: leave it at 1")
        self._check_sampling()
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate={self.min_learning_rate} is above "
                             f"learning_rate={self.learning_rate}: lower it")
        return self

    def _check_sampling(self) -> None:
        """Refuse ways to sample positions that have no effect, or no vectors for what they draw."""
        way = self.position_sampling
        if way != "consecutive" and self.encoding in WITHOUT_POSITIONS:
            raise ValueError(f"position_sampling={way!r} has no effect with encoding "
                             f"{self.encoding!r}, which reads no positions: leave it out")
        if way in ("random", "skips") and self.shifted:
            raise ValueError(f"shifted={self.shifted} has no effect with position_sampling={way!r}:"
                             " set it to 0")
        if way == "shift" and (self.encoding == "seqpe" or not self.shifted):
            raise ValueError("position_sampling='shift' gives any encoding the shifted starts that "
                             "SeqPE has anyway: choose another encoding, and shifted above 0")
        if way != "consecutive" and self.encoding == "learned":
            raise ValueError(f"a learned table has only the trained positions: {way!r} needs "
                             "another encoding")

    def _check_distillation(self, length: int, remedy: str) -> None:
        """Refuse teachers and students that L_OOD could not draw; ``length`` is L_i."""
        if self.encoding != "seqpe" or self.beta == 0:
            return
        if self.teachers > length**self.dims:
            raise ValueError(f"{self.teachers} teachers cannot be drawn from {length**self.dims} "
                             f"training positions: lower `teachers` or {remedy}")
        needed = length + math.ceil(self.smallest_shift * length)
        if self.max_position < needed:
            raise ValueError(f"max_position={self.max_position} leaves no room for the students of "
                             f"L_OOD beyond the {length} trained positions: raise it to at least "
                             f"{needed}, or set beta to 0")

    @property
    def pivots_per_position(self) -> float:
        """How often each position is a pivot of L_delta in the whole run, on average (App. A.4).

        160 in the paper's text runs.
        """
        return (self.steps // self.regularize_every * self.pivots
                / self.max_position**self.dims)

    def changed(self, **values: Any) -> Self:
        """A copy of the recipe with other values, checked like a new one."""
        return type(self)(**dict(self) | with_absolute_paths(values))

    def to_json(self) -> str:
        return json.dumps(self.model_dump(), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Training:
        """Read a recipe back, of text, of questions or of images.

        Raises:
            ValueError: not a recipe, or one with fields that this version does not know.
        """
        # they import this module
        from seqpe_lab.recipes import AlgorithmRecipe, ImageRecipe, QARecipe, Recipe
        try:
            values = json.loads(text)
            kind = (ImageRecipe if "image_size" in values else
                    AlgorithmRecipe if "problem" in values else
                    QARecipe if "questions" in values else Recipe)
            return kind(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"this is no recipe of this version: {error}") from error

    def digest(self) -> str:
        """8 hexadecimal digits that identify the recipe; part of the name of the run's folder.

        They are a hash of task, method, scale, seed, and all other values that differ from the
        defaults. So a new field with a default does not change the digests of finished runs.
        """
        named = {"task": self.task, "method": self.method, "scale": self.scale, "seed": self.seed}
        values = json.dumps(self.model_dump(exclude_defaults=True) | named, sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()[:8]


def with_absolute_paths(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of a recipe; the paths of files that are there no longer depend on where one is.

    >>> with_absolute_paths({"source": "python", "tokenizer": "bpe:512", "steps": 3})
    {'source': 'python', 'tokenizer': 'bpe:512', 'steps': 3}
    """
    def absolute(name: str, value: Any) -> Any:
        if name not in ("source", "questions", "tokenizer") or not isinstance(value, str):
            return value
        path = Path(value).expanduser()
        is_name = value in NAMES or value.startswith(("hub:", "bpe:")) or not value.strip()
        return value if is_name or not path.exists() else str(path.absolute())

    return {name: absolute(name, value) for name, value in values.items()}
