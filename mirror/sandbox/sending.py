"""One answer on its way out, and what goes wrong with it."""

import gzip
from contextlib import suppress

from aiohttp import HttpVersion11, web

from mirror.sandbox.content import BLOCK_BYTES, Fixed
from mirror.sandbox.faults import Answered, Corrupted, Effect, Reset, Stalled, Truncated
from mirror.sandbox.replies import Reply

_EMPTY_STATUSES = {204, 304}
_COMPRESSED_FROM_BYTES = 1024  # express' compression, which leaves files alone


class Sending:
    """Writes one reply to one request; `status` and `sent_bytes` say how far it came."""

    def __init__(self, request: web.BaseRequest, effects: list[Effect]) -> None:
        self._request = request
        self._effects = effects
        self.status = 0  # nothing was sent
        self.sent_bytes = 0

    def instead(self) -> Reply | None:
        """The answer that a fault puts in the server's place."""
        for effect in self._effects:
            if isinstance(effect, Answered):
                return Reply(effect.status, dict(effect.headers), Fixed(effect.body))
        return None

    async def send(self, reply: Reply) -> web.StreamResponse:
        """Write it, or what the faults leave of it."""
        await self._before()
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        if self._request.transport is None or self._request.transport.is_closing():
            return response
        self.status = reply.status
        if reply.status in _EMPTY_STATUSES:
            await response.prepare(self._request)
            return response
        response.content_length = reply.size_bytes
        if self._request.method == "HEAD":
            await response.prepare(self._request)
            return response
        if self._compressible(reply):
            return await self._compressed(response, reply)
        if reply.size_bytes <= BLOCK_BYTES and not self._effects:
            return self._at_once(reply)
        with suppress(ConnectionError):  # whoever asked may go at any time
            await response.prepare(self._request)
            await self._write(response, reply)
        return response

    def _compressible(self, reply: Reply) -> bool:
        return (
            not self._effects  # which count the bytes of the plain body
            and reply.size_bytes >= _COMPRESSED_FROM_BYTES
            and reply.headers.get("Content-Type", "").startswith("application/json")
            and "gzip" in self._request.headers.get("Accept-Encoding", "")
            and self._request.version >= HttpVersion11  # nginx asks by 1.0, which has no chunks
        )

    async def _compressed(self, response: web.StreamResponse, reply: Reply) -> web.StreamResponse:
        """JSON as the server sends it to nearly every client: gzip, chunked, of no said length."""
        body = gzip.compress(b"".join(reply.blocks()), compresslevel=1)
        response.content_length = None
        response.headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
        response.enable_chunked_encoding()
        with suppress(ConnectionError):  # whoever asked may go at any time
            await response.prepare(self._request)
            await response.write(body)
            self.sent_bytes = len(body)
        return response

    async def _before(self) -> None:
        for effect in self._effects:
            if isinstance(effect, Stalled) and effect.after_bytes is None:
                await effect.released.wait()
            if isinstance(effect, Reset) and self._request.transport is not None:
                self._request.transport.abort()

    def _at_once(self, reply: Reply) -> web.Response:
        """Headers and a small body in one packet: what tests ask for thousands of times."""
        body = b"".join(reply.blocks())
        self.sent_bytes = len(body)
        return web.Response(status=reply.status, headers=reply.headers, body=body)

    async def _write(self, response: web.StreamResponse, reply: Reply) -> None:
        for whole in reply.blocks():
            block = self._corrupted(whole)
            stop = self._next_stop(len(block))
            if stop is None:
                await response.write(block)
                self.sent_bytes += len(block)
                continue
            effect, at = stop
            await response.write(block[:at])
            self.sent_bytes += at
            if isinstance(effect, Truncated):
                self._hang_up()
                return
            await effect.released.wait()
            await response.write(block[at:])
            self.sent_bytes += len(block) - at

    def _next_stop(self, length: int) -> tuple[Truncated | Stalled, int] | None:
        """The fault that strikes inside the next `length` bytes, and after how many of them."""
        for effect in self._effects:
            if isinstance(effect, Truncated | Stalled) and effect.after_bytes is not None:
                at = effect.after_bytes - self.sent_bytes
                if 0 <= at < length:
                    return effect, at
        return None

    def _corrupted(self, block: bytes) -> bytes:
        for effect in self._effects:
            at = effect.at_byte - self.sent_bytes if isinstance(effect, Corrupted) else -1
            if 0 <= at < len(block):
                block = block[:at] + bytes((block[at] ^ 0xFF,)) + block[at + 1 :]
        return block

    def _hang_up(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()  # after what was written has been sent
