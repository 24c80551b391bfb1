"""Wrong answers to the exercises of lesson 03, and words of what the checker says."""

ROWS = {
    "read": [
        ("return sum(d * base**i for i, d in enumerate(sequence))", "from the wrong end"),
        ("return sum(sequence)", "You added the digits"),
        ("return int(''.join(map(str, sequence))) if base == 10 else 0", "Right would be 42"),
        (
            """
            position = 0
            for digit in sequence:
                position = position * 10 + digit
            return position
            """,
            "always multiply by 10",
        ),
    ],
    "million": [
        (
            """
            k = digits.digits_needed(999_999, base)
            return [k, base + k, base**k - 1]
            """,
            "Count [CLS] and the one dimension",
        ),
        (
            """
            k = digits.digits_needed(999_999, base)
            return [k, base + 1 + k + 1, base**k]
            """,
            "The largest position is one less",
        ),
        (
            """
            k = digits.digits_needed(999_999, base) + 1
            return [k, base + 1 + k + 1, base**k - 1]
            """,
            "One digit too many or too few",
        ),
    ],
}
