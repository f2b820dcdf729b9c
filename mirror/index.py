"""What a destination remembers: SQLite beside the tree, one row for every asset it keeps.

Opened only by the holder of the destination's lock, exclusively and without shared memory, so that
it works on network file systems too. Losing it costs time, never data: a run without an index
hashes what lies there and adopts it.

Intent, file, done: before a path changes, the row it is about to have is committed as *pending*;
then the file changes; then the row is committed as published and the pending one goes.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from weakref import WeakSet

from mirror import schema, snapshot
from mirror.core.batches import batches
from mirror.core.compare import Recorded
from mirror.core.layout import NAME_RULES_VERSION, fold
from mirror.core.model import Entry, Row, RowState
from mirror.errors import DestinationError, IndexBrokenError, IndexDamagedError
from mirror.room import full, is_full
from mirror.schema import QUARANTINE_COLUMNS, ROW_COLUMNS

_BATCH: Final = 500  # SQLite's default limit of variables is far above
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)  # made anew, it costs ten times the division

FRESH: Final = "fresh"  # the note of an index that was not told yet what lies about

_ID: Final = 0  # where in a row's values
_KEY: Final = 5
_OUTDATED: Final = "INSERT OR REPLACE INTO meta VALUES ('manifest', 'outdated')"


@dataclass(frozen=True, slots=True)
class Pending:
    """A row as it is about to be, the action that makes it so, and where the bytes come from."""

    row: Row
    action: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An original that came damaged: not fetched again until its ETag changes, or for some days."""

    asset_id: str
    checksum: bytes
    etag: str
    failed_at: datetime  # by the server's clock


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was set aside, and when by our own record: a file's time says nothing of that."""

    path: str
    asset_id: str  # empty: not known
    original_path: str
    sha1: bytes | None
    size_bytes: int
    reason: str
    quarantined_at: datetime  # by the server's clock, where a run could ask it
    days: int | None = None  # how long it waits at most; None: as the destination says


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a destination keeps, in numbers."""

    files: int
    size_bytes: int
    retained_files: int  # of them, those whose asset is no longer listed
    retained_bytes: int
    verified_files: int  # of them, those whose bytes were compared with their SHA-1 at least once
    oldest_verified_at: datetime | None  # of these, the one that was compared longest ago
    newest_uploaded_at: datetime | None
    damaged: int  # originals that came damaged from the server
    quarantined_files: int
    quarantined_bytes: int

    @property
    def verified_share(self) -> float:
        """The part of the files that was compared, from 0 to 1; of no files it is all."""
        return self.verified_files / self.files if self.files else 1.0


class Index:
    """One destination's memory. Methods may be called from one thread at a time or several."""

    def __init__(
        self, path: Path | None, *, dry: bool = False, name_rules: int = NAME_RULES_VERSION
    ) -> None:
        """Open or create; `path` None keeps it in memory, `dry` works on a copy in memory.

        `name_rules` are those of a tree that has no index yet; an index that exists has its own.

        Raises:
            IndexDamagedError: it is no index of ours, or not any more.
            IndexBrokenError: a newer version wrote it, or it cannot be opened.
        """
        self.migrated_from: int | None = None  # the older version that it was
        self._path = path
        self._dry = dry
        self._lock = threading.RLock()
        self._depth = 0
        self._streams: WeakSet[sqlite3.Cursor] = WeakSet()
        try:
            self._db = _copied(path) if dry and path is not None else _connect(path)
            with _closed_on_error(self._db):
                self._prepare(name_rules)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # of a message that quotes the file
            raise broken(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, also when somebody still holds an iterator: an error's traceback."""
        for stream in self._streams:
            stream.close()
        self._db.close()

    def give_room_back(self) -> None:
        """Let go of the room that the log of changes takes, as far as that can be."""
        with self._lock, suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside is committed at once, durably, or not at all."""
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
            except BaseException:
                self._db.rollback()
                raise
            else:
                self._db.commit()
            finally:
                self._depth = 0

    # -- reading -----------------------------------------------------------------------------------

    def count(self) -> int:
        """How many rows there are."""
        found: tuple[int] = self._db.execute("SELECT count(*) FROM asset").fetchone()
        return found[0]

    def counts(self) -> tuple[int, int]:
        """How many rows are of assets that the last run found listed, and how many of others."""
        query = "SELECT count(*) FILTER (WHERE state = ?1), count(*) FILTER (WHERE state != ?1)"
        found: tuple[int, int] = self._db.execute(
            f"{query} FROM asset", (RowState.PUBLISHED,)
        ).fetchone()
        return found

    def recorded(self) -> Iterator[Recorded]:
        """Path, size and mtime of every row, in byte order of the path."""
        query = "SELECT path, size_bytes, mtime_ns, asset_id FROM asset ORDER BY path"
        return iter(self._stream(query))

    def rows(self, asset_ids: Iterable[str]) -> dict[str, Row]:
        """The rows of these assets that exist, by id."""
        found = self._many(f"SELECT {ROW_COLUMNS} FROM asset WHERE asset_id IN (%s)", asset_ids)
        return {row.asset_id: row for row in map(_row, found)}

    def all_rows(self) -> Iterator[Row]:
        """Every row, in byte order of the path."""
        return map(_row, self._stream(f"SELECT {ROW_COLUMNS} FROM asset ORDER BY path"))

    def dated(self) -> Iterator[tuple[str, int]]:
        """Base path and mtime of every row, but for the videos of live photos; in no order."""
        query = "SELECT base, mtime_ns FROM asset WHERE still_id = ''"
        return ((_text(base), mtime_ns) for base, mtime_ns in self._stream(query))

    def asset_ids(self) -> Iterator[str]:
        """The id of every row."""
        return (asset_id for (asset_id,) in self._stream("SELECT asset_id FROM asset"))

    def stalest(self, now: datetime, *, proved: bool) -> list[tuple[str, int]]:
        """Id and size of the rows whose SHA-1 is known, or is not; longest unverified first.

        What was verified in a future that is more than a day away was so by a clock that was
        wrong: it comes first, with what never was.
        """
        query = (
            "SELECT asset_id, size_bytes FROM asset WHERE (sha1 IS NOT NULL) = ?"
            " ORDER BY CASE WHEN verified_us <= ? THEN verified_us END, path"
        )
        return self._db.execute(query, (proved, _us(now + timedelta(days=1)))).fetchall()

    def holders(self, keys: Iterable[str]) -> dict[str, str]:
        """Which assets have these folded paths."""
        found = self._many("SELECT key, asset_id FROM asset WHERE key IN (%s)", map(_blob, keys))
        return {_text(key): asset_id for key, asset_id in found}

    def with_sha1(self, digests: Iterable[bytes]) -> list[Row]:
        """The rows whose file has one of these checksums."""
        return [
            _row(found)
            for found in self._many(
                f"SELECT {ROW_COLUMNS} FROM asset WHERE sha1 IN (%s) ORDER BY path", digests
            )
        ]

    def pending(self) -> list[Pending]:
        """What an earlier run had begun and not finished."""
        query = f"SELECT {ROW_COLUMNS}, action, source FROM pending ORDER BY path"
        return [
            Pending(_row(found[:-2]), found[-2], _text(found[-1]))
            for found in self._db.execute(query)
        ]

    def failures(self) -> dict[str, Failure]:
        """Assets whose original is damaged at the source, by id."""
        query = "SELECT asset_id, checksum, etag, failed_us FROM failure"
        return {
            asset_id: Failure(asset_id, checksum, etag, _at(failed_us))
            for asset_id, checksum, etag, failed_us in self._db.execute(query)
        }

    def partial_etag(self, name: str) -> str:
        """The ETag under which a partial file was begun, or an empty string."""
        query = "SELECT etag FROM partial WHERE name = ?"
        found: tuple[str] | None = self._db.execute(query, (name,)).fetchone()
        return found[0] if found else ""

    def foreign_sha1(self, entry: Entry) -> bytes | None:
        """The hash of a foreign file, if it was taken when the file looked the same."""
        query = "SELECT sha1 FROM foreign_hash WHERE path = ? AND size_bytes = ? AND mtime_ns = ?"
        told = (_blob(entry.path), entry.size_bytes, entry.mtime_ns)
        found: tuple[bytes] | None = self._db.execute(query, told).fetchone()
        return found[0] if found else None

    @property
    def manifest_is_outdated(self) -> bool:
        """Whether rows changed since the list of checksums was written, by whichever run."""
        query = "SELECT count(*) FROM meta WHERE name = 'manifest'"
        found: tuple[int] = self._db.execute(query).fetchone()
        return bool(found[0])

    def pins(self) -> dict[tuple[str, str], str]:
        """The ids that names of people, albums and tags stood for when they were first used."""
        query = "SELECT kind, name, id FROM pin"
        return {(kind, name): pinned for kind, name, pinned in self._db.execute(query)}

    def quarantined(self) -> Iterator[Quarantined]:
        """Every file in quarantine, oldest first."""
        query = f"SELECT {QUARANTINE_COLUMNS} FROM quarantine ORDER BY quarantined_us, path"
        for path, asset_id, original_path, sha1, size_bytes, reason, at_us, days in self._stream(
            query
        ):
            yield Quarantined(
                _text(path), asset_id, _text(original_path), sha1, size_bytes, reason,
                _at(at_us), days,
            )  # fmt: skip

    @property
    def name_rules(self) -> int:
        """The version of the rules under which the tree got its names."""
        try:
            return int(self.note("name_rules") or 1)
        except ValueError as error:
            raise schema.NotAnIndexError("its name rules are not a number") from error

    def note(self, name: str) -> str:
        """What was remembered under a name, or an empty string."""
        query = "SELECT value FROM meta WHERE name = ?"
        found: tuple[str] | None = self._db.execute(query, (name,)).fetchone()
        return found[0] if found else ""

    def is_sound(self) -> bool:
        """Whether it reads as it was written, all of it; for whoever doubts what it said."""
        try:
            return self._db.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)]
        except sqlite3.Error:
            return False

    def stored(self) -> Stored:
        """Everything that is kept, summed up."""
        files = self._one(
            "SELECT count(*) AS files, coalesce(sum(size_bytes), 0) AS size_bytes,"
            " count(*) FILTER (WHERE state = 'retained') AS retained_files,"
            " coalesce(sum(size_bytes) FILTER (WHERE state = 'retained'), 0) AS retained_bytes,"
            " count(verified_us) AS verified_files,"
            " min(verified_us) AS verified_us, max(uploaded_us) AS uploaded_us FROM asset"
        )
        quarantine = self._one(
            "SELECT count(*) AS quarantined_files,"
            " coalesce(sum(size_bytes), 0) AS quarantined_bytes FROM quarantine"
        )
        return Stored(
            oldest_verified_at=_time(files.pop("verified_us")),
            newest_uploaded_at=_time(files.pop("uploaded_us")),
            **self._one("SELECT count(*) AS damaged FROM failure"),
            **files,
            **quarantine,
        )

    # -- writing -----------------------------------------------------------------------------------

    def begin(self, intents: Sequence[Pending]) -> None:
        """Record what is about to happen, before it does."""
        marks = ",".join("?" * (ROW_COLUMNS.count(",") + 3))
        with self.transaction():
            self._db.executemany(
                f"INSERT OR REPLACE INTO pending ({ROW_COLUMNS}, action, source) VALUES ({marks})",
                [(*_values(it.row), it.action, _blob(it.source)) for it in intents],
            )

    def finish(self, rows: Iterable[Row], *, abandoned: Iterable[str] = ()) -> None:
        """Publish rows and drop their intents, and those of the assets that were abandoned.

        A row that still has one of the paths loses it, and so goes: its file has left that path
        already, or was never there.
        """
        values = [_values(row) for row in rows]
        ids = [value[_ID] for value in values]
        marks = ",".join("?" * (ROW_COLUMNS.count(",") + 1))
        with self.transaction():
            # Two rows may exchange paths in one step: the unique key must not see the half of it.
            self._for_all("DELETE FROM asset WHERE asset_id IN (%s)", ids)
            self._for_all("DELETE FROM asset WHERE key IN (%s)", [value[_KEY] for value in values])
            self._db.executemany(f"INSERT INTO asset ({ROW_COLUMNS}) VALUES ({marks})", values)
            self._end(ids, abandoned)

    def publish(self, asset_ids: Iterable[str], *, abandoned: Iterable[str] = ()) -> None:
        """As `finish`, with the rows as they were begun."""
        ids = list(asset_ids)
        begun = "FROM pending WHERE asset_id IN (%s)"
        with self.transaction():
            self._for_all("DELETE FROM asset WHERE asset_id IN (%s)", ids)
            self._for_all(f"DELETE FROM asset WHERE key IN (SELECT key {begun})", ids)
            self._for_all(f"INSERT INTO asset ({ROW_COLUMNS}) SELECT {ROW_COLUMNS} {begun}", ids)
            self._end(ids, abandoned)

    def _end(self, done: Sequence[object], abandoned: Iterable[str]) -> None:
        self._for_all("DELETE FROM pending WHERE asset_id IN (%s)", [*done, *abandoned])
        self._for_all("DELETE FROM failure WHERE asset_id IN (%s)", done)
        if done:
            self._db.execute(_OUTDATED)

    def forget(self, asset_ids: Iterable[str]) -> None:
        """Drop rows; their files, if any, are foreign from now on."""
        with self.transaction():
            self._db.executemany(
                "DELETE FROM asset WHERE asset_id = ?", [(asset_id,) for asset_id in asset_ids]
            )
            self._db.execute(_OUTDATED)

    def rebind(self, pairs: Iterable[tuple[str, Row]]) -> None:
        """Give rows a new id: (the old id, the row under its new one)."""
        with self.transaction():
            for old_id, row in pairs:
                self.forget([old_id])
                self.finish([row])

    def note_trashed(self, asset_ids: Iterable[str], now: datetime) -> None:
        """Remember since when assets are in the server's trash."""
        told = [(_us(now), asset_id) for asset_id in asset_ids]
        query = (
            "UPDATE asset SET seen_trashed_us = ? WHERE asset_id = ? AND seen_trashed_us IS NULL"
        )
        if told:
            with self.transaction():
                self._db.executemany(query, told)

    def note_verified(self, asset_ids: Iterable[str], now: datetime) -> None:
        """Remember that files held their bytes."""
        told = [(_us(now), asset_id) for asset_id in asset_ids]
        if told:
            with self.transaction():
                self._db.executemany("UPDATE asset SET verified_us = ? WHERE asset_id = ?", told)

    def note_partial(self, name: str, etag: str) -> None:
        """Remember the ETag of a large download, so that it can be resumed."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO partial VALUES (?, ?)", (name, etag))

    def keep_partials(self, names: Iterable[str]) -> None:
        """Forget the ETags of all downloads but these."""
        kept = set(names)
        known = [name for (name,) in self._db.execute("SELECT name FROM partial")]
        ended = [(name,) for name in known if name not in kept]
        if ended:
            with self.transaction():
                self._db.executemany("DELETE FROM partial WHERE name = ?", ended)

    def outdate_manifest(self) -> None:
        """Let the list of checksums be written again: it tells of an index that was lost."""
        with self.transaction():
            self._db.execute(_OUTDATED)

    def note_manifest(self) -> None:
        """Remember that the list of checksums tells what the rows tell."""
        self.drop_note("manifest")

    def note_failure(self, failure: Failure) -> None:
        """Remember an original that is damaged at the source."""
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?)",
                (failure.asset_id, failure.checksum, failure.etag, _us(failure.failed_at)),
            )

    def note_foreign(self, entries: Iterable[Entry]) -> None:
        """Remember the hashes of foreign files."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO foreign_hash VALUES (?, ?, ?, ?)",
                [(_blob(it.path), it.size_bytes, it.mtime_ns, it.sha1) for it in entries],
            )

    def pin(self, pins: Mapping[tuple[str, str], str]) -> None:
        """Remember what names stand for."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO pin VALUES (?, ?, ?)",
                [(kind, name, pinned) for (kind, name), pinned in pins.items()],
            )

    def add_quarantined(self, item: Quarantined) -> None:
        """Record a file that was set aside."""
        with self.transaction():
            self._db.execute(
                f"INSERT OR REPLACE INTO quarantine ({QUARANTINE_COLUMNS})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    _blob(item.path), item.asset_id, _blob(item.original_path), item.sha1,
                    item.size_bytes, item.reason, _us(item.quarantined_at), item.days,
                ),
            )  # fmt: skip

    def drop_quarantined(self, path: str) -> None:
        """Forget a file that left quarantine."""
        with self.transaction():
            self._db.execute("DELETE FROM quarantine WHERE path = ?", (_blob(path),))

    def take_note(self, name: str, value: str) -> None:
        """Remember a value under a name."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def keep_note(self, name: str, value: str) -> None:
        """The same, and nothing is written where it is remembered already."""
        if self.note(name) != value:
            self.take_note(name, value)

    def drop_note(self, name: str) -> None:
        """Remember nothing under a name any more."""
        with self.transaction():
            self._db.execute("DELETE FROM meta WHERE name = ?", (name,))

    # -- inside ------------------------------------------------------------------------------------

    def _prepare(self, name_rules: int) -> None:
        found = schema.version(self._db)
        if found is None:
            with self.transaction():
                schema.create(self._db)
                self.take_note("name_rules", str(name_rules))
                self.take_note(FRESH, "new")
            return
        if found > schema.VERSION or self.name_rules > NAME_RULES_VERSION:
            raise _newer(self._path, found)
        if found < schema.VERSION:
            self._migrate(found)
        schema.check(self._db)

    def _migrate(self, version: int) -> None:
        """Bring an older index up to date, in one step; the old one is kept beside it."""
        if self._path is not None and not self._dry:
            schema.keep(self._db, self._path.with_name(f"{self._path.name}.v{version}"))
        with self.transaction():
            schema.migrate(self._db, version)
        self.migrated_from = version

    def _stream(self, query: str) -> sqlite3.Cursor:
        cursor = self._db.execute(query)
        self._streams.add(cursor)
        return cursor

    def _one(self, query: str) -> dict[str, Any]:
        """The only row of an answer, by the names of its columns."""
        cursor = self._db.execute(query)
        return dict(zip((told[0] for told in cursor.description), cursor.fetchone(), strict=True))

    def _for_all(self, query: str, values: Iterable[object]) -> None:
        """Write once for all of them: each statement lets another thread in, and waits for it."""
        for batch in batches(values, _BATCH):
            self._db.execute(query.replace("%s", ",".join("?" * len(batch))), batch)

    def _many(self, query: str, values: Iterable[object]) -> Iterator[tuple[Any, ...]]:
        for batch in batches(values, _BATCH):
            marks = ",".join("?" * len(batch))
            # Not `yield from`, which would close a cursor whose database is closed already.
            for found in self._db.execute(query.replace("%s", marks), batch):  # noqa: UP028
                yield found


