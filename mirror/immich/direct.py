"""GET over HTTP/1.1 on connections of our own, for originals: a third of what aiohttp takes.

It knows one kind of answer: a plain head, then as many bytes as Content-Length says. Whatever else
a server or a proxy says is not judged here: `Direct.get` gives None, and aiohttp asks again. What
an answer means is the client's to say, as with those of aiohttp.
"""

import asyncio
import math
import re
from asyncio import BufferedProtocol, Future, TimerHandle, get_running_loop
from collections.abc import Callable, Mapping
from typing import Final, Self, cast

from multidict import CIMultiDict
from yarl import URL

from mirror.web import trusted

_HEAD_BYTES: Final = 1 << 18  # what follows a head comes with it
_PIECE_BYTES: Final = 1 << 20
_STRAY_BYTES: Final = 1 << 12
_MOST_DIGITS: Final = 18
_REST_S: Final = 60.0  # after a connection that could not be had: aiohttp finds out why
_HAPPY_EYEBALLS_S: Final = 0.25  # as aiohttp has it
_PATH: Final = re.compile(r"[\w/.~%-]+", re.ASCII)
_STATUS: Final = re.compile(r"HTTP/1\.1 ([245]\d\d)(?: [^\r\n]*)?\r\n")  # a redirect is none
_HEADER: Final = re.compile(r"^([!-9;-~]+):[ \t]*([^\r\n]*)\r\n", re.MULTILINE)
_END: Final = b"\r\n\r\n"


class _OddError(Exception):
    """An answer of another kind."""


class Direct:
    """Connections to one server."""

    def __init__(
        self,
        base: URL,
        headers: Mapping[str, str],
        *,
        connect_s: float,
        read_s: float,
        idle_s: float,
    ) -> None:
        """`headers` go with each request; who is silent for `read_s` is given up."""
        self._base = base
        self._connect_s = connect_s
        self._read_s = read_s
        self._idle_s = idle_s
        self._tls = trusted() if base.scheme == "https" else None
        self._idle: list[_Connection] = []
        told = {"Host": base.host_port_subcomponent or "", "Accept": "*/*", **headers}
        self._headers = _lines(told)
        self._rests_until_s = 0.0 if self._headers is not None else math.inf

    def close(self) -> None:
        """Let go of the connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def get(self, path: str, headers: Mapping[str, str]) -> "Answer | None":
        """Ask for a path below the base; headers read, body not yet. None: ask by another way.

        Raises:
            OSError: the connection broke before an answer, twice.
            TimeoutError: nothing came.
        """
        request = self._request(path, headers)
        if request is None or get_running_loop().time() < self._rests_until_s:
            return None
        url = f"{self._base}{path}"
        try:
            return await self._asked(self._kept() or await self._connected(), request, url)
        except ConnectionError:
            # One that was idle may be closed in the moment that it is used.
            return await self._asked(await self._connected(), request, url)

    async def _asked(
        self, connection: "_Connection | None", request: bytes, url: str
    ) -> "Answer | None":
        if connection is None:
            return None
        try:
            return Answer(url, await connection.ask(request), connection, self._idle)
        except _OddError:
            connection.abort()
            self._rests_until_s = math.inf  # the next ones will be of that kind, too
            return None
        except TimeoutError:
            connection.abort()
            self._rests_until_s = get_running_loop().time() + _REST_S  # perhaps not understood
            raise
        except BaseException:
            connection.abort()
            raise

    def _request(self, path: str, headers: Mapping[str, str]) -> bytes | None:
        """What is sent; None: it is not for every server to understand."""
        lines = _lines(headers)
        if lines is None or not _PATH.fullmatch(path):
            return None
        text = f"GET {self._base.raw_path}{path} HTTP/1.1\r\n{self._headers}{lines}\r\n"
        return text.encode("ascii")

    def _kept(self) -> "_Connection | None":
        since_s = get_running_loop().time() - self._idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit(since_s):
                return connection
            connection.abort()
        return None

    async def _connected(self) -> "_Connection | None":
        """A new one; None: why there is none is for aiohttp to find out."""
        loop = get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._read_s),
                    self._base.raw_host or "",
                    self._base.port or 0,
                    ssl=self._tls,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_S,
                )
        except OSError:  # a timeout is one
            self._rests_until_s = loop.time() + _REST_S
            return None
        return connection


class Answer:
    """An answer whose body is still to be read, with what the client uses of aiohttp's."""

    method: Final = "GET"

    def __init__(
        self, url: str, head: "_Head", connection: "_Connection", idle: "list[_Connection]"
    ) -> None:
        """The connection goes to `idle` when all has been read."""
        self.status = head.status
        self.headers = head.headers
        self.content_length = head.size_bytes
        self._url = url
        self._connection = connection
        self._idle = idle

    @property
    def url(self) -> URL:
        """What was asked for."""
        return URL(self._url, encoded=True)

    @property
    def content_type(self) -> str:
        """The media type alone."""
        told = self.headers.get("Content-Type", "application/octet-stream")
        return told.partition(";")[0].strip().lower()

    @property
    def content(self) -> Self:
        """What gives the body in pieces."""
        return self

    async def read(self) -> bytes | memoryview:
        """The rest of the body; good until this is closed.

        Raises:
            OSError: it broke off, or nothing more came.
        """
        parts = []
        while part := await self._connection.take(_PIECE_BYTES):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def readany(self) -> memoryview:
        """What has come of it, at least one byte; none at its end. Good until this is closed.

        Raises:
            OSError: it broke off, or nothing more came.
        """
        return await self._connection.take(1)

    async def piece(self, on_bytes: Callable[[], None] | None) -> memoryview:
        """The next large piece, the last one smaller; none at its end. What came before an error.

        `on_bytes` is called whenever some came.

        Raises:
            OSError: as `readany`.
        """
        self._connection.on_bytes = on_bytes
        return await self._connection.take(_PIECE_BYTES)

    def close(self) -> None:
        """Let go of the connection, which is of use again when all came."""
        self._connection.on_bytes = None
        if self._connection.is_done and "close" not in self.headers.get("Connection", "").lower():
            self._idle.append(self._connection)
        else:
            self._connection.abort()


