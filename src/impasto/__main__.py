"""`impasto`, and `python -m impasto`."""

import sys


def main() -> int:
    """Run the command line; returns the exit code, also of a Ctrl-C before it is loaded."""
    try:
        from impasto.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("impasto: interrupted\n")
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
