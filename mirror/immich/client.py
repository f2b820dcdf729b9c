"""The way to an Immich server: it reads, and can do nothing else.

GET, HEAD and the POST that searches; no cookies, no redirects, TLS always verified, and the key in
one header to one origin. Originals come over `Direct`, everything else over aiohttp; what an answer
means is decided here for both.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias, TypeVar

import aiohttp
from yarl import URL

from mirror import __version__
from mirror.core.model import Visibility
from mirror.errors import (
    AccountError,
    MaintenanceError,
    MirrorError,
    NotImmichError,
    TransferError,
    TransientError,
    UnknownServerError,
)
from mirror.immich import refusal
from mirror.immich.direct import Answer as DirectAnswer
from mirror.immich.direct import Direct
from mirror.immich.retry import RetryPolicy
from mirror.web import trusted

_T = TypeVar("_T")

Pace: TypeAlias = Callable[[int], Awaitable[None]]
_Response: TypeAlias = aiohttp.ClientResponse | DirectAnswer

KNOWN_MAJORS: Final = (2, 3)
# Immich closes an idle connection after 5 s (Node's default, 2.0 to 3.1).
_KEEPALIVE_S: Final = 4.0
# Listing must not wait behind downloads for a connection.
_SPARE_CONNECTIONS: Final = 2
# Each of these only reads; a POST to any other path cannot be sent.
_SEARCHES: Final = frozenset({"/search/metadata"})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PACED_BYTES: Final = 1 << 16
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
_NEVER_MEDIA: Final = ("application/json", "text/html")


class ServerVersion(NamedTuple):
    """What GET /server/version says; compares with tuples."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer, status 200 to 299."""

    status: int
    json: object
    server_date: datetime | None  # the `Date` header, aware UTC