class _Head:
    """What comes before a body.

    Raises:
        _OddError: it is none that is known here.
    """

    __slots__ = ("headers", "size_bytes", "status")

    def __init__(self, raw: bytes) -> None:
        """From the status line to the last header, with its line's end."""
        text = raw.decode("utf-8", "surrogateescape")
        status = _STATUS.match(text)
        if status is None:
            raise _OddError
        found = _HEADER.findall(text, status.end())
        lines = text.count("\n", status.end())
        self.status = int(status[1])
        self.headers = CIMultiDict([(name, value.rstrip(" \t")) for name, value in found])
        told = self.headers.getall("Content-Length", ())
        # A line that was passed over, a body in chunks or compressed: what it means, others know.
        if len(found) != lines or len(told) != 1 or len(told[0]) > _MOST_DIGITS:
            raise _OddError
        if not (told[0].isascii() and told[0].isdigit()):
            raise _OddError
        if "Transfer-Encoding" in self.headers or "Content-Encoding" in self.headers:
            raise _OddError
        self.size_bytes = int(told[0])


class _Connection(BufferedProtocol):
    """One connection: a question, its answer, and then the next."""

    def __init__(self, read_s: float) -> None:
        self.on_bytes: Callable[[], None] | None = None
        self._read_s = read_s
        self._loop = get_running_loop()
        self._transport = cast("asyncio.Transport", None)  # until it is connected
        self._buffer = bytearray(_HEAD_BYTES)
        self._stray = bytearray(_STRAY_BYTES)  # where goes what nobody asked for
        self._came_bytes = 0  # of a head, and of what came with it
        self._asking: Future[_Head] | None = None
        # A piece of the body: what has come of it, and what of that was taken.
        self._piece = memoryview(b"")
        self._filled_bytes = 0
        self._taken_bytes = 0
        self._left_bytes = 0  # of the body, behind this piece
        self._wanted_bytes = 0
        self._coming: Future[None] | None = None  # so many of them
        self._error: Exception | None = None
        self._moved_s = 0.0
        self._watch: TimerHandle | None = None

    @property
    def is_done(self) -> bool:
        """Whether all of the answer came."""
        return not self._left_bytes and self._filled_bytes == len(self._piece)

    @property
    def _is_asked(self) -> bool:
        return self._asking is not None and not self._asking.done()

    def is_fit(self, since_s: float) -> bool:
        """Whether it can be asked again, and was used since then."""
        return self._error is None and self._moved_s >= since_s

    def abort(self) -> None:
        """Let go of it at once."""
        self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()

    async def ask(self, request: bytes) -> _Head:
        """Send a request; what comes before the body of its answer.

        Raises:
            OSError: it broke, or nothing came.
            _OddError: it is no answer that is known here.
        """
        self._came_bytes = 0
        self._asking = self._loop.create_future()
        self._transport.write(request)
        if self._error is not None:
            raise self._error
        self._keep_watch()
        return await self._asking

    async def take(self, most_bytes: int) -> memoryview:
        """So many bytes of the body; fewer at the end of a piece, none at the end of it all.

        They are good until the next question.

        Raises:
            OSError: it broke off, or nothing more came.
        """
        while self._taken_bytes < len(self._piece):
            here = self._filled_bytes - self._taken_bytes
            wanted = min(most_bytes, len(self._piece) - self._taken_bytes)
            if here >= wanted or (here and self._error is not None):
                return self._take()
            if self._error is not None:
                raise self._error
            self._wanted_bytes = wanted
            self._coming = self._loop.create_future()
            self._keep_watch()
            await self._coming
        return self._piece[:0]

    def _take(self) -> memoryview:
        part = self._piece[self._taken_bytes : self._filled_bytes]
        self._taken_bytes = self._filled_bytes
        if self._left_bytes and self._taken_bytes == len(self._piece):
            self._next_piece()
            self._transport.resume_reading()
        return part

    def _next_piece(self) -> None:
        size_bytes = min(self._left_bytes, _PIECE_BYTES)
        self._piece = memoryview(bytearray(size_bytes))
        self._filled_bytes = self._taken_bytes = 0
        self._left_bytes -= size_bytes

    # -- as asyncio calls it -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._fail(error or ConnectionResetError("the server hung up"))

    def get_buffer(self, _: int) -> memoryview:
        """Where the next bytes go."""
        if self._error is not None or (self.is_done and not self._is_asked):
            return memoryview(self._stray)  # the body lies in the buffer, and may still be read
        if not self.is_done:
            return self._piece[self._filled_bytes :]
        return memoryview(self._buffer)[self._came_bytes :]

    def buffer_updated(self, size_bytes: int) -> None:
        """There they are."""
        self._moved_s = self._loop.time()
        if self._error is not None:
            return
        if self.is_done:
            self._read_head(size_bytes)
            return
        if self.on_bytes is not None:
            self.on_bytes()
        self._fill(size_bytes)

    def _read_head(self, size_bytes: int) -> None:
        if not self._is_asked:
            self._fail(ConnectionResetError("the server said what nobody had asked"))
            return
        self._came_bytes += size_bytes
        end = self._buffer.find(_END, 0, self._came_bytes)
        if end >= 0:
            self._begin(end)
        elif self._came_bytes == len(self._buffer):
            self._fail(_OddError())

    def _begin(self, end: int) -> None:
        asking, body = cast("Future[_Head]", self._asking), end + len(_END)
        try:
            head = _Head(bytes(self._buffer[: end + 2]))
        except _OddError as error:
            self._fail(error)
            return
        came_bytes = self._came_bytes - body
        if came_bytes > head.size_bytes:
            self._fail(_OddError())
            return
        self._begin_body(memoryview(self._buffer)[body:], came_bytes, head.size_bytes)
        self._asking = None
        asking.set_result(head)

    def _begin_body(self, rest: memoryview, came_bytes: int, size_bytes: int) -> None:
        """Where it is, if there is room for all of it; else in pieces of its own."""
        if size_bytes <= len(rest):
            self._piece, self._left_bytes = rest[:size_bytes], 0
            self._filled_bytes = self._taken_bytes = 0
        else:
            self._left_bytes = size_bytes
            self._next_piece()
            self._piece[:came_bytes] = rest[:came_bytes]
        self._fill(came_bytes)

    def _fill(self, size_bytes: int) -> None:
        self._filled_bytes += size_bytes
        if self._left_bytes and self._filled_bytes == len(self._piece):
            self._transport.pause_reading()  # until somebody takes it
        coming = self._coming
        if coming is not None and self._filled_bytes - self._taken_bytes >= self._wanted_bytes:
            self._coming = None
            if not coming.done():
                coming.set_result(None)

    # -- what goes wrong ---------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._transport.abort()  # nothing that still comes is of use
        for waiting in (self._asking, self._coming):
            if waiting is None or waiting.done():
                continue
            if waiting is self._asking:
                self._asking.set_exception(self._error)
            elif self._coming is not None:
                self._coming.set_result(None)  # what has come is taken first

    def _keep_watch(self) -> None:
        """One timer for all that is waited for here: most of it comes soon."""
        self._moved_s = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._read_s, self._look)

    def _look(self) -> None:
        self._watch = None
        left_s = self._moved_s + self._read_s - self._loop.time()
        waiting = [one for one in (self._asking, self._coming) if one is not None]
        if all(one.done() for one in waiting):
            return
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look)
        else:
            self._fail(TimeoutError(f"nothing came for {self._read_s:g} s"))


def _lines(headers: Mapping[str, str]) -> str | None:
    """As they are sent; None: one of them would not be a line of plain text."""
    values = headers.values()
    if not all(value.isascii() and value.isprintable() for value in values):
        return None
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
