"""Evaluate a trained run at any lengths or image sizes; results are lines for the command line."""
from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from seqpe_lab.devices import best_device
from seqpe_lab.processes import on_all, start_processes
from seqpe_lab.runs.run_data import check_data, kept_tokenizer, trained_on
from seqpe_lab.runs import Run
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.base import alone, evaluated_in
from seqpe_lab.runs.run_weights import trained_model


def evaluate_run(run: Run, cpu: bool = False, **options: Any) -> Iterator[str]:
    """A line for each length or size.

    Args:
        run: a trained run.
        cpu: stay on the CPU even if there is a GPU.
        options: "lengths" or "sizes", "split", and of text "protocol", "stride", "books" (a source
            of whole books) and "count" of them; those that are None take their defaults.

    Raises:
        ValueError: an option that does not apply to this run, or has no effect with the others.
    """
    given = {name: value for name, value in options.items() if value is not None}
    called, measure, known = TASKS[run.recipe.task]
    if foreign := [f"--{name}" for name in given if name not in known]:
        raise ValueError(f"{run.folder} is a run on {called}: it takes "
                         f"{', '.join(f'--{name}' for name in known)}, not {', '.join(foreign)}")
    for name, other, value in (("stride", "protocol", "sliding"), ("count", "books", None)):
        if name in given and (other not in given or value not in (None, given[other])):
            wanted = f"--{other} {value}" if value else f"--{other}"
            raise ValueError(f"--{name} {given[name]} has no effect without {wanted}")
    if "books" in given and "split" in given:
        raise ValueError("--split has no effect beside --books, which are read whole")
    _check_reach(run, **given)
    task = task_of(run.recipe)
    task.kept_tokenizer = kept_tokenizer(run)
    measure = _books if "books" in given else measure
    return measure(run, task.load_data(), cpu, **given)


def _check_reach(run: Run, lengths: Sequence[int] = (), sizes: Sequence[int] = (),
                 stride: int | None = None, **others: Any) -> None:
    """Refuse lengths and sizes that no data would make possible for this model."""
    recipe = run.recipe
    reach = recipe.max_position - getattr(recipe, "new_tokens", 0)
    for length in lengths:
        if length > reach:
            answer = " with the tokens of an answer" if run.recipe.task == "qa" else ""
            raise ValueError(f"--lengths {length} reaches{answer} beyond max_position="
                             f"{recipe.max_position} of this run: choose at most {reach}")
        if run.recipe.task == "qa" and length < min(recipe.eval_lens):
            raise ValueError(f"--lengths {length} leaves no room for some of the questions, which "
                             f"fit {min(recipe.eval_lens)} tokens: choose at least that")
    if stride is not None and stride > (shortest := min(lengths or recipe.eval_lens)):
        raise ValueError(f"--stride {stride} would leave out tokens between windows of {shortest}: "
                         "choose at most the shortest of --lengths")
    if recipe.task == "algorithm":
        recipe.changed(eval_sizes=sizes or recipe.eval_sizes)  # says what is out of reach
        return
    if sizes:
        from seqpe_lab.tasks.image_views import object_side
    for size in sizes:
        if size % recipe.patch or size // recipe.patch > recipe.max_position:
            raise ValueError(
                f"--sizes {size}: this run takes multiples of its patch of {recipe.patch} pixels, "
                f"up to {recipe.patch * recipe.max_position}")
        if recipe.augment == "place" and size < object_side(recipe):
            raise ValueError(f"--sizes {size}: a canvas must hold its object, whose side is "
                             f"{object_side(recipe)} pixels")


def _questions(run: Run, data: Any, cpu: bool, lengths: list[int] | None = None,
               split: str | None = None) -> Iterator[str]:
    from seqpe_lab.tasks.questions import QuestionTask, exact_match, mean_nats
    split, task = split or run.recipe.eval_split, QuestionTask(run.recipe)
    model = trained_model(run, data, best_device(cpu))
    for length in lengths or run.recipe.eval_lens:
        answers = task.answers(model, data, length, split)
        yield (f"{length:>7} tokens: exact match {exact_match(answers):.1f} %, perplexity "
               f"{math.exp(mean_nats(answers)):.4f} "
               f"({len(answers):,} questions of the {split} split, {evaluated_in(model)})")


