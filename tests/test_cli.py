"""python -m seqpe_lab train | evaluate | runs | doctor | figures"""

import json
import re
import shlex
import subprocess
import sys

import fork_server
import pytest

from seqpe_lab.cli import app, main
from seqpe_lab.recipes import METHODS, SCALES, image_model, language_model, question_answering
from seqpe_lab.runs import Run


@pytest.fixture(scope="module")
def trained(text_file, tmp_path_factory):
    """A folder that `train lm --set ... --folder ...` has filled."""
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = dict(
        source=str(text_file),
        d_model=16,
        layers=1,
        heads=2,
        train_len=16,
        max_position=64,
        steps=3,
        pivots=4,
        candidates=4,
        hard=1,
        distillation_batch=2,
        teachers=4,
        eval_lens=[16, 32],
        eval_tokens=64,
        encoding_options={"integration": "sum"},
    )
    status = main(
        [
            "train",
            "lm",
            "--encoding",
            "seqpe",
            "--scale",
            "smoke",
            "--seed",
            "5",
            "--cpu",
            "--folder",
            str(folder),
            "--set",
            *(
                f"{name}={value if isinstance(value, str) else json.dumps(value)}"
                for name, value in settings.items()
            ),
        ]
    )
    assert status == 0
    return folder


def test_train_takes_every_field_of_the_recipe(trained):
    recipe = Run.open(trained).recipe
    assert (recipe.method, recipe.scale, recipe.seed, recipe.steps, recipe.eval_lens) == (
        "seqpe",
        "smoke",
        5,
        3,
        (16, 32),
    )
    assert recipe.encoding_options == {"integration": "sum"}
    assert Run.open(trained).state == "finished"


def shown_table(printed: str) -> list[list[str]]:
    """The rows of the first table that was printed, whose columns are two spaces apart."""
    lines = printed.split("\n\n")[1].splitlines()
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    return [row for row in rows if len(row) == len(rows[0])]


def test_train_on_a_folder_with_a_recipe_needs_no_other_option_and_shows_a_finished_run(
    trained, capsys
):
    assert main(["train", "lm", "--folder", str(trained)]) == 0
    printed = capsys.readouterr().out
    found = printed.splitlines()[0]
    assert found.startswith(f"{trained}: finished before, nothing is trained; lm, method seqpe,")
    assert all(f" {setting}" in found for setting in ("seed 5", "steps=3", "eval_lens=[16,32]"))
    results = Run.open(trained).results()
    assert shown_table(printed) == [
        ["context (tokens)", "perplexity (per byte)"],
        *([length, f"{value:.2f}"] for length, value in results["perplexity"].items()),
    ]
    assert (
        "on 64 tokens (non-overlapping, test split)" in printed
        and f"data: text.txt, hash {results['data']['hash']}" in printed
        and "0.00 % of the test text's windows of 50 bytes also occur in the training" in printed
    )


def test_train_ends_with_commands_that_work(trained, trained_image, capsys):
    for task, folder in (("lm", trained), ("image", trained_image)):
        assert main(["train", task, "--folder", str(folder)]) == 0
        *_, evaluate, runs = capsys.readouterr().out.splitlines()
        for line, command in ((evaluate, "evaluate"), (runs, "runs")):
            program, arguments = line.removeprefix("next:").split(f" {command}", 1)
            assert program.strip() == "python -m seqpe_lab"
            assert main([command, *shlex.split(arguments)]) == 0
        assert str(folder) in capsys.readouterr().out  # the list holds the run


