"""The models that run in a browser, in a real one: all numbers and texts equal Python's."""

import base64
import dataclasses
import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqpe_lab.course.figure_files import find_browser
from seqpe_lab.course.plot_widget import scripts
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.explorers import attention_subjects, collapse_training, make_explorer
from seqpe_lab.explorers.attention_parts import split
from seqpe_lab.explorers.static_page import HERE, pack
from seqpe_lab.explorers.stored_models import stored_model
from seqpe_lab.models.gpt2 import GPT2, GPT2Config

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e '.[lab,test]'"
)
pytestmark = pytest.mark.skipif(
    not find_browser(), reason="no browser: `make browser` installs chromium where it can"
)

# of an array's largest number, at least 1. Scores of SeqPE reach 60, where torch's float32 is off
# by 5e-4 and its weights by 1.1e-4; from torch in double precision the browser differs by 1e-12.
TOLERANCE = 2e-4
OPEN = """([name, text, template]) => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer
    const made = explorers[name](seqpeUnpack(bytes))
    window.opened = {...window.opened, [name]: made}
    window.answer = async (name, template, state, names) => {
        const numbers = {...await opened[name].compute(state), state}
        const texts = seqpeFill(template, numbers, state, {names, narrow: false})
        return JSON.stringify({...numbers, texts}, (key, value) =>
            ArrayBuffer.isView(value) ? Array.from(value) : value) }
}"""


@pytest.fixture(scope="module")
def page():
    program = scripts(
        HERE / "fill.js",
        HERE / "static_page.js",
        *(HERE / f"{name}.js" for name in ("models", "attention", "collapse", "integration")),
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_browser())
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.set_content("<!doctype html><title>arithmetic</title>")
        page.add_script_tag(content=program)
        yield page
        browser.close()
    assert page.errors == []


def open_in(page, explorer, stored=None) -> None:
    data = gzip.decompress(pack(explorer.stored() if stored is None else stored))
    page.evaluate(OPEN, [explorer.name, base64.b64encode(data).decode(), None])


def differences(mine, theirs, path="") -> list[str]:
    """Where a value of the browser is not Python's; arrays are compared as wholes."""
    if isinstance(mine, SimpleNamespace):
        mine = vars(mine)
    if hasattr(mine, "_asdict"):
        mine = mine._asdict()
    if isinstance(mine, dict):
        return [line for k, v in mine.items() for line in differences(v, theirs[k], f"{path}.{k}")]
    if isinstance(mine, (list, tuple)) and not all(isinstance(v, (int, float)) for v in mine):
        if len(mine) != len(theirs):
            return [f"{path}: {len(mine)} and {len(theirs)} elements"]
        pairs = enumerate(zip(mine, theirs))
        return [line for n, pair in pairs for line in differences(*pair, f"{path}.{n}")]
    if mine is None or isinstance(mine, (str, bool)):
        return [] if mine == theirs else [f"{path}: {mine!r} and {theirs!r}"]
    a, b = (np.array(value, dtype=float) for value in (mine, theirs))
    if a.shape != b.shape:
        return [f"{path}: shapes {a.shape} and {b.shape}"]
    size = max(1.0, np.nanmax(np.abs(a), initial=0.0))
    right = np.isclose(a, b, rtol=0, atol=TOLERANCE * size, equal_nan=True)
    return [] if right.all() else [f"{path}: off by {np.nanmax(np.abs(a - b)):.2g} of {size:.3g}"]


def agree(page, explorer, **values) -> None:
    """The numbers of a state, and all texts made of them."""
    state = explorer.state(**values)
    numbers = explorer.compute(state)
    template = {
        part: explorer.template[part]
        for part in ("title", "caption", "words")
        if part in explorer.template
    }
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    found = json.loads(
        page.evaluate(
            "([name, template, state, names]) => answer(name, template, state, names)",
            [explorer.name, template, plain, explorer.names(state)],
        )
    )
    expected = {name: value for name, value in vars(numbers).items() if name != "state"}
    texts = {part: explorer.answer(state, numbers)[part] for part in template}
    assert differences(expected | {"texts": texts}, found) == []


@pytest.fixture(scope="module")
def attention(page):
    explorer = make_explorer("attention")
    open_in(page, explorer)
    return explorer


TEXTS = attention_subjects.shipped_models.TEXT_MODELS
IMAGES = attention_subjects.shipped_models.IMAGE_MODELS


