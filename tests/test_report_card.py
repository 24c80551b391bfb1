"""The report card of an encoding: it catches broken ones, and passes all that are registered."""

import json
from pathlib import Path

import pytest
import torch

from seqpe_lab.cli import main
from seqpe_lab.course.figure_files import check_figure
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.report_card import report_card
from seqpe_lab.report_card.behaviour import facts, paths, scores
from seqpe_lab.report_card.costs import LiveMemory, costs
from seqpe_lab.report_card.must_hold import CHECKS, run_checks
from seqpe_lab.report_card.toy_model import difference, toy_model

BROKEN_FILE = Path(__file__).parent / "broken_encodings.py"
OUTSIDE = f"{Path(__file__).parent / 'outside_encoding.py'}:Fading"


def own(name: str) -> str:
    return f"{BROKEN_FILE}:{name}"


def quick_card(name: str, **options):
    return report_card(name, lengths=[], far=300, **options)


@pytest.mark.parametrize("name", [*ENCODINGS, OUTSIDE, own("Waves")])
def test_no_registered_encoding_fails_and_none_holds_two(name):
    card = quick_card(name)
    assert not card.failures and not card.warnings, str(card)
    assert all(check.difference < 1e-5 for check in card.checks)
    assert not any("refused" in fact.answer for fact in card.facts), str(card)


