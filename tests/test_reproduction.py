"""The paper's tables again: which runs they need, their trials, and the pages made of them."""

import json
import math
from collections import Counter

import pytest
import torch

from seqpe_lab import recipes
from seqpe_lab.cli import main
from seqpe_lab.course.style import label
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.package_data import committed_if_any, committed_results, paper_table, results_file
from seqpe_lab.recipes import MAKERS, SCALES, chosen_settings, language_model, settings_from
from seqpe_lab.recipes.chosen_settings import SETTINGS, TRIAL_SEED
from seqpe_lab.reproduction import collecting, comparison, encoding_claims, position_maps, running
from seqpe_lab.reproduction.manifest import (
    FURTHER,
    NAMES,
    TABLES,
    methods_of,
    row_name,
    runs_of,
    trials_of,
)
from seqpe_lab.runs import Run
from seqpe_lab.tasks import task_of
from seqpe_lab.training import train

PARTS = [part for parts in TABLES.values() for part in parts]
UNIT = {"lm": "tokens", "qa": "questions", "image": "images", "algorithm": "examples"}


def results_of(recipe, value=5.0, **changes) -> dict:
    """What a run of this recipe could have written: ``value``, plus 1 a length or size."""
    places = recipe.eval_sizes if recipe.task in ("image", "algorithm") else recipe.eval_lens
    measured = {str(place): value + number for number, place in enumerate(places)}
    measures = {"lm": ["perplexity"], "qa": ["exact_match", "perplexity"], "image": ["accuracy"]}
    measures["algorithm"] = ["exact_match"]
    return {
        "method": recipe.method,
        "scale": recipe.scale,
        "seed": recipe.seed,
        "protocol": "p",
        "split": recipe.eval_split,
        UNIT[recipe.task]: 7,
        "data": {"description": "a text", "hash": "abc"},
        "commit": "c0ffee",
        **dict.fromkeys(measures[recipe.task], measured),
    } | changes


def finish(recipe, **changes) -> Run:
    run = Run(recipe)
    run.create()
    run.write_results(results_of(recipe, **changes))
    return run


@pytest.fixture
def project(another_project, monkeypatch):
    """A project's folder of its own, at a commit of its own."""
    monkeypatch.setattr(running, "provenance", lambda device: {"commit": "c0ffee"})
    return another_project


# --- the manifest -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_row_of_the_paper_s_table_is_trained_at_full_scale(part):
    theirs = [row_name(row) for row in paper_table(*part.paper)]
    trained = methods_of(part, "full")
    assert sorted(filter(None, map(part.rows.get, trained))) == sorted(theirs)
    assert part.reference in trained


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_row_has_a_recipe_and_a_name(part, scale):
    for method in methods_of(part, scale):
        assert method in part.rows and label(method) != method
        assert MAKERS[part.task](method, scale, 3).seed == 3


def test_all_rows_with_further_encodings_have_the_preset_s_settings(monkeypatch):
    (part,) = TABLES["encodings"]
    assert "encodings" not in NAMES and set(part.rows) == {*recipes.METHODS, *FURTHER}
    monkeypatch.setitem(SETTINGS["lm"], "alibi", {"learning_rate": 0.5, "weight_decay": 0.25})
    first, second = runs_of(["encodings"], "small", seeds=3)
    assert len({recipe.digest() for recipe in first}) == 3 * len(part.rows) and not second
    preset = recipes.PRESETS["small"]
    expected = (preset["learning_rate"], preset["weight_decay"])
    assert {(recipe.learning_rate, recipe.weight_decay) for recipe in first} == {expected}
    with pytest.raises(ValueError, match="no trials for 'encodings', whose rows all have"):
        trials_of(["table1", "encodings"], "small")


def test_every_encoding_for_sequences_is_a_row_or_left_out_for_a_reason():
    left_out = {"rope-dynamic", "alibi-euclidean", "rope-mixed", "swin", "swin-v2"}
    ours = {recipe.encoding for recipe in runs_of(["encodings"], "small", seeds=1)[0]}
    assert ours == {name for name in ENCODINGS if name != "mine"} - left_out


