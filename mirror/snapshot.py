"""The whole of a SQLite database in memory, without a trace, also while a run writes it.

In WAL mode, opening the file itself would write beside it; so both files are copied first. Pages
that a writer moves from the log into the file are in the log as well until it begins the log anew:
a copy during which that did not happen is a whole one.
"""

import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

_MOST_COPIES: Final = 20
_PAUSE_S: Final = 0.02
_WAL_HEADER_BYTES: Final = 32  # salts and checkpoint number: https://sqlite.org/fileformat2.html


def load(path: Path, memory: sqlite3.Connection) -> None:
    """Fill an empty database with what the file and its log hold. Blocks.

    Raises:
        OSError, sqlite3.Error: it is not there, or cannot be read.
    """
    for _ in range(_MOST_COPIES):
        before = _generation(path)
        try:
            _copy(path, memory)
        except (OSError, sqlite3.DatabaseError):
            if _generation(path) == before:
                raise
        else:
            if _generation(path) == before:
                return
        time.sleep(_PAUSE_S)
    raise sqlite3.OperationalError("a run writes it faster than it can be copied")


def _generation(path: Path) -> tuple[object, ...]:
    """What changes when the log is begun anew or emptied; without a log, when the file does."""
    try:
        with _wal(path).open("rb") as file:
            return (file.read(_WAL_HEADER_BYTES),)
    except FileNotFoundError:
        found = path.stat()
        return (found.st_ino, found.st_size, found.st_mtime_ns)


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _copy(path: Path, memory: sqlite3.Connection) -> None:
    wal = _wal(path)
    if not wal.exists():
        _fill(memory, f"{path.absolute().as_uri()}?immutable=1")
        return
    with tempfile.TemporaryDirectory() as folder:  # the last commits of a run that goes on, or died
        for file in (path, wal):
            shutil.copyfile(file, Path(folder, file.name))
        _fill(memory, Path(folder, path.name).as_uri())


def _fill(memory: sqlite3.Connection, uri: str) -> None:
    with closing(sqlite3.connect(uri, uri=True)) as source:
        source.backup(memory)
