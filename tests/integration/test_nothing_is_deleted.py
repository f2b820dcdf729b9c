"""The stories that emptied other people's folders, with both policies on "delete".

Each is told twice: of a large tree, and of three photos, which is below every limit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.core.guard import Allowed
from mirror.core.model import Filter, Limit, OnGone, Owners, Visibility
from mirror.errors import ExitCode, MirrorError
from mirror.index import Index
from mirror.sandbox import Library
from mirror.sandbox.disasters import Backup, back_up, go_back, reinstall
from mirror.sandbox.faults import Happens
from mirror.sandbox.records import Key
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    counts,
    describe,
    empty,
    files,
    mirrored,
    moved_aside,
    sha1_of,
)

DELETE = {
    "min_free_bytes": 0,
    "on_removed": OnGone.DELETE,
    "on_unmatched": OnGone.DELETE,
    # No story is to be saved by a limit.
    "max_removed": Limit(count=100_000, share=1.0),
}
SIZES = pytest.mark.parametrize("size", [3, 500])


def album(size: int, version: str = "3.1.0") -> Library:
    """Photos of one account, uploaded a minute apart; the first is a favourite."""
    library = empty(version)
    for number in range(size):
        taken_at = NOON + timedelta(days=number % 40)
        asset = library.upload(f"IMG_{number:04}.jpg", content(number), taken_at=taken_at)
        asset.created_at = asset.updated_at = library.clock() - timedelta(minutes=size - number)
    library.favorite(library.named("IMG_0000.jpg").id)
    return library


def originals(library: Library) -> set[bytes]:
    return {asset.content.sha1 for asset in library.assets.values()}


def kept(me: Mirrored) -> set[bytes]:
    """Every content that is still on the disk, wherever a story may have put it."""
    places = [me.root, *me.root.parent.glob("elsewhere*")]
    lying = {digest for place in places for digest in files(place).values()}
    return lying | {sha1_of(path.read_bytes()) for path in moved_aside(me.root)}


@dataclass(frozen=True)
class Story:
    happens: Callable[[Mirrored], object]
    code: ExitCode
    filter: Filter = field(default_factory=Filter)


async def exit_code(me: Mirrored) -> ExitCode:
    try:
        return (await me.run()).report.exit_code
    except MirrorError as error:  # the client could not even connect
        return error.exit_code


def hide(me: Mirrored, part: int) -> None:
    """The server's listings lack one in so many of them."""
    ids = sorted(me.library.assets)
    me.sandbox.faults.hidden = set(ids[::part])


def narrow(me: Mirrored) -> None:
    me.mirror = replace(me.mirror, filter=Filter(favorite=True))


def revoke(me: Mirrored) -> None:
    me.sandbox.key("minimum").revoked = True


def forbid(me: Mirrored) -> None:
    me.sandbox.key("minimum").permissions = ["asset.download"]


def take_other_key(me: Mirrored) -> None:
    library = me.library
    partner = next(user for user in library.users if user != library.owner_id)
    library.upload("theirs.jpg", content("theirs"), taken_at=NOON, owner_id=partner)
    mine = me.sandbox.key("minimum")
    secret = "b" * 43
    library.keys.append(
        Key(
            id=library.new_id(),
            name="partner other",
            secret=secret,
            user_id=partner,
            permissions=list(mine.permissions),
            created_at=mine.created_at,
        )
    )
    me.sandbox.api_keys["other"] = secret
    me.key = "other"


def unmount(me: Mirrored) -> None:
    me.root.rename(me.root.parent / "elsewhere")
    me.root.mkdir()


def lose_marker(me: Mirrored) -> None:
    (me.root / ".mirror/mirror.json").unlink()


def close(me: Mirrored) -> None:
    me.sandbox.faults.begin_maintenance()


def close_halfway(me: Mirrored) -> None:
    trash_one(me)
    me.sandbox.faults.add(Happens(me.sandbox.faults.begin_maintenance), skip=5, times=1)


def lose_permission_halfway(me: Mirrored) -> None:
    trash_one(me)
    me.sandbox.faults.add(Happens(lambda: forbid(me)), skip=5, times=1)


