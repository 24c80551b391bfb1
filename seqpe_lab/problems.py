"""Algorithmic problems: what a model computes on short inputs, does it compute on longer ones?

Each problem has one right answer, and a few lines say how it follows from the input. A model is
trained on inputs of 1 to n symbols and tested on longer ones; what it needs to know of positions
is stated with each problem. Nothing is stored: examples are drawn from (seed, number).
"""
from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase, digits
from typing import NamedTuple

END, ASK, EQUALS, PLUS = ".", "?", "=", "+"
SYMBOLS = END + ASK + EQUALS + PLUS + digits + ascii_lowercase
TOKENS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
INDUCTION_LETTERS = "abcd"  # few: with all letters a small model does not learn it in minutes
NEEDLE_LETTERS, RECALL_LETTERS = "a", "ab"
GRID_OFFSET = 1, 2  # rows down and columns to the right of the mark
LEARNT = 99.0  # percent: below this mean at a tested trained size a problem is not learnt
SHARES = {"train": 80, "validation": 10, "test": 10}  # percent of all inputs


class Example(NamedTuple):
    """An input and its answer, as symbols.

    Attributes:
        prompt: ends with the symbol that asks for the answer.
        answer: ends with ``END``.
    """
    prompt: str
    answer: str


@dataclass(frozen=True)
class Problem:
    """A kind of question about a sequence.

    Attributes:
        needs: what a model must know of positions, in a line.
        draw: (size, random numbers) -> an example whose input has ``size`` symbols; for "needle"
            and "recall" digits, for sums digits in each number, for a grid rows and columns.
        length: size -> tokens of the longest prompt and answer together.
        dims: 1 for a sequence; 2 for a grid, whose prompt is read row by row and whose answer is
            one symbol.
    """
    needs: str
    draw: Callable[[int, random.Random], Example]
    length: Callable[[int], int]
    dims: int = 1


def _letters(size: int, rng: random.Random, among: str = ascii_lowercase) -> str:
    return "".join(rng.choices(among, k=size))


def _copy(size: int, rng: random.Random) -> Example:
    word = _letters(size, rng)
    return Example(word + EQUALS, word + END)


def _reverse(size: int, rng: random.Random) -> Example:
    word = _letters(size, rng)
    return Example(word + EQUALS, word[::-1] + END)


def _induction(size: int, rng: random.Random) -> Example:
    word = _letters(size + 1, rng, INDUCTION_LETTERS)
    asked = rng.choice(word[:-1])
    word = word[:-1] + rng.choice(INDUCTION_LETTERS.replace(asked, ""))  # something must follow it
    return Example(word + ASK + asked, word[word.rindex(asked) + 1] + END)


def _hidden(letters: str, size: int, rng: random.Random) -> Example:
    """Digits, some of them after a letter of their own; every second one at most."""
    word = _letters(size, rng, digits)
    used = rng.sample(letters, rng.randint(1, _most_used(letters, size)))
    before = dict(zip(rng.sample(range(size), len(used)), used))
    prompt = "".join(before.get(place, "") + digit for place, digit in enumerate(word))
    asked = rng.choice(used)
    return Example(prompt + ASK + asked, prompt[prompt.index(asked) + 1] + END)


