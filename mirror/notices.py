"""What those who watch from outside learn of a run, whatever became of it.

None of it can fail a run: what cannot be said is a warning.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from mirror.core.model import Mirror
from mirror.core.report import Report
from mirror.errors import MirrorError
from mirror.events import Event, emit
from mirror.last_run import LastRuns, last_run
from mirror.profile import Profile
from mirror.session import Session

Watched: TypeAlias = tuple[Profile, Sequence[Mirror]]  # a profile, and those mirrors that run


@asynccontextmanager
async def noticed(watched: Sequence[Watched], session: Session) -> AsyncIterator[None]:
    """Tell of what runs inside; not of a dry run, nor of `copy`, which leaves nothing outside."""
    if session.options.dry or session.known is None:
        yield
        return
    begun = len(session.reports)
    last_runs = LastRuns(session.known.folder)
    try:
        yield
    finally:
        for item, reports in _shared_out(watched, session.reports[begun:]):
            _remember(item, reports, session.options.run_id, last_runs)


def _shared_out(
    watched: Sequence[Watched], reports: Sequence[Report]
) -> Iterator[tuple[Watched, list[Report]]]:
    """The reports of each profile: they come in its order, one for each destination."""
    left = iter(reports)
    for item in watched:
        places = [None for mirror in item[1] for _ in mirror.destinations]
        yield item, [report for _, report in zip(places, left, strict=False)]


def _remember(
    watched: Watched, reports: Sequence[Report], run_id: str, last_runs: LastRuns
) -> None:
    """Also of runs that never came as far as the destination, which tells of the others itself."""
    profile, _ = watched
    for report in reports:
        label = f"{profile.name}/{report.mirror}"
        try:
            last_runs.keep(last_run(report, label=label, run_id=run_id))
        except MirrorError as error:
            warn("record", f"{error.what}: {error.why}", run_id)


def warn(action: str, reason: str, run_id: str) -> None:
    """What could not be said, and why."""
    emit("warning", Event.NOTICE_FAILED, action=action, reason=reason, run_id=run_id)
