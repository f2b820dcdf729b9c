"""Files that leave: first to quarantine, and out of it when their days are over.

Record, file, row: what is about to leave is recorded before it moves, and its row goes when it has.
Safe to kill anywhere: a record without a file is dropped by the next run, a row without a file too.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from mirror.core.batches import batches
from mirror.core.model import Destination, EntryKind, OnGone, Row
from mirror.core.plan import Action
from mirror.destinations import QUARANTINE, STATE, OpenDestination, concerns_path, unwritable
from mirror.errors import ConflictError, DestinationError
from mirror.events import Event, emit
from mirror.index import Index, Quarantined

_BATCH: Final = 256


class Remover:
    """Takes files out of one destination."""

    def __init__(
        self, folder: OpenDestination, index: Index, *, run_id: str, now: datetime
    ) -> None:
        """`now` is the server's clock."""
        self._folder = folder
        self._index = index
        self._run_id = run_id
        self._now = now

    def remove(self, actions: Sequence[Action]) -> Iterator[tuple[Action, ConflictError | None]]:
        """Move files to quarantine; each action with what was in the way, if anything was. Blocks.

        Raises:
            DestinationError: the destination takes no more.
        """
        for batch in batches(actions, _BATCH):
            intact = [action for action in batch if self._is_intact(action)]
            with self._index.transaction():
                for action in intact:
                    self._index.add_quarantined(self._record(action))
            for action in batch:
                if action not in intact:
                    yield action, _changed(action)
            yield from self._set_aside(intact)

    def _set_aside(
        self, actions: Sequence[Action]
    ) -> Iterator[tuple[Action, ConflictError | None]]:
        """Move what is recorded; also when one stops all, those before it are told as moved."""
        done: list[tuple[Action, ConflictError | None]] = []
        broken: DestinationError | None = None
        for action in actions:
            try:
                done.append((action, self._move(action)))
            except DestinationError as error:
                broken = error
                break
        self._folder.make_durable()
        self._index.forget([action.asset_id for action, refused in done if refused is None])
        yield from done
        if broken is not None:
            raise broken

    def _is_intact(self, action: Action) -> bool:
        """Whether the file still is what the plan was made for; what is deleted is hashed again."""
        row = _row(action)
        entry = self._folder.entry(row.path)
        if entry is None or entry.kind is not EntryKind.FILE:
            return False
        if (entry.size_bytes, entry.mtime_ns) != (row.size_bytes, row.mtime_ns):
            return False
        if not _deletes(action):
            return True
        try:
            return self._folder.sha1(row.path) == row.sha1
        except OSError:
            return False

    def _record(self, action: Action) -> Quarantined:
        row = _row(action)
        return Quarantined(
            path=self._aside(row.path),
            asset_id=row.asset_id,
            original_path=row.path,
            sha1=row.sha1,
            size_bytes=row.size_bytes,
            reason=action.reason.value,
            quarantined_at=self._now,
            days=0 if _deletes(action) else None,
        )

    def _move(self, action: Action) -> ConflictError | None:
        """To quarantine; or why that cannot be."""
        path = _row(action).path
        try:
            self._folder.move(path, self._aside(path))
        except OSError as error:
            if not concerns_path(error):
                raise unwritable(self._folder.where(path), error) from error
            self._index.drop_quarantined(self._aside(path))
            return _refused(action, error)
        self._folder.drop_empty_folders(path)
        return None

    def _aside(self, path: str) -> str:
        return f"{STATE}/{QUARANTINE}/{self._run_id}/{path}"


def due(
    index: Index, destination: Destination, now: datetime, *, at_once: bool
) -> list[Quarantined]:
    """What has waited long enough, by our own record and the server's clock.

    A file's own time says nothing, and a clock that went back makes nothing due. What an earlier
    run was to delete at once, and did not get to, waits its days like the rest where this run may
    not delete (`at_once`): it can be the last copy of a photo that is back on the server.
    """
    waits = timedelta(days=destination.quarantine_days)
    return [
        item
        for item in index.quarantined()
        if now - item.quarantined_at
        >= (waits if item.days is None or not at_once else timedelta(days=item.days))
        and now >= item.quarantined_at
    ]


def purge(folder: OpenDestination, index: Index, items: Sequence[Quarantined]) -> int:
    """Delete files from quarantine for good; how many. Blocks.

    Raises:
        UnwritableError: the file system refuses.
    """
    for batch in batches(items, _BATCH):
        for item in batch:
            try:
                folder.drop(item.path)
            except OSError as error:
                raise unwritable(folder.where(item.path), error) from error
            folder.drop_empty_folders(item.path)
        with index.transaction():
            for item in batch:
                index.drop_quarantined(item.path)
        for item in batch:
            emit(
                "info",
                Event.QUARANTINE_PURGED,
                asset_id=item.asset_id or None,
                path=item.original_path,
                reason=item.reason,
                bytes=item.size_bytes,
            )
    return len(items)


def _deletes(action: Action) -> bool:
    return action.sentence is not None and action.sentence.disposal is OnGone.DELETE


def _row(action: Action) -> Row:
    if action.row is None:
        raise ValueError(f"no row: {action}")
    return action.row


def _changed(action: Action) -> ConflictError:
    return ConflictError(
        f"{action.path}: stays for now",
        why="it changed since the run began",
        hint="run again",
    )


def _refused(action: Action, error: OSError) -> ConflictError:
    return ConflictError(
        f"{action.path}: cannot be moved to quarantine",
        why=error.strerror or str(error),
        hint=f"run again; {STATE}/{QUARANTINE} must be a folder on the destination's own disk",
    )
