"""What the user set for a run: how fast, how much, how long.

A limit stops a run cleanly: nothing new is begun, what is under way ends, and the next run goes on.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mirror.core.model import Limits
from mirror.core.timetable import Timetable
from mirror.errors import LimitError

GRACE_S: Final = 60.0  # what is still under way so long after `max_duration` is resumed next time
_GOES_ON: Final = "run again: it goes on where it stopped"
BURST_S: Final = 0.25  # what was not used in the last moment may be caught up
_LONGEST_WAIT_S: Final = 5.0  # then the timetable is looked at again


def local_now() -> datetime:
    """The wall clock that timetables go by."""
    return datetime.now().astimezone()


@dataclass(slots=True, eq=False)
class Bandwidth:
    """A rate that all who share it keep together, whatever their number."""

    timetable: Timetable
    clock_s: Callable[[], float] = time.monotonic
    local_now: Callable[[], datetime] = local_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _rate: float | None = None
    _ready_s: float = 0.0  # when everything that was taken will have been paid for
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, size_bytes: int) -> None:
        """So many bytes came: return when the next may be asked for."""
        if self.timetable.rate_at(self.local_now()) is None and not self._turn.locked():
            return
        async with self._turn:  # in turn: who came first goes on first
            await self._pay(size_bytes)

    async def _pay(self, owed_bytes: float) -> None:
        now_s = self.clock_s()
        self._ready_s = max(self._ready_s, now_s - BURST_S)
        while owed_bytes > 0:
            rate = self.timetable.rate_at(self.local_now())
            if rate is None:
                return
            paid_bytes = min(owed_bytes, rate * _LONGEST_WAIT_S)
            self._ready_s += paid_bytes / rate
            owed_bytes -= paid_bytes
            if (wait_s := self._ready_s - self.clock_s()) > 0:
                await self.sleep(wait_s)


@dataclass(slots=True)
class Ration:
    """A number of bytes that all who share it may download; the file that exceeds it still ends."""

    most_bytes: int
    came_bytes: int = 0
    _promised: dict[object, int] = field(default_factory=dict)

    @property
    def is_used_up(self) -> bool:
        """Whether nothing more may be begun."""
        return self.came_bytes + sum(self._promised.values()) >= self.most_bytes

    def used_up(self) -> LimitError:
        """What to say then."""
        return LimitError(f"max_transfer of {self.most_bytes} bytes is reached", hint=_GOES_ON)

    def promise(self, key: object, size_bytes: int) -> None:
        """So many are to come.

        Raises:
            LimitError: others will have used it up.
        """
        self._promised.pop(key, None)
        if self.is_used_up:
            raise self.used_up()
        self._promised[key] = size_bytes

    def came(self, key: object, size_bytes: int) -> None:
        """Some did."""
        self.came_bytes += size_bytes
        if key in self._promised:
            self._promised[key] = max(0, self._promised[key] - size_bytes)

    def end(self, key: object) -> None:
        """No more will come of it."""
        self._promised.pop(key, None)


@dataclass(slots=True)
class Allowance:
    """The limits that hold for one mirror; those of a profile or of a run are shared."""

    bandwidth: Bandwidth | None = None
    ration: Ration | None = None
    max_duration_s: int | None = None
    begun_s: float = 0.0  # by the clock below
    clock_s: Callable[[], float] = time.monotonic

    def check(self) -> None:
        """Whether something new may be begun.

        Raises:
            LimitError: no.
        """
        if self.ration is not None and self.ration.is_used_up:
            raise self.ration.used_up()
        if self.left_s() <= 0:
            raise self.time_is_up()

    def promise(self, key: object, size_bytes: int) -> None:
        """So many bytes are to come, unless others will have used up what may.

        Raises:
            LimitError: they will.
        """
        if self.ration is not None:
            self.ration.promise(key, size_bytes)

    def came(self, key: object, size_bytes: int) -> None:
        """Some did."""
        if self.ration is not None:
            self.ration.came(key, size_bytes)

    def end(self, key: object) -> None:
        """No more will."""
        if self.ration is not None:
            self.ration.end(key)

    def left_s(self) -> float:
        """Until nothing new is begun any more."""
        longest_s = math.inf if self.max_duration_s is None else self.max_duration_s
        return self.begun_s + longest_s - self.clock_s()

    def time_is_up(self) -> LimitError:
        """What to say when `max_duration` is over."""
        return LimitError(f"max_duration of {self.max_duration_s} s is over", hint=_GOES_ON)


@dataclass(slots=True)
class Allowances:
    """One for each profile; what stands above the profiles is shared by all of them."""

    above: Limits
    begun_s: float = field(default_factory=time.monotonic)
    _bandwidth: Bandwidth | None = field(init=False)
    _ration: Ration | None = field(init=False)

    def __post_init__(self) -> None:
        self._bandwidth, self._ration = _shared(self.above)

    def of(self, limits: Limits) -> Allowance:
        """What the mirrors of a profile share."""
        bandwidth, ration = _shared(limits)
        longest_s = self.above.max_duration_s
        return Allowance(
            bandwidth=self._bandwidth or bandwidth,
            ration=self._ration or ration,
            max_duration_s=limits.max_duration_s if longest_s is None else longest_s,
            begun_s=self.begun_s,
        )


def _shared(limits: Limits) -> tuple[Bandwidth | None, Ration | None]:
    timetable, most_bytes = limits.bandwidth, limits.max_transfer_bytes
    return (
        None if timetable is None else Bandwidth(timetable),
        None if most_bytes is None else Ration(most_bytes),
    )
