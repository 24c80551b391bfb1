"""Whole books: their sources, that no model was trained on them, and bits per character."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import VARIANTS
from huggingface_hub import constants
from test_gpt2 import Largest

from seqpe_lab import hub
from seqpe_lab.cli import main
from seqpe_lab.runs import Run
from seqpe_lab.tasks import text_data as text
from seqpe_lab.tasks.books import load_books
from seqpe_lab.tasks.perplexity import bits_per_character, perplexity, token_nats
from seqpe_lab.tasks.text_data import load_documents, python_documentation
from seqpe_lab.tasks.tokenization import make_tokenizer

# characters of one to four bytes, some of several code points
TEXTS = {
    "german": "Größe: 3 €. Übung – »naïve« Straße, 5 µm.\n",
    "east asian": "位置は数字の列である。\n위치는 숫자열이다 — 位置是一串數字。",
    "signs": "👩‍🔬🧮 x̄ = ∑ᵢ xᵢ, e\u0301 ≠ é, 𝔸\t𐍈!",
}


# --- where books come from ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def splits():
    return load_documents("python")[0]


@pytest.fixture(scope="module")
def default():
    return load_books(count=1_000)


def runs_of_words(text: str, words: int = 13) -> set[tuple[str, ...]]:
    """Texts that share one overlap (Brown et al. 2020, App. C)."""
    parts = text.split()
    return set(zip(*(parts[i:] for i in range(words))))


def test_the_default_shares_no_passage_with_what_the_small_models_are_trained_on(splits, default):
    trained_on = set().union(
        *(runs_of_words(t) for split in ("train", "validation") for t in splits[split].values())
    )
    assert len(default.texts) > 20 and sum(map(len, default.texts.values())) > 50_000
    assert not [name for name, t in default.texts.items() if runs_of_words(t) & trained_on]
    # with its repeated passages it would
    others = (t for name, t in python_documentation().items() if name not in splits["test"])
    trained_on = set().union(*map(runs_of_words, others))
    assert any(runs_of_words(python_documentation()[name]) & trained_on for name in splits["test"])


def test_the_default_is_the_longest_of_the_test_split_and_says_which_part_of_what(splits, default):
    found = load_books(count=5)
    assert found.texts == dict(list(default.texts.items())[:5]) and found.hash != default.hash
    lengths = [len(t) for t in found.texts.values()]
    assert len(lengths) == 5 and lengths == sorted(lengths, reverse=True) and lengths[-1] > 2_000
    assert all(splits["test"][name] == t for name, t in found.texts.items())
    assert "Python" in found.description and "test split" in found.description
    assert found.provenance()["characters"] == {name: len(t) for name, t in found.texts.items()}


def test_books_of_a_folder_come_longest_first_with_their_paths_as_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name, content in {
        "one.txt": "x" * 5,
        "b/two.txt": "é" * 9,
        "three.txt": "z" * 7,
        "notes.pdf": "not a book",
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = load_books(str(tmp_path))
    assert (
        found.texts == {"b/two.txt": "é" * 9, "three.txt": "z" * 7, "one.txt": "x" * 5}
        and found.description == tmp_path.name
    )
    assert list(load_books(str(tmp_path), count=1).texts) == ["b/two.txt"]
    assert load_books(str(tmp_path / "one.txt")).texts == {"one.txt": "x" * 5}


def test_books_of_a_parquet_file(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["short", "a longer one"]}), tmp_path / "test.parquet"
    )
    assert list(load_books(str(tmp_path / "test.parquet")).texts.values()) == [
        "a longer one",
        "short",
    ]


def write(folder, name="book.txt", content=b"a book"):
    (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(
    "source, kind, fragments",
    [
        (
            lambda tmp: write(tmp, "empty.txt", b""),
            ValueError,
            ["empty.txt", "is empty", "take it out"],
        ),
        (lambda tmp: write(tmp, "blank.txt", b" \n\n"), ValueError, ["blank.txt", "is empty"]),
        (
            lambda tmp: write(tmp, "latin.txt", "Caf\xe9".encode("latin-1")),
            ValueError,
            ["latin.txt", "not UTF-8", "byte 3", "convert"],
        ),
        (lambda tmp: write(tmp, "book.pdf"), ValueError, ["no .txt, .raw or .parquet file"]),
        (lambda tmp: f"{tmp}/none.txt", FileNotFoundError, ["none.txt", "folder of them"]),
        (
            lambda tmp: "gutenberg",
            ValueError,
            ["'gutenberg'", "'python', 'pg19', a path, or 'hub:NAME'"],
        ),
        (lambda tmp: "", ValueError, ["''", "choose"]),
    ],
    ids=["empty", "blank", "latin-1", "no text file", "not there", "unknown", "no name"],
)
def test_bad_sources_are_refused_by_name(source, kind, fragments, tmp_path):
    with pytest.raises(kind) as error:
        load_books(source(tmp_path))
    assert all(part in str(error.value) for part in fragments), error.value


def test_a_count_below_1_is_refused():
    with pytest.raises(ValueError, match="at least 1 book, got 0"):
        load_books(count=0)


def test_pg19_out_of_reach_is_named_within_seconds_with_three_ways_out(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # refuses at once
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ConnectionError) as error:
        load_books("pg19")
    assert all(
        part in str(error.value)
        for part in ("emozilla/pg19-test", "(1)", "(2)", "(3)", "parquet", "source='python'")
    )


def test_pg19_is_its_test_split_by_title(monkeypatch):
    import datasets

    rows = datasets.Dataset.from_dict(
        {
            "short_book_title": ["A", "A"],
            "publication_date": [1800, 1900],
            "text": ["one", "the other"],
        }
    )
    asked = []
    monkeypatch.setattr(hub, "require_hub", lambda *arguments: None)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, split: asked.append((name, split)) or rows
    )
    assert load_books("pg19").texts == {"1 A": "the other", "0 A": "one"}
    assert asked == [("emozilla/pg19-test", "test")]
    with pytest.raises(
        ValueError, match="no column 'text', only short_book_title, publication_date"
    ):
        monkeypatch.setattr(
            datasets, "load_dataset", lambda name, split: rows.remove_columns("text")
        )
        load_books("hub:someone/books")


# --- bits per character ---------------------------------------------------------------------------

TOKENIZERS = {
    "bytes": make_tokenizer("bytes", {}),
    "bpe:290": make_tokenizer("bpe:290", {"all": "".join(TEXTS.values()) * 3}),
}


def spell(model, text: str, tokenizer: str, length: int, reach) -> float:
    """Bits per character, one context at a time.

    ``reach(i)``: the first token that may be seen when token i is predicted.
    """
    encode, _, _ = TOKENIZERS[tokenizer]
    tokens = encode({"": ""}).tolist() + encode({"": text}).tolist()[:-1]
    bits = 0.0
    for i in range(1, len(tokens)):
        with torch.no_grad():
            logits = model(torch.tensor([tokens[reach(i) : i]]), context_len=length)[0, -1]
        bits -= F.log_softmax(logits.double(), -1)[tokens[i]].item() / math.log(2)
    return bits / len(text)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("length", [1, 7, 30])
def test_bits_per_character_equal_a_count_by_brute_force(name, tokenizer, length, tiny_model):
    """Non-overlapping: predictions 1, length + 1, ... see only the token before them."""
    encode, decode, vocab_size = TOKENIZERS[tokenizer]
    model = tiny_model("rope", vocab_size=vocab_size)
    (measured,) = bits_per_character(model, {name: TEXTS[name]}, encode, decode, [length])
    assert measured.bits == pytest.approx(
        spell(model, TEXTS[name], tokenizer, length, lambda i: (i - 1) // length * length), rel=1e-5
    )
    assert (measured.length, measured.characters, measured.documents) == (
        length,
        len(TEXTS[name]),
        1,
    )
    assert (
        measured.tokens == len(encode({"": TEXTS[name]})) - 1
        and measured.protocol == "non-overlapping"
    )


@pytest.mark.parametrize("length, stride", [(8, 1), (8, 3), (16, 8), (7, 7)])
def test_a_sliding_window_equals_a_count_by_brute_force(length, stride, tiny_model):
    """A token is counted in the first window that reaches it."""
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    model = tiny_model("alibi", vocab_size=vocab_size)
    (measured,) = bits_per_character(
        model, {"": TEXTS["signs"]}, encode, decode, [length], protocol="sliding", stride=stride
    )
    expected = spell(
        model,
        TEXTS["signs"],
        "bytes",
        length,
        lambda i: max(0, -(-(i - length) // stride)) * stride,
    )
    assert (
        measured.bits == pytest.approx(expected, rel=1e-5)
        and measured.protocol == f"sliding, stride {stride}"
    )


@pytest.mark.parametrize("protocol", ["non-overlapping", "sliding"])
def test_every_encoding_equals_a_count_by_brute_force(variant, protocol, tiny_model):
    """Also a learned table of 12 rows, stretched over 20 tokens in every window."""
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    model = tiny_model(*variant, vocab_size=vocab_size)
    (measured,) = bits_per_character(
        model, {"": TEXTS["german"]}, encode, decode, [20], protocol=protocol
    )
    reach = {
        "non-overlapping": lambda i: (i - 1) // 20 * 20,
        "sliding": lambda i: max(0, -(-(i - 20) // 10)) * 10,
    }
    assert measured.bits == pytest.approx(
        spell(model, TEXTS["german"], "bytes", 20, reach[protocol]), rel=1e-4
    )


@pytest.mark.parametrize("name", TEXTS)
def test_who_knows_nothing_pays_eight_bits_a_byte(name, tiny_model):
    """Exact: all 256 bytes alike, so a character of n bytes costs 8 n bits in any windows."""
    encode, decode, _ = TOKENIZERS["bytes"]
    model = tiny_model(vocab_size=256)
    torch.nn.init.zeros_(model.transformer.wte.weight)
    for measured in bits_per_character(model, {name: TEXTS[name]}, encode, decode, [1, 7, 32]):
        assert measured.bits == pytest.approx(
            8 * len(TEXTS[name].encode()) / len(TEXTS[name]), abs=1e-6
        )


def test_every_token_counts_once_at_every_length_and_in_every_protocol(tiny_model):
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    model = tiny_model("seqpe", {"digits": 3}, vocab_size=vocab_size)
    for options in ({}, {"protocol": "sliding"}, {"protocol": "sliding", "stride": 1}):
        measured = bits_per_character(model, TEXTS, encode, decode, [1, 3, 8, 40], **options)
        assert {(m.characters, m.tokens, m.documents) for m in measured} == {
            (sum(map(len, TEXTS.values())), sum(len(t.encode()) for t in TEXTS.values()), 3)
        }


def test_documents_are_read_apart(tiny_model):
    """The cost of two is the sum of their costs: no window reaches from one into the other."""
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    model = tiny_model("sinusoidal", vocab_size=vocab_size)

    def bits(*names):
        (measured,) = bits_per_character(
            model, {name: TEXTS[name] for name in names}, encode, decode, [25]
        )
        return measured.bits * measured.characters

    assert bits("german", "signs") == pytest.approx(bits("german") + bits("signs"))


def test_a_document_shorter_than_the_longest_context_is_left_out_at_all_lengths(tiny_model):
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    model = tiny_model(vocab_size=vocab_size)
    documents = {"long": "x" * 40, "exactly": "y" * 30, "short": "z" * 29}
    measured = bits_per_character(model, documents, encode, decode, [5, 30])
    assert {(m.documents, m.characters) for m in measured} == {(2, 70)}
    assert (
        measured[0]
        == bits_per_character(
            model, {name: documents[name] for name in ("long", "exactly")}, encode, decode, [5]
        )[0]
    )


def test_where_chunks_come_out_even_it_is_the_perplexity(tiny_model, tokens):
    model, sequence = tiny_model("rope"), tokens.flatten()[:17]
    for options in ({}, {"protocol": "sliding", "stride": 2}):
        assert token_nats(model, sequence, 4, **options).mean().item() == pytest.approx(
            perplexity(model, sequence, 4, **options).nats, abs=1e-6
        )


@pytest.mark.parametrize("tokens_per_pass", [1, 20, 10_000])
def test_how_many_windows_go_through_at_once_does_not_matter(tokens_per_pass, tiny_model, tokens):
    model = tiny_model("learned")
    torch.testing.assert_close(
        token_nats(model, tokens.flatten(), 5, tokens_per_pass=tokens_per_pass),
        token_nats(model, tokens.flatten(), 5),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("training", [True, False])
def test_it_is_without_dropout_and_leaves_the_mode_as_it_was(training, tiny_model, tokens):
    model = tiny_model("rope", dropout=0.5).train(training)
    assert (
        torch.equal(token_nats(model, tokens[0], 4), token_nats(model, tokens[0], 4))
        and model.training is training
    )
    with pytest.raises(ValueError, match="max_position=200"):
        token_nats(model, torch.zeros(400, dtype=torch.long), 300)
    assert model.training is training


# --- memory ---------------------------------------------------------------------------------------


class Made(Largest):
    """Adds up the numbers in every tensor that torch makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(function, types, args, kwargs)
        self.numbers += sum(
            t.numel()
            for t in (out if isinstance(out, (tuple, list)) else [out])
            if isinstance(t, torch.Tensor)
        )
        return out