def test_evaluate_shows_the_stored_perplexities(trained, capsys):
    assert main(["evaluate", str(trained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, (length, value) in zip(lines, Run.open(trained).results()["perplexity"].items()):
        assert (
            f"{length} tokens: perplexity {value:.4f} (non-overlapping" in line
            and "of the test split" in line
        )
    assert len(lines) == 2


@pytest.fixture(scope="module")
def trained_image(tmp_path_factory):
    """A folder that `train image --set ... --folder ...` has filled."""
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = dict(
        d_model=16,
        layers=1,
        image_size=8,
        max_position=10,
        steps=2,
        pivots=4,
        candidates=4,
        hard=1,
        distillation_batch=2,
        teachers=4,
        eval_sizes=[8, 12],
        eval_images=30,
    )
    assert (
        main(
            [
                "train",
                "image",
                "--method",
                "seqpe-bias",
                "--scale",
                "smoke",
                "--seed",
                "5",
                "--cpu",
                "--folder",
                str(folder),
                "--set",
                *(f"{name}={json.dumps(value)}" for name, value in settings.items()),
            ]
        )
        == 0
    )
    return folder


def test_images_are_trained_shown_and_listed_like_text(trained_image, capsys):
    recipe, results = Run.open(trained_image).recipe, Run.open(trained_image).results()
    assert (recipe.method, recipe.scale, recipe.seed, recipe.steps, recipe.eval_sizes) == (
        "seqpe-bias",
        "smoke",
        5,
        2,
        (8, 12),
    )
    assert main(["train", "image", "--folder", str(trained_image)]) == 0
    printed = capsys.readouterr().out
    assert (
        str(trained_image) in printed
        and "whole image, resized" in printed
        and "test split" in printed
    )
    assert shown_table(printed) == [
        ["image side (pixels)", "top-1 accuracy (%)", "the same, position vectors interpolated"],
        *(
            [size, f"{value:.2f}", f"{results['interpolated'][size]:.2f}"]
            for size, value in results["accuracy"].items()
        ),
    ]
    assert main(["runs", "--folder", str(trained_image.parent)]) == 0
    heading, header, line = capsys.readouterr().out.splitlines()
    assert heading == "images, scale smoke: 1 run; top-1 accuracy (%) by image side (pixels)"
    assert header.split()[:6] == ["state", "steps", "method", "seed", "8", "12"]
    assert (
        line.startswith("finished")
        and "2/2" in line
        and f"{results['accuracy']['8']:.2f}  {results['accuracy']['12']:.2f}" in line
    )


def test_evaluate_takes_sizes_and_split_of_images(trained_image, capsys):
    assert (
        main(["evaluate", str(trained_image), "--sizes", "16", "20", "--split", "validation"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["16", "20"] and all(
        "top-1" in line and "of the validation split" in line for line in lines
    )


def test_evaluate_shows_the_stored_accuracies(trained_image, capsys):
    assert main(["evaluate", str(trained_image)]) == 0
    for line, (size, value) in zip(
        capsys.readouterr().out.splitlines(), Run.open(trained_image).results()["accuracy"].items()
    ):
        assert f"{size} pixels: top-1 {value:.2f} % (30 images of the test split, fp32)" in line


@pytest.mark.parametrize(
    "options",
    [["--lengths", "16"], ["--protocol", "sliding"], ["--stride", "2"]],
    ids=lambda o: o[0],
)
def test_evaluate_refuses_options_of_the_other_task(options, trained_image, trained, capsys):
    assert main(["evaluate", str(trained_image), *options]) == 2
    assert main(["evaluate", str(trained), "--sizes", "16"]) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (["--stride", "2"], "--stride 2 has no effect without --protocol sliding"),
        (
            ["--stride", "2", "--protocol", "non-overlapping"],
            "--stride 2 has no effect without --protocol sliding",
        ),
        (["--count", "2"], "--count 2 has no effect without --books"),
        (["--books", "--split", "test"], "--split has no effect beside --books"),
        (["--sizes", "16"], "is a run on text: it takes --lengths, --protocol"),
        (["--books", "python", "pg19"], "--books accepts at most 1"),
        (["--lengths"], "--lengths requires at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_evaluate_refuses_options_without_effect(options, message, trained, capsys):
    assert main(["evaluate", str(trained), *options]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_refuses_books_of_images(trained_image, capsys):
    assert main(["evaluate", str(trained_image), "--books"]) == 2
    assert "it takes --sizes, --split, not --books" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--encoding", "seqpe"],
        ["--method", "seqpe"],
        ["--seed", "5"],
        ["--scale", "smoke"],
        ["--as-published"],
        ["--set", "steps=3"],
    ],
    ids=lambda options: options[0],
)
def test_train_refuses_options_that_ask_for_another_recipe_than_the_folder_s(
    options, trained, capsys
):
    assert main(["train", "lm", "--folder", str(trained), *options]) == 2
    message = capsys.readouterr().err
    assert "holds a run of another recipe than" in message and "leave them out" in message


@pytest.fixture
def asked(monkeypatch):
    """The recipes that `train` would have trained."""
    recipes = []

    def refuse(recipe, *arguments, **options):
        recipes.append(recipe)
        raise ValueError("not now")

    monkeypatch.setattr("seqpe_lab.training.train", refuse)
    return recipes


@pytest.mark.parametrize(
    "arguments, recipe",
    [
        ("lm --as-published", language_model("seqpe", "smoke", as_published=True)),
        ("lm --set as_published=true", language_model("seqpe", "smoke", as_published=True)),
        ("qa --as-published", question_answering("seqpe", "smoke", as_published=True)),
        (
            "image --method seqpe-sum --seed 2 --as-published --set local=0.3",
            image_model("seqpe-sum", "smoke", 2, as_published=True, local=0.3),
        ),
        ("lm --set steps=3 batch=4 micro_batch=2", dict(steps=3, batch=4, micro_batch=2)),
        ("lm --set steps=3 --set batch=4 --set micro_batch=2", dict(steps=3, batch=4)),
        ("lm --set steps=3 --cpu --set alpha=0.5", dict(steps=3, alpha=0.5)),
        ("lm --set scale=small seed=4", dict(scale="small", seed=4, d_model=96)),
    ],
)
def test_train_makes_the_recipe_that_was_asked_for(arguments, recipe, asked):
    assert main(["train", *arguments.split()]) == 2
    expected = recipe.items() if isinstance(recipe, dict) else recipe
    assert all(getattr(asked[0], name) == value for name, value in expected)


def test_the_same_command_again_goes_on_in_its_folder(asked, tmp_path):
    recipe = language_model("alibi", "smoke", 2, steps=3)
    Run(recipe, tmp_path).create()
    command = ["train", "lm", "--encoding", "alibi", "--scale", "smoke", "--seed", "2"]
    assert main([*command, "--set", "steps=3", "--folder", str(tmp_path)]) == 2
    assert asked == [recipe]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--set", "steps=3", "--set", "steps=4"], "--set names steps twice: 3 and '4'"),
        (["--seed", "1", "--set", "seed=2"], "seed: given both as an option and with --set"),
        (["--seed", "1", "--seed", "2"], "--seed specified multiple times"),
        (["--set"], "--set requires at least 1"),
        (["--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--sed", "1"], "Unknown option: --sed. Did you mean --seed?"),
        (["more"], "more"),
    ],
)
def test_train_refuses_what_it_cannot_mean(options, message, asked, capsys):
    assert main(["train", "lm", *options]) == 2 and not asked
    assert message in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_an_unknown_command_is_answered_with_the_nearest_one(capsys):
    assert main(["evalute"]) == 2
    assert 'Did you mean "evaluate"?' in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--encoding", "alibi"], ["--scale", "small"]])
def test_tuning_refuses_what_its_base_decides(options, trained, asked, monkeypatch, capsys):
    monkeypatch.setenv("SEQPE_RUNS", str(trained.parent))
    sets = ["--set", "base=run", "train_len=40", "eval_lens=[40]"]
    assert main(["train", "qa", *sets, *options]) == 2 and not asked
    message = capsys.readouterr().err
    assert "base" in message and "leave" in message and options[1] in message


def test_released_refuses_options_of_the_other_task(tmp_path, capsys):
    for options in (["--images", "5"], ["--sizes", "224"], ["--task", "image", "--lengths", "9"]):
        assert main(["released", str(tmp_path), *options]) == 2
        assert "belong to --task" in capsys.readouterr().err


def test_train_refuses_a_folder_of_the_other_task(trained_image):
    assert main(["train", "lm", "--folder", str(trained_image)]) == 2


def test_evaluate_takes_lengths_protocol_and_split(trained, capsys):
    assert (
        main(
            [
                "evaluate",
                str(trained),
                "--lengths",
                "8",
                "--protocol",
                "sliding",
                "--stride",
                "2",
                "--split",
                "validation",
            ]
        )
        == 0
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert (
        line.strip().startswith("8 tokens: perplexity")
        and "sliding, stride 2" in line
        and "validation split" in line
    )


def test_runs_lists_state_steps_and_results(trained, tmp_path, capsys):
    assert main(["runs", "--folder", str(trained.parent)]) == 0
    heading, header, line = capsys.readouterr().out.splitlines()
    assert heading.endswith("1 run; perplexity (per token) by context (tokens)")
    assert line.startswith("finished") and "3/3" in line and str(trained) in line
    measured = Run.open(trained).results()["perplexity"]
    assert [line[header.index(at) - 4 :].split()[0] for at in (" 16", " 32")] == [
        f"{value:.2f}" for value in measured.values()
    ]
    assert main(["runs", "--folder", str(tmp_path)]) == 0
    assert f"no runs in {tmp_path}" in capsys.readouterr().out


def test_doctor_names_packages_and_what_each_scale_needs(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert all(f"scale {scale}" in printed for scale in SCALES)
    assert all(
        part in printed
        for part in ("python 3.", "cores", "GPUs:", "GiB", "torch", "plotly", "browser")
    )


def test_figures_hands_its_options_on(monkeypatch, tmp_path):
    from seqpe_lab.site import building

    asked = []
    monkeypatch.setattr(building, "make_figures", lambda *arguments: asked.append(arguments))
    assert (
        main(
            [
                "figures",
                "--folder",
                str(tmp_path),
                "--scale",
                "smoke",
                "--seed",
                "2",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    assert asked == [(tmp_path, "smoke", 2, 1)]


COMMANDS = [name for name in app if not name.startswith("-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_every_option(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: python -m seqpe_lab {command}")
    printed = " ".join(printed.replace("│", " ").split())  # however wide the terminal is
    assert " ".join(app[command].help.splitlines()[0].split()) in printed
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        description = argument.parameter.help
        assert description and all(name in printed for name in argument.parameter.name)
        assert " ".join(description.split()) in printed


def test_help_of_train_names_every_method(capsys):
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(method in printed for method in METHODS)


def test_help_needs_no_torch(project):
    """The package's own __init__ aside, which offers the classes of the core."""
    program = """
import sys, types
package = types.ModuleType("seqpe_lab")
package.__path__ = ["seqpe_lab"]
sys.modules |= {"seqpe_lab": package, "torch": None}
from seqpe_lab.cli import main
sys.exit(main(["train", "--help"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--as-published" in done.stdout, done.stderr


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    from seqpe_lab.site import building

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "make_figures", interrupted)
    assert main(["figures"]) == 130
    assert (
        capsys.readouterr().err == "seqpe_lab: interrupted; start the same command again to go on\n"
    )


def test_a_training_that_a_signal_stopped_has_a_status_of_its_own(asked, monkeypatch, capsys):
    from seqpe_lab.stop_signals import Interrupted

    def stopped(recipe, *arguments, **options):
        assert options["deterministic"]
        raise Interrupted("SIGTERM stopped the training after step 7")

    monkeypatch.setattr("seqpe_lab.training.train", stopped)
    assert main(["train", "lm", "--deterministic"]) == 75
    assert capsys.readouterr().err == "seqpe_lab: SIGTERM stopped the training after step 7\n"


def test_the_program_itself_ends_with_status_2_and_one_line():
    program = "import runpy; runpy.run_module('seqpe_lab', run_name='__main__', alter_sys=True)"
    arguments = ["train", "lm", "--encoding", "rotary", "--scale", "smoke"]
    done = fork_server.python(program, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.count("\n") == 1
        and "unknown method 'rotary': choose from none, sinusoidal" in done.stderr
    )
