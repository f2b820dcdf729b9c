"""Originals that do not come, or not as they should."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.errors import ExitCode
from mirror.immich.client import RetryPolicy
from mirror.index import Index
from mirror.run import MirrorRun
from mirror.sandbox.faults import (
    Answered,
    Corrupted,
    Effect,
    Reset,
    Stalled,
    Truncated,
    bad_gateway,
    json_as_image,
)
from mirror.sandbox.originals import etag
from mirror.sandbox.records import StoredAsset
from mirror.transfer import SMALL_BYTES
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    counts,
    describe,
    empty,
    files,
    make_external,
    mirrored,
    no_wait,
    photos,
    sha1_of,
    tree,
    until,
)

BIG = 3 * SMALL_BYTES
KEY_REFUSED = Answered(401, b'{"message":"Invalid API key"}', {"Content-Type": "application/json"})
FORBIDDEN = Answered(
    403,
    b'{"message":"Missing required permission: asset.download"}',
    {"Content-Type": "application/json"},
)


@pytest.fixture
async def big(tmp_path: Path) -> AsyncIterator[Mirrored]:
    """One long video."""
    library = empty()
    library.upload("long.mp4", content("long", BIG), taken_at=NOON)
    async with mirrored(tmp_path, library) as me:
        yield me


def the_one(me: Mirrored) -> StoredAsset:
    (asset,) = me.library.own()
    return asset


def partial_of(me: Mirrored, asset: StoredAsset) -> Path:
    return me.root / f".mirror/partial/{asset.id}-{asset.checksum.hex()[:8]}"


def leave(me: Mirrored, data: bytes, *, tag: str | None = None) -> Path:
    """What a killed run left of the one asset, under its ETag unless told otherwise."""
    asset = the_one(me)
    path = partial_of(me, asset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with Index(me.root / ".mirror/index.sqlite3") as index:
        index.note_partial(
            path.name, etag(asset.content, asset.file_modified_at) if tag is None else tag
        )
    return path


def sent(me: Mirrored) -> list[tuple[int, str | None, int]]:
    """Status, range and bytes of each answer with an original."""
    return [
        (request.status, request.range, request.sent_bytes)
        for request in me.sandbox.requests
        if request.original_of and request.method == "GET"
    ]


def while_waiting(me: Mirrored, change: Callable[[], None]) -> None:
    """Something happens between a failed attempt and the next."""

    async def wait(_wait_s: float) -> None:
        change()

    me.retry = RetryPolicy(sleep=wait)


def failed_codes(run: MirrorRun) -> list[str]:
    return [failed.error.code for failed in run.report.failures]


# -- resumed ---------------------------------------------------------------------------------------


async def test_a_body_that_breaks_off_is_resumed_where_it_broke(big: Mirrored):
    big.sandbox.faults.add(Truncated(2 * SMALL_BYTES), path="*/original", times=1)
    await big.synced()
    assert list(files(big.root).values()) == [the_one(big).content.sha1]
    (first, second) = sent(big)
    assert first[:2] == (200, None)
    assert second == (206, f"bytes={first[2]}-", BIG - first[2])
    await big.assert_settled()


async def test_a_resume_under_another_etag_begins_anew(big: Mirrored):
    big.sandbox.faults.add(Truncated(2 * SMALL_BYTES), path="*/original", times=1)

    def another_file_time() -> None:
        the_one(big).file_modified_at += timedelta(seconds=1)

    while_waiting(big, another_file_time)
    await big.synced()
    assert [status for status, _, _ in sent(big)] == [200, 200]
    assert list(files(big.root).values()) == [the_one(big).content.sha1]


async def test_bytes_that_changed_under_way_come_with_the_next_listing(big: Mirrored):
    big.sandbox.faults.add(Truncated(2 * SMALL_BYTES), path="*/original", times=1)
    while_waiting(big, lambda: big.library.replace(the_one(big).id, content("other", BIG)))
    run = await big.run()
    assert failed_codes(run) == ["checksum-mismatch"]
    assert files(big.root) == {}
    await big.synced()
    assert list(files(big.root).values()) == [the_one(big).content.sha1]


async def test_a_next_run_resumes_what_a_run_left(big: Mirrored):
    await big.planned()
    big.sandbox.faults.add(Truncated(2 * SMALL_BYTES), path="*/original")
    big.retry = RetryPolicy(attempts=1, sleep=no_wait)
    run = await big.run()
    assert failed_codes(run) == ["transfer"]
    left = partial_of(big, the_one(big)).stat().st_size
    assert left > SMALL_BYTES
    big.sandbox.faults.clear()
    big.sandbox.requests.clear()
    await big.synced()
    assert sent(big) == [(206, f"bytes={left}-", BIG - left)]
    assert list(files(big.root).values()) == [the_one(big).content.sha1]
    await big.assert_settled()


async def test_a_line_that_never_lasts_still_brings_all_of_it(big: Mirrored):
    big.retry = RetryPolicy(attempts=2, sleep=no_wait)
    big.sandbox.faults.add(Truncated(SMALL_BYTES), path="*/original")
    await big.synced()
    assert len(sent(big)) == 3
    assert list(files(big.root).values()) == [the_one(big).content.sha1]


# -- left by a killed run --------------------------------------------------------------------------


async def test_a_whole_leftover_is_published_without_a_download(big: Mirrored):
    leave(big, content("long", BIG))
    await big.synced()
    assert sent(big) == []
    assert list(files(big.root).values()) == [the_one(big).content.sha1]
    await big.assert_settled()


@pytest.mark.parametrize(
    ("left", "tag"),
    [
        (b"", None),
        (content("garbage", SMALL_BYTES), None),
        (content("garbage", BIG), None),
        (content("garbage", 2 * BIG), None),
        (content("long", BIG)[:SMALL_BYTES], ""),
        (content("long", BIG)[:SMALL_BYTES], 'W/"1-1"'),
    ],
    ids=["empty", "garbage", "garbage of its size", "too long", "no etag", "another etag"],
)
async def test_a_leftover_that_is_no_beginning_does_no_harm(
    big: Mirrored, left: bytes, tag: str | None
):
    leave(big, left, tag=tag)
    await big.synced()
    assert list(files(big.root).values()) == [the_one(big).content.sha1]
    assert list((big.root / ".mirror/partial").iterdir()) == []
    await big.assert_settled()


async def test_nothing_of_an_older_original_stays_behind_a_restart(tmp_path: Path):
    """Where no checksum would tell: the photo is of an external library."""
    library = empty()
    make_external(library.upload("long.mp4", content("long", BIG), taken_at=NOON))
    async with mirrored(tmp_path, library) as me:
        leave(me, content("older", BIG - 100), tag='W/"1-1"')
        me.retry = RetryPolicy(attempts=1, sleep=no_wait)
        me.sandbox.faults.add(Truncated(SMALL_BYTES + 5), path="*/original", method="GET")
        await me.run()
        me.sandbox.faults.clear()
        await me.synced()
        assert list(files(me.root).values()) == [the_one(me).content.sha1]


async def test_what_was_remembered_of_a_download_goes_with_it(big: Mirrored):
    await big.synced()
    with Index(big.root / ".mirror/index.sqlite3", dry=True) as index:
        assert index.partial_etag(partial_of(big, the_one(big)).name) == ""


# -- wrong bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [200, BIG])
async def test_bytes_that_are_wrong_once_are_fetched_again(tmp_path: Path, size_bytes: int):
    async with mirrored(tmp_path, photos(1, size_bytes)) as me:
        me.sandbox.faults.add(Corrupted(7), path="*/original", times=1)
        await me.synced()
        assert me.originals().total() == 2
        assert list(files(me.root).values()) == [the_one(me).content.sha1]
        assert not (me.root / ".mirror/damaged").exists()
        await me.assert_settled()


async def test_an_original_that_is_damaged_at_the_source_is_kept_aside_and_known(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        asset = me.library.named("IMG_0001.jpg")
        me.sandbox.faults.add(Corrupted(7), asset_id=asset.id, path="*/original")
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert failed_codes(run) == ["checksum-mismatch"]
        assert counts(run) == {"downloaded": 2, "failed": 1}
        assert len(files(me.root)) == 2
        (kept,) = (me.root / ".mirror/damaged").iterdir()
        assert len(kept.read_bytes()) == 200
        assert kept.name == partial_of(me, asset).name

        me.sandbox.requests.clear()
        run = await me.run()
        assert run.report.exit_code is ExitCode.OK
        assert counts(run) == {"unchanged": 2, "known": 1}
        assert me.originals() == {}
        assert me.originals("HEAD") == {asset.id: 1}
        await me.assert_settled()

        asset.file_modified_at += timedelta(seconds=1)
        run = await me.run()
        assert failed_codes(run) == ["checksum-mismatch"]
        asset.file_modified_at += timedelta(seconds=1)
        me.sandbox.faults.clear()
        await me.synced()
        assert len(files(me.root)) == 3
        await me.assert_settled()


@pytest.mark.parametrize(
    "answer",
    [
        json_as_image(),
        Answered(200, b'{"message":"x"}', {"Content-Type": "application/json"}),
        Answered(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}),
        Answered(200, b"", {"Content-Type": "image/jpeg"}),
    ],
    ids=["JSON as an image", "JSON", "HTML", "nothing"],
)
async def test_an_answer_that_is_no_original_is_never_published(tmp_path: Path, answer: Answered):
    async with mirrored(tmp_path, photos(3)) as me:
        asset = me.library.named("IMG_0001.jpg")
        me.sandbox.faults.add(answer, asset_id=asset.id, path="*/original", method="GET")
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert counts(run) == {"downloaded": 2, "failed": 1}
        assert sorted(files(me.root)) == ["2020/06/15/IMG_0000.jpg", "2020/06/15/IMG_0002.jpg"]


# -- no bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect", [bad_gateway(), Reset(), Answered(429, headers={"Retry-After": "7"}), Answered(503)]
)
async def test_what_passes_is_waited_for(tmp_path: Path, effect: Effect):
    waits: list[float] = []

    async def wait(wait_s: float) -> None:
        waits.append(wait_s)

    async with mirrored(tmp_path, photos(3)) as me:
        me.retry = RetryPolicy(sleep=wait)
        asset = me.library.named("IMG_0001.jpg")
        me.sandbox.faults.add(effect, asset_id=asset.id, path="*/original", times=2)
        await me.synced()
        assert waits  # how many, depends: aiohttp tries once more where a kept connection breaks
        assert not isinstance(effect, Answered) or effect.status != 429 or min(waits) >= 7
        await me.assert_settled()


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_one_original_that_is_not_to_be_had_fails_alone(tmp_path: Path, status: int):
    async with mirrored(tmp_path, photos(3)) as me:
        asset = me.library.named("IMG_0001.jpg")
        me.sandbox.faults.add(Answered(status), asset_id=asset.id, path="*/original")
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert failed_codes(run) == ["unavailable"]
        assert len(files(me.root)) == 2
        me.sandbox.faults.clear()
        await me.synced()
        assert me.originals()[me.library.named("IMG_0000.jpg").id] == 1
        await me.assert_settled()


async def test_one_original_that_breaks_off_each_time_fails_alone(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        asset = me.library.named("IMG_0001.jpg")
        me.sandbox.faults.add(Truncated(50), asset_id=asset.id, path="*/original")
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert failed_codes(run) == ["transfer"]
        assert len(files(me.root)) == 2


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        (KEY_REFUSED, "key-refused"),
        (FORBIDDEN, "permission-missing"),
        (Reset(), "server-unreachable"),
    ],
)
async def test_an_account_that_fails_half_way_stops_and_keeps_what_it_brought(
    tmp_path: Path, effect: Effect, code: str
):
    async with mirrored(tmp_path, photos(60)) as me:
        me.sandbox.faults.add(effect, path="*/original", skip=20)
        run = await me.run()
        assert run.report.exit_code is ExitCode.ACCOUNT, describe(run)
        assert run.report.error is not None
        assert run.report.error.code == code
        brought = files(me.root)
        assert len(brought) >= 16
        assert counts(run)["downloaded"] == len(brought)
        told = json.loads((me.root / ".mirror/last-run.json").read_text())
        assert told["exit_code"] == 3
        me.sandbox.faults.clear()
        done = {name.rpartition("/")[2] for name in brought}
        me.sandbox.requests.clear()
        await me.synced()
        assert not any(me.originals()[me.library.named(name).id] for name in done)
        assert len(files(me.root)) == 60
        await me.assert_settled()


async def test_a_server_that_goes_into_maintenance_stops_the_account(tmp_path: Path):
    async with mirrored(tmp_path, photos(30)) as me:
        slow = me.library.named("IMG_0011.jpg")
        stalled = Stalled()
        me.sandbox.faults.add(stalled, asset_id=slow.id, path="*/original", times=1)
        me.sandbox.faults.add(Reset(), asset_id=slow.id, path="*/original", times=1)
        async with me.ready() as run:
            task = asyncio.create_task(run.run())
            await until(lambda: arrived(me) == 29)
            me.sandbox.faults.maintenance = True
            stalled.released.set()
            await task
        assert run.report.exit_code is ExitCode.ACCOUNT
        assert run.report.error is not None
        assert run.report.error.code == "maintenance"
        assert len(files(me.root)) == 29


# -- interrupted -----------------------------------------------------------------------------------


def arrived(me: Mirrored) -> int:
    """How many originals have come, with their names or without."""
    return sum(len(files(folder)) for folder in (me.root, me.root / ".mirror/partial"))


async def test_an_interrupted_run_publishes_what_it_has(tmp_path: Path):
    async with mirrored(tmp_path, photos(30)) as me:
        slow = me.library.named("IMG_0011.jpg")
        me.sandbox.faults.add(Stalled(), asset_id=slow.id, path="*/original")
        async with me.ready() as run:
            task = asyncio.create_task(run.run())
            await until(lambda: arrived(me) == 29)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert task.cancelled()
        assert run.report.exit_code is ExitCode.INTERRUPTED
        assert len(files(me.root)) == 29
        assert counts(run) == {"downloaded": 29}
        assert json.loads((me.root / ".mirror/last-run.json").read_text())["exit_code"] == 130
        assert not (me.root / ".mirror/lock").exists()
        me.sandbox.faults.clear()
        me.sandbox.requests.clear()
        await me.synced()
        assert me.originals() == {slow.id: 1}
        await me.assert_settled()


async def test_a_name_that_was_taken_meanwhile_costs_no_second_download(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        slow, other = (me.library.named(f"IMG_000{number}.jpg") for number in range(2))
        stalled = Stalled()
        me.sandbox.faults.add(stalled, asset_id=slow.id, path="*/original", times=1)
        async with me.ready() as run:
            task = asyncio.create_task(run.run())
            await until(lambda: other.id in me.originals())
            foreign = me.root / "2020/06/15/IMG_0001.jpg"
            foreign.parent.mkdir(parents=True, exist_ok=True)
            foreign.write_bytes(b"foreign")
            stalled.released.set()
            await task
        assert run.report.exit_code is ExitCode.PARTIAL
        assert failed_codes(run) == ["conflict"]
        assert foreign.read_bytes() == b"foreign"
        me.sandbox.requests.clear()
        await me.synced()
        assert me.originals() == {}
        assert (me.root / f"2020/06/15/IMG_0001-{other.id[-8:]}.jpg").read_bytes() == content(1)
        await me.assert_settled()


async def test_a_replacement_whose_goal_was_taken_meanwhile_puts_the_old_copy_back(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        asset = the_one(me)
        me.library.replace(asset.id, content("new"))
        me.library.redate(asset.id, NOON + timedelta(days=1))
        stalled = Stalled()
        me.sandbox.faults.add(stalled, asset_id=asset.id, path="*/original", times=1)
        before = me.originals().total()
        async with me.ready() as run:
            task = asyncio.create_task(run.run())
            await until(lambda: bool(me.sandbox.faults.rules[0].met))
            foreign = me.root / "2020/06/16/IMG_0000.jpg"
            foreign.parent.mkdir(parents=True)
            foreign.write_bytes(b"foreign")
            stalled.released.set()
            await task
        assert run.report.exit_code is ExitCode.PARTIAL
        assert (me.root / "2020/06/15/IMG_0000.jpg").read_bytes() == content(0)
        await me.synced()
        assert me.originals().total() == before + 1
        assert foreign.read_bytes() == b"foreign"
        assert len(files(me.root)) == 2
        await me.assert_settled()


# -- our own folder refuses ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["last-run.json", "SHA1SUMS"])
async def test_a_file_of_our_own_that_cannot_be_written_is_an_error_of_the_destination(
    tmp_path: Path, name: str
):
    async with mirrored(tmp_path, photos(2)) as me:
        (me.root / f".mirror/{name}.new").mkdir(parents=True)
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION
        assert len(files(me.root)) == 2
        (me.root / f".mirror/{name}.new").rmdir()
        await me.synced()
        assert (me.root / ".mirror/SHA1SUMS").read_bytes().count(b"\n") == 2
        await me.assert_settled()


async def test_the_error_that_stopped_a_run_is_told_even_if_no_word_can_be_left(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        (me.root / ".mirror/last-run.json.new").mkdir(parents=True)
        me.sandbox.faults.add(KEY_REFUSED, path="*/original")
        run = await me.run()
        assert run.report.error is not None
        assert run.report.error.code == "key-refused"


# -- room ------------------------------------------------------------------------------------------


async def test_what_does_not_fit_stops_the_destination(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        me.destination = {"min_free_bytes": 1 << 60}
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION
        assert run.report.error is not None
        assert run.report.error.code == "no-space"
        assert files(me.root) == {}
        me.destination = {"min_free_bytes": 0}
        await me.synced()
        await me.assert_settled()


async def test_a_copy_needs_room_too(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        me.root.mkdir()
        (me.root / "elsewhere.jpg").write_bytes(content(0))
        before = tree(me.root)
        me.destination = {"min_free_bytes": 1 << 60}
        run = await me.run()
        assert run.report.error is not None
        assert run.report.error.code == "no-space"
        assert tree(me.root).keys() == before.keys()


# -- damaged twice ---------------------------------------------------------------------------------


async def damaged(me: Mirrored) -> StoredAsset:
    """The one asset, whose original came damaged twice in a first run; all is well again."""
    me.sandbox.faults.add(Corrupted(), path="*/original", method="GET", times=2)
    assert failed_codes(await me.run()) == ["checksum-mismatch"]
    me.sandbox.faults.clear()
    me.sandbox.requests.clear()
    return the_one(me)


async def test_an_original_that_came_damaged_is_tried_again_after_seven_days(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        begun_at = datetime.now(UTC)
        me.library.clock = lambda: begun_at
        await damaged(me)

        me.library.clock = lambda: begun_at + timedelta(days=6, hours=23)
        run = await me.run()
        assert (run.report.exit_code, counts(run)) == (ExitCode.OK, {"known": 1})
        assert me.originals() == {}

        me.library.clock = lambda: begun_at + timedelta(days=7, hours=1)
        run = await me.synced()
        assert counts(run) == {"downloaded": 1}
        assert list(files(me.root).values()) == [the_one(me).content.sha1]
        await me.assert_settled()


async def test_an_original_that_came_damaged_is_tried_again_under_another_etag(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        asset = await damaged(me)
        asset.file_modified_at += timedelta(seconds=1)
        assert counts(await me.synced()) == {"downloaded": 1}
        await me.assert_settled()


async def test_the_right_bytes_of_a_damaged_original_are_adopted_where_they_were_laid(
    tmp_path: Path,
):
    async with mirrored(tmp_path, photos(1)) as me:
        await damaged(me)
        path = me.root / "2020/06/15/IMG_0000.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(0))
        assert counts(await me.synced()) == {"adopted": 1}
        assert me.originals() == {}
        await me.assert_settled()


# -- resumed, where no checksum would tell ---------------------------------------------------------


@pytest.fixture
async def external(tmp_path: Path) -> AsyncIterator[Mirrored]:
    """One long video of an external library."""
    library = empty()
    make_external(library.upload("long.mp4", content("long", BIG), taken_at=NOON))
    async with mirrored(tmp_path, library) as me:
        yield me


async def test_the_rest_of_another_file_is_not_appended(external: Mirrored):
    """From a server or proxy that does not know If-Range."""
    start = 2 * SMALL_BYTES
    headers = {
        "Content-Type": "video/mp4",
        "Content-Range": f"bytes {start}-{BIG - 1}/{BIG}",
        "ETag": 'W/"1-1"',
    }
    rest = Answered(206, content("other", BIG)[start:], headers)
    external.sandbox.faults.add(Truncated(start), path="*/original", method="GET", times=1)
    external.sandbox.faults.add(rest, path="*/original", method="GET", skip=1, times=1)
    await external.synced()
    assert [status for status, _, _ in sent(external)] == [200, 206, 200]
    assert list(files(external.root).values()) == [the_one(external).content.sha1]
    await external.assert_settled()


@pytest.mark.parametrize("kept_bytes", [2 * SMALL_BYTES, BIG], ids=["a part", "all of it"])
async def test_a_leftover_is_not_resumed_where_nothing_would_show_its_damage(
    external: Mirrored, kept_bytes: int
):
    """After a power cut a file may have its size and yet hold zeros."""
    kept = content("long", BIG)[:kept_bytes]
    leave(external, kept[:SMALL_BYTES] + bytes(1000) + kept[SMALL_BYTES + 1000 :])
    await external.synced()
    assert [(status, asked) for status, asked, _ in sent(external)] == [(200, None)]
    assert list(files(external.root).values()) == [the_one(external).content.sha1]
    await external.assert_settled()


async def test_a_line_that_breaks_and_knows_no_ranges_is_given_up(big: Mirrored):
    asset = the_one(big)
    tag = etag(asset.content, asset.file_modified_at)
    whole = Answered(200, content("long", BIG), {"Content-Type": "video/mp4", "ETag": tag})
    breaks = 20
    big.sandbox.faults.add(whole, path="*/original", method="GET")
    for number in range(breaks):
        after_bytes = SMALL_BYTES * (1 + number % 2) + 5
        big.sandbox.faults.add(
            Truncated(after_bytes), path="*/original", method="GET", skip=number, times=1
        )
    big.retry = RetryPolicy(attempts=3, sleep=no_wait)
    run = await big.run()
    assert failed_codes(run) == ["transfer"]
    assert len(sent(big)) < 10


# -- one original's own refusals -------------------------------------------------------------------


async def test_a_forbidden_original_fails_alone_unless_a_permission_is_missing(tmp_path: Path):
    """A proxy's firewall, which does not like one file."""
    blocked = Answered(403, b"<html>blocked</html>", {"Content-Type": "text/html"})
    async with mirrored(tmp_path, photos(6)) as me:
        asset = me.library.named("IMG_0000.jpg")
        me.sandbox.faults.add(blocked, asset_id=asset.id, path="*/original")
        run = await me.run()
        assert run.report.error is None, describe(run)
        assert run.report.exit_code is ExitCode.PARTIAL
        assert counts(run) == {"downloaded": 5, "failed": 1}
        me.sandbox.faults.clear()
        await me.synced()
        await me.assert_settled()


