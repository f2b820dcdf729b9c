"""What leaves, on which evidence, how long it waits, and how it comes back."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.core.evidence import Verdict
from mirror.core.guard import Allowed
from mirror.core.model import Choice, Filter, LivePhotos, OnGone
from mirror.destinations.folder import Folder
from mirror.errors import ExitCode
from mirror.index import Index, Quarantined
from mirror.run import MirrorRun
from mirror.sandbox import Library
from mirror.sandbox.faults import Answered, Happens, bad_gateway
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    counts,
    describe,
    files,
    make_external,
    mirrored,
    moved_aside,
    photos,
)

QUARANTINE = {
    "min_free_bytes": 0,
    "on_removed": OnGone.QUARANTINE,
    "on_unmatched": OnGone.QUARANTINE,
}
DELETE = QUARANTINE | {"on_removed": OnGone.DELETE, "on_unmatched": OnGone.DELETE}
DAY = timedelta(days=1)


def in_quarantine(me: Mirrored) -> list[Quarantined]:
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        return list(index.quarantined())


def reasons(me: Mirrored) -> dict[str, str]:
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        return {row.path.rpartition("/")[2]: row.reason for row in index.all_rows()}


def trash(library: Library, *names: str) -> None:
    library.trash(*(library.named(name).id for name in names))


async def later(me: Mirrored, days: float, **options: Any) -> MirrorRun:
    """A run so many days from now, on a machine whose clock agrees with the server's."""
    me.library.jump(timedelta(days=days))
    return await me.run(clock=me.library.clock, **options)


# -- how long it waits -----------------------------------------------------------------------------


async def test_a_removed_file_waits_its_days_from_when_it_was_set_aside(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1}
        (waiting,) = moved_aside(me.root)
        assert waiting.read_bytes() == content(1)
        assert waiting.stat().st_mtime == NOON.timestamp()  # years old, and none of its business
        (item,) = in_quarantine(me)
        assert (item.original_path, item.reason) == ("2020/06/15/IMG_0001.jpg", Verdict.TRASHED)
        await me.assert_settled()

        await later(me, 29)
        assert moved_aside(me.root) == [waiting]
        run = await later(me, 1.1)
        assert run.report.purged == 1
        assert moved_aside(me.root) == []
        assert in_quarantine(me) == []
        assert not (me.root / ".mirror/quarantine").exists()


