"""The command line: python -m seqpe_lab train | evaluate | reproduce | figures | collect | ...

Each command imports what it needs when it runs, so that --help answers at once.
"""
from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from seqpe_lab import recipes
from seqpe_lab.recipes.base import ScaleName

PROGRAM = "python -m seqpe_lab"
METHODS_AND_DEVICES = f"""
Methods of lm (default seqpe): {', '.join(recipes.METHODS | recipes.ABLATIONS | recipes.UNSHIFTED)}.
Methods of qa (default seqpe): the same and {', '.join(recipes.QA_ABLATIONS)}.
Methods of image (default seqpe-mul):
{', '.join(recipes.IMAGE_METHODS | recipes.IMAGE_ABLATIONS | recipes.IMAGE_UNSHIFTED)}.

On several GPUs, or on several machines that share the run's folder; a step processes the same
number of tokens or images however many there are:
  torchrun --standalone --nproc_per_node 4 -m seqpe_lab train lm --scale full
  torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
    -m seqpe_lab train lm --scale full --set micro_batch=16 --folder SHARED
`accelerate launch` does the same on GPUs; on the CPU it starts one process only."""

app = App(name=PROGRAM, help="A lab for position encoding in Transformers.", version_flags=(),
          help_format="plaintext", result_action="return_value",
          suppress_keyboard_interrupt=False,
          default_parameter=Parameter(negative=(), show_default=False))
Several = Parameter(consume_multiple=(1, None))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; expected errors become one line and exit status 2.

    A training that a signal stopped has status 75: the same command goes on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments:
            commands = ", ".join(name for name in app if not name.startswith("-"))
            raise ValueError(f"name a command: {commands} (see {PROGRAM} --help)")
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        command = " ".join((PROGRAM, *(error.command_chain or ()), "--help"))
        print(f"seqpe_lab: {' '.join(str(error).split())} (see {command})", file=sys.stderr)
        return 2
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"seqpe_lab: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        print("seqpe_lab: interrupted; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


@app.command(help_epilogue=METHODS_AND_DEVICES)
def train(task: Literal["lm", "qa", "image", "algorithm"], /, *,
          encoding: Annotated[str | None, Parameter(name=("--encoding", "--method"))] = None,
          scale: ScaleName | None = None, seed: int | None = None, as_published: bool = False,
          settings: Annotated[list[str] | None, Several, Parameter(name="--set")] = None,
          folder: str | None = None, cpu: bool = False, workers: int | None = None,
          compile: bool = False, deterministic: bool = False) -> None:
    """Train and evaluate one run; an interrupted run is resumed, a finished one is shown.

    Args:
        task: lm: a GPT-2; qa: a GPT-2 fine-tuned to answer questions; image: a ViT classifier.
        encoding: A method of the list below.
        scale: Default: $SEQPE_SCALE or small.
        seed: Default: 0; of qa with a base: the base's.
        as_published: Follow the authors' code where it differs from the paper.
        settings: FIELD=VALUE: other values for fields of the recipe, in JSON.
        folder: The run's folder; if it holds a recipe.json, no other option is needed.
        cpu: Stay on the CPU.
        workers: Processes that prepare data beside each training process; default: as needed.
        compile: torch.compile: faster steps on a GPU; resumed runs are exact up to rounding only.
        deterministic: On a GPU: slower algorithms that give the same bits every time.
    """
    from seqpe_lab.runs import Run
    from seqpe_lab.training import train
    if workers is not None and workers < 0:
        raise ValueError(f"--workers must be at least 0, got {workers}")
    chosen = {"method": encoding, "scale": scale, "seed": seed,
              "as_published": as_published or None}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    values = values_of(settings or [])
    if twice := chosen.keys() & values.keys():
        raise ValueError(f"{', '.join(sorted(twice))}: given both as an option and with --set")
    chosen |= values
    if folder and (Path(folder) / "recipe.json").exists():
        recipe = Run.open(folder).recipe
        if recipe.task != task:
            raise ValueError(f"{folder} holds a run of another task: say train {recipe.task}")
        if chosen and _recipe(task, chosen) != recipe:  # the same command again resumes
            raise ValueError(f"{folder} holds a run of another recipe than {', '.join(chosen)} ask "
                             "for: leave them out, or choose another folder")
    else:
        recipe = _recipe(task, chosen)
    run = train(recipe, folder, cpu=cpu, workers=workers, compile=compile,
                deterministic=deterministic)
    if int(os.environ.get("RANK", 0)) == 0:
        results = run.results()
        print(f"{run.folder}: {json.dumps(run.measured())} "
              f"({results['protocol']}, {results['split']} split)")
        if shared := results["data"].get("overlap"):
            print(f"{100 * shared['test']:.2f} % of the test text's windows of 50 bytes also occur "
                  "in the training text")


