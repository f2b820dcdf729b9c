"""Carry a plan out, in its order, and say what became of each step."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial as bound
from typing import Final

from mirror.core import checksum
from mirror.core.batches import batches
from mirror.core.model import Asset, Order, Row, RowState
from mirror.core.order import Step, queued, steps, waves
from mirror.core.plan import Action, Kind, Plan, Reason, rebound
from mirror.core.report import Failed, Outcome, Report
from mirror.destinations import (
    PARTIAL,
    OpenDestination,
    Spooling,
    concerns_path,
    partial,
    unwritable,
)
from mirror.errors import (
    AssetError,
    ConflictError,
    LimitError,
    MirrorError,
    NoSpaceError,
    RequestError,
)
from mirror.events import Event, emit
from mirror.immich.client import Head
from mirror.index import Index, Pending
from mirror.limits import GRACE_S, Allowance
from mirror.publish import Published, Publisher, Staged
from mirror.removal import Remover
from mirror.settle import end_move, parking
from mirror.threads import in_thread, side_by_side
from mirror.transfer import Fetcher, Progress, Received, mtime_ns, partial_name

_BATCH: Final = 256

_OUTCOMES: Final[Mapping[Kind, tuple[Outcome, Event]]] = {
    Kind.REBIND: (Outcome.REBOUND, Event.ASSET_REBOUND),
    Kind.ADOPT: (Outcome.ADOPTED, Event.ASSET_ADOPTED),
    Kind.DISOWN: (Outcome.DISOWNED, Event.ASSET_DISOWNED),
    Kind.MOVE: (Outcome.MOVED, Event.ASSET_MOVED),
    Kind.COPY: (Outcome.COPIED, Event.ASSET_COPIED),
    Kind.RESTORE: (Outcome.RESTORED, Event.ASSET_COPIED),
    Kind.DOWNLOAD: (Outcome.DOWNLOADED, Event.ASSET_DOWNLOADED),
    Kind.REPLACE: (Outcome.REPLACED, Event.ASSET_REPLACED),
    Kind.RETAIN: (Outcome.RETAINED, Event.ASSET_RETAINED),
    Kind.FORGET: (Outcome.FORGOTTEN, Event.ASSET_FORGOTTEN),
    Kind.REMOVE: (Outcome.REMOVED, Event.ASSET_REMOVED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a plan is carried out with."""

    folder: OpenDestination
    index: Index
    fetcher: Fetcher
    publisher: Publisher
    remover: Remover
    still: Callable[[Sequence[str]], Awaitable[set[str]]]  # of whom the evidence still holds
    report: Report
    progress: Progress
    heads: Mapping[str, Head]
    transfers: int
    allowance: Allowance
    order: Order
    sizes: Mapping[str, int]  # in bytes, by asset id, as far as the order asks for them
    now: datetime  # by the server's clock


async def execute(plan: Plan, work: Work) -> None:
    """Do everything in the plan; failures of single assets go to the report.

    Raises:
        MirrorError: the account or the destination cannot go on. What was done is done.
    """
    _index_only(plan.of(Kind.DISOWN, Kind.FORGET, Kind.REBIND, Kind.ADOPT), work)
    for batch in batches(steps(list(plan.of(Kind.MOVE)), _parking), _BATCH):
        await in_thread(_move, batch, work)
    bringing = list(plan.of(Kind.COPY, Kind.RESTORE, Kind.DOWNLOAD, Kind.REPLACE))
    await _bring(queued(bringing, work.order, work.sizes), work)
    _index_only(plan.of(Kind.RETAIN), work)
    await _remove(list(plan.of(Kind.REMOVE)), work)
    for action in plan.of(Kind.CONFLICT):
        _fail(action, _no_name(action), work)
    if plan.complete:  # else an asset that is not listed now may ask for its own later
        _drop_partials(bringing, work)


# -- steps that touch no file ----------------------------------------------------------------------


def _index_only(actions: Iterable[Action], work: Work) -> None:
    for batch in batches(actions, _BATCH):
        rows = [row for action in batch if (row := _row_after(action, work)) is not None]
        with work.index.transaction():
            for action in batch:
                _forget_or_rebind(action, work)
            work.index.finish(rows)
        for action in batch:
            _done(action, work)


