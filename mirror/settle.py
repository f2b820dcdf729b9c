"""A run begins by finishing what an earlier one had begun, from what lies on the disk."""

from dataclasses import dataclass
from typing import Final

from mirror.core.model import EntryKind, Row
from mirror.destinations.folder import MOVING, STATE, Folder
from mirror.events import Event, emit
from mirror.index import Index, Pending

_MOVE: Final = "move"


@dataclass(frozen=True, slots=True)
class _Settler:
    folder: Folder
    dry: bool

    def is_done(self, pending: Pending) -> bool:
        """Whether the file has come to its path; a move cut in the middle is completed."""
        if self._lies(pending.row.path, pending.row):
            self._drop_second_name(pending)
            return True
        if pending.action != _MOVE or self.dry:
            return False
        parked = parking(pending.row.asset_id)
        if not self._lies(parked, pending.row):
            return False
        if self.folder.entry(pending.row.path) is None:
            self.folder.move(parked, pending.row.path)
            return True
        if self.folder.entry(pending.source) is None:
            self.folder.move(parked, pending.source)
        return False

    def _lies(self, path: str, row: Row) -> bool:
        # Renames keep size and time, and what was downloaded was verified before its intent.
        entry = self.folder.entry(path)
        return (
            entry is not None
            and entry.kind is EntryKind.FILE
            and entry.size_bytes == row.size_bytes
            and entry.mtime_ns == row.mtime_ns
        )

    def _drop_second_name(self, pending: Pending) -> None:
        """Where renames must be links, a kill can leave a file with both of its names."""
        if self.dry or not pending.source:
            return
        if self.folder.is_same_file(pending.source, pending.row.path):
            self.folder.unlink_second_name(pending.source, pending.row.path)


def parking(asset_id: str) -> str:
    """Where a file waits while the place it moves to becomes free."""
    return f"{STATE}/{MOVING}/{asset_id}"


def settle(folder: Folder, index: Index, *, dry: bool = False) -> None:
    """Publish what had happened, drop what had not; `dry` looks and leaves every file alone."""
    settler = _Settler(folder, dry)
    done: list[Row] = []
    abandoned: list[str] = []
    for pending in index.pending():
        if settler.is_done(pending):
            done.append(pending.row)
            emit(
                "info",
                Event.INTENT_SETTLED,
                action=pending.action,
                asset_id=pending.row.asset_id,
                path=pending.row.path,
            )
        else:
            abandoned.append(pending.row.asset_id)
    if done or abandoned:
        index.finish(done, abandoned=abandoned)
    for item in list(index.quarantined()):
        if folder.entry(item.path) is None:
            index.drop_quarantined(item.path)
