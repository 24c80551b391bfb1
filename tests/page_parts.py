"""The parts of the README and of other pages that are made from results."""

from seqpe_lab.reproduction.collecting import marks


def part_of(text: str, name: str) -> str:
    """What stands between the marks of a generated part of a page; "" if it has none."""
    begin, end = marks(name)
    return text.partition(begin)[2].partition(end)[0]
