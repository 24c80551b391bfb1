"""Wrong answers to the exercises of lesson 11, and words of what the checker says."""

ROWS = {
    "old_row": [
        ("return row * old / new", "which is its upper edge"),
        ("return row * (old - 1) / (new - 1)", "as for texts"),
        ("return (row + 0.5) * new / old - 0.5", "old and new are exchanged"),
        ("return (row + 0.5) * old / new", "Right would be"),
    ],
    "share_on_canvas": [
        (
            """
            fall = grows[0] - grows[-1]
            return 1 - min(1, max(0, (canvas[0] - canvas[-1]) / fall)) if fall > 0 else 1.0
            """,
            "take 1 minus it",
        ),
        (
            """
            fall = grows[0] - grows[-1]
            return (canvas[0] - canvas[-1]) / fall if fall > 0 else 0.0
            """,
            "limit it to the range from 0 to 1",
        ),
        ("return canvas[-1] / grows[-1]", "Compare the falls"),
        ("return (canvas[0] - canvas[-1]) / (grows[0] - grows[-1])", "ZeroDivisionError"),
    ],
}
