"""One destination, opened for one run: checked, ours, locked, and settled, in that order."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mirror.core.model import Destination
from mirror.destinations.folder import STATE, Folder, unwritable
from mirror.destinations.identity import (
    Claimed,
    Known,
    Owner,
    check_place,
    claim,
    read_marker,
    write_marker,
)
from mirror.destinations.lock import check_free, locked
from mirror.events import Event, emit
from mirror.index import Index, broken
from mirror.settle import settle

INDEX: Final = "index.sqlite3"


class Place:
    """A destination in use; `with`, then `claim`.

    `folder` is None for a plan of a destination that does not exist yet; a dry place leaves
    everything as it was. `known` is None where nothing is remembered outside (`copy`).
    """

    def __init__(self, destination: Destination, known: Known | None, *, dry: bool) -> None:
        self._destination = destination
        self._root = Path(destination.path)
        self._index_path = self._root / STATE / INDEX
        self._known = known
        self._dry = dry
        self._stack = ExitStack()
        self.folder: Folder | None = None
        self.index: Index
        self.is_ours = False  # claimed: what lies there may be changed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def open(self, *, new_destination: bool) -> str | None:
        """Look at it; the id of the user whose it is, as far as its marker says.

        Raises:
            DestinationError: it must not, or cannot, be used.
        """
        check_place(self._destination, self._known, new_destination=new_destination)
        if not self._root.exists():
            return None
        self.folder = self._stack.enter_context(Folder(self._root))
        marker = read_marker(self.folder)
        return (marker.user_id or None) if marker else None

    def claim(self, owner: Owner) -> None:
        """Make it this owner's, hold it, and finish what an earlier run had begun.

        Raises:
            NotMountedError, NotOursError: see `identity.claim`.
            LockedError: another run holds it.
        """
        if self._dry:
            self._look(owner)
        else:
            self._hold(owner)
        if self.folder is not None:
            settle(self.folder, self.index, dry=self._dry)
        self.is_ours = True

    def _look(self, owner: Owner) -> None:
        """As if it were held, but without a trace."""
        if self.folder is not None:
            claim(self.folder, self._known, owner)
            check_free(self._root)
        exists = self._index_path.exists()
        self.index = self._stack.enter_context(
            Index(self._index_path if exists else None, dry=True)
        )

    def _hold(self, owner: Owner) -> None:
        folder = self.folder or self._made()
        claim(folder, self._known, owner)  # before anything is written
        folder.prepare()
        self._stack.enter_context(locked(self._root))
        claimed = claim(folder, self._known, owner)
        write_marker(folder, self._known, claimed)
        _tell(self._root, claimed)
        self.index = self._stack.enter_context(Index(self._index_path))

    def _made(self) -> Folder:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._root, error) from error
        self.folder = self._stack.enter_context(Folder(self._root))
        return self.folder

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What goes wrong with the file system or the index, in words for the user.

        Raises:
            DestinationError: instead of OSError and sqlite3.Error.
        """
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # our own fault
        except sqlite3.Error as error:
            raise broken(self._index_path, error) from error
        except OSError as error:
            raise unwritable(self._root, error) from error


def _tell(root: Path, claimed: Claimed) -> None:
    if claimed.is_new:
        emit("info", Event.DESTINATION_NEW, destination=str(root))
    elif claimed.was_elsewhere:
        reason = "its marker was last seen at another path"
        emit("info", Event.DESTINATION_TAKEN_OVER, destination=str(root), reason=reason)