@dataclass(frozen=True, slots=True)
class Head:
    """What HEAD says of an original; None where a proxy hides the length."""

    size_bytes: int | None
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for a connection, and for the next bytes; a whole body may take any time."""

    connect_s: float = 10.0
    read_s: float = 60.0


class Original:
    """An open answer of /assets/{id}/original, headers read, body not yet."""

    def __init__(self, response: _Response, *, asked_offset: int, pace: Pace | None = None) -> None:
        self.on_bytes: Callable[[], None] | None = None  # called whenever some came
        self._response = response
        self._pace = pace
        self.status = response.status
        self.etag = response.headers.get("ETag", "")
        # From the start of the file; 0 when the server sends all of it although a part was asked.
        self.offset, self.size_bytes = _extent(response, asked_offset)

    @property
    def content_type(self) -> str:
        """The media type, as the server calls it."""
        return self._response.content_type

    async def read(self) -> bytes | memoryview:
        """The rest of the body at once, good until this is closed; for small files.

        Raises:
            TransientError: the connection broke.
        """
        if self._pace is not None:
            return b"".join([chunk async for chunk in self.chunks(_PACED_BYTES)])
        try:
            return await self._response.read()
        except refusal.BROKEN as error:
            raise refusal.of_connection(error, self._response.url) from error

    def close(self) -> None:
        """Let go of it; what was not read to its end costs the connection."""
        self._response.close()

    async def chunks(self, size_bytes: int) -> AsyncIterator[bytes | memoryview]:
        """The body in pieces of `size_bytes` or a little more, the last one shorter.

        When the connection breaks, what had come is yielded before the error, so that a resume
        gets on even over a line that never lasts for a whole piece.

        Raises:
            TransientError: the connection broke.
        """
        parts, held_bytes = list[bytes | memoryview](), 0
        broken: BaseException | None = None
        while broken is None:
            try:
                part = await self._part()
            except refusal.BROKEN as error:
                broken = error
                break
            if not part:
                break
            parts.append(part)
            held_bytes += len(part)
            if self.on_bytes is not None:
                self.on_bytes()
            if self._pace is not None:
                await self._pace(len(part))
            if held_bytes >= size_bytes:
                yield _joined(parts)
                parts, held_bytes = [], 0
        if parts:
            yield _joined(parts)
        if broken is not None:
            raise refusal.of_connection(broken, self._response.url) from broken

    async def _part(self) -> bytes | memoryview:
        # Who is to be slowed down is asked for little at a time.
        if isinstance(self._response, DirectAnswer) and self._pace is None:
            return await self._response.piece(self.on_bytes)
        return await self._response.content.readany()


def _joined(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Client:
    """A session with one account of one server; `async with`, then `connect`."""

    def __init__(
        self,
        server: str,
        api_key: str,
        *,
        account: str = "",
        connections: int = 8,
        allow_unknown_server: bool = False,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        listing_turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        pace: Pace | None = None,
    ) -> None:
        """`listing_turn` is waited for before each page of a listing, `pace` after what came."""
        self.account = account
        self.retry = retry or RetryPolicy()
        self.server_date: datetime | None = None  # as the last answer told it, aware UTC
        self.user_id: str | None = None  # whose key it is, once somebody found out
        self.finding_out = asyncio.Lock()  # one does, the others wait
        self._server = _server_url(server)
        self._api_key = api_key
        self._connections = connections
        self._allow_unknown_server = allow_unknown_server
        self._timeouts = timeouts or Timeouts()
        self._listing_turn = listing_turn
        self._pace = pace
        self._base = _candidates(self._server)[0]
        self._version: ServerVersion | None = None
        self._open_session: aiohttp.ClientSession | None = None
        self._direct: Direct | None = None  # from the first original on
        self._counted: dict[Visibility, Answer] = {}  # that nobody has used yet

    async def __aenter__(self) -> Self:
        self._open_session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections + _SPARE_CONNECTIONS,
                keepalive_timeout=_KEEPALIVE_S,
                ssl=trusted() if self._server.scheme == "https" else True,
            ),
            # A stray cookie would win over the key.
            cookie_jar=aiohttp.DummyCookieJar(),
            # Neither proxies nor ~/.netrc: its Authorization header would win over the key.
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._timeouts.connect_s,
                sock_read=self._timeouts.read_s,
            ),
            headers=self._headers | {"Accept-Encoding": "gzip, deflate"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._direct is not None:
            self._direct.close()
        await self._session.close()

    @property
    def version(self) -> ServerVersion:
        """The server's version, once connected."""
        if self._version is None:
            raise RuntimeError("connect() first")
        return self._version

    @property
    def url(self) -> str:
        """The API's address, as found."""
        return str(self._base)

    async def connect(self) -> ServerVersion:
        """Find the API, its version, and that it is not in maintenance.

        Raises:
            ServerUnreachableError, NotImmichError, MaintenanceError, UnknownServerError.
        """
        version = await self._find()
        if await self.in_maintenance():
            raise _maintenance(self._base)
        if version.major not in KNOWN_MAJORS and not self._allow_unknown_server:
            raise UnknownServerError(
                f"{self._base.origin()} runs Immich {version}, which is not known here",
                why="it may ignore filters that it does not know, and list everything",
                hint="get a newer version of this program, or use --allow-unknown-server",
            )
        self._version = version
        return version

    async def in_maintenance(self) -> bool:
        """Whether the server says that it is in maintenance.

        Raises:
            AccountError: as `get`.
        """
        return await self._retried("GET", "/server/config", self._in_maintenance)

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """GET a path below /api, tried again while that may help.

        Raises:
            AccountError: see `mirror.immich.refusal`; RequestError carries the status and the
                server's words in `why`.
        """
        return await self._retried("GET", path, lambda: self._json("GET", path, params=params))

    async def month_counts(self, visibility: Visibility, *, keep: bool = False) -> Answer:
        """GET /timeline/buckets: how many own assets each month has.

        `keep`: for the next who asks, too.

        Raises:
            AccountError: as `get`.
        """
        answer = self._counted.pop(visibility, None)
        if answer is None:
            answer = await self.get("/timeline/buckets", {"visibility": visibility.value})
        if keep:
            self._counted[visibility] = answer
        return answer

    async def search(self, body: Mapping[str, object]) -> Answer:
        """POST /search/metadata, tried again while that may help.

        Raises:
            AccountError: as `get`.
        """
        path = "/search/metadata"

        async def once() -> Answer:
            async with self._listing_turn():
                return await self._json("POST", path, body=body)

        return await self._retried("POST", path, once)

    def original(
        self, asset_id: str, *, offset: int = 0, etag: str = ""
    ) -> AbstractAsyncContextManager[Original]:
        """Open an original: one attempt, from `offset` if the server grants it.

        `etag` must be what an earlier answer gave, `W/` included: the rest is only sent while it
        holds, otherwise the whole file is (`Original.offset` says which). Never ask from the end of
        the file: Immich answers 404 (3.x) or 500 (2.x) instead of 416.

        Raises:
            TransientError: worth another try.
            TransferError: the answer is no original.
            UnavailableError: this asset's original is not to be had.
            AccountError: the key, a permission, or maintenance: no asset will come.
        """
        return _Opening(self._opened(asset_id, offset, etag))

    async def original_head(self, asset_id: str) -> Head:
        """Size and ETag of an original without its bytes; tried again while that may help.

        Raises:
            UnavailableError, AccountError: as `original`.
        """
        path = f"/assets/{asset_id}/original"
        return await self._retried("HEAD", path, lambda: self._head(path))

    # -- one attempt -------------------------------------------------------------------------------

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open_session is None:
            raise RuntimeError("use `async with`")
        return self._open_session

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-api-key": self._api_key, "User-Agent": f"immich-mirror/{__version__}"}

    async def _opened(self, asset_id: str, offset: int, etag: str) -> Original:
        headers: dict[str, str] = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if etag:
                headers["If-Range"] = etag
        response = await self._answered(f"/assets/{asset_id}/original", headers)
        try:
            await self._check_original(response)
            return Original(response, asked_offset=offset, pace=self._pace)
        except BaseException:
            response.close()
            raise

    async def _answered(self, path: str, headers: dict[str, str]) -> _Response:
        """The cheap way, and aiohttp's where that leads nowhere."""
        if self._direct is None:
            self._direct = Direct(
                self._base,
                self._headers | _AS_IT_IS,
                connect_s=self._timeouts.connect_s,
                read_s=self._timeouts.read_s,
                idle_s=_KEEPALIVE_S,
            )
        try:
            answer = await self._direct.get(path, headers)
        except OSError as error:
            raise refusal.of_connection(error, self._url(path)) from error
        return answer or await self._send("GET", path, headers=headers | _AS_IT_IS)

    async def _retried(self, method: str, path: str, once: Callable[[], Awaitable[_T]]) -> _T:
        url = str(self._url(path))
        return await self.retry.run(once, method=method, url=url, account=self.account)

    def _url(self, path: str) -> URL:
        return URL(f"{self._base}{path}", encoded=True)  # ids and fixed words need no quoting

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        if method not in ("GET", "HEAD") and (method, path) not in {("POST", s) for s in _SEARCHES}:
            raise ValueError(f"{method} {path} could change something")
        url = self._url(path)
        try:
            response = await self._session.request(
                method, url, params=params, json=body, headers=headers, allow_redirects=False
            )
        except refusal.BROKEN as error:
            broken = refusal.of_connection(error, url)
            raise (broken.outcome if refusal.is_certificate(error) else broken) from error
        if response.status // 100 == 3:  # noqa: PLR2004 (the class of redirects)
            response.close()
            raise refusal.redirected(url, response.headers.get("Location", ""))
        return response

    async def _json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Answer:
        async with await self._send(method, path, params=params, body=body) as response:
            text = await _body(response)
            if self._pace is not None:
                await self._pace(response.content_length or len(text))
            if not response.ok:
                raise await self._refused(response, text, f"{method} {path}")
            date = refusal.server_date(response.headers.get("Date", ""))
            self.server_date = date or self.server_date
            return Answer(response.status, _decoded(response, text), date)

    async def _refused(
        self, response: aiohttp.ClientResponse, text: bytes, request: str
    ) -> AccountError:
        if response.status == HTTPStatus.NOT_FOUND:
            message = refusal.message_of(text)
            if not message or refusal.is_unknown_route(message):
                return await self._route_missing(response)
        return refusal.of_json(response.status, response.headers, text, request)

    async def _route_missing(self, response: _Response) -> AccountError:
        if await self._in_maintenance():
            return _maintenance(self._base)
        return NotImmichError(
            f"{response.url.origin()} does not know {response.url.path}",
            why="404, and the server is not in maintenance",
            hint="is server the address of Immich itself, version 2.0 or later?",
        )

    async def _check_original(self, response: _Response) -> None:
        if response.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            _check_media(response)
            return
        text = await _body(response)
        if response.status == HTTPStatus.NOT_FOUND and (
            response.method == "HEAD" or refusal.is_unknown_route(refusal.message_of(text))
        ):
            await self._check_maintenance(response)
        request = response.url.path
        raise refusal.of_original(response.status, response.headers, text, request)

    async def _check_maintenance(self, response: _Response) -> None:
        error = await self._route_missing(response)
        # Without a body a missing route and a missing original look alike.
        if isinstance(error, MaintenanceError) or response.method != "HEAD":
            raise error

    async def _head(self, path: str) -> Head:
        async with await self._send("HEAD", path, headers=_AS_IT_IS) as response:
            await self._check_original(response)
            return Head(response.content_length, response.headers.get("ETag", ""))

    # -- discovery ---------------------------------------------------------------------------------

    async def _find(self) -> ServerVersion:
        first_error: MirrorError | None = None
        for base in _candidates(self._server):
            self._base = base
            try:
                return _version((await self.get("/server/version")).json)
            except NotImmichError as error:
                first_error = first_error or error
        raise first_error or NotImmichError(f"{self._server} is no address")

    async def _in_maintenance(self) -> bool:
        # /server/config answers in maintenance too (2.3 and later; before there was no such mode).
        url = self._url("/server/config")
        async with await self._send("GET", "/server/config") as response:
            text = await _body(response)
            if response.status == HTTPStatus.NOT_FOUND:
                return False
            if not response.ok:
                raise refusal.of_json(response.status, response.headers, text, f"GET {url.path}")
            answer = _decoded(response, text)
        return isinstance(answer, Mapping) and answer.get("maintenanceMode") is True


