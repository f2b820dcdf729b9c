"""Copies of an index: whether one is whole, and which of two was written later."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from mirror import schema, snapshot

_SERIAL: Final = "serial"  # the note that tells copies of an index by their age
_NO_SERIAL: Final = -1  # of what is no index
_QUERY: Final = "SELECT value FROM meta WHERE name = ?"


def serial_of(index: Path) -> int:
    """A number that grows with each copy that is made; negative where there is no sound index."""
    try:
        with closing(sqlite3.connect(":memory:")) as memory:
            snapshot.load(index, memory)
            is_whole = memory.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
            if not is_whole or schema.version(memory) is None:
                return _NO_SERIAL
            return _serial(memory)
    except (OSError, ValueError, sqlite3.Error):
        return _NO_SERIAL


def make_copy(index: Path, copy: Path) -> None:
    """Copy an index that nobody has open, with a new serial in both.

    Raises:
        OSError, sqlite3.Error: it cannot be.
    """
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(index)) as source, closing(sqlite3.connect(copy)) as new:
        # By the clock, for an index that was made anew knows of none; but never backwards.
        serial = max(time.time_ns() // 1000, _serial(source) + 1)
        with source:
            source.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_SERIAL, str(serial)))
        source.backup(new)


def _serial(database: sqlite3.Connection) -> int:
    found = database.execute(_QUERY, (_SERIAL,)).fetchone()
    return int(found[0]) if found and str(found[0]).isdecimal() else 0
