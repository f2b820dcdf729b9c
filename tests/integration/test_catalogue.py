"""What is remembered of an account and a look tell what a full listing tells, whatever happened."""

import asyncio
import os
import sqlite3
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mirror.core.model import (
    AssetType,
    Choice,
    Filter,
    Listed,
    LivePhotos,
    OnGone,
    Owners,
    Visibility,
)
from mirror.immich.catalogue import Catalogues
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection, user_id
from mirror.sandbox import Library, Sandbox, sample_library
from mirror.sandbox.disasters import Backup, back_up, go_back
from mirror.sandbox.faults import Corrupted
from mirror.sandbox.records import StoredAsset
from mirror.survey import Surveyor
from tests.integration.household import household
from tests.integration.mirroring import NOON, Mirrored, content, mirrored, photos

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
ALL = tuple(Visibility)[:2]
FILTERS = {
    "everything": Filter(),
    "archive too": Filter(visibility=ALL),
    "favourites": Filter(favorite=True, visibility=ALL),
    "videos": Filter(type=(AssetType.VIDEO,)),
    "old ones": Filter(taken_before=TODAY - timedelta(days=40)),
}


@dataclass
class Account:
    """A sample server, what is remembered of it, and two ways to list it."""

    sandbox: Sandbox
    folder: Path
    version: str
    now: datetime = TODAY
    skew: timedelta = field(default_factory=timedelta)
    may_be_stale: bool = False
    backup: Backup | None = None
    numbers: int = 0

    def __post_init__(self) -> None:
        self.library.clock = self.clock

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=20)
        return self.now

    @property
    def library(self) -> Library:
        return self.sandbox.library

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        async with Client(self.sandbox.url, self.sandbox.api_keys["minimum"]) as client:
            await client.connect()
            yield client

    async def listed(
        self, filter_: Filter, *, remembering: bool, relist: bool = False
    ) -> set[Listed]:
        """Everything that is selected, each as it is told."""
        async with self.connected() as client:
            user = await user_id(client)
            selection = Selection(filter=filter_, user_id=user, live_photos=LivePhotos.BOTH)
            catalogues = Catalogues(self.folder, relist=relist)
            catalogue = catalogues.of(client, user) if remembering and user else None
            listing = Listing(client, selection, catalogue=catalogue)
            self.sandbox.requests.clear()
            found = {listed async for page in listing for listed in page}
            catalogues.close()
        assert listing.complete, listing.problems
        return found

    async def assert_the_same(self, name: str) -> None:
        """A clock or a database that went back may hide a change: it is listed in full then."""
        filter_ = FILTERS[name]
        if self.may_be_stale:
            for file in self.folder.iterdir():
                file.unlink()
            self.may_be_stale = False
        told = await self.listed(filter_, remembering=True)
        true = await self.listed(filter_, remembering=False)
        assert told == true, (name, _ids(told ^ true))

    def upload(self, days: int) -> None:
        """Something new, taken so long ago."""
        taken_at = TODAY - timedelta(days=days)
        self.library.upload(f"{days}.jpg", self.fresh(), taken_at=taken_at)

    def fresh(self) -> bytes:
        """Bytes like no others."""
        self.numbers += 1
        return content(("fresh", self.numbers))

    def wait(self, time: timedelta) -> None:
        self.now += time

    def back_up(self) -> None:
        self.backup = back_up(self.library)

    @property
    def questions(self) -> list[str]:
        """What was asked to list, since the account was connected to."""
        return [f"{one.method} {one.path}" for one in self.sandbox.requests]


def _ids(listed: set[Listed]) -> list[tuple[str, str]]:
    return sorted((one.asset.original_file_name, one.asset.id) for one in listed)


@asynccontextmanager
async def account(folder: Path, version: str) -> AsyncIterator[Account]:
    async with Sandbox(sample_library(0, version=version)) as sandbox:
        it = Account(sandbox, folder, version)
        for number in range(6):
            it.upload(20 * number)
        video = it.library.upload("live.mov", it.fresh(), taken_at=TODAY)
        still = it.library.upload("live.heic", it.fresh(), taken_at=TODAY)
        it.library.link_live_photo(still.id, video.id)
        yield it


