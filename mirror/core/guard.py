"""The rules a plan must pass. What they object to is held; everything else goes on."""

from dataclasses import dataclass, replace

from mirror.core.model import Destination, Limit
from mirror.core.plan import Action, Kind, Plan, Reason

_OF_UNLISTED = frozenset({Kind.REMOVE, Kind.RETAIN, Kind.FORGET})
_NEVER_HELD = 10  # up to here a limit is not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The one-off ways through, from the command line."""

    removed: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Actions that wait for a person: how many, why, and the way through."""

    what: str
    actions: tuple[Action, ...]
    reason: str
    way_through: str


def guard(
    plan: Plan, destination: Destination, *, listed: int, rows: int, allowed: Allowed
) -> tuple[Plan, tuple[Hold, ...]]:
    """The plan less what is held, and the holds.

    `listed`: how many assets the server lists; `rows`: how many the index has.
    """
    held: list[Hold] = []
    unlisted = tuple(action for action in plan.actions if action.kind in _OF_UNLISTED)
    if unlisted and not listed and len(unlisted) > allowed.removed:
        held.append(
            Hold(
                what="an empty listing",
                actions=unlisted,
                reason=f"the server lists nothing, and {rows} files of it are here",
                way_through=f"--allow-removed {len(unlisted)}",
            )
        )
    elif removals := tuple(plan.of(Kind.REMOVE)):
        held.append(
            Hold(
                what="removals",
                actions=removals,
                reason=f"{len(removals)} assets are not listed any more",
                way_through="none yet: this version removes nothing; with on_removed and"
                ' on_unmatched = "keep" they stay without being held',
            )
        )
    replaced = tuple(action for action in plan.actions if action.displaces)
    if _exceeds(len(replaced), destination.max_removed, rows, allowed.removed):
        held.append(
            Hold(
                what="replacements",
                actions=replaced,
                reason=_numbers("would be replaced", len(replaced), rows, destination.max_removed),
                way_through=f"--allow-removed {len(replaced)}",
            )
        )
    lost = tuple(action for action in plan.actions if _is_lost(action))
    if _exceeds(len(lost), destination.max_lost, rows, allowed.lost):
        held.append(
            Hold(
                what="lost files",
                actions=lost,
                reason=_numbers("vanished from the disk", len(lost), rows, destination.max_lost),
                way_through=f"--allow-lost {len(lost)}",
            )
        )
    waiting = {id(action) for hold in held for action in hold.actions}
    going = tuple(action for action in plan.actions if id(action) not in waiting)
    return replace(plan, actions=going), tuple(held)


def _is_lost(action: Action) -> bool:
    return action.kind is Kind.DOWNLOAD and action.reason is Reason.LOST


def _exceeds(count: int, limit: Limit, rows: int, allowed: int) -> bool:
    if count <= max(_NEVER_HELD, allowed):
        return False
    return count > limit.count or count > limit.share * rows


def _numbers(what: str, count: int, rows: int, limit: Limit) -> str:
    return (
        f"{count} of {rows} files {what};"
        f" the limit is {limit.count} files or {limit.share:.0%} of them"
    )
