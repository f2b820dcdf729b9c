"""Names of people, albums and tags become ids, once: from then on the id is pinned.

Nothing is asked for a filter that holds ids only, or none.
"""

import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from mirror.core.filter import is_id
from mirror.core.model import Choice, Filter
from mirror.errors import AmbiguousNameError, PermissionMissingError, UnknownNameError
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.wire import Row

Pin: TypeAlias = tuple[str, str]  # ("people", "Grandma"): the filter's key and a name

_PEOPLE_PAGE: Final = "1000"
_NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class Vanished:
    """A name that used to mean an id and no longer does; the id is still what is asked for."""

    kind: str  # "people", "albums" or "tags"
    name: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name!r} no longer names {self.id}, which is still asked for"


@dataclass(slots=True)
class ResolvedFilter:
    """A filter that holds ids only."""

    filter: Filter
    new_pins: dict[Pin, str] = field(default_factory=dict)
    vanished: list[Vanished] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Named:
    id: str
    names: tuple[str, ...]  # what it may be called, the most exact first
    remark: str  # tells it from others of the same name


async def resolve(
    client: Client, filter_: Filter, pinned: Mapping[Pin, str] | None = None
) -> ResolvedFilter:
    """The filter with ids for names: pinned ones as they are, others looked up.

    Raises:
        UnknownNameError: nothing has that name; lists the nearest.
        AmbiguousNameError: several have it; lists their ids.
        PermissionMissingError: the key may not look up names; ids would do.
    """
    resolved = ResolvedFilter(filter_)
    for kind, choice in (
        ("people", filter_.people),
        ("albums", filter_.albums),
        ("tags", filter_.tags),
    ):
        if choice is not None and not all(is_id(value) for value in choice.values):
            named = await _allowed(client, kind)
            ids = [_one(kind, value, named, pinned or {}, resolved) for value in choice.values]
            _put(resolved, kind, Choice(tuple(dict.fromkeys(ids)), every=choice.every))
    return resolved


def _put(resolved: ResolvedFilter, kind: str, choice: Choice) -> None:
    if kind == "people":
        resolved.filter = replace(resolved.filter, people=choice)
    elif kind == "albums":
        resolved.filter = replace(resolved.filter, albums=choice)
    else:
        resolved.filter = replace(resolved.filter, tags=choice)


def _one(
    kind: str, value: str, named: list[_Named], pinned: Mapping[Pin, str], resolved: ResolvedFilter
) -> str:
    if is_id(value):
        return value
    called = _called(value, named)
    pin = pinned.get((kind, value))
    if pin is not None:
        # Whoever has the name now, the mirror goes on with what the name meant at first.
        if pin not in [one.id for one in called]:
            resolved.vanished.append(Vanished(kind, value, pin))
        return pin
    found = _only(kind, value, called, named)
    resolved.new_pins[(kind, value)] = found
    return found


def _called(name: str, named: list[_Named]) -> list[_Named]:
    """Those whose most exact name it is; else those who are called so at all."""
    return [one for one in named if one.names[0] == name] or [
        one for one in named if name in one.names
    ]


def _only(kind: str, name: str, called: list[_Named], named: list[_Named]) -> str:
    if len(called) == 1:
        return called[0].id
    if called:
        raise AmbiguousNameError(
            f"{len(called)} {kind} are called {name!r}",
            hint="write an id instead: "
            + ", ".join(f"{one.id} ({one.remark})" if one.remark else one.id for one in called),
        )
    near = _nearest(name, named)
    raise UnknownNameError(
        f"none of the {kind} is called {name!r}",
        hint=f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"the account has {len(named)} {kind}; names are written as Immich shows them",
    )


def _nearest(name: str, named: list[_Named]) -> list[str]:
    folded = {label.casefold(): label for one in named for label in one.names}
    near = difflib.get_close_matches(name.casefold(), folded, n=_NEAREST)
    return [folded[label] for label in near]


# -- what the account has --------------------------------------------------------------------------


async def _allowed(client: Client, kind: str) -> list[_Named]:
    try:
        return await _CATALOGUES[kind](client)
    except PermissionMissingError as error:
        raise PermissionMissingError(
            error.what,
            why=f"names of {kind} must be looked up; {error.why}",
            hint=f"give the key that permission, or write ids instead of names of {kind}",
        ) from error


async def _people(client: Client) -> list[_Named]:
    return [
        _Named(_id(row), (_name(row, "name"),), _born(row))
        async for row in _people_rows(client)
        if row.get("name")
    ]


async def _people_rows(client: Client) -> AsyncIterator[Row]:
    number, more = 0, True
    while more:
        number += 1
        params = {"page": str(number), "size": _PEOPLE_PAGE, "withHidden": "true"}
        answer = (await client.get("/people", params)).json
        rows = wire.rows(answer, "people")
        for row in rows:
            yield row
        more = bool(rows) and wire.member(answer, "hasNextPage", bool)


def _born(row: Row) -> str:
    return f"born {row['birthDate']}" if row.get("birthDate") else ""


async def _albums(client: Client) -> list[_Named]:
    rows = wire.rows((await client.get("/albums")).json)
    if client.version < (3,):
        # 2.x lists own albums only unless it is asked for the shared ones.
        rows = rows + wire.rows((await client.get("/albums", {"shared": "true"})).json)
    albums = {
        _id(row): _Named(_id(row), (_name(row, "albumName"),), f"{row.get('assetCount')} assets")
        for row in rows
    }
    return list(albums.values())


async def _tags(client: Client) -> list[_Named]:
    # `value` is the whole path ("Travel/Japan"), `name` its last part.
    rows = wire.rows((await client.get("/tags")).json)
    return [
        _Named(_id(row), (_name(row, "value"), _name(row, "name")), _name(row, "value"))
        for row in rows
    ]


_CATALOGUES: Final[dict[str, Callable[[Client], Awaitable[list[_Named]]]]] = {
    "people": _people,
    "albums": _albums,
    "tags": _tags,
}


def _id(row: Row) -> str:
    return wire.member(row, "id", str)


def _name(row: Row, key: str) -> str:
    return wire.member(row, key, str)
