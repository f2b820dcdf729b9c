"""Everything that can go wrong on the way to a server and inside it, on request.

sandbox.faults.add(Truncated(after_bytes=1000), asset_id=photo.id, times=1)
sandbox.faults.add(Answered(429, headers={"Retry-After": "1"}), path="/api/search/*", skip=2)
sandbox.faults.add(Happens(sandbox.faults.begin_maintenance), skip=12, times=1)
sandbox.faults.disk_lost = True
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

# -- what happens ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reset:
    """The connection is cut before an answer."""


@dataclass(frozen=True)
class Stalled:
    """Nothing more is sent after so many bytes of the body, until `released` is set (or for good).

    With `after_bytes` None not even the status is sent.
    """

    after_bytes: int | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Truncated:
    """The connection is cut after so many bytes of the body; Content-Length promises them all."""

    after_bytes: int


@dataclass(frozen=True)
class Corrupted:
    """One byte of the body is another."""

    at_byte: int = 0


@dataclass(frozen=True)
class Answered:
    """Another answer instead: a proxy's 502, a 429 with Retry-After, JSON under an image type."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Happens:
    """Something changes in front of a request, which is the first to be answered by it.

    With `skip` and `times=1` half-way through a listing or a run: maintenance begins, a permission
    or a disk is lost, somebody deletes a photo.
    """

    what: Callable[[], object]


Effect: TypeAlias = Reset | Stalled | Truncated | Corrupted | Answered | Happens


def redirected(url: str, status: int = 302) -> Answered:
    """Somewhere else, perhaps another origin."""
    return Answered(status, headers={"Location": url})


def bad_gateway() -> Answered:
    """What a reverse proxy says while Immich restarts."""
    page = b"<html><head><title>502 Bad Gateway</title></head></html>"
    return Answered(502, page, {"Content-Type": "text/html"})


def json_as_image(status: int = 200) -> Answered:
    """An error's body under the type of a photo, as 2.x and 3.x do it."""
    headers = {"Content-Type": "image/jpeg; charset=utf-8"}
    return Answered(status, b'{"message":"Not Found"}', headers)


# -- to which requests -----------------------------------------------------------------------------


@dataclass
class Rule:
    """An effect and the requests it meets: after the first `skip`, `times` of them (None: all)."""

    effect: Effect
    method: str | None = None
    path: str | None = None  # as in a shell: "/api/search/*"
    asset_id: str | None = None
    key: str | None = None  # the name of the API key
    skip: int = 0
    times: int | None = None
    met: int = 0  # requests that matched so far

    def strikes(self, method: str, path: str, key: str | None) -> bool:
        """Count a request; whether the effect is for it."""
        if not self._matches(method, path, key):
            return False
        self.met += 1
        number = self.met - self.skip
        return number > 0 and (self.times is None or number <= self.times)

    def _matches(self, method: str, path: str, key: str | None) -> bool:
        return (
            self.method in {None, method}
            and (self.path is None or fnmatchcase(path, self.path))
            and (self.asset_id is None or self.asset_id in path.split("/"))
            and self.key in {None, key}
        )


@dataclass
class Faults:
    """What is wrong at present; nothing, to begin with.

    Revoked keys and missing permissions are the keys' own (`sandbox.key(name)`), other bytes under
    an id are `library.replace`.
    """

    rules: list[Rule] = field(default_factory=list)
    maintenance: bool = False
    disk_lost: bool = False  # no original can be read
    lost_files: set[str] = field(default_factory=set)  # nor these, by asset id
    hidden: set[str] = field(default_factory=set)  # assets that searches find by their id alone
    # Assets of a date that JSON cannot say, such as 0044 BC: their page is a 500, and so are they.
    undatable: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)  # assets that a page lists twice
    short_pages: int = 0  # rows missing at the end of every page, which says there are no more

    def add(
        self,
        effect: Effect,
        *,
        method: str | None = None,
        path: str | None = None,
        asset_id: str | None = None,
        key: str | None = None,
        skip: int = 0,
        times: int | None = None,
    ) -> Rule:
        """Let something go wrong; the returned rule counts what it met."""
        rule = Rule(effect, method, path, asset_id, key, skip, times)
        self.rules.append(rule)
        return rule

    def striking(self, method: str, path: str, key: str | None) -> list[Effect]:
        """What goes wrong with this request; every rule counts it. What happens has happened."""
        effects = [rule.effect for rule in self.rules if rule.strikes(method, path, key)]
        for effect in effects:
            if isinstance(effect, Happens):
                effect.what()
        return [effect for effect in effects if not isinstance(effect, Happens)]

    def begin_maintenance(self) -> None:
        """An administrator closes the server."""
        self.maintenance = True

    def clear(self) -> None:
        """All is well again."""
        self.__init__()  # type: ignore[misc]  # the defaults are written once, above
