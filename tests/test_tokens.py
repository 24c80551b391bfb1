"""A large text's tokens in memory-mapped files: made once, checked, equal to those in memory."""

import functools
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from seqpe_lab import hub
from seqpe_lab.tasks import text_data as text
from seqpe_lab.tasks import token_storage, tokenization
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.perplexity import perplexity
from seqpe_lab.tasks.text import Chunks
from seqpe_lab.tasks.text_data import load_text
from seqpe_lab.tasks.token_storage import StoredTokens, open_tokens, store_tokens
from seqpe_lab.tasks.tokenization import can_be_cut, pieces
from seqpe_lab.training import train

WORDS = "".join(
    f"Line {i} of a text:\n\n  {i * i} is a square,\té and ∑ are 数字 \n \n"
    "= Title = \n don't\u00a0 stop 🙂 "
    for i in range(300)
)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A text of three files, to which everything is large; its cache is its own."""
    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_storage, "LARGE", 1_000)
    (tmp_path / "texts").mkdir()
    for number, split in enumerate(SPLITS):
        (tmp_path / "texts" / f"{split}.txt").write_text(
            WORDS[number * 1_000 :] if split == "train" else WORDS[: 2_000 * number],
            encoding="utf-8",
        )
    return tmp_path / "texts"


def in_memory(source, tokenizer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(token_storage, "LARGE", 10**9)
        return load_text(str(source), tokenizer)


def files(source) -> list[str]:
    return sorted(path.name for path in (source.parent / "cache" / "tokens").glob("*/*"))


COMPLETE = ["about.json", "test.npy", "train.npy", "validation.npy"]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:400"])
def test_a_stored_text_is_the_text_in_memory(tokenizer, source, monkeypatch):
    monkeypatch.setattr(tokenization, "PIECE", 50)
    monkeypatch.setattr(token_storage, "AT_ONCE", 8)
    plain, mapped, again = (
        in_memory(source, tokenizer, monkeypatch),
        load_text(str(source), tokenizer),
        load_text(str(source), tokenizer),
    )
    assert (
        plain.provenance() == mapped.provenance() == again.provenance()
        and plain.vocab_size == mapped.vocab_size
    )
    for split in SPLITS:
        a, b = getattr(plain, split), getattr(again, split)
        assert isinstance(a, torch.Tensor) and isinstance(b, StoredTokens)
        assert b.tokens.dtype == np.uint16
        places = torch.tensor([[3, 1], [0, len(a) - 1]])
        assert torch.equal(a[places], b[places]) and int(a[4]) == int(b[4]) and a[-1] == b[-1]
        for begin in range(0, len(a), 61):  # across the parts of a file
            for end in (begin, begin + 1, begin + 700, len(a) + 5):
                assert torch.equal(a[begin:end], b[begin:end])
        assert torch.equal(a, b[:]) and torch.equal(a[2:-3:7], b[2:-3:7])
        assert b[:3].dtype == torch.int64 and len(a) == len(b)
        with pytest.raises(IndexError):
            b[len(a)]
    assert plain.decode(plain.test) == again.decode(again.test)
    assert files(source) == COMPLETE


def test_a_prepared_text_needs_neither_its_files_contents_nor_the_tokenizer(source, monkeypatch):
    first = load_text(str(source), "bpe:300")
    for name in ("_from_path", "load_tokenizer"):
        monkeypatch.setattr(text, name, lambda *arguments: pytest.fail("was read again"))
    again = load_text(str(source), "bpe:300")
    assert torch.equal(first.train[:], again.train[:]) and again.decode(
        again.train[:20]
    ) == first.decode(first.train[:20])


def test_a_changed_file_or_another_tokenizer_is_another_text(source):
    first = load_text(str(source), "bpe:300")
    assert len(load_text(str(source)).train) > len(first.train)
    (source / "train.txt").write_text(WORDS + "more", encoding="utf-8")
    assert load_text(str(source), "bpe:300").hash != first.hash


def test_large_texts_of_the_hub_need_it_once(source, monkeypatch):
    import datasets

    rows = {split: {"text": [WORDS, "", "No line end"]} for split in SPLITS}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: rows)
    monkeypatch.setattr(hub, "require_hub", lambda *arguments: None)
    first = load_text("hub:someone/something")
    assert load_text("hub:someone/else").source == "hub:someone/else"
    monkeypatch.setattr(hub, "require_hub", lambda *arguments: pytest.fail("was asked again"))
    assert torch.equal(load_text("hub:someone/something").test[:], first.test[:])


def test_two_texts_of_the_hub_with_one_tokenizer_of_a_file_are_two(source, tmp_path, monkeypatch):
    import datasets

    make_bpe().save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, config: {split: {"text": [WORDS + name]} for split in SPLITS},
    )
    monkeypatch.setattr(hub, "require_hub", lambda *arguments: None)
    hashes = {
        load_text(f"hub:someone/{name}", str(tmp_path / "tokenizer.json")).hash for name in "abab"
    }
    assert len(hashes) == 2


@example("'\x1c' '\x1c' ", 1)  # white space to Python alone
@given(st.text(alphabet=" \n\t\r\u00a0\u2003\x1cab1'.é数🙂", max_size=300), st.integers(1, 40))
def test_pieces_of_a_text_have_the_tokens_of_the_whole(words, size):
    whole = make_bpe()
    cut = [words[begin:end] for _, begin, end in pieces([words], whole, size)]
    assert can_be_cut(whole) and "".join(cut) == words
    assert [i for piece in cut for i in whole.encode(piece).ids] == whole.encode(words).ids


def test_every_text_has_a_last_piece_even_an_empty_one():
    assert list(pieces(["", "a b c", ""], None, size=1)) == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 3),
        (1, 3, 5),
        (2, 0, 0),
    ]


@functools.cache
def make_bpe():
    """A tokenizer with many tokens of white space."""
    return tokenization.load_tokenizer(
        "bpe:420", {"words": WORDS, "gaps": " \n\n a\n\n\n  b 1'.  \t\t  '" * 50}
    )


def test_a_tokenizer_that_looks_back_over_white_space_gets_whole_texts():
    from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

    plain = make_bpe().to_str()
    other = [Tokenizer.from_str(plain) for _ in range(4)]
    other[0].pre_tokenizer = pre_tokenizers.Metaspace()
    other[1].normalizer = normalizers.Strip()
    other[2].add_special_tokens([AddedToken("<x>", rstrip=True)])
    other[3].add_tokens(["two words"])
    assert can_be_cut(Tokenizer.from_str(plain)) and not any(map(can_be_cut, other))
    assert [len(list(pieces([WORDS], bpe, 50))) > 1 for bpe in (make_bpe(), *other)] == [True] + [
        False
    ] * 4


# --- the file -----------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name, damage",
    [
        ("train.npy", cut),
        ("test.npy", flip),
        ("train.npy", os.unlink),
        ("about.json", cut),
        ("about.json", flip),
        ("about.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_broken_file_is_named_and_the_text_tokenised_again(name, damage, source):
    expected = {split: getattr(load_text(str(source)), split)[:] for split in SPLITS}
    (path,) = (source.parent / "cache" / "tokens").glob(f"*/{name}")
    damage(path)
    with pytest.warns(UserWarning, match=f"{path.parent.name}.*: the text is tokenised again"):
        again = load_text(str(source))
    assert all(torch.equal(getattr(again, split)[:], expected[split]) for split in SPLITS)
    assert files(source) == COMPLETE


def test_vocabularies_beyond_16_bits_take_32(tmp_path):
    from tokenizers import Tokenizer, models

    bpe = Tokenizer(models.WordLevel({f"w{i}": i for i in range(70_001)}, unk_token="w0"))
    store_tokens(tmp_path / "x", {split: ["w70000", "w1"] for split in SPLITS}, bpe, {"note": 1})
    parts, about = open_tokens(tmp_path / "x")
    assert parts["train"].tokens.dtype == np.uint32
    assert parts["train"][:].tolist() == [70_000, 1] and about == {"note": 1}


def test_a_full_disk_leaves_nothing_and_names_the_way_out(source, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_storage.np, "save", full)
    with pytest.raises(OSError, match="free some space, or set SEQPE_CACHE"):
        load_text(str(source))
    assert files(source) == []


def test_an_interrupted_job_continues_after_the_last_complete_split(source, monkeypatch):
    expected, tokenise = in_memory(source, "bytes", monkeypatch), token_storage.tokenise
    done = []

    def interrupted(texts, spans, bpe):
        done.append(len(texts[0]))
        if len(done) == 2:
            raise KeyboardInterrupt
        return tokenise(texts, spans, bpe)

    with monkeypatch.context() as patch:
        patch.setattr(token_storage, "tokenise", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_text(str(source))
    assert "train.npy" in files(source) and "about.json" not in files(source)
    texts = []
    monkeypatch.setattr(
        token_storage, "tokenise", lambda t, *rest: texts.append(t[0]) or tokenise(t, *rest)
    )
    data = load_text(str(source))
    assert [len(t) for t in texts] == [2_000, 4_000]  # validation and test
    assert all(torch.equal(getattr(data, s)[:], getattr(expected, s)) for s in SPLITS)


# --- training on it -----------------------------------------------------------------------------


def test_perplexity_of_a_stored_text_is_that_of_the_text_in_memory(source, tiny_model, monkeypatch):
    model = tiny_model("rope", vocab_size=256)
    plain, stored = in_memory(source, "bytes", monkeypatch).test, load_text(str(source)).test
    for options in ({}, {"protocol": "sliding", "stride": 3}):
        assert perplexity(model, stored, 8, **options) == perplexity(model, plain, 8, **options)


def test_chunks_of_a_stored_text_are_those_of_the_text_in_memory(source, monkeypatch):
    plain, mapped = (
        Chunks(data.train, 16, seed=3)
        for data in (in_memory(source, "bytes", monkeypatch), load_text(str(source)))
    )
    assert plain.per_epoch == mapped.per_epoch and all(
        torch.equal(plain[i], mapped[i]) for i in range(0, 2 * plain.per_epoch, 7)
    )


def test_a_run_on_a_stored_text_is_the_run_on_the_text_in_memory(
    source, tiny_recipe, tmp_path, monkeypatch
):
    recipe = tiny_recipe(source=str(source), steps=3)
    plain = train(
        recipe, tmp_path / "plain", data=in_memory(source, "bytes", monkeypatch), cpu=True
    )
    mapped = train(recipe, tmp_path / "mapped", cpu=True)
    assert mapped.metrics() == plain.metrics()
    assert {k: mapped.results()[k] for k in ("perplexity", "data")} == json.loads(
        json.dumps({k: plain.results()[k] for k in ("perplexity", "data")})
    )
