"""What happens on the server, and what becomes of the tree."""

from datetime import timedelta
from pathlib import Path

import pytest

from mirror.core.guard import Allowed
from mirror.core.model import Entry, EntryKind, Row, RowState
from mirror.core.report import Outcome
from mirror.errors import ExitCode
from mirror.index import Index
from mirror.sandbox.faults import Answered, Corrupted
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    contents,
    counts,
    describe,
    empty,
    files,
    make_external,
    mirrored,
    moved_aside,
    photos,
    tree,
    wanted,
)

DAY = timedelta(days=1)


def holds(me: Mirrored) -> bool:
    """Whether the tree holds exactly what the server lists."""
    return sorted(files(me.root).values()) == sorted(contents(wanted(me.library)).elements())


# -- other bytes under an id -----------------------------------------------------------------------


async def test_a_replaced_photo_leaves_its_old_bytes_in_quarantine(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        asset = me.library.named("IMG_0001.jpg")
        old = (me.root / "2020/06/15/IMG_0001.jpg").read_bytes()
        me.library.replace(asset.id, content("new"))
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "replaced": 1}
        assert (me.root / "2020/06/15/IMG_0001.jpg").read_bytes() == content("new")
        assert [path.read_bytes() for path in moved_aside(me.root)] == [old]
        with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
            (kept,) = index.quarantined()
        assert kept.original_path == "2020/06/15/IMG_0001.jpg"
        assert kept.reason == "changed"
        assert abs(kept.quarantined_at - me.library.clock()) < timedelta(minutes=1)
        await me.assert_settled()


