"""Text: the documentation of this Python, local files, an unreachable hub, and the tokenizers."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
from huggingface_hub import constants

from seqpe_lab import hub
from seqpe_lab.tasks import repeats
from seqpe_lab.tasks import text_data as text
from seqpe_lab.tasks.base import SPLITS
from seqpe_lab.tasks.repeats import overlap, without_repeats
from seqpe_lab.tasks.text_data import load_text, python_documentation
from seqpe_lab.tasks.tokenization import make_tokenizer

WAYS_OUT = [
    "Three ways out",
    "(1) connect to the network",
    "(2) download the files elsewhere and pass their path",
    "(3) use source='python'",
]
LINES = [
    f"Line {i} of a small text: {i * i} is a square, é and ∑ are more than a byte.\n"
    for i in range(200)
]


@pytest.fixture(scope="module")
def documentation():
    return load_text("python")


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """parquet(rows, name): writes a file; datasets prepares it in a temporary cache."""
    import pyarrow
    from pyarrow.parquet import write_table

    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path / "cache"))

    def write(rows, name="rows.parquet", column="text"):
        write_table(pyarrow.table({column: rows}), tmp_path / name)
        return tmp_path / name

    return write


# --- the documentation of this Python -----------------------------------------------------------


def test_the_default_text_is_some_two_million_characters_of_this_python(documentation):
    assert documentation.source == "python" and documentation.description.startswith(
        "documentation of Python 3."
    )
    assert 1_500_000 < sum(documentation.characters.values()) < 5_000_000
    assert (
        documentation.vocab_size == 256
        and documentation.decode(documentation.test[:2_000]).count(" ") > 100
    )
    assert any("list comprehension" in document for document in python_documentation().values())


def test_a_document_is_in_one_split_and_all_together_are_everything():
    documents = python_documentation()
    splits = text._split_by_hash(documents)
    assert (
        sum(len(splits[s]) for s in SPLITS)
        == len(documents)
        == len({name for s in SPLITS for name in splits[s]})
    )
    assert all(documents[name] == value for s in SPLITS for name, value in splits[s].items())


def test_the_splits_are_nine_tenths_and_twice_a_twentieth(documentation):
    whole = sum(documentation.characters.values())
    shares = {split: documentation.characters[split] / whole for split in SPLITS}
    assert shares["train"] == pytest.approx(0.9, abs=0.05) and shares["test"] == pytest.approx(
        0.05, abs=0.04
    )


def test_a_document_s_split_depends_on_its_name_alone():
    """Adding and removing others moves none."""
    names = [f"module/{i}.py" for i in range(300)]
    everything, some = (
        text._split_by_hash({n: n for n in names}),
        text._split_by_hash({n: n for n in names[::3]}),
    )
    assert all(name in everything[split] for split in SPLITS for name in some[split])
    # pinned, because the split is fixed for ever
    assert sorted(everything["test"])[:4] == [
        "module/0.py",
        "module/124.py",
        "module/138.py",
        "module/149.py",
    ]
    assert sorted(everything["validation"])[:4] == [
        "module/133.py",
        "module/144.py",
        "module/147.py",
        "module/157.py",
    ]
    assert list(everything["train"])[:3] == ["module/287.py", "module/243.py", "module/76.py"]


def test_two_loads_give_the_same_tokens_and_hash(documentation):
    again = load_text("python")
    assert again.hash == documentation.hash and len(again.hash) == 16
    assert all(
        torch.equal(getattr(again, split), getattr(documentation, split)) for split in SPLITS
    )


def test_the_cache_is_read_back_and_a_broken_one_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQPE_CACHE", str(tmp_path))
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(tmp_path / "stdlib"))
    (tmp_path / "stdlib").mkdir()
    (tmp_path / "stdlib" / "tiny.py").write_text(
        '"""A module."""\ndef f():\n    """A function."""\n'
    )
    (tmp_path / "stdlib" / "template.py").write_text("def {{ not python")
    first = python_documentation()
    assert (
        first["module/tiny.py"] == "A module.\n\nA function." and "module/template.py" not in first
    )
    (cache,) = tmp_path.glob("python-*.json")
    assert python_documentation() == first == json.loads(cache.read_text())
    cache.write_text(cache.read_text()[:100])
    assert python_documentation() == first
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_provenance_says_what_a_result_was_made_from(documentation):
    stored = documentation.provenance()
    assert stored["hash"] == documentation.hash and stored["tokens"]["test"] == len(
        documentation.test
    )
    assert stored["overlap"] == documentation.overlap and stored["overlap"].keys() == {
        "validation",
        "test",
    }
    json.dumps(stored)


# --- repeated passages --------------------------------------------------------------------------


def words(begin: int, end: int, changed: int = 0, stop: str = "") -> str:
    """Words of their own, in short lines; every ``changed``-th is another."""
    return "\n".join(
        " ".join(
            (f"x{i}" if changed and i % changed == 0 else f"w{i}") + stop
            for i in range(line, min(line + 8, end))
        )
        for line in range(begin, end, 8)
    )


LONG = f"{words(0, 100)}\n\n{words(100, 160)}\n\n{words(160, 300)}"


def test_a_paragraph_stays_in_the_longest_document_alone():
    documents = {"a": f"{words(500, 520)}\n\n{words(100, 160)}\n\n{words(520, 540)}", "b": LONG}
    assert without_repeats(documents) == {"a": f"{words(500, 520)}\n\n{words(520, 540)}", "b": LONG}


@pytest.mark.parametrize(
    "near",
    [
        words(100, 160).upper(),
        words(100, 160, stop=","),
        words(100, 160).replace("\n", " "),
        words(100, 160, changed=10),  # half of the sequences of five words are the same
        words(100, 160, changed=7),
        words(120, 160),
        f"{words(100, 140)} {words(600, 630)}",
    ],
    ids=["case", "punctuation", "line ends", "tenth word", "seventh word", "part", "longer"],
)
def test_a_near_duplicate_is_left_out(near):
    assert without_repeats({"near": f"{near}\n\nIts own.", "long": LONG}) == {
        "near": "Its own.",
        "long": LONG,
    }


@pytest.mark.parametrize(
    "own",
    [
        words(100, 160, changed=4),  # no five words in a row are the same
        f"{words(100, 110)} {words(600, 640)}",  # 6 of 46 sequences
        f"{words(700, 720)}\n\n{words(720, 722)}\n\n{words(700, 720)}",  # repeats itself
    ],
)
def test_what_only_resembles_another_text_stays_to_the_letter(own):
    assert without_repeats({"own": own, "long": LONG}) == {"own": own, "long": LONG}


def test_a_document_that_is_all_copy_is_gone_and_of_two_equal_ones_the_first_stays():
    assert without_repeats({"copy": words(0, 90), "second": LONG, "first": LONG}) == {"first": LONG}


def test_the_overlap_counts_every_window_and_none_across_documents():
    assert overlap([LONG], [LONG[30:200]]) == 1.0
    assert overlap([LONG], [words(400, 500)]) == 0.0
    assert overlap([LONG], ["short"]) == overlap(["short"], [LONG]) == overlap([], [LONG]) == 0.0
    # 151 windows in the copy, 101 in the rest, none across
    assert overlap([LONG], [LONG[:200], "z" * 150]) == 151 / (151 + 101)
    assert overlap([LONG[:100], LONG[100:200]], [LONG[:200]]) == 102 / 151
    assert overlap(["é" * 24], ["é" * 25]) == 0.0 and overlap(["é" * 25], ["é" * 25]) == 1.0


@pytest.mark.parametrize("block", [1, 7, 150, 2_000])
def test_the_overlap_does_not_depend_on_the_blocks_that_are_hashed(block, monkeypatch):
    train, test = [LONG[:100], LONG[100:400], "é" * 60], [LONG[:200], LONG[350:450], "é" * 30]
    expected = overlap(train, test)
    monkeypatch.setattr(repeats, "BLOCK", block)
    assert overlap(train, test) == expected and 0 < expected < 1


def windows(documents) -> list[bytes]:
    found = [text.encode() for text in documents]
    return [data[i : i + 50] for data in found for i in range(len(data) - 49)]


def test_hardly_anything_of_the_test_text_is_training_text(documentation):
    splits, _ = text.load_documents("python")
    known = set(windows(splits["train"].values()))
    for split in ("validation", "test"):
        asked = windows(splits[split].values())
        share = sum(window in known for window in asked) / len(asked)
        assert share < 0.05 and documentation.overlap[split] == pytest.approx(share, abs=1e-5)
    with_repeats = text._split_by_hash(python_documentation())
    assert overlap(with_repeats["train"].values(), with_repeats["test"].values()) > 0.1


def test_most_of_the_documentation_is_kept_as_it_is_and_enough_to_evaluate_on(documentation):
    splits, _ = text.load_documents("python")
    everything = python_documentation()
    kept = {name: text for split in SPLITS for name, text in splits[split].items()}
    assert sum(map(len, kept.values())) > 0.85 * sum(map(len, everything.values()))
    assert all(
        part in everything[name] for name, text in kept.items() for part in text.split("\n\n")
    )
    assert max(map(len, everything.values())) == max(map(len, kept.values()))
    assert len(documentation.test) > 65_536 and len(documentation.validation) > 16_384


def test_the_text_does_not_depend_on_the_order_of_documents_or_on_python_s_hashes(project):
    program = (
        "from seqpe_lab.tasks.repeats import without_repeats\n"
        "from seqpe_lab.tasks.text_data import load_text, python_documentation\n"
        "documents = python_documentation()\n"
        "backwards = without_repeats(dict(reversed(documents.items())))\n"
        "print(load_text().hash, backwards == without_repeats(documents))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{load_text().hash} True\n", done.stderr


def test_nothing_is_removed_from_a_reader_s_own_text_and_its_overlap_is_measured(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(LONG)
    data = load_text(str(tmp_path))
    assert all(data.decode(getattr(data, split)) == LONG for split in SPLITS)
    assert data.overlap == {"validation": 1.0, "test": 1.0}


# --- tokenizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bytes", "bpe:257", "bpe:400"])
def test_tokens_decode_to_the_text_they_were_made_from(name):
    documents = {"a": "".join(LINES), "b": "Tabs\tand\r\nline ends,  double spaces, 数字 and 🙂."}
    encode, decode, vocab_size = make_tokenizer(name, documents)
    tokens = encode(documents)
    assert tokens.dtype == torch.int64 and 0 <= int(tokens.min()) and int(tokens.max()) < vocab_size
    assert decode(tokens) == documents["a"] + documents["b"]


def test_bytes_are_utf8_and_documents_end_in_byte_0():
    encode, decode, vocab_size = make_tokenizer("bytes", {})
    assert (
        encode({"a": "é!", "b": "x"}).tolist() == [0xC3, 0xA9, ord("!"), 0, ord("x"), 0]
        and vocab_size == 256
    )


def test_bpe_documents_end_in_a_token_of_their_own():
    encode, decode, _ = make_tokenizer("bpe:300", {"a": "".join(LINES)})
    tokens = encode({"a": "Line 1", "b": "Line 2"}).tolist()
    assert tokens.count(tokens[-1]) == 2 and decode(tokens[:-1]).startswith("Line 1")


def test_bpe_is_trained_on_the_training_split_alone_and_shortens_it(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(LINES), encoding="utf-8")
    data, plain = load_text(str(path), "bpe:400"), load_text(str(path))
    assert data.vocab_size <= 400 and len(data.train) < 0.7 * len(plain.train)
    assert data.hash == plain.hash and data.decode(data.test) == plain.decode(plain.test)
    encode, _, _ = make_tokenizer("bpe:400", {"train": plain.decode(plain.train)})
    assert torch.equal(encode({"test": plain.decode(plain.test)}), data.test)


def test_bpe_is_the_same_in_every_run():
    documents = {str(i): line for i, line in enumerate(LINES)}
    first, second = (make_tokenizer("bpe:350", documents)[0](documents) for _ in range(2))
    assert torch.equal(first, second)


def test_a_tokenizer_json_is_taken_by_its_path(shared):
    path = shared / "data" / "gpt2_bpe" / "tokenizer.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    encode, decode, vocab_size = make_tokenizer(str(path), {})
    assert vocab_size == 50_257
    tokens = encode({"a": "Hello world"})
    assert tokens.tolist() == [15496, 995, 50256] and decode(tokens[:-1]) == "Hello world"


def test_wikitext_s_raw_test_split_has_286221_gpt2_tokens(shared, tmp_path):
    """As counted everywhere: the whole file with its line ends; here a mark ends the document."""
    wikitext, tokenizer = (
        shared / "data" / "wikitext",
        shared / "data" / "gpt2_bpe" / "tokenizer.json",
    )
    if not (wikitext.is_dir() and tokenizer.exists()):
        pytest.skip(f"no {wikitext} or {tokenizer}")
    (tmp_path / "wiki.test.raw").symlink_to(wikitext / "wiki.test.raw")
    for name in ("wiki.train.raw", "wiki.valid.raw"):
        (tmp_path / name).write_text("".join(LINES), encoding="utf-8")
    data = load_text(str(tmp_path), str(tokenizer))
    assert len(data.test) == 286_221 + 1
    assert data.decode(data.test[:40]).startswith(" \n = Robert Boulter = \n")


# --- local files --------------------------------------------------------------------------------


def test_a_single_file_is_cut_into_nine_tenths_and_twice_a_twentieth(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(LINES), encoding="utf-8")
    data = load_text(str(path))
    assert data.description == "book.txt"
    assert "".join(data.decode(getattr(data, split)) for split in SPLITS) == "".join(LINES)
    assert data.characters["test"] == pytest.approx(0.05 * len("".join(LINES)), abs=2)


def test_named_files_keep_their_roles(tmp_path):
    for name, content in {
        "wiki.train.raw": "training",
        "wiki-valid.txt": "validating",
        "TEST_1.txt": "testing",
        "test_2.txt": "more testing",
    }.items():
        (tmp_path / name).write_text(content)
    data = load_text(str(tmp_path))
    assert [data.decode(getattr(data, split)) for split in SPLITS] == [
        "training",
        "validating",
        "testingmore testing",
    ]


def test_a_file_whose_name_only_contains_test_is_no_test_file(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(name * 20)
    (tmp_path / "greatest.txt").write_text("great")
    assert load_text(str(tmp_path)).decode(load_text(str(tmp_path)).test) == "test" * 20


def test_test_files_never_become_training_text(tmp_path):
    """A folder with train and test but no validation: kept apart or refused, never mixed."""
    (tmp_path / "train.txt").write_text("to learn " * 50)
    (tmp_path / "test.txt").write_text("to be kept secret " * 50)
    try:
        data = load_text(str(tmp_path))
    except ValueError as error:
        assert "validation" in str(error)
    else:
        assert "secret" not in data.decode(data.train)


def test_files_of_one_name_in_two_folders_are_two_documents(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text(f"from folder {folder} " * 40)
    data = load_text(str(tmp_path))
    assert sum(data.characters.values()) == 2 * len("from folder a " * 40)


def test_many_documents_are_split_by_the_hash_of_their_names(parquet):
    data = load_text(str(parquet([f"document {i} has its own words\n" for i in range(400)])))
    texts = [set(data.decode(getattr(data, split)).splitlines()) for split in SPLITS]
    assert sum(map(len, texts)) == 400 and not texts[0] & texts[1] and not texts[0] & texts[2]
    assert len(texts[0]) == pytest.approx(360, abs=20)


def test_parquet_files_with_named_roles(parquet, tmp_path):
    for name in ("train", "validation", "test"):
        parquet([f"one {name} ", f"two {name} "], f"{name}.parquet")
    data = load_text(str(tmp_path))
    assert [data.decode(getattr(data, split)) for split in SPLITS] == [
        f"one {s} two {s} " for s in SPLITS
    ]


def test_the_hash_tells_texts_and_their_splits_apart(tmp_path):
    def load(folder, **files):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / f"{name}.txt").write_text(content)
        return load_text(str(tmp_path / folder)).hash

    first = load("1", train_1="a", train_2="b", valid_1="c", test_1="d")
    assert load("2", train_1="a", train_2="b", valid_1="c", test_1="d") == first
    assert load("3", train_1="a", train_2="b", valid_1="c", test_1="e") != first
    assert (
        load("4", train_1="a", valid_1="b", valid_2="c", test_1="d") != first
    )  # the same documents, split elsewhere


# --- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def nobody_there(monkeypatch):
    """A port that refuses at once, whatever network the machine has."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def refused(*arguments) -> str:
    began = time.monotonic()
    with pytest.raises(ConnectionError) as error:
        load_text(*arguments)
    assert time.monotonic() - began < 5
    return str(error.value)


