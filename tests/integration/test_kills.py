"""SIGKILL at any step: nothing partial has a name, nothing is fetched twice, the tree is the same.

The usual suite dies at a few steps; MIRROR_KILLS says at how many random ones each test does.
"""

import os
import random
import signal
from pathlib import Path

import pytest

from mirror.index import Index
from mirror.transfer import SMALL_BYTES
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    contents,
    files,
    mirrored,
    photos,
    sha1_of,
    tree,
    wanted,
)

KILLS = int(os.environ.get("MIRROR_KILLS", "0"))
PHOTOS = 40
PROBED = 3  # renames and links by which a first run finds out what the file system can do


def at(few: list[int], *, last: int) -> pytest.MarkDecorator:
    """The steps to die at: a few, or many of the first `last`."""
    many = random.Random(KILLS).choices(range(1, last + 1), k=KILLS)
    return pytest.mark.parametrize("step", sorted(set(many)) if KILLS else few)


async def killed(me: Mirrored, step: int, *kinds: str) -> None:
    """A child that dies in front of its n-th step of these kinds, unless it ends before."""
    me.known = None
    ended = await me.child(kill={"of": kinds, "at": step} if kinds else {"at": step})
    assert ended.status in {0, -signal.SIGKILL}, ended.errors
    assert ended.told is None or ended.told["exit_code"] == 0, ended


def brought(me: Mirrored) -> set[bytes]:
    """What has come whole, with its name or without."""
    return {
        sha1_of(path.read_bytes())
        for folder in (me.root, me.root / ".mirror/partial")
        for path in folder.rglob("*")
        if path.is_file()
    }


async def assert_finished(me: Mirrored, expected: dict[str, bytes]) -> None:
    """The next run ends with the tree that an undisturbed one makes."""
    await me.synced()
    assert files(me.root) == expected
    folders = {str(folder) for path in expected for folder in Path(path).parents} - {"."}
    assert tree(me.root).keys() == expected.keys() | folders
    assert list((me.root / ".mirror/moving").iterdir()) == []
    assert list((me.root / ".mirror/partial").iterdir()) == []
    sums = (me.root / ".mirror/SHA1SUMS").read_text().splitlines()
    assert sums == [f"{digest.hex()}  {path}" for path, digest in sorted(expected.items())]
    await me.assert_settled()


# -- a first run -----------------------------------------------------------------------------------


async def first_run(tmp_path: Path, step: int, *kinds: str) -> int:
    """Kill it, check what lies there, finish it; how many files had their names."""
    library = photos(PHOTOS)
    library.upload("long.mp4", content("long", 3 * SMALL_BYTES), taken_at=NOON)
    expected = {
        f"2020/06/15/{asset.original_file_name}": asset.content.sha1 for asset in library.own()
    }
    async with mirrored(tmp_path, library) as me:
        await killed(me, step, *kinds)
        named = files(me.root)
        assert named.items() <= expected.items()
        whole = {asset.id for asset in wanted(library) if asset.content.sha1 in brought(me)}
        me.sandbox.requests.clear()
        await assert_finished(me, expected)
        assert whole.isdisjoint(me.originals())
        return len(named)


@at([1, 20, PHOTOS + 1], last=PHOTOS + 1)
async def test_a_first_run_dies_when_some_files_have_their_names(tmp_path: Path, step: int):
    assert await first_run(tmp_path, PROBED + step, "rename") == step - 1


@at([3, 7, 60, 120], last=200)
async def test_a_first_run_dies_anywhere(tmp_path: Path, step: int):
    await first_run(tmp_path, step)


# -- moves -----------------------------------------------------------------------------------------


@at([1, 700], last=1000)
async def test_a_run_dies_while_it_moves_everything(tmp_path: Path, step: int):
    library = photos(500)
    async with mirrored(tmp_path, library, known=None) as me:
        await me.synced()
        me.layout("{taken:%Y}/{id8}/{filename}")
        expected = {
            f"2020/{asset.id[-8:]}/{asset.original_file_name}": asset.content.sha1
            for asset in library.own()
        }
        before = sorted(files(me.root).values())
        me.sandbox.requests.clear()
        await killed(me, step, "rename", "unlink")
        assert sorted(files(me.root).values()) == before
        await me.synced()
        assert me.originals() == {}
        await assert_finished(me, expected)


