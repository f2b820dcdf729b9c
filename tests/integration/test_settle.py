"""A run begins with what an earlier one left half done: every intent, every state of the disk."""

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.core.checksum import of_path
from mirror.core.model import Row
from mirror.destinations.folder import Folder
from mirror.destinations.memory import MemoryDestination
from mirror.destinations.volume import Traits, Volume
from mirror.index import Index, Pending, Quarantined
from mirror.settle import parking, settle
from tests.integration.mirroring import content

OLD = content("old")
NEW = content("new")  # of the same size, and dated the same: a photo's time is when it was taken
NOW = datetime(2026, 1, 2, tzinfo=UTC)
MTIME_NS = 1_592_222_400_000_000_000


@dataclass
class Half:
    """A destination whose last run was killed."""

    root: Path
    folder: Folder
    index: Index

    def put(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, ns=(MTIME_NS, MTIME_NS))

    def settle(self, *, dry: bool = False) -> dict[str, str]:
        """The path of each row afterwards, by id."""
        settle(self.folder, self.index, now=NOW, dry=dry)
        assert self.index.pending() == []
        return {row.asset_id: row.path for row in self.index.all_rows()}

    def tree(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and path.name != "index.sqlite3"
        }


@contextmanager
def half_done(root: Path) -> Iterator[Half]:
    with Folder(root) as folder, Index(None) as index:
        folder.prepare()
        yield Half(root, folder, index)


@pytest.fixture
def half(tmp_path: Path) -> Iterator[Half]:
    with half_done(tmp_path) as half:
        yield half


def row_of(asset_id: str, path: str, data: bytes) -> Row:
    sha1 = hashlib.sha1(data, usedforsecurity=False).digest()
    return Row(
        asset_id=asset_id,
        owner_id="me",
        checksum=sha1,
        base=path,
        path=path,
        sha1=sha1,
        size_bytes=len(data),
        mtime_ns=MTIME_NS,
    )


# -- downloads, copies, restores -------------------------------------------------------------------


@pytest.mark.parametrize("action", ["download", "copy", "restore"])
def test_a_file_that_got_its_name_is_published(half: Half, action: str):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), action, ".mirror/partial/1")])
    half.put("a.jpg", NEW)
    assert half.settle() == {"1": "a.jpg"}


@pytest.mark.parametrize("action", ["download", "replace", "move"])
def test_a_file_that_was_touched_since_it_got_its_name_is_published(half: Half, action: str):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), action, ".mirror/partial/1")])
    half.put("a.jpg", NEW)
    os.utime(half.root / "a.jpg")
    assert half.settle() == {"1": "a.jpg"}


@pytest.mark.parametrize("action", ["download", "copy", "restore"])
def test_a_file_that_got_no_name_is_not_published_and_its_bytes_are_kept(half: Half, action: str):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), action, ".mirror/partial/1")])
    half.put(".mirror/partial/1", NEW)
    assert half.settle() == {}
    assert half.tree() == {".mirror/partial/1": NEW}


def test_a_file_with_both_of_its_names_keeps_the_right_one(half: Half):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), "download", ".mirror/partial/1")])
    half.put(".mirror/partial/1", NEW)
    (half.root / "a.jpg").hardlink_to(half.root / ".mirror/partial/1")
    assert half.settle() == {"1": "a.jpg"}
    assert half.tree() == {"a.jpg": NEW}


def test_a_foreign_file_of_the_same_size_and_time_is_not_taken_for_ours(half: Half):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), "download", ".mirror/partial/1")])
    half.put(".mirror/partial/1", NEW)
    half.put("a.jpg", OLD)
    assert half.settle() == {}
    assert half.tree() == {".mirror/partial/1": NEW, "a.jpg": OLD}


def test_an_intent_of_which_nothing_is_left_is_dropped(half: Half):
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), "download", ".mirror/partial/1")])
    assert half.settle() == {}


# -- replacements ----------------------------------------------------------------------------------


