"""Loss by position, cut attention and attention by distance, against brute force."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from seqpe_lab.cli import main
from seqpe_lab.encodings import ENCODINGS
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.recipes import language_model
from seqpe_lab.reproduction import context_results
from seqpe_lab.tasks.context_use import (
    attention_by_distance,
    cut_attention,
    loss_by_position,
    perplexity_in_window,
)
from seqpe_lab.training import train

LENGTH, LAYERS, HEADS = 150, 2, 2  # longer than a block of queries
METHODS = ["none", "rope", "alibi", "seqpe", "t5", "shaw", "sinusoidal", "fox"]


def small_model(encoding: str) -> GPT2:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(11, 16, LAYERS, HEADS, 32, 400, encoding=encoding)).eval()
    for parameter in model.transformer.parameters():  # attention that is far from even
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


TOKENS = torch.randint(0, 11, (2 * LENGTH + 7,), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def brute_force(model: GPT2, text: torch.Tensor, window: int | None, monkeypatch):
    """Logits (L, V) and the weights of each layer, with one L x L matrix of scores."""
    from seqpe_lab import attention

    kept, place = [], torch.arange(len(text))
    distance = place.unsqueeze(1) - place
    allowed = (distance >= 0) & (distance < (window or len(text)))

    def attend(q, k, v, dropout=0.0, causal=True, mask=None, bias=None):
        scores = q.double() @ k.double().transpose(-1, -2) / v.shape[-1] ** 0.5
        if bias is not None:
            scores = scores + bias(q, k, 0, distance >= 0)
        kept.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1))
        return (kept[-1] @ v.double()).to(v.dtype)

    with monkeypatch.context() as patch:
        patch.setattr(attention, "attend", attend)
        return model(text.unsqueeze(0))[0], torch.stack(kept)[:, 0], distance


@pytest.mark.parametrize("encoding", METHODS)
@pytest.mark.parametrize("window", [1, 5, None])
def test_cut_attention_sees_the_last_tokens_only(encoding, window, monkeypatch):
    assert encoding in ENCODINGS
    model = small_model(encoding)
    expected, _, _ = brute_force(model, TOKENS[:LENGTH], window, monkeypatch)
    with cut_attention(model, window), torch.no_grad():
        found = model(TOKENS[None, :LENGTH])[0]
    assert (found - expected).abs().max() < 2e-4
    assert type(model.encoding) is ENCODINGS[encoding]  # as it was


def test_what_lies_beyond_all_windows_has_no_influence():
    model, other = small_model("alibi"), TOKENS.clone()
    other[: LENGTH - LAYERS * 4 - 1] += 1
    with cut_attention(model, 5), torch.no_grad():
        one, two = (model(text[None, :LENGTH] % 11)[0, -1] for text in (TOKENS, other))
        assert one.equal(two)
        other[LENGTH - LAYERS * 4 - 1] += 1  # the farthest that can arrive through two layers
        assert not model(other[None, :LENGTH] % 11)[0, -1].equal(one)


@pytest.mark.parametrize("encoding", ["none", "t5", "seqpe"])
def test_loss_by_position_is_that_of_each_prediction(encoding, monkeypatch):
    model = small_model(encoding)
    expected = []
    for begin in (0, LENGTH):
        text = TOKENS[begin : begin + LENGTH + 1]
        logits, _, _ = brute_force(model, text[:-1], None, monkeypatch)
        expected.append(F.cross_entropy(logits, text[1:], reduction="none"))
    found = loss_by_position(model, TOKENS, LENGTH)
    assert found.shape == (LENGTH,)
    assert (found - torch.stack(expected).mean(0)).abs().max() < 1e-4
    whole = perplexity_in_window(model, TOKENS, [LENGTH], None)[LENGTH]
    assert whole == pytest.approx(math.exp(found.mean()), rel=1e-5)


def test_windowed_perplexity_is_of_the_cut_model(monkeypatch):
    model = small_model("rope")
    nats = []
    for begin in range(0, 2 * LENGTH, 75):
        text = TOKENS[begin : begin + 76]
        logits, _, _ = brute_force(model, text[:-1], 3, monkeypatch)
        nats.append(F.cross_entropy(logits, text[1:]))
    found = perplexity_in_window(model, TOKENS, [75, LENGTH], 3)
    assert found[75] == pytest.approx(math.exp(torch.stack(nats).mean()), rel=1e-5)


@pytest.mark.parametrize("encoding", METHODS)
def test_attention_by_distance_is_the_mean_of_the_weights(encoding, monkeypatch):
    model, edges = small_model(encoding), (1, 4, 40)
    shares = torch.zeros(LAYERS, 4, dtype=torch.float64)
    for begin in (0, LENGTH):
        _, weights, distance = brute_force(model, TOKENS[begin : begin + LENGTH], None, monkeypatch)
        late = weights[:, :, LENGTH // 2 :]  # (layers, heads, queries, keys)
        ranges = ((0, 0), (1, 3), (4, 39), (40, LENGTH))
        for number, (low, high) in enumerate(ranges):
            near = (distance >= low) & (distance <= high)
            per_query = (late * near[LENGTH // 2 :]).sum(-1)
            shares[:, number] += per_query.mean((1, 2)) / 2
    found = attention_by_distance(model, TOKENS, LENGTH, edges)
    assert found.sum(-1).allclose(torch.ones(LAYERS, dtype=torch.float64))
    assert (found - shares).abs().max() < 1e-5
    assert type(model.encoding) is ENCODINGS[encoding]


def test_what_cannot_be_measured_is_refused():
    model = small_model("none")
    with pytest.raises(ValueError, match="a window must hold.*got 0: give at least 1"):
        perplexity_in_window(model, TOKENS, [LENGTH], 0)
    for measure in (loss_by_position, lambda *a: attention_by_distance(*a, (1, 4))):
        with pytest.raises(ValueError, match="400 tokens and its next token do not fit.*shorten"):
            measure(model, TOKENS, 400)


# --- a folder of runs ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two finished runs, and one that a result must not use: that of a trial."""
    place = tmp_path_factory.mktemp("runs")
    for method, seed in (("alibi", 0), ("none", 0), ("none", 100)):
        recipe = language_model(method, "smoke", seed, steps=1, checkpoint_every=1)
        train(recipe, place / f"{method}-{seed}", cpu=True, progress=False)
    return place