@pytest.mark.parametrize(
    "name", sorted(VARIANTS.keys() - {"rope-half", "alibi-scaled", "seqpe-unscaled"})
)  # those differ in numbers, not in shapes
def test_a_context_of_4096_tokens_takes_linear_memory_and_no_l_by_l_matrix(name, tiny_model):
    """Twice the context, twice the numbers made on the way (within 5 %), none of them L x L."""
    encoding, options = VARIANTS[name]
    model = tiny_model(
        encoding,
        options | ({"digits": 4} if "digits" in options else {}),
        d_model=8,
        heads=2,
        layers=1,
        max_position=4_096,
    )
    made = []
    for length in (2_048, 4_096):
        with Made(length) as seen:
            token_nats(model, torch.zeros(length + 1, dtype=torch.long), length)
        assert not seen.found
        made.append(seen.numbers)
    assert made[1] < 2.1 * made[0]


# --- what cannot be measured ----------------------------------------------------------------------


def refused(model, documents, lengths, tokenizer="bytes", **options) -> str:
    encode, decode, _ = TOKENIZERS[tokenizer] if isinstance(tokenizer, str) else tokenizer
    with pytest.raises(ValueError) as error:
        bits_per_character(model, documents, encode, decode, lengths, **options)
    return str(error.value)


