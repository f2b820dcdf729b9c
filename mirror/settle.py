"""A run begins by finishing what an earlier one had begun, from what lies on the disk."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror.core.layout import fold
from mirror.core.model import EntryKind, Row
from mirror.destinations import (
    MOVING,
    QUARANTINE,
    STATE,
    OpenDestination,
    concerns_path,
    unwritable,
)
from mirror.events import Event, emit
from mirror.index import Index, Pending, Quarantined

_MOVE: Final = "move"
_REPLACE: Final = "replace"


@dataclass(frozen=True, slots=True)
class _Settler:
    folder: OpenDestination
    dry: bool
    now: datetime
    coming: Mapping[str, Sequence[Row]]  # by folded path

    def is_done(self, pending: Pending) -> bool:
        """Whether the file has come to its path; a move is completed where that is possible now."""
        try:
            return self._is_done(pending)
        except OSError as error:
            # A path that the file system refuses, or a folder in its place: the plan will decide.
            if not concerns_path(error):
                raise unwritable(self.folder.where(pending.row.path), error) from error
            return False

    def _is_done(self, pending: Pending) -> bool:
        if not self._is_there(pending) and (
            pending.action != _MOVE or self.dry or not self._complete(pending)
        ):
            return False
        self._drop_second_name(pending)
        return True

    def give_back(self, pending: Pending) -> None:
        """A file that cannot get to its path any more does not stay parked."""
        parked = parking(pending.row.asset_id)
        if self.dry or pending.action != _MOVE or not self._lies(parked, pending.row):
            return
        try:
            self.folder.move(parked, pending.source)
        except OSError as error:
            if not concerns_path(error):
                raise unwritable(self.folder.where(pending.source), error) from error

    def clear(self, asset_id: str, row: Row | None) -> Quarantined | None:
        """What is parked without an intent goes back to its row, else where it will be found."""
        parked = parking(asset_id)
        sha1 = self.folder.sha1(parked)
        if row is not None and row.sha1 == sha1:
            if self.folder.entry(row.path) is None:
                self.folder.move(parked, row.path)
                return None
            if self._lies(row.path, row) and self.folder.sha1(row.path) == sha1:
                self.folder.drop(parked)  # it was downloaded again in the meantime
                return None
        aside = f"{STATE}/{QUARANTINE}/{MOVING}/{asset_id}"
        self.folder.set_aside(parked, aside)
        lying = self.folder.entry(aside)
        return Quarantined(
            path=aside,
            asset_id=asset_id,
            original_path=row.path if row else asset_id,
            sha1=sha1,
            size_bytes=lying.size_bytes if lying else 0,
            reason=_MOVE,
            quarantined_at=self.now,
        )

    def _is_there(self, pending: Pending) -> bool:
        row = pending.row
        if not self._lies(row.path, row):
            return self._was_touched(pending)
        # Photos of one moment may have the same size too: what is replaced, or moves elsewhere
        # itself, must not be taken for what comes.
        if pending.action == _REPLACE or any(self._is_rival(row, at) for at in _places(pending)):
            return self._holds(row)
        return True

    def _holds(self, row: Row) -> bool:
        try:
            return self.folder.sha1(row.path) == row.sha1
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # damaged, and about to be replaced: what comes can be read

    def _was_touched(self, pending: Pending) -> bool:
        """Whether it came, and only its time was changed since: as anywhere, the bytes decide."""
        row = pending.row
        entry = self.folder.entry(row.path)
        if entry is None or entry.kind is not EntryKind.FILE:
            return False
        if row.sha1 is None:  # never proved: then it has those that lie where it was
            return pending.action == _MOVE and self.folder.is_same_file(pending.source, row.path)
        return entry.size_bytes == row.size_bytes and self._holds(row)

    def _is_rival(self, row: Row, place: str) -> bool:
        return self._lies(place, row) and not self.folder.is_same_file(place, row.path)

    def _complete(self, pending: Pending) -> bool:
        if self.folder.entry(pending.row.path) is not None:
            return False
        for place in _places(pending):
            if self._lies(place, pending.row):
                self.folder.move(place, pending.row.path)
                return True
        return False

    def _lies(self, path: str, row: Row) -> bool:
        # Renames keep size and time, and what was downloaded was verified before its intent.
        entry = self.folder.entry(path) if path else None
        return (
            entry is not None
            and entry.kind is EntryKind.FILE
            and entry.size_bytes == row.size_bytes
            and entry.mtime_ns == row.mtime_ns
        )

    def _drop_second_name(self, pending: Pending) -> None:
        """Where renames must be links, a kill can leave a file with both of its names."""
        if not self.dry and pending.source and not self._is_awaited(pending.source, pending.row):
            end_move(self.folder, pending.source, pending.row.path)

    def _is_awaited(self, path: str, row: Row) -> bool:
        """Whether what lies at a path may be another asset's with the same bytes, come there."""
        return any(
            other.asset_id != row.asset_id and other.sha1 in (None, row.sha1)
            for other in self.coming.get(fold(path), ())
        )


