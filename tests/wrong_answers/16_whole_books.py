"""Wrong answers to the exercises of lesson 16, and words of what the checker says."""

ROWS = {
    "to_bits": [
        ("return math.log(perplexity) * tokens / characters", "in nats"),
        ("return math.log2(perplexity)", "bits per token"),
        ("return math.log2(perplexity) * characters / tokens", "upside down"),
    ],
    "tokens_read": [
        ("return length * (1 + max(0, total - length) // stride)", "The last window is missing"),
        ("return length * math.ceil(total / stride)", "divided the whole text by the stride"),
        ("return length * math.ceil(total / length)", "the cost without overlap"),
    ],
}