def test_a_context_beyond_what_k_digits_can_write_is_refused_before_anything_is_read(
    tiny_model, monkeypatch
):
    model = tiny_model("seqpe", {"digits": 2}, vocab_size=256, max_position=5_000)
    monkeypatch.setattr(
        "seqpe_lab.tasks.perplexity.token_nats", lambda *a, **o: pytest.fail("it began to measure")
    )
    message = refused(model, {"a": "x" * 300}, [50, 128])
    assert all(
        part in message
        for part in ("position 127", "needs 3 digits in base 10", "k=2", "raise `digits` to 3")
    )


def test_a_context_beyond_max_position_is_refused_for_every_encoding(variant, tiny_model):
    """A learned table too: it stretches, but not further than the model was made for."""
    message = refused(tiny_model(*variant, vocab_size=256), {"a": "x" * 300}, [100, 201])
    assert all(
        part in message
        for part in ("position 200", "max_position=200", "raise `max_position` or shorten")
    )


def test_documents_that_cannot_be_counted_are_named(tiny_model):
    model = tiny_model(vocab_size=290)
    assert "'nothing' is empty" in refused(model, {"a": "x" * 9, "nothing": ""}, [4])
    assert "'zero'" in refused(model, {"zero": "a\0b" * 9}, [4])  # byte 0 stands between documents
    assert "'separator'" in refused(model, {"separator": "a<|endoftext|>b" * 9}, [4], "bpe:290")
    assert "none of 2 documents has the 30 tokens" in refused(
        model, {"a": "x" * 9, "b": "é" * 10}, [30]
    ) and "longest has 20" in refused(model, {"a": "x", "b": "é" * 10}, [30])
    assert "none of 0 documents" in refused(model, {}, [30])


