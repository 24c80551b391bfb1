"""Every option of every command: combinations in which it would do nothing are errors."""

import json
import shlex
from typing import get_args

import pytest

from seqpe_lab.cli import app, main
from seqpe_lab.cli.run_commands import State, Task
from seqpe_lab.cli.task_table import TASKS
from seqpe_lab.jobs import STATES
from seqpe_lab.recipes import (
    MAKERS,
    image_model,
    language_model,
    question_answering,
    without_effect,
)
from seqpe_lab.runs import Run

# command: {option: its combinations that are refused; none where it always does something}.
# TEXT, QA, IMAGE and CANVAS are folders of runs, NONE one that does not exist.
REFUSED: dict[str, dict[str, list[str]]] = {
    "train": {
        "--encoding": [
            "lm --encoding alibi --set method=seqpe",
            "lm --encoding rope-1e4 --set encoding=alibi",
            "lm --folder TEXT --encoding alibi",
            "qa --encoding alibi --set base=text",
        ],
        "--scale": [
            "lm --scale smoke --set scale=smoke",
            "lm --folder TEXT --scale small",
            "qa --scale small --set base=text",
        ],
        "--seed": [
            "lm --seed 1 --set seed=1",
            "lm --seed 1 --seed 1",
            "lm --folder TEXT --seed 4",
            "lm --folder TEXT --seed 0",
            "lm --seed 1.5",
        ],
        "--as-published": [
            "lm --encoding rope-1e4 --as-published",
            "lm --as-published --set as_published=true",
            "lm --encoding rope-1e4 --set as_published=true",
            "qa --encoding none --as-published",
            "lm --folder TEXT --as-published",
        ],
        "--set": [
            "lm --set steps=3 --set steps=3",
            "lm --set",
            "lm --encoding alibi --set alpha=0.5",
            "qa --set d_model=16",
            "lm --folder TEXT --set steps=5",
            "lm --cpu --set precision=fp32",
        ],
        "--folder": ["image --folder TEXT", "lm --folder QA"],
        "--cpu": ["lm --cpu --deterministic"],
        "--workers": ["lm --workers -1", "lm --workers 1.5"],
        "--compile": [],
        "--deterministic": ["lm --deterministic --cpu"],
    },
    "evaluate": {
        "--lengths": [
            "IMAGE --lengths 16",
            "TEXT --lengths 32 32",
            "TEXT --lengths 0",
            "TEXT --lengths 16.5",
        ],
        "--sizes": ["TEXT --sizes 16", "QA --sizes 16", "IMAGE --sizes 16 --sizes 16"],
        "--protocol": ["IMAGE --protocol sliding", "QA --protocol sliding"],
        "--stride": [
            "TEXT --stride 4",
            "TEXT --protocol non-overlapping --stride 4",
            "QA --stride 4",
            "IMAGE --stride 4",
            "TEXT --books --stride 4",
            "TEXT --protocol sliding --stride 33",
            "TEXT --protocol sliding --stride 2.5",
        ],
        "--split": ["TEXT --books --split test"],
        "--books": ["QA --books", "IMAGE --books"],
        "--count": ["TEXT --count 3", "QA --count 3", "IMAGE --count 3", "TEXT --books --count 0"],
        "--cpu": [],
    },
    "context": {"--file": [], "--split": [], "--tokens": ["TEXT --tokens 0"], "--cpu": []},
    "card": {
        "--set": ["rope --set base=10 --set base=20", "rope --set base"],
        "--skip-long": [],
        "--train": [],
        "--folder": [],
        "--json": [],
    },
    "released": {
        "--task": [],
        "--lengths": ["NONE --task image --lengths 64", "NONE --lengths 0"],
        "--sizes": ["NONE --sizes 224", "NONE --task lm --sizes 224"],
        "--source": [],
        "--tokenizer": ["NONE --task image --tokenizer gpt2"],
        "--images": ["NONE --images 5", "NONE --task image --images 0"],
        "--cpu": [],
    },
    "figures": {
        "--folder": [],
        "--scale": [],
        "--seed": ["--seed -1"],
        "--workers": ["--workers 0", "--workers -1"],
    },
    "course": {
        "--folder": [],
        "--scale": ["--notebooks-only --scale smoke"],
        "--workers": ["--workers 0", "--notebooks-only --workers 2"],
        "--notebooks-only": ["--scale smoke --notebooks-only"],
    },
    "site": {"--folder": [], "--scale": [], "--workers": ["--workers 0"]},
    "slides": {"--folder": [], "--dark": []},
    "gallery": {"--figures": []},
    "explorers": {"--folder": []},
    "collect": {"--scale": []},
    "reproduce": {
        "--scale": [],
        "--seeds": ["table1 --trials --seeds 3", "table1 --seeds 0"],
        "--trials": ["table1 --trials --collect", "table1 --trials --scale full"],
        "--folder": ["table1 --slurm jobs --folder pages", "all --trials --collect --folder pages"],
        "--collect": ["table1 --slurm jobs --collect"],
        "--workers": ["table1 --slurm jobs --workers 2", "table1 --workers 0"],
        "--processes": ["table1 --slurm jobs --processes 2", "table1 --processes 0"],
        "--cpu": ["table1 --slurm jobs --cpu"],
        "--slurm": [],
    },
    "bundle": {"--further": []},
    "runs": {"--folder": [], "--task": [], "--encoding": [], "--scale": [], "--state": []}
    | {"--json": []},
    "doctor": {},
}
NAMES = {  # what else an error may call an option
    "--encoding": "method",
    "--seed": "seed",
    "--scale": "scale",
    "--as-published": "as_published",
    "--folder": "a run of another task",
    "--trials": "no trials at scale",
    "--set": "d_model=16 is not that of the language model",
}
LINES = [
    (command, option, line)
    for command, options in REFUSED.items()
    for option, lines in options.items()
    for line in lines
]


