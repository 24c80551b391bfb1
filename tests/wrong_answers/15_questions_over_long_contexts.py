"""Wrong answers to the exercises of lesson 15, and words of what the checker says."""

LOOP = "taken = []\nfor number, line in enumerate(lines):\n"
TAKE = "    taken.append(number)\n    room -= len(line)\nreturn taken"
LEAK = "    if answer in line:\n        continue\n"

ROWS = {
    "fill": [
        (f"{LOOP}    if len(line) > room:\n        break\n{TAKE}", "has two sources"),
        (f"{LOOP}{LEAK}    if len(line) > room:\n        continue\n{TAKE}", "The rule is to stop"),
        (f"{LOOP}{LEAK}    if len(line) >= room:\n        break\n{TAKE}", "still fits"),
        (f"{LOOP}{LEAK}    taken.append(number)\nreturn taken", "is asked for"),
    ],
    "exact": [
        ("return written.split('□')[0].strip() in answers", "Upper and lower case"),
        (
            "return any(a.lower() in written.split('□')[0].lower() for a in answers)",
            "only has to occur",
        ),
        (
            "return written.replace('□', '').strip().lower() in [a.lower() for a in answers]",
            "behind the end mark",
        ),
    ],
}
