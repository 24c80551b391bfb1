"""Wrong answers to the exercises of lesson 18, and words of what the checker says."""

SYMBOLS = "sum(a == b for one, other in zip(answers, right) for a, b in zip(one, other))"

ROWS = {
    "distance_of_reverse": [
        ("return n", "That is the distance for copying"),
        ("return n - 1 - i", "the place of the letter in the word"),
        ("return 2 * i + 2", "You counted from the letter to be written"),
        ("return 2 * i", "Right would be"),
    ],
    "exact_match": [
        (f"return {SYMBOLS} / sum(map(len, right))", "the share of right symbols"),
        (
            "return sum(b.startswith(a) for a, b in zip(answers, right)) / len(right)",
            "stops too early",
        ),
        ("return sum(a == b for a, b in zip(answers, right))", "not their share"),
    ],
}
