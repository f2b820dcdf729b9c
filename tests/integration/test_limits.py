"""How fast, how much, how long, and what comes first."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.core.model import Limits, Order
from mirror.core.timetable import parse_timetable
from mirror.errors import ExitCode, LimitError
from mirror.limits import BURST_S, Allowance
from mirror.sandbox import Sandbox
from mirror.sandbox.faults import Stalled
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import NOON, content, empty, files, mirrored, photos, until
from tests.integration.test_side_by_side import account, library_of, profile, session

SLOW = bool(os.environ.get("MIRROR_SLOW"))
MIB = 1 << 20


# -- how much --------------------------------------------------------------------------------------


async def test_a_run_stops_after_so_many_bytes_and_the_next_goes_on(tmp_path: Path) -> None:
    async with Sandbox(photos(30, 10_000)) as sandbox:
        path = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        path.write_text('max_transfer = "100kB"\n' + path.read_text())
        ended = [await mirror(tmp_path, "sync", "family")]
        assert 10 <= len(files(tmp_path / "photos")) <= 11
        ended += [await mirror(tmp_path, "sync", "family") for _ in range(3)]
    assert [one.code for one in ended] == [8, 8, 0, 0]
    assert len(files(tmp_path / "photos")) == 30
    left = 30 - 10 - (len(ended[0].events("asset.downloaded")) - 10)
    (line,) = ended[0].events("mirror.end")
    assert (line["level"], line["error.code"]) == ("warning", "limit")
    assert line["error.message"] == (
        f"max_transfer of 100000 bytes is reached: {left} files wait for the next run"
    )


async def test_all_mirrors_share_what_the_command_line_allows(tmp_path: Path) -> None:
    async with Sandbox(library_of("a", 20)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        ended = await mirror(tmp_path, "sync", "family", "--max-transfer", "1000")
    assert ended.code == 8
    assert len(files(tmp_path / "photos")) == 5


async def test_nothing_is_removed_in_a_run_that_a_limit_stopped(tmp_path: Path) -> None:
    library = photos(20)
    async with mirrored(tmp_path, library) as here:
        here.destination["on_removed"] = "quarantine"
        await here.synced()
        gone = library.named("IMG_0003.jpg")
        library.trash(gone.id)
        library.upload("new.jpg", content("new"), taken_at=NOON)
        async with here.ready() as run:
            run.allowance = Allowance(max_duration_s=0)
            await run.run()
        assert isinstance(run.report.error, LimitError)
        assert run.report.exit_code is ExitCode.LIMIT
        assert any(path.endswith("IMG_0003.jpg") for path in files(here.root))


# -- how long --------------------------------------------------------------------------------------


async def test_when_the_time_is_over_what_is_under_way_ends(tmp_path: Path) -> None:
    clock = [0.0]
    async with mirrored(tmp_path, photos(20)) as here:
        effect = Stalled()
        here.sandbox.faults.add(effect, path="/api/assets/*/original", skip=4)
        async with here.ready() as run:
            run.allowance = Allowance(max_duration_s=60, clock_s=lambda: clock[0])
            running = asyncio.create_task(run.run())
            await until(lambda: sum(here.originals().values()) == 8)
            clock[0] = 60.0
            effect.released.set()
            await running
        assert isinstance(run.report.error, LimitError)
        assert run.report.error.why == "12 files wait for the next run"
        assert len(files(here.root)) == 8
        await here.synced()


async def test_what_does_not_end_is_cut_off_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.execute.GRACE_S", 0.3)
    async with mirrored(tmp_path, photos(1, 3 * MIB)) as here:
        here.sandbox.faults.add(
            Stalled(after_bytes=2 * MIB), path="/api/assets/*/original", times=1
        )
        async with here.ready() as run:
            run.allowance = Allowance(max_duration_s=1, begun_s=time.monotonic())
            await run.run()
        assert isinstance(run.report.error, LimitError)
        assert files(here.root) == {}
        here.sandbox.requests.clear()
        again = await here.synced()
        assert 0 < again.report.received_bytes < 3 * MIB


# -- how fast --------------------------------------------------------------------------------------


async def test_mirrors_together_keep_the_bandwidth(tmp_path: Path) -> None:
    """Two accounts at two servers, eight connections; `MIRROR_SLOW=1` takes the twenty seconds."""
    rate, seconds = (2 * MIB, 20) if SLOW else (2 * MIB, 2)
    count = rate * seconds // (2 * 100_000)
    async with Sandbox(library_of("a", 0)) as one, Sandbox(library_of("b", 0)) as two:
        for sandbox in (one, two):
            for number in range(count):
                name = f"{sandbox.url} {number}"
                sandbox.library.upload(f"{number}.jpg", content(name, 100_000), taken_at=NOON)
        what = profile(tmp_path, account("a", one), account("b", two))
        what = replace(what, limits=Limits(bandwidth=parse_timetable("2M")))
        with_ = session(tmp_path)
        begun_s = time.monotonic()
        await with_.run(what, what.mirrors)
        passed_s = time.monotonic() - begun_s
    came = sum(report.received_bytes for report in with_.reports)
    assert came == 2 * count * 100_000
    told = f"{came / passed_s / MIB:.3f} MiB/s over {passed_s:.1f} s"
    print(told)
    # What may be caught up at the start weighs too much in two seconds to be told as a rate.
    assert came <= rate * (passed_s + BURST_S), told
    if SLOW:
        assert 0.9 * rate < came / passed_s < 1.1 * rate, told


# -- what comes first ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order.PATH, ["a.jpg", "b.jpg", "c.jpg"]),
        (Order.NEWEST, ["b.jpg", "a.jpg", "c.jpg"]),
        (Order.OLDEST, ["c.jpg", "a.jpg", "b.jpg"]),
        (Order.SMALLEST, ["b.jpg", "c.jpg", "a.jpg"]),
    ],
)
async def test_what_is_asked_for_first(tmp_path: Path, order: Order, names: list[str]) -> None:
    library = empty()
    for name, size_bytes, year in (
        ("a.jpg", 900, 2020),
        ("b.jpg", 100, 2022),
        ("c.jpg", 500, 2018),
    ):
        library.upload(name, content(name, size_bytes), taken_at=NOON.replace(year=year))
    async with mirrored(tmp_path, library) as here:
        here.layout("{filename}")
        here.mirror = replace(here.mirror, order=order, transfers=1)
        await here.synced()
        assets = library.assets
        asked = [one.original_of for one in here.sandbox.requests if one.original_of]
        assert [assets[one].original_file_name for one in asked] == names
