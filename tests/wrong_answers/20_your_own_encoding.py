"""Wrong answers to the exercises of lesson 20, and words of what the checker says."""

DISTANCE = "distance = (queries.unsqueeze(-1) - keys).abs().float()"

ROWS = {
    "log_bias": [
        (f"{DISTANCE}; return strength.view(-1, 1, 1) * torch.log1p(distance)", "sign is turned"),
        (f"{DISTANCE}; return -strength.view(-1, 1, 1) * distance", "like a straight line"),
        (
            f"{DISTANCE}; return -strength.view(-1, 1, 1) * torch.log1p(distance).T",
            "Rows and columns are exchanged",
        ),
    ],
    "mean_difference": [
        (
            "return sum(mine.values()) / len(mine) - sum(theirs.values()) / len(theirs)",
            "the means of all runs",
        ),
        (
            "both = mine.keys() & theirs.keys(); "
            "return sum(theirs[s] - mine[s] for s in both) / len(both)",
            "The sign is turned",
        ),
    ],
}
