"""Wrong answers to the exercises of lesson 06, and words of what the checker says."""

ROWS = {
    "sample_group": [
        (
            "t = torch.randint(0, train_len, (m,)) // 2; return t, t + train_len",
            "different positions from 0",
        ),
        (
            "t = torch.randperm(train_len)[:m]; return t, torch.randperm(m) + train_len",
            "Each student has a shift of its own",
        ),
        (
            "t = torch.randperm(train_len)[:m]; return t, t + 1",
            "A student lies in the training context",
        ),
        (
            "t = torch.randperm(train_len)[:m]; return t, t + max_position - 1",
            "A student lies beyond the last position",
        ),
    ]
}
