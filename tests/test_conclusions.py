"""What is concluded from results, in lessons and README, follows from their intervals alone.

The results are made up: as in the paper, against it, or tied and with a diverged run.
"""

import ast
import contextlib
import io
import json
import math
import re
import shutil

import nbformat
import pytest
from made_up_results import FILES, PROJECT, WORLDS, made_up
from page_parts import part_of
from plotly.graph_objects import Figure

from seqpe_lab import package_data
from seqpe_lab.course import predictions
from seqpe_lab.course.lesson import Lesson
from seqpe_lab.package_data import committed_results
from seqpe_lab.reproduction import collecting, conclusions, findings
from seqpe_lab.reproduction.conclusions import compare_own_runs, follows_protocol, standing, summary
from seqpe_lab.reproduction.findings import Finding, of_table

MEASURE = {"lm": "perplexity", "image": "accuracy", "qa": "exact_match"}
HEADLINE = "**Against the paper: "
FEW = (
    "- With fewer than five seeds no interval exists, and nothing is concluded about these rows.\n"
)


def verdict(world: str, table: str, method: str, other: str = "") -> Finding:
    task = findings.PARTS[table].task
    found = of_table(table, made_up(task, world))
    (one,) = (f for f in found if (f.method, f.other) == (method, other))
    return one


# --- findings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table, method, other, as_in_the_paper, against_the_paper, tied",
    [
        ("table1", "alibi", "seqpe", "worse", "better", "no difference seen"),
        ("table1", "none", "seqpe", "worse", "worse", "failed"),
        ("table1", "none", "", "not flat", "not flat", "failed"),
        ("table1", "seqpe", "", "flat", "flat", "flat"),
        ("table4-text", "seqpe-delta-only", "", "flat", "not flat", "undecided"),
        ("table4-text", "seqpe-ood-only", "seqpe-no-losses", "worse", "better", "worse"),
        ("table3", "rope-mixed", "learned", "better", "worse", "no difference seen"),
        ("table5", "seqpe-bias", "seqpe-sum", "better", "worse", "better"),
        ("table2-exact-match", "alibi", "seqpe", "worse", "better", "no difference seen"),
    ],
)
def test_verdicts_follow_the_results(
    table, method, other, as_in_the_paper, against_the_paper, tied
):
    expected = dict(zip(WORLDS, (as_in_the_paper, against_the_paper, tied)))
    found = {world: verdict(world, table, method, other) for world in WORLDS}
    assert {world: finding.verdict for world, finding in found.items()} == expected
    assert not found["as in the paper"].contradicts and not found["tied"].contradicts
    against = found["against the paper"]
    assert against.contradicts is (against_the_paper != as_in_the_paper)


def test_fewer_than_five_seeds_decide_nothing():
    for task, measure in MEASURE.items():
        results = made_up(task, "as in the paper", seeds=4)
        text = conclusions.conclusions(measure, results)
        assert text.endswith(f"\n\n{FEW}") and text.startswith("4 seeds a row, of 1 commit.")
        assert not follows_protocol(results)


def test_a_row_with_fewer_seeds_is_named_and_the_others_are_decided():
    results = [
        r for r in made_up("lm", "as in the paper") if r["method"] != "alibi" or r["seed"] < 3
    ]
    text = summary(of_table("table1", results))
    assert "nothing is concluded about ALiBi.\n" in text and "worse than SeqPE: NoPE; " in text


def test_one_seed_is_decided_by_its_sign_only_where_that_is_asked():
    own = [r for r in made_up("lm", "against the paper") if r["seed"] == 0]
    assert {f.verdict for f in of_table("table1", own)} == {findings.FEW}
    found = {(f.method, f.other): f for f in of_table("table1", own, one_seed=True)}
    assert found["alibi", "seqpe"].verdict == "better" and found["seqpe", ""].verdict == "flat"
    assert "[" not in found["alibi", "seqpe"].evidence


# --- the README -----------------------------------------------------------------------------------


def generated(world: str, task: str) -> str:
    return conclusions.conclusions(MEASURE[task], made_up(task, world))


def test_what_contradicts_the_paper_is_said_first_and_only_where_it_does():
    for task in MEASURE:
        assert HEADLINE not in generated("as in the paper", task)
        assert HEADLINE not in generated("tied", task)
        lines = generated("against the paper", task).splitlines()[2:]
        bold = [HEADLINE in line for line in lines]
        assert bold == sorted(bold, reverse=True) and any(bold)
    text = generated("against the paper", "lm")
    assert f"{HEADLINE}SeqPE, L_OOD only is better than SeqPE, no losses** (9.5" in text
    assert f"{HEADLINE}SeqPE, L_δ only is not flat** (× 4." in text
    assert text.count(HEADLINE) == 4