def _most_used(letters: str, size: int) -> int:
    return min(max(1, size // 2), len(letters))


def _sorting(size: int, rng: random.Random) -> Example:
    word = _letters(size, rng)
    return Example(word + EQUALS, "".join(sorted(word)) + END)


def _addition(size: int, rng: random.Random) -> Example:
    first, second = _letters(size, rng, digits), _letters(size, rng, digits)
    total = str(int(first) + int(second)).zfill(size + 1)
    return Example(first + PLUS + second + EQUALS, total + END)


def _addition_reversed(size: int, rng: random.Random) -> Example:
    prompt, answer = _addition(size, rng)
    first, second = prompt[:-1].split(PLUS)
    return Example(first[::-1] + PLUS + second[::-1] + EQUALS, answer[-2::-1] + END)


def _counting(size: int, rng: random.Random) -> Example:
    share = rng.random()  # else most counts would lie near the half
    word = "".join("a" if rng.random() < share else "b" for _ in range(size))
    return Example(word + EQUALS, str(word.count("a")) + END)


def _parity(size: int, rng: random.Random) -> Example:
    word = _letters(size, rng, "01")
    return Example(word + EQUALS, str(word.count("1") % 2) + END)


def _grid(size: int, rng: random.Random) -> Example:
    """Digits in rows and columns, one of them marked: written as the letter of that number."""
    cells = [[rng.choice(digits) for _ in range(size)] for _ in range(size)]
    down, right = GRID_OFFSET
    row, column = rng.randrange(size - down), rng.randrange(size - right)
    cells[row][column] = ascii_lowercase[int(cells[row][column])]
    return Example("".join(map("".join, cells)), cells[row + down][column + right])


PROBLEMS: dict[str, Problem] = {
    "copy": Problem("the same place, counted from the start of both words", _copy,
                    lambda size: 2 * size + 2),
    "reverse": Problem("the mirrored place: one step back for each step forward", _reverse,
                       lambda size: 2 * size + 2),
    "induction": Problem("the next symbol, and which of several occurrences is the last",
                         _induction, lambda size: size + 5),
    "needle": Problem("the next symbol only: one digit follows a letter",
                      partial(_hidden, NEEDLE_LETTERS), lambda size: size + 5),
    "recall": Problem("the next symbol only, and which letter is asked for",
                      partial(_hidden, RECALL_LETTERS),
                      lambda size: size + _most_used(RECALL_LETTERS, size) + 4),
    "sorting": Problem("nothing: only which symbols there are, and how often", _sorting,
                       lambda size: 2 * size + 2),
    "addition": Problem("digits of the same place in three numbers; carries from the other end",
                        _addition, lambda size: 3 * size + 4),
    "addition-reversed": Problem("digits of the same place in three numbers; the carry just before",
                                 _addition_reversed, lambda size: 3 * size + 4),
    "counting": Problem("nothing: only how many there are", _counting,
                        lambda size: size + 2 + len(str(size))),
    "parity": Problem("nothing, but every symbol changes the answer", _parity,
                      lambda size: size + 3),
    "grid": Problem("the cell one row below and two columns to the right of the mark", _grid,
                    lambda size: size * size + 1, dims=2),
}


def draw_example(problem: str, size: int, split: str, seed: str) -> Example:
    """An example of a problem, always the same for the same arguments.

    Which split an input belongs to follows from a hash of it, so none is in two splits. Inputs are
    drawn until one of the split comes.

    Args:
        problem: of ``PROBLEMS``.
        size: of the input: at least 1; of a grid at least 3.
        split: "train", "validation" or "test".
        seed: any text.

    Raises:
        ValueError: no input of this size is in the split, as may be with tiny ones: there are two
            inputs for a parity of one digit.

    >>> draw_example("copy", 5, "train", "0/0")
    Example(prompt='orssy=', answer='orssy.')
    """
    rng = random.Random(f"{problem}/{size}/{split}/{seed}")
    for _ in range(1_000):
        example = PROBLEMS[problem].draw(size, rng)
        if split_of(example.prompt) == split:
            return example
    raise ValueError(f"no input of size {size} of {problem!r} is in the {split} split: choose a "
                     "larger size")


def split_of(prompt: str) -> str:
    """The split that an input belongs to: by a hash of it, 80, 10 and 10 % of all.

    >>> split_of("abc="), split_of("abd=")
    ('train', 'train')
    """
    place = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest()) % 100
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares sum to 100")


def has_learnt(percents: Mapping[str, Collection[float]], trained: int) -> bool:
    """Whether a method has learnt a problem: what it does with longer inputs counts only then.

    Args:
        percents: {tested size: exact match of each seed}; NaN for a run that failed.
        trained: the largest size of training inputs.

    >>> has_learnt({"6": [100, 99], "8": [98.6, 99.6], "16": [0, 0]}, trained=8)
    True
    >>> has_learnt({"6": [100, 99], "8": [98.0, 99.6], "16": [9, 9]}, trained=8)
    False
    """
    return all(sum(seeds) / len(seeds) >= LEARNT
               for size, seeds in percents.items() if int(size) <= trained)


def encode(symbols: str) -> list[int]:
    """Token numbers of symbols.

    >>> encode("a+1.")
    [14, 3, 5, 0]
    """
    return [TOKENS[symbol] for symbol in symbols]


def decode(tokens: Sequence[int]) -> str:
    """Symbols of token numbers, the inverse of :func:`encode`."""
    return "".join(SYMBOLS[token] for token in tokens)
