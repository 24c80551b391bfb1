"""Wrong answers to the exercises of the primer, and words of what the checker says."""

ROWS = {
    "my_outputs": [
        ("return [4, 8]", "gave each word its own value"),
        ("return [6, 5]", "larger weight belongs to the key with the larger score"),
        ("return [0, 8.79]", "softmax comes first"),
        ("return [6, 6]", "weigh the values evenly"),
        ("return 6, 7.5", "not the answer"),
    ],
    "leaks": [
        ("return True", "finds a leak everywhere"),
        (
            """
            X = torch.randn(5, 4)
            changed = X.clone()
            changed[-1] += 1
            return not torch.equal(attention(X), attention(changed))
            """,
            "compare only the outputs before it",
        ),
        (
            """
            X = torch.randn(5, 4)
            changed = X.clone()
            changed[-1] += 1
            return not torch.equal(attention(X)[:1], attention(changed)[:1])
            """,
            "Right would be True",
        ),
        ("return attention is causal", "other way round"),
    ],
}
