"""A request that was let in, and how the modules of this package say which ones they answer.

An answer is a function of the library and the request alone; nothing here knows of sockets.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from mirror.sandbox import validation
from mirror.sandbox.faults import Faults
from mirror.sandbox.library import Library
from mirror.sandbox.records import LOCKED, Album, Key, StoredAsset, User
from mirror.sandbox.refusals import JsonObject, Refusal, no_access, not_a_uuid
from mirror.sandbox.replies import Reply


@dataclass(frozen=True)
class Upload:
    """A file of a multipart form."""

    name: str
    data: bytes


@dataclass
class Ask:
    """A request that was let in."""

    library: Library
    faults: Faults
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # JSON, or the fields of a form
    parts: Mapping[str, str] = field(default_factory=dict)  # of the path, by name
    key: Key | None = None  # None on public routes

    @property
    def modern(self) -> bool:
        """Whether the server is 3.x."""
        return self.library.dialect.modern

    @cached_property
    def user_id(self) -> str:
        """Whose key it is."""
        if self.key is None:
            raise Refusal(401, "Authentication required")
        return self.key.user_id

    @property
    def user(self) -> User:
        """Whose key it is."""
        return self.library.users[self.user_id]

    def id(self, name: str = "id") -> str:
        """An id in the path."""
        value = self.parts[name]
        if not validation.is_uuid(value):
            raise not_a_uuid([name], modern=self.modern)
        return value

    def flag(self, name: str) -> bool | None:
        """`true` or `false` in the query, None if it is not there."""
        value = self.query.get(name)
        if value not in {None, "true", "false"}:
            raise self.bad_query(f"{name} must be a boolean value")
        return None if value is None else value == "true"

    def number(self, name: str, default: int, *, highest: int) -> int:
        """A count in the query, from 1."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or not 1 <= int(text) <= highest:
            raise self.bad_query(f"{name} must be a number from 1 to {highest}")
        return int(text)

    def visibility(self) -> str | None:
        """What the query asks for; never the locked folder."""
        wanted = {name: self.query[name] for name in ("visibility",) if name in self.query}
        visibility = validation.read(wanted, modern=self.modern).get("visibility")
        if visibility == LOCKED:
            raise Refusal(401, "Elevated permission is required")
        return visibility

    def bad_query(self, text: str) -> Refusal:
        """A query that is no valid one; the words are not the server's."""
        if self.modern:
            return Refusal(400, "Validation failed", issues=[{"message": text}])
        return Refusal(400, [text])

    @property
    def object(self) -> JsonObject:
        """The body of a request in JSON, empty when there is none."""
        return self.body if isinstance(self.body, dict) else {}

    def album(self, album_id: str) -> Album:
        """An album that the user made or is in.

        Raises:
            Refusal: it is neither.
        """
        for album in self.library.albums_of(self.user_id):
            if album.id == album_id:
                return album
        raise no_access("album.read")

    def asset(self, permission: str = "asset.read") -> StoredAsset:
        """The asset that the path names."""
        return self.library.readable(self.id(), self.user_id, permission)


Answer: TypeAlias = Callable[[Ask], Reply]


@dataclass(frozen=True)
class Route:
    """`permission` None: public. Empty: any key."""

    method: str
    pattern: re.Pattern[str]
    permission: str | None
    answer: Answer
    in_maintenance: bool = False


class Routes(list[Route]):
    """The routes of one module, in the order in which they are tried."""

    def add(
        self, method: str, path: str, permission: str | None, *, in_maintenance: bool = False
    ) -> Callable[[Answer], Answer]:
        """Declare a route; `{id}` in its path is one segment."""
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

        def declare(answer: Answer) -> Answer:
            self.append(Route(method, pattern, permission, answer, in_maintenance))
            return answer

        return declare
