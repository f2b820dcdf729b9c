"""SIGKILL, as near as a process can come to it and live: from one change on, nothing is changed.

The change that is told, and every later one, ends with an exception that nobody catches, those of
cleaning up included. The real SIGKILL has tests of its own.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mirror.destinations import STATE, folder, lock
from mirror.index import Index

_CHANGES: tuple[tuple[Any, str], ...] = (
    (folder, "_renameat2"),
    (folder, "_syncfs"),
    *(
        (os, name)
        for name in (
            "rename", "link", "replace", "unlink", "rmdir", "mkdir", "pwrite", "ftruncate", "utime",
            "fsync",
        )
    ),
)  # fmt: skip
_WRITING = os.O_CREAT | os.O_TRUNC


class KilledError(BaseException):
    """The run is dead."""


class Death:
    """Comes in front of the n-th change."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._turn = threading.Lock()
        self.came = False

    def strike(self) -> None:
        """A change is about to be made."""
        with self._turn:
            self._left -= 1
            self.came = self.came or self._left <= 0
        if self.came:
            raise KilledError

    def watching(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """The change, while the run lives."""

        def watched(*args: Any, **named: Any) -> Any:
            self.strike()
            return change(*args, **named)

        return watched


@contextmanager
def dying(at: int) -> Iterator[Death]:
    """Runs in the block die at a change; one in a thread of its own that lives on does not count.

    A lock stays with its file, as a dead process leaves it, but its descriptor is closed.
    """
    death = Death(at)
    before = [(module, name, getattr(module, name)) for module, name in _CHANGES]
    real_open, real_transaction = os.open, Index.transaction
    still_there = lock._is_still_there

    def opening(path: Any, flags: int, *args: Any, **named: Any) -> int:
        if flags & _WRITING:
            death.strike()
        return real_open(path, flags, *args, **named)

    @contextmanager
    def transaction(index: Index) -> Iterator[None]:
        death.strike()
        with real_transaction(index):
            yield
            if not index._depth or index._depth == 1:
                death.strike()  # in front of the commit

    for module, name, change in before:
        if change is not None:
            setattr(module, name, death.watching(change))
    os.open = opening
    Index.transaction = transaction  # type: ignore[method-assign, assignment]
    lock._is_still_there = lambda *args: not death.came and still_there(*args)
    try:
        yield death
    finally:
        for module, name, change in before:
            setattr(module, name, change)
        os.open = real_open
        Index.transaction = real_transaction  # type: ignore[method-assign]
        lock._is_still_there = still_there
        _let_go_of_locks()


def _let_go_of_locks() -> None:
    """A dead process holds no lock; one that died while it took it would, in this process."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).endswith(f"/{STATE}/{lock.NAME}"):
                os.close(int(descriptor.name))
