"""`mirror verify` reads the files again: finds what rotted, makes it good, loses nothing."""

import errno
import fcntl
import itertools
import json
import os
import signal
import subprocess
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from mirror.core.guard import Allowed
from mirror.core.model import Row
from mirror.core.verify import Condition, Verification
from mirror.destinations.folder import Folder
from mirror.errors import ExitCode, InterruptedRunError
from mirror.findings import verify_text
from mirror.index import Index
from mirror.sandbox import Sandbox
from mirror.sandbox.faults import Answered, Corrupted
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import (
    Mirrored,
    content,
    files,
    make_external,
    mirrored,
    moved_aside,
    of_profile,
    photos,
    rot,
    verified,
    whole,
)
from tests.integration.starts import environment, started

PROJECT = Path(__file__).parents[2]
DAY = "2020/06/15"
LATER = datetime(2031, 1, 1, tzinfo=UTC)


def rows(me: Mirrored) -> dict[str, Row]:
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        return {row.path.rpartition("/")[2]: row for row in index.all_rows()}


def assert_manifest_is_true(root: Path) -> None:
    judge = subprocess.run(
        ["sha1sum", "-c", "--strict", "--quiet", ".mirror/SHA1SUMS"],
        cwd=root, capture_output=True, check=False,
    )  # fmt: skip
    assert judge.returncode == 0, judge.stdout + judge.stderr


def told(report: Verification) -> dict[str, str]:
    return {found.row.path.rpartition("/")[2]: found.condition.value for found in report.found}


# -- through the command line ----------------------------------------------------------------------


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(photos(8)) as serving:
        yield serving


