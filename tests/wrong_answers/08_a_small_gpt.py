"""Wrong answers to the exercises of lesson 08, and words of what the checker says."""

ROWS = {
    "bits_per_character": [
        ("return nats * tokens / characters", "These are nats per character"),
        ("return nats / math.log(2)", "That is bits per token"),
        ("return nats / math.log(2) * characters / tokens", "are exchanged"),
        ("return nats * tokens * math.log(2) / characters", "Right would be 0.5"),
    ],
    "tokens_read": [
        (
            """
            later = (count - 1 - length) // stride
            return [*range(1, length + 1)] + [*range(1, stride + 1)] * later
            """,
            "A later window begins with old tokens",
        ),
        (
            """
            windows = len(range(0, count - length, stride))
            return [*range(1, length + 1)] * windows
            """,
            "some tokens are counted twice",
        ),
        (
            """
            later = (count - 1 - length) // stride
            return [*range(length)] + [*range(length - stride, length)] * later
            """,
            "prediction 0 reads one token, not none",
        ),
        ("return [length] * (count - 1)", "Right would be"),
    ],
}
