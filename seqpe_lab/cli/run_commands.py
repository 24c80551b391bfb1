"""Commands for runs of one's own: train, evaluate, runs; and what this machine can do: doctor."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqpe_lab.cli.base import Several, Whole, app, check_counts
from seqpe_lab.cli.recipe_options import asked_recipe, asked_values, refuse_other_recipe
from seqpe_lab.cli.task_table import TASKS
from seqpe_lab.problems import PROBLEMS
from seqpe_lab.recipes.base import ScaleName

Task = Literal["lm", "qa", "image", "algorithm"]
State = Literal["new", "interrupted", "running", "stopped", "failed", "finished", "elsewhere",
                "damaged"]
_METHODS = {task: ", ".join(entry.methods) for task, entry in TASKS.items()}
_OF_QA = [name for name in TASKS["qa"].methods if name not in TASKS["lm"].methods]
_FIELDS = dict.fromkeys(name for entry in TASKS.values() for name in entry.recipe.model_fields)
TRAIN_NOTES = f"""
Methods of lm (default seqpe): {_METHODS['lm']}.

Methods of qa (default seqpe): the same and {', '.join(_OF_QA)}.

Methods of algorithm (default seqpe): those of lm and rope-randomized; --set problem=grid takes
those of image. Problems (default copy): {', '.join(PROBLEMS)}.

Methods of image (default seqpe-mul): {_METHODS['image']}.

Fields for --set, such as steps=500 eval_lens=[64,128] source=book.txt (words and paths as they are,
other values in JSON): {', '.join(_FIELDS)}.

