"""`python -m mirror`, and the `mirror` command."""

import gc
import sys

from mirror.cli import main as cli


def main() -> int:
    """The whole life of a process: one command."""
    try:
        return cli.main()
    finally:
        # Python would look through everything once more before it ends: a tenth of a short command.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
