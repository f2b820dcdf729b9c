"""Plans and reports as text and as JSON values; prints nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from mirror.core.model import Listed
from mirror.core.plan import Action, Kind
from mirror.core.report import Outcome, Report
from mirror.logs import printable
from mirror.sizes import size

if TYPE_CHECKING:
    from mirror.run import MirrorRun

_FOLDERS_SHOWN: Final = 12
_FAILURES_SHOWN: Final = 10


def report_text(report: Report) -> Iterator[str]:
    """What became of one mirror at one destination."""
    told = ", ".join(f"{count} {outcome.value}" for outcome, count in report.counts.items())
    came = f" ({size(report.received_bytes)})" if report.received_bytes else ""
    nothing = "nothing done" if report.error else "nothing listed"
    yield f"{report.mirror} -> {report.destination}: {told or nothing}{came}"
    left = report.counts.get(Outcome.REPLACED, 0) + report.counts.get(Outcome.REMOVED, 0)
    if left > report.purged:
        yield "  what left its place is in .mirror/quarantine/, below the folder of this run"
    if report.purged:
        yield f"  {report.purged} left quarantine for good"
    if postponed := report.counts.get(Outcome.POSTPONED):
        yield f"  {postponed} removals wait until nothing fails"
    yield from _troubles(report)


def _troubles(report: Report) -> Iterator[str]:
    for problem in report.problems:
        yield f"  incomplete listing: {printable(problem)}; nothing is taken for gone"
    for failed in report.failures[:_FAILURES_SHOWN]:
        yield f"  failed: {printable(failed.path)}: {printable(_sentence(failed.error))}"
    if len(report.failures) > _FAILURES_SHOWN:
        yield f"  and {len(report.failures) - _FAILURES_SHOWN} more failed: see the log"
    for reason, way_through in report.holds:
        yield f"  held: {reason}; way through: {way_through}"


def _sentence(error: Exception) -> str:
    return str(error).replace("\n", "; ")


# -- plans -----------------------------------------------------------------------------------------


def plan_text(run: "MirrorRun", *, full: bool) -> Iterator[str]:
    """What a run would do: counted by kind and folder, or line by line."""
    report, plan = run.report, run.plan
    yield f"{report.mirror} -> {report.destination}"
    if report.error is not None:
        return
    if full:
        yield from (f"  {printable(str(action))}" for action in plan.actions)
    else:
        yield from _summary(plan.actions)
    if not plan.actions:
        yield "  nothing to do"
    held = sum(1 for outcome in report.outcomes.values() if outcome.value == "held")
    waiting = f", {held} held" if held else ""
    known = f", {len(plan.known)} failed before" if plan.known else ""
    yield f"  {plan.unchanged} unchanged{known}{waiting}"
    yield from _troubles(report)


def _summary(actions: Iterable[Action]) -> Iterator[str]:
    by_kind: dict[str, Counter[str]] = {}
    for action in actions:
        what = f"{action.kind.value} ({action.reason.value})"
        folder = str(PurePosixPath(action.path).parent)
        by_kind.setdefault(what, Counter())[folder] += 1
    for what, folders in by_kind.items():
        yield f"  {what}: {folders.total()}"
        shown = sorted(folders.items(), key=lambda item: (-item[1], item[0]))[:_FOLDERS_SHOWN]
        yield from (f"    {count:6}  {printable(folder)}/" for folder, count in sorted(shown))
        if len(folders) > len(shown):
            yield f"            and {len(folders) - len(shown)} more folders"


def plan_json(run: "MirrorRun") -> dict[str, Any]:
    """The same for programs."""
    report, plan = run.report, run.plan
    return {
        "mirror": report.mirror,
        "destination": report.destination,
        "complete": report.complete,
        "problems": report.problems,
        "unchanged": plan.unchanged,
        "actions": [_action_json(action) for action in plan.actions],
        "holds": [{"reason": why, "way_through": way} for why, way in report.holds],
        "error": report.error and report.error.code,
    }


def _action_json(action: Action) -> dict[str, Any]:
    told = {
        "action": action.kind.value,
        "reason": action.reason.value,
        "path": action.path,
        "asset_id": action.asset_id,
    }
    if action.sentence is not None:
        told["disposal"] = action.sentence.disposal.value
    return {**told, "from_path": action.source} if action.source else told


def written_paths(run: "MirrorRun") -> Iterator[str]:
    """Every path that a run would write, below its destination."""
    kinds = (Kind.DOWNLOAD, Kind.REPLACE, Kind.COPY, Kind.RESTORE, Kind.MOVE)
    return (action.path for action in run.plan.of(*kinds))


# -- listings --------------------------------------------------------------------------------------


def listed_json(listed: Listed, path: str) -> dict[str, Any]:
    """One asset of a listing, for programs."""
    asset = listed.asset
    return {
        "id": asset.id,
        "path": path,
        "type": asset.type.value,
        "visibility": asset.visibility.value,
        "original_file_name": asset.original_file_name,
        "checksum": asset.checksum.hex(),
        "taken_at": asset.taken_at.isoformat() if asset.taken_at else None,
        "uploaded_at": asset.uploaded_at.isoformat(),
        "owner_id": asset.owner_id,
        "library_id": asset.library_id,
        "live_photo_of": listed.still.id if listed.still else None,
    }
