"""Originals over connections of our own, against servers that say whatever a server may say."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from yarl import URL

from mirror.errors import ExitCode, ServerUnreachableError, TransientError
from mirror.immich.client import Client
from mirror.immich.direct import Answer, Direct
from mirror.pings import PingError, ping_end
from mirror.web import trusted

BODY = bytes(range(256)) * 40
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: some\r\nContent-Type: image/jpeg; q=1\r\n"
    b'ETag: W/"2800-1"\r\ncontent-length: %d \r\n\r\n'
)

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Speaking: TypeAlias = Callable[[bytes, Writer], Awaitable[None]]


class Server:
    """Says to each question what a test wants it to."""

    def __init__(self, speaking: Speaking) -> None:
        self.asked: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()  # somebody let go of a connection
        self.url = URL()
        self._speaking = speaking
        self._serving: list[tuple[asyncio.Task[None] | None, Writer]] = []

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        self._serving.append((asyncio.current_task(), writer))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                await self._speaking(self.asked[-1], writer)
        self.left.set()
        writer.close()

    async def end(self) -> None:
        self.left.set()
        for task, writer in self._serving:
            writer.transport.abort()
            if task is not None:
                await asyncio.wait([task])

    def direct(self, *, read_s: float = 10, idle_s: float = 10, key: str = "key") -> Direct:
        return Direct(self.url, {"x-api-key": key}, connect_s=5, read_s=read_s, idle_s=idle_s)


@asynccontextmanager
async def serving(speaking: Speaking, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(speaking)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = URL(f"{'https' if tls else 'http'}://localhost:{port}/sub/api")
    try:
        yield server
    finally:
        listening.close()
        await server.end()


def saying(*parts: bytes, pause_s: float = 0.0, hangs_up: bool = False) -> Speaking:
    async def speaking(_asked: bytes, writer: Writer) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hangs_up:
            writer.close()

    return speaking


def whole(body: bytes = BODY) -> bytes:
    return HEAD % len(body) + body


async def asked(direct: Direct, path: str = "/assets/1/original", **headers: str) -> Answer:
    answer = await direct.get(path, headers)
    assert answer is not None
    return answer


async def body_of(answer: Answer) -> bytes:
    body = bytes(await answer.read())
    answer.close()
    return body


async def test_it_asks_for_what_is_below_the_base_and_says_no_more_than_it_must():
    async with serving(saying(whole())) as server:
        direct = server.direct()
        answer = await asked(direct, **{"Accept-Encoding": "identity", "Range": "bytes=5-"})
        assert (answer.status, answer.content_length) == (200, len(BODY))
        assert answer.content_type == "image/jpeg"
        assert answer.headers["etag"] == 'W/"2800-1"'
        assert str(answer.url) == f"{server.url}/assets/1/original"
        assert await body_of(answer) == BODY
        direct.close()
    assert server.asked[0].decode().split("\r\n") == [
        "GET /sub/api/assets/1/original HTTP/1.1",
        f"Host: localhost:{server.url.port}",
        "Accept: */*",
        "x-api-key: key",
        "Accept-Encoding: identity",
        "Range: bytes=5-",
        "",
        "",
    ]


@pytest.mark.parametrize("size_bytes", [0, 1, 200_000, 300_000, 1 << 20, (3 << 20) + 5])
async def test_bodies_of_any_size_come_whole_one_after_the_other(size_bytes: int):
    body = (BODY * (size_bytes // len(BODY) + 1))[:size_bytes]
    async with serving(saying(whole(body))) as server:
        direct = server.direct()
        assert await body_of(await asked(direct)) == body
        answer, came = await asked(direct), bytearray()
        while piece := await answer.readany():
            came += piece
        answer.close()
        assert came == body
        assert await body_of(await asked(direct)) == body
        direct.close()
    assert server.connections == 1


async def test_a_large_body_comes_in_large_pieces_and_each_arrival_is_told():
    body = BODY * 300  # three times a piece, nearly
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1

    half = len(whole(body)) // 2
    async with serving(saying(whole(body)[:half], whole(body)[half:])) as server:
        direct, pieces = server.direct(), list[bytes]()
        answer = await asked(direct)
        while piece := await answer.piece(tell):
            pieces.append(bytes(piece))
        answer.close()
        assert b"".join(pieces) == body
        assert [len(piece) for piece in pieces[:-1]] == [1 << 20] * (len(pieces) - 1)
        assert told > len(pieces)
        heard = told
        assert await body_of(await asked(direct)) == body
        assert told == heard
        direct.close()


async def test_of_a_large_piece_that_is_cut_what_came_is_given_first():
    body = bytes(3 << 20)
    async with serving(saying(whole(body)[: -(1 << 19)], hangs_up=True)) as server:
        answer = await asked(server.direct())
        sizes = [len(await answer.piece(None)) for _ in range(3)]
        assert sizes == [1 << 20, 1 << 20, 1 << 19]
        with pytest.raises(ConnectionError):
            await answer.piece(None)
        answer.close()


async def test_an_answer_may_come_byte_by_byte():
    text = whole(b"photo")
    parts = [text[at : at + 1] for at in range(len(text))]
    async with serving(saying(*parts)) as server:
        direct = server.direct()
        assert await body_of(await asked(direct)) == b"photo"
        assert await body_of(await asked(direct)) == b"photo"
        direct.close()


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xc2\xb2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxyz",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"x" * (1 << 18),
    ],
)
async def test_what_is_no_plain_answer_is_left_to_another_way_from_then_on(text: bytes):
    async with serving(saying(text)) as server:
        direct = server.direct()
        for _ in range(2):
            assert await direct.get("/assets/1/original", {}) is None
    assert len(server.asked) == 1


@pytest.mark.parametrize("path", ["/assets/1 HTTP/1.1\r\nX: y/original", "/assets/ä/original", ""])
async def test_a_path_that_could_say_something_else_is_not_asked_for(path: str):
    async with serving(saying(whole())) as server:
        assert await server.direct().get(path, {}) is None
        assert await server.direct().get("/assets/1", {"If-Range": "a\r\nb: c"}) is None
        assert await server.direct(key="a\nb").get("/assets/1", {}) is None
    assert server.asked == []


async def test_a_connection_that_was_closed_while_nobody_used_it_is_made_anew():
    async with serving(saying(whole(), hangs_up=True)) as server:
        direct = server.direct()
        for _ in range(3):
            assert await body_of(await asked(direct)) == BODY
        direct.close()
    assert server.connections == 3


async def test_a_connection_that_ends_under_a_question_is_made_anew_once():
    async def hanging_up(_asked: bytes, writer: Writer) -> None:
        writer.close()

    async with serving(hanging_up) as server:
        with pytest.raises(ConnectionError):
            await server.direct().get("/assets/1/original", {})
    assert server.connections == 2


async def test_what_was_idle_for_too_long_is_not_used():
    async with serving(saying(whole())) as server:
        direct = server.direct(idle_s=0)
        assert await body_of(await asked(direct)) == BODY
        assert await body_of(await asked(direct)) == BODY
        direct.close()
    assert server.connections == 2


async def test_a_server_that_says_it_will_close_is_not_asked_on_that_connection_again():
    text = whole().replace(b"Server: some", b"Connection: Close")
    async with serving(saying(text)) as server:
        direct = server.direct()
        assert await body_of(await asked(direct)) == BODY
        assert await body_of(await asked(direct)) == BODY
    assert server.connections == 2


async def test_a_body_that_is_cut_gives_what_came_and_then_the_error():
    async with serving(saying(whole()[:-100], hangs_up=True)) as server:
        answer, came = await asked(server.direct()), bytearray()
        while len(came) < len(BODY) - 100:
            came += await answer.readany()
        with pytest.raises(ConnectionError):
            await answer.readany()
        assert came == BODY[:-100]
        answer.close()


@pytest.mark.parametrize("part", [b"", whole()[:20], whole()[:-100]])
async def test_who_is_silent_is_given_up(part: bytes):
    async def falling_silent(_asked: bytes, writer: Writer) -> None:
        writer.write(part)
        await server.left.wait()

    async with serving(falling_silent) as server:
        with pytest.raises(TimeoutError):
            await (await asked(server.direct(read_s=0.2))).read()


async def test_who_is_slow_but_not_silent_is_waited_for():
    text = whole(b"x" * 12)
    parts = [text[:-12], *[b"x"] * 12]
    async with serving(saying(*parts, pause_s=0.15)) as server:
        direct = server.direct(read_s=1.5)
        assert await body_of(await asked(direct)) == b"x" * 12
        direct.close()


async def test_who_stops_reading_lets_go_of_the_connection_at_once():
    async with serving(saying(whole(bytes(64 << 20)))) as server:
        answer = await asked(server.direct())
        await answer.readany()
        answer.close()
        await asyncio.wait_for(server.left.wait(), 10)


async def test_a_cancelled_question_lets_go_of_the_connection():
    async def silent(_asked: bytes, _writer: Writer) -> None:
        begun.set()

    begun = asyncio.Event()
    async with serving(silent) as server:
        asking = asyncio.create_task(server.direct().get("/assets/1/original", {}))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(server.left.wait(), 10)


async def test_what_nobody_takes_is_not_piled_up():
    sent_bytes = 0

    async def pouring(_asked: bytes, writer: Writer) -> None:
        nonlocal sent_bytes
        writer.write(HEAD % (1 << 30))
        for _ in range(1 << 10):
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent_bytes += 1 << 20

    async with serving(pouring) as server:
        answer = await asked(server.direct())
        before = -1
        while before != sent_bytes:
            before = sent_bytes
            await asyncio.sleep(0.2)
        assert sent_bytes < 64 << 20  # what the kernel's buffers hold, and a little
        answer.close()


async def test_where_no_connection_is_to_be_had_the_other_way_finds_out_why():
    async with serving(saying(whole())) as server:
        direct = server.direct()
    assert await direct.get("/assets/1/original", {}) is None


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A server's, which is trusted when `SSL_CERT_FILE` says so."""
    trusted.cache_clear()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    written = ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command, *named, *written], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl (Debian: openssl)")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield context
    trusted.cache_clear()


