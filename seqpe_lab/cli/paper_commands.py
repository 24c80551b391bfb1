"""Commands around the paper: its published weights, its tables, the lessons' figures and models."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from seqpe_lab import recipes
from seqpe_lab.cli.base import Several, Whole, app, check_counts
from seqpe_lab.recipes.base import ScaleName


@app.command
def released(checkpoint: str, /, *, task: Literal["lm", "image"] = "lm",
             lengths: Annotated[list[Whole] | None, Several] = None,
             sizes: Annotated[list[Whole] | None, Several] = None, source: str | None = None,
             tokenizer: str | None = None, images: Whole | None = None, cpu: bool = False) -> None:
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
    from seqpe_lab.devices import best_device, leave_a_core
    from seqpe_lab.models import published_checkpoints as published
    from seqpe_lab.tasks import paper_comparison
    from seqpe_lab.tasks.perplexity import perplexity_by_length
    foreign = (sizes, images) if task == "lm" else (lengths, tokenizer)
    if any(value is not None for value in foreign):
        raise ValueError("--lengths and --tokenizer belong to --task lm, "
                         "--sizes and --images to --task image")
    leave_a_core()
    check_counts(lengths=lengths, sizes=sizes, images=images)
    folder, source = published.find(checkpoint, task), source or paper_comparison.SOURCES[task]
    model = published.load(folder, task).to(best_device(cpu))
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, all names and "
          f"shapes as expected; evaluated on {source} in float32", flush=True)
    paper = paper_comparison.paper_row(3 if task == "image" else 1)
    reach = model.config.max_position * (model.patch if task == "image" else 1)
    if beyond := [value for value in lengths or sizes or [] if value > reach]:
        raise ValueError(f"--{'sizes' if sizes else 'lengths'} {beyond[0]} is beyond the positions "
                         f"of these weights: choose at most {reach}")
    if task == "image":
        for seen in paper_comparison.evaluate_images(model, source, sizes, images or 0):
            print(f"{seen.size:>7} pixels: top-1 {seen.accuracy:.2f} %, the paper says "
                  f"{paper.get(seen.size, '-')} ({seen.images:,} images, the middle 7/8 of each)")
        return
    own = folder / "tokenizer.json"
    tokens = paper_comparison.text_of(source, tokenizer or (str(own) if own.is_file() else "gpt2"))
    lengths = lengths or list(paper)
    if len(tokens) <= max(lengths):
        raise ValueError(f"a context of {max(lengths)} tokens and its next one do not fit into the "
                         f"{len(tokens)} of {source}: give --lengths of at most {len(tokens) - 1}")
    for read in perplexity_by_length(model, tokens, lengths):
        print(f"{read.length:>7} tokens: perplexity {read.perplexity:.2f}, the paper says "
              f"{paper.get(read.length, '-')} ({read.protocol}, {read.tokens:,} tokens)")


@app.command
def collect(*, scale: ScaleName = "small") -> None:
    """Gather finished runs into data/results, with the README's picture and table.

    Args:
        scale: The scale of the runs; default: small.
    """
    from seqpe_lab.reproduction.collecting import collect
    print(*collect(scale), sep="\n")


@app.command
def reproduce(what: Literal["table1", "table2", "table3", "table4", "table5", "fig2", "fig3",
                            "all", "encodings", "tasks", "copy", "reverse", "needle",
                            "induction", "recall"], /, *, scale: ScaleName | None = None,
              seeds: Whole | None = None, trials: bool = False, folder: str | None = None,
              collect: bool = False, workers: Whole | None = None, processes: Whole | None = None,
              cpu: bool = False, slurm: str | None = None) -> None:
    """Train all runs of one of the paper's tables or figures; write it beside the paper's.

    Finished runs are kept, interrupted ones continue. Full scale is the paper's experiment.

    Args:
        what: The table or figure, or all; encodings: Table 1 with encodings beyond the paper's;
            tasks: copy, reverse, needle, induction and recall, learnt short and tested long, or
            one of them.
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
    if folder is not None and (slurm or trials and collect):
        raise ValueError(f"--folder {folder} has no effect with "
                         f"{'--slurm' if slurm else '--trials --collect'}, which writes elsewhere")
    reproduce(what, scale or recipes.default_scale(), seeds, Path(folder or "reproduced"),
              workers=workers, processes=processes, cpu=cpu, trials=trials, collects=collect,
              slurm=Path(slurm) if slurm else None)


@app.command
def bundle(*, further: bool = False) -> None:
    """Make the small trained models that the explorers show (data/explorers).

    Args:
        further: Only those of encodings beyond the paper's (T5, KERPLE, FIRE, FoX).
    """
    from seqpe_lab.explorers.shipped_models import make
    make(further=further)


@app.command
def explorers(*, folder: str = "explorers") -> None:
    """Write the explorers as a page that opens from disk: no server, no kernel, no network.

    Args:
        folder: Where its index.html and the arrays beside it are written; default: explorers.
    """
    from seqpe_lab.explorers.static_page import write
    page = write(Path(folder))
    size = sum(path.stat().st_size for path in page.parent.iterdir())
    print(f"{page}: {size / 1e6:.1f} MB with what lies beside it")
