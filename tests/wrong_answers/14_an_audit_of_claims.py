"""Wrong answers to the exercises of lesson 14, and words of what the checker says."""

ROWS = {
    "agreement": [
        (
            """
            if value == float(stated):
                return "exact"
            return "rounded" if str(value).startswith(stated) else "different"
            """,
            "You cut digits off",
        ),
        (
            """
            if value == float(stated):
                return "exact"
            return "rounded" if round(value, 1) == float(stated) else "different"
            """,
            "always round to one decimal",
        ),
        (
            """
            half = 0.5 / 10 ** len(stated.partition(".")[2])
            return "rounded" if abs(value - float(stated)) < half + 1e-9 else "different"
            """,
            "Test this before you test for rounding",
        ),
        ("return claims.agreement(value, stated)", "Right would be 'different'"),
    ],
    "wins": [
        (
            "return sum(max(rows, key=lambda r: r[n])['model'] == 'SeqPE' "
            "for n in rows[0] if n.isdigit())",
            "Lower perplexity is better",
        ),
        (
            "return sum(min(rows, key=lambda r: r[n])['model'] == 'SeqPE' "
            "for n in rows[0] if n.isdigit())",
            "Higher accuracy is better",
        ),
        (
            "best = max if higher else min; "
            "return sum(best(rows, key=lambda r: r[n])['model'] == 'SeqPE' "
            "for n in rows[0] if n != 'model')",
            "You counted the average",
        ),
        (
            "best = max if higher else min; "
            "return sum(best(rows, key=lambda r: r[n])['model'] != 'SeqPE' "
            "for n in rows[0] if n.isdigit())",
            "in which SeqPE is not the best",
        ),
    ],
}
