"""What would be done: both sides and the index in, actions out.

Only differences come here. An asset whose row, path and bytes agree never becomes an object, so a
plan holds actions, not the library. Names are given for the whole plan first (`allocate`), then
each asset gets its action from a table (`_decide`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final

from mirror.core import checksum
from mirror.core.allocate import Claim, allocate
from mirror.core.evidence import Sentence, Verdict
from mirror.core.layout import fold
from mirror.core.model import Asset, Disk, Entry, EntryKind, OnGone, Row, RowState


class Kind(StrEnum):
    """One step of a plan."""

    REBIND = "rebind"  # the row gets the asset's new id; no file is touched
    ADOPT = "adopt"  # the file that lies there becomes the asset's
    MOVE = "move"
    DOWNLOAD = "download"
    COPY = "copy"  # the bytes are under the root already
    RESTORE = "restore"  # the bytes are in quarantine
    REPLACE = (
        "replace"  # new bytes verified, old ones to quarantine, then the new ones take the path
    )
    REMOVE = "remove"
    RETAIN = "retain"  # no longer listed; the file stays, and the row says so
    FORGET = "forget"  # no longer listed, and no file either
    DISOWN = "disown"  # the file at a row's path is no longer ours; it stays
    CONFLICT = "conflict"  # no name is left


class Reason(StrEnum):
    """Why a step is taken."""

    NEW = "new"
    LOST = "lost"  # the file vanished from the disk
    DRIFTED = "drifted"  # other bytes lie at the path
    CHANGED = "changed"  # the server lists another checksum
    RENAMED = "renamed"  # the layout wants another path
    REUPLOADED = "re-uploaded"  # the same bytes under a new id
    FOUND = "found"  # the bytes lie there already
    UNPROVED = "unproved"  # found by size: the server knows no content checksum
    LISTED_AGAIN = "listed again"
    UNLISTED = "not listed any more"  # and nobody asked why: both policies keep it
    DAMAGED = "damaged"  # other bytes lie there under the size and time that were written
    NAME_TAKEN = "no name is left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One step. `path` is where the asset's file lies afterwards, or the row's path."""

    kind: Kind
    reason: Reason | Verdict
    path: str
    base: str = ""
    asset: Asset | None = None
    row: Row | None = None  # the asset's row before the step
    still_id: str = ""  # of a live photo's video: its still
    source: str = ""  # for MOVE, COPY and RESTORE: where the bytes lie
    entry: Entry | None = None  # for ADOPT, and for what is displaced: what lies there
    displaces: bool = (
        False  # what lies at `path` goes to quarantine once the new bytes are verified
    )
    sentence: Sentence | None = None  # for REMOVE

    @property
    def asset_id(self) -> str:
        """The asset's id; where there is only a row, the row's."""
        if self.asset is not None:
            return self.asset.id
        return self.row.asset_id if self.row else ""

    def __str__(self) -> str:
        text = f"{self.kind.value} {self.reason.value}: {self.path}"
        if self.sentence is not None:
            return f"{text} -> {self.sentence.disposal.value}"
        return f"{text} <- {self.source}" if self.source else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A listed asset that does not simply agree with its row and file."""

    asset: Asset
    still: Asset | None = None  # of a live photo's video
    base: str
    row: Row | None = None
    changed: bool = False  # the server's bytes are not those of the row
    known_failure: bool = False  # came damaged before, and nothing changed since: not fetched


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions in the order of execution, and the assets of which nothing is wanted."""

    actions: tuple[Action, ...] = ()
    unchanged: int = 0
    known: tuple[str, ...] = ()  # ids that failed before, with nothing changed since
    complete: bool = True

    def of(self, *kinds: Kind) -> Iterator[Action]:
        """The actions of these kinds."""
        return (action for action in self.actions if action.kind in kinds)

    @property
    def changes(self) -> bool:
        """Whether anything at all would be done."""
        return bool(self.actions)


# What depends on what: a row must be right before its file moves, a path free before it is filled.
# Rows that go come first: an asset may be disowned at one path and adopted at another.
ORDER: tuple[Kind, ...] = (
    Kind.DISOWN,
    Kind.FORGET,
    Kind.REBIND,
    Kind.ADOPT,
    Kind.MOVE,
    Kind.COPY,
    Kind.RESTORE,
    Kind.DOWNLOAD,
    Kind.REPLACE,
    Kind.RETAIN,
    Kind.REMOVE,
    Kind.CONFLICT,
)

