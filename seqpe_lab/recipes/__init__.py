"""Every experiment as a dataclass of plain values, at four scales of one code path.

    language_model("seqpe", scale="small", seed=0)
    image_model("seqpe-mul", scale="small", seed=0)

A recipe says everything that a run depends on; its digest names the run's folder. Tokens per step
are part of the recipe and do not change with the number of devices: accumulation follows from it.
"""
from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import ClassVar

from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.losses import DISTILLATION_FORMS

SCALES = ("smoke", "small", "medium", "full")


_TYPES = {"int": (int, "a whole number"), "float": ((int, float), "a number"), "str": (str, "a word"), "bool": (bool, "true or false"),
          "dict": (dict, "a table of options"), "tuple[int, ...]": (tuple, "a list of whole numbers")}


@dataclass(frozen=True)
class Training:
    """What every training run says. Field defaults are the paper's."""
    method: str = "seqpe"
    scale: str = "full"
    seed: int = 0
    # model
    d_model: int = 768
    layers: int = 12
    heads: int = 12
    max_position: int = 20_000  # L_max, exclusive; of each dimension
    encoding: str = "seqpe"
    encoding_options: dict = field(default_factory=dict)
    # optimisation: AdamW
    steps: int = 100_000
    batch: int = 128  # sequences or images a step, over all devices
    micro_batch: int = 32  # sequences or images a device and pass
    learning_rate: float = 5e-5
    warmup_steps: int = 4_000
    weight_decay: float = 0.0  # the position encoder always has 0
    adam_beta2: float = 0.999
    clip: float = 5.0  # gradient norm
    precision: str = "bf16"  # on a GPU; the CPU computes in float32
    # position losses (SeqPE only): L = L_main + alpha L_delta + beta L_OOD, Eq. 15
    alpha: float = 0.1
    beta: float = 0.1
    pivots: int = 32  # batch size of L_delta
    candidates: int = 32  # m of L_delta
    hard: int = 8  # look-alikes among them
    hard_share: float = 1.0  # share of the global candidate sets that hold look-alikes
    local: float = 0.5  # share of the pivots with local candidates
    distillation_batch: int = 32  # batch size of L_OOD
    teachers: int = 32  # m of L_OOD
    distillation_form: str = "paper"
    shifted: float = 0.1  # share of the training data whose positions start at a random z
    shift_unit: str = "sequence"  # "sequence": that share of each batch; "batch": whole batches
    distill_shifted: bool = True  # False: no L_OOD on the steps of a shifted batch
    clip_separately: bool = False  # True: model and position encoder are clipped each on its own
    # bookkeeping
    log_every: int = 10  # steps
    checkpoint_every: int = 1_000  # steps; validation happens at the same time

    task: ClassVar[str]  # "lm", "qa" or "image"
    dims: ClassVar[int]  # n: of a position
    base: ClassVar[str] = ""  # the run whose last weights training starts from
    takes_best: ClassVar[bool] = False  # the checkpoint with the lowest validation loss is the result, not the last one

    def __post_init__(self):
        """Refuse what cannot be run, with the value, the limit and the remedy."""
        for f in dataclasses.fields(self):
            kinds, called = _TYPES[f.type]
            value = getattr(self, f.name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and f.type != "bool"):
                raise ValueError(f"{f.name} must be {called}, got {value!r}")
        choices = {"scale": SCALES, "encoding": ENCODINGS, "distillation_form": DISTILLATION_FORMS, "precision": ("bf16", "fp32"), "shift_unit": ("sequence", "batch")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose from {', '.join(known)}")
        for name in ("steps", "batch", "micro_batch", "layers", "heads", "d_model", "log_every", "checkpoint_every"):
            self._at_least_1(name)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be a whole number of at least 0 and below 2**32, got {self.seed!r}")
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch={self.micro_batch} must divide batch={self.batch}: the tokens per step stay fixed")
        if self.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide d_model={self.d_model}")
        base, digits = self.encoding_options.get("base", 10), self.encoding_options.get("digits", 5)
        if self.encoding == "seqpe" and isinstance(base, int) and isinstance(digits, int) and self.max_position > base**digits:
            raise ValueError(f"max_position={self.max_position} does not fit into k={digits} digits in base {base}: raise `digits` in encoding_options or lower max_position")
        if not (self.alpha >= 0 and self.beta >= 0):
            raise ValueError(f"loss weights must be at least 0, got alpha={self.alpha}, beta={self.beta}")
        for name in ("shifted", "local", "hard_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def _at_least_1(self, name: str) -> None:
        if getattr(self, name) < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")

    @property
    def pivots_per_position(self) -> float:
        """How often L_delta trains each position in the whole run (App. A.4); about 160 in the paper's text runs."""
        return self.steps * self.pivots / self.max_position**self.dims

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Training:
        """Read a recipe back, of text, of questions or of images.

        Raises:
            ValueError: not a recipe, or one with fields that this version does not know.
        """
        try:
            values = json.loads(text)
            kind = ImageRecipe if "image_size" in values else QARecipe if "questions" in values else Recipe
            tuples = {f.name for f in dataclasses.fields(kind) if f.type.startswith("tuple")}
            return kind(**{name: tuple(value) if name in tuples else value for name, value in values.items()})
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is no recipe of this version: {error}") from error

    def digest(self) -> str:
        """8 hex digits that stand for all values."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Recipe(Training):
    """A language model: one training run with its evaluation (Sec. 4.1, App. A and B.1)."""
    # data
    source: str = "hub:Salesforce/wikitext:wikitext-103-raw-v1"
    tokenizer: str = "gpt2"
    train_len: int = 512  # tokens
    dropout: float = 0.1
    # evaluation
    eval_lens: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16_384)  # tokens
    eval_tokens: int = 0  # of the test split; 0 takes all

    task, dims = "lm", 1

    def __post_init__(self):
        super().__post_init__()
        self._at_least_1("train_len")
        if self.max_position < self.train_len:
            raise ValueError(f"max_position={self.max_position} is below train_len={self.train_len}: raise it")
        if self.eval_tokens < 0:
            raise ValueError(f"eval_tokens must be at least 0 (all of the test split), got {self.eval_tokens}")
        if not self.eval_lens or not all(isinstance(n, int) for n in self.eval_lens) or min(self.eval_lens) < 1:
            raise ValueError(f"eval_lens must name at least one length of at least 1 token, got {self.eval_lens}")
        if max(self.eval_lens) > self.max_position:
            raise ValueError(f"eval_len {max(self.eval_lens)} is beyond max_position={self.max_position}: raise `max_position` or shorten eval_lens")
        if self.encoding == "seqpe" and self.beta > 0 and self.teachers > self.train_len:
            raise ValueError(f"{self.teachers} teachers cannot be drawn from {self.train_len} training positions: lower `teachers` or raise train_len")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def train_shape(self) -> tuple[int, ...]:
        """L_i of each dimension: the training context."""
        return (self.train_len,)


@dataclass(frozen=True)
class QARecipe(Recipe):
    """Fine-tuning of a language model on questions over many documents (Sec. 4.2, App. B.3)."""
    base: str = ""  # the language model's run, its folder below the runs folder
    questions: str = "hub:rajpurkar/squad_v2"
    template: str = "paper"
    train_len: int = 1_024  # tokens of prompt and answer
    steps: int = 10_000
    warmup_steps: int = 100
    eval_lens: tuple[int, ...] = (1_024, 2_048, 4_096, 8_192)
    eval_questions: int = 500  # of the test split, the same ones at every length
    new_tokens: int = 16  # that the model may answer with
    alone: float = 0.0  # share of the training, its beginning, in which the document with the answer stands alone
    new_projection: bool = False  # SeqPE: W_PE starts anew, small; what the heads read out of positions is learnt again
    keep_encoder: bool = False  # SeqPE: the position encoder stays as the language model left it, without losses that shape it

    task, takes_best = "qa", True

    def __post_init__(self):
        super().__post_init__()
        for name in ("eval_questions", "new_tokens"):
            self._at_least_1(name)
        if not 0 <= self.alone <= 1:
            raise ValueError(f"alone is a share in [0, 1], got {self.alone}")
        if self.keep_encoder and (self.alpha or self.beta):
            raise ValueError(f"alpha={self.alpha} and beta={self.beta} weigh losses that shape the position encoder, which keep_encoder=true leaves as it is: set them to 0")
        if not self.base:
            raise ValueError("base must name the run of a language model that is to be fine-tuned")
        if max(self.eval_lens) + self.new_tokens > self.max_position:
            raise ValueError(f"a prompt of {max(self.eval_lens)} tokens and {self.new_tokens} new ones reach beyond max_position={self.max_position}: "
                             "shorten eval_lens, or take a base with a larger max_position")


@dataclass(frozen=True)
class ImageRecipe(Training):
    """An image classifier: one training run with its evaluation (Sec. 4.3, App. B.4: DeiT's recipe, 400 epochs of ImageNet)."""
    # model
    d_model: int = 384
    heads: int = 6
    max_position: int = 100
    encoding_options: dict = field(default_factory=lambda: {"integration": "mul", "shared_projection": False, "digits": 2})
    timm_model: str = "vit_small_patch16_224"
    patch: int = 16  # pixels a side
    mlp_ratio: float = 4.0  # hidden units of a block's MLP for each of d_model
    drop_path: float = 0.1
    # data
    source: str = "hub:ILSVRC/imagenet-1k"
    image_size: int = 224  # pixels a side, in training
    augment: str = "deit"  # "deit", "zoom" or "place": see vision.py
    crop: float = 0.08  # smallest share of an image's area that a training crop keeps
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    erasing: float = 0.25
    # optimisation
    steps: int = 500_400  # 400 epochs of 1,281,167 images
    batch: int = 1_024
    micro_batch: int = 256
    learning_rate: float = 1.2e-3  # 6e-4 for each 512 images, as DeiT counts
    warmup_steps: int = 25_020
    weight_decay: float = 0.05
    # evaluation
    eval_sizes: tuple[int, ...] = (224, 320, 384, 448, 512, 640, 672)  # pixels a side
    eval_images: int = 0  # of the test split; 0 takes all

    task, dims = "image", 2

    def __post_init__(self):
        super().__post_init__()
        for name in ("patch", "image_size"):
            self._at_least_1(name)
        if not self.eval_sizes:
            raise ValueError("eval_sizes must name at least one size")
        for size in (self.image_size, *self.eval_sizes):
            if not isinstance(size, int) or size < 1 or size % self.patch:
                raise ValueError(f"an image of {size} pixels does not divide into patches of {self.patch}: choose another size or patch")
            if size // self.patch > self.max_position:
                raise ValueError(f"{size} pixels are {size // self.patch} patches a side, beyond max_position={self.max_position}: raise `max_position` or shrink the images")
        if self.augment not in ("deit", "zoom", "place"):
            raise ValueError(f"unknown augment {self.augment!r}: choose from deit, zoom, place")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is a share in (0, 1], got {self.crop}")
        if not 1 <= self.mlp_ratio * self.d_model < float("inf"):
            raise ValueError(f"mlp_ratio={self.mlp_ratio} must leave at least one hidden unit: the paper's ViT has 4.0")
        for name in ("mixup", "cutmix", "eval_images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if (self.mixup or self.cutmix) and self.micro_batch % 2:
            raise ValueError(f"mixup and cutmix mix pairs of images: micro_batch={self.micro_batch} must be even")
        for name in ("drop_path", "smoothing", "erasing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        patches = (self.image_size // self.patch) ** 2
        if self.encoding == "seqpe" and self.beta > 0 and self.teachers > patches:
            raise ValueError(f"{self.teachers} teachers cannot be drawn from {patches} training positions: lower `teachers` or enlarge the image")

    @property
    def train_shape(self) -> tuple[int, ...]:
        """(rows, columns) of the training grid."""
        return (self.image_size // self.patch,) * 2


# --- scales ------------------------------------------------------------------------------------

# What differs from the paper. Short runs train each position about as often as they can afford (App. A.4)
# with a max_position not far above the longest evaluation: at 1,200 the digits of 1,000..1,199 were too rare.
PRESETS: dict[str, dict] = {
    "smoke": dict(
        source="python", tokenizer="bytes", d_model=32, layers=2, heads=2, dropout=0.0, train_len=32, max_position=160,
        steps=12, batch=8, micro_batch=8, learning_rate=3e-3, warmup_steps=2, weight_decay=0.01, adam_beta2=0.99, clip=1.0,
        pivots=8, candidates=8, hard=2, distillation_batch=4, teachers=8, log_every=1, checkpoint_every=6,
        eval_lens=(32, 64, 128), eval_tokens=1_024),
    "small": dict(
        source="python", tokenizer="bytes", d_model=96, layers=3, heads=4, dropout=0.0, train_len=64, max_position=1_500,
        steps=1_000, batch=32, micro_batch=32, learning_rate=2e-3, warmup_steps=50, weight_decay=0.01, adam_beta2=0.99, clip=1.0,
        checkpoint_every=250, eval_lens=(64, 128, 256, 512, 1_024), eval_tokens=65_536),
    "medium": dict(
        steps=6_000, batch=64, micro_batch=32, learning_rate=3e-4, warmup_steps=300, weight_decay=0.01,
        pivots=128, distillation_batch=64, checkpoint_every=500, eval_tokens=262_144),
    "full": {},
}


@dataclass(frozen=True)
class Scale:
    """What a reader should know before starting a run: where it fits, how long it takes, what comes out."""
    hardware: str
    time: str
    memory: str
    expect: str


ABOUT: dict[str, Scale] = {
    "smoke": Scale("any CPU", "seconds", "under 1 GB", "nothing is learnt: it proves that the program runs"),
    "small": Scale("2 CPU cores", "2 to 4 minutes a run", "under 2 GB", "SeqPE flat from 64 to 1,024 tokens, RoPE and SeqPE without losses not"),
    "medium": Scale("one GPU with 24 GB", "under an hour", "under 20 GB", "not run yet: no number is shown"),
    "full": Scale("4 GPUs with 48 GB", "about 1 to 2 days", "about 30 GB a GPU", "the paper's Table 1: SeqPE 19.65 at 512 and 19.37 at 16,384 tokens"),
}

# --- the runs of the length-extrapolation lesson -----------------------------------------------

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

# the rows of Table 4, and weights three times the paper's; the shifted starts serve L_OOD (App. A.5) and go with it
ABLATIONS: dict[str, dict] = {
    "seqpe-no-losses": dict(alpha=0.0, beta=0.0, shifted=0.0),
    "seqpe-delta-only": dict(beta=0.0, shifted=0.0),
    "seqpe-ood-only": dict(alpha=0.0),
    "seqpe-strong-losses": dict(alpha=0.3, beta=0.3),
}

HEADLINE = ("seqpe", "seqpe-no-losses", "rope-1e4", "alibi")  # trained first: the paper's central picture

# what the authors' published code does differently from the paper's text
AS_PUBLISHED = dict(distillation_form="published", hard_share=0.3, local=0.2, clip_separately=True, shift_unit="batch", distill_shifted=False)  # and encoding_options={"scaled": True} for ALiBi


def language_model(method: str = "seqpe", scale: str | None = None, seed: int = 0, **overrides) -> Recipe:
    """The recipe of one run.

    Args:
        method: a row of Table 1 (``METHODS``) or of the ablation (``ABLATIONS``).
        scale: "smoke", "small", "medium" or "full"; by default $SEQPE_SCALE, else "small".
        overrides: any field of :class:`Recipe`, for instance ``steps=200`` or ``**AS_PUBLISHED``.

    >>> recipe = language_model("seqpe-ood-only", scale="small")
    >>> recipe.encoding, recipe.alpha, recipe.beta
    ('seqpe', 0.0, 0.1)
    """
    return _make(Recipe, PRESETS, METHODS | ABLATIONS, method, scale, seed, overrides)


# --- questions ---------------------------------------------------------------------------------

# what differs from the paper, and from the language model that is fine-tuned
QA_PRESETS: dict[str, dict] = {
    "smoke": dict(questions="facts", template="brief", train_len=104, eval_lens=(104, 128), steps=6, batch=8, micro_batch=8, warmup_steps=1,
                  new_projection=True, keep_encoder=True, alpha=0.0, beta=0.0, checkpoint_every=3, eval_questions=8),
    "small": dict(questions="facts", template="brief", train_len=128, eval_lens=(128, 256, 512, 1_024), steps=1_250, batch=16, micro_batch=16, warmup_steps=50,
                  learning_rate=2e-3, alone=0.2, new_projection=True, keep_encoder=True, alpha=0.0, beta=0.0, checkpoint_every=250, eval_questions=100),
    "medium": dict(steps=2_000, batch=64, micro_batch=16, learning_rate=1e-4),
    "full": dict(learning_rate=5e-5, weight_decay=0.0, batch=128, micro_batch=16, steps=10_000, warmup_steps=100),
}


ABOUT_QA: dict[str, Scale] = {
    "smoke": Scale("any CPU", "seconds", "under 1 GB", "nothing is learnt: it proves that the program runs"),
    "small": Scale("2 CPU cores", "3 to 5 minutes a run", "under 2 GB", "SeqPE, ALiBi and RoPE answer nearly all at 128 bytes; at 1,024 SeqPE and ALiBi about half, RoPE none"),
    "medium": Scale("one GPU with 24 GB", "under an hour", "under 20 GB", "not run yet: no number is shown"),
    "full": Scale("4 GPUs with 48 GB", "about 4 to 8 hours", "about 30 GB a GPU", "the paper's Table 2: SeqPE 26.8 % at 1K and 2.6 % at 8K tokens"),
}

TUNED = ("none", "rope-1e4", "alibi", "seqpe")  # the language models that the lesson fine-tunes

# What of SeqPE's positions learns on while it is tuned. The first is the paper's way, and "seqpe" itself at medium
# and full scale; at small scale "seqpe" combines the other two.
_LEARNS = dict(new_projection=False, keep_encoder=False, alpha=0.1, beta=0.1)
QA_ABLATIONS: dict[str, dict] = {
    "seqpe-all-learns": _LEARNS,
    "seqpe-new-projection": _LEARNS | dict(new_projection=True),
    "seqpe-kept-encoder": dict(new_projection=False, keep_encoder=True, alpha=0.0, beta=0.0),
}


def tuned_method(method: str) -> str:
    """The language model's method that a method of fine-tuning starts from: "seqpe" for a row of ``QA_ABLATIONS``, else its own."""
    return "seqpe" if method in QA_ABLATIONS else method


def question_answering(method: str = "seqpe", scale: str | None = None, seed: int | None = None, base: Recipe | None = None, **overrides) -> QARecipe:
    """The recipe of one fine-tuning run.

    Args:
        method, scale, seed: of the language model to fine-tune, as in :func:`language_model`; or a row of ``QA_ABLATIONS``, which tunes "seqpe".
        base: its recipe, if another one than these three name; ``seed`` is then that of the tuning alone, by default the base's.
        overrides: any field of :class:`QARecipe` that does not shape the model.

    >>> recipe = question_answering("alibi", scale="small")
    >>> recipe.train_len, recipe.eval_lens[-1], recipe.base.startswith("small/alibi-seed0-")
    (128, 1024, True)
    """
    changed = QA_ABLATIONS.get(method, {})
    base = base or language_model(tuned_method(method), scale, seed or 0)
    kept = {f.name: getattr(base, f.name) for f in dataclasses.fields(Recipe)}
    folder = f"{base.scale}/{base.method}-seed{base.seed}-{base.digest()}"
    _check_fields(QARecipe, overrides)
    paper = {f.name: f.default for f in dataclasses.fields(QARecipe) if f.name in QARecipe.__annotations__}  # its own, not those of the language model
    named = ({"method": method} if changed else {}) | ({} if seed is None else {"seed": seed})
    return QARecipe(**kept | {"eval_tokens": 0} | paper | QA_PRESETS[base.scale] | changed | named | {"base": folder} | copy.deepcopy(overrides))


# --- images ------------------------------------------------------------------------------------

IMAGE_PRESETS: dict[str, dict] = {
    "smoke": dict(
        source="digits", timm_model="vit_tiny_patch16_224", d_model=32, layers=2, heads=2, patch=4, image_size=16, max_position=16,
        drop_path=0.0, augment="zoom", crop=0.5, mixup=0.0, cutmix=0.0, smoothing=0.0, erasing=0.0, steps=12, batch=16, micro_batch=16,
        learning_rate=2e-3, warmup_steps=2, adam_beta2=0.99, clip=1.0, pivots=8, candidates=8, hard=2, distillation_batch=4, teachers=8,
        log_every=1, checkpoint_every=6, eval_sizes=(16, 32), eval_images=32),
    "small": dict(
        source="digits", timm_model="vit_tiny_patch16_224", d_model=64, layers=3, heads=4, patch=4, mlp_ratio=1.0, image_size=24, max_position=20,
        drop_path=0.0, augment="zoom", crop=0.15, mixup=0.0, cutmix=0.0, smoothing=0.0, erasing=0.0, steps=1_500, batch=32, micro_batch=32,
        learning_rate=3e-3, warmup_steps=75, adam_beta2=0.99, clip=1.0, alpha=0.3, beta=0.3, pivots=16, candidates=16, hard=4,
        distillation_batch=16, teachers=16, checkpoint_every=500, eval_sizes=(24, 28, 36, 48, 60, 72)),
    "medium": dict(
        source="hub:uoft-cs/cifar10", layers=8, d_model=384, patch=4, image_size=32, max_position=30, crop=0.25, steps=20_000, batch=256,
        micro_batch=256, learning_rate=1e-3, warmup_steps=1_000, clip=1.0, pivots=128, distillation_batch=64, eval_sizes=(32, 40, 48, 64, 80, 96)),
    "full": {},
}

ABOUT_IMAGES: dict[str, Scale] = {
    "smoke": Scale("any CPU", "seconds", "under 1 GB", "nothing is learnt: it proves that the program runs"),
    "small": Scale("2 CPU cores", "1 to 2 minutes a run", "under 2 GB", "SeqPE mul 94 % at 24 pixels and 66 % at 72, RoPE 98 and 19: beyond training the losses decide (lesson 11)"),
    "medium": Scale("one GPU with 24 GB", "under an hour", "under 20 GB", "not run yet: no number is shown"),
    "full": Scale("4 GPUs with 48 GB", "about 3 to 5 days", "about 30 GB a GPU", "the paper's Table 3: SeqPE 81.2 at 224 and 76.7 at 672 pixels"),
}

_SEQPE_2D = {"shared_projection": False, "digits": 2}
# A narrow model that trains for minutes: W_PE starts where positions differ, and for "mul" where attention is not blind.
_NARROW_START = {"sum": {"projection_std": 0.1}, "bias": {"projection_std": 0.1}, "mul": {"projection_std": 0.1, "projection_bias": 1.0}}

# the rows of Tables 3 and 5
IMAGE_METHODS: dict[str, dict] = {
    "none": dict(encoding="none", encoding_options={}),
    "sinusoidal": dict(encoding="sinusoidal", encoding_options={}),
    "learned": dict(encoding="learned", encoding_options={}),
    "rope-axial": dict(encoding="rope", encoding_options={}),
    "rope-mixed": dict(encoding="rope-mixed", encoding_options={}),
    "seqpe-mul": dict(encoding="seqpe", encoding_options={"integration": "mul"} | _SEQPE_2D),
    "seqpe-sum": dict(encoding="seqpe", encoding_options={"integration": "sum"} | _SEQPE_2D),
    "seqpe-bias": dict(encoding="seqpe", encoding_options={"integration": "bias"} | _SEQPE_2D),
}

# the image half of Table 4
IMAGE_ABLATIONS: dict[str, dict] = {f"seqpe-mul-{name}": dict(encoding="seqpe", encoding_options={"integration": "mul"} | _SEQPE_2D) | values
                                    for name, values in {"no-losses": dict(alpha=0.0, beta=0.0, shifted=0.0), "delta-only": dict(beta=0.0, shifted=0.0),
                                                         "ood-only": dict(alpha=0.0)}.items()}


PLACED = ("none", "learned", "rope-axial", "seqpe-mul")  # also trained with augment="place", where what a patch shows is not new


def image_model(method: str = "seqpe-mul", scale: str | None = None, seed: int = 0, **overrides) -> ImageRecipe:
    """The recipe of one run on images.

    Args:
        method: a row of Tables 3 and 5 (``IMAGE_METHODS``) or of the ablation (``IMAGE_ABLATIONS``).
        scale, overrides: as in :func:`language_model`.

    >>> recipe = image_model("rope-axial", scale="small")
    >>> recipe.train_shape, recipe.eval_sizes[-1] // recipe.patch
    ((6, 6), 18)
    """
    recipe = _make(ImageRecipe, IMAGE_PRESETS, IMAGE_METHODS | IMAGE_ABLATIONS, method, scale, seed, overrides)
    if recipe.scale in ("smoke", "small") and recipe.encoding == "seqpe" and "encoding_options" not in overrides:
        start = _NARROW_START[recipe.encoding_options.get("integration", "bias")]
        recipe = dataclasses.replace(recipe, encoding_options=recipe.encoding_options | start)
    return recipe


def _make(kind, presets: dict[str, dict], known: dict[str, dict], method: str, scale: str | None, seed: int, overrides: dict):
    scale = scale or default_scale()
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}: choose from {', '.join(SCALES)}")
    if method not in known:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(known)}")
    _check_fields(kind, overrides)
    values = copy.deepcopy(presets[scale] | known[method] | overrides)  # nobody else's options
    if values.get("encoding", "seqpe") != "seqpe":  # the losses belong to SeqPE, and the shifts to its L_OOD
        values = values | dict(alpha=0.0, beta=0.0, shifted=0.0)
    return kind(method=method, scale=scale, seed=seed, **values)


def _check_fields(kind, overrides: dict) -> None:
    fields = {f.name for f in dataclasses.fields(kind)}
    if unknown := overrides.keys() - fields:
        raise ValueError(f"a recipe has no field {', '.join(sorted(unknown))}: it has {', '.join(sorted(fields))}")


MAKERS = {"lm": language_model, "qa": question_answering, "image": image_model}  # of each task's recipes


def default_scale() -> str:
    """$SEQPE_SCALE, else "small"."""
    return os.environ.get("SEQPE_SCALE") or "small"
