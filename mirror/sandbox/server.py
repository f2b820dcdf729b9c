"""The sample server on loopback: sockets in, replies out, a log of what was asked."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self

from aiohttp import BodyPartReader, web

from mirror.errors import UsageError
from mirror.events import Event, emit
from mirror.sandbox import routes
from mirror.sandbox.asking import Ask, Upload
from mirror.sandbox.faults import Faults
from mirror.sandbox.library import Library
from mirror.sandbox.records import Key
from mirror.sandbox.refusals import Refusal
from mirror.sandbox.replies import Reply, html, refused
from mirror.sandbox.sending import Sending

KEEP_ALIVE_S = 5.0  # node's own, which Immich leaves as it is


@dataclass
class Request:
    """One line of the log: there with the request, complete when the answer has been sent."""

    method: str
    path: str
    query: Mapping[str, str]
    key: str | None  # the name of the API key
    range: str | None
    status: int = 0  # stays so when it is cut before an answer
    sent_bytes: int = 0  # of the body
    duration_ms: float = 0

    @property
    def original_of(self) -> str | None:
        """The id of the asset whose original was asked for."""
        parts = self.path.split("/")
        return parts[3] if parts[1:3] == ["api", "assets"] and parts[4:] == ["original"] else None


class Sandbox:
    """A sample Immich server, from `async with` to its end."""

    def __init__(
        self,
        library: Library,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.library = library
        self._on_request = on_request
        self.faults = Faults()
        self.requests: list[Request] = []
        self.url = ""
        self._host, self._port = host, port
        self._numbers = itertools.count(1)
        self._runner: web.ServerRunner | None = None

    @property
    def owner_id(self) -> str:
        """The user whose keys are handed out."""
        return self.library.owner_id

    @property
    def api_keys(self) -> dict[str, str]:
        """What a client sends, by the key's short name; revoked ones too."""
        return {key.short_name: key.secret for key in self.library.keys}

    def key(self, name: str) -> Key:
        """A key by its short name, to be revoked or to lose a permission.

        Raises:
            LookupError: there is none.
        """
        for key in self.library.keys:
            if key.short_name == name:
                return key
        raise LookupError(name)

    def originals_sent(self, asset_id: str) -> int:
        """How often the original of an asset was asked for with GET."""
        return sum(
            request.original_of == asset_id and request.method == "GET" for request in self.requests
        )

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            UsageError: the port is taken.
        """
        server = web.Server(self._serve, keepalive_timeout=KEEP_ALIVE_S, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"the sandbox cannot listen on {self._host}:{self._port}"
            raise UsageError(what, why=str(error), hint="port 0 finds a free one") from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # -- one request -------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        began_s = time.monotonic()
        key = self._key_sent(request)
        line = self._log(request, key)
        sending = Sending(request, self.faults.striking(request.method, request.path, line.key))
        correlation_id = f"{next(self._numbers):08x}"
        try:
            reply = sending.instead() or await self._reply(request, correlation_id)
            self._stamp(reply, correlation_id)
            return await sending.send(reply)
        finally:
            line.status, line.sent_bytes = sending.status, sending.sent_bytes
            line.duration_ms = round(1000 * (time.monotonic() - began_s), 3)
            if self._on_request is not None:
                self._on_request(line)

    def _log(self, request: web.BaseRequest, key: Key | None) -> Request:
        """At once, so that whoever has read an answer finds its line."""
        line = Request(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            key=key.short_name if key else None,
            range=request.headers.get("Range"),
        )
        self.requests.append(line)
        return line

    def _stamp(self, reply: Reply, correlation_id: str) -> None:
        modern = self.library.dialect.modern
        reply.headers["X-Correlation-ID" if modern else "x-immich-cid"] = correlation_id
        reply.headers["Date"] = format_datetime(self.library.clock(), usegmt=True)

    async def _reply(self, request: web.BaseRequest, correlation_id: str) -> Reply:
        try:
            reply = await self._answer(request)
        except Refusal as refusal:
            modern = self.library.dialect.modern
            body = refusal.body(modern=modern, correlation_id=correlation_id)
            return refused(body, refusal.status, refusal.headers)
        return _unchanged(reply, request) or reply

    async def _answer(self, request: web.BaseRequest) -> Reply:
        """In the server's order: body parser, route, key, permission, then the route itself."""
        body = await _read_body(request)
        found = routes.resolve(request.method, request.path, maintenance=self.faults.maintenance)
        if found is None:
            return self._no_route(request)
        route, parts = found
        key = None if route.permission is None else self._admit(request, route.permission)
        return route.answer(
            Ask(
                library=self.library,
                faults=self.faults,
                query=request.query,
                headers=request.headers,
                body=body,
                parts=parts,
                key=key,
            )
        )

    def _no_route(self, request: web.BaseRequest) -> Reply:
        """Outside /api any GET is answered with the web app's page, here an empty one."""
        inside = request.path.startswith(("/api/", "/.well-known/"))
        if request.method in {"GET", "HEAD"} and not inside:
            return html("")
        raise Refusal(404, f"Cannot {request.method} {request.raw_path}")

    # -- keys --------------------------------------------------------------------------------------

    def _admit(self, request: web.BaseRequest, permission: str) -> Key:
        """The first credential present decides; there is no second chance.

        Source: auth.service.ts (1.132 to 3.1).
        """
        if _sent(request, "x-immich-share-key", "key") or _sent(
            request, "x-immich-share-slug", "slug"
        ):
            raise Refusal(401, "Invalid share key")
        if _session(request):
            raise Refusal(401, "Invalid user token")
        if not _sent(request, "x-api-key", "apiKey"):
            raise Refusal(401, "Authentication required")
        key = self._key_sent(request)
        if key is None or key.revoked:
            raise Refusal(401, "Invalid API key")
        if permission and not key.may(permission):
            raise Refusal(403, f"Missing required permission: {permission}")
        return key

    def _key_sent(self, request: web.BaseRequest) -> Key | None:
        secret = _sent(request, "x-api-key", "apiKey")
        return next((key for key in self.library.keys if key.secret == secret), None)


