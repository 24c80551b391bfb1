"""Wrong answers to the exercises of lesson 13, and words of what the checker says."""

ROWS = {
    "accumulation": [
        ("return batch // (micro_batch * devices)", "With a remainder the step would see fewer"),
        ("return batch // micro_batch", "The devices share them"),
        ("return batch / (micro_batch * devices)", "A fraction of a round is not possible"),
        ("return micro_batch * devices", "Right would be 4"),
    ],
    "pace": [
        (
            "return (times[-1] - times[0]) / (steps[-1] - steps[0])",
            "That counts the time between the parts as work",
        ),
        ("return times[-1] - times[-2]", "A line can stand for several steps"),
        (
            """
            begins = max((i for i in range(1, len(steps)) if steps[i] <= steps[i - 1]), default=0)
            return (steps[-1] - steps[begins]) / (times[-1] - times[begins])
            """,
            "Turn the fraction around",
        ),
        ("return times[-1] / steps[-1]", "Right would be 0.4"),
    ],
}
