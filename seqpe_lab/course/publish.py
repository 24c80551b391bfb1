"""The main job: train the runs of the extrapolation lesson, execute all lessons, write figures/ and its index page.

Every stage says what it does and how long it will take. Finished runs and lessons are reused, so
an interrupted job goes on where it was and a second one takes a minute.
"""
from __future__ import annotations

import atexit
import functools
import hashlib
import html
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.workers import Stage, Task, get_ready, in_stages
from seqpe_lab.package_data import clone, results_file
from seqpe_lab.recipes import (
    ABLATIONS,
    HEADLINE,
    IMAGE_ABLATIONS,
    IMAGE_METHODS,
    MAKERS,
    METHODS,
    PLACED,
    QA_ABLATIONS,
    TUNED,
    ImageRecipe,
    QARecipe,
    Recipe,
    Training,
    default_scale,
    image_model,
    language_model,
    question_answering,
)
from seqpe_lab.runs import Run, judged_by, list_runs, runs_folder
from seqpe_lab.tasks.corpus import load_text

NOT_SEEN = "✗ not in this run: "  # begins what a lesson prints where its training does not show what it says


def make_figures(folder: Path, scale: str | None = None, seed: int = 0, workers: int | None = None) -> None:
    """Do the whole job and leave ``folder/index.html``.

    Args:
        workers: runs or lessons at a time, each on its share of the cores; by default two for each
            GPU-less machine with two cores or more, else one.

    Raises:
        RuntimeError: at the end, if a run or a lesson failed; names it and where its output is.
    """
    folder, scale = Path(folder).resolve(), scale or default_scale()
    workers = workers or default_workers()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)

    def takes(minutes: int) -> str:
        return f" (about {minutes} min on 2 cores)" if scale == "small" else ""

    get_ready()
    first = language_model("seqpe", scale, seed)
    say(f"Stage 1 of 6: the text (some 10 s the first time). Scale {scale}, {workers} at a time.")
    data = load_text(first.source, first.tokenizer)
    say(f"  {data.description}: {sum(data.characters.values()):,} characters, {len(data.train):,} training tokens ({data.tokenizer}), hash {data.hash}")

    headline = [language_model(method, scale, seed) for method in HEADLINE]
    others = [language_model(method, scale, seed) for method in [*METHODS, *ABLATIONS] if method not in HEADLINE]
    images = [image_model(method, scale, seed) for method in [*IMAGE_METHODS, *IMAGE_ABLATIONS]]
    placed = [image_model(method, scale, seed, augment="place") for method in PLACED]
    tuned = [question_answering(method, scale, seed) for method in TUNED]
    lessons = sorted((clone() / "notebooks").glob("[0-9]*.ipynb"))
    lessons.sort(key=lambda path: not re.search(r"lab\.train\(|job\.start\(", path.read_text(encoding="utf-8")))  # those that train first, so that no worker is left alone with a long one

    def show_headline() -> str:
        _write_headline(headline, folder)
        _write_index(folder)
        return f"  The headline figure stands: {folder / 'headline.html'}"

    try:
        in_stages([
            Stage(f"Stage 2 of 6: {len(headline)} runs for the headline figure{takes(7)}", lambda: _training(headline), show_headline),
            Stage(f"Stage 3 of 6: the other {len(others)} runs of the extrapolation lesson{takes(12)}", lambda: _training(others)),
            Stage(f"Stage 4 of 6: {len(images)} runs on images, and {len(placed)} on larger canvases{takes(11)}", lambda: _training(images) + _training(placed)),
            Stage(f"Stage 5 of 6: {len(tuned)} language models are tuned to answer questions{takes(7)}", lambda: _training(tuned), waits=True),
            Stage(f"Stage 6 of 6: executing the lessons{takes(6)}", lambda: [_executing(path, folder, scale) for path in lessons], waits=True),
        ], workers, say)
    finally:
        _write_index(folder)  # also of what was done before a failure
    missing = sum(len(not_seen(folder / "lessons" / f"{path.stem}.html")) for path in lessons)
    say(f"Done: open {folder / 'index.html'}" + (f" ({missing} of the lessons' expectations did not show in these runs)" if missing else ""))


