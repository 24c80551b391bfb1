"""``make site`` and ``make figures``: what is done in which order, and what is kept."""

import json
import re
from types import SimpleNamespace

import made_site
import pytest

from seqpe_lab import recipes
from seqpe_lab.course import figure_files
from seqpe_lab.runs import Run
from seqpe_lab.site import building, lesson_states, pages


@pytest.fixture
def built(tmp_path, monkeypatch):
    """built(make): runs it, with stages that only note their programs; returns those."""
    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SEQPE_SCALE", "smoke")
    monkeypatch.setattr(figure_files, "write_image", made_site.draw)
    monkeypatch.setattr(pages, "write_lasting_pages", lambda folder, lessons: None)
    monkeypatch.setattr(pages, "write_search_index", lambda folder: None)
    monkeypatch.setattr(pages, "_write_unexecuted", lambda *given, **named: None)
    text = SimpleNamespace(description="a text", characters={}, train=[], tokenizer="", hash="")
    monkeypatch.setattr(building, "load_text", lambda source, tokenizer: text)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    done = []

    def note(stages, workers, show):
        for stage in stages:
            assert (tmp_path / "site" / "index.html").exists()  # from the beginning
            done.append([program.name for program in stage.programs()])
            stage.then()

    monkeypatch.setattr(building, "run_stages", note)

    def build(make):
        make(tmp_path / "site")
        return done

    return build


def test_make_site_trains_nothing_and_executes_lessons_without_models(built, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson_states, "not_seen", lambda page: [])
    (programs,) = built(building.make_site)
    assert "00_start_here" in programs and "09_length_extrapolation" not in programs
    assert all(re.match(r"\d\d_|primer|the explorers", name) for name in programs)
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Committed results: " in index and index.count("<strong>not executed</strong>") > 15


def test_make_figures_trains_the_headline_first_and_executes_every_lesson(
    built, capsys, monkeypatch
):
    monkeypatch.setattr(lesson_states, "not_seen", lambda page: ["x < y"] * ("05" in page.name))
    headline, short, text, images, tuned, long = built(building.make_figures)
    assert {name.split(",")[0] for name in headline} == set(recipes.HEADLINE)
    assert not {*headline} & {*text} and len(images) == 15 and len(tuned) == 4
    lessons = {name for name in short + long if name != "the explorers"}
    assert lessons == {path.stem for path in building.lessons()}
    printed = capsys.readouterr().out
    assert re.search(r"Done: open .*index.html \(1 of the lessons' expectations did not", printed)


def test_own_results_stay_when_make_site_is_started_later(built, tmp_path, monkeypatch):
    for method in recipes.HEADLINE:
        run = Run(recipes.language_model(method, "smoke"))
        run.create()
        made = {"commit": "abc123", "tokens": 9, "protocol": "p", "split": "test"}
        data = {"description": "a text", "tokenizer": "bytes", "hash": "ab"}
        lengths = {str(length): 4.0 for length in run.recipe.eval_lens}
        run.write_results({"perplexity": lengths, "data": data} | made)
    monkeypatch.setattr(lesson_states, "not_seen", lambda page: [])
    built(building.make_site)
    headline = json.loads((tmp_path / "site" / "headline.json").read_text())
    assert headline["title"].endswith("your run, one seed")


def test_the_pages_are_written_also_when_a_stage_fails(built, tmp_path, monkeypatch):
    def fail(stages, workers, show):
        (tmp_path / "site" / "index.html").unlink()
        raise RuntimeError("a lesson failed")

    monkeypatch.setattr(building, "run_stages", fail)
    with pytest.raises(RuntimeError, match="a lesson failed"):
        built(building.make_site)
    assert (tmp_path / "site" / "index.html").exists()


def test_explorers_of_the_same_sources_are_not_written_again(tmp_path):
    site = building.Site(tmp_path, "smoke")
    (program,) = site.explorers()
    assert program.command[-2:] == ["--folder", str(tmp_path / "explorers")]
    program.report()
    (program,) = site.explorers()
    assert program.command is None
