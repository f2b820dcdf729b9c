"""What the last run of a mirror at a destination came to: left by a run, read by others later.

It lies in the destination, as `.mirror/last-run.json`, and again in the state directory: there it
tells of runs that never came as far as the destination (a refused key, a disk that is not mounted),
and it can be read while the disk is away.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mirror import __version__
from mirror.core.report import Report
from mirror.destinations import OpenDestination, own_state
from mirror.errors import ExitCode, UnwritableError
from mirror.whole import replace_file

LAST_RUN: Final = "last-run.json"
_MOST_FAILURES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """One run of one mirror at one destination, as it is kept. Times are aware UTC."""

    mirror: str  # the marker's: "profile/mirror", or "copy"
    destination: str  # where it was then
    run_id: str
    started_at: datetime
    ended_at: datetime
    exit_code: int
    last_success_at: datetime | None  # the end of the last run with exit code 0
    complete: bool = True
    counts: Mapping[str, int] = field(default_factory=dict)  # assets by outcome
    received_bytes: int = 0
    purged: int = 0  # files whose days in quarantine were over
    problems: tuple[str, ...] = ()
    holds: tuple[Mapping[str, str], ...] = ()  # reason, way_through
    failures: tuple[Mapping[str, str], ...] = ()  # path, error; the first of them
    error: str | None = None
    version: str = __version__

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return max(0.0, (self.ended_at - self.started_at).total_seconds())

    def after(self, before: "LastRun | None") -> "LastRun":
        """The same, remembering the success that an earlier run of the mirror had."""
        if self.exit_code == ExitCode.OK or before is None or before.mirror != self.mirror:
            return self
        return replace(self, last_success_at=before.last_success_at)

    def as_json(self) -> dict[str, Any]:
        """As it is written, and as `status --json` shows it."""
        told = asdict(self)
        for name, value in told.items():
            if isinstance(value, datetime):
                told[name] = value.isoformat(timespec="milliseconds")
        return told


def last_run(report: Report, *, label: str, run_id: str) -> LastRun:
    """What is to be kept of a run that has ended; a missing time of the report is now."""
    ended_at = report.ended_at or datetime.now(UTC)
    succeeded = report.exit_code is ExitCode.OK
    return LastRun(
        mirror=label,
        destination=report.destination,
        run_id=run_id,
        started_at=report.started_at or ended_at,
        ended_at=ended_at,
        exit_code=int(report.exit_code),
        last_success_at=ended_at if succeeded else None,
        complete=report.complete,
        counts={outcome.value: count for outcome, count in report.counts.items()},
        received_bytes=report.received_bytes,
        purged=report.purged,
        problems=tuple(report.problems),
        holds=tuple({"reason": why, "way_through": way} for why, way in report.holds),
        failures=tuple(
            {"path": failed.path, "error": str(failed.error)}
            for failed in report.failures[:_MOST_FAILURES]
        ),
        error=str(report.error) if report.error else None,
    )


# -- in the destination ----------------------------------------------------------------------------


def read_last_run(folder: OpenDestination) -> LastRun | None:
    """What the destination itself tells; None if nothing, or nothing that can be understood."""
    return _parsed(folder.read_state(own_state(folder.shard, LAST_RUN)) or b"")


def write_last_run(folder: OpenDestination, run: LastRun) -> None:
    """Leave it in the destination; the one file that a run without changes writes there.

    Raises:
        NoSpaceError, UnwritableError: the file system refuses.
    """
    with suppress(OSError):  # something else has its name: the writing says so
        run = run.after(read_last_run(folder))
    folder.write_state(own_state(folder.shard, LAST_RUN), [_encoded(run)])


# -- in the state directory ------------------------------------------------------------------------


class LastRuns:
    """The last run at each destination, by its path; one small file for each."""

    def __init__(self, state_directory: Path) -> None:
        self._folder = state_directory / "last-runs"

    def of(self, destination: str) -> LastRun | None:
        """The last run at this path."""
        try:
            found = _parsed(self._file(destination).read_bytes())
        except OSError:
            return None
        return found if found is not None and found.destination == destination else None

    def keep(self, run: LastRun) -> None:
        """Remember a run.

        Raises:
            UnwritableError: the state directory cannot be written.
        """
        file = self._file(run.destination)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(file, _encoded(run.after(self.of(run.destination))))
        except OSError as error:
            raise UnwritableError(
                f"{file}: cannot remember the run",
                why=error.strerror or str(error),
                hint="set STATE_DIRECTORY or XDG_STATE_HOME to a folder this user may write",
            ) from error

    def _file(self, destination: str) -> Path:
        name = hashlib.sha256(os.fsencode(destination)).hexdigest()[:32]
        return self._folder / f"{name}.json"


def newer(one: LastRun | None, other: LastRun | None) -> LastRun | None:
    """The later run of two places, with the later success of both."""
    if one is None or other is None or one.mirror != other.mirror:
        return one or other
    last = max(one, other, key=lambda run: run.ended_at)
    successes = [run.last_success_at for run in (one, other) if run.last_success_at]
    return replace(last, last_success_at=max(successes, default=None))


# -- the file --------------------------------------------------------------------------------------


def _encoded(run: LastRun) -> bytes:
    return json.dumps(run.as_json(), indent=1).encode() + b"\n"


def _parsed(content: bytes) -> LastRun | None:
    try:
        told = json.loads(content)
        return LastRun(
            mirror=str(told["mirror"]),
            destination=str(told.get("destination", "")),
            run_id=str(told["run_id"]),
            started_at=_time(told["started_at"]),
            ended_at=_time(told["ended_at"]),
            exit_code=int(told["exit_code"]),
            last_success_at=_success(told),
            complete=bool(told["complete"]),
            counts={str(outcome): int(count) for outcome, count in told["counts"].items()},
            received_bytes=int(told["received_bytes"]),
            purged=int(told.get("purged", 0)),
            problems=tuple(map(str, told["problems"])),
            holds=tuple(map(_texts, told["holds"])),
            failures=tuple(map(_texts, told["failures"])),
            error=told["error"] and str(told["error"]),
            version=str(told["version"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _success(told: Mapping[str, Any]) -> datetime | None:
    # Versions before the success was kept told of the last run only.
    default = None if told["exit_code"] else told["ended_at"]
    kept = told.get("last_success_at", default)
    return None if kept is None else _time(kept)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time.astimezone(UTC)


def _texts(table: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in table.items()}