def lose_server_disk(me: Mirrored) -> None:
    me.sandbox.faults.disk_lost = True


def lock_one(me: Mirrored) -> None:
    me.library.lock(me.library.named("IMG_0001.jpg").id)


def lock_newest(me: Mirrored) -> None:
    me.library.lock(list(me.library.assets)[-1])


def purge_all(me: Mirrored) -> None:
    me.library.assets.clear()


def trash_one(me: Mirrored) -> None:
    me.library.trash(me.library.named("IMG_0001.jpg").id)


def be_wrong(by: timedelta) -> Callable[[Mirrored], None]:
    def happens(me: Mirrored) -> None:
        trash_one(me)
        me.library.jump(by)

    return happens


YEAR = timedelta(days=365)

STORIES = {
    "an empty listing": Story(purge_all, ExitCode.HELD),
    "a listing that shows nothing": Story(lambda me: hide(me, 1), ExitCode.PARTIAL),
    "half a listing": Story(lambda me: hide(me, 2), ExitCode.PARTIAL),
    "a key without permission": Story(forbid, ExitCode.ACCOUNT),
    "a permission lost half-way": Story(lose_permission_halfway, ExitCode.ACCOUNT),
    "a revoked key": Story(revoke, ExitCode.ACCOUNT),
    "another account's key": Story(take_other_key, ExitCode.DESTINATION),
    "a narrower filter": Story(narrow, ExitCode.HELD),
    "a disk that is not mounted": Story(unmount, ExitCode.DESTINATION),
    "a marker that is missing": Story(lose_marker, ExitCode.DESTINATION),
    "maintenance": Story(close, ExitCode.ACCOUNT),
    "maintenance half-way": Story(close_halfway, ExitCode.ACCOUNT),
    "the server's disk offline": Story(lose_server_disk, ExitCode.OK),
    "a photo moved to the locked folder": Story(lock_one, ExitCode.OK),
    "the newest photo moved to the locked folder": Story(lock_newest, ExitCode.HELD),
    "a server installed anew": Story(lambda me: reinstall(me.library), ExitCode.OK),
    "a server installed anew with new users": Story(
        lambda me: reinstall(me.library, new_users=True), ExitCode.DESTINATION
    ),
    "a clock a year back": Story(be_wrong(-YEAR), ExitCode.HELD),
    "a clock a year ahead": Story(be_wrong(YEAR), ExitCode.HELD),
    "a clock a year ahead of a moving window": Story(
        lambda me: me.library.jump(YEAR), ExitCode.HELD, Filter(uploaded_within_days=30)
    ),
}


@SIZES
@pytest.mark.parametrize("name", STORIES)
async def test_it_deletes_nothing(tmp_path: Path, name: str, size: int):
    story, library = STORIES[name], album(size)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=story.filter)
        await me.synced()
        before = originals(library)
        story.happens(me)
        for _ in range(2):  # what one run remembers must not make the next one bolder
            assert await exit_code(me) is story.code
            assert kept(me) >= before
            me.sandbox.faults.rules.clear()


@pytest.mark.parametrize("name", STORIES)
async def test_it_deletes_nothing_with_an_older_server(tmp_path: Path, name: str):
    story, library = STORIES[name], album(3, "2.7.5")
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=story.filter)
        await me.synced()
        before = originals(library)
        story.happens(me)
        assert await exit_code(me) is story.code
        assert kept(me) >= before


# -- filters ---------------------------------------------------------------------------------------


