"""Texts to tokens: bytes, a byte-level BPE trained here, GPT-2's, or a tokenizer.json."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqpe_lab.hub import ask_hub, three_ways_out

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_DOCUMENT = "<|endoftext|>"  # of the BPE tokenizers; as bytes, documents end in byte 0
PIECE = 2**14  # the fewest characters of a piece into which a long text is cut
AT_ONCE = 256  # pieces that are tokenised in one call
LONG_WORD = 1_000  # characters; a BPE is trained on longer words in parts of so many
_LONG = re.compile(rf"\S{{{LONG_WORD}}}(?=\S)")
_CUT = re.compile(r"(?<=\S)(?=[ \n])")  # white space for Python and for the tokenizers
_WAYS_OUT = three_ways_out(
    "download its tokenizer.json elsewhere and pass the path as `tokenizer`",
    "use tokenizer='bytes' or 'bpe:SIZE', which need no network")


def make_tokenizer(name: str, train: Mapping[str, str],
                   kept: str | None = None) -> tuple[Callable, Callable, int]:
    """A tokenizer as two functions and the size of its vocabulary.

    Args:
        name: "bytes", "bpe:SIZE", "gpt2", or the path of a tokenizer.json.
        train: documents by name, which "bpe:SIZE" is trained on; others do not need them.
        kept: the contents of a tokenizer.json that a run keeps, in place of the one named.

    Returns:
        encode: documents by name -> int64 (tokens,), with an end mark after each document, and no
            other token that the tokenizer's own post-processor would add;
        decode: token numbers -> str, end marks left out;
        vocab_size.

    Raises:
        ValueError: an unknown name, a BPE below 257 entries, a file of another kind.
        ConnectionError: GPT-2's vocabulary cannot be reached; names the three ways out.

    >>> encode, decode, vocab_size = make_tokenizer("bytes", {})
    >>> encode({"a": "Hi", "b": "é"}).tolist(), decode([72, 105])
    ([72, 105, 0, 195, 169, 0], 'Hi')
    """
    return as_functions(load_tokenizer(name, train, kept))


def as_functions(bpe: Tokenizer | None) -> tuple[Callable, Callable, int]:
    """What :func:`make_tokenizer` returns, of a loaded tokenizer; None stands for bytes."""
    def encode(documents: Mapping[str, str]) -> Tensor:
        texts = list(documents.values())
        spans = list(pieces(texts, bpe))
        parts = [part.astype(np.int64) for begin in range(0, len(spans), AT_ONCE)
                 for part in tokenise(texts, spans[begin: begin + AT_ONCE], bpe)]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]))

    def decode(tokens: Tensor | Sequence[int]) -> str:
        numbers = torch.as_tensor(tokens[:]).tolist()
        return bpe.decode(numbers) if bpe else bytes(filter(None, numbers)).decode(errors="replace")

    return encode, decode, bpe.get_vocab_size() if bpe else 256


def load_tokenizer(name: str, train: Mapping[str, str],
                   kept: str | None = None) -> Tokenizer | None:
    """The ``tokenizers.Tokenizer`` of a name, as :func:`make_tokenizer` takes it; None: bytes."""
    if name == "bytes":
        return None
    from tokenizers import Tokenizer
    if kept is not None:
        bpe = Tokenizer.from_str(kept)
    elif name.startswith("bpe:"):
        size = name.removeprefix("bpe:")
        if not size.isdigit() or int(size) < 257:
            raise ValueError(f"a byte-level BPE needs at least 257 entries, got {name!r}: for "
                             "instance 'bpe:1024'")
        bpe = _train_bpe(list(train.values()), int(size))
    elif name == "gpt2":
        bpe = ask_hub("GPT-2's vocabulary", _WAYS_OUT,
                      lambda: Tokenizer.from_pretrained("openai-community/gpt2"))
    elif Path(name).expanduser().is_file():
        try:
            bpe = Tokenizer.from_file(str(Path(name).expanduser()))
        except Exception as error:  # tokenizers raises nothing more special
            raise ValueError(
                f"{name} is no tokenizer.json of the tokenizers library: {error}") from error
    else:
        raise ValueError(f"unknown tokenizer {name!r}: choose 'bytes', 'bpe:SIZE', 'gpt2', or the "
                         "path of a tokenizer.json")
    bpe.no_truncation()
    bpe.no_padding()
    return bpe


def _train_bpe(texts: Sequence[str], size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(_short_texts(texts), trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END_OF_DOCUMENT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return bpe


def _short_texts(texts: Sequence[str]) -> Iterator[str]:
    """Texts in pieces, whose words are those of the whole, but none longer than ``LONG_WORD``.

    The trainer takes some 80 bytes of memory for each character of a text at a time, and time that
    grows with the square of a word's length.
    """
    for number, begin, end in pieces(texts, None):
        for word in _LONG.finditer(texts[number], begin, end):
            yield texts[number][begin: word.end()]
            begin = word.end()
        yield texts[number][begin:end]


# --- long texts ----------------------------------------------------------------------------------
# A tokenizer's threads work on whole texts, and its output needs many times the memory of the text.
# So a long text is cut into pieces whose tokens are those of the whole.

Span = tuple[int, int, int]  # number of the text, begin and end of the piece in characters


def pieces(texts: Sequence[str], bpe: Tokenizer | None,
           size: int | None = None) -> Iterator[Span]:
    """Texts cut after at least ``size`` characters, where a word ends and white space begins.

    Texts are not cut if that would change the tokenizer's tokens.

    >>> [(begin, end) for _, begin, end in pieces(["one two  three"], None, size=2)]
    [(0, 3), (3, 7), (7, 14)]
    """
    size = size or PIECE
    cuttable = bpe is None or can_be_cut(bpe)
    for number, text in enumerate(texts):
        begin = 0
        while cuttable and begin + size < len(text) and (cut := _CUT.search(text, begin + size)):
            yield number, begin, cut.start()
            begin = cut.start()
        yield number, begin, len(text)


def can_be_cut(bpe: Tokenizer) -> bool:
    """Whether the tokens of the pieces are those of the whole text.

    This holds for GPT-2's own pattern, which never looks back over white space.
    """
    from tokenizers import pre_tokenizers
    pattern, added = bpe.pre_tokenizer, bpe.get_added_tokens_decoder().values()
    return (isinstance(pattern, pre_tokenizers.ByteLevel) and pattern.use_regex
            and not pattern.add_prefix_space and bpe.normalizer is None
            and not any(t.rstrip or re.search(r"\S\s", t.content) for t in added))


def tokenise(texts: Sequence[str], spans: Sequence[Span],
             bpe: Tokenizer | None) -> list[np.ndarray]:
    """The token numbers of each piece; the end mark follows the last piece of a text."""
    cut = [texts[number][begin:end] for number, begin, end in spans]
    last = [end == len(texts[number]) for number, _, end in spans]
    if bpe is None:
        return [np.frombuffer(piece.encode() + b"\0" * ends, np.uint8)
                for piece, ends in zip(cut, last)]
    mark = bpe.token_to_id(END_OF_DOCUMENT)
    mark = [] if mark is None else [mark]
    return [np.array(encoding.ids + mark * ends, np.uint32)
            for encoding, ends in zip(bpe.encode_batch_fast(cut, add_special_tokens=False), last)]
