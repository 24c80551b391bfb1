"""Wrong answers to the exercises of lesson 04, and words of what the checker says."""

ROWS = {
    "tokens_shared": [
        ("return sum(-(-N // base**r) for r in range(k))", "You forgot the [CLS] tokens"),
        ("return N * (k + 1)", "the number without sharing"),
        ("return N + sum(N // base**r for r in range(k))", "Round up, not down"),
        ("return 2 * N", "Right would be 2110"),
    ],
    "attend_path": [
        ("return (k[path] @ q[path[-1]]).softmax(0)", "Divide the scores by the square root"),
        ("return (k[path] @ q[path[0]] / q.shape[-1] ** 0.5).softmax(0)", "the query of the root"),
        (
            "return (k @ q[path[-1]] / q.shape[-1] ** 0.5).softmax(0)[path]",
            "ran over all nodes of the tree",
        ),
    ],
}
