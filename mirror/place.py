"""One destination, opened for one run: checked, ours, locked, and settled, in that order."""

from contextlib import ExitStack
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
from mirror.destinations.lock import locked
from mirror.events import Event, emit
from mirror.index import Index
from mirror.settle import settle

_INDEX: Final = "index.sqlite3"


class Place:
    """A destination in use; `with`, then `claim`.

    `folder` is None for a plan of a destination that does not exist yet; a dry place leaves
    everything as it was. `known` is None where nothing is remembered outside (`copy`).
    """

    def __init__(self, destination: Destination, known: Known | None, *, dry: bool) -> None:
        self._destination = destination
        self._root = Path(destination.path)
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
        if self._dry and not self._root.exists():
            return None
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._root, error) from error
        self.folder = self._stack.enter_context(Folder(self._root))
        marker = read_marker(self.folder)
        return (marker.user_id or None) if marker else None

    def claim(self, owner: Owner) -> None:
        """Make it this owner's, hold it, and finish what an earlier run had begun.

        Raises:
            NotMountedError, NotOursError: see `identity.claim`.
            LockedError: another run holds it.
        """
        if self.folder is None:
            self.index = self._stack.enter_context(Index(None))
            return
        claim(self.folder, self._known, owner)  # before anything is written
        if not self._dry:
            self.folder.prepare()
        if (self._root / STATE).is_dir():
            self._stack.enter_context(locked(self._root))
        if not self._dry:
            claimed = claim(self.folder, self._known, owner)
            write_marker(self.folder, self._known, claimed)
            _tell(self._root, claimed)
        index_path = self._root / STATE / _INDEX
        missing = self._dry and not index_path.exists()
        self.index = self._stack.enter_context(
            Index(None if missing else index_path, dry=self._dry)
        )
        settle(self.folder, self.index, dry=self._dry)
        self.is_ours = True


def _tell(root: Path, claimed: Claimed) -> None:
    if claimed.is_new:
        emit("info", Event.DESTINATION_NEW, destination=str(root))
    elif claimed.was_elsewhere:
        reason = "its marker was last seen at another path"
        emit("info", Event.DESTINATION_TAKEN_OVER, destination=str(root), reason=reason)
