"""Files that are fetched again: damaged ones, and those of which nobody knew the SHA-1.

New bytes are verified, then what lay there goes to quarantine, then they take its path.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mirror.budget import Budget
from mirror.core import checksum
from mirror.core.guard import Allowed, Circumstances, guard
from mirror.core.model import Asset, Destination, Row
from mirror.core.plan import Action, Kind, Plan, Reason
from mirror.core.verify import Condition, Found, Verification
from mirror.destinations import OpenDestination, partial
from mirror.errors import (
    AssetError,
    ChecksumMismatchError,
    MirrorError,
    NotImmichError,
    RequestError,
    TransferError,
)
from mirror.events import Event, emit
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.index import Index
from mirror.limits import Allowance
from mirror.nearby import Neighbourhood
from mirror.publish import Published, Publisher, Staged
from mirror.rehash import look, tell
from mirror.threads import in_thread
from mirror.transfer import Fetcher, Progress, Received

_AT_ONCE: Final = 4  # connections: one file after the other is fetched, by one or its retries


@dataclass(slots=True, kw_only=True)
class Mender:
    """Fetches files of one destination again; what became of them is in the report."""

    client: Client
    folder: OpenDestination
    index: Index
    destination: Destination
    progress: Progress
    report: Verification
    run_id: str
    now: datetime  # by the server's clock
    clock: Callable[[], datetime]  # of this machine
    allowed: Allowed
    allowance: Allowance
    _replaced: list[Action] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)  # in the report, by asset id
    _fetcher: Fetcher = field(init=False)
    _publisher: Publisher = field(init=False)

    def __post_init__(self) -> None:
        self._fetcher = Fetcher(
            self.client,
            self.folder,
            self.index,
            self.progress,
            min_free_bytes=self.destination.min_free_bytes,
            now=self.now,
            lane=Budget(_AT_ONCE).lane("", _AT_ONCE),
            here=Neighbourhood().add(Path(self.folder.name)),
            allowance=self.allowance,
        )
        self._publisher = Publisher(self.folder, self.index, run_id=self.run_id, now=self.now)

    # -- damaged -----------------------------------------------------------------------------------

    async def repair(self) -> None:
        """Fetch again what the report says is damaged.

        Raises:
            MirrorError: the account or the destination cannot go on. What was done is done.
        """
        damaged = [
            (place, found)
            for place, found in enumerate(self.report.found)
            if found.condition is Condition.DAMAGED
        ]
        self._places = {found.row.asset_id: place for place, found in damaged}
        self.progress.plan(len(damaged), sum(found.row.size_bytes for _, found in damaged))
        try:
            for _, found in damaged:
                await self._repair(found)
        finally:
            await self._end()

    async def _repair(self, found: Found) -> None:
        row = found.row
        try:
            asset = await self._asset(row)
            received = await self._fetcher.fetch(asset, row.path)
            self._check_unchanged(row, asset, received)
        except (AssetError, RequestError) as error:
            self._left_damaged(found, error)
        else:
            await self._stage(_replacement(found, asset, Reason.DAMAGED), received)

    def _check_unchanged(self, row: Row, asset: Asset, received: Received) -> None:
        """Where no checksum of the server's says it, the bytes must be those that we had."""
        if checksum.content_sha1(asset) is not None or received.sha1 == row.sha1:
            return
        if asset.file_modified_at != row.file_modified_at:
            return  # another photo by now, as `sync` would have found
        self.folder.drop(partial(received.name))
        raise ChecksumMismatchError(
            f"{row.path}: the server's bytes are not those that it gave before",
            why=f"{row.sha1.hex() if row.sha1 else ''} then, {received.sha1.hex()} now,"
            " and the file's time there is the same",
            hint="restore the original on the server from a backup",
        )

    def _left_damaged(self, found: Found, error: MirrorError) -> None:
        is_theirs = isinstance(error, ChecksumMismatchError)
        what = "the server's copy is damaged too, and ours stays" if is_theirs else "not repaired"
        self._become(found.row, replace(found, detail=f"{what}: {error.what}"))
        self._tell_failed(found.row, Reason.DAMAGED, error)

    # -- unproved ----------------------------------------------------------------------------------

    async def prove(self, rows: Iterable[Row], *, is_late: Callable[[], bool]) -> int:
        """Compare files with the server's bytes, and take what differs; how many were compared.

        Raises:
            MirrorError: as `repair`.
        """
        count = 0
        try:
            for row in rows:
                if is_late():
                    break
                count += 1
                self.report.counts[Condition.UNPROVED] -= 1
                await self._prove(row)
        finally:
            await self._end()
        return count

    async def _prove(self, row: Row) -> None:
        here = await in_thread(look, self.folder, row)
        if here.entry is None or here.entry.sha1 is None:
            self.report.add(here.found)
            tell(here.found)
            return
        try:
            asset = await self._asset(row)
            received = await self._fetcher.fetch(asset, row.path)
        except (AssetError, RequestError) as error:
            self.report.add(Found(Condition.FAILED, row, f"not proved: {error.what}"))
            self._tell_failed(row, Reason.UNPROVED, error)
            return
        if received.sha1 == here.entry.sha1:
            self._proved(here.found, asset, received)
        else:
            await self._replace(here.found, asset, received)

    def _proved(self, found: Found, asset: Asset, received: Received) -> None:
        entry = found.entry
        if entry is None:
            raise ValueError(f"nothing lies there: {found}")
        row = replace(
            _fresh(found.row, asset, received, self.clock()),
            size_bytes=entry.size_bytes,
            mtime_ns=entry.mtime_ns,
        )
        self.report.received_bytes += received.received_bytes
        self.index.finish([row])
        self.folder.drop(partial(received.name))
        self.report.counts[Condition.PROVED] += 1
        self._tell_done(Event.ASSET_PROVED, row, Reason.UNPROVED, received)

    async def _replace(self, found: Found, asset: Asset, received: Received) -> None:
        """The server's bytes are the photo; as many as the limit lets through."""
        action = _replacement(found, asset, Reason.DRIFTED)
        plan = Plan((*self._replaced, action))
        known = Circumstances(listed=1, rows=self.index.count(), allowed=self.allowed)
        _, holds = guard(plan, self.destination, known)
        if holds:
            self.folder.drop(partial(received.name))
            self.report.holds = [(hold.reason, hold.way_through) for hold in holds]
            self.report.add(Found(Condition.HELD, found.row, "the server has other bytes"))
            return
        self._replaced.append(action)
        self._places[found.row.asset_id] = len(self.report.found)
        self.report.add(replace(found, condition=Condition.FAILED, detail="not replaced"))
        await self._stage(action, received)

    # -- both --------------------------------------------------------------------------------------

    async def _asset(self, row: Row) -> Asset:
        raw = (await self.client.get(f"/assets/{row.asset_id}")).json
        try:
            return wire.parse_asset(raw if isinstance(raw, dict) else {})
        except NotImmichError as error:
            raise TransferError(f"{row.path}: {error.what}", why=error.why) from error

    async def _stage(self, action: Action, received: Received) -> None:
        if action.row is None or action.asset is None:
            raise ValueError(f"no row: {action}")
        self.report.received_bytes += received.received_bytes
        row = _fresh(action.row, action.asset, received, self.clock())
        self._take(await self._publisher.stage(Staged(action, row, received)))

    async def _end(self) -> None:
        try:
            await self._publisher.close()
        finally:
            self._take(self._publisher.take())

    def _take(self, published: Published) -> None:
        for staged in published.done:
            action, row = staged.action, staged.row
            if action.reason is Reason.DAMAGED:
                condition, event = Condition.REPAIRED, Event.ASSET_REPAIRED
            else:
                condition, event = Condition.REPLACED, Event.ASSET_REPLACED
            detail = "what lay there is in quarantine"
            self._become(row, Found(condition, row, detail))
            self._tell_done(event, row, Reason(action.reason), staged.received)
        for staged, error in published.failed:
            found = self.report.found[self._places[staged.row.asset_id]]
            self._become(staged.row, replace(found, detail=error.what))
            self._tell_failed(staged.row, Reason(staged.action.reason), error)

    def _become(self, row: Row, found: Found) -> None:
        self.report.become(self._places[row.asset_id], found)

    def _tell_done(self, event: Event, row: Row, reason: Reason, received: Received) -> None:
        emit(
            "info",
            event,
            asset_id=row.asset_id,
            path=row.path,
            reason=reason.value,
            bytes=row.size_bytes,
            sha1=received.sha1.hex(),
            duration_ms=received.duration_ms,
        )

    def _tell_failed(self, row: Row, reason: Reason, error: MirrorError) -> None:
        emit(
            "error",
            Event.ASSET_FAILED,
            asset_id=row.asset_id,
            path=row.path,
            reason=reason.value,
            error_code=error.code,
            error_message=f"{error.what}: {error.why}" if error.why else error.what,
            error_hint=error.hint or None,
        )


def _replacement(found: Found, asset: Asset, reason: Reason) -> Action:
    row = found.row
    return Action(
        kind=Kind.REPLACE,
        reason=reason,
        path=row.path,
        base=row.base,
        asset=asset,
        row=row,
        still_id=row.still_id,
        entry=found.entry,
        displaces=True,
    )


def _fresh(row: Row, asset: Asset, received: Received, now: datetime) -> Row:
    """The row once the received bytes lie there; what the listing says of it stays."""
    return replace(
        row,
        checksum=asset.checksum,
        sha1=received.sha1,
        size_bytes=received.written.size_bytes,
        mtime_ns=received.written.mtime_ns,
        etag=received.etag or row.etag,
        file_modified_at=asset.file_modified_at,
        verified_at=now,
    )