def _row_after(action: Action, work: Work) -> Row | None:
    """What the index says afterwards of what is adopted or retained."""
    row, asset = action.row, action.asset
    if action.kind is Kind.ADOPT and asset is not None:
        # What a store says of a file's bytes, nobody has read.
        verified_at = None if work.folder.tells_sha1 else work.now
        return _adopted(action, asset, work.heads.get(asset.id), verified_at)
    if row is None:
        raise ValueError(f"no row: {action}")
    if action.kind is Kind.RETAIN:
        return replace(row, state=RowState.RETAINED, reason=action.reason.value)
    return None


def _forget_or_rebind(action: Action, work: Work) -> None:
    row = action.row
    if row is not None and action.kind is Kind.REBIND:
        work.index.rebind([(row.asset_id, rebound(action))])
    elif row is not None and action.kind in {Kind.FORGET, Kind.DISOWN}:
        work.index.forget([row.asset_id])


def _adopted(action: Action, asset: Asset, head: Head | None, verified_at: datetime | None) -> Row:
    entry = action.entry
    if entry is None and action.row is not None:
        return replace(
            action.row,
            base=action.base,
            state=RowState.PUBLISHED,
            reason="",
            seen_trashed_at=None,
            still_id=action.still_id,
        )
    if entry is None:
        raise ValueError(f"nothing to adopt: {action}")
    return Row(
        asset_id=asset.id,
        owner_id=asset.owner_id,
        checksum=asset.checksum,
        base=action.base,
        path=entry.path,
        sha1=None if action.reason is Reason.UNPROVED else entry.sha1,
        size_bytes=entry.size_bytes,
        mtime_ns=entry.mtime_ns,
        etag=head.etag if head else "",
        file_modified_at=asset.file_modified_at,
        uploaded_at=asset.uploaded_at,
        still_id=action.still_id,
        verified_at=None if action.reason is Reason.UNPROVED else verified_at,
    )


# -- moves -----------------------------------------------------------------------------------------


def _move(batch: Sequence[Step], work: Work) -> None:
    """Rename what only has another path now; blocks."""
    work.index.begin([_intent(step) for step in batch])
    refused = _renamed(batch, work)
    done = [step.action for step in batch if step.last and step.action.asset_id not in refused]
    work.folder.make_durable()
    abandoned = [asset_id for asset_id, error in refused.items() if not _may_be_half_done(error)]
    work.index.finish(map(_moved, done), abandoned=abandoned)
    for source in {action.source.rpartition("/")[0]: action.source for action in done}.values():
        work.folder.drop_empty_folders(source)
    for action in done:
        _done(action, work)


def _may_be_half_done(error: OSError) -> bool:
    """Whether the next run has to look; a name that cannot be was not given."""
    return isinstance(error, FileExistsError | FileNotFoundError)


def _renamed(batch: Sequence[Step], work: Work) -> dict[str, OSError]:
    """Take each step, several at once where that is worth it; what cannot get there, by its id."""
    refused: dict[str, OSError] = {}
    for wave in waves(batch):
        errors = side_by_side(bound(_rename, work), wave, at_once=work.folder.at_once)
        for step, error in zip(wave, errors, strict=True):
            if error is not None and step.action.asset_id not in refused:
                refused[step.action.asset_id] = error
                _fail(step.action, _in_the_way(step, error), work)
    return refused


def _rename(work: Work, step: Step) -> OSError | None:
    try:
        try:
            work.folder.move(step.source, step.path)
        except OSError as error:
            if not concerns_path(error) or not end_move(work.folder, step.source, step.path):
                raise
    except OSError as error:
        if not concerns_path(error):
            raise unwritable(work.folder.where(step.path), error) from error
        return error
    return None


def _in_the_way(step: Step, error: OSError) -> ConflictError:
    return ConflictError(
        f"{step.source}: cannot be moved to {step.path}",
        why=error.strerror or str(error),
        hint="run again",
    )


def _parking(action: Action) -> str:
    return parking(action.asset_id)


def _intent(step: Step) -> Pending:
    return Pending(_moved(step.action), step.action.kind.value, step.action.source)


def _moved(action: Action) -> Row:
    if action.row is None:
        raise ValueError(f"no row: {action}")
    return replace(
        action.row,
        path=action.path,
        base=action.base,
        state=RowState.PUBLISHED,
        reason="",
        seen_trashed_at=None,
        still_id=action.still_id,
    )