def replacing(half: Half) -> None:
    half.index.finish([row_of("1", "a.jpg", OLD)])
    half.index.begin([Pending(row_of("1", "a.jpg", NEW), "replace", ".mirror/partial/1")])
    half.index.add_quarantined(
        Quarantined(
            path=".mirror/quarantine/r/a.jpg",
            asset_id="1",
            original_path="a.jpg",
            sha1=None,
            size_bytes=len(OLD),
            reason="changed",
            quarantined_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


def checksum_of(half: Half) -> bytes | None:
    return half.index.rows(["1"])["1"].sha1


@pytest.mark.parametrize("left", [{}, {".mirror/partial/1": NEW}], ids=["nothing", "the new"])
def test_old_bytes_of_the_same_size_and_time_are_not_taken_for_new_ones(
    half: Half, left: Mapping[str, bytes]
):
    replacing(half)
    half.put("a.jpg", OLD)
    for path, data in left.items():
        half.put(path, data)
    assert half.settle() == {"1": "a.jpg"}
    assert checksum_of(half) == row_of("1", "a.jpg", OLD).sha1
    assert list(half.index.quarantined()) == []


def test_a_replacement_between_its_two_renames_is_not_published(half: Half):
    replacing(half)
    half.put(".mirror/quarantine/r/a.jpg", OLD)
    half.put(".mirror/partial/1", NEW)
    half.settle()
    assert checksum_of(half) == row_of("1", "a.jpg", OLD).sha1
    assert len(list(half.index.quarantined())) == 1


def test_a_replacement_that_was_done_is_published(half: Half):
    replacing(half)
    half.put(".mirror/quarantine/r/a.jpg", OLD)
    half.put("a.jpg", NEW)
    half.settle()
    assert checksum_of(half) == row_of("1", "a.jpg", NEW).sha1
    assert len(list(half.index.quarantined())) == 1


# -- moves -----------------------------------------------------------------------------------------


def moving(half: Half, paths: Mapping[str, tuple[str, str]], data: Mapping[str, bytes]) -> None:
    for asset_id, (source, path) in paths.items():
        row = row_of(asset_id, source, data[asset_id])
        half.index.finish([row])
        half.index.begin([Pending(replace(row, path=path, base=path), "move", source)])


@pytest.mark.parametrize("where", ["source", "parked", "path", "source and path"])
def test_a_move_is_finished_from_wherever_the_file_lies(half: Half, where: str):
    moving(half, {"1": ("a.jpg", "b/c.jpg")}, {"1": OLD})
    match where:
        case "source":
            half.put("a.jpg", OLD)
        case "parked":
            half.put(parking("1"), OLD)
        case "path":
            half.put("b/c.jpg", OLD)
        case _:
            half.put("a.jpg", OLD)
            (half.root / "b").mkdir()
            (half.root / "b/c.jpg").hardlink_to(half.root / "a.jpg")
    assert half.settle() == {"1": "b/c.jpg"}
    assert half.tree() == {"b/c.jpg": OLD}


def test_a_file_that_was_parked_and_not_gone_yet_is_there_once(half: Half):
    moving(half, {"1": ("a.jpg", "b.jpg")}, {"1": OLD})
    half.put("a.jpg", OLD)
    (half.root / parking("1")).parent.mkdir(parents=True, exist_ok=True)
    (half.root / parking("1")).hardlink_to(half.root / "a.jpg")
    assert half.settle() == {"1": "b.jpg"}
    assert half.tree() == {"b.jpg": OLD}


def test_another_photo_with_the_same_bytes_that_took_the_old_path_stays():
    """Where names cannot tell: in a bucket whose store forgot its ids, bytes alone make a copy."""

    class Forgetful(MemoryDestination):
        def is_same_file(self, path: str, other: str) -> bool:
            lie = self.entry(path) and self.entry(other)
            return lie is not None and self.sha1(path) == self.sha1(other)

    volume = Volume()
    with Forgetful(volume, "memory:") as folder, Index(None) as index:
        folder.prepare()
        for asset_id, source, path in (("1", "a.jpg", "b.jpg"), ("2", "c.jpg", "a.jpg")):
            index.finish([row_of(asset_id, source, NEW)])
            index.begin([Pending(row_of(asset_id, path, NEW), "move", source)])
            volume.write(path, NEW, MTIME_NS)
        volume.name_twice("a.jpg", "elsewhere.jpg")  # as an only name it would stay anyway
        settle(folder, index, now=NOW)
        assert {row.asset_id: row.path for row in index.all_rows()} == {"1": "b.jpg", "2": "a.jpg"}
        assert {"a.jpg", "b.jpg"} <= set(volume.files())


def test_a_moving_file_of_which_nothing_is_left_keeps_its_row(half: Half):
    moving(half, {"1": ("a.jpg", "b.jpg")}, {"1": OLD})
    assert half.settle() == {"1": "a.jpg"}


def test_a_moving_file_finds_something_else_at_its_goal_and_stays(half: Half):
    moving(half, {"1": ("a.jpg", "b.jpg")}, {"1": OLD})
    half.put("a.jpg", OLD)
    half.put("b.jpg", b"foreign")
    assert half.settle() == {"1": "a.jpg"}
    assert half.tree() == {"a.jpg": OLD, "b.jpg": b"foreign"}


def test_a_parked_file_whose_goal_was_taken_goes_back(half: Half):
    moving(half, {"1": ("a.jpg", "b.jpg")}, {"1": OLD})
    half.put(parking("1"), OLD)
    half.put("b.jpg", b"foreign")
    assert half.settle() == {"1": "a.jpg"}
    assert half.tree() == {"a.jpg": OLD, "b.jpg": b"foreign"}


CIRCLE = {"1": ("a", "b"), "2": ("b", "c"), "3": ("c", "a")}
# The first is parked, then the third goes, the second, and the first from where it waits.
RENAMES = [("a", parking("1")), ("c", "a"), ("b", "c"), (parking("1"), "b")]


@pytest.mark.parametrize("done", range(len(RENAMES) + 1))
@pytest.mark.parametrize("ids", [*itertools.permutations("123")])
def test_a_circle_of_moves_is_finished_from_anywhere(
    half: Half, done: int, ids: tuple[str, str, str]
):
    """Of equal size and time, and in any order of their paths."""
    data = {"1": b"one", "2": b"two", "3": b"tri"}
    names = dict(zip("abc", (f"{number}.jpg" for number in ids), strict=True))
    moving(half, {i: (names[a], names[b]) for i, (a, b) in CIRCLE.items()}, data)
    for asset_id, (source, _) in CIRCLE.items():
        half.put(names[source], data[asset_id])
    for source, path in RENAMES[:done]:
        (half.root / names.get(source, source)).rename(half.root / names.get(path, path))
    goals = {i: names[path if done else source] for i, (source, path) in CIRCLE.items()}
    assert half.settle() == goals
    assert half.tree() == {path: data[i] for i, path in goals.items()}


def test_a_name_whose_case_changed_is_no_second_name_where_case_is_folded():
    volume = Volume(Traits(folds_case=True))
    with MemoryDestination(volume, "memory:") as folder, Index(None) as index:
        folder.prepare()
        volume.write("IMG.jpg", NEW, MTIME_NS)  # it has come, by way of its parking place
        index.finish([row_of("1", "img.jpg", NEW)])
        index.begin([Pending(row_of("1", "IMG.jpg", NEW), "move", "img.jpg")])
        settle(folder, index, now=NOW)
        assert [row.path for row in index.all_rows()] == ["IMG.jpg"]
        assert volume.file("IMG.jpg").data == NEW


def test_a_circle_that_a_foreign_file_cuts_costs_no_file(half: Half):
    data = {"1": b"one", "2": b"two", "3": b"tri"}
    moving(half, CIRCLE, data)
    half.put(parking("1"), b"one")
    half.put("a", b"tri")
    half.put("b", b"foreign")
    half.put("c", b"two")
    rows = half.settle()
    assert rows == {"2": "c", "3": "a"}
    (kept,) = half.index.quarantined()
    assert (kept.original_path, half.tree()[kept.path]) == ("1", b"one")


def test_an_unproved_photo_moves_too(half: Half):
    row = replace(row_of("1", "a.jpg", OLD), sha1=None, checksum=of_path("a"))
    half.index.finish([row])
    half.index.begin([Pending(replace(row, path="b.jpg"), "move", "a.jpg")])
    half.put("b.jpg", OLD)
    assert half.settle() == {"1": "b.jpg"}


def test_an_unproved_photo_that_was_touched_at_both_of_its_paths_moves_too(half: Half):
    row = replace(row_of("1", "a.jpg", OLD), sha1=None, checksum=of_path("a"))
    half.index.finish([row])
    half.index.begin([Pending(replace(row, path="b.jpg"), "move", "a.jpg")])
    half.put("a.jpg", OLD)
    (half.root / "b.jpg").hardlink_to(half.root / "a.jpg")
    os.utime(half.root / "b.jpg")
    assert half.settle() == {"1": "b.jpg"}
    assert half.tree() == {"b.jpg": OLD}


# -- a look that changes nothing -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a.jpg", "b.jpg", parking("1")])
def test_a_dry_look_leaves_every_file_where_it_is(half: Half, where: str):
    moving(half, {"1": ("a.jpg", "b.jpg")}, {"1": OLD})
    half.put(where, OLD)
    half.settle(dry=True)
    assert half.tree() == {where: OLD}
