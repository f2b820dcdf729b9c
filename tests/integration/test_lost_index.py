"""The index is gone, or no index any more: the tree is adopted as it lies, and nothing is lost."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.core import names
from mirror.core.model import NameRules, OnGone
from mirror.errors import ExitCode
from mirror.index import Index, Quarantined
from mirror.sandbox.records import StoredAsset
from tests.integration.mirroring import (
    NOON,
    Mirrored,
    content,
    contents,
    counts,
    describe,
    files,
    mirrored,
    moved_aside,
    names_in,
    photos,
    tree,
    wanted,
    whole,
)

Log = list[dict[str, Any]]


def index_of(me: Mirrored) -> Path:
    return me.root / ".mirror/index.sqlite3"


def first(me: Mirrored) -> StoredAsset:
    return next(me.library.own())


def rebuilt(log: Log) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == "index.rebuilt"]


# -- what may become of an index -------------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def removed_with_a_journal_left(path: Path) -> None:
    """As after a kill: the journal of the index that was must not become the new one's."""
    left = journal_of_a_kill(path)
    path.unlink()
    path.with_name(f"{path.name}-wal").write_bytes(left)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to see" * 100)


def garbage_with_a_journal(path: Path) -> None:
    left = journal_of_a_kill(path)
    garbage(path)
    path.with_name(f"{path.name}-wal").write_bytes(left)


def cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def another_programs(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE thumbnails (id, image)")
        database.commit()


def without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE asset")
        database.commit()


def journal_of_a_kill(path: Path) -> bytes:
    """A journal with a commit that never came into the index itself."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("INSERT OR REPLACE INTO meta VALUES ('a', 'note')")
        database.commit()
        return path.with_name(f"{path.name}-wal").read_bytes()


LOST = [removed, removed_with_a_journal_left, emptied]
BROKEN = [garbage, garbage_with_a_journal, cut_in_half, another_programs, without_a_table]
Ruin = Callable[[Path], None]


@pytest.mark.parametrize("ruin", [*LOST, *BROKEN])
async def test_a_tree_without_its_index_is_adopted_as_it_lies(tmp_path: Path, ruin: Ruin, log: Log):
    async with mirrored(tmp_path) as me:
        await me.synced()
        before, sums = tree(me.root), (me.root / ".mirror/SHA1SUMS").read_bytes()
        ruin(index_of(me))
        ruined = index_of(me).read_bytes() if ruin in BROKEN else b""
        me.sandbox.requests.clear()
        log.clear()

        run = await me.synced()

        assert set(counts(run)) == {"adopted"}
        assert me.originals() == {}
        assert tree(me.root) == before
        assert (me.root / ".mirror/SHA1SUMS").read_bytes() == sums
        (told,) = rebuilt(log)
        assert told["level"] == "warning"
        kept = [path for path in names_in(me.root / ".mirror") if ".broken-" in path]
        if ruin in BROKEN:
            assert told["path"] == f".mirror/{min(kept)}"
            # Opening a sound database leaves a mark in its header.
            assert (me.root / told["path"]).read_bytes()[100:] == ruined[100:]
        else:
            assert kept == []
        await me.assert_settled()
        assert len(rebuilt(log)) == 1


@pytest.mark.parametrize("ruin", [*LOST, *BROKEN])
async def test_a_plan_looks_at_a_tree_without_its_index_and_leaves_it(tmp_path: Path, ruin: Ruin):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        ruin(index_of(me))
        before = whole(me.root)

        run = await me.planned()

        assert [action.kind.value for action in run.plan.actions] == ["adopt"] * 3
        assert whole(me.root) == before


@pytest.mark.parametrize("end", [b"", b"no frame" * 1000])
async def test_the_half_of_a_journal_costs_only_the_commit_that_it_held(
    tmp_path: Path, end: bytes, log: Log
):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        journal = journal_of_a_kill(index_of(me))
        index_of(me).with_name("index.sqlite3-wal").write_bytes(journal[: len(journal) // 2] + end)

        run = await me.synced()

        assert counts(run) == {"unchanged": 3}
        assert rebuilt(log) == []


@pytest.mark.parametrize("dry", [False, True])
async def test_damage_that_shows_in_the_middle_of_a_run_makes_it_begin_anew(
    tmp_path: Path, log: Log, *, dry: bool
):
    async with mirrored(tmp_path, photos(300)) as me:
        await me.synced()
        data = bytearray(index_of(me).read_bytes())
        page = data.index(b"/IMG_0150") // 4096 * 4096
        data[page : page + 4096] = b"\xff" * 4096
        index_of(me).write_bytes(data)
        before = tree(me.root)

        me.sandbox.requests.clear()
        if dry:
            run = await me.planned()
            assert run.report.exit_code is ExitCode.DESTINATION, describe(run)
            assert run.report.error is not None
            assert run.report.error.code == "index"
            assert index_of(me).read_bytes() == data
            assert rebuilt(log) == []

        run = await me.synced()

        (told,) = rebuilt(log)
        assert (me.root / told["path"]).read_bytes() == data
        assert counts(run) == {"adopted": 300}
        assert me.originals() == {}
        assert tree(me.root) == before
        await me.assert_settled()


async def test_a_value_that_makes_no_sense_is_damage_too(tmp_path: Path, log: Log):
    """As a flipped bit leaves it: nothing that SQLite itself would notice."""
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        with closing(sqlite3.connect(index_of(me))) as database:
            (text,) = database.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'asset'"
            ).fetchone()
            database.execute("PRAGMA writable_schema = 1")
            loose = text.replace("path BLOB NOT NULL", "path BLOB")
            query = "UPDATE sqlite_master SET sql = ? WHERE name = 'asset'"
            database.execute(query, (loose,))
            database.commit()
        with closing(sqlite3.connect(index_of(me))) as database:
            database.execute("UPDATE asset SET path = NULL")
            database.execute("PRAGMA writable_schema = 1")
            database.execute(query, (text,))
            database.commit()

        run = await me.synced()

        assert counts(run) == {"adopted": 3}
        assert len(rebuilt(log)) == 1


async def test_a_bit_that_flips_in_any_copy_of_an_id_costs_no_photo(tmp_path: Path):
    """SQLite keeps one in the row, and one in each way to find it."""
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        data = bytearray(index_of(me).read_bytes())
        asset_id = first(me).id.encode()
        copies = [at for at in range(len(data)) if data[at : at + len(asset_id)] == asset_id]
        for at in copies:
            changed = bytes(data[:at]) + b"z" + bytes(data[at + 1 :])
            for beside in index_of(me).parent.glob("index.sqlite3*"):
                beside.unlink()
            index_of(me).write_bytes(changed)

            await me.synced()

            assert set(contents(wanted(me.library))) <= set(files(me.root).values())
        assert len(copies) > 2


async def test_a_first_run_has_lost_nothing(tmp_path: Path, log: Log):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        await me.synced()
    assert rebuilt(log) == []


# -- what only the index knew ----------------------------------------------------------------------


async def test_a_retained_file_stays_and_the_old_list_of_checksums_still_names_it(tmp_path: Path):
    async with mirrored(tmp_path, photos(2)) as me:
        gone = first(me)
        await me.synced()
        me.library.delete(gone.id)
        await me.synced()
        before, sums = tree(me.root), (me.root / ".mirror/SHA1SUMS").read_bytes()
        index_of(me).unlink()

        run = await me.synced()

        assert counts(run) == {"adopted": 1}
        assert tree(me.root) == before
        (kept,) = (me.root / ".mirror").glob("SHA1SUMS.before-*")
        assert kept.read_bytes() == sums
        assert len((me.root / ".mirror/SHA1SUMS").read_bytes().splitlines()) == 1
        await me.assert_settled()
        assert len(list((me.root / ".mirror").glob("SHA1SUMS.before-*"))) == 1


async def test_the_list_of_checksums_names_no_file_of_which_the_new_index_knows_nothing(
    tmp_path: Path,
):
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        me.library.upload("other.jpg", b"", taken_at=NOON, visibility="archive")
        me.library.delete(first(me).id)
        index_of(me).unlink()
        await me.synced()
        assert len(files(me.root)) == 1
        assert (me.root / ".mirror/SHA1SUMS").read_bytes() == b""


@pytest.mark.parametrize("policy", [OnGone.QUARANTINE, OnGone.DELETE])
async def test_nothing_leaves_a_tree_whose_index_was_lost(tmp_path: Path, policy: OnGone):
    """What is not listed any more was forgotten with the index: there is no evidence, nor a row."""
    async with mirrored(tmp_path, photos(3)) as me:
        me.destination |= {"on_removed": policy, "on_unmatched": policy}
        await me.synced()
        before = tree(me.root)
        me.library.trash(first(me).id)
        garbage(index_of(me))
        for _ in range(2):
            await me.synced()
            assert tree(me.root) == before


@pytest.mark.parametrize("days", [29, -365])
async def test_what_lies_in_quarantine_without_a_record_waits_from_now_on(
    tmp_path: Path, days: int
):
    async with mirrored(tmp_path, photos(2)) as me:
        me.destination |= {"on_removed": OnGone.QUARANTINE, "quarantine_days": 30}
        await me.synced()
        me.library.trash(first(me).id)
        await me.synced()
        (aside,) = moved_aside(me.root)
        (recorded,) = quarantined(me)
        index_of(me).unlink()
        me.library.clock = lambda: datetime.now(UTC) + timedelta(days=days)

        await me.synced()

        (again,) = quarantined(me)
        assert (again.path, again.original_path) == (recorded.path, recorded.original_path)
        assert again.size_bytes == recorded.size_bytes
        waited = again.quarantined_at - recorded.quarantined_at
        assert waited > timedelta(days=max(days - 1, 0), seconds=-2)  # by the clock that is ahead
        assert moved_aside(me.root) == [aside]


async def test_a_run_that_dies_with_a_new_index_is_followed_by_one_that_tells_it_everything(
    tmp_path: Path, log: Log
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        (me.root / ".mirror/quarantine/some-run/2020").mkdir(parents=True)
        (me.root / ".mirror/quarantine/some-run/2020/a.jpg").write_bytes(b"kept")
        (me.root / ".mirror/quarantine/some-run/link.jpg").symlink_to("/etc/passwd")
        index_of(me).unlink()
        Index(index_of(me)).close()  # and here it was killed

        await me.synced()

        assert len(rebuilt(log)) == 1
        (found,) = quarantined(me)
        assert found.path == ".mirror/quarantine/some-run/2020/a.jpg"
        assert found.original_path == "2020/a.jpg"
        assert len(list((me.root / ".mirror").glob("SHA1SUMS.before-*"))) == 1
        await me.assert_settled()


async def test_a_tree_that_lost_its_list_of_checksums_too_is_said_to_have_lost_its_index(
    tmp_path: Path, log: Log
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        assert rebuilt(log) == []
        index_of(me).unlink()
        (me.root / ".mirror/SHA1SUMS").unlink()
        run = await me.synced()
        assert counts(run) == {"adopted": 2}
        assert len(rebuilt(log)) == 1


def quarantined(me: Mirrored) -> list[Quarantined]:
    with Index(index_of(me), dry=True) as index:
        return list(index.quarantined())


# -- names -----------------------------------------------------------------------------------------


def newer_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version of mirror may have them: every name another one."""

    def shouting(text: str, rules: NameRules) -> str:
        return names.safe_component(text, rules).swapcase() + "!"

    monkeypatch.setitem(names.COMPONENT_RULES, 2, shouting)
    monkeypatch.setattr("mirror.core.names.NAME_RULES_VERSION", 2)
    for module in ("core.layout", "index", "place", "destinations.identity"):
        monkeypatch.setattr(f"mirror.{module}.NAME_RULES_VERSION", 2)


@pytest.mark.parametrize("lost", [False, True])
async def test_an_older_tree_keeps_the_names_of_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool
):
    async with mirrored(tmp_path, photos(2)) as me:
        await me.synced()
        before = set(files(me.root))
        newer_rules(monkeypatch)
        if lost:
            index_of(me).unlink()
        me.library.upload("New.jpg", content("new"), taken_at=datetime(2020, 6, 15, tzinfo=UTC))

        await me.synced()

        assert set(files(me.root)) == before | {"2020/06/15/New.jpg"}
        await me.assert_settled()


async def test_a_new_tree_follows_the_rules_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    newer_rules(monkeypatch)
    async with mirrored(tmp_path, photos(1)) as me:
        await me.synced()
        assert set(files(me.root)) == {"2020!/06!/15!/img_0000.JPG!"}
        index_of(me).unlink()
        await me.synced()
        assert set(files(me.root)) == {"2020!/06!/15!/img_0000.JPG!"}