async def test_a_clock_that_went_back_purges_nothing(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        await me.synced()
        await later(me, -3000)
        assert len(moved_aside(me.root)) == 1


async def test_what_is_due_waits_while_the_clocks_differ(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        await me.synced()
        me.library.jump(40 * DAY)
        run = await me.run()
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert "1 file would leave quarantine" in run.report.holds[0][0]
        assert len(moved_aside(me.root)) == 1


async def test_what_a_change_displaces_while_the_servers_clock_is_behind_waits_its_days(
    tmp_path: Path,
):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await me.synced()
        right = me.library.clock
        me.library.jump(-365 * DAY)
        (me.root / "2020/06/15/IMG_0001.jpg").write_bytes(b"edited by hand")
        await me.synced()
        assert len(moved_aside(me.root)) == 1

        me.library.clock = right
        await me.synced()
        assert len(moved_aside(me.root)) == 1
        await later(me, 31)
        assert moved_aside(me.root) == []


async def test_what_changed_in_the_same_run_does_not_hold_what_it_deletes(tmp_path: Path):
    """The newest change is another asset's afterwards, and has another stamp."""
    async with mirrored(tmp_path, photos(3), destination=DELETE) as me:
        me.library.jump(timedelta(seconds=5))
        me.library.favorite(me.library.named("IMG_0002.jpg").id)
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        me.library.jump(timedelta(seconds=5))
        me.library.rename(me.library.named("IMG_0000.jpg").id, "other.jpg")
        await me.synced()
        assert moved_aside(me.root) == []


async def test_weak_evidence_waits_its_days_whatever_the_policy(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=DELETE) as me:
        await me.synced()
        me.library.lock(me.library.named("IMG_0001.jpg").id)
        await me.run(allowed=Allowed(restored_server=True))
        (item,) = in_quarantine(me)
        assert (item.reason, item.days) == (Verdict.GONE, None)
        await later(me, 29)
        assert len(moved_aside(me.root)) == 1
        await later(me, 2)
        assert moved_aside(me.root) == []


async def test_a_file_that_was_adopted_by_its_size_alone_is_never_deleted_at_once(tmp_path: Path):
    library = photos(1)
    make_external(library.upload("external.jpg", content("external"), taken_at=NOON))
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        mine = me.root / "2020/06/15/external.jpg"
        mine.parent.mkdir(parents=True)
        mine.write_bytes(content("mine"))  # as many bytes, and not the server's
        await me.synced()
        trash(library, "external.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}
        assert [path.read_bytes() for path in moved_aside(me.root)] == [content("mine")]


async def cut_before_the_purge(me: Mirrored) -> None:
    """What a run leaves that was to delete a photo, and was killed when its file had moved."""
    await me.synced()
    photo = me.library.named("IMG_0001.jpg").id
    with Index(me.root / ".mirror/index.sqlite3") as index:
        row = index.rows([photo])[photo]
    trash(me.library, "IMG_0001.jpg")
    await me.synced()
    with Index(me.root / ".mirror/index.sqlite3") as index:
        index.finish([row])
        for item in list(index.quarantined()):
            index.add_quarantined(replace(item, days=0))


async def test_the_last_copy_of_a_photo_that_is_back_and_cannot_be_fetched_is_not_deleted(
    tmp_path: Path,
):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await cut_before_the_purge(me)
        photo = me.library.named("IMG_0001.jpg").id
        me.library.restore(photo)
        me.sandbox.faults.lost_files = {photo}
        me.destination = DELETE
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert [path.read_bytes() for path in moved_aside(me.root)] == [content(1)]


@pytest.mark.parametrize(("policies", "left"), [(QUARANTINE, 1), (DELETE, 0)])
async def test_what_a_cut_run_was_to_delete_goes_only_while_something_is_to_be_deleted(
    tmp_path: Path, policies: dict[str, object], left: int
):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await cut_before_the_purge(me)
        me.destination = policies
        await me.synced()
        assert len(moved_aside(me.root)) == left


# -- how it comes back -----------------------------------------------------------------------------


async def test_a_photo_that_is_restored_comes_back_out_of_quarantine(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=QUARANTINE) as me:
        await me.synced()
        before = files(me.root)
        trash(me.library, "IMG_0001.jpg")
        await me.synced()
        me.library.restore(me.library.named("IMG_0001.jpg").id)
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "restored": 1}
        assert me.originals() == {}
        assert files(me.root) == before
        assert in_quarantine(me) == []
        await me.assert_settled()


async def test_a_photo_that_is_kept_says_why_and_is_unchanged_when_it_is_listed_again(
    tmp_path: Path,
):
    policies = QUARANTINE | {"on_removed": OnGone.KEEP}
    async with mirrored(tmp_path, photos(3), destination=policies) as me:
        await me.synced()
        before = files(me.root)
        trash(me.library, "IMG_0001.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "retained": 1}
        assert reasons(me)["IMG_0001.jpg"] == Verdict.TRASHED
        await me.assert_settled()
        me.library.restore(me.library.named("IMG_0001.jpg").id)
        await me.synced()
        assert reasons(me)["IMG_0001.jpg"] == ""
        assert files(me.root) == before
        await me.assert_settled()


# -- live photos -----------------------------------------------------------------------------------


def with_live_photo(count: int = 3) -> Library:
    library = photos(count)
    video = library.upload("IMG_0001.mov", content("video"), taken_at=NOON)
    library.link_live_photo(library.named("IMG_0001.jpg").id, video.id)
    return library


@pytest.mark.parametrize("policies", [QUARANTINE, DELETE])
async def test_a_live_photos_video_leaves_with_its_still(
    tmp_path: Path, policies: dict[str, object]
):
    async with mirrored(tmp_path, with_live_photo(), destination=policies) as me:
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 2}
        assert {path.name for path in (me.root / "2020/06/15").iterdir()} == {
            "IMG_0000.jpg",
            "IMG_0002.jpg",
        }


async def test_a_video_that_only_the_listing_lacks_stays_with_its_still(tmp_path: Path):
    async with mirrored(tmp_path, with_live_photo(), destination=DELETE) as me:
        await me.synced()
        before = files(me.root)
        me.sandbox.faults.hidden = {me.library.named("IMG_0001.mov").id}
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert files(me.root) == before


async def test_a_video_without_its_still_leaves_with_the_still_that_is_not_mirrored(tmp_path: Path):
    async with mirrored(tmp_path, with_live_photo(), destination=QUARANTINE) as me:
        me.mirror = replace(me.mirror, live_photos=LivePhotos.VIDEO)
        await me.synced()
        trash(me.library, "IMG_0001.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1}
        assert [item.reason for item in in_quarantine(me)] == [Verdict.TRASHED]
        await me.assert_settled()


async def test_a_video_stays_while_the_listing_lacks_its_still_that_is_not_mirrored(tmp_path: Path):
    async with mirrored(tmp_path, with_live_photo(), destination=DELETE) as me:
        me.mirror = replace(me.mirror, live_photos=LivePhotos.VIDEO)
        await me.synced()
        before = files(me.root)
        me.sandbox.faults.hidden = {me.library.named("IMG_0001.jpg").id}
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert files(me.root) == before


async def test_a_video_whose_still_was_lost_from_the_disk_leaves_with_it(tmp_path: Path):
    async with mirrored(tmp_path, with_live_photo(), destination=QUARANTINE) as me:
        await me.synced()
        (me.root / "2020/06/15/IMG_0001.jpg").unlink()
        trash(me.library, "IMG_0001.jpg")
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1, "forgotten": 1}
        await me.assert_settled()


def with_shared_video() -> tuple[Library, list[str]]:
    """A video of two stills; the ids of all three, the video's last."""
    library = photos(1)
    video = library.upload("a.mov", content("video"), taken_at=NOON)
    stills = []
    for name in ("a.jpg", "b.jpg"):
        library.jump(timedelta(seconds=1))
        stills.append(library.upload(name, content(name), taken_at=NOON))
        library.link_live_photo(stills[-1].id, video.id)
    return library, [*(still.id for still in stills), video.id]


async def test_a_video_stays_with_the_other_of_its_stills(tmp_path: Path):
    library, (first, other, _) = with_shared_video()
    policies = DELETE | {"on_unmatched": OnGone.KEEP}
    async with mirrored(tmp_path, library, destination=policies) as me:
        await me.synced()
        library.trash(first)
        library.archive(other)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1, "retained": 2}
        assert reasons(me)["a.mov"] == Verdict.UNMATCHED
        library.set_visibility("timeline", other)
        run = await me.synced()
        assert "a.jpg" not in reasons(me)
        library.delete(first)
        library.archive(other)
        await me.synced()
        assert reasons(me)["b.mov"] == Verdict.UNMATCHED


async def test_a_video_that_the_listing_lacks_does_not_leave_with_one_of_its_stills(tmp_path: Path):
    library, (first, _, video) = with_shared_video()
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        before = files(me.root)
        library.trash(first)
        me.sandbox.faults.hidden = {video}
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert files(me.root) == before


async def test_videos_that_are_no_longer_wanted_wait_for_the_scope(tmp_path: Path):
    async with mirrored(tmp_path, with_live_photo(), destination=QUARANTINE) as me:
        await me.synced()
        before = files(me.root)
        me.mirror = replace(me.mirror, live_photos=LivePhotos.STILL)
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--accept-scope"]
        assert files(me.root) == before
        run = await me.synced(allowed=Allowed(scope=True))
        assert counts(run) == {"unchanged": 3, "removed": 1}
        await me.assert_settled()


# -- filters ---------------------------------------------------------------------------------------


async def test_what_a_moving_window_leaves_behind_goes_whatever_its_number(tmp_path: Path):
    library = photos(40)
    now = library.clock()
    for number, asset in enumerate(library.assets.values()):
        taken_at = now - timedelta(days=1 if number < 5 else 9)
        library.redate(asset.id, taken_at.replace(microsecond=0))
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=Filter(taken_within_days=10))
        await me.synced()
        run = await later(me, 3)
        assert counts(run) == {"unchanged": 5, "removed": 35}, describe(run)
        run = await later(me, 30)  # and yet it never empties the folder by itself
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert len(files(me.root)) == 5


