"""`python -m mirror`, and the `mirror` command."""

import gc
import os
import sys
from contextlib import suppress

from mirror.cli import main as cli


def main() -> int:
    """The whole life of a process: one command."""
    try:
        code = cli.main()
    finally:
        # Python would look through everything once more before it ends: a tenth of a short command.
        gc.freeze()
    if "obstore" in sys.modules:
        _end_now(code)
    return code


def _end_now(code: int) -> None:
    """End as soon as all is said, without taking anything down.

    obstore 0.12.1 has threads that may enter the interpreter meanwhile, and then the process
    aborts: about one run in ten ended with 134 instead of its own exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a pipe that nobody reads any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