def test_an_unreachable_hub_is_named_within_seconds_with_three_ways_out(nobody_there):
    message = refused("hub:Salesforce/wikitext:wikitext-103-raw-v1")
    assert "Salesforce/wikitext" in message and all(part in message for part in WAYS_OUT)


def black_hole(port, monkeypatch) -> None:
    """The hub is a port that accepts, and never says a word."""
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


def unresolved(port, monkeypatch) -> None:
    """Looking a name up knows no time limit: here it never ends."""
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *arguments, **options: threading.Event().wait()
    )


def many_addresses(port, monkeypatch) -> None:
    """Each of which would be given its own two seconds."""
    monkeypatch.setattr(socket, "create_connection", lambda *arguments, **options: time.sleep(5))


@pytest.mark.parametrize("fate", [black_hole, unresolved, many_addresses])
def test_a_hub_that_never_answers_is_given_up_within_three_seconds(fate, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fate(silent.getsockname()[1], monkeypatch)
        message = refused("hub:Salesforce/wikitext")
    assert "Salesforce/wikitext" in message and all(part in message for part in WAYS_OUT)


@pytest.mark.parametrize("status", [200, 401, 503])
def test_any_answer_shows_that_the_hub_is_there(status, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        hub.require_hub("a text", "")


def test_gpt2_s_vocabulary_out_of_reach_has_ways_out_that_help(nobody_there, tmp_path):
    (tmp_path / "text.txt").write_text("".join(LINES))
    message = refused(str(tmp_path / "text.txt"), "gpt2")
    assert "GPT-2" in message and "tokenizer.json" in message and "`tokenizer`" in message


@pytest.mark.parametrize(
    "source, tokenizer", [("hub:Salesforce/wikitext:wikitext-103-raw-v1", "bytes"), (None, "gpt2")]
)
def test_offline_mode_ends_in_the_same_error(source, tokenizer, monkeypatch, tmp_path):
    import datasets
    import tokenizers

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def not_cached(*arguments, **options):
        raise FileNotFoundError("not in the local cache")

    monkeypatch.setattr(datasets, "load_dataset", not_cached)
    monkeypatch.setattr(tokenizers.Tokenizer, "from_pretrained", not_cached, raising=False)
    (tmp_path / "text.txt").write_text("".join(LINES))
    assert "Three ways out" in refused(source or str(tmp_path / "text.txt"), tokenizer)


def test_rows_of_a_hub_data_set_become_one_document_a_split(monkeypatch):
    import datasets

    rows = {
        "train": {"text": ["= Title =\n", "", "No line end"]},
        "validation": {"text": ["v\n"]},
        "test": {"text": ["t\n"]},
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: rows)
    monkeypatch.setattr(hub, "require_hub", lambda *arguments: None)
    data = load_text("hub:someone/something")
    assert (
        data.decode(data.train) == "= Title =\n\nNo line end\n"
        and data.description == "someone/something"
    )
    del rows["test"]
    with pytest.raises(ValueError, match="has no split test, only train, validation"):
        load_text("hub:someone/something")