async def test_bit_rot_is_found_repaired_and_kept(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    me = of_profile(tmp_path, sandbox)
    await me.synced()
    before = files(me.root)
    sandbox.requests.clear()

    ended = await mirror(tmp_path, "verify", "family")
    assert (ended.code, ended.out) == (0, f"all -> {me.root}: 8 verified (1.6 kB read)\n")

    rotten = rot(me.root / DAY / "IMG_0003.jpg")
    ended = await mirror(tmp_path, "verify", "family", "--json")
    (report,) = json.loads(ended.out)
    assert ended.code == report["exit_code"] == 6
    assert report["counts"]["damaged"] == 1
    (damage,) = ended.events("asset.damaged")
    assert damage["path"] == report["found"][0]["path"] == f"{DAY}/IMG_0003.jpg"
    assert not sandbox.requests  # so far nobody asked the server

    ended = await mirror(tmp_path, "verify", "family", "--repair")
    assert ended.code == 0, ended.said
    assert f"repaired: {DAY}/IMG_0003.jpg: what lay there is in quarantine" in ended.out
    assert ended.events("asset.repaired")[0]["path"] == f"{DAY}/IMG_0003.jpg"
    assert files(me.root) == before
    assert [path.read_bytes() for path in moved_aside(me.root)] == [rotten]
    assert me.originals() == {sandbox.library.named("IMG_0003.jpg").id: 1}
    assert_manifest_is_true(me.root)
    await me.assert_settled()


async def test_what_sync_mends_is_no_damage(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    me = of_profile(tmp_path, sandbox)
    await me.synced()
    (me.root / DAY / "IMG_0001.jpg").unlink()
    (me.root / DAY / "IMG_0002.jpg").write_bytes(b"edited")
    ended = await mirror(tmp_path, "verify", "family", "--repair")
    assert ended.code == 1, ended.said
    assert f"missing: {DAY}/IMG_0001.jpg: sync fetches it again" in ended.out
    assert f"drifted: {DAY}/IMG_0002.jpg: changed since it was written" in ended.out
    assert (me.root / DAY / "IMG_0002.jpg").read_bytes() == b"edited"
    await me.synced()
    assert (await verified(me)).exit_code is ExitCode.OK


async def test_while_another_run_holds_it_nothing_is_verified(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    me = of_profile(tmp_path, sandbox)
    await me.synced()
    with (me.root / ".mirror/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (await mirror(tmp_path, "verify", "family")).code == 7


async def test_before_the_first_sync_there_is_nothing_to_verify(sandbox: Sandbox, tmp_path: Path):
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    ended = await mirror(tmp_path, "verify", "family")
    assert ended.code == 4
    assert "run `mirror sync` first" in ended.said
    assert not (tmp_path / "photos").exists()


CHILD = """
import itertools, os, signal, sys
from mirror import rehash
from mirror.cli.main import main
from mirror.destinations.folder import Folder
from tests.integration.child import watch

rehash._REMEMBERED_EACH_S, rehash._MOST_FILES = 0.0, 8
real, numbers, kill = Folder.sha1, itertools.count(1), eval(sys.argv[1])

def sha1(self, path):
    if next(numbers) == kill.get("at_file"):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, path)

Folder.sha1 = sha1
watch(kill if "of" in kill else {"of": []})
sys.exit(main(["verify", "family", *sys.argv[2:]]))
"""


async def child(home: Path, kill: dict[str, object], *args: str) -> int:
    words = ("-c", CHILD, repr(kill), *args)
    process = await started(*words, folder=home, environ=environment(home), out=DEVNULL)
    return await process.wait()


async def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path: Path):
    async with Sandbox(photos(100)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        me = of_profile(tmp_path, sandbox)
        await me.synced()
        synced = {name: row.verified_at for name, row in rows(me).items()}
        begun = datetime.now(UTC)
        assert await child(tmp_path, {"at_file": 61}) == -signal.SIGKILL
        done = {name for name, row in rows(me).items() if row.verified_at != synced[name]}
        assert 61 - 2 * 8 - 1 <= len(done) <= 60
        left = 100 - len(done)
        report = await verified(me, share=Fraction(left, 100))
        assert report.counted == {"verified": left}
        assert all(row.verified_at and row.verified_at > begun for row in rows(me).values())


@pytest.mark.parametrize(
    ("kind", "number"), [("sync", 1), ("rename", 1), ("rename", 2), ("sync", 2), ("replace", 1)]
)
async def test_a_repair_that_is_killed_loses_nothing(tmp_path: Path, kind: str, number: int):
    async with Sandbox(photos(3)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        me = of_profile(tmp_path, sandbox)
        await me.synced()
        before = files(me.root)
        rotten = rot(me.root / DAY / "IMG_0001.jpg")
        kill = {"of": [kind], "at": number}
        assert await child(tmp_path, kill, "--repair") == -signal.SIGKILL
        report = await verified(me, repair=True)
        assert report.exit_code in {ExitCode.OK, ExitCode.PARTIAL}
        await me.synced()
        assert files(me.root) == before
        assert [path.read_bytes() for path in moved_aside(me.root)] == [rotten]
        assert_manifest_is_true(me.root)
        await me.assert_settled()


async def test_a_run_that_is_stopped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        failing(monkeypatch, "IMG_0001.jpg", errno.EIO)
        monkeypatch.setattr("mirror.rehash.check_stopping", stopped_at_the_third())
        report = await verified(me)
        assert report.exit_code is ExitCode.INTERRUPTED
        assert len(report.found) + report.counts[Condition.VERIFIED] == 2


def stopped_at_the_third() -> Callable[[], None]:
    numbers = itertools.count(1)

    def check_stopping() -> None:
        if next(numbers) == 3:
            raise InterruptedRunError("the run was interrupted")

    return check_stopping


# -- sampling --------------------------------------------------------------------------------------


async def test_twenty_samples_of_five_percent_hold_every_file(tmp_path: Path):
    async with mirrored(tmp_path, photos(93)) as me:
        await me.synced()
        for number in range(20):
            now = LATER + timedelta(days=number)
            report = await verified(me, share=Fraction(5, 100), clock=lambda now=now: now)
            assert report.counted == {"verified": 5}
        assert min(row.verified_at for row in rows(me).values() if row.verified_at) >= LATER


async def test_damage_is_told_each_time_and_holds_up_no_sample(tmp_path: Path):
    async with mirrored(tmp_path, photos(20)) as me:
        await me.synced()
        for number in range(3):
            rot(me.root / DAY / f"IMG_{number:04}.jpg")
        seen: set[str] = set()
        for number in range(17):
            now = LATER + timedelta(days=number)
            report = await verified(me, share=Fraction(1, 20), clock=lambda now=now: now)
            assert report.exit_code is ExitCode.DAMAGED
            assert report.counted == {"verified": 1, "damaged": 3}
            seen = {name for name, row in rows(me).items() if row.verified_at == now} | seen
        assert len(seen) == 17


async def test_of_much_damage_the_first_is_shown_and_where_the_rest_is(tmp_path: Path):
    async with mirrored(tmp_path, photos(13)) as me:
        await me.synced()
        for number in range(12):
            rot(me.root / DAY / f"IMG_{number:04}.jpg")
        first, *shown, rest = verify_text(await verified(me))
        assert "12 damaged" in first
        assert len(shown) == 10
        assert rest == "  damaged: and 2 more; --json lists them all"


async def test_what_was_verified_by_a_clock_that_was_ahead_comes_first(tmp_path: Path):
    async with mirrored(tmp_path, photos(4)) as me:
        await me.synced()
        await verified(me, share=Fraction(1, 4), clock=lambda: LATER)
        (ahead,) = (name for name, row in rows(me).items() if row.verified_at == LATER)
        await verified(me, share=Fraction(1, 4))
        assert rows(me)[ahead].verified_at != LATER


async def test_when_the_time_is_over_the_rest_is_left(tmp_path: Path):
    async with mirrored(tmp_path, photos(4)) as me:
        await me.synced()
        report = await verified(me, budget_over=True)
        assert (report.left, report.exit_code) == (4, ExitCode.LIMIT)


# -- what is seen ----------------------------------------------------------------------------------


async def test_a_file_that_was_only_touched_is_verified_and_its_row_follows(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        path = me.root / DAY / "IMG_0000.jpg"
        os.utime(path, (1, 1))
        report = await verified(me)
        assert report.counted == {"verified": 2}
        assert rows(me)["IMG_0000.jpg"].mtime_ns == 10**9
        await me.assert_settled()


async def test_a_link_is_not_followed(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        path = me.root / DAY / "IMG_0000.jpg"
        path.rename(tmp_path / "elsewhere.jpg")
        path.symlink_to(tmp_path / "elsewhere.jpg")
        report = await verified(me)
        assert told(report) == {"IMG_0000.jpg": "drifted"}


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Reading a file fails as it would on a bad disk."""
    real = Folder.sha1

    def sha1(self: Folder, path: str) -> bytes:
        if path.endswith(name):
            raise OSError(number, os.strerror(number))
        return real(self, path)

    monkeypatch.setattr(Folder, "sha1", sha1)


async def test_a_bad_sector_is_damage_and_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        with monkeypatch.context() as bad:
            failing(bad, "IMG_0000.jpg", errno.EIO)
            report = await verified(me)
            assert report.exit_code is ExitCode.DAMAGED
            assert report.found[0].detail == "cannot be read: Input/output error"
            report = await verified(me, repair=True)
            assert (told(report), report.exit_code) == ({"IMG_0000.jpg": "repaired"}, ExitCode.OK)
        assert len(moved_aside(me.root)) == 1
        await me.assert_settled()


async def test_a_file_that_this_user_may_not_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        failing(monkeypatch, "IMG_0000.jpg", errno.EACCES)
        report = await verified(me, repair=True)
        assert told(report) == {"IMG_0000.jpg": "unreadable"}
        assert report.exit_code is ExitCode.PARTIAL
        assert moved_aside(me.root) == []


async def test_without_its_index_nothing_is_said_to_be_well(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        (me.root / ".mirror/index.sqlite3").unlink()
        before = whole(me.root)
        report = await verified(me)
        assert report.exit_code is ExitCode.DESTINATION
        assert whole(me.root) == before
        (me.root / ".mirror/index.sqlite3").write_bytes(b"rotten" * 1000)
        report = await verified(me)
        assert report.exit_code is ExitCode.DESTINATION
        await me.synced()
        assert (await verified(me)).counted == {"verified": 2}


# -- repairs ---------------------------------------------------------------------------------------


async def test_when_the_servers_copy_is_damaged_too_ours_stays(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        rotten = rot(me.root / DAY / "IMG_0001.jpg")
        bad = me.library.named("IMG_0001.jpg").id
        me.sandbox.faults.add(Corrupted(3), asset_id=bad, method="GET", path="*/original")
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.DAMAGED
        assert "the server's copy is damaged too, and ours stays" in report.found[0].detail
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == rotten
        assert moved_aside(me.root) == []
        me.sandbox.faults.clear()
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.OK
        await me.assert_settled()


async def test_what_the_server_no_longer_has_stays_damaged(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        me.library.delete(me.library.named("IMG_0001.jpg").id)
        await me.synced()
        rotten = rot(me.root / DAY / "IMG_0001.jpg")
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.DAMAGED
        assert report.found[0].detail.startswith("not repaired")
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == rotten


async def test_a_retained_file_is_repaired_from_the_trash_and_stays_retained(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        me.library.trash(me.library.named("IMG_0001.jpg").id)
        await me.synced()
        before = rows(me)["IMG_0001.jpg"]
        rot(me.root / DAY / "IMG_0001.jpg")
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.OK, report.found
        after = rows(me)["IMG_0001.jpg"]
        assert (after.state, after.reason) == (before.state, before.reason)
        await me.assert_settled()


async def test_a_server_that_does_not_answer_is_said_and_the_damage_too(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        rot(me.root / DAY / "IMG_0001.jpg")
        me.sandbox.faults.add(Answered(401))
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.ACCOUNT
        assert told(report) == {"IMG_0001.jpg": "damaged"}


async def test_a_full_disk_repairs_nothing_and_loses_nothing(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        rotten = rot(me.root / DAY / "IMG_0001.jpg")
        me.destination = {"min_free_bytes": 1 << 60}
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.DESTINATION
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == rotten


# -- external libraries ----------------------------------------------------------------------------


async def external(me: Mirrored) -> None:
    """A folder that was filled by hand, as an external library's originals are adopted: by size."""
    for asset in me.library.assets.values():
        make_external(asset)
        path = me.root / DAY / asset.original_file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(asset.content.read(0, asset.content.size_bytes)))
    await me.synced()


async def test_what_was_taken_by_size_is_proved(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await external(me)
        rot(me.root / DAY / "IMG_0001.jpg")
        assert (await verified(me)).counted == {"unproved": 3}
        report = await verified(me, prove=True)
        assert report.counted == {"proved": 2, "replaced": 1}
        assert report.exit_code is ExitCode.OK
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == content(1)
        assert len(moved_aside(me.root)) == 1
        assert_manifest_is_true(me.root)
        assert len((me.root / ".mirror/SHA1SUMS").read_text().splitlines()) == 3
        await me.assert_settled()
        assert (await verified(me, prove=True)).counted == {"verified": 3}


async def test_more_than_the_limit_is_not_replaced(tmp_path: Path):
    async with mirrored(tmp_path, photos(15)) as me:
        await external(me)
        for path in (me.root / DAY).iterdir():
            rot(path)
        report = await verified(me, prove=True)
        assert report.exit_code is ExitCode.HELD
        assert report.counted == {"replaced": 10, "held": 5}
        report = await verified(me, prove=True, allowed=Allowed(removed=11))
        assert report.counted == {"verified": 10, "replaced": 5}
        await me.assert_settled()


async def test_an_external_file_is_repaired_only_with_the_bytes_it_had(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await external(me)
        await verified(me, prove=True)
        rotten = rot(me.root / DAY / "IMG_0001.jpg")
        asset = me.library.named("IMG_0001.jpg")
        good, asset.content = asset.content, me.library.named("IMG_0002.jpg").content
        report = await verified(me, repair=True)
        assert "the server's copy is damaged too" in report.found[0].detail
        assert (me.root / DAY / "IMG_0001.jpg").read_bytes() == rotten
        asset.content = good
        report = await verified(me, repair=True)
        assert report.exit_code is ExitCode.OK
        await me.assert_settled()
