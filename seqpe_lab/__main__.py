"""python -m seqpe_lab: the command line (see cli.py)."""
import sys

from seqpe_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
