"""Intent, file, done: verified partial files get their names, in batches.

One sync and one commit make a batch durable: before its files get their names they are on the disk
with their intents; the rows are published with the next batch, when the names are on the disk too.
"""

import asyncio
import errno
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mirror.core.model import Row
from mirror.core.plan import Action, Kind
from mirror.destinations import (
    QUARANTINE,
    STATE,
    OpenDestination,
    concerns_path,
    partial,
    unwritable,
)
from mirror.errors import ConflictError, MirrorError
from mirror.index import Index, Pending, Quarantined
from mirror.logs import printable
from mirror.threads import in_thread, side_by_side
from mirror.transfer import Received

_BATCH_FILES: Final = 256
_BATCH_AGE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Staged:
    """A verified partial file and the row it will have."""

    action: Action
    row: Row
    received: Received


@dataclass(slots=True)
class Published:
    """What became of a batch."""

    done: list[Staged] = field(default_factory=list)
    failed: list[tuple[Staged, MirrorError]] = field(default_factory=list)


class Publisher:
    """Collects what was fetched and puts it in place."""

    def __init__(
        self, folder: OpenDestination, index: Index, *, run_id: str, now: datetime
    ) -> None:
        """`now`: the server's clock, kept with what goes to quarantine."""
        self._folder = folder
        self._index = index
        self._run_id = run_id
        self._now = now
        self._staged: list[Staged] = []
        self._since_s = 0.0
        self._named: list[str] = []  # have their names, which are not on the disk for sure yet
        self._abandoned: list[str] = []
        self._published = Published()  # not told yet
        self._turn = asyncio.Lock()
        self.flushes = 0  # that gave any file its name

    async def stage(self, staged: Staged) -> Published:
        """Take a file over; now and then a batch gets its names, and that is returned."""
        if not self._staged:
            self._since_s = time.monotonic()
        self._staged.append(staged)
        full = len(self._staged) >= _BATCH_FILES
        if full or time.monotonic() - self._since_s > _BATCH_AGE_S:
            await self.flush()
        return self.take()

    async def flush(self) -> None:
        """Give every staged file its name."""
        async with self._turn:
            batch, self._staged = self._staged, []
            if not batch:
                return
            published = Published()
            try:
                await in_thread(self._publish, batch, published)
            finally:
                self._published.done += published.done
                self._published.failed += published.failed
            self.flushes += 1

    async def close(self) -> None:
        """The last batch, and the rows of all of them durably."""
        await self.flush()
        async with self._turn:
            await in_thread(self._finish, [])

    def take(self) -> Published:
        """What became of files since it was last asked, also where that ended with an error."""
        published, self._published = self._published, Published()
        return published

    # -- on a second thread ------------------------------------------------------------------------

    def _publish(self, batch: list[Staged], published: Published) -> None:
        self._finish(batch)
        with self._folder.batch():
            self._name(batch, published)

    def _name(self, batch: list[Staged], published: Published) -> None:
        def name(staged: Staged) -> None:
            self._name_one(staged, published)

        side_by_side(name, batch, at_once=self._folder.at_once)

    def _name_one(self, staged: Staged, published: Published) -> None:
        try:
            self._put(staged)
        except OSError as error:
            if not concerns_path(error):
                raise unwritable(self._folder.where(staged.row.path), error) from error
            self._abandoned.append(staged.row.asset_id)
            published.failed.append((staged, _refused(staged, error)))
        else:
            self._named.append(staged.row.asset_id)
            published.done.append(staged)

    def _finish(self, batch: list[Staged]) -> None:
        """The names of the last batch and the bytes of this one become durable together."""
        self._folder.make_durable()
        with self._index.transaction():
            self._index.publish(self._named, abandoned=self._abandoned)
            self._index.begin([_intent(staged) for staged in batch])
            for staged in batch:
                if staged.action.displaces:
                    self._index.add_quarantined(self._quarantined(staged.action))
        self._named, self._abandoned = [], []

    def _put(self, staged: Staged) -> None:
        action, source = staged.action, partial(staged.received.name)
        if action.displaces and action.row is not None:
            self._swap(action.row.path, source, staged.row.path)
        else:
            self._folder.move(source, staged.row.path)
        if action.kind is Kind.RESTORE:
            self._folder.drop(action.source)
            self._index.drop_quarantined(action.source)

    def _swap(self, old: str, source: str, path: str) -> None:
        """The old file goes to quarantine, unless the new one then cannot take its path."""
        aside = self._aside(old)
        self._folder.move(old, aside)
        try:
            self._folder.move(source, path)
        except OSError:
            self._folder.move(aside, old)
            self._index.drop_quarantined(aside)
            raise
        self._folder.drop_empty_folders(old)

    def _aside(self, path: str) -> str:
        return f"{STATE}/{QUARANTINE}/{self._run_id}/{path}"

    def _quarantined(self, action: Action) -> Quarantined:
        row = action.row
        if row is None:
            raise ValueError(f"nothing to displace: {action}")
        return Quarantined(
            path=self._aside(row.path),
            asset_id=row.asset_id,
            original_path=row.path,
            sha1=action.entry.sha1 if action.entry else row.sha1,
            size_bytes=action.entry.size_bytes if action.entry else row.size_bytes,
            reason=action.reason.value,
            quarantined_at=self._now,
        )


def _intent(staged: Staged) -> Pending:
    return Pending(staged.row, staged.action.kind.value, partial(staged.received.name))


def _refused(staged: Staged, error: OSError) -> ConflictError:
    path, why = printable(staged.row.path), error.strerror or str(error)
    if error.errno == errno.EILSEQ:
        return ConflictError(
            f"{path}: this name cannot be written there",
            why=why,
            hint='set names = "portable" for this mirror, or rename the photo in Immich',
        )
    taken = isinstance(error, FileExistsError)
    what = "something else lies there now" if taken else "the file system refuses this path"
    return ConflictError(
        f"{path}: {what}",
        why=why,
        hint="run again; if it repeats, rename the photo in Immich, or choose another layout",
    )
