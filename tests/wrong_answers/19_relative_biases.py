"""Wrong answers to the exercises of lesson 19, and words of what the checker says."""

LARGE = "half = buckets // 2; steps = math.log(max(distance, half) / half)"

ROWS = {
    "bucket_of": [
        ("return min(distance, buckets - 1)", "each of them holds a range"),
        (
            f"{LARGE} / math.log(max_distance / half); "
            "return distance if distance < half else half + int(half * steps)",
            "the last bucket takes everything",
        ),
    ],
    "share_of": [
        ("return math.log(c * (i - j) + 1) / math.log(c * i + 1)", "Without the threshold"),
        ("return (i - j) / max(i, threshold)", "the quotient without logarithms"),
        (
            "return math.log(c * j + 1) / math.log(c * max(i, threshold) + 1)",
            "not the position of the key",
        ),
    ],
}