@pytest.mark.parametrize("method", ["HEAD", None], ids=["HEAD alone", "HEAD and GET"])
async def test_a_lasting_bad_gateway_for_one_external_original_fails_it_alone(
    tmp_path: Path, method: str | None
):
    library = photos(1)
    asset = library.upload("external.jpg", content("external"), taken_at=NOON)
    make_external(asset)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        asset.file_modified_at += timedelta(days=1)
        library.touch(asset)
        library.upload("new.jpg", content("new"), taken_at=NOON)
        me.sandbox.faults.add(bad_gateway(), asset_id=asset.id, path="*/original", method=method)
        run = await me.run()
        assert run.report.error is None, describe(run)
        assert "2020/06/15/new.jpg" in files(me.root)
        assert len(files(me.root)) == 3
        assert counts(run).get("failed", 0) == (0 if method else 1)
        me.sandbox.faults.clear()
        await me.synced()
        await me.assert_settled()


# -- a partial file that has its final name too ----------------------------------------------------


async def test_a_partial_file_with_a_second_name_is_never_written_through(big: Mirrored):
    """Where renames are links, a kill can leave both names; then somebody edits the file."""
    left = leave(big, content("long", BIG))
    path = big.root / "2020/06/15/long.mp4"
    path.parent.mkdir(parents=True)
    path.hardlink_to(left)
    with path.open("r+b") as file:
        file.write(b"MY EDIT")
    mine = path.read_bytes()
    await big.synced()
    assert path.read_bytes() == mine
    assert sorted(files(big.root).values()) == sorted([sha1_of(mine), the_one(big).content.sha1])
    assert path.stat().st_nlink == 1
    await big.assert_settled()
