"""The report card of an encoding: what must hold, how it behaves, and what it costs.

    from seqpe_lab.report_card import report_card
    report_card("alibi")
"""
from seqpe_lab.report_card.card import Card, report_card

__all__ = ["Card", "report_card"]