def test_a_diverged_run_is_named_and_a_tie_is_a_tie():
    text = generated("tied", "lm")
    assert "- Failed, so that nothing is concluded about the row: seed 2 of NoPE.\n" in text
    assert "nan" not in text
    title = conclusions.picture("table1", made_up("lm", "tied")).layout.title.text
    assert title.endswith(", committed results (a run failed, no line: NoPE)")
    (tie,) = (line for line in text.splitlines() if line.startswith("- No difference seen from"))
    assert tie.startswith("- No difference seen from SeqPE: ALiBi (4.9")
    assert "- Flat or not is open: SeqPE, L_δ only (× 1.10 [1." in text


@pytest.mark.parametrize(
    "world, said",
    [
        ("as in the paper", "SeqPE is better than ALiBi (4.9"),
        ("against the paper", "SeqPE is worse than ALiBi (4.9"),
        ("tied", "no difference seen between SeqPE and ALiBi (4.9"),
    ],
)
def test_collect_writes_what_follows(world, said, another_project, monkeypatch):
    drawn = []
    monkeypatch.setattr(collecting, "write_image", lambda figure, path: drawn.append(path.name))
    readme, folder = another_project / "README.md", another_project / "data" / "results"
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "README.md", readme)
    for task, name in FILES.items():
        results = made_up(task, world)
        (folder / f"{name}.json").write_text(json.dumps(results), encoding="utf-8")
        collecting.write_readme(results)
        text = readme.read_text(encoding="utf-8")
        part = part_of(text, f"{MEASURE[task]} conclusions")
        assert part == generated(world, task) and "all of commit c0ffee" in part
    assert said in part_of(text, "headline") and drawn == ["extrapolation.png"]
    if world == "tied":
        assert "| NoPE | seed 2 failed | " in text and "| seed 2 failed | 5 | failed |" in text


# --- the lessons ----------------------------------------------------------------------------------


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """A function: the tagged cells of a lesson, with made-up committed results -> what they show.

    Their own run is the first seed of the same world.
    """
    monkeypatch.setenv("SEQPE_SCALE", "small")

    def execute(lesson: str, world: str, seeds: int = 5) -> str:
        folder = tmp_path / f"{world} {seeds}"
        monkeypatch.setattr(package_data, "DATA", folder)
        (folder / "results").mkdir(parents=True, exist_ok=True)
        for task, name in FILES.items():
            path = folder / "results" / f"{name}.json"
            path.write_text(json.dumps(made_up(task, world, seeds)), encoding="utf-8")
        (path,) = (PROJECT / "notebooks").glob(f"{lesson}_*.ipynb")
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        own = {r["method"]: r for r in made_up(TASK_OF[lesson], world) if r["seed"] == 0}
        scope = {"results": own, "runs": own, "ratio": dict.fromkeys(own, 1.0)}
        scope["methods"] = ("seqpe", "alibi", "rope-1e4")  # lesson 16: bits of books
        scope["curves"] = {
            m: [math.log2(value) for value in own[m]["perplexity"].values()]
            for m in scope["methods"]
            if m in own and "perplexity" in own[m]
        }
        scope["lengths"] = [*next(iter(own.values()))[MEASURE[TASK_OF[lesson]]]]
        scope["paper"] = {what: package_data.paper_table(2, what) for what in ("em", "perplexity")}
        wanted = [c.source for c in cells if "conclusions" in c.metadata.get("tags", [])]
        asked = [c.source for c in cells if re.search(r"\b(lesson|lab)\.predict\(", c.source)]
        assert wanted
        with contextlib.redirect_stdout(io.StringIO()) as out:
            for source in [cells[0].source, *asked, *wanted]:
                print(last_value(source, scope))
                scope["display"] = lambda value: print(text_of(value))
            for answers, why in revealed(lesson, "\n".join(wanted)):
                print(f"→ {' or '.join(answers) or 'not decided'} ({why})")
        return out.getvalue()

    return execute


def revealed(lesson: str, source: str) -> list[tuple[list[str], str]]:
    """The answers that ``lab.reveal`` has given to predictions, with their reasons."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        if ast.unparse(call.func) == "lab.reveal":
            first = [word.value.value for word in call.keywords if word.arg == "first_asked"]
            asked = predictions.asked(*(first or [lesson]), call.args[0].value)
            found.append((asked.answers, asked.why))
    return found


TASK_OF = {"05": "lm", "06": "lm", "09": "lm", "11": "image", "15": "qa", "16": "lm"}


def last_value(source: str, scope: dict) -> str:
    """Run a cell; the text of its last expression, if it is one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    return text_of(eval(ast.unparse(last), scope) if last else None)


def text_of(value: object) -> str:
    """The text of what a cell shows: a title and the cells of a table, or Markdown."""
    if isinstance(value, Figure):
        cells = [
            text for t in value.data if t.type == "table" for c in t.cells.values for text in c
        ]
        return f"{value.layout.title.text} {' | '.join(map(str, cells))}"
    return getattr(value, "data", "")