BROKEN = {  # class: the checks that fail
    "OffByOneAfterACache": "cached offset",
    "StaleCache": "cached offset padded packed",
    "StaleTable": "reloaded",
    "UnsavedNumbers": "reloaded",
    "LooksAhead": "cached offset padded packed causal",
    "LooksAheadInScores": "cached offset padded packed causal",
    "CountsFromTheEnd": "cached offset packed causal",
    "CountsByItself": "cached offset padded packed",
    "OneForAll": "offset padded",
    "RefusesBatches": "offset padded",
    "Overflows": "finite",
    "CallsItselfRelative": "relative",
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_encoding_is_caught(name):
    checks = run_checks(toy_model(own(name)))
    failed = [check.name for check in checks if not check.passed]
    assert failed == BROKEN[name].split(), checks


def test_two_encodings_at_once_are_caught_though_every_pass_agrees():
    card = quick_card(own("TwoAtOnce"))
    assert not card.failures
    assert card.warnings == [
        "positions enter by embeddings and by queries and keys: are these two encodings at once?"
    ]
    assert card.warnings[0] in str(card)


def test_scores_that_are_no_numbers_are_left_out(monkeypatch):
    monkeypatch.setattr("seqpe_lab.report_card.card.scores", lambda model: [[0.0, float("nan")]])
    card = quick_card("none")
    assert card.scores == [] and card.figures() == {}
    json.dumps(card.as_dict(), allow_nan=False)


def test_nothing_differs_from_nothing_by_nothing():
    assert difference(torch.zeros(3), torch.zeros(3)) == 0
    assert difference(torch.ones(3), torch.zeros(3)) == float("inf")


def test_an_error_of_the_encoding_is_quoted_and_the_card_goes_on():
    card = quick_card(own("RefusesBatches"))
    assert "ValueError: too many values to unpack" in str(card)
    assert not card.costs and card.paths == ["queries and keys"]


FELT = {  # what it feels: a shift of all positions, a permutation, a longer context
    "none": (False, False, False),
    "sinusoidal": (True, True, False),
    "learned": (True, True, True),
    "rope": (False, True, False),
    "rope-dynamic": (False, True, True),
    "alibi": (False, True, False),
    "t5": (False, True, False),
    "seqpe": (True, True, False),
}


@pytest.mark.parametrize("name", FELT)
def test_what_an_encoding_feels(name):
    found = [fact.answer for fact in facts(toy_model(name), far=100)[:3]]
    assert found == ["felt" if felt else "not felt" for felt in FELT[name]]


@pytest.mark.parametrize(
    "name, entered",
    [
        ("none", []),
        ("fox", []),
        ("learned", ["embeddings"]),
        ("rope", ["queries and keys"]),
        ("rnope", ["queries and keys"]),
        ("alibi-euclidean", ["scores"]),
        ("shaw", ["scores"]),
    ],
)
def test_where_positions_enter(name, entered):
    assert paths(toy_model(name)) == entered


def test_precision_at_far_positions_is_measured_and_positions_out_of_reach_are_named():
    exact, rounded = (facts(toy_model(own(n)))[-1] for n in ("Waves", "AnglesInBfloat16"))
    assert 3 * exact.change < rounded.change
    short = facts(toy_model("seqpe", {"digits": 3}))[-1]
    assert short.change is None and "refused" in short.answer and "digits" in short.answer


def test_the_scores_of_alibi_fall_with_its_slopes():
    rows = torch.tensor(scores(toy_model("alibi")))
    assert rows[:, 0].tolist() == [0, 0]
    torch.testing.assert_close(rows[:, 10], 10 * torch.tensor([-1 / 16, -1 / 256]))


# --- costs ---------------------------------------------------------------------------------------


def test_live_memory_is_what_lives_at_once():
    with LiveMemory() as live:
        for _ in range(3):
            x = torch.zeros(1_000)
            view = x.view(10, 100)
            del x, view
        torch.zeros(500)
    assert live.peak == 4_000 and live.now == 0


def test_memory_is_that_of_training_or_of_reading(monkeypatch):
    monkeypatch.setattr("seqpe_lab.report_card.costs.TRAINED", 64)
    trained, read = costs("t5", lengths=(64, 256))
    assert [(cost.work, cost.tokens) for cost in (trained, read)] == [
        ("training", 64),
        ("reading", 256),
    ]
    assert min(trained.memory_ratio, read.memory_ratio) > 1.1
    assert trained.mib_none > read.mib_none / 4  # all layers are kept for the backward pass


def test_time_is_that_of_the_fastest_pass_over_nope_s(monkeypatch):
    clock = [0.0]
    slow = iter([9.0, 1.0, 5.0])  # other programs

    def run(model, tokens, training):
        clock[0] += next(slow, 0.0) + (6.0 if model.encoding.adds_bias else 2.0)

    monkeypatch.setattr("seqpe_lab.report_card.costs._run", run)
    monkeypatch.setattr("seqpe_lab.report_card.costs.perf_counter", lambda: clock[0])
    (cost,) = costs("t5", lengths=(32,))
    assert (cost.seconds, cost.seconds_none, cost.time_ratio) == (6.0, 2.0, 3.0)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def short_texts(monkeypatch):
    monkeypatch.setattr("seqpe_lab.report_card.costs.TRAINED", 32)
    monkeypatch.setattr("seqpe_lab.report_card.costs.READ", 64)
    monkeypatch.setattr("seqpe_lab.course.figure_files.find_browser", lambda: None)


def test_the_command_prints_the_card_and_writes_the_page(short_texts, tmp_path, capsys):
    folder = tmp_path / "card"
    assert main(["card", "rope-yarn", "--set", "factor=4", "--folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"rope-yarn (factor=4): passes all {len(CHECKS)} checks\n")
    assert "\n32      training  x " in printed and "\n64      reading   x " in printed
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<iframe") == 2 and "passes all" in page and "<td>reading</td>" in page
    assert {path.name for path in folder.glob("*.html")} == {
        *("index.html", "scores.html", "costs.html")
    }
    assert json.loads((folder / "card.json").read_text(encoding="utf-8"))["options"] == {
        "factor": 4
    }


def test_a_failed_check_is_an_exit_status_of_its_own(short_texts, capsys):
    assert main(["card", own("StaleCache"), "--json"]) == 1
    printed, error = capsys.readouterr()
    found = json.loads(printed)
    assert found["failures"] == BROKEN["StaleCache"].split() and found["costs"] == []
    assert "StaleCache FAILS 4 of 8: cached, offset, padded, packed" in error


def test_json_holds_the_ratios(short_texts, capsys):
    assert main(["card", "alibi", "--skip-long", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (cost,) = found["costs"]
    assert cost["tokens"] == 32 and cost["time_ratio"] == cost["seconds"] / cost["seconds_none"]
    assert torch.__version__.startswith(found["provenance"]["versions"]["torch"])


@pytest.mark.parametrize(
    "line, message",
    [
        ("rpoe", "Did you mean 'rope'?"),
        ("rope --set bse=10", "Did you mean 'base'?"),
        (f"{BROKEN_FILE}:Wave", "has no class 'Wave'"),
    ],
)
def test_a_misspelt_encoding_or_option_is_named(line, message, capsys):
    assert main(["card", *line.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_short_training_is_shown_beside_the_rest():
    card = report_card("none", lengths=[32], far=300, train="smoke")
    (result,) = card.results  # NoPE is its own comparison
    assert result["method"] == "none" and result["perplexity"]
    assert "Perplexity after training at smoke scale" in str(card)
    pictures = card.figures()
    assert set(pictures) == {"scores", "costs", "extrapolation"}
    for name, figure in pictures.items():
        check_figure(figure, name)


def test_a_training_that_diverged_is_shown_as_such(monkeypatch):
    from seqpe_lab.recipes import language_model
    from seqpe_lab.runs import Run
    from seqpe_lab.runs.divergence import DivergedError

    def diverge(recipe, **_):
        raise DivergedError("loss is nan")

    monkeypatch.setattr("seqpe_lab.training.train", diverge)
    monkeypatch.setattr(Run, "outcome", lambda run: {"method": run.recipe.method, "failed": "nan"})
    card = quick_card("alibi", train="smoke")
    assert [result["failed"] for result in card.results] == ["nan", "nan"]
    assert "extrapolation" not in card.figures() and "Perplexity" in str(card)
    assert language_model("alibi", "smoke").method in str(card)