async def test_what_the_server_redates_out_of_a_moving_window_counts_against_the_limit(
    tmp_path: Path,
):
    library = photos(40)
    yesterday = (library.clock() - DAY).replace(microsecond=0)
    for asset in library.assets.values():
        library.redate(asset.id, yesterday)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=Filter(taken_within_days=10))
        await me.synced()
        for asset in list(library.assets.values())[:35]:
            library.redate(asset.id, NOON)
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--allow-removed 35"]
        assert len(files(me.root)) == 40


async def test_what_comes_into_an_excluded_album_is_unmatched(tmp_path: Path):
    library = photos(4)
    album = library.make_album("Private", [library.named("IMG_0000.jpg").id])
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        me.mirror = replace(me.mirror, exclude=(Filter(albums=Choice((album.id,))),))
        await me.synced()
        library.add_to_album(album.id, library.named("IMG_0001.jpg").id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1}
        assert [item.reason for item in in_quarantine(me)] == [Verdict.UNMATCHED]


async def test_what_leaves_an_album_is_unmatched_and_what_only_the_listing_lacks_stays(
    tmp_path: Path,
):
    library = photos(4)
    ids = [asset.id for asset in library.assets.values()]
    album = library.make_album("Trip", ids)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        me.mirror = replace(me.mirror, filter=Filter(albums=Choice((album.id,))))
        await me.synced()
        me.sandbox.faults.hidden = {ids[1]}
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        me.sandbox.faults.clear()
        library.remove_from_album(album.id, ids[1])
        run = await me.synced()
        assert counts(run) == {"unchanged": 3, "removed": 1}


