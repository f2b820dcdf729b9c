"""All mirrors of a command: one client per account, one part's failure never another's."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from mirror import __version__
from mirror.core.model import Destination, Mirror
from mirror.core.report import Report
from mirror.destinations.identity import COPY, Known
from mirror.errors import ExitCode, MirrorError, worst
from mirror.events import Event, emit
from mirror.immich.client import Client
from mirror.nearby import Nearby
from mirror.place import INDEX
from mirror.profile import Account, Profile
from mirror.run import MirrorRun, Options
from mirror.secrets import read_secret
from mirror.transfer import Progress


@dataclass(slots=True, kw_only=True)
class Session:
    """What every mirror of a command shares."""

    options: Options
    known: Known | None  # None: `copy`, whose folders are remembered nowhere
    progress: Progress
    allow_unknown_server: bool = False
    connections: int = 8
    runs: list[MirrorRun] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)  # of what ended, also by an interruption
    _nearby: list[Nearby] = field(default_factory=list)
    _clients: dict[str, Client | MirrorError] = field(default_factory=dict)

    async def run(self, profile: Profile, mirrors: Iterable[Mirror]) -> None:
        """Every mirror at each of its destinations, in the order of the profile."""
        self.connections = max([self.connections, *(each.transfers for each in profile.mirrors)])
        async with AsyncExitStack() as stack:
            for mirror in mirrors:
                account = profile.accounts[mirror.account]
                for destination in mirror.destinations:
                    with structlog.contextvars.bound_contextvars(
                        run_id=self.options.run_id,
                        profile=profile.name,
                        mirror=mirror.name,
                        account=account.name,
                        destination=destination.path,
                    ):
                        label = COPY if self.known is None else f"{profile.name}/{mirror.name}"
                        await self._mirror(mirror, destination, account, label, stack)

    async def client(self, account: Account, stack: AsyncExitStack) -> Client:
        """A connected client, the same for every mirror of the account.

        Raises:
            AccountError: it cannot be used; the same one each time.
        """
        found = self._clients.get(account.name)
        if found is None:
            try:
                found = await self._connected(account, stack)
            except MirrorError as error:
                found = error
            self._clients[account.name] = found
        if isinstance(found, MirrorError):
            raise found
        return found

    async def _connected(self, account: Account, stack: AsyncExitStack) -> Client:
        key = await asyncio.to_thread(read_secret, account.api_key)
        client = Client(
            account.server,
            key,
            account=account.name,
            connections=self.connections,
            allow_unknown_server=self.allow_unknown_server,
        )
        await stack.enter_async_context(client)
        await client.connect()
        return client

    async def _mirror(
        self,
        mirror: Mirror,
        destination: Destination,
        account: Account,
        label: str,
        stack: AsyncExitStack,
    ) -> None:
        begun_s = time.monotonic()
        report = Report(mirror.name, destination.path)
        try:
            client = await self.client(account, stack)
            emit("info", Event.MIRROR_START, server_version=str(client.version))
            run = MirrorRun(
                mirror=mirror,
                destination=destination,
                client=client,
                label=label,
                known=self.known,
                options=self.options,
                progress=self.progress,
                nearby=self._nearby,
            )
            self.runs.append(run)
            report = run.report
            await run.run()
        except MirrorError as error:
            report.error = error
        finally:
            self.reports.append(report)
            _tell_end(report, begun_s)
        self._remember_nearby(report, stack)

    def _remember_nearby(self, report: Report, stack: AsyncExitStack) -> None:
        """What lies there by now need not be downloaded for the destinations that follow."""
        if report.error is None and not self.options.dry:
            nearby = Nearby(Path(report.destination), INDEX)
            stack.callback(self._nearby.remove, nearby)
            stack.callback(nearby.close)
            self._nearby.append(nearby)


def _tell_end(report: Report, begun_s: float) -> None:
    error = report.error
    emit(
        "error" if error else "info",
        Event.MIRROR_END,
        exit_code=int(report.exit_code),
        duration_ms=_since_ms(begun_s),
        counts={outcome.value: count for outcome, count in report.counts.items()},
        bytes=report.received_bytes,
        complete=report.complete,
        error_code=error.code if error else None,
        error_message=_sentence(error) if error else None,
        error_hint=(error.hint or None) if error else None,
    )


def _sentence(error: MirrorError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what


def _since_ms(begun_s: float) -> float:
    return round((time.monotonic() - begun_s) * 1000, 1)


@contextmanager
def told(run_id: str, reports: list[Report]) -> Iterator[None]:
    """Log the start and the end of a run, with whatever is in `reports` by then."""
    begun_s = time.monotonic()
    emit("info", Event.RUN_START, run_id=run_id, version=__version__)
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        code = ExitCode.INTERRUPTED if interrupted else ExitCode.PARTIAL
        _tell_run(run_id, begun_s, reports, code)
        raise
    _tell_run(run_id, begun_s, reports, worst(report.exit_code for report in reports))


def _tell_run(run_id: str, begun_s: float, reports: list[Report], code: ExitCode) -> None:
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update({outcome.value: count for outcome, count in report.counts.items()})
    emit(
        "info",
        Event.RUN_END,
        run_id=run_id,
        exit_code=int(code),
        duration_ms=_since_ms(begun_s),
        counts=dict(counts),
        bytes=sum(report.received_bytes for report in reports),
    )
