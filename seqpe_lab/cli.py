"""python -m seqpe_lab train | evaluate | released | figures | collect | bundle | runs | doctor"""
from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import os
import shutil
import sys
from pathlib import Path

from seqpe_lab.recipes import (
    ABLATIONS,
    ABOUT,
    ABOUT_IMAGES,
    ABOUT_QA,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    MAKERS,
    METHODS,
    QA_ABLATIONS,
    SCALES,
    ImageRecipe,
    QARecipe,
)
from seqpe_lab.runs import CheckpointError, Run, list_runs, runs_folder

SEVERAL_DEVICES = """on several GPUs, and on several machines that share the run's folder; a step sees the same tokens or images on any number of them:
  torchrun --standalone --nproc_per_node 4 -m seqpe_lab train lm --scale full
  torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 -m seqpe_lab train lm --scale full --set micro_batch=16 --folder SHARED
`accelerate launch` does the same on GPUs; on the CPU it starts one process whatever it is told, torchrun as many as it is told."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; expected errors become one line and exit status 2."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        args.do(args)
    except (ValueError, TypeError, FileNotFoundError, ConnectionError, CheckpointError, OSError, RuntimeError) as error:
        print(f"seqpe_lab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("seqpe_lab: interrupted; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"seqpe_lab: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m seqpe_lab", description="A lab for position encoding in Transformers.")
    commands = parser.add_subparsers(required=True, metavar="command")

    train = commands.add_parser("train", help="train and evaluate one run; an interrupted run goes on, a finished one is shown", formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog=SEVERAL_DEVICES)
    train.add_argument("task", choices=[*MAKERS], help="lm: a GPT-2 language model; qa: such a model, fine-tuned to answer questions; image: a ViT classifier")
    train.add_argument("--encoding", "--method", dest="method",
                       help=f"lm: one of {', '.join(METHODS | ABLATIONS)} (default seqpe); qa: also {', '.join(QA_ABLATIONS)}; "
                            f"image: one of {', '.join(IMAGE_METHODS | IMAGE_ABLATIONS)} (default seqpe-mul)")
    train.add_argument("--scale", choices=SCALES, help="default: $SEQPE_SCALE or small")
    train.add_argument("--seed", type=int, help="default: 0; qa with a base: the base's, and another one tunes in another order")
    train.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other values for fields of the recipe, in JSON")
    train.add_argument("--folder", help="the run's folder; one that holds a recipe.json needs no other option")
    train.add_argument("--cpu", action="store_true", help="stay on the CPU")
    train.add_argument("--workers", type=int, help="processes that decode images beside each training process; default: one a core left, 8 at most, at medium and full scale, else 0")
    train.add_argument("--compile", action="store_true", help="torch.compile: a minute or two at the start, then faster steps on a GPU; a resumed run equals an unbroken one up to rounding only")
    train.set_defaults(do=_train)

    evaluate = commands.add_parser("evaluate", help="a trained run at any lengths (perplexity) or image sizes (accuracy)")
    evaluate.add_argument("folder")
    evaluate.add_argument("--lengths", type=int, nargs="+", help="contexts in tokens; default: the recipe's")
    evaluate.add_argument("--sizes", type=int, nargs="+", help="pixels a side, of an image run; default: the recipe's")
    evaluate.add_argument("--protocol", default="non-overlapping", help="non-overlapping or sliding")
    evaluate.add_argument("--stride", type=int, help="for the sliding window")
    evaluate.add_argument("--split", choices=["validation", "test"], default="test")
    evaluate.add_argument("--books", nargs="?", const="python", metavar="SOURCE",
                          help="bits per character of whole books: python (default: this Python's longest documents), pg19, a path, or hub:NAME")
    evaluate.add_argument("--count", type=int, default=10, help="of the longest books (default %(default)s)")
    evaluate.add_argument("--cpu", action="store_true", help="stay on the CPU")
    evaluate.set_defaults(do=_evaluate)

    released = commands.add_parser("released", help="evaluate the paper authors' published weights beside the paper's numbers")
    released.add_argument("checkpoint", help="'hub' (huayangli/seqpe), 'hub:NAME', or a folder that was downloaded from there")
    released.add_argument("--task", choices=["lm", "image"], default="lm", help="lm: Table 1, perplexity by length; image: Table 3, top-1 by size")
    released.add_argument("--lengths", type=int, nargs="+", help="lm: contexts in tokens; default: the paper's")
    released.add_argument("--sizes", type=int, nargs="+", help="image: pixels a side; default: the paper's")
    released.add_argument("--source", help="lm: WikiText-103 on the hub (default), its wiki.test.raw, or any text; image: ImageNet-1k on the hub (default) or a folder")
    released.add_argument("--tokenizer", help="lm: default: the checkpoint's own tokenizer.json, else gpt2")
    released.add_argument("--images", type=int, default=0, help="image: only so many, drawn at random; default: all")
    released.add_argument("--cpu", action="store_true", help="stay on the CPU")
    released.set_defaults(do=_released)

    figures = commands.add_parser("figures", help="train the lessons' runs, execute the lessons, write figures and their page")
    figures.add_argument("--folder", default="figures")
    figures.add_argument("--scale", choices=SCALES)
    figures.add_argument("--seed", type=int, default=0)
    figures.add_argument("--workers", type=int)
    figures.set_defaults(do=_figures)

    collect = commands.add_parser("collect", help="gather finished runs into data/results, with the README's picture and table")
    collect.add_argument("--scale", choices=SCALES, default="small")
    collect.set_defaults(do=_collect)

    bundle = commands.add_parser("bundle", help="make the small trained models that the explorers show (data/explorers)")
    bundle.set_defaults(do=_bundle)

    runs = commands.add_parser("runs", help="list runs with their state and results")
    runs.add_argument("--folder", default=None)
    runs.set_defaults(do=_runs)

    doctor = commands.add_parser("doctor", help="say what this machine has and what each scale needs")
    doctor.set_defaults(do=_doctor)
    return parser


def _train(args) -> None:
    from seqpe_lab.training import train
    if args.folder and (Path(args.folder) / "recipe.json").exists():
        recipe = Run.open(args.folder).recipe
        if recipe.task != args.task:
            raise ValueError(f"{args.folder} holds a run of another task: say train {recipe.task}")
    else:
        make = MAKERS[args.task]
        method, overrides = args.method or ("seqpe-mul" if args.task == "image" else "seqpe"), _overrides(args.set)
        base = overrides.pop("base", None) if args.task == "qa" else None  # no other task has one, and says so
        if base:  # that run says what the model is
            recipe = dataclasses.replace(make(method, base=Run.open(runs_folder() / base).recipe, **{"seed": args.seed} | overrides), base=base)
        else:
            recipe = make(method, args.scale, args.seed or 0, **overrides)
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"--workers must be at least 0, got {args.workers}")
    run = train(recipe, args.folder, cpu=args.cpu, workers=args.workers, compile=args.compile)
    if int(os.environ.get("RANK", 0)) == 0:
        results = run.results()
        print(f"{run.folder}: {json.dumps(run.measured())} ({results['protocol']}, {results['split']} split)")


def _overrides(pairs: list[str]) -> dict:
    tuples = {f.name for kind in (QARecipe, ImageRecipe) for f in dataclasses.fields(kind) if str(f.type).startswith("tuple")}
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {pair!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        values[name] = tuple(value) if name in tuples and isinstance(value, list) else value
    return values


def _evaluate(args) -> None:
    from seqpe_lab.devices import best_device
    from seqpe_lab.tasks import task_of
    from seqpe_lab.tasks.perplexity import perplexity_by_length
    from seqpe_lab.training import trained_model
    run, device = Run.open(args.folder), best_device(args.cpu)
    task = task_of(run.recipe)
    data = task.load_data()
    if run.recipe.task == "qa":
        from seqpe_lab.tasks import questions
        if args.sizes or args.stride or args.protocol != "non-overlapping":
            raise ValueError(f"{args.folder} is a run on questions: it takes --lengths, not --sizes, --protocol or --stride")
        model = trained_model(run, data, device)
        for length in args.lengths or run.recipe.eval_lens:
            answers = task.answers(model, data, length, args.split)
            print(f"{length:>7} tokens: exact match {questions.exact_match(answers):.1f} %, perplexity {math.exp(questions.mean_nats(answers)):.4f} "
                  f"({len(answers):,} questions of the {args.split} split)")
        return
    if run.recipe.task == "image":
        from seqpe_lab.tasks.images import accuracy, first
        if args.lengths or args.stride or args.books or args.protocol != "non-overlapping":
            raise ValueError(f"{args.folder} is a run on images: it takes --sizes, not --lengths, --protocol, --stride or --books")
        model, images = trained_model(run, data, device), first(getattr(data, args.split), run.recipe.eval_images)
        for size in args.sizes or run.recipe.eval_sizes:
            measured = accuracy(model, images, data, run.recipe, size)
            print(f"{size:>5} pixels: top-1 {measured.accuracy:.2f} % ({measured.images:,} images of the {args.split} split)")
        return
    if args.sizes:
        raise ValueError(f"{args.folder} is a run on text: it takes --lengths, not --sizes")
    if args.books:
        return _evaluate_books(run, data, args, device)
    tokens = getattr(data, args.split)
    if run.recipe.eval_tokens:
        tokens = tokens[: run.recipe.eval_tokens + 1]
    for measured in perplexity_by_length(trained_model(run, data, device), tokens, args.lengths or run.recipe.eval_lens, protocol=args.protocol, stride=args.stride):
        print(f"{measured.length:>7} tokens: perplexity {measured.perplexity:.4f} ({measured.protocol}, {measured.tokens:,} tokens of the {args.split} split)")


def _evaluate_books(run: Run, data, args, device) -> None:
    from seqpe_lab.tasks.books import load_books
    from seqpe_lab.tasks.perplexity import bits_per_character
    from seqpe_lab.tasks.text_data import load_documents
    from seqpe_lab.tasks.tokenization import make_tokenizer
    from seqpe_lab.training import trained_model
    trained_on = run.load_checkpoint(run.checkpoints()[-1])[2]["data"] if run.checkpoints() else data.hash
    if args.books == run.recipe.source == "python" and trained_on != data.hash:
        raise ValueError(f"{run.folder} was trained on another Python's documentation (hash {trained_on}, here {data.hash}), which may hold these books: give others with --books")
    books = load_books(args.books, args.count)
    encode, decode, _ = make_tokenizer(run.recipe.tokenizer, load_documents(run.recipe.source)[0]["train"])
    model = trained_model(run, data, device)
    for measured in bits_per_character(model, books.texts, encode, decode, args.lengths or run.recipe.eval_lens, protocol=args.protocol, stride=args.stride):
        print(f"{measured.length:>7} tokens: {measured.bits:.4f} bits per character ({measured.protocol}; {measured.documents} of {len(books.texts)} books "
              f"of {books.description}: {measured.characters:,} characters in {measured.tokens:,} tokens)", flush=True)


def _released(args) -> None:
    from seqpe_lab.devices import best_device
    from seqpe_lab.models import published
    from seqpe_lab.tasks import paper_comparison
    if args.sizes if args.task == "lm" else args.lengths or args.tokenizer:
        raise ValueError("--lengths and --tokenizer belong to --task lm, --sizes to --task image")
    folder, source = published.find(args.checkpoint, args.task), args.source or paper_comparison.SOURCES[args.task]
    model = published.load(folder, args.task).to(best_device(args.cpu))
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, all names and shapes as expected; evaluated on {source}", flush=True)
    if args.task == "image":
        for measured, paper in paper_comparison.evaluate_images(model, source, args.sizes, args.images):
            print(f"{measured.size:>7} pixels: top-1 {measured.accuracy:.2f} %, the paper says {paper or '-'} ({measured.images:,} images, the middle 7/8 of each)")
        return
    own = folder / "tokenizer.json"
    tokens = paper_comparison.text_of(source, args.tokenizer or (str(own) if own.is_file() else "gpt2"))
    for measured, paper in paper_comparison.evaluate_text(model, tokens, args.lengths):
        print(f"{measured.length:>7} tokens: perplexity {measured.perplexity:.2f}, the paper says {paper or '-'} ({measured.protocol}, {measured.tokens:,} tokens)")


def _figures(args) -> None:
    from seqpe_lab.course.publish import make_figures
    make_figures(Path(args.folder), args.scale, args.seed, args.workers)


def _collect(args) -> None:
    from seqpe_lab.course.publish import collect
    print(*collect(args.scale), sep="\n")


def _bundle(args) -> None:
    from seqpe_lab.explorers.bundle import make
    make()


def _runs(args) -> None:
    from seqpe_lab.jobs import Job
    found = list_runs(args.folder)
    if not found:
        print(f"no runs in {args.folder or runs_folder()}")
    for run in found:
        metrics, results = run.metrics(), run.results()
        step = metrics[-1]["step"] if metrics else 0
        shown = ", ".join(f"{float(v):.2f} at {n}" for n, v in run.measured().items()) if results else ""
        print(f"{Job(run.folder).state:<11} {step:>7}/{run.recipe.steps:<7} {run.folder}  {shown}".rstrip())


def _doctor(args) -> None:
    import torch

    from seqpe_lab.course.publish import find_browser
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores, GPUs: {', '.join(gpus) or 'none'}, free disk {shutil.disk_usage('.').free / 2**30:.0f} GiB")
    for package in ("torch", "torchvision", "accelerate", "datasets", "tokenizers", "timm", "jupyterlab", "ipywidgets", "plotly", "nbval", "kaleido", "tensorboard"):
        try:
            print(f"  {package:<12} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package:<12} missing")
    print(f"  browser for static images: {find_browser() or 'none found: figures are written as web pages only'}")
    for task, name, about in [("text", *item) for item in ABOUT.items()] + [("qa", *item) for item in ABOUT_QA.items()] + [("images", *item) for item in ABOUT_IMAGES.items()]:
        print(f"scale {name:<6} of {task:<6} {about.hardware}; {about.time}; {about.memory}; {about.expect}")


if __name__ == "__main__":
    sys.exit(main())
