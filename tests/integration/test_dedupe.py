"""The same bytes at several destinations of one file system, stored once if that is asked for."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.core.model import Dedupe
from mirror.destinations import STATE
from mirror.errors import ExitCode
from mirror.profile import Profile
from mirror.sandbox import Sandbox
from tests.integration.command import write_profile
from tests.integration.mirroring import NOON, content, files, moved_aside, photos
from tests.integration.test_side_by_side import account, profile, session

COUNT = 20


def with_dedupe(what: Profile, *modes: Dedupe) -> Profile:
    """Each mirror's destination with its own mode."""
    mirrors = tuple(
        replace(mirror, destinations=(replace(mirror.destinations[0], dedupe=mode),))
        for mirror, mode in zip(what.mirrors, modes, strict=True)
    )
    return replace(what, mirrors=mirrors)


class Pair:
    """Two accounts with the same photos, each with its destination."""

    def __init__(self, folder: Path, one: Sandbox, two: Sandbox) -> None:
        self.folder = folder
        self.one, self.two = one, two
        self.what = profile(folder, account("a", one), account("b", two))

    async def synced(self, *modes: Dedupe) -> None:
        what, with_ = with_dedupe(self.what, *modes), session(self.folder)
        await with_.run(what, what.mirrors)
        assert [one.exit_code for one in with_.reports] == [ExitCode.OK] * 2, with_.reports

    def path(self, mirror: str, name: str = "IMG_0003.jpg") -> Path:
        (path,) = (self.folder / mirror).glob(f"[!.]*/**/{name}")
        return path

    def shared(self) -> int:
        """How many files of the one are files of the other."""
        names = [Path(path).name for path in files(self.folder / "a")]
        return sum(self.path("a", name).samefile(self.path("b", name)) for name in names)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with Sandbox(photos(COUNT)) as one, Sandbox(photos(COUNT)) as two:
        yield Pair(tmp_path, one, two)


async def test_off_by_default(pair: Pair) -> None:
    await pair.synced(Dedupe.OFF, Dedupe.OFF)
    assert pair.shared() == 0


async def test_hard_links_where_both_ask_for_them(pair: Pair) -> None:
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert pair.shared() == COUNT
    assert list((pair.folder / "a" / STATE / "partial").iterdir()) == []
    assert list((pair.folder / "b" / STATE / "partial").iterdir()) == []
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)


@pytest.mark.parametrize("modes", [(Dedupe.OFF, Dedupe.HARDLINK), (Dedupe.HARDLINK, Dedupe.OFF)])
async def test_nobody_gets_a_hard_link_who_did_not_ask(
    pair: Pair, modes: tuple[Dedupe, ...]
) -> None:
    await pair.synced(*modes)
    assert pair.shared() == 0


async def test_a_new_destination_links_what_another_has_had_for_long(pair: Pair) -> None:
    alone, with_ = with_dedupe(pair.what, Dedupe.HARDLINK, Dedupe.OFF), session(pair.folder)
    await with_.run(alone, alone.mirrors[:1])
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert pair.shared() == COUNT


async def test_photos_that_are_dated_differently_stay_two_files(pair: Pair) -> None:
    asset = pair.two.library.named("IMG_0003.jpg")
    pair.two.library.redate(asset.id, NOON + timedelta(hours=1))
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    one, two = pair.path("a"), pair.path("b")
    assert not one.samefile(two)
    assert one.read_bytes() == two.read_bytes()
    assert two.stat().st_mtime - one.stat().st_mtime == 3600
    assert pair.shared() == COUNT - 1


async def test_what_becomes_of_one_name_does_not_touch_the_other(pair: Pair) -> None:
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    before = pair.path("b").read_bytes()
    library = pair.one.library
    library.replace(library.named("IMG_0003.jpg").id, content("other"))
    library.redate(library.named("IMG_0004.jpg").id, NOON - timedelta(days=400))
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert pair.path("a").read_bytes() == content("other")
    assert pair.path("b").read_bytes() == before
    assert [path.read_bytes() for path in moved_aside(pair.folder / "a")] == [before]
    assert moved_aside(pair.folder / "b") == []
    assert pair.path("a", "IMG_0004.jpg").parent != pair.path("b", "IMG_0004.jpg").parent


async def test_an_unfinished_file_with_a_second_name_is_never_written_to(pair: Pair) -> None:
    """A kill between the download and its name leaves the other destination's link to it."""
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    asset = pair.one.library.upload("IMG_0099.jpg", content("late"), taken_at=NOON)
    linked = pair.path("b")
    before = linked.read_bytes()
    name = f"{asset.id}-{asset.content.sha1.hex()[:8]}"
    os.link(linked, pair.folder / "a" / STATE / "partial" / name)
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert linked.read_bytes() == before
    assert pair.path("a", "IMG_0099.jpg").read_bytes() == content("late")


async def test_a_rotten_file_is_not_linked_to(pair: Pair) -> None:
    alone, with_ = with_dedupe(pair.what, Dedupe.HARDLINK, Dedupe.OFF), session(pair.folder)
    await with_.run(alone, alone.mirrors[:1])
    rotten = pair.path("a")
    stamp = rotten.stat()
    rotten.write_bytes(bytes(stamp.st_size))
    os.utime(rotten, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert pair.path("b").read_bytes() == content(3)
    assert pair.shared() == COUNT - 1


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is only one file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


async def test_across_file_systems_files_are_copied(pair: Pair, elsewhere: Path) -> None:
    first, second = pair.what.mirrors
    there = replace(second.destinations[0], path=str(elsewhere / "b"))
    pair.what = replace(pair.what, mirrors=(first, replace(second, destinations=(there,))))
    await pair.synced(Dedupe.HARDLINK, Dedupe.HARDLINK)
    assert files(elsewhere / "b") == files(pair.folder / "a")


# -- reflinks, on a file system that knows them ----------------------------------------------------

_XFS = """
set -e
mkfs.xfs -q -m reflink=1 "$1"
mount -o loop "$1" "$2"
"$3" -m mirror sync family --log-format json || echo "ended with $?"
filefrag -v "$2"/*/*/*/*/*.jpg
"""


def mounted_there(home: Path, image: Path, mounted: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", _XFS, "sh", image, mounted, sys.executable],
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )


async def on_xfs(tmp_path: Path, mode: str) -> str:
    """What filefrag says of the files of two destinations; the mount is nobody else's to see."""
    image, mounted = tmp_path / "xfs.img", tmp_path / "xfs"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    async with Sandbox(photos(2, 50_000)) as sandbox:
        path = write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"], text=mode)
        text = path.read_text().replace(str(tmp_path / "photos"), f"{mounted}/one")
        second = f'[[mirrors.all.destinations]]\npath = "{mounted}/two"\nmin_free = 0\n'
        path.write_text(text + second)
        ended = await asyncio.to_thread(mounted_there, tmp_path, image, mounted)
    if "mount:" in ended.stderr or "unshare:" in ended.stderr:
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert "ended with" not in ended.stdout, ended.stderr
    assert ended.stdout.count("extents found") + ended.stdout.count("extent found") == 4
    return ended.stdout


@pytest.mark.skipif(
    not (shutil.which("mkfs.xfs") and shutil.which("filefrag")),
    reason="mkfs.xfs (Debian: xfsprogs) or filefrag (e2fsprogs) is missing",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(("mode", "shared"), [('dedupe = "reflink"', 4), ("", 0)])
async def test_reflinks_share_their_blocks(tmp_path: Path, mode: str, shared: int) -> None:
    told = await on_xfs(tmp_path, mode)
    assert sum("shared" in line for line in told.splitlines()) == shared, told
