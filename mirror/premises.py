"""What a destination offers before a run: its disk, its marker, and what it has already.

Leaves no trace.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.core.model import Destination
from mirror.destinations import site_of, unwritable
from mirror.errors import (
    DestinationError,
    MirrorError,
    NoSpaceError,
    OtherAccountError,
    UnwritableError,
)
from mirror.index import Index
from mirror.sizes import size
from mirror.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """One destination; sizes are estimated where the server does not tell them."""

    status: Status
    mount: str | None  # where the disk is mounted; None: that is not to be known
    free_bytes: int | None
    to_come: int | None = None  # assets that are listed and not there; None: nothing was listed
    to_come_bytes: int | None = None
    problems: tuple[MirrorError, ...] = ()


def premises(
    status: Status,
    destination: Destination,
    listed: dict[str, int] | None,
    user_id: str | None,
) -> Premises:
    """Look at it, for a mirror that lists these assets, by id with their size. Blocks."""
    place = _existing(destination.path)
    free_bytes = status.free_bytes if status.free_bytes is not None else _free_bytes(place)
    if status.error is not None:  # what lies there is another's, or not there
        listed = None
    coming = None if listed is None else _coming(destination, listed)
    seen = Premises(
        status=status,
        mount=_mount(place),
        free_bytes=free_bytes,
        to_come=None if coming is None else len(coming),
        to_come_bytes=None if coming is None else sum(coming),
    )
    return replace(seen, problems=tuple(_problems(seen, destination, place, user_id)))


def _problems(
    seen: Premises, destination: Destination, place: Path | None, user_id: str | None
) -> Iterator[MirrorError]:
    status = seen.status
    if status.error is not None:
        yield status.error
        return
    if place is not None and not os.access(place, os.W_OK | os.X_OK):
        yield UnwritableError(
            f"{destination.path}: cannot be written by this user",
            why=f"{place} gives no permission to write",
            hint="check as the user who will run it",
        )
    if status.marker and user_id and status.marker.user_id not in ("", user_id):
        yield OtherAccountError(
            f"{destination.path}: belongs to another user",
            why=f"its marker names user {status.marker.user_id}, this account is {user_id}",
            hint="check the key; to give the folder to this user, pass --rebind once",
        )
    if status.marker is None:
        yield from _others(destination)
    yield from _room(seen, destination)


def _others(destination: Destination) -> Iterator[MirrorError]:
    """Other destinations in a place that is to become one: a run would refuse it."""
    site = site_of(destination)
    try:
        with site.open() or nullcontext() as folder:
            if folder is not None:
                folder.check_alone()
    except MirrorError as error:
        yield error
    except OSError as error:
        yield unwritable(site.name, error)


def _room(seen: Premises, destination: Destination) -> Iterator[DestinationError]:
    if seen.to_come_bytes is None or seen.free_bytes is None:
        return
    if seen.to_come_bytes and seen.to_come_bytes > seen.free_bytes - destination.min_free_bytes:
        yield NoSpaceError(
            f"{destination.path}: what is to come will not fit",
            why=(
                f"about {size(seen.to_come_bytes)} are to come, {size(seen.free_bytes)} are free,"
                f" of which {size(destination.min_free_bytes)} are kept free (min_free)"
            ),
            hint="make room, select less, or choose another disk",
        )


def too_much_together(places: Sequence[Premises]) -> Iterator[DestinationError]:
    """Disks on which each destination has room by itself, and all of them have not."""
    disks: dict[str, list[Premises]] = {}
    for place in places:
        if place.mount is not None and place.to_come_bytes:
            disks.setdefault(place.mount, []).append(place)
    for mount, group in disks.items():
        coming = sum(place.to_come_bytes or 0 for place in group)
        free = min(place.free_bytes or 0 for place in group)
        if coming > free and not any(place.problems for place in group):
            yield NoSpaceError(
                f"{mount}: what is to come there will not fit",
                why=f"about {size(coming)} for {len(group)} destinations, {size(free)} are free",
                hint="make room, select less, or choose another disk for some of them",
            )


def _coming(destination: Destination, listed: dict[str, int]) -> list[int]:
    """The sizes of what is listed and not there."""
    path = site_of(destination).index_path
    if not path.exists():
        return list(listed.values())
    try:
        with Index(path, dry=True) as index:
            known = set(index.asset_ids())
    except (sqlite3.Error, OSError, MirrorError):
        return list(listed.values())  # the status says what is wrong with it
    return [size_bytes for asset_id, size_bytes in listed.items() if asset_id not in known]


# -- the disk --------------------------------------------------------------------------------------


def _existing(path: str) -> Path | None:
    """The folder, or that of its parents in which it would be made; None: it is no folder."""
    if "://" in path:
        return None
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _mount(place: Path | None) -> str | None:
    if place is None:
        return None
    real = Path(os.path.realpath(place))
    return next((str(each) for each in (real, *real.parents) if each.is_mount()), "/")


def _free_bytes(place: Path | None) -> int | None:
    if place is None:
        return None
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
