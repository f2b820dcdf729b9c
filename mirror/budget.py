"""What all mirrors of a run share: connections for downloads, and turns at listing.

Each mirror at a server has a lane. A free connection goes to the lane whose server, and then which
itself, has the fewest; one is kept for every other server that has none, so that a server which
takes connections and sends nothing holds up nobody else. All on one event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

_FIRST_CONNECTIONS: Final = 4
_STEP_S: Final = 1.0
_GROWTH: Final = 1.05  # one more connection pays only while files per second grow by this
# Of one server at once, while its originals are downloaded and while none is: more listings side by
# side only slow each other down.
_LISTINGS: Final = 2
_LISTINGS_ALONE: Final = 4


@dataclass(slots=True)
class _Turn:
    """Somebody who waits."""

    lane: "Lane"
    granted: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Lane:
    """One mirror's share, whatever its number of destinations."""

    budget: "Budget"
    server: str
    most: int
    held: int = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """While the block runs, a connection is kept for this lane's server."""
        self.budget.open_lanes[self.server] += 1
        try:
            yield
        finally:
            self.budget.open_lanes[self.server] -= 1
            self.budget.grant()

    def connection(self) -> "_Connection":
        """One download's; held for one attempt, never while waiting for the next."""
        return _Connection(self)


@dataclass(slots=True)
class _Connection:
    """One, while an `async with` block runs."""

    lane: Lane

    async def __aenter__(self) -> None:
        await self.lane.budget.take(self.lane)

    async def __aexit__(self, *_: object) -> None:
        self.lane.budget.give_back(self.lane)


@dataclass(slots=True)
class Budget:
    """Connections for downloads: four, and up to `most` while files per second grow."""

    most: int
    clock_s: Callable[[], float] = time.monotonic
    open_lanes: Counter[str] = field(default_factory=Counter)  # by server
    _limit: int = field(init=False)
    _held: Counter[str] = field(default_factory=Counter)  # by server
    _total: int = 0  # of all of them
    _waiting: list[_Turn] = field(default_factory=list)
    _listing: dict[str, "_Listings"] = field(default_factory=dict)
    _finished: int = 0  # since the step began
    _begun_s: float = 0.0
    _best_per_s: float = 0.0

    def __post_init__(self) -> None:
        self._limit = min(_FIRST_CONNECTIONS, self.most)

    @property
    def limit(self) -> int:
        """How many connections there are at present."""
        return self._limit

    def lane(self, server: str, most: int) -> Lane:
        """A mirror's share of at most so many connections."""
        return Lane(self, server, most)

    async def take(self, lane: Lane) -> None:
        """Wait for a connection."""
        if not self._waiting and self._total < self._limit and self._may_have_one(lane):
            self._give(lane)
            return
        turn = _Turn(lane, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self.grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self.give_back(lane)  # granted in the same moment
            raise

    def give_back(self, lane: Lane) -> None:
        """Somebody else may have it."""
        lane.held -= 1
        self._held[lane.server] -= 1
        self._total -= 1
        self._listings(lane.server).grant()
        self.grant()

    def finished(self) -> None:
        """A file came; once a second this decides whether one more connection pays."""
        self._finished += 1
        now_s = self.clock_s()
        passed_s = now_s - self._begun_s
        if passed_s < _STEP_S:
            return
        per_s = self._finished / passed_s
        self._begun_s, self._finished = now_s, 0
        if self._waiting and self._limit < self.most and per_s > self._best_per_s * _GROWTH:
            self._best_per_s = per_s
            self._limit += 1
            self.grant()

    def grant(self) -> None:
        """Give away what is free."""
        while self._waiting and self._total < self._limit:
            first: dict[Lane, _Turn] = {}  # of each lane, whoever has waited longest
            for turn in self._waiting:
                if turn.lane not in first and not turn.granted.done():
                    first[turn.lane] = turn
            lane = min(filter(self._may_have_one, first), key=self._rank, default=None)
            if lane is None:
                return
            self._waiting.remove(first[lane])
            self._give(lane)
            first[lane].granted.set_result(None)

    def _give(self, lane: Lane) -> None:
        if not self._total:
            self._begun_s, self._finished = self.clock_s(), 0  # a pause says nothing of pace
        lane.held += 1
        self._held[lane.server] += 1
        self._total += 1

    def _may_have_one(self, lane: Lane) -> bool:
        if lane.held >= lane.most:
            return False
        kept = sum(
            count > 0 and server != lane.server and not self._held[server]
            for server, count in self.open_lanes.items()
        )
        return not self._held[lane.server] or self._total + 1 + kept <= self._limit

    def _rank(self, lane: Lane) -> tuple[int, int]:
        return self._held[lane.server], lane.held

    # -- listing -----------------------------------------------------------------------------------

    def listing(self, server: str) -> "_Listings":
        """A turn at asking a server for a page of a listing: `async with`."""
        return self._listings(server)

    def _listings(self, server: str) -> "_Listings":
        found = self._listing.get(server)
        if found is None:
            found = self._listing[server] = _Listings(lambda: self._held[server] > 0)
        return found


class _Listings:
    """Turns at one server."""

    def __init__(self, downloads: Callable[[], bool]) -> None:
        self._downloads = downloads
        self._asking = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._asking -= 1
        self.grant()

    def grant(self) -> None:
        """Let in whoever may be."""
        most = _LISTINGS if self._downloads() else _LISTINGS_ALONE
        for turn in [turn for turn in self._waiting if not turn.done()]:
            if self._asking >= most:
                return
            self._waiting.remove(turn)
            self._asking += 1
            turn.set_result(None)
