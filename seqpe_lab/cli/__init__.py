"""The command line: python -m seqpe_lab train | evaluate | card | reproduce | figures | ...

Each command imports what it needs when it runs, so that --help answers at once.
"""
from seqpe_lab.cli import card_command, paper_commands, run_commands, site_commands
from seqpe_lab.cli.base import app, main

__all__ = ["app", "card_command", "main", "paper_commands", "run_commands", "site_commands"]
