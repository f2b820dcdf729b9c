"""The quarantines of a profile: listed, given back, emptied; no server is asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mirror import logs
from mirror.core.model import Destination, Mirror
from mirror.destinations import OpenDestination
from mirror.destinations.identity import Known
from mirror.errors import MirrorError, NotMountedError, UsageError
from mirror.index import Index
from mirror.offline import held
from mirror.profile import Chosen
from mirror.quarantine import Restored, Waiting, aged, chosen, copy_out, put_back, waiting
from mirror.removal import purge
from mirror.threads import in_thread


@dataclass(frozen=True, slots=True)
class Shelf:
    """One destination's quarantine, as it was found, or why it could not be."""

    mirror: str
    destination: Destination
    now: datetime
    items: tuple[Waiting, ...] = ()
    purged: int = 0
    error: MirrorError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be given back: by path, by run, or everything."""

    paths: Sequence[str] = ()
    run_id: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Who goes through the quarantines of a profile."""

    choice: Chosen
    known: Known
    wait_s: float = 0.0
    now: datetime

    async def listed(self) -> list[Shelf]:
        """What waits at each destination; nothing is written."""
        return [await self._shelf(*part) for part in self._parts()]

    async def purged(self, days: int | None) -> list[Shelf]:
        """Delete for good what was put there so many days ago; None: whatever is recorded."""
        return [await self._shelf(*part, purges=True, days=days) for part in self._parts()]

    async def restore(self, wanted: Wanted, to: Path | None, results: list[Restored]) -> None:
        """Give files back; what became of each goes into `results` as it happens.

        Raises:
            UsageError: there is no such file.
            MirrorError: a destination cannot be used.
        """
        async with AsyncExitStack() as stack:
            found: list[tuple[OpenDestination, Waiting]] = []
            indexes: list[tuple[OpenDestination, Index]] = []
            for mirror, destination in self._parts():
                _check_outside(to, destination)
                folder, index = await stack.enter_async_context(self._held(mirror, destination))
                indexes.append((folder, index))
                items = await in_thread(waiting, folder, index, self.now)
                found += [(folder, each) for each in items]
            picked = _picked(found, wanted)
            for folder, index in indexes:
                own = [each for there, each in picked if there is folder]
                await in_thread(_restore, folder, index, own, to, results)

    def _parts(self) -> list[tuple[Mirror, Destination]]:
        return [(mirror, each) for mirror in self.choice.mirrors for each in mirror.destinations]

    @asynccontextmanager
    async def _held(
        self, mirror: Mirror, destination: Destination, *, dry: bool = False
    ) -> AsyncIterator[tuple[OpenDestination, Index]]:
        profile = self.choice.profile.name
        with logs.bound(profile=profile, mirror=mirror.name, destination=destination.path):
            async with held(
                destination, self.known, f"{profile}/{mirror.name}", dry=dry, wait_s=self.wait_s
            ) as place:
                if place.folder is None:
                    raise NotMountedError(f"{place.name}: is not there")
                yield place.folder, place.index

    async def _shelf(
        self,
        mirror: Mirror,
        destination: Destination,
        *,
        purges: bool = False,
        days: int | None = None,
    ) -> Shelf:
        items: list[Waiting] = []
        count = 0
        try:
            async with self._held(mirror, destination, dry=not purges) as (folder, index):
                items = await in_thread(waiting, folder, index, self.now)
                if purges:
                    going = [each.item for each in items if each.is_recorded]
                    going = going if days is None else aged(items, days, self.now)
                    count = await in_thread(purge, folder, index, going)
        except MirrorError as error:
            return Shelf(mirror.name, destination, self.now, tuple(items), error=error)
        return Shelf(mirror.name, destination, self.now, tuple(items), purged=count)


def keeper(choice: Chosen, known: Known, wait_s: float) -> Keeper:
    """One with this machine's clock: no server's is asked."""
    return Keeper(choice=choice, known=known, wait_s=wait_s, now=datetime.now(UTC))


def _check_outside(to: Path | None, destination: Destination) -> None:
    if destination.is_remote:
        return
    if to is not None and to.resolve().is_relative_to(Path(destination.path).resolve()):
        raise UsageError(
            f"{to}: lies in the destination itself",
            hint="without --to files get the path that they had",
        )


def _picked(
    found: Sequence[tuple[OpenDestination, Waiting]], wanted: Wanted
) -> Sequence[tuple[OpenDestination, Waiting]]:
    if wanted.everything:
        return found
    if wanted.run_id is None:
        return chosen(found, wanted.paths)
    picked = [(folder, each) for folder, each in found if each.run_id == wanted.run_id]
    if not picked:
        raise UsageError(
            f"{wanted.run_id}: nothing in quarantine is of such a run",
            hint="see `mirror quarantine list`",
        )
    return picked


def _restore(
    folder: OpenDestination,
    index: Index,
    items: Sequence[Waiting],
    to: Path | None,
    results: list[Restored],
) -> None:
    done = put_back(folder, index, items) if to is None else copy_out(folder, index, items, to)
    for restored in done:
        results.append(restored)  # noqa: PERF402 (what is done by then counts, should it break off)