def _connect(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(
        ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
    )
    with _closed_on_error(database):
        # Exclusive before WAL: SQLite then needs no shared memory, which network file systems lack.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA temp_store = MEMORY")
    return database


@contextmanager
def _closed_on_error(database: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


def _copied(path: Path) -> sqlite3.Connection:
    memory = _connect(None)
    with _closed_on_error(memory):
        snapshot.load(path, memory)
    return memory


def broken(path: Path | None, error: sqlite3.Error | UnicodeDecodeError) -> DestinationError:
    """What a failure of SQLite means to a user."""
    name = getattr(error, "sqlite_errorname", "")
    # A full disk is often but an I/O error to it.
    is_for_room = name.startswith("SQLITE_IOERR") and path is not None and is_full(path)
    if name == "SQLITE_FULL" or is_for_room:
        return full(str(path), str(error))
    if schema.is_damage(error):
        return damaged(path, str(error))
    return IndexBrokenError(
        f"{path}: the index cannot be used",
        why=str(error),
        hint="check that this user may write there and that the disk is sound, and run again",
    )


def damaged(path: Path | None, why: str) -> IndexDamagedError:
    """It is no index of ours, or not any more."""
    return IndexDamagedError(
        f"{path}: the index is damaged",
        why=why,
        hint="run `mirror sync`: it is made anew from what lies there, and nothing comes twice",
    )


def _newer(path: Path | None, version: int) -> IndexBrokenError:
    return IndexBrokenError(
        f"{path}: the index cannot be used",
        why=f"a newer version of mirror wrote it ({version})",
        hint=(
            "update mirror; or move the index away: the next run hashes what lies there"
            " and downloads nothing twice"
        ),
    )


def _blob(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _values(row: Row) -> tuple[object, ...]:
    return (
        row.asset_id,
        row.owner_id,
        row.checksum,
        _blob(row.base),
        _blob(row.path),
        _blob(fold(row.path)),
        row.state.value,
        row.sha1,
        row.size_bytes,
        row.mtime_ns,
        row.etag,
        _us(row.file_modified_at),
        row.reason,
        _us(row.uploaded_at),
        row.still_id,
        _us(row.verified_at),
        _us(row.seen_trashed_at),
    )


def _row(found: Sequence[Any]) -> Row:
    (
        asset_id, owner_id, checksum, base, path, _, state, sha1, size_bytes, mtime_ns, etag,
        file_modified_us, reason, uploaded_us, still_id, verified_us, seen_trashed_us,
    ) = found  # fmt: skip
    try:
        state = RowState(state)
    except ValueError as error:
        raise schema.NotAnIndexError(str(error)) from error
    return Row(
        asset_id=asset_id,
        owner_id=owner_id,
        checksum=checksum,
        base=_text(base),
        path=_text(path),
        state=state,
        sha1=sha1,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        etag=etag,
        file_modified_at=_time(file_modified_us),
        reason=reason,
        uploaded_at=_time(uploaded_us),
        still_id=still_id,
        verified_at=_time(verified_us),
        seen_trashed_at=_time(seen_trashed_us),
    )


def _us(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _at(microseconds)


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
