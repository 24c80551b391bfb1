"""python -m seqpe_lab: the command line (see the folder cli)."""
import sys


def main() -> int:
    """Run the command line; if one of the lab's packages is missing, say how to install it."""
    try:
        from seqpe_lab.cli import main as run

        return run()
    except ModuleNotFoundError as error:
        if (error.name or "seqpe_lab").startswith("seqpe_lab"):
            raise
        print(f"seqpe_lab: the command line needs {error.name}, which is not installed: "
              "pip install 'seqpe_lab[lab]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