def test_further_encodings_and_problems_are_collected_in_files_of_their_own(project, monkeypatch):
    monkeypatch.setattr(collecting, "write_readme", lambda results: written.append(len(results)))
    monkeypatch.setattr(collecting, "write_readme_part", lambda name, new: written.append(name))
    written = []
    preset = recipes.PRESETS["small"]
    tuned = {"learning_rate": 2 * preset["learning_rate"], "weight_decay": 0.1}
    monkeypatch.setitem(SETTINGS["lm"], "seqpe", tuned)
    recipe = recipes.language_model("seqpe", "small")
    finish(recipe)
    for problem in ("copy", "reverse"):
        data = {"description": "words", "problem": problem, "hash": "abc"}
        finish(recipes.algorithm("alibi", "small", problem=problem), data=data, trained_size=8)
    assert [path.name for path in collecting.collect("small")] == [
        "length-extrapolation-small.json",
        "algorithms-small.json",
        "algorithms-small.md",
    ]
    results = committed_results("algorithms-small")
    assert [r["data"]["problem"] for r in results] == ["copy", "reverse"]
    untuned = recipe.changed(**{name: preset[name] for name in tuned})
    for seed in range(3):
        for of_row in (untuned, recipes.language_model("t5", "small")):
            value = 5 + seed / 10 + (of_row.method == "t5") * (1 + seed / 100)
            finish(of_row.changed(seed=seed), value=value)
    page = collecting.collect("small", ["encodings"])[1].read_text()
    results = committed_results("encodings-small")
    assert [(r["method"], r["seed"]) for r in results] == [
        (method, seed) for method in ("seqpe", "t5") for seed in range(3)
    ]
    assert results[0]["recipe"] == untuned.digest() and written == [1, 2, "encodings"]
    assert "Student's for three and four" in page and "commit c0ffee" in page
    assert "| T5 | +1.01 [+0.99, +1.03] |" in page and page.count("higher |") == 1


def test_table_4_crosses_losses_and_shifted_starts():
    for name, full in (("table4-text", "seqpe"), ("table4-images", "seqpe-mul")):
        (part,) = (part for part in PARTS if part.name == name)
        rows = [MAKERS[part.task](method, "small") for method in part.rows]
        cells = {(recipe.alpha > 0, recipe.beta > 0, recipe.shifted) for recipe in rows}
        assert len(rows) == len(cells) == 8 and {shift for *_, shift in cells} == {0.0, 0.1}
        whole = MAKERS[part.task](full, "small")
        for recipe in rows:
            changed = {name for name, value in recipe if value != getattr(whole, name)}
            assert changed <= {"method", "alpha", "beta", "shifted"}


def test_questions_start_from_language_models_of_their_own_seed():
    first, second = runs_of(["table2"], "small", seeds=5)
    counts = Counter((recipe.method, recipe.seed) for recipe in first)
    assert set(counts.values()) == {1} and len(counts) == 4 * 5
    bases = {Run(recipe).folder.name: recipe.seed for recipe in first}
    assert len(second) == 7 * 5
    assert all(bases[recipe.base.split("/")[1]] == recipe.seed for recipe in second)
    first, second = runs_of(["table2"], "full", seeds=1)
    assert [recipe.method for recipe in second] == list(recipes.METHODS)


def test_tables_share_their_runs():
    first, second = runs_of(NAMES, "small", seeds=5)
    assert len({Run(recipe).folder for recipe in first}) == len(first)
    text = [recipe for recipe in first if recipe.task == "lm"]
    assert (len(text), len(first) - len(text)) == (15 * 5, 15 * 5) and len(second) == 35
    both = runs_of(["table1", "fig2"], "small", seeds=5)[0]
    assert {recipe.seed for recipe in both[:10]} == {0} and len(both) == 10 * 5


