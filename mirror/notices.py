"""What those who watch from outside learn of a run, whatever became of it.

A record in the state directory, metrics for Prometheus, and a dead man's switch. None of it can
fail a run: what cannot be said is a warning.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from mirror import logs, pings
from mirror.core.model import Mirror
from mirror.core.report import Report
from mirror.errors import ExitCode, MirrorError, worst
from mirror.events import Event, emit
from mirror.last_run import LastRuns, last_run
from mirror.metrics import write_metrics
from mirror.profile import Profile
from mirror.render import report_text
from mirror.secrets import read_secret
from mirror.session import Session
from mirror.status import Memory, look

Watched: TypeAlias = tuple[Profile, Sequence[Mirror]]  # a profile, and those mirrors that run


@asynccontextmanager
async def noticed(watched: Sequence[Watched], session: Session) -> AsyncIterator[None]:
    """Tell of what runs inside; not of a dry run, nor of `copy`, which leaves nothing outside.

    Nor of a shard: all that is told outside is of whole mirrors.
    """
    if session.options.dry or session.known is None or session.options.shard is not None:
        yield
        return
    memory = Memory(session.known, LastRuns(session.known.folder))
    notices = [_Notices(each, session.options.run_id, memory) for each in watched]
    begun, codes = len(session.reports), [ExitCode.OK]
    for each in notices:
        each.begin()
    try:
        yield
    except BaseException as error:
        codes.append(_code_of(error))
        raise
    finally:
        shares = _shared_out(watched, session.reports[begun:])
        await asyncio.gather(
            *(each.end(reports, codes) for each, reports in zip(notices, shares, strict=True))
        )


def _code_of(error: BaseException) -> ExitCode:
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return error.exit_code if isinstance(error, MirrorError) else ExitCode.PARTIAL


def _shared_out(watched: Sequence[Watched], reports: Sequence[Report]) -> Iterator[list[Report]]:
    """The reports of each profile: they come in its order, one for each destination."""
    left = iter(reports)
    for _, mirrors in watched:
        places = [None for mirror in mirrors for _ in mirror.destinations]
        yield [report for _, report in zip(places, left, strict=False)]


class _Notices:
    """Of one profile."""

    def __init__(self, watched: Watched, run_id: str, memory: Memory) -> None:
        self._profile, mirrors = watched
        self._run_id = run_id
        self._memory = memory
        # A switch waits for the whole profile: a part of it, run by hand, must not reassure it.
        self._is_whole = len(mirrors) == len(self._profile.mirrors)
        self._started: asyncio.Task[str | None] | None = None

    def begin(self) -> None:
        """Say that it begins, without waiting for an answer."""
        if self._profile.ping is not None and self._is_whole:
            self._started = asyncio.create_task(self._start())

    async def end(self, reports: Sequence[Report], codes: Sequence[ExitCode]) -> None:
        """Say what became of it; `codes` are of what came in between."""
        code = worst([*codes, *(report.exit_code for report in reports)])
        self._remember(reports)
        await self._measure()
        if self._started is not None:
            await self._finish(self._started, code, reports)

    # -- the record, and the metrics ---------------------------------------------------------------

    def _remember(self, reports: Sequence[Report]) -> None:
        """Also of runs that never came to the destination, which tells of the others itself."""
        if self._memory.last_runs is None:
            return
        for report in reports:
            label = f"{self._profile.name}/{report.mirror}"
            try:
                self._memory.last_runs.keep(last_run(report, label=label, run_id=self._run_id))
            except MirrorError as error:
                self._warn("record", error)

    async def _measure(self) -> None:
        if self._profile.metrics is None:
            return
        try:
            await asyncio.to_thread(self._write, self._profile)
        except MirrorError as error:
            self._warn("metrics", error)

    def _write(self, profile: Profile) -> None:
        if profile.metrics is not None:
            write_metrics(profile.metrics, list(look(profile, profile.mirrors, self._memory)))

    # -- the switch --------------------------------------------------------------------------------

    async def _start(self) -> str | None:
        """The address, once the start was said there; None if there is none."""
        if self._profile.ping is None:
            return None
        try:
            url = await asyncio.to_thread(read_secret, self._profile.ping)
            pings.check(url)
        except MirrorError as error:
            # An error of the reading says "API key": only its reason is of this.
            emit(
                "warning",
                Event.NOTICE_FAILED,
                action="ping",
                reason=f"the address of the ping cannot be read: {error.why}",
                profile=self._profile.name,
                run_id=self._run_id,
            )
            return None
        try:
            await pings.ping_start(url)
        except MirrorError as error:
            self._warn("ping", error)
        return url

    async def _finish(
        self, started: asyncio.Task[str | None], code: ExitCode, reports: Sequence[Report]
    ) -> None:
        hurried = code is ExitCode.INTERRUPTED  # whoever stopped it does not wait for long
        if hurried and not started.done():
            started.cancel()
            return
        url = await started
        if url is None:
            return
        try:
            await pings.ping_end(
                url, code, self._words(reports), tries=1 if hurried else pings.TRIES
            )
        except MirrorError as error:
            self._warn("ping", error)

    def _words(self, reports: Sequence[Report]) -> str:
        """The summary, and the tail of the log."""
        lines = [line for report in reports for line in _summary(report)]
        return "\n".join([*lines, "", *logs.tail(self._profile.name)]) + "\n"

    def _warn(self, action: str, error: MirrorError) -> None:
        emit(
            "warning",
            Event.NOTICE_FAILED,
            action=action,
            reason=f"{error.what}: {error.why}",
            profile=self._profile.name,
            run_id=self._run_id,
        )


def _summary(report: Report) -> Iterator[str]:
    yield from report_text(report)
    if report.error is not None:
        yield from (f"  {line}" for line in str(report.error).splitlines())