def _sent(request: web.BaseRequest, header: str, query: str) -> str | None:
    return request.headers.get(header) or request.query.get(query)


def _session(request: web.BaseRequest) -> bool:
    return bool(
        _sent(request, "x-immich-user-token", "sessionKey")
        or request.headers.get("x-immich-session-token")
        or request.headers.get("Authorization", "").lower().startswith("bearer ")
        or "immich_access_token" in request.cookies
    )


# -- bodies in -------------------------------------------------------------------------------------


async def _read_body(request: web.BaseRequest) -> Any:  # noqa: ANN401 (the wire)
    if request.content_type.startswith("multipart/"):
        return await _read_form(request)
    if request.content_type != "application/json":
        return None
    text = await request.read()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refusal(400, _json_complaint(text, error), bare=True) from error


def _json_complaint(text: bytes, error: ValueError) -> str:
    """As V8 words it, for the one mistake that was recorded; otherwise as Python does."""
    if text[:1] == b"{" and isinstance(error, json.JSONDecodeError) and error.pos == 1:
        return "Expected property name or '}' in JSON at position 1 (line 1 column 2)"
    return str(error)


async def _read_form(request: web.BaseRequest) -> dict[str, str | Upload]:
    form: dict[str, str | Upload] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            continue
        data = bytes(await part.read(decode=True))
        named = part.filename
        form[part.name] = data.decode() if named is None else Upload(named, data)
    return form


# -- replies out -----------------------------------------------------------------------------------


def _unchanged(reply: Reply, request: web.BaseRequest) -> Reply | None:
    """Express answers a matching If-None-Match on GET with 304."""
    if reply.status != 200 or request.method not in {"GET", "HEAD"}:  # noqa: PLR2004
        return None
    tags = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    if reply.headers.get("ETag") not in tags:
        return None
    return Reply(304, {"ETag": reply.headers["ETag"]})


async def serve(
    library: Library,
    *,
    ready: Callable[[dict[str, Any]], None],
    port: int = 0,
    host: str = "127.0.0.1",
) -> None:
    """Run until SIGTERM or SIGINT; `ready` is given what a client needs to begin.

    Raises:
        UsageError: the port is taken.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Sandbox(library, port=port, host=host, on_request=_emit) as sandbox:
        keys = {name: sandbox.api_keys[name] for name in ("minimum", "all")}
        ready({"url": sandbox.url, "api_keys": keys, "owner_id": sandbox.owner_id})
        await stopped.wait()


def _emit(request: Request) -> None:
    """The path alone: a query may hold a key."""
    emit(
        "debug",
        Event.SANDBOX_REQUEST,
        method=request.method,
        url=request.path,
        status=request.status,
        duration_ms=request.duration_ms,
    )