_PLACES: Final = {kind: place for place, kind in enumerate(ORDER)}

_FETCHING: Final = frozenset({Kind.DOWNLOAD, Kind.REPLACE, Kind.COPY, Kind.RESTORE})


def make_plan(
    differences: Sequence[Difference],
    unlisted: Iterable[Row],
    disk: Disk,
    *,
    complete: bool,
    removes: bool = True,
    sentences: Mapping[str, Sentence] | None = None,
    still_rows: Mapping[str, Row] | None = None,
    unchanged: int = 0,
) -> Plan:
    """Everything that has to be done, in the order in which it can be done.

    `unlisted` are the rows whose asset the listing does not have, `sentences` what is to become of
    their files, by asset id: of the others nothing was asked. `still_rows` are the rows of stills
    that agree, by id, for live videos that do not. `removes` is False for `copy`: several
    selections share its destination, and no file ever leaves its place. The order of the inputs
    changes nothing.
    """
    gone = sorted(unlisted, key=lambda row: row.asset_id) if complete else []
    wanted, left = list(differences), list[Action]()
    if not removes:
        wanted, disk, left = _leave_edited(wanted, disk)
    rebound, twins = _rebind(wanted, gone, disk)
    new_ids = {action.row.asset_id: action.asset_id for action in twins if action.row}
    actions = [*left, *twins]
    if removes:
        rest = (row for row in gone if row.asset_id not in new_ids)
        actions += _unlisted(rest, disk, sentences or {})
    forgotten = {action.asset_id for action in actions if action.kind is Kind.FORGET}
    board = _with_holders(disk, new_ids, forgotten)
    claims = allocate([_claim(item, board) for item in rebound], board, still_rows or {})
    told = {action.asset_id for action in actions}
    known: set[str] = set()
    for item in rebound:
        asset_id = item.asset.id
        steps = list(_decide(item, claims[asset_id], board))
        if item.known_failure and any(step.kind in _FETCHING for step in steps):
            known.add(asset_id)
        else:
            actions += steps
            unchanged += not steps and asset_id not in told
    _sort(actions)
    return Plan(tuple(actions), unchanged, tuple(sorted(known)), complete)


def _sort(actions: list[Action]) -> None:
    """By kind, path and id: one key after the other, which needs no object for each action."""
    actions.sort(key=lambda action: action.asset_id)
    actions.sort(key=lambda action: action.path)
    actions.sort(key=lambda action: _PLACES[action.kind])


def _with_holders(disk: Disk, new_ids: Mapping[str, str], forgotten: set[str]) -> Disk:
    """The disk once rows have their new ids, and those without a file are forgotten."""
    if not new_ids and not forgotten:
        return disk
    holders = {
        key: new_ids.get(holder, holder)
        for key, holder in disk.holders.items()
        if holder not in forgotten
    }
    return replace(disk, holders=holders)


# -- files that somebody changed -------------------------------------------------------------------


def _leave_edited(
    differences: Sequence[Difference], disk: Disk
) -> tuple[list[Difference], Disk, list[Action]]:
    """Take a file with other bytes for a foreign one: it stays, and the asset is new beside it."""
    edited = {
        item.row.asset_id: (item.row, lying)
        for item in differences
        if item.row is not None
        and (lying := disk.other.get(item.row.asset_id)) is not None
        and lying.kind is EntryKind.FILE
        and not _is_content(lying, item, disk)
    }
    if not edited:
        return list(differences), disk, []
    foreign = dict(disk.foreign)
    for _, lying in edited.values():
        foreign[fold(lying.path)] = (*foreign.get(fold(lying.path), ()), lying)
    rest = replace(
        disk,
        foreign=foreign,
        other={key: lying for key, lying in disk.other.items() if key not in edited},
        holders={key: holder for key, holder in disk.holders.items() if holder not in edited},
    )
    wanted = [
        replace(item, row=None, changed=False) if item.asset.id in edited else item
        for item in differences
    ]
    return wanted, rest, [_disown(row) for row, _ in edited.values()]


# -- re-uploads ------------------------------------------------------------------------------------