class _Opening:
    """An original that is open while a block runs; a generator would cost more than the headers."""

    __slots__ = ("_opened", "_opening")

    def __init__(self, opening: Awaitable[Original]) -> None:
        self._opening = opening

    async def __aenter__(self) -> Original:
        self._opened = await self._opening
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        self._opened.close()


def _server_url(server: str) -> URL:
    hint = 'write server = "https://photos.example.org"'
    try:
        url = URL(server.strip().rstrip("/"))
    except ValueError as error:
        raise NotImmichError(f"{server!r} is no address", why=str(error), hint=hint) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise NotImmichError(f"{server!r} is no http or https address", hint=hint)
    if url.user is not None or url.password is not None:
        raise NotImmichError(f"the address of {url.host} holds a user name or password", hint=hint)
    return url.with_query(None).with_fragment(None)


def _candidates(server: URL) -> list[URL]:
    path = server.path.rstrip("/")
    given = server.with_path(path if path.endswith("/api") else f"{path}/api")
    # Someone may have copied the address of a page: https://host/photos.
    return list(dict.fromkeys([given, server.with_path("/api")]))


def _version(answer: object) -> ServerVersion:
    parts = (
        [answer.get(key) for key in ("major", "minor", "patch")]
        if isinstance(answer, Mapping)
        else []
    )
    numbers = [part for part in parts if isinstance(part, int)]
    if len(numbers) != 3:  # noqa: PLR2004 (major, minor, patch)
        raise NotImmichError("/server/version does not answer as Immich does")
    return ServerVersion(*numbers)