On several GPUs, or on several machines that share the run's folder (a step processes the same
number of tokens or images however many there are): "torchrun --standalone --nproc_per_node 4 -m
seqpe_lab train lm --scale full", or on each machine "torchrun --nnodes 2 --nproc_per_node 4
--rdzv_backend c10d --rdzv_endpoint HOST:29500 -m seqpe_lab train lm --scale full --set
micro_batch=16 --folder SHARED". "accelerate launch" does the same on GPUs; on the CPU it starts one
process only."""


@app.command(help_epilogue="\n" + "\n\n".join(" ".join(paragraph.split())
                                               for paragraph in TRAIN_NOTES.split("\n\n")))
def train(task: Task, /, *,
          encoding: Annotated[str | None, Parameter(name=("--encoding", "--method"))] = None,
          scale: ScaleName | None = None, seed: Whole | None = None, as_published: bool = False,
          settings: Annotated[list[str] | None, Several, Parameter(name="--set")] = None,
          folder: str | None = None, cpu: bool = False, workers: Whole | None = None,
          compile: bool = False, deterministic: bool = False) -> None:
    """Train and evaluate one run; an interrupted run is resumed, a finished one is shown.

    Args:
        task: lm: a GPT-2; qa: a GPT-2 fine-tuned to answer questions; image: a ViT classifier;
            algorithm: a small model that learns to copy, to recall, to add.
        encoding: A method listed below, any encoding, or a class: module:Class or file.py:Class.
        scale: Default: $SEQPE_SCALE or small.
        seed: Default: 0; of qa with a base: the base's.
        as_published: Follow the authors' code where it differs from the paper.
        settings: FIELD=VALUE, as often as needed: values for fields of the recipe, listed below.
        folder: The run's folder; if it holds a recipe.json, no other option is needed.
        cpu: Stay on the CPU.
        workers: Processes that prepare data beside each training process; default: as needed.
        compile: torch.compile: faster steps on a GPU; resumed runs are exact up to rounding only.
        deterministic: On a GPU: slower algorithms that give the same bits every time.
    """
    from seqpe_lab.cli.run_report import (before_training, check_source, next_commands,
                                          results_table)
    from seqpe_lab.devices import leave_a_core
    from seqpe_lab.runs import Run
    from seqpe_lab.training import train
    leave_a_core()
    check_counts(0, workers=workers)
    if cpu and deterministic:
        raise ValueError("--deterministic has no effect with --cpu, where the same run always "
                         "gives the same bits: leave one of them out")
    flags = {"method": encoding, "scale": scale, "seed": seed, "as_published": as_published}
    values = asked_values(task, flags, settings or [])
    if folder and (Path(folder) / "recipe.json").exists():
        run = Run.open(folder)
        if run.recipe.task != task:
            raise ValueError(f"{folder} holds a run of another task: say train {run.recipe.task}")
        if values:
            refuse_other_recipe(folder, run.recipe, asked_recipe(task, values, cpu), values)
    else:
        run = Run(asked_recipe(task, values, cpu), folder)
    first = int(os.environ.get("RANK", 0)) == 0
    if first:
        print(before_training(run), flush=True)
        if run.state == "finished" and (remark := check_source(run, named=bool(values))):
            print(remark)
    run = train(run.recipe, folder, cpu=cpu, workers=workers, compile=compile,
                deterministic=deterministic)
    if first:
        print("", *results_table(run), "", *next_commands(run), sep="\n")


@app.command
def evaluate(folder: str, /, *, lengths: Annotated[list[Whole] | None, Several] = None,
             sizes: Annotated[list[Whole] | None, Several] = None,
             protocol: Literal["non-overlapping", "sliding"] | None = None,
             stride: Whole | None = None, split: Literal["validation", "test"] | None = None,
             books: Annotated[list[str] | None, Parameter(consume_multiple=(0, 1))] = None,
             count: Whole | None = None, cpu: bool = False) -> None:
    """Measure a trained run at any lengths (perplexity, exact match) or image sizes (accuracy).

    Under torchrun the processes share the images; text and questions are for one process.

    Args:
        folder: The run's folder.
        lengths: Contexts in tokens; default: the recipe's.
        sizes: For an image run pixels a side, of an algorithm symbols; default: the recipe's.
        protocol: How perplexity is measured; default: non-overlapping.
        stride: By how many tokens the sliding window moves; default: half its length.
        split: Default: test.
        books: Bits per character of whole books: python (the default: this Python's longest
            documents), pg19, a path, or hub:NAME.
        count: How many of the longest books; default: 10.
        cpu: Stay on the CPU.
    """
    from seqpe_lab.devices import leave_a_core
    from seqpe_lab.evaluation import evaluate_run
    from seqpe_lab.runs import Run
    leave_a_core()
    check_counts(lengths=lengths, sizes=sizes, stride=stride, count=count)
    source = None if books is None else (books or ["python"])[0]
    for line in evaluate_run(Run.open(folder), cpu, lengths=lengths, sizes=sizes, protocol=protocol,
                             stride=stride, split=split, books=source, count=count):
        if int(os.environ.get("RANK", 0)) == 0:
            print(line, flush=True)


@app.command
def context(folder: str, /, *, file: str = "reproduced/context-use.json",
            split: Literal["validation", "test"] = "test", tokens: Whole = 32_768,
            cpu: bool = False) -> None:
    """Measure how far back the finished language models of a folder look, and what it brings.

    Loss by position, perplexity with attention cut to the last tokens, attention by distance.
    Measured runs are kept, so the command may be interrupted and started again.

    Args:
        folder: A run's folder, or one with many.
        file: For the numbers; pictures are written beside it.
        split: Default: test.
        tokens: Of its text, in contexts of the longest evaluated length; default: 32768.
        cpu: Stay on the CPU.
    """
    from seqpe_lab.course.figure_files import write_figure
    from seqpe_lab.reproduction import context_results
    check_counts(tokens=tokens)
    path = Path(file)
    measured = context_results.measure_folder(Path(folder), path, split=split, tokens=tokens,
                                              cpu=cpu, show=lambda line: print(line, flush=True))
    for name, draw in context_results.FIGURES.items():
        write_figure(draw(measured), path.parent, f"{path.stem}-{name}")
    print(f"{path}, {path.parent / path.stem}-*.html")


@app.command
def runs(*, folder: str | None = None, task: Task | None = None,
         encoding: Annotated[str | None, Parameter(name=("--encoding", "--method"))] = None,
         scale: ScaleName | None = None, state: State | None = None,
         as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List runs: state, results with units, and in what the runs of one method differ.

    Args:
        folder: Where to look; default: $SEQPE_RUNS or ./runs.
        task: Only runs of this task.
        encoding: Only runs of this method.
        scale: Only runs of this scale.
        state: Only runs in this state; damaged: the folder cannot be read.
        as_json: Everything about each run as one JSON list, for programs.
    """
    from seqpe_lab.cli.run_table import entries_in, table
    from seqpe_lab.runs import runs_folder
    wanted = {"task": task, "method": encoding, "scale": scale, "state": state}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    place = Path(folder) if folder else runs_folder()
    found = entries_in(place)
    chosen = [entry for entry in found
              if all(entry.value(name) == value for name, value in wanted.items())]
    if as_json:
        print(json.dumps([entry.as_dict() for entry in chosen], indent=1))
    elif chosen:
        print(*table(chosen), sep="\n")
    elif found:
        print(f"none of the {len(found)} runs in {place} is of "
              f"{', '.join(f'{name} {value}' for name, value in wanted.items())}")
    else:
        print(f"no runs in {place}")


@app.command
def doctor() -> None:
    """Say what this machine can train and about how long it takes."""
    from seqpe_lab.doctor import describe
    for line in describe():
        print(line)
