"""What is known of the mirrors of a profile without asking a server; leaves no trace.

Works while a run holds a destination, and tells what is remembered of one that is not there.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from mirror import settings
from mirror.core.layout import compile_layout
from mirror.core.model import Destination, Mirror
from mirror.destinations import OpenDestination, site_of, unwritable
from mirror.destinations.identity import Known, Marker, Owner, check_seen, claim, read_marker
from mirror.errors import ExitCode, LockedError, MirrorError, UsageError, worst
from mirror.index import Index, Stored, broken
from mirror.last_run import LastRun, LastRuns, newer, read_last_run
from mirror.profile import Profile

_CLOCKS: Final = timedelta(minutes=5)  # between those of two machines that share a disk
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Month: TypeAlias = tuple[int, int]  # year and month, 1 to 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One mirror at one destination."""

    profile: str
    mirror: str
    account: str
    destination: str
    last: LastRun | None = None  # None: nothing is known of any run
    stored: Stored | None = None  # None: nothing lies there, or it cannot be looked at
    months: Mapping[Month, int] | None = None  # photos and videos by `taken`; None: not counted
    is_running: bool = False
    free_bytes: int | None = None
    marker: Marker | None = None
    error: MirrorError | None = None  # why it cannot be looked at

    @property
    def last_success_at(self) -> datetime | None:
        """The end of the last run that found or brought everything in sync."""
        return self.last.last_success_at if self.last else None

    @property
    def is_unknown(self) -> bool:
        """Whether nobody can tell if it ever ran: nothing is remembered, nothing can be seen."""
        return self.error is not None and self.last is None

    def is_older(self, than: timedelta, now: datetime) -> bool:
        """Whether the last success is older, or there never was one; or it lies in the future."""
        success = self.last_success_at
        return success is None or now - success > than or success - now > _CLOCKS


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered outside of destinations, where there is a folder for it."""

    known: Known | None
    last_runs: LastRuns | None
    of_units: LastRuns | None = None  # those of the nightly unit, where they are others

    @classmethod
    def of_user(cls) -> "Memory":
        """As the environment says, and what the nightly unit remembers."""
        of_units = LastRuns(settings.STATE_OF_UNITS)
        try:
            folder = settings.state_directory()
        except UsageError:
            return cls(None, None, of_units)
        is_other = folder != settings.STATE_OF_UNITS
        return cls(Known(folder), LastRuns(folder), of_units if is_other else None)

    def last_run(self, destination: str, label: str) -> LastRun | None:
        """The last run of a mirror at this path, by whoever ran it and can be read."""
        last = None
        for runs in filter(None, (self.last_runs, self.of_units)):
            run = runs.of(destination)
            if run is not None and run.mirror == label:
                last = newer(last, run)
        return last


def look(
    profile: Profile, mirrors: Iterable[Mirror], memory: Memory, *, counts_months: bool = False
) -> Iterator[Status]:
    """The status of these mirrors at each of their destinations, in their order. Blocks."""
    for mirror in mirrors:
        for destination in mirror.destinations:
            one = _Look(profile, mirror, destination, memory, counts_months=counts_months)
            yield one.status()


def exit_code(statuses: Iterable[Status], max_age: timedelta | None, now: datetime) -> ExitCode:
    """What these say to the caller: a destination that is not there, a success that is too old."""
    codes = []
    for status in statuses:
        if status.error is not None:
            codes.append(status.error.exit_code)
        if max_age is not None and status.is_older(max_age, now):
            codes.append(ExitCode.PARTIAL)
    return worst(codes)


class _Look:
    """One look at one destination."""

    def __init__(
        self,
        profile: Profile,
        mirror: Mirror,
        destination: Destination,
        memory: Memory,
        *,
        counts_months: bool,
    ) -> None:
        self._mirror = mirror
        self._counts_months = counts_months
        self._names = (profile.name, mirror.name, mirror.account)
        self._label = f"{profile.name}/{mirror.name}"
        self._destination = destination
        self._site = site_of(destination)
        self._memory = memory
        self._remembered = memory.last_run(destination.path, self._label)

    def status(self) -> Status:
        try:
            return self._seen()
        except MirrorError as error:
            return self._status(error=error)
        except sqlite3.Error as error:
            return self._status(error=broken(self._site.index_path, error))
        except OSError as error:
            return self._status(error=unwritable(self._site.name, error))

    def _seen(self) -> Status:
        known, site = self._memory.known, self._site
        site.check(require_mount=self._destination.require_mount)
        folder = site.open()
        with folder or nullcontext():
            marker = read_marker(folder) if folder else None
            check_seen(site.name, known, marked=marker is not None, new_destination=False)
            if folder is None:
                return self._status()
            claim(folder, known, Owner(user_id="", mirror=self._label))
            return self._status(
                newer(read_last_run(folder), self._remembered),
                **self._kept(),
                is_running=_is_held(folder),
                free_bytes=None if self._destination.is_remote else folder.free_bytes(),
                marker=marker,
            )

    def _kept(self) -> dict[str, Any]:
        if not self._site.index_path.exists():
            return {}
        with Index(self._site.index_path, dry=True) as index:
            kept: dict[str, Any] = {"stored": index.stored()}
            if self._counts_months:
                kept["months"] = months_of(index.dated(), self._mirror)
            return kept

    def _status(self, last: LastRun | None = None, **seen: Any) -> Status:  # noqa: ANN401 (fields)
        profile, mirror, account = self._names
        return Status(
            profile=profile,
            mirror=mirror,
            account=account,
            destination=self._destination.path,
            last=last or self._remembered,
            **seen,
        )


def months_of(dated: Iterable[tuple[str, int]], mirror: Mirror) -> dict[Month, int]:
    """How many there are of each month, from base paths and mtimes.

    The path says when it was taken by the clock where it was taken, if the layout begins with that.
    Else the file's time does, in this machine's zone: a run gives each file that it writes the
    instant when it was taken; one that was adopted keeps its own.
    """
    read = compile_layout(mirror.layout, mirror.names).month_reader()
    months: Counter[Month] = Counter()
    for base, mtime_ns in dated:
        months[(read(base) if read else None) or _month_at(mtime_ns)] += 1
    return dict(months)


def _month_at(mtime_ns: int) -> Month:
    at = (_EPOCH + timedelta(microseconds=mtime_ns // 1000)).astimezone()
    return at.year, at.month


def _is_held(folder: OpenDestination) -> bool:
    try:
        folder.check_free()
    except LockedError:
        return True
    return False
