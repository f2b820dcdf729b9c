"""What a run says of itself while it goes: to its report, and to the log."""

from collections.abc import Iterable, Sequence

from mirror.core.guard import Hold
from mirror.core.plan import Plan
from mirror.core.report import Outcome, Report
from mirror.events import Event, emit


def tell_incomplete(report: Report, problems: Sequence[str]) -> None:
    """Why the listing is not all there is, if it is not: nothing is taken for gone then."""
    report.problems += problems
    report.complete = not report.problems
    for problem in problems:
        emit("warning", Event.LISTING_INCOMPLETE, reason=problem)


def tell_plan(report: Report, whole: Plan, holds: Iterable[Hold]) -> None:
    """What a plan says by itself: what agrees, what failed before, what is held."""
    report.unchanged = whole.unchanged
    report.outcomes |= dict.fromkeys(whole.known, Outcome.KNOWN)
    for hold in holds:
        report.outcomes |= {action.asset_id: Outcome.HELD for action in hold.actions}
        tell_hold(report, hold.what, len(hold.actions), hold.reason, hold.way_through)


def tell_hold(report: Report, what: str, assets: int, reason: str, way_through: str) -> None:
    """So many wait for a person, who may let them through."""
    report.holds.append((reason, way_through))
    emit(
        "warning",
        Event.PLAN_HELD,
        action=what,
        assets=assets,
        reason=reason,
        way_through=way_through,
    )
