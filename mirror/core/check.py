"""Server, index and disk compared, in rclone's words.

The server is the source, the folder the destination. A listed asset counts at the path where
`sync` would have it. Pure; the order of what goes in changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mirror.core.model import Disk, Entry, EntryKind, Row
from mirror.core.plan import Action, Kind


class Mark(StrEnum):
    """The symbols of `rclone check --combined`."""

    MATCH = "="
    DIFFER = "*"
    MISSING_ON_DST = "+"
    MISSING_ON_SRC = "-"
    ERROR = "!"

    @property
    def word(self) -> str:
        """The name of rclone's option that lists it alone, as a JSON key."""
        return self.name.lower()


class Why(StrEnum):
    """What stands behind a mark."""

    SAME = "same"
    NEW = "new"  # never fetched
    LOST = "lost"  # it was here
    MOVED = "moved"  # the bytes are here, under another path
    CHANGED = "changed"  # the server has other bytes now
    DRIFTED = "drifted"  # the bytes here are not those that were written
    FOREIGN = "foreign"  # not ours
    RETAINED = "retained"  # the asset is not listed any more, and a policy keeps its file
    LEAVING = "leaving"  # the asset is not listed any more, and `sync` would remove its file
    DISOWNED = "disowned"  # it was ours, and other bytes lie there now
    UNREADABLE = "unreadable"
    DAMAGED_AT_SOURCE = "damaged at the source"
    NO_NAME = "no name is left"
    NOT_LISTED = "not listed"  # and the listing is not complete: nobody knows


@dataclass(frozen=True, slots=True)
class Checked:
    """One path and what was found there."""

    mark: Mark
    path: str
    why: Why
    asset_id: str = ""
    reason: str = ""  # for what is retained or leaving: what became of its asset


_NEVER_ON_SRC: Final[Mapping[Kind, Why]] = {Kind.RETAIN: Why.RETAINED, Kind.REMOVE: Why.LEAVING}
_COMING: Final = frozenset({Kind.DOWNLOAD, Kind.COPY, Kind.RESTORE, Kind.REPLACE})
_COMES_FOR: Final = frozenset({Why.NEW, Why.LOST, Why.CHANGED, Why.DRIFTED})
# Which mark a path keeps when two apply.
_FIRST: Final = (Mark.ERROR, Mark.MATCH, Mark.DIFFER, Mark.MISSING_ON_DST, Mark.MISSING_ON_SRC)


def differences(
    actions: Iterable[Action], unlisted: Iterable[Row], disk: Disk, *, known: frozenset[str]
) -> list[Checked]:
    """Everything but the rows that agree, in byte order of the path.

    `known` are the ids of assets whose original came damaged before; their actions are here too.
    """
    steps = list(actions)
    found = [
        checked
        for action in _last_word(steps)
        for checked in (_known(action) if action.asset_id in known else _of(action, disk))
    ]
    acted = ids(steps)
    found += [
        Checked(Mark.MISSING_ON_SRC, row.path, Why.RETAINED, row.asset_id, row.reason)
        for row in unlisted
        if row.asset_id not in acted
    ]
    found += [
        Checked(Mark.MISSING_ON_SRC, entry.path, Why.FOREIGN)
        for entries in disk.foreign.values()
        for entry in entries
        if entry.kind is EntryKind.FILE
    ]
    return sorted(_one_a_path(found), key=path_bytes)


def _one_a_path(found: Iterable[Checked]) -> Iterable[Checked]:
    """Files that change places leave a path that another takes: it is on both sides, then."""
    by_path: dict[str, Checked] = {}
    for checked in found:
        other = by_path.get(checked.path)
        by_path[checked.path] = checked if other is None else _both(other, checked)
    return by_path.values()


def _both(one: Checked, other: Checked) -> Checked:
    first, second = sorted((one, other), key=lambda checked: _FIRST.index(checked.mark))
    if (first.mark, second.mark) == (Mark.MISSING_ON_DST, Mark.MISSING_ON_SRC):
        return replace(first, mark=Mark.DIFFER)
    return first


def path_bytes(checked: Checked) -> bytes:
    """What the order of paths goes by, here as in the index."""
    return checked.path.encode("utf-8", "surrogateescape")


def ids(actions: Iterable[Action]) -> set[str]:
    """The assets that actions are about, under their old ids too."""
    return {
        asset_id
        for action in actions
        for asset_id in (action.asset_id, action.row.asset_id if action.row else "")
    }


def _last_word(actions: Iterable[Action]) -> Iterator[Action]:
    """A row with a new id may have other steps to take, which then say where its file is."""
    steps = list(actions)
    others = {action.asset_id for action in steps if action.kind is not Kind.REBIND}
    return (a for a in steps if a.kind is not Kind.REBIND or a.asset_id not in others)


def _known(action: Action) -> Iterator[Checked]:
    yield _told(Mark.ERROR, action, Why.DAMAGED_AT_SOURCE)


def _of(action: Action, disk: Disk) -> Iterator[Checked]:
    if action.kind in {Kind.ADOPT, Kind.REBIND}:
        yield _told(Mark.MATCH, action, Why.SAME)
    elif action.kind is Kind.MOVE:
        yield _told(Mark.MISSING_ON_DST, action, Why.MOVED)
        yield Checked(Mark.MISSING_ON_SRC, action.source, Why.MOVED, action.asset_id)
    elif action.kind in _COMING:
        yield from _coming(action)
    elif action.kind is Kind.DISOWN:
        yield from _disowned(action, disk)
    elif action.kind in _NEVER_ON_SRC:
        why = _NEVER_ON_SRC[action.kind]
        yield Checked(Mark.MISSING_ON_SRC, action.path, why, action.asset_id, action.reason.value)
    elif action.kind is Kind.CONFLICT:
        path = action.row.path if action.row else action.path
        yield Checked(Mark.ERROR, path, Why.NO_NAME, action.asset_id)


def _coming(action: Action) -> Iterator[Checked]:
    why = next((why for why in _COMES_FOR if why.value == action.reason.value), Why.NEW)
    row = action.row
    if not action.displaces or row is None:
        yield _told(Mark.MISSING_ON_DST, action, why)
    elif row.path != action.path:
        yield _told(Mark.MISSING_ON_DST, action, why)
        yield Checked(Mark.MISSING_ON_SRC, row.path, why, action.asset_id)
    else:
        yield _lying(action, action.entry, why)


def _lying(action: Action, entry: Entry | None, why: Why) -> Checked:
    """What lies where the asset's file belongs."""
    if entry is not None and entry.kind is not EntryKind.FILE:
        return _told(Mark.MISSING_ON_DST, action, why)
    if entry is not None and entry.sha1 is None:
        return _told(Mark.ERROR, action, Why.UNREADABLE)
    return _told(Mark.DIFFER, action, why)


def _disowned(action: Action, disk: Disk) -> Iterator[Checked]:
    entry = disk.other.get(action.asset_id)
    if entry is None or entry.kind is EntryKind.FILE:
        yield _told(Mark.MISSING_ON_SRC, action, Why.DISOWNED)


def _told(mark: Mark, action: Action, why: Why) -> Checked:
    return Checked(mark, action.path, why, action.asset_id)
