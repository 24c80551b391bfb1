"""Wrong answers to the exercises of lesson 05, and words of what the checker says."""

ROWS = {
    "pivot_gradient": [
        ("return c[nearest] - (c @ e).softmax(0) @ c", "The sign is turned"),
        ("return (c @ e).softmax(0) @ c", "Where is p+?"),
        ("return c.mean(0) - c[nearest]", "by its share after the softmax"),
        ("return (c @ e) @ c - c[nearest]", "Right would be"),
        ("return (c @ e).softmax(0)", "Its shape is (4,), and (2,) is asked for"),
    ],
    "clock": [
        ("return (p - q).abs().squeeze(-1)", "the distance of the numbers"),
        ("return (p - q).abs().squeeze(-1) % 24", "shorter way round"),
        ("return (p - q).squeeze(-1) % 24", "count forwards only"),
        (
            "hours = (p - q).abs() % 24; return torch.minimum(hours, 24 - hours)",
            "Its shape is (4, 1), and (4,) is asked for: the numbers are right",
        ),
    ],
}
