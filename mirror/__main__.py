"""`python -m mirror`, and the `mirror` command."""

import sys

from mirror.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
