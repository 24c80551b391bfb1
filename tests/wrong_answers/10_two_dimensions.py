"""Wrong answers to the exercises of lesson 10, and words of what the checker says."""

ROWS = {
    "torus": [
        ("return (p - q).float().norm(dim=-1)", "That is the distance in the plane"),
        (
            """
            d = (p - q).abs()
            return torch.minimum(d, 24 - d).sum(-1)
            """,
            "You added the steps",
        ),
        (
            """
            d = (p - q).abs()
            return torch.minimum(d, 23 - d).float().norm(dim=-1)
            """,
            "Right would be",
        ),
    ]
}