# -- bytes -----------------------------------------------------------------------------------------


async def _bring(actions: Sequence[Action], work: Work) -> None:
    """Copy or download, several at once; what was verified is published even when one stops all."""
    work.progress.plan(len(actions), sum(map(_known_size, actions)))
    await work.fetcher.look_around(action.asset for action in actions if action.asset)
    try:
        await _in_parallel(actions, work)
    finally:
        try:
            await work.publisher.close()
        finally:
            _tell(work.publisher.take(), work)


async def _in_parallel(actions: Sequence[Action], work: Work) -> None:
    """Workers that share the actions; how many of them download at once is the lane's to say.

    What another destination is getting right now waits until nothing else is left to do.
    """
    waiting, later = deque(actions), deque[Action]()
    limit: LimitError | None = None
    busy = min(work.transfers, len(actions))

    async def worker() -> None:
        nonlocal limit, busy
        while (waiting or later) and limit is None:
            action = waiting.popleft() if waiting else later.popleft()
            if waiting and action.asset and work.fetcher.is_under_way(action.asset):
                later.append(action)
                continue
            try:
                work.allowance.check()
                await _bring_one(action, work)
            except LimitError as error:
                limit = error  # what the other workers have begun may end
                later.append(action)
            except NoSpaceError:
                made_room = await _made_room(work)
                if not made_room and (busy == 1 or not isinstance(work.folder, Spooling)):
                    raise
                waiting.appendleft(action)
                if not made_room:
                    break  # what the others bring now leaves room when it has gone on
        busy -= 1

    await _all_of([worker() for _ in range(busy)], work.allowance)
    if limit is not None:
        files = len(waiting) + len(later)
        limit.why = f"{files} {'files wait' if files > 1 else 'file waits'} for the next run"
        raise limit


async def _made_room(work: Work) -> bool:
    """Let go on what waits on this machine only because its batch is not full yet."""
    before = work.publisher.flushes
    if isinstance(work.folder, Spooling):
        await work.publisher.flush()  # or another worker's, which is waited for
        _tell(work.publisher.take(), work)
        await in_thread(work.index.give_room_back)
    return work.publisher.flushes > before


async def _all_of(work: Sequence[Coroutine[None, None, None]], allowance: Allowance) -> None:
    """Until the last has ended, one has failed, or the time and a grace are over."""
    tasks = [asyncio.create_task(each) for each in work]
    left_s = allowance.left_s() + GRACE_S
    timeout = asyncio.timeout(None if left_s == math.inf else max(left_s, 0))
    try:
        async with timeout:
            await asyncio.gather(*tasks)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise allowance.time_is_up() from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _bring_one(action: Action, work: Work) -> None:
    asset = action.asset
    if asset is None:
        raise ValueError(f"no asset: {action}")
    try:
        action, received = await _received(action, asset, work)
    except (AssetError, RequestError) as error:
        _fail(action, error, work)
        return
    work.report.received_bytes += received.received_bytes
    row = Row(
        asset_id=asset.id,
        owner_id=asset.owner_id,
        checksum=asset.checksum,
        base=action.base,
        path=action.path,
        sha1=received.sha1,
        size_bytes=received.written.size_bytes,
        mtime_ns=received.written.mtime_ns,
        etag=received.etag,
        file_modified_at=asset.file_modified_at,
        uploaded_at=asset.uploaded_at,
        still_id=action.still_id,
        verified_at=work.now,
    )
    staged = Staged(action, row, received)
    _tell(await work.publisher.stage(staged), work)


async def _received(action: Action, asset: Asset, work: Work) -> tuple[Action, Received]:
    """The bytes, from under the root where they are said to be, else from the server.

    With them the action as it turned out.
    """
    if action.source:
        copied = await in_thread(_copied, action, asset, work)
        if copied is not None:
            work.progress.end(asset.id)
            return action, copied
        action = replace(action, kind=Kind.DOWNLOAD, source="")
    received = await work.fetcher.fetch(asset, action.path)
    if received.source and action.kind is Kind.DOWNLOAD and not action.displaces:
        action = replace(action, kind=Kind.COPY, source=received.source)
    return action, received


