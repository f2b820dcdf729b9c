"""Other destinations of the same run, whose files need not be downloaded again."""

import sqlite3
from contextlib import suppress
from pathlib import Path

from mirror.destinations.folder import STATE


class Nearby:
    """One finished destination; its index is only read."""

    def __init__(self, root: Path, index: str) -> None:
        """`index` is the name of its index file."""
        self.root = root
        # Immutable: its run is over, and ours must leave no journal there.
        uri = f"{(root / STATE / index).as_uri()}?mode=ro&immutable=1"
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)

    def close(self) -> None:
        """Let go of the index."""
        self._db.close()

    def find(self, sha1: bytes) -> Path | None:
        """A file that is said to hold these bytes; whoever takes it hashes it."""
        found = None
        with suppress(sqlite3.Error):
            found = self._db.execute("SELECT path FROM asset WHERE sha1 = ?", (sha1,)).fetchone()
        return self.root / found[0].decode("utf-8", "surrogateescape") if found else None