async def test_what_comes_out_of_the_trash_leaves_a_mirror_of_the_trash(tmp_path: Path):
    library = photos(3)
    trash(library, "IMG_0000.jpg", "IMG_0001.jpg")
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        in_trash = Filter(search={"trashedAfter": "1970-01-01T00:00:00.000Z"})
        me.mirror = replace(me.mirror, filter=in_trash)
        await me.synced()
        library.restore(library.named("IMG_0001.jpg").id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}
        await me.assert_settled()


async def test_a_name_that_no_longer_exists_holds_removals(tmp_path: Path):
    library = photos(4)
    ids = [asset.id for asset in library.assets.values()]
    album = library.make_album("Trip", ids)
    async with mirrored(tmp_path, library, destination=QUARANTINE, key="all") as me:
        me.mirror = replace(me.mirror, filter=Filter(albums=Choice(("Trip",))))
        await me.synced()
        library.albums[album.id].name = "Journey"
        library.remove_from_album(album.id, ids[1])
        run = await me.run()
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert "'Trip' no longer names" in run.report.holds[0][0]
        assert len(files(me.root)) == 4


async def test_the_newest_of_a_small_mirror_may_go_while_the_account_lives_on(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        me.mirror = replace(me.mirror, filter=Filter(favorite=True))
        ids = [asset.id for asset in library.assets.values()]
        library.favorite(*ids)
        await me.synced()
        library.lock(ids[2])
        library.jump(timedelta(seconds=1))
        library.upload("later.jpg", content("later"), taken_at=NOON)  # and not a favourite
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1}


async def test_a_window_that_is_empty_for_a_while_holds_nothing_where_all_is_kept(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library) as me:
        me.mirror = replace(me.mirror, filter=Filter(uploaded_within_days=3))
        await me.synced()
        run = await later(me, 10)
        assert run.report.exit_code is ExitCode.OK, describe(run)
        assert counts(run) == {"retained": 3}


async def test_a_renamed_album_does_not_keep_what_is_due_in_quarantine(tmp_path: Path):
    library = photos(4)
    ids = [asset.id for asset in library.assets.values()]
    album = library.make_album("Trip", ids)
    async with mirrored(tmp_path, library, destination=QUARANTINE, key="all") as me:
        me.mirror = replace(me.mirror, filter=Filter(albums=Choice(("Trip",))))
        await me.synced()
        trash(library, "IMG_0001.jpg")
        await me.synced()
        library.albums[album.id].name = "Journey"
        run = await later(me, 31)
        assert run.report.purged == 1, describe(run)


# -- many ------------------------------------------------------------------------------------------


async def test_many_candidates_are_sought_in_the_trash_and_not_one_by_one(tmp_path: Path):
    library = photos(80)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        await me.synced()
        library.trash(*[asset.id for asset in library.assets.values()][:60])
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--allow-removed 60"]
        assert counts(run) == {"unchanged": 20, "held": 60}
        me.sandbox.requests.clear()
        run = await me.synced(allowed=Allowed(removed=60))
        assert counts(run) == {"unchanged": 20, "removed": 60}
        assert len(me.sandbox.requests) < 30
        assert len(moved_aside(me.root)) == 60
        await me.assert_settled()


async def test_many_that_left_an_album_and_stay_are_not_asked_about_one_by_one(tmp_path: Path):
    library = photos(80)
    ids = list(library.assets)
    album = library.make_album("Trip", ids)
    policies = DELETE | {"on_unmatched": OnGone.KEEP}
    async with mirrored(tmp_path, library, destination=policies) as me:
        me.mirror = replace(me.mirror, filter=Filter(albums=Choice((album.id,))))
        await me.synced()
        library.remove_from_album(album.id, *ids[:60])
        await me.synced()
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 20}
        assert len(me.sandbox.requests) < 30


async def test_a_server_that_only_fails_is_not_asked_for_every_candidate(tmp_path: Path):
    library = photos(30)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        library.delete(*list(library.assets)[:20])
        gone = me.sandbox.faults.add(bad_gateway(), method="GET", path="/api/assets/*")
        run = await me.synced()
        assert counts(run) == {"unchanged": 10, "retained": 20}
        assert gone.met == 3 * me.retry.attempts
        me.sandbox.faults.clear()
        run = await me.run(allowed=Allowed(removed=20, restored_server=True))
        assert counts(run) == {"unchanged": 10, "removed": 20}


