"""The rules a plan must pass. What they object to is held; everything else goes on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from mirror.core.evidence import Verdict
from mirror.core.model import Destination, Limit
from mirror.core.plan import Action, Kind, Plan, Reason

_OF_UNLISTED = frozenset({Kind.REMOVE, Kind.RETAIN, Kind.FORGET})
_BY_SCOPE = frozenset({Verdict.UNMATCHED, Verdict.UNSHARED})
_NEVER_HELD = 10  # up to here a limit is not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The one-off ways through, from the command line."""

    removed: int = 0
    lost: int = 0
    scope: bool = False
    restored_server: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why nothing may be removed at all, whatever was said of each asset."""

    what: str
    reason: str
    way_through: str
    of_replacements: bool = False  # they wait as well
    of_quarantine: bool = False  # so does what has waited long enough in quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a guard has to know beyond the plan."""

    listed: int  # assets that the server lists
    rows: int  # assets that the index has
    allowed: Allowed = Allowed()
    doubts: tuple[Doubt, ...] = ()
    moves: bool = False  # time alone may empty the listing
    scope_changed: bool = False  # the mirror is about something else than when it was last in line
    vanished_owners: frozenset[str] = field(default_factory=frozenset)  # nothing of theirs is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Actions that wait for a person: how many, why, and the way through."""

    what: str
    actions: tuple[Action, ...]
    reason: str
    way_through: str
    of_scope: bool = False  # lifted by accepting what the mirror is about now


def guard(
    plan: Plan, destination: Destination, circumstances: Circumstances
) -> tuple[Plan, tuple[Hold, ...]]:
    """The plan less what is held, and the holds; an action may have several reasons to wait."""
    held = tuple(_holds(plan.actions, destination, circumstances))
    waiting = {id(action) for hold in held for action in hold.actions}
    going = tuple(action for action in plan.actions if id(action) not in waiting)
    return replace(plan, actions=going), held


def _holds(
    actions: tuple[Action, ...], destination: Destination, known: Circumstances
) -> Iterator[Hold]:
    empty = _of_empty_listing(actions, known)
    if empty is not None:
        yield empty
        yield from _of_scope(actions, known)  # lest a filter that finds nothing counts as accepted
    else:
        yield from _of_removals(actions, destination, known)
    replaced = _chosen(actions, lambda action: action.displaces)
    if _exceeds(len(replaced), destination.max_removed, known.rows, known.allowed.removed):
        yield Hold(
            what="replacements",
            actions=replaced,
            reason=_numbers(
                "would be replaced", len(replaced), known.rows, destination.max_removed
            ),
            way_through=f"--allow-removed {len(replaced)}",
        )
    lost = _chosen(actions, _is_lost)
    if _exceeds(len(lost), destination.max_lost, known.rows, known.allowed.lost):
        yield Hold(
            what="lost files",
            actions=lost,
            reason=_numbers("vanished from the disk", len(lost), known.rows, destination.max_lost),
            way_through=f"--allow-lost {len(lost)}",
        )


def _of_empty_listing(actions: tuple[Action, ...], known: Circumstances) -> Hold | None:
    unlisted = _chosen(actions, lambda action: action.kind in _OF_UNLISTED)
    if known.listed or len(unlisted) <= known.allowed.removed:
        return None
    if known.moves and not any(action.kind is Kind.REMOVE for action in unlisted):
        return None  # nobody took a photo for a while, and nothing would leave
    return Hold(
        what="an empty listing",
        actions=unlisted,
        reason=f"the server lists nothing, and {known.rows} files of it are here",
        way_through=f"--allow-removed {len(unlisted)}",
    )


def _of_removals(
    actions: tuple[Action, ...], destination: Destination, known: Circumstances
) -> Iterator[Hold]:
    removals = _chosen(actions, lambda action: action.kind is Kind.REMOVE)
    for doubt in known.doubts:
        waiting = removals
        if doubt.of_replacements:
            waiting += _chosen(actions, lambda action: action.displaces)
        if waiting:
            yield Hold(
                what=doubt.what,
                actions=waiting,
                reason=f"{doubt.reason}; {_files(waiting)} would be removed or replaced",
                way_through=doubt.way_through,
            )
    yield from _of_scope(actions, known)
    yield from _of_owners(actions, known)
    counted = _chosen(removals, lambda action: not _left_window(action))
    if _exceeds(len(counted), destination.max_removed, known.rows, known.allowed.removed):
        yield Hold(
            what="removals",
            actions=counted,
            reason=_numbers("would be removed", len(counted), known.rows, destination.max_removed),
            way_through=f"--allow-removed {len(counted)}",
        )


def _of_scope(actions: tuple[Action, ...], known: Circumstances) -> Iterator[Hold]:
    """What no longer matches may leave because photos changed, not because the question did."""
    unmatched = _by_scope(actions)
    if known.scope_changed and unmatched and not known.allowed.scope:
        yield Hold(
            what="another scope",
            actions=unmatched,
            reason="the filter, or whose photos it is about, is not what was accepted before, and"
            f" {_files(unmatched)} no longer match",
            way_through="--accept-scope",
            of_scope=True,
        )


def _of_owners(actions: tuple[Action, ...], known: Circumstances) -> Iterator[Hold]:
    theirs = _chosen(_by_scope(actions), lambda action: _owner(action) in known.vanished_owners)
    if theirs and not known.allowed.scope:
        owners = len({_owner(action) for action in theirs})
        yield Hold(
            what="an owner who is gone",
            actions=theirs,
            reason=f"nothing is listed any more of {owners} owner{'' if owners == 1 else 's'},"
            f" of whom {_files(theirs)} would be removed: a partner may have stopped sharing",
            way_through="--accept-scope",
            of_scope=True,
        )


def _chosen(actions: Iterable[Action], condition: Callable[[Action], object]) -> tuple[Action, ...]:
    return tuple(action for action in actions if condition(action))


def _by_scope(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    return _chosen(
        actions, lambda action: action.kind is Kind.REMOVE and action.reason in _BY_SCOPE
    )


def _owner(action: Action) -> str:
    return action.row.owner_id if action.row else ""


def _left_window(action: Action) -> bool:
    return action.sentence is not None and action.sentence.left_window


def _is_lost(action: Action) -> bool:
    return action.kind is Kind.DOWNLOAD and action.reason is Reason.LOST


def _exceeds(count: int, limit: Limit, rows: int, allowed: int) -> bool:
    if count <= max(_NEVER_HELD, allowed):
        return False
    return count > limit.count or count > limit.share * rows


def _files(actions: tuple[Action, ...]) -> str:
    return f"{len(actions)} file{'' if len(actions) == 1 else 's'}"


def _numbers(what: str, count: int, rows: int, limit: Limit) -> str:
    return (
        f"{count} of {rows} files {what};"
        f" the limit is {limit.count} files or {limit.share:.0%} of them"
    )
