"""Language models that are fine-tuned to answer questions over many documents (Sec. 4.2)."""
from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import model_validator

from seqpe_lab.recipes.base import AtLeast0, Count, Share
from seqpe_lab.recipes.language_modeling import Lengths, Recipe, language_model
from seqpe_lab.recipes.methods import run_name
from seqpe_lab.recipes.published_form import as_published as published_fields


class QARecipe(Recipe):
    """Fine-tuning of a language model on questions over many documents (Sec. 4.2, App. B.3)."""
    base: str = ""  # the language model's run: its folder within the runs folder
    questions: str = "hub:rajpurkar/squad_v2"
    template: str = "paper"
    train_len: Count = 1_024  # tokens of prompt and answer
    steps: Count = 10_000
    warmup_steps: AtLeast0 = 100
    eval_lens: Lengths = (1_024, 2_048, 4_096, 8_192)
    eval_questions: Count = 500  # the same ones at every length
    new_tokens: Count = 16  # greedy tokens of an answer
    alone: Share = 0.0  # share of the run, at its start, with only the document that is needed
    new_projection: bool = False  # SeqPE: W_PE is initialised again
    keep_encoder: bool = False  # SeqPE: the position encoder is not trained and has no losses

    task: ClassVar[str] = "qa"
    takes_best: ClassVar[bool] = True

    @model_validator(mode="after")
    def _base_fits(self) -> Self:
        if self.keep_encoder and (self.alpha or self.beta):
            raise ValueError(
                f"alpha={self.alpha} and beta={self.beta} weigh losses that shape the position "
                "encoder, which keep_encoder=true leaves as it is: set them to 0")
        if not self.base:
            raise ValueError("base must name the run of a language model that is to be fine-tuned")
        if max(self.eval_lens) + self.new_tokens > self.max_position:
            raise ValueError(
                f"a prompt of {max(self.eval_lens)} tokens and {self.new_tokens} new ones reach "
                f"beyond max_position={self.max_position}: shorten eval_lens, or take a base with "
                "a larger max_position")
        return self


# what differs from the paper, and from the language model that is fine-tuned
QA_PRESETS: dict[str, dict] = {
    "smoke": dict(
        questions="facts", template="brief", train_len=104, eval_lens=(104, 128), steps=6, batch=8,
        micro_batch=8, warmup_steps=1, new_projection=True, keep_encoder=True, alpha=0.0, beta=0.0,
        checkpoint_every=3, eval_questions=8),
    "small": dict(
        questions="facts", template="brief", train_len=128, eval_lens=(128, 256, 512, 1_024),
        steps=1_250, batch=16, micro_batch=16, warmup_steps=50, learning_rate=2e-3, alone=0.2,
        new_projection=True, keep_encoder=True, alpha=0.0, beta=0.0, checkpoint_every=250,
        eval_questions=100),
    "medium": dict(steps=2_000, batch=64, micro_batch=16, learning_rate=1e-4),
    "full": dict(learning_rate=5e-5, weight_decay=0.0, batch=128, micro_batch=16),
}

# fields that its weights decide
OF_THE_BASE = ("d_model", "layers", "heads", "encoding", "tokenizer")

TUNED = ("none", "rope-1e4", "alibi", "seqpe")  # the language models that the lesson fine-tunes

# Which parts of SeqPE are fine-tuned. The first row is the paper's, and what "seqpe" does at medium
# and full scale; at small scale "seqpe" combines the other two.
_ALL_LEARN = dict(new_projection=False, keep_encoder=False, alpha=0.1, beta=0.1)
QA_ABLATIONS: dict[str, dict] = {
    "seqpe-all-learns": _ALL_LEARN,
    "seqpe-new-projection": _ALL_LEARN | dict(new_projection=True),
    "seqpe-kept-encoder": dict(new_projection=False, keep_encoder=True, alpha=0.0, beta=0.0),
}


def tuned_method(method: str) -> str:
    """The language model's method that a method of fine-tuning starts from.

    "seqpe" for a row of ``QA_ABLATIONS``, else the method itself.
    """
    return "seqpe" if method in QA_ABLATIONS else method


def question_answering(method: str | None = None, scale: str | None = None,
                       seed: int | None = None, base: Recipe | None = None,
                       as_published: bool = False, **overrides: Any) -> QARecipe:
    """The recipe of one fine-tuning run.

    Args:
        method: of the language model to fine-tune, as in :func:`language_model`, or a row of
            ``QA_ABLATIONS``, which fine-tunes "seqpe"; by default the base's, else "seqpe".
        scale: of the language model.
        seed: of the language model and of the fine-tuning; with a ``base`` of the fine-tuning
            only, by default the base's.
        base: the language model's recipe, if method, scale and seed do not name it.
        as_published: use the form of the authors' code where it differs from the paper.
        overrides: any field of :class:`QARecipe` that does not change the model's shape.

    Raises:
        ValueError: a method, a scale or a shape of the model that is not the base's.

    >>> recipe = question_answering("alibi", scale="small")
    >>> recipe.train_len, recipe.eval_lens[-1], recipe.base.startswith("small/alibi-seed0-")
    (128, 1024, True)
    """
    if base is None:
        base = language_model(tuned_method(method or "seqpe"), scale, seed or 0, as_published)
    method = run_name(method or base.method)
    if base.encoding != "seqpe" if method in QA_ABLATIONS else base.method != method:
        raise ValueError(f"method {method!r} does not tune a base of method {base.method!r}: "
                         "leave out one of the two")
    if scale not in (None, base.scale):
        raise ValueError(f"scale {scale!r} is not that of the base, {base.scale!r}: leave it out")
    for name in OF_THE_BASE:
        if overrides.get(name, asked := getattr(base, name)) != asked:
            raise ValueError(f"{name}={overrides[name]} is not that of the language model, "
                             f"{asked}: leave it out, or name a `base` that has it")
    named = {"method": method} | ({} if seed is None else {"seed": seed})
    kept = {name: value for name, value in base if name not in QARecipe.__annotations__}
    published = published_fields("qa", base.encoding, base.scale) if as_published else {}
    return QARecipe(**kept | {"eval_tokens": 0} | QA_PRESETS[base.scale] | published
                    | QA_ABLATIONS.get(method, {}) | named | {"base": _folder(base)} | overrides)


def command_for_base(recipe: QARecipe) -> str:
    """What to type for the language model that a recipe starts from, as far as it is known.

    >>> command_for_base(question_answering("seqpe-kept-encoder", "small", seed=2))
    'train lm --encoding seqpe --scale small --seed 2'
    """
    for published in (False, True):
        base = language_model(tuned_method(recipe.method), recipe.scale, recipe.seed, published)
        if recipe.base == _folder(base):
            return (f"train lm --encoding {base.method} --scale {base.scale} --seed {base.seed}"
                    + " --as-published" * published)
    return "train lm"


def _folder(base: Recipe) -> str:
    """Of a language model's run, within the runs folder."""
    return f"{base.scale}/{base.method}-seed{base.seed}-{base.digest()}"
