"""The models that come with the package are what their files say."""

import json

import fork_server
import pytest
import torch
from optional_packages import needs

from seqpe_lab.explorers import shipped_models
from seqpe_lab.recipes import Training, image_model, language_model
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.perplexity import perplexity_by_length
from seqpe_lab.tasks.text_data import load_text

FILES = (
    [("text", m) for m in shipped_models.text_models()]
    + [("image", m) for m in shipped_models.IMAGE_MODELS]
    + [("table", m) for m in shipped_models.TABLES]
)


def test_everything_is_there_and_at_most_10_mb():
    there = {path.name for path in shipped_models.FOLDER.iterdir()}
    assert there - {"table-learned.safetensors"} == {
        f"{kind}-{method}.safetensors" for kind, method in FILES
    }
    assert sum(path.stat().st_size for path in shipped_models.FOLDER.iterdir()) <= 10e6


@pytest.mark.parametrize("kind, method", FILES)
def test_each_carries_its_recipe_and_provenance(kind, method):
    about = shipped_models.about(kind, method)
    recipe = Training.from_json(about["recipe"])
    preset = (image_model if kind == "image" else language_model)(method, "small")
    assert recipe == preset, "made from another recipe: python -m seqpe_lab bundle"
    results = about["results"]
    assert (
        results["recipe"] == recipe.digest()
        and results["data"]["hash"]
        and results["versions"]["torch"]
        and results["commit"]
    )


def test_a_shipped_image_model_has_the_accuracy_that_is_shown():
    from seqpe_lab.tasks.images import accuracy, some_images

    about = shipped_models.about("image", "seqpe-mul")
    recipe, data = Training.from_json(about["recipe"]), load_images("digits")
    assert data.hash == about["results"]["data"]["hash"]
    for size in (24, 48):
        measured = accuracy(
            shipped_models.model("image", "seqpe-mul"),
            some_images(data.test, recipe.eval_images),
            data,
            recipe,
            size,
        )
        assert measured.accuracy == pytest.approx(
            about["results"]["accuracy"][str(size)], abs=0.35
        ), "one image of 320 may tip on another processor"


def test_a_shipped_language_model_has_the_perplexity_that_is_shown():
    about = shipped_models.about("text", "seqpe")
    recipe, data = Training.from_json(about["recipe"]), load_text("python", "bytes")
    if data.hash != about["results"]["data"]["hash"]:
        pytest.skip(
            "the text is Python's documentation, and that of this Python differs from the one "
            "that the model was evaluated on"
        )
    measured = perplexity_by_length(
        shipped_models.model("text", "seqpe"), data.test[: recipe.eval_tokens + 1], (64, 1_024)
    )
    assert [m.perplexity for m in measured] == pytest.approx(
        [about["results"]["perplexity"][n] for n in ("64", "1024")], rel=1e-4
    )


def test_the_last_table_is_what_the_shipped_model_of_the_same_run_computes():
    """Two files of one recipe, trained apart: the same to half precision."""
    table = shipped_models.tables("seqpe")
    assert (
        sorted(table) == list(shipped_models.STEPS)
        and len(table[0]) == shipped_models.WHILE_LEARNING
        and len(table[1_000]) == shipped_models.AT_THE_END
    )
    computed = shipped_models.model("text", "seqpe").encoding.encoder.table(
        shipped_models.AT_THE_END
    )
    cosine = torch.nn.functional.cosine_similarity(table[1_000], computed, dim=-1)
    assert float(cosine.min()) > 0.999


@pytest.mark.parametrize(
    "kind, method",
    [("text", m) for m in shipped_models.text_models()]
    + [("image", m) for m in shipped_models.IMAGE_MODELS],
)
def test_an_encoding_alone_is_that_of_its_model(kind, method):
    alone, whole = (
        e.state_dict()
        for e in (
            shipped_models.encoding(kind, method),
            shipped_models.model(kind, method).encoding,
        )
    )
    assert alone.keys() == whole.keys() and all(
        torch.equal(alone[name], whole[name]) for name in whole
    )
    assert type(shipped_models.encoding(kind, method)) is type(
        shipped_models.model(kind, method).encoding
    )


def test_no_explorer_imports_timm_or_scikit_learn_for_its_first_picture():
    needs("plotly", "ipywidgets")
    program = (
        "import sys; from seqpe_lab.explorers import EXPLORERS, explore\n"
        "for name in EXPLORERS: explore(name)\n"
        "late = ('timm', 'sklearn', 'rfc3987_syntax.syntax_helpers')\n"
        "print([name for name in late if name in sys.modules])"
    )
    done = fork_server.python(program)
    assert done.stdout == "[]\n", done.stderr


def test_a_missing_one_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="alibi, learned"):
        shipped_models.model("text", "transformer-xl")


def test_only_the_tensors_and_a_page_of_text_are_in_a_file():
    assert set(json.loads(json.dumps(shipped_models.about("text", "none")))) >= {
        "recipe",
        "results",
        "outputs",
    }


def test_models_of_further_encodings_can_be_made_alone(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(shipped_models, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped_models, "train", lambda recipe, progress: recipe)
    monkeypatch.setattr(
        shipped_models,
        "_write_model",
        lambda kind, recipe: made.append((kind, recipe.encoding, recipe.scale)),
    )
    shipped_models.make(report=lambda line: None, further=True)
    assert made == [("text", name, "small") for name in shipped_models.FURTHER_MODELS]
    (tmp_path / "text-fire.safetensors").touch()
    assert shipped_models.text_models() == [*shipped_models.TEXT_MODELS, "fire"]
