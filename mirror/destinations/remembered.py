"""What is known of objects beyond their listing: times and hashes, as long as the ETag is the same.

A cache, beside the index of a bucket: what is lost of it costs requests, and nothing else.
"""

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from mirror.core.batches import batches

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS object (path BLOB PRIMARY KEY, etag TEXT NOT NULL,"
    " size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha1 BLOB) WITHOUT ROWID"
)
_BATCH: Final = 500


class Known(NamedTuple):
    """One object, when it was last looked at."""

    etag: str
    size_bytes: int
    mtime_ns: int
    sha1: bytes | None  # as it was written beside it


class Remembered:
    """The objects of one bucket; in memory without a path."""

    def __init__(self, path: Path | None) -> None:
        """Open it; one that cannot be read is begun anew."""
        self._turn = threading.Lock()
        self._database = _opened(path)

    def close(self) -> None:
        """Let go of it."""
        self._database.close()

    def of(self, paths: Iterable[bytes]) -> dict[bytes, Known]:
        """What is known of these."""
        found: dict[bytes, Known] = {}
        with self._turn, suppress(sqlite3.Error):
            for batch in batches(paths, _BATCH):
                marks = ",".join("?" * len(batch))
                rows = self._database.execute(
                    f"SELECT path, etag, size_bytes, mtime_ns, sha1 FROM object WHERE path IN ({marks})",  # noqa: E501, S608 (only marks)
                    batch,
                )
                found.update({row[0]: Known(*row[1:]) for row in rows})
        return found

    def note(self, found: Iterable[tuple[bytes, Known]]) -> None:
        """Keep what was found out."""
        rows = [(path, *known) for path, known in found]
        with self._turn, suppress(sqlite3.Error), self._database:
            self._database.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?)", rows)


def _opened(path: Path | None) -> sqlite3.Connection:
    try:
        return _connected(path)
    except sqlite3.Error:
        if path is None:
            raise
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _connected(path)


def _connected(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA wal_autocheckpoint = 100")  # pages: originals need the room, too
        database.execute(_TABLE)
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database