def _images(run: Run, data: Any, cpu: bool, sizes: list[int] | None = None,
            split: str | None = None) -> Iterator[str]:
    from seqpe_lab.tasks.images import accuracy, some_images
    recipe, device, everyone = run.recipe, best_device(cpu), alone
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # under torchrun the processes share the images
        accelerator = start_processes(recipe.precision, cpu)
        device, everyone = accelerator.device, partial(on_all, accelerator)
    model = trained_model(run, data, device)
    split = split or recipe.eval_split
    count = recipe.eval_images if split == recipe.eval_split else recipe.validation_images
    images = some_images(getattr(data, split), count)
    for size in sizes or recipe.eval_sizes:
        measured = accuracy(model, images, data, recipe, size, on_all=everyone)
        yield (f"{size:>5} pixels: top-1 {measured.accuracy:.2f} % "
               f"({measured.images:,} images of the {split} split, {evaluated_in(model)})")


def _examples(run: Run, data: Any, cpu: bool, sizes: list[int] | None = None,
              split: str | None = None) -> Iterator[str]:
    from seqpe_lab.tasks.algorithms import AlgorithmTask
    task, split = AlgorithmTask(run.recipe), split or run.recipe.eval_split
    model = trained_model(run, data, best_device(cpu))
    for size in sizes or run.recipe.eval_sizes:
        score = task.measure(model, size, split, run.recipe.eval_examples)
        yield (f"{size:>5} symbols: exact match {100 * score.exact / score.examples:.1f} %, "
               f"symbols right {100 * score.right / score.symbols:.1f} % "
               f"({score.examples:,} examples of the {split} split, {evaluated_in(model)})")


def _text(run: Run, data: Any, cpu: bool, lengths: list[int] | None = None,
          split: str | None = None, **window: Any) -> Iterator[str]:
    from seqpe_lab.tasks.perplexity import perplexity_by_length
    from seqpe_lab.tasks.text import TextTask
    split = split or run.recipe.eval_split
    whole = tokens = getattr(data, split)
    if run.recipe.eval_tokens:
        tokens = tokens[: run.recipe.eval_tokens + 1]
    lengths = lengths or run.recipe.eval_lens
    model = trained_model(run, data, best_device(cpu))
    if len(tokens) <= max(lengths):
        limit = " that the recipe's eval_tokens leaves" if len(tokens) < len(whole) else ""
        raise ValueError(f"a context of {max(lengths)} tokens and its next one do not fit into the "
                         f"{len(tokens)} tokens of the {split} split{limit}: give --lengths of at "
                         f"most {len(tokens) - 1}")
    for m in perplexity_by_length(model, tokens, lengths, positions=TextTask(run.recipe).positions,
                                  **window):
        yield (f"{m.length:>7} tokens: perplexity {m.perplexity:.4f} "
               f"({m.protocol}, {m.tokens:,} tokens of the {split} split, {evaluated_in(model)})")


def _books(run: Run, data: Any, cpu: bool, books: str, count: int = 10,
           lengths: list[int] | None = None, **window: Any) -> Iterator[str]:
    from seqpe_lab.tasks.books import load_books
    from seqpe_lab.tasks.perplexity import bits_per_character
    from seqpe_lab.tasks.text import TextTask
    from seqpe_lab.tasks.text_data import load_documents
    from seqpe_lab.tasks.tokenization import make_tokenizer
    recipe, known = run.recipe, trained_on(run).get("data", data.hash)
    if books == recipe.source == "python" and known != data.hash:
        raise ValueError(f"{run.folder} was trained on another Python's documentation, or on this "
                         f"one with its repeated passages (hash {known}, here {data.hash}), "
                         "which may hold these books: give others with --books")
    try:
        whole = load_books(books, count)
    except ConnectionError as error:  # its remedies in the words of the command line
        remedies = str(error).replace("source='python'", "--books python")
        raise ConnectionError(remedies.replace("`source`", "--books")) from error
    kept = kept_tokenizer(run)
    learns = kept is None and recipe.tokenizer.startswith("bpe:")  # of an earlier version
    if learns:
        check_data(run, data)
    encode, decode, _ = make_tokenizer(
        recipe.tokenizer, load_documents(recipe.source)[0]["train"] if learns else {}, kept)
    model = trained_model(run, data, best_device(cpu), same_data=False)
    lengths = lengths or recipe.eval_lens
    for m in bits_per_character(model, whole.texts, encode, decode, lengths,
                                positions=TextTask(recipe).positions, **window):
        yield (f"{m.length:>7} tokens: {m.bits:.4f} bits per character ({m.protocol}; "
               f"{m.documents} of {len(whole.texts)} books of {whole.description}: "
               f"{m.characters:,} characters in {m.tokens:,} tokens, {evaluated_in(model)})")


# task: (its data in words, how it is measured, the options of ``evaluate`` that apply to it)
TASKS = {"lm": ("text", _text, ("lengths", "protocol", "stride", "split", "books", "count")),
         "qa": ("questions", _questions, ("lengths", "split")),
         "image": ("images", _images, ("sizes", "split")),
         "algorithm": ("an algorithm", _examples, ("sizes", "split"))}