@at([2, 3, 40], last=70)
async def test_a_run_dies_while_names_are_exchanged(tmp_path: Path, step: int):
    """In circles of three; all photos have one size and one date."""
    library = photos(30)
    async with mirrored(tmp_path, library, known=None) as me:
        await me.synced()
        for asset in library.own():
            number = int(asset.original_file_name[4:8])
            number += -2 if number % 3 == 2 else 1
            library.rename(asset.id, f"IMG_{number:04}.jpg")
        expected = {
            f"2020/06/15/{asset.original_file_name}": asset.content.sha1 for asset in library.own()
        }
        me.sandbox.requests.clear()
        await killed(me, step, "rename", "unlink")
        await assert_finished(me, expected)
        assert me.originals() == {}


# -- replacements ----------------------------------------------------------------------------------


@at([1, 11, 33], last=60)
async def test_a_run_dies_while_it_replaces(tmp_path: Path, step: int):
    """Old and new bytes have one size and one date."""
    library = photos(20)
    async with mirrored(tmp_path, library, known=None) as me:
        await me.synced()
        old = contents(wanted(library))
        changed = list(library.own())[:10]
        for asset in changed:
            library.replace(asset.id, content(f"new {asset.id}"))
        expected = {
            f"2020/06/15/{asset.original_file_name}": asset.content.sha1 for asset in library.own()
        }
        await killed(me, step)
        assert set(files(me.root).values()) <= {*old, *contents(wanted(library))}
        kept = {sha1_of(path.read_bytes()) for path in me.root.rglob("*.jpg")}
        assert old.keys() <= kept
        await assert_finished(me, expected)
        with Index(me.root / ".mirror/index.sqlite3", dry=True) as index:
            aside = [me.root / item.path for item in index.quarantined()]
        assert {sha1_of(path.read_bytes()) for path in aside} == old.keys() - set(expected.values())


async def test_run_after_run_dies_and_the_last_one_finishes(tmp_path: Path):
    library = photos(PHOTOS)
    expected = {
        f"2020/06/15/{asset.original_file_name}": asset.content.sha1 for asset in library.own()
    }
    async with mirrored(tmp_path, library, known=None) as me:
        for step in (30, 60, 20, 10):
            await killed(me, step)
        in_flight = 4  # when it died: as many as there are workers at first
        assert me.originals().total() <= PHOTOS + 4 * in_flight
        await assert_finished(me, expected)


# -- paths that are in each other's way ------------------------------------------------------------


@at([1, 2, 4], last=8)
async def test_a_run_dies_while_files_become_folders_of_their_names(tmp_path: Path, step: int):
    library = photos(3)
    async with mirrored(tmp_path, library, known=None) as me:
        me.layout("{filename}")
        await me.synced()
        me.layout("{filename}/{id8}.{ext}")
        expected = {
            f"{asset.original_file_name}/{asset.id[-8:]}.jpg": asset.content.sha1
            for asset in library.own()
        }
        me.sandbox.requests.clear()
        await killed(me, step, "rename")
        await me.run()
        assert me.originals() == {}
        await assert_finished(me, expected)


async def test_a_parked_file_that_cannot_get_anywhere_is_found_by_the_next_run(tmp_path: Path):
    library = photos(2)
    async with mirrored(tmp_path, library, known=None) as me:
        await me.synced()
        first, second = (library.named(f"IMG_000{number}.jpg") for number in range(2))
        library.rename(first.id, second.original_file_name)
        library.rename(second.id, "IMG_0000.jpg")
        me.sandbox.requests.clear()
        await killed(me, 2, "rename")
        (parked,) = (me.root / ".mirror/moving").iterdir()
        old = "IMG_0000.jpg" if parked.name == first.id else "IMG_0001.jpg"
        saved = me.root / "2020/06/15" / old
        saved.write_bytes(b"saved by somebody")

        await me.synced()
        assert me.originals() == {}
        assert saved.read_bytes() == b"saved by somebody"
        arrived = [sha1_of(saved.read_bytes()), *contents(wanted(library))]
        assert sorted(files(me.root).values()) == sorted(arrived)
        assert list((me.root / ".mirror/moving").iterdir()) == []
        await me.assert_settled()
