"""A destination held without its server: by what its own marker says."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Final

from mirror.core.model import Destination
from mirror.destinations.identity import Known, Owner
from mirror.errors import DestinationError, IndexBrokenError, LockedError
from mirror.events import Event, emit
from mirror.manifest import KEPT, tend_manifest
from mirror.place import Place
from mirror.threads import in_thread

_LOOK_AGAIN_S: Final = 1.0
_SYNC_FIRST: Final = "run `mirror sync`: it hashes what lies here, and downloads nothing twice"


async def claimed(place: Place, owner: Owner, now: datetime, *, wait_s: float) -> None:
    """`Place.claim`, waiting so long for another run that holds it."""
    waiting_until_s = time.monotonic() + wait_s
    while True:
        try:
            # On a thread: a lost index is made anew from every file that lies there.
            return await in_thread(place.claim, owner, now)
        except LockedError as error:
            left_s = waiting_until_s - time.monotonic()
            if left_s <= 0:
                raise
            emit("info", Event.DESTINATION_BUSY, reason=error.why, wait_s=round(left_s, 1))
            await asyncio.sleep(min(left_s, _LOOK_AGAIN_S))


@asynccontextmanager
async def held(
    destination: Destination, known: Known | None, label: str, *, dry: bool = False, wait_s: float
) -> AsyncIterator[Place]:
    """The destination as its last run left it, for the mirror that `label` names.

    Its list of checksums is true again afterwards.

    Raises:
        DestinationError: it was never mirrored to, is another mirror's, or cannot be used.
        LockedError: another run holds it.
    """
    async with Place(destination, known, dry=dry) as place:
        with place.explained():
            async with _held(place, label, dry=dry, wait_s=wait_s):
                yield place


@asynccontextmanager
async def _held(place: Place, label: str, *, dry: bool, wait_s: float) -> AsyncIterator[None]:
    user = await in_thread(place.open, new_destination=False)
    _check_is_mirrored(place)
    owner = Owner(user_id=user or "", mirror=label)
    await claimed(place, owner, datetime.now(UTC), wait_s=wait_s)
    if not place.index.count() and place.index.note(KEPT):
        raise IndexBrokenError(
            f"{place.name}: the index is lost, so nothing tells which files are whose",
            hint=_SYNC_FIRST,
        )
    with _true_manifest(place, dry=dry):
        yield


def _check_is_mirrored(place: Place) -> None:
    if not place.is_marked:
        raise DestinationError(
            f"{place.name}: nothing was mirrored here yet", hint="run `mirror sync` first"
        )
    if not place.has_index:
        raise IndexBrokenError(f"{place.name}: the index is gone", hint=_SYNC_FIRST)


@contextmanager
def _true_manifest(place: Place, *, dry: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if place.folder is not None:
            tend_manifest(place.folder, place.index, dry=dry)
