"""What is known of mirrors, as text, as a table and as JSON values; prints nothing."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mirror.errors import ExitCode
from mirror.index import Stored
from mirror.last_run import LastRun
from mirror.logs import printable
from mirror.sizes import size
from mirror.status import Status, exit_code

if TYPE_CHECKING:
    from rich.table import Table

JSON_VERSION: Final = 1
_UNITS: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_ENDED: Final = {
    ExitCode.OK: "in sync",
    ExitCode.PARTIAL: "some assets failed",
    ExitCode.USAGE: "usage or profile",
    ExitCode.ACCOUNT: "the account could not be used",
    ExitCode.DESTINATION: "the destination could not be used",
    ExitCode.HELD: "something is held",
    ExitCode.DAMAGED: "damage was found",
    ExitCode.LOCKED: "another run held it",
    ExitCode.LIMIT: "stopped at a limit",
    ExitCode.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """When somebody asked, and how old a success may be."""

    now: datetime
    max_age: timedelta | None = None


def ago(then: datetime, now: datetime) -> str:
    """A distance in time for people, in its largest whole unit."""
    seconds = (now - then).total_seconds()
    if seconds < 0:
        return "in the future"
    for unit_s, name in _UNITS:
        count = int(seconds // unit_s)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def ended(code: int) -> str:
    """How a run ended, in words."""
    try:
        return _ENDED[ExitCode(code)]
    except ValueError:
        return f"exit code {code}"


# -- as lines --------------------------------------------------------------------------------------


def status_lines(status: Status, asked: Asked) -> Iterator[str]:
    """One mirror at one destination; the first line names it, the others are indented."""
    yield f"{status.profile}/{status.mirror} -> {printable(status.destination)}"
    yield from (f"  {line}" for line in _facts(status, asked))
    yield from (f"  {line}" for line in troubles(status, asked))


def _facts(status: Status, asked: Asked) -> Iterator[str]:
    if status.is_running:
        yield "a run is under way"
    success = status.last_success_at
    yield f"last success: {_moment(success, asked.now) if success else _no_success(status)}"
    if status.last is not None:
        yield f"last run: {_moment(status.last.ended_at, asked.now)}, {_how(status.last)}"
    if status.stored is not None:
        yield from _stored(status.stored, asked.now)
    if status.free_bytes is not None:
        yield f"free: {size(status.free_bytes)}"


def _how(last: LastRun) -> str:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in last.counts.items())
    came = f" ({size(last.received_bytes)})" if last.received_bytes else ""
    code = f" (exit {last.exit_code})" if last.exit_code else ""
    return f"{ended(last.exit_code)}{code}{': ' if counts else ''}{counts}{came}"


def _stored(stored: Stored, now: datetime) -> Iterator[str]:
    yield f"files: {stored.files} ({size(stored.size_bytes)})"
    if stored.retained_files:
        yield f"retained: {stored.retained_files} of them ({size(stored.retained_bytes)})"
    oldest = stored.oldest_verified_at
    longest_ago = f", longest ago: {_moment(oldest, now)}" if oldest else ""
    yield f"verified: {share(stored)}{longest_ago}"
    if stored.damaged:
        yield f"damaged at the source: {stored.damaged}"
    if stored.quarantined_files:
        yield f"quarantine: {stored.quarantined_files} ({size(stored.quarantined_bytes)})"


def share(stored: Stored) -> str:
    """The verified part; 100 % is said of nothing less than all."""
    percent = int(stored.verified_share * 1000) / 10
    return f"{percent:g} % of the files"


def troubles(status: Status, asked: Asked) -> Iterator[str]:
    """What is not as it should be, each with its why and the way through."""
    if status.error is not None:
        yield printable(str(status.error).replace("\n", "; "))
    if asked.max_age is not None and status.is_older(asked.max_age, asked.now):
        yield "too old: no success within the time that was asked for"
    last = status.last
    if last is None:
        return
    if last.error is not None and not _is_said(last.error, status):
        yield printable(last.error.replace("\n", "; "))
    for hold in last.holds:
        yield printable(f"held: {hold['reason']}; way through: {hold['way_through']}")
    for problem in last.problems:
        yield printable(f"incomplete listing: {problem}")
    for failure in last.failures[:_FAILURES_SHOWN]:
        told = failure["error"].replace("\n", "; ")
        yield printable(f"failed: {failure['path']}: {told}")
    more = last.counts.get("failed", len(last.failures)) - _FAILURES_SHOWN
    if more > 0:
        yield f"and {more} more failed: see the log"


_FAILURES_SHOWN: Final = 5


def _is_said(error: str, status: Status) -> bool:
    """Whether the destination is still as the last run found it."""
    return status.error is not None and _first_line(error) == _first_line(str(status.error))


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _no_success(status: Status) -> str:
    return "not known" if status.is_unknown else "never"


def _moment(then: datetime, now: datetime) -> str:
    return f"{then.astimezone().isoformat(sep=' ', timespec='minutes')} ({ago(then, now)})"


# -- as a table ------------------------------------------------------------------------------------


def status_table(statuses: Iterable[Status], asked: Asked) -> "Table":
    """All of them at a glance, for a terminal."""
    from rich import box  # noqa: PLC0415 (rich costs more than the rest of a start)
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("mirror", "last success", "last run", "stored", "verified", "aside"):
        table.add_column(name, overflow="fold")
    for status in statuses:
        table.add_row(*_cells(status, asked))
    return table


def _cells(status: Status, asked: Asked) -> tuple[str, ...]:
    from rich.markup import escape  # noqa: PLC0415

    last, stored, now = status.last, status.stored, asked.now
    success = ago(status.last_success_at, now) if status.last_success_at else _no_success(status)
    late = asked.max_age is not None and status.is_older(asked.max_age, now)
    none = "not known" if status.is_unknown else "none"
    run = f"{ago(last.ended_at, now)}\n{ended(last.exit_code)}" if last else none
    running = "\n[bold]running now[/]" if status.is_running else ""
    where = escape(printable(status.destination))
    return (
        f"{escape(f'{status.profile}/{status.mirror}')}\n[dim]{where}[/]",
        f"[red]{success}[/]" if late or not status.last_success_at else f"[green]{success}[/]",
        (f"[red]{run}[/]" if last and last.exit_code else run) + running,
        _files(stored) if stored else "[red]not there[/]" if status.error else "nothing yet",
        f"{share(stored)[: -len(' of the files')]}{_oldest(stored, now)}" if stored else "",
        "\n".join(_aside(status)),
    )


def _files(stored: Stored) -> str:
    return f"{stored.files} files\n{size(stored.size_bytes)}"


def _oldest(stored: Stored, now: datetime) -> str:
    return f"\n{ago(stored.oldest_verified_at, now)}" if stored.oldest_verified_at else ""


def _aside(status: Status) -> Iterator[str]:
    stored = status.stored
    if status.last and (held := status.last.counts.get("held")):
        yield f"[yellow]{held} held[/]"
    if stored and stored.damaged:
        yield f"[yellow]{stored.damaged} damaged[/]"
    if stored and stored.quarantined_files:
        yield f"{stored.quarantined_files} in quarantine\n{size(stored.quarantined_bytes)}"
    if stored and stored.retained_files:
        yield f"{stored.retained_files} retained"


def table_troubles(statuses: Iterable[Status], asked: Asked) -> Iterator[str]:
    """What does not fit into the table: below it, one line for each trouble."""
    for status in statuses:
        for trouble in troubles(status, asked):
            yield f"{status.profile}/{status.mirror} -> {printable(status.destination)}: {trouble}"


# -- as JSON ---------------------------------------------------------------------------------------


def status_json(statuses: Sequence[Status], asked: Asked) -> dict[str, Any]:
    """The same for programs; documented in `mirror/README.md`."""
    return {
        "v": JSON_VERSION,
        "at": _stamp(asked.now),
        "exit_code": int(exit_code(statuses, asked.max_age, asked.now)),
        "mirrors": [_mirror_json(status, asked) for status in statuses],
    }


def _mirror_json(status: Status, asked: Asked) -> dict[str, Any]:
    error, success = status.error, status.last_success_at
    return {
        "profile": status.profile,
        "mirror": status.mirror,
        "account": status.account,
        "destination": status.destination,
        "last_success_at": _stamp(success),
        "age_s": int((asked.now - success).total_seconds()) if success else None,
        "too_old": None if asked.max_age is None else status.is_older(asked.max_age, asked.now),
        "running": status.is_running,
        "last_run": status.last.as_json() if status.last else None,
        "stored": _stored_json(status.stored) if status.stored else None,
        "free_bytes": status.free_bytes,
        "error": error and {"code": error.code, "message": error.what, "why": error.why,
                            "hint": error.hint},
    }  # fmt: skip


def _stored_json(stored: Stored) -> dict[str, Any]:
    return {
        "files": stored.files,
        "bytes": stored.size_bytes,
        "retained": {"files": stored.retained_files, "bytes": stored.retained_bytes},
        "quarantine": {"files": stored.quarantined_files, "bytes": stored.quarantined_bytes},
        "verified": {
            "files": stored.verified_files,
            "share": round(stored.verified_share, 6),
            "oldest_at": _stamp(stored.oldest_verified_at),
        },
        "damaged": stored.damaged,
        "newest_uploaded_at": _stamp(stored.newest_uploaded_at),
    }


def _stamp(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")