def _recipe(task: str, values: dict[str, Any]) -> recipes.Training:
    if task != "qa" or "base" not in values:
        return recipes.MAKERS[task](**values)
    from seqpe_lab.runs import Run, runs_folder
    base = str(values["base"])  # its recipe describes the model
    values = values | {"base": Run.open(runs_folder() / base).recipe}
    return recipes.question_answering(**values).changed(base=base)


def values_of(settings: list[str]) -> dict[str, Any]:
    """Fields of a recipe from FIELD=VALUE; a value that is not JSON is taken as a string."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {setting!r}")
        if name in values:
            raise ValueError(f"--set names {name} twice: {values[name]!r} and {text!r}")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


@app.command
def evaluate(folder: str, /, *, lengths: Annotated[list[int] | None, Several] = None,
             sizes: Annotated[list[int] | None, Several] = None,
             protocol: Literal["non-overlapping", "sliding"] | None = None,
             stride: int | None = None, split: Literal["validation", "test"] | None = None,
             books: Annotated[list[str] | None, Parameter(consume_multiple=(0, 1))] = None,
             count: int | None = None, cpu: bool = False) -> None:
    """Measure a trained run at any lengths (perplexity, exact match) or image sizes (accuracy).

    Under torchrun the processes share the images; text and questions are for one process.

    Args:
        folder: The run's folder.
        lengths: Contexts in tokens; default: the recipe's.
        sizes: For an image run, pixels a side; default: the recipe's.
        protocol: How perplexity is measured; default: non-overlapping.
        stride: By how many tokens the sliding window moves; default: half its length.
        split: Default: test.
        books: Bits per character of whole books: python (the default: this Python's longest
            documents), pg19, a path, or hub:NAME.
        count: How many of the longest books; default: 10.
        cpu: Stay on the CPU.
    """
    from seqpe_lab.evaluation import evaluate_run
    from seqpe_lab.runs import Run
    source = None if books is None else (books or ["python"])[0]
    for line in evaluate_run(Run.open(folder), cpu, lengths=lengths, sizes=sizes, protocol=protocol,
                             stride=stride, split=split, books=source, count=count):
        if int(os.environ.get("RANK", 0)) == 0:
            print(line, flush=True)


@app.command
def released(checkpoint: str, /, *, task: Literal["lm", "image"] = "lm",
             lengths: Annotated[list[int] | None, Several] = None,
             sizes: Annotated[list[int] | None, Several] = None, source: str | None = None,
             tokenizer: str | None = None, images: int | None = None, cpu: bool = False) -> None:
    """Evaluate the paper authors' published weights beside the paper's numbers.

    Args:
        checkpoint: hub (huayangli/seqpe), hub:NAME, or a folder that was downloaded from there.
        task: lm (default): Table 1, perplexity by length; image: Table 3, top-1 by size.
        lengths: lm: contexts in tokens; default: the paper's.
        sizes: image: pixels a side; default: the paper's.
        source: lm: WikiText-103 (default), wiki.test.raw, any text; image: ImageNet or a folder.
        tokenizer: lm: default: the checkpoint's own tokenizer.json, else gpt2.
        images: image: only so many, drawn at random; default: all.
        cpu: Stay on the CPU.
    """
    from seqpe_lab.devices import best_device
    from seqpe_lab.models import published_checkpoints as published
    from seqpe_lab.tasks import paper_comparison
    from seqpe_lab.tasks.perplexity import perplexity_by_length
    foreign = (sizes, images) if task == "lm" else (lengths, tokenizer)
    if any(value is not None for value in foreign):
        raise ValueError("--lengths and --tokenizer belong to --task lm, "
                         "--sizes and --images to --task image")
    folder, source = published.find(checkpoint, task), source or paper_comparison.SOURCES[task]
    model = published.load(folder, task).to(best_device(cpu))
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, all names and "
          f"shapes as expected; evaluated on {source} in float32", flush=True)
    paper = paper_comparison.paper_row(3 if task == "image" else 1)
    if task == "image":
        for seen in paper_comparison.evaluate_images(model, source, sizes, images or 0):
            print(f"{seen.size:>7} pixels: top-1 {seen.accuracy:.2f} %, the paper says "
                  f"{paper.get(seen.size, '-')} ({seen.images:,} images, the middle 7/8 of each)")
        return
    own = folder / "tokenizer.json"
    tokens = paper_comparison.text_of(source, tokenizer or (str(own) if own.is_file() else "gpt2"))
    for read in perplexity_by_length(model, tokens, lengths or list(paper)):
        print(f"{read.length:>7} tokens: perplexity {read.perplexity:.2f}, the paper says "
              f"{paper.get(read.length, '-')} ({read.protocol}, {read.tokens:,} tokens)")


@app.command
def figures(*, folder: str = "figures", scale: ScaleName | None = None, seed: int = 0,
            workers: int | None = None) -> None:
    """Train the lessons' runs, execute the lessons, write figures and their page.

    Args:
        folder: Where they are written; default: figures.
        scale: Default: $SEQPE_SCALE or small.
        seed: The seed of the runs; default: 0.
        workers: Processes at a time; default: one for each core.
    """
    from seqpe_lab.course.pages import make_figures
    make_figures(Path(folder), scale, seed, workers)


@app.command
def collect(*, scale: ScaleName = "small") -> None:
    """Gather finished runs into data/results, with the README's picture and table.

    Args:
        scale: The scale of the runs; default: small.
    """
    from seqpe_lab.course.collecting import collect
    print(*collect(scale), sep="\n")


@app.command
def reproduce(what: Literal["table1", "table2", "table3", "table4", "table5", "fig2", "fig3",
                            "all"], /, *, scale: ScaleName | None = None, seeds: int | None = None,
              trials: bool = False, folder: str = "reproduced", collect: bool = False,
              workers: int | None = None, processes: int | None = None, cpu: bool = False,
              slurm: str | None = None) -> None:
    """Train all runs of one of the paper's tables or figures; write it beside the paper's.

    Finished runs are kept, interrupted ones continue. Full scale is the paper's experiment.

    Args:
        what: The table or figure, or all.
        scale: Default: $SEQPE_SCALE or small.
        seeds: Runs of each method; default: 5.
        trials: Instead, the trials from which the settings of its methods are chosen.
        folder: For tables and pictures; default: reproduced.
        collect: Also write data/results and the README's tables.
        workers: Runs at a time; default: 1 with a GPU, else 2.
        processes: Of each run, under torchrun; default: 1.
        cpu: Stay on the CPU.
        slurm: A folder for scripts that train the runs on a SLURM cluster, instead of training.
    """
    from seqpe_lab.reproduction.running import reproduce
    reproduce(what, scale or recipes.default_scale(), seeds, Path(folder), workers=workers,
              processes=processes, cpu=cpu, trials=trials, collects=collect,
              slurm=Path(slurm) if slurm else None)


@app.command
def bundle() -> None:
    """Make the small trained models that the explorers show (data/explorers)."""
    from seqpe_lab.explorers.shipped_models import make
    make()


@app.command
def runs(*, folder: str | None = None) -> None:
    """List runs with their state and results.

    Args:
        folder: Where to look; default: $SEQPE_RUNS or ./runs.
    """
    from seqpe_lab.jobs import Job
    from seqpe_lab.runs import list_runs, runs_folder
    found = list_runs(folder)
    if not found:
        print(f"no runs in {folder or runs_folder()}")
    for run in found:
        measured = run.measured() if run.results() else {}
        shown = ", ".join(f"{float(value):.2f} at {where}" for where, value in measured.items())
        state = f"{Job(run.folder).state:<11} {run.step:>7}/{run.recipe.steps:<7}"
        print(f"{state} {run.folder}  {shown}".rstrip())


@app.command
def doctor() -> None:
    """Show what this machine has and what each scale needs."""
    from seqpe_lab.doctor import describe
    for line in describe():
        print(line)
