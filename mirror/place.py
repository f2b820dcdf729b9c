"""One destination, opened for one run: checked, ours, locked, and settled, in that order."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from mirror.core.model import Destination
from mirror.core.names import NAME_RULES_VERSION
from mirror.destinations import OpenDestination, Site, site_of, unwritable
from mirror.destinations.identity import (
    Claimed,
    Known,
    Owner,
    check_seen,
    claim,
    probed,
    read_marker,
    write_marker,
)
from mirror.errors import IndexDamagedError
from mirror.events import Event, emit
from mirror.index import Index, broken, damaged
from mirror.recover import opened, remember, renewed
from mirror.settle import settle
from mirror.threads import in_thread

# What a fault of ours raises; and so does an index that says what nobody wrote.
_NONSENSE: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class Place:
    """A destination in use; `async with`, then `claim`.

    `folder` is None for a plan of a destination that does not exist yet; a dry place leaves
    everything as it was. `known` is None where nothing is remembered outside (`copy`).
    """

    def __init__(
        self,
        destination: Destination,
        known: Known | None,
        *,
        dry: bool,
        site: Site | None = None,
    ) -> None:
        """`site` None: by the path of the destination."""
        self._site = site or site_of(destination)
        self._require_mount = destination.require_mount
        self._known = known
        self._dry = dry
        self._stack = ExitStack()
        self._name_rules = NAME_RULES_VERSION
        self.folder: OpenDestination | None = None
        self.index: Index
        self._damage: IndexDamagedError | None = None  # of the index, as it turned out
        self.is_marked = False  # some mirror's, as far as `open` saw
        self.is_ours = False  # claimed: what lies there may be changed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # On a thread: a store may have to be told, and may not answer.
        await in_thread(self._stack.__exit__, kind, error, trace)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._site.name

    @property
    def has_index(self) -> bool:
        """Whether there is an index, or was before it was opened."""
        if self._site.index_path.exists():
            return True
        return self.folder is not None and self.folder.keeps_index

    def open(self, *, new_destination: bool) -> str | None:
        """Look at it; the id of the user whose it is, as far as its marker says.

        Raises:
            DestinationError: it must not, or cannot, be used.
        """
        self._site.check(require_mount=self._require_mount)
        folder = self._site.open()
        if folder is not None:
            self.folder = self._stack.enter_context(folder)
        marker = read_marker(folder) if folder else None
        self.is_marked = marker is not None
        check_seen(
            self._site.name,
            self._known,
            marked=marker is not None,
            new_destination=new_destination,
        )
        return (marker.user_id or None) if marker else None

    def claim(self, owner: Owner, now: datetime) -> None:
        """Make it this owner's, hold it, and finish what an earlier run had begun.

        `now` is when what goes to quarantine begins to wait.

        Raises:
            NotMountedError, NotOursError: see `identity.claim`.
            LockedError: another run holds it.
        """
        if self._dry:
            self._look(owner)
        else:
            self._hold(owner)
        if self.folder is not None:
            remember(self.folder, self.index, now=now, dry=self._dry)
            settle(self.folder, self.index, now=now, dry=self._dry)
        self.is_ours = True

    def _look(self, owner: Owner) -> None:
        """As if it were held, but without a trace."""
        if self.folder is not None:
            claimed = claim(self.folder, self._known, owner)
            self.folder.check_free()
            self.folder.fetch_index()
            self._name_rules = claimed.marker.name_rules
        self._open_index()

    def _hold(self, owner: Owner) -> None:
        folder = self.folder or self._made()
        if claim(folder, self._known, owner).is_new:
            # Before anything is written: a marker of ours would shut out whatever lies inside.
            folder.check_alone()
        folder.prepare()
        self._stack.enter_context(folder.locked())
        folder.fetch_index()
        claimed = probed(folder, claim(folder, self._known, owner))
        write_marker(folder, self._known, claimed)
        _tell(folder, claimed)
        self._stack.callback(self._leave_index, folder)  # closed by then, and still held
        self._name_rules = claimed.marker.name_rules
        self._open_index()

    def _open_index(self) -> None:
        index = opened(self._site.index_path, dry=self._dry, name_rules=self._name_rules)
        self.index = self._stack.enter_context(index)

    def _leave_index(self, folder: OpenDestination) -> None:
        """What turned out to be damaged in the middle of a run is not opened by the next one."""
        if self._damage is None:
            folder.keep_index()
        else:
            renewed(self._site.index_path, self._damage, name_rules=self._name_rules).close()

    def _made(self) -> OpenDestination:
        folder = self._stack.enter_context(self._site.make())
        self.folder = folder
        return folder

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What goes wrong with the file system or the index, in words for the user.

        Raises:
            DestinationError: instead of OSError and sqlite3.Error.
        """
        try:
            yield
        except _NONSENSE as error:
            if self._has_sound_index():
                raise  # our own fault
            self._damage = damaged(self._site.index_path, f"it made no sense: {error}")
            raise self._damage from error
        except sqlite3.Error as error:
            told = broken(self._site.index_path, error)
            if isinstance(told, IndexDamagedError):
                self._damage = told
            raise told from error
        except OSError as error:
            raise unwritable(self._site.name, error) from error

    def _has_sound_index(self) -> bool:
        index: Index | None = getattr(self, "index", None)
        return index is None or index.is_sound()


_ELSEWHERE: Final = "its marker was last seen at another path"
_UNKNOWN: Final = "it was mirrored to before, and this user's state directory did not know it"


def _tell(folder: OpenDestination, claimed: Claimed) -> None:
    if claimed.is_new:
        abilities = claimed.marker.abilities
        told = asdict(abilities) if abilities else None
        emit("info", Event.DESTINATION_NEW, destination=folder.name, abilities=told)
    elif claimed.is_taken_over:
        reason = _ELSEWHERE if claimed.was_elsewhere else _UNKNOWN
        emit("info", Event.DESTINATION_TAKEN_OVER, destination=folder.name, reason=reason)