@pytest.mark.parametrize(
    "values",
    [
        *({"method": method, "layer": n % 3, "head": n % 4} for n, method in enumerate(TEXTS)),
        *({"method": method, "start": 700, "layer": 2, "text": "naïve <b> & 'x' " * 5, "query": 50,
           "relative": False} for method in TEXTS),
        *({"kind": "image", "image_method": method, "layer": n % 3, "digit": n, "size": size,
           "corner": 9} for n, (method, size) in enumerate(zip(IMAGES, (24, 36, 48, 28, 36, 24)))),
        {"kind": "image", "drawing": "0f" * 32, "query": 0},
    ],
    ids=lambda values: " ".join(map(str, list(values.values())[:2])),
)  # fmt: skip
def test_attention_in_the_browser_is_pythons(page, attention, values):
    agree(page, attention, **values)


@pytest.mark.parametrize("values", [{"text": ""}])
def test_an_error_has_the_words_that_python_has(page, attention, values):
    state = attention.state(**values)
    with pytest.raises(ValueError) as mine:
        attention.compute(state)
    with pytest.raises(playwright.Error) as theirs:
        page.evaluate("state => opened.attention.compute(state)", dataclasses.asdict(state))
    assert str(mine.value) in str(theirs.value)


@pytest.mark.parametrize("name", ["t5", "kerple-log", "kerple-power", "sandwich"])
def test_a_bias_of_differences_runs_in_the_browser(page, name):
    model = GPT2(GPT2Config(vocab_size=256, d_model=16, layers=2, heads=2, train_len=32,
                            max_position=256, encoding=name)).half().float().eval()  # fmt: skip
    for key, weight in model.named_parameters():  # logarithms are large enough as they are
        weight.data = ((1 if "log_r" in key else 8) * weight.data).half().float()  # else it is flat
    stored = stored_model(model)
    stored["weights"] = {key: [array.shape, array.ravel().tolist()]
                         for key, array in stored["weights"].items()}  # fmt: skip
    found = page.evaluate(
        """model => {
            for (const [name, [shape, data]] of Object.entries(model.weights))
                model.weights[name] = matrix(...shape, Float64Array.from(data))
            const {content, position, weights} = splitAttention(model, [3, 1, 4, 1, 5, 9], 40, 1)
            return {content, position, weights} }""",
        stored,
    )
    parts = split(model, torch.tensor([[3, 1, 4, 1, 5, 9]]), 40, 1)
    for part, heads in found.items():
        expected = getattr(parts, part)
        for i in range(6):
            theirs = np.array([rows[i] for rows in heads])
            np.testing.assert_allclose(theirs, expected[:, i, : i + 1], TOLERANCE, TOLERANCE)
    assert np.abs(parts.position).max() > 0.1


def test_what_the_script_does_not_have_is_refused():
    model = GPT2(GPT2Config(vocab_size=9, d_model=8, layers=1, heads=2, encoding="cope"))
    assert "cope" in ENCODINGS
    with pytest.raises(ValueError, match="CoPE does not run in the browser"):
        stored_model(model)


@pytest.fixture(scope="module")
def collapse_stored():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapse_training, "SEEDS", (0, 1))
        return collapse_training.stored(steps=4)


@pytest.mark.parametrize(
    ("alpha", "beta", "rate", "seed"), [(0.0, 0.1, 0.001, 0), (0.1, 0.1, 0.003, 1)]
)
def test_training_in_the_browser_is_torchs(page, collapse_stored, alpha, beta, rate, seed):
    explorer = make_explorer("collapse")
    open_in(page, explorer, collapse_stored)
    values = dict(alpha=alpha, beta=beta, rate=rate, seed=seed)
    two = "state => Promise.all([1, 2].map(() => opened.collapse.compute(state)))"
    page.evaluate(two, values | {"z": 256})  # a move before the first answer, as while a page opens
    agree(page, explorer, **values)
    panel = explorer.panel(explorer.state(**values))
    for _ in range(2):
        panel.act("Step")
        page.evaluate("() => opened.collapse.actions.Step(() => {}, {})")
    agree(page, explorer, **values, z=37)
    page.evaluate(
        "() => opened.collapse.actions.Step(() => {}, {say(text) { window.said = text }})"
    )
    assert page.evaluate("said") == "4 steps are done: press Reset to begin again"
    panel.close()


@pytest.mark.parametrize(
    "values",
    [{}, {"strength": 0.0}, {"q1": -1.75, "k2": 0.25, "eq1": -2.0, "ek2": 1.75, "strength": 0.7}],
)
def test_scores_in_the_browser_are_pythons(page, values):
    explorer = make_explorer("integration")
    open_in(page, explorer)
    agree(page, explorer, **values)
