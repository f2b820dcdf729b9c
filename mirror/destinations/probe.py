"""What a folder's file system can do, found out by trying.

Good to know when something is slow or odd; nothing relies on it, since a file system may change its
mind: behind a network, after an update, on another machine.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from mirror.destinations import Abilities

_SECOND_NS: Final = 10**9
# An odd second with all of its digits: whatever is cut off can be seen.
_ODD_NS: Final = 1_600_000_001_123_456_789
_STEPS_NS: Final = (1, 100, 10**3, 10**6, 10**7, _SECOND_NS, 2 * _SECOND_NS)
# Where ranges begin: years 1 and 1601, 64 bits of ns, 32 bits of s, Unix, DOS.
_LEAST_S: Final = (
    -62_135_596_800, -11_644_473_600, -9_223_372_036, -(2**31), 0, 315_532_800,
)  # fmt: skip
# Where they end: year 9999, ext4, 64 bits of ns, DOS, 32 bits of s without and with a sign.
_MOST_S: Final = (
    253_402_300_799, 15_032_385_535, 9_223_372_036, 4_354_819_198, 2**32 - 1, 2**31 - 1,
)  # fmt: skip
_NAME: Final = "Probe"
_OTHER: Final = "Probe-2"
_MOVED: Final = "Probe-3"


@dataclass(frozen=True, slots=True)
class Probe:
    """An open folder of our own, and how things are done there that not every file system knows."""

    folder: int
    rename: Callable[[int, str, int, str], None]  # in one step, and never over anything
    reflink: Callable[[int, int], None]  # from one descriptor to another

    def abilities(self) -> Abilities:
        """Try everything, and leave nothing there.

        Raises:
            OSError: not even a file can be made.
        """
        try:
            with self._made(_NAME) as descriptor:
                os.write(descriptor, b"?" * 4096)
                return self._tried(descriptor)
        finally:
            for name in (_OTHER, _MOVED):
                self._clear(name)

    def _tried(self, descriptor: int) -> Abilities:
        step_ns = _step_ns(descriptor)
        return Abilities(
            hard_links=_works(self._link),
            reflinks=_works(lambda: self._clone(descriptor)),
            folds_case=_works(lambda: os.stat(_NAME.upper(), dir_fd=self.folder)),
            mtime_step_ns=step_ns,
            mtime_least_s=_first_held(descriptor, _LEAST_S, step_ns),
            mtime_most_s=_first_held(descriptor, _MOST_S, step_ns),
            folder_sync=_works(lambda: os.fsync(self.folder)),
            flock=_works(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)),
            no_overwrite_rename=_works(self._rename),
        )

    def _link(self) -> None:
        os.link(_NAME, _OTHER, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        self._clear(_OTHER)

    def _clone(self, descriptor: int) -> None:
        with self._made(_OTHER) as other:
            self.reflink(descriptor, other)

    def _rename(self) -> None:
        with self._made(_OTHER):
            with suppress(FileExistsError):
                self.rename(self.folder, _OTHER, self.folder, _NAME)
                raise OSError(errno.ENOTSUP, "it overwrites")
            self.rename(self.folder, _OTHER, self.folder, _MOVED)

    @contextmanager
    def _made(self, name: str) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self.folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            self._clear(name)

    def _clear(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.folder)


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _held_ns(descriptor: int, mtime_ns: int) -> int | None:
    try:
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    except (OSError, OverflowError):
        return None
    return os.fstat(descriptor).st_mtime_ns


def _step_ns(descriptor: int) -> int:
    """The smallest step that explains what became of an odd time."""
    held = _held_ns(descriptor, _ODD_NS)
    if held is None:
        return _STEPS_NS[-1]
    fits = (step for step in _STEPS_NS if abs(_ODD_NS - held) < step and held % step == 0)
    return next(fits, _STEPS_NS[-1])


def _first_held(descriptor: int, candidates_s: tuple[int, ...], step_ns: int) -> int:
    """The first time that comes back as it was given; the last one if none does."""
    for second in candidates_s:
        held = _held_ns(descriptor, second * _SECOND_NS)
        if held is not None and abs(held - second * _SECOND_NS) < step_ns:
            return second
    return candidates_s[-1]
