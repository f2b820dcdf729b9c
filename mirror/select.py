"""From a mirror's filter to a listing: names become ids, fields are checked against the server."""

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.core.filter import SearchError, check_search
from mirror.core.layout import Layout
from mirror.core.model import Filter, Mirror
from mirror.errors import Problem, ProfileError
from mirror.events import Event, emit
from mirror.immich.client import Client
from mirror.immich.listing import Selection
from mirror.immich.names import resolve

Pins = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Selected:
    """What to list, the names that became ids for the first time, and those that are no more."""

    selection: Selection
    new_pins: Pins
    vanished: tuple[str, ...]


async def selected(
    mirror: Mirror,
    layout: Layout,
    client: Client,
    *,
    user_id: str | None,
    pins: Mapping[tuple[str, str], str],
) -> Selected:
    """The selection of a mirror.

    Raises:
        ProfileError: a field or name that the server does not know.
        AccountError: the server does not answer, or a permission is missing.
    """
    new_pins: Pins = {}
    vanished: list[str] = []

    async def ids(filter_: Filter) -> Filter:
        _check(mirror, filter_, client)
        resolved = await resolve(client, filter_, pins)
        new_pins.update(resolved.new_pins)
        vanished.extend(str(name) for name in resolved.vanished)
        return resolved.filter

    selection = Selection(
        filter=await ids(mirror.filter),
        user_id=user_id,
        exclude=tuple([await ids(exclude) for exclude in mirror.exclude]),
        live_photos=mirror.live_photos,
        needs_exif=layout.needs_exif,
    )
    for reason in vanished:
        emit("warning", Event.NAME_VANISHED, reason=reason)
    return Selected(selection, new_pins, tuple(vanished))


def _check(mirror: Mirror, filter_: Filter, client: Client) -> None:
    try:
        check_search(filter_.search, client.version)
    except SearchError as error:
        place = f"mirror {mirror.name}"
        problem = Problem(place, error.key, error.what, error.hint)
        raise ProfileError(
            f"Immich {client.version} cannot be asked for this", [problem]
        ) from error