def test_a_tokenizer_that_changes_texts_is_refused(tiny_model):
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    message = refused(
        tiny_model(vocab_size=256),
        {"Loud": "ABC" * 9},
        [4],
        (encode, lambda tokens: decode(tokens).lower(), vocab_size),
    )
    assert "'Loud'" in message and "another text" in message


def test_a_tokenizer_without_a_separator_is_refused(tiny_model):
    encode, decode, vocab_size = TOKENIZERS["bytes"]
    assert "<|endoftext|>" in refused(
        tiny_model(vocab_size=256),
        {"a": "ABC" * 9},
        [4],
        (lambda d: encode(d)[:-1], decode, vocab_size),
    )


@pytest.mark.parametrize(
    "lengths, options, fragment",
    [
        ([], {}, "at least one length"),
        ([4, 0], {}, "at least 1 token"),
        ([4], {"protocol": "hopping"}, "'hopping'"),
        ([8, 4], {"protocol": "sliding", "stride": 5}, "stride must lie in [1, 4], got 5"),
    ],
)
def test_lengths_and_protocols_that_make_no_sense_are_refused(
    lengths, options, fragment, tiny_model
):
    assert fragment in refused(tiny_model(vocab_size=256), {"a": "x" * 30}, lengths, **options)


def test_a_text_of_one_token_has_nothing_to_predict(tiny_model):
    with pytest.raises(ValueError, match="1 tokens has none to predict"):
        token_nats(tiny_model(), torch.zeros(1, dtype=torch.long), 4)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = (
        "d_model=16",
        "layers=1",
        "heads=2",
        "train_len=16",
        "max_position=100",
        "steps=1",
        "pivots=4",
        "candidates=4",
        "hard=1",
        "distillation_batch=2",
        "teachers=4",
        "eval_lens=[16, 32]",
        "eval_tokens=64",
    )
    assert (
        main(
            [
                "train",
                "lm",
                "--encoding",
                "seqpe",
                "--scale",
                "smoke",
                "--cpu",
                "--folder",
                str(folder),
                "--set",
                *settings,
            ]
        )
        == 0
    )
    return folder


