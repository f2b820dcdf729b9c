"""Anything in any order, on the server and in the tree: two runs later all is well again.

MIRROR_WORLDS says how many random histories to try; each is named by its number.
"""

import os
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mirror.errors import ExitCode
from mirror.sandbox.records import StoredAsset
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    contents,
    describe,
    empty,
    files,
    mirrored,
    sha1_of,
    wanted,
)

WORLDS = int(os.environ.get("MIRROR_WORLDS", "6"))
KILLS = "MIRROR_KILLS" in os.environ  # a run dies in front of each that is checked
STEPS = 12
NAMES = ("a.jpg", "A.JPG", "b.jpg", "c.HEIC", "c.jpg", "d")
LAYOUTS = ("{taken:%Y/%m/%d}/{filename}", "{taken:%Y}/{filename}", "{filename}")


class World:
    """A server and a tree, and what may happen to them; every choice comes from the number."""

    def __init__(self, me: Mirrored, number: int) -> None:
        self.me = me
        self.chance = random.Random(number)
        self.made = 0
        self.theirs: set[bytes] = set()  # SHA-1 of what people put there: never lost
        self.told: list[str] = []
        # An account that lists nothing at all holds everything; that is another test's.
        self.stays = me.library.upload("stays.jpg", content("stays"), taken_at=NOON)

    def fresh(self) -> bytes:
        """New ones; all of a few sizes."""
        self.made += 1
        return content(("made", self.made), self.chance.choice((10, 20)))

    def step(self) -> None:
        happens = self.chance.choice((
            self.upload, self.upload, self.upload_live, self.rename, self.redate, self.replace,
            self.trash, self.restore, self.delete_and_upload, self.lose, self.edit, self.touch,
            self.move_away, self.put_foreign, self.put_twin, self.put_folder, self.forget,
            self.relayout,
        ))  # fmt: skip
        self.told.append(happens.__name__)
        happens()

    # -- on the server -----------------------------------------------------------------------------

    def one(
        self, which: Callable[[StoredAsset], bool] = lambda asset: not asset.trashed
    ) -> StoredAsset:
        others = (asset for asset in self.me.library.own() if asset is not self.stays)
        found = [asset for asset in others if which(asset)]
        return self.chance.choice(found) if found else self.upload()

    def when(self) -> datetime:
        return NOON + timedelta(days=self.chance.randrange(2))

    def upload(self) -> StoredAsset:
        return self.me.library.upload(self.chance.choice(NAMES), self.fresh(), taken_at=self.when())

    def upload_live(self) -> None:
        video = self.me.library.upload("v.mov", self.fresh(), taken_at=self.when())
        self.me.library.link_live_photo(self.upload().id, video.id)

    def rename(self) -> None:
        self.me.library.rename(self.one().id, self.chance.choice(NAMES))

    def redate(self) -> None:
        self.me.library.redate(self.one().id, self.when())

    def replace(self) -> None:
        self.me.library.replace(self.one().id, self.fresh())

    def trash(self) -> None:
        self.me.library.trash(self.one().id)

    def restore(self) -> None:
        self.me.library.restore(self.one(lambda asset: asset.trashed).id)

    def delete_and_upload(self) -> None:
        asset = self.one(lambda asset: asset.visibility == "timeline" and not asset.trashed)
        data = b"".join(asset.content.read(0, asset.content.size_bytes))
        self.me.library.delete(asset.id)
        self.me.library.upload(asset.original_file_name, data, taken_at=self.when())

    # -- in the tree -------------------------------------------------------------------------------

    def file(self) -> Path | None:
        found = sorted(files(self.me.root)) if self.me.root.exists() else []
        return self.me.root / self.chance.choice(found) if found else None

    def _is_ours(self, path: Path) -> bool:
        return sha1_of(path.read_bytes()) not in self.theirs

    def lose(self) -> None:
        path = self.file()
        if path is not None and self._is_ours(path):
            path.unlink()

    def edit(self) -> None:
        path = self.file()
        if path is not None and self._is_ours(path):
            self._write(path, self.fresh())

    def touch(self) -> None:
        if (path := self.file()) is not None:
            path.touch()

    def move_away(self) -> None:
        if (path := self.file()) is not None:
            path.rename(path.with_name(f"moved {self.made} {path.name}"))

    def put_foreign(self) -> None:
        self._put(self.fresh())

    def put_twin(self) -> None:
        """A file with the bytes of an asset, at a name that may be wanted."""
        asset = self.one()
        self._put(b"".join(asset.content.read(0, asset.content.size_bytes)))

    def _put(self, data: bytes) -> None:
        folder = self.me.root / f"{self.when():%Y/%m/%d}"
        path = folder / self.chance.choice(NAMES)
        if not path.exists() and not any(above.is_file() for above in path.parents):
            folder.mkdir(parents=True, exist_ok=True)
            self._write(path, data)

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.theirs.add(sha1_of(data))

    def put_folder(self) -> None:
        path = self.me.root / f"{self.when():%Y/%m/%d}" / self.chance.choice(NAMES)
        if not path.exists() and not any(above.is_file() for above in path.parents):
            path.mkdir(parents=True)

    def forget(self) -> None:
        """Once: each time, bytes that were replaced since are foreign, and take a name for ever."""
        if self.told.count("forget") > 1:
            return
        (self.me.root / ".mirror/index.sqlite3").unlink(missing_ok=True)

    def relayout(self) -> None:
        self.me.layout(self.chance.choice(LAYOUTS))

    # -- and then ----------------------------------------------------------------------------------

    async def check(self) -> None:
        if KILLS:
            await self.me.child(kill={"at": self.chance.randrange(1, 80)})
        run = await self.me.run()
        codes = [run.report.exit_code]
        if run.report.exit_code is ExitCode.PARTIAL:
            run = await self.me.run()
            codes.append(run.report.exit_code)
        assert run.report.exit_code is ExitCode.OK, f"{self.told} {codes} {describe(run)}"
        arrived = files(self.me.root)
        missing = set(contents(wanted(self.me.library))) - set(arrived.values())
        assert missing == set(), self.told
        kept = {sha1_of(path.read_bytes()) for path in self.me.root.rglob("*") if path.is_file()}
        assert self.theirs <= kept, self.told
        await self.me.assert_settled()


@pytest.mark.parametrize("number", range(WORLDS))
async def test_anything_in_any_order_ends_in_sync(tmp_path: Path, number: int):
    async with mirrored(tmp_path, empty()) as me:
        world = World(me, number)
        for _ in range(STEPS):
            for _ in range(world.chance.randrange(1, 5)):
                world.step()
            await world.check()