def test_the_command_line_names_what_the_manifest_has(capsys):
    assert main(["reproduce", "table9"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in (*NAMES, "all"))


# --- trials and settings ------------------------------------------------------------------------


def test_every_method_has_the_same_trials_on_validation_data():
    trials = trials_of(NAMES, "small")
    grids = {}
    for recipe, values in trials:
        grids.setdefault((recipe.task, recipe.method), []).append(tuple(values.values()))
        assert recipe.eval_split == "validation" and recipe.seed == TRIAL_SEED
        assert {name: getattr(recipe, name) for name in values} == values
    methods = {("lm", m) for m in recipes.METHODS} | {("image", m) for m in recipes.IMAGE_METHODS}
    assert grids.keys() == methods
    for task, preset in (("lm", 2e-3), ("image", 3e-3)):
        (grid,) = {tuple(sorted(grid)) for (of, _), grid in grids.items() if of == task}
        assert grid == tuple(sorted((r * preset, d) for r in (0.5, 1, 2) for d in (0.01, 0.1)))
    results = {recipe.digest() for stage in runs_of(NAMES, "small", 5) for recipe in stage}
    assert not results & {recipe.digest() for recipe, _ in trials}
    with pytest.raises(ValueError, match="no trials at scale 'full'"):
        trials_of(["table1"], "full")


def tried(best="alibi", values=(1e-3, 0.1)) -> list[dict]:
    """Results of all trials; for one method these values are best, for others the first."""
    results = []
    for recipe, settings in trials_of(["table1", "table3"], "small"):
        wins = recipe.method == best and tuple(settings.values()) == values
        value = 5.0 if not wins else 4.0 if recipe.task == "lm" else 6.0
        results.append(results_of(recipe, value, settings=settings))
    return results


def test_settings_are_the_best_trial_of_each_method():
    chosen = settings_from(tried())
    assert chosen["lm"].keys() == recipes.METHODS.keys()
    assert chosen["lm"]["alibi"] == {"learning_rate": 1e-3, "weight_decay": 0.1}
    assert chosen["lm"]["seqpe"] == {"learning_rate": 2e-3, "weight_decay": 0.01}
    images = settings_from(tried("learned", (6e-3, 0.01)))["image"]
    assert images["learned"] == {"learning_rate": 6e-3, "weight_decay": 0.01}  # more is better
    assert settings_from([]) == {"lm": {}, "image": {}}


def test_the_mean_is_taken_in_nats_and_a_trial_that_diverged_never_wins():
    first, second, third = (trial for trial in tried()[:3])
    first["perplexity"] = {"64": 10.0, "128": 10.0}
    second["perplexity"] = {"64": 1.0, "128": 20.0}  # a higher mean, but fewer nats
    third["perplexity"] = {"64": math.nan, "128": 1.0}
    failed = {k: v for k, v in tried()[3].items() if k != "perplexity"}
    failed |= {"failed": "loss is nan", "task": "lm"}
    for trials in ([first, second, third, failed], [failed, third, second, first]):
        assert settings_from(trials)["lm"]["none"] == second["settings"]


def test_trials_that_do_not_compare_are_refused():
    with pytest.raises(ValueError, match="'lm' were tried with 2 different grids.*none 5"):
        settings_from(tried()[1:])
    for change in ({"split": "test"}, {"seed": 0}):
        with pytest.raises(ValueError, match="chosen on the validation split with seed 100"):
            settings_from([tried()[0] | change])


def assert_the_settings_are_those_of_the_trials():
    trials = committed_if_any("trials-small")
    assert settings_from(trials) == SETTINGS, "recipes/chosen_settings.py is not what trials say"


@pytest.mark.skipif(
    not results_file("trials-small").exists(), reason="data/results has no trials yet"
)
def test_the_settings_are_those_of_the_committed_trials():
    assert_the_settings_are_those_of_the_trials()


def test_settings_that_differ_from_the_trials_are_found(project):
    results_file("trials-small").parent.mkdir(parents=True)
    results_file("trials-small").write_text(json.dumps(tried()))
    with pytest.raises(AssertionError, match="not what trials say"):
        assert_the_settings_are_those_of_the_trials()


def test_chosen_settings_reach_the_method_and_its_ablations_at_small_scale(monkeypatch):
    chosen = {"learning_rate": 0.5, "weight_decay": 0.25}
    for task, full in chosen_settings.FULL_ROW.items():
        make = MAKERS[task]
        before = {scale: make(full, scale) for scale in SCALES}
        monkeypatch.setitem(SETTINGS[task], full, chosen)
        rows = [m for part in PARTS if part.task == task for m in part.rows if full in m]
        assert len(rows) >= 8
        for recipe in (make(method, "small") for method in rows):
            assert (recipe.learning_rate, recipe.weight_decay) == (0.5, 0.25)
        assert all(make(full, scale) == before[scale] for scale in SCALES if scale != "small")
        assert make("none", "small").learning_rate != 0.5
        assert make(full, "small", learning_rate=0.1).learning_rate == 0.1
    assert recipes.image_model("seqpe-sum", "small").learning_rate != 0.5
    tuned = recipes.question_answering("seqpe", "small")
    assert (tuned.learning_rate, tuned.weight_decay) == (2e-3, 0.25)  # of fine-tuning, of its base


# --- the split ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", MAKERS)
def test_results_are_measured_on_the_recipe_s_split(task):
    measured = {}
    for split in ("validation", "test"):
        work = task_of(MAKERS[task](scale="smoke", eval_split=split))
        data = work.load_data()
        work.check(data)
        torch.manual_seed(0)
        measured[split] = work.evaluate(work.make_model(work.outputs(data)), data)
        assert measured[split]["split"] == split
    measure = {"image": "accuracy", "algorithm": "symbols_right"}.get(task, "perplexity")
    assert measured["validation"][measure] != measured["test"][measure]


def test_the_lengths_are_checked_on_the_split_that_is_used(tiny_recipe, tiny_data):
    recipe = tiny_recipe("none", eval_lens=(450,), max_position=450, eval_tokens=0)
    task_of(recipe).check(tiny_data)  # the test split has 500 tokens
    with pytest.raises(ValueError, match="the validation split gives 400 tokens, too few"):
        task_of(recipe.changed(eval_split="validation")).check(tiny_data)


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_page_shows_means_differences_and_the_paper(part):
    other = next(m for m in methods_of(part, "small") if m != part.reference)
    training = [
        MAKERS[part.task](method, "small", seed)
        for method in methods_of(part, "small")
        for seed in range(5)
    ]
    results = [results_of(r, 20 + r.seed + 3 * (r.method == other)) for r in training]
    page = comparison.page(part, results)
    ours, minus, *beside, paper = page.split("## ")[1:]
    assert bool(beside) == (part.name == "encodings")
    places = len(results[0][part.measure])
    rise = (places - 1) / 2
    decimals = {"perplexity": 2}.get(part.measure, 1)
    mean, deviation = f"{25 + rise:.{decimals}f}", f"{math.sqrt(2.5):.{decimals}f}"
    assert f"| {label(other)} | {25:.{decimals}f} ± {deviation} |" in ours
    assert f"{mean} ± {deviation} | 5 |" in ours and "commit c0ffee" in page
    three = f"{3:+.{decimals}f}"
    cells = f" {three} [{three}, {three}] |" * (places + 1)
    assert f"| {label(other)} |{cells} higher |" in minus
    assert minus.count("| no difference seen |") == len(methods_of(part, "small")) - 2
    assert f"| {label(part.reference)} |" not in minus
    shown = [row for method, row in part.rows.items() if row and label(method) in paper]
    assert len(shown) == len(paper_table(*part.paper))
    figure = comparison.picture(part, results, training[0])
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == len(methods_of(part, "small"))


def test_few_seeds_have_no_verdict():
    (part,) = TABLES["table5"]
    results = [results_of(recipes.image_model(m, "small", s)) for m in part.rows for s in (0, 1)]
    page = comparison.page(part, results)
    assert page.count("too few seeds to say") == 2 and "[" not in page


def test_finished_runs_are_shown_without_training(project, capsys):
    for recipe in runs_of(["table5"], "smoke", 2)[0]:
        finish(recipe)
    out = project / "out"
    assert (
        main(["reproduce", "table5", "--scale", "smoke", "--seeds", "2", "--folder", str(out)]) == 0
    )
    page = (out / "table5-smoke.md").read_text()
    assert page in capsys.readouterr().out and "| SeqPE sum | 5.0 ± 0.0 |" in page
    assert "Table 5" in (out / "table5-smoke.html").read_text()
    assert not (project / "data").exists()  # the committed results stay


def test_a_failed_run_is_named_in_its_row_and_below_the_picture_and_never_averaged(
    project, capsys, monkeypatch
):
    first, *others = runs_of(["table5"], "smoke", 2)[0]
    run = Run(first)
    run.create()
    run.write_failure("diverged at step 5", commit="c0ffee", protocol="p")
    for recipe in others:
        finish(recipe)
    out = project / "out"
    command = ["reproduce", "table5", "--scale", "smoke", "--seeds", "2", "--folder", str(out)]
    assert main(command) == 0  # its state is known, so nothing is trained
    said, page = capsys.readouterr().out, (out / "table5-smoke.md").read_text()
    name = label(first.method)
    assert f"{first.method}, seed {first.seed}: failed: diverged at step 5" in said
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    assert f"| seed {first.seed} failed |" in row and "nan" not in page
    assert f"not shown: {name}, seed {first.seed}, failed: diverged at step 5" in page
    monkeypatch.setattr(collecting, "write_readme", lambda results: None)
    (project / "runs" / "old").mkdir()
    (project / "runs" / "old" / "recipe.json").write_text('{"a_field_of_long_ago": 1}')
    with pytest.warns(UserWarning, match="left out of the tables: .*a_field_of_long_ago"):
        (path,) = collecting.collect("smoke")
    stored = [r for r in json.loads(path.read_text()) if "failed" in r]
    assert [(r["method"], r["seed"]) for r in stored] == [(first.method, first.seed)]
    table = collecting.readme_table(json.loads(path.read_text()))
    assert f"| seed {first.seed} failed |" in table


def test_a_table_of_failed_runs_alone_is_refused(project):
    run = Run(language_model("alibi", "smoke"))
    run.create()
    run.write_failure("loss is nan", commit="c0ffee")
    with pytest.raises(ValueError, match="no method has results(.|\n)*ALiBi, seed 0, failed: loss"):
        collecting.readme_table([run.outcome()])


def test_results_of_several_commits_are_refused_before_anything_is_trained(project, capsys):
    first, second, *others = runs_of(["table5"], "smoke", 1)[0]
    finish(first, commit="dead")
    command = ["reproduce", "table5", "--scale", "smoke", "--seeds", "1"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "of 2 different commits" in said and f"dead: {first.method} seed 0\n" in said
    assert f"c0ffee: {second.method} seed 0, " in said and not Run(second).folder.exists()
    for recipe in (second, *others):
        finish(recipe, commit="dead")
    running.refuse_several_commits([first, second, *others])  # all are of one, if not of this one


def test_collect_refuses_results_of_two_commits(project):
    (project / "README.md").write_text("")
    finish(language_model("alibi", "medium"))
    finish(language_model("seqpe", "medium"), commit="dead")
    with pytest.raises(ValueError, match="c0ffee: alibi seed 0\n  dead: seqpe seed 0"):
        collecting.collect("medium")


def test_runs_share_their_batch_among_processes(project, monkeypatch):
    commands = []

    def run_all(stages, workers, show):
        assert workers == 3
        commands.extend(program.command for stage in stages for program in stage.programs())
        for recipe in runs_of(["table5"], "smoke", 1)[0]:
            finish(recipe)

    monkeypatch.setattr(running, "run_stages", run_all)
    running.reproduce("table5", "smoke", 1, project, workers=3, processes=2, cpu=True)
    assert len(commands) == 3 and all(
        command[2:4] == ["torch.distributed.run", "--standalone"]
        and command[5] == "2"
        and command[-1] == "--cpu"
        for command in commands
    )


def test_trials_are_written_with_what_they_tried(project, monkeypatch):
    def run_all(stages, workers, show):
        assert [len(stage.programs()) for stage in stages] == [48]
        for number, (recipe, _) in enumerate(trials_of(["table1"], "smoke")):
            finish(recipe, value=5.0 + number)

    monkeypatch.setattr(running, "run_stages", run_all)
    running.reproduce("table1", "smoke", None, project / "out", trials=True)
    trials = json.loads((project / "out" / "trials-smoke.json").read_text())
    assert len(trials) == 48 and len(settings_from(trials)["lm"]) == 8
    assert not (project / "data").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--processes", "0"], "--processes must be at least 1"),
        (["--trials", "--seeds", "2"], "--seeds has no effect with --trials"),
        (["--trials", "--collect"], "say all, not table1"),
        (["--trials", "--scale", "full"], "no trials at scale 'full'"),
        (["--slurm", "x", "--cpu", "--workers", "2"], "--workers, --cpu: no effect with --slurm"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, project, capsys):
    assert main(["reproduce", "table1", *options]) == 2
    assert message in capsys.readouterr().err and not list(project.iterdir())


# --- the figures --------------------------------------------------------------------------------


def test_figure_3_shows_five_patches_of_both_encodings(project, tiny_image_recipe, digit_images):
    runs = [
        train(tiny_image_recipe(method, seed), data=digit_images, cpu=True)
        for seed in (0, 1)
        for method in ("learned", "seqpe-mul")
    ]
    figure, page = position_maps.figure_3(runs)
    side = runs[0].recipe.train_shape[0]
    assert len(figure.data) == 10 and figure.data[0].z.shape == (side, side)
    assert "| APE learned |" in page and page.count(" ± ") == 4


def test_figure_2_counts_look_alikes(project, tiny_recipe, text_file):
    source = str(text_file)
    runs = [
        train(tiny_recipe(method, source=source, steps=2, checkpoint_every=2), cpu=True)
        for method in ("seqpe-no-losses", "seqpe-delta-only")
    ]
    figure, page = position_maps.figure_2(runs)
    assert [trace.z.shape for trace in figure.data] == [(8, 8)] * 2  # 64 positions
    assert "| SeqPE, no losses |" in page and "positions 0..63" in page


def test_a_table_s_last_column_is_the_paired_difference_to_seqpe():
    methods = {"none": range(5), "alibi": (0, 1), "rope-1e4": (7,), "seqpe": range(5)}
    results = [
        results_of(language_model(method, "small", seed), 4.0 + seed + (method == "none"))
        for method, seeds in methods.items()
        for seed in seeds
    ]
    heading, _, none, alibi, rope, seqpe = collecting.readme_table(results).splitlines()
    assert heading.endswith("| mean | seeds | mean minus SeqPE |")
    assert none.endswith("| 9.00 ± 1.58 | 5 | +1.00 [+1.00, +1.00] |")
    assert alibi.endswith("| 2 | +0.00 |")  # two seeds give no interval
    assert rope.endswith("| 13.00 | 1 |  |") and seqpe.endswith("| 8.00 ± 1.58 | 5 |  |")
    assert "minus" not in collecting.readme_table(results[:7])


def test_a_diverged_run_is_named_and_not_taken_for_too_few_seeds():
    from seqpe_lab.course.result_tables import difference_table

    seeds = dict.fromkeys(range(5), 5.0)
    values = {"seqpe": {"64": seeds}, "none": {"64": seeds | {2: float("nan")}}}
    assert "| a run failed |" in difference_table(values, "seqpe", "perplexity at", 2)


def test_findings_of_other_papers_are_compared_by_intervals():
    """Student's of three seeds: 4.303 standard errors on each side."""
    values = {
        "rope-1e4": ([5.0, 5.0, 5.0], [9.0, 9.0, 9.0]),
        "rope-1e6": ([5.0, 5.0, 5.0], [9.0, 9.0, 9.0]),
        "fox": ([5.1, 5.2, 5.3], [6.0, 6.1, 6.2]),  # above at 64, below at 1,024
        "pope": ([4.9, 5.2, 4.9], [8.0, 8.1, 8.2]),  # open at 64, below at 1,024
        "seqpe": ([4.8, 4.8, 4.8], [4.8, 4.8, 4.8]),
    }
    results = [
        {
            "method": method,
            "seed": seed,
            "perplexity": {"64": short[seed], "1024": long[seed]},
            "protocol": "p",
        }
        for method, (short, long) in values.items()
        for seed in range(3)
    ]
    judged = [(c.better, c.worse, c.at, d.verdict) for c, d in encoding_claims.judged(results)]
    assert judged == [
        ("fox", "rope-1e6", encoding_claims.TRAINED, "no difference seen"),
        ("pope", "rope-1e4", encoding_claims.TRAINED, "no difference seen"),
        ("fox", "rope-1e6", encoding_claims.LONGEST, "lower"),
        ("pope", "rope-1e4", encoding_claims.LONGEST, "lower"),
    ]
    for result in results:
        if result["method"] == "fox":
            result["perplexity"]["64"] = 5.2 + result["seed"] / 100
    first, *_ = encoding_claims.judged(results)
    assert first[0].better == "fox" and first[1].verdict == "higher"
    said = encoding_claims.summary(results)
    assert "FoX higher than RoPE 10⁶ at 64 (+0.21 [+0.19, +0.23]; Lin et al. 2025)" in said
    assert "repeat 2, contradict 1 and do not decide 1" in said
    assert "| FoX | RoPE 10⁶ | 64 | +0.21 [+0.19, +0.23] | **the opposite** |" in (
        encoding_claims.table(results)
    )


def test_every_finding_is_of_two_rows_of_the_table():
    (table,) = TABLES["encodings"]
    for claim in encoding_claims.CLAIMS:
        assert {claim.better, claim.worse} <= table.rows.keys() and claim.source
