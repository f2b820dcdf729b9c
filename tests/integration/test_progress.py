"""What a person sees of a run under way, at a real terminal of 80 columns."""

import asyncio
import re
from pathlib import Path

from mirror.sandbox.faults import Corrupted
from tests.integration.command import mirror
from tests.integration.household import Household, household
from tests.integration.mirroring import photos
from tests.integration.test_status import on_a_terminal


def slow(home: Household) -> None:
    """Two mirrors, one into another folder, at a pace that can be watched."""
    home.add_mirror("second", 'layout = "{filename}"')
    home.add_key('bandwidth = "400k"')


async def test_mirrors_side_by_side_are_seen_and_nothing_is_left(tmp_path: Path):
    async with household(tmp_path, photos(40, size_bytes=40_000)) as home:
        slow(home)
        (first, *_) = home.library.own()
        home.sandbox.faults.add(Corrupted(10), path=f"*/{first.id}/original")
        shown = await asyncio.to_thread(on_a_terminal, home.home, "sync", "family")
    assert shown.code == 1
    drawn = [
        re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", shown.out)
    ]
    for seen in (
        r"\d+ of 80 files .*/s  \d+ s left",
        r"  all .*\d+ of 40  ",
        r"  second .* of 40  ",
    ):
        assert any(re.match(seen, line) for line in drawn), seen
    assert any(re.search("failed: checksum-mismatch", line) for line in drawn)
    bars = [line for line in drawn if re.match(r"\d+ of 80 files|  (all|second) ", line)]
    assert max(map(len, bars)) <= 80
    assert shown.out.count("\x1b[?25l") == shown.out.count("\x1b[?25h")


async def test_a_pipe_gets_no_bars(tmp_path: Path):
    async with household(tmp_path, photos(3)) as home:
        ended = await mirror(home.home, "sync", "family", "--log-format", "text")
    assert ended.code == 0
    assert "\x1b" not in ended.said
    assert " files " not in ended.err
