"""First runs, second runs, and that nothing is touched which need not be."""

from pathlib import Path

import pytest

from mirror.core.layout import fold
from mirror.sandbox import load_library
from mirror.sandbox.content import Filler
from tests.integration.mirroring import (
    contents,
    counts,
    empty,
    files,
    mirrored,
    photos,
    tree,
    wanted,
)

RECORDINGS = Path(__file__).parents[1] / "contract/recordings"


async def test_a_first_run_brings_everything_and_a_second_one_nothing(tmp_path: Path):
    async with mirrored(tmp_path) as me:
        run = await me.synced()
        assert counts(run) == {"downloaded": len(wanted(me.library))}
        assert sorted(files(me.root).values()) == sorted(contents(wanted(me.library)).elements())
        await me.assert_settled()


@pytest.mark.parametrize("version", ["2.7.5", "3.1.0"])
async def test_a_recorded_library_arrives_whole(tmp_path: Path, version: str):
    library = load_library(RECORDINGS / version / "library.json")
    for asset in library.assets.values():
        if asset.content.size_bytes > 8 << 20:
            asset.content = Filler(b"long video", 8 << 20)
    async with mirrored(tmp_path, library) as me:
        await me.synced()
        arrived = files(me.root)
        assert sorted(arrived.values()) == sorted(contents(wanted(library)).elements())
        assert len({fold(path) for path in arrived}) == len(arrived)
        assert all(count == 1 for count in me.originals().values())
        await me.assert_settled()


async def test_an_empty_account_is_in_sync(tmp_path: Path):
    async with mirrored(tmp_path, empty()) as me:
        await me.synced()
        assert tree(me.root) == {}
        await me.assert_settled()


async def test_a_photo_is_dated_by_the_instant_it_was_taken(tmp_path: Path):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        path = me.root / "2020/06/15/IMG_0000.jpg"
        assert path.stat().st_mtime == 1592222400
