"""What `check`, `verify` and `quarantine` found, as text and as JSON values; prints nothing."""

from collections.abc import Iterator
from typing import Any, Final

from mirror.check import Check
from mirror.core.check import Checked, Mark
from mirror.core.verify import Condition, Found, Verification
from mirror.logs import printable
from mirror.quarantine import Restored, Waiting
from mirror.shelf import Shelf
from mirror.sizes import size

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
            yield f"  {condition.value}: and {len(found) - _SHOWN} more; --json lists them all"
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


# -- quarantine ------------------------------------------------------------------------------------


def shelf_text(shelf: Shelf) -> Iterator[str]:
    """What waits at one destination, one line a file."""
    if shelf.error is not None:
        return
    size_bytes = sum(each.item.size_bytes for each in shelf.items)
    files = f"{len(shelf.items)} file{'' if len(shelf.items) == 1 else 's'}"
    told = f"{files} in quarantine ({size(size_bytes)})" if shelf.items else "nothing in quarantine"
    yield f"{shelf.mirror} -> {shelf.destination.path}: {told}"
    if not shelf.items:
        return
    rows = [("days left", "since", "size", "reason", "path", "run")]
    rows += [_shelf_row(shelf, each) for each in shelf.items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for days, since, size_, reason, path, run in rows:
        yield (
            f"  {days:>{widths[0]}}  {since:{widths[1]}}  {size_:>{widths[2]}}"
            f"  {reason:{widths[3]}}  {path:{widths[4]}}  {run}"
        )


def _shelf_row(shelf: Shelf, each: Waiting) -> tuple[str, str, str, str, str, str]:
    item, days = each.item, each.days_left(shelf.destination.quarantine_days, shelf.now)
    return (
        "ever" if days is None else str(days),
        f"{item.quarantined_at:%F}" if each.is_recorded else "",
        size(item.size_bytes),
        item.reason,
        printable(item.original_path),
        each.run_id,
    )


def shelf_json(shelf: Shelf) -> dict[str, Any]:
    """The same for programs."""
    return {
        "mirror": shelf.mirror,
        "destination": shelf.destination.path,
        "files": [_waiting_json(shelf, each) for each in shelf.items],
        "error": shelf.error and shelf.error.code,
    }


def _waiting_json(shelf: Shelf, each: Waiting) -> dict[str, Any]:
    item = each.item
    return {
        "path": item.path,
        "original_path": item.original_path,
        "run_id": each.run_id,
        "reason": item.reason,
        "since": item.quarantined_at.isoformat() if each.is_recorded else None,
        "days_left": each.days_left(shelf.destination.quarantine_days, shelf.now),
        "size_bytes": item.size_bytes,
        "sha1": item.sha1.hex() if item.sha1 else None,
        "asset_id": item.asset_id or None,
    }


def restored_text(restored: Restored) -> str:
    """One file that came back."""
    return f"{printable(restored.waiting.item.original_path)} -> {printable(restored.place)}"