async def test_a_filter_that_found_nothing_at_first_is_not_accepted_by_that(tmp_path: Path):
    library = album(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        before = files(me.root)
        library.favorite(library.named("IMG_0000.jpg").id, on=False)
        narrow(me)
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--allow-removed 3", "--accept-scope"]
        library.favorite(library.named("IMG_0000.jpg").id)
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--accept-scope"]
        assert files(me.root) == before


async def test_a_filter_that_is_narrowed_after_a_first_run_that_was_cut_is_held(tmp_path: Path):
    library = album(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        originals = "/api/assets/*/original"
        me.sandbox.faults.add(
            Happens(me.sandbox.faults.begin_maintenance), path=originals, skip=2, times=1
        )
        assert (await me.run()).report.exit_code is ExitCode.ACCOUNT
        before = files(me.root)
        me.sandbox.faults.clear()
        me.mirror = replace(me.mirror, filter=Filter(file_name=("IMG_0002",)))
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--accept-scope"]
        assert files(me.root).items() >= before.items()


async def test_files_of_a_filter_that_nobody_noted_wait_for_a_person(tmp_path: Path):
    library = album(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        before = files(me.root)
        with Index(me.root / ".mirror/index.sqlite3") as index:  # as an older version left it
            index.take_note("scope", "")
        narrow(me)
        run = await me.run()
        assert [way for _, way in run.report.holds] == ["--accept-scope"]
        assert files(me.root) == before
        run = await me.synced(allowed=Allowed(scope=True))
        assert counts(run) == {"unchanged": 1, "removed": 2}


# -- partners --------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("unshares", [False, True])
async def test_a_partner_who_is_switched_off_takes_nothing_along(
    tmp_path: Path, size: int, *, unshares: bool
):
    library = album(size)
    partner = next(user for user in library.users if user != library.owner_id)
    library.upload("theirs.jpg", content("theirs"), taken_at=NOON, owner_id=partner)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=Filter(owners=Owners.ANYONE))
        await me.synced()
        before = files(me.root)
        if unshares:
            library.unshare(partner, library.owner_id)
        else:
            library.show_partner(partner, library.owner_id, on=False)
        for _ in range(2):
            run = await me.run()
            assert files(me.root) == before
            assert [way for _, way in run.report.holds] == ["--accept-scope"]

        run = await me.synced(allowed=Allowed(scope=True))
        assert counts(run)["removed"] == 1
        assert sha1_of(content("theirs")) in kept(me) or not unshares


async def test_one_photo_that_a_partner_took_back_waits_in_quarantine(tmp_path: Path):
    library = album(3)
    partner = next(user for user in library.users if user != library.owner_id)
    theirs = [
        library.upload(name, content(name), taken_at=NOON, owner_id=partner)
        for name in ("a.jpg", "b.jpg")
    ]
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=Filter(owners=Owners.ANYONE))
        await me.synced()
        library.trash(theirs[0].id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 4, "removed": 1}
        assert [path.name for path in moved_aside(me.root)] == ["a.jpg"]


@pytest.mark.parametrize("size", [2, 60])
async def test_what_a_partner_archives_waits_in_quarantine_however_much_it_is(
    tmp_path: Path, size: int
):
    library = album(3)
    partner = next(user for user in library.users if user != library.owner_id)
    theirs = [
        library.upload(f"{number}.jpg", content(f"p{number}"), taken_at=NOON, owner_id=partner).id
        for number in range(size + 1)
    ]
    shown = Filter(owners=Owners.ANYONE, visibility=(Visibility.TIMELINE, Visibility.ARCHIVE))
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=shown)
        await me.synced()
        library.archive(*theirs[:size])
        run = await me.synced()
        assert counts(run) == {"unchanged": 4, "removed": size}
        assert len(moved_aside(me.root)) == size


# -- a database from yesterday ---------------------------------------------------------------------


def upload_later(library: Library) -> None:
    library.upload("later.jpg", content("later"), taken_at=NOON)


def unmark(library: Library) -> None:
    library.favorite(library.named("IMG_0000.jpg").id, on=False)


@SIZES
@pytest.mark.parametrize("version", ["3.1.0", "2.7.5"])
async def test_a_server_restored_from_yesterday_deletes_nothing(
    tmp_path: Path, size: int, version: str
):
    library = album(size, version)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        yesterday = back_up(library)
        upload_later(library)
        await me.synced()
        before = files(me.root)
        go_back(library, yesterday)

        for _ in range(2):
            run = await me.run()
            assert [way for _, way in run.report.holds] == ["--accept-restored-server"]
            assert files(me.root) == before

        run = await me.synced(allowed=Allowed(restored_server=True))
        assert counts(run) == {"unchanged": size, "removed": 1}
        assert sha1_of(content("later")) in kept(me)  # gone without a trace: quarantine at most
        await me.assert_settled()


