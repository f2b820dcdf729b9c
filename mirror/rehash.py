"""Files read again and held against their SHA-1, on two threads, longest unverified first.

What was verified is remembered as it goes: a run that is killed costs a few seconds of work.
"""

import asyncio
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mirror.core.batches import batches
from mirror.core.model import Entry, EntryKind, Row, RowState
from mirror.core.verify import Condition, Found, Verification, judge
from mirror.destinations import MARKER, OpenDestination
from mirror.events import Event, emit
from mirror.index import Index
from mirror.stopping import check_stopping
from mirror.threads import in_thread
from mirror.transfer import Progress

_THREADS: Final = 2
_MOST_FILES: Final = 32  # in one go on a thread
_MOST_BYTES: Final = 64 << 20  # but one file may be larger
_ROWS: Final = 500
_REMEMBERED_EACH_S: Final = 5.0
_MEDIUM_FAILED: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})

_EVENTS: Final = {
    Condition.DAMAGED: ("error", Event.ASSET_DAMAGED),
    Condition.DRIFTED: ("warning", Event.ASSET_DRIFTED),
    Condition.MISSING: ("warning", Event.ASSET_MISSING),
    Condition.UNREADABLE: ("warning", Event.ASSET_UNREADABLE),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What lies where a row's file belongs, with the SHA-1 of what could be read."""

    row: Row
    entry: Entry | None
    error: OSError | None = None

    @property
    def medium_failed(self) -> bool:
        """Whether the disk could not give the bytes that it has."""
        return self.error is not None and self.error.errno in _MEDIUM_FAILED

    @property
    def found(self) -> Found:
        """The same, judged."""
        condition = judge(self.row, self.entry, medium_failed=self.medium_failed)
        return Found(condition, self.row, _detail(condition, self), self.entry)


def look(folder: OpenDestination, row: Row) -> Look:
    """Read a row's file. Blocks.

    Raises:
        UnwritableError: nobody can tell what lies there.
        InterruptedRunError: the run is to stop.
    """
    before = folder.entry(row.path)
    while before is not None and before.kind is EntryKind.FILE:
        sha1, error = _sha1(folder, row.path)
        after = folder.entry(row.path)
        if after == before:
            return Look(row, replace(before, sha1=sha1), error)
        before = after  # somebody writes to it: what was read may be half of each
    return Look(row, before)


def _sha1(folder: OpenDestination, path: str) -> tuple[bytes | None, OSError | None]:
    try:
        return folder.sha1(path), None
    except OSError as error:
        if error.errno in _MEDIUM_FAILED:
            # A disk that is gone gives no file back: that says nothing of this one.
            folder.read_state(MARKER)
        return None, error


class Hasher:
    """Verifies rows of one destination."""

    def __init__(
        self,
        folder: OpenDestination,
        index: Index,
        report: Verification,
        progress: Progress,
        *,
        clock: Callable[[], datetime],
        until_s: float | None,
    ) -> None:
        """`clock` is this machine's; `until_s` by `time.monotonic`, None: until all is done."""
        self._folder = folder
        self._index = index
        self._report = report
        self._progress = progress
        self._clock = clock
        self._until_s = until_s
        self._rows: Iterator[Row] = iter(())
        self._wanted = 0  # files that are still to be found good
        self._under_way = 0
        self._verified: list[str] = []
        self._touched: list[Row] = []
        self._remembered_s = time.monotonic()

    async def run(self, files: Sequence[tuple[str, int]], quota: int) -> None:
        """Look at files, given by id and size, until `quota` of them are good or the time is over.

        The others do not count: they come first again next time, and would hold up all the rest.
        """
        self._wanted = quota
        self._rows = self.rows(asset_id for asset_id, _ in files)
        self._progress.plan(quota, sum(size_bytes for _, size_bytes in files[:quota]))
        workers = [asyncio.create_task(self._work()) for _ in range(_THREADS)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._remember()
            self._progress.plan(0, 0)
        if self.is_late:
            self._report.left += self._wanted

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._until_s is not None and time.monotonic() >= self._until_s

    def rows(self, asset_ids: Iterable[str]) -> Iterator[Row]:
        """Rows in the order of their ids, as they are wanted."""
        for batch in batches(asset_ids, _ROWS):
            found = self._index.rows(batch)
            yield from (found[asset_id] for asset_id in batch if asset_id in found)

    async def _work(self) -> None:
        while batch := self._batch():
            looks: list[Look] = []
            self._under_way += len(batch)
            try:
                await in_thread(self._look_at, batch, looks)
            finally:
                self._under_way -= len(batch)
                for each in looks:
                    self._take(each)
            if time.monotonic() - self._remembered_s > _REMEMBERED_EACH_S:
                self._remember()

    def _batch(self) -> list[Row]:
        """What to look at next; no more than are wanted, should all of them be good."""
        left = self._wanted - self._under_way
        most, size_bytes = min(_MOST_FILES, -(-left // _THREADS)), 0
        batch: list[Row] = []
        while len(batch) < most and size_bytes < _MOST_BYTES and not self.is_late:
            row = next(self._rows, None)
            if row is None:
                break
            batch.append(row)
            size_bytes += row.size_bytes
        return batch

    def _look_at(self, batch: Sequence[Row], looks: list[Look]) -> None:
        for row in batch:
            check_stopping()
            if looks and self.is_late:
                return
            looks.append(look(self._folder, row))

    def _take(self, each: Look) -> None:
        row, found = each.row, each.found
        if each.entry is not None and each.entry.sha1 is not None:
            self._report.read_bytes += each.entry.size_bytes
        self._progress.begin(row.asset_id, row.path, row.size_bytes)
        self._progress.advance(row.asset_id, row.size_bytes)
        self._progress.end(row.asset_id)
        if found.condition is not Condition.VERIFIED:
            self._report.add(found)
            tell(found)
            return
        self._report.counts[Condition.VERIFIED] += 1
        self._wanted -= 1
        entry = found.entry
        if entry is None or (entry.size_bytes, entry.mtime_ns) == (row.size_bytes, row.mtime_ns):
            self._verified.append(row.asset_id)
        else:
            self._touched.append(replace(row, mtime_ns=entry.mtime_ns, verified_at=self._clock()))

    def _remember(self) -> None:
        self._index.note_verified(self._verified, self._clock())
        if self._touched:
            self._index.finish(self._touched)
        self._verified, self._touched = [], []
        self._remembered_s = time.monotonic()


def tell(found: Found) -> None:
    """Log what is not as it should be."""
    level, event = _EVENTS[found.condition]
    emit(
        level,
        event,
        asset_id=found.row.asset_id,
        path=found.row.path,
        reason=found.detail,
    )


def _detail(condition: Condition, each: Look) -> str:
    row = each.row
    if condition is Condition.DAMAGED:
        if each.error is not None:
            return f"cannot be read: {each.error.strerror or each.error}"
        since = f", last on {row.verified_at:%F}" if row.verified_at else ""
        return f"not the bytes that were verified{since}; size and time are as they were"
    if condition is Condition.DRIFTED:
        return "changed since it was written; sync brings the original back and keeps this one too"
    if condition is Condition.MISSING:
        listed = row.state is RowState.PUBLISHED
        return "sync fetches it again" if listed else "its asset was not listed any more"
    if condition is Condition.UNREADABLE:
        return f"cannot be read: {each.error.strerror or each.error}" if each.error else ""
    return ""
