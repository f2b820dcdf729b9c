"""How far a run is, for whoever watches: bars on a terminal, nothing anywhere else."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from mirror import logs
from mirror.transfer import Progress


class Silent:
    """Nobody watches."""

    def plan(self, files: int, size_bytes: int) -> None:
        """Say nothing."""

    def begin(self, asset_id: str, name: str, size_bytes: int | None) -> None:
        """Say nothing."""

    def advance(self, asset_id: str, size_bytes: int) -> None:
        """Say nothing."""

    def end(self, asset_id: str) -> None:
        """Say nothing."""

    def fail(self, path: str, why: str) -> None:
        """Say nothing."""

    def part(self, name: str) -> Progress:  # noqa: ARG002 (nobody is told)
        """Say nothing."""
        return self


@contextmanager
def shown(stderr: TextIO | None = None, *, quiet: bool) -> Iterator[Progress]:
    """Bars on `stderr` while work is under way, if a person can see them there.

    Log lines then scroll past above the bars, in the form that was configured before. Nothing else
    may be written to the terminal meanwhile, and nothing of the bars is left on it afterwards.
    """
    stream = sys.stderr if stderr is None else stderr
    if quiet or not _is_watched(stream):
        yield Silent()
        return
    from mirror.bars import Bars  # noqa: PLC0415 (rich costs more than the rest of a start)

    with Bars(stream) as bars, logs.redirected(bars.lines):
        yield bars


def _is_watched(stream: TextIO) -> bool:
    """Whether it is a terminal that can move its cursor."""
    return stream.isatty() and (os.environ.get("TERM") or "dumb") not in {"dumb", "unknown"}