def default_workers() -> int:
    """Two on a CPU with two cores or more; a GPU takes one run at a time."""
    import torch
    return 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)


def write_figure(figure, folder: Path, name: str) -> bool:
    """Write name.html (interactive; shares one plotly.min.js), name.json (its title) and, where a browser is at hand, name.png.

    Returns:
        Whether there is a static image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure.write_html(folder / f"{name}.html", include_plotlyjs="directory", full_html=True)
    title = re.sub(r"<[^>]+>", "", figure.layout.title.text or name)
    write_atomically(folder / f"{name}.json", json.dumps({"name": name, "title": title}))
    image = folder / f"{name}.png"
    image.unlink(missing_ok=True)
    if find_browser() is None:
        return False
    try:
        _start_browser()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plotly passes options that a running server does not take
            figure.write_image(image, scale=1.5)
        return True
    except Exception as error:  # kaleido raises many kinds: a browser that does not start, no fonts, no display
        print(f"{name}: no static image ({type(error).__name__}); the interactive page is written", file=sys.stderr)
        return False


def find_browser() -> str | None:
    """The path of the browser that draws static images, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("BROWSER_PATH") or next((path for name in names if (path := shutil.which(name))), None)


@functools.cache
def _start_browser() -> None:
    """One browser for all images of this process: starting it takes seconds, an image then half a second."""
    import kaleido
    kaleido.start_sync_server(silence_warnings=True)
    atexit.register(kaleido.stop_sync_server, silence_warnings=True)


# --- tasks -------------------------------------------------------------------------------------

def _training(recipes: Sequence[Training]) -> list[Task]:
    """Runs to their end, the longest first, so that no worker is left alone with a long one."""
    slowness = ("seqpe", "rope-mixed", "rope")
    return [_run(recipe) for recipe in sorted(recipes, key=lambda r: slowness.index(r.encoding) if r.encoding in slowness else len(slowness))]


def _run(recipe: Training) -> Task:
    run, note = Run(recipe), ""
    if finished := run.state == "finished":
        note = " (finished before)"
    else:
        run.create()
        note = f" (from {run.checkpoints()[-1].name})" if run.checkpoints() else ""

    def report() -> str:
        return judged_by(run.results()).replace("_", " ") + " " + ", ".join(f"{value:.2f} at {where}" for where, value in run.measured().items()) + note
    from seqpe_lab.cli import main
    call = None if finished else (main, ["train", recipe.task, "--folder", str(run.folder)])
    return Task(recipe.method, call, report, run.folder / "log.txt")


def _executing(path: Path, folder: Path, scale: str) -> Task:
    """Execute a notebook into folder/lessons/ unless that was done with this very notebook and library."""
    out = folder / "lessons" / f"{path.stem}.html"
    stamp = out.with_suffix(".stamp")
    sources = [path, *sorted((clone() / "seqpe_lab").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources) + scale.encode()).hexdigest()
    if out.exists() and stamp.exists() and stamp.read_text() == digest:
        return Task(path.stem, None, lambda: "executed before" + _but(out), out)
    out.parent.mkdir(parents=True, exist_ok=True)

    def report() -> str:
        stamp.write_text(digest)
        return "executed" + _but(out)
    environment = {"SEQPE_FIGURES": str(folder), "SEQPE_SCALE": scale, "SEQPE_RUNS": str(runs_folder().resolve())}
    return Task(path.stem, (execute_lesson, path, out), report, out.with_suffix(".log"), environment)