def _copied(action: Action, asset: Asset, work: Work) -> Received | None:
    """A verified copy; None when the source is not, or no longer, what it was taken for."""
    name, folder = partial_name(asset), work.folder
    lying = folder.entry(action.source)
    if lying is None:
        return None
    work.fetcher.check_space(asset, lying.size_bytes)
    try:
        written, sha1 = folder.clone(action.source, name, mtime_ns(asset))
    except (FileNotFoundError, PermissionError):
        return None
    except OSError as error:
        raise unwritable(folder.where(partial(name)), error) from error
    if sha1 == checksum.content_sha1(asset):
        return Received(name=name, sha1=sha1, written=written)
    folder.drop(partial(name))
    return None


def _known_size(action: Action) -> int:
    exif = action.asset.exif if action.asset else None
    return (exif.size_bytes if exif else None) or 0


def _drop_partials(actions: Iterable[Action], work: Work) -> None:
    """Nothing will ask for a partial file again, but one whose asset failed this time."""
    failed = {
        partial_name(action.asset)
        for action in actions
        if action.asset is not None and work.report.outcomes.get(action.asset.id) is Outcome.FAILED
    }
    for name in work.folder.work_files(PARTIAL):
        if name not in failed:
            work.folder.drop(partial(name))
    work.index.keep_partials(failed)


# -- what leaves -----------------------------------------------------------------------------------


async def _remove(actions: Sequence[Action], work: Work) -> None:
    """Last of all, and only while all that was to come has come, or is known not to."""
    if not actions:
        return
    if work.report.failures:
        _postpone(actions, "some assets failed", work)
        return
    still = await work.still([action.asset_id for action in actions])
    _postpone(
        [action for action in actions if action.asset_id not in still],
        "the server says something else of them now",
        work,
    )
    leaving = [action for action in actions if action.asset_id in still]
    await in_thread(_removed, leaving, work)


def _removed(actions: Sequence[Action], work: Work) -> None:
    """Told as they go: what left before something stopped the rest is in the log."""
    for action, error in work.remover.remove(actions):
        if error is None:
            _done(action, work)
        else:
            _fail(action, error, work)


def _postpone(actions: Sequence[Action], reason: str, work: Work) -> None:
    if actions:
        work.report.outcomes |= {action.asset_id: Outcome.POSTPONED for action in actions}
        emit("warning", Event.REMOVALS_POSTPONED, assets=len(actions), reason=reason)


# -- telling ---------------------------------------------------------------------------------------


def _tell(published: Published, work: Work) -> None:
    for staged in published.done:
        _done(staged.action, work, staged.received)
    for staged, error in published.failed:
        _fail(staged.action, error, work)


def _done(action: Action, work: Work, received: Received | None = None) -> None:
    # What the user had changed there went to quarantine: that is no mere download.
    kind = Kind.REPLACE if action.displaces else action.kind
    outcome, event = _OUTCOMES[kind]
    work.report.outcomes[action.asset_id] = outcome
    fields: dict[str, object] = {
        "asset_id": action.asset_id,
        "path": action.path,
        "reason": action.reason.value,
    }
    if action.kind in {Kind.MOVE, Kind.COPY, Kind.RESTORE}:
        fields["from_path"] = action.source
    if action.sentence is not None:
        fields["action"] = action.sentence.disposal.value
    if received is not None:
        fields["bytes"] = received.written.size_bytes
        fields["sha1"] = received.sha1.hex()
        fields["duration_ms"] = received.duration_ms
    emit("info", event, **fields)


def _fail(action: Action, error: MirrorError, work: Work) -> None:
    work.report.outcomes[action.asset_id] = Outcome.FAILED
    work.report.failures.append(Failed(action.path, error))
    work.progress.fail(action.path, error.code)
    emit(
        "error",
        Event.ASSET_FAILED,
        asset_id=action.asset_id,
        path=action.path,
        reason=action.reason.value,
        error_code=error.code,
        error_message=f"{error.what}: {error.why}" if error.why else error.what,
        error_hint=error.hint or None,
    )


def _no_name(action: Action) -> ConflictError:
    return ConflictError(
        f"{action.path}: no name is left for this asset",
        why="its path and its other names are taken, or a file lies where they need a folder",
        hint="move away what lies there, and run again",
    )
