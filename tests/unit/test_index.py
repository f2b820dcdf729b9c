import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import schema
from mirror.core.layout import NAME_RULES_VERSION
from mirror.core.model import Entry, Row, RowState
from mirror.errors import ExitCode, IndexBrokenError, IndexDamagedError
from mirror.index import Failure, Index, Pending, Quarantined

_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def _id(name: str) -> str:
    return f"id of {name.encode(errors='replace').decode()}"


def a_row(name: str, **changed: object) -> Row:
    plain = Row(
        asset_id=_id(name),
        owner_id="me",
        checksum=b"\1" * 20,
        base=name,
        path=name,
        sha1=b"\2" * 20,
        size_bytes=5,
        mtime_ns=7,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # the fields of each test's choice


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite3"


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(None) as memory:
        yield memory


# -- rows ------------------------------------------------------------------------------------------

# What a disk can hold: text, and bytes that are not UTF-8 as surrogate escapes.
_NAMES = st.binary(min_size=1, max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
_ROWS = st.builds(
    Row,
    asset_id=st.uuids().map(str),
    owner_id=st.sampled_from(("", "me")),
    checksum=st.binary(min_size=20, max_size=20),
    base=_NAMES,
    path=_NAMES,
    state=st.sampled_from(RowState),
    sha1=st.none() | st.binary(min_size=20, max_size=20),
    size_bytes=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    etag=st.sampled_from(("", 'W/"5-19"')),
    file_modified_at=_TIMES,
    reason=st.sampled_from(("", "not listed any more")),
)


@given(_ROWS)
def test_a_row_comes_back_as_it_was(row: Row):
    with Index(None) as index:
        index.finish([row])

        assert index.rows([row.asset_id, "another"]) == {row.asset_id: row}
        assert list(index.all_rows()) == [row]


@given(_ROWS, _NAMES)
def test_an_intent_comes_back_as_it_was(row: Row, source: str):
    with Index(None) as index:
        intent = Pending(row, "move", source)
        index.begin([intent])

        assert index.pending() == [intent]


def test_rows_survive_closing(path: Path):
    rows = [a_row("a.jpg", file_modified_at=NOW), a_row("b\udcff.jpg", sha1=None)]
    with Index(path) as index:
        index.finish(rows)

    with Index(path) as index:
        assert list(index.all_rows()) == rows
        assert index.count() == 2
        assert sorted(index.asset_ids()) == sorted(row.asset_id for row in rows)


def test_what_the_disk_is_compared_with_comes_in_byte_order_of_the_path(path: Path):
    names = [
        f"{number % 97:02}{mark}{number}"
        for number, mark in zip(range(20_000), "/ .-é\udcff" * 4_000, strict=False)
    ]
    rows = [a_row(name, size_bytes=len(name)) for name in names]
    with Index(path) as index:
        index.finish(rows)

        recorded = list(index.recorded())

    raw = sorted(name.encode("utf-8", "surrogateescape") for name in names)
    assert [found[0] for found in recorded] == raw
    assert recorded[0] == (b"00 10573", 8, 7, "id of 00 10573")


def test_many_rows_are_found_by_id_by_key_and_by_checksum(index: Index):
    rows = [
        a_row(f"{number}.jpg", sha1=hashlib.sha1(b"%d" % number).digest()) for number in range(1500)
    ]
    index.finish(rows)

    assert len(index.rows(row.asset_id for row in rows)) == 1500
    assert index.holders(["7.jpg", "none.jpg"]) == {"7.jpg": "id of 7.jpg"}
    assert len(index.holders(row.path for row in rows)) == 1500
    assert index.with_sha1([hashlib.sha1(b"9").digest(), b"\0" * 20]) == [rows[9]]


def test_a_holder_is_found_whatever_the_case_or_form_of_its_name(index: Index):
    index.finish([a_row("Ä/IMG.JPG")])

    assert index.holders(["ä/img.jpg"]) == {"ä/img.jpg": "id of Ä/IMG.JPG"}


def test_a_forgotten_row_is_gone(index: Index):
    index.finish([a_row("a.jpg"), a_row("b.jpg")])

    index.forget(["id of a.jpg", "nobody"])

    assert list(index.asset_ids()) == ["id of b.jpg"]


def test_a_row_gets_a_new_id_and_keeps_its_path(index: Index):
    row = a_row("a.jpg")
    index.finish([row])

    index.rebind([(row.asset_id, replace(row, asset_id="new"))])

    assert index.rows([row.asset_id, "new"]) == {"new": replace(row, asset_id="new")}


# -- intent, file, done ----------------------------------------------------------------------------


def test_an_intent_changes_no_row_until_it_is_done(index: Index):
    before, after = a_row("a.jpg"), a_row("a.jpg", path="b.jpg")
    index.finish([before])
    index.begin([Pending(after, "move", "a.jpg")])

    assert list(index.all_rows()) == [before]

    index.finish([after])
    assert list(index.all_rows()) == [after]
    assert index.pending() == []


def test_an_abandoned_intent_is_dropped_and_the_others_stay(index: Index):
    index.begin([Pending(a_row(name), "download") for name in ("a", "b", "c")])

    index.finish([a_row("a")], abandoned=["id of b"])

    assert [it.row.path for it in index.pending()] == ["c"]
    assert [row.path for row in index.all_rows()] == ["a"]


def test_two_rows_exchange_their_paths(index: Index):
    first, second = a_row("a.jpg"), a_row("b.jpg")
    index.finish([first, second])

    index.finish([replace(first, path="b.jpg"), replace(second, path="a.jpg")])

    assert {row.asset_id: row.path for row in index.all_rows()} == {
        first.asset_id: "b.jpg",
        second.asset_id: "a.jpg",
    }


def test_a_row_may_change_the_case_of_its_name(index: Index):
    row = a_row("a.jpg")
    index.finish([row])

    index.finish([replace(row, path="A.jpg")])

    assert [it.path for it in index.all_rows()] == ["A.jpg"]


def test_a_path_belongs_to_the_row_that_was_published_last(index: Index):
    index.finish([a_row("a.jpg")])

    index.finish([a_row("b.jpg", path="A.JPG")])

    assert [(row.asset_id, row.path) for row in index.all_rows()] == [("id of b.jpg", "A.JPG")]


def test_two_rows_of_one_path_are_never_published_together(index: Index):
    with pytest.raises(sqlite3.IntegrityError):
        index.finish([a_row("a.jpg"), a_row("b.jpg", path="A.JPG")])

    assert index.count() == 0


def test_what_is_published_is_no_longer_a_failure(index: Index):
    failures = [Failure(f"id of {name}", b"\1" * 20, "etag", _NOON) for name in ("a", "b")]
    for failure in failures:
        index.note_failure(failure)

    index.finish([a_row("a")])

    assert index.failures() == {"id of b": failures[1]}


def test_a_transaction_that_fails_leaves_everything_as_it_was(path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
        with pytest.raises(KeyboardInterrupt):
            _interrupted(index)

        assert [row.path for row in index.all_rows()] == ["a.jpg"]
        index.finish([a_row("c.jpg")])  # and the next one is its own

    with Index(path) as index:
        assert [row.path for row in index.all_rows()] == ["a.jpg", "c.jpg"]


def _interrupted(index: Index) -> None:
    with index.transaction():
        index.finish([a_row("b.jpg")])
        index.forget(["id of a.jpg"])
        raise KeyboardInterrupt


def test_what_a_killed_run_had_committed_is_there(path: Path, tmp_path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
        killed = tmp_path / "killed.sqlite3"
        for suffix in ("", "-wal"):  # as the disk is while the run is in the middle of its work
            killed.with_name(killed.name + suffix).write_bytes(
                path.with_name(path.name + suffix).read_bytes()
            )

    with Index(killed) as index:
        assert [row.path for row in index.all_rows()] == ["a.jpg"]


# -- the small tables ------------------------------------------------------------------------------


def test_the_hash_of_a_foreign_file_holds_while_the_file_looks_the_same(index: Index):
    entry = Entry("caf\udce9.jpg", size_bytes=5, mtime_ns=7, sha1=b"\3" * 20)
    index.note_foreign([entry])

    assert index.foreign_sha1(replace(entry, sha1=None)) == b"\3" * 20
    assert index.foreign_sha1(replace(entry, size_bytes=6)) is None
    assert index.foreign_sha1(replace(entry, mtime_ns=8)) is None
    assert index.foreign_sha1(replace(entry, path="other.jpg")) is None


def test_quarantine_lists_the_oldest_first_and_forgets_what_left(index: Index):
    items = [
        Quarantined(
            path=f".mirror/quarantine/{day}",
            asset_id="1",
            original_path="a\udcff",
            sha1=None,
            size_bytes=5,
            reason="changed",
            quarantined_at=datetime(2026, 1, day, tzinfo=UTC),
            days=days,
        )
        for day, days in ((2, None), (1, 0))
    ]
    for item in items:
        index.add_quarantined(item)

    assert list(index.quarantined()) == items[::-1]
    index.drop_quarantined(items[0].path)
    assert list(index.quarantined()) == items[1:]


def test_names_stay_pinned_to_their_ids(index: Index):
    index.pin({("people", "Grandma"): "1", ("albums", "Grandma"): "2"})
    index.pin({("people", "Grandpa"): "3"})

    assert index.pins() == {
        ("people", "Grandma"): "1",
        ("albums", "Grandma"): "2",
        ("people", "Grandpa"): "3",
    }


def test_the_etag_of_a_partial_file_is_forgotten_with_it(index: Index):
    for name in ("a", "b"):
        index.note_partial(name, f"etag of {name}")

    index.keep_partials(["a", "c"])

    assert [index.partial_etag(name) for name in ("a", "b", "c")] == ["etag of a", "", ""]


@pytest.mark.parametrize(
    "change", [lambda index: index.finish([a_row("b")]), lambda index: index.forget(["id of a"])]
)
def test_the_list_of_checksums_is_outdated_by_any_row(index: Index, change):
    index.finish([a_row("a")])
    index.note_manifest()
    before = index.manifest_is_outdated

    change(index)

    assert (before, index.manifest_is_outdated) == (False, True)


# -- the file --------------------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_run_without_changes_leaves_the_file_byte_for_byte(path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
    before = _files(path.parent)
    assert list(before) == [path.name]  # nothing beside it

    with Index(path) as index:
        assert list(index.recorded())
        index.pending()
        index.rows(["id of a.jpg"])
        with index.transaction():
            pass

    assert _files(path.parent) == before


def test_a_dry_index_leaves_the_file_byte_for_byte_and_remembers_while_it_is_open(path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
    before = _files(path.parent)

    with Index(path, dry=True) as index:
        with index.transaction():
            index.finish([a_row("b.jpg")])
        index.begin([Pending(a_row("c.jpg"), "download")])
        assert _files(path.parent) == before  # nor does it write beside it
        assert [row.path for row in index.all_rows()] == ["a.jpg", "b.jpg"]

    assert _files(path.parent) == before


def test_a_stream_that_nobody_finished_does_not_keep_the_file(path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg"), a_row("b.jpg")])
        half_read = index.recorded()
        next(half_read)

    with Index(path) as again:
        assert again.count() == 2


_VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE asset (
    asset_id TEXT PRIMARY KEY, owner_id TEXT NOT NULL, checksum BLOB NOT NULL, base BLOB NOT NULL,
    path BLOB NOT NULL, key BLOB NOT NULL, state TEXT NOT NULL, sha1 BLOB,
    size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, etag TEXT NOT NULL,
    file_modified_us INTEGER, reason TEXT NOT NULL, uploaded_us INTEGER, still_id TEXT NOT NULL,
    verified_us INTEGER
) WITHOUT ROWID;
CREATE INDEX asset_path ON asset (path, size_bytes, mtime_ns);
CREATE UNIQUE INDEX asset_key ON asset (key);
CREATE INDEX asset_sha1 ON asset (sha1);
CREATE TABLE pending (
    asset_id TEXT PRIMARY KEY, owner_id TEXT NOT NULL, checksum BLOB NOT NULL, base BLOB NOT NULL,
    path BLOB NOT NULL, key BLOB NOT NULL, state TEXT NOT NULL, sha1 BLOB,
    size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, etag TEXT NOT NULL,
    file_modified_us INTEGER, reason TEXT NOT NULL, uploaded_us INTEGER, still_id TEXT NOT NULL,
    verified_us INTEGER, action TEXT NOT NULL, source BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE partial (name TEXT PRIMARY KEY, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE failure (
    asset_id TEXT PRIMARY KEY, checksum BLOB NOT NULL, etag TEXT NOT NULL,
    failed_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE foreign_hash (
    path BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha1 BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE pin (
    kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    path BLOB PRIMARY KEY, original_path BLOB NOT NULL, sha1 BLOB, size_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL, quarantined_at TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('version', '1'), ('name_rules', '1');
INSERT INTO asset VALUES ('1', 'me', x'01', x'61', x'61', x'61', 'published', x'02', 5, 6,
    'W/"1"', 7, '', 8, '', 9);
INSERT INTO quarantine VALUES (x'2e', x'62', x'03', 5, 'changed',
    '2026-01-02T03:04:05+00:00');
"""


def _made_by_version_1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_VERSION_1)


def _version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
        return str(found)


def test_an_index_of_an_older_version_is_brought_up_to_date_and_the_old_one_kept(path: Path):
    _made_by_version_1(path)

    with Index(path) as index:
        (row,) = index.all_rows()
        (item,) = index.quarantined()
        assert index.migrated_from == 1

    assert (row.asset_id, row.path, row.etag, row.seen_trashed_at) == ("1", "a", 'W/"1"', None)
    assert item.original_path == "b"
    assert item.quarantined_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert set(_files(path.parent)) == {path.name, f"{path.name}.v1"}  # and nothing beside them
    assert _version(path.with_name(f"{path.name}.v1")) == "1"
    with Index(path) as again:
        assert again.migrated_from is None


def test_what_was_brought_up_to_date_is_made_as_what_is_new(path: Path):
    _made_by_version_1(path)
    with Index(path) as old, Index(None) as new:
        assert schema._definitions(old._db) == schema._definitions(new._db)


def test_a_plan_brings_an_older_index_up_to_date_in_memory_alone(path: Path):
    _made_by_version_1(path)
    before = _files(path.parent)

    with Index(path, dry=True) as index:
        assert [row.path for row in index.all_rows()] == ["a"]

    assert _files(path.parent) == before


def test_a_migration_that_is_cut_leaves_the_old_index_and_comes_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    _made_by_version_1(path)
    steps = (*schema._MIGRATIONS[2][:-1], "SELECT cut()")
    with monkeypatch.context() as cut:
        cut.setattr(schema, "_MIGRATIONS", {2: steps})
        with pytest.raises(IndexDamagedError):
            Index(path)
    assert _version(path) == "1"
    path.with_name(f"{path.name}.v1.new").write_bytes(b"the half of a copy")

    with Index(path) as index:
        assert [row.path for row in index.all_rows()] == ["a"]
    assert set(_files(path.parent)) == {path.name, f"{path.name}.v1"}


def test_what_waits_in_quarantine_since_nobody_knows_when_waits_from_the_migration_on(path: Path):
    _made_by_version_1(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE quarantine SET quarantined_at = 'long ago'")
    database.close()

    with Index(path) as index:
        (item,) = index.quarantined()

    assert abs(datetime.now(UTC) - item.quarantined_at) < timedelta(minutes=5)


def test_an_index_of_a_newer_version_is_refused(path: Path):
    Index(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = ? WHERE name = 'version'", [schema.VERSION + 1])
    database.close()
    before = path.read_bytes()

    with pytest.raises(IndexBrokenError, match="cannot be used") as caught:
        Index(path)

    assert "newer version" in caught.value.why
    assert caught.value.exit_code is ExitCode.DESTINATION
    assert not isinstance(caught.value, IndexDamagedError)  # which would be made anew
    assert path.read_bytes() == before


def test_an_index_whose_names_follow_newer_rules_is_refused(path: Path):
    Index(path, name_rules=NAME_RULES_VERSION + 1).close()

    with pytest.raises(IndexBrokenError, match="cannot be used") as caught:
        Index(path)

    assert not isinstance(caught.value, IndexDamagedError)


@pytest.mark.parametrize("table", ["asset", "quarantine", "pending"])
def test_an_index_that_lacks_a_table_is_damaged(path: Path, table: str):
    Index(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"DROP TABLE {table}")
    database.close()

    with pytest.raises(IndexDamagedError, match="damaged") as caught:
        Index(path)

    assert table in caught.value.why


def test_a_row_that_makes_no_sense_is_damage(path: Path):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
        index._db.execute("UPDATE asset SET state = 'publishee'")

        with pytest.raises(sqlite3.DatabaseError) as caught:
            list(index.all_rows())

    assert schema.is_damage(caught.value)


def test_a_disk_that_fails_is_no_damage_of_the_index(tmp_path: Path):
    (tmp_path / "index.sqlite3").mkdir()

    with pytest.raises(IndexBrokenError) as caught:
        Index(tmp_path / "index.sqlite3")

    assert not isinstance(caught.value, IndexDamagedError)


def _cut(good: bytes) -> bytes:
    return good[: len(good) // 2]


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"this is no database, and long enough to see" * 100, id="garbage"),
        pytest.param(lambda _: b"short", id="a few bytes"),
        pytest.param(_cut, id="cut in half"),
        pytest.param(lambda good: good[:100], id="a header alone"),
    ],
)
def test_a_damaged_index_is_refused_and_left_as_it_is(path: Path, damage, *, dry: bool):
    with Index(path) as index:
        index.finish([a_row("a.jpg")])
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()

    with pytest.raises(IndexDamagedError) as caught:
        Index(path, dry=dry)

    assert str(path) in caught.value.what
    assert "made anew" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE photos (id)"],
        ["CREATE TABLE meta (name, value)"],
        ["CREATE TABLE meta (name, value)", "INSERT INTO meta VALUES ('version', 'one')"],
        ["CREATE TABLE meta (other)"],
        ["CREATE TABLE meta (name, value)", "INSERT INTO meta VALUES ('version', '0')"],
        ["CREATE TABLE meta (name, value)", "INSERT INTO meta VALUES ('version', '1')"],
        ["CREATE TABLE meta (name, value)", "INSERT INTO meta VALUES ('version', '2')"],
    ],
)
def test_a_database_of_something_else_is_refused(path: Path, statements: list[str], *, dry: bool):
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()

    with pytest.raises(IndexDamagedError):
        Index(path, dry=dry)


def test_an_empty_file_is_what_a_kill_at_birth_leaves_and_becomes_an_index(path: Path):
    path.touch()

    with Index(path) as index:
        index.finish([a_row("a.jpg")])

    with Index(path) as index:
        assert index.count() == 1


def test_times_keep_their_microseconds(index: Index):
    times = [NOW, NOW + timedelta(microseconds=1), datetime(1, 1, 1, tzinfo=UTC)]
    rows = [a_row(f"{number}", file_modified_at=time) for number, time in enumerate(times)]
    index.finish(rows)

    assert [row.file_modified_at for row in index.all_rows()] == times
