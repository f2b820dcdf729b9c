"""All mirrors of a command: one client per account, one part's failure never another's."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from mirror import __version__, logs, notify
from mirror.budget import Budget, Lane
from mirror.core.model import Dedupe, Destination, Limits, Mirror, OnGone, Shard
from mirror.core.report import Report, Summed
from mirror.destinations import site_of
from mirror.destinations.identity import COPY, Known
from mirror.errors import (
    ExitCode,
    InternalError,
    InterruptedRunError,
    LimitError,
    MirrorError,
    worst,
)
from mirror.events import Event, emit
from mirror.immich.catalogue import Catalogues
from mirror.immich.client import Client
from mirror.limits import Allowance, Allowances, Bandwidth
from mirror.nearby import Neighbour, Neighbourhood
from mirror.options import Options
from mirror.profile import Account, Profile
from mirror.run import MirrorRun
from mirror.secrets import read_secret
from mirror.transfer import Progress

_THREADS_EACH: Final = 8  # for a destination: writes, copies, and what makes a batch durable


# Mirrors of one account share a connection, unless their profiles' limits are different ones.
_Connection: TypeAlias = tuple[Account, Bandwidth | None]


@dataclass(slots=True, kw_only=True)
class _Part:
    """One mirror at one destination."""

    profile: Profile
    mirror: Mirror
    destination: Destination
    lane: Lane
    here: Neighbour
    allowance: Allowance
    place: int  # in the session's reports
    ended: bool = False

    @property
    def account(self) -> Account:
        return self.profile.accounts[self.mirror.account]


@dataclass(slots=True, kw_only=True)
class Session:
    """What every mirror of a command shares."""

    options: Options
    known: Known | None  # None: `copy`, whose folders are remembered nowhere
    progress: Progress
    allow_unknown_server: bool = False
    limits: Limits = field(
        default_factory=Limits
    )  # above those of the profiles, and shared by them
    connections: int = 8
    make: Callable[..., MirrorRun] = MirrorRun  # what runs at each destination
    reports: list[Report] = field(default_factory=list)  # in the order of the profile
    _runs: dict[int, MirrorRun] = field(default_factory=dict)  # by the place of their report
    _nearby: Neighbourhood = field(default_factory=Neighbourhood)
    _budget: Budget = field(default_factory=lambda: Budget(1))
    _clients: dict[_Connection, Client | MirrorError] = field(default_factory=dict)
    _catalogues: Catalogues | None = None
    _connecting: dict[_Connection, asyncio.Lock] = field(default_factory=dict)

    @property
    def runs(self) -> list[MirrorRun]:
        """Those that were begun, in the order of the profile."""
        return [self._runs[place] for place in sorted(self._runs)]

    async def run(self, profile: Profile, mirrors: Iterable[Mirror]) -> None:
        """Every mirror at each of its destinations, side by side."""
        await self.run_all([(profile, mirrors)])

    async def run_all(self, chosen: Iterable[tuple[Profile, Iterable[Mirror]]]) -> None:
        """The same for the mirrors of several profiles."""
        parts = self._parts([(profile, tuple(mirrors)) for profile, mirrors in chosen])
        _make_room_for_threads(len(parts))
        if self.known is not None:
            self._catalogues = Catalogues(
                self.known.folder / "catalogue", dry=self.options.dry, relist=self.options.relist
            )
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                for part in parts:
                    tasks.create_task(self._part(part, stack))
        finally:
            self._nearby.close()
            if self._catalogues is not None:
                self._catalogues.close()
            for part in parts:
                if not part.ended:  # interrupted before it began
                    self.reports[part.place].error = _interrupted()

    def _parts(self, chosen: list[tuple[Profile, tuple[Mirror, ...]]]) -> list[_Part]:
        asked = [mirror.transfers for _, mirrors in chosen for mirror in mirrors]
        self._budget, self._nearby = Budget(max(asked, default=1)), Neighbourhood()
        self.connections = self._budget.most
        parts, allowances = [], Allowances(self.limits)
        for profile, mirrors in chosen:
            allowance = allowances.of(profile.limits)
            for mirror in mirrors:
                server = profile.accounts[mirror.account].server
                lane = self._budget.lane(server, mirror.transfers)
                for whole in mirror.destinations:
                    destination = _own_part(whole, self.options.shard)
                    parts.append(
                        _Part(
                            profile=profile,
                            mirror=mirror,
                            destination=destination,
                            lane=lane,
                            here=self._nearby.add(
                                site_of(destination).root,
                                links=destination.dedupe is Dedupe.HARDLINK,
                                is_remote=destination.is_remote,
                            ),
                            allowance=allowance,
                            place=len(self.reports),
                        )
                    )
                    self.reports.append(Report(mirror.name, destination.path))
        return parts

    async def client(
        self, account: Account, stack: AsyncExitStack, bandwidth: Bandwidth | None = None
    ) -> Client:
        """A connected client, the same for every mirror of the account.

        Raises:
            AccountError: it cannot be used; the same one each time.
        """
        key = account, bandwidth
        async with self._connecting.setdefault(key, asyncio.Lock()):
            found = self._clients.get(key)
            if found is None:
                try:
                    found = await self._connected(account, stack, bandwidth)
                except MirrorError as error:
                    found = error
                self._clients[key] = found
        if isinstance(found, MirrorError):
            raise found
        return found

    async def _connected(
        self, account: Account, stack: AsyncExitStack, bandwidth: Bandwidth | None
    ) -> Client:
        key = await asyncio.to_thread(read_secret, account.api_key)
        client = Client(
            account.server,
            key,
            account=account.name,
            connections=self.connections,
            allow_unknown_server=self.allow_unknown_server,
            listing_turn=lambda: self._budget.listing(account.server),
            pace=None if bandwidth is None else bandwidth.take,
        )
        await stack.enter_async_context(client)
        await client.connect()
        return client

    async def _part(self, part: _Part, stack: AsyncExitStack) -> None:
        """A task of its own: what is bound to its log lines is no other's."""
        logs.bind(
            run_id=self.options.run_id,
            profile=part.profile.name,
            mirror=part.mirror.name,
            account=part.account.name,
            destination=part.destination.path,
        )
        if self.options.shard is not None:
            logs.bind(shard=str(self.options.shard))
        begun_s = time.monotonic()
        try:
            await self._run(part, stack)
        except MirrorError as error:
            self.reports[part.place].error = error
        except asyncio.CancelledError:
            report = self.reports[part.place]
            report.error = report.error or _interrupted()
            raise
        except Exception as error:  # noqa: BLE001 (it must not end the other mirrors)
            self.reports[part.place].error = InternalError.of(error)
        finally:
            part.ended, part.here.is_open = True, False
            tell_end(self.reports[part.place], begun_s)

    async def _run(self, part: _Part, stack: AsyncExitStack) -> None:
        client = await self.client(part.account, stack, part.allowance.bandwidth)
        emit("info", Event.MIRROR_START, server_version=str(client.version))
        notify.status(f"{part.mirror.name}: at work")
        run = self.make(
            mirror=part.mirror,
            destination=part.destination,
            client=client,
            label=COPY if self.known is None else f"{part.profile.name}/{part.mirror.name}",
            known=self.known,
            options=self.options,
            progress=self.progress.part(part.mirror.name),
            lane=part.lane,
            here=part.here,
            allowance=part.allowance,
            catalogues=self._catalogues,
        )
        self._runs[part.place] = run
        self.reports[part.place] = run.report
        with part.lane.open():
            await run.run()


