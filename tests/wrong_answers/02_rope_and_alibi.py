"""Wrong answers to the exercises of lesson 02, and words of what the checker says."""

SCORE = (
    "import cmath; turn = cmath.exp(1j * theta * ({})); "
    "return (complex(*q).conjugate() * complex(*k) * turn).real"
)

ROWS = {
    "rope_score": [
        (SCORE.format("i - j"), "The sign of the angle is wrong"),
        (SCORE.format("j"), "Only the key is turned"),
        ("return q[0] * k[0] + q[1] * k[1]", "nothing is turned"),
    ],
    "reach": [
        ("return int(-math.log(1 - share) / slope)", "One token too few"),
        ("return math.ceil(share / slope)", "not along a straight line"),
        ("return math.ceil(-math.log(share) / slope)", "use 1 - share"),
    ],
}