def test_evaluate_takes_books(trained, tmp_path, capsys):
    for name, content in TEXTS.items():
        (tmp_path / f"{name}.txt").write_text(content, encoding="utf-8")
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                str(trained),
                "--books",
                str(tmp_path),
                "--count",
                "2",
                "--lengths",
                "8",
                "32",
                "--protocol",
                "sliding",
                "--stride",
                "4",
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    from seqpe_lab.runs.run_weights import trained_model

    model = trained_model(Run.open(trained), text.load_text())
    found = load_books(str(tmp_path), count=2)
    measured = bits_per_character(
        model, found.texts, *TOKENIZERS["bytes"][:2], [8, 32], protocol="sliding", stride=4
    )
    for line, m in zip(lines, measured, strict=True):
        assert (
            line.strip().startswith(
                f"{m.length} tokens: {m.bits:.4f} bits per character "
                "(sliding, stride 4; 2 of 2 books"
            )
            and f"{m.characters:,} characters in {m.tokens:,} tokens" in line
        )


def test_evaluate_takes_the_default_books_and_the_recipe_s_lengths(trained, capsys):
    assert main(["evaluate", str(trained), "--books", "--count", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["16", "32"] and all(
        "1 of 1 books of documentation of Python" in line for line in lines
    )


def test_evaluate_refuses_what_it_cannot_read(trained, tmp_path, capsys, monkeypatch):
    def error(*options):
        assert main(["evaluate", str(trained), "--books", *options]) == 2
        return capsys.readouterr().err

    assert "max_position=100" in error("--lengths", "101")
    assert "latin.txt is not UTF-8" in error(write(tmp_path, "latin.txt", b"caf\xe9"))
    from seqpe_lab.tasks.text import TextTask

    monkeypatch.setattr(
        TextTask,
        "load_data",
        lambda task: text.load_text(write(tmp_path, "latin.txt", b"another documentation " * 50)),
    )
    message = error()
    assert "another Python's documentation" in message and "--books" in message