@pytest.mark.parametrize(("version", "questions"), [("3.1.0", 3), ("2.7.5", 4)])
async def test_without_a_change_nothing_is_listed(tmp_path: Path, version: str, questions: int):
    async with account(tmp_path, version) as it:
        first = await it.listed(Filter(), remembering=True)
        again = await it.listed(Filter(), remembering=True)
        assert again == first
        assert len(it.questions) == questions, it.questions


# -- whatever happened -----------------------------------------------------------------------------

Change = Callable[[Account, StoredAsset, int], None]


def _swap(it: Account, asset: StoredAsset, number: int) -> None:
    """The count of the month stays, and nothing that is there was changed."""
    it.library.delete(asset.id)
    it.library.upload(f"swapped {number}.jpg", it.fresh(), taken_at=asset.file_created_at)


def _jump(it: Account, _: StoredAsset, number: int) -> None:
    skew = timedelta(hours=(-9000, -20, 0, 20, 9000)[number % 5])
    it.may_be_stale = it.may_be_stale or skew < it.skew
    it.library.jump(skew - it.skew)
    it.skew = skew


def _go_back(it: Account, *_: object) -> None:
    if it.backup is not None:
        go_back(it.library, it.backup)
        it.may_be_stale = True


CHANGES: dict[str, Change] = {
    "upload": lambda it, _, number: it.upload(number),
    "upload long ago": lambda it, _, number: it.upload(30 * number),
    "trash": lambda it, asset, _: it.library.trash(asset.id),
    "restore": lambda it, asset, _: it.library.restore(asset.id),
    "delete": lambda it, asset, _: it.library.delete(asset.id),
    "archive": lambda it, asset, _: it.library.set_visibility("archive", asset.id),
    "show": lambda it, asset, _: it.library.set_visibility("timeline", asset.id),
    "lock": lambda it, asset, _: it.library.set_visibility("locked", asset.id),
    "favourite": lambda it, asset, number: it.library.favorite(asset.id, on=bool(number % 2)),
    "rename": lambda it, asset, number: it.library.rename(asset.id, f"renamed {number}.jpg"),
    "redate": lambda it, asset, number: it.library.redate(
        asset.id, TODAY - timedelta(days=9 * number), offset=timedelta(hours=number - 6)
    ),
    "describe": lambda it, asset, number: it.library.describe(asset.id, rating=number % 6),
    "replace": lambda it, asset, _: it.library.replace(asset.id, it.fresh()),
    "swap": _swap,
    "offline": lambda it, asset, number: it.library.set_offline(asset.id, on=bool(number % 2)),
    "wait": lambda it, _, number: it.wait(timedelta(hours=number**2)),
    "jump": _jump,
    "back up": lambda it, *_: it.back_up(),
    "go back": _go_back,
}
_FEW = settings(
    max_examples=int(os.environ.get("MIRROR_HISTORIES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
)


@_FEW
@given(
    version=st.sampled_from(["3.1.0", "2.7.5"]),
    steps=st.lists(
        st.tuples(st.sampled_from([*CHANGES, *["look"] * 6]), st.integers(0, 11)), max_size=25
    ),
)
def test_a_look_tells_what_a_listing_tells(
    tmp_path_factory: pytest.TempPathFactory, version: str, steps: list[tuple[str, int]]
):
    asyncio.run(_played(tmp_path_factory.mktemp("catalogue"), version, steps))


async def _played(folder: Path, version: str, steps: list[tuple[str, int]]) -> None:
    async with account(folder, version) as it:
        for name, number in [*steps, ("look", 0)]:
            assets = list(it.library.assets.values())
            if name == "look":
                await it.assert_the_same(tuple(FILTERS)[number % len(FILTERS)])
            elif assets:
                CHANGES[name](it, assets[number % len(assets)], number)
        for name in FILTERS:
            await it.assert_the_same(name)


# -- when it is listed all the same ----------------------------------------------------------------


def listings(it: Account) -> int:
    """How many questions were asked beyond those of a look without a change."""
    return len(it.questions) - 3


async def test_a_month_that_changed_is_listed_alone(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.assert_the_same("everything")
        it.library.favorite(it.library.named("60.jpg").id)
        await it.listed(Filter(), remembering=True)
        assert listings(it) == 1
        await it.assert_the_same("everything")


async def test_once_a_week_everything_is_listed(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.listed(Filter(), remembering=True)
        it.wait(timedelta(days=6))
        await it.listed(Filter(), remembering=True)
        assert listings(it) == 0
        it.wait(timedelta(days=1, minutes=1))
        await it.listed(Filter(), remembering=True)
        assert listings(it) > 0


async def test_who_trusts_nothing_gets_everything_listed(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.listed(Filter(), remembering=True)
        it.library.assets[it.library.named("60.jpg").id].is_favorite = True  # no stamp says so
        assert await it.listed(FILTERS["favourites"], remembering=True) == set()
        assert len(await it.listed(FILTERS["favourites"], remembering=True, relist=True)) == 1


async def test_a_database_that_was_restored_is_noticed(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        it.back_up()
        it.wait(timedelta(days=1))
        it.library.favorite(it.library.named("60.jpg").id)
        assert len(await it.listed(FILTERS["favourites"], remembering=True)) == 1
        assert it.backup is not None
        go_back(it.library, it.backup)
        assert await it.listed(FILTERS["favourites"], remembering=True) == set()


async def test_too_much_at_once_is_left_to_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mirror.immich.catalogue._MOST_CHANGED", 3)
    async with account(tmp_path, "3.1.0") as it:
        await it.listed(Filter(), remembering=True)
        for asset in it.library.own():
            it.library.favorite(asset.id)
        await it.assert_the_same("favourites")


async def test_an_impossible_date_is_left_to_a_listing(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.listed(Filter(), remembering=True)
        it.library.redate(it.library.named("60.jpg").id, datetime(44, 3, 1, tzinfo=UTC))
        await it.assert_the_same("everything")


@pytest.mark.parametrize(
    "filter_",
    [
        Filter(city=("Rome",)),
        Filter(people=Choice((str(uuid.UUID(int=1, version=4)),))),
        Filter(file_name=("60",)),
        Filter(owners=Owners.ANYONE),
        Filter(taken_within_days=7),
        Filter(search={"withDeleted": True}),
    ],
    ids=lambda filter_: str(filter_)[:20],
)
async def test_what_rows_cannot_tell_is_asked(tmp_path: Path, filter_: Filter):
    async with account(tmp_path, "3.1.0") as it:
        await it.listed(filter_, remembering=True)
        assert it.questions[0] == "POST /api/search/metadata"


# -- when the file cannot be used ------------------------------------------------------------------


def the_file(it: Account) -> Path:
    (file,) = it.folder.glob("*.sqlite3")
    return file


async def test_a_damaged_file_is_thrown_away(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.assert_the_same("everything")
        the_file(it).write_bytes(b"no database" * 1000)
        await it.assert_the_same("everything")
        await it.assert_the_same("everything")


async def test_a_row_that_makes_no_sense_is_found_in_the_middle_and_the_account_listed(
    tmp_path: Path,
):
    async with account(tmp_path, "3.1.0") as it:
        await it.assert_the_same("everything")
        with closing(sqlite3.connect(the_file(it))) as database, database:
            database.execute("UPDATE asset SET type = 'NONSENSE'")
        await it.assert_the_same("everything")
        assert list(it.folder.glob("*.sqlite3")) == []


async def test_a_file_that_somebody_else_writes_to_is_done_without(tmp_path: Path):
    async with account(tmp_path, "3.1.0") as it:
        await it.assert_the_same("everything")
        with closing(sqlite3.connect(the_file(it), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await it.assert_the_same("everything")
        await it.listed(Filter(), remembering=True)
        assert listings(it) == 0


async def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path):
    (tmp_path / "file").touch()
    async with account(tmp_path / "file", "3.1.0") as it:
        await it.assert_the_same("everything")


async def test_nobody_else_may_read_the_names(tmp_path: Path):
    async with account(tmp_path / "state", "3.1.0") as it:
        await it.listed(Filter(), remembering=True)
        assert the_file(it).stat().st_mode & 0o777 == 0o600
        assert it.folder.stat().st_mode & 0o777 == 0o700


# -- whole runs ------------------------------------------------------------------------------------


_ARCHIVE = 'filter.visibility = ["timeline", "archive"]'


@pytest.mark.parametrize(
    ("version", "key", "filters", "questions"),
    [
        ("3.1.0", "minimum", [], 6),
        ("3.1.0", "all", [], 6),
        ("3.1.0", "minimum", ["filter.favorite = true", 'filter.type = ["VIDEO"]'], 6),
        ("3.1.0", "minimum", [_ARCHIVE], 7),
        ("2.7.5", "minimum", [], 7),
        ("2.7.5", "minimum", [_ARCHIVE], 9),
    ],
)
async def test_a_run_without_changes_asks_a_few_questions_whatever_the_number_of_mirrors(
    tmp_path: Path, version: str, key: str, filters: list[str], questions: int
):
    async with household(tmp_path, sample_library(60, version=version)) as home:
        home.use_key(home.sandbox.api_keys[key])
        for number, text in enumerate(filters):
            home.add_mirror(f"m{number}", f'account = "me"\n{text}')
        reports = await home.sync()
        assert {report.exit_code for report in reports} == {0}, reports
        home.sandbox.requests.clear()
        assert set(await home.codes()) == {0}
        asked = [f"{one.method} {one.path}" for one in home.sandbox.requests]
        assert len(asked) == questions, asked


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many assets each run compared with its index, one by one."""
    counts: list[int] = []
    take = Surveyor.take

    async def counting(self: Surveyor, pages: AsyncIterable[Sequence[Listed]]) -> None:
        await take(self, pages)
        counts.append(self.survey.unchanged + len(self.survey.differences))

    monkeypatch.setattr(Surveyor, "take", counting)
    return counts


async def test_what_stands_is_not_compared_again(tmp_path: Path, compared: list[int]):
    async with mirrored(tmp_path, photos(5)) as me:
        await me.synced()
        me.library.trash(me.library.named("IMG_0001.jpg").id)
        await me.synced()
        assert compared == [5, 4]
        run = await me.synced()
        assert compared == [5, 4]
        assert run.report.unchanged == 4


async def _lose_a_file(me: Mirrored) -> None:
    (me.root / "2020/06/15/IMG_0001.jpg").unlink()


async def _edit_a_file(me: Mirrored) -> None:
    (me.root / "2020/06/15/IMG_0001.jpg").write_bytes(b"edited")


async def _change_the_layout(me: Mirrored) -> None:
    me.layout("{taken:%Y}/{filename}")


async def _change_the_filter(me: Mirrored) -> None:
    me.mirror = replace(me.mirror, filter=Filter(visibility=ALL))


async def _change_an_asset(me: Mirrored) -> None:
    me.library.favorite(me.library.named("IMG_0001.jpg").id)


async def _be_retained_and_change_the_policy(me: Mirrored) -> None:
    me.library.trash(me.library.named("IMG_0001.jpg").id)
    await me.synced()
    me.destination["on_removed"] = OnGone.QUARANTINE


async def _fail(me: Mirrored) -> None:
    asset = me.library.upload("broken.jpg", content("broken"), taken_at=NOON)
    me.sandbox.faults.add(Corrupted(), asset_id=asset.id)
    await me.run()


async def _be_held(me: Mirrored) -> None:
    me.destination["on_unmatched"] = OnGone.DELETE
    me.mirror = replace(me.mirror, filter=Filter(favorite=True))
    await me.run()


@pytest.mark.parametrize(
    "happens",
    [
        _lose_a_file,
        _edit_a_file,
        _change_the_layout,
        _change_the_filter,
        _change_an_asset,
        _be_retained_and_change_the_policy,
        _fail,
        _be_held,
    ],
)
async def test_what_may_not_stand_any_more_is_compared(
    tmp_path: Path, compared: list[int], happens: Callable[[Mirrored], Awaitable[None]]
):
    async with mirrored(tmp_path, photos(5)) as me:
        await me.synced()
        await me.synced()
        assert compared == [5]
        await happens(me)
        compared.clear()
        await me.run()
        assert compared != []
