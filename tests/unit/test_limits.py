import asyncio
from datetime import datetime, timedelta

import pytest

from mirror.core.model import Limits
from mirror.core.timetable import parse_timetable
from mirror.errors import LimitError
from mirror.limits import Allowance, Allowances, Bandwidth, Ration

MIB = 1 << 20
NINE = datetime.fromisoformat("2026-11-23 09:00:00")


class Clock:
    """Time that passes only while everybody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def local_now(self) -> datetime:
        return NINE + timedelta(seconds=self.now_s)

    async def sleep(self, wait_s: float) -> None:
        self.now_s += wait_s
        await asyncio.sleep(0)


def bandwidth(text: str, clock: Clock) -> Bandwidth:
    return Bandwidth(parse_timetable(text), clock, clock.local_now, clock.sleep)


async def came_bytes(limit: Bandwidth, clock: Clock, until_s: float, connections: int = 8) -> int:
    """What so many connections get until then, each as fast as it may."""
    came = 0

    async def connection(piece_bytes: int) -> None:
        nonlocal came
        while clock.now_s < until_s:
            came += piece_bytes
            await limit.take(piece_bytes)

    await asyncio.gather(*(connection(40_000 + 10_000 * number) for number in range(connections)))
    return came


@pytest.mark.parametrize("text", ["512k", "2M", "20M", "100M"])
async def test_eight_connections_together_keep_the_rate(text: str) -> None:
    clock = Clock()
    limit = bandwidth(text, clock)
    came = await came_bytes(limit, clock, 20.0)
    rate = limit.timetable.rate_at(NINE)
    assert rate
    assert came / clock.now_s == pytest.approx(rate, rel=0.1)


async def test_a_pause_is_not_caught_up() -> None:
    clock = Clock()
    limit = bandwidth("1M", clock)
    await came_bytes(limit, clock, 5.0)
    clock.now_s += 3600
    begun_s = clock.now_s
    came = await came_bytes(limit, clock, begun_s + 10)
    assert came / (clock.now_s - begun_s) == pytest.approx(MIB, rel=0.1)


async def test_the_rate_changes_while_a_run_is_under_way() -> None:
    clock = Clock()
    limit = bandwidth("00:00,1M 09:01,4M 09:02,off", clock)
    first = await came_bytes(limit, clock, 59.0)
    assert first / clock.now_s == pytest.approx(MIB, rel=0.1)
    clock.now_s = 61.0
    second = await came_bytes(limit, clock, 119.0)
    assert second / (clock.now_s - 61.0) == pytest.approx(4 * MIB, rel=0.1)
    clock.now_s = at_will_s = 121.0
    await limit.take(1000 * MIB)
    assert clock.now_s == at_will_s


async def test_who_is_stopped_while_waiting_stops_nobody_else() -> None:
    clock = Clock()
    never = asyncio.Event()

    async def sleep(_wait_s: float) -> None:
        await never.wait()

    limit = Bandwidth(parse_timetable("1k"), clock, clock.local_now, sleep)
    first = asyncio.create_task(limit.take(MIB))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    limit.sleep = clock.sleep
    async with asyncio.timeout(5):
        await limit.take(1)


def test_the_file_that_uses_up_the_ration_ends_and_the_next_is_not_begun() -> None:
    allowance = Allowance(ration=Ration(100))
    allowance.check()
    allowance.promise("a", 80)
    allowance.came("a", 30)
    allowance.check()
    allowance.promise("b", 80)
    with pytest.raises(LimitError, match="max_transfer of 100 bytes is reached"):
        allowance.check()
    with pytest.raises(LimitError):
        allowance.promise("c", 1)


def test_what_was_promised_and_did_not_come_is_free_again() -> None:
    allowance = Allowance(ration=Ration(100))
    allowance.promise("a", 100)
    allowance.came("a", 10)
    allowance.end("a")
    allowance.check()
    allowance.promise("b", 1)


def test_nothing_is_begun_when_the_time_is_over() -> None:
    clock = Clock()
    allowance = Allowance(max_duration_s=60, clock_s=clock)
    clock.now_s = 59.9
    allowance.check()
    clock.now_s = 60.0
    with pytest.raises(LimitError, match="max_duration of 60 s is over"):
        allowance.check()


def test_each_profile_has_its_own_limits() -> None:
    each = Allowances(Limits())
    one = each.of(Limits(bandwidth=parse_timetable("1M"), max_transfer_bytes=5))
    other = each.of(Limits(bandwidth=parse_timetable("1M")))
    assert one.bandwidth is not other.bandwidth
    assert (one.ration is None, other.ration is None) == (False, True)


def test_what_the_command_line_says_is_shared_by_all_profiles() -> None:
    above = Limits(bandwidth=parse_timetable("off"), max_transfer_bytes=5, max_duration_s=3)
    each = Allowances(above)
    one, other = each.of(Limits(max_duration_s=9)), each.of(Limits(max_transfer_bytes=7))
    assert one.bandwidth is other.bandwidth
    assert one.ration is other.ration is not None
    assert one.max_duration_s == other.max_duration_s == 3