def test_the_table_holds_every_command_and_option():
    options = {
        command: {
            argument.parameter.name[0]
            for argument in app[command].assemble_argument_collection()
            if argument.parameter.name[0].startswith("--")
        }
        for command in app
        if not command.startswith("-")
    }
    assert options == {command: set(known) for command, known in REFUSED.items()}


def test_the_commands_know_every_task():
    assert get_args(Task) == tuple(TASKS) == tuple(MAKERS)
    assert all(entry.recipe.task == task for task, entry in TASKS.items())


def test_runs_can_be_filtered_by_every_state():
    assert get_args(State) == (*STATES, "damaged")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{name in a line of the table: a folder}; no run in them is trained."""
    root = tmp_path_factory.mktemp("runs")
    made = {
        "TEXT": language_model("seqpe", "smoke", 3),
        "QA": question_answering("alibi", "smoke"),
        "IMAGE": image_model("learned", "smoke"),
    }
    for name, recipe in made.items():
        Run(recipe, root / name.lower()).create()
    return {name: str(root / name.lower()) for name in (*made, "NONE")}


@pytest.mark.parametrize("command, option, line", LINES, ids=lambda value: value)
def test_an_option_that_would_do_nothing_is_an_error(
    command, option, line, folders, monkeypatch, capsys
):
    def started(*arguments, **options):
        pytest.fail("the command did something")

    for place in (
        "training.train",
        "tasks.text_data.load_text",
        "models.published_checkpoints.find",
        "site.building.make_figures",
        "site.course_folder.make_course",
        "reproduction.running.run_stages",
        "reproduction.running.write_scripts",
    ):
        monkeypatch.setattr(f"seqpe_lab.{place}", started)
    monkeypatch.setenv("SEQPE_RUNS", str(folders["TEXT"]).removesuffix("text"))
    monkeypatch.setenv("SEQPE_SCALE", "smoke")
    arguments = [folders.get(word, word) for word in shlex.split(line)]
    assert main([command, *arguments]) == 2
    printed, error = capsys.readouterr()
    assert not printed and error.count("\n") == 1
    assert any(word in error for word in (option, NAMES.get(option, option))), error


@pytest.mark.parametrize(
    "arguments",
    [["train", "lm", "--folder", ""], ["reproduce", "all", "--slurm="], ["evaluate", ""]],
)
def test_an_empty_argument_is_refused(arguments, capsys):
    """An unset variable of the shell must not become the default folder."""
    assert main(arguments) == 2
    assert "an argument is empty" in capsys.readouterr().err


# --- fields of --set -----------------------------------------------------------------------------

# task, method, settings: the fields among them that do nothing, and why
IDLE = [
    ("lm", "alibi", "pivots=4", "pivots", "encoding 'alibi'"),
    ("lm", "alibi", "shifted=0.5", "shifted", "encoding 'alibi'"),
    ("lm", "rope-1e4", "clip_separately=true", "clip_separately", "encoding 'rope'"),
    ("image", "learned", "teachers=4", "teachers", "encoding 'learned'"),
    ("lm", "seqpe-ood-only", "candidates=4", "candidates", "alpha is 0"),
    ("lm", "seqpe", "alpha=0 local=0.1", "local", "alpha is 0"),
    ("lm", "seqpe-delta-only", "teachers=4", "teachers", "beta is 0"),
    ("lm", "seqpe", "local=1 hard_share=0.5", "hard_share", "local is 1"),
    ("lm", "seqpe", "hard=0 hard_share=0.5", "hard_share", "hard is 0"),
    ("lm", "seqpe", "hard_share=0 hard=1", "hard", "hard_share is 0"),
    ("lm", "seqpe-unshifted", "shift_unit=batch", "shift_unit", "shifted is 0"),
    ("lm", "seqpe", "distill_shifted=false", "distill_shifted", "shift_unit is not 'batch'"),
    ("qa", "seqpe", "eval_tokens=8", "eval_tokens", "eval_questions"),
    ("qa", "seqpe", "source=book.txt", "source", "'bpe:N' tokenizer"),
    ("qa", "alibi", "new_projection=false", "new_projection", "encoding 'alibi'"),
    ("image", "seqpe-mul", "erasing=0.5", "erasing", "augment is 'zoom'"),
    ("image", "seqpe-mul", "augment=place crop=0.2", "crop", "augment is 'place'"),
]


@pytest.mark.parametrize("task, method, settings, field, reason", IDLE)
def test_a_field_without_effect_is_refused(
    task, method, settings, field, reason, monkeypatch, capsys
):
    monkeypatch.setattr("seqpe_lab.training.train", lambda *_, **__: pytest.fail("trained"))
    command = ["train", task, "--encoding", method, "--scale", "smoke", "--set"]
    assert main([*command, *settings.split()]) == 2
    error = capsys.readouterr().err
    assert f"--set {field}=" in error and "has no effect" in error and reason in error


@pytest.mark.parametrize(
    "recipe",
    [
        language_model("seqpe", "smoke", shift_unit="batch"),
        image_model("seqpe-mul", "smoke", shift_unit="batch", augment="deit"),
    ],
    ids=["text", "images"],
)
def test_all_fields_of_a_full_recipe_count(recipe):
    assert without_effect(recipe) == {}


# --- values, suggestions, and advice that names what was typed -----------------------------------


@pytest.mark.parametrize(
    "setting, value",
    [
        ("source=2024", "2024"),
        ("source=null", "null"),
        ("source=[a].txt", "[a].txt"),
        ('source="2024"', "2024"),
        ("seed=3", 3),
        ("eval_lens=[32, 64]", (32, 64)),
        ("precision=fp32", "fp32"),
        ('encoding_options={"digits": 4}', {"digits": 4}),
    ],
)
def test_words_and_paths_are_taken_as_they_are_and_other_values_as_json(
    setting, value, monkeypatch
):
    asked = []
    monkeypatch.setattr("seqpe_lab.training.train", lambda recipe, *_, **__: asked.append(recipe))
    with pytest.raises(AttributeError):  # the stand-in returns no run to report on
        main(["train", "lm", "--scale", "smoke", "--set", setting])
    assert getattr(asked[0], setting.split("=")[0]) == value


@pytest.mark.parametrize(
    "line, suggestion",
    [
        ("rnus", '"runs"'),
        ("trian lm", '"train"'),
        ("train lm --scale smal", '"small"'),
        ("train lm --sead 3", "--seed"),
        ("train lm --encoding rpoe", "'rope-1e4'"),
        ("train lm --encoding Seqpe", "'seqpe'"),
        ("train image --encoding rope-axil", "'rope-axial'"),
        ("train lm --set stpes=3", "'steps'"),
        ("train lm --set eval_len=[8]", "'eval_lens'"),
        ("train lm --set encoding=alibbi", "'alibi'"),
        ("train lm --set precision=bf61", "'bf16'"),
        ('train lm --encoding rope-1e4 --set encoding_options={"bsae":10}', "'base'"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_one(line, suggestion, capsys):
    assert main(line.split()) == 2
    assert f"id you mean {suggestion}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, advice",
    [
        ("TEXT --lengths 2048", "--lengths 2048 reaches beyond max_position=240 of this run"),
        ("QA --lengths 230", "choose at most 224"),
        ("QA --lengths 8", "--lengths 8 leaves no room for some of the questions"),
        ("TEXT --protocol sliding --stride 40", "the shortest of --lengths"),
        ("IMAGE --sizes 17", "--sizes 17: this run takes multiples of its patch of 4 pixels"),
        ("IMAGE --sizes 96", "up to 64"),
    ],
)
def test_advice_names_the_option_that_was_typed(line, advice, folders, capsys):
    assert main(["evaluate", *(folders.get(word, word) for word in line.split())]) == 2
    assert advice in capsys.readouterr().err


def test_a_length_that_the_text_does_not_have_is_answered_with_the_longest(
    folders, monkeypatch, capsys
):
    """The recipe reads 1,024 tokens at most."""
    monkeypatch.setattr("seqpe_lab.evaluation.trained_model", lambda *_: None)
    recipe = language_model("alibi", "smoke", max_position=4_000)
    Run(recipe, folders["TEXT"] + "-long").create()
    assert main(["evaluate", folders["TEXT"] + "-long", "--lengths", "64", "2048"]) == 2
    error = capsys.readouterr().err
    assert "2048" in error and "give --lengths of at most 1024" in error


def test_books_out_of_reach_are_answered_with_the_option_that_was_typed(
    folders, monkeypatch, capsys
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # refuses at once
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert main(["evaluate", folders["TEXT"], "--books", "pg19"]) == 2
    error = capsys.readouterr().err
    assert "their path as --books" in error and "use --books python" in error


def test_a_field_without_effect_may_name_the_value_that_it_has_anyway(monkeypatch):
    """So a whole recipe can be given field by field, as other programs do."""
    recipe = language_model("alibi", "smoke", 2)
    asked = []
    monkeypatch.setattr("seqpe_lab.training.train", lambda recipe, *_, **__: asked.append(recipe))
    fields = json.loads(recipe.to_json()).items()
    settings = [f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in fields]
    with pytest.raises(AttributeError):  # the stand-in returns no run to report on
        main(["train", "lm", "--set", *settings])
    assert asked == [recipe]