def since_backup(library: Library, backup: Backup) -> None:
    go_back(library, backup)
    upload_later(library)


@pytest.mark.parametrize("happens", [go_back, since_backup])
async def test_a_favourite_of_today_that_a_restored_server_forgot_is_not_deleted(
    tmp_path: Path, happens: Callable[[Library, Backup], None]
):
    library = album(3)
    yesterday = back_up(library)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        me.mirror = replace(me.mirror, filter=Filter(favorite=True))
        library.jump(timedelta(seconds=1))
        library.favorite(library.named("IMG_0001.jpg").id)
        await me.synced()
        before = files(me.root)
        happens(library, yesterday)

        run = await me.run()
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        # What somebody does on the restored server makes it no younger.
        library.favorite(library.named("IMG_0002.jpg").id)
        run = await me.run()
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert files(me.root).items() >= before.items()


async def test_a_server_is_accepted_once_and_not_every_night(tmp_path: Path):
    library = album(4)
    keeps = DELETE | {"on_removed": OnGone.KEEP}
    async with mirrored(tmp_path, library, destination=keeps) as me:
        await me.synced()
        lock_newest(me)
        library.archive(library.named("IMG_0001.jpg").id)
        for _ in range(2):
            run = await me.run()
            assert [way for _, way in run.report.holds] == ["--accept-restored-server"]
        await me.synced(allowed=Allowed(restored_server=True))
        library.archive(library.named("IMG_0002.jpg").id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}


# -- lost files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "code"), [(3, ExitCode.OK), (500, ExitCode.HELD)])
async def test_a_folder_whose_disk_is_not_mounted_takes_nothing_along(
    tmp_path: Path, size: int, code: ExitCode
):
    library = album(size)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        before = originals(library)
        (me.root / "2020").rename(tmp_path / "elsewhere")
        run = await me.run()
        assert kept(me) >= before
        assert run.report.exit_code is code, describe(run)


# -- and yet ---------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("version", ["3.1.0", "2.7.5"])
async def test_what_is_in_the_trash_is_deleted(tmp_path: Path, size: int, version: str):
    library = album(size, version)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        trash_one(me)
        run = await me.synced()
        assert counts(run) == {"unchanged": size - 1, "removed": 1}
        assert run.report.purged == 1
        assert sha1_of(content(1)) not in kept(me)
        await me.assert_settled()


async def test_what_was_seen_in_the_trash_and_then_purged_is_deleted(tmp_path: Path):
    library = album(3)
    waits = DELETE | {"on_removed": OnGone.QUARANTINE}
    async with mirrored(tmp_path, library, destination=waits) as me:
        await me.synced()
        trash_one(me)
        library.jump(YEAR)  # the run that sees it removes nothing
        assert (await me.run()).report.exit_code is ExitCode.HELD
        library.jump(-YEAR)
        library.delete(library.named("IMG_0001.jpg").id)
        me.destination = DELETE
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "removed": 1}
        assert sha1_of(content(1)) not in kept(me)


async def test_what_the_accepted_filter_no_longer_selects_is_deleted(tmp_path: Path):
    library = album(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        narrow(me)
        await me.synced()
        library.favorite(library.named("IMG_0001.jpg").id)
        await me.synced()
        library.favorite(library.named("IMG_0000.jpg").id, on=False)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "removed": 1}
        assert sha1_of(content(0)) not in kept(me)


async def test_a_photo_back_from_the_trash_and_then_locked_is_not_taken_for_purged(tmp_path: Path):
    library = album(3)
    async with mirrored(tmp_path, library, destination=DELETE) as me:
        await me.synced()
        asset = library.named("IMG_0001.jpg")
        library.trash(asset.id)
        library.jump(YEAR)
        await me.run()
        library.jump(-YEAR)
        library.restore(asset.id)
        await me.synced()
        library.lock(asset.id)
        await me.synced()
        assert sha1_of(content(1)) in kept(me)
        with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
            (item,) = index.quarantined()
        assert item.days is None