# -- while something else goes wrong ---------------------------------------------------------------


async def test_removals_wait_while_a_transfer_fails(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        await me.synced()
        trash(library, "IMG_0001.jpg")
        new = library.upload("new.jpg", content("new"), taken_at=NOON)
        me.sandbox.faults.add(Answered(404, b'{"message":"Not Found"}'), asset_id=new.id, times=2)
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert counts(run) == {"unchanged": 2, "postponed": 1, "failed": 1}
        me.sandbox.faults.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "downloaded": 1, "removed": 1}


def take_back(library: Library) -> None:
    library.restore(library.named("IMG_0001.jpg").id)


async def test_the_server_is_asked_again_when_the_evidence_is_old(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        trash(library, "IMG_0001.jpg")
        new = library.upload("new.jpg", content("new"), taken_at=NOON)
        # While a large original comes, a day passes, and somebody takes the photo back.
        me.sandbox.faults.add(Happens(lambda: take_back(library)), asset_id=new.id, times=1)
        moments: list[datetime] = []

        def clock() -> datetime:
            moments.append(library.clock())
            return moments[-1] + timedelta(seconds=40 * len(moments))

        run = await me.run(clock=clock)
        assert counts(run) == {"unchanged": 2, "downloaded": 1, "postponed": 1}, describe(run)
        run = await me.synced()
        assert counts(run) == {"unchanged": 3, "adopted": 1}


async def test_a_file_that_was_edited_meanwhile_stays(tmp_path: Path):
    library = photos(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        trash(library, "IMG_0001.jpg")
        edited = me.root / "2020/06/15/IMG_0001.jpg"
        new = library.upload("new.jpg", content("new"), taken_at=NOON)
        edit: Callable[[], object] = lambda: edited.write_bytes(b"mine")  # noqa: E731
        me.sandbox.faults.add(Happens(edit), asset_id=new.id, times=1)
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert edited.read_bytes() == b"mine"
        run = await me.synced()
        assert counts(run)["disowned"] == 1
        assert edited.read_bytes() == b"mine"
        await me.assert_settled()


async def test_a_quarantine_that_is_no_folder_of_ours_is_named(tmp_path: Path):
    async with mirrored(tmp_path, photos(3), destination=DELETE) as me:
        await me.synced()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (me.root / ".mirror/quarantine").symlink_to(elsewhere)
        trash(me.library, "IMG_0001.jpg")
        run = await me.run()
        (failed,) = run.report.failures
        assert "cannot be moved to quarantine" in failed.error.what
        assert (me.root / "2020/06/15/IMG_0001.jpg").read_bytes() == content(1)
        assert in_quarantine(me) == []
        assert list(elsewhere.iterdir()) == []


async def test_what_left_before_the_disk_broke_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    library = photos(3)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        await me.synced()
        trash(library, "IMG_0000.jpg", "IMG_0001.jpg")
        move = Folder.move

        def breaks(folder: Folder, source: str, path: str) -> None:
            if source.endswith("IMG_0001.jpg"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            move(folder, source, path)

        monkeypatch.setattr(Folder, "move", breaks)
        run = await me.run()
        assert run.report.exit_code is ExitCode.DESTINATION, describe(run)
        assert counts(run) == {"unchanged": 1, "removed": 1}
        monkeypatch.undo()
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}
        assert len(in_quarantine(me)) == len(moved_aside(me.root)) == 2


# -- a plan ----------------------------------------------------------------------------------------


async def test_a_plan_says_what_the_run_then_does_and_leaves_no_trace(tmp_path: Path):
    library = photos(6)
    async with mirrored(tmp_path, library, destination=QUARANTINE) as me:
        await me.synced()
        trash(library, "IMG_0001.jpg")
        library.lock(library.named("IMG_0002.jpg").id)
        library.redate(library.named("IMG_0003.jpg").id, NOON + DAY)
        library.replace(library.named("IMG_0004.jpg").id, content("other"))
        library.upload("new.jpg", content("new"), taken_at=NOON)
        (me.root / "2020/06/15/IMG_0005.jpg").unlink()
        before = files(me.root)
        planned = await me.planned()
        assert files(me.root) == before
        done = await me.run()
        assert [str(action) for action in done.plan.actions] == [
            str(action) for action in planned.plan.actions
        ]
        assert counts(done) == {
            "unchanged": 1, "downloaded": 2, "moved": 1, "replaced": 1, "removed": 2,
        }  # fmt: skip
        await me.assert_settled()