def _own_part(destination: Destination, shard: Shard | None) -> Destination:
    """What a shard has to do with a destination: it adds, and nothing leaves."""
    if shard is None:
        return destination
    keep = OnGone.KEEP
    return replace(destination, shard=shard, on_removed=keep, on_unmatched=keep)


def _make_room_for_threads(parts: int) -> None:
    """A disk that hangs must not take the threads of those that do not."""
    threads = ThreadPoolExecutor(_THREADS_EACH * parts + _THREADS_EACH, "mirror")
    asyncio.get_running_loop().set_default_executor(threads)


def _interrupted() -> InterruptedRunError:
    return InterruptedRunError("the run was interrupted")


def tell_end(report: Summed, begun_s: float) -> None:
    """Log what became of one mirror at one destination, begun at `time.monotonic`."""
    error = report.error
    notify.status(_in_words(report))
    emit(
        _level(error),
        Event.MIRROR_END,
        exit_code=int(report.exit_code),
        duration_ms=_since_ms(begun_s),
        counts=report.counted,
        bytes=report.received_bytes,
        complete=report.complete,
        error_code=error.code if error else None,
        error_message=_sentence(error) if error else None,
        error_hint=(error.hint or None) if error else None,
    )


def _in_words(report: Summed) -> str:
    told = report.error.what if report.error else _counts_in_words(report.counted)
    return f"{report.mirror}: {told}"


def _counts_in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _level(error: MirrorError | None) -> str:
    if isinstance(error, LimitError):
        return "warning"  # as it was asked for
    return "error" if error else "info"


def _sentence(error: MirrorError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what


def _since_ms(begun_s: float) -> float:
    return round((time.monotonic() - begun_s) * 1000, 1)


@contextmanager
def told(run_id: str, reports: Sequence[Summed]) -> Iterator[None]:
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


def _tell_run(run_id: str, begun_s: float, reports: Sequence[Summed], code: ExitCode) -> None:
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counted)
    if len(reports) > 1:  # else what its end said is all there is
        notify.status(_all_in_words(reports, counts))
    emit(
        "info",
        Event.RUN_END,
        run_id=run_id,
        exit_code=int(code),
        duration_ms=_since_ms(begun_s),
        counts=dict(counts),
        bytes=sum(report.received_bytes for report in reports),
    )


def _all_in_words(reports: Sequence[Summed], counts: Mapping[str, int]) -> str:
    """What failed or is left first, for whoever reads no more than a line."""
    troubles = [_in_words(report) for report in reports if report.exit_code is not ExitCode.OK]
    well = f"{len(reports) - len(troubles)} of {len(reports)} in sync"
    told = _counts_in_words(counts)
    return "; ".join([*dict.fromkeys(troubles), f"{well}: {told}" if told else well])
