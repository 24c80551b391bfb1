"""Wrong answers to the exercises of lesson 17, and words of what the checker says."""

ANGLES = "angles = [base ** (-{step} * f / d_head) * trained for f in range(d_head // 2)]\n"
COUNT = "return sum(angle >= {least} for angle in angles)"

ROWS = {
    "factor_of": [
        ("return context / trained", "turns faster than in training"),
        ("return max(1.0, trained / context)", "upside down"),
        ("return max(1, context // trained)", "Only whole factors"),
    ],
    "full_circles": [
        (ANGLES.format(step=2) + COUNT.format(least=1), "2π radians, not 1"),
        (ANGLES.format(step=2) + COUNT.format(least="math.pi"), "half a turn"),
        (ANGLES.format(step=1) + COUNT.format(least="2 * math.pi"), "Without the 2"),
    ],
}