def _rebind(
    differences: Sequence[Difference], gone: Iterable[Row], disk: Disk
) -> tuple[list[Difference], list[Action]]:
    """Give new ids the row of the same owner and bytes whose own id is gone."""
    spare: dict[tuple[str, bytes], list[Row]] = {}
    for row in sorted(gone, key=lambda row: row.asset_id, reverse=True):
        if row.asset_id not in disk.missing and row.asset_id not in disk.other:
            spare.setdefault((row.owner_id, row.checksum), []).append(row)
    changed: list[Difference] = []
    actions: list[Action] = []
    for item in sorted(differences, key=lambda item: item.asset.id):
        asset = item.asset
        twins = spare.get((asset.owner_id, asset.checksum))
        if item.row is not None or not twins or not _same_content(twins[-1], asset):
            changed.append(item)
            continue
        row = twins.pop()
        action = Action(
            kind=Kind.REBIND,
            reason=Reason.REUPLOADED,
            path=row.path,
            base=row.base,
            asset=asset,
            row=row,
            still_id=item.still.id if item.still else "",
        )
        actions.append(action)
        changed.append(replace(item, row=rebound(action)))
    return changed, actions


def rebound(action: Action) -> Row:
    """The row of a REBIND under its new id."""
    asset, row = action.asset, action.row
    if asset is None or row is None:
        raise ValueError(f"not a rebinding: {action}")
    return replace(
        row,
        asset_id=asset.id,
        state=RowState.PUBLISHED,
        reason="",
        seen_trashed_at=None,
        file_modified_at=asset.file_modified_at,
        uploaded_at=asset.uploaded_at,
        still_id=action.still_id,
    )


def _same_content(row: Row, asset: Asset) -> bool:
    """An external asset's checksum is its path's: only the same mtime makes it the same file."""
    return (
        checksum.content_sha1(asset) is not None or row.file_modified_at == asset.file_modified_at
    )


# -- names -----------------------------------------------------------------------------------------


def _claim(item: Difference, disk: Disk) -> Claim:
    return Claim(
        asset=item.asset,
        still=item.still,
        base=item.base,
        row=item.row,
        intact=not item.changed and not _may_adopt(item, disk),
        is_mine=partial(_is_mine, item, disk) if disk.foreign else _is_nobodys,
    )


def _is_mine(item: Difference, disk: Disk, entry: Entry) -> bool:
    return _may_adopt(item, disk) and _is_content(entry, item, disk)


def _is_nobodys(_entry: Entry) -> bool:
    return False


def _may_adopt(item: Difference, disk: Disk) -> bool:
    """A file of our own moves or is replaced; the same bytes at its goal are somebody else's."""
    row = item.row
    return row is None or row.asset_id in disk.missing or row.asset_id in disk.other


def _is_content(entry: Entry, item: Difference, disk: Disk) -> bool:
    """Whether a file holds the asset's bytes, as far as anyone can know."""
    wanted = _content_sha1(item)
    if wanted is not None:
        return entry.sha1 == wanted
    size_bytes = disk.sizes.get(item.asset.id)
    return entry.kind is EntryKind.FILE and size_bytes == entry.size_bytes


def _content_sha1(item: Difference) -> bytes | None:
    """The SHA-1 of the asset's bytes: as the server knows it, or as it was when they came."""
    known = checksum.content_sha1(item.asset)
    return item.row.sha1 if known is None and item.row and not item.changed else known


# -- one asset -------------------------------------------------------------------------------------


def _decide(item: Difference, wanted: str | None, disk: Disk) -> Iterator[Action]:
    """The rows of the table for a listed asset; `wanted` is None when no name is left."""
    asset, row = item.asset, item.row
    if wanted is None:
        yield Action(
            kind=Kind.CONFLICT, reason=Reason.NAME_TAKEN, path=item.base, base=item.base,
            asset=asset, row=row,
        )  # fmt: skip
        return
    step = Action(
        kind=Kind.DOWNLOAD,
        reason=Reason.NEW,
        path=wanted,
        base=item.base,
        asset=asset,
        row=row,
        still_id=item.still.id if item.still else "",
    )
    found = _found(step, item, disk)
    if row is None:
        yield found or _from_nearby(step, asset, disk)
    elif row.asset_id in disk.other:
        yield from _with_other_bytes(step, found, disk)
    elif row.asset_id in disk.missing:
        yield found or replace(step, reason=Reason.CHANGED if item.changed else Reason.LOST)
    elif item.changed:
        yield replace(step, kind=Kind.REPLACE, reason=Reason.CHANGED, displaces=True)
    elif row.path != wanted:
        yield replace(step, kind=Kind.MOVE, reason=Reason.RENAMED, source=row.path)
    elif row.state is RowState.RETAINED or row.seen_trashed_at is not None:
        yield replace(step, kind=Kind.ADOPT, reason=Reason.LISTED_AGAIN)
    elif (row.base, row.still_id) != (item.base, step.still_id):
        yield replace(step, kind=Kind.ADOPT, reason=Reason.RENAMED)