@pytest.mark.parametrize("size_bytes", [10_240, (3 << 20) + 5])
async def test_tls_is_spoken_with_whom_the_system_trusts(
    certificate: ssl.SSLContext, size_bytes: int
):
    body = (BODY * (size_bytes // len(BODY) + 1))[:size_bytes]
    async with serving(saying(whole(body)), certificate) as server:
        direct = server.direct()
        assert await body_of(await asked(direct)) == body
        assert await body_of(await asked(direct)) == body
        direct.close()
    assert server.connections == 1


async def test_a_server_that_nobody_vouches_for_gets_no_key(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serving(saying(whole()), certificate) as server:
        assert await server.direct().get("/assets/1/original", {}) is None
    assert server.asked == []


async def test_another_servers_certificate_gets_no_key(certificate: ssl.SSLContext):
    async with serving(saying(whole()), certificate) as server:
        server.url = server.url.with_host("127.0.0.1")
        assert await server.direct().get("/assets/1/original", {}) is None
    assert server.asked == []


async def a_server(request: web.BaseRequest) -> web.StreamResponse:
    answers = {
        "/api/server/version": web.json_response({"major": 3, "minor": 1, "patch": 0}),
        "/api/server/config": web.json_response({"maintenanceMode": False}),
        "/api/assets/1/original": web.Response(body=BODY, content_type="image/jpeg"),
        "/ping": web.Response(),
    }
    return answers[request.path]


async def test_one_trust_holds_for_listings_originals_and_pings(certificate: ssl.SSLContext):
    server = RawTestServer(a_server, scheme="https", host="localhost")
    await server.start_server(ssl=certificate)
    url = f"https://localhost:{server.port}"
    async with Client(url, "key") as client:
        await client.connect()
        async with client.original("1") as original:
            assert await original.read() == BODY
    await ping_end(f"{url}/ping", ExitCode.OK, "", tries=1)
    await server.close()


async def test_without_it_nobody_is_told_anything(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SSL_CERT_FILE")
    asked = []

    async def noting(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return await a_server(request)

    server = RawTestServer(noting, scheme="https", host="localhost")
    await server.start_server(ssl=certificate)
    url = f"https://localhost:{server.port}"
    async with Client(url, "key") as client:
        with pytest.raises(ServerUnreachableError, match="certificate"):
            await client.connect()
    with pytest.raises(PingError):
        await ping_end(f"{url}/ping", ExitCode.OK, "", tries=1)
    await server.close()
    assert asked == []


async def test_what_comes_behind_a_body_never_gets_into_it():
    """Whoever hashes it may write it a moment later."""
    body, garbage = bytes(range(256)) * 800, b"Z" * 300_000
    said = whole(body)
    async with serving(saying(said[:1000], said[1000:], garbage, pause_s=0.05)) as server:
        direct = server.direct()
        answer = await asked(direct)
        piece = await answer.read()
        assert piece == body
        await asyncio.sleep(0.3)
        assert piece == body
        answer.close()
        assert (await asked(direct)).status == 200
        assert server.connections == 2, "what said too much is not asked again"
        direct.close()


async def test_behind_one_that_says_too_much_no_more_is_read(caplog: pytest.LogCaptureFixture):
    async def speaking(_asked: bytes, writer: Writer) -> None:
        writer.write(whole())
        with suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"Z" * 100_000)
                await writer.drain()

    async with serving(speaking) as server:
        direct = server.direct()
        with suppress(OSError):
            answer = await direct.get("/assets/1/original", {})
            if answer is not None:
                assert await body_of(answer) == BODY
        await asyncio.wait_for(server.left.wait(), 20)
        direct.close()
    assert caplog.text == ""


async def test_a_length_of_thousands_of_digits_is_for_others_to_judge():
    head = HEAD.replace(b"%d", b"1" * 5000)
    async with serving(saying(head + BODY)) as server:
        direct = server.direct()
        assert await direct.get("/assets/1/original", {}) is None
        direct.close()


async def test_after_an_answer_that_never_began_the_other_way_is_tried():
    async with serving(saying(b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx")) as server:
        direct = server.direct(read_s=0.2)
        with pytest.raises(TimeoutError):
            await direct.get("/assets/1/original", {})
        assert await direct.get("/assets/1/original", {}) is None
        direct.close()


async def test_what_is_no_answer_is_quoted_in_few_words():
    said = whole() + b"Z" * 100_000 + b"\r\n\r\n"
    async with (
        serving(saying(said, hangs_up=True)) as server,
        Client(str(server.url.with_path("")), "key") as client,
    ):
        with pytest.raises(TransientError) as refused:
            async with client.original("1") as original:
                await original.read()
    assert "the connection broke" in refused.value.outcome.why
    assert len(str(refused.value.outcome)) < 1000
