"""The medium runs: every encoding on one budget of tokens or images, in slices of GPU time.

1. Where the data lies, once: a compact file (below 60 MB), so that the machine with the GPU needs
   no reader of tables.

       python -m benchmarks.medium lm --source wikipedia/ --tokenizer bpe.json --prepare prepared
       python -m benchmarks.medium image --source cifar10/ --prepare prepared

2. Where the GPU is, the same command again until all runs are finished (its exit status is 75
   before that). The first call measures a step and writes the plan: how many steps each run takes
   so that all fit into ``--minutes``. Each call goes on from the last checkpoint and ends by
   itself, at a checkpoint, before ``--slice`` minutes are over.

       python -m benchmarks.medium lm --source prepared/lm.npz --minutes 25 --slice 9 --out results

3. Results without weights are in ``--out``; they join data/results, with their provenance.

       tar -xzf results/runs-lm.tar.gz -C runs/medium && python -m seqpe_lab collect --scale medium

``--set FIELD=VALUE`` changes the recipe of all runs alike, ``--source`` also takes what the recipes
take.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.cli.recipe_options import settings_of_recipe
from seqpe_lab.recipes import IMAGE_METHODS, METHODS, Training, image_model, language_model
from seqpe_lab.runs import Run, list_runs, runs_folder
from seqpe_lab.tasks import task_of
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.text_data import TextData
from seqpe_lab.training import train

from . import measure

LARGEST = 60  # MB of a prepared file
MAKE = {"lm": language_model, "image": image_model}
DEFAULT = {
    "lm": ["seqpe:3", "alibi:3", *(m for m in METHODS if m not in ("seqpe", "alibi"))],
    "image": ["seqpe-mul", *(m for m in IMAGE_METHODS if m != "seqpe-mul")],
}
ALSO = {  # what the budget asks of the recipes
    "lm": {},
    "image": {"eval_images": 2_000, "validation_images": 2_000},
}
RESERVE = 0.3  # of the time, for evaluations, checkpoints and starts
CALIBRATION = (10, 30)  # steps between which a step is timed
UNFINISHED = 75


# --- prepared data -----------------------------------------------------------------------------


def prepare(task: str, source: str, tokenizer: str, folder: Path, keep: int = 0) -> Path:
    """Write ``folder``/lm.npz (token numbers, uint16) or image.npz (encoded images, uint8).

    Args:
        keep: so many training tokens (the first) or images (drawn at random) only; 0 keeps all.

    Raises:
        ValueError: a file above 60 MB, with the remedy; a vocabulary that uint16 cannot number.
    """
    path = Path(folder) / f"{task}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays, about = (
        _text_arrays(source, tokenizer, keep) if task == "lm" else _image_arrays(source, keep)
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(partial, "wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    size = partial.stat().st_size / measure.MB
    if size > LARGEST:
        partial.unlink()
        raise ValueError(
            f"{path} would have {size:.0f} MB, more than {LARGEST}: pass --keep with fewer "
            f"training {'tokens' if task == 'lm' else 'images'} than {len(arrays['train']):,}"
        )
    os.replace(partial, path)
    print(
        f"{path}: {size:.1f} MB; {about['description']}, "
        + ", ".join(
            f"{split} {len(arrays['labels_' + split if task == 'image' else split]):,}"
            for split in SPLITS
        )
    )
    return path


def _text_arrays(source: str, tokenizer: str, keep: int) -> tuple[dict, dict]:
    from seqpe_lab.tasks.text_data import load_text

    data = load_text(source, tokenizer)
    if data.vocab_size > 2**16:
        raise ValueError(
            f"the vocabulary has {data.vocab_size:,} entries, more than 16 bits can number: "
            f"choose a tokenizer of at most {2**16:,}"
        )
    arrays = {
        split: getattr(data, split)[: keep or None if split == "train" else None]
        .numpy()
        .astype(np.uint16)
        for split in SPLITS
    }
    cut = len(arrays["train"]) < len(data.train)
    about = {
        "source": _name(source),
        "tokenizer": _name(tokenizer),
        "description": data.description + (f", the first {keep:,} tokens" if cut else ""),
        "vocab_size": data.vocab_size,
        "characters": data.characters,
        "overlap": None if cut else data.overlap,
        "hash": _cut_hash(data.hash, keep) if cut else data.hash,
    }
    return arrays, about


def _image_arrays(source: str, keep: int) -> tuple[dict, dict]:
    from seqpe_lab.tasks.image_data import load_images

    data = load_images(source)
    arrays = {}
    for split in SPLITS:
        images = getattr(data, split)
        chosen = range(len(images))
        if split == "train" and 0 < keep < len(images):
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[
                :keep
            ].tolist()
        files = [images.files[i] for i in chosen]
        if any(isinstance(file, np.ndarray) for file in files[:1]):
            raise ValueError(f"{source!r} needs no preparing: pass it as --source where the GPU is")
        files = [file if isinstance(file, bytes) else Path(file).read_bytes() for file in files]
        arrays |= {
            split: np.frombuffer(b"".join(files), dtype=np.uint8),
            f"ends_{split}": np.cumsum([len(file) for file in files]),
            f"labels_{split}": images.labels[list(chosen)].numpy(),
        }
    cut = 0 < keep < len(data.train)
    about = {
        "source": _name(source),
        "description": data.description + (f", {keep:,} training images" if cut else ""),
        "channels": data.channels,
        "classes": data.classes,
        "hash": _cut_hash(data.hash, keep) if cut else data.hash,
        "mean": data.mean,
        "std": data.std,
    }
    return arrays, about


def _name(source: str) -> str:
    return Path(source).name if Path(source).exists() else source


def _cut_hash(digest: str, keep: int) -> str:
    return hashlib.sha256(f"{digest} {keep}".encode()).hexdigest()[:16]


def load(task: str, source: str, tokenizer: str = "gpt2"):
    """TextData or ImageData: of a prepared file, or of what the recipes take as source.

    Raises:
        ValueError: a file that was not prepared for this task.
    """
    if Path(source).suffix != ".npz":
        changes = {"tokenizer": tokenizer} if task == "lm" else {}
        recipe = MAKE[task](scale="medium", source=source, **changes)
        return task_of(recipe).load_data()
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays["about"]))
        return (_text if task == "lm" else _images)(arrays, about)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{source} is no file prepared for {task} ({type(error).__name__}: {error}): make "
            "it with --prepare"
        ) from error


def _text(arrays: dict, about: dict) -> TextData:
    tokens = {split: torch.from_numpy(arrays[split].astype(np.int64)) for split in SPLITS}
    return TextData(
        **tokens,
        **{
            key: about[key]
            for key in ("source", "tokenizer", "description", "vocab_size", "characters", "hash")
        },
        overlap=about.get("overlap"),  # files of an earlier version have none
        decode=list,
    )


def _images(arrays: dict, about: dict):
    from seqpe_lab.tasks.image_data import ImageData, Images

    splits = {}
    for split in SPLITS:
        blob, ends = arrays[split].tobytes(), [0, *arrays[f"ends_{split}"].tolist()]
        splits[split] = Images(
            [blob[a:b] for a, b in zip(ends, ends[1:])],
            torch.from_numpy(arrays[f"labels_{split}"]).long(),
            about["channels"],
            about["source"],
        )
    return ImageData(
        **splits,
        **{key: about[key] for key in ("source", "description", "channels", "classes", "hash")},
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
    )


# --- the plan ----------------------------------------------------------------------------------


def wanted(methods: list[str]) -> list[tuple[str, int]]:
    """(method, seed) of every run, the first seed of all methods first.

    >>> wanted(["seqpe:2", "alibi"])
    [('seqpe', 0), ('alibi', 0), ('seqpe', 1)]
    """
    counts = {}
    for item in methods:
        method, _, count = item.partition(":")
        if not (count or "1").isdigit() or int(count or 1) < 1:
            raise ValueError(f"a method is NAME or NAME:SEEDS with at least one seed, got {item!r}")
        counts[method] = int(count or 1)
    return [
        (method, seed)
        for seed in range(max(counts.values()))
        for method, count in counts.items()
        if seed < count
    ]


def make_plan(options: argparse.Namespace, data, file: Path) -> dict:
    """The plan in ``file``, or a new one: steps per run, seconds per step of the slowest method."""
    asked = {"methods": options.methods, "source": options.source, "set": options.set}
    if file.exists():
        plan = json.loads(file.read_text(encoding="utf-8"))
        if {key: plan[key] for key in asked} != asked:
            other = ", ".join(f"{key} {plan[key]}" for key in asked if plan[key] != asked[key])
            raise ValueError(
                f"{file} plans other runs ({other}): give the same options, or delete it to begin "
                "anew"
            )
        return plan
    runs = wanted(options.methods)
    slowest = next((run for run in runs if run[0] in ("seqpe", "seqpe-mul")), runs[0])
    seconds = seconds_a_step(
        recipe_of(options, data, *slowest, steps=10 * CALIBRATION[1]), data, options.cpu
    )
    steps = options.steps or int(60 * options.minutes * (1 - RESERVE) / len(runs) / seconds)
    if steps < 10:
        raise ValueError(
            f"{options.minutes:g} minutes are {steps} steps of {seconds:.2f} s for each of "
            f"{len(runs)} runs: fewer --methods, more --minutes, or --set a smaller batch"
        )
    plan = asked | {
        "steps": steps,
        "step_s": seconds,
        "checkpoint_every": max(
            1, min(steps, math.ceil(steps / max(1, round(steps * seconds / 60))))
        ),
        "evaluation_s": 60.0,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(plan, indent=1))
    return plan


def recipe_of(
    options: argparse.Namespace,
    data,
    method: str,
    seed: int,
    steps: int,
    checkpoint_every: int = 10**9,
) -> Training:
    """The medium recipe on this data and budget."""
    changes = {
        "source": options.source,
        "steps": steps,
        "warmup_steps": max(1, steps // 20),
        "checkpoint_every": checkpoint_every,
    }
    changes |= {"tokenizer": data.tokenizer} if options.task == "lm" else {}
    return MAKE[options.task](
        method,
        "medium",
        seed,
        **changes | ALSO[options.task] | settings_of_recipe(options.task, options.set),
    )


class _Enough(Exception):
    """Training was to be looked at, or to stop, at this step."""


def seconds_a_step(recipe: Training, data, cpu: bool) -> float:
    times = []

    def watch(step: int, model) -> None:
        if step in CALIBRATION:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter())
        if step == CALIBRATION[1]:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        try:
            train(recipe, Path(folder) / "run", data=data, cpu=cpu, progress=False, watch=watch)
        except _Enough:
            pass
    return (times[1] - times[0]) / (CALIBRATION[1] - CALIBRATION[0])


# --- the runs ----------------------------------------------------------------------------------


def until(deadline: float, recipe: Training, plan: dict, clock=time.monotonic):
    """A ``watch`` for the training loop that stops a run at its last checkpoint before a deadline.

    It raises _Enough right after a checkpoint if the next one would come too late.

    Args:
        deadline: in ``clock``'s seconds.
        plan: "step_s" until steps have been timed, and "evaluation_s", which follow the last
            checkpoint.
    """
    begun: list[tuple[int, float]] = []

    def watch(done: int, model) -> None:
        now, every = clock(), recipe.checkpoint_every
        if not begun:
            begun.append((done, now))
        first, start = begun[0]
        if done != first and (done - 1) % every:  # the last step was no checkpoint
            return
        a_step = (now - start) / (done - first) if done > first else plan["step_s"]
        coming = min(
            recipe.steps,
            (done - 1) // every * every + every if done > first else (done // every + 1) * every,
        )
        need = 1.2 * (coming - done) * a_step + (
            1.2 * plan["evaluation_s"] if coming == recipe.steps else 0
        )
        if now + need > deadline:
            raise _Enough

    return watch


def run_slice(options: argparse.Namespace, folder: Path) -> bool:
    """Go on with the plan for one slice; whether all runs are finished then."""
    began = time.monotonic()
    deadline = began + 60 * options.slice if options.slice else math.inf
    data = load(options.task, options.source, options.tokenizer)
    file = folder / f"plan-{options.task}.json"
    plan = make_plan(options, data, file)
    recipes = [
        recipe_of(options, data, method, seed, plan["steps"], plan["checkpoint_every"])
        for method, seed in wanted(plan["methods"])
    ]
    unit = recipes[0].batch * (recipes[0].train_len if options.task == "lm" else 1)
    print(
        f"{data.description} (hash {data.hash}); {len(recipes)} runs of {plan['steps']:,} "
        f"steps, {plan['steps'] * unit:,} {'tokens' if options.task == 'lm' else 'images'} "
        "each; "
        f"{plan['step_s']:.3f} s a step, a checkpoint every {plan['checkpoint_every']:,} steps",
        flush=True,
    )
    runs = [Run(recipe, folder / Run(recipe).folder.name) for recipe in recipes]
    for run in runs:
        if run.state == "finished":
            continue
        stop, last_step = until(deadline, run.recipe, plan), [0.0]

        def watch(done: int, model, stop=stop, last_step=last_step) -> None:
            last_step[0] = time.monotonic()
            stop(done, model)

        try:
            train(
                run.recipe,
                run.folder,
                data=data,
                cpu=options.cpu,
                progress=options.progress,
                watch=watch,
            )
        except _Enough:
            print(
                f"{run.recipe.method}, seed {run.recipe.seed}: stopped at "
                f"{run.checkpoints()[-1].name if run.checkpoints() else 'its start'}, before "
                "the slice ends",
                flush=True,
            )
            break
        plan["evaluation_s"] = time.monotonic() - last_step[0]
        write_atomically(file, json.dumps(plan, indent=1))
        if not options.keep_checkpoints:  # a gigabyte and a half each
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
        results = run.results()
        shown = results.get("perplexity") or results["accuracy"]
        print(
            f"{run.recipe.method}, seed {run.recipe.seed}: "
            + ", ".join(f"{value:.2f} at {where}" for where, value in shown.items())
            + f" [{(time.monotonic() - began) / 60:.1f} min]",
            flush=True,
        )
        pack(folder, options)
    pack(folder, options)
    done = [run for run in runs if run.state == "finished"]
    print(
        f"{len(done)} of {len(runs)} runs are finished"
        + ("" if len(done) == len(runs) else "; the same command goes on")
    )
    if len(done) == len(runs):
        summary([run.results() for run in runs])
    return len(done) == len(runs)


def pack(folder: Path, options: argparse.Namespace) -> None:
    """Recipes, metrics and results of all runs, without weights, into ``--out``."""
    if not options.out:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"runs-{options.task}.tar.gz"
    partial = target.with_name(f".{target.name}")
    with tarfile.open(partial, "w:gz") as archive:
        for path in [
            folder / f"plan-{options.task}.json",
            *(
                run.folder / name
                for run in list_runs(folder)
                for name in ("recipe.json", "metrics.jsonl", "results.json")
            ),
        ]:
            if path.exists():
                archive.add(path, path.relative_to(folder).as_posix())
    os.replace(partial, target)


def summary(results: list[dict]) -> None:
    """The table, and for text the two bars."""
    kind = "perplexity" if "perplexity" in results[0] else "accuracy"
    places = list(results[0][kind])
    means = {}
    for method in dict.fromkeys(r["method"] for r in results):
        seeds = [r[kind] for r in results if r["method"] == method]
        means[method] = [sum(s[place] for s in seeds) / len(seeds) for place in places]
    print(
        measure.table(
            [kind, *places, "mean"],
            [
                [method, *(f"{v:.2f}" for v in values), f"{sum(values) / len(values):.2f}"]
                for method, values in means.items()
            ],
        )
    )
    if kind == "perplexity" and {"seqpe", "alibi"} <= means.keys():
        seqpe, alibi = means["seqpe"], sum(means["alibi"]) / len(places)
        measure.verdict(
            f"SeqPE at {places[-1]} tokens at most 1.1 x its own at {places[0]}: "
            f"{seqpe[-1] / seqpe[0]:.3f}",
            seqpe[-1] <= 1.1 * seqpe[0],
        )
        measure.verdict(
            f"SeqPE's mean below ALiBi's: {sum(seqpe) / len(places):.2f} against {alibi:.2f}",
            sum(seqpe) / len(places) < alibi,
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["lm", "image"])
    parser.add_argument(
        "--source",
        required=True,
        help=(
            "a prepared file (.npz), or what recipes take: a folder, a file, hub:NAME, python, "
            "digits"
        ),
    )
    parser.add_argument(
        "--tokenizer",
        default="gpt2",
        help=(
            "lm: gpt2, bytes, bpe:SIZE or a tokenizer.json; a prepared file has its own (default "
            "%(default)s)"
        ),
    )
    parser.add_argument(
        "--prepare",
        type=Path,
        metavar="FOLDER",
        help="write the compact file there, and do nothing else",
    )
    parser.add_argument(
        "--keep", type=int, default=0, help="prepare only so many training tokens or images"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME[:SEEDS]",
        help="default: all, three seeds of seqpe and alibi",
    )
    parser.add_argument(
        "--minutes", type=float, default=25.0, help="of all runs together (default %(default)g)"
    )
    parser.add_argument("--steps", type=int, default=0, help="of each run, in place of --minutes")
    parser.add_argument(
        "--slice",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="end before this time is over, at a checkpoint (default: never)",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="FIELD=VALUE",
        help="other values for fields of all recipes, in JSON",
    )
    parser.add_argument(
        "--runs", type=Path, help="the runs' folder (default: medium in the project's runs)"
    )
    parser.add_argument("--out", type=Path, help="where the archive of results goes")
    parser.add_argument("--keep-checkpoints", action="store_true", help="of finished runs too")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    parser.add_argument("--progress", action="store_true", help="show a bar")
    options = parser.parse_args(arguments)
    options.methods = options.methods or DEFAULT[options.task]
    try:
        if options.prepare:
            prepare(options.task, options.source, options.tokenizer, options.prepare, options.keep)
            return 0
        return 0 if run_slice(options, options.runs or runs_folder() / "medium") else UNFINISHED
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"benchmarks.medium: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
