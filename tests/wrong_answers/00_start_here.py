"""Wrong answers to the exercises of lesson 00, and words of what the checker says."""

ALIKE = (
    "every = to_digits(torch.arange(10_000).unsqueeze(-1), digits=5); "
    "four = ((every == every[p]).sum(1) == 4).nonzero().flatten().tolist(); "
)

ROWS = {
    "digits_in_common": [
        ("return sum(a == b for a, b in zip(str(p), str(q)))", "The positions are not padded"),
        ("return len({*f'{p:0{k}d}'} & {*f'{q:0{k}d}'})", "wherever they stand"),
        (
            "return sum(a != b for a, b in zip(f'{p:0{k}d}', f'{q:0{k}d}'))",
            "the places with different digits",
        ),
    ],
    "farthest": [
        (f"{ALIKE} return min(four, key=lambda q: abs(p - q))", "the nearest of them"),
        (f"{ALIKE} return max(four)", "That is the largest of them"),
        (f"{ALIKE} return max(abs(p - q) for q in four)", "That is the distance"),
    ],
}
