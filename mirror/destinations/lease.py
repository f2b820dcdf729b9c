"""One run per remote destination, without a lock that a store would have to have.

Whoever wants to hold it writes an object of its own, and then looks who else has one: of two at
once, at least one sees the other, and whoever sees another refuses. Holders write theirs again now
and then; by the store's own clock an old one is nobody's. Needs nothing but that a listing shows
what was written before it. Shards of one division do not see each other.
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from mirror.core.model import Shard
from mirror.core.shard import shard_named
from mirror.destinations import STATE
from mirror.destinations.lock import is_dead_here, this_process, who
from mirror.destinations.store import Told
from mirror.errors import LockedError, UnwritableError

FOLDER: Final = f"{STATE}/locks"
RENEWED_EACH_S: Final = 60.0
_LASTS: Final = timedelta(minutes=10)
_NAME: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)  # by that, all live
_MOST_BYTES: Final = 1 << 16  # more is none


class Leasing(Protocol):
    """Where a lease can be had: a bucket's store, or a server."""

    def put(self, path: str, data: bytes, metadata: Mapping[str, str], /) -> object:
        """Write a small file, whole."""

    def listed(self, folder: str, /) -> Iterator[Told]:
        """What lies below a folder, dated by the clock of whoever answers."""

    def pieces(self, path: str, /) -> Iterator[bytes]:
        """A file's bytes."""

    def delete(self, path: str, /) -> None:
        """Remove a file, if it is there."""


class Lease:
    """What one process holds of one destination."""

    def __init__(self, store: Leasing, name: str, shard: Shard | None = None) -> None:
        """`shard`: what is held is that part of it; None: all of it."""
        self._store = store
        self._name = name
        self._shard = shard
        self._path = f"{FOLDER}/{f'{shard.name}-' if shard else ''}{uuid.uuid4()}"
        self._renewed_s = 0.0
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs.

        Raises:
            LockedError: another machine's run holds it.
            OSError: the store does not answer.
        """
        self._renew()
        try:
            self._refuse_others(self._others())
            renewing = threading.Thread(target=self._keep_renewing, daemon=True)
            renewing.start()
            try:
                yield
            finally:
                self._ended.set()
                renewing.join()
        finally:
            with suppress(OSError):
                self._store.delete(self._path)

    def check(self) -> None:
        """Refuse to go on with what may be somebody else's by now.

        Raises:
            UnwritableError: it could not be renewed for too long.
        """
        if time.monotonic() - self._renewed_s > _LASTS.total_seconds() / 2:
            raise UnwritableError(
                f"{self._name}: may be another run's by now",
                why="the hold on it could not be renewed: no connection, or the machine slept",
                hint="run again",
            )

    def _renew(self) -> None:
        self._store.put(self._path, this_process(), {})
        self._renewed_s = time.monotonic()

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEWED_EACH_S):
            with suppress(OSError):
                self._renew()

    def _others(self) -> list[Told]:
        """Those that live, by the store's clock; those that are over are cleared away."""
        found = list(self._store.listed(FOLDER))
        # Not by the newest: one from when the store's clock was ahead would make all others old.
        own = (told.modified for told in found if told.path == self._path)
        now = next(own, _LONG_AGO)
        living = []
        for told in found:
            if told.path == self._path or _are_apart(self._shard, told):
                continue
            if not _is_one(self._store, told):
                continue
            if now - told.modified > _LASTS or is_dead_here(_read(self._store, told.path)):
                self._store.delete(told.path)
            else:
                living.append(told)
        return living

    def _refuse_others(self, others: list[Told]) -> None:
        if others:
            raise _refused_by(others[0], self._store, self._name)


def _are_apart(shard: Shard | None, told: Told) -> bool:
    """Whether two runs can hold it at once: of one division, and different parts of it."""
    other = _shard_of(told)
    if shard is None or other is None:
        return False
    return shard.count == other.count and shard.number != other.number


def check_free(store: Leasing, name: str, shard: Shard | None = None) -> None:
    """Refuse when a run holds it, or that part of it; leaves no trace.

    Raises:
        LockedError: one does.
    """
    now = datetime.now(UTC)  # of this machine: nothing is written that the store would date
    for told in store.listed(FOLDER):
        if now - told.modified > _LASTS or _are_apart(shard, told):
            continue
        if _is_one(store, told) and not is_dead_here(_read(store, told.path)):
            raise _refused_by(told, store, name)


def _shard_of(told: Told) -> Shard | None:
    return shard_named(told.path.rpartition("/")[2])


def _is_one(store: Leasing, told: Told) -> bool:
    """Whether it is a lease; by its name alone while it is being written, and empty."""
    if _NAME.search(told.path):
        return True
    is_small = 0 < told.size_bytes <= _MOST_BYTES
    return is_small and _read(store, told.path).keys() >= {"pid", "host"}


def _refused_by(told: Told, store: Leasing, name: str) -> LockedError:
    error = refused(name, who(_read(store, told.path)), _shard_of(told))
    if told.modified - datetime.now(UTC) > _LASTS:
        error.hint = (
            "wait for it to end and run again; it is dated in the future and never gets old:"
            f" if its machine is no more, remove {told.path}"
        )
    return error


def refused(name: str, holder: str, shard: Shard | None = None) -> LockedError:
    """What a run is told that comes second; `shard`: which part the first one holds."""
    return LockedError(
        f"{name}: is in use",
        why=f"{holder} holds {'it' if shard is None else f'shard {shard} of it'}",
        hint=(
            "wait for it to end and run again; what a machine left that died is taken over"
            f" after {_LASTS.total_seconds() / 60:.0f} minutes"
        ),
    )


def _read(store: Leasing, path: str) -> dict[str, object]:
    with suppress(OSError, ValueError):
        told = json.loads(b"".join(store.pieces(path)))
        if isinstance(told, dict):
            return told
    return {}