def not_seen(page: Path) -> list[str]:
    """What an executed lesson expected (:meth:`Lesson.expect <seqpe_lab.course.lesson.Lesson.expect>`) and did not find."""
    found = re.findall(rf"^(?:<pre>)?{NOT_SEEN}(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [html.unescape(re.sub(r"<[^>]+>", "", claim)) for claim in found]


def _but(page: Path) -> str:
    claims = not_seen(page)
    return f"; {NOT_SEEN.removeprefix('✗ ')}{'; '.join(claims)}" if claims else ""


def execute_lesson(path: Path, out: Path) -> None:
    """Execute a notebook and write what it shows, a page that needs no kernel."""
    from nbconvert.nbconvertapp import NbConvertApp
    NbConvertApp.launch_instance(["--to=html", "--execute", "--ExecutePreprocessor.store_widget_state=False", "--ExecutePreprocessor.timeout=1800",
                                  f"--output-dir={out.parent}", f"--output={out.stem}", str(path)])


# --- committed results -------------------------------------------------------------------------

TEXT_RESULTS, QA_RESULTS, IMAGE_RESULTS = "length-extrapolation", "question-answering", "resolution-extrapolation"
MEASURES = {"exact_match": ("exact match (%) at", 1), "perplexity": ("perplexity at", 2), "accuracy": ("top-1 accuracy (%) at", 1)}  # of the README's tables: heading, digits
MARKS = {measure: (f"<!-- {measure}: begin -->\n", f"<!-- {measure}: end -->") for measure in MEASURES}


def collect(scale: str) -> list[Path]:
    """Gather the finished runs of a scale into data/results/, with the README's picture and table (small scale).

    At medium and full scale runs may differ from the preset (in source or steps, say), but all in the same way.

    Returns:
        The files of results: one entry a method and seed, as ``results.json`` has them, sorted.

    Raises:
        ValueError: no finished run at this scale; runs that were changed in different ways, or two of one method and seed.
    """
    expected = {Recipe: [*METHODS, *ABLATIONS], QARecipe: [*METHODS, *ABLATIONS, *QA_ABLATIONS], ImageRecipe: [*IMAGE_METHODS, *IMAGE_ABLATIONS]}
    finished = [run for run in list_runs() if run.recipe.scale == scale and run.recipe.method in expected[type(run.recipe)] and run.results()]
    runs = [run for kind in expected for run in _changed_alike([r for r in finished if type(r.recipe) is kind], scale)]
    if not runs:
        raise ValueError(f"no finished runs at scale {scale!r} in {runs_folder()}: train some first")
    written = []
    for kind, name in ((Recipe, TEXT_RESULTS), (QARecipe, QA_RESULTS), (ImageRecipe, IMAGE_RESULTS)):
        found = [run.results() for run in runs if type(run.recipe) is kind]
        found.sort(key=lambda r, order=expected[kind]: (r["protocol"], order.index(r["method"]), r["seed"]))
        if found:
            written.append(results_file(f"{name}-{scale}"))
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            write_atomically(written[-1], json.dumps(found, indent=1))
            if scale == "small":
                _update_readme(found)
    return written


def _changed_alike(runs: Sequence[Run], scale: str) -> Sequence[Run]:
    """The runs of the preset itself; where there are none, at medium and full scale, those of the one way in which it was changed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        recipe = run.recipe
        preset = MAKERS[recipe.task](recipe.method, scale, recipe.seed, **({"augment": recipe.augment} if recipe.task == "image" else {}))
        changed = {name: value for name, value in recipe if value != getattr(preset, name)}
        if changed and scale in ("smoke", "small"):
            continue
        of_all = {name: value for name, value in changed.items() if name not in ("alpha", "beta", "shifted")}  # those are SeqPE's alone
        groups.setdefault(json.dumps(of_all, sort_keys=True), []).append(run)
    if "{}" not in groups and len(groups) > 1:
        listed = "\n  ".join(f"{len(group)} with {changed}, such as {group[0].folder}" for changed, group in groups.items())
        raise ValueError(f"the finished runs at scale {scale!r} differ from the preset in different ways and cannot stand in one table:\n  {listed}\n"
                         "Move all but one kind elsewhere, or point SEQPE_RUNS at a folder that holds one kind")
    chosen = groups.get("{}") or next(iter(groups.values()), [])
    seen: dict[tuple, Run] = {}
    for run in chosen:
        key = (run.recipe.method, run.recipe.seed, getattr(run.recipe, "augment", None))
        if key in seen:
            raise ValueError(f"there are two finished runs of {key[0]} with seed {key[1]}, {seen[key].folder} and {run.folder}: move one elsewhere")
        seen[key] = run
    return chosen


def _update_readme(results: Sequence[dict]) -> None:
    """The README's table from committed results, and of language models its picture."""
    measure = judged_by(results[0])
    if measure == "perplexity":
        from seqpe_lab.course import figures
        picture = figures.extrapolation([r for r in results if r["method"] in HEADLINE], train_len=language_model("seqpe", "small").train_len,
                                        title="Trained on 64 tokens, tested on up to 1,024")
        folder = results_file("").parent
        write_figure(picture, folder, "extrapolation")
        for extra in ("extrapolation.html", "extrapolation.json", "plotly.min.js"):
            (folder / extra).unlink(missing_ok=True)
    begin, end = MARKS[measure]
    readme = (clone() / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(begin)
    write_atomically(clone() / "README.md", before + begin + readme_table(results) + end + rest.partition(end)[2])


def readme_table(results: Sequence[dict]) -> str:
    """The README's table, from committed results: what the task is judged by for each length or size, mean over the seeds."""
    from seqpe_lab.course.figures import label
    measure = judged_by(results[0])
    head, digits = MEASURES[measure]
    results = [r for r in results if not r["protocol"].startswith("object")]  # the control is lesson 11's
    places = list(results[0][measure])
    lines = [f"| {head} | " + " | ".join(f"{int(n):,}" for n in places) + " | mean | seeds |", "|---" * (len(places) + 3) + "|"]
    for method in dict.fromkeys(r["method"] for r in results):
        seeds = [r[measure] for r in results if r["method"] == method]
        means = [sum(s[n] for s in seeds) / len(seeds) for n in places]
        lines.append(f"| {label(method)} | " + " | ".join(f"{m:.{digits}f}" for m in [*means, sum(means) / len(means)]) + f" | {len(seeds)} |")
    return "\n".join(lines) + "\n"


# --- pages -------------------------------------------------------------------------------------

def _write_headline(recipes: Sequence[Recipe], folder: Path) -> None:
    from seqpe_lab.course import figures
    results = [Run(recipe).results() for recipe in recipes]
    figure = figures.extrapolation(results, train_len=recipes[0].train_len,
                                   title=f"Trained on {recipes[0].train_len} tokens, tested on up to {max(recipes[0].eval_lens):,}")
    write_figure(figure, folder, "headline")


def _write_index(folder: Path) -> None:
    """One page with every figure and a link to every executed lesson; works from the disk, without a network."""
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    entries.sort(key=lambda entry: (entry["name"] != "headline", entry["name"]))
    parts = []
    for entry in entries:
        name, title = html.escape(entry["name"]), html.escape(entry["title"])
        image = folder / f"{entry['name']}.png"
        shown = f'<a href="{name}.html"><img src="{name}.png" alt="{title}" loading="lazy"></a>' if image.exists() else f'<iframe src="{name}.html" title="{title}" loading="lazy"></iframe>'
        parts.append(f'<figure id="{name}">{shown}<figcaption><a href="{name}.html">{title}</a></figcaption></figure>')
    lessons = sorted((folder / "lessons").glob("*.html")) if (folder / "lessons").exists() else []
    links = "".join(f'<li><a href="lessons/{path.name}">{html.escape(path.stem.replace("_", " "))}</a>{html.escape(_but(path))}</li>' for path in lessons)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>seqpe_lab: figures</title>
<style>
 :root {{ color-scheme: light dark; }}
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }}
 figure {{ margin: 2rem 0; }} img {{ width: 100%; height: auto; background: white; border-radius: 6px; }}
 iframe {{ width: 100%; height: 520px; border: 0; background: white; }} figcaption {{ margin-top: .3rem; }}
</style></head><body>
<h1>seqpe_lab</h1>
<p>Every figure below was made by executing the lessons on this machine. Click one for its interactive version.</p>
<h2>Lessons, executed</h2><ol start="0">{links or '<li>not yet executed</li>'}</ol>
<h2>Figures</h2>
{''.join(parts)}
</body></html>
"""
    write_atomically(folder / "index.html", page)
