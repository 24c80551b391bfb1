"""Wrong answers to the exercises of lesson 01, and words of what the checker says."""

ROWS = {
    "pooled": [
        ("return embeddings[order].sum(0)", "The position vectors are missing"),
        ("return (embeddings[order] + positions_of(embeddings)).mean(0)", "You took the mean"),
        ("return (embeddings[order] + positions_of(embeddings)).sum(1)", "Sum over the tokens"),
    ],
    "read_row": [
        (
            "return table[position * (len(table) - 1) // (context - 1)]",
            "mix the two rows around the place",
        ),
        (
            """
            place = position * len(table) / context
            low = int(place)
            high = min(low + 1, len(table) - 1)
            return (1 - place % 1) * table[low] + place % 1 * table[high]
            """,
            "the last position must read the last row",
        ),
        ("return table[position % len(table)]", "Right would be"),
    ],
}