SAID = {  # lesson: {world: what its cells say}
    "05": {
        "as in the paper": ["As in the paper, flat: SeqPE, L_δ only (× 1.0"],
        "against the paper": [f"{HEADLINE}SeqPE, L_δ only is not flat**"],
        "tied": ["Flat or not is open: SeqPE, L_δ only"],
    },
    "06": {
        "as in the paper": ["As in the paper, worse than SeqPE, no losses: SeqPE, L_OOD only"],
        "against the paper": [f"{HEADLINE}SeqPE, L_OOD only is better than SeqPE, no losses**"],
        "tied": ["As in the paper, worse than SeqPE: SeqPE, L_OOD only"],
    },
    "09": {
        "as in the paper": [
            "SeqPE is better than ALiBi: ",
            "→ ALiBi and SeqPE, as in the paper (RoPE 10⁴ is not flat (× ",
            "→ SeqPE (By the committed results.",
            "→ worse, but better than RoPE (",
            "✓ in this run: ALiBi is worse than SeqPE",
        ],
        "against the paper": [
            "SeqPE is worse than ALiBi: ",
            f"{HEADLINE}ALiBi is better than SeqPE**",
            "→ ALiBi and SeqPE, as in the paper (",
            "→ ALiBi (By the committed results.",
            "✓ in this run: ALiBi is better than SeqPE",
        ],
        "tied": [
            "no difference seen between SeqPE and ALiBi: ",
            "→ ALiBi or SeqPE (By the committed results.",
            "Nothing is expected of one seed in ",
            "| seed 2 failed |",
        ],
    },
    "11": {
        "as in the paper": ["→ SeqPE mul with both losses (", "better than SeqPE sum: SeqPE bias"],
        "against the paper": [
            f"{HEADLINE}RoPE mixed is worse than APE learned**",
            f"{HEADLINE}SeqPE bias is worse than SeqPE sum**",
        ],
        "tied": ["→ SeqPE mul with both losses or APE learned: its table is stretched with the"],
    },
    "15": {
        "as in the paper": ["→ SeqPE (", "worse than SeqPE: NoPE"],
        "against the paper": ["→ ALiBi (", f"{HEADLINE}ALiBi is better than SeqPE**"],
        "tied": ["→ SeqPE or ALiBi (", "No difference seen from SeqPE: ALiBi"],
    },
}


@pytest.mark.parametrize("lesson", SAID)
def test_a_lesson_says_what_its_committed_results_allow(lesson, executed):
    shown = {world: executed(lesson, world) for world in WORLDS}
    for world, text in shown.items():
        for said in SAID[lesson][world]:
            assert said in text, (lesson, world, said, text)
        assert (HEADLINE in text) is (world == "against the paper")
        assert "all of commit c0ffee" in text and "±" in text
    text = executed(lesson, "as in the paper", seeds=3)
    assert "nothing is concluded" in text and "As in the paper" not in text
    assert "✓" not in text and "✗" not in text and "worse than RoPE (" not in text


def test_of_books_is_expected_what_several_seeds_show_of_perplexity(executed):
    text = executed("16", "as in the paper")
    for claim in ("SeqPE is flat", "ALiBi is flat", "RoPE 10⁴ is not flat"):
        assert f"✓ in this run: {claim} on these books, as in lesson 09\n" in text
    assert "✓" not in executed("16", "as in the paper", seeds=3)


def test_own_runs_are_compared_with_what_is_decided_alone(capsys):
    committed = made_up("lm", "tied")
    own = [r for r in made_up("lm", "against the paper") if r["seed"] == 0]
    compare_own_runs(Lesson("any", "small", 0), "table1", committed, own)
    printed = capsys.readouterr().out
    assert "✓ in this run: RoPE 10⁴ is worse than SeqPE\n" in printed and "ALiBi is" in printed
    assert "ALiBi is worse" not in printed and "NoPE" not in printed  # a tie, a failed run
    assert "Nothing is expected of one seed in 3 of 15 comparisons" in printed
    compare_own_runs(Lesson("any", "small", 0), "table4-text", committed, own)
    assert "✗ not in this run: SeqPE, L_OOD only is worse than SeqPE, no losses" in (
        capsys.readouterr().out
    )


# --- the protocol -------------------------------------------------------------------------------


def test_results_follow_the_protocol_with_one_commit_and_five_seeds():
    results = made_up("lm", "as in the paper")
    assert follows_protocol(results) and standing(results).startswith("5 seeds a row, all of com")
    without_a_row = [r for r in results if r["method"] != "seqpe-unshifted"]
    for changed in (results[1:], without_a_row, [results[0] | {"commit": "dead"}, *results[1:]]):
        assert not follows_protocol(changed)
        assert "do not follow data/results/PROTOCOL.md" in standing(changed)
    committed = committed_results("length-extrapolation-small")
    assert standing(committed).split(" ")[1] in ("seed", "seeds", "to")
