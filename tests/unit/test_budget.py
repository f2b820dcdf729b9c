import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mirror.budget import Budget, Lane


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def settled() -> None:
    """Whoever can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


class Downloads:
    """Tasks that hold a connection until they are told to end."""

    def __init__(self) -> None:
        self.holding: list[Lane] = []
        self._tasks: list[tuple[Lane, asyncio.Event, asyncio.Task[None]]] = []

    def begin(self, lane: Lane, count: int = 1) -> None:
        for _ in range(count):
            ended = asyncio.Event()
            self._tasks.append((lane, ended, asyncio.create_task(self._hold(lane, ended))))

    async def _hold(self, lane: Lane, ended: asyncio.Event) -> None:
        async with lane.connection():
            self.holding.append(lane)
            try:
                await ended.wait()
            finally:
                self.holding.remove(lane)

    def end(self, lane: Lane) -> None:
        """One that has a connection."""
        for item in self._tasks:
            if item[0] is lane and not item[1].is_set() and lane in self.holding:
                item[1].set()
                self._tasks.remove(item)
                return
        raise AssertionError("none holds a connection")

    async def cancel(self) -> None:
        for _, _, task in self._tasks:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in self._tasks), return_exceptions=True)


@asynccontextmanager
async def downloads() -> AsyncIterator[Downloads]:
    made = Downloads()
    yield made
    await made.cancel()


async def test_four_connections_to_begin_with(clock: Clock) -> None:
    lane = Budget(8, clock).lane("a", 8)
    async with downloads() as under_way:
        under_way.begin(lane, 8)
        await settled()
        assert len(under_way.holding) == 4


async def test_never_more_than_were_asked_for(clock: Clock) -> None:
    budget = Budget(2, clock)
    async with downloads() as under_way:
        under_way.begin(budget.lane("a", 2), 2)
        under_way.begin(budget.lane("a", 2), 2)
        await settled()
        assert len(under_way.holding) == 2


async def test_a_mirror_that_asks_for_one_gets_one(clock: Clock) -> None:
    budget = Budget(8, clock)
    modest, other = budget.lane("a", 1), budget.lane("a", 8)
    async with downloads() as under_way:
        under_way.begin(modest, 3)
        under_way.begin(other, 3)
        await settled()
        assert (under_way.holding.count(modest), under_way.holding.count(other)) == (1, 3)


def finish(budget: Budget, clock: Clock, files: int) -> None:
    """So many files within one second."""
    clock.now_s += 1.0
    for _ in range(files):
        budget.finished()
    # What the first of them closed is one second; the others belong to the next.


async def test_one_more_each_second_while_files_per_second_grow(clock: Clock) -> None:
    budget = Budget(8, clock)
    async with downloads() as under_way:
        under_way.begin(budget.lane("a", 8), 20)
        await settled()
        limits = []
        for files in (1, 10, 20, 20, 40):
            finish(budget, clock, files)
            await settled()
            limits.append(budget.limit)
        assert limits == [5, 5, 6, 7, 7]
        assert len(under_way.holding) == 7


async def test_nobody_who_waits_no_growth(clock: Clock) -> None:
    budget = Budget(8, clock)
    async with downloads() as under_way:
        under_way.begin(budget.lane("a", 8), 3)
        await settled()
        finish(budget, clock, 5)
        assert budget.limit == 4


async def test_mirrors_share_equally(clock: Clock) -> None:
    budget = Budget(4, clock)
    greedy, late = budget.lane("a", 4), budget.lane("a", 4)
    async with downloads() as under_way:
        under_way.begin(greedy, 10)
        await settled()
        assert under_way.holding.count(greedy) == 4
        under_way.begin(late, 10)
        for _ in range(2):
            under_way.end(greedy)
            await settled()
        assert (under_way.holding.count(greedy), under_way.holding.count(late)) == (2, 2)


async def test_a_server_that_gives_nothing_back_leaves_one_for_every_other(clock: Clock) -> None:
    budget = Budget(4, clock)
    dead, alive, third = (budget.lane(server, 4) for server in ("dead", "alive", "third"))
    async with downloads() as under_way:
        with dead.open(), alive.open(), third.open():
            under_way.begin(dead, 10)
            await settled()
            assert under_way.holding.count(dead) == 2
            under_way.begin(alive, 10)
            await settled()
            assert under_way.holding.count(alive) == 1
        await settled()
        assert len(under_way.holding) == 4  # nobody else is left to keep one for


async def test_who_goes_while_waiting_takes_nothing_along(clock: Clock) -> None:
    budget = Budget(1, clock)
    lane = budget.lane("a", 1)
    async with downloads() as under_way:
        under_way.begin(lane, 3)
        await settled()
    async with asyncio.timeout(1), lane.connection():
        pass


async def test_who_is_cancelled_in_the_moment_of_the_grant_gives_it_back(clock: Clock) -> None:
    lane = Budget(1, clock).lane("a", 1)

    async def hold() -> None:
        async with lane.connection():
            await asyncio.Event().wait()

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await settled()
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(1), lane.connection():
        pass


async def test_four_ask_for_pages_and_two_while_photos_come(clock: Clock) -> None:
    budget = Budget(8, clock)
    asking = 0

    async def ask() -> None:
        nonlocal asking
        async with budget.listing("a"):
            asking += 1
            await asyncio.Event().wait()

    async with downloads() as under_way:
        under_way.begin(budget.lane("a", 8))
        await settled()
        tasks = [asyncio.create_task(ask()) for _ in range(6)]
        await settled()
        assert asking == 2
        under_way.end(under_way.holding[0])
        await settled()
        assert asking == 4
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1), budget.listing("a"), budget.listing("a"):
        pass