def test_the_command_measures_each_run_once_and_draws_bands(folder, tmp_path, capsys):
    path = tmp_path / "measured" / "context.json"
    command = ["context", str(folder), "--tokens", "300", "--cpu", "--file", str(path)]
    assert main(command) == 0
    assert "2 finished language models, 0 measured before" in capsys.readouterr().out
    first = json.loads(path.read_text())
    assert [(e["method"], e["seed"], e["length"], e["tokens"]) for e in first] == [
        ("none", 0, 128, 256),
        ("alibi", 0, 128, 256),
    ]
    for entry in first:
        assert entry["commit"] and entry["data"]["hash"] and entry["split"] == "test"
        assert list(entry["windows"]) == ["16", "32", "64", "all"]
        assert sum(entry["attention"].values()) == pytest.approx(1)
    assert "cut" not in first[1] and list(first[0]["cut"]) == ["32", "64", "128"]
    assert len(list(path.parent.glob("context-by-*.html"))) == 3
    del first[1]
    path.write_text(json.dumps(first))
    assert main(command) == 0
    assert "2 finished language models, 1 measured before" in capsys.readouterr().out
    assert len(json.loads(path.read_text())) == 2
    more = [*json.loads(path.read_text()), json.loads(path.read_text())[1] | {"seed": 1}]
    for name, draw in context_results.FIGURES.items():
        bands = [trace for trace in draw(more).data if trace.to_plotly_json().get("fill")]
        assert len(bands) == (name != "by-distance")  # of ALiBi, which has two seeds
    assert main(["context", str(folder), "--tokens", "400", "--file", str(path)]) == 2
    assert "holds measurements on 300 tokens of the test split" in capsys.readouterr().err


def test_a_folder_without_language_models_is_named(tmp_path, capsys):
    assert main(["context", str(tmp_path)]) == 2
    assert f"no finished language model in {tmp_path}" in capsys.readouterr().err


def measured(method: str, factors: list[float]) -> list[dict]:
    """Entries whose perplexity with 64 tokens in sight is so many times that with all of them."""
    return [
        {
            "method": method,
            "seed": seed,
            "train_len": 64,
            "length": 1_024,
            "windows": {"64": 5.0 * factor, "all": 5.0},
        }
        for seed, factor in enumerate(factors)
    ]


def test_a_loss_is_claimed_where_the_interval_says_so():
    entries = measured("none", [0.5, 0.6, 0.5, 0.6, 0.5]) + measured("alibi", [1.01] * 5)
    entries += measured("rope-1e4", [0.9, 1.1, 0.95, 1.05, 1.0]) + measured("seqpe", [1.2])
    of_none, of_rope, of_alibi, of_seqpe = context_results.conclusion(entries).splitlines()
    assert of_none.endswith("it gains.") and "× 0.538 [0.5" in of_none
    assert of_rope.endswith("no difference seen.")
    assert of_alibi.endswith("× 1.010 [1.010, 1.010], it loses.")
    assert of_seqpe.endswith("× 1.200, too few seeds to say more.")


def test_the_readme_s_sentence_is_made_from_the_entries():
    entries = measured("seqpe", [1.0] * 5) + measured("alibi", [0.9] * 5)
    for entry in entries:
        entry["attention"] = {"0": 0.25, "1": 0.5, "4": 0.2, "16": 0.05}
    said = context_results.readme_line(entries, ("seqpe", "alibi", "rope-1e4"))
    assert "only the last 64 of 1,024 tokens" in said
    assert "SeqPE × 1.000 [1.000, 1.000], ALiBi × 0.900 [0.900, 0.900]." in said
    assert "SeqPE gives 75% of its attention to the last 4 tokens" in said