def _places(pending: Pending) -> tuple[str, str]:
    """Where the file may lie while it has not come to its path."""
    return parking(pending.row.asset_id), pending.source


def parking(asset_id: str) -> str:
    """Where a file waits while the place it moves to becomes free."""
    return f"{STATE}/{MOVING}/{asset_id}"


def end_move(folder: OpenDestination, source: str, path: str) -> bool:
    """Whether a move was cut with the file at both of its paths; now it is at its new one alone.

    Raises:
        OSError: the destination refuses.
    """
    # Where case is folded, both are the only name that the file has.
    if fold(source) == fold(path) or not folder.is_same_file(source, path):
        return False
    folder.unlink_second_name(source, path)
    return True


def settle(folder: OpenDestination, index: Index, *, now: datetime, dry: bool = False) -> None:
    """Publish what had happened, drop what had not; `dry` looks and leaves every file alone.

    `now` is when what goes to quarantine begins to wait.

    Raises:
        UnwritableError: the destination cannot be read or written.
    """
    waiting = index.pending()
    settler = _Settler(folder, dry, now, _coming(waiting))
    done: list[Pending] = []
    # One move may make room for the next: until none gets any further.
    while finished := [pending for pending in waiting if settler.is_done(pending)]:
        done += finished
        waiting = [pending for pending in waiting if pending not in finished]
    for pending in waiting:
        settler.give_back(pending)
    if done or waiting:
        _record(done, waiting, folder, index, dry=dry)
    if not dry:
        _clear_parking(settler, index)
    for path in folder.gone([item.path for item in index.quarantined()]):
        index.drop_quarantined(path)


def _coming(waiting: Sequence[Pending]) -> dict[str, list[Row]]:
    coming: dict[str, list[Row]] = {}
    for pending in waiting:
        coming.setdefault(fold(pending.row.path), []).append(pending.row)
    return coming


def _clear_parking(settler: _Settler, index: Index) -> None:
    parked = settler.folder.work_files(MOVING)
    rows = index.rows(parked)
    if settler.folder.shard is not None:
        parked = list(rows)  # others are at work
    for asset_id in parked:
        try:
            found = settler.clear(asset_id, rows.get(asset_id))
        except OSError as error:
            raise unwritable(settler.folder.where(parking(asset_id)), error) from error
        if found is not None:
            index.add_quarantined(found)


def _record(
    done: Sequence[Pending],
    abandoned: Sequence[Pending],
    folder: OpenDestination,
    index: Index,
    *,
    dry: bool,
) -> None:
    before = index.rows(pending.row.asset_id for pending in done)
    if not dry:
        folder.make_durable()
    index.finish(
        [pending.row for pending in done],
        abandoned=[pending.row.asset_id for pending in abandoned],
    )
    for pending in done:
        row = pending.row
        if not dry and row.asset_id in before:
            folder.drop_empty_folders(before[row.asset_id].path)
        emit(
            "info",
            Event.INTENT_SETTLED,
            action=pending.action,
            asset_id=row.asset_id,
            path=row.path,
        )