def _with_other_bytes(step: Action, found: Action | None, disk: Disk) -> Iterator[Action]:
    """Not our bytes at the row's path: displaced where the path is kept, left alone otherwise."""
    lying = disk.other[step.asset_id]
    if found is not None and found.path == lying.path:
        yield found
        return
    if lying.path == step.path:
        yield replace(step, reason=Reason.DRIFTED, displaces=True, entry=lying)
        return
    if step.row is not None:
        yield _disown(step.row)
    drifted = replace(step, reason=Reason.DRIFTED)
    # Ours was perhaps parked by a move that was cut, and could not go back.
    yield found or _from_quarantine(drifted, disk) or drifted


def _disown(row: Row) -> Action:
    return Action(kind=Kind.DISOWN, reason=Reason.DRIFTED, path=row.path, base=row.base, row=row)


def _found(step: Action, item: Difference, disk: Disk) -> Action | None:
    """Adopt what lies at the wanted path, when it holds the asset's bytes."""
    if not _may_adopt(item, disk):
        return None
    row = item.row
    here = disk.other.get(row.asset_id) if row is not None and row.path == step.path else None
    lying = (here,) if here is not None else disk.foreign.get(fold(step.path), ())
    for entry in lying:
        if _is_content(entry, item, disk):
            reason = Reason.UNPROVED if _content_sha1(item) is None else Reason.FOUND
            return replace(step, kind=Kind.ADOPT, reason=reason, entry=entry, path=entry.path)
    return None


def _from_nearby(step: Action, asset: Asset, disk: Disk) -> Action:
    """A new asset: out of quarantine, from elsewhere under the root, or from the server."""
    kept = _from_quarantine(step, disk)
    if kept is not None:
        return replace(kept, reason=Reason.FOUND)
    wanted = checksum.content_sha1(asset)
    if wanted is not None and wanted in disk.copies:
        return replace(step, kind=Kind.COPY, reason=Reason.FOUND, source=disk.copies[wanted])
    return step


def _from_quarantine(step: Action, disk: Disk) -> Action | None:
    wanted = checksum.content_sha1(step.asset) if step.asset else None
    if wanted is None or wanted not in disk.quarantined:
        return None
    return replace(step, kind=Kind.RESTORE, source=disk.quarantined[wanted])


# -- rows that are not listed ----------------------------------------------------------------------


def candidates(unlisted: Iterable[Row], differences: Sequence[Difference], disk: Disk) -> list[Row]:
    """The rows about which somebody has to be asked before their files may leave.

    Not those whose file is not there, and not those that a new id takes over.
    """
    gone = list(unlisted)
    _, twins = _rebind(differences, gone, disk)
    taken = {action.row.asset_id for action in twins if action.row}
    lost = disk.missing | disk.other.keys() | taken
    return [row for row in gone if row.asset_id not in lost]


def _unlisted(
    rows: Iterable[Row], disk: Disk, sentences: Mapping[str, Sentence]
) -> Iterator[Action]:
    """The rows of the table for an asset that a complete listing does not have."""
    for row in rows:
        step = Action(
            kind=Kind.RETAIN, reason=Reason.UNLISTED, path=row.path, base=row.base, row=row
        )
        sentence = sentences.get(row.asset_id)
        if row.asset_id in disk.missing:
            yield replace(step, kind=Kind.FORGET)
        elif row.asset_id in disk.other:
            yield _disown(row)
        elif sentence is None:
            if row.state is not RowState.RETAINED:
                yield step
        elif sentence.disposal is not OnGone.KEEP:
            yield replace(step, kind=Kind.REMOVE, reason=sentence.reason, sentence=sentence)
        elif row.state is not RowState.RETAINED or _is_news(row, sentence.reason):
            yield replace(step, reason=sentence.reason)


def _is_news(row: Row, reason: Verdict) -> bool:
    return reason is not Verdict.UNKNOWN and row.reason != reason.value
