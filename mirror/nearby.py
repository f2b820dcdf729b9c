"""What the other destinations of a run hold, or get right now, need not be downloaded again.

Whoever takes bytes from a neighbour hashes them, so nothing here has to be true: a file that moved,
rotted or went costs a download. A flight is one download under way; it lasts for one attempt, so
that nobody waits for somebody who waits.
"""

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from mirror.core.batches import batches
from mirror.destinations import INDEX, STATE, Fetching, OpenDestination, partial
from mirror.errors import InterruptedRunError, MirrorError
from mirror.index import Index

_BATCH: Final = 500
# A disk that hangs, or a server that sends nothing, is not waited for any longer.
_PATIENCE_S: Final = 60.0


class Source(NamedTuple):
    """A file of a destination that may hold some bytes."""

    neighbour: "Neighbour"
    path: Path

    def opened(self) -> BinaryIO | None:
        """It for reading, fetched where it is not on this machine; None when it cannot be. Blocks.

        Nothing is fetched but what came in this run: what lies in a store already may cost more
        there than at the server.
        """
        return opened(self.path) or self.neighbour.fetched(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A verified file, under the name it has while it is incomplete, then under its own."""

    neighbour: "Neighbour"
    name: str
    path: str

    @property
    def sources(self) -> tuple["Source", "Source"]:
        """Where it lies: at the first, or else at the second."""
        paths = partial(self.name), self.path
        first, second = (Source(self.neighbour, self.neighbour.root / path) for path in paths)
        return first, second


class Flight:
    """One download of some bytes, while a connection is held for it."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._landed = asyncio.Event()
        self._moved_s = clock_s()

    @property
    def left_s(self) -> float:
        """How long it is worth waiting for the next bytes; 0 when it is not any more."""
        waited_s = self._clock_s() - self._moved_s
        return 0.0 if self._landed.is_set() else max(0.0, _PATIENCE_S - waited_s)

    def moved(self) -> None:
        """Some of it came."""
        self._moved_s = self._clock_s()

    def land(self) -> None:
        """It is over, however it ended."""
        self._landed.set()

    async def over(self) -> None:
        """Wait for its end, as long as it gets on."""
        while left_s := self.left_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._landed.wait(), left_s)


@dataclass(slots=True)
class Neighbourhood:
    """All destinations of a run; on one event loop but for `Neighbour.find`."""

    clock_s: Callable[[], float] = time.monotonic
    neighbours: list["Neighbour"] = field(default_factory=list)
    _flights: dict[bytes, Flight] = field(default_factory=dict)
    _offers: dict[bytes, Offer] = field(default_factory=dict)

    def add(self, root: Path, *, links: bool = False, is_remote: bool = False) -> "Neighbour":
        """One more destination; `links`: its files may be names of those of others that say so.

        `is_remote`: at `root` there is only what has not got there yet.
        """
        neighbour = Neighbour(root, self, links=links, is_remote=is_remote)
        self.neighbours.append(neighbour)
        return neighbour

    def close(self) -> None:
        """Let go of every index."""
        for neighbour in self.neighbours:
            neighbour.close()

    def offered(self, sha1: bytes) -> Offer | None:
        """A file with these bytes that was fetched in this run."""
        return self._offers.get(sha1)

    def offer(self, sha1: bytes, offer: Offer) -> None:
        """Let others take it, while there are any."""
        if any(other.is_open for other in self.neighbours if other is not offer.neighbour):
            self._offers[sha1] = offer

    def withdraw(self, sha1: bytes, offer: Offer) -> None:
        """It was not what it should be."""
        if self._offers.get(sha1) is offer:
            del self._offers[sha1]

    def flight(self, sha1: bytes) -> Flight | None:
        """The download of these bytes that is under way and gets on."""
        found = self._flights.get(sha1)
        return found if found is not None and found.left_s else None

    @contextmanager
    def flying(self, sha1: bytes | None) -> Iterator[Flight]:
        """While the block runs, others may wait for it; None: nobody knows these bytes."""
        flight = Flight(self.clock_s)
        if sha1 is not None:
            self._flights[sha1] = flight
        try:
            yield flight
        finally:
            if sha1 is not None and self._flights.get(sha1) is flight:
                del self._flights[sha1]
            flight.land()


class Neighbour:
    """One destination of the run."""

    def __init__(
        self,
        root: Path,
        neighbourhood: Neighbourhood,
        *,
        links: bool = False,
        is_remote: bool = False,
    ) -> None:
        self.root = root
        self._is_remote = is_remote
        self.links = links
        self.neighbourhood = neighbourhood
        self.is_open = True  # it may still want something
        self._turn = threading.Lock()
        self._index: Index | None = None  # while its own run holds it
        self._remote: Fetching | None = None  # from the first time that it was held
        self._database: sqlite3.Connection | None = None  # before and after

    @contextmanager
    def holding(self, index: Index, folder: OpenDestination | None) -> Iterator[None]:
        """While the block runs, the index is this run's."""
        with self._turn:
            self._let_go()
            self._index = index
            there: object = folder
            self._remote = there if isinstance(there, Fetching) else None
        try:
            yield
        finally:
            with self._turn:
                self._index = None

    def close(self) -> None:
        """Let go of the index for good."""
        with self._turn:
            self.is_open = False
            self._let_go()

    def beside(self, wanted: Iterable[bytes]) -> dict[bytes, list[Source]]:
        """Files of others that are said to hold these bytes. Blocks."""
        found: dict[bytes, list[Source]] = {}
        others = [other for other in self.neighbourhood.neighbours if other is not self]
        for batch in batches(wanted, _BATCH) if others else ():
            for other in others:
                for sha1, path in other.find(batch):
                    found.setdefault(sha1, []).append(Source(other, path))
        return found

    def fetched(self, path: Path) -> BinaryIO | None:
        """A file of a destination that is elsewhere, held open here; None: it is not to be had."""
        if self._remote is None or not path.is_relative_to(self.root):
            return None
        try:
            return self._remote.fetched(str(path.relative_to(self.root)))
        except InterruptedRunError:
            raise
        except (OSError, ValueError, MirrorError):
            return None  # that destination may be lost, or done; whoever asks is neither

    def find(self, wanted: Sequence[bytes]) -> list[tuple[bytes, Path]]:
        """What is said to hold some of these bytes. Blocks."""
        if self._is_remote:
            return []
        with self._turn, suppress(sqlite3.Error):
            return [(sha1, self.root / path) for sha1, path in self._find(wanted)]
        return []

    def _find(self, wanted: Sequence[bytes]) -> list[tuple[bytes, str]]:
        if self._index is not None:
            rows = self._index.with_sha1(wanted)
            return [(row.sha1, row.path) for row in rows if row.sha1 is not None]
        database = self._opened()
        if database is None:
            return []
        marks = ",".join("?" * len(wanted))
        query = f"SELECT sha1, path FROM asset WHERE sha1 IN ({marks})"  # noqa: S608 (only marks)
        found = database.execute(query, wanted).fetchall()
        return [(sha1, path.decode("utf-8", "surrogateescape")) for sha1, path in found]

    def _opened(self) -> sqlite3.Connection | None:
        if self._database is None:
            path = self.root / STATE / INDEX
            if path.is_file():
                # Immutable: no run of ours holds it, and we must leave no journal there.
                uri = f"{path.as_uri()}?mode=ro&immutable=1"
                self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        return self._database

    def _let_go(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def opened(path: Path) -> BinaryIO | None:
    """A neighbour's file for reading; None when there is none. Never waits for a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags), "rb", buffering=0)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None
