"""`python -m mirror`, and the `mirror` command."""

import gc
import os
import sys
from contextlib import suppress
from typing import Final

from mirror.cli import main as cli

# Of a library's assets none is garbage: to look through them after every 700 that are made takes
# three per cent of a first run.
_COLLECT_AFTER: Final = 20_000


def main() -> int:
    """The whole life of a process: one command."""
    gc.set_threshold(_COLLECT_AFTER)
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