@pytest.mark.parametrize("effect", [Corrupted(), Answered(404), Answered(500)])
async def test_a_replacement_that_does_not_verify_leaves_the_good_old_copy(
    tmp_path: Path, effect: Corrupted | Answered
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        before = tree(me.root)
        asset = me.library.named("IMG_0001.jpg")
        me.library.replace(asset.id, content("new"))
        me.sandbox.faults.add(effect, asset_id=asset.id, path="*/original", method="GET")
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert tree(me.root) == before
        assert moved_aside(me.root) == []


async def test_a_replaced_and_redated_photo_leaves_no_trace_of_its_old_path(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        asset = me.library.named("IMG_0000.jpg")
        me.library.replace(asset.id, content("new"))
        me.library.redate(asset.id, NOON + DAY)
        await me.synced()
        assert sorted(tree(me.root)) == ["2020", "2020/06", "2020/06/16", "2020/06/16/IMG_0000.jpg"]
        await me.assert_settled()


# -- other paths -----------------------------------------------------------------------------------


async def test_a_redated_photo_moves_without_a_download(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        me.sandbox.requests.clear()
        me.library.redate(me.library.named("IMG_0001.jpg").id, NOON + DAY)
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "moved": 1}
        assert sorted(files(me.root)) == ["2020/06/15/IMG_0000.jpg", "2020/06/16/IMG_0001.jpg"]
        assert me.originals() == {}
        await me.assert_settled()


async def test_a_folder_that_a_move_left_empty_goes_and_one_with_a_foreign_file_stays(
    tmp_path: Path,
):
    library = empty()
    for day in range(2):
        library.upload(f"{day}.jpg", content(day), taken_at=NOON + day * DAY)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        note = me.root / "2020/06/15/note.txt"
        note.write_text("mine")
        for day in range(2):
            library.redate(library.named(f"{day}.jpg").id, NOON + 365 * DAY)
        await me.synced()
        assert note.read_text() == "mine"
        assert not (me.root / "2020/06/16").exists()
        await me.assert_settled()


async def test_two_photos_exchange_their_names(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        one, two = (me.library.named(f"IMG_000{number}.jpg") for number in range(2))
        me.library.rename(one.id, "IMG_0001.jpg")
        me.library.rename(two.id, "IMG_0000.jpg")
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"moved": 2}
        assert me.originals() == {}
        assert (me.root / "2020/06/15/IMG_0000.jpg").read_bytes() == content(1)
        assert (me.root / "2020/06/15/IMG_0001.jpg").read_bytes() == content(0)
        await me.assert_settled()


async def test_hundreds_of_photos_exchange_their_names(tmp_path: Path):
    async with mirrored(tmp_path, photos(400)) as me:
        await me.synced()
        for asset in list(me.library.own()):
            number = int(asset.original_file_name[4:8])
            me.library.rename(asset.id, f"IMG_{number ^ 1:04}.jpg")
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"moved": 400}
        assert me.originals() == {}
        for number in range(400):
            path = me.root / f"2020/06/15/IMG_{number:04}.jpg"
            assert path.read_bytes() == content(number ^ 1)
        await me.assert_settled()


async def test_a_name_changes_only_in_case(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        me.library.rename(me.library.named("IMG_0000.jpg").id, "img_0000.JPG")
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"moved": 1}
        assert list(files(me.root)) == ["2020/06/15/img_0000.JPG"]
        assert me.originals() == {}
        await me.assert_settled()


async def test_a_live_photo_moves_as_a_pair(tmp_path: Path):
    library = empty()
    video = library.upload("IMG_1.MOV", content("video"), taken_at=NOON)
    still = library.upload(
        "IMG_1.HEIC", content("still"), taken_at=NOON, live_photo_video_id=video.id
    )
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        assert sorted(files(me.root)) == ["2020/06/15/IMG_1.HEIC", "2020/06/15/IMG_1.MOV"]
        library.redate(still.id, NOON + DAY)
        run = await me.synced()
        assert counts(run) == {"moved": 2}
        assert sorted(files(me.root)) == ["2020/06/16/IMG_1.HEIC", "2020/06/16/IMG_1.MOV"]
        await me.assert_settled()


async def test_a_new_layout_moves_everything_and_downloads_nothing(tmp_path: Path):
    async with mirrored(tmp_path) as me:
        await me.synced()
        me.sandbox.requests.clear()
        me.layout("{filename}")
        run = await me.synced()
        assert Outcome.DOWNLOADED not in run.report.counts
        assert me.originals() == {}
        assert holds(me)
        assert all("/" not in path for path in files(me.root))
        await me.assert_settled()


async def test_a_name_that_a_lost_file_had_may_be_wanted_by_another_photo(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        one, two = (me.library.named(f"IMG_000{number}.jpg") for number in range(2))
        (me.root / "2020/06/15/IMG_0000.jpg").unlink()
        me.library.rename(one.id, "other.jpg")
        me.library.rename(two.id, "IMG_0000.jpg")
        await me.synced()
        assert holds(me)
        await me.assert_settled()


async def test_a_name_that_a_replaced_photo_leaves_may_be_wanted_by_another(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        one, two = (me.library.named(f"IMG_000{number}.jpg") for number in range(2))
        me.library.replace(one.id, content("new"))
        me.library.rename(one.id, "other.jpg")
        me.library.rename(two.id, "IMG_0000.jpg")
        await me.synced()
        assert holds(me)
        await me.assert_settled()


# -- files that people touched ---------------------------------------------------------------------


async def test_a_lost_file_is_brought_again(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        (me.root / "2020/06/15/IMG_0001.jpg").unlink()
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "downloaded": 1}
        assert holds(me)
        await me.assert_settled()


async def test_a_file_that_drifted_waits_in_quarantine(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        (me.root / "2020/06/15/IMG_0001.jpg").write_bytes(b"edited here")
        await me.synced()
        assert holds(me)
        assert [path.read_bytes() for path in moved_aside(me.root)] == [b"edited here"]
        await me.assert_settled()


async def test_a_file_that_was_only_touched_is_only_looked_at(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        (me.root / "2020/06/15/IMG_0001.jpg").touch()
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 2}
        assert me.originals() == {}
        await me.assert_settled()


async def test_bytes_in_quarantine_come_back_without_a_download(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        asset = me.library.named("IMG_0000.jpg")
        me.library.replace(asset.id, content("new"))
        await me.synced()
        me.library.upload("again.jpg", content(0), taken_at=NOON)
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "restored": 1}
        assert me.originals() == {}
        assert moved_aside(me.root) == []
        assert holds(me)
        await me.assert_settled()


# -- files that lie there already ------------------------------------------------------------------


def lay(root: Path, names: dict[str, bytes]) -> None:
    for name, data in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


async def test_a_tree_laid_by_hand_is_adopted(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        lay(me.root, {f"2020/06/15/IMG_000{number}.jpg": content(number) for number in range(3)})
        before = tree(me.root)
        run = await me.synced()
        assert counts(run) == {"adopted": 3}
        assert me.originals() == {}
        assert tree(me.root) == before
        await me.assert_settled()


async def test_files_at_their_collision_names_are_adopted(tmp_path: Path):
    library = empty()
    assets = [library.upload("a.jpg", content(number), taken_at=NOON) for number in range(3)]
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        first = files(me.root)
        assert len(first) == len(assets)
        (me.root / ".mirror/index.sqlite3").unlink()
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"adopted": 3}
        assert files(me.root) == first
        assert me.originals() == {}
        await me.assert_settled()


async def test_without_its_index_a_whole_tree_is_adopted_under_the_same_names(tmp_path: Path):
    async with mirrored(tmp_path) as me:
        await me.synced()
        before = tree(me.root)
        (me.root / ".mirror/index.sqlite3").unlink()
        me.sandbox.requests.clear()
        run = await me.synced()
        assert set(counts(run)) == {"adopted"}
        assert tree(me.root) == before
        assert me.originals() == {}
        await me.assert_settled()


async def test_an_external_photo_of_the_right_size_is_adopted_unproved(tmp_path: Path):
    library = empty()
    make_external(library.upload("a.jpg", content("a"), taken_at=NOON))
    async with mirrored(tmp_path, library) as me:
        lay(me.root, {"2020/06/15/a.jpg": content("another of this size")})
        run = await me.synced()
        assert counts(run) == {"adopted": 1}
        assert me.originals() == {}
        (line,) = [action.reason for action in run.plan.actions]
        assert line == "unproved"
        assert (me.root / ".mirror/SHA1SUMS").read_bytes() == b""
        await me.assert_settled()


async def test_the_same_bytes_elsewhere_are_copied_and_left(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        lay(me.root, {"old archive/x.jpg": content(0)})
        before = tree(me.root)
        run = await me.synced()
        assert counts(run) == {"downloaded": 1, "copied": 1}
        assert me.originals()[me.library.named("IMG_0000.jpg").id] == 0
        assert before.items() <= {**tree(me.root), "old archive": before["old archive"]}.items()
        assert (me.root / "2020/06/15/IMG_0000.jpg").stat().st_mtime == NOON.timestamp()
        await me.assert_settled()


@pytest.mark.parametrize("in_the_way", ["file", "folder", "link", "twin in another case"])
async def test_what_is_in_the_way_stays_and_the_photo_takes_its_collision_name(
    tmp_path: Path, in_the_way: str
):
    async with mirrored(tmp_path, photos(1)) as me:
        folder = me.root / "2020/06/15"
        folder.mkdir(parents=True)
        match in_the_way:
            case "file":
                (folder / "IMG_0000.jpg").write_bytes(b"foreign")
            case "folder":
                (folder / "IMG_0000.jpg").mkdir()
            case "link":
                (folder / "IMG_0000.jpg").symlink_to("nowhere")
            case _:
                (folder / "img_0000.JPG").write_bytes(b"foreign")
        before = tree(me.root).keys()
        await me.synced()
        asset = me.library.named("IMG_0000.jpg")
        (new,) = tree(me.root).keys() - before
        assert new == f"2020/06/15/IMG_0000-{asset.id[-8:]}.jpg"
        assert (me.root / new).read_bytes() == content(0)
        await me.assert_settled()


async def test_a_file_where_a_folder_is_wanted_stays_and_is_told(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        lay(me.root, {"2020": b"foreign"})
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL, describe(run)
        assert files(me.root).keys() == {"2020"}
        (failed,) = run.report.failures
        assert failed.error.code == "conflict"


async def test_one_foreign_file_costs_no_question_about_every_new_photo(tmp_path: Path):
    async with mirrored(tmp_path, photos(50)) as me:
        lay(me.root, {"archive/x.jpg": content(7), "archive/Thumbs.db": b"foreign"})
        run = await me.synced()
        assert counts(run) == {"downloaded": 49, "copied": 1}
        assert me.originals("HEAD") == {}


async def test_one_new_photo_is_asked_about_before_large_foreign_files_are_read(tmp_path: Path):
    async with mirrored(tmp_path, photos(1, 300)) as me:
        lay(me.root, {"archive/long.mp4": bytes(3 << 20), "archive/x.jpg": content(0, 300)})
        run = await me.synced()
        assert counts(run) == {"copied": 1}
        assert me.originals("HEAD").total() == 1
        changed_ns = (me.root / "archive/long.mp4").stat().st_mtime_ns
        with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
            long = Entry("archive/long.mp4", EntryKind.FILE, 3 << 20, changed_ns)
            assert index.foreign_sha1(long) is None


# -- external libraries ----------------------------------------------------------------------------


async def test_an_external_photo_is_proved_by_what_came(tmp_path: Path):
    library = empty()
    make_external(library.upload("a.jpg", content("a"), taken_at=NOON))
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        assert (me.root / "2020/06/15/a.jpg").read_bytes() == content("a")
        await me.assert_settled()


async def test_an_external_photo_with_another_file_time_and_etag_is_replaced(tmp_path: Path):
    library = empty()
    asset = library.upload("a.jpg", content("a"), taken_at=NOON)
    make_external(asset)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        library.replace(asset.id, content("b"), file_modified_at=NOON + DAY)
        run = await me.synced()
        assert counts(run) == {"replaced": 1}
        assert (me.root / "2020/06/15/a.jpg").read_bytes() == content("b")
        await me.assert_settled()


async def test_a_new_external_photo_that_cannot_be_had_is_not_adopted(tmp_path: Path):
    library = empty()
    asset = library.upload("a.jpg", content("a"), taken_at=NOON)
    make_external(asset)
    async with mirrored(tmp_path, library) as me:
        lay(me.root, {"2020/06/15/a.jpg": content("another of this size")})
        me.sandbox.faults.lost_files.add(asset.id)
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert [failed.error.code for failed in run.report.failures] == ["unavailable"]
        assert list(files(me.root)) == ["2020/06/15/a.jpg"]


async def test_a_key_that_is_refused_while_sizes_are_asked_for_stops_the_account(tmp_path: Path):
    library = empty()
    for number in range(3):
        make_external(library.upload(f"{number}.jpg", content(number), taken_at=NOON))
    async with mirrored(tmp_path, library) as me:
        lay(me.root, {f"2020/06/15/{number}.jpg": content(number) for number in range(3)})
        me.sandbox.faults.add(Answered(401), method="HEAD")
        run = await me.run()
        assert run.report.exit_code is ExitCode.ACCOUNT, describe(run)
        assert len(files(me.root)) == 3


async def test_an_external_photo_that_cannot_be_had_any_more_is_told(tmp_path: Path):
    library = empty()
    asset = library.upload("a.jpg", content("a"), taken_at=NOON)
    make_external(asset)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        before = tree(me.root)
        library.replace(asset.id, content("b"), file_modified_at=NOON + DAY)
        me.sandbox.faults.lost_files.add(asset.id)
        run = await me.run()
        assert run.report.exit_code is ExitCode.PARTIAL
        assert tree(me.root) == before
        me.sandbox.faults.clear()
        await me.synced()
        assert holds(me)


# -- gone from the listing -------------------------------------------------------------------------


async def test_what_the_server_no_longer_lists_stays(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        before = tree(me.root)
        me.library.trash(me.library.named("IMG_0001.jpg").id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "retained": 1}
        assert tree(me.root) == before
        await me.assert_settled()
        me.library.restore(me.library.named("IMG_0001.jpg").id)
        run = await me.synced()
        assert counts(run) == {"unchanged": 2, "adopted": 1}
        assert tree(me.root) == before
        await me.assert_settled()


async def test_a_photo_uploaded_anew_keeps_its_file(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        before = tree(me.root)
        me.library.delete(me.library.named("IMG_0001.jpg").id)
        me.library.upload("IMG_0001.jpg", content(1), taken_at=NOON)
        me.sandbox.requests.clear()
        run = await me.synced()
        assert counts(run) == {"unchanged": 1, "rebound": 1}
        assert tree(me.root) == before
        assert me.originals() == {}
        await me.assert_settled()


async def test_a_short_listing_removes_nothing(tmp_path: Path):
    async with mirrored(tmp_path, photos(30), destination={"on_removed": "delete"}) as me:
        await me.synced()
        before = tree(me.root)
        me.sandbox.faults.short_pages = 7
        run = await me.run()
        assert tree(me.root) == before
        assert counts(run) == {"unchanged": 23}
        assert run.report.exit_code is ExitCode.PARTIAL


# -- videos that look like those cut out of a still ------------------------------------------------


async def test_only_a_hidden_video_that_the_server_cut_out_is_left_out(tmp_path: Path):
    library = photos(1)
    stored = "/data/encoded-video/me/ab/cd/0-MP.mp4"
    mine = library.upload("holiday-MP.mp4", content("mine"), taken_at=NOON)
    mine.original_path = "/data/library/me/2020/holiday-MP.mp4"
    clip = library.upload("clip.mp4", content("clip"), taken_at=NOON)
    make_external(clip)
    clip.original_path = "/external/encoded-video/clip.mp4"
    shown = library.upload("shown.mp4", content("shown"), taken_at=NOON)
    shown.original_path = stored
    still = library.named("IMG_0000.jpg")
    motion = library.upload("motion.mp4", content("motion"), taken_at=NOON, visibility="hidden")
    motion.original_path = stored
    library.link_live_photo(still.id, motion.id)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        names = {path.rpartition("/")[2] for path in files(me.root)}
        assert names == {"IMG_0000.jpg", "holiday-MP.mp4", "clip.mp4", "shown.mp4"}
        await me.assert_settled()


# -- a server that lists nothing -------------------------------------------------------------------


def rows_of(me: Mirrored) -> list[Row]:
    with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
        return list(index.all_rows())


async def test_an_empty_listing_over_files_that_are_here_waits_for_a_person(tmp_path: Path):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        before, rows = tree(me.root), rows_of(me)
        me.library.assets.clear()

        run = await me.run()
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert counts(run) == {"held": 3}
        assert [way for _, way in run.report.holds] == ["--allow-removed 3"]
        assert rows_of(me) == rows
        run = await me.run(allowed=Allowed(removed=2))
        assert run.report.exit_code is ExitCode.HELD, describe(run)
        assert rows_of(me) == rows

        run = await me.synced(allowed=Allowed(removed=3))
        assert counts(run) == {"retained": 3}
        assert {row.state for row in rows_of(me)} == {RowState.RETAINED}
        assert tree(me.root) == before
