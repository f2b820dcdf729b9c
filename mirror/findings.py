"""What `check` and `verify` found, as text and as JSON values; prints nothing."""

from collections.abc import Iterator
from typing import Any, Final

from mirror.check import Check
from mirror.core.check import Checked, Mark
from mirror.core.verify import Condition, Found, Verification
from mirror.logs import printable
from mirror.render import size

_SHOWN: Final = 10  # of each mark; the rest is counted
_WORDS: Final = {
    Mark.MATCH: "match",
    Mark.DIFFER: "differ",
    Mark.MISSING_ON_DST: "missing here",
    Mark.MISSING_ON_SRC: "missing on the server",
    Mark.ERROR: "not compared",
}


def check_text(check: Check) -> Iterator[str]:
    """The sum of one destination, and the first of what does not match."""
    report = check.report
    told = ", ".join(f"{check.marks[mark]} {_WORDS[mark]}" for mark in Mark if check.marks[mark])
    nothing = "not compared" if report.error else "nothing on either side"
    yield f"{report.mirror} -> {report.destination}: {told or nothing}"
    for mark in Mark:
        found = [checked for checked in check.found if checked.mark is mark]
        yield from (f"  {_line(checked)}" for checked in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"  {mark.value} and {len(found) - _SHOWN} more"
    for problem in report.problems:
        yield f"  incomplete listing: {printable(problem)}"
    for hold in check.holds:
        yield f"  `sync` would hold: {hold.reason}; way through: {hold.way_through}"


def _line(checked: Checked) -> str:
    why = f"{checked.why.value}: {checked.reason}" if checked.reason else checked.why.value
    return f"{checked.mark.value} {printable(checked.path)}  ({why})"


def check_json(check: Check) -> dict[str, Any]:
    """The same for programs, with every path that does not match."""
    report = check.report
    return {
        "mirror": report.mirror,
        "destination": report.destination,
        "exit_code": int(report.exit_code),
        "complete": report.complete,
        "problems": report.problems,
        "counts": {mark.word: check.marks[mark] for mark in Mark},
        **{
            mark.word: [_checked_json(found) for found in check.found if found.mark is mark]
            for mark in Mark
            if mark is not Mark.MATCH
        },
        "holds": [
            {"assets": len(hold.actions), "reason": hold.reason, "way_through": hold.way_through}
            for hold in check.holds
        ],
        "error": report.error and report.error.code,
    }


def _checked_json(checked: Checked) -> dict[str, str]:
    told = {"path": checked.path, "why": checked.why.value}
    if checked.asset_id:
        told["asset_id"] = checked.asset_id
    return told | {"reason": checked.reason} if checked.reason else told


# -- verify ----------------------------------------------------------------------------------------


def verify_text(report: Verification) -> Iterator[str]:
    """The sum of one destination, and the first of what is not as it should be."""
    told = ", ".join(f"{count} {word}" for word, count in report.counted.items())
    nothing = "not verified" if report.error else "no files"
    read = f" ({size(report.read_bytes)} read)" if report.read_bytes else ""
    yield f"{report.mirror} -> {report.destination}: {told or nothing}{read}"
    for condition in reversed(Condition):
        found = [each for each in report.found if each.condition is condition]
        for each in found[:_SHOWN]:
            detail = f": {printable(each.detail)}" if each.detail else ""
            yield f"  {condition.value}: {printable(each.row.path)}{detail}"
        if len(found) > _SHOWN:
            yield f"  {condition.value}: and {len(found) - _SHOWN} more"
    for reason, way_through in report.holds:
        yield f"  held: {reason}; way through: {way_through}"
    if report.left:
        yield f"  {report.left} left for the next time: the budget is used up"


def verify_json(report: Verification) -> dict[str, Any]:
    """The same for programs, with every file that is not as it should be."""
    return {
        "mirror": report.mirror,
        "destination": report.destination,
        "exit_code": int(report.exit_code),
        "counts": {condition.value: report.counts[condition] for condition in Condition},
        "read_bytes": report.read_bytes,
        "received_bytes": report.received_bytes,
        "left": report.left,
        "found": [_found_json(found) for found in report.found],
        "holds": [{"reason": why, "way_through": way} for why, way in report.holds],
        "error": report.error and report.error.code,
    }


def _found_json(found: Found) -> dict[str, str]:
    return {
        "path": found.row.path,
        "asset_id": found.row.asset_id,
        "condition": found.condition.value,
        "detail": found.detail,
    }