def _maintenance(base: URL) -> MaintenanceError:
    return MaintenanceError(
        f"{base.origin()} is in maintenance mode", hint="run again when it is over"
    )


async def _body(response: _Response) -> bytes:
    try:
        return bytes(await response.read())
    except refusal.BROKEN as error:
        raise refusal.of_connection(error, response.url) from error


def _decoded(response: aiohttp.ClientResponse, text: bytes) -> object:
    if response.content_type != "application/json":
        raise refusal.unreadable(response.url, response.content_type)
    try:
        answer: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotImmichError(
            f"{response.url.path} answers with JSON that cannot be read", why=str(error)
        ) from error
    return answer


def _check_media(response: _Response) -> None:
    if response.content_type in _NEVER_MEDIA:
        raise TransferError(
            f"{response.url.path}: not an original", why=f"it is {response.content_type}"
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise TransferError(
            f"{response.url.path}: the original comes compressed",
            why=f"Content-Encoding: {encoding}",
            hint="tell the proxy in front of Immich to leave originals alone",
        )


def _extent(response: _Response, asked_offset: int) -> tuple[int, int | None]:
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0, response.content_length
    text = response.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None or int(found[1]) != asked_offset:
        raise TransferError(
            f"{response.url.path}: another part of the file than was asked for",
            why=f"asked from byte {asked_offset}, got {text or 'no Content-Range'}",
        )
    return asked_offset, None if found[3] == "*" else int(found[3])


__all__ = [
    "Answer",
    "Client",
    "Head",
    "Original",
    "RetryPolicy",
    "ServerVersion",
    "Timeouts",
    "TransientError",
]
