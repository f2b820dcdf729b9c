"""What an index is made of, and how one of an older version becomes one of today.

Functions take an open database and begin no transaction of their own.
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

VERSION: Final = 2

ROW_COLUMNS: Final = (
    "asset_id, owner_id, checksum, base, path, key, state, sha1, size_bytes, mtime_ns, etag,"
    " file_modified_us, reason, uploaded_us, still_id, verified_us, seen_trashed_us"
)
_ROW_TYPES: Final = """
    asset_id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL,
    checksum BLOB NOT NULL,
    base BLOB NOT NULL,
    path BLOB NOT NULL,
    key BLOB NOT NULL,
    state TEXT NOT NULL,
    sha1 BLOB,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    etag TEXT NOT NULL,
    file_modified_us INTEGER,
    reason TEXT NOT NULL,
    uploaded_us INTEGER,
    still_id TEXT NOT NULL,
    verified_us INTEGER,
    seen_trashed_us INTEGER
"""
QUARANTINE_COLUMNS: Final = (
    "path, asset_id, original_path, sha1, size_bytes, reason, quarantined_us, days"
)
_QUARANTINE_TYPES: Final = """
    path BLOB PRIMARY KEY,
    asset_id TEXT NOT NULL,
    original_path BLOB NOT NULL,
    sha1 BLOB,
    size_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL,
    quarantined_us INTEGER NOT NULL,
    days INTEGER
"""
_TABLES: Final[Mapping[str, str]] = {
    "meta": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "asset": _ROW_TYPES,
    "pending": f"{_ROW_TYPES}, action TEXT NOT NULL, source BLOB NOT NULL",
    "partial": "name TEXT PRIMARY KEY, etag TEXT NOT NULL",
    "failure": """
        asset_id TEXT PRIMARY KEY, checksum BLOB NOT NULL, etag TEXT NOT NULL,
        failed_us INTEGER NOT NULL
    """,
    "foreign_hash": """
        path BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        sha1 BLOB NOT NULL
    """,
    "pin": "kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, name)",
    "quarantine": _QUARANTINE_TYPES,
}
_INDEXES: Final = (
    "CREATE INDEX asset_path ON asset (path, size_bytes, mtime_ns)",
    "CREATE UNIQUE INDEX asset_key ON asset (key)",
    "CREATE INDEX asset_sha1 ON asset (sha1)",
)
# From the version before to the one that is the key. An older index has walked all of these steps:
# what a released version made is never changed here, only followed by another step.
_MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {
    2: (
        "ALTER TABLE asset ADD COLUMN seen_trashed_us INTEGER",
        "ALTER TABLE pending ADD COLUMN seen_trashed_us INTEGER",
        "ALTER TABLE quarantine RENAME TO quarantine_1",
        f"CREATE TABLE quarantine ({_QUARANTINE_TYPES}) WITHOUT ROWID",
        # What has no time that can be read begins its wait now.
        """INSERT INTO quarantine SELECT path, '', original_path, sha1, size_bytes, reason,
        CAST(coalesce(strftime('%s', quarantined_at), strftime('%s', 'now')) AS INTEGER) * 1000000,
        NULL FROM quarantine_1""",
        "DROP TABLE quarantine_1",
    ),
}
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class NotAnIndexError(sqlite3.DatabaseError):
    """What was read is SQLite's, perhaps, but no index of ours."""


def is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether the content is at fault, and not the disk or a permission."""
    if isinstance(error, NotAnIndexError | UnicodeDecodeError):
        return True
    if str(error).startswith("Could not decode to UTF-8"):  # Python's own words, without a code
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE  # the rest of it says where


def version(database: sqlite3.Connection) -> int | None:
    """The version that wrote it; None for a database without anything.

    Raises:
        NotAnIndexError: somebody else's.
    """
    if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return None
    try:
        query = "SELECT value FROM meta WHERE name = 'version'"
        found = database.execute(query).fetchone()
    except sqlite3.OperationalError as error:
        if not _concerns_content(error):
            raise
        raise NotAnIndexError("another program wrote it") from error
    if found is None or not str(found[0]).isdecimal():
        raise NotAnIndexError("another program wrote it")
    return int(found[0])


def create(database: sqlite3.Connection) -> None:
    """Make an empty index of today."""
    for name, columns in _TABLES.items():
        database.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
    for statement in _INDEXES:
        database.execute(statement)
    database.execute("INSERT INTO meta VALUES ('version', ?)", (str(VERSION),))


def migrate(database: sqlite3.Connection, older: int) -> None:
    """Take an index of an older version through every version since.

    Raises:
        NotAnIndexError: it is not what that version made.
    """
    try:
        for following in range(older + 1, VERSION + 1):
            for statement in _MIGRATIONS[following]:
                database.execute(statement)
    except (KeyError, sqlite3.IntegrityError, sqlite3.OperationalError) as error:
        if not _concerns_content(error):
            raise
        raise NotAnIndexError(f"it is not what version {older} made: {error}") from error
    database.execute("UPDATE meta SET value = ? WHERE name = 'version'", (str(VERSION),))


def check(database: sqlite3.Connection) -> None:
    """Refuse an index that lacks something, before anything is built on it.

    Raises:
        NotAnIndexError: a table, a column or an index is not there.
    """
    with closing(sqlite3.connect(":memory:")) as model:
        create(model)
        lacking = _definitions(model) - _definitions(database)
    if lacking:
        raise NotAnIndexError(f"it lacks {', '.join(sorted(lacking))}")


def keep(database: sqlite3.Connection, path: Path) -> None:
    """A durable copy under `path`: there as a whole, or not at all.

    Raises:
        OSError, sqlite3.Error: the disk refuses.
    """
    temporary = path.with_name(f"{path.name}.new")
    for left in (temporary, temporary.with_name(f"{temporary.name}-wal")):
        left.unlink(missing_ok=True)  # of a run that was killed here
    with closing(sqlite3.connect(temporary)) as copy:
        database.backup(copy)
    _sync(temporary)
    temporary.replace(path)
    with suppress(OSError):  # some file systems cannot sync a folder
        _sync(path.parent)


def _concerns_content(error: Exception) -> bool:
    """Whether a statement asked for what is not there; else the disk is at fault."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _definitions(database: sqlite3.Connection) -> set[str]:
    """The names of tables and indexes, and of every column as `table.column`."""
    told = database.execute("SELECT type, name FROM sqlite_master").fetchall()
    names = {str(name) for _, name in told}
    for kind, name in told:
        if kind == "table":
            query = "SELECT name FROM pragma_table_info(?)"
            names |= {f"{name}.{column}" for (column,) in database.execute(query, (name,))}
    return names
