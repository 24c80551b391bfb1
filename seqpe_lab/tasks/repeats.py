"""Passages that occur in several documents: left out of a text, and measured between its splits.

A model may have learnt by heart what its training text shares with the test text, so its perplexity
there is too low.
"""
from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

SHINGLE = 5  # words
SHARE = 0.2  # of a paragraph's shingles
BLOCK = 2**21  # windows that are hashed at a time


def without_repeats(documents: dict[str, str]) -> dict[str, str]:
    """The documents without the paragraphs that a longer document has, exactly or nearly.

    A paragraph is what stands between blank lines. Its shingles (Broder 1997) are all sequences of
    five words, in lower case and without punctuation; fewer words are a single shingle. The
    paragraph is left out if more than a fifth of them occur in longer documents (of equally long
    ones, the first by name counts as longer). So each passage stays in the longest document that
    has it, and repeats within a document stay. The result depends on names and texts alone.

    Args:
        documents: name -> text.

    Returns:
        name -> text, in the order of ``documents``; those of which nothing is left are missing.

    >>> without_repeats({"topic": "Here: a cat sat on the mat.",
    ...                  "chapter": "A cat sat on the mat!\\n\\nA dog did not."})
    {'chapter': 'A cat sat on the mat!\\n\\nA dog did not.'}
    """
    known: set[tuple[str, ...]] = set()
    kept: dict[str, str] = {}
    for name in sorted(documents, key=lambda name: (-len(documents[name]), name)):
        shingles = {text: _shingles(text) for text in documents[name].split("\n\n")}
        repeated = {text for text, found in shingles.items()
                    if len(found & known) > SHARE * len(found)}
        if rest := [text for text in documents[name].split("\n\n") if text not in repeated]:
            kept[name] = "\n\n".join(rest)
        known.update(*shingles.values())
    return {name: kept[name] for name in documents if name in kept}


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i: i + SHINGLE]) for i in range(max(0, len(words) - SHINGLE) + 1)}


def overlap(train: Iterable[str], test: Iterable[str], window: int = 50) -> float:
    """The share of the test text's windows that also occur in the training text, in [0, 1].

    All windows of ``window`` bytes (UTF-8) within a document count, each as often as it occurs; a
    text without any has no overlap. Windows are compared by hashes of 64 bits, so that two
    different ones have about one chance in 2^64 to be taken for the same. 100 million characters
    take about 7 s on a core.

    Args:
        train, test: the documents of both splits.

    >>> overlap(["the cat sat"], ["a cat"], window=3)  # " ca" and "cat", but not "a c"
    0.6666666666666666
    """
    asked = np.concatenate([np.empty(0, np.uint64), *(_hashes(t.encode(), window) for t in test)])
    asked.sort()
    found = np.zeros(len(asked), bool)
    data = b"\0".join(text.encode() for text in train)  # no window of the test has a zero byte
    for begin in range(0, len(data) - window + 1, BLOCK):
        known = _hashes(data[begin: begin + BLOCK + window - 1], window)
        known.sort()
        found |= known[np.searchsorted(known, asked) % len(known)] == asked
    return float(found.mean()) if len(found) else 0.0


def _hashes(data: bytes, window: int) -> np.ndarray:
    """A polynomial of each window's bytes modulo 2^64: uint64 (windows,)."""
    values = np.frombuffer(data, np.uint8)
    hashes = np.zeros(max(0, len(values) - window + 1), np.uint64)
    for i in range(window):
        hashes *= np.uint64(0x9E3779B97F4A7C15)  # odd, with no pattern in its bits
        hashes += values[i: i + len(hashes)]
    return hashes
